"""What is put on the bus is shown, and reaches the functions whose rules it fits."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import moto
import pytest

from sandbox import aws, bus
from sandbox.bus import Published, RulePump
from sandbox.template import Function, Rule
from tests.conftest import template

ERROR = {"errorMessage": "boom", "errorType": "RuntimeError"}


@dataclass
class Worker:
    answer: Callable[[], Any] = lambda: None
    events: list[Any] = field(default_factory=list)

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        return self.answer()


@dataclass
class Bus:
    """The template's bus in moto."""

    name: str
    events: Any
    sqs: Any

    def put(self, kind: str = "order.paid", **detail: Any) -> str:
        """The id that EventBridge gave the event."""
        entry = {"Source": "pocketsflow.test", "DetailType": kind, "Detail": json.dumps(detail), "Resources": ["a:b"]}
        identity: str = self.events.put_events(Entries=[{**entry, "EventBusName": self.name}])["Entries"][0]["EventId"]
        return identity

    def published(self) -> Published:
        return Published([self.name], self.events, self.sqs)

    def pump(self, worker: Worker, pattern: Any, retries: int = 2) -> RulePump:
        function = Function("Connector", "connector.handler", {}, 1, [], retries=retries)
        return RulePump(function, Rule("Paid", self.name, json.dumps(pattern)), worker, self.events, self.sqs)


@pytest.fixture
def the_bus() -> Iterator[Bus]:
    with moto.mock_aws():
        stage = template()
        aws.create_resources(stage)
        yield Bus(stage.references["Bus"]["Ref"], aws.client("events", None), aws.client("sqs", None))


def test_the_templates_bus_and_archive(the_bus: Bus) -> None:
    """Both are there, under the bus's own name; what is published is archived."""
    assert the_bus.name == "pocketsflow-test"
    the_bus.put(order_id="1")
    assert the_bus.events.describe_archive(ArchiveName="sandbox-Archive")["EventCount"] == 1


def test_an_event_is_shown_whole(the_bus: Bus) -> None:
    """The envelope that EventBridge documents, and the detail as it was put there, whatever stands in it."""
    published = the_bus.published()
    detail = {"order_id": "1", "amount": "49.00", "said": '<id> <detail> "quoted" ü', "nested": {"list": [1, None]}}
    identity = the_bus.put(**detail)
    published.poll()
    [event] = published.shown()
    assert event.keys() == {
        *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
    }
    fixed = {"version": "0", "source": "pocketsflow.test", "account": "123456789012", "region": "eu-west-1"}
    assert event.items() >= {**fixed, "id": identity, "detail-type": "order.paid", "resources": ["a:b"]}.items()
    assert event["detail"] == detail
    age = datetime.now(UTC) - datetime.fromisoformat(event["time"])
    assert abs(age.total_seconds()) < 60


def test_the_newest_is_last_and_the_oldest_is_forgotten(the_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list does not grow for ever."""
    monkeypatch.setattr(bus, "SHOWN", 3)
    published = the_bus.published()
    for number in range(5):
        the_bus.put(order_id=str(number))
        published.poll()
    assert [event["detail"]["order_id"] for event in published.shown()] == ["2", "3", "4"]


def test_the_events_of_one_order(the_bus: Bus) -> None:
    """Others are left out: those of other orders, of none, and those whose detail is no object."""
    published = the_bus.published()
    the_bus.put(order_id="1")
    the_bus.put("webhook.other")
    the_bus.put(order_id="2")
    entry = {"Source": "x", "DetailType": "x", "Detail": '"1"', "EventBusName": the_bus.name}
    with pytest.warns(UserWarning, match="EventDetail should be of type dict"):
        the_bus.events.put_events(Entries=[entry])
    published.poll()
    assert len(published.shown()) == 4
    assert [event["detail"] for event in published.shown("2")] == [{"order_id": "2"}]


def test_a_rule_brings_its_function_what_fits(the_bus: Bus) -> None:
    """The whole event, to each function whose pattern it fits, besides the list that shows all."""
    published, paid, refunded = the_bus.published(), Worker(), Worker()
    pumps = [the_bus.pump(paid, {"detail-type": ["order.paid"], "detail": {"sku": [{"prefix": "co"}]}})]
    function = Function("Other", "other.handler", {}, 1, [])
    rule = Rule("Refunds", the_bus.name, '{"detail-type": ["order.refunded"]}')
    pumps.append(RulePump(function, rule, refunded, the_bus.events, the_bus.sqs))
    the_bus.put("order.paid", sku="course")
    the_bus.put("order.paid", sku="print")
    the_bus.put("order.refunded", sku="course")
    for _ in range(3):
        published.poll()
        for pump in pumps:
            pump.poll()
    shown = published.shown()
    assert len(shown) == 3
    assert paid.events == shown[:1]
    assert refunded.events == shown[2:]


@pytest.mark.parametrize("retries", [0, 2])
def test_what_failed_is_tried_again_as_often_as_said(the_bus: Bus, retries: int) -> None:
    """An asynchronous invocation: two retries unless the template says otherwise, a second and two seconds later (a
    minute and two on AWS), then it is dropped; another event does not wait for that."""
    worker = Worker(lambda: ERROR)
    pump = the_bus.pump(worker, {"detail-type": ["order.paid"]}, retries)
    the_bus.put(order_id="1")
    started = time.monotonic()
    while time.monotonic() < started + (4 if retries else 0.5):
        pump.poll()
        time.sleep(0.02)
    assert len(worker.events) == retries + 1
    worker.answer = lambda: None
    the_bus.put(order_id="2")
    pump.poll()
    pump.poll()
    assert [event["detail"]["order_id"] for event in worker.events] == ["1"] * (retries + 1) + ["2"]


def test_a_retry_that_succeeds_is_the_last(the_bus: Bus) -> None:
    """Once done, an event does not come again."""
    answers = iter([ERROR, None])
    worker = Worker(lambda: next(answers))
    pump = the_bus.pump(worker, {"detail-type": ["order.paid"]})
    the_bus.put(order_id="1")
    started = time.monotonic()
    while time.monotonic() < started + 2.5:
        pump.poll()
        time.sleep(0.02)
    assert len(worker.events) == 2
