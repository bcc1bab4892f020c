"""Time that a test lets pass, and what the handlers ask of it."""

from datetime import datetime, timedelta
from typing import Any


class Clock:
    """The time of a world. `datetime` and `time` stand for the modules' own."""

    def __init__(self, start: datetime) -> None:
        self.now = start
        clock = self

        class Virtual(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return clock.now.astimezone(tz)

        self.datetime = Virtual

    def passes(self, **span: float) -> None:
        self.now += timedelta(**span)

    def time(self) -> float:
        return self.now.timestamp()

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.passes(seconds=seconds)


class Context:
    """Of an invocation that has begun now."""

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock, self._deadline = clock, clock.now + timedelta(seconds=timeout)

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - self._clock.now).total_seconds() * 1000))
