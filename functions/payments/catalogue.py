"""What the shop sells: `catalogue.json` beside the functions, checked when they are built and when they start.

`python -m payments.catalogue catalogue.json` says what is wrong with it, or how many products it has.
"""

import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from payments import strictjson

_SKU = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FIELDS = {  # the same as catalogue.schema.json, which editors read; a test holds the two together
    "productId": re.compile(r"[0-9a-f]{24}"),
    "variantId": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "name": re.compile(r"(?s).{1,200}"),
    "price": re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?"),
    "currency": re.compile(r"[a-z]{3}"),
    "on_difference": re.compile(r"accept|hold"),
    "level": re.compile(r"[a-z0-9][a-z0-9_-]{0,31}"),
}
_REQUIRED = {"productId", "name", "price", "currency"}
_ORDER_SLUG = re.compile(r"order-[0-9a-f]{20}")
_SAMPLE = "0" * 16  # no real id begins so: its first eight digits are the time it was made


@dataclass(frozen=True, slots=True)
class Item:
    """What is sold, and what an order asks for. Without a catalogue only `product_id` is known; of a cart only the
    price, until its product is made, and `product_id` is "": no payment is for that."""

    product_id: str
    sku: str | None = None
    variant_id: str | None = None
    price: Decimal | None = None
    currency: str | None = None
    hold_on_difference: bool = False
    level: str | None = None
    """What a member may see who has bought it: connectors/membership.py."""


class Invalid(Exception):
    """catalogue.json is not a catalogue; the message says where. Mend the file and build again."""


def load(path: Path) -> Mapping[str, Item]:
    """Items by sku; none when there is no file. Raises Invalid."""
    try:
        content = strictjson.parse(path.read_bytes())
    except FileNotFoundError:
        return {}
    except strictjson.Unreadable as error:
        raise Invalid(f"{path.name} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("products"), dict):
        raise Invalid(f'{path.name} must be {{"products": {{"<sku>": {{…}}}}}}')
    if content.keys() - {"products", "$schema"} or not isinstance(content.get("$schema", ""), str):
        raise Invalid(f'{path.name} has fields beside "products"')
    return {sku: _item(sku, product) for sku, product in content["products"].items()}


def new_order_slug() -> str:
    """The name in its address of a product that is made for one order: by 80 random bits nobody finds it."""
    return f"order-{secrets.token_hex(10)}"


def is_of_an_order(slug: object) -> bool:
    """Whether a product was made for one order: it is no part of what the shop sells."""
    return isinstance(slug, str) and _ORDER_SLUG.fullmatch(slug) is not None


def is_sample(items: Mapping[str, Item]) -> bool:
    """Whether a product is still one of those this project comes with."""
    return any(item.product_id.startswith(_SAMPLE) for item in items.values())


def _item(sku: str, product: Any) -> Item:
    if not _SKU.fullmatch(sku):
        raise Invalid(f"sku {sku!r}: lower-case letters, digits, - and _, at most 64")
    if not isinstance(product, dict) or product.keys() - _FIELDS.keys() or _REQUIRED - product.keys():
        raise Invalid(f"{sku}: must have {sorted(_REQUIRED)}, may have {sorted(_FIELDS.keys() - _REQUIRED)}")
    for name, value in product.items():
        if not isinstance(value, str) or not _FIELDS[name].fullmatch(value):
            raise Invalid(f"{sku}: {name} must be text like {_FIELDS[name].pattern}")
    return Item(
        product_id=product["productId"],
        sku=sku,
        variant_id=product.get("variantId"),
        price=Decimal(product["price"]),
        currency=product["currency"],
        hold_on_difference=product.get("on_difference") == "hold",
        level=product.get("level"),
    )


if __name__ == "__main__":
    try:
        found = load(Path(sys.argv[1]))
    except Invalid as error:
        sys.exit(f"catalogue: {error}")
    print(f"catalogue: {len(found)} products")
