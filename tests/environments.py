"""Lambda environments as processes: one for each event, killed where a test says so.

None sends its first request to the ledger before all others are about to: whatever can collide does.
`python -m tests.environments MODULE` imports the function once, as a cold start does, and forks an environment for each
event from there: fifty of them cost what one costs.
"""

import importlib
import itertools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import urllib3
from urllib3.util import parse_url

from sandbox.template import ROOT
from sandbox.worker import Context

KILLED = 86
PATIENCE = 60
"""Seconds an environment has: who is first, not who is fast, is the question here."""


Kill = tuple[Literal["before", "after"], int]
"""Around the nth request that an environment sends."""


@dataclass(frozen=True)
class Run:
    """What became of one event: its answer (None when the environment was killed) and the requests it sent, each as
    "service operation" for AWS and "METHOD /path" for HTTP."""

    answer: dict[str, Any] | None
    sent: list[str]
    code: int
    """0, or KILLED; everything else is a defect, told on standard error."""

    @property
    def content(self) -> dict[str, Any]:
        """Of the answer."""
        assert self.answer is not None
        content: dict[str, Any] = json.loads(self.answer["body"])
        return content

    @property
    def outcome(self) -> str:
        """The outcome or the code that was answered; "killed" for none."""
        content = {"code": "killed"} if self.answer is None else self.content
        return str(content.get("outcome") or content.get("code") or "created")


class Environments:
    """A function, imported with `environment`, that answers events in processes of their own."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.environments", module],
            cwd=ROOT, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, events: Sequence[Any], kill: Kill | None = None) -> list[Run]:
        """Answers all events at once; with `kill`, none of them lives past that point."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps({"events": events, "kill": kill}) + "\n")
        self._parent.stdin.flush()
        runs = [Run(**run) for run in json.loads(self._parent.stdout.readline())]
        assert {run.code for run in runs} <= {0, KILLED}
        return runs

    def close(self) -> None:
        self._parent.communicate(timeout=15)


def _fork(handler: Callable[[Any, Any], Any], event: Any, kill: Kill | None, gate: tuple[int, int]) -> tuple[int, int]:
    """Process id of an environment, and where it reports."""
    report, reports = os.pipe()
    if pid := os.fork():
        os.close(reports)
        return pid, report
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the parent's answers, not the function's log
        with os.fdopen(reports, "w") as lines:
            _watch_the_wire(lambda request: print(json.dumps(request), file=lines, flush=True), kill, gate)
            print(json.dumps({"answer": handler(event, Context(PATIENCE))}), file=lines, flush=True)
        code = 0
    except BaseException:  # noqa: BLE001  # there is nobody above
        traceback.print_exc()
    finally:
        os._exit(code)


def _watch_the_wire(report: Callable[[str], None], kill: Kill | None, gate: tuple[int, int]) -> None:
    """Every request that leaves the process passes here: botocore's, and those of payments.outbound."""
    import botocore.httpsession

    numbers, waited = itertools.count(1), False

    def watched(send: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def wrapper(self: Any, *request: Any, **options: Any) -> Any:
            nonlocal waited
            number = next(numbers)  # of this request, whatever threads there are
            if not waited and name(*request).startswith("dynamodb"):
                waited = True
                os.close(gate[1])
                os.read(gate[0], 1)  # ends when the last one has closed it
            if kill == ("before", number):
                os._exit(KILLED)
            report(name(*request))
            answer = send(self, *request, **options)
            if kill == ("after", number):
                os._exit(KILLED)
            return answer

        return wrapper

    session = botocore.httpsession.URLLib3Session
    session.send = watched(session.send, operation)
    manager = urllib3.PoolManager  # botocore goes past its urlopen
    manager.urlopen = watched(manager.urlopen, lambda method, url: f"{method} {parse_url(url).request_uri}")


def operation(request: Any) -> str:
    """What a request to AWS asks for, as in "dynamodb PutItem"; S3, which has no targets, gives the method."""
    target = request.headers.get("X-Amz-Target", f"s3.{request.method}")
    service, _, operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")
    name = service.partition("_")[0].lower()
    return f"{name.removeprefix('amazon').removeprefix('aws')} {operation}"


def _collect(pid: int, report: int) -> dict[str, Any]:
    with os.fdopen(report) as lines:
        told = [json.loads(line) for line in lines]
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    answer = told.pop()["answer"] if code == 0 else None
    return {"answer": answer, "sent": told, "code": code}


def _main(module: str) -> None:
    handler = importlib.import_module(module).handler
    for line in sys.stdin:
        job = json.loads(line)
        kill = tuple(job["kill"]) if job["kill"] else None
        gate = os.pipe()
        started = [_fork(handler, event, kill, gate) for event in job["events"]]
        os.close(gate[1])
        print(json.dumps([_collect(pid, report) for pid, report in started]), flush=True)
        os.close(gate[0])


if __name__ == "__main__":
    _main(sys.argv[1])
