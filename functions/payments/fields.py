"""What a webhook body and an API row say of themselves, read one field at a time: fit for the ledger, or None."""

import hashlib
import re
from decimal import Decimal
from typing import Any

from payments import orders

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASHED = "sha256-"
_WORD = re.compile(r"[A-Za-z_]{1,32}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{1,190}")
_REFERENCE = re.compile(r"[ -~]{1,200}")
_MAX_AMOUNT = Decimal(10) ** 15
_MIN_EXPONENT = -6


def obj(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of that name; {} when there is none."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def named(thing: dict[str, Any]) -> bool:
    return is_text(thing.get("id"))


def is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def identifier(value: Any) -> str:
    """An id from outside, safe in a key: itself, or its sha256 when it is long or has other characters. No id is
    another's hash: with its prefix a hash is longer than an id can be."""
    text = str(value)
    if _SAFE.fullmatch(text):
        return text
    return f"{_HASHED}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_unfit(identity: str) -> bool:
    """Whether an identifier is a hash: what it stands for is fit neither for a key nor for an address."""
    return identity.startswith(_HASHED)


def external_order_id(metadata: dict[str, Any]) -> object:
    """What a sale's metadata says of whose it is. A stack's checkout names an order by its id: beside a store, what is
    none of this stage is another stage's, and no number of the shop's."""
    named = metadata.get("external_order_id")
    return named if "pocketsflow_store" not in metadata or our_order_id(named) else None


def our_order_id(value: object) -> str | None:
    """A value that has the shape of this stage's order ids."""
    return value if isinstance(value, str) and orders.is_id(value) else None


def order_reference(value: object) -> str | None:
    """A value that has the shape of the shop's own number of an order, be it written as a number."""
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value < _MAX_AMOUNT and value == int(value):
        return str(int(value))
    return value if isinstance(value, str) and orders.REFERENCE.fullmatch(value) else None


def word(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _WORD.fullmatch(value) else None


def amount(value: object) -> Decimal | None:
    """An amount that can be reckoned with; what is absurd stays in the raw body only."""
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value < _MAX_AMOUNT:
        return None
    return value if value.as_tuple().exponent >= _MIN_EXPONENT else None  # type: ignore[operator]


def email(value: object) -> str | None:
    return value if isinstance(value, str) and _EMAIL.fullmatch(value) else None


def reference(value: object) -> str | None:
    """Printable text of somebody else's, to hand on: a customer reference, a date."""
    return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else None
