"""EventBridge Scheduler: functions that run again and again, for real.

A function's most frequent schedule fires at once, so that what it does is seen without waiting; the others fire for the
first time after their interval.
"""

from collections.abc import Callable
from threading import Event

from sandbox.background import Background
from sandbox.invocation import Invocable, failed
from sandbox.template import Function, Schedule


def start(function: Function, worker: Invocable, background: Background) -> None:
    at_once = min((schedule.seconds for schedule in function.schedules), default=0)
    for schedule in function.schedules:
        step = firing(function, schedule, worker, background.ended)
        background.repeat(step, schedule.seconds, 0 if schedule.seconds == at_once else schedule.seconds)


def firing(function: Function, schedule: Schedule, worker: Invocable, ended: Event) -> Callable[[], None]:
    """One invocation, asynchronous as Scheduler's are: tried again as often as the function says, after a second for
    each try before it (a minute on AWS)."""

    def fire() -> None:
        for tries in range(1, function.retries + 2):
            if not failed(worker.invoke(schedule.input)) or ended.wait(tries):
                return

    return fire
