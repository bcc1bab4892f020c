"""Reconciliation against answers of Pocketsflow's that no source promises: nothing is lost, an error is never taken for
"none", and what fails holds up nothing else."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import reconcile
import webhook
from payments import pocketsflow, provider, subscriptions, table
from tests.integration.outages import Outages, unheard
from tests.payloads import delivery, paid
from tests.world import ELSEWHERE, PRODUCTS, Context, World

COURSE, MEMBERSHIP = (PRODUCTS[sku]["productId"] for sku in ("course", "membership"))


def row(shop: World, payment_id: str, **changes: Any) -> dict[str, Any]:
    """Of the list of orders, without what a change says is None."""
    found = {**shop.account.orders[payment_id], "product": None, **changes}
    return {name: value for name, value in found.items() if value is not None}


def rows(shop: World, query: dict[str, str]) -> list[dict[str, Any]]:
    """Orders within the dates asked for, newest first."""
    since, until = (datetime.fromisoformat(query[name]) for name in ("startDate", "endDate"))
    found = [row(shop, payment_id) for payment_id in reversed(shop.account.orders)]
    return [each for each in found if since <= datetime.fromisoformat(each["createdAt"]) <= until]


def listing(name: str, *listed: dict[str, Any]) -> Callable[[dict[str, str]], tuple[int, Any]]:
    return lambda _: (200, {name: list(listed), "pagination": {"hasMore": False}})


def failing(status: int) -> Callable[[dict[str, str]], tuple[int, Any]]:
    return lambda _: (status, {})


def walks(shop: World) -> set[str]:
    """That are unfinished."""
    return set(shop.stack.items()["reconcile#state"]["walks"]["M"])


# --- Pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "bare"), [(19, True), (19, False), (100, False), (120, True)])
def test_a_list_that_has_no_pages(shop: World, number: int, bare: bool) -> None:
    """As many rows as there are, more than were asked for and than DynamoDB reads at once, and the same again for
    another page."""
    orders = [shop.buy_unheard()[0] for _ in range(number)]

    def listed(query: dict[str, str]) -> tuple[int, Any]:
        found = rows(shop, query)
        return 200, found if bare else {"orders": found}

    shop.answers["GET /orders"] = listed
    shop.requests.clear()
    assert shop.later()["settled"] == number
    assert shop.requests.count("GET /orders") == (1 if number < pocketsflow.LEAST_PAGE else 2)
    assert {shop.status(order_id) for order_id in orders} == {"paid"}


@pytest.mark.parametrize(
    "said",
    [{}, {"pagination": {"totalPages": 3}}, {"pagination": {"hasMore": "yes"}}, None],
    ids=["nothing", "totals", "a word", "a bare list"],
)
def test_pages_that_do_not_say_whether_there_are_more(shop: World, said: dict[str, Any] | None) -> None:
    """Of twenty, whatever was asked for: all are read."""
    orders = [shop.buy_unheard()[0] for _ in range(45)]

    def listed(query: dict[str, str]) -> tuple[int, Any]:
        last = 20 * int(query["page"])
        found = rows(shop, query)[last - 20 : last]
        return 200, found if said is None else {"orders": found, **said}

    shop.answers["GET /orders"] = listed
    assert shop.later()["settled"] == 45
    assert {shop.status(order_id) for order_id in orders} == {"paid"}


def test_a_list_in_another_order_each_time(shop: World) -> None:
    """That has no pages, and more rows than a page of Pocketsflow's: it ends when nothing new comes."""
    people = [subscriber(subscriptionCustomerId=f"subc{number}") for number in range(25)]

    def listed(_: dict[str, str]) -> tuple[int, Any]:
        people.append(people.pop(0))
        return 200, {"subscribers": people}

    shop.answers["GET /subscriptions/subscribers"] = listed
    shop.reconcile("hours")
    assert shop.requests.count("GET /subscriptions/subscribers") == 2
    assert walks(shop) == set()


def test_a_second_page_that_is_not_found(shop: World) -> None:
    """There is none."""
    orders = [shop.buy_unheard()[0] for _ in range(25)]
    shop.answers["GET /orders"] = lambda query: (
        (200, {"orders": rows(shop, query)}) if query["page"] == "1" else (404, {})
    )
    assert shop.later()["settled"] == 25
    assert {shop.status(order_id) for order_id in orders} == {"paid"}


