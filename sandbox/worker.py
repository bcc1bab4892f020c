"""One Lambda environment: a process with the function's own environment that answers one event at a time.

Started by `Worker`, as `python -m sandbox.worker HANDLER DESCRIPTOR`; events come and answers go as lines of JSON.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.template import PSEUDO_PARAMETERS, ROOT, Function

ACCESS_KEY = "sandbox"
"""Of every function's requests to AWS."""
INIT_SECONDS = 60


class Worker:
    """A function of the template, running. `logs` holds what it printed last."""

    def __init__(
        self,
        function: Function,
        environment: Mapping[str, str],
        logs: deque[str] | None = None,
        hear: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`logs` of another environment of the same function, to share them; each line is told to `hear`, too."""
        self.function = function
        self.logs: deque[str] = deque(maxlen=1000) if logs is None else logs
        self._hear = hear
        self._environment = {**lambda_environment(function), **environment}
        self._one_at_a_time = threading.Lock()
        self._closed = False
        self._start()

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the function's own words when its module does not import."""
        self._socket.settimeout(INIT_SECONDS)
        first = json.loads(self._lines.readline() or '{"errorMessage": "the process ended"}')
        if "errorMessage" in first:
            raise RuntimeError(f"{self.function.logical_id}: {first['errorMessage']}")

    def invoke(self, event: Any) -> Any:
        """What the handler returned. What it raised, or a timeout, comes as Lambda gives it: {"errorMessage", …}.

        So does the end of the sandbox: with close() whoever waits here is answered at once.
        """
        with self._one_at_a_time:
            if self._closed:
                return {"errorMessage": "The sandbox ends", "errorType": "Sandbox.Closed"}
            try:
                self._socket.settimeout(self.function.timeout)
                self._socket.sendall(json.dumps(event).encode() + b"\n")
                if line := self._lines.readline():
                    return json.loads(line)
                error, kind = "Runtime exited", "Runtime.ExitError"
            except ConnectionError:
                error, kind = "Runtime exited", "Runtime.ExitError"
            except TimeoutError:
                error, kind = f"Task timed out after {self.function.timeout:.2f} seconds", "Sandbox.Timedout"
            self._end()
            if not self._closed:
                self._start()
                try:
                    self.wait_until_ready()
                except RuntimeError as failure:  # the next event tries again
                    error = str(failure)
            return {"errorMessage": error, "errorType": kind}

    def close(self) -> None:
        self._closed = True
        self._process.kill()  # an invocation under way ends with it
        with self._one_at_a_time:  # and the process it may have put in place meanwhile is ended here
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._lines.close()
        self._socket.close()
        self._log_reader.join()

    def _start(self) -> None:
        self._socket, other = socket.socketpair()
        self._lines = self._socket.makefile("rb")
        self._process = subprocess.Popen(  # noqa: S603  # ourselves
            [sys.executable, "-m", "sandbox.worker", self.function.handler, str(other.fileno())],
            env=self._environment,
            cwd=ROOT,
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the sandbox, which ends its workers
        )
        other.close()
        self._log_reader = threading.Thread(target=self._read_logs, daemon=True)
        self._log_reader.start()

    def _read_logs(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        with self._process.stdout as lines:
            for line in lines:
                self.logs.append(line.rstrip())
                self._hear(line)


class Context:
    """What the handlers ask of Lambda's context object."""

    def __init__(self, timeout: int) -> None:
        self._deadline = time.monotonic() + timeout
        self.aws_request_id = str(uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def lambda_environment(function: Function) -> dict[str, str]:
    """The function's own variables and those that Lambda adds; nothing of the person's shell."""
    return {
        **function.environment,
        "AWS_REGION": PSEUDO_PARAMETERS["AWS::Region"],
        "AWS_DEFAULT_REGION": PSEUDO_PARAMETERS["AWS::Region"],
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_LAMBDA_FUNCTION_NAME": function.logical_id,
        "SANDBOX_TIMEOUT": str(function.timeout),
        "PYTHONPATH": f"{ROOT / 'functions'}{os.pathsep}{ROOT}",
        "PYTHONUNBUFFERED": "1",
    }


def _serve(handler_name: str, descriptor: int) -> None:
    module_name, _, function_name = handler_name.rpartition(".")
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as events:

        def send(answer: object) -> None:
            connection.sendall(json.dumps(answer).encode() + b"\n")

        try:
            handler = getattr(importlib.import_module(module_name), function_name)
        except Exception as error:  # noqa: BLE001  # told to the parent, which refuses to start
            send({"errorMessage": f"{type(error).__name__}: {error}"})
            return
        send({"ready": True})
        timeout = int(os.environ["SANDBOX_TIMEOUT"])
        for event in events:
            try:
                answer = handler(json.loads(event), Context(timeout))
                send(answer)
            except Exception as error:  # noqa: BLE001  # as Lambda does
                traceback.print_exc()
                send({"errorMessage": str(error), "errorType": type(error).__name__})


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
