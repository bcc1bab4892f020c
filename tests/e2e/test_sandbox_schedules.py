"""Schedules fire for real, and what runs beside the requests ends with the sandbox, whatever happens in it."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import background as background_module
from sandbox import schedules
from sandbox.background import Background
from sandbox.template import Function, Schedule

ERROR = {"errorMessage": "boom", "errorType": "RuntimeError"}


class Worker:
    """Answers one after the other, then None, and remembers what it got and when."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.events: list[Any] = []
        self.times: list[float] = []

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        self.times.append(time.monotonic())
        return self._answers.pop(0) if self._answers else None


@pytest.fixture
def background() -> Iterator[Background]:
    running = Background()
    yield running
    running.stop()
    running.join()


def function(*every: tuple[int, Any], retries: int = 0) -> Function:
    plan = tuple(Schedule(seconds, given) for seconds, given in every)
    return Function("Walk", "walk.handler", {}, 1, [], schedules=plan, retries=retries)


def wait_for(worker: Worker, events: int) -> None:
    until = time.monotonic() + 15
    while len(worker.events) < events and time.monotonic() < until:
        time.sleep(0.01)
    assert len(worker.events) >= events


def test_the_most_frequent_schedule_fires_at_once(background: Background) -> None:
    """Nobody waits five minutes to see what it does; the rarer ones wait for their time."""
    worker = Worker()
    schedules.start(function((3600, "hours"), (300, {"walk": "recent"}), (86400, "days")), worker, background)
    wait_for(worker, 1)
    time.sleep(0.1)
    assert worker.events == [{"walk": "recent"}]


def test_a_schedule_fires_again_after_its_interval(background: Background) -> None:
    """And each with its own input."""
    worker = Worker()
    schedules.start(function((1, "often"), (2, "seldom")), worker, background)
    wait_for(worker, 4)
    assert worker.events[:2] == ["often", "often"]
    assert sorted(worker.events[2:4]) == ["often", "seldom"]
    assert worker.times[1] - worker.times[0] > 0.9


@pytest.mark.parametrize(("retries", "invocations"), [(0, 1), (1, 2)])
def test_an_invocation_that_failed_is_tried_again_as_often_as_said(
    background: Background, retries: int, invocations: int
) -> None:
    """The template's EventInvokeConfig: none for a function whose next run is the retry."""
    worker = Worker(ERROR, ERROR, ERROR)
    schedules.start(function((3600, "x"), retries=retries), worker, background)
    wait_for(worker, invocations)
    time.sleep(1.2)
    assert len(worker.events) == invocations


def test_a_retry_that_succeeds_is_the_last(background: Background) -> None:
    """Two are allowed, one was needed."""
    worker = Worker(ERROR)
    schedules.start(function((3600, "x"), retries=2), worker, background)
    wait_for(worker, 2)
    time.sleep(0.1)
    assert len(worker.events) == 2


def test_a_step_that_raises_ends_nothing(
    background: Background, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told where a person sees it, and the next step comes after a pause."""
    monkeypatch.setattr(background_module, "PAUSE_SECONDS", 0.1)
    done = threading.Event()
    calls: list[float] = []

    def step() -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise RuntimeError("broken once")
        done.set()

    background.repeat(step)
    assert done.wait(15)
    assert calls[1] - calls[0] > 0.09
    assert "RuntimeError: broken once" in capfd.readouterr().err


def test_everything_ends_when_it_is_told_to() -> None:
    """No thread is left, neither one that waits for its time nor one between two tries."""
    running = Background()
    worker = Worker(*[ERROR] * 10)
    schedules.start(function((3600, "x"), (7200, "y"), retries=5), worker, running)
    wait_for(worker, 1)
    before = threading.active_count()
    started = time.monotonic()
    running.stop()
    running.join()
    assert time.monotonic() - started < 1
    assert threading.active_count() == before - 2
    assert len(worker.events) == 1
