"""A Lambda execution environment without Lambda: AWS's Runtime Interface Emulator in front of a runtime that has an
artifact as its folder. The emulator comes with the SAM CLI, Lambda's runtime client for Python as a package.

One environment answers one event at a time, as Lambda's do; many at once are many environments.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sandbox.servers import HOST
from sandbox.template import ROOT

PYTHON = (sys.executable, "-m", "awslambdaric")
"""The command of a runtime; the handler's name follows."""
START_SECONDS = 15
"""Of the emulator itself; the runtime starts with the first event."""
ANSWER_SECONDS = 120
"""Longer than any timeout of a function here: that one, and not this, ends a call that hangs."""
END_SECONDS = 2
LOG_LINES, LOG_BYTES = 20, 10_000
"""Of the log at most, in a complaint."""
FRAMES = ("START RequestId", "END RequestId", "REPORT RequestId")
"""Lines that the emulator puts around each event."""
TRIES = 3
"""Each with ports of its own: between finding a free one and taking it somebody else may."""

MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
"""As AWS names it."""


class Failed(Exception):
    """The environment did not answer as its handler would; says what came instead, and the last lines of its log."""


def missing() -> str | None:
    """What keeps environments from starting here."""
    if sys.platform != "linux":
        return "it runs on Linux only"
    if importlib.util.find_spec("awslambdaric") is None:
        return "it needs the package awslambdaric (make test sets it up)"
    if _emulator() is None:
        return "it needs the Runtime Interface Emulator of the SAM CLI (make test sets it up)"
    return None


def _emulator() -> str | None:
    name = f"samcli/local/rapid/aws-lambda-rie-{MACHINE}"
    found = (ROOT / ".venv/sam").glob(f"lib/python*/site-packages/{name}")
    return next((str(path) for path in found if os.access(path, os.X_OK)), None)


class Environment:
    """Runs until close(), and no longer than the thread that has made it."""

    def __init__(self, command: Sequence[str], artifact: Path, environment: Mapping[str, str]) -> None:
        """`command` starts the runtime, in the folder `artifact` and with no other variables than `environment`'s and
        the emulator's; it is not run before the first event. Raises Failed."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the environment
        for _ in range(TRIES):
            if self._start(command, artifact, environment):
                return
            self._end()
        raise self._failed("the emulator does not start")

    @property
    def pid(self) -> int:
        """Of the emulator."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def invoke(self, event: Any) -> Any:
        """What the handler returns. Raises Failed for what it raises, a timeout, and a runtime that ended; the next
        event starts another one then, as on Lambda."""
        try:
            self._connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            answer = self._connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._failed(f"no answer: {error!r}") from error
        try:
            content = json.loads(answer)
        except ValueError:  # a timeout is told in plain words
            raise self._failed(answer.decode(errors="replace")) from None
        if isinstance(content, dict) and "errorType" in content:
            raise self._failed(f"{content['errorType']}: {content.get('errorMessage')}")
        return content

    def cpu(self) -> float:
        """Seconds of user and system time that the runtime has taken, threads that have ended among them."""
        # What clock_getcpuclockid(3) makes of a process id: nanoseconds, and /proc has hundredths of a second.
        return time.clock_gettime(~self._process_of_runtime() << 3 | 2)

    def memory(self) -> int:
        """Bytes of memory that the runtime had at most (VmHWM)."""
        status = Path(f"/proc/{self._process_of_runtime()}/status").read_text()
        [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(kilobytes) * 1024

    def close(self) -> None:
        self._end()
        self._log.close()

    def _start(self, command: Sequence[str], artifact: Path, environment: Mapping[str, str]) -> bool:
        """Whether it listens."""
        port, of_runtime = _free_ports()
        addresses = (
            *("--runtime-interface-emulator-address", f"{HOST}:{port}"),
            *("--runtime-api-address", f"{HOST}:{of_runtime}"),
        )
        variables = {
            "PATH": os.environ["PATH"],
            **environment,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "PYTHONDONTWRITEBYTECODE": "1",  # root may write anywhere
        }
        variables.pop("PYTHONPATH", None)  # to other modules than the artifact's
        # Also the end of this process by force ends it, and its end the runtime's, which has nothing left to ask.
        bound = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        self._process = subprocess.Popen(
            [*bound, str(_emulator()), "--log-level", "error", *addresses, *command],
            cwd=artifact,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self._connection.connect()
            except OSError:
                time.sleep(0.002)
            else:
                return True
        return False

    def _end(self) -> None:
        """It ends its runtime, unless it hangs."""
        self._connection.close()
        runtimes = _children(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in runtimes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _process_of_runtime(self) -> int:
        """Raises Failed before the first event, and when the runtime has ended."""
        match _children(self._process.pid):
            case [pid]:
                return pid
        raise self._failed("no runtime is there")

    def _failed(self, what: str) -> Failed:
        log = self._log.fileno()
        last = os.pread(log, LOG_BYTES, max(0, os.fstat(log).st_size - LOG_BYTES))  # no seek: it would move the writers
        lines = [line for line in last.decode(errors="replace").splitlines() if not line.startswith(FRAMES)]
        return Failed("\n".join([what, *lines[-LOG_LINES:]]))


def _free_ports() -> tuple[int, int]:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _children(parent: int) -> list[int]:
    """Process ids."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, children.read_text().split())
    return found
