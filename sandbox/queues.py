"""Lambda's poller of a queue: what a function has done is deleted, what failed comes back.

Faithful to docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and services-sqs-errorhandling.html, but for the wait:
what failed comes back HURRY times sooner than the queue's visibility timeout says, or the function. Dead letters are
moved by moto.
"""

import base64
import math
from typing import Any

from sandbox import aws
from sandbox.invocation import HURRY, Invocable, failed, reported_failures
from sandbox.template import PSEUDO_PARAMETERS, Queue

Message = dict[str, Any]


class QueuePoller:
    """Hands the messages of a queue to a function that has them as an event source."""

    def __init__(self, queue: Queue, worker: Invocable, sqs: Any) -> None:
        """`sqs` is a client."""
        self._queue = queue
        self._worker = worker
        self._sqs = sqs
        self._url = sqs.get_queue_url(QueueName=queue.arn.rpartition(":")[2])["QueueUrl"]

    def poll(self) -> None:
        """At most one invocation, with as many messages as the function takes."""
        messages = receive(self._sqs, self._url, self._queue.batch_size)
        if not messages:
            return
        answer = self._worker.invoke({"Records": [_as_lambda_gives_it(each, self._queue.arn) for each in messages]})
        for message in self._failed(answer, messages):
            hidden = aws.hidden_seconds(self._url, message["MessageId"])
            come_back(self._sqs, self._url, message, math.ceil(hidden / HURRY))
            messages.remove(message)
        for message in messages:
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def _failed(self, answer: Any, messages: list[Message]) -> list[Message]:
        if failed(answer):
            return list(messages)
        named = reported_failures(answer) if self._queue.reports_failures else []
        if set(named) - {message["MessageId"] for message in messages}:
            return list(messages)
        return [message for message in messages if message["MessageId"] in named]


def receive(sqs: Any, url: str, most: int) -> list[Message]:
    """Messages of a queue as SQS gives them, at most `most` and ten. No request when there are none."""
    if not aws.has_messages(url):
        return []
    asked = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"], "MaxNumberOfMessages": min(most, 10)}
    messages: list[Message] = sqs.receive_message(QueueUrl=url, **asked).get("Messages", [])
    return messages


def come_back(sqs: Any, url: str, message: Message, seconds: int) -> None:
    """Has a message received again so many seconds from now."""
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds)


def _as_lambda_gives_it(message: Message, arn: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": PSEUDO_PARAMETERS["AWS::Region"],
    }


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        given["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        given["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return given
