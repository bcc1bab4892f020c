"""What every connector has: each event once, for three days, in any order, whatever fails on the way."""

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from botocore.exceptions import EndpointConnectionError
from werkzeug.wrappers import Request, Response

from connectors import consumer, deliveries, outgoing
from connectors.consumer import Event
from connectors.outgoing import Undelivered
from tests.connected import HIDDEN, TRIES, Fault, Line
from tests.integration.outages import Told


class Platform:
    """Takes what it is sent."""

    stack = "FeedStack"
    parameters: ClassVar = {"Feed": "on"}
    secret = "https://hooks.example/1234567890"

    def __init__(self) -> None:
        self.taken: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.taken.append(Request(environ).get_data(as_text=True))
        return Response("ok")(environ, start_response)


def module() -> Any:
    """A connector that keeps up to date."""

    def deliver(event: Event, now: datetime) -> str:
        if not deliveries.is_current(event.subject, event.revision, now):
            return "older"
        outgoing.must_succeed(outgoing.send("POST", "https://hooks.example/hook", body=event.id.encode()))
        return "delivered"

    made = SimpleNamespace(SECRET_ARN="", deliver=deliver)
    made.handler = lambda event, context: consumer.consume(
        event, context, lambda *told: made.deliver(*told), lambda kind, _: {"outcome": f"fine {kind}"}
    )
    return made


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def line(connect: Callable[..., Line], platform: Platform) -> Line:
    return connect(module(), platform)


def test_delivers_once(line: Line, platform: Platform):
    """An event that comes twice, at once or later, is delivered once."""
    told = line.publish("order.paid")
    line.work()
    line.repeat()
    line.repeat()
    line.work(hours=80)
    assert platform.taken == [told["id"]]
    assert line.outcomes() == {told["id"]: "delivered"}


@pytest.mark.parametrize("mode", ["live", "test"])
def test_other_mode_is_not_told(line: Line, platform: Platform, mode: str):
    """A test's payment reaches no platform of a live shop: the rule lets this stack's mode through, no other."""
    line.publish("order.paid", mode=mode)
    line.work()
    assert len(platform.taken) == (mode == "test")


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_older_does_nothing(line: Line, platform: Platform, order: tuple[int, ...]):
    """Of one subject nothing is delivered behind what is newer."""
    for revision in order:
        line.publish("order.paid", revision=revision, id=str(revision))
        line.work()
    assert platform.taken == [str(each) for number, each in enumerate(order) if each == max(order[: number + 1])]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(500),
        Fault(503, body=b"<html>"),
        Fault(301, {"Location": "https://elsewhere.example/"}),
        Fault(401),
        Fault(404),
        Fault(lost="request"),
    ],
    ids=["429", "500", "503", "redirect", "401", "404", "lost"],
)
def test_failure_heals(line: Line, platform: Platform, fault: Fault):
    """What fails eleven times is delivered the twelfth, within three days, and lies nowhere else."""
    told = line.publish("order.paid")
    line.faults = [fault] * (TRIES - 1)
    started = line.clock.now
    line.work(hours=80)
    assert platform.taken == [told["id"]]
    assert line.dead == line.waiting == []
    assert len(line.requests) == TRIES
    assert line.items()[f"event#{told['id']}"]["at"] < deliveries.timestamp(started + timedelta(days=3.3))


def test_dead_letter_after_the_stated_tries(line: Line, platform: Platform):
    """Twelve tries in about three days, then it is laid aside and tried no more; a redrive delivers it."""
    told = line.publish("order.paid")
    line.faults = [Fault(500)] * TRIES
    line.work(hours=60)
    assert line.dead == []
    line.work(hours=20)  # with the scatter; nothing is waited for behind the last try
    assert len(line.requests) == TRIES
    assert (len(line.dead), line.waiting, platform.taken) == (1, [], [])
    line.redrive()
    line.work()
    assert platform.taken == [told["id"]]
    assert line.dead == []


def test_retry_after_is_honoured(line: Line, platform: Platform):
    """Who asks for time is given it, however soon the next try would have been."""
    line.publish("order.paid")
    line.faults = [Fault(429, {"Retry-After": "7200"})]
    line.work(hours=1.9)
    assert platform.taken == []
    line.work(hours=0.2)
    assert len(platform.taken) == 1


def test_endless_retry_after_is_bounded(line: Line, platform: Platform):
    """SQS hides nothing for longer than twelve hours."""
    line.publish("order.paid")
    line.faults = [Fault(429, {"Retry-After": "999999"})]
    line.work(hours=12.1)
    assert len(platform.taken) == 1


def test_one_failure_is_not_the_others(line: Line, platform: Platform):
    """Of a batch only what failed comes again."""
    told = [line.publish("order.paid", id=str(number), subject=f"order#{number}") for number in range(5)]
    line.faults = [None, Fault(500), None, Fault(500)]
    answers = line.work()
    assert [len(answer["batchItemFailures"]) for answer in answers] == [1, 1]
    line.work(hours=1)
    assert sorted(platform.taken) == sorted(each["id"] for each in told)


