"""A queue reaches its function as Lambda's poller brings it: what is done is deleted, what failed comes back."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import moto
import pytest

from sandbox import aws
from sandbox.queues import QueuePoller
from sandbox.template import Queue
from tests.conftest import template

ERROR = {"errorMessage": "boom", "errorType": "RuntimeError"}


@dataclass
class Worker:
    """A function that answers as `answer` says, given the records it got, and remembers them."""

    answer: Callable[[list[Any]], Any] = lambda records: None
    events: list[Any] = field(default_factory=list)

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        return self.answer(event["Records"])

    @property
    def bodies(self) -> list[set[str]]:
        return [{record["body"] for record in event["Records"]} for event in self.events]


@dataclass
class Mail:
    """A queue in moto with dead letters behind it."""

    sqs: Any
    url: str
    dead_url: str

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def poller(self, worker: Worker, batch_size: int = 5, reports_failures: bool = True) -> QueuePoller:
        arn = f"arn:aws:sqs:{aws.REGION}:{aws.ACCOUNT}:{self.url.rpartition('/')[2]}"
        return QueuePoller(Queue(arn, batch_size, reports_failures), worker, self.sqs)

    def count(self, url: str | None = None) -> int:
        """Messages of the queue, whether they can be received now or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        asked = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return sum(int(asked[name]) for name in names)


@pytest.fixture
def mail() -> Iterator[Mail]:
    """What failed is back at once; the third time it is a dead letter."""
    with moto.mock_aws():
        sqs = aws.client("sqs", None)
        dead_url = sqs.create_queue(QueueName="dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": f"arn:aws:sqs:{aws.REGION}:{aws.ACCOUNT}:dead", "maxReceiveCount": 2}
        attributes = {"VisibilityTimeout": "0", "RedrivePolicy": json.dumps(redrive)}
        url = sqs.create_queue(QueueName="mail", Attributes=attributes)["QueueUrl"]
        yield Mail(sqs, url, dead_url)


def test_the_templates_queues() -> None:
    """Created with the attributes that the template gives them, dead letters included, under their own addresses."""
    with moto.mock_aws():
        stage = template()
        aws.create_resources(stage)
        parking, dead = stage.references["Parking"], stage.references["ParkedTooLong"]
        sqs = aws.client("sqs", None)
        made = sqs.get_queue_attributes(QueueUrl=parking["Ref"], AttributeNames=["All"])["Attributes"]
        [(_, declared)] = [each for each in stage.resources("AWS::SQS::Queue") if each[0] == "Parking"]
        assert made["QueueArn"] == parking["Arn"]
        assert parking["Ref"].endswith(f"/{parking['QueueName']}")
        assert json.loads(made["RedrivePolicy"]) == declared["RedrivePolicy"]
        assert declared["RedrivePolicy"]["deadLetterTargetArn"] == dead["Arn"]
        for name in declared.keys() - {"RedrivePolicy"}:
            assert made[name].lower() == str(declared[name]).lower(), name


