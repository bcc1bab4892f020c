"""Secrets Manager out of reach: a warm webhook goes on for an hour, a cold one says so, and no payment is lost."""

import pytest

from payments import secrets
from tests.integration.outages import OUTAGES, Fate, Outages, Told
from tests.payloads import answered, delivery
from tests.world import Context, World
from webhook import handler


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_warm_webhook_goes_on_for_an_hour(shop: World, outages: Outages, told: Told, fate: Fate) -> None:
    """With the last good copy, each try to refresh it alarmed; after the hour it refuses to judge, and what it could
    not judge is found by reconciliation."""
    secrets._copies.clear()
    shop.buy()
    assert shop.deliver() == ["settled"]
    assert told.alarms() == []
    since = shop.clock.now
    outages.fates["secretsmanager GetSecretValue"] = fate
    _, session = shop.checkout()  # with its own secret, also a copy
    told.look()
    alarms = 0
    while (shop.clock.now - since).total_seconds() < 3_540:
        payment_id = shop.pay(session)
        assert shop.deliver() in (["settled"], ["second_payment"])
        shop.clock.passes(minutes=6)
        alarms += told.alarms().count("secret_unreachable")
    assert alarms == 9
    shop.clock.passes(minutes=6)
    payment_id = shop.pay(session)
    assert shop.deliver() == ["webhook_secret_unreachable"]
    assert told.alarms() == ["secret_unreachable", "webhook_secret_unreachable"]
    assert f"sale#{payment_id}" not in shop.stack.items()
    outages.fates.clear()
    shop.flow()
    shop.clock.passes(minutes=5)
    shop.reconcile()
    assert "order_id" in shop.stack.items()[f"sale#{payment_id}"]


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_cold_webhook_cannot_judge(shop: World, outages: Outages, told: Told, fate: Fate) -> None:
    """500 within its four seconds, alarmed, nothing stored or parked of what nobody could verify; reconciliation
    settles the order, once Pocketsflow's key can be read."""
    order_id, _ = shop.buy()
    before = shop.stack.items()
    [waiting] = shop.undelivered
    secrets._copies.clear()
    outages.tries.clear()
    outages.fates["secretsmanager"] = fate
    started = shop.clock.monotonic()
    status, answer = answered(handler(delivery(waiting.body, waiting.event), Context(shop.clock, 4)))
    assert (status, answer["code"]) == (500, "webhook_secret_unreachable")
    assert shop.clock.monotonic() - started < 4
    assert told.alarms() == ["secret_unreachable", "webhook_secret_unreachable"]
    assert {tried.service for tried in outages.tries} == {"secretsmanager"}
    assert shop.stack.items() == before
    shop.lose_webhooks()
    shop.clock.passes(minutes=5)
    assert shop.reconcile() == {"outcome": "no_api_key"}
    assert "secret_unreachable" in told.alarms()
    outages.fates.clear()
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["found"] == {"settled": 1}
    assert (shop.status(order_id), shop.types(order_id)) == ("paid", ["order.paid"])


def test_it_heals_by_itself(shop: World, outages: Outages) -> None:
    """The first delivery after the outage is judged, cold or warm."""
    shop.buy()
    secrets._copies.clear()
    outages.fates["secretsmanager"] = OUTAGES[0]
    [waiting] = shop.undelivered
    assert shop.deliver() == ["webhook_secret_unreachable"]
    outages.fates.clear()
    assert shop.deliver(waiting) == ["settled"]
