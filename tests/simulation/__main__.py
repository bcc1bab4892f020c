"""`make simulate`: a day at each rate of lost webhooks, and docs/reliability.md from what they were."""

import argparse
import contextlib
import sys
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Manager
from queue import Empty
from typing import Any

from tqdm import tqdm

from sandbox.template import ROOT
from tests.simulation import checks, figures, report
from tests.simulation.day import Day, Plan, prepared
from tests.simulation.report import GOAL_MAX, GOAL_P99, Lived, percentile

LOSSES = (0.0, 0.1, 0.5, 1.0)
CONNECTED = 10
"""So many times fewer payments have the days with connectors, of which each event goes to six."""


def live(plan: Plan, through: Any = None) -> Lived:
    """One day, and what is to be said of it; `through` is told of each buyer who is through."""
    with prepared(plan) as day:
        if through is not None:
            day.done = lambda: through.put(1)
        day.live()
        books = checks.Books(day)
        settled = checks.settlements(books)
        return Lived(
            plan,
            seconds=sorted(each.seconds for each in settled),
            by=Counter(each.by for each in settled),
            requests=Counter(sender for _, sender in day.api.requests),
            busiest=_busiest(day.api.requests),
            faults=day.weather.met,
            counts=day.counts,
            violations=checks.violations(books),
            deliveries=_deliveries(day),
        )


def _deliveries(day: Day) -> dict[str, Counter[str]]:
    lines = day.connectors.lines if day.connectors else {}
    return {name: Counter(events=len(line.events)) + line.counts for name, line in lines.items()}


def _busiest(requests: list[tuple[float, str]]) -> Counter[str]:
    """The most in any sixty seconds."""
    most: Counter[str] = Counter()
    for name in ("checkout", "reconcile", "all"):
        minute: deque[float] = deque()
        for moment, sender in sorted(requests):
            if name in (sender, "all"):
                minute.append(moment)
                while minute[0] <= moment - 60:
                    minute.popleft()
                most[name] = max(most[name], len(minute))
    return most


def broken_promises(day: Lived) -> list[str]:
    """Violations, and goals that were missed."""
    found = list(day.violations)
    if day.busiest["reconcile"] > 25:
        found.append(f"{day.plan}: {day.busiest['reconcile']} requests of reconciliation in a minute")
    if day.busiest["all"] > 100:
        found.append(f"{day.plan}: {day.busiest['all']} requests in a minute")
    if not day.plan.hostile and day.plan.loss == 1:
        if (p99 := percentile(day.seconds, 0.99)) > GOAL_P99:
            found.append(f"{day.plan}: p99 is {p99:.0f} s")
        if day.seconds[-1] > GOAL_MAX:
            found.append(f"{day.plan}: the last one took {day.seconds[-1]:.0f} s")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--payments", type=int, default=10_000)
    parser.add_argument("--loss", type=float, action="append", help="a rate, 0 to 1 (default: 0, 0.1, 0.5 and 1)")
    parser.add_argument("--print", action="store_true", help="leave the documents as they are")
    arguments = parser.parse_args()
    losses = arguments.loss or LOSSES
    plans = [Plan(arguments.seed, arguments.payments, loss, hostile) for hostile in (False, True) for loss in losses]
    fewer = max(1, arguments.payments // CONNECTED)
    connected = [Plan(arguments.seed, fewer, loss, hostile=True, connectors=True) for loss in losses]
    buyers = sum(plan.payments for plan in plans + connected)
    with Manager() as manager, ProcessPoolExecutor(2) as pool, tqdm(total=buyers) as bar:
        through = manager.Queue()
        coming = [pool.submit(live, plan, through) for plan in plans]
        coming_connected = [pool.submit(live, plan, through) for plan in connected]
        missed = [
            pool.submit(figures.missed, arguments.payments, metadata=True),
            pool.submit(figures.missed, min(1_000, arguments.payments), metadata=False),
        ]
        sizes = (1_000, 10_000)
        memory = [pool.submit(figures.peak_memory, orders) for orders in sizes]
        while not all(each.done() for each in [*coming, *coming_connected, *missed, *memory]):
            with contextlib.suppress(Empty):
                bar.update(through.get(timeout=1))
        days = [each.result() for each in coming]
        days_connected = [each.result() for each in coming_connected]
        document = report.text(
            days,
            days_connected,
            [each.result() for each in missed],
            [(orders, each.result()) for orders, each in zip(sizes, memory, strict=True)],
            limit := figures.orders_a_day(),
            figures.requests_a_day(limit),
        )
    broken = [promise for day in days + days_connected for promise in broken_promises(day)]
    print(document)
    if not arguments.print and not broken:
        (ROOT / "docs/reliability.md").write_text(document)
        report.chart(days)
    for promise in broken:
        print(promise, file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
