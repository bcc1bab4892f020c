"""Shopify: what becomes of its orders, whatever happens at Pocketsflow, on the way, and in which order."""

import itertools
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, get_args

import graphql
import pytest

from connectors import consumer, shopify, shopify_admin
from payments import orders
from sandbox.platforms import shopify as stand_in
from sandbox.platforms.shopify import Platform
from sandbox.worker import Context
from tests.connected import HIDDEN, TRIES, Fault, Line, shuffled
from tests.integration.outages import Told
from tests.payloads import NOW

NUMBER = "5551234567890"
METADATA = {"shopify_order": NUMBER, "shopify_total": "49 usd"}
PAYMENT = {
    "id": "sale1", "kind": "payment", "subscription_id": None, "product_id": "65a1b2c3d4e5f6a7b8c9d0e1",
    "variant_id": None, "amount": "53.90", "amount_before_tax": "49.00", "unit": None, "currency": "usd",
    "source": "webhook", "confirmed": True,
}  # fmt: skip
STORY: dict[str, dict[str, Any]] = {
    "paid": {"type": "order.paid", "status": "paid"},
    "partly": {"type": "order.partially_refunded", "status": "partially_refunded", "refund": ("r1", "10.00")},
    "disputed": {"type": "order.disputed", "status": "disputed"},
    "closed": {"type": "order.dispute_closed", "status": "partially_refunded"},
    "refunded": {"type": "order.refunded", "status": "refunded", "refund": ("r2", "43.90")},
}
"""One order's events; the later the higher their revision."""
ORDER_ID = "ord_test_01m844ah4r4tff59tdwh9edd1r"
PAID_LINE = f"Pocketsflow payment sale1 for {ORDER_ID}"
TAGS = {"paid": [], **{status: [tag] for status, tag in shopify.TAGS.items()}}


@pytest.fixture
def platform() -> Platform:
    made = Platform("https://shop-example.myshopify.com")
    made.order()
    return made


