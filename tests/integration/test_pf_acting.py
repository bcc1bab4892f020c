"""`pf replay`, `redrive`, `reconcile` and `resolve`: a person acts on a stack, and each way in which it is not done."""

import contextlib
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import NoCredentialsError, ReadTimeoutError

import webhook
from ops import audit, items, queues
from ops.stack import Stack
from payments import outbox
from payments.table import timestamp
from tests.integration.outages import Outages
from tests.lambdas import Lambdas
from tests.payloads import delivery, paid, refunded
from tests.pf import answer, deployed, done, failed, fails, run
from tests.world import URL, Context, World


@pytest.fixture
def stack(shop: World) -> Stack:
    return deployed(PocketsflowUrl=URL)


@pytest.fixture
def lambdas(shop: World, monkeypatch: pytest.MonkeyPatch) -> Lambdas:
    return Lambdas(shop, monkeypatch)


@pytest.fixture
def webhooks(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue Parking invokes the webhook function whenever somebody waits for it."""

    def sleep(_seconds: float) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            shop.stack.unpark(webhook.handler, Context(shop.clock, 20))
            shop.flow()

    monkeypatch.setattr(queues.time, "sleep", sleep)


def audited(shop: World) -> list[dict[str, Any]]:
    """Entries of all days."""
    found = [item for pk, item in shop.stack.items().items() if pk.startswith("audit#2")]
    return [{name: text["S"] for name, text in each["M"].items()} for item in found for each in item["entries"]["L"]]


def remove(shop: World, pk: str, name: str) -> None:
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": pk}},
        UpdateExpression="REMOVE #name", ExpressionAttributeNames={"#name": name},
    )  # fmt: skip


def receive(shop: World, content: Any, name: str = "order.completed") -> str:
    answered = webhook.handler(delivery(content, name), Context(shop.clock, 9))
    return str(json.loads(answered["body"])["outcome"])


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_lost_fact_comes_back(shop: World, stack: Stack, webhooks: None) -> None:
    """A body that lies beside the order brings back the fact that somebody deleted, with what has changed by it."""
    order_id, _ = shop.checkout()
    body = paid(order_id, product="65a1b2c3d4e5f6a7b8c9d0e1", note="x" * 3_000)
    assert receive(shop, body) == "settled"
    shop.flow()
    remove(shop, f"order#{order_id}", "pay#sale1")
    remove(shop, f"order#{order_id}", "payments")
    told = done("replay", order_id, "--reason", "somebody deleted it")
    assert told == {
        "bodies": 1, "redacted": 0, "states": 0, "waiting": 0,
        "changed": {order_id: {"from": "pending", "to": "paid"}},
    }  # fmt: skip
    assert shop.status(order_id) == "paid"
    [entry] = audit.of(stack, order_id)
    assert (entry["action"], entry["reason"], entry["bodies"]) == ("replay", "somebody deleted it", "1")


def test_what_is_there_changes_nothing(shop: World, stack: Stack, webhooks: None) -> None:
    """Facts of an order, of its payments, and what waits beside it: each a redelivery, and no event."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.account.refund(payment_id, None, "sorry")
    shop.deliver()
    receive(shop, {"event": "review.created", "order": {"id": payment_id}}, "review.created")
    receive(shop, {"order": {"id": payment_id}}, "order.refunded")  # a claim, under a name that nobody signed
    shop.flow()
    before, events = shop.stack.order(order_id), shop.types()
    told = done("replay", order_id)
    assert (told["bodies"], told["changed"], told["waiting"]) == (4, {}, 0)
    assert (shop.stack.order(order_id), shop.types()) == (before, events)
    assert run("replay", order_id).stderr.endswith("Nothing has changed.\n")


def test_all_since_a_time(shop: World, stack: Stack, webhooks: None) -> None:
    """What came before is not sent; each body goes once, under the name that it came by."""
    shop.buy()
    shop.deliver()
    shop.clock.passes(hours=2)
    since = timestamp(shop.clock.now)
    shop.buy()
    [sent] = [delivery.body for delivery in shop.undelivered]
    shop.deliver()
    shop.flow()
    told = done("replay", "--since", since, "--dry-run")
    assert told == {"bodies": 1, "redacted": 0, "states": 0}
    assert not audited(shop)
    parked: list[str] = []
    put_all = queues.Queue.put_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queues.Queue, "put_all", lambda *them: parked.extend(them[1]) or put_all(*them))
        done("replay", "--since", since)
    [message] = map(json.loads, parked)
    assert queues.unparked({"Body": json.dumps(message)}) == (sent, "order.completed")
    assert message.keys() == {"body", "event", "sent_at"}
    assert [entry["since"][:16] for entry in audited(shop)] == [since[:16]]


