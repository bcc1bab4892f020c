"""GET /shopify/checkout, which Shopify hands on from a page of the shop (App Proxy): from an order that waits for its
payment to the checkout over its total.

The buyer has `order`, its id, and `number`, its confirmation number, which only who ordered was told. Everything else
is read from Shopify's Admin API.
"""

import functools
import hmac
import json
import os
from datetime import UTC, datetime

from connectors import shopify_admin, shopify_proxy
from connectors.outgoing import Undelivered
from connectors.shopify_admin import Order
from payments import aws, checkout_request, forms, http, ledger, opening, references, secrets
from payments.telemetry import needs_attention, observed

SHOP: str = json.loads(os.environ["SETTINGS"])["shopify_shop"]
PRODUCT_PER_ORDER = os.environ["PRODUCT_PER_ORDER"] == "on"
SHOPIFY_SECONDS = 1.5
"""For a request to Shopify: a buyer is waiting."""


@observed
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    now = datetime.now(UTC)
    return forms.as_page(opening.answering(context, lambda: _checkout(event, now)), shopify_admin.URL)


def _checkout(event: http.Event, now: datetime) -> http.Answer:
    parameters = _parameters(event, now)
    order = _order(parameters.get("order", ""), parameters.get("number", ""), now)
    reference = f"shopify-{parameters['order']}"
    # Edited since, it costs something else: what was opened before is held to what it cost then.
    edited = f"{reference}-{order.outstanding.amount:f}{order.outstanding.currency}"
    _must_not_be_paid(reference, edited)
    try:
        return _open(event, reference, order, parameters["order"], now)
    except opening.Refused as refused:
        if refused.code != "reference_reused":
            raise
    return _open(event, edited, order, parameters["order"], now)


def _parameters(event: http.Event, now: datetime) -> dict[str, str]:
    try:
        keys = shopify_admin.client_secrets(now)
    except secrets.Unavailable:
        raise opening.Misconfigured("shopify_secret_unreachable") from None
    if not keys:
        raise opening.Misconfigured("shopify_secret_missing")
    parameters = shopify_proxy.read(event.get("rawQueryString", ""), SHOP, keys, now)
    if parameters is None:
        raise opening.Refused("not_from_shopify", 401, "This page is reached from the shop.")
    return dict(parameters)


def _order(number: str, confirmation_number: str, now: datetime) -> Order:
    """One that its buyer may pay now. An order of somebody else's is as unknown as none."""
    is_id = shopify_admin.ORDER_ID.fullmatch(number)
    try:
        order = shopify_admin.read_order(number, now, SHOPIFY_SECONDS) if is_id else None
    except Undelivered as undelivered:
        needs_attention(f"shopify_{undelivered.reason}")
        detail = "The shop did not answer. Try again."
        raise opening.Refused("shopify_unavailable", 503, detail, retry_after=opening.RETRY_AFTER) from None
    known = order.confirmation_number if order else ""
    if order is None or not known or not hmac.compare_digest(known.encode(), confirmation_number.encode()):
        raise opening.Refused("shopify_order_not_found", 404, "There is no such order.")
    if order.status in shopify_admin.PAID or shopify_admin.MARKED in order.tags:
        raise _paid()
    if order.is_cancelled or not order.can_be_marked or order.outstanding.amount <= 0:
        raise opening.Refused("shopify_order_not_payable", 409, "This order cannot be paid any more.")
    return order


def _must_not_be_paid(*names: str) -> None:
    """Here it may be paid a while before Shopify knows, or mismatched, which a person looks at."""
    for order_id in filter(None, map(references.find, names)):
        state = ledger.state(order_id)
        if state is not None and state.status != "pending":
            raise _paid()


def _open(event: http.Event, reference: str, order: Order, number: str, now: datetime) -> http.Answer:
    content = {
        **_bought(order),
        "reference": reference,
        "total": {"amount": f"{order.outstanding.amount:f}", "currency": order.outstanding.currency},
        "metadata": {"shopify_order": number, "shopify_total": str(order.outstanding)},
    }
    read = functools.partial(checkout_request.read_trusted, carts=PRODUCT_PER_ORDER)
    request = opening.valid(read, json.dumps(content).encode())
    with opening.before_the_session(request):
        api_key = opening.api_key(now)
    return opening.open_checkout(
        event, request, opening.new_order(request, now, trusted=True), None, api_key=api_key, now=now
    )


def _bought(order: Order) -> dict[str, str]:
    """The catalogue's product, where one unit of it costs what the order does; else one that is made for the order."""
    sku = (order.sku or "").lower()
    item = opening.RULES.catalogue.get(sku)
    if item and (item.price, item.currency) == (order.outstanding.amount, order.outstanding.currency):
        return {"sku": sku}
    if PRODUCT_PER_ORDER:
        return {"name": f"Order {order.name}"}
    needs_attention("shopify_order_not_offered")
    raise opening.Refused("shopify_order_not_offered", 409, "This order cannot be paid here.")


def _paid() -> opening.Refused:
    return opening.Refused("shopify_order_paid", 409, "This order is paid, or its payment is being looked at.")
