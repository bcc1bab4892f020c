"""reconcile from a moment on that a person names: `{"walk": "since"}`."""

from datetime import datetime, timedelta
from typing import Any

import pytest

import reconcile
from payments import pocketsflow
from payments.table import timestamp
from tests.integration.outages import Outages
from tests.payloads import NOW
from tests.world import Context, World

BEGIN = timestamp(NOW)


def test_what_every_schedule_has_passed_is_found(shop: World) -> None:
    """Orders, subscriptions' payments and refunds of forty days ago, which the walks of two days do not see any more,
    settle as if a webhook had told them."""
    order_id, payment_id = shop.buy_unheard()
    member, _ = shop.buy_unheard("membership")
    shop.account.refund(payment_id, None, None)
    shop.lose_webhooks()
    shop.clock.passes(days=40)
    shop.account.set_faults({"list_lag_seconds": 41 * 86_400})
    shop.reconcile("recent")  # its cursor passes all of them
    shop.account.set_faults({})
    shop.clock.passes(hours=1)
    shop.reconcile("recent")
    assert (shop.status(order_id), shop.status(member)) == ("pending", "pending")
    answer = shop.reconcile("since", since=BEGIN)
    assert (answer["outcome"], answer["unfinished"]) == ("done", [])
    assert (shop.status(order_id), shop.status(member)) == ("refunded", "paid")
    assert shop.reconcile("since", since=BEGIN)["found"].get("settled") is None


def test_a_moment_later_leaves_what_is_earlier_alone(shop: World) -> None:
    """From then on, and no earlier."""
    order_id, _ = shop.buy_unheard()
    shop.clock.passes(days=40)
    shop.account.set_faults({"ignore_dates": True})
    since_then = timestamp(shop.clock.now - timedelta(days=1))
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": "reconcile#state"}},
        UpdateExpression="SET cursors = :cursors",
        ExpressionAttributeValues={":cursors": {"M": {"orders.recent": {"S": timestamp(shop.clock.now)}}}},
    )  # fmt: skip
    assert "settled" not in shop.reconcile("since", since=since_then)["found"]
    assert shop.status(order_id) == "pending"


def test_several_invocations_are_one_walk(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there was no time for is named, and `{"walk": "since"}` goes on there, with no page asked for again; when it
    is over the same asks for nothing."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 2)
    orders = [shop.buy_unheard()[0] for _ in range(7)]
    shop.clock.passes(days=3)
    pages: list[str] = []
    list_page = pocketsflow.list_page

    def noting(key: str, path: str, query: Any, number: int) -> pocketsflow.Page:
        pages.append(f"{path} {number}")
        return list_page(key, path, query, number)

    monkeypatch.setattr(pocketsflow, "list_page", noting)
    event = {"walk": "since", "since": BEGIN}
    answers = []
    shop.on_request = lambda: shop.clock.passes(seconds=9)
    for _ in range(9):
        answers.append(reconcile.handler(event, Context(shop.clock, 40)))
        event = {"walk": "since"}
        if not answers[-1]["unfinished"]:
            break
    shop.flow()
    assert [each["outcome"] for each in answers] == ["done"] * len(answers)
    assert len(answers) > 1
    assert answers[0]["unfinished"][0] == "orders.since"
    assert [page for page in pages if page.startswith("/orders")] == [f"/orders {number}" for number in range(1, 5)]
    assert [shop.status(order_id) for order_id in orders] == ["paid"] * 7
    pages.clear()
    assert reconcile.handler({"walk": "since"}, Context(shop.clock, 240))["unfinished"] == []
    assert pages == []


def test_an_earlier_moment_begins_anew_and_a_later_one_goes_on(shop: World) -> None:
    """A walk under way covers a later moment; for an earlier one it starts again."""
    shop.clock.passes(days=10)
    day = {number: timestamp(NOW + timedelta(days=number)) for number in (1, 5)}
    reconcile.handler({"walk": "since", "since": day[5]}, Context(shop.clock, 15))  # no time for a page

    def since() -> set[str]:
        walks = shop.stack.items()["reconcile#state"]["walks"]["M"]
        return {walks[name]["M"]["since"]["S"] for name in reconcile.SINCE}

    assert since() == {day[5]}
    reconcile.handler({"walk": "since", "since": day[1]}, Context(shop.clock, 15))
    assert since() == {day[1]}
    reconcile.handler({"walk": "since", "since": day[5]}, Context(shop.clock, 15))
    assert since() == {day[1]}


def test_a_dry_run_from_a_moment_on_writes_nothing(shop: World) -> None:
    """It tells what it would settle."""
    shop.buy_unheard()
    shop.clock.passes(days=3)
    before = shop.stack.items()
    answer = reconcile.handler({"walk": "since", "since": BEGIN, "dry_run": True}, Context(shop.clock, 240))
    assert answer["found"] == {"would_settle": 1}
    assert shop.stack.items() == before


def test_while_another_run_is_at_work_nothing_is_begun(shop: World) -> None:
    """It finds no such walk due later: the person is told to come again."""
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": "reconcile#state"}},
        UpdateExpression="SET lease_owner = :other, lease_until = :until",
        ExpressionAttributeValues={
            ":other": {"S": "other"}, ":until": {"S": timestamp(shop.clock.now + timedelta(minutes=3))}
        },
    )  # fmt: skip
    asked = {"walk": "since", "since": BEGIN}
    assert reconcile.handler(asked, Context(shop.clock, 240)) == {"outcome": "already_running"}
    assert "due" not in shop.stack.items()["reconcile#state"]


def test_what_is_no_moment_of_the_last_half_year_is_refused(shop: World) -> None:
    """Nothing is asked or written for a text that is no time, a time without a zone, one too long ago, or to come."""
    before = shop.stack.items()
    for since in (
        "yesterday",
        "2026-11-20",
        "2026-11-20T10:00:00",
        None,
        7,
        "2026-01-01T00:00:00Z",
        "2026-12-24T00:00:00Z",
    ):
        with pytest.raises(ValueError, match=r"since must be|Invalid isoformat"):
            reconcile.handler({"walk": "since", "since": since}, Context(shop.clock, 240))
    assert (shop.requests, shop.stack.items()) == ([], before)


def test_a_list_that_fails_is_tried_again_by_the_next_run(shop: World, outages: Outages) -> None:
    """The others go on; what failed stays in hand, and a schedule's run takes it up."""
    shop.account.refund(shop.buy_unheard()[1], None, None)
    shop.lose_webhooks()
    shop.clock.passes(days=3)
    shop.answers["GET /refunds"] = lambda _: (500, {})
    answer = shop.reconcile("since", since=BEGIN)
    assert (answer["outcome"], "refunds.since" in answer["unfinished"]) == ("partial", True)
    shop.answers.clear()
    shop.clock.passes(minutes=5)
    assert "refunds.since" not in shop.reconcile("recent")["unfinished"]


def test_times_are_read_with_their_zone(shop: World) -> None:
    """The same moment, however it is written."""
    text = "2026-11-23T13:00:00+01:00"
    shop.reconcile("since", since=text)
    assert reconcile._since(text, shop.clock.now) == datetime.fromisoformat(BEGIN)
