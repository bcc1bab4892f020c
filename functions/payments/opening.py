"""From a request that was read to its answer: what `POST /checkout` and `POST /server/checkout` have in common."""

import hashlib
import math
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, catalogue, checkout_request, http, ledger, orders, pocketsflow, secrets
from payments.catalogue import Item
from payments.checkout_request import CheckoutRequest
from payments.deployment import MODE, SANDBOX
from payments.telemetry import about, count, logger, needs_attention, where

API_KEY_ARN = os.environ["API_KEY_ARN"]
STORE_ID = os.environ["STORE_ID"]
RULES = checkout_request.Rules(
    catalogue=catalogue.load(Path(__file__).parent.parent / "catalogue.json"),
    origins=os.environ["ALLOWED_ORIGINS"].split(","),
    loopback=MODE == "test",
    success_url=os.environ["SUCCESS_URL"],
    cancel_url=os.environ["CANCEL_URL"],
)
RETRY_AFTER = 5
"""Seconds, when Pocketsflow names none."""
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


class Refused(Exception):
    """The request cannot be served as it is; `answer` says why."""

    def __init__(
        self,
        code: str,
        status: int,
        detail: str,
        *,
        retry_after: int | None = None,
        errors: checkout_request.Errors | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.answer = http.problem(status, code, detail, errors=errors, retry_after=retry_after, headers=headers)


class Misconfigured(Exception):
    """The merchant has to act before anything can be sold; `code` says how."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def answering(context: aws.Context, respond: Callable[[], http.Answer]) -> http.Answer:
    """What `respond` answers, in the function's time, or the problem that kept it from answering."""
    try:
        with aws.finishing_in_time(context):
            return respond()
    except Refused as refused:
        count("CheckoutRefused")
        logger.info("checkout_refused", extra={"code": refused.code})
        return refused.answer
    except Misconfigured as error:
        needs_attention(error.code)
        return http.problem(503, error.code, "This shop is not set up to take payments yet.")
    except (BotoCoreError, ClientError) as error:
        needs_attention("ledger_unavailable", error=where(error))
        return http.problem(503, "ledger_unavailable", "The ledger did not answer. Try again.", retry_after=2)


def body_of(event: http.Event) -> bytes:
    """Raises Refused for a body that is too large; one that is not what the gateway says is b"", which
    nothing reads."""
    try:
        return http.raw_body(event, checkout_request.MAX_BODY)
    except http.TooLarge:
        detail = f"The body may have {checkout_request.MAX_BODY} bytes."
        raise Refused("body_too_large", 413, detail) from None
    except http.Malformed:
        return b""


def json_of(event: http.Event) -> bytes:
    """The body of a request that says it is JSON. Raises Refused."""
    # A script on another site can send text/plain without asking; JSON makes the browser ask first.
    if http.media_type(event) != "application/json":
        raise Refused("unsupported_media_type", 415, "Content-Type must be application/json.")
    return body_of(event)


def valid(
    read: Callable[[bytes, checkout_request.Rules], CheckoutRequest | checkout_request.Errors], body: bytes
) -> CheckoutRequest:
    """What `read` makes of a body. Raises Refused for one that has errors, and Misconfigured."""
    try:
        request = read(body, RULES)
    except checkout_request.DefaultNotAllowed:
        raise Misconfigured("return_address_not_allowed") from None
    if isinstance(request, CheckoutRequest):
        return request
    raise Refused("invalid_request", 400, "Some fields are wrong.", errors=request)


def must_have_catalogue() -> None:
    """A live shop sells what its catalogue has. Raises Misconfigured."""
    if MODE == "live" and not RULES.catalogue:
        raise Misconfigured("catalogue_missing")


def api_key(now: datetime) -> str:
    """Raises Misconfigured."""
    try:
        keys = secrets.read(API_KEY_ARN, "pk_", now) or secrets.read(API_KEY_ARN, "pk_", now, secrets.REFRESH)
    except secrets.Unavailable:
        raise Misconfigured("api_key_unreachable") from None
    if not keys:
        raise Misconfigured("api_key_missing")
    if not keys[0].startswith(f"pk_{MODE}_"):
        raise Misconfigured("api_key_mode_mismatch")
    return keys[0]


def before_the_session(request: CheckoutRequest | None = None) -> Any:
    """A block within which no request to AWS begins that would leave too little time for Pocketsflow, and for writing
    down what it answers; of a cart, twice."""
    writing = aws.longest_try("dynamodb")
    if request is not None and request.product_name is not None:
        return aws.finishing_within(math.inf, leaving=2 * (pocketsflow.CART_SECONDS + writing))
    return aws.finishing_within(math.inf, leaving=pocketsflow.WAIT_SECONDS + writing)


def idempotency_key(event: http.Event, scope: str) -> str | None:
    """One caller's keys are not another's. Hashed: whatever the headers hold, it fits a table key. Raises Refused."""
    key = http.header(event, "idempotency-key").lower()
    if not key:
        return None
    if not _UUID.fullmatch(key):
        raise Refused("invalid_idempotency_key", 400, "Idempotency-Key must be a UUID.")
    return hashlib.sha256(f"{scope}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()


def open_checkout(
    event: http.Event, request: CheckoutRequest, order: ledger.Order, key: str | None, *, api_key: str, now: datetime
) -> http.Answer:
    """Writes the order, makes its session, and answers with both; once for the same `key` or reference."""
    with before_the_session(request):
        opening = ledger.open_order(order, key, request.fingerprint, now)
    match opening:
        case ledger.KeyReused():
            raise _key_reused(order)
        case ledger.InProgress(retry_after):
            raise Refused("in_progress", 409, "The same request is being answered.", retry_after=retry_after)
        case ledger.Answered(order_id, session_id, url):
            about(order_id)
            count("CheckoutReplayed")
            logger.info("checkout_replayed")
        case ledger.Opened(order_id, product_id):
            about(order_id)
            session = _create_session(request.of(product_id), order_id, api_key)
            if not isinstance(session, pocketsflow.Session):
                return session
            session_id, url = session.id, session.url
    content = {"orderId": order_id, "sessionId": session_id, "url": url, "statusUrl": status_url(event, order_id)}
    return http.answer(201, content | ({"reference": order.reference} if order.reference else {}))


def register(event: http.Event, fingerprint: str, order: ledger.Order, now: datetime) -> http.Answer:
    """Writes an order whose session somebody else makes, and answers with it; once for the same reference."""
    match ledger.register(order, fingerprint, now):
        case ledger.KeyReused():
            raise _key_reused(order)
        case ledger.InProgress(retry_after):
            raise Refused("in_progress", 409, "The same request is being answered.", retry_after=retry_after)
        case ledger.Registered(order_id, is_new):
            about(order_id)
            count("OrderRegistered" if is_new else "CheckoutReplayed")
            logger.info("order_registered" if is_new else "order_known")
            content = {"orderId": order_id, "reference": order.reference, "statusUrl": status_url(event, order_id)}
            return http.answer(201 if is_new else 200, content)


def status_url(event: http.Event, order_id: str) -> str:
    return f"{'http' if SANDBOX else 'https'}://{event['requestContext']['domainName']}/orders/{order_id}"


def new_order(request: CheckoutRequest, now: datetime, *, trusted: bool = False) -> ledger.Order:
    """`trusted`: the shop's own server sent it, and not a browser."""
    return ledger.Order(
        orders.new_id(now),
        request.item,
        request.customer_email,
        untrusted_metadata={} if trusted else request.metadata,
        metadata=request.metadata if trusted else {},
        reference=request.reference,
    )


def _create_session(request: CheckoutRequest, order_id: str, api_key: str) -> pocketsflow.Session | http.Answer:
    """Or the problem that is the answer, when there is none."""
    seconds = pocketsflow.WAIT_SECONDS if request.product_name is None else pocketsflow.CART_SECONDS
    try:
        if request.product_name is not None and not request.item.product_id:
            request = request.of(_make_product(request.product_name, request.item, order_id, api_key))
        session = pocketsflow.create_session(api_key, request.for_pocketsflow(order_id, STORE_ID), seconds)
    except pocketsflow.RequestFailed as failure:
        if failure.reason == "refused" and request.discount_code is not None:  # a buyer's slip wakes nobody
            ledger.mark_failed(order_id, "discount_code_refused")
            detail = "Pocketsflow refused this checkout with its discount code."
            raise Refused("discount_code_refused", 400, detail) from None
        code = f"pocketsflow_{failure.reason}"
        ledger.mark_failed(order_id, code)
        needs_attention(code)
        status, detail = _FAILURES[failure.reason]
        retry_after = RETRY_AFTER if failure.retry_after is None else failure.retry_after
        return http.problem(status, code, detail, retry_after=retry_after if status == 503 else None)
    ledger.attach_session(order_id, session.id, session.url)
    count("CheckoutCreated")
    logger.info("checkout_created", extra={"session_id": session.id})
    return session


def _make_product(name: str, item: Item, order_id: str, api_key: str) -> str:
    """Its id, written into the order before anything can be paid. What dies in between leaves a product that nobody
    can find, and the next try makes another. Raises Refused, RequestFailed, and OutOfTime: the next try goes on."""
    assert item.price is not None and item.currency is not None  # noqa: S101, PT018
    try:
        made = pocketsflow.create_product(api_key, name, item.price, item.currency)
    except pocketsflow.RequestFailed as failure:
        if failure.reason != "refused":
            raise
        ledger.mark_failed(order_id, "product_refused")
        needs_attention("product_refused")
        raise Refused("product_refused", 502, "Pocketsflow refused to make this order's product.") from None
    except pocketsflow.ProductDiffers:
        ledger.mark_failed(order_id, "product_differs")
        needs_attention("product_differs")
        detail = "Pocketsflow made this order's product at another price, or in another currency."
        raise Refused("product_differs", 502, detail) from None
    kept = ledger.keep_product(order_id, made)
    if aws.time_left() < pocketsflow.CART_SECONDS + aws.longest_try("dynamodb"):
        raise aws.OutOfTime
    return kept


def _key_reused(order: ledger.Order) -> Refused:
    if order.reference:
        return Refused("reference_reused", 409, "This reference belongs to an order that was asked for otherwise.")
    return Refused("idempotency_key_reused", 409, "This Idempotency-Key came with another request before.")
