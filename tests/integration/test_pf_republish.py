"""`pf republish`: events go over the bus again with the ids that the relay gave them at first."""

import json
from decimal import Decimal
from typing import Any

import botocore.client
import pytest

import ops.republish
from ops import audit, history, items
from ops.stack import Stack
from payments import outbox
from payments.table import timestamp
from tests.event_schemas import check
from tests.integration.outages import Outages
from tests.lambdas import Lambdas
from tests.pf import answer, deployed, done, failed, fails, run
from tests.world import World


@pytest.fixture
def stack(shop: World) -> Stack:
    return deployed()


def ids(shop: World) -> set[str]:
    return {each["id"] for each in shop.published}


def again(shop: World, *words: str) -> list[dict[str, Any]]:
    """What the bus takes by the command."""
    before = len(shop.stack.published())
    done("republish", *words, "--yes")
    return shop.stack.published()[before:]


def a_life(shop: World) -> list[str]:
    """Orders with all that can become of one, each change told by the relay at its time."""
    plain, refunded, disputed, second, mismatched = (shop.buy() for _ in range(5))
    shop.deliver()
    shop.flow()
    for amount in ("10.00", "39.00"):
        shop.clock.passes(minutes=1)
        shop.account.refund(refunded[1], Decimal(amount), "sorry")
        shop.deliver()
        shop.flow()
    shop.account.set_disputed(disputed[1], True)
    shop.pay(shop.stack.order(second[0])["session_id"]["S"])
    shop.deliver()
    shop.flow()
    order_id, session = shop.checkout()
    shop.pay(session, product_id="65a1b2c3d4e5f6a7b8c9d0e3")
    shop.deliver()
    shop.buy_unheard("membership")
    shop.sell_elsewhere("65a1b2c3d4e5f6a7b8c9d0e1")
    shop.lose_webhooks()
    shop.clock.passes(minutes=20)
    shop.reconcile("hours")
    shop.clock.passes(minutes=20)
    shop.reconcile("days")
    return [plain[0], refunded[0], disputed[0], second[0], mismatched[0], order_id]


def test_each_id_is_one_that_the_relay_published_at_first(shop: World, stack: Stack) -> None:
    """Of a whole ledger: nothing is told by a new id, what is told fits its schema, and of orders and payments nothing
    is missing. Made from nothing some ids would be new: two refunds of an order were a partial one and a whole one; the
    item as it is makes two whole ones."""
    order_id = a_life(shop)[1]
    first = {each["id"]: each for each in shop.published}
    told = [each for item in items.scan(stack, ("order#", "sale#", "raw#")) for each in history.told(item).events]
    assert {each.detail["id"] for each in told} == {
        each["id"]
        for each in first.values()
        if not each["type"].startswith("subscription.") or "payment_s" in each["type"]
    }
    assert len(told) > 8
    for each in told:
        check(each)
        assert first[each.detail["id"]]["type"] == each.type
    item = items.get(stack, f"order#{order_id}")
    assert item is not None
    assert not {each.detail["id"] for each in outbox.events({}, item)} <= ids(shop)
    retold = history.told(item)
    assert [each.type for each in retold.events] == ["order.paid", "order.partially_refunded", "order.refunded"]
    assert [each.detail["status"] for each in retold.events] == ["refunded", "partially_refunded", "refunded"]
    revisions = [each.detail["revision"] for each in retold.events]
    assert revisions[1] < revisions[2] <= item["rev"] == revisions[0]
    assert retold.lost == 0


