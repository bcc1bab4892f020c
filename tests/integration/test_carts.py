"""A total that the shop's server names, and carts: products that are made for one order."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from urllib3.exceptions import ProtocolError

import checkout
import server
import webhook
from payments import aws, catalogue, ledger, opening, pocketsflow, secrets
from sandbox import pocketsflow as fake
from sandbox.worker import Context
from tests import pf
from tests.event_schemas import validator as schema
from tests.payloads import PRODUCT, answered, create_key, delivery, http_event, paid
from tests.world import PRODUCTS, World

TOKEN = f"pfs_test_{'k' * 43}"
COURSE = PRODUCTS["course"]["productId"]
TOTAL = {"amount": "60.00", "currency": "usd"}
CART = {"name": "Order 1043", "reference": "1043", "total": TOTAL}
MAKE, OPEN = "POST /products", "POST /checkout/sessions"


@pytest.fixture(autouse=True)
def _key(shop: World) -> None:
    create_key(shop.stack, TOKEN)


def ask(shop: World, **fields: Any) -> tuple[int, dict[str, Any]]:
    return shop.ask_as_server("POST /server/checkout", TOKEN, **fields)


def wrong(answer: tuple[int, dict[str, Any]]) -> list[str]:
    """Fields that are."""
    status, problem = answer
    assert (status, problem["code"]) == (400, "invalid_request")
    return [error["field"] for error in problem["errors"]]


def made(shop: World) -> list[dict[str, Any]]:
    """Products that carts have at Pocketsflow, oldest first."""
    return [product for product in shop.account.products.values() if catalogue.is_of_an_order(product.get("slug"))]


def order_of(shop: World, reference: str = "1043") -> dict[str, Any]:
    order_id = shop.stack.items()[f"reference#{reference}"]["order_id"]["S"]
    return ledger.read(order_id) or {}


def says(content: dict[str, Any]) -> str:
    """The outcome of a signed delivery."""
    return str(answered(webhook.handler(delivery(content, content["event"]), Context(4)))[1]["outcome"])


# --- A cart -----------------------------------------------------------------------------------------------------------


def test_a_cart_is_sold_and_settles(shop: World) -> None:
    """One product at the total, one session for it; the checkout page shows both, and its payment settles the order,
    which is told by its reference."""
    status, opened = ask(shop, **CART, metadata={"cart": "7"})
    assert (status, opened["reference"], shop.requests) == (201, "1043", [MAKE, OPEN])
    [product] = made(shop)
    assert (product["name"], product["price"], product["currency"]) == ("Order 1043", Decimal("60.00"), "usd")
    assert (product["published"], product["payWant"]) == (True, False)
    assert shop.account.sessions[opened["sessionId"]]["productId"] == product["_id"]
    page = fake.application(shop.account).test_client().get(f"/checkout?session={opened['sessionId']}").text
    assert "<h1>Order 1043</h1>" in page
    assert "60.00 USD" in page
    shop.pay(opened["sessionId"])
    assert json.loads(shop.undelivered[0].body)["amountBeforeTax"] == 60
    assert shop.deliver() == ["settled"]
    shop.flow()
    assert shop.status(opened["orderId"]) == "paid"
    [event] = [each for each in shop.published if each["type"] == "order.paid"]
    assert (event["reference"], event["sku"], event["product_id"]) == ("1043", None, product["_id"])
    assert event["metadata"] == {"cart": "7"}
    assert shop.later() == {"confirmed": 1}


def test_the_order_has_its_product_before_there_is_a_session(shop: World) -> None:
    """Pending when the product is asked for, and with the product when the session is."""
    seen = {}

    def look() -> None:
        order = order_of(shop)
        seen[shop.requests[-1]] = (order["product_id"], "open_day" in order)

    shop.on_request = look
    ask(shop, **CART)
    assert seen == {MAKE: ("", True), OPEN: (made(shop)[0]["_id"], True)}


def test_a_total_arrives_exactly(shop: World) -> None:
    """As the number that was sent, whatever a float would make of it."""
    totals = {"0.10": "usd", "9999999999.99": "usd", "6000": "jpy", "19.990": "usd", "0.001": "kwd"}
    for amount, currency in totals.items():
        assert ask(shop, name="Cart", total={"amount": amount, "currency": currency})[0] == 201
    assert [product["price"] for product in made(shop)] == [Decimal(amount) for amount in totals]


def test_the_name_is_nowhere_in_the_ledger(shop: World) -> None:
    """It may say who buys what, and nobody here needs it."""
    ask(shop, **{**CART, "name": "Ada Lovelace's order"})
    assert "Lovelace" not in repr(shop.stack.items())
    assert made(shop)[0]["name"] == "Ada Lovelace's order"


def test_a_lost_webhook_of_a_cart_is_found(shop: World) -> None:
    """No catalogue has its product, and its order is settled all the same."""
    _, opened = ask(shop, **CART)
    shop.pay(opened["sessionId"])
    shop.lose_webhooks()
    assert shop.later() == {"settled": 1}
    assert shop.status(opened["orderId"]) == "paid"


def test_pf_and_events_know_a_cart_without_a_product(shop: World) -> None:
    """Its product could not be made, and a payment names it all the same: listed, shown and told."""
    shop.answers[MAKE] = lambda _: (500, {})
    ask(shop, **CART)
    order_id = order_of(shop)["pk"].removeprefix("order#")
    pf.deployed()
    assert order_id in pf.run("orders", "--status", "pending", "--since", "2026-11-01").stdout
    assert says(paid(order_id)) == "mismatched"
    shop.flow()
    [event] = [each for each in shop.published if each["type"] == "payment.mismatched"]
    assert (event["product_id"], event["payment"]["product_id"]) == (None, PRODUCT)
    schema("payment.mismatched").validate({name: value for name, value in event.items() if name != "type"})
    assert pf.done("order", "1043")["status"] == "mismatched"
    assert pf.run("order", "1043").exit_code == 0


# --- The same again ---------------------------------------------------------------------------------------------------


def test_the_same_cart_again_is_the_same_order(shop: World) -> None:
    """And nothing is asked of Pocketsflow; another total, name or product under its reference is refused."""
    first = ask(shop, **CART)
    shop.requests.clear()
    assert ask(shop, **CART) == first
    for other in ({"total": {**TOTAL, "amount": "6.00"}}, {"total": {**TOTAL, "currency": "eur"}}, {"name": "Other"}):
        assert ask(shop, **{**CART, **other})[1]["code"] == "reference_reused"
    assert ask(shop, sku="course", reference="1043", total=TOTAL)[1]["code"] == "reference_reused"
    assert shop.requests == []


def test_a_key_makes_one_cart(shop: World) -> None:
    """Where there is no reference the Idempotency-Key does."""
    body = json.dumps({"name": "Cart", "total": TOTAL}).encode()
    headers = {"content_type": "application/json", "idempotency_key": "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21"}
    event = http_event("POST /server/checkout", body, authorization=f"Bearer {TOKEN}", **headers)
    answers = [answered(server.handler(event, Context(9))) for _ in range(2)]
    assert answers[0] == answers[1]
    assert shop.requests == [MAKE, OPEN]


def test_an_old_session_is_made_again_for_the_same_product(shop: World) -> None:
    """A day later there is a new session, and no second product."""
    _, first = ask(shop, **CART)
    shop.clock.passes(hours=25)
    _, second = ask(shop, **CART)
    assert (second["orderId"], second["sessionId"] != first["sessionId"]) == (first["orderId"], True)
    assert shop.requests == [MAKE, OPEN, OPEN]
    shop.pay(second["sessionId"])
    shop.pay(first["sessionId"])
    assert shop.deliver() == ["settled", "second_payment"]


class Died(BaseException):
    """The function is gone: nothing catches this."""


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "step"),
    [
        (ledger, "open_order"),
        (pocketsflow, "create_product"),
        (ledger, "keep_product"),
        (pocketsflow, "create_session"),
        (ledger, "attach_session"),
    ],
    ids=["order", "product", "product_id", "session", "session_id"],
)
def test_a_cart_dies(shop: World, monkeypatch: pytest.MonkeyPatch, module: Any, step: str, side: str) -> None:
    """Wherever it dies, the same request later answers with one order, whose product all of its sessions sell: it is
    paid once. A second product is made only where nobody knew of the first, and nothing sells that one."""
    really = getattr(module, step)

    def dies(*asked: Any) -> Any:
        if side == "after":
            really(*asked)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(module, step, dies)
        with pytest.raises(Died):
            ask(shop, **CART)
    if (step, side) not in [("open_order", "before"), ("attach_session", "after")]:
        assert ask(shop, **CART)[1]["code"] == "in_progress"
    shop.clock.passes(seconds=11)
    status, opened = ask(shop, **CART)
    assert status == 201
    [order] = [item for pk, item in shop.stack.items().items() if pk.startswith("order#")]
    sold = {session["productId"] for session in shop.account.sessions.values()}
    named = {session["metadata"]["external_order_id"] for session in shop.account.sessions.values()}
    assert (sold, named) == ({order["product_id"]["S"]}, {opened["orderId"]})
    unknown_to_us = (step, side) in [("create_product", "after"), ("keep_product", "before")]
    assert len(made(shop)) == (2 if unknown_to_us else 1)
    for session in shop.account.sessions:
        shop.pay(session)
    outcomes = shop.deliver()
    assert outcomes == ["settled", *["second_payment"] * (len(outcomes) - 1)]


def test_two_at_once_sell_one_product(shop: World) -> None:
    """Should two make one for the same order, the first that is written stands, and both sell it."""
    shop.account.set_faults({"http_status": 500})
    _, problem = ask(shop, **CART)
    assert problem["code"] == "pocketsflow_failed"
    order_id = order_of(shop)["pk"].removeprefix("order#")
    assert [ledger.keep_product(order_id, product) for product in ("first", "second", "first")] == ["first"] * 3
    assert order_of(shop)["product_id"] == "first"


# --- Pocketsflow fails ------------------------------------------------------------------------------------------------


def _hangs_up(_: Any) -> Any:
    raise ProtocolError


FAILURES: dict[str, tuple[Callable[[Any], tuple[int, Any]], int, str]] = {
    "busy": (lambda _: (429, {}), 503, "pocketsflow_busy"),
    "failed": (lambda _: (500, {}), 502, "pocketsflow_failed"),
    "wrong key": (lambda _: (401, {}), 502, "pocketsflow_unauthorized"),
    "silent": (_hangs_up, 503, "pocketsflow_unreachable"),
    "refused": (lambda _: (400, {"message": ["price must not be less than 1"]}), 502, "product_refused"),
    "no such route": (lambda _: (404, {}), 502, "product_refused"),
    "no id": (lambda _: (201, {"name": "Order 1043"}), 502, "pocketsflow_unexpected"),
    "an id that is no key": (lambda _: (201, {"_id": "a#b", "price": 60}), 502, "pocketsflow_unexpected"),
    "a list": (lambda _: (201, [{"_id": "65a1b2c3d4e5f6a7b8c9d0ee"}]), 502, "pocketsflow_unexpected"),
    "other price": (lambda _: (201, {"_id": "65a1b2c3d4e5f6a7b8c9d0ee", "price": 0.6}), 502, "product_differs"),
    "cents": (lambda _: (201, {"_id": "65a1b2c3d4e5f6a7b8c9d0ee", "price": 6000}), 502, "product_differs"),
    "other currency": (
        lambda _: (201, {"_id": "65a1b2c3d4e5f6a7b8c9d0ee", "price": 60, "currency": "eur"}), 502, "product_differs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_without_a_product_there_is_no_session(shop: World, failure: str) -> None:
    """Each failure has its code; nobody is sent to pay, the order waits, and the same request makes good for it, at
    once and for the same order."""
    answer, status, code = FAILURES[failure]
    shop.answers[MAKE] = answer
    found, problem = ask(shop, **CART)
    assert (found, problem["code"]) == (status, code)
    assert OPEN not in shop.requests
    assert (order_of(shop)["checkout_error"], order_of(shop)["product_id"]) == (code, "")
    shop.answers.clear()
    status, opened = ask(shop, **CART)
    assert (status, "order#" + opened["orderId"]) == (201, order_of(shop)["pk"])
    assert len(made(shop)) == 1
    shop.pay(opened["sessionId"])
    assert shop.deliver() == ["settled"]


def test_a_busy_moment_passes(shop: World) -> None:
    """One 429 is waited out, as a session's is."""
    answers = [(429, {}), (201, {"product": {"_id": "65a1b2c3d4e5f6a7b8c9d0ee", "price": 60, "currency": "USD"}})]
    shop.answers[MAKE] = lambda _: answers.pop(0)
    shop.answers[OPEN] = lambda _: (201, {"id": "cs_1", "url": "https://pay.example/"})
    assert ask(shop, **CART)[0] == 201
    assert shop.requests == [MAKE, MAKE, OPEN]
    assert order_of(shop)["product_id"] == "65a1b2c3d4e5f6a7b8c9d0ee"


