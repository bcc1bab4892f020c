"""A verified webhook body becomes a fact.

The event name travels in a header that is not signed: who holds one valid body can send it under any name. So the
body decides. Its own `event`, where it has one, must equal the header, and its shape must fit the name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from payments import fields, strictjson

State = Literal["active", "trialing", "paused", "past_due", "ended"]
"""Of a subscription. All but `ended` keep access: pausing stops the billing only, and who pays late is dunned first."""

_LIVE: set[State | None] = {"active", "trialing"}
_STATES: dict[str | None, State] = {
    "active": "active",
    "trialing": "trialing",
    "trial": "trialing",
    "paused": "paused",
    "past_due": "past_due",
    "unpaid": "past_due",
    "canceled": "ended",
    "cancelled": "ended",
    "ended": "ended",
    "expired": "ended",
    "incomplete_expired": "ended",
}


@dataclass(frozen=True, slots=True)
class Payment:
    """Somebody paid. `id` is Pocketsflow's order id, or for a subscription its subscriptionCustomerId; `order_id` is
    ours, when the metadata names one. Amounts are as they came, in `unit` where the source states one."""

    kind: Literal["payment", "subscription"]
    id: str
    order_id: str | None
    product_id: str
    variant_id: str | None
    amount: Decimal | None
    amount_before_tax: Decimal | None
    currency: str | None
    email: str | None
    confirmed: bool
    """The signed body itself names the event, or Pocketsflow's API says it."""
    unit: Literal["major"] | None = None
    variant_known: bool = True
    """False where the source does not tell variants at all."""
    store_id: str | None = None
    """Of the stack whose checkout sold it, when the metadata names one."""
    state: State | None = None
    customer_reference: str | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """Money went back, or is about to: `status` is Pocketsflow's word, in lower case."""

    payment_id: str
    refund_id: str
    order_id: str | None
    status: str
    amount: Decimal | None
    confirmed: bool
    unit: Literal["major"] | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a delivery says and nothing signed shows, or what is to wait for the API: kept, and changes nothing until
    the API confirms it."""

    of: Literal["payment", "subscription", "refund"]
    payment_id: str
    order_id: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    """What a subscription is now, by the signed `subscriptionCustomer` or by the API. `id` is the
    subscriptionCustomerId; the period is as Pocketsflow writes it."""

    id: str
    state: State
    order_id: str | None
    product_id: str
    cancel_at_period_end: bool
    period_start: str | None
    period_end: str | None
    customer_reference: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Sent by `pf`, signed as Pocketsflow signs: changes no order, and is no event."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A body that changes no order: kept whole. `misfit` and `unreadable` should be looked at by a person."""

    reason: Literal["other_event", "misfit", "unreadable"]


Fact = Payment | Refund | Claim | SubscriptionChanged | SelfTest | Unknown

OrderOf = Callable[[object, str], str | None]
"""Finds our order, from an `external_order_id` and the item of the ledger that waits for it if there is none yet."""


def by_id(external_order_id: object, _waiting: str) -> str | None:
    return fields.our_order_id(external_order_id)


def parse(body: bytes, header: str, order_of: OrderOf = by_id) -> Fact:
    """The fact in a verified body that was delivered under the event name `header`. Raises what `order_of` raises, and
    nothing for bad input."""
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        return Unknown("unreadable")
    if not isinstance(content, dict):
        return Unknown("unreadable")
    signed_names = _signed_names(content)
    if any(name != header for name in signed_names):
        return Unknown("misfit")
    match header.split("."):
        case ["order", "completed"]:
            return _payment(content, order_of, confirmed=bool(signed_names)) or Unknown("misfit")
        case ["order", "refunded"]:
            return _refund(content, order_of, confirmed=bool(signed_names)) or Unknown("misfit")
        case ["customer", "subscription", name]:
            started = name == "created"
            return _subscription(content, order_of, started, confirmed=bool(signed_names)) or Unknown("misfit")
        case ["pf", "self_test"] if signed_names and fields.is_text(content.get("nonce")):
            return SelfTest(fields.identifier(content["nonce"]))
    return Unknown("other_event")


def state(status: object, active: object, paused: object) -> State | None:
    """Of a subscription, from the three fields that tell it; None when they tell none, or contradict each other."""
    if not all(flag is None or isinstance(flag, bool) for flag in (active, paused)):
        return None
    found = _STATES.get(fields.word(status))
    if found == "ended" or (found is None and active is False):
        return "ended"
    if paused is True and found is not None:
        return "paused"
    return None if found in _LIVE and active is False else found


