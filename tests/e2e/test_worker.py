"""A function's process that fails is answered for as Lambda does, and replaced."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.template import Function
from sandbox.worker import Worker

FAULTY = Function("Faulty", "tests.e2e.faulty_functions.handler", {}, 1, [])


@pytest.fixture
def worker() -> Iterator[Worker]:
    running = Worker(FAULTY, {})
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


def test_two_environments_of_a_function_share_their_log() -> None:
    """Whichever of them answered, its lines are where one looks for the function's."""
    printing = Function("Printing", "builtins.print", {}, 1, [])
    first = Worker(printing, {})
    second = Worker(printing, {}, first.logs)
    for worker, word in ((first, "one"), (second, "two")):
        worker.wait_until_ready()
        assert worker.invoke(word) is None
        worker.close()
    assert [line.split()[0] for line in first.logs] == ["one", "two"]


def test_the_end_answers_whoever_waits() -> None:
    """An invocation under way, and one behind it, end with the function, and no new process takes its place."""
    worker = Worker(Function("Faulty", FAULTY.handler, {}, 60, []), {})
    worker.wait_until_ready()
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(worker.invoke("hang"))) for _ in range(2)]
    for caller in callers:
        caller.start()
    time.sleep(0.2)
    started = time.monotonic()
    worker.close()
    for caller in callers:
        caller.join(15)
    assert time.monotonic() - started < 5
    assert sorted(answer["errorType"] for answer in answers) == ["Runtime.ExitError", "Sandbox.Closed"]
    assert worker.invoke("hello")["errorType"] == "Sandbox.Closed"
    worker.close()
    children = ["ps", "-o", "command=", "--ppid", str(os.getpid())]
    left = subprocess.run(children, capture_output=True, text=True, check=False).stdout
    assert FAULTY.handler not in left


def test_a_function_that_does_not_start_again(worker: Worker) -> None:
    """Its calls fail, with its own words; the first after its repair finds it gone, the next does not."""
    worker.function = Function("Faulty", "no_such_module.handler", {}, 1, [])
    failed = {"errorMessage": "Faulty: ModuleNotFoundError: No module named 'no_such_module'"}
    for event in ("die", "hello"):
        assert worker.invoke(event) == {**failed, "errorType": "Runtime.ExitError"}
    worker.function = FAULTY
    assert worker.invoke("hello")["errorType"] == "Runtime.ExitError"
    assert worker.invoke("hello") == "hello"
