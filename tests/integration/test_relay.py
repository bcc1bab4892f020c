"""relay: each change of the ledger is told, at least once and in one way."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import relay
from payments import aws, outbox
from sandbox import aws as sandbox_aws
from tests.integration.outages import OUTAGES, Fate, Outages, Told, Try, failing, silent, unheard
from tests.payloads import SECRET, answered, delivery, paid, refunded, subscribed, unknown
from tests.world import ELSEWHERE, PRODUCTS, Context, World
from webhook import handler as receive

COURSE, MEMBERSHIP = (PRODUCTS[sku]["productId"] for sku in ("course", "membership"))
NOTHING: list[str] = []


def deliver(shop: World, content: dict[str, Any]) -> str:
    status, answer = answered(receive(delivery(content, content["event"]), Context(shop.clock, 4)))
    assert status == 200
    return str(answer["outcome"])


def settled(shop: World, orders: int = 1) -> tuple[list[str], list[dict[str, Any]]]:
    """Order ids, and the records of their settlements alone."""
    ids = [shop.buy()[0] for _ in range(orders)]
    shop.read_stream()
    assert shop.deliver() == ["settled"] * orders
    return ids, shop.read_stream()


def entries(outages: Outages) -> list[list[dict[str, Any]]]:
    """Of each PutEvents that was tried."""
    return [tried.content["Entries"] for tried in outages.of("events PutEvents")]


def about(entry: dict[str, Any]) -> str:
    """The order's id."""
    return str(json.loads(entry["Detail"])["order_id"])


def number(record: dict[str, Any]) -> str:
    return str(record["dynamodb"]["SequenceNumber"])


