"""reconcile: what the webhooks missed."""

import dataclasses
import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import reconcile
from payments import pocketsflow, provider, secrets
from payments.table import timestamp
from sandbox import pocketsflow as fake
from tests.conftest import Aws
from tests.integration.ledger_model import moto_table
from tests.integration.outages import Outages
from tests.payloads import API_KEY, NOW, unknown
from tests.world import ELSEWHERE, PRODUCTS, Context, World, world


def test_a_lost_webhook(shop: World) -> None:
    """A payment whose webhook was lost settles in the next run, through the same settlement, with its source."""
    order_id, payment_id = shop.buy()
    shop.lose_webhooks()
    shop.clock.passes(minutes=5)
    answer = shop.reconcile()
    assert answer["outcome"] == "done", answer
    assert shop.status(order_id) == "paid"
    assert shop.stack.order(order_id)[f"pay#{payment_id}"]["M"]["source"] == {"S": "api"}
    assert shop.types(order_id) == ["order.paid"]


# --- Listing ----------------------------------------------------------------------------------------------------------


def test_a_known_payment_costs_nothing(shop: World, wire: list[str]) -> None:
    """What the API said before is read in one batch, and written no more; a payment costs two writes on its first day,
    however it was found."""
    order_id, _ = shop.buy()
    assert shop.deliver() == ["settled"]
    shop.flow()
    _, other = shop.buy_unheard()
    wire.clear()
    shop.clock.passes(minutes=5)
    reconcile.handler({"walk": "recent"}, Context(shop.clock, 240))
    assert writes_about_payments(wire) <= 2 * 2
    shop.flow()
    for walk in ("recent", "hours", "days"):
        shop.clock.passes(minutes=5)
        wire.clear()
        reconcile.handler({"walk": walk}, Context(shop.clock, 240))
        assert writes_about_payments(wire) == 0
    assert shop.status(order_id) == "paid"
    assert shop.stack.items()[f"sale#{other}"]["api"]["M"]["amount"] == {"S": "49.00"}


def writes_about_payments(wire: list[str]) -> int:
    """Updates beside those of reconciliation's own item: to note what is due, to take the lease and to give it back, to
    begin, and one for each page."""
    pages = sum(request.startswith("GET /") and not request.startswith("GET /orders/") for request in wire)
    return wire.count("dynamodb UpdateItem") - 4 - pages


@pytest.mark.parametrize("hidden", ["string", "reference", "list"])
def test_metadata_wherever_it_stands(shop: World, hidden: str) -> None:
    """An object, a JSON string, a client reference, or only in the single record: the order is found."""
    shop.account.set_faults({"hide_metadata": hidden})
    order_id, payment_id = shop.buy_unheard()
    assert shop.later()["settled"] == 1
    assert shop.status(order_id) == "paid"
    assert (f"GET /orders/{payment_id}" in shop.requests) is (hidden == "list")


@pytest.mark.parametrize("wrap", ["sale", "order", "data"])
def test_a_single_record_in_a_wrapper(shop: World, wrap: str) -> None:
    """`{"sale": {…}}` is the order as well."""
    shop.account.set_faults({"hide_metadata": "list", "wrap": wrap})
    order_id, _ = shop.buy_unheard()
    shop.later()
    assert shop.status(order_id) == "paid"


