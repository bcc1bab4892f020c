"""`pf erase`: afterwards a person is in nothing that a stack keeps, whatever comes again; what was paid stays paid."""

import base64
import json
from typing import Any

import botocore.client
import pytest

import relay
import webhook
from ops import audit, erase
from ops.stack import Stack
from payments import ledger, privacy, subscriptions, table
from payments.events import SubscriptionChanged
from payments.privacy import Person
from sandbox import aws
from tests.payloads import answered, delivery, paid, subscribed
from tests.pf import answer, deployed, done, fails, run
from tests.world import Context, World

ADDRESS = "Ann.Person@example.com"
ANN = Person(ADDRESS)
TOO_LONG = f"https://sqs.{aws.REGION}.amazonaws.com/{aws.ACCOUNT}/sandbox-ParkedTooLong"
ERASE = ("erase", "--email", ADDRESS.lower(), "--yes")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "WAIT_SECONDS", 0)


@pytest.fixture
def stack(shop: World) -> Stack:
    return deployed()


def hear(shop: World, body: bytes, event: str) -> str:
    _, answer = answered(webhook.handler(delivery(body, event), Context(shop.clock, 4)))
    return str(answer["outcome"])


def signed(content: dict[str, Any], address: str = ADDRESS) -> bytes:
    """A webhook's body, of a buyer with a name."""
    return json.dumps({**content, "customer": {"email": address, "firstName": "Ann", "lastName": "Person"}}).encode()


def buy(shop: World, sku: str = "course", address: str = ADDRESS, hears: bool = True) -> tuple[str, str]:
    order_id, session = shop.checkout(sku, customerEmail=address, metadata={"cart": "7"})
    payment = shop.pay(session)
    if hears:
        shop.deliver()
    shop.flow()
    return order_id, payment


def park(shop: World, body: bytes, event: str = "order.completed", url: str = "") -> None:
    text = json.dumps({"body": base64.b64encode(body).decode(), "event": event, "sent_at": "1"})
    shop.stack.sqs.send_message(QueueUrl=url or shop.stack.parking_url, MessageBody=text)


def parked(url: str) -> list[bytes]:
    from tests.conftest import _messages

    return [base64.b64decode(json.loads(message.body)["body"]) for message in _messages(url)]


def keep_unpublished(shop: World, key: str) -> list[dict[str, Any]]:
    """The stream's records up to now, as Lambda keeps what the relay could not publish; the relay has not seen them."""
    records = shop.read_stream()
    content = {"version": "1.0", "payload": json.dumps({"Records": records})}
    shop.stack.s3.put_object(Bucket=shop.stack.bucket, Key=key, Body=json.dumps(content).encode())
    return records


def unpublished(shop: World, key: str) -> list[dict[str, Any]]:
    data = shop.stack.s3.get_object(Bucket=shop.stack.bucket, Key=key)["Body"].read()
    records: list[dict[str, Any]] = json.loads(json.loads(data)["payload"])["Records"]
    return records


def where(shop: World) -> list[str]:
    """What names her."""
    found = [pk for pk, item in shop.stack.items().items() if ANN.is_named(table.plain(item))]
    found += [url for url in (shop.stack.parking_url, TOO_LONG) if ANN.is_named(parked(url))]
    for entry in shop.stack.s3.list_objects_v2(Bucket=shop.stack.bucket).get("Contents", []):
        for record in unpublished(shop, entry["Key"]):
            images = [record["dynamodb"].get(name, {}) for name in ("OldImage", "NewImage")]
            found += [entry["Key"]] if any(ANN.is_named(table.plain(image)) for image in images) else []
    return found


