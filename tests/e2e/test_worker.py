"""A function's process that fails is answered for as Lambda does, and replaced."""

import time
from collections.abc import Iterator

import pytest

from sandbox.template import Function
from sandbox.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    running = Worker(Function("Faulty", "tests.e2e.faulty_functions.handler", {}, 1, []), {})
    running.wait_until_ready()
    yield running
    running.close()


@pytest.mark.parametrize(("event", "kind"), [("hang", "Sandbox.Timedout"), ("die", "Runtime.ExitError")])
def test_a_function_that_gives_no_answer(worker: Worker, event: str, kind: str) -> None:
    """A timeout or a death is an error of this call alone: the next finds a new process."""
    assert worker.invoke(event)["errorType"] == kind
    assert worker.invoke("hello") == "hello"


def test_a_function_that_dies_between_two_calls(worker: Worker) -> None:
    """The call that finds it dead fails, the next does not."""
    worker._process.kill()
    worker._process.wait()
    time.sleep(0.05)
    assert worker.invoke("hello")["errorType"] == "Runtime.ExitError"
    assert worker.invoke("hello") == "hello"