def test_a_message_has_awss_shape(mail: Mail) -> None:
    """All that docs.aws.amazon.com/lambda/latest/dg/with-sqs.html shows, attributes of either kind included."""
    attributes = {
        "name": {"DataType": "String", "StringValue": "order.completed"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff"},
    }
    mail.sqs.send_message(QueueUrl=mail.url, MessageBody="{}", MessageAttributes=attributes)
    worker = Worker()
    mail.poller(worker).poll()
    [record] = worker.events[0]["Records"]
    assert record.keys() == {
        *("messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody"),
        *("eventSource", "eventSourceARN", "awsRegion"),
    }
    assert (record["body"], record["eventSource"], record["awsRegion"]) == ("{}", "aws:sqs", "eu-west-1")
    assert record["eventSourceARN"].endswith(":mail")
    assert record["attributes"].items() >= {"ApproximateReceiveCount": "1"}.items()
    assert record["attributes"].keys() >= {"SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId"}
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert record["messageAttributes"] == {
        "name": {"dataType": "String", "stringValue": "order.completed", **lists},
        "raw": {"dataType": "Binary", "binaryValue": base64.b64encode(b"\xff").decode(), **lists},
    }


def test_what_is_done_is_deleted(mail: Mail) -> None:
    """Success is the whole batch's; a look at an empty queue invokes nothing."""
    mail.send("a", "b")
    worker = Worker()
    poller = mail.poller(worker)
    for _ in range(3):
        poller.poll()
    assert (worker.bodies, mail.count()) == ([{"a", "b"}], 0)


def test_a_batch_is_no_larger_than_the_template_says(mail: Mail) -> None:
    """And no larger than SQS gives at once."""
    mail.send(*(str(number) for number in range(12)))
    worker = Worker()
    mail.poller(worker, batch_size=2).poll()
    mail.poller(worker, batch_size=100).poll()
    assert [len(each) for each in worker.bodies] == [2, 10]


def test_what_failed_comes_back_alone(mail: Mail) -> None:
    """The report names it; the rest of its batch is done."""
    mail.send("good", "bad")
    worker = Worker(
        lambda records: {
            "batchItemFailures": [{"itemIdentifier": each["messageId"]} for each in records if each["body"] == "bad"]
        }
    )
    poller = mail.poller(worker)
    poller.poll()
    assert mail.count() == 1
    time.sleep(0.01)
    poller.poll()
    assert worker.bodies == [{"good", "bad"}, {"bad"}]
    assert worker.events[1]["Records"][0]["attributes"]["ApproximateReceiveCount"] == "2"


@pytest.mark.parametrize(
    "answer",
    [ERROR, {"batchItemFailures": [{"itemIdentifier": "?"}]}, {"batchItemFailures": [{"itemIdentifier": None}]}],
    ids=["error", "unknown", "null"],
)
def test_a_batch_that_failed_comes_back_whole(mail: Mail, answer: Any) -> None:
    """An error, or a report that cannot be meant: nothing is deleted."""
    mail.send("a", "b")
    mail.poller(Worker(lambda records: answer)).poll()
    assert mail.count() == 2


def test_a_report_counts_only_where_the_template_says_so(mail: Mail) -> None:
    """Without ReportBatchItemFailures an answer is an answer."""
    mail.send("a")
    answer = {"batchItemFailures": [{"itemIdentifier": "?"}]}
    mail.poller(Worker(lambda records: answer), reports_failures=False).poll()
    assert mail.count() == 0


def test_what_fails_too_often_is_a_dead_letter(mail: Mail) -> None:
    """It leaves the queue, whole, after as many tries as its policy allows."""
    mail.send("bad")
    worker = Worker(lambda records: ERROR)
    poller = mail.poller(worker)
    for _ in range(4):
        poller.poll()
        time.sleep(0.01)
    assert worker.bodies == [{"bad"}] * 2
    assert (mail.count(), mail.count(mail.dead_url)) == (0, 1)
    assert mail.sqs.receive_message(QueueUrl=mail.dead_url)["Messages"][0]["Body"] == "bad"


def test_what_failed_is_back_in_seconds(mail: Mail) -> None:
    """Sixty times sooner than its visibility timeout says, and not before."""
    mail.sqs.set_queue_attributes(QueueUrl=mail.url, Attributes={"VisibilityTimeout": "60"})
    mail.send("bad")
    worker = Worker(lambda records: ERROR)
    poller = mail.poller(worker)
    poller.poll()
    failed_at = time.monotonic()
    poller.poll()
    assert len(worker.events) == 1
    while len(worker.events) < 2 and time.monotonic() < failed_at + 15:
        poller.poll()
        time.sleep(0.02)
    assert time.monotonic() - failed_at > 0.9
    assert len(worker.events) == 2
