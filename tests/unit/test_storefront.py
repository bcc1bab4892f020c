"""The demo shop's cards say what the catalogue says."""

import json
import re
from html import unescape

from sandbox.template import ROOT

PAGE = (ROOT / "storefront/index.html").read_text()
PRODUCTS = json.loads((ROOT / "functions/catalogue.json").read_text())["products"]


def test_the_cards_are_the_catalogue() -> None:
    """Each product has one card with its name, its price and its sku, in the form as on the button; no other has."""
    cards = PAGE.split("<article")[1:]
    shown = {}
    for card in cards:
        [sku] = re.findall(r'name="sku" value="([^"]+)"', card)
        assert re.findall(r'data-pf-sku="([^"]+)"', card) == [sku]
        [name] = re.findall(r"<h2[^>]*>([^<]+)</h2>", card)
        [(price, written)] = re.findall(r'<data value="([^"]+)">([^<]+)</data>', card)
        assert written == f"${price}"
        shown[sku] = {"name": unescape(name), "price": price, "currency": "usd"}
    expected = {sku: {key: item[key] for key in ("name", "price", "currency")} for sku, item in PRODUCTS.items()}
    assert shown == expected
    assert len(cards) == len(PRODUCTS)


def test_no_discount_where_the_amount_decides() -> None:
    """A product on hold settles at its price only, so its card offers no discount code."""
    for card in PAGE.split("<article")[1:]:
        [sku] = re.findall(r'data-pf-sku="([^"]+)"', card)
        if PRODUCTS[sku].get("on_difference") == "hold":
            assert "discountCode" not in card


def test_one_address_to_change() -> None:
    """The API's address is the same wherever a page names it, so that replacing it once is enough."""
    for path in (ROOT / "storefront").glob("*.html"):
        page = path.read_text()
        named = re.findall(r'data-api="([^"]+)"|action="([^"]+)/checkout"', page)
        assert {either or other for either, other in named} <= {"http://localhost:8001"}