def test_everything_that_a_stack_keeps(shop: World, stack: Stack) -> None:
    """Orders paid and unpaid, subscriptions, payments of no order, bodies of any event, both queues, records that could
    not be published, and a careless word in the audit. Nothing is told, and no status changes."""
    orders = [buy(shop)[0], buy(shop, "membership")[0], shop.checkout(customerEmail=ADDRESS)[0]]
    hear(shop, signed(paid(None, "elsewhere")), "order.completed")
    hear(shop, signed({"event": "review.created", "text": "x" * 3_000}), "review.created")
    hear(shop, signed({**paid(orders[0], "large"), "text": "x" * 3_000}), "order.completed")
    other, _ = buy(shop, address="bob@example.com")
    audit.write(stack, "replay", f"asked for by {ADDRESS}", shop.clock.now)
    shop.reconcile("hours")
    shop.flow()
    park(shop, signed(paid(orders[2], "parked")))
    park(shop, signed(paid(orders[2], "parked long")), url=TOO_LONG)
    buy_unseen(shop)
    keep_unpublished(shop, "aws/lambda/1")
    assert len(where(shop)) > 8
    before = {each: shop.status(each) for each in [*orders, other]}
    bobs, told = shop.stack.order(other), len(shop.published)
    counts = done(*ERASE)
    assert counts["erased"].keys() == {*erase.KINDS.values(), erase.QUEUES, erase.OBJECTS}
    assert (counts["left"], counts["busy"], counts["told"]) == (0, False, [])
    assert where(shop) == []
    shop.flow()
    assert {each: shop.status(each) for each in [*orders, other]} == before
    assert (shop.stack.order(other), len(shop.published)) == (bobs, told)
    assert not [name for name in ("Ann", "Person") if name in repr(shop.stack.items())]


def buy_unseen(shop: World) -> None:
    """What the relay has not seen."""
    _, session = shop.checkout(customerEmail=ADDRESS)
    shop.pay(session)
    shop.deliver()


def test_again_finds_nothing(shop: World, stack: Stack) -> None:
    """And writes nothing, no audit either."""
    buy(shop)
    done(*ERASE)
    before = shop.stack.items()
    again = done(*ERASE)
    assert (again["receipt"], again["erased"]) == (None, {})
    assert shop.stack.items() == before


def test_replay_brings_nothing_back(shop: World, stack: Stack) -> None:
    """The same webhook, the same in other words and large, what reconciliation lists, later states of the subscription:
    the order is paid, and whose it is nobody says any more."""
    order_id, session = shop.checkout(customerEmail=ADDRESS, metadata={"cart": "7"})
    shop.pay(session)
    [sent] = list(shop.undelivered)
    shop.deliver()
    shop.flow()
    subscribed_id, subscription = buy(shop, "membership")
    done(*ERASE)
    for body in (sent.body, sent.body.replace(b'"currency"', b' "currency"'), sent.body + b" " * 3_000):
        assert hear(shop, body, sent.event) == "redelivered"
    hear(shop, signed(subscribed(subscribed_id, subscription)), "customer.subscription.created")
    state = {"status": "past_due"}
    hear(shop, signed(subscribed(subscribed_id, subscription, **state)), "customer.subscription.updated")
    shop.flow()
    for walk in ("recent", "hours", "days"):
        shop.clock.passes(hours=2)
        assert shop.reconcile(walk)["outcome"] == "done"
    assert where(shop) == []
    assert (shop.status(order_id), shop.status(subscribed_id)) == ("paid", "paid")
    assert table.plain(shop.stack.items()[f"subscription#{subscription}"])["customer_email"] is None
    late = [each for each in shop.published if each["type"] == "subscription.changed"]
    assert late
    assert {each["customer_email"] for each in late[-1:]} == {None}
    told = done("replay", order_id, "--dry-run")
    assert (told["bodies"], told["redacted"] > 0) == (0, True)


