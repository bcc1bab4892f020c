"""POST /checkout: an order, pending in the ledger, and the address where the buyer pays it.
GET /orders/{orderId}: whether it is paid."""

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, catalogue, checkout_request, http, ledger, orders, pocketsflow, secrets
from payments.checkout_request import CheckoutRequest
from payments.deployment import MODE, SANDBOX
from payments.telemetry import count, logger, metrics, needs_attention, where

API_KEY_ARN = os.environ["API_KEY_ARN"]
RULES = checkout_request.Rules(
    catalogue=catalogue.load(Path(__file__).parent / "catalogue.json"),
    origins=os.environ["ALLOWED_ORIGINS"].split(","),
    loopback=MODE == "test",
    success_url=os.environ["SUCCESS_URL"],
    cancel_url=os.environ["CANCEL_URL"],
)
STORE_ID = os.environ["STORE_ID"]
RETRY_AFTER = 5
"""Seconds, when Pocketsflow names none."""
OVERDUE = timedelta(seconds=30)
"""A buyer who is back and not paid after that long may have paid: Pocketsflow is asked."""
_asked_at = datetime.min.replace(tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FAILURES: dict[pocketsflow.Reason, tuple[int, str]] = {
    "refused": (502, "Pocketsflow refused the checkout; the product may be unknown to it."),
    "unauthorized": (502, "Pocketsflow refused this shop's API key."),
    "busy": (503, "Pocketsflow is busy. Try again after the time in Retry-After."),
    "failed": (502, "Pocketsflow failed. Try again."),
    "unreachable": (503, "Pocketsflow did not answer in time. Try again."),
    "unexpected": (502, "Pocketsflow gave an answer that cannot be used."),
    "not_found": (502, "Pocketsflow gave an answer that cannot be used."),
}


@metrics.log_metrics
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    try:
        with aws.finishing_in_time(context):
            return (
                _status(event, datetime.now(UTC)) if event["routeKey"] == "GET /orders/{orderId}" else _checkout(event)
            )
    except _Misconfigured as error:
        needs_attention(error.code)
        return http.problem(503, error.code, "This shop is not set up to take payments yet.")
    except (BotoCoreError, ClientError) as error:
        needs_attention("ledger_unavailable", error=where(error))
        return http.problem(503, "ledger_unavailable", "The ledger did not answer. Try again.", retry_after=2)


def _checkout(event: http.Event) -> http.Answer:
    now = datetime.now(UTC)
    request = _read(event)
    if not isinstance(request, CheckoutRequest):
        return request
    idempotency_key = http.header(event, "idempotency-key").lower()
    if idempotency_key and not _UUID.fullmatch(idempotency_key):
        return _refused("invalid_idempotency_key", 400, "Idempotency-Key must be a UUID.")
    api_key = _api_key(now)
    order = ledger.Order(orders.new_id(now), request.item, request.customer_email, request.metadata)
    match ledger.open_order(order, _scoped(idempotency_key, event), request.fingerprint, now):
        case ledger.KeyReused():
            return _refused("idempotency_key_reused", 409, "This Idempotency-Key came with another request before.")
        case ledger.InProgress(retry_after):
            return _refused("in_progress", 409, "The same request is being answered.", retry_after)
        case ledger.Answered(order_id, session_id, url):
            count("CheckoutReplayed")
            logger.info("checkout_replayed", extra={"order_id": order_id})
            return _created(event, order_id, session_id, url)
        case ledger.Opened(order_id):
            return _create_session(event, api_key, request, order_id)


def _create_session(event: http.Event, api_key: str, request: CheckoutRequest, order_id: str) -> http.Answer:
    try:
        session = pocketsflow.create_session(api_key, request.for_pocketsflow(order_id, STORE_ID))
    except pocketsflow.RequestFailed as failure:
        if failure.reason == "refused" and request.discount_code is not None:  # a buyer's slip wakes nobody
            ledger.mark_failed(order_id, "discount_code_refused")
            return _refused("discount_code_refused", 400, "Pocketsflow refused this checkout with its discount code.")
        code = f"pocketsflow_{failure.reason}"
        ledger.mark_failed(order_id, code)
        needs_attention(code, order_id=order_id)
        status, detail = _FAILURES[failure.reason]
        retry_after = RETRY_AFTER if failure.retry_after is None else failure.retry_after
        return http.problem(status, code, detail, retry_after=retry_after if status == 503 else None)
    ledger.attach_session(order_id, session.id, session.url)
    count("CheckoutCreated")
    logger.info("checkout_created", extra={"order_id": order_id, "session_id": session.id})
    return _created(event, order_id, session.id, session.url)


def _status(event: http.Event, now: datetime) -> http.Answer:
    order_id = event.get("pathParameters", {}).get("orderId")
    state = ledger.state(order_id) if orders.is_id(order_id) else None
    count("StatusRead")
    if state is None:
        return http.problem(404, "order_not_found", "There is no such order.")
    if state.status == "pending" and now - state.opened_at > OVERDUE:
        _ask_to_reconcile(now)
    return http.answer(200, {"orderId": order_id, "status": state.status, "updatedAt": state.updated_at})


def _ask_to_reconcile(now: datetime) -> None:
    """Once in 30 s for the whole stack; this environment does not even ask the ledger more often."""
    global _asked_at  # noqa: PLW0603
    if now - _asked_at < ledger.ASK_EVERY:
        return
    _asked_at = now
    try:
        ledger.ask_to_reconcile(now)
    except (BotoCoreError, ClientError) as error:  # the status itself is known, and the schedule comes anyway
        logger.warning("not_asked", extra={"error": where(error)})


def _read(event: http.Event) -> CheckoutRequest | http.Answer:
    # A form or a script on another site can send text/plain without asking; JSON makes the browser ask first.
    if http.header(event, "content-type").partition(";")[0].strip().lower() != "application/json":
        return _refused("unsupported_media_type", 415, "Content-Type must be application/json.")
    try:
        body = http.raw_body(event, checkout_request.MAX_BODY)
    except http.TooLarge:
        return _refused("body_too_large", 413, f"The body may have {checkout_request.MAX_BODY} bytes.")
    except http.Malformed:
        body = b""
    try:
        request = checkout_request.read(body, RULES)
    except checkout_request.DefaultNotAllowed:
        raise _Misconfigured("return_address_not_allowed") from None
    if isinstance(request, CheckoutRequest):
        return request
    return _refused("invalid_request", 400, "Some fields are wrong.", errors=request)


class _Misconfigured(Exception):
    """The merchant has to act before anything can be sold; `code` says how."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def _api_key(now: datetime) -> str:
    if MODE == "live" and not RULES.catalogue:
        raise _Misconfigured("catalogue_missing")
    try:
        keys = secrets.read(API_KEY_ARN, "pk_", now) or secrets.read(API_KEY_ARN, "pk_", now, secrets.REFRESH)
    except secrets.Unavailable:
        raise _Misconfigured("api_key_unreachable") from None
    if not keys:
        raise _Misconfigured("api_key_missing")
    if not keys[0].startswith(f"pk_{MODE}_"):
        raise _Misconfigured("api_key_mode_mismatch")
    return keys[0]


def _scoped(idempotency_key: str, event: http.Event) -> str | None:
    """One shop's keys are not another's. Hashed: whatever the headers hold, it fits a table key."""
    if not idempotency_key:
        return None
    scope = f"{http.header(event, 'origin').lower()}\n{idempotency_key}"
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()


def _created(event: http.Event, order_id: str, session_id: str, url: str) -> http.Answer:
    scheme = "http" if SANDBOX else "https"
    status_url = f"{scheme}://{event['requestContext']['domainName']}/orders/{order_id}"
    return http.answer(201, {"orderId": order_id, "sessionId": session_id, "url": url, "statusUrl": status_url})


def _refused(code: str, status: int, detail: str, retry_after: int | None = None, errors: Any = None) -> http.Answer:
    count("CheckoutRefused")
    logger.info("checkout_refused", extra={"code": code})
    return http.problem(status, code, detail, errors=errors, retry_after=retry_after)
