"""Pocketsflow's API within reconciliation's share of its hundred requests a minute: paced, tried again within a bound,
and never past the function's time."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from payments import pocketsflow
from payments.pocketsflow import LIST_SECONDS, Page, RequestFailed

PER_MINUTE = 25
TOOLS_PER_MINUTE = 5
"""Of the hundred; checkouts have 70 (template.yaml). A person's tools, a dry run is one, count for themselves."""
WINDOW_SECONDS = 61
"""In which so many are sent: Pocketsflow counts its minute by a clock of its own."""
TRIES = 4
MARGIN_SECONDS = 10
"""For what an answer brings with it, and to put down where the walk is."""
_WORTH_ANOTHER_TRY = {"busy", "failed", "unreachable"}

Answer = TypeVar("Answer")


class NoTimeLeft(Exception):
    """One more request might outlast the function. Put down where you are: the next run goes on."""


class Provider:
    """`spent` are the times, in seconds since the epoch, of the requests of the last minute, runs before this one
    included; `now` and `remaining` tell the time and the seconds that the function has left."""

    def __init__(
        self,
        api_key: str,
        spent: Iterable[float],
        now: Callable[[], float],
        remaining: Callable[[], float],
        per_minute: int = PER_MINUTE,
    ) -> None:
        self._api_key = api_key
        self._now, self._remaining = now, remaining
        self._per_minute = per_minute
        self.spent: deque[float] = deque(spent, maxlen=per_minute)
        self.requests = 0

    def page(self, path: str, query: Mapping[str, str], number: int) -> Page:
        """Raises RequestFailed, after TRIES or when there is no time for another one, and NoTimeLeft."""
        return self._ask(lambda: pocketsflow.list_page(self._api_key, path, query, number))

    def read(self, path: str, identity: str) -> dict[str, Any] | None:
        """Raises the same."""
        return self._ask(lambda: pocketsflow.read(self._api_key, path, identity))

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        for tries_left in reversed(range(TRIES)):
            self._take_turn()
            try:
                return call()
            except RequestFailed as failure:
                if failure.reason not in _WORTH_ANOTHER_TRY or not tries_left:
                    raise
                pause = 2.0 ** (TRIES - tries_left) * random.uniform(0.5, 1.5)  # noqa: S311
                try:
                    self._sleep(pause if failure.retry_after is None else failure.retry_after)
                except NoTimeLeft:
                    raise failure from None
        raise AssertionError("the last try returns or raises")

    def _take_turn(self) -> None:
        """Waits until a minute has no more requests than it may have, this one included."""
        full = len(self.spent) == self._per_minute
        self._sleep(max(0.0, self.spent[0] + WINDOW_SECONDS - self._now()) if full else 0.0)
        self.spent.append(self._now())
        self.requests += 1

    def _sleep(self, seconds: float) -> None:
        if seconds + LIST_SECONDS + MARGIN_SECONDS > self._remaining():
            raise NoTimeLeft
        if seconds:
            time.sleep(seconds)
