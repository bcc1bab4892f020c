"""A function that works off a backlog, measured from within: started by tests/bench/backlog_elsewhere.py with the
function's environment, as `python -m tests.bench.backlog_function reconcile|relay ORDERS BATCHES RESULTS`.

Nothing else is in this process, so its processor time and its memory are the function's.
"""

import json
import math
import os
import resource
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.clock import Clock, Context

TIMEOUT = int(os.environ["SANDBOX_TIMEOUT"])
"""Seconds that an invocation may take."""


class Running(Clock):
    """Goes on by itself. Who sleeps waits for nothing: the clock is put forward."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        super().__init__(datetime.now(UTC))

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + self._ahead

    @now.setter
    def now(self, moment: datetime) -> None:
        self._ahead = moment - datetime.now(UTC)


def reconcile_all(number: int) -> dict[str, Any]:
    """Again and again, as its schedule does, until so many orders are settled. `floor`: after so many seconds the last
    page that they are on may be asked for, if nothing but the rate limit takes time."""
    import reconcile
    from payments import aws, pocketsflow, provider, table

    clock, asked = Running(), Asked(table.client)
    for module in (reconcile, provider, table, aws):
        module.time = clock  # type: ignore[attr-defined]
    reconcile.datetime = clock.datetime  # type: ignore[misc]
    settled_at = begun = clock.now

    def note(request: Any, **_: Any) -> None:
        nonlocal settled_at
        if b'"order#' in request.body:
            settled_at = clock.now

    table.client.meta.events.register("before-send.dynamodb.UpdateItem", note)
    settled, pages, runs, cpu = 0, 0, 0, time.process_time()
    every = timedelta(seconds=int(os.environ["EVERY_SECONDS"]))
    while settled < number:
        started = clock.now
        answer = reconcile.handler({"walk": "recent"}, Context(clock, TIMEOUT))
        runs, pages, settled = runs + 1, pages + answer["requests"], settled + answer["found"].get("settled", 0)
        if not answer["found"]:
            raise RuntimeError(f"{settled} of {number} orders are settled, and no more are found")
        clock.now = max(clock.now, started + every)
    last_page = math.ceil(number / pocketsflow.PAGE_SIZE)
    return {
        "page_size": pocketsflow.PAGE_SIZE,
        "per_minute": provider.PER_MINUTE,
        "window": provider.WINDOW_SECONDS,
        "reserve": pocketsflow.LIST_SECONDS + provider.MARGIN_SECONDS,
        "timeout": TIMEOUT,
        "every": every.total_seconds(),
        "floor": (last_page - 1) // provider.PER_MINUTE * provider.WINDOW_SECONDS,
        "seconds": (settled_at - begun).total_seconds(),
        "runs": runs,
        "pages": pages,
        "cpu": time.process_time() - cpu,
        "requests": asked.counts,
        "memory": peak_memory(),
    }


def relay_all(batches: str) -> dict[str, Any]:
    """Batch by batch, as they came."""
    import relay
    from payments import table

    asked = Asked(table.client, relay._bus)
    clock, cpu, records = Running(), time.process_time(), 0
    begun = time.perf_counter()
    with Path(batches).open() as lines:
        for line in lines:
            event = {"Records": json.loads(line)}
            records += len(event["Records"])
            if (answer := relay.handler(event, Context(clock, TIMEOUT))) != {"batchItemFailures": []}:
                raise RuntimeError(answer)
    return {
        "seconds": time.perf_counter() - begun,
        "records": records,
        "cpu": time.process_time() - cpu,
        "requests": asked.counts,
        "memory": peak_memory(),
    }


class Asked:
    """How often which operation of AWS was asked for, by these clients, second tries included."""

    def __init__(self, *clients: Any) -> None:
        self.counts: Counter[str] = Counter()
        for client in clients:
            client.meta.events.register("before-send", self._note)

    def _note(self, event_name: str, **_: Any) -> None:
        self.counts[event_name.rpartition(".")[2]] += 1


def peak_memory() -> float:
    """MB of a million bytes, of this process."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    what, number, batches, results = sys.argv[1:]
    measured = reconcile_all(int(number)) if what == "reconcile" else relay_all(batches)
    Path(results).write_text(json.dumps(measured))
