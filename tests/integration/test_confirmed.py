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


@pytest.mark.parametrize("seen_first", [False, True], ids=["delivered first", "listed first"])
@pytest.mark.parametrize("sku", PRODUCTS)
def test_an_api_that_never_says_whose_it_is(shop: World, sku: str, seen_first: bool) -> None:
    """Its lists and records leave out all metadata: the payment is the API's, and the order is the one that the signed
    webhook named, also when the list was read before the webhook came."""
    shop.account.set_faults({"hide_metadata": "all"})
    order_id, theirs = shop.buy(sku)
    if seen_first:
        shop.clock.passes(minutes=5)
        shop.reconcile()
    assert shop.deliver() == ["recorded"]
    shop.flow()
    assert shop.status(order_id) == "pending"
    for walk in ("recent", "hours", "recent"):
        shop.clock.passes(minutes=5)
        shop.reconcile(walk)
    assert shop.status(order_id) == "paid"
    assert shop.types(order_id).count("order.paid") == 1
    [name] = [each["S"] for each in shop.stack.order(order_id)["payments"]["L"]]
    assert (name.partition("#")[2], shop.stack.order(order_id)[name]["M"]["source"]) == (theirs, {"S": "api"})
    assert ("payment.unmatched" in shop.types()) is (seen_first and sku == "course")
    shop.clock.passes(minutes=15)
    assert "settled" not in shop.reconcile()["found"]


def test_a_payment_is_its_first_claimant_s(shop: World) -> None:
    """A stolen secret cannot take a payment, whose order has claimed it, to another order."""
    shop.account.set_faults({"hide_metadata": "all"})
    order_id, theirs = shop.buy()
    shop.deliver()
    shop.flow()
    other, _ = shop.checkout()
    content = paid(other, theirs, product=COURSE)
    webhook.handler(delivery(content, content["event"]), Context(shop.clock, 4))
    shop.flow()
    shop.clock.passes(minutes=5)
    shop.reconcile()
    assert (shop.status(order_id), shop.status(other)) == ("paid", "pending")


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
