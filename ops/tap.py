"""A look at a stack's bus for as long as somebody looks: a queue and a rule that are gone afterwards.

Their names say of which stage they are and when they were made, so that the next look removes what a dead one left.
"""

import json
import math
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.cli import TryAgain
from ops.stack import Stack

Event = dict[str, Any]
"""An envelope of EventBridge."""

DEAD_AFTER = timedelta(days=1)
WAIT = 3
"""Seconds of a long poll: less than any client here is patient for."""
PAUSE = 0.3
"""Seconds between polls of the sandbox, whose AWS does one thing at a time and must not be kept waiting."""
_TARGET = "queue"
_SECONDS_KEPT = 3600
_GONE = {"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


class Tap:
    """Events of the stack from now on, until it is closed."""

    def __init__(self, stack: Stack, pattern: Mapping[str, Any], now: datetime) -> None:
        """`pattern` is EventBridge's, beside the source."""
        self._stack, self._bus = stack, stack.output("BusName")
        self._events, self._sqs = stack.client("events"), stack.client("sqs")
        self._pattern = json.dumps({"source": [f"pocketsflow.{stack.stage}"], **pattern})
        self._prefix = f"pf-tail-{stack.stage}-"
        self.name = f"{self._prefix}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self._url = ""

    def open(self) -> None:
        """Raises what AWS raises; what was made by then is removed by `close`."""
        self._url = self._sqs.create_queue(
            QueueName=self.name, Attributes={"MessageRetentionPeriod": str(_SECONDS_KEPT)}
        )["QueueUrl"]
        asked = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        queue = asked["Attributes"]["QueueArn"]
        rule = self._events.put_rule(
            Name=self.name,
            EventBusName=self._bus,
            EventPattern=self._pattern,
            Description="Of pf tail; may be deleted when it is a day old",
        )["RuleArn"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue,
                    "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
                }
            ],
        }
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": json.dumps(policy)})
        target: dict[str, Any] = {"Id": _TARGET, "Arn": queue}
        if self._stack.is_sandbox:  # where an event arrives whole only when it is asked for
            target["InputTransformer"] = {"InputPathsMap": {"id": "$.id"}, "InputTemplate": "<aws.events.event.json>"}
        answer = self._events.put_targets(Rule=self.name, EventBusName=self._bus, Targets=[target])
        if answer["FailedEntryCount"]:
            raise TryAgain(
                f"EventBridge does not take the queue as a target: {answer['FailedEntries'][0]['ErrorCode']}"
            )

    def events(self, until: float) -> Iterator[Event]:
        """As they come, each at least once, until that moment of time.monotonic()."""
        while (left := until - time.monotonic()) > 0:
            wait = 0 if self._stack.is_sandbox else math.ceil(min(WAIT, left))
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
            messages = answer.get("Messages", [])
            for message in messages:
                with suppress(ValueError):  # nobody else may write there; but what is no event is none
                    yield json.loads(message["Body"])
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            if not messages and self._stack.is_sandbox:
                time.sleep(min(PAUSE, left))

    def close(self) -> None:
        """Removes the rule and the queue, whatever of them is there. Raises TryAgain."""
        try:
            self._remove_rule(self.name)
            self._remove_queue(self._url or self._url_of(self.name))
        except (BotoCoreError, ClientError):
            raise TryAgain(
                f"AWS did not remove the rule and the queue {self.name}; a `pf tail` tomorrow does, or delete them"
            ) from None

    def sweep(self, now: datetime) -> list[str]:
        """Removes what dead looks at this stack left, and names it."""
        rules = self._events.get_paginator("list_rules").paginate(EventBusName=self._bus, NamePrefix=self._prefix)
        old_rules = [rule["Name"] for page in rules for rule in page["Rules"] if self._is_dead(rule["Name"], now)]
        queues = self._sqs.get_paginator("list_queues").paginate(QueueNamePrefix=self._prefix)
        urls = {url.rpartition("/")[2]: url for page in queues for url in page.get("QueueUrls", [])}
        for name in old_rules:
            self._remove_rule(name)
        old_queues = [name for name in urls if self._is_dead(name, now)]
        for name in old_queues:
            self._remove_queue(urls[name])
        return sorted({*old_rules, *old_queues})

    def _is_dead(self, name: str, now: datetime) -> bool:
        match = re.fullmatch(rf"{re.escape(self._prefix)}(\d{{8}}T\d{{6}}Z)-[0-9a-f]{{8}}", name)
        return match is not None and now - datetime.strptime(match[1], "%Y%m%dT%H%M%S%z") > DEAD_AFTER

    def _remove_rule(self, name: str) -> None:
        with _unless_gone():
            self._events.remove_targets(Rule=name, EventBusName=self._bus, Ids=[_TARGET])
        with _unless_gone():
            self._events.delete_rule(Name=name, EventBusName=self._bus)

    def _remove_queue(self, url: str | None) -> None:
        if url:
            with _unless_gone():
                self._sqs.delete_queue(QueueUrl=url)

    def _url_of(self, name: str) -> str | None:
        with _unless_gone():
            return str(self._sqs.get_queue_url(QueueName=name)["QueueUrl"])
        return None


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"].get("Code") not in _GONE:
            raise


@contextmanager
def opened(stack: Stack, pattern: Mapping[str, Any], now: datetime) -> Iterator[Tap]:
    """A tap, closed with the block. SIGTERM, and a terminal that is closed, raise KeyboardInterrupt in it as Ctrl-C
    does."""
    tap = Tap(stack, pattern, now)
    told: list[type[Exception]] = []
    with _handling(signal.default_int_handler, (signal.SIGTERM, signal.SIGHUP)):
        try:
            try:
                tap.sweep(now)
                tap.open()
            except ClientError:
                told = [TryAgain]  # why it was refused says more than that nothing could be removed either
                raise
            yield tap
        finally:
            # What is begun to be removed is removed, however often somebody presses Ctrl-C.
            with _handling(signal.SIG_IGN, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)), suppress(*told):
                tap.close()


@contextmanager
def _handling(handler: Callable[..., Any] | signal.Handlers, numbers: Sequence[signal.Signals]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
