"""Queues, looked at and filled by hand: those of parked webhooks (functions/webhook.py says what lies in them), and the
connectors'."""

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.cli import TryAgain, progress
from ops.stack import Stack
from payments.batches import batches

MAX_MESSAGES = 10
"""Of one request to receive them, or to give them back."""
HELD_SECONDS = 60
"""How long a message may be held that is looked at or moved: after a crash it comes back by itself."""
PAUSE_SECONDS = 1.0
_COUNTS = ("", "NotVisible", "Delayed")
_EMPTY_LOOKS = 2
"""SQS counts approximately: empty is what is empty twice in a row."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Queue:
    url: str
    _sqs: Any

    def depth(self) -> int:
        """Messages that wait, and those that somebody has in hand. Approximately, as SQS counts."""
        names = [f"ApproximateNumberOfMessages{each}" for each in _COUNTS]
        told = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    def take(self, most: int) -> list[Message]:
        """At most ten; they are held from others for a while. None when there are none for a second."""
        asked = {"AttributeNames": ["SentTimestamp"], "VisibilityTimeout": HELD_SECONDS, "WaitTimeSeconds": 1}
        answer = self._sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=min(most, MAX_MESSAGES), **asked)
        messages: list[Message] = answer.get("Messages", [])
        return messages

    def look(self, most: int) -> list[Message]:
        """At so many messages, which are given back at once."""
        seen: list[Message] = []
        try:
            while len(seen) < most and (more := self.take(most - len(seen))):
                seen += more
        finally:
            for chunk in _tens(seen):
                entries = [
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0}
                    for number, each in enumerate(chunk)
                ]
                self._sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        return seen

    def put(self, body: str) -> None:
        self._sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def put_all(self, bodies: Sequence[str], sent: Callable[[int], None]) -> None:
        """`sent` is told how many more were. Raises TryAgain when SQS does not take all of them, and what AWS raises
        when it takes none."""
        done = 0
        for chunk in batches(bodies, len):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(chunk)]
            try:
                answer = self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            except (BotoCoreError, ClientError):
                if not done:
                    raise
                answer = {"Successful": []}
            taken = len(answer.get("Successful", []))
            done += taken
            sent(taken)
            if taken < len(chunk):
                raise TryAgain(
                    f"{done} of {len(bodies)} were sent, then SQS took no more; run this again: none counts twice"
                )

    def delete(self, message: Message) -> None:
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def wait_until_empty(self, seconds: int) -> int:
        """How many messages are left then, or when the time is over."""
        end, empty = time.monotonic() + seconds, 0
        with progress("waiting until all are settled") as _:
            while True:
                left = self.depth()
                empty = 0 if left else empty + 1
                if empty == _EMPTY_LOOKS or (left and time.monotonic() >= end):
                    return left
                time.sleep(PAUSE_SECONDS)


def parking(stack: Stack) -> Queue:
    return Queue(stack.output("ParkingQueue"), stack.client("sqs"))


def parked_too_long(stack: Stack) -> Queue:
    sqs = stack.client("sqs")
    name = stack.output("ParkedTooLongArn").rpartition(":")[2]
    return Queue(sqs.get_queue_url(QueueName=name)["QueueUrl"], sqs)


def parked(body: bytes, event: str, sent_at: str) -> str:
    """A webhook's body as the webhook function parks it."""
    return json.dumps({"body": base64.b64encode(body).decode(), "event": event, "sent_at": sent_at})


def unparked(message: Message) -> tuple[bytes, str]:
    """Body and event name of what was parked; nothing of what nobody here has."""
    try:
        content = json.loads(message["Body"])
        return base64.b64decode(content["body"]), str(content["event"])
    except (ValueError, KeyError, TypeError):
        return b"", ""


def _tens(messages: list[Message]) -> Iterator[list[Message]]:
    for start in range(0, len(messages), MAX_MESSAGES):
        yield messages[start : start + MAX_MESSAGES]