def test_a_refund_after_the_erasure(shop: World, stack: Stack) -> None:
    """Is told and counts; the relay takes its body out again, also where it came without its order's number."""
    order_id, payment = buy(shop)
    other_id, other = buy(shop)
    done(*ERASE)
    shop.account.refund(payment, None, "wrong size")
    shop.deliver()
    body = signed(
        {"event": "order.refunded", "order": {"id": other}, "refund": {"id": "r1", "amount": 1, "status": "succeeded"}}
    )
    hear(shop, body, "order.refunded")
    shop.flow()
    shop.later(hours=1)
    assert (shop.status(order_id), shop.status(other_id)) == ("refunded", "partially_refunded")
    assert {"order.refunded", "order.partially_refunded"} <= {*shop.types(order_id), *shop.types(other_id)}
    assert where(shop) == []


def test_what_the_person_buys_later_is_new(shop: World, stack: Stack) -> None:
    """An order after the erasure has its address, and can be erased, too."""
    buy(shop)
    done(*ERASE)
    order_id, _ = buy(shop)
    assert f"order#{order_id}" in where(shop)
    assert done(*ERASE)["erased"]["orders"] == 1
    assert where(shop) == []


def test_a_record_that_is_published_after_the_erasure(shop: World, stack: Stack) -> None:
    """Tells all that it would have told, and writes no address."""
    _, session = shop.checkout("membership", customerEmail=ADDRESS, metadata={"cart": "7"})
    shop.pay(session)
    shop.deliver()
    keep_unpublished(shop, "put-aside/1.json")
    done(*ERASE)
    before = len(shop.published)
    answer = relay.handler({"Records": unpublished(shop, "put-aside/1.json")}, Context(shop.clock, 30))
    assert answer == {"batchItemFailures": []}
    shop.flow()
    assert {"order.paid", "subscription.started"} <= {each["type"] for each in shop.published[before:]}
    assert {each["customer_email"] for each in shop.published[before:] if "customer_email" in each} == {None}
    assert where(shop) == []


def test_a_relay_that_is_late(shop: World, stack: Stack) -> None:
    """What it reads of the stream is older than the erasure: the subscription that it makes has no address, and the
    refund that it copies no body."""
    order_id, session = shop.checkout("membership", customerEmail=ADDRESS, metadata={"cart": "7"})
    subscription = shop.pay(session)
    other_id, other = shop.checkout(customerEmail=ADDRESS)[0], "late"
    hear(shop, signed(paid(other_id, other)), "order.completed")
    refund = {"order": {"id": other}, "refund": {"id": "r1", "amount": 1, "status": "succeeded"}}
    hear(shop, signed({"event": "order.refunded", **refund}), "order.refunded")
    shop.deliver()
    records = shop.read_stream()
    done(*ERASE)
    assert shop.relay(records) == []
    shop.flow()
    assert where(shop) == []
    found = table.plain(shop.stack.items()[f"subscription#{subscription}"])
    assert (found["order_id"], found["state"], found["customer_email"]) == (order_id, "active", None)
    assert {"subscription.started", "order.paid"} <= {*shop.types()}
    assert (shop.status(order_id), shop.status(other_id)) == ("paid", "partially_refunded")


def test_leaving_an_address_away_is_one_request(shop: World, stack: Stack, wire: list[str]) -> None:
    """As writing it is."""
    _, subscription = buy(shop, "membership")
    change = SubscriptionChanged(
        subscription, "past_due", None, "65a1b2c3d4e5f6a7b8c9d0e2", False, None, None, None, ADDRESS
    )
    for is_erased in (False, True):
        wire.clear()
        recorded = subscriptions.record(change, shop.clock.now, "api")
        assert (wire, recorded.is_erased) == (["dynamodb UpdateItem"], is_erased)
        done(*ERASE)
    assert where(shop) == []