@pytest.mark.parametrize("fault", [{}, {"shift_rows": True}, {"ignore_dates": True}])
def test_every_page_is_read(shop: World, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]) -> None:
    """All of several pages settle, once, also when rows shift from one page to the next, or dates are ignored."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 3)
    orders = [shop.buy_unheard()[0] for _ in range(8)]
    shop.account.set_faults(fault)
    assert shop.later()["settled"] == 8
    assert [shop.types(order_id) for order_id in orders] == [["order.paid"]] * 8
    assert shop.requests.count("GET /orders") >= 3


def test_what_a_killed_run_had_found_is_noted(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments that no webhook told of are noted with their page: of those that a run settled before it was killed the
    next one asks, too, whether a webhook has come."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 3)
    for _ in range(9):
        shop.buy_unheard()

    def kill() -> None:
        if shop.requests.count("GET /orders") == 3:
            raise MemoryError

    shop.on_request = kill
    with pytest.raises(MemoryError):
        shop.reconcile()
    settled = [pk for pk, item in shop.stack.items().items() if pk.startswith("order#") and "open_day" not in item]
    assert len(settled) == len(shop.stack.items()["reconcile#state"]["unheard"]["M"]) == 6


def test_what_was_made_outside_of_the_window_is_left_alone(shop: World) -> None:
    """A list that ignores dates shows all there ever was; only what is in the window is taken in."""
    shop.buy_unheard()
    shop.clock.passes(days=1)
    shop.account.set_faults({"ignore_dates": True})
    state = shop.stack.dynamodb
    state.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": "reconcile#state"}},
        UpdateExpression="SET cursors.#name = :now",
        ExpressionAttributeNames={"#name": "orders.recent"},
        ExpressionAttributeValues={":now": {"S": timestamp(shop.clock.now)}},
    )  # fmt: skip
    assert "settled" not in shop.later()
    shop.reconcile("days")
    assert shop.types() == ["order.paid"]


def test_a_sale_that_appears_late_in_the_list(shop: World) -> None:
    """The cursor has passed its time, and the overlap still finds it."""
    order_id, _ = shop.buy_unheard()
    shop.account.set_faults({"list_lag_seconds": 20 * 60})
    for _ in range(3):
        shop.later()
        assert shop.status(order_id) == "pending"
    shop.later(minutes=6)
    assert shop.status(order_id) == "paid"


def test_requests_do_not_depend_on_pending_orders(shop: World) -> None:
    """A hundred thousand orders that nobody has paid cost Pocketsflow no request more."""
    table = moto_table(shop.stack)
    shop.checkout()
    [pending] = [item for item in table.items.values() if "open_day" in item.to_json()["Attributes"]]
    shop.buy_unheard()
    before = requests_of_a_run(shop)
    for number in range(100_000):
        table.items[f"order#filler{number}"] = pending
    shop.buy_unheard()
    assert requests_of_a_run(shop) == before


def requests_of_a_run(shop: World) -> list[str]:
    shop.requests.clear()
    assert shop.later()["settled"] == 1
    return list(shop.requests)


def test_the_first_run_fulfils_no_history(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sold before the first run is not this shop's to fulfil; after it everything is, and a start date moves
    the line."""
    with world(cloud, monkeypatch, NOW) as shop:
        old, _ = shop.buy_unheard()
        shop.clock.passes(minutes=1)
        assert shop.reconcile()["found"] == {"before_start": 1}
        assert shop.reconcile("days")["found"]["before_start"] >= 1
        new, _ = shop.buy_unheard()
        shop.later()
        assert (shop.status(old), shop.status(new)) == ("pending", "paid")
        monkeypatch.setattr(reconcile, "RECONCILE_FROM", timestamp(NOW))
        shop.later()
        assert shop.status(old) == "paid"


def test_a_sale_of_the_other_mode(shop: World) -> None:
    """A live sale settles nothing in a test stack, whatever its metadata says."""
    order_id, payment_id = shop.buy_unheard()
    shop.account.orders[payment_id] = {**shop.account.orders[payment_id], "testMode": False}
    assert shop.later() == {"other_mode": 1}
    assert shop.status(order_id) == "pending"


def test_an_unreadable_row_stops_nobody(shop: World) -> None:
    """The others settle, and somebody is told: what cannot be read is never "no orders"."""
    order_id, _ = shop.buy_unheard()
    for number, row in enumerate([{"_id": ""}, {"productId": 3}, {"metadata": "[1, 2"}]):
        shop.account.orders[f"odd{number}"] = {**shop.account.orders[next(iter(shop.account.orders))], **row}
    shop.clock.passes(minutes=5)
    answer = shop.reconcile()
    assert (answer["outcome"], answer["found"]["unreadable"]) == ("partial", 2)
    assert shop.status(order_id) == "paid"


