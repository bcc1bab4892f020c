"""Parking: a verified body that the ledger does not take waits in a queue, whole, until it does."""

import base64
import json
from typing import Any

import pytest

import webhook
from payments import aws
from sandbox import aws as sandbox_aws
from tests.conftest import holds, template
from tests.integration.outages import OUTAGES, Fate, Outages, Told, Try, failing, silent, throttled, unheard
from tests.payloads import answered, delivery, http_event, paid, sign
from tests.world import PRODUCTS, Context, World

COURSE = PRODUCTS["course"]["productId"]
PROPERTIES = dict(template().resources("AWS::SQS::Queue"))["Parking"]


class Queue:
    """A queue of the stack, and what Lambda does with it."""

    def __init__(self, name: str = "Parking") -> None:
        self._sqs = sandbox_aws.client("sqs", None)
        self._url = self._sqs.get_queue_url(QueueName=f"sandbox-{name}")["QueueUrl"]

    def receive(self) -> list[dict[str, Any]]:
        """Messages as Lambda hands them over (docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""
        asked = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        return [
            {"messageId": each["MessageId"], "receiptHandle": each["ReceiptHandle"], "body": each["Body"]}
            for each in asked.get("Messages", [])
        ]

    def done(self, message: dict[str, Any]) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["receiptHandle"])

    def come_back(self, message: dict[str, Any]) -> None:
        """As if its five minutes were over."""
        self._sqs.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=message["receiptHandle"], VisibilityTimeout=0
        )

    def put(self, message: dict[str, Any]) -> None:
        self._sqs.send_message(QueueUrl=self._url, MessageBody=message["body"])

    def __len__(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def unpark(shop: World, queue: Queue) -> list[str]:
    """One batch: what is done is deleted, what failed comes back. Bodies of the messages that failed."""
    messages = queue.receive()
    answer = webhook.handler({"Records": messages}, Context(shop.clock, 4))
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    for message in messages:
        (queue.come_back if message["messageId"] in failed else queue.done)(message)
    return [message["body"] for message in messages if message["messageId"] in failed]


def post(shop: World, event: dict[str, Any]) -> tuple[int, str]:
    status, answer = answered(webhook.handler(event, Context(shop.clock, 4)))
    return status, answer.get("outcome") or answer["code"]


@pytest.fixture
def queue(shop: World) -> Queue:
    return Queue()


def test_what_is_parked_besides_is_told_once(shop: World, outages: Outages, queue: Queue) -> None:
    """The ledger took the body, twice, and was not heard; then it came out of the queue: one delivery, one event."""
    outages.fates["dynamodb"] = unheard
    event = delivery({"event": "review.created", "stars": 5}, "review.created")
    assert post(shop, event) == (200, "parked")
    outages.fates.clear()
    assert unpark(shop, queue) == []
    shop.flow()
    [kept] = [item for pk, item in shop.stack.items().items() if pk.startswith("raw#")]
    assert len(kept["arrivals"]["L"]) > 1
    assert shop.types() == ["webhook.other"]


def test_a_message_that_nobody_here_has_parked(shop: World, outages: Outages, told: Told, queue: Queue) -> None:
    """It fails alone, alarmed, and what lies beside it is written."""
    order_id, _ = shop.buy()
    outages.fates["dynamodb"] = failing
    assert shop.deliver() == ["parked"]
    outages.fates.clear()
    told.look()
    for body in ("hello", "[]", '{"body": 1, "event": "", "sent_at": ""}'):
        queue.put({"body": body})
    assert unpark(shop, queue) == ["hello", "[]", '{"body": 1, "event": "", "sent_at": ""}']
    assert told.alarms() == ["still_parked"] * 3
    assert shop.status(order_id) == "paid"


# --- Into the queue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", OUTAGES)
def test_what_the_ledger_does_not_take_is_parked(
    shop: World, outages: Outages, told: Told, queue: Queue, fate: Fate
) -> None:
    """Whatever the ledger's trouble is: bounded tries within two seconds, the very bytes in the queue, 200 in time, an
    alarm. Once the ledger is back the queue settles the order as the webhook would have."""
    order_id, payment_id = shop.buy()
    [waiting] = shop.undelivered
    outages.fates["dynamodb"] = fate
    started = shop.clock.monotonic()
    assert shop.deliver() == ["parked"]
    assert shop.clock.monotonic() - started < 4
    assert 1 <= len(outages.of("dynamodb")) <= 4
    [parking] = outages.of("sqs SendMessage")
    assert parking.at - started <= webhook.LEDGER_SECONDS
    assert told.alarms() == ["parked"]
    [message] = queue.receive()
    assert base64.b64decode(json.loads(message["body"])["body"]) == waiting.body
    queue.come_back(message)
    assert shop.status(order_id) in ("ledger_unavailable", "pending")
    outages.fates.clear()
    assert (unpark(shop, queue), len(queue)) == ([], 0)
    shop.flow()
    assert (shop.status(order_id), shop.types(order_id)) == ("paid", ["order.paid"])
    assert shop.stack.order(order_id)[f"pay#{payment_id}"]["M"]["source"] == {"S": "webhook"}


@pytest.mark.parametrize(
    "body",
    [b"", bytes(range(256)), b"\xff\xfe", b"{}", b"\x00" * webhook.MAX_BODY, b"\xe2\x82\xac" * (webhook.MAX_BODY // 3)],
    ids=["empty", "every byte", "not UTF-8", "an object", "256 KiB of zeroes", "256 KiB of euros"],
)
def test_any_signed_body_survives_the_queue(shop: World, outages: Outages, queue: Queue, body: bytes) -> None:
    """Byte by byte, up to the largest that is taken: a queue takes a message of this size, and it is found in the
    ledger afterwards."""
    outages.fates["dynamodb"] = failing
    assert post(shop, delivery(body)) == (200, "parked")
    [parking] = outages.of("sqs SendMessage")
    assert len(parking.content["MessageBody"].encode()) <= PROPERTIES["MaximumMessageSize"]
    outages.fates.clear()
    assert unpark(shop, queue) == []
    assert any(holds(item, body) for item in shop.stack.items().values())


def test_what_was_claimed_is_parked_too(shop: World, outages: Outages, queue: Queue) -> None:
    """The event's name and time travel in headers: from the queue they are what they were."""
    outages.fates["dynamodb"] = failing
    assert post(shop, delivery({"text": "of an event without a name"}, "review.created")) == (200, "parked")
    outages.fates.clear()
    assert unpark(shop, queue) == []
    shop.flow()
    [event] = shop.published
    assert event["webhook"]["event"] == "review.created"
    assert event["webhook"]["sent_at"] == "1795463363515"