def test_surprise_is_tried_again(line: Line, platform: Platform, told: Told):
    """An error that nobody thought of loses nothing, stops nobody else, and is told without its message."""
    deliver, seen = line._module.deliver, []

    def surprise(event: Event, now: datetime) -> str:
        seen.append(event.id)
        if seen == ["1"]:
            raise RuntimeError("buyer@example.com")
        return str(deliver(event, now))

    line._module.deliver = surprise
    for number in range(2):
        line.publish("order.paid", id=str(number + 1), subject=f"order#{number}")
    line.work(hours=1)
    assert sorted(platform.taken) == ["1", "2"]
    printed = told.text()
    assert "buyer@example.com" not in printed
    assert "connector_error" in printed


def test_crash_between_effect_and_note(line: Line, platform: Platform):
    """A process that ends behind the effect delivers again: the other side, or the module, has to know it by its id."""
    told = line.publish("order.paid")
    line.crashes = 1
    line.work()
    assert platform.taken == [told["id"]]
    line.work(hours=HIDDEN.total_seconds() / 3600)
    assert platform.taken == [told["id"]] * 2
    assert line.outcomes() == {told["id"]: "delivered"}


def test_two_at_once(line: Line, platform: Platform):
    """While one environment is at an event, another leaves it alone and comes back later."""
    told = line.publish("order.paid")
    deliver = line._module.deliver

    def overtaken(event: Event, now: datetime) -> str:
        line._module.deliver = deliver
        line.repeat()
        [again] = [message for message in line.waiting if not message.tries]
        line._invoke([again])
        return str(deliver(event, now))

    line._module.deliver = overtaken
    line.work(hours=1)
    assert platform.taken == [told["id"]]
    assert line.waiting == line.dead == []


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"detail": 1}', '{"detail-type": "order.paid", "detail": {}}']
)
def test_unreadable_message(line: Line, platform: Platform, told: Told, body: str):
    """What is no event of ours harms no other and ends among the dead letters, where a person sees it."""
    line.publish("order.paid")
    line.work()
    line.waiting.append(line._message(body))
    line.work(hours=90)
    assert len(line.dead) == 1
    assert len(platform.taken) == 1
    assert "connector_unreadable" in told.text()


def test_ledger_of_deliveries_is_down(line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """Without its table nothing is sent, and what came is delivered when the table is back."""
    told = line.publish("order.paid")

    def down(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    with monkeypatch.context() as patch:
        patch.setattr(deliveries.client, "update_item", down)
        line.work(hours=10)
    assert platform.taken == []
    line.work(hours=80)
    assert platform.taken == [told["id"]]


def test_reason_is_kept_and_gone(line: Line):
    """Why an event was not delivered stands in the table until it is."""
    told = line.publish("order.paid")
    line.faults = [Fault(500)]
    line.work()
    item = line.items()[f"event#{told['id']}"]
    assert (item["failure"], item["tries"]) == ("failed", 1)
    line.work(hours=1)
    assert "failure" not in line.items()[f"event#{told['id']}"]
    assert line.items()["connector"]["failure"] == "failed"


def test_at_once(line: Line, told: Told):
    """What no waiting mends is told at the first try, and at no further one."""
    line.publish("order.paid")
    line.faults = [Fault(401)] * 3
    line.work(hours=1)
    assert told.text().count("connector_unauthorized") == 1


@pytest.mark.parametrize(("failures", "late"), [(3, 0), (4, 1), (12, 1)])
def test_half_an_hour_late(line: Line, monkeypatch: pytest.MonkeyPatch, failures: int, late: int):
    """An event that half an hour of tries did not deliver is counted once, for the alarm: not what heals by then."""
    counted: list[str] = []
    monkeypatch.setattr(consumer, "count", counted.append)
    line.publish("order.paid")
    line.faults = [Fault(503)] * failures
    line.work(hours=90)
    assert counted.count("DeliveryLate") == late


def test_last_try_is_the_end(line: Line):
    """Behind its twelfth failure an event lies among the dead letters at once, where somebody is told of it."""
    line.publish("order.paid")
    line.faults = [Fault(500)] * TRIES
    while len(line.requests) < TRIES:
        line.work(hours=1)
    assert (len(line.dead), line.waiting) == (1, [])


def test_check(line: Line):
    """`{"test": …}` checks and delivers nothing; what it met is said by its reason."""
    assert line._module.handler({"test": "order.paid"}, None) == {"outcome": "fine order.paid"}

    def fails(_kind: str, _now: datetime) -> dict[str, str]:
        raise Undelivered("unauthorized")

    assert consumer.consume({"test": ""}, None, lambda *_: "", fails) == {"outcome": "failed", "reason": "unauthorized"}  # type: ignore[arg-type]
