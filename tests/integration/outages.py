"""AWS that fails on demand, in one process and in the time of a world.

A fate is what becomes of one try of a request, once it has left: None lets it through.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

import relay
import webhook
from payments import aws, secrets, table, telemetry
from sandbox.faults import THROTTLED
from tests.environments import operation
from tests.world import Clock, World


@dataclass(frozen=True)
class Try:
    """A request on its way: `operation` as in "dynamodb UpdateItem", `content` its JSON, `at` in seconds."""

    operation: str
    content: Any
    at: float
    request: Any
    clock: Clock

    @property
    def service(self) -> str:
        return self.operation.partition(" ")[0]

    def answer(self, status: int, content: Any) -> AWSResponse:
        """Instead of moto's, which knows no such address."""
        self.request.url = "https://outage.invalid/"
        return AWSResponse(self.request.url, status, {}, MockRawResponse(json.dumps(content).encode()))


Fate = Callable[[Try], AWSResponse | None]


def throttled(tried: Try) -> AWSResponse | None:
    return tried.answer(400, {"__type": THROTTLED[tried.service], "message": "Rate exceeded"})


def failing(tried: Try) -> AWSResponse | None:
    return tried.answer(500, {})


def refusing(tried: Try) -> AWSResponse | None:
    return tried.answer(400, {"__type": "AccessDeniedException", "message": "not authorized"})


def unreachable(tried: Try) -> AWSResponse | None:
    raise EndpointConnectionError(endpoint_url=tried.request.url)


def silent(tried: Try) -> AWSResponse | None:
    """It never arrives, and the client waits for as long as it may."""
    tried.clock.sleep(aws.longest_try(tried.service))
    raise ReadTimeoutError(endpoint_url=tried.request.url)


def unheard(tried: Try) -> AWSResponse | None:
    """It is done, and nobody hears of it."""
    botocore_stubber("before-send", tried.request)
    return silent(tried)


OUTAGES = [throttled, failing, refusing, unreachable, silent]
"""Fates by which nothing is done."""


@dataclass
class Outages:
    """The functions' AWS: `fates` by service or by operation, and the tries that were made."""

    clock: Clock
    fates: dict[str, Fate] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)

    def of(self, name: str) -> list[Try]:
        """The tries of a service or of an operation."""
        return [tried for tried in self.tries if name in (tried.operation, tried.service)]

    def send(self, request: Any, **_: Any) -> AWSResponse | None:
        """In front of moto's own hook, and behind the client's refusal to begin what could not end in time."""
        tried = Try(operation(request), json.loads(request.body), self.clock.monotonic(), request, self.clock)
        self.tries.append(tried)
        fate = self.fates.get(tried.operation) or self.fates.get(tried.service)
        return fate(tried) if fate else None


@contextmanager
def outages_of(world: World, patch: pytest.MonkeyPatch) -> Iterator[Outages]:
    made = Outages(world.clock)
    clients: list[Any] = [table.client, secrets._client, webhook._queue, relay._bus]
    for module in (aws, botocore.endpoint):
        patch.setattr(module, "time", world.clock)
    for client in clients:
        client.meta.events.register_first("before-send", made.send)
    try:
        yield made
    finally:
        for client in clients:
            client.meta.events.unregister("before-send", made.send)


class Told:
    """What the functions have printed since the last look."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._log = io.StringIO()
        patch.setattr(telemetry.logger.registered_handler, "stream", self._log)

    def text(self) -> str:
        """Log lines, then metrics."""
        printed = self._log.getvalue() + self._capsys.readouterr().out
        self._log.truncate(0)
        self._log.seek(0)
        return printed

    def look(self) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Log lines, and how often each metric was counted."""
        lines: list[dict[str, Any]] = []
        counted: Counter[str] = Counter()
        for printed in map(json.loads, self.text().splitlines()):
            if "_aws" not in printed:
                lines.append(printed)
                continue
            for directive in printed["_aws"]["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    counted[metric["Name"]] += int(sum(printed[metric["Name"]]))
        return lines, counted

    def alarms(self) -> list[str]:
        """What a person was told, each as often as the metric that is alarmed counted."""
        lines, counted = self.look()
        alarms = [line["message"] for line in lines if line["level"] == "ERROR"]
        attention = {"NeedsAttention", *telemetry.ATTENTION.values()}
        assert sum(counted[name] for name in attention) == len(alarms)
        return alarms