@pytest.mark.parametrize("status", [429, 500, 400])
def test_a_session_that_failed_needs_no_second_product(shop: World, status: int) -> None:
    """The product is the order's already."""
    shop.answers[OPEN] = lambda _: (status, {})
    ask(shop, **CART)
    shop.answers.clear()
    assert ask(shop, **CART)[0] == 201
    assert len(made(shop)) == 1


def test_a_product_whose_answer_was_lost(shop: World) -> None:
    """It was made, and nobody here knows: another one is made and sold, and whoever pays the lost one, found who knows
    how, pays nothing of this order."""
    shop.account.set_faults({"http_status": 500, "http_times": 1})
    assert ask(shop, **CART)[1]["code"] == "pocketsflow_failed"
    _, opened = ask(shop, **CART)
    lost, sold = made(shop)
    assert order_of(shop)["product_id"] == sold["_id"]
    shop.sell_elsewhere(lost["_id"], {"external_order_id": opened["orderId"]})
    assert shop.deliver() == ["mismatched"]
    shop.pay(opened["sessionId"])
    assert shop.deliver() == ["settled"]


def test_a_ledger_that_was_slow_asks_for_no_session(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time no longer suffices the product is kept, and the next request goes on from there."""
    with monkeypatch.context() as patch:
        patch.setattr(aws, "time_left", lambda: pocketsflow.CART_SECONDS + aws.longest_try("dynamodb") - 0.01)
        status, problem = ask(shop, **CART)
    assert (status, problem["code"], shop.requests) == (503, "ledger_unavailable", [MAKE])
    shop.clock.passes(seconds=11)
    assert ask(shop, **CART)[0] == 201
    assert shop.requests == [MAKE, OPEN]


# --- What is paid is the total ----------------------------------------------------------------------------------------


def test_another_amount_leaves_the_order_unsettled(shop: World) -> None:
    """And is told; the right one settles it all the same."""
    _, opened = ask(shop, **CART)
    amounts = ("59.99", "60.01", "0.60", "0", "600000")
    for amount in amounts:
        shop.pay(opened["sessionId"], amount=amount)
    assert shop.deliver() == ["mismatched"] * len(amounts)
    shop.flow()
    assert shop.status(opened["orderId"]) == "mismatched"
    assert shop.types(opened["orderId"]) == ["payment.mismatched"] * len(amounts)
    shop.pay(opened["sessionId"])
    assert shop.deliver() == ["settled"]


def test_another_currency_or_none_leaves_the_order_unsettled(shop: World) -> None:
    """The same number of other money is another amount; so is what nobody states."""
    _, opened = ask(shop, **CART)
    changes: list[dict[str, Any]] = [{"currency": "eur"}, {"currency": None}, {"amountBeforeTax": None}]
    for number, change in enumerate(changes):
        content = paid(opened["orderId"], f"sale{number}", made(shop)[0]["_id"], **change)
        assert says({name: value for name, value in content.items() if value is not None}) == "mismatched"
    shop.flow()
    assert shop.types(opened["orderId"]) == ["payment.mismatched"] * 3


def test_an_api_that_shows_less_is_mismatched_too(shop: World) -> None:
    """A payment that no webhook told is held to the total just the same."""
    _, opened = ask(shop, **CART)
    shop.pay(opened["sessionId"], amount="0.60")
    shop.lose_webhooks()
    assert shop.later() == {"mismatched": 1}
    assert shop.status(opened["orderId"]) == "mismatched"


def test_a_sku_is_held_to_the_total(shop: World) -> None:
    """Whatever the catalogue's price is: the shop has reckoned otherwise. Without a total the amount does not count."""
    _, opened = ask(shop, sku="course", total={"amount": "44.10", "currency": "usd"})
    shop.pay(opened["sessionId"])
    assert shop.deliver() == ["mismatched"]
    shop.pay(opened["sessionId"], amount="44.10")
    assert shop.deliver() == ["settled"]
    _, opened = ask(shop, sku="course")
    shop.pay(opened["sessionId"], amount="1.00")
    assert shop.deliver() == ["settled"]


def test_a_registered_order_is_held_to_the_total(shop: World) -> None:
    """Whose session another server has made."""
    route = "PUT /server/orders/1043"
    _, registered = shop.ask_as_server(route, TOKEN, sku="course", total=TOTAL)
    assert says(paid("1043", "sale1", COURSE, amountBeforeTax=49.00)) == "mismatched"
    assert says(paid("1043", "sale2", COURSE, amountBeforeTax=60.00)) == "settled"
    assert shop.status(registered["orderId"]) == "paid"
    assert shop.ask_as_server(route, TOKEN, sku="course")[1]["code"] == "reference_reused"
    assert wrong(shop.ask_as_server(route, TOKEN, name="Cart", total=TOTAL)) == ["", "sku"]


def test_cents_that_were_taken_for_dollars_are_told(shop: World) -> None:
    """Sixty cents in a webhook that counts cents are 60, and settle; the API counts dollars, and gives it away."""
    _, opened = ask(shop, **CART)
    payment = shop.pay(opened["sessionId"])
    assert shop.deliver() == ["settled"]
    shop.flow()
    less = {"grossAmount": Decimal("0.60"), "amountBeforeTax": Decimal("0.60")}
    shop.account.orders[payment] = {**shop.account.orders[payment], **less}
    shop.later()
    assert shop.types(opened["orderId"]) == ["order.paid", "ledger.drift"]
    assert shop.published[-1]["drift"] == {"what": "amount", "ours": "60.00", "theirs": "0.60"}


# --- Who may not ------------------------------------------------------------------------------------------------------


def test_a_cart_needs_its_parameter(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a name is refused, in words that say what is missing, and a total needs a sku."""
    monkeypatch.setattr(server, "PRODUCT_PER_ORDER", False)
    status, problem = ask(shop, **CART)
    assert (status, problem["errors"]) == (
        400,
        [{"field": "name", "detail": "is accepted with the stack's parameter ProductPerOrder=on only"}],
    )
    assert wrong(ask(shop, total=TOTAL)) == ["sku", "name"]
    assert "ProductPerOrder=on" in ask(shop, total=TOTAL)[1]["errors"][1]["detail"]
    assert shop.requests == []
    assert ask(shop, sku="course", total=TOTAL)[0] == 201


def test_a_cart_is_in_the_place_of_a_product(shop: World) -> None:
    """Not beside one, not without a total, and with no discount, which could not apply to what is made just now."""
    assert wrong(ask(shop, **CART, sku="course")) == ["sku"]
    assert wrong(ask(shop, **CART, productId=COURSE)) == ["productId"]
    assert wrong(ask(shop, **CART, discountCode="SAVE10")) == ["discountCode"]
    assert wrong(ask(shop, name="Cart")) == ["total"]
    assert shop.requests == []


def test_a_browser_names_its_own_price(shop: World) -> None:
    """As JSON or as a form, even with a server's key: these are no fields of its route; nothing is made or written."""
    before = shop.stack.items()
    names = ({"total": TOTAL}, {"name": "Cart"}, CART, {"ProductPerOrder": "on"}, {"PRODUCT_PER_ORDER": "on"})
    for content in [{**sku, **more} for more in names for sku in ({"sku": "course"}, {"productId": COURSE}, {})]:
        flat = {name: value if isinstance(value, str) else "60.00" for name, value in content.items()}
        for body, kind in (
            (json.dumps(content), "application/json"),
            (urlencode(flat), "application/x-www-form-urlencoded"),
        ):
            event = http_event("POST /checkout", body.encode(), content_type=kind, authorization=f"Bearer {TOKEN}")
            assert checkout.handler(event, Context(9))["statusCode"] == 400
    assert (shop.stack.items(), shop.requests) == (before, [])


def test_without_a_key_no_product_is_made(shop: World) -> None:
    """Every product is a request of the shop's share, and stays."""
    status, problem = shop.ask_as_server("POST /server/checkout", None, **CART)
    assert (status, problem["code"], shop.requests) == (401, "unauthorized", [])


def test_a_live_shop_of_carts_needs_no_catalogue(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server names the price; browsers and products by id stay refused."""
    monkeypatch.setattr(opening, "MODE", "live")
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue={}))
    api_key = f"pk_live_{'of-nobody' * 3}"
    monkeypatch.setattr(fake, "API_KEY", api_key)
    shop.stack.put_secret("ApiKey", api_key)
    secrets._copies.clear()
    assert ask(shop, **CART)[0] == 201
    assert ask(shop, productId=COURSE)[1]["code"] == "catalogue_missing"
    event = http_event("POST /checkout", json.dumps({"productId": COURSE}).encode(), content_type="application/json")
    assert answered(checkout.handler(event, Context(9)))[1]["code"] == "catalogue_missing"


@pytest.mark.parametrize("has_catalogue", [True, False])
def test_a_stranger_who_finds_the_product_buys_nothing_of_the_order(
    shop: World, monkeypatch: pytest.MonkeyPatch, has_catalogue: bool
) -> None:
    """By its link no order is named: the payment is somebody's, and the order stays pending. A shop with a catalogue
    sells no such product; one without is told for which order it may have been meant."""
    if not has_catalogue:
        monkeypatch.setattr("reconcile.CATALOGUE", {})
    _, opened = ask(shop, **CART)
    shop.sell_elsewhere(made(shop)[0]["_id"])
    assert shop.deliver() == ["unmatched"]
    shop.flow()
    shop.later()
    shop.later()
    assert shop.status(opened["orderId"]) == "pending"
    [event] = [each for each in shop.published if each["type"].startswith("payment.")]
    assert event["type"] == ("payment.foreign" if has_catalogue else "payment.unmatched")
    if not has_catalogue:
        assert event["candidates"] == [opened["orderId"]]


def test_nobody_finds_the_product_by_its_name() -> None:
    """Addresses of products are random; they say nothing of the order."""
    slugs = {catalogue.new_order_slug() for _ in range(100)}
    assert len(slugs) == 100
    assert all(catalogue.is_of_an_order(slug) for slug in slugs)
    assert not any(catalogue.is_of_an_order(slug) for slug in ("order-1043", f"{slugs.pop()}\n", None, 7))
