"""GET /orders/{orderId} of an order that is still pending asks for a look at Pocketsflow's lists, and not too often."""

from datetime import UTC, datetime

import pytest

import checkout
from payments import ledger
from tests.integration.outages import OUTAGES, Fate, Outages, Told
from tests.payloads import unknown
from tests.world import World

ASK = "dynamodb UpdateItem"


def questions(shop: World) -> int:
    """Records of the stream that ask for a run, since the last look."""
    shop.asked.clear()
    shop.read_stream()
    return len(shop.asked)


def another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same function, which has asked nothing yet."""
    monkeypatch.setattr(checkout, "_asked_at", datetime.min.replace(tzinfo=UTC))


def test_a_pending_order_asks_once_in_thirty_seconds(shop: World, outages: Outages) -> None:
    """However often its page polls: one question, one write, then silence for thirty seconds, and one more."""
    order_id, _ = shop.buy()
    shop.lose_webhooks()
    shop.clock.passes(seconds=31)
    outages.tries.clear()
    for _ in range(30):
        assert shop.status(order_id) == "pending"
        shop.clock.passes(seconds=1)
    assert (questions(shop), len(outages.of(ASK))) == (1, 1)
    for _ in range(30):
        shop.status(order_id)
        shop.clock.passes(seconds=1)
    assert (questions(shop), len(outages.of(ASK))) == (1, 2)


def test_environments_ask_as_one(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack asks once in thirty seconds, however many environments and orders there are."""
    ids = [shop.buy()[0] for _ in range(5)]
    shop.lose_webhooks()
    shop.clock.passes(seconds=31)
    for _ in range(2):
        for order_id in ids:
            another_environment(monkeypatch)
            assert shop.status(order_id) == "pending"
            shop.clock.passes(seconds=5)
        assert questions(shop) == 1
        shop.clock.now += ledger.ASK_EVERY


def test_the_question_is_answered(shop: World) -> None:
    """The record in the stream starts a run, and the next poll sees the payment."""
    order_id, _ = shop.buy()
    shop.lose_webhooks()
    shop.clock.passes(seconds=31)
    shop.status(order_id)
    assert questions(shop) == 1
    assert shop.reconcile("asked")["outcome"] == "done"
    assert (shop.status(order_id), shop.types(order_id)) == ("paid", ["order.paid"])


@pytest.mark.parametrize("seconds", [0, 1, 29, 30])
def test_a_young_order_does_not_ask(shop: World, outages: Outages, seconds: int) -> None:
    """Most webhooks come within seconds."""
    order_id, _ = shop.buy()
    shop.clock.passes(seconds=seconds)
    outages.tries.clear()
    assert shop.status(order_id) == "pending"
    assert outages.of(ASK) == []


def test_a_paid_order_does_not_ask(shop: World, outages: Outages) -> None:
    """Nor one that was refunded, or paid with something else: there is nothing to wait for."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.clock.passes(minutes=10)
    outages.tries.clear()
    assert shop.status(order_id) == "paid"
    assert outages.of(ASK) == []
    shop.account.refund(payment_id, None, None)
    shop.deliver()
    shop.flow()
    outages.tries.clear()
    assert shop.status(order_id) == "refunded"
    assert outages.of(ASK) == []


def test_an_unknown_order_does_not_ask(shop: World, outages: Outages) -> None:
    """A made-up id, of our shape or not, costs a read at most."""
    order_id, _ = shop.checkout()
    shop.clock.passes(minutes=10)
    outages.tries.clear()
    for made_up in (unknown(order_id), "ord_other_00000000000000000000000000", "x"):
        assert shop.status(made_up) == "order_not_found"
    assert [tried.operation for tried in outages.tries] == ["dynamodb GetItem"]


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_question_that_fails(shop: World, outages: Outages, told: Told, fate: Fate) -> None:
    """The status is known and is answered in time; nobody is woken, since the schedule comes anyway."""
    order_id, _ = shop.buy()
    shop.lose_webhooks()
    shop.clock.passes(seconds=31)
    outages.fates[ASK] = fate
    told.look()
    started = shop.clock.monotonic()
    assert shop.status(order_id) == "pending"
    assert shop.clock.monotonic() - started < 9
    assert told.alarms() == []
    outages.fates.clear()
    shop.clock.now += ledger.ASK_EVERY
    assert (shop.status(order_id), questions(shop)) == ("pending", 1)
