"""What an order is: its id, what was ordered, and the status that its facts add up to."""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from payments.catalogue import Item
from payments.deployment import STAGE

Status = Literal["pending", "paid", "partially_refunded", "refunded", "mismatched"]

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(rf"ord_{STAGE}_[{_CROCKFORD}]{{26}}")
_REFUNDED = {"succeeded", "completed"}


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
        return False
    # A subscription's first body carries no amount: its offer is all there is to compare.
    return not (item.hold_on_difference and payment["kind"] == "payment" and _differs(item, payment))


def status(item: Item, facts: Mapping[str, Mapping[str, Any]], payments: list[str]) -> Status:
    """The status of an order from its facts. `payments` names its payment facts in the order they were written:
    the first that fits is the one that settled it."""
    winner = next((facts[name] for name in payments if fits(item, facts[name])), None)
    if winner is None:
        return "mismatched" if payments else "pending"
    refunds = _refunds(facts, winner["payment_id"])
    if not refunds:
        return "paid"
    paid = winner.get("amount")
    return "refunded" if paid is not None and sum(refunds) >= Decimal(paid) else "partially_refunded"


def _differs(item: Item, payment: Mapping[str, Any]) -> bool:
    # Dollars by the documentation, cents by its invoices' example (contract, 3.3): read either way it may be the price.
    before_tax = payment.get("amount_before_tax")
    if item.price is None or before_tax is None or payment.get("currency") != item.currency:
        return True
    return Decimal(before_tax) not in (item.price, item.price * 100)


def _refunds(facts: Mapping[str, Mapping[str, Any]], payment_id: str) -> list[Decimal]:
    """Amounts of the refunds of one payment that went through. One refund has a fact for each status it was seen
    in, under two vocabularies (webhook: succeeded, API: completed); one seen as failed never counts."""
    amounts: dict[str, Decimal] = {}
    failed = set()
    for fact in facts.values():
        if fact["kind"] != "refund" or fact["payment_id"] != payment_id:
            continue
        if fact["status"] in _REFUNDED:
            refund_id, amount = fact["refund_id"], Decimal(fact.get("amount", 0))
            amounts[refund_id] = max(amount, amounts.get(refund_id, amount))
        elif fact["status"] == "failed":
            failed.add(fact["refund_id"])
    return [amount for refund_id, amount in amounts.items() if refund_id not in failed]
