"""How AWS calls the functions: from the API, by schedule, from the stream and from the parking queue, in virtual time.

Batches, retries, timeouts and schedules are the template's. The stream's poller is the sandbox's; the queue follows
docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

import checkout
import reconcile
import relay
import server
import webhook
from payments import outbox, secrets, table
from payments.progress import LeaseLost
from sandbox import aws as sandbox_aws
from sandbox.aws import Record
from sandbox.streams import StreamPoller
from sandbox.template import Function, Stream
from tests.conftest import template
from tests.payloads import answered
from tests.simulation import motospeed
from tests.simulation.engine import Engine
from tests.simulation.weather import Aws, Killed
from tests.world import Context, World

HANDLERS = {module.__name__: module for module in (checkout, reconcile, relay, server, webhook)}
MAX_RECEIVES, VISIBILITY = 288, timedelta(minutes=5)
_MAY_ESCAPE = (BotoCoreError, ClientError, LeaseLost)
"""What a handler may end with: Lambda counts an error, and calls again where it does that."""


@dataclass
class Parked:
    body: str
    visible_at: datetime
    receives: int = 0


class Platform:
    def __init__(self, patch: Any, engine: Engine, world: World, wire: Aws, random: Random) -> None:
        self.engine, self.world, self._random = engine, world, random
        self.calls: Counter[str] = Counter()
        """Invocations, by function."""
        self.expected: dict[str, tuple[str, str]] = {}
        """The events that the stream's records make: by id, their type and their item."""
        self.unparked_at: set[str] = set()
        """When the parking queue fed the webhook function."""
        self.outlived: list[str] = []
        """Invocations that took longer than their function may."""
        self.given_up: list[str] = []
        """What Lambda and SQS have put aside for a person."""
        self._functions = {function.handler.partition(".")[0]: function for function in template().functions()}
        self._parking: list[Parked] = []
        wire.parked = self._park
        self._shard = _Shard(world.stack.table, engine)
        patch.setattr(sandbox_aws, "read_stream", self._shard.read)
        self._pollers = [
            _Poller(self, function, stream) for function in self._functions.values() for stream in function.streams
        ]
        self._is_read_due = False
        self.is_open = True
        motospeed.speed_up(patch, motospeed.table_of(world.stack.table), self._written)

    # --- Invocations --------------------------------------------------------------------------------------------------

    def invoke(self, name: str, event: Any) -> Any:
        """What the function answered, or {"errorMessage"} for one that failed or was killed."""
        self.calls[name] += 1
        timeout, begun = self._functions[name].timeout, self.engine.clock.now
        try:
            return HANDLERS[name].handler(event, Context(self.engine.clock, timeout))  # type: ignore[attr-defined]
        except Killed:
            secrets._copies.clear()  # the next environment is a new one
            checkout._asked_at = datetime.min.replace(tzinfo=UTC)
            return {"errorMessage": "killed"}
        except _MAY_ESCAPE as error:
            return {"errorMessage": str(error)}
        finally:
            if self.engine.clock.now - begun > timedelta(seconds=timeout):
                self.outlived.append(f"{name} at {begun}")

    def http(self, name: str, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and content; 500 for a function that did not answer, as API Gateway does."""
        answer = self.invoke(name, event)
        return (500, {}) if "errorMessage" in answer else answered(answer)

    def schedule(self, offsets: dict[str, float]) -> None:
        """Starts the template's schedules; `offsets` are seconds until the first run of each walk."""
        for schedule in self._functions["reconcile"].schedules:
            self.engine.after(offsets[schedule.input["walk"]], _Fired(self, schedule.input, schedule.seconds))

    # --- The stream ---------------------------------------------------------------------------------------------------

    def _written(self) -> None:
        if not self._is_read_due:
            self._is_read_due = True
            self.engine.after(self._random.uniform(0.3, 1.0), self._flow)

    def _flow(self) -> None:
        self._is_read_due = False
        for record in self._shard.take():
            self._expect(record)
        for poller in self._pollers:
            if not poller.is_busy:
                self.engine.after(0, poller.work)
        self._shard.forget(min(poller.position for poller in self._pollers))

    def _expect(self, record: Record) -> None:
        change = record["dynamodb"]
        if record["eventName"] in ("INSERT", "MODIFY"):
            new = table.plain(change["NewImage"])
            for event in outbox.events(table.plain(change.get("OldImage", {})), new):
                self.expected[event.detail["id"]] = (event.type, new["pk"])

    # --- The parking queue --------------------------------------------------------------------------------------------

    def _park(self, body: str) -> None:
        self._parking.append(Parked(body, self.engine.clock.now))
        self.engine.after(self._random.uniform(0.1, 1), self._unpark)

    def _unpark(self) -> None:
        [queue] = self._functions["webhook"].queues
        now = self.engine.clock.now
        batch = {str(id(each)): each for each in self._parking if each.visible_at <= now}
        batch = dict(list(batch.items())[: queue.batch_size])
        for message in batch.values():
            message.visible_at, message.receives = now + VISIBILITY, message.receives + 1
            if message.receives > MAX_RECEIVES:
                self._parking.remove(message)
                self.given_up.append(message.body)
        if batch:
            self._feed(batch)

    def _feed(self, batch: dict[str, Parked]) -> None:
        self.unparked_at.add(table.timestamp(self.engine.clock.now))
        event = {"Records": [{"messageId": name, "body": message.body} for name, message in batch.items()]}
        answer = self.invoke("webhook", event)
        failed = answer.get("batchItemFailures", [])
        back = list(batch) if "errorMessage" in answer else [each["itemIdentifier"] for each in failed]
        for name, message in batch.items():
            if name not in back:
                self._parking.remove(message)
        self.engine.after(VISIBILITY.total_seconds() + 1 if back else 1, self._unpark)


@dataclass
class _Fired:
    """EventBridge Scheduler: again and again; an invocation that fails is not tried again (EventInvokeConfig)."""

    platform: Platform
    event: dict[str, Any]
    seconds: int

    def __call__(self) -> None:
        if not self.platform.is_open:
            return
        self.platform.engine.after(self.seconds, self)
        self.platform.invoke("reconcile", self.event)


class _Shard:
    """The table's stream. What all have read is forgotten."""

    def __init__(self, table_name: str, engine: Engine) -> None:
        self._moto = motospeed.table_of(table_name)
        self._read = sandbox_aws.read_stream
        self._engine = engine
        self._records: list[Record] = []
        self._first = 0

    def take(self) -> list[Record]:
        """What has been written since the last time."""
        shard = self._moto.stream_shard
        assert shard is not None
        new, _ = self._read(f"table/{self._moto.name}", 0)
        shard.items.clear()
        for number, record in enumerate(new, self.end):
            record["dynamodb"]["SequenceNumber"] = str(number)
            record["dynamodb"]["ApproximateCreationDateTime"] = int(self._engine.clock.time())
        self._records += new
        return new

    def read(self, _stream_arn: str, position: int) -> tuple[list[Record], int]:
        return self._records[max(0, position - self._first) :], self.end

    def forget(self, before: int) -> None:
        del self._records[: before - self._first]
        self._first = before

    @property
    def end(self) -> int:
        return self._first + len(self._records)


class _Poller:
    """Lambda's poller of the stream for one function, working for as long as there is something."""

    def __init__(self, platform: Platform, function: Function, stream: Stream) -> None:
        self._platform, self._name = platform, function.handler.partition(".")[0]
        self._clock = platform.engine.clock.time
        self._poller = StreamPoller(function, stream, self, self, self._clock)
        self.is_busy = False

    def invoke(self, event: Any) -> Any:
        return self._platform.invoke(self._name, event)

    def put_object(self, **kept: Any) -> None:
        if self._name == "relay":  # who asked for a run has been given one, or asks again
            self._platform.given_up.append(kept["Key"])

    @property
    def position(self) -> int:
        return self._poller._position

    def work(self) -> None:
        if self.is_busy:
            return
        self.is_busy = True
        while self._poller._batches or self.position < self._platform._shard.end:
            self._poller.poll()
            if (pause := self._poller._not_before - self._clock()) > 0:
                self._platform.engine.sleep(pause + 0.001)  # a clock of whole microseconds never rounds down to it
        self.is_busy = False
