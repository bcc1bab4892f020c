"""WooCommerce: whatever fails, and in whatever order events come, the shop's order ends as the ledger has it."""

import hashlib
import itertools
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from connectors import consumer, woocommerce
from connectors.outgoing import Undelivered
from sandbox.platforms.woocommerce import CONSUMER_KEY, Order, Platform
from tests.connected import Fault, Line
from tests.integration.outages import Told
from tests.world import Context

PAYMENT = {
    "id": "6b042b389531985d5d9dc9f8",
    "kind": "payment",
    "subscription_id": None,
    "product_id": "6b042ac0d23f0824128b2f33",
    "variant_id": None,
    "amount": "64.99",
    "amount_before_tax": "60.00",
    "unit": None,
    "currency": "usd",
    "source": "webhook",
    "confirmed": True,
}
PART = {"id": "6b042bb036f675cc81e74ef5", "amount": "10.00", "unit": "major", "total": "10.00"}
PART_OF_TOTAL = "9.23"
"""10.00 of 64.99 is as much of 60.00."""
REST = {"id": "6b042bb036f675cc81e74ef6", "amount": "54.99", "unit": "major", "total": "64.99"}

Told_ = tuple[str, str, dict[str, Any] | None]
"""Type, status and refund of an event; its place in its story is its revision."""
PAID: Told_ = ("order.paid", "paid", None)
STORIES: dict[str, tuple[list[Told_], str, list[str]]] = {
    "refunded": (
        [PAID, ("order.partially_refunded", "partially_refunded", PART), ("order.refunded", "refunded", REST)],
        "refunded",
        ["60.00"],
    ),
    "refunded by its flag": ([PAID, ("order.refunded", "refunded", dict.fromkeys(PART))], "refunded", ["60.00"]),
    "disputed": ([PAID, ("order.disputed", "disputed", None)], "on-hold", []),
    "restored": (
        [PAID, ("order.disputed", "disputed", None), ("order.dispute_closed", "paid", None)],
        "processing",
        [],
    ),
    "part, dispute, end": (
        [
            PAID,
            ("order.partially_refunded", "partially_refunded", PART),
            ("order.disputed", "disputed", None),
            ("order.dispute_closed", "partially_refunded", None),
        ],
        "processing",
        [PART_OF_TOTAL],
    ),
    "disputed, then given back": (
        [PAID, ("order.disputed", "disputed", None), ("order.refunded", "refunded", {**REST, "amount": "64.99"})],
        "refunded",
        ["60.00"],
    ),
}
"""Events, and the order's status and the sum of its refunds in the end."""
FAULTS = {
    "429": Fault(429, {"Retry-After": "30"}),
    "500": Fault(500, body=b'{"code": "internal_server_error", "message": "", "data": {"status": 500}}'),
    "503 of the host": Fault(503, {"Content-Type": "text/html"}, b"<html>Briefly unavailable</html>"),
    "401": Fault(401, body=b'{"code": "woocommerce_rest_cannot_view", "message": "", "data": {"status": 401}}'),
    "page": Fault(200, {"Content-Type": "text/html"}, b"<html>One moment, please</html>"),
    "no answer": Fault(lost="request"),
    "lost answer": Fault(lost="answer"),
}


@pytest.fixture
def platform() -> Platform:
    return Platform("https://woocommerce.example")


@pytest.fixture
def line(connect: Callable[..., Line], platform: Platform) -> Line:
    return connect(woocommerce, platform)


def opened(platform: Platform, **fields: Any) -> Order:
    return platform.open(Decimal("60.00"), **fields)


def metadata(number: str, total: str = "60.00 usd") -> dict[str, str]:
    return {"woocommerce_order": number, "woocommerce_total": total}


def detail(order: Order | str, event: Told_, revision: int = 1, **more: Any) -> dict[str, Any]:
    """Of an event of the ledger's order that is this one."""
    number = order if isinstance(order, str) else str(order.number)
    kind, status, refund = event
    return {
        "id": hashlib.sha256(f"{number} {revision} {kind}".encode()).hexdigest(),
        "subject": f"order#ord_test_{number}",
        "revision": revision,
        "status": status,
        "metadata": metadata(number),
        "payment": PAYMENT,
        **({"refund": refund} if refund is not None else {}),
        **more,
    }