def test_a_single_record_that_cannot_be_read_holds_up_no_other(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again later, behind the others, and alarmed each time."""
    monkeypatch.setattr(reconcile, "MOST_ASKED", 1)
    first, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.clock.passes(seconds=1)
    shop.buy()
    shop.deliver()
    shop.flow()
    row = shop.account.orders[payment_id]
    shop.account.orders[payment_id] = {**row, "productId": None, "product": None}
    shop.account.set_faults({"list_lag_seconds": 86_400})
    shop.clock.passes(minutes=11)
    assert shop.reconcile()["outcome"] == "partial"
    shop.later()
    awaited = [item for pk, item in shop.stack.items().items() if pk.startswith("sale#") and "awaits" in item]
    assert [item["order_id"]["S"] for item in awaited] == [first]
    shop.account.orders[payment_id] = row
    shop.later(minutes=11)
    assert not any("awaits" in item for item in shop.stack.items().values())


# --- Whose a payment is -----------------------------------------------------------------------------------------------


def test_an_unmatched_payment(shop: World) -> None:
    """A product of the catalogue sold without a word about an order: after one read it is nobody's, told once with the
    orders it may have been meant for, and settles none of them."""
    waiting, _ = shop.checkout()
    shop.checkout("membership")
    payment_id = shop.sell_elsewhere(PRODUCTS["course"]["productId"])
    shop.lose_webhooks()
    assert shop.later()["unmatched"] == 1
    assert shop.requests.count(f"GET /orders/{payment_id}") == 1
    [event] = shop.published
    assert (event["type"], event["candidates"], event["order_id"]) == ("payment.unmatched", [waiting], None)
    assert (event["payment"]["id"], event["payment"]["amount"], event["payment"]["unit"]) == (
        payment_id,
        "49.00",
        "major",
    )
    assert shop.status(waiting) == "pending"
    shop.later()
    shop.reconcile("days")
    assert shop.types() == ["payment.unmatched"]
    assert shop.requests.count(f"GET /orders/{payment_id}") == 1


def test_an_unmatched_webhook_is_published_after_a_read(shop: World) -> None:
    """Its delivery alone tells nobody: the API is asked first."""
    payment_id = shop.sell_elsewhere(PRODUCTS["course"]["productId"])
    assert shop.deliver() == ["unmatched"]
    shop.flow()
    assert shop.types() == []
    shop.later()
    assert shop.types() == ["payment.unmatched"]
    assert f"GET /orders/{payment_id}" in shop.requests


def test_a_webhook_without_metadata_that_the_api_can_place(shop: World) -> None:
    """The single record says whose it is: the order settles, and nothing is unmatched."""
    order_id, payment_id = shop.buy()
    [delivery] = shop.undelivered
    body = json.loads(delivery.body)
    del body["metadata"]
    anonymous = dataclasses.replace(delivery, body=json.dumps(body).encode())
    assert shop.deliver(anonymous) == ["unmatched"]
    shop.lose_webhooks()
    shop.flow()
    shop.later()
    assert shop.status(order_id) == "paid"
    assert shop.types() == ["order.paid"]
    assert shop.stack.items()[f"sale#{payment_id}"]["order_id"] == {"S": order_id}


@pytest.mark.parametrize(
    ("product_id", "metadata"),
    [
        (ELSEWHERE["productId"], {}),
        (PRODUCTS["course"]["productId"], {"pocketsflow_store": "another stack's"}),
        (PRODUCTS["course"]["productId"], {"external_order_id": "ORDER-1043"}),
    ],
    ids=["product", "store", "another system"],
)
def test_a_foreign_payment_is_quiet(shop: World, product_id: str, metadata: dict[str, str]) -> None:
    """Sold elsewhere in the account: stored once, published as foreign, nobody is called, and no read is spent."""
    payment_id = shop.sell_elsewhere(product_id, metadata)
    shop.lose_webhooks()
    shop.requests.clear()
    assert shop.later()["foreign"] == 1
    assert not any(request.startswith("GET /orders/") for request in shop.requests)
    assert shop.types() == ["payment.foreign"]
    shop.later()
    assert shop.types() == ["payment.foreign"]
    assert f"pay#{payment_id}" in shop.stack.items()[f"sale#{payment_id}"]


def test_an_order_id_of_our_shape_that_is_not_there(shop: World) -> None:
    """Never made into an order, and told as unmatched."""
    order_id, _ = shop.checkout()
    made_up = unknown(order_id)
    shop.sell_elsewhere(PRODUCTS["course"]["productId"], {"external_order_id": made_up})
    shop.lose_webhooks()
    assert shop.later()["unmatched"] == 1
    assert shop.status(made_up) == "order_not_found"
    assert shop.types() == ["payment.unmatched"]


def test_a_payment_that_pocketsflow_does_not_know(shop: World) -> None:
    """Signed and denied by the API: what is settled stays settled, and the difference is told, once."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    del shop.account.orders[payment_id]
    shop.later()
    assert shop.types() == ["order.paid"]  # not yet: lists are late
    shop.later(minutes=10)
    shop.later()
    assert shop.types() == ["order.paid", "ledger.drift"]
    assert shop.published[-1]["drift"] == {"what": "payment", "ours": "paid", "theirs": "unknown"}
    assert shop.status(order_id) == "paid"


def test_a_dashboard_s_test_event(shop: World) -> None:
    """A signed payment that does not exist, of no order: told once as unmatched."""
    endpoint = next(iter(shop.account.endpoints.values()))
    order = {**fake_order(), "_id": "doesnotexist"}
    shop.account.announce("order.completed", "doesnotexist", fake.completed_body(order, None), only=endpoint)
    assert shop.deliver() == ["unmatched"]
    shop.flow()
    shop.later(minutes=11)
    shop.later()
    assert shop.types() == ["payment.unmatched"]


def fake_order() -> dict[str, Any]:
    return {
        "productId": PRODUCTS["course"]["productId"], "currency": "usd", "buyerEmail": "test@example.com",
        "taxAmount": Decimal(0), "grossAmount": Decimal("64.99"), "amountBeforeTax": Decimal("64.99"), "metadata": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "drift"),
    [
        ({"grossAmount": Decimal("4.90")}, {"what": "amount", "ours": "49.00", "theirs": "4.90"}),
        ({"currency": "eur"}, {"what": "currency", "ours": "usd", "theirs": "eur"}),
        ({"productId": ELSEWHERE["productId"]}, {"what": "product"}),
    ],
)
def test_what_the_api_tells_otherwise_is_drift(shop: World, changes: dict[str, Any], drift: dict[str, str]) -> None:
    """A webhook's payment is confirmed by the API; a difference is published and changes nothing."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.account.orders[payment_id] = {**shop.account.orders[payment_id], **changes}
    shop.later()
    shop.later()
    assert shop.types(order_id) == ["order.paid", "ledger.drift"]
    assert drift.items() <= shop.published[-1]["drift"].items()
    assert shop.status(order_id) == "paid"


def test_cents_in_the_webhook_are_no_drift(shop: World) -> None:
    """Nobody says which of the two a webhook counts."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.account.orders[payment_id] = {**shop.account.orders[payment_id], "grossAmount": Decimal("0.49")}
    shop.later()
    assert shop.types(order_id) == ["order.paid"]