def taking(takes: Callable[[dict[str, Any]], bool]) -> Fate:
    """A bus that takes some entries of a request and refuses the others, as PutEvents answers it."""

    def fate(tried: Try) -> Any:
        refused = {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
        results = [{"EventId": "e"} if takes(entry) else refused for entry in tried.content["Entries"]]
        return tried.answer(200, {"FailedEntryCount": results.count(refused), "Entries": results})

    return fate


# --- From a record to the bus -----------------------------------------------------------------------------------------


def test_a_record_in_lambda_s_shape_becomes_an_event(shop: World, outages: Outages) -> None:
    """DynamoDB's JSON with bytes in base64 goes in; an entry for the stage's bus comes out, with the type, the id and
    the order, and without the raw body."""
    [order_id], [record] = settled(shop)
    [fact] = [name for name in record["dynamodb"]["NewImage"] if name.startswith("pay#")]
    raw = record["dynamodb"]["NewImage"][fact]["M"]["raw"]["B"]
    assert isinstance(raw, str)
    assert shop.relay([record]) == NOTHING
    [[entry]] = entries(outages)
    assert (entry["Source"], entry["DetailType"]) == ("pocketsflow.test", "order.paid")
    assert entry["EventBusName"] == "pocketsflow-test"
    detail = json.loads(entry["Detail"])
    assert (detail["order_id"], detail["payment"]["id"]) == (order_id, fact.removeprefix("pay#"))
    assert len(detail["id"]) == 64
    assert raw not in entry["Detail"]
    assert "webhookId" not in entry["Detail"]


def test_a_batch_becomes_events_in_its_order(shop: World, outages: Outages) -> None:
    """One PutEvents for what fits into one, ten entries at most."""
    ids, records = settled(shop, 12)
    assert shop.relay(records) == NOTHING
    assert [len(chunk) for chunk in entries(outages)] == [10, 2]
    assert [about(entry) for chunk in entries(outages) for entry in chunk] == ids


def test_big_details_go_in_smaller_requests(shop: World, outages: Outages) -> None:
    """No request is larger than EventBridge takes (256 KiB, counted as docs.aws.amazon.com/eventbridge says), with
    metadata as large as a checkout lets it be, in characters of three bytes."""
    metadata = {f"{number:040}": "\u20ac" * 500 for number in range(20)}
    orders = [shop.checkout(metadata=metadata) for _ in range(12)]
    for _, session in orders:
        shop.pay(session)
    shop.read_stream()
    assert shop.deliver() == ["settled"] * 12
    assert shop.relay(shop.read_stream()) == NOTHING
    chunks = entries(outages)
    assert 1 < len(chunks) < 12
    for chunk in chunks:
        size = sum(len((entry["Source"] + entry["DetailType"] + entry["Detail"]).encode()) + 14 for entry in chunk)
        assert size <= 256 * 1024
    assert [about(entry) for chunk in chunks for entry in chunk] == [order_id for order_id, _ in orders]


def test_a_record_that_changes_nothing_of_meaning_is_no_event(shop: World, outages: Outages) -> None:
    """A checkout's session, a retry's note, what the API said again: nothing is put on the bus."""
    order_id, session = shop.checkout()
    payment_id = shop.pay(session)
    assert shop.relay(shop.read_stream()) == NOTHING
    assert entries(outages) == []
    shop.deliver()
    [record] = shop.read_stream()
    same = {**record, "dynamodb": {**record["dynamodb"], "OldImage": record["dynamodb"]["NewImage"]}}
    assert shop.relay([same]) == NOTHING
    assert entries(outages) == []
    assert shop.relay([record]) == NOTHING
    outages.tries.clear()
    shop.clock.passes(minutes=5)
    shop.reconcile()  # marks the payment as seen
    assert "api" in shop.stack.items()[f"sale#{payment_id}"]
    assert entries(outages) == []
    assert shop.types(order_id) == ["order.paid"]


def test_a_subscription_begins_with_its_order(shop: World) -> None:
    """Its first payment settles the order, and the subscription knows the order and what the order was opened with."""
    order_id, session = shop.checkout("membership", metadata={"member": "42"})
    subscription = shop.pay(session)
    assert shop.deliver() == ["settled"]
    shop.flow()
    item = shop.stack.items()[f"subscription#{subscription}"]
    assert item["order_id"] == {"S": order_id}
    assert item["sku"] == {"S": "membership"}
    assert item["untrusted_metadata"] == {"M": {"member": {"S": "42"}}}
    assert sorted(shop.types()) == ["order.paid", "subscription.started"]
    [started] = [event for event in shop.published if event["type"] == "subscription.started"]
    assert (started["order_id"], started["untrusted_metadata"]) == (order_id, {"member": "42"})


# --- A bus that fails -------------------------------------------------------------------------------------------------


def test_only_the_entry_that_failed_is_sent_again(shop: World, outages: Outages) -> None:
    """PutEvents takes two of three: the third goes alone, with its id, and nothing is reported."""
    ids, records = settled(shop, 3)

    def recovering(tried: Try) -> Any:
        outages.fates.clear()
        return taking(lambda entry: about(entry) != ids[1])(tried)

    outages.fates["events"] = recovering
    assert shop.relay(records) == NOTHING
    first, second = entries(outages)
    assert [about(entry) for entry in first] == ids
    assert second == [first[1]]
    assert [event["order_id"] for event in shop.published] == [ids[0], ids[2], ids[1]]


def test_an_entry_that_is_never_taken(shop: World, outages: Outages, told: Told) -> None:
    """It is tried three times; its record alone comes again, is alarmed, and then has the same id."""
    ids, records = settled(shop, 3)
    outages.fates["events"] = taking(lambda entry: about(entry) != ids[1])
    assert shop.relay(records) == [number(records[1])]
    assert [len(chunk) for chunk in entries(outages)] == [3, 1, 1]
    assert told.alarms() == ["events_not_published"]
    assert [event["order_id"] for event in shop.published] == [ids[0], ids[2]]
    outages.fates.clear()
    assert shop.relay([records[1]]) == NOTHING
    sent = entries(outages)
    assert sent[-1] == sent[1]


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_bus_that_is_down(shop: World, outages: Outages, told: Told, fate: Fate) -> None:
    """The records with something to tell are reported, and no others; when they come again their events have the ids
    that they had before."""
    _, records = settled(shop, 2)
    opened, _ = shop.checkout()
    outages.fates["events"] = fate
    assert shop.relay([*records, *shop.read_stream()]) == [number(record) for record in records]
    assert told.alarms() == ["events_not_published"]
    assert shop.published == []
    outages.fates.clear()
    assert shop.relay(records) == NOTHING
    tried = entries(outages)
    assert tried[-1] == tried[0]
    assert shop.types(opened) == []


def test_a_request_that_fails_does_not_take_the_others_along(shop: World, outages: Outages) -> None:
    """Of three requests the second fails: its ten records are reported, the events of the others are published."""
    ids, records = settled(shop, 25)
    outages.fates["events"] = lambda tried: failing(tried) if about(tried.content["Entries"][0]) == ids[10] else None
    assert shop.relay(records) == [number(record) for record in records[10:20]]
    assert [event["order_id"] for event in shop.published] == ids[:10] + ids[20:]


def test_a_request_that_nobody_heard_of(shop: World, outages: Outages) -> None:
    """The bus took it and the answer was lost: it is told again, under the same id."""
    _, records = settled(shop)
    outages.fates["events"] = unheard
    assert shop.relay(records) == [number(records[0])]
    outages.fates.clear()
    assert shop.relay(records) == NOTHING
    assert len({entry["Detail"] for chunk in entries(outages) for entry in chunk}) == 1


def as_in_the_template(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aws, "CONNECT_SECONDS", aws.CONNECT_SECONDS * 5)
    patch.setattr(aws, "READ_SECONDS", {name: 5 * seconds for name, seconds in aws.READ_SECONDS.items()})


def test_it_answers_before_its_time_is_over(shop: World, outages: Outages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of fifty whose bus is silent, with the patience that the template gives: all are reported within the
    function's thirty seconds."""
    _, records = settled(shop, 50)
    shop.flow()
    as_in_the_template(monkeypatch)
    outages.fates["events"] = silent
    started = shop.clock.now
    assert shop.relay(records) == [number(record) for record in records]
    assert (shop.clock.now - started).total_seconds() < 30


def test_a_ledger_that_is_slow(shop: World, outages: Outages, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no time for all fifty of a batch: those that it could complete are told, and the next try goes on with the
    others. With the patience that the template gives."""
    _, records = settled(shop, 50)
    as_in_the_template(monkeypatch)
    outages.fates["dynamodb"] = lambda tried: shop.clock.sleep(1.2)
    left = records
    for _ in range(4):
        started = shop.clock.now
        failed = shop.relay(left)
        assert (shop.clock.now - started).total_seconds() < 30
        assert failed == [number(record) for record in left[len(left) - len(failed) :]]
        assert len(failed) <= max(0, len(left) - 10)
        left = left[len(left) - len(failed) :]
    assert left == []
    assert len({event["id"] for event in shop.published}) == 50


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_ledger_that_is_down(shop: World, outages: Outages, told: Told, fate: Fate) -> None:
    """A payment that could not be made to belong to its order is not told yet; the others are."""
    ids, records = settled(shop, 3)
    outages.fates["dynamodb"] = lambda tried: fate(tried) if ids[1] in json.dumps(tried.content) else None
    assert shop.relay(records) == [number(records[1])]
    assert told.alarms() == ["record_not_relayed"]
    assert [event["order_id"] for event in shop.published] == [ids[0], ids[2]]
    outages.fates.clear()
    assert shop.relay(records) == NOTHING
    assert {event["order_id"] for event in shop.published} == set(ids)
    assert len({event["id"] for event in shop.published}) == 3


def test_a_batch_again_is_told_again_under_the_same_ids(shop: World) -> None:
    """Whatever was done of it before: the events are the same, letter by letter."""
    _, session = shop.checkout("membership")
    shop.pay(session)
    shop.buy()
    shop.deliver()
    records = shop.read_stream()
    assert shop.relay(records) == NOTHING
    once = list(shop.published)
    assert shop.relay(records) == NOTHING
    assert shop.published == once * 2
    shop.flow()
    assert shop.types().count("subscription.started") == 1


# --- A record that is not understood ----------------------------------------------------------------------------------


def put_aside() -> list[dict[str, Any]]:
    """What lies in the bucket, by key."""
    s3 = sandbox_aws.client("s3", None)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=relay.UNPUBLISHED_BUCKET).get("Contents", [])]
    return [json.loads(s3.get_object(Bucket=relay.UNPUBLISHED_BUCKET, Key=key)["Body"].read()) for key in keys]


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no new image": lambda change: change.pop("NewImage"),
    "a number that is none": lambda change: change["NewImage"].update(rev={"N": "1.5"}),
    "a type of its own": lambda change: change["NewImage"].update(rev={"N": "1", "S": "1"}),
    "no product": lambda change: change["NewImage"].pop("product_id"),
    "bytes that are not base64": lambda change: change["NewImage"].update(body={"B": "a"}),
    "no kind": lambda change: change["NewImage"].update({"ref#x": {"M": {"payment_id": {"S": "x"}}}}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_record_that_is_not_understood(shop: World, told: Told, how: str) -> None:
    """It is kept whole in the bucket, alarmed, and holds nobody up: the others of its batch are told."""
    ids, records = settled(shop, 3)
    broken = json.loads(json.dumps(records[1]))
    BROKEN[how](broken["dynamodb"])
    assert shop.relay([records[0], broken, records[2]]) == NOTHING
    assert told.alarms() == ["record_not_understood"]
    assert [event["order_id"] for event in shop.published] == [ids[0], ids[2]]
    [kept] = put_aside()
    assert json.loads(kept["payload"]) == {"Records": [broken]}


def test_what_was_put_aside_is_replayed(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the defect is mended, the object's payload is an event for the same function, and makes the same event."""
    [order_id], records = settled(shop)
    with monkeypatch.context() as defect:
        defect.setattr(outbox, "events", None)
        assert shop.relay(records) == NOTHING
    assert shop.published == []
    [kept] = put_aside()
    assert relay.handler(json.loads(kept["payload"]), Context(shop.clock, 30)) == {"batchItemFailures": []}
    assert shop.types(order_id) == ["order.paid"]
    assert shop.relay(records) == NOTHING
    assert shop.published[0] == shop.published[1]


def test_what_cannot_even_be_put_aside_comes_again(shop: World, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bucket its record fails, so that Lambda brings it again; the others are told."""
    ids, records = settled(shop, 3)
    sandbox_aws.client("s3", None).delete_bucket(Bucket=relay.UNPUBLISHED_BUCKET)
    understood = outbox.events

    def misunderstood(old: Any, new: Any) -> Any:
        return understood(old, None if new["pk"] == f"order#{ids[1]}" else new)

    with monkeypatch.context() as defect:
        defect.setattr(outbox, "events", misunderstood)
        assert shop.relay(records) == [number(records[1])]
    assert told.alarms() == ["record_not_understood", "record_not_put_aside"]
    assert shop.types() == ["order.paid"] * 2
    assert shop.relay(records[1:]) == NOTHING
    assert shop.types(ids[1]) == ["order.paid"]


# --- Who is told ------------------------------------------------------------------------------------------------------


def disputed(shop: World) -> None:
    _, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    shop.account.set_disputed(payment_id, True)
    shop.reconcile()


def refunded_too_much(shop: World) -> None:
    order_id, payment_id = shop.buy()
    shop.deliver()
    deliver(shop, refunded(order_id, payment_id, amount=49))
    deliver(shop, refunded(order_id, payment_id, refund="ref2", amount=1))


def paid_twice(shop: World) -> None:
    _, session = shop.checkout()
    shop.pay(session)
    shop.pay(session)
    shop.deliver()


def paid_for_another_product(shop: World) -> None:
    _, session = shop.checkout()
    shop.pay(session, ELSEWHERE["productId"])
    shop.deliver()


def of_no_order(shop: World) -> None:
    order_id, _ = shop.checkout()
    shop.sell_elsewhere(COURSE, {"external_order_id": unknown(order_id)})
    shop.deliver()
    shop.flow()
    shop.reconcile()


def denied(shop: World) -> None:
    order_id, _ = shop.checkout()
    deliver(shop, paid(order_id, "ghost", product=COURSE))
    shop.flow()
    shop.clock.passes(minutes=11)
    shop.reconcile()


ALARMED: dict[str, Callable[[World], None]] = {
    "order.disputed": disputed,
    "order.refund_anomaly": refunded_too_much,
    "payment.second": paid_twice,
    "payment.unmatched": of_no_order,
    "payment.mismatched": paid_for_another_product,
    "ledger.drift": denied,
}


def test_all_that_is_alarmed_is_tried_here() -> None:
    """Every type of event that needs a person has its scenario below."""
    assert ALARMED.keys() == outbox.NEEDS_ATTENTION


@pytest.mark.parametrize("kind", ALARMED)
def test_what_needs_a_person_is_alarmed_once(shop: World, told: Told, kind: str) -> None:
    """One alarm for the event, by its name; an event that is as it should be alarms nobody."""
    shop.buy()
    shop.deliver()
    shop.flow()
    assert (shop.types(), told.alarms()) == (["order.paid"], [])
    ALARMED[kind](shop)
    shop.flow()
    assert [alarm for alarm in told.alarms() if alarm in outbox.NEEDS_ATTENTION] == [kind]
    assert shop.types().count(kind) == 1


def test_every_event_has_one_line_and_nobody_s_name_in_it(shop: World, told: Told, outages: Outages) -> None:
    """Ids and types: no address, no name, no amount, no metadata, no body and no secret is in what is printed, whatever
    is told, refused or put aside."""
    order_id, session = shop.checkout("membership", metadata={"cart": "hush-hush"})
    shop.pay(session)
    for scenario in ALARMED.values():
        scenario(shop)
    deliver(shop, {"event": "review.created", "text": "hush-hush"})
    deliver(shop, {**paid(order_id), "event": "order.refunded", "order": None})
    shop.flow()
    _, [record] = settled(shop)
    broken = {
        **record,
        "dynamodb": {**record["dynamodb"], "NewImage": {"pk": {"S": "order#x"}, "hush": {"N": "hush-hush"}}},
    }
    assert shop.relay([broken]) == NOTHING
    printed = told.text()
    outages.fates["events"] = taking(lambda entry: False)
    shop.relay([record])
    printed += told.text()
    assert len(shop.published) > 10
    lines = [json.loads(line) for line in printed.splitlines() if '"event_id"' in line]
    assert [(line["event_type"], line["event_id"], line.get("order_id")) for line in lines] == [
        (event["type"], event["id"], event["order_id"]) for event in shop.published
    ]
    for expected in ("record_not_understood", "events_not_published", "NeedsAttention", "EventPublished"):
        assert expected in printed
    for hidden in ("buyer@example.com", "Jane", "hush", "49.00", "64.99", "webhookId", "portal", SECRET):
        assert hidden not in printed


# --- Invariant 13: a payment belongs to one order, for ever -----------------------------------------------------------


def two_orders(shop: World) -> tuple[str, str]:
    return shop.checkout()[0], shop.checkout()[0]


@pytest.mark.parametrize("relayed_between", [True, False], ids=["one by one", "both before the relay"])
@pytest.mark.parametrize("swapped", [False, True])
def test_invariant_13_a_payment_reported_for_two_orders(shop: World, relayed_between: bool, swapped: bool) -> None:
    """It pays the one that it was written to first, and that alone is told as paid; the other is not paid, and a person
    hears why."""
    first, second = two_orders(shop)[:: -1 if swapped else 1]
    for order_id in (first, second):
        assert deliver(shop, paid(order_id, "sale1", product=COURSE)) == "settled"
        if relayed_between:
            shop.flow()
    shop.flow()
    assert (shop.types(first), shop.types(second)) == (["order.paid"], ["payment.mismatched"])
    [event] = [event for event in shop.published if event["order_id"] == second]
    assert event["reason"] == "belongs_to_another_order"
    assert (shop.status(first), shop.status(second)) == ("paid", "mismatched")
    assert shop.stack.items()["sale#sale1"]["order_id"] == {"S": first}
    for order_id in (first, second):
        assert deliver(shop, paid(order_id, "sale1", product=COURSE)) == "redelivered"
    shop.flow()
    assert (len(shop.published), shop.status(first), shop.status(second)) == (2, "paid", "mismatched")


def test_invariant_13_holds_when_the_relay_s_batch_comes_again(shop: World, outages: Outages) -> None:
    """The bus fails after the payment was linked: the next try decides as the first one did."""
    first, second = two_orders(shop)
    for order_id in (first, second):
        deliver(shop, paid(order_id, "sale1", product=COURSE))
    records = shop.read_stream()
    outages.fates["events"] = failing
    assert len(shop.relay(records)) == 1
    outages.fates.clear()
    assert shop.relay(records) == NOTHING
    shop.flow()
    assert (shop.types(first), shop.types(second)) == (["order.paid"], ["payment.mismatched"])


@pytest.mark.parametrize("relayed_between", [True, False], ids=["one by one", "both before the relay"])
def test_invariant_13_another_payment_pays_the_other_order(shop: World, relayed_between: bool) -> None:
    """An order that was denied a payment can still be paid with its own, which is then no second one."""
    first, second = two_orders(shop)
    for order_id in (first, second):
        deliver(shop, paid(order_id, "sale1", product=COURSE))
    if relayed_between:
        shop.flow()
    deliver(shop, paid(second, "sale2", product=COURSE))
    shop.flow()
    assert shop.status(second) == "paid"
    assert sorted(shop.types(second)) == ["order.paid", "payment.mismatched"]


@pytest.mark.parametrize("relayed_between", [True, False], ids=["one by one", "all before the relay"])
def test_invariant_13_a_foreign_payment_that_does_not_fit_either(shop: World, relayed_between: bool) -> None:
    """For another product, and another order's: the order's own payment is told as what pays it."""
    first, second = two_orders(shop)
    for order_id, payment, product in (
        (first, "sale1", MEMBERSHIP),
        (second, "sale1", MEMBERSHIP),
        (second, "sale2", COURSE),
    ):
        deliver(shop, paid(order_id, payment, product=product))
        if relayed_between:
            shop.flow()
    shop.flow()
    assert shop.status(second) == "paid"
    assert set(shop.types(second)) == {"order.paid", "payment.mismatched"}
    assert shop.types(second).count("order.paid") == 1


@pytest.mark.parametrize("refund_first", [True, False])
@pytest.mark.parametrize("relayed_between", [True, False])
def test_invariant_13_a_refund_of_it_is_told_of_its_own_order_alone(
    shop: World, refund_first: bool, relayed_between: bool
) -> None:
    """Also when the refund names the order that the payment does not belong to: that one was never paid, so nothing of
    it can be refunded."""
    first, second = two_orders(shop)
    deliver(shop, paid(first, "sale1", product=COURSE))
    shop.flow()
    bodies = [refunded(second, "sale1"), paid(second, "sale1", product=COURSE)]
    for body in bodies if refund_first else reversed(bodies):
        deliver(shop, body)
        if relayed_between:
            shop.flow()
    shop.flow()
    assert shop.types(second) == ["payment.mismatched"]
    assert (shop.status(second), shop.stack.items()["sale#sale1"]["order_id"]) == ("mismatched", {"S": first})


def test_invariant_13_a_subscription_reported_for_two_orders(shop: World) -> None:
    """The same for a subscription: it belongs to the order that it was written to first."""
    first, second = (shop.checkout("membership")[0] for _ in range(2))
    for order_id in (first, second):
        event = delivery(subscribed(order_id, product=MEMBERSHIP), "customer.subscription.created")
        assert answered(receive(event, Context(shop.clock, 4)))[1]["outcome"] == "settled"
    shop.flow()
    assert shop.types(first) == ["order.paid", "subscription.started"]
    assert shop.types(second) == ["payment.mismatched"]
    assert (shop.status(first), shop.status(second)) == ("paid", "mismatched")


# --- Refunds that do not say their order ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the payment", "before the relay", "after the relay"])
@pytest.mark.parametrize("amount", [49.0, 10.0])
def test_a_refund_without_metadata_reaches_its_order(shop: World, when: str, amount: float) -> None:
    """Whenever it comes, it is told once, and once more however often it is delivered."""
    order_id, payment_id = shop.buy()
    refund = refunded(None, payment_id, amount=amount)
    if when == "before the payment":
        deliver(shop, refund)
        shop.flow()
    shop.deliver()
    if when == "after the relay":
        shop.flow()
    if when != "before the payment":
        deliver(shop, refund)
    shop.flow()
    kind, status = (
        ("order.refunded", "refunded") if amount == 49 else ("order.partially_refunded", "partially_refunded")
    )
    assert sorted(shop.types()) == sorted(["order.paid", kind])
    assert shop.status(order_id) == status
    assert deliver(shop, refund) == "redelivered"
    shop.flow()
    assert (len(shop.published), shop.status(order_id)) == (2, status)


def test_a_refund_that_comes_with_and_without_metadata(shop: World) -> None:
    """Two bodies, one refund: the order is refunded once."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    deliver(shop, refunded(None, payment_id, amount=10))
    deliver(shop, refunded(order_id, payment_id, amount=10))
    shop.flow()
    assert sorted(shop.types()) == ["order.paid", "order.partially_refunded"]
    [refund] = [event["refund"] for event in shop.published if "refund" in event]
    assert refund["total"] in ("10", "10.0")