@pytest.fixture
def line(connect: Callable[..., Line], platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Line:
    module = SimpleNamespace(handler=shopify.handler, SECRET_ARN="")
    line = connect(module, platform)
    monkeypatch.setattr(shopify_admin, "SECRET_ARN", module.SECRET_ARN)
    monkeypatch.setattr(shopify_admin, "_granted", None)
    monkeypatch.setattr(shopify, "SHOP", stand_in.SHOP)
    return line


def metadata_of(order: stand_in.Order) -> dict[str, str]:
    return {**METADATA, "shopify_order": order.number}


def tell(line: Line, *names: str, **changes: Any) -> dict[str, Any]:
    """Events of the story, each with an id and a revision of its own; the last one."""
    told: dict[str, Any] = {}
    for name in names:
        event = {**STORY[name], **changes}
        if refund := event.pop("refund", None):
            unit = event.pop("unit", "major")
            event["refund"] = {"id": refund[0], "amount": refund[1], "unit": unit, "total": refund[1]}
        own = {"id": name, "revision": list(STORY).index(name) + 1, "subject": "order#1", "metadata": METADATA}
        payment = {**PAYMENT, **event.pop("payment", {})}
        told = line.publish(event.pop("type"), **{**own, "order_id": ORDER_ID, **event, "payment": payment})
    return told


def seen(platform: Platform) -> dict[str, Any]:
    [state] = platform.state().values()
    return state


# --- Each event -------------------------------------------------------------------------------------------------------


def test_paid(line: Line, platform: Platform):
    """The order is marked as paid, tagged, and says which payment it was: once, however often it is told."""
    tell(line, "paid")
    line.work()
    line.repeat()
    tell(line, "paid")
    line.work(hours=1)
    assert seen(platform) == {
        "status": "PAID", "tags": ["pocketsflow-paid"], "note": [PAID_LINE], "received": "49.00", "refunded": "0",
    }  # fmt: skip
    assert platform.requests == ["order", "orderUpdate", "orderMarkAsPaid", "tagsAdd"]
    assert line.outcomes() == {"paid": "delivered"}


@pytest.mark.parametrize("name", ["partly", "disputed", "closed", "refunded"])
def test_what_follows(line: Line, platform: Platform, name: str):
    """What becomes of the money is a tag, one at a time, and a line of the note; nothing of the shop's is undone."""
    platform.orders[NUMBER].note = "Please ring twice"
    platform.orders[NUMBER].tags = {"vip"}
    names = list(STORY)[: list(STORY).index(name) + 1]
    for each in names:
        tell(line, each)
        line.work()
    state = seen(platform)
    assert state["status"] == "PAID"
    assert state["refunded"] == "0"
    assert state["tags"] == sorted(["pocketsflow-paid", "vip", *TAGS[STORY[name]["status"]]])
    assert state["note"][:2] == ["Please ring twice", PAID_LINE]
    assert len(state["note"]) == 1 + len(names)


def test_refund_that_failed_afterwards(line: Line, platform: Platform):
    """The money is still here: the order is as it was, and no refund of it is booked."""
    tell(line, "paid")
    tell(line, "refunded", revision=2, id="2")
    tell(line, "paid", type="order.refund_anomaly", refund=("r2", "43.90"), anomaly="refund_failed", revision=6, id="6")
    line.work()
    assert seen(platform)["tags"] == ["pocketsflow-paid"]


# --- Order, repetition -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refunds", ["note", "refund"])
def test_any_order(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, refunds: str):
    """In whichever of all orders events come: the newest decides the tags, what is refunded or disputed before it was
    marked as paid is not shipped any more, and each line and each refund is there once."""
    newest: dict[str, int] = {}

    def is_current(subject: str, revision: int, _now: datetime) -> bool:  # as the table's, and quick
        newest[subject] = max(revision, newest.get(subject, 0))
        return newest[subject] == revision

    monkeypatch.setattr(shopify, "REFUNDS", refunds)
    monkeypatch.setattr(shopify.deliveries, "is_current", is_current)
    tell(line, *STORY)
    told = {name: message.body for name, message in zip(STORY, line.arrive(), strict=True)}
    for number, sequence in enumerate(itertools.permutations(STORY)):
        order = platform.order(f"{NUMBER}{number}")
        for name in sequence:
            body = told[name].replace(NUMBER, order.number).replace("order#1", f"order#{number}")
            shopify.deliver(consumer.read(body), NOW)
        _check(order, sequence, refunds)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_from_the_queue(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, seed: int):
    """The same through the queue, each event three times, in a batch with others and alone: nothing is left over."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    tell(line, *STORY)
    line.arrive()
    line.repeat()
    line.repeat()
    line.waiting = shuffled(line.waiting, seed)
    first = list(dict.fromkeys(consumer.read(message.body).id for message in line.waiting))
    line.work(hours=1)
    assert line.outcomes().keys() == STORY.keys()
    assert (line.waiting, line.dead) == ([], [])
    _check(platform.orders[NUMBER], first, "refund")


def _check(order: stand_in.Order, sequence: Sequence[str], refunds: str) -> None:
    """`sequence`: as the events came."""
    newest = max(sequence, key=list(STORY).index)
    reached = [
        name for number, name in enumerate(sequence)
        if list(STORY).index(name) == max(map(list(STORY).index, sequence[: number + 1]))
    ]  # fmt: skip
    earned = [name for name in reached if STORY[name]["status"] in shopify.EARNED]
    assert order.tags == {*TAGS[STORY[newest]["status"]], *([shopify_admin.MARKED] if earned else [])}, sequence
    assert order.received == (49 if earned else 0), sequence
    lines = order.note.splitlines()
    assert len(lines) == len({*lines}) == len(sequence), sequence
    told = [name for name in ("partly", "refunded") if earned and sequence.index(name) >= sequence.index(earned[0])]
    due = {("partly",): Decimal("9.09"), ("refunded",): 49, ("partly", "refunded"): 49}
    assert order.refunded == (due.get(tuple(told), 0) if refunds == "refund" else 0), sequence
    assert len(order.refunds) == len({note for note, _ in order.refunds}), sequence


# --- Faults ----------------------------------------------------------------------------------------------------

FAULTS = {
    "429": Fault(429, {"Retry-After": "900"}),
    "503": Fault(503, body=b"<html>"),
    "401": Fault(401),
    "request lost": Fault(lost="request"),
    "answer lost": Fault(lost="answer"),
}


def _is_done_once(line: Line, platform: Platform, told: dict[str, Any]) -> None:
    state = platform.state()[told["metadata"]["shopify_order"]]
    assert state["status"] == "PARTIALLY_REFUNDED"
    assert state["tags"] == ["pocketsflow-paid", "pocketsflow-partially-refunded"]
    assert state["note"] == [PAID_LINE, "Pocketsflow refund r1: 10.00 usd"]
    assert (state["received"], state["refunded"]) == ("49.00", "9.09")
    assert line.outcomes()[told["id"]] == "delivered"
    assert (line.waiting, line.dead) == ([], [])


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_any_request(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, fault: str):
    """Whichever of an event's requests fails, and however, the order ends as without it: marked, noted and refunded
    once; nothing is lost and nothing is laid aside."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    for nth in range(8):
        monkeypatch.setattr(shopify_admin, "_granted", None)
        order = platform.order(f"{NUMBER}{nth}")
        line.faults = [None] * nth + [FAULTS[fault]]
        told = tell(line, "partly", id=str(nth), subject=f"order#{nth}", metadata=metadata_of(order))
        line.work(hours=1)
        _is_done_once(line, platform, told)
        assert bool(line.faults) == (nth == 7), "the eighth request is one too many"
        line.faults.clear()


@pytest.mark.parametrize("fault", ["throttled", "denied", "html", "lost"])
def test_200_that_is_a_failure(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, fault: str):
    """GraphQL says 200 and means no, or 500 and has done it: taken for what it is, at each request, and tried again."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    for nth in range(6):
        order = platform.order(f"{NUMBER}{nth}")
        platform.faults = [""] * nth + [fault]
        told = tell(line, "partly", id=str(nth), subject=f"order#{nth}", metadata=metadata_of(order))
        line.work()
        assert told["id"] not in line.outcomes()
        line.work(hours=1)
        _is_done_once(line, platform, told)


def test_throttled_comes_back_when_the_bucket_holds_enough(line: Line, platform: Platform, monkeypatch: Any):
    """752 points are needed, 2 are there, 100 come back each second: 8 seconds, not the 5 that a first try waits."""
    platform.faults = ["throttled"]
    tell(line, "paid")
    line.work()
    [message] = line.waiting
    assert (message.due - line.clock.now).total_seconds() == 8


def test_crash_between_effect_and_note(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """Done, and the process ended before it noted that: the second time finds all of it done, and does nothing."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    line.crashes = 1
    tell(line, "partly")
    line.work()
    before, platform.requests = platform.state(), []
    assert line.outcomes() == {}
    line.work(hours=HIDDEN.total_seconds() / 3600)
    assert platform.state() == before
    assert {*platform.requests} == {"order"}
    assert line.outcomes() == {"partly": "delivered"}


def test_two_at_once(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """Two environments, each with an event of the order: both are done, and neither twice."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    read = shopify_admin.read_order

    def overtaken(*asked: Any) -> Any:
        found = read(*asked)
        monkeypatch.setattr(shopify_admin, "read_order", read)
        tell(line, "partly")
        line.work()
        return found

    tell(line, "paid")
    monkeypatch.setattr(shopify_admin, "read_order", overtaken)
    line.work(hours=1)
    state = seen(platform)
    assert (state["status"], state["received"], state["refunded"]) == ("PARTIALLY_REFUNDED", "49.00", "9.09")
    assert state["tags"] == ["pocketsflow-paid", "pocketsflow-partially-refunded"]
    assert (line.waiting, line.dead) == ([], [])


@pytest.mark.parametrize("wrong", ["token", "order"])
def test_a_person_mends_it(line: Line, platform: Platform, told: Told, wrong: str):
    """Credentials that Shopify does not know, an order that is not there: told at the first try, tried for three days,
    laid aside, and done by a redrive once a person has mended it."""
    order = platform.orders[NUMBER]
    if wrong == "token":
        line._stack.secrets.put_secret_value(SecretId=shopify_admin.SECRET_ARN, SecretString="shpat_of-another-shop")
    else:
        platform.orders.clear()
    tell(line, "paid")
    line.work(hours=90)
    assert [message.tries for message in line.dead] == [TRIES]
    reason = "connector_unauthorized" if wrong == "token" else "connector_not_found"
    assert told.text().count(reason) == 1
    line._stack.secrets.put_secret_value(SecretId=shopify_admin.SECRET_ARN, SecretString=platform.secret)
    platform.orders[NUMBER] = order
    line.redrive()
    line.work(hours=1)
    assert order.status == "PAID"
    assert line.dead == []


# --- Money and orders disagree ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payment",
    [
        {"amount_before_tax": "0.49"},
        {"amount_before_tax": "48.99"},
        {"amount_before_tax": "4900", "unit": "major"},
        {"amount_before_tax": None},
        {"currency": "eur"},
        {"currency": None},
    ],
)
def test_another_amount_or_currency(line: Line, platform: Platform, told: Told, payment: Any):
    """What was paid before tax is not the order's total: the order stays untouched, and a person is told."""
    before = platform.state()
    tell(line, "paid", "partly", "refunded", payment=payment)
    line.work(hours=1)
    assert platform.state() == before
    assert line.outcomes() == dict.fromkeys(("paid", "partly", "refunded"), "mismatched")
    assert told.text().count("shopify_mismatched") == 2  # of what counts as paid


def test_attack_an_order_edited_after_its_checkout(line: Line, platform: Platform, told: Told):
    """Paid is what it cost before more was put in: it is not marked as paid."""
    platform.orders[NUMBER].total = Decimal("490.00")
    tell(line, "paid")
    line.work()
    assert seen(platform)["status"] == "PENDING"
    assert "shopify_mismatched" in told.text()


def test_what_is_put_into_a_paid_order_is_not_paid(line: Line, platform: Platform):
    """Marked as paid, then edited to cost more: a later event of the payment does not mark what is owed for that."""
    tell(line, "paid")
    line.work()
    platform.orders[NUMBER].total += 11
    tell(line, "partly", "disputed", "closed")
    line.work(hours=1)
    state = seen(platform)
    assert (state["status"], state["received"]) == ("PARTIALLY_PAID", "49.00")
    assert state["tags"] == ["pocketsflow-paid", "pocketsflow-partially-refunded"]
    assert line.waiting == line.dead == []


def test_attack_cents_for_dollars(line: Line, platform: Platform):
    """An order that cost 4900 and costs 49 by now is not paid by what might be 4900 cents, since that was its total."""
    tell(line, "paid", payment={"amount_before_tax": "4900"}, metadata={**METADATA, "shopify_total": "4900 usd"})
    line.work()
    assert seen(platform)["status"] == "PENDING"
    tell(line, "partly", payment={"amount_before_tax": "4900"})
    line.work()
    assert seen(platform)["status"] == "PAID"


@pytest.mark.parametrize("gateway", ["shopify_payments", "manual"])
def test_paid_by_somebody_else(line: Line, platform: Platform, told: Told, gateway: str, monkeypatch: Any):
    """The order is paid already, by card or by a person's word: money is owed back, a person is told, the order stays
    as it is, and what is refunded at Pocketsflow takes nothing of that other payment."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    platform.orders[NUMBER].pay(gateway)
    before = platform.state()
    tell(line, "paid")
    line.work()
    assert "shopify_already_paid" in told.text()
    tell(line, "partly", "refunded")
    line.work()
    assert platform.state() == before
    assert {*line.outcomes().values()} == {"already_paid"}


def test_paid_by_two_checkouts(line: Line, platform: Platform, told: Told, monkeypatch: pytest.MonkeyPatch):
    """Edited, and paid over its new total; then the older checkout, which was still open, is paid as well: that is owed
    back, a person is told, and neither the order nor its books follow that payment."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    tell(line, "paid")
    line.work()
    before = platform.state()
    older = {"order_id": ORDER_ID.replace("4", "5"), "subject": "order#2", "payment": {"id": "sale2"}}
    metadata = {**METADATA, "shopify_total": "40 usd"}
    for name in ("paid", "partly", "refunded"):
        tell(line, name, **older, id=f"older {name}", metadata=metadata)
        line.work()
    assert platform.state() == before
    assert told.text().count("shopify_already_paid") == 2  # of what counts as paid
    platform.orders[NUMBER].note = ""  # by somebody of the shop
    tell(line, "refunded")
    line.work()
    assert seen(platform)["status"] == "REFUNDED"


def test_cancelled(line: Line, platform: Platform, told: Told):
    """Paid for an order that the merchant has cancelled: a person is told; one cancelled later is tagged on."""
    platform.orders[NUMBER].is_cancelled = True
    tell(line, "paid")
    line.work()
    assert seen(platform)["tags"] == []
    assert "shopify_cancelled" in told.text()
    platform.orders[NUMBER].tags = {shopify_admin.MARKED}
    tell(line, "refunded")
    line.work()
    assert "pocketsflow-refunded" in seen(platform)["tags"]


def test_user_errors_are_errors(line: Line, platform: Platform, told: Told):
    """A mutation that Shopify understood and did not do is not done: tried again, and told."""
    platform._orderMarkAsPaid = lambda _given: stand_in._wrong("Order cannot be marked as paid.")  # type: ignore[method-assign]
    tell(line, "paid")
    line.work(hours=90)
    assert line.outcomes() == {}
    assert len(line.dead) == 1
    assert told.text().count("connector_refused") == 1
    del platform._orderMarkAsPaid
    line.redrive()
    line.work()
    assert seen(platform)["status"] == "PAID"


# --- Refunds at Shopify, by parameter ---------------------------------------------------------------------------------


def test_refund_told_again_with_a_larger_amount(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """Booked is what it is before tax, then the difference, then what is left: all of it in the end, and no more."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    tell(line, "paid", "partly")
    line.work()
    tell(line, "partly", refund=("r1", "15.00"), id="again", revision=3)
    line.work()
    assert [str(amount) for _, amount in platform.orders[NUMBER].refunds] == ["9.09", "4.55"]
    tell(line, "refunded", refund=("r2", "38.90"))
    line.work()
    assert [str(amount) for _, amount in platform.orders[NUMBER].refunds] == ["9.09", "4.55", "35.36"]
    assert seen(platform)["status"] == "REFUNDED"


@pytest.mark.parametrize(
    ("payment", "unit", "amount", "booked"),
    [
        ({"amount": "5390", "amount_before_tax": "4900"}, None, "1000", "9.09"),
        ({"amount": "5390", "amount_before_tax": "4900"}, "major", "10.00", "9.09"),
        ({"amount": "49.00"}, None, "10.00", "10.00"),
        ({"amount": "0", "amount_before_tax": "49.00"}, None, "10.00", None),
    ],
    ids=["cents", "cents and dollars", "without tax", "of nothing"],
)
def test_refund_in_its_unit(
    line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, payment: Any, unit: Any, amount: str, booked: Any
):
    """A webhook's cents are cents for its refund, too; what the API tells is in dollars."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    tell(line, "partly", refund=("r1", amount), unit=unit, payment=payment)
    line.work()
    assert [str(each) for _, each in platform.orders[NUMBER].refunds] == ([booked] if booked else [])


def test_yen_have_no_cents(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """A part of an order in yen is whole yen, and a hundredfold of its total is another amount."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    platform.order(total=Decimal(4900), currency="jpy")
    yen = {"amount": "5390", "currency": "jpy"}
    metadata = {**METADATA, "shopify_total": "4900 jpy"}
    tell(line, "paid", payment={**yen, "amount_before_tax": "490000"}, metadata=metadata)
    line.work()
    assert seen(platform)["status"] == "PENDING"
    tell(line, "partly", payment={**yen, "amount_before_tax": "4900"}, metadata=metadata, refund=("r1", "1000"))
    line.work()
    assert seen(platform)["refunded"] == "909"


@pytest.mark.parametrize("late", [False, True])
def test_refund_while_it_is_disputed(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, late: bool):
    """A part goes back before the order is marked as paid, which a dispute keeps it from: it is booked once the dispute
    is over and the order is marked, and only then; not on what was paid in cash before."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    platform.order(total=Decimal("60.00")).pay("manual", Decimal("11.00"))
    tell(line, "disputed", revision=2)
    line.work()
    if late:
        tell(line, "paid", revision=1)
        line.work()
    tell(line, "partly", revision=3, status="disputed")
    line.work()
    assert (seen(platform)["status"], seen(platform)["refunded"]) == ("PARTIALLY_PAID", "0")
    tell(line, "closed", revision=4, status="partially_refunded")
    line.work()
    line.repeat()
    line.work(hours=1)
    assert (seen(platform)["received"], seen(platform)["refunded"]) == ("60.00", "9.09")
    assert line.waiting == line.dead == []


@pytest.mark.parametrize("gateway", ["shopify_payments", "manual"])
def test_what_was_paid_by_other_ways_stays(
    line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch, gateway: str
):
    """A deposit was paid before, by card or in cash, and the rest at Pocketsflow: all that goes back is that rest, and
    to its own transaction."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    order = platform.order(total=Decimal("100.00"))
    order.pay(gateway, Decimal("51.00"))
    tell(line, "paid", "partly", "refunded")
    line.work(hours=1)
    assert seen(platform)["received"] == "100.00"
    assert [str(amount) for _, amount in order.refunds] == ["9.09", "39.91"]
    assert {*order.refunded_of} == {f"{NUMBER}1"}
    assert line.waiting == line.dead == []


def test_refund_by_its_flag_alone(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """No refund is listed yet: the order is tagged, and its money booked when the refund is told."""
    monkeypatch.setattr(shopify, "REFUNDS", "refund")
    tell(line, "paid")
    line.work()
    tell(line, "refunded", refund=(None, None), id="flag")
    line.work()
    assert (seen(platform)["refunded"], seen(platform)["tags"][-1]) == ("0", "pocketsflow-refunded")
    tell(line, "refunded", refund=("r2", "53.90"), revision=6)
    line.work()
    assert platform.orders[NUMBER].refunded == 49


# --- Whose order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"shopify_order": ""},
        {"shopify_order": "0"},
        {"shopify_order": f"{NUMBER}\n"},
        {"shopify_order": "1) { x }"},
    ],
)
def test_not_ours(line: Line, platform: Platform, metadata: dict[str, str]):
    """An order of no Shopify shop, or a number that is none: nothing is asked for."""
    tell(line, "paid", metadata=metadata)
    line.work()
    assert (line.requests, line.outcomes()) == ([], {"paid": "not_ours"})


# --- Credentials ------------------------------------------------------------------------------------------------------


def test_a_token_is_granted_once_a_day(line: Line, platform: Platform):
    """An app of the Dev Dashboard exchanges its id and secret for a token, and again before that ends."""
    tell(line, "paid", "refunded")
    line.work(hours=23)
    assert line.requests.count("POST /admin/oauth/access_token") == 1
    line.work(hours=1)
    tell(line, "refunded", id="later", revision=9)
    line.work()
    assert line.requests.count("POST /admin/oauth/access_token") == 2


def test_a_token_that_counts_no_more(line: Line, platform: Platform):
    """Shopify has taken it back: the next try asks for another."""
    platform.faults = ["", "401"]
    tell(line, "paid")
    line.work(hours=1)
    assert seen(platform)["status"] == "PAID"
    assert line.requests.count("POST /admin/oauth/access_token") == 2


def test_an_app_with_a_token_for_good(line: Line, platform: Platform):
    """One made in Shopify's admin before 2026 has a token of its own, which is used as it is."""
    line._stack.secrets.put_secret_value(
        SecretId=shopify_admin.SECRET_ARN, SecretString=f"shpss_unused-unused {stand_in.TOKEN}"
    )
    tell(line, "paid")
    line.work()
    assert seen(platform)["status"] == "PAID"
    assert "POST /admin/oauth/access_token" not in line.requests


def test_check(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """`pf connector test` reaches this shop with what it needs; another shop, or too few scopes, is said."""
    refused = {"outcome": "failed", "reason": "unauthorized"}
    scopes = ["read_orders", "write_app_proxy", "write_orders"]
    assert shopify.check("", NOW) == {"outcome": "reached", "scopes": scopes}
    platform.scopes.remove("write_orders")
    assert shopify.handler({"test": ""}, Context(9)) == refused
    platform.scopes.append("write_orders")
    monkeypatch.setattr(shopify, "SHOP", "other.myshopify.com")
    assert shopify.handler({"test": ""}, Context(9)) == refused
    assert platform.state()[NUMBER]["status"] == "PENDING"


def test_nothing_personal_is_logged(line: Line, platform: Platform, told: Told):
    """Neither the note that a buyer wrote, nor a credential, nor an address stands in a log line."""
    platform.orders[NUMBER].note = "Leave it with Jane at number 12"
    platform.faults = ["", "", "html", "denied", "throttled"]
    tell(line, "paid")
    line.work(hours=5)
    text = told.text()
    assert seen(platform)["status"] == "PAID"
    for word in ("Jane", "jane@example.com", stand_in.CLIENT_SECRET, stand_in.TOKEN, "cannot be marked"):
        assert word not in text


def test_every_status_has_its_tag():
    """Of an order's statuses none is forgotten here."""
    assert {"paid", *shopify.TAGS} == {*get_args(orders.Status)} - {"pending", "mismatched"}


def test_what_is_asked_is_graphql():
    """By the specification, not only by the stand-in, which reads as much of it as it needs."""
    asked = [each for name, each in vars(shopify_admin).items() if re.fullmatch(r"_[A-Z_]+", name)]
    queries = [each for each in asked if isinstance(each, str) and each.startswith(("query", "mutation"))]
    assert len(queries) == 7
    for query in queries:
        [operation] = graphql.parse(query).definitions
        declared = {variable.variable.name.value for variable in operation.variable_definitions or ()}  # type: ignore[attr-defined]
        assert declared == {*re.findall(r"\$(\w+)", query)}