def test_a_parked_body_is_in_the_webhook_s_own_words(shop: World, outages: Outages, stack: Stack) -> None:
    """What `pf` sends is what the function parks, to the letter."""
    outages.fates["dynamodb"] = lambda tried: tried.answer(500, {})
    body = json.dumps(paid(None)).encode()
    webhook._park(body, "order.completed", "1795463363515")
    [message] = shop.stack.parked_messages()
    assert message["body"] == queues.parked(body, "order.completed", "1795463363515")


def test_what_is_redacted_or_overwritten_is_left_out(shop: World, stack: Stack, webhooks: None) -> None:
    """A fact without its body, a body without its text, and what a subscription was once: counted, and not sent."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.buy("membership")
    shop.deliver()
    receive(shop, {"event": "review.created", "stars": 1}, "review.created")
    [subscription] = shop.account.subscriptions
    shop.account.advance(subscription, "pause")
    shop.deliver()
    shop.flow()
    remove_raw = {"UpdateExpression": "REMOVE #fact.#raw SET #fact.redacted_at = :now",
                  "ExpressionAttributeNames": {"#fact": f"pay#{payment_id}", "#raw": "raw"},
                  "ExpressionAttributeValues": {":now": {"S": "2026-11-23T12:00:00.000Z"}}}  # fmt: skip
    shop.stack.dynamodb.update_item(TableName=shop.stack.table, Key={"pk": {"S": f"order#{order_id}"}}, **remove_raw)
    review = json.dumps({"event": "review.created", "stars": 1}).encode()
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": f"raw#{hashlib.sha256(review).hexdigest()}"}},
        UpdateExpression="SET body = :nothing", ExpressionAttributeValues={":nothing": {"B": b""}},
    )  # fmt: skip
    told = done("replay", "--since", "2026-11-01", "--dry-run")
    assert told == {"bodies": 1, "redacted": 2, "states": 1}
    words = ("replay", "--since", "2026-11-01")
    assert "left out: 2 redacted, 1 of a subscription's state" in run(*words, "--dry-run").stderr
    before = shop.stack.items()[f"subscription#{subscription}"]["state"]
    done("replay", "--since", "2026-11-01")
    assert shop.stack.items()[f"subscription#{subscription}"]["state"] == before == {"S": "paused"}


def test_a_replay_that_is_not_settled_in_time(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says how many wait, and for how long; nobody knows yet."""
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    result = run("replay", order_id, "--for", "0")
    assert result.exit_code == 75
    assert "1 bodies still wait in the queue Parking, and are tried for a day" in result.stderr


