"""`pf trigger`: every event that is handled, signed, through the public address."""

import json
from typing import Any

import pytest

from ops.trigger import SAMPLES
from payments.event_names import EVENTS
from tests.payloads import API_KEY, SECRET, create_key
from tests.pf import done, failed, run, stack_of
from tests.public import WEBHOOK, Site
from tests.world import PRODUCTS

COURSE, MEMBERSHIP = PRODUCTS["course"]["productId"], PRODUCTS["membership"]["productId"]


def test_there_is_a_sample_of_every_event() -> None:
    """And no other; each says who sent it, and holds no real person."""
    assert {path.stem for path in SAMPLES.iterdir()} == {*EVENTS}
    for path in SAMPLES.iterdir():
        content = json.loads(path.read_text())
        assert content["webhookId"] == "pf_trigger"
        assert content["customer"]["email"] == "buyer@example.com"
    assert done("trigger", "--list") == [*EVENTS]
    assert run("trigger", "--list").stdout.split() == [*EVENTS]


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_taken(site: Site, event: str) -> None:
    """As a fact or as a hint: none is of a shape that a person would be called for."""
    told = done("trigger", event)
    assert (told["event"], told["status"]) == (event, 200)
    assert told["outcome"] in ("unmatched", "recorded")
    assert not any(pk.startswith("raw#") and "misfit" in str(item) for pk, item in site.shop.stack.items().items())


def test_it_settles_an_order_and_gives_it_back(site: Site) -> None:
    """By the order's own product; a refund is of the payment that it has."""
    order_id, _ = site.shop.checkout()
    paid = done("trigger", "order.completed", "--order", order_id)
    assert (paid["outcome"], site.shop.status(order_id)) == ("settled", "paid")
    refund = done("trigger", "order.refunded", "--order", order_id)
    assert refund["payment"] == paid["payment"]
    assert site.shop.status(order_id) == "refunded"
    site.shop.flow()
    assert "order.paid" in site.shop.types(order_id)


def test_it_settles_a_cart(site: Site) -> None:
    """Whose product is in no catalogue, by the total that alone settles it."""
    token = f"pfs_test_{'k' * 43}"
    create_key(site.shop.stack, token)
    cart = {"name": "Cart", "total": {"amount": "12.50", "currency": "eur"}}
    _, opened = site.shop.ask_as_server("POST /server/checkout", token, **cart)
    assert done("trigger", "order.completed", "--order", opened["orderId"])["outcome"] == "settled"


def test_ids_are_new_each_time(site: Site) -> None:
    """A second one is a second payment; named, it is the same one again."""
    order_id, _ = site.shop.checkout()
    first = done("trigger", "order.completed", "--order", order_id)
    assert done("trigger", "order.completed", "--order", order_id)["outcome"] == "second_payment"
    again = ("trigger", "order.completed", "--order", order_id, "--payment", first["payment"])
    assert done(*again)["outcome"] == "redelivered"


def test_another_product_than_was_ordered(site: Site) -> None:
    """Does not settle."""
    order_id, _ = site.shop.checkout()
    told = done("trigger", "order.completed", "--order", order_id, "--product", MEMBERSHIP)
    assert told["outcome"] == "mismatched"


def test_the_life_of_a_subscription(site: Site) -> None:
    """It begins with the order; what follows is about the same one."""
    order_id, _ = site.shop.checkout("membership")
    begun = done("trigger", "customer.subscription.created", "--order", order_id)
    assert (begun["outcome"], site.shop.status(order_id)) == ("settled", "paid")
    ended = done("trigger", "customer.subscription.deleted", "--order", order_id)
    assert ended["subscription"] == begun["subscription"]
    other = done("trigger", "customer.subscription.pause", "--subscription", "6a43ce05fae6c4f0cb5a2193")
    assert other["subscription"] == "6a43ce05fae6c4f0cb5a2193"


def test_nobody_s_payment(site: Site) -> None:
    """Says so, and how to name an order."""
    result = run("trigger", "order.completed")
    assert (result.exit_code, "200 unmatched" in result.stdout) == (0, True)
    assert "--order ID" in result.stderr


def test_a_live_stack_is_left_alone(site: Site) -> None:
    """Nothing is sent."""
    site.stack = stack_of(parameters={"Mode": "live"})
    code, line = failed("trigger", "order.completed")
    assert (code, "is live" in line) == (1, True)
    assert site.shop.requests == []


@pytest.mark.parametrize(
    ("status", "content", "code"), [(401, {"code": "invalid_signature"}, 1), (404, {}, 1), (500, {}, 75)]
)
def test_it_is_not_taken(site: Site, status: int, content: Any, code: int) -> None:
    """And what was answered is shown."""
    site.shop.answers[WEBHOOK] = lambda _: (status, content)
    result = run("trigger", "order.completed")
    assert (result.exit_code, f"({status}" in result.stderr) == (code, True)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 2, "name an event"),
        (("review.created",), 2, "is not one of"),
        (("order.completed", "--order", "ord_test_0"), 1, "there is no order ord_test_0 in stage test"),
    ],
)
def test_what_cannot_be_sent(site: Site, words: tuple[str, ...], code: int, part: str) -> None:
    """No event, an unknown one, an order that is not there."""
    result = run("trigger", *words)
    assert (result.exit_code, part in result.stderr) == (code, True), result.stderr
    assert site.shop.requests == []


def test_without_a_secret_nothing_can_be_signed(site: Site) -> None:
    """`pf init` stores one."""
    site.shop.stack.put_secret("WebhookSecrets", "changeme")
    code, line = failed("trigger", "order.completed")
    assert (code, "pf init" in line) == (1, True)


def test_secrets_are_not_shown(site: Site) -> None:
    """Nor is the body."""
    shown = run("trigger", "order.completed", "--json").output
    assert all(text not in shown for text in (SECRET, API_KEY, "buyer@example.com"))