def test_a_write_that_nobody_heard_of(shop: World, outages: Outages, told: Told, queue: Queue) -> None:
    """The body was written and is parked as well: one settlement, one event."""
    order_id, payment_id = shop.buy()
    outages.fates["dynamodb"] = unheard
    assert shop.deliver() == ["parked"]
    outages.fates.clear()
    shop.flow()
    assert shop.status(order_id) == "paid"
    before = shop.stack.order(order_id)
    shop.clock.passes(minutes=5)
    told.look()
    assert unpark(shop, queue) == []
    assert [line["message"] for line in told.look()[0]] == ["redelivered"]
    shop.flow()
    assert shop.stack.order(order_id) == before
    assert before["payments"]["L"] == [{"S": f"pay#{payment_id}"}]
    assert shop.types(order_id) == ["order.paid"]


# --- Out of the queue -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", OUTAGES)
def test_a_ledger_that_is_still_down(shop: World, outages: Outages, told: Told, queue: Queue, fate: Fate) -> None:
    """The message fails, is alarmed, stays, and is not parked a second time."""
    order_id, _ = shop.buy()
    outages.fates["dynamodb"] = fate
    shop.deliver()
    told.look()
    outages.tries.clear()
    for _ in range(3):
        assert len(unpark(shop, queue)) == 1
        assert told.alarms() == ["still_parked"]
    assert (outages.of("sqs"), len(queue)) == ([], 1)
    outages.fates.clear()
    unpark(shop, queue)
    shop.flow()
    assert (len(queue), shop.types(order_id)) == (0, ["order.paid"])