def test_a_parked_payment_is_not_lost(shop: World, stack: Stack) -> None:
    """It is a payment that the ledger does not have yet: what is left of it settles its order. Others' messages are as
    they were, and can be received at once."""
    mine, _ = shop.checkout(customerEmail=ADDRESS)
    other, _ = shop.checkout(customerEmail="bob@example.com")
    bobs = signed(paid(other, "bobs"), "bob@example.com")
    park(shop, signed(paid(mine, "mine")))
    park(shop, bobs)
    assert done(*ERASE)["erased"][erase.QUEUES] == 1
    left = parked(shop.stack.parking_url)
    assert bobs in left
    assert len(left) == 2
    [copy] = [json.loads(body) for body in left if body != bobs]
    assert (copy["amount"], copy["metadata"]) == (64.99, {"external_order_id": mine})
    received = shop.stack.sqs.receive_message(
        QueueUrl=shop.stack.parking_url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    assert len(received["Messages"]) == 2
    assert shop.stack.unpark(webhook.handler, Context(shop.clock, 30)) == []
    assert [shop.status(each) for each in (mine, other)] == ["paid", "paid"]
    assert table.plain(shop.stack.order(other))["pay#bobs"]["customer_email"] == "bob@example.com"
    assert "order#" + mine not in where(shop)


def test_a_message_whose_end_fails(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is there before the message goes. Twice the same is the same, and the next run finds the other one."""
    order_id, _ = shop.checkout(customerEmail=ADDRESS)
    park(shop, signed(paid(order_id, "mine")))
    with monkeypatch.context() as patch:
        fails(patch, "DeleteMessage", answer("InternalError", 500))
        assert run(*ERASE).exit_code == 75
    assert len(parked(shop.stack.parking_url)) == 2
    done(*ERASE)
    assert not ANN.is_named(parked(shop.stack.parking_url))
    shop.stack.unpark(webhook.handler, Context(shop.clock, 30))
    shop.flow()
    assert shop.types(order_id) == ["order.paid"]


def test_a_message_that_is_being_tried(shop: World, stack: Stack) -> None:
    """Nobody can look at it now: exit code 75, and what to do."""
    park(shop, signed(paid(None)))
    shop.stack.sqs.receive_message(QueueUrl=shop.stack.parking_url, VisibilityTimeout=60)
    result = run(*ERASE)
    assert result.exit_code == 75
    assert result.stderr.splitlines()[-1].endswith("erase again in five minutes")


def test_what_cannot_be_erased_is_told(shop: World, stack: Stack) -> None:
    """A message and an object of nobody's form, and a payment whose very number is the address: they stay as they are,
    and a person must look, exit code 1."""
    shop.stack.sqs.send_message(QueueUrl=TOO_LONG, MessageBody=f"from {ADDRESS}")
    shop.stack.sqs.send_message(QueueUrl=TOO_LONG, MessageBody="somebody else's")
    park(shop, signed(paid(None, ADDRESS)))
    shop.stack.s3.put_object(Bucket=shop.stack.bucket, Key="notes", Body=ADDRESS.encode())
    shop.stack.s3.put_object(Bucket=shop.stack.bucket, Key="other", Body=b"{}")
    result = run(*ERASE)
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    for part in ("no webhook has parked", "would say something else", "notes in the bucket"):
        assert part in line
    assert ADDRESS.lower() not in result.stderr.lower()


def test_a_fact_that_comes_meanwhile(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at an order and the write another payment arrives: it is not lost, and is redacted as well."""
    order_id, _ = buy(shop)
    redact, heard = erase._redact, []

    def hears_before(*arguments: Any) -> bool:
        if not heard:
            heard.append(hear(shop, signed(paid(order_id, "second", "65a1b2c3d4e5f6a7b8c9d0e1")), "order.completed"))
        return redact(*arguments)

    monkeypatch.setattr(erase, "_redact", hears_before)
    assert run(*ERASE).exit_code == 0  # the webhook's own figures are on its output, too
    assert heard == ["second_payment"]
    assert where(shop) == []
    found = table.plain(shop.stack.order(order_id))
    assert found["pay#second"]["amount"] == "64.99"
    shop.flow()
    assert "payment.second" in shop.types(order_id)


def test_a_run_that_is_cut_off(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any write to the ledger: the next run does the rest."""
    for sku in ("course", "membership"):
        buy(shop, sku)
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    for writes in range(3):
        left = [writes]

        def dying(self: Any, name: str, arguments: Any, left: list[int] = left) -> Any:
            if name == "UpdateItem" and not left[0]:
                raise answer("InternalServerError", 500)
            left[0] -= name == "UpdateItem"
            return call(self, name, arguments)

        with monkeypatch.context() as patch:
            patch.setattr(botocore.client.BaseClient, "_make_api_call", dying)
            assert run(*ERASE).exit_code == 75
    done(*ERASE)
    assert where(shop) == []


def test_the_audit_knows_that_and_not_whom(shop: World, stack: Stack) -> None:
    """A receipt, a reason and how much; nothing that a guess of the address could be tested by."""
    buy(shop)
    receipt = done(*ERASE)["receipt"]
    [entry] = [
        entry
        for pk, item in shop.stack.items().items()
        if pk.startswith("audit#")
        for entry in table.plain(item)["entries"]
    ]
    assert (entry["action"], entry["reason"], entry["receipt"]) == ("erase", "request of the person", receipt)
    assert entry["orders"] == "1"
    assert entry.keys() == {"at", "who", "action", "reason", "receipt", "orders"}
    assert done(*ERASE)["receipt"] is None


def test_a_person_is_asked(shop: World, stack: Stack) -> None:
    """After what was found was shown. Nothing happens without a y; where nobody can be asked it takes --yes."""
    buy(shop)
    before = shop.stack.items()
    refused = run(*ERASE[:-1], answering="n\n")
    assert refused.exit_code == 1
    assert "orders" in refused.stdout
    assert refused.stderr.splitlines()[-1] == "pf: nothing was erased"
    assert run(*ERASE[:-1]).exit_code == 2
    assert shop.stack.items() == before
    agreed = run(*ERASE[:-1], answering="y\n")
    assert agreed.exit_code == 0
    assert all(limit in agreed.stderr for limit in erase.LIMITS)
    assert ADDRESS.lower() not in (agreed.stdout + agreed.stderr).lower()
    assert where(shop) == []


def test_a_command_that_is_wrong(shop: World, stack: Stack) -> None:
    """Exit code 2, and nothing is written: no address, two, one that is none, a reason that has it."""
    before = shop.stack.items()
    wrong = [("--email", address) for address in ("ann", "ann@", "a@b@c", "a b@c", "a" * 251 + "@b.c")]
    for words in [*wrong, ("--email", ADDRESS, "--reason", f"asked by {ADDRESS}"), ()]:
        assert run("erase", "--yes", *words).exit_code == 2, words
    assert shop.stack.items() == before


def test_the_subjects_are_all_that_can_name_a_person(shop: World) -> None:
    """Every kind of item that the code writes is looked at, or has nothing of a person in it."""
    looked_at = {name.removesuffix("#") for name in privacy.SUBJECTS}
    assert looked_at == erase.KINDS.keys()
    nobodys = {"reconcile", "reference", "idem", "limit", "server", "retention", "webhook"}
    buy(shop)
    assert {pk.partition("#")[0] for pk in shop.stack.items()} <= looked_at | nobodys


def test_a_payment_that_our_own_defect_kept_out_is_not_lost(
    shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the ledger has of it is its body: what is left of that settles the order when it is replayed."""
    order_id, _ = shop.checkout(customerEmail=ADDRESS)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_, **__: {}["defect"])
        assert hear(shop, signed(paid(order_id, "mine")), "order.completed") == "recorded"
    done(*ERASE)
    assert where(shop) == []
    assert "Person" not in repr(shop.stack.items())
    assert done("replay", order_id, "--dry-run")["bodies"] == 1
    [left] = [item["body"]["B"] for pk, item in shop.stack.items().items() if pk.startswith("raw#")]
    assert hear(shop, left, "order.completed") == "settled"
    assert done(*ERASE)["erased"] == {}


def test_a_closed_case_that_names_the_person(shop: World, stack: Stack) -> None:
    """The words go, and the case stays closed: it can be looked at and opened again."""
    _, payment = buy(shop)
    done("resolve", payment, "--reason", f"paid back to {ADDRESS} by bank")
    done(*ERASE)
    assert where(shop) == []
    shown = done("resolve", payment, "--reason", "once more")["resolved"]
    assert shown["why"] == "paid back to (erased) by bank"
    assert shown["who"]
    assert not [pk for pk in shop.stack.items() if pk.endswith("#None")]


def test_a_subscription_whose_reference_is_the_address(shop: World, stack: Stack) -> None:
    """No later state of it, and no payment, brings that back."""
    order_id, subscription = buy(shop, "membership")
    states = ("active", "past_due", "active")
    for status in states:
        body = signed({**subscribed(order_id, subscription, status=status), "clientReferenceId": ADDRESS})
        hear(shop, body, "customer.subscription.updated")
        shop.flow()
        done(*ERASE)
        assert where(shop) == []
    body = signed({**subscribed(order_id, subscription, status="past_due"), "clientReferenceId": ADDRESS})
    hear(shop, body, "customer.subscription.updated")
    shop.flow()
    assert where(shop) == []


def test_who_acted_stays_in_the_audit(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is somebody who has bought here: nobody takes themselves out of what they did."""
    who = f"arn:aws:sts::123456789012:assumed-role/Admin/{ADDRESS.lower()}"
    monkeypatch.setattr(Stack, "who", lambda _: who)
    buy(shop)
    audit.write(stack, "refund", f"for ?email={ADDRESS.replace('@', '%40')}", shop.clock.now)
    receipt = done(*ERASE)["receipt"]
    entries = [
        entry
        for pk, item in shop.stack.items().items()
        if pk.startswith("audit#")
        for entry in table.plain(item)["entries"]
    ]
    assert {entry["who"] for entry in entries} == {who}
    assert [entry["receipt"] for entry in entries if entry["action"] == "erase"] == [receipt]
    assert not ANN.is_named([entry["reason"] for entry in entries])


def test_an_item_that_is_not_understood(shop: World, stack: Stack) -> None:
    """That somebody wrote by hand: all others are erased, and where it names the person, a person must look."""
    buy(shop)
    for pk, named in (("order#odd", ADDRESS), ("order#nobody", "x")):
        item = {"pk": pk, "metadata": named, "customer_email": ADDRESS if named == ADDRESS else "x"}
        shop.stack.dynamodb.put_item(TableName=stack.table, Item=table.values(item))
    result = run(*ERASE)
    assert result.exit_code == 1
    assert "order#odd" in result.stderr.splitlines()[-1]
    assert "order#nobody" not in result.stderr
    assert where(shop) == ["order#odd"]


def test_a_queue_that_takes_too_long(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at first is shown again before all was: nobody knows whether the person is in the rest."""
    for number in range(3):
        park(shop, signed(paid(None, f"bobs{number}"), "bob@example.com"))
    monkeypatch.setattr(erase, "HIDDEN_SECONDS", 0)
    monkeypatch.setattr(erase, "_ROUND", 1)
    result = run(*ERASE)
    assert (result.exit_code, "erase again" in result.stderr) == (75, True)


def test_a_late_relay_and_what_the_server_said(shop: World, stack: Stack) -> None:
    """Of the address, too: the subscription that the relay makes of an older order has none of it."""
    order_id, session = shop.checkout("membership", customerEmail=ADDRESS)
    shop.stack.dynamodb.update_item(
        TableName=stack.table,
        Key=table.key(f"order#{order_id}"),
        UpdateExpression="SET metadata = :said",
        ExpressionAttributeValues={":said": table.value({"mail": ADDRESS, "member": "7"})},
    )
    shop.pay(session)
    shop.deliver()
    records = shop.read_stream()
    done(*ERASE)
    assert shop.relay(records) == []
    shop.flow()
    assert where(shop) == []
