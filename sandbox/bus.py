"""EventBridge beside moto, which delivers to queues only: the functions' rules, and a look at what was published."""

import json
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

from sandbox import aws
from sandbox.invocation import Invocable, failed
from sandbox.queues import Message, come_back, receive
from sandbox.template import Function, Rule

EVERYTHING = json.dumps({"source": [{"prefix": ""}]})
SHOWN = 1_000
"""As many events are remembered."""

Event = dict[str, Any]


class Published:
    """What was put on the buses."""

    def __init__(self, buses: list[str], events: Any, sqs: Any) -> None:
        """`buses` are names, `events` and `sqs` clients."""
        self._sqs = sqs
        self._url = _queue_behind(events, sqs, buses, "sandbox-published", EVERYTHING)
        self._seen: deque[tuple[Event, datetime]] = deque(maxlen=SHOWN)
        self.count = 0
        """Of all that came, those no longer remembered included."""
        self._lock = threading.Lock()

    def poll(self) -> None:
        for message in receive(self._sqs, self._url, 10):
            with self._lock:
                self._seen.append((_event(message), datetime.now(UTC)))
                self.count += 1
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def shown(self, order_id: str | None = None) -> list[Event]:
        """Envelopes of EventBridge, newest last; with an order's id those alone whose detail has it."""
        return [event for event, _ in self.timed() if order_id in (None, _order_id(event))]

    def timed(self) -> list[tuple[Event, datetime]]:
        """Each with the moment it was seen: an envelope's `time` has whole seconds."""
        with self._lock:
            return list(self._seen)


class RulePump:
    """Hands the events that a rule lets through to its function, asynchronously: one that fails is tried again after
    a minute and after two (HURRY times sooner here), then dropped.

    docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
    """

    def __init__(self, function: Function, rule: Rule, worker: Invocable, events: Any, sqs: Any) -> None:
        """`events` and `sqs` are clients."""
        self._retries = function.retries
        self._worker = worker
        self._sqs = sqs
        self._url = _queue_behind(events, sqs, [rule.bus], f"sandbox-{function.logical_id}-{rule.name}", rule.pattern)

    def poll(self) -> None:
        for message in receive(self._sqs, self._url, 1):
            tries = int(message["Attributes"]["ApproximateReceiveCount"])
            if failed(self._worker.invoke(_event(message))) and tries <= self._retries:
                come_back(self._sqs, self._url, message, seconds=tries)
            else:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])


def _queue_behind(events: Any, sqs: Any, buses: list[str], name: str, pattern: str) -> str:
    """The address of a new queue that gets what fits a pattern."""
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for bus in buses:
        events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern)
        target = {"Id": "queue", "Arn": arn, "InputTransformer": aws.AS_IT_IS}
        events.put_targets(Rule=name, EventBusName=bus, Targets=[target])
    return url


def _order_id(event: Event) -> Any:
    """None for an event about no order; moto takes details that are no objects too."""
    return event["detail"].get("order_id") if isinstance(event["detail"], dict) else None


def _event(message: Message) -> Event:
    event: Event = json.loads(message["Body"])
    event.pop("ingestion-time", None)  # for archives, not part of an event
    return event