def test_one_of_several_messages_fails(shop: World, outages: Outages, queue: Queue) -> None:
    """It alone comes again; the others are settled and gone."""
    ids = [shop.buy()[0] for _ in range(5)]
    outages.fates["dynamodb"] = throttled
    assert shop.deliver() == ["parked"] * 5
    outages.fates["dynamodb"] = lambda tried: failing(tried) if ids[2] in json.dumps(tried.content) else None
    [failed] = unpark(shop, queue)
    assert ids[2] in base64.b64decode(json.loads(failed)["body"]).decode()
    outages.fates.clear()
    assert [shop.status(order_id) for order_id in ids] == ["paid", "paid", "pending", "paid", "paid"]
    assert unpark(shop, queue) == []
    shop.flow()
    assert shop.types() == ["order.paid"] * 5


def test_a_batch_is_answered_in_time(shop: World, outages: Outages, queue: Queue) -> None:
    """Five messages and a silent ledger: all five are reported before the function is cut off."""
    for _ in range(5):
        shop.buy()
    outages.fates["dynamodb"] = silent
    shop.deliver()
    started = shop.clock.monotonic()
    assert len(unpark(shop, queue)) == 5
    assert shop.clock.monotonic() - started < 4


def test_a_day_in_the_queue(shop: World, outages: Outages, told: Told, queue: Queue) -> None:
    """Tried every five minutes for a day; then it lies in the dead-letter queue, whole, and settles from there when a
    person moves it back. Messages are kept for two weeks in both."""
    queues = dict(template().resources("AWS::SQS::Queue"))
    tries = PROPERTIES["RedrivePolicy"]["maxReceiveCount"]
    assert tries * PROPERTIES["VisibilityTimeout"] == 24 * 3600
    assert {each["MessageRetentionPeriod"] for each in queues.values()} == {14 * 24 * 3600}
    order_id, _ = shop.buy()
    outages.fates["dynamodb"] = throttled
    shop.deliver()
    [message] = queue.receive()
    for _ in range(tries - 1):
        queue.come_back(message)
        [message] = queue.receive()
    assert webhook.handler({"Records": [message]}, Context(shop.clock, 4)) == {
        "batchItemFailures": [{"itemIdentifier": message["messageId"]}]
    }
    queue.come_back(message)
    assert queue.receive() == []
    dead_letters = Queue("ParkedTooLong")
    [dead] = dead_letters.receive()
    assert (dead["body"], len(queue)) == (message["body"], 0)
    outages.fates.clear()
    queue.put(dead)
    assert unpark(shop, queue) == []
    assert shop.status(order_id) == "paid"


# --- No queue either --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue_s_fate", OUTAGES)
@pytest.mark.parametrize("ledger_s_fate", [throttled, silent])
def test_ledger_and_queue_both_down(
    shop: World, outages: Outages, told: Told, queue: Queue, ledger_s_fate: Fate, queue_s_fate: Fate
) -> None:
    """500 in time, an alarm, nothing half done; and the next reconciliation settles the order."""
    order_id, payment_id = shop.buy()
    before = shop.stack.items()
    outages.fates |= {"dynamodb": ledger_s_fate, "sqs": queue_s_fate}
    [waiting] = shop.undelivered
    shop.lose_webhooks()
    event = delivery(waiting.body, waiting.event)
    started = shop.clock.monotonic()
    assert post(shop, event) == (500, "ledger_unavailable")
    assert shop.clock.monotonic() - started < 4 - aws.FAREWELL_SECONDS + 0.05
    assert told.alarms() == ["parked", "ledger_unavailable"]
    assert (shop.stack.items(), len(queue)) == (before, 0)
    outages.fates.clear()
    shop.clock.passes(minutes=5)
    assert shop.reconcile()["found"]["settled"] == 1
    assert shop.stack.order(order_id)[f"pay#{payment_id}"]["M"]["source"] == {"S": "api"}
    assert (shop.status(order_id), shop.types(order_id)) == ("paid", ["order.paid"])


