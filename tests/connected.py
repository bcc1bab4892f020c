"""A connector in a time of its own: its rule, queue, table and secret by moto, its function in this process, and in the
place of the internet a stand-in of its platform, with whatever fails on the way.

Time passes only where a test says so. What SQS would do by its clock (hide a message, lay it aside) is done here by the
test's; which events reach the queue the bus decides.
"""

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from connectors import consumer, deliveries, outgoing
from payments import secrets
from sandbox import aws
from sandbox.template import ROOT, Template
from tests.conftest import Aws, template
from tests.transport import Sent, Transport, of, response
from tests.world import Clock, Context

BATCH = 3
"""Messages at once, as in the template."""
HIDDEN = timedelta(seconds=720)
"""Until a message comes back that nobody has put off."""
TRIES = 12


@dataclass(frozen=True)
class Fault:
    """What one request meets in place of its answer. `lost`: the "request", or the "answer" to one that was done."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    lost: str = ""


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Message:
    id: str
    body: str
    due: datetime
    tries: int = 0


def record(message: Any) -> dict[str, Any]:
    """A message with `id`, `body` and `tries`, as far as Lambda's record of it is read."""
    return {
        "messageId": message.id,
        "receiptHandle": message.id,
        "body": message.body,
        "attributes": {"ApproximateReceiveCount": str(message.tries)},
    }


class Line:
    """From the bus to a platform."""

    def __init__(self, stack: Aws, clock: Clock, nested: Template, module: Any, application: Any) -> None:
        self.clock = clock
        self.waiting: list[Message] = []
        self.dead: list[Message] = []
        self.faults: list[Fault | None] = []
        """What the next requests meet, one after the other; None for one that meets nothing."""
        self.requests: list[str] = []
        """That reached the platform or got lost, as "POST /path"."""
        self.crashes = 0
        """How many of the next events are delivered, and the process ends before it has noted that."""
        self._stack, self._module, self._answer = stack, module, of(application)
        self._queue = nested.references["Queue"]["Ref"]
        self._hidden: dict[str, int] = {}
        self._number = 0
        self._seen: list[str] = []

    # --- The bus ------------------------------------------------------------------------------------------------------

    def publish(self, kind: str, **detail: Any) -> dict[str, Any]:
        """Puts the example of an event on the bus, with these fields in place of its own; what was published."""
        schema = json.loads((ROOT / "infra" / "events" / f"{kind}.json").read_text())
        content = {**schema["examples"][0], "mode": "test", **detail}
        entry = {"EventBusName": self._stack.bus, "Source": "pocketsflow.test", "DetailType": kind}
        self._stack.events.put_events(Entries=[{**entry, "Detail": json.dumps(content)}])
        return content

    def arrive(self) -> list[Message]:
        """What the bus has put into the queue meanwhile."""
        queue = aws.sqs_backends[aws.ACCOUNT][aws.REGION].queues[self._queue.rpartition("/")[2]]
        arrived = [self._message(message.body) for message in queue._messages]
        queue._messages.clear()
        self._seen += [message.body for message in arrived]
        self.waiting += arrived
        return arrived

    def repeat(self) -> None:
        """All that ever came comes again."""
        self.waiting += [self._message(body) for body in self._seen]

    def redrive(self) -> None:
        self.waiting += [self._message(message.body) for message in self.dead]
        self.dead.clear()

    def _message(self, body: str) -> Message:
        self._number += 1
        return Message(f"message-{self._number}", body, self.clock.now)

    # --- The queue ----------------------------------------------------------------------------------------------------

    def work(self, hours: float = 0) -> list[Any]:
        """Lets time pass; the answers of the function. Messages that are due come in the order of `waiting`."""
        self.arrive()
        answers: list[Any] = []
        end = self.clock.now + timedelta(hours=hours)
        while due := [message for message in self.waiting if message.due <= end]:
            self.clock.now = max(self.clock.now, min(message.due for message in due))
            batch = [message for message in self.waiting if message.due <= self.clock.now][:BATCH]
            self._lay_aside(batch)
            if batch:
                answers.append(self._invoke(batch))
        self.clock.now = end
        return answers

    def _lay_aside(self, batch: list[Message]) -> None:
        for message in [message for message in batch if message.tries == TRIES]:
            batch.remove(message)
            self.waiting.remove(message)
            self.dead.append(message)

    def _invoke(self, batch: list[Message]) -> Any:
        self._hidden.clear()
        for message in batch:
            message.tries += 1
        try:
            answer = self._module.handler({"Records": list(map(record, batch))}, Context(self.clock, 120))
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        except Crash:
            answer, failed = None, {message.id for message in batch}
        for message in batch:
            if message.id in failed:
                message.due = self.clock.now + timedelta(seconds=self._hidden.get(message.id, HIDDEN.total_seconds()))
            else:
                self.waiting.remove(message)
        return answer

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:  # noqa: N803
        assert QueueUrl == consumer.QUEUE_URL
        assert 0 <= VisibilityTimeout <= 43_200
        self._hidden[ReceiptHandle] = VisibilityTimeout

    # --- The internet -------------------------------------------------------------------------------------------------

    def send(self, sent: Sent) -> HTTPResponse:
        self.requests.append(f"{sent.method} {sent.target}")
        fault = self.faults.pop(0) if self.faults else None
        if fault and fault.lost == "request":
            raise ProtocolError
        if fault and fault.status:
            return response(fault.status, fault.headers, fault.body)
        answer = self._answer(sent)
        if fault and fault.lost == "answer":
            raise ProtocolError
        return answer

    # --- What it has noted --------------------------------------------------------------------------------------------

    def outcomes(self) -> dict[str, str]:
        """Of events by id."""
        return {
            pk.removeprefix("event#"): item["outcome"]
            for pk, item in self.items().items()
            if pk.startswith("event#") and "outcome" in item
        }

    def items(self) -> dict[str, dict[str, Any]]:
        """Of the connector's table, plain, by pk."""
        found = self._stack.dynamodb.scan(TableName=deliveries.TABLE)["Items"]
        return {item["pk"]["S"]: deliveries.plain(item) for item in found}


