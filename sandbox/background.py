"""What AWS does between two requests: steps that threads repeat until the sandbox ends."""

import threading
import time
import traceback
from collections.abc import Callable

LOOK_SECONDS = 0.05
"""From one look at a stream or a queue to the next. A look costs microseconds and no request (sandbox/aws.py)."""
PAUSE_SECONDS = 1.0
"""After a step that raised."""


class Background:
    """Threads that repeat their steps. What a step raises is told on standard error and ends nothing."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def repeat(self, step: Callable[[], None], seconds: float = LOOK_SECONDS, first_after: float = 0) -> None:
        """Starts a thread: `step`, every so many seconds, for the first time after `first_after`."""
        thread = threading.Thread(target=self._run, args=(step, seconds, first_after), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """No step begins any more. Those under way end with the functions they wait for: close these, then join."""
        self.ended.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, step: Callable[[], None], seconds: float, first_after: float) -> None:
        due = time.monotonic() + first_after
        while not self.ended.wait(max(0, due - time.monotonic())):
            due = max(due, time.monotonic()) + seconds
            try:
                step()
            except Exception:  # noqa: BLE001  # whatever it was, the next step may succeed
                due = max(due, time.monotonic() + PAUSE_SECONDS)
                if not self.ended.is_set():
                    traceback.print_exc()