def test_one_stumble_of_the_queue_costs_nothing(shop: World, outages: Outages, queue: Queue) -> None:
    """A body that is about to be parked has no other place: the queue is asked twice."""
    shop.buy()

    def stumbling(tried: Try) -> Any:
        del outages.fates["sqs"]
        return failing(tried)

    outages.fates |= {"dynamodb": throttled, "sqs": stumbling}
    assert shop.deliver() == ["parked"]
    assert len(queue) == 1


# --- Nobody's body ----------------------------------------------------------------------------------------------------

UNSIGNED = {
    "no signature": {"x_pocketsflow_signature": ""},
    "another body's": {"x_pocketsflow_signature": sign(b"{}")},
    "another secret's": {"x_pocketsflow_signature": sign(b"another", "whsec_another_0123456789")},
    "malformed": {"x_pocketsflow_signature": "sha256=" + "0" * 64},
}


@pytest.mark.parametrize("down", [(), ("dynamodb",), ("secretsmanager",), ("dynamodb", "secretsmanager", "sqs")])
@pytest.mark.parametrize("how", UNSIGNED)
def test_what_nobody_signed_is_never_parked(
    shop: World, outages: Outages, queue: Queue, how: str, down: tuple[str, ...]
) -> None:
    """Whatever is down: neither the queue nor the ledger is asked to take it."""
    order_id, _ = shop.checkout()
    outages.tries.clear()
    outages.fates |= dict.fromkeys(down, throttled)
    status, code = post(shop, delivery(paid(order_id, product=COURSE), **UNSIGNED[how]))
    cold = "secretsmanager" in down and how not in ("no signature", "malformed")
    assert (status, code) == ((500, "webhook_secret_unreachable") if cold else (401, "invalid_signature"))
    assert {tried.service for tried in outages.tries} <= {"secretsmanager"}
    outages.fates.clear()
    assert len(queue) == 0
    assert "payments" not in shop.stack.order(order_id)


def test_a_signed_body_over_the_limit_is_not_parked(shop: World, outages: Outages, queue: Queue) -> None:
    """413 as ever, with the ledger down."""
    outages.fates["dynamodb"] = throttled
    assert post(shop, delivery(b"x" * (webhook.MAX_BODY + 1))) == (413, "body_too_large")
    assert len(queue) == 0


def test_records_in_a_request_s_body_are_no_message(shop: World, queue: Queue) -> None:
    """The queue hands over events with Records; a request that has them in its body is a webhook like any other."""
    order_id, _ = shop.checkout()
    inner = base64.b64encode(json.dumps(paid(order_id, product=COURSE)).encode()).decode()
    message = {"messageId": "1", "body": json.dumps({"body": inner, "event": "order.completed", "sent_at": ""})}
    event = http_event("POST /webhooks/pocketsflow", json.dumps({"Records": [message]}).encode())
    assert post(shop, event) == (401, "invalid_signature")
    assert shop.status(order_id) == "pending"


def test_a_line_is_about_its_own_message(shop: World, told: Told) -> None:
    """One that cannot be read comes after one of an order: its line does not name that order."""
    order_id, _ = shop.checkout()
    body = base64.b64encode(json.dumps(paid(order_id, product=COURSE)).encode()).decode()
    messages = [json.dumps({"body": body, "event": "order.completed", "sent_at": "1"}), "{"]
    told.text()
    records = [{"messageId": str(number), "body": text} for number, text in enumerate(messages)]
    failed = webhook.handler({"Records": records}, Context(shop.clock, 4))["batchItemFailures"]
    assert failed == [{"itemIdentifier": "1"}]
    about = [(line["message"], line.get("order_id")) for line in told.look()[0]]
    assert about == [("settled", order_id), ("still_parked", None)]
