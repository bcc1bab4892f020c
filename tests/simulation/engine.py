"""Virtual time. Events happen in the order of their moments; what an event does may wait, and others happen meanwhile.

Everything runs in one thread: an event that waits is a greenlet that is set aside. So one seed gives one history.
"""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

from payments import aws
from tests.world import Clock


class Engine:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._due: list[tuple[datetime, int, Callable[[], object]]] = []
        self._numbers = count()
        self._hub = getcurrent()
        self.kept: list[tuple[Any, str]] = [(aws, "_deadline")]
        """Names of modules that belong to one environment: each function is a process of its own."""
        clock.sleep = self.sleep  # type: ignore[method-assign]

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        self.at(self.clock.now + timedelta(seconds=seconds), do)

    def at(self, moment: datetime, do: Callable[[], object]) -> None:
        heapq.heappush(self._due, (moment, next(self._numbers), do))

    def run(self, until: datetime) -> None:
        """Until nothing is due before that moment. What an event raises ends the run."""
        while self._due and self._due[0][0] <= until:
            moment, _, do = heapq.heappop(self._due)
            self.clock.now = max(self.clock.now, moment)
            if isinstance(do, greenlet):
                do.switch()
            else:
                greenlet(do).switch()
        self.clock.now = max(self.clock.now, until)

    def sleep(self, seconds: float) -> None:
        """In place of the functions' `time.sleep`: others have their turn, where something is due before."""
        end = self.clock.now + timedelta(seconds=seconds)
        sleeper = getcurrent()
        if sleeper is self._hub or not self._due or self._due[0][0] > end:
            self.clock.now = end
            return
        own = [(module, name, getattr(module, name)) for module, name in self.kept]
        self.at(end, sleeper)
        self._hub.switch()
        for module, name, value in own:
            setattr(module, name, value)