def _signed_names(content: dict[str, Any]) -> list[Any]:
    """What the body calls itself. `type` also has other uses (a product's is "one-time"): an event's has a dot."""
    name, kind = content.get("event"), content.get("type")
    names = [] if name is None else [name]
    return [*names, kind] if isinstance(kind, str) and "." in kind else names


def _payment(content: dict[str, Any], order_of: OrderOf, confirmed: bool) -> Payment | None:
    product, order = fields.obj(content, "product"), fields.obj(content, "order")
    amount = content.get("amount")
    if content.get("refund") is not None or not isinstance(amount, Decimal) or amount < 0:
        return None
    if not fields.named(product) or not fields.named(order):
        return None
    payment_id = fields.identifier(order["id"])
    return Payment(
        kind="payment",
        id=payment_id,
        order_id=_order_id(content, order_of, f"sale#{payment_id}"),
        product_id=fields.identifier(product["id"]),
        variant_id=fields.identifier(product["variantId"]) if fields.is_text(product.get("variantId")) else None,
        amount=fields.amount(amount),
        amount_before_tax=fields.amount(content.get("amountBeforeTax")),
        currency=fields.word(content.get("currency")),
        email=_email(content),
        confirmed=confirmed,
        store_id=_store_id(content),
    )


def _refund(content: dict[str, Any], order_of: OrderOf, confirmed: bool) -> Refund | Claim | None:
    order = fields.obj(content, "order")
    if not fields.named(order):
        return None
    payment_id = fields.identifier(order["id"])
    if content.get("refund") is None:
        return Claim("refund", payment_id, _order_id(content, order_of, f"sale#{payment_id}"))
    refund = fields.obj(content, "refund")
    if not fields.named(refund):
        return None
    return Refund(
        payment_id=payment_id,
        refund_id=fields.identifier(refund["id"]),
        order_id=_order_id(content, order_of, f"sale#{payment_id}"),
        status=fields.word(refund.get("status")) or "unknown",
        amount=fields.amount(refund.get("amount")),
        confirmed=confirmed,
    )


def _subscription(
    content: dict[str, Any], order_of: OrderOf, started: bool, confirmed: bool
) -> Payment | SubscriptionChanged | None:
    """A subscription sale sends no order.completed: it begins with `created`. The state comes from the signed
    `subscriptionCustomer`, so a `deleted` or unpaid one sent under that name starts nothing."""
    offer, customer = fields.obj(content, "subscription"), fields.obj(content, "subscriptionCustomer")
    customer_id = content.get("subscriptionCustomerId")
    now = state(customer.get("status"), customer.get("active"), customer.get("paused"))
    if now is None or not fields.is_text(customer_id) or not fields.named(offer):
        return None
    subscription_id = fields.identifier(customer_id)
    order_id = _order_id(content, order_of, f"subscription#{subscription_id}")
    if started and order_id is not None and now in _LIVE:
        return Payment(
            kind="subscription",
            id=subscription_id,
            order_id=order_id,
            product_id=fields.identifier(offer["id"]),
            variant_id=None,
            amount=None,
            amount_before_tax=None,
            currency=None,
            email=_email(content),
            confirmed=confirmed,
            store_id=_store_id(content),
            state=now,
            customer_reference=fields.reference(content.get("clientReferenceId")),
        )
    return SubscriptionChanged(
        id=subscription_id,
        state=now,
        order_id=order_id,
        product_id=fields.identifier(offer["id"]),
        cancel_at_period_end=customer.get("cancelAtPeriodEnd") is True,
        period_start=None,
        period_end=None,
        customer_reference=fields.reference(content.get("clientReferenceId")),
        email=_email(content),
    )


def _order_id(content: dict[str, Any], order_of: OrderOf, waiting: str) -> str | None:
    """Our order id. Of the metadata that comes back nothing else decides: the buyer may have written it."""
    return order_of(fields.external_order_id(fields.obj(content, "metadata")), waiting)


def _store_id(content: dict[str, Any]) -> str | None:
    """Of the stack that sold it: it can make a sale of no order somebody else's, and never makes one ours."""
    return fields.reference(fields.obj(content, "metadata").get("pocketsflow_store"))


def _email(content: dict[str, Any]) -> str | None:
    return fields.email(fields.obj(content, "customer").get("email"))
