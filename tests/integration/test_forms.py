"""A plain HTML form in the place of JSON: 303 to the checkout, or a page that a buyer understands."""

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest

import checkout
from payments import ledger
from sandbox.worker import Context
from tests.payloads import http_event
from tests.world import World

FORM = "application/x-www-form-urlencoded"
SHOP = "https://shop.example"


def post(body: str | bytes | dict[str, str], **headers: str) -> dict[str, Any]:
    raw = urlencode(body) if isinstance(body, dict) else body
    data = raw if isinstance(raw, bytes) else raw.encode()
    event = http_event("POST /checkout", data, **{"content_type": FORM, **headers})
    answer: dict[str, Any] = checkout.handler(event, Context(9))
    return answer


def text_of(answer: dict[str, Any]) -> str:
    """What the page shows."""
    shown: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            shown.append(data)

    Reader().feed(answer["body"])
    return " ".join(" ".join(shown).split())


def orders(shop: World) -> list[str]:
    return [pk for pk in shop.stack.items() if pk.startswith("order#")]


@pytest.mark.parametrize("kind", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
def test_a_form_leads_to_the_checkout(shop: World, kind: str) -> None:
    """303, so that the browser asks for the next page by GET; never kept, nothing in the body."""
    answer = post({"sku": "course", "customerEmail": "jane@example.com"}, content_type=kind, origin=SHOP)
    assert answer["statusCode"] == 303
    assert answer["headers"]["location"].startswith("http://pocketsflow.test/checkout?session=cs_")
    assert answer["headers"]["cache-control"] == "no-store"
    assert not answer.get("body")
    [session] = shop.account.sessions.values()
    assert session["customerEmail"] == "jane@example.com"


def test_the_fields_are_those_of_json(shop: World) -> None:
    """Metadata by its names, empty fields are none, and the order is as JSON would have made it."""
    post(
        {
            "sku": "course",
            "customerEmail": "",
            "discountCode": "SAVE10",
            "successUrl": f"{SHOP}/ok",
            "metadata[cart]": "7",
            "metadata[size]": "größe & + 100%",
            "metadata[empty]": "",
        }
    )
    [session] = shop.account.sessions.values()
    assert (session["discountCode"], "customerEmail" in session) == ("SAVE10", False)
    assert session["successUrl"].startswith(f"{SHOP}/ok?order_id=ord_test_")
    [pk] = orders(shop)
    order = ledger.read(pk.removeprefix("order#"))
    assert order is not None
    assert order["untrusted_metadata"] == {"cart": "7", "size": "größe & + 100%"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "tell the shop"),
        (b"sku", "tell the shop"),
        (b"sku=course&sku=course", "tell the shop"),
        (b"sku=course&sku=membership", "tell the shop"),
        (b"sku=%ff", "tell the shop"),
        (b"sku=\xff", "tell the shop"),
        (b"sku=course%00", "tell the shop"),
        (b"sku=nothing", "tell the shop"),
        (b"sku=course&reference=1043", "tell the shop"),
        (b"sku=course&metadata=x", "tell the shop"),
        (b"sku=course&metadata[external_order_id]=x", "tell the shop"),
        (b"sku=course&metadata[a][b]=x", "tell the shop"),
        (b"sku=course&metadata[]=x", "tell the shop"),
        (b"sku=course&successUrl=https://evil.example/", "tell the shop"),
        (b"&".join(b"a%d=1" % number for number in range(100)), "tell the shop"),
        (b"sku=course&customerEmail=jane", "check what you typed"),
        (b"sku=course&discountCode=%C3%A4", "check what you typed"),
        (b'{"sku": "course"}', "tell the shop"),
    ],
)
def test_a_wrong_form_gets_a_page(shop: World, body: bytes, says: str) -> None:
    """400, a sentence for the buyer, a way back, and no order; nothing that was sent is on the page."""
    before = shop.stack.items()
    answer = post(body + b"&metadata[note]=%3Cscript%3Ealert(1)%3C/script%3E" if body.startswith(b"sku=") else body)
    assert answer["statusCode"] == 400
    assert answer["headers"]["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer["headers"]["content-security-policy"]
    assert says in text_of(answer)
    assert "Nothing was charged" in text_of(answer)
    assert 'href="https://shop.example/cart"' in answer["body"]
    assert not any(word in answer["body"] for word in ("script", "evil", "jane"))
    assert (shop.stack.items(), shop.requests) == (before, [])


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example"]
)
def test_a_form_of_another_site(shop: World, origin: str) -> None:
    """Any page may make a buyer's browser post here, but it cannot hide which page it was."""
    answer = post({"sku": "course"}, origin=origin)
    assert (answer["statusCode"], orders(shop)) == (403, [])
    assert "origin_not_allowed" in text_of(answer)


def test_a_form_without_an_origin(shop: World) -> None:
    """An old browser, or a tool: there is nothing to hide behind."""
    assert post({"sku": "course"})["statusCode"] == 303


def test_what_fails_behind_a_form_is_a_page_too(shop: World) -> None:
    """The status, Retry-After and the code are those of JSON; the words are for a buyer."""
    shop.answers["POST /checkout/sessions"] = lambda _: (429, {})
    answer = post({"sku": "course"})
    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert "pocketsflow_busy" in text_of(answer)
    shop.answers["POST /checkout/sessions"] = lambda _: (400, {})
    answer = post({"sku": "course", "discountCode": "NONE"})
    assert answer["statusCode"] == 400
    assert "The discount code was not accepted" in text_of(answer)


def test_a_form_that_is_too_large(shop: World) -> None:
    """413, unread."""
    assert post(b"sku=course&x=" + b"x" * 70_000)["statusCode"] == 413


def test_json_stays_json(shop: World) -> None:
    """A problem for a program is no page, whatever the Accept header says."""
    answer = post(b"{}", content_type="application/json", accept="text/html")
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"])["code"] == "invalid_request"
