"""A verified webhook body becomes a fact.

The event name travels in a header that is not signed: who holds one valid body can send it under any name. So the
body decides. Its own `event`, where it has one, must equal the header, and its shape must fit the name.
"""

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from payments import orders, strictjson

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD = re.compile(r"[A-Za-z_]{1,32}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{1,190}")
_MAX_AMOUNT = Decimal(10) ** 15
_MIN_EXPONENT = -6
_LIVE_STATES = {"active", "trialing"}


@dataclass(frozen=True, slots=True)
class Payment:
    """Somebody paid. `id` is Pocketsflow's order id, or for a subscription its subscriptionCustomerId; `order_id` is
    ours, when the metadata names one. Amounts are as they came, in a unit that Pocketsflow does not state."""

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
    """The signed body itself names the event."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money went back, or is about to: `status` is Pocketsflow's word, in lower case."""

    payment_id: str
    refund_id: str
    order_id: str | None
    status: str
    amount: Decimal | None
    confirmed: bool


@dataclass(frozen=True, slots=True)
class RefundClaim:
    """`order.refunded` over a body without a refund: kept, and changes nothing until the API confirms it."""

    payment_id: str
    order_id: str | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A body that changes no order: kept whole. `misfit` and `unreadable` should be looked at by a person."""

    reason: Literal["other_event", "misfit", "unreadable"]


Fact = Payment | Refund | RefundClaim | Unknown


def parse(body: bytes, header: str) -> Fact:
    """The fact in a verified body that was delivered under the event name `header`. Never raises for bad input."""
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        return Unknown("unreadable")
    if not isinstance(content, dict):
        return Unknown("unreadable")
    signed_names = _signed_names(content)
    if any(name != header for name in signed_names):
        return Unknown("misfit")
    match header:
        case "order.completed":
            return _payment(content, confirmed=bool(signed_names)) or Unknown("misfit")
        case "order.refunded":
            return _refund(content, confirmed=bool(signed_names)) or Unknown("misfit")
        case "customer.subscription.created":
            if _order_id(content) is None:  # the beginning of a subscription that was sold elsewhere
                return Unknown("other_event")
            return _subscription(content, confirmed=bool(signed_names)) or Unknown("misfit")
    return Unknown("other_event")


def _signed_names(content: dict[str, Any]) -> list[Any]:
    """What the body calls itself. `type` also has other uses (a product's is "one-time"): an event's has a dot."""
    name, kind = content.get("event"), content.get("type")
    names = [] if name is None else [name]
    return [*names, kind] if isinstance(kind, str) and "." in kind else names


def _payment(content: dict[str, Any], confirmed: bool) -> Payment | None:
    product, order, amount = _object(content, "product"), _object(content, "order"), content.get("amount")
    if content.get("refund") is not None or not isinstance(amount, Decimal) or amount < 0:
        return None
    if not _named(product) or not _named(order):
        return None
    return Payment(
        kind="payment",
        id=_id(order["id"]),
        order_id=_order_id(content),
        product_id=_id(product["id"]),
        variant_id=_id(product["variantId"]) if _text(product.get("variantId")) else None,
        amount=_amount(amount),
        amount_before_tax=_amount(content.get("amountBeforeTax")),
        currency=_word(content.get("currency")),
        email=_email(content),
        confirmed=confirmed,
    )


def _refund(content: dict[str, Any], confirmed: bool) -> Refund | RefundClaim | None:
    order = _object(content, "order")
    if not _named(order):
        return None
    if content.get("refund") is None:
        return RefundClaim(payment_id=_id(order["id"]), order_id=_order_id(content))
    refund = _object(content, "refund")
    if not _named(refund):
        return None
    return Refund(
        payment_id=_id(order["id"]),
        refund_id=_id(refund["id"]),
        order_id=_order_id(content),
        status=_word(refund.get("status")) or "unknown",
        amount=_amount(refund.get("amount")),
        confirmed=confirmed,
    )


def _subscription(content: dict[str, Any], confirmed: bool) -> Payment | None:
    """A subscription sale sends no order.completed: it begins with this. The state comes from the signed
    `subscriptionCustomer`, so a `deleted` or unpaid one sent under this name starts nothing."""
    offer, state = _object(content, "subscription"), _object(content, "subscriptionCustomer")
    customer_id, order_id = content.get("subscriptionCustomerId"), _order_id(content)
    live = (
        state.get("active") is True and state.get("paused") is not True and _word(state.get("status")) in _LIVE_STATES
    )
    if not (live and order_id and _text(customer_id) and _named(offer)):
        return None
    return Payment(
        kind="subscription",
        id=_id(customer_id),
        order_id=order_id,
        product_id=_id(offer["id"]),
        variant_id=None,
        amount=None,
        amount_before_tax=None,
        currency=None,
        email=_email(content),
        confirmed=confirmed,
    )


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _named(thing: dict[str, Any]) -> bool:
    return _text(thing.get("id"))


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _id(value: Any) -> str:
    """An id from outside, safe in a key: itself, or its sha256 when it is long or has other characters. No id is
    another's hash: with its prefix a hash is longer than an id can be."""
    text = str(value)
    if _SAFE.fullmatch(text):
        return text
    return f"sha256-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _order_id(content: dict[str, Any]) -> str | None:
    """Our order id. Of the metadata that comes back nothing else is read: the buyer may have written it."""
    claimed = _object(content, "metadata").get("external_order_id")
    return claimed if orders.is_id(claimed) else None


def _word(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _WORD.fullmatch(value) else None


def _amount(value: object) -> Decimal | None:
    """An amount that can be reckoned with; what is absurd stays in the raw body only."""
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value < _MAX_AMOUNT:
        return None
    return value if value.as_tuple().exponent >= _MIN_EXPONENT else None  # type: ignore[operator]


def _email(content: dict[str, Any]) -> str | None:
    email = _object(content, "customer").get("email")
    return email if isinstance(email, str) and _EMAIL.fullmatch(email) else None
