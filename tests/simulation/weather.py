"""What fails: AWS and Pocketsflow for a while, single answers, and functions that are killed at any request."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from payments import aws
from sandbox.faults import THROTTLED
from tests.simulation import motospeed
from tests.simulation.engine import Engine
from tests.transport import Answering, Sent, read_timeout, response

Kind = Literal["down", "throttled", "lost", "partial", "slow"]
"""Of an outage: answered 503, throttled, done but never heard of, entries refused (EventBridge), no answer in time."""


_SERVICES = {"eventbridge": "events", "secrets-manager": "secretsmanager"}
"""Names of botocore's events, where they are not those of payments/aws.py."""


PLATFORM = {
    "down": "a platform answered 5xx",
    "throttled": "a platform answered 429",
    "slow": "a platform too slow",
    "lost": "a platform did it, and its answer was lost",
    "killed before": "killed before a request to a platform",
    "killed after": "killed after a request to a platform",
}
"""What a request to a platform may meet, by what it is called when it is counted."""


class Killed(BaseException):
    """The function is dead at this step: nothing of it runs any more."""


@dataclass(frozen=True)
class Outage:
    service: str
    """Of AWS, or `pocketsflow`."""
    kind: Kind
    start: datetime
    end: datetime


@dataclass
class Weather:
    """Chances are of a single request; those of an outage are certain. Fair without arguments."""

    outages: list[Outage] = field(default_factory=list)
    killed: float = 0
    throttled: float = 0
    lost: float = 0
    partial: float = 0
    too_many: float = 0
    """429 of Pocketsflow."""
    unwell: float = 0
    """A platform's answer is none, or the connector is killed beside it."""
    mislaid: float = 0
    """Of the platforms' orders, until a person looks."""
    met: Counter[str] = field(default_factory=Counter)
    """How often each fault was met."""
    cpu_elsewhere: float = 0
    """Seconds that moto and the fake Pocketsflow have taken."""

    def outage(self, service: str, now: datetime) -> Kind | None:
        return next((o.kind for o in self.outages if o.service == service and o.start <= now < o.end), None)

    def fault(self, random: Random) -> str | None:
        """Of one request to a platform: one of PLATFORM."""
        return random.choice([*PLATFORM]) if random.random() < self.unwell else None

    def clear_up(self) -> None:
        """It is fair from now on, but for what only a person can mend."""
        self.outages.clear()
        self.killed = self.throttled = self.lost = self.partial = self.unwell = 0

    def counted(self, name: str) -> str:
        self.met[name] += 1
        return name

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """What is done here is not the functions' doing."""
        begun = time.process_time()
        try:
            yield
        finally:
            self.cpu_elsewhere += time.process_time() - begun


def hostile(random: Random, start: datetime, span: timedelta, intensity: float = 1) -> Weather:
    """A bad day: outages at random, single failures all the time. `intensity`: of a day's outages, how many in `span`,
    and how many times as often all else."""
    outages = []
    for service, kind, times, longest in (
        ("dynamodb", "down", 4, 12),
        ("dynamodb", "throttled", 4, 10),
        ("dynamodb", "lost", 3, 3),
        ("sqs", "down", 4, 30),
        ("secretsmanager", "down", 3, 90),
        ("events", "down", 3, 25),
        ("events", "throttled", 3, 10),
        ("events", "partial", 3, 20),
        ("pocketsflow", "down", 4, 15),
        ("pocketsflow", "throttled", 3, 10),
        ("pocketsflow", "slow", 2, 5),
    ):
        for _ in range(round(times * intensity) or 1):
            begin = start + random.random() * span
            outages.append(Outage(service, kind, begin, begin + timedelta(minutes=random.uniform(1, longest))))
    # The one that the parking queue cannot help with: neither the ledger nor the queue takes anything.
    both = start + random.uniform(0.2, 0.8) * span
    outages += [Outage(service, "down", both, both + timedelta(minutes=4)) for service in ("dynamodb", "sqs")]
    often = 1e-3 if intensity <= 1 else 5e-3
    return Weather(outages, killed=often, throttled=often, lost=often, partial=10 * often, too_many=10 * often)


def bring_to_platforms(weather: Weather, random: Random, start: datetime, span: timedelta) -> None:
    """A bad day for them, too."""
    kinds: tuple[Kind, ...] = ("down", "throttled", "slow", "lost")
    for name in ("storefront", "shopify", "woocommerce", "feed", "sesv2"):
        begin = start + random.random() * span
        end = begin + random.uniform(0.05, 0.15) * span
        weather.outages.append(Outage(name, random.choice(kinds), begin, end))
    weather.unwell, weather.mislaid = 0.05, 0.03


