"""For the shop's own server, by key: POST /server/checkout, like POST /checkout, but what it says is trusted; it may
also sell a cart, for whose total a product is made.
PUT /server/orders/{reference}: an order whose session that server makes at Pocketsflow by itself."""

import functools
import os
from datetime import UTC, datetime

from payments import aws, checkout_request, http, opening, server_keys
from payments.telemetry import observed

PRODUCT_PER_ORDER = os.environ["PRODUCT_PER_ORDER"] == "on"


@observed
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    now = datetime.now(UTC)
    respond = _checkout if event["routeKey"] == "POST /server/checkout" else _register
    return opening.answering(context, lambda: respond(event, now))


def _checkout(event: http.Event, now: datetime) -> http.Answer:
    with opening.before_the_session():
        _must_have_key(event)
    read = functools.partial(checkout_request.read_trusted, carts=PRODUCT_PER_ORDER)
    request = opening.valid(read, opening.json_of(event))
    if request.product_name is None:
        opening.must_have_catalogue()
    # A header cannot hold the line feed, so no origin of a browser is this scope.
    key = opening.idempotency_key(event, scope="server\n")
    with opening.before_the_session(request):
        api_key = opening.api_key(now)
    order = opening.new_order(request, now, trusted=True)
    return opening.open_checkout(event, request, order, key, api_key=api_key, now=now)


def _register(event: http.Event, now: datetime) -> http.Answer:
    _must_have_key(event)
    opening.must_have_catalogue()
    reference = event.get("pathParameters", {}).get("reference", "")
    read = functools.partial(checkout_request.read_registration, reference=reference)
    request = opening.valid(read, opening.json_of(event))
    return opening.register(event, request.fingerprint, opening.new_order(request, now, trusted=True), now)


def _must_have_key(event: http.Event) -> None:
    """No key, a wrong one, and a revoked one are the same to who asks; what is too large is refused without a read."""
    opening.body_of(event)
    if not server_keys.is_valid(http.header(event, "authorization")):
        detail = "Authorization must be Bearer and a key of this shop."
        raise opening.Refused("unauthorized", 401, detail, headers={"www-authenticate": "Bearer"})
