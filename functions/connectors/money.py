"""What a shop's order cost when its checkout was opened, beside what was paid for it and given back.

Pocketsflow adds tax, of which the shop knows nothing; and a webhook does not say whether it counts dollars or cents
(docs/events.md): the total that the payment was held to tells.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from payments import orders

_MONEY = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,3})?) ([a-z]{3})")


@dataclass(frozen=True, slots=True)
class Money:
    """In major units of a currency in lower case."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


def read(text: str) -> Money | None:
    """`49.00 usd`, as a checkout's metadata has it."""
    found = _MONEY.fullmatch(text)
    return Money(Decimal(found[1]), found[2]) if found else None


def is_paid(total: Money, payment: Mapping[str, Any]) -> bool:
    """Whether this total is what was paid before tax, where no unit is said in either of the two."""
    before_tax = payment["amount_before_tax"]
    if before_tax is None or payment["currency"] != total.currency:
        return False
    major = total.amount == Decimal(before_tax)
    return major or (payment["unit"] is None and total.amount.scaleb(_decimals(total)) == Decimal(before_tax))


def net(total: Money, payment: Mapping[str, Any], refund: Mapping[str, Any]) -> Decimal:
    """What a refund takes off the total, without the tax in it; nothing for one without an amount."""
    gross, before_tax = Decimal(payment["amount"] or 0), Decimal(payment["amount_before_tax"] or 0)
    if refund["amount"] is None or not gross or not before_tax:
        return Decimal(0)
    part = Decimal(refund["amount"]) * before_tax / gross
    if refund["unit"] is None:  # cents, if those of the payment were
        part *= total.amount / before_tax
    return part.quantize(Decimal(1).scaleb(-_decimals(total)), ROUND_HALF_UP)


def _decimals(money: Money) -> int:
    return orders.DECIMALS.get(money.currency, 2)