class Aws:
    """Stands between the functions' clients and moto."""

    def __init__(self, engine: Engine, weather: Weather, random: Random) -> None:
        self._engine, self._weather, self._random = engine, weather, random
        self.parked: Callable[[str], None] = lambda _: None
        """Is given what the functions put into the parking queue."""
        self.published: Callable[[list[dict[str, Any]]], None] = lambda _: None
        """Is given the entries that the bus has taken."""
        self.mailed: Callable[[dict[str, Any]], None] = lambda _: None
        """Is given what SES has taken."""

    def send(self, event_name: str, request: Any, **_: Any) -> Any:
        """botocore's `before-send`: the answer to one try."""
        _, service, operation = event_name.split(".")
        service = _SERVICES.get(service, service)
        weather, chance = self._weather, self._random.random
        outage = weather.outage(service, self._engine.clock.now)
        self._engine.sleep(self._random.uniform(0.002, 0.008))
        if chance() < weather.killed / 2:
            raise Killed(weather.counted("killed before a request to AWS"))
        if outage == "down":
            weather.counted(f"{service} down")
            return motospeed.made(request, 503, {})
        if outage == "throttled" or chance() < weather.throttled:
            weather.counted(f"{service} throttled")
            return motospeed.made(request, 400, {"__type": _THROTTLED[service], "message": "Rate exceeded"})
        with weather.elsewhere():
            taken = _TAKEN.get(operation)
            answer = taken(request) if taken else motospeed.answer(event_name, request)
        if operation == "SendMessage":
            self.parked(json.loads(request.body)["MessageBody"])
        if operation == "PutEvents" and (outage == "partial" or chance() < weather.partial):
            answer = self._refuse_some(request, answer)
        if operation == "PutEvents":
            self.published(_accepted(request, answer))
        if operation == "SendEmail":
            self.mailed(json.loads(request.body))
        if chance() < weather.killed / 2:
            raise Killed(weather.counted("killed after a request to AWS"))
        if outage == "lost" or chance() < weather.lost:
            weather.counted(f"{service} did it, and its answer was lost")
            self._engine.sleep(aws.longest_try(service))
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    def _refuse_some(self, request: Any, answer: AWSResponse) -> AWSResponse:
        self._weather.counted("events refused one by one")
        entries = [
            {"ErrorCode": "InternalFailure", "ErrorMessage": "Try again"} if self._random.random() < 0.5 else each
            for each in json.loads(answer.content)["Entries"]
        ]
        failed = sum("ErrorCode" in each for each in entries)
        return motospeed.made(request, 200, {"FailedEntryCount": failed, "Entries": entries})


def take_events(request: Any) -> AWSResponse:
    """A bus that takes all: what moto does with an event, its rules and its archive, is of no interest here."""
    entries = [{"EventId": str(number)} for number, _ in enumerate(json.loads(request.body)["Entries"])]
    return motospeed.made(request, 200, {"FailedEntryCount": 0, "Entries": entries})


def take_message(request: Any) -> AWSResponse:
    """A queue that takes all: the platform has the messages."""
    digest = hashlib.md5(json.loads(request.body)["MessageBody"].encode()).hexdigest()
    return motospeed.made(request, 200, {"MessageId": digest, "MD5OfMessageBody": digest})


def take_mail(request: Any) -> AWSResponse:
    """SES, which sends all."""
    return motospeed.made(request, 200, {"MessageId": hashlib.md5(request.body).hexdigest()})


def _accepted(request: Any, answer: AWSResponse) -> list[dict[str, Any]]:
    results = json.loads(answer.content)["Entries"]
    entries = json.loads(request.body)["Entries"]
    return [entry for entry, result in zip(entries, results, strict=True) if "ErrorCode" not in result]


_TAKEN = {"PutEvents": take_events, "SendMessage": take_message, "SendEmail": take_mail}
_THROTTLED = {**THROTTLED, "sesv2": "ThrottlingException"}


class Pocketsflow:
    """Stands between the functions and the fake Pocketsflow."""

    def __init__(self, engine: Engine, weather: Weather, random: Random, fake: Answering) -> None:
        self._engine, self._weather, self._random, self.fake = engine, weather, random, fake
        self.requests: list[tuple[float, str]] = []
        """When each was sent, in seconds since the epoch, and by which function."""
        self.sender = ""

    def send(self, sent: Sent) -> HTTPResponse:
        weather, chance = self._weather, self._random.random
        by_checkout = sent.path == "/checkout/sessions"
        self.requests.append((self._engine.clock.time(), "checkout" if by_checkout else "reconcile"))
        outage = weather.outage("pocketsflow", self._engine.clock.now)
        if chance() < weather.killed / 2:
            raise Killed(weather.counted("killed before a request to Pocketsflow"))
        self._engine.sleep(self._random.uniform(0.1, 0.8))
        if outage == "slow":
            weather.counted("Pocketsflow too slow")
            self._engine.sleep(3 if by_checkout else 10)
            raise read_timeout(sent)
        if outage == "down":
            weather.counted("Pocketsflow down")
            return self._busy(self._random.choice((500, 502, 503)))
        if outage == "throttled" or chance() < weather.too_many:
            weather.counted("Pocketsflow answered 429")
            return self._busy(429)
        with weather.elsewhere():
            answer = self.fake(sent)
        if answer.status == 429:
            weather.counted("Pocketsflow's own limit reached")
        if chance() < weather.killed / 2:
            raise Killed(weather.counted("killed after a request to Pocketsflow"))
        if chance() < weather.lost:
            weather.counted("Pocketsflow did it, and its answer was lost")
            raise ProtocolError
        return answer

    def _busy(self, status: int) -> HTTPResponse:
        headers = {}
        if status == 429 and self._random.random() < 0.5:
            headers["Retry-After"] = str(self._random.randint(1, 20))
        return response(status, headers, b"<html>busy</html>")