# --- Its share of Pocketsflow -----------------------------------------------------------------------------------------


def test_no_more_than_a_quarter_of_the_rate_limit(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute has more than 25 requests, over runs that follow each other; what there is no time for goes on in the
    next run, from the page where it stopped."""
    monkeypatch.setattr(pocketsflow, "PAGE_SIZE", 1)
    orders = [shop.buy_unheard()[0] for _ in range(150)]
    times: list[float] = []
    shop.on_request = lambda: times.append(shop.clock.time())
    first = shop.reconcile()
    assert first["outcome"] == "done"
    assert 60 <= first["requests"] < 150
    runs = 1
    while "M" in shop.stack.items()["reconcile#state"]["walks"]["M"].get("orders.recent", {}):
        shop.reconcile()
        runs += 1
    assert runs == 2
    assert {shop.status(order_id) for order_id in orders} == {"paid"}
    assert max(sum(start <= time < start + 60 for time in times) for start in times) <= 25
    assert len(times) <= 150 + 2  # no page twice, and two of payments


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_api_is_tried_again(shop: World, status: int) -> None:
    """Twice it fails, the third time it does not: the run comes to its end, and nobody is called."""
    order_id, _ = shop.buy_unheard()
    shop.account.set_faults({"http_status": status, "http_times": 2})
    shop.later()
    assert shop.status(order_id) == "paid"


def test_retry_after_is_honoured(shop: World) -> None:
    """As many seconds as it says pass before the next request."""
    shop.buy_unheard()
    times: list[float] = []
    shop.on_request = lambda: times.append(shop.clock.time())
    shop.account.set_faults({"http_status": 429, "http_times": 1, "http_retry_after": 17})
    shop.later()
    assert times[1] - times[0] == pytest.approx(17)


@pytest.mark.parametrize(
    "fault",
    [
        {"http_status": 429},
        {"http_status": 500},
        {"http_status": 401},
        {"http_status": 404},
        {"http_body": "<html>"},
        {"http_body": "{}"},
        {"http_body": '{"orders": null}'},
    ],
    ids=str,
)
def test_an_error_is_never_no_orders(shop: World, fault: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The run is partial and alarmed, the cursor stays, and the next run finds what this one could not."""
    order_id, _ = shop.buy_unheard()
    before = shop.stack.items()["reconcile#state"]["cursors"]
    shop.account.set_faults(fault)
    capsys.readouterr()
    shop.clock.passes(minutes=5)
    answer = shop.reconcile()
    assert answer["outcome"] == "partial"
    assert answer["requests"] <= 4 * provider.TRIES  # two lists, and what is new of each
    assert '"ReconcilePartial":[1]' in capsys.readouterr().out
    assert shop.stack.items()["reconcile#state"]["cursors"] == before
    shop.account.set_faults({})
    shop.later()
    assert shop.status(order_id) == "paid"


def test_one_list_that_fails_does_not_hold_up_the_others(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that Pocketsflow does not have is a partial run: orders settle all the same, their cursor moves."""
    order_id, _ = shop.buy_unheard()
    broken = {**reconcile.LISTINGS, "payments.recent": reconcile.Listing("/nothing", None)}
    monkeypatch.setattr(reconcile, "LISTINGS", broken)
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["outcome"] == "partial"
    assert shop.status(order_id) == "paid"


@pytest.mark.parametrize(("walk", "days"), [("recent", 0), ("hours", 1), ("days", 1)])
def test_dates_are_asked_for_widely(shop: World, walk: str, days: int) -> None:
    """A day more at both ends, in case that they are read in another zone; the frequent walks overlap only."""
    asked: list[dict[str, str]] = []

    def orders(query: dict[str, str]) -> tuple[int, Any]:
        asked.append(query)
        return 200, {"orders": []}

    shop.answers["GET /orders"] = orders
    shop.clock.passes(minutes=5)
    shop.reconcile(walk)
    back = {"recent": timedelta(minutes=10) + reconcile.OVERLAP, "hours": timedelta(hours=6), "days": timedelta(days=2)}
    begin, end = (datetime.fromisoformat(asked[0][name]) for name in ("startDate", "endDate"))
    assert shop.clock.now - begin == back[walk] + timedelta(days=days)
    assert end - shop.clock.now == timedelta(days=1)


def test_what_becomes_due_while_a_run_begins_is_not_forgotten(shop: World, outages: Outages) -> None:
    """The hourly schedule comes while a run of it is at its first page: it is due again."""

    def comes() -> None:
        shop.on_request = lambda: None
        assert reconcile.handler({"walk": "hours"}, Context(shop.clock, 240)) == {"outcome": "already_running"}

    shop.on_request = comes
    shop.reconcile("hours")
    assert shop.stack.items()["reconcile#state"]["due"] == {"SS": sorted(reconcile.SCHEDULED["hours"])}


def test_a_dry_run_writes_nothing(shop: World) -> None:
    """It says what would settle, and the ledger is the same afterwards."""
    order_id, _ = shop.buy_unheard()
    shop.sell_elsewhere(ELSEWHERE["productId"])
    shop.lose_webhooks()
    shop.clock.passes(minutes=5)
    before = shop.stack.items()
    for walk in ("recent", "hours", "days"):
        answer = shop.reconcile(walk, dry_run=True)
        assert (answer["outcome"], answer["dry_run"]) == ("done", True)
        assert (answer["found"]["would_settle"], answer["found"]["foreign"]) == (
            (2, 2) if walk == "days" else (1, 1)  # two days, and the history
        )
    assert shop.stack.items() == before
    assert shop.status(order_id) == "pending"


def test_a_dry_run_is_no_reconciliation(shop: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The alarm for a silence counts runs that did their work."""
    capsys.readouterr()
    shop.reconcile(dry_run=True)
    assert "ReconcileCompleted" not in capsys.readouterr().out
    shop.reconcile()
    assert "ReconcileCompleted" in capsys.readouterr().out


def test_without_a_key_nothing_is_asked(shop: World) -> None:
    """A stack that is not set up waits, and begins when it is."""
    order_id, _ = shop.buy_unheard()
    shop.stack.put_secret("ApiKey", API_KEY.replace("test", "live"))
    secrets._copies.clear()
    shop.requests.clear()
    assert shop.reconcile() == shop.reconcile(dry_run=True) == {"outcome": "no_api_key"}
    assert shop.requests == []
    shop.stack.put_secret("ApiKey", API_KEY)
    secrets._copies.clear()
    shop.later()
    assert shop.status(order_id) == "paid"


# --- Asked for by a buyer ---------------------------------------------------------------------------------------------


def test_the_thank_you_page_heals_itself(shop: World) -> None:
    """A look at an order that has been pending for more than 30 s asks for a run; the next look finds it paid, long
    before the schedule comes."""
    order_id, _ = shop.buy_unheard()
    assert shop.status(order_id) == "pending"
    shop.flow()
    assert shop.asked == []
    shop.clock.passes(seconds=31)
    assert shop.status(order_id) == "pending"
    shop.flow()
    assert len(shop.asked) == 1
    shop.reconcile("asked")
    assert shop.status(order_id) == "paid"


# --- Refunds, disputes ------------------------------------------------------------------------------------------------


def test_a_refund_whose_webhook_was_lost(shop: World) -> None:
    """Its order shows as refunded in a list; the amount comes from the list of refunds, in the same run."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.later()
    shop.account.refund(payment_id, None, None)
    shop.lose_webhooks()
    shop.later()
    assert shop.status(order_id) == "refunded"
    assert shop.types(order_id)[0] == "order.paid"
    last = shop.published[-1]
    assert (last["type"], last["refund"]["amount"], last["refund"]["unit"]) == ("order.refunded", "49.00", "major")


def test_a_partial_refund_shows_in_the_daily_list(shop: World) -> None:
    """No order shows it; the list of refunds does, once for ever."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.later()
    shop.clock.passes(days=100)
    shop.account.refund(payment_id, Decimal("9.00"), None)
    shop.lose_webhooks()
    shop.reconcile("days")
    assert shop.status(order_id) == "partially_refunded"
    shop.reconcile("days")
    assert shop.types(order_id) == ["order.paid", "order.partially_refunded"]


def test_a_refund_by_webhook_and_by_api(shop: World) -> None:
    """Under two status words it is one refund, told once."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.account.refund(payment_id, Decimal("9.00"), None)
    shop.deliver()
    shop.flow()
    shop.reconcile("days")
    assert shop.types(order_id) == ["order.paid", "order.partially_refunded"]
    [facts] = [[name for name in shop.stack.order(order_id) if name.startswith("ref#")]]
    assert [name.rpartition("#")[2] for name in facts] == ["succeeded", "completed"]


def test_a_refund_of_the_second_payment(shop: World) -> None:
    """The order stays paid; that the money is back is told of the payment."""
    order_id, session = shop.checkout()
    first, second = shop.pay(session), shop.pay(session)
    shop.lose_webhooks()
    shop.later()
    [settled] = [event["payment"]["id"] for event in shop.published if event["type"] == "order.paid"]
    [other] = {first, second} - {settled}
    shop.account.refund(other, None, None)
    shop.lose_webhooks()
    shop.later()
    assert shop.status(order_id) == "paid"
    assert set(shop.types(order_id)) == {"order.paid", "payment.refunded", "payment.second"}
    assert shop.published[-1]["refund"]["amount"] == "49.00"


def test_a_claimed_refund_is_confirmed_by_the_api(shop: World) -> None:
    """`order.refunded` in the shape of a payment changes nothing until the API shows the refund."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.later()
    shop.clock.passes(days=3)  # the order is in no recent list any more
    shop.account.set_faults({"refund_claim": True})
    shop.account.refund(payment_id, None, None)
    shop.deliver()
    shop.flow()
    assert shop.status(order_id) == "paid"
    shop.later(minutes=11)
    shop.later()
    assert shop.status(order_id) == "refunded"
    assert shop.types(order_id)[0] == "order.paid"
    assert set(shop.types(order_id)[1:]) == {"order.refunded"}


def test_a_refund_that_pocketsflow_does_not_know(shop: World) -> None:
    """Signed and denied: told as drift, and the order stays refunded."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.later()
    refund, _ = shop.account.refund(payment_id, None, None) or ({}, [])
    shop.deliver()
    shop.flow()
    del shop.account.refunds[refund["_id"]]
    shop.account.orders[payment_id] = {**shop.account.orders[payment_id], "isRefunded": False}
    shop.later(minutes=11)
    assert shop.types(order_id)[-1] == "ledger.drift"
    assert shop.published[-1]["drift"] == {"what": "refund", "ours": "succeeded", "theirs": "unknown"}
    assert shop.status(order_id) == "refunded"


def test_a_refund_that_failed_in_the_end(shop: World) -> None:
    """The webhook said succeeded, the API says failed: the order is paid again, and somebody is told."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    refund, _ = shop.account.refund(payment_id, None, None) or ({}, [])
    shop.deliver()
    shop.flow()
    assert shop.status(order_id) == "refunded"
    shop.account.set_refund_status(refund["_id"], "failed")
    shop.reconcile("days")
    assert shop.status(order_id) == "paid"
    assert shop.published[-1]["type"] == "order.refund_anomaly"
    assert shop.published[-1]["anomaly"] == "refund_failed"


def test_a_dispute_comes_and_goes(shop: World) -> None:
    """No webhook tells of it: the daily list shows the flag, and its end."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.later()
    shop.clock.passes(days=60)
    shop.account.set_disputed(payment_id, True)
    shop.reconcile("days")
    assert shop.status(order_id) == "disputed"
    shop.clock.passes(days=1)
    shop.account.set_disputed(payment_id, False)
    shop.reconcile("days")
    assert shop.status(order_id) == "paid"
    assert shop.types(order_id) == ["order.paid", "order.disputed", "order.dispute_closed"]
    shop.reconcile("days")
    assert len(shop.types(order_id)) == 3


def test_paid_and_disputed_before_the_first_look(shop: World) -> None:
    """Both are known at once, with two writes."""
    order_id, payment_id = shop.buy_unheard()
    shop.account.set_disputed(payment_id, True)
    shop.later()
    assert shop.status(order_id) == "disputed"
    assert shop.types(order_id) == ["order.paid", "order.disputed"]


# --- Subscriptions ----------------------------------------------------------------------------------------------------


def test_a_subscription_whose_webhook_was_lost(shop: World) -> None:
    """Its first payment is in the list of payments: the order settles, and the subscription is known."""
    order_id, subscription = shop.buy_unheard("membership")
    shop.later()
    assert shop.status(order_id) == "paid"
    assert set(shop.types(order_id)) == {"order.paid", "subscription.started", "subscription.payment_succeeded"}
    item = shop.stack.items()[f"subscription#{subscription}"]
    assert (item["state"]["S"], item["order_id"]["S"], item["payments"]["N"]) == ("active", order_id, "1")


def test_renewals_are_counted_from_the_api(shop: World) -> None:
    """Two months have the same bytes: webhooks cannot count them, the list of payments does, each once."""
    order_id, subscription = shop.buy("membership")
    shop.deliver()
    shop.flow()
    shop.later()
    for _ in range(2):
        shop.clock.passes(days=30)
        shop.account.advance(subscription, "renew")
        bodies = {delivery.body for delivery in shop.undelivered}
        shop.deliver()
        shop.flow()
        shop.later()
        shop.reconcile("hours")
    assert len(bodies) == 1
    assert shop.types(order_id).count("subscription.payment_succeeded") == 3
    item = shop.stack.items()[f"subscription#{subscription}"]
    assert item["payments"]["N"] == "3"
    [paid] = [each for each in shop.published if each["type"] == "subscription.payment_succeeded"][-1:]
    assert (paid["subscription_id"], paid["payment"]["amount"], paid["customer_email"]) == (
        subscription, "9.00", "buyer@example.com",
    )  # fmt: skip


@pytest.mark.parametrize("by_webhook", [True, False])
def test_the_life_of_a_subscription(shop: World, by_webhook: bool) -> None:
    """Told by webhooks or found by the hourly list: paused with access kept, past due, ended."""
    order_id, subscription = shop.buy("membership")
    shop.deliver()
    shop.flow()
    seen = []
    for action in ("pause", "resume", "fail", "recover", "cancel-at-period-end", "cancel"):
        shop.clock.passes(hours=1)
        shop.account.advance(subscription, action)
        if by_webhook:
            shop.deliver()
            shop.flow()
        shop.lose_webhooks()
        shop.reconcile("hours")
        item = shop.stack.items()[f"subscription#{subscription}"]
        seen.append(item["state"]["S"])
    assert seen == ["paused", "active", "past_due", "active", "active", "ended"]
    types = [each for each in shop.types(order_id) if each.startswith("subscription.")]
    assert types.count("subscription.payment_failed") == 1
    assert (types[0], types[-1]) == ("subscription.started", "subscription.ended")
    paused = next(each for each in shop.published if each.get("subscription", {}).get("state") == "paused")
    assert paused["subscription"]["access"] is True
    assert shop.published[-1]["subscription"]["access"] is False


def test_an_ended_subscription_stays_ended(shop: World) -> None:
    """A late `updated` brings it not back to life; an API that calls it active an hour later is drift."""
    order_id, subscription = shop.buy("membership")
    shop.deliver()
    shop.account.advance(subscription, "cancel-at-period-end")
    [updated] = shop.undelivered
    shop.deliver()
    shop.account.advance(subscription, "cancel")
    shop.deliver()
    shop.flow()
    shop.clock.passes(minutes=1)
    assert shop.deliver(updated) == ["recorded"]
    shop.flow()
    assert shop.stack.items()[f"subscription#{subscription}"]["state"] == {"S": "ended"}
    ended = shop.account.subscriptions[subscription]
    shop.account.subscriptions[subscription] = dataclasses.replace(ended, status="active", active=True)
    shop.reconcile("hours")
    assert "ledger.drift" not in shop.types(order_id)
    shop.clock.passes(hours=2)
    shop.reconcile("hours")
    assert shop.types(order_id)[-1] == "ledger.drift"
    assert shop.stack.items()[f"subscription#{subscription}"]["state"] == {"S": "ended"}


def test_a_list_that_names_the_order_later(shop: World) -> None:
    """Foreign by its product and by what the list left out; named in a later one it is the order's, and mismatched."""
    order_id, session = shop.checkout()
    shop.account.set_faults({"hide_metadata": "list"})
    shop.pay(session, ELSEWHERE["productId"])
    shop.lose_webhooks()
    assert shop.later()["foreign"] == 1
    assert shop.later()["known"] == 1
    shop.account.set_faults({})
    assert shop.later()["mismatched"] == 1
    assert (shop.status(order_id), shop.types(order_id)) == ("mismatched", ["payment.mismatched"])
    shop.account.set_faults({"hide_metadata": "list"})
    assert shop.later() == {"known": 1}


def test_a_page_of_nameless_sales_takes_several_runs(shop: World) -> None:
    """Each has to be read, and a run has no time for all of a page: those that were read are settled, and the next run
    goes on with the others."""
    orders = [shop.buy_unheard()[0] for _ in range(100)]
    shop.account.set_faults({"hide_metadata": "list"})
    first = shop.reconcile()
    assert 50 < first["found"]["settled"] < 100
    assert shop.reconcile()["found"]["settled"] == 100 - first["found"]["settled"]
    assert {shop.status(order_id) for order_id in orders} == {"paid"}