def test_a_queue_that_takes_no_more(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many were sent is said; without the audit none is."""
    for _ in range(3):
        shop.buy()
    shop.deliver()
    shop.flow()
    with monkeypatch.context() as patch:
        fails(patch, "TransactWriteItems", answer("AccessDeniedException"))
        assert run("replay", "--since", "2026-11-01").exit_code == 1
        assert shop.stack.parked() == []
    monkeypatch.setattr("payments.batches.MOST", 2)
    call, calls = botocore.client.BaseClient._make_api_call, []  # type: ignore[attr-defined]

    def calling(self: Any, name: str, arguments: Any) -> Any:
        calls.extend([name] if name == "SendMessageBatch" else [])
        if len(calls) == 2:
            raise answer("AccessDenied")
        return call(self, name, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
    result = run("replay", "--since", "2026-11-01")
    assert result.exit_code == 75
    assert "2 of 3 were sent, then SQS took no more; run this again: none counts twice" in result.stderr


def test_replay_wants_one_thing(shop: World, stack: Stack) -> None:
    """An order or a time, and one that is there."""
    assert run("replay").exit_code == 2
    assert run("replay", "ord_x", "--since", "1h").exit_code == 2
    assert failed("replay", "ord_test_none") == (1, "there is no order ord_test_none")


# --- redrive ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three webhooks in ParkedTooLong, of two orders; SQS moves nothing by itself, as in the sandbox."""
    monkeypatch.setattr(Stack, "is_sandbox", property(lambda _: True))
    [first, second] = [shop.checkout()[0] for _ in range(2)]
    product = "65a1b2c3d4e5f6a7b8c9d0e1"
    put_dead(shop, queues.parked(json.dumps(paid(first, product=product)).encode(), "order.completed", ""))
    put_dead(shop, queues.parked(json.dumps(paid(second, "sale2", product)).encode(), "order.completed", ""))
    put_dead(shop, queues.parked(json.dumps(refunded(first)).encode(), "order.refunded", ""))
    return [first, second]


def dead_url(shop: World) -> str:
    return str(shop.stack.sqs.get_queue_url(QueueName="sandbox-ParkedTooLong")["QueueUrl"])


def put_dead(shop: World, body: str) -> None:
    shop.stack.sqs.send_message(QueueUrl=dead_url(shop), MessageBody=body)


def visible(shop: World) -> int:
    """Messages that anybody can have now."""
    told = shop.stack.sqs.get_queue_attributes(QueueUrl=dead_url(shop), AttributeNames=["ApproximateNumberOfMessages"])
    return int(told["Attributes"]["ApproximateNumberOfMessages"])


def test_what_lies_there_is_said_without_a_body(shop: World, stack: Stack, dead: list[str]) -> None:
    """By event and order, with the age; nothing of the buyer, and all can be had by others at once. No changes
    nothing."""
    put_dead(shop, "not ours")
    result = run("redrive", "ParkedTooLong", answering="n\n")
    assert (result.exit_code, "nothing was moved" in result.stderr) == (1, True)
    assert "4 webhooks" in result.stdout
    for word in (*dead, "order.completed", "order.refunded", datetime.now(UTC).isoformat()[:10]):
        assert word in result.stdout
    assert "buyer@" not in result.output
    assert "sale1" not in result.output
    assert visible(shop) == 4
    assert not audited(shop)


def test_they_are_settled(shop: World, stack: Stack, dead: list[str], webhooks: None) -> None:
    """All of them, by hand where SQS has no task for it."""
    told = done("redrive", "parkedtoolong", "--yes", "--reason", "ledger is back")
    assert (told["depth"], told["moved"], told["waiting"]) == (3, 3, 0)
    assert [each["order_id"] for each in told["messages"]].count(dead[0]) == 2
    assert [shop.status(order_id) for order_id in dead] == ["refunded", "paid"]
    assert visible(shop) == 0
    assert [(entry["action"], entry["reason"], entry["depth"]) for entry in audited(shop)] == [
        ("redrive", "ledger is back", "3")
    ]
    assert done("redrive", "ParkedTooLong")["depth"] == 0
    assert "is empty" in run("redrive", "ParkedTooLong").stderr


def test_no_more_than_the_limit(shop: World, stack: Stack, dead: list[str], webhooks: None) -> None:
    """The others stay."""
    assert done("redrive", "ParkedTooLong", "--limit", "1", "--yes")["moved"] == 1
    assert visible(shop) == 2


def test_more_than_are_looked_at(
    shop: World, stack: Stack, dead: list[str], webhooks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is said; all are moved."""
    monkeypatch.setattr("ops.redrive.MOST_LOOKED_AT", 2)
    result = run("redrive", "ParkedTooLong", "--yes")
    assert "1 more were not looked at" in result.stderr
    assert "3 webhooks were moved, and settled." in result.stderr


def test_a_copy_is_sent_before_the_other_is_deleted(
    shop: World, stack: Stack, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a deletion fails the webhook is there twice, and never not at all."""
    fails(monkeypatch, "DeleteMessage", answer("InternalFailure", 500))
    assert run("redrive", "ParkedTooLong", "--yes").exit_code == 75
    assert len(shop.stack.parked()) == 1
    from tests.conftest import _queue

    assert len(_queue(dead_url(shop))._messages) == 3


def test_sqs_moves_them_where_it_can(
    shop: World, stack: Stack, dead: list[str], monkeypatch: pytest.MonkeyPatch, webhooks: None
) -> None:
    """By its own task, which is followed to its end, though the list of tasks is late and has an earlier one first; one
    that fails is said."""
    monkeypatch.setattr(Stack, "is_sandbox", property(lambda _: False))
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    old = {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 70, "StartedTimestamp": 1}
    running = {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 1, "StartedTimestamp": 2}
    told = [[old], [old], [running], [{**running, "Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 3}]]
    started: list[Any] = []

    def calling(self: Any, name: str, arguments: Any) -> Any:
        if name == "StartMessageMoveTask":
            started.append(arguments)
            return {"TaskHandle": "x"}
        if name == "ListMessageMoveTasks":
            return {"Results": told.pop(0) if len(told) > 1 else told[0]}
        return call(self, name, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
    assert done("redrive", "ParkedTooLong", "--yes")["moved"] == 3
    assert started == [{"SourceArn": stack.outputs["ParkedTooLongArn"]}]
    told[:] = [[], [], [{**running, "Status": "FAILED"}]]
    result = run("redrive", "ParkedTooLong", "--yes")
    assert (result.exit_code, "ended as failed after 1 webhooks" in result.stderr) == (1, True)
    told[:] = [[old]]
    result = run("redrive", "ParkedTooLong", "--yes")
    assert (result.exit_code, "does not tell how far it is" in result.stderr) == (75, True)


def test_somebody_moves_them_already(
    shop: World, stack: Stack, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody else does."""
    monkeypatch.setattr(Stack, "is_sandbox", property(lambda _: False))
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    monkeypatch.setattr(
        botocore.client.BaseClient,
        "_make_api_call",
        lambda *about: {"Results": []} if about[1] == "ListMessageMoveTasks" else call(*about),
    )
    fails(monkeypatch, "StartMessageMoveTask", answer("AWS.SimpleQueueService.UnsupportedOperation"))
    result = run("redrive", "ParkedTooLong", "--yes")
    assert (result.exit_code, "if somebody has them moved already" in result.stderr) == (75, True)
    assert shop.stack.parked() == []


def test_redrive_is_asked_for_by_the_queue_s_name(shop: World, stack: Stack, dead: list[str]) -> None:
    """Another queue is none of dead letters; without a terminal it wants --yes."""
    assert run("redrive", "Parking").exit_code == 2
    assert run("redrive", "ParkedTooLong").exit_code == 2
    assert visible(shop) == 3


# --- reconcile --------------------------------------------------------------------------------------------------------


def test_what_a_webhook_missed_is_found_now(shop: World, stack: Stack, lambdas: Lambdas) -> None:
    """By the walk of every day, in one run; the audit has it."""
    order_id, _ = shop.buy_unheard()
    told = done("reconcile", "--reason", "a bad night")
    assert (told["outcome"], told["found"]["settled"], told["unfinished"], told["runs"]) == ("done", 1, [], 1)
    assert shop.status(order_id) == "paid"
    assert lambdas.invoked == [("ReconcileFunction", {"walk": "days"})]
    assert [(each["action"], each["reason"], each["walk"]) for each in audited(shop)] == [
        ("reconcile", "a bad night", "days")
    ]
    shown = run("reconcile")
    assert "known" in shown.stdout
    assert "requests to Pocketsflow in 1 run." in shown.stderr


def test_a_dry_run_writes_nothing(shop: World, stack: Stack, lambdas: Lambdas) -> None:
    """Neither to the ledger nor to the audit."""
    shop.buy_unheard()
    before = shop.stack.items()
    told = done("reconcile", "--dry-run", "--since", timestamp(shop.clock.now))
    assert (told["found"], told["dry_run"]) == ({"would_settle": 1}, True)
    assert shop.stack.items() == before


@pytest.fixture
def today(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's time is the world's."""
    monkeypatch.setattr("ops.reconcile.datetime", shop.clock.datetime)


def test_from_a_moment_on_in_as_many_runs_as_it_takes(shop: World, stack: Stack, lambdas: Lambdas, today: None) -> None:
    """The first begins, the others go on, and what all of them found is one sum; a run of the schedule in between is
    waited for."""
    found: list[Any] = [
        {"outcome": "done", "found": {"settled": 2}, "requests": 90, "unfinished": ["orders.since"], "dry_run": False},
        {"outcome": "already_running"},
        {"outcome": "done", "found": {"settled": 1}, "requests": 5, "unfinished": ["orders.history"], "dry_run": False},
    ]
    lambdas.answers["ReconcileFunction"] = lambda _: found.pop(0)
    waited: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ops.reconcile.time.sleep", waited.append)
        told = done("reconcile", "--since", "2026-11-20T10:00:00Z")
    assert (told["found"], told["requests"], told["runs"]) == ({"settled": 3}, 95, 2)
    assert len(waited) == 1
    assert [event for _, event in lambdas.invoked] == [
        {"walk": "since", "since": "2026-11-20T10:00:00+00:00"}, {"walk": "since"}, {"walk": "since"},
    ]  # fmt: skip


def test_what_was_found_is_told_though_a_later_run_fails(
    shop: World, stack: Stack, lambdas: Lambdas, today: None
) -> None:
    """As JSON, with the reason beside it: 75, and the schedule goes on."""
    first = {
        "outcome": "done",
        "found": {"settled": 2},
        "requests": 9,
        "unfinished": ["orders.since"],
        "dry_run": False,
    }

    def answering(_event: Any) -> Any:
        if len(lambdas.invoked) > 1:
            raise answer("ExpiredTokenException", 403)
        return first

    lambdas.answers["ReconcileFunction"] = answering
    result = run("reconcile", "--since", "2026-11-20", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["outcome"], told["found"]) == (75, "partial", {"settled": 2})
    assert "AWS does not take these credentials" in result.stderr
    assert "goes on with orders.since" in result.stderr


def test_what_is_not_done_in_time_is_said(shop: World, stack: Stack, lambdas: Lambdas, today: None) -> None:
    """With what goes on by itself."""
    lambdas.answers["ReconcileFunction"] = lambda event: {
        "outcome": "done", "found": {}, "requests": 90, "unfinished": ["orders.since"], "dry_run": "dry_run" in event,
    }  # fmt: skip
    result = run("reconcile", "--since", "2026-11-20", "--for", "0")
    assert result.exit_code == 75
    assert "not done in time: the schedule's runs go on with orders.since" in result.stderr
    result = run("reconcile", "--since", "2026-11-20", "--dry-run")
    assert (result.exit_code, "a dry run looks for four minutes only" in result.stderr) == (75, True)


def test_a_run_that_does_not_happen(shop: World, stack: Stack, lambdas: Lambdas) -> None:
    """Each a sentence and an exit code, and no word of the function's own."""
    partial = {"outcome": "partial", "found": {"settled": 1}, "requests": 4, "unfinished": ["refunds.history"]}
    cases: list[tuple[Any, int, str]] = [
        ({"outcome": "already_running"}, 75, "reconciliation is at work at this moment"),
        ({"outcome": "no_api_key"}, 1, "the stack has no API key of mode test"),
        ({**partial, "dry_run": False}, 75, "what was found is settled, and the next run goes on with refunds.history"),
        (ValueError("buyer@example.com"), 1, "ReconcileFunction failed (ValueError); its log says where"),
        (ValueError("Task timed out after 240.00 seconds"), 75, "was ended before it was done"),
        (answer("TooManyRequestsException", 429), 75, "there is no free concurrency for ReconcileFunction"),
        (answer("AccessDeniedException"), 1, "these credentials may not do"),
        (answer("ResourceNotFoundException", 404), 1, "there is no function ReconcileFunction"),
        (ReadTimeoutError(endpoint_url="https://lambda"), 75, "see whether it was done before you try again"),
        (NoCredentialsError(), 1, "no AWS credentials"),
    ]
    for said, code, words in cases:

        def answering(_event: Any, said: Any = said) -> Any:
            if isinstance(said, Exception):
                raise said
            return said

        lambdas.answers["ReconcileFunction"] = answering
        result = run("reconcile")
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
        assert "buyer@" not in result.output


def test_a_moment_too_long_ago(shop: World, stack: Stack, lambdas: Lambdas) -> None:
    """Is wrong before anything is asked."""
    assert run("reconcile", "--since", "181d").exit_code == 2
    assert run("reconcile", "--since", "2999-01-01").exit_code == 2
    assert lambdas.invoked == []


# --- resolve ----------------------------------------------------------------------------------------------------------


def test_a_second_payment_is_dealt_with(shop: World, stack: Stack) -> None:
    """A note on the order, which is no fact: no status, no revision and no event comes of it. It can be taken back."""
    order_id, first = shop.buy()
    second = shop.pay(shop.stack.order(order_id)["session_id"]["S"])
    shop.deliver()
    shop.flow()
    assert failed("resolve", order_id, "--reason", "x") == (
        1, f"{order_id} has 2 payments, name one: {first} (settles it), {second} (second payment)",
    )  # fmt: skip
    before = items.get(stack, f"order#{order_id}")
    assert before is not None
    told = done("resolve", second, "--reason", "refunded in the dashboard")
    after = items.get(stack, f"order#{order_id}")
    assert after is not None
    assert told == {"payment": second, "item": f"order#{order_id}", "resolved": after[f"resolved#{second}"]}
    assert after[f"resolved#{second}"].keys() == {"at", "who", "why"}
    assert after[f"resolved#{second}"]["why"] == "refunded in the dashboard"
    assert after == {**before, f"resolved#{second}": after[f"resolved#{second}"]}
    assert outbox.events(before, after) == []
    assert outbox.events({}, after) == outbox.events({}, before)
    published = len(shop.published)
    shop.flow()
    assert len(shop.published) == published
    assert "is resolved since" in run("resolve", second, "--reason", "again").stderr
    assert len(audit.of(stack, order_id)) == 1
    done("resolve", second, "--undo", "--reason", "not yet")
    assert items.get(stack, f"order#{order_id}") == before
    assert [entry["action"] for entry in audit.of(stack, order_id)] == ["resolve", "unresolve"]
    assert "is open" in run("resolve", second, "--undo", "--reason", "x").stderr


def test_a_payment_of_no_order_is_dealt_with(shop: World, stack: Stack) -> None:
    """On its own item."""
    payment_id = shop.sell_elsewhere("65a1b2c3d4e5f6a7b8c9d0e1")
    shop.deliver()
    shop.clock.passes(minutes=30)
    shop.reconcile("hours")
    before = items.get(stack, f"sale#{payment_id}")
    assert before is not None
    assert before["verdict"]["kind"] == "unmatched"
    done("resolve", payment_id, "--reason", "a gift")
    after = items.get(stack, f"sale#{payment_id}")
    assert after is not None
    assert outbox.events(before, after) == []
    assert after[f"resolved#{payment_id}"]["why"] == "a gift"


def test_what_is_not_paid_is_nothing_to_resolve(shop: World, stack: Stack) -> None:
    """Nor what is not there; without a reason the command is wrong."""
    order_id, _ = shop.checkout()
    assert failed("resolve", order_id, "--reason", "x") == (1, f"nobody has paid {order_id}")
    assert failed("resolve", "nothing", "--reason", "x") == (1, "there is no order and no payment nothing")
    assert run("resolve", order_id).exit_code == 2
    assert not audited(shop)


def test_an_order_by_the_shop_s_own_number(shop: World, stack: Stack) -> None:
    """Is found as by its id."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.stack.dynamodb.put_item(
        TableName=shop.stack.table, Item={"pk": {"S": "reference#4711"}, "order_id": {"S": order_id}}
    )
    assert done("resolve", "4711", "--reason", "x")["payment"] == payment_id


def test_a_payment_that_goes_away_meanwhile(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No note is left on an item without it, and none that fails has been written."""
    order_id, payment_id = shop.buy()
    shop.deliver()
    shop.flow()
    write = audit.write

    def writing(*about: Any, **more: Any) -> None:
        write(*about, **more)
        remove(shop, f"order#{order_id}", f"pay#{payment_id}")

    monkeypatch.setattr(audit, "write", writing)
    code, line = failed("resolve", payment_id, "--reason", "x")
    assert (code, "is not in" in line) == (1, True)
    assert f"resolved#{payment_id}" not in shop.stack.order(order_id)


def test_another_stack_than_was_meant(shop: World, stack: Stack, lambdas: Lambdas) -> None:
    """The safeguard for scripts holds for all of them."""
    for words in (["reconcile"], ["replay", "--since", "1h"], ["redrive", "ParkedTooLong"]):
        code, line = failed("--stack", "pocketsflow", "--stage", "prod", *words)
        assert (code, line) == (1, "the stage is test, not prod")
    assert lambdas.invoked == []
