"""A small simulated day, hostile in every way; the large ones are `make simulate`."""

from typing import Any

import pytest

from connectors import deliveries, feed
from payments import ledger
from tests.simulation import checks
from tests.simulation.__main__ import broken_promises, live
from tests.simulation.day import Day, Plan, prepared

SMALL: dict[str, Any] = {"payments": 120, "hours": 4, "polling": 0.03, "subscriptions": 4}


def test_a_hostile_day() -> None:
    """None is lost, none settled twice, everything is told, and in the end the ledger says what Pocketsflow says."""
    day = live(Plan(6, loss=1.0, hostile=True, **SMALL))
    assert broken_promises(day) == []
    assert len(day.seconds) > 50
    assert sum(day.faults.values()) > 50


def test_a_hostile_day_with_connectors() -> None:
    """Whatever the bus, the queues, the platforms and the processes do, in the end each platform has what the ledger
    has, and nothing twice."""
    day = live(Plan(6, loss=0.5, hostile=True, connectors=True, **{**SMALL, "payments": 60}))
    assert broken_promises(day) == []
    assert sum(day.faults.values()) > 50
    assert all(of["tries"] >= of["events"] > 0 for of in day.deliveries.values())
    assert sum(of["killed"] for of in day.deliveries.values()) > 0
    assert sum(of["redriven"] for of in day.deliveries.values()) > 0


def test_connectors_that_forget_an_event_or_apply_an_older_one_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: what a platform was not told, and what it was told too late and believed, is told, and
    of no other platform."""
    plan = Plan(1, loss=0, hostile=False, payments=8, hours=1, polling=0, subscriptions=0, connectors=True)
    with prepared(plan) as day:
        deliver = feed.deliver
        # Each order is given back, and its payment is heard of after that.
        monkeypatch.setattr(Day, "_what_follows", lambda self, _session, payment: self._refund(payment, None))
        monkeypatch.setattr(day.connectors, "delay", lambda kind: 3600 if kind == "order.paid" else 1)
        monkeypatch.setattr(deliveries, "is_current", lambda *_: True)
        monkeypatch.setattr(
            feed, "deliver", lambda event, now: "forgot" if event.type == "order.refunded" else deliver(event, now)
        )
        day.live()
        found = checks.violations(checks.Books(day))
    assert any("is refunded, its tags are ['pocketsflow-paid']" in violation for violation in found)
    assert any("is known to one side alone" in violation for violation in found)
    assert {violation.split(": ")[1] for violation in found} == {"shopify", "feed"}


def test_parked_webhooks_settle() -> None:
    """While the ledger is down webhooks are parked, and the queue settles them."""
    day = live(Plan(7, loss=0, hostile=True, payments=150, hours=4, polling=0, subscriptions=2))
    assert broken_promises(day) == []
    assert day.counts["webhooks parked"] > 0
    assert day.by["parking"] > 0


def test_a_seed_gives_one_history() -> None:
    """The same day again is the same, request by request."""
    plan = Plan(3, loss=0.1, hostile=True, payments=25, hours=1, polling=0.1, subscriptions=2, connectors=True)
    first, second = live(plan), live(plan)
    assert first == second


def test_a_ledger_that_drops_a_payment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: one payment that is answered and not written is told, with its seed and its order."""
    plan = Plan(1, loss=0, hostile=False, payments=15, hours=1, polling=0, subscriptions=1)
    record = ledger.record

    def forgetful(fact: Any, *arguments: Any, **options: Any) -> Any:
        return (
            "settled"
            if str(getattr(fact, "id", "")).startswith(("0", "1", "2", "3"))
            else record(fact, *arguments, **options)
        )

    with prepared(plan) as day:
        monkeypatch.setattr(ledger, "record", forgetful)
        day.live()
        found = checks.violations(checks.Books(day))
    assert any("is lost: order ord_test_" in violation for violation in found)
    assert all(violation.startswith("seed 1, 15 payments") for violation in found)


def test_an_event_that_was_not_published_is_noticed() -> None:
    """One event less on the bus than there were changes is told."""
    plan = Plan(1, loss=0, hostile=False, payments=10, hours=1, polling=0, subscriptions=1)
    with prepared(plan) as day:
        day.live()
        paid = next(event for event in day.world.published if event["type"] == "order.paid")
        day.world.published.remove(paid)
        found = checks.violations(checks.Books(day))
    assert any("was never published" in violation for violation in found)
