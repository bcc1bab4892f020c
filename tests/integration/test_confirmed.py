"""Settle=confirmed: a signed webhook is a hint, and what Pocketsflow's API says is the payment."""

import pytest

import webhook
from tests.payloads import answered, delivery, paid, refunded
from tests.world import PRODUCTS, Context, World

COURSE = PRODUCTS["course"]["productId"]


@pytest.fixture(autouse=True)
def _waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "WAITS_FOR_API", True)


@pytest.mark.parametrize("sku", PRODUCTS)
def test_a_signed_payment_waits_for_the_api(shop: World, sku: str) -> None:
    """Pending, and nothing published, until a list has shown it; then it is paid, once, by what the list said."""
    order_id, _ = shop.buy(sku)
    assert shop.deliver() == ["recorded"]
    shop.flow()
    assert (shop.status(order_id), shop.types()) == ("pending", [])
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["found"]["settled"] == 1
    assert (shop.status(order_id), shop.types(order_id).count("order.paid")) == ("paid", 1)
    [name] = [each["S"] for each in shop.stack.order(order_id)["payments"]["L"]]
    assert shop.stack.order(order_id)[name]["M"]["source"] == {"S": "api"}
    shop.clock.passes(minutes=15)
    shop.reconcile()
    assert shop.types(order_id).count("order.paid") == 1


def test_a_payment_that_the_api_never_shows(shop: World) -> None:
    """A body signed with a stolen secret, for a payment that never was: the order stays pending, whatever follows."""
    order_id, _ = shop.checkout()
    for content in (paid(order_id, "ghost", product=COURSE), refunded(order_id, "ghost")):
        answer = answered(webhook.handler(delivery(content, content["event"]), Context(shop.clock, 4)))
        assert answer[1]["outcome"] == "recorded"
    for walk in ("recent", "recent", "hours", "days"):
        shop.flow()
        shop.clock.passes(minutes=11)
        shop.reconcile(walk)
    assert shop.status(order_id) == "pending"
    assert "order.paid" not in shop.types()
    assert "order.refunded" not in shop.types()


def test_the_buyer_who_waits_is_served_first(shop: World) -> None:
    """A look at the pending order asks for a run, which finds the payment."""
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    shop.clock.passes(seconds=31)
    assert shop.status(order_id) == "pending"
    shop.read_stream()
    shop.reconcile("asked")
    assert shop.status(order_id) == "paid"