@contextmanager
def connected(
    stack: Aws, patch: Any, clock: Clock, module: Any, platform: Any, name: str, parameters: dict[str, str], **its: Any
) -> Iterator[Line]:
    """The connector `module` of the nested stack `name`, which `parameters` switch on, and its platform, a WSGI
    application; if it has a `secret` the connector's secret holds it. `its` are constants of the module."""
    declared = template(**parameters)
    declared.references["Bus"] = {"Ref": stack.bus}
    nested = dict(declared.nested())[name]
    aws.create_resources(nested)
    line = Line(stack, clock, nested, module, platform)
    for having in (deliveries, module):
        patch.setattr(having, "TABLE", nested.references["Deliveries"]["Ref"], raising=False)
    patch.setattr(consumer, "QUEUE_URL", nested.references["Queue"]["Ref"])
    patch.setattr(consumer, "_queue", line)
    patch.setattr(consumer, "datetime", clock.datetime)
    for constant, value in its.items():
        patch.setattr(module, constant, value)
    if "ConnectorSecret" in nested.references:
        arn = nested.references["ConnectorSecret"]["Ref"]
        patch.setattr(module, "SECRET_ARN", arn)
        stack.secrets.put_secret_value(SecretId=arn, SecretString=platform.secret)
    note = deliveries.done

    def crash_or_note(*told: Any) -> None:
        if line.crashes:
            line.crashes -= 1
            raise Crash
        note(*told)

    patch.setattr(deliveries, "done", crash_or_note)
    patch.setattr(outgoing, "_http", Transport(line.send))
    secrets._copies.clear()
    yield line
    secrets._copies.clear()
    _remove(stack, nested)


def _remove(stack: Aws, nested: Template) -> None:
    """The next test may connect the same."""
    stack.dynamodb.delete_table(TableName=nested.references["Deliveries"]["Ref"])
    stack.events.remove_targets(EventBusName=stack.bus, Rule=f"{nested.stack}-Rule", Ids=["queue"])
    stack.events.delete_rule(EventBusName=stack.bus, Name=f"{nested.stack}-Rule")
    for queue in ("Queue", "DeadLetters"):
        stack.sqs.delete_queue(QueueUrl=nested.references[queue]["Ref"])
    if "ConnectorSecret" in nested.references:
        arn = nested.references["ConnectorSecret"]["Ref"]
        stack.secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def shuffled(messages: Iterable[Message], seed: int) -> list[Message]:
    mixed = list(messages)
    random.Random(seed).shuffle(mixed)
    return mixed
