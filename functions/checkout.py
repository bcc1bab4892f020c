"""POST /checkout: an order, pending in the ledger, and the address where the buyer pays it.
GET /orders/{orderId}: whether it is paid."""

import os
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, challenge, checkout_request, forms, http, ledger, limits, opening, orders
from payments.telemetry import about, count, logger, needs_attention, observed, where
from payments.warm_up import warm_up

CHECKOUTS_PER_ADDRESS = int(os.environ["CHECKOUTS_PER_ADDRESS"])
OVERDUE = timedelta(seconds=30)
"""A buyer who is back and not paid after that long may have paid: Pocketsflow is asked."""
_asked_at = datetime.min.replace(tzinfo=UTC)
warm_up(opening.API_KEY_ARN, datetime.now(UTC))


@observed
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    now = datetime.now(UTC)
    if event["routeKey"] == "GET /orders/{orderId}":
        return opening.answering(context, lambda: _status(event, now))
    answer = opening.answering(context, lambda: _checkout(event, now))
    return forms.as_page(answer, opening.RULES.cancel_url) if forms.is_form(event) else answer


def _checkout(event: http.Event, now: datetime) -> http.Answer:
    request = _read(event)
    key = opening.idempotency_key(event, scope=http.header(event, "origin").lower())
    opening.must_have_catalogue()
    with opening.before_the_session():
        api_key = opening.api_key(now)
        _limit(event, api_key, now)
        _challenge(request, key, now)
    return opening.open_checkout(event, request, opening.new_order(request, now), key, api_key=api_key, now=now)


def _read(event: http.Event) -> checkout_request.CheckoutRequest:
    if not forms.is_form(event):
        return opening.valid(checkout_request.read, opening.json_of(event))
    # Any site may make a browser post a form here; it says which site it was.
    origin = http.header(event, "origin")
    if origin and not opening.RULES.is_origin(origin):
        raise opening.Refused("origin_not_allowed", 403, "This page is not one of the shop's.")
    return opening.valid(checkout_request.read_form, opening.body_of(event))


def _limit(event: http.Event, api_key: str, now: datetime) -> None:
    if not CHECKOUTS_PER_ADDRESS:
        return
    address = event["requestContext"]["http"]["sourceIp"]
    wait = limits.count_checkout(address, api_key, CHECKOUTS_PER_ADDRESS, now)
    if wait is not None:
        detail = "Too many checkouts from this address. Try again after the time in Retry-After."
        raise opening.Refused("too_many_checkouts", 429, detail, retry_after=wait)


def _challenge(request: checkout_request.CheckoutRequest, key: str | None, now: datetime) -> None:
    if not challenge.URL:
        return
    try:
        is_solved = challenge.is_solved(request.challenge_token, key, now)
    except challenge.NoSecret:
        raise opening.Misconfigured("challenge_secret_missing") from None
    except challenge.Unavailable:
        needs_attention("challenge_unreachable")
        detail = "The challenge could not be verified. Try again."
        raise opening.Refused("challenge_unreachable", 503, detail, retry_after=opening.RETRY_AFTER) from None
    if not is_solved:
        detail = "The challenge was not solved, or its answer is too old. Solve it again."
        raise opening.Refused("challenge_failed", 403, detail)


def _status(event: http.Event, now: datetime) -> http.Answer:
    order_id = event.get("pathParameters", {}).get("orderId")
    is_id = orders.is_id(order_id)
    about(order_id if is_id else None)
    state = ledger.state(order_id) if is_id else None
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
