"""What an order is: its id, what was ordered, and the status that its facts add up to."""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from payments.catalogue import Item
from payments.deployment import STAGE

Status = Literal["pending", "paid", "partially_refunded", "refunded", "disputed", "mismatched"]

REFERENCE = re.compile(r"(?![oO][rR][dD]_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The shop's own number of an order: fit for an address and for a key as it is, and no id of ours, of any stage."""
REFERENCE_RULE = (
    "1 to 64 letters, digits, dots, dashes and underscores, first a letter or digit, and not begin with ord_"
)

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(rf"ord_{STAGE}_[{_CROCKFORD}]{{26}}")
_REFUNDED = {"succeeded", "completed"}
DECIMALS = {
    **dict.fromkeys(("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv"), 0),
    **dict.fromkeys(("xaf", "xof", "xpf"), 0),
    **dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), 3),
}
"""Of currencies that do not have two. docs.stripe.com/currencies"""


def new_id(now: datetime) -> str:
    """`ord_<stage>_` and a ULID: 48 bits of time, so that ids sort, and 80 random bits, so that none is guessed."""
    number = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    return f"ord_{STAGE}_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


def is_id(value: object) -> bool:
    """Whether a value from outside has the shape of this stage's order ids."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def fits(item: Item, payment: Mapping[str, Any]) -> bool:
    """Whether a payment is for what was ordered.

    The product must be the same, and the variant where one was ordered: the hosted page lets the buyer choose
    another. Amounts differ for good reasons (discounts, pay what you want), so they matter only to an item that
    says so.
    """
    if payment["product_id"] != item.product_id:
        return False
    if item.variant_id is not None and payment.get("variant_id") != item.variant_id:
        # Pocketsflow's API tells no variants: the variant's own price is the next best witness.
        return bool(payment.get("variant_unknown")) and not _differs(item, payment)
    # A subscription's first body carries no amount: its offer is all there is to compare.
    return not (item.hold_on_difference and payment["kind"] == "payment" and _differs(item, payment))


def is_hundredth(item: Item, payment: Mapping[str, Any], listed: Decimal | None) -> bool:
    """Whether a payment fits by cents that were taken for dollars: before tax Pocketsflow's API lists so much less, and
    in major units."""
    before_tax = payment.get("amount_before_tax")
    if not item.hold_on_difference or item.price is None or before_tax is None or listed is None:
        return False
    return item.price == Decimal(before_tax) == listed * _minor_units(item) != listed


def winner(item: Item, facts: Mapping[str, Mapping[str, Any]], payments: list[str]) -> str | None:
    """The name of the payment that settled the order: of those that fit the first that was written. `payments` names
    all in the order of writing; one that belongs to another order (`void`) settles nothing. One that a person has
    `accepted` settles as if it had come then: before those that were written `after` it."""
    accepted = facts.get("accepted")
    for number, name in enumerate([*payments, None]):
        if accepted and accepted["after"] == number and not is_void(facts, accepted["payment"]):
            return str(accepted["payment"])
        if name and fits(item, facts[name]) and not is_void(facts, name):
            return name
    return None


def is_void(facts: Mapping[str, Mapping[str, Any]], payment: str) -> bool:
    return f"void#{facts[payment]['payment_id']}" in facts


def status(item: Item, facts: Mapping[str, Mapping[str, Any]], payments: list[str]) -> Status:
    """The status of an order from its facts."""
    name = winner(item, facts, payments)
    if name is None:
        return "mismatched" if payments else "pending"
    payment_id, paid = facts[name]["payment_id"], facts[name].get("amount")
    returned = refunds(facts, payment_id)
    flags = facts.get(f"flags#{payment_id}", {})
    if returned and paid is not None and sum(returned.values()) >= Decimal(paid):
        return "refunded"
    if flags.get("refunded") and not returned:  # by its flag only: no refund of it is known yet
        return "refunded"
    if flags.get("disputed"):
        return "disputed"
    return "partially_refunded" if returned else "paid"


def refunds(facts: Mapping[str, Mapping[str, Any]], payment_id: str) -> dict[str, Decimal]:
    """Amounts of the refunds of one payment that went through, by refund id. One refund has a fact for each status it
    was seen in, under two vocabularies (webhook: succeeded, API: completed); one seen as failed never counts."""
    amounts: dict[str, Decimal] = {}
    failed = set()
    for fact in facts.values():
        if fact["kind"] != "refund" or fact["payment_id"] != payment_id:
            continue
        refund_id = fact["refund_id"]
        if fact["status"] in _REFUNDED:
            amounts[refund_id] = max(Decimal(fact.get("amount", 0)), amounts.get(refund_id, Decimal(0)))
        elif fact["status"] == "failed":
            failed.add(refund_id)
    return {refund_id: amount for refund_id, amount in amounts.items() if refund_id not in failed}


def _differs(item: Item, payment: Mapping[str, Any]) -> bool:
    # Dollars by the documentation, cents by its invoices' example: read either way it may be the price.
    before_tax = payment.get("amount_before_tax")
    if item.price is None or before_tax is None or payment.get("currency") != item.currency:
        return True
    return Decimal(before_tax) not in (item.price, item.price * _minor_units(item))


def _minor_units(item: Item) -> int:
    """Of one of its currency."""
    return int(10 ** DECIMALS.get(item.currency or "", 2))