def tell(line: Line, order: Order | str, event: Told_, revision: int = 1, **more: Any) -> dict[str, Any]:
    """Puts it on the bus."""
    return line.publish(event[0], **detail(order, event, revision, **more))


def deliver(line: Line, order: Order, event: Told_, revision: int) -> str:
    """What becomes of it, however often it takes: without a queue, which costs more than all else."""
    content = {"occurred_at": "2026-11-23T12:00:00.000Z", **detail(order, event, revision)}
    read = consumer.read(json.dumps({"detail-type": event[0], "detail": content}))
    while True:
        try:
            return woocommerce.deliver(read, line.clock.now)
        except Undelivered:
            continue


def untouched(order: Order) -> bool:
    return (order.status, order.transaction_id, order.refunds, order.notes) == ("pending", "", [], [])


def must_be(order: Order, story: str) -> None:
    """The end of the story, and nothing twice on the way."""
    _, status, refunds = STORIES[story]
    assert order.status == status
    assert order.transaction_id == PAYMENT["id"]
    assert [str(order.total - order.left)] == (refunds or ["0.00"])
    assert max(map(order.mails.count, order.mails), default=1) == 1
    marks = [note.rpartition("[")[2] for note in order.notes if note.endswith("]")]
    assert len(marks) == len(set(marks))


# --- Event, fault, repetition, order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES)
def test_any_order_ends_the_same(line: Line, platform: Platform, story: str) -> None:
    """Every permutation of a story's events, the first of them once more, leaves one state: that of the newest."""
    for permuted in itertools.permutations(list(enumerate(STORIES[story][0], 1))):
        order = opened(platform)
        for revision, event in [*permuted, permuted[0]]:
            deliver(line, order, event, revision)
        must_be(order, story)


@pytest.mark.parametrize("fault", ["500", "page", "lost answer"])
@pytest.mark.parametrize("story", ["refunded", "restored"])
def test_a_fault_at_any_request_heals(line: Line, platform: Platform, story: str, fault: str) -> None:
    """Whichever request fails, was it done or not: nothing is lost, and nothing twice."""
    for at in itertools.count():
        order = opened(platform)
        line.faults = [None] * at + [FAULTS[fault]]
        for revision, event in enumerate(STORIES[story][0], 1):
            deliver(line, order, event, revision)
        must_be(order, story)
        if line.faults:  # no request was left for it
            break
    assert at > 10


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_heals_by_the_queue(line: Line, platform: Platform, fault: str) -> None:
    """The first request of each event fails, and all of them come once more when everything is done."""
    order = opened(platform)
    for revision, event in enumerate(STORIES["refunded"][0], 1):
        tell(line, order, event, revision)
    line.faults = [FAULTS[fault]] * 3
    line.work(hours=1)
    line.repeat()
    line.work(hours=1)
    must_be(order, "refunded")
    assert line.waiting == line.dead == []
    assert len(line.outcomes()) == 3


@pytest.mark.parametrize("story", ["refunded", "restored"])
def test_a_crash_behind_any_effect_is_no_second_one(line: Line, platform: Platform, story: str) -> None:
    """The process ends when the shop has done it and nobody has noted that: looking at the order tells."""
    order = opened(platform)
    for revision, event in enumerate(STORIES[story][0], 1):
        tell(line, order, event, revision)
        line.crashes = 1
        line.work(hours=1)
    must_be(order, story)
    assert set(line.outcomes().values()) == {"already"}


def test_dead_after_twelve_tries_and_alive_by_a_redrive(line: Line, platform: Platform) -> None:
    """A shop that is gone for longer than three days gets it from the dead letters."""
    order = opened(platform)
    tell(line, order, PAID)
    line.faults = [FAULTS["503 of the host"]] * 12
    line.work(hours=84)
    assert (len(line.dead), len(line.requests)) == (1, 12)
    assert untouched(order)
    line.redrive()
    line.work()
    assert (order.status, line.dead) == ("processing", [])


