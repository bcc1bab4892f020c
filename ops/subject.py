"""What a person names on the command line: an order, by its id or the shop's own number, or a payment."""

from dataclasses import dataclass
from typing import Any

from ops import items
from ops.cli import Failed, printable
from ops.items import Item
from ops.stack import Stack

ELSEWHERE = "of another order"
"""What a payment is to an order that does not have it."""
_PAYMENTS = ("pay#", "sub#", "renewal#")


@dataclass(frozen=True)
class Payment:
    """`pk` and `name` are where its fact lies; `fact` is {} where all that is known is that Pocketsflow denies it."""

    id: str
    pk: str
    name: str
    fact: Item


@dataclass(frozen=True)
class Subject:
    """`payment` is None where an order was named, `order` for a payment of none."""

    order: Item | None
    payment: Payment | None

    @property
    def about(self) -> str:
        """By which the audit finds it: the order, or else the payment."""
        if self.order is not None:
            return order_id(self.order)
        assert self.payment is not None  # noqa: S101
        return self.payment.id


def find(stack: Stack, named: str) -> Subject:
    """Raises Failed when there is none."""
    if named.startswith("ord_"):
        return Subject(_order(stack, named), None)
    about = items.get(stack, f"sale#{named}") or items.get(stack, f"subscription#{named}") or {}
    if "order_id" in about and (order := items.get(stack, f"order#{about['order_id']}")) is not None:
        for payment in payments(order):
            if payment.id == named:
                return Subject(order, payment)
    for prefix in _PAYMENTS:
        if (name := f"{prefix}{named}") in about:
            return Subject(None, Payment(named, about["pk"], name, about[name]))
    if "verdict" in about:
        return Subject(None, Payment(named, about["pk"], "verdict", {}))
    reference = items.get(stack, f"reference#{named}") or {}
    if "order_id" in reference:
        return Subject(_order(stack, reference["order_id"]), None)
    raise Failed(f"there is no order and no payment {printable(named)}")


def payments(order: Item) -> list[Payment]:
    """Of an order, in the order of writing."""
    return [
        Payment(order[name]["payment_id"], order["pk"], name, order[name])
        for name in dict.fromkeys(order.get("payments", []))
        if name in order
    ]


def the_payment(stack: Stack, subject: Subject) -> Payment:
    """The one that was named, or the only one of the order. Raises Failed."""
    if subject.payment is not None:
        return subject.payment
    assert subject.order is not None  # noqa: S101
    found = payments(subject.order)
    if not found:
        raise Failed(f"nobody has paid {subject.about}")
    if len(found) > 1:
        named = ", ".join(f"{each.id} ({role(stack, subject.order, each)})" for each in found)
        raise Failed(f"{subject.about} has {len(found)} payments, name one: {named}")
    return found[0]


def role(stack: Stack, order: Item | None, payment: Payment) -> str:
    """What a payment is to its order, in a word or two."""
    stack.enter()
    from payments import ledger, orders

    if order is None:
        return "of no order"
    item, facts = ledger.item_of(order), ledger.facts_of(order)
    if orders.is_void(facts, payment.name):
        return ELSEWHERE
    if payment.name == orders.winner(item, facts, [each.name for each in payments(order)]):
        return "settles it"
    return "second payment" if orders.fits(item, payment.fact) else "mismatched"


def status(stack: Stack, order: Item) -> str:
    """Derived from the facts that are there."""
    stack.enter()
    from payments import ledger, orders

    names = [each.name for each in payments(order)]
    found: Any = orders.status(ledger.item_of(order), ledger.facts_of(order), names)
    return str(found)


def order_id(order: Item) -> str:
    return str(order["pk"]).removeprefix("order#")


def _order(stack: Stack, named: str) -> Item:
    order = items.get(stack, f"order#{named}")
    if order is None:
        raise Failed(f"there is no order {printable(named)}")
    return order