def test_a_page_number_that_is_ignored(shop: World) -> None:
    """The same page again, which says that there are more: partial, and the next run begins at the first one, where the
    new sales are."""
    shop.answers["GET /orders"] = lambda query: (200, {"orders": rows(shop, query), "pagination": {"hasMore": True}})
    for _ in range(3):
        order_id, _ = shop.buy_unheard()
        shop.clock.passes(minutes=5)
        assert shop.reconcile()["outcome"] == "partial"
        assert shop.status(order_id) == "paid"
    assert "orders.recent" in walks(shop)


def test_a_list_without_end(shop: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pages that are always new: the walk does not end, which is alarmed as silence, and soon a shorter one looks
    for new sales in each run. After two thousand pages it is given up."""
    count = iter(range(10**6))

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        found = rows(shop, query) if query["page"] == "1" else []
        return 200, {"orders": [*found, {"_id": str(next(count))}], "pagination": {"hasMore": True}}

    shop.answers["GET /orders"] = orders
    started = shop.clock.now
    while shop.clock.now - started < timedelta(minutes=40):
        shop.clock.passes(minutes=5)
        capsys.readouterr()
        assert "orders.recent" in shop.reconcile()["unfinished"]
        assert "ReconcileCompleted" not in capsys.readouterr().out
    order_id, _ = shop.buy_unheard()
    shop.clock.passes(minutes=5)
    shop.reconcile()
    assert shop.status(order_id) == "paid"
    monkeypatch.setattr(reconcile, "MAX_PAGES", 3)
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["outcome"] == "partial"


def test_a_sale_at_the_beginning_of_a_long_walk(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes an hour: what is sold meanwhile is found within half of one, whenever it was sold."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 1)
    theirs = shop.sell_elsewhere(ELSEWHERE["productId"])
    listed = [row(shop, theirs, _id=f"{number:024x}", metadata=None) for number in range(300)]
    monkeypatch.setattr(reconcile, "PER_MINUTE", 5)

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        since = datetime.fromisoformat(query["startDate"])
        found = [*rows(shop, query), *(each for each in listed if datetime.fromisoformat(each["createdAt"]) >= since)]
        number = int(query["page"])
        return 200, {"orders": found[number - 1 : number], "pagination": {"hasMore": number < len(found)}}

    shop.answers["GET /orders"] = orders
    shop.lose_webhooks()
    shop.clock.passes(minutes=31)
    sold: dict[str, datetime] = {}
    longest = timedelta(0)
    for _ in range(12):
        started = shop.clock.now
        shop.reconcile()
        for order_id in [each for each in sold if shop.status(each) == "paid"]:
            longest = max(longest, shop.clock.now - sold.pop(order_id))
        shop.clock.now = max(shop.clock.now, started + timedelta(minutes=5) - timedelta(seconds=20))
        sold[shop.buy_unheard()[0]] = shop.clock.now
        shop.clock.passes(seconds=20)
    assert "orders.recent" in walks(shop)
    assert timedelta(minutes=5) < longest < timedelta(minutes=30)
    assert all(shop.clock.now - at < timedelta(minutes=30) for at in sold.values())


def test_days_without_a_run(shop: World) -> None:
    """Three of them, for want of a key: renewals were paid meanwhile, which only the list of payments counts."""
    order_id, subscription = shop.buy("membership")
    shop.deliver()
    shop.flow()
    shop.later()
    shop.clock.passes(hours=6)
    shop.account.advance(subscription, "renew")
    shop.lose_webhooks()
    shop.clock.passes(days=3)
    shop.later()
    assert shop.types(order_id).count("subscription.payment_succeeded") == 2


# --- What fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_record_that_fails_holds_up_no_list(shop: World, status: int) -> None:
    """A nameless sale whose record Pocketsflow cannot give: alarmed, run after run; what else was sold settles, however
    long it lasts, and so does that sale once its record is there, although no recent list shows it any more."""
    poison, theirs = shop.buy_unheard()
    shop.account.set_faults({"hide_metadata": "list"})
    shop.answers[f"GET /orders/{theirs}"] = failing(status)
    outcomes = []
    for walk in ("recent", "recent", "hours", *["recent"] * 9):
        order_id, _ = shop.buy_unheard()
        shop.clock.passes(minutes=5)
        outcomes.append(shop.reconcile(walk)["outcome"])
        assert shop.status(order_id) == "paid"
    assert outcomes.count("partial") > 6
    assert shop.status(poison) == "pending"
    assert "payment.unmatched" not in shop.types()
    shop.answers.clear()
    shop.clock.passes(minutes=11)
    shop.reconcile()
    assert shop.status(poison) == "paid"


def test_no_more_records_are_asked_for_where_none_is_given(shop: World) -> None:
    """Three that fail one after the other are enough for a list: what is named settles, and all are asked for later."""
    nameless = []
    shop.account.set_faults({"hide_metadata": "list"})
    for _ in range(5):
        order_id, theirs = shop.buy_unheard()
        shop.answers[f"GET /orders/{theirs}"] = failing(500)
        nameless.append(order_id)
    named = row(shop, theirs, _id="f" * 24, metadata={"external_order_id": shop.checkout()[0]})
    shop.answers["GET /orders"] = listing(
        "orders", *(row(shop, each, metadata=None) for each in shop.account.orders), named
    )
    shop.clock.passes(minutes=5)
    shop.requests.clear()
    answer = shop.reconcile()
    assert (answer["outcome"], answer["found"]) == ("partial", {"unreadable": 3, "settled": 1})
    assert len([request for request in shop.requests if request.startswith("GET /orders/")]) == 3 * provider.TRIES
    shop.answers = {"GET /orders": listing("orders")}
    assert shop.later(minutes=11)["settled"] == 5
    assert {shop.status(order_id) for order_id in nameless} == {"paid"}


def test_claims_are_confirmed_beside_records_that_fail(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three nameless sales in the list whose records fail do not use up the patience for what webhooks claimed."""
    monkeypatch.setattr(webhook, "WAITS_FOR_API", True)
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    shop.clock.passes(minutes=11)
    poison = [shop.sell_elsewhere(COURSE) for _ in range(3)]
    shop.lose_webhooks()
    for theirs in poison:
        shop.answers[f"GET /orders/{theirs}"] = failing(400)
    shop.answers["GET /orders"] = listing("orders", *(row(shop, theirs) for theirs in poison))
    shop.reconcile()
    assert shop.status(order_id) == "paid"


@pytest.mark.parametrize("status", [403, 500])
def test_a_path_that_is_down_holds_up_no_other(shop: World, status: int) -> None:
    """Payments of subscriptions cannot be listed, for hours: orders, refunds and subscribers are, what webhooks said is
    confirmed, and the payments are found when they can be."""
    shop.answers["GET /payments"] = failing(status)
    subscribed, _ = shop.buy_unheard("membership")
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    del shop.account.orders[payment_id]  # so that no list confirms it
    for walk in ("recent", "hours", "recent", "days", "recent", "recent"):
        shop.clock.passes(minutes=11)
        shop.requests.clear()
        assert shop.reconcile(walk)["outcome"] == "partial"
        assert shop.requests.count("GET /payments") <= 2 * provider.TRIES
    assert "ledger.drift" in shop.types(order_id)
    assert shop.status(subscribed) == "paid"  # by the list of subscribers
    assert walks(shop) == {f"payments.{each}" for each in ("asked", "recent", "hours", "days")}
    shop.answers.clear()
    assert shop.later()["payment_counted"] == 1
    assert walks(shop) == set()


def test_a_path_that_the_key_may_not_read(shop: World) -> None:
    """No plan with subscribers: the daily lists go on all the same."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.answers["GET /subscriptions/subscribers"] = failing(403)
    shop.reconcile("hours")
    shop.clock.passes(days=30)
    shop.account.set_disputed(payment_id, True)
    shop.reconcile("days")
    assert shop.status(order_id) == "disputed"


def test_orders_that_cannot_be_listed_confirm_nothing(shop: World) -> None:
    """And nothing is denied for it."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.answers["GET /orders"] = failing(500)
    del shop.account.orders[payment_id]
    shop.clock.passes(minutes=11)
    shop.reconcile()
    assert shop.types(order_id) == ["order.paid"]


def test_a_page_that_never_comes(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second page fails for good: what is new is on the first one, and settles in each run."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 2)

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        if query["page"] != "1":
            return 500, {}
        found = rows(shop, query)
        return 200, {"orders": found[:2], "pagination": {"hasMore": len(found) > 2}}

    shop.answers["GET /orders"] = orders
    for _ in range(3):
        shop.buy_unheard()
    for _ in range(5):
        order_id, _ = shop.buy_unheard()
        shop.clock.passes(minutes=5)
        assert shop.reconcile()["outcome"] == "partial"
        assert shop.status(order_id) == "paid"


@pytest.mark.parametrize("status", [400, 500])
def test_a_row_that_breaks_every_list_with_it(shop: World, status: int) -> None:
    """For half an hour nothing can be listed; then what is new settles again, in each run and for who waits at the
    thank-you page, and each longer walk comes back when the row is out of its dates."""
    _, poison = shop.buy_unheard()

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        found = rows(shop, query)
        return (status, {}) if poison in [each["_id"] for each in found] else (200, {"orders": found})

    shop.answers["GET /orders"] = orders
    for walk in ["recent", "hours", "days"] + ["recent"] * 5:
        shop.clock.passes(minutes=5)
        assert shop.reconcile(walk)["outcome"] == "partial"
    for _ in range(3):
        order_id, _ = shop.buy_unheard()
        shop.clock.passes(minutes=5)
        assert shop.reconcile()["outcome"] == "partial"
        assert shop.status(order_id) == "paid"
    order_id, _ = shop.buy_unheard()
    shop.clock.passes(seconds=31)
    shop.status(order_id)
    shop.flow()
    shop.reconcile("asked")
    assert shop.status(order_id) == "paid"
    shop.clock.passes(days=4)
    for walk in ("hours", "recent"):
        shop.reconcile(walk)
    assert walks(shop) == {"orders.history"}


def test_an_outage_costs_a_long_walk_no_page(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a year is gone on with from the page where it was; stuck when it is due again, it begins anew."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 1)
    for _ in range(10):
        shop.buy_unheard()
    shop.later()
    shop.clock.passes(days=10)

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        number, found = int(query["page"]), rows(shop, query)
        if number > 5 and down:
            return 500, {}
        return 200, {"orders": found[number - 1 : number], "pagination": {"hasMore": number < len(found)}}

    def page() -> str:
        return str(shop.stack.items()["reconcile#state"]["walks"]["M"]["orders.history"]["M"]["page"]["N"])

    down = True
    shop.answers["GET /orders"] = orders
    for walk in ("days", "recent", "recent"):
        shop.clock.passes(minutes=5)
        shop.reconcile(walk)
        assert page() == "6"
    shop.clock.passes(days=1)
    shop.requests.clear()
    shop.reconcile("days")
    assert shop.requests.count("GET /orders") > 5 + provider.TRIES
    down = False
    shop.later()
    assert walks(shop) == set()


def test_a_record_that_is_busy_costs_no_page(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk goes on at the page where it was."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 1)
    orders = [shop.buy_unheard() for _ in range(4)]
    shop.account.set_faults({"hide_metadata": "list"})
    shop.answers[f"GET /orders/{orders[1][1]}"] = failing(429)  # of the third page
    for _ in range(2):
        shop.clock.passes(minutes=1)
        assert shop.reconcile()["outcome"] == "partial"
        page = shop.stack.items()["reconcile#state"]["walks"]["M"]["orders.recent"]["M"]["page"]
        assert page == {"N": "3"}
    shop.answers.clear()
    shop.later()
    assert {shop.status(order_id) for order_id, _ in orders} == {"paid"}


def test_an_error_for_whose_repetition_there_is_no_time(shop: World) -> None:
    """Is still an error."""
    shop.buy_unheard()
    shop.account.set_faults({"http_status": 429, "http_retry_after": 60})
    shop.on_request = lambda: shop.clock.passes(seconds=55)
    assert shop.reconcile()["outcome"] == "partial"


# --- What rows say ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_a_product_that_is_an_object(shop: World, listed: bool) -> None:
    """With its id within, in the list or in the single record."""
    order_id, theirs = shop.buy_unheard()
    full = row(shop, theirs, productId={"_id": COURSE, "name": "Course"})
    shop.answers["GET /orders"] = listing("orders", full if listed else row(shop, theirs, metadata=None))
    shop.answers[f"GET /orders/{theirs}"] = lambda _: (200, full)
    assert shop.later()["settled"] == 1
    assert shop.status(order_id) == "paid"


def test_a_record_that_cannot_be_read_places_nobody(shop: World) -> None:
    """It is no answer: asked again, and not unmatched."""
    order_id, theirs = shop.buy_unheard()
    shop.account.set_faults({"hide_metadata": "list"})
    shop.answers[f"GET /orders/{theirs}"] = lambda _: (200, {"_id": theirs})
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["outcome"] == "partial"
    shop.answers.clear()
    shop.later()
    assert (shop.status(order_id), shop.types()) == ("paid", ["order.paid"])


@pytest.mark.parametrize("made", ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "soon", 1795435200000])
def test_a_date_that_is_none(shop: World, made: Any) -> None:
    """A record of no time is settled or judged as any other."""
    shop.checkout()
    theirs = shop.sell_elsewhere(COURSE)
    shop.lose_webhooks()
    shop.answers["GET /orders"] = listing("orders", row(shop, theirs, metadata=None))
    shop.answers[f"GET /orders/{theirs}"] = lambda _: (200, row(shop, theirs, metadata=None, createdAt=made))
    assert shop.later()["unmatched"] == 1


def test_a_list_under_another_name_and_a_record_in_its_own(shop: World) -> None:
    """`data`, and `{"refund": {…}}`."""
    order_id, theirs = shop.buy()
    shop.deliver()
    refund, _ = shop.account.refund(theirs, Decimal("5.00"), None) or ({}, [])
    shop.deliver()
    shop.flow()
    shop.answers["GET /orders"] = lambda _: (200, {"data": [row(shop, theirs)], "pagination": {"hasMore": False}})
    shop.answers[f"GET /refunds/{refund['_id']}"] = lambda _: (200, {"refund": shop.account.refunds[refund["_id"]]})
    assert shop.later()["confirmed"] == 1
    shop.answers["GET /orders"] = listing("orders")
    shop.account.refund(theirs, Decimal("1.00"), None)
    shop.deliver()
    shop.flow()
    shop.later(minutes=11)
    assert shop.status(order_id) == "partially_refunded"
    assert "ledger.drift" not in shop.types()


def test_payments_of_no_subscription(shop: World) -> None:
    """A list that ignores the type asked for shows them too: they are the orders', and no unreadable rows."""
    order_id, theirs = shop.buy_unheard()
    one_time = {"_id": theirs, "type": "one-time", "productId": COURSE, "amount": 49, "currency": "usd"}
    shop.answers["GET /payments"] = listing("payments", one_time)
    assert shop.later() == {"settled": 1}
    assert shop.status(order_id) == "paid"


@pytest.mark.parametrize("word", ["Subscription", "recurring", None])
def test_a_subscription_s_payment_by_any_other_word(shop: World, word: str | None) -> None:
    """What names the subscription's buyer is one."""
    order_id, _ = shop.buy_unheard("membership")
    [payment] = shop.account.payments.values()
    shop.answers["GET /payments"] = listing("payments", {**payment, "type": word})
    assert shop.later()["payment_counted"] == 1
    assert shop.status(order_id) == "paid"


def test_an_order_paid_by_the_other_mode(shop: World) -> None:
    """By its webhook, and denied by the API: told, and not taken back."""
    order_id, theirs = shop.buy()
    shop.deliver()
    shop.flow()
    shop.account.orders[theirs] = {**shop.account.orders[theirs], "testMode": False}
    shop.later(minutes=11)
    assert shop.types(order_id) == ["order.paid", "ledger.drift"]
    assert shop.published[-1]["drift"] == {"what": "payment", "ours": "test", "theirs": "live"}


def subscriber(**changes: Any) -> dict[str, Any]:
    active = {"status": "active", "active": True, "paused": False, "testMode": True}
    return {"subscriptionCustomerId": "subc1", "subscriptionId": MEMBERSHIP, **active, **changes}


@pytest.mark.parametrize("status", ["past_due", "unpaid", "canceled"])
def test_a_subscriber_who_does_not_pay(shop: World, status: str) -> None:
    """Settles nothing, as no webhook in such a state does."""
    order_id, _ = shop.checkout("membership")
    named = subscriber(status=status, active=False, metadata={"external_order_id": order_id})
    shop.answers["GET /subscriptions/subscribers"] = listing("subscribers", named)
    shop.reconcile("hours")
    assert shop.status(order_id) == "pending"
    assert "order.paid" not in shop.types()


@pytest.mark.parametrize("where", ["a list and a claim", "its record", "subscribers", "payments"])
def test_a_sale_of_the_other_mode(shop: World, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A live sale settles nothing in a test stack, wherever it shows."""
    order_id, theirs = shop.buy("membership" if where in ("subscribers", "payments") else "course")
    named = {"external_order_id": order_id}
    match where:
        case "a list and a claim":
            monkeypatch.setattr(webhook, "WAITS_FOR_API", True)
            shop.account.orders[theirs] = {**shop.account.orders[theirs], "testMode": False}
            shop.deliver()
            shop.flow()
        case "its record":
            shop.answers["GET /orders"] = listing("orders", row(shop, theirs, testMode=None, metadata=None))
            shop.answers[f"GET /orders/{theirs}"] = lambda _: (200, row(shop, theirs, testMode=False))
        case "subscribers":
            shop.answers["GET /payments"] = listing("payments")
            live = subscriber(subscriptionCustomerId=theirs, testMode=False, metadata=named)
            shop.answers["GET /subscriptions/subscribers"] = listing("subscribers", live)
        case "payments":
            [payment] = shop.account.payments.values()
            live = {**payment, "testMode": False, "metadata": named}
            shop.answers["GET /payments"] = listing("payments", live)
            shop.answers["GET /subscriptions/subscribers"] = listing("subscribers")
    shop.lose_webhooks()
    shop.clock.passes(minutes=1)
    seen = set()
    for walk in ("recent", "hours", "recent"):
        seen |= shop.reconcile(walk)["found"].keys()
        shop.clock.passes(minutes=11)
    assert "other_mode" in seen
    assert shop.status(order_id) == "pending"
    assert not any("awaits" in item for item in shop.stack.items().values())


# --- What changes while a run looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_webhook_that_comes_while_its_record_is_read(
    shop: World, monkeypatch: pytest.MonkeyPatch, confirmed: bool
) -> None:
    """The API never says whose it is; when it would be judged its order has it, or claims it."""
    monkeypatch.setattr(webhook, "WAITS_FOR_API", confirmed)
    order_id, theirs = shop.buy()
    shop.account.set_faults({"hide_metadata": "all"})
    shop.clock.passes(minutes=6)

    def record(_: dict[str, str]) -> tuple[int, Any]:
        if shop.undelivered:
            shop.deliver()
            shop.flow()
        return 200, row(shop, theirs, metadata=None)

    shop.answers[f"GET /orders/{theirs}"] = record
    shop.reconcile()
    shop.later()
    assert (shop.status(order_id), shop.types()) == ("paid", ["order.paid"])


def test_what_has_just_been_sold_is_not_judged(shop: World) -> None:
    """Its webhook may be under way; after five minutes it is nobody's. A record without a date has the list's."""
    shop.account.set_faults({"hide_metadata": "all"})
    sold, theirs = zip(*(shop.buy() for _ in range(3)), strict=True)
    undated = row(shop, theirs[1], metadata=None, createdAt=None)
    shop.answers[f"GET /orders/{theirs[1]}"] = lambda _: (200, undated)
    [late, *others] = shop.undelivered
    shop.clock.passes(minutes=1)
    assert shop.reconcile()["found"] == {"too_new": 3}
    shop.deliver(*others)
    shop.flow()
    assert shop.later()["unmatched"] == 1
    assert shop.types() == ["order.paid", "order.paid", "payment.unmatched"]
    assert shop.deliver(late) == ["settled"]
    shop.flow()
    assert {shop.status(order_id) for order_id in sold} == {"paid"}


@pytest.mark.parametrize("known", ["foreign", "unmatched"])
def test_a_payment_that_was_nobody_s_and_is_an_order_s(
    shop: World, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    """Judged before its late webhook settled an order: its refunds and disputes are the order's all the same."""
    order_id, theirs = shop.buy()
    [late] = shop.undelivered
    shop.account.set_faults({"hide_metadata": "all"})
    shop.account.set_disputed(theirs, True)
    with monkeypatch.context() as other:
        if known == "foreign":
            other.setattr(reconcile, "CATALOGUE", {"membership": reconcile.CATALOGUE["membership"]})
        assert shop.later()[known] == 1
    shop.deliver(late)
    shop.flow()
    shop.later(minutes=11)
    assert shop.status(order_id) == "disputed"
    shop.account.set_disputed(theirs, False)
    shop.account.refund(theirs, Decimal("9.00"), None)
    shop.lose_webhooks()
    shop.clock.passes(minutes=5)
    shop.reconcile("days")
    assert shop.status(order_id) == "partially_refunded"


@pytest.mark.parametrize("label", [{"external_order_id": "ORDER-1043"}, {"pocketsflow_store": "another stack's"}])
@pytest.mark.parametrize("sku", PRODUCTS)
def test_a_claim_is_worth_nothing_against_the_api(
    shop: World, monkeypatch: pytest.MonkeyPatch, sku: str, label: dict[str, str]
) -> None:
    """Settle=confirmed: a stolen secret cannot take a sale that Pocketsflow itself says to be another system's."""
    monkeypatch.setattr(webhook, "WAITS_FOR_API", True)
    order_id, theirs = shop.buy(sku)
    shop.deliver()
    shop.flow()
    if sku == "course":
        shop.answers["GET /orders"] = listing("orders", row(shop, theirs, metadata=label))
        shop.answers[f"GET /orders/{theirs}"] = lambda _: (200, row(shop, theirs, metadata=label))
    else:
        [payment] = shop.account.payments.values()
        shop.answers["GET /payments"] = listing("payments", {**payment, "metadata": label})
        named = subscriber(subscriptionCustomerId=theirs, metadata=label)
        shop.answers["GET /subscriptions/subscribers"] = listing("subscribers", named)
    for walk in ("recent", "hours", "recent"):
        shop.clock.passes(minutes=11)
        shop.reconcile(walk)
    assert shop.status(order_id) == "pending"


def test_a_subscription_that_the_relay_writes_at_the_same_moment(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB cancels one of the two: the payment is counted at the next try."""
    shop.buy_unheard("membership")
    count, conflicts = table.client.transact_write_items, 2
    cancelled: Any = {"CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}]}

    def conflicting(**request: Any) -> Any:
        nonlocal conflicts
        conflicts -= 1
        if conflicts >= 0:
            raise table.client.exceptions.TransactionCanceledException(cancelled, "TransactWriteItems")
        return count(**request)

    monkeypatch.setattr(subscriptions.client, "transact_write_items", conflicting)
    assert shop.later()["payment_counted"] == 1


def test_a_lease_that_is_given_back_twice(shop: World, outages: Outages) -> None:
    """DynamoDB's answer is lost, and botocore sends the write again: no run has lost its lease."""

    def once(tried: Any) -> Any:
        if "REMOVE lease_owner" in tried.content.get("UpdateExpression", ""):
            del outages.fates["dynamodb"]
            return unheard(tried)
        return None

    outages.fates["dynamodb"] = once
    shop.later()
    assert outages.fates == {}
    shop.later()


def test_a_dry_run_keeps_to_a_tool_s_share(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five requests a minute beside those of the schedule, and it says what it had no time for."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 1)
    for _ in range(30):
        shop.buy_unheard()
    times: list[float] = []
    shop.on_request = lambda: times.append(shop.clock.time())
    answer = shop.reconcile(dry_run=True)
    assert 10 < answer["requests"] <= 20
    assert answer["unfinished"] == ["orders.recent", "payments.recent"]
    assert max(sum(start <= time < start + 60 for time in times) for start in times) == provider.TOOLS_PER_MINUTE


def test_a_forged_claim_of_a_sale_that_nobody_claims(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left to a stolen secret: a real sale of the same product of which the API says nothing at all."""
    monkeypatch.setattr(webhook, "WAITS_FOR_API", True)
    theirs = shop.sell_elsewhere(COURSE)
    shop.lose_webhooks()
    order_id, _ = shop.checkout()
    content = paid(order_id, theirs, product=COURSE)
    webhook.handler(delivery(content, content["event"]), Context(shop.clock, 4))
    shop.flow()
    shop.later()
    assert shop.status(order_id) == "paid"