def test_what_cannot_be_told_apart_is_not_told(shop: World, stack: Stack) -> None:
    """Two refunds that the API listed at one moment: nobody knows which was the last."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    for amount in ("10.00", "39.00"):
        shop.account.refund(payment_id, Decimal(amount), "sorry")
    shop.lose_webhooks()
    shop.clock.passes(minutes=20)
    shop.reconcile("hours")
    shop.reconcile("days")
    item = items.get(stack, f"order#{order_id}")
    assert item is not None
    assert len({fact["at"] for name, fact in item.items() if name.startswith("ref#")}) == 1
    told = history.told(item)
    assert {each.detail["id"] for each in told.events} <= ids(shop)
    assert [each.type for each in told.events if "refund" in each.type and "ref#" in each.fact] == []
    assert told.lost == 2
    assert done("republish", order_id, "--dry-run")["left_out"] == 2
    assert done("republish", order_id, "--until", "2026-11-01", "--dry-run")["left_out"] == 0
    assert done("republish", order_id, "--type", "webhook.other", "--dry-run")["left_out"] == 0


def test_an_observation_over_another_one_is_not_told(shop: World, stack: Stack) -> None:
    """First disputed, then refunded, too: when it was disputed the ledger does not know any more."""
    order_id, payment_id = shop.buy_unheard()
    shop.later()
    shop.account.set_disputed(payment_id, True)
    shop.later()
    shop.account.refund(payment_id, None, None)
    shop.lose_webhooks()
    shop.answers["GET /refunds"] = lambda _: (200, [])
    shop.later()
    item = items.get(stack, f"order#{order_id}")
    assert item is not None
    assert {each.detail["id"] for each in outbox.events({}, item)} - ids(shop)
    told = history.told(item)
    assert [each.type for each in told.events] == ["order.paid"]
    assert told.lost == 2


def test_an_order_s_events_again(shop: World, stack: Stack) -> None:
    """On the bus as the relay puts them there, and the audit has it."""
    order_id, payment_id = shop.buy()
    shop.account.refund(payment_id, Decimal("9.00"), "sorry")
    shop.deliver()
    shop.flow()
    envelopes = again(shop, order_id, "--reason", "consumer lost them")
    assert {each["detail-type"] for each in envelopes} == {"order.paid", "order.partially_refunded"}
    assert {each["detail"]["id"] for each in envelopes} == ids(shop)
    assert {each["source"] for each in envelopes} == {"pocketsflow.test"}
    [entry] = audit.of(stack, order_id)
    assert (entry["action"], entry["reason"], entry["events"]) == ("republish", "consumer lost them", "2")


def test_by_time_and_by_type(shop: World, stack: Stack) -> None:
    """From a time to another one, both included, and only what is wanted."""
    early, _ = shop.buy()
    shop.deliver()
    shop.flow()
    shop.clock.passes(hours=2)
    at = timestamp(shop.clock.now)
    late, payment_id = shop.buy()
    shop.deliver()
    shop.account.refund(payment_id, None, None)
    shop.deliver()
    shop.flow()
    assert {each["detail"]["order_id"] for each in again(shop, "--since", at)} == {late}
    assert {each["detail"]["order_id"] for each in again(shop, "--since", "2026-11-01", "--until", at)} == {early, late}
    before = timestamp(shop.clock.now.replace(hour=shop.clock.now.hour - 1))
    assert {each["detail"]["order_id"] for each in again(shop, "--since", "2026-11-01", "--until", before)} == {early}
    only = again(shop, "--since", "2026-11-01", "--type", "order.refunded")
    assert [each["detail-type"] for each in only] == ["order.refunded"]


def test_a_look_publishes_nothing_and_leaves_no_entry(shop: World, stack: Stack) -> None:
    """Nor does no for an answer."""
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    before = len(shop.stack.published())
    assert done("republish", order_id, "--dry-run") == {"events": {"order.paid": 1}, "left_out": 0, "published": 0}
    refused = run("republish", order_id, answering="n\n")
    assert (refused.exit_code, "nothing was published" in refused.stderr) == (1, True)
    assert "order.paid" in refused.stdout
    assert len(shop.stack.published()) == before
    assert not any(pk.startswith("audit#") for pk in shop.stack.items())
    assert run("republish", order_id, answering="y\n").exit_code == 0
    assert len(shop.stack.published()) == before + 1


def test_nothing_to_publish_is_said(shop: World, stack: Stack) -> None:
    """And is no failure."""
    order_id, _ = shop.checkout()
    result = run("republish", order_id)
    assert (result.exit_code, "There is no such event" in result.stderr) == (0, True)


def test_a_bus_that_takes_no_more(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many were published is said, and that it may be run again; the entries it refused alone are tried again."""
    monkeypatch.setattr("payments.batches.MOST", 2)
    monkeypatch.setattr("ops.republish.time.sleep", lambda _: None)
    for _ in range(5):
        shop.buy()
    shop.deliver()
    shop.flow()
    calls = []
    make = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def calling(self: Any, name: str, arguments: Any) -> Any:
        if name != "PutEvents":
            return make(self, name, arguments)
        calls.append(len(arguments["Entries"]))
        if len(calls) == 1:
            half = make(self, name, {"Entries": arguments["Entries"][:1]})
            return {"Entries": [*half["Entries"], {"ErrorCode": "InternalFailure"}]}
        if len(calls) > 3:
            raise answer("InternalFailure", 500)
        return make(self, name, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
    result = run("republish", "--since", "2026-11-01", "--yes")
    assert calls == [2, 1, 2, 1]
    assert result.exit_code == 75
    assert "4 events were published, then the bus took no more; run this again" in result.stderr


def test_who_may_not_is_told_so(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the audit nothing is published; without the right to publish, nothing either."""
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    before = len(shop.stack.published())
    with monkeypatch.context() as patch:
        fails(patch, "TransactWriteItems", answer("AccessDeniedException"))
        result = run("republish", order_id, "--yes")
        assert (result.exit_code, "these credentials may not do" in result.stderr) == (1, True)
    fails(monkeypatch, "PutEvents", answer("AccessDeniedException"))
    assert run("republish", order_id, "--yes").exit_code == 1
    assert len(shop.stack.published()) == before


def test_commands_that_are_wrong(shop: World, stack: Stack) -> None:
    """Two, and nothing is read."""
    for words in (
        [],
        ["ord_x", "--since", "1h"],
        ["--unpublished", "--since", "1h"],
        ["--unpublished", "--type", "order.paid"],
        ["ord_x", "--type", "order.payed"],
    ):
        assert run("republish", *words).exit_code == 2


def test_an_order_that_is_not_there(shop: World, stack: Stack) -> None:
    """One line."""
    assert failed("republish", "ord_test_x") == (1, "there is no order ord_test_x")
    assert failed("republish", "x\x1b[2J", "--yes")[1].startswith("there is no order and no payment x")


# --- What the relay could not publish ---------------------------------------------------------------------------------


@pytest.fixture
def kept(shop: World, stack: Stack, outages: Outages, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A batch that the relay gave up, as Lambda keeps it, and a record that it put aside; what it is invoked with."""
    order_id, _ = shop.buy()
    shop.deliver()
    records = shop.read_stream()
    put(shop, "aws/lambda/x/shard/1", records)
    other, _ = shop.buy()
    shop.deliver()
    put(shop, "put-aside/7.json", shop.read_stream())
    put(shop, "replayed/0.json", [])

    Lambdas(shop, monkeypatch)
    return [order_id, other]


def put(shop: World, key: str, records: list[Any]) -> None:
    content = {"version": "1.0", "payload": json.dumps({"Records": records})}
    shop.stack.s3.put_object(Bucket=shop.stack.bucket, Key=key, Body=json.dumps(content).encode())


def keys(shop: World) -> list[str]:
    listed = shop.stack.s3.list_objects_v2(Bucket=shop.stack.bucket)
    return [each["Key"] for each in listed.get("Contents", [])]


def test_what_could_not_be_published_is_published_and_gone(shop: World, kept: list[str]) -> None:
    """All but what somebody has handed over by hand before."""
    assert done("republish", "--unpublished", "--yes") == {"batches": 2, "published": 2, "failed": 0}
    assert [shop.types(order_id) for order_id in kept] == [["order.paid"]] * 2
    assert keys(shop) == ["replayed/0.json"]
    assert any(pk.startswith("audit#") for pk in shop.stack.items())
    assert done("republish", "--unpublished") == {"batches": 0, "published": 0, "failed": 0}


def test_a_look_at_them_moves_nothing(shop: World, kept: list[str]) -> None:
    """Nor does no."""
    before = keys(shop)
    assert done("republish", "--unpublished", "--dry-run")["batches"] == 2
    assert run("republish", "--unpublished", answering="n\n").exit_code == 1
    assert (keys(shop), shop.types()) == (before, [])


def test_what_fails_again_lies_there_still(shop: World, kept: list[str], outages: Outages) -> None:
    """Under its old name; the next try publishes it."""
    outages.fates["events"] = lambda tried: tried.answer(500, {})
    result = run("republish", "--unpublished", "--yes")
    assert (result.exit_code, "2 batches are not published" in result.stderr) == (1, True)
    assert keys(shop) == ["aws/lambda/x/shard/1", "put-aside/7.json", "replayed/0.json"]
    outages.fates.clear()
    assert done("republish", "--unpublished", "--yes")["published"] == 2


def test_a_record_that_is_put_aside_again_is_not_lost(
    shop: World, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay writes it under the name that it had; that one is not deleted."""

    def broken(*_: Any) -> Any:
        raise KeyError

    [record, *_] = json.loads(stored(shop, "put-aside/7.json"))["Records"]
    record["dynamodb"]["SequenceNumber"] = "7"
    put(shop, "put-aside/7.json", [record])
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "events", broken)
        result = run("republish", "--unpublished", "--yes")
    assert result.exit_code == 1
    assert "put-aside/7.json" in keys(shop)


def stored(shop: World, key: str) -> str:
    content = json.loads(shop.stack.s3.get_object(Bucket=shop.stack.bucket, Key=key)["Body"].read())
    return str(content["payload"])


def test_a_crash_in_between_loses_nothing(shop: World, kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was moved away and never came back is taken up by the next run."""
    move = ops.republish._move

    def moving(*arguments: Any) -> None:
        move(*arguments)
        raise answer("SlowDown", 503)

    with monkeypatch.context() as patch:
        patch.setattr(ops.republish, "_move", moving)
        assert run("republish", "--unpublished", "--yes").exit_code == 75
    assert "handed-over/aws/lambda/x/shard/1" in keys(shop)
    assert done("republish", "--unpublished", "--yes")["published"] == 2
    assert keys(shop) == ["replayed/0.json"]


def test_one_batch_that_the_relay_breaks_on_holds_up_no_other(
    shop: World, stack: Stack, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first in the bucket is the first of every run: what lies behind it would lie there for ever."""
    s3 = shop.stack.s3
    s3.put_object(Bucket=shop.stack.bucket, Key="aws/a", Body=json.dumps({"payload": "{}"}).encode())
    result = run("republish", "--unpublished", "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)["published"]) == (1, 2)
    assert "aws/a: RelayFunction failed (KeyError)" in result.stderr
    assert keys(shop) == ["aws/a", "replayed/0.json"]


def test_two_persons_hand_over_at_once(shop: World, kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds what the first one has done, and nothing is lost."""
    hand_over = ops.republish._hand_over
    ran: list[Any] = []

    def meanwhile(*about: Any) -> bool:
        if not ran:
            ran.append(None)
            ran[0] = done("republish", "--unpublished", "--yes")
        return hand_over(*about)

    monkeypatch.setattr(ops.republish, "_hand_over", meanwhile)
    assert done("republish", "--unpublished", "--yes") == {"batches": 2, "published": 2, "failed": 0}
    assert [shop.types(order_id) for order_id in kept] == [["order.paid"]] * 2
    assert keys(shop) == ["replayed/0.json"]


def test_what_is_not_of_the_relay_stays(shop: World, stack: Stack) -> None:
    """Nobody knows what it is."""
    shop.stack.s3.put_object(Bucket=shop.stack.bucket, Key="notes.txt", Body=b"mine")
    assert run("republish", "--unpublished", "--yes").exit_code == 1
    assert keys(shop) == ["notes.txt"]