def test_a_part_that_overlaps_with_the_rest_is_not_given_back_twice(
    line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two environments book at once: WooCommerce takes no more than the total, and the loser looks again."""
    order = opened(platform)
    [paid, part, rest] = STORIES["refunded"][0]
    tell(line, order, paid, 1)
    line.work()
    add_refund = platform._add_refund

    def overtaken(*request: Any, **more: Any) -> Any:
        monkeypatch.setattr(platform, "_add_refund", add_refund)
        tell(line, order, rest, 3)
        [other] = line.arrive()
        line._invoke([other])
        return add_refund(*request, **more)

    monkeypatch.setattr(platform, "_add_refund", overtaken)
    tell(line, order, part, 2)
    line.work(hours=1)
    must_be(order, "refunded")


# --- What an order becomes --------------------------------------------------------------------------------------------


def test_paid(line: Line, platform: Platform) -> None:
    """The order is processing, with the payment's id, a date and a note; the buyer has one mail."""
    order = opened(platform)
    told = tell(line, order, PAID)
    line.work()
    assert (order.status, order.transaction_id, order.mails) == ("processing", PAYMENT["id"], ["processing"])
    assert order.date_paid
    assert f"Paid at Pocketsflow. Payment {PAYMENT['id']}. [{told['id'][:16]}]" in order.notes
    assert line.outcomes() == {told["id"]: "delivered"}


def test_a_failed_order_is_paid(line: Line, platform: Platform) -> None:
    """The buyer tried before by another gateway: the money is there now."""
    order = opened(platform, status="failed")
    tell(line, order, PAID)
    line.work()
    assert order.status == "processing"


@pytest.mark.parametrize("before", [None, "processing"])
def test_a_dispute_ends_where_it_began(line: Line, platform: Platform, before: str | None) -> None:
    """What is downloaded was completed, and is completed again; what waited is processing."""
    order = opened(platform, is_virtual=before is None)
    for revision, event in enumerate(STORIES["restored"][0], 1):
        tell(line, order, event, revision)
        line.work()
    assert order.status == (before or "completed")
    assert order.mails == [order.status]


@pytest.mark.parametrize("status", ["on-hold", "completed", "cancelled"])
def test_what_the_shop_s_people_did_stays(line: Line, platform: Platform, status: str) -> None:
    """An order that they put on hold before a dispute, or moved on during one, is not touched at its end."""
    order = opened(platform)
    tell(line, order, PAID, 1)
    line.work()
    if status == "on-hold":
        order.become(status)
    tell(line, order, ("order.disputed", "disputed", None), 2)
    line.work()
    assert order.status == "on-hold"
    order.become(status)
    tell(line, order, ("order.dispute_closed", "paid", None), 3)
    line.work()
    assert order.status == status


def test_given_back_before_the_shop_heard_of_the_payment(line: Line, platform: Platform) -> None:
    """Nothing is sent out for an order that is refunded by then: it is never processing."""
    order = opened(platform)
    tell(line, order, ("order.refunded", "refunded", REST), 3)
    tell(line, order, PAID, 1)
    line.work()
    assert (order.status, order.mails, order.date_paid) == ("refunded", ["refunded"], None)


def test_a_refund_that_grows_is_booked_by_the_difference(line: Line, platform: Platform) -> None:
    """Pocketsflow tells one refund again, with a larger amount."""
    order = opened(platform)
    tell(line, order, PAID, 1)
    for revision, amount in enumerate(("10.00", "20.00"), 2):
        part = {**PART, "amount": amount, "total": amount}
        tell(line, order, ("order.partially_refunded", "partially_refunded", part), revision)
        line.work()
    assert [refund["amount"] for refund in order.refunds] == ["9.23", "9.23"]


def test_a_refund_in_the_shop_is_not_exceeded(line: Line, platform: Platform) -> None:
    """What the shop's people had booked by hand leaves so much less to book."""
    order = opened(platform)
    tell(line, order, PAID, 1)
    line.work()
    order.refund(Decimal("55.00"), "by hand")
    tell(line, order, ("order.partially_refunded", "partially_refunded", PART), 2)
    line.work()
    assert [refund["amount"] for refund in order.refunds] == ["5.00", "55.00"]
    assert line.waiting == []


@pytest.mark.parametrize(
    ("before_tax", "paid", "part", "unit", "booked"),
    [
        ("6000", "6499", "1000", None, "9.23"),
        ("60.00", "64.99", None, None, None),
        ("60", "60", "0.01", "major", "0.01"),
    ],
    ids=["cents", "no amount", "a cent"],
)  # fmt: skip
def test_amounts_of_refunds(
    line: Line, platform: Platform, before_tax: str, paid: str, part: str | None, unit: str | None, booked: str | None
) -> None:
    """Where a webhook did not say dollars or cents, the total tells; where there is no amount, nothing is booked."""
    order = opened(platform)
    payment = {**PAYMENT, "amount_before_tax": before_tax, "amount": paid}
    refund = {"id": PART["id"], "amount": part, "unit": unit, "total": part}
    tell(line, order, PAID, 1, payment=payment)
    tell(line, order, ("order.partially_refunded", "partially_refunded", refund), 2, payment=payment)
    line.work()
    assert order.status == "processing"
    assert [each["amount"] for each in order.refunds] == ([booked] if booked else [])


@pytest.mark.parametrize(
    ("total", "paid", "booked"),
    [
        ("6000 jpy", "6000", "909"),
        ("6.000 kwd", "6.000", "0.909"),
        ("6.000 kwd", "6000", "0.909"),
    ],
    ids=["yen", "dinars", "thousandths of them"],
)
def test_a_currency_without_decimals_or_with_three(
    line: Line, platform: Platform, total: str, paid: str, booked: str
) -> None:
    """Yen are booked whole, and a dinar has a thousand of what a webhook may have counted."""
    amount, currency = total.split()
    order = platform.open(Decimal(amount), currency=currency.upper())
    more: Any = {"metadata": metadata(str(order.number), total)}
    gross = Decimal(paid) * Decimal("1.1")
    more["payment"] = {**PAYMENT, "amount_before_tax": paid, "amount": str(gross), "currency": currency}
    refund = {**PART, "amount": str(gross / Decimal("6.6")), "unit": None}
    tell(line, order, PAID, 1, **more)
    tell(line, order, ("order.partially_refunded", "partially_refunded", refund), 2, **more)
    line.work()
    assert (order.status, [each["amount"] for each in order.refunds]) == ("processing", [booked])


def test_attack_a_hundredfold_of_yen_pays_no_order(line: Line, platform: Platform) -> None:
    """They have no cents that it could be."""
    order = platform.open(Decimal(6000), currency="JPY")
    payment = {**PAYMENT, "amount_before_tax": "600000", "currency": "jpy"}
    tell(line, order, PAID, payment=payment, metadata=metadata(str(order.number), "6000 jpy"))
    line.work()
    assert untouched(order)


def test_noted_once_and_no_more(line: Line, platform: Platform) -> None:
    """What people have to look at is a note, also for an old revision; the order's state is none of its business."""
    order = opened(platform)
    deliver(line, order, PAID, 5)
    status, notes = order.status, len(order.notes)
    for number, kind in enumerate(("payment.second", "payment.refunded", "order.refund_anomaly"), 1):
        for _ in range(2):
            deliver(line, order, (kind, "paid", PART), 2)
        assert (order.status, order.refunds, len(order.notes)) == (status, [], notes + number)


# --- Left alone, and somebody is told ---------------------------------------------------------------------------------


OTHER_AMOUNTS: dict[str, dict[str, Any]] = {
    "a cent less": {"amount_before_tax": "59.99"},
    "a hundredth": {"amount_before_tax": "0.60"},
    "unknown": {"amount_before_tax": None},
    "euros": {"currency": "eur"},
    "no currency": {"currency": None},
    "a hundredfold": {"amount_before_tax": "6000", "unit": "major"},
}


def test_attack_another_amount_pays_no_order(line: Line, platform: Platform, told: Told) -> None:
    """What was paid is not the shop's total: the order is as it was, and a person is told."""
    orders = {name: opened(platform) for name in OTHER_AMOUNTS}
    for name, payment in OTHER_AMOUNTS.items():
        tell(line, orders[name], PAID, payment={**PAYMENT, **payment})
    line.work(hours=80)
    assert [name for name, order in orders.items() if not untouched(order)] == []
    assert list(line.outcomes().values()) == ["mismatched"] * len(orders)
    assert told.text().count('"woocommerce_mismatched"') == len(orders)


def test_attack_order_edited_after_checkout(line: Line, platform: Platform) -> None:
    """Something is put into the order behind the checkout: it is not paid by what was agreed before."""
    order = opened(platform)
    order.total += 40
    tell(line, order, PAID)
    line.work()
    assert untouched(order)


@pytest.mark.parametrize("cents", [False, True])
def test_an_order_edited_when_it_is_paid_is_followed_on(line: Line, platform: Platform, cents: bool) -> None:
    """The payment is its own by then: a dispute or a refund is not lost for a later change of the total, nor
    any larger."""
    order = opened(platform)
    payment = {**PAYMENT, "amount": "6499", "amount_before_tax": "6000"} if cents else PAYMENT
    part = {**PART, "amount": "1000", "unit": None} if cents else PART
    tell(line, order, PAID, 1, payment=payment)
    line.work()
    order.total += 40
    tell(line, order, ("order.partially_refunded", "partially_refunded", part), 2, payment=payment)
    tell(line, order, ("order.disputed", "disputed", None), 3, payment=payment)
    line.work()
    assert (order.status, [each["amount"] for each in order.refunds]) == ("on-hold", [PART_OF_TOTAL])


def test_attack_an_order_that_became_a_hundredfold(line: Line, platform: Platform) -> None:
    """What was paid as the cents of 60.00 is not taken for the 6000.00 that the order costs by now."""
    order = opened(platform)
    order.total *= 100
    tell(line, order, PAID, payment={**PAYMENT, "amount_before_tax": "6000"})
    line.work()
    assert untouched(order)


def test_attack_transaction_of_somebody_else(line: Line, platform: Platform, told: Told) -> None:
    """The order was paid otherwise meanwhile: no event of this payment changes it, and a person is told of both."""
    before = {}
    for story in STORIES:
        order = opened(platform)
        order.complete_payment("ch_another")
        before[order.number] = order.state()
        for revision, event in enumerate(STORIES[story][0], 1):
            assert deliver(line, order, event, revision) == "paid_otherwise"
    assert {number: order.state() for number, order in platform.orders.items()} == before
    assert "woocommerce_paid_otherwise" in told.text()


def test_what_waits_for_no_payment_is_a_person_s(line: Line, platform: Platform, told: Told) -> None:
    """Cancelled, and paid all the same: the goods may be gone."""
    for status in ("cancelled", "trash", "on-hold", "checkout-draft"):
        order = opened(platform, status=status)
        assert deliver(line, order, PAID, 1) == "not_payable"
        assert (order.status, order.date_paid, order.notes) == (status, None, [])
    assert told.text().count('"woocommerce_not_payable"') == 4


def test_attack_a_browser_names_another_s_order(line: Line, platform: Platform) -> None:
    """What a browser sent along, the plugin's very metadata and the right amount, asks the shop nothing."""
    order = opened(platform)
    tell(line, order, PAID, metadata={}, untrusted_metadata=metadata(str(order.number)))
    line.work()
    assert (line.requests, untouched(order)) == ([], True)
    assert list(line.outcomes().values()) == ["not_ours"]


def test_attack_a_number_that_is_none_is_asked_for_nowhere(line: Line, platform: Platform) -> None:
    """Whatever the shop's server sent: only digits become a part of an address."""
    opened(platform)
    numbers = ("", "0", "-1", "101/notes", "101?force=1", "../customers/1", "101\n", "١٠١", "9" * 20)
    for number in numbers:
        tell(line, number, PAID)
    line.work()
    assert line.requests == []
    assert list(line.outcomes().values()) == ["not_ours"] * len(numbers)


def test_an_order_of_another_way_in_is_not_ours(line: Line) -> None:
    """Orders that the plugin has not opened are somebody else's."""
    line.publish("order.paid", metadata={})
    line.work()
    assert (line.requests, list(line.outcomes().values())) == ([], ["not_ours"])


# --- What a person has to mend ----------------------------------------------------------------------------------------


def mended(line: Line, told: Told, reason: str) -> None:
    """Somebody is told at once, and once; the next try is soon enough."""
    line.work(hours=20)
    lines, _ = told.look()
    assert [each["message"] for each in lines].count(f"connector_{reason}") == 1
    assert {each["reason"] for each in lines if each["message"] == "undelivered"} == {reason}


def test_wrong_credentials(line: Line, platform: Platform, told: Told) -> None:
    """A key that is revoked in the shop, and made anew within three days: nothing is lost, and no secret is printed."""
    order = opened(platform)
    secret = platform.keys.pop(CONSUMER_KEY)
    tell(line, order, PAID)
    mended(line, told, "unauthorized")
    assert secret not in told.text()
    platform.keys[CONSUMER_KEY] = secret
    line.work(hours=60)
    assert order.status == "processing"


def test_no_credentials(line: Line, platform: Platform, told: Told) -> None:
    """A secret that nobody filled: nothing is sent, and somebody is told."""
    line._stack.secrets.put_secret_value(SecretId=woocommerce.SECRET_ARN, SecretString="cs_sandbox-and-no-key")
    order = opened(platform)
    tell(line, order, PAID)
    mended(line, told, "secret_missing")
    assert line.requests == []


def test_a_key_that_may_only_read(line: Line, platform: Platform, told: Told) -> None:
    """It finds the order and cannot change it."""
    order = opened(platform)
    platform.may_write = False
    tell(line, order, PAID)
    mended(line, told, "unauthorized")
    assert untouched(order)
    platform.may_write = True
    line.work(hours=60)
    assert order.status == "processing"


def test_an_order_that_is_missing(line: Line, platform: Platform, told: Told) -> None:
    """Deleted, or of another shop: told at once, tried on, since a backup may bring it back."""
    tell(line, "101", PAID)
    mended(line, told, "not_found")
    order = opened(platform)
    assert order.number == 101
    line.work(hours=60)
    assert order.status == "processing"


def test_attack_a_redirect_is_not_followed(line: Line, platform: Platform, told: Told) -> None:
    """A shop that has another address than the one it was given (with www, of another protocol) is refused: the
    credentials go nowhere else."""
    order = opened(platform)
    tell(line, order, PAID)
    line.faults = [Fault(301, {"Location": "https://www.woocommerce.example/"})] * 9
    mended(line, told, "refused")
    assert {each.split("?")[0] for each in line.requests} == {"GET /wp-json/wc/v3/orders/101"}


def test_a_page_in_the_place_of_an_order(line: Line, platform: Platform, told: Told) -> None:
    """A host's page with status 200 is no order: nothing is taken from it, and the next answer may be one."""
    order = opened(platform)
    tell(line, order, PAID)
    bodies = (b"<html>", b"[]", b'{"id": 101}', b"\xff", b"", b'\xef\xbb\xbf{"id": 101}')
    line.faults = [Fault(200, body=body) for body in bodies]
    line.work(hours=10)
    assert (untouched(order), line.faults) == (True, [])
    lines, _ = told.look()
    assert [each["reason"] for each in lines if each["message"] == "undelivered"] == ["not_json"] * len(bodies)
    line.work(hours=24)
    assert order.status == "processing"


def test_a_payment_that_the_shop_does_not_take(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin of the shop keeps the order from being paid: that is no success."""
    order = opened(platform)
    monkeypatch.setattr(Order, "complete_payment", lambda *_: None)
    event = tell(line, order, PAID)
    line.work()
    assert line.items()[f"event#{event['id']}"]["failure"] == "refused"
    monkeypatch.undo()


def test_the_same_again_waits_for_a_slow_shop(line: Line, platform: Platform) -> None:
    """PHP may go on when we have given up: the next try comes when it is over."""
    order = opened(platform)
    tell(line, order, PAID)
    line.faults = [Fault(lost="answer")]
    line.work(hours=59 / 3600)
    assert len(line.requests) == 1
    line.work(hours=1)
    assert order.status == "processing"


def test_nothing_of_the_buyer_is_printed(line: Line, platform: Platform, told: Told) -> None:
    """Neither credentials nor addresses are in a log."""
    order = opened(platform)
    for revision, event in enumerate(STORIES["refunded"][0], 1):
        tell(line, order, event, revision, customer_email="jane@example.com")
    line.work()
    printed = told.text()
    assert "delivered" in printed
    for hidden in ("jane@example.com", order.email, "ck_sandbox", "cs_sandbox", "Basic"):
        assert hidden not in printed


# --- pf connector test ------------------------------------------------------------------------------------------------


def checked(line: Line) -> Any:
    return woocommerce.handler({"test": "order.paid"}, Context(line.clock, 30))


def test_check(line: Line, platform: Platform) -> None:
    """It says that the key may read and write, and changes nothing."""
    order = opened(platform)
    assert (checked(line), untouched(order)) == ({"outcome": "ok"}, True)


def test_check_fails(line: Line, platform: Platform) -> None:
    """What a person has to mend is found before the first payment."""
    line.faults = [FAULTS["page"]]
    assert checked(line) == {"outcome": "failed", "reason": "not_json"}
    platform.may_write = False
    assert checked(line) == {"outcome": "failed", "reason": "unauthorized"}
    platform.keys.clear()
    assert checked(line) == {"outcome": "failed", "reason": "unauthorized"}
