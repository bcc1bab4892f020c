"""A backlog, worked off: orders that no webhook told of, by reconciliation, and a stream of changes, by the relay."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

from sandbox.template import ROOT
from tests.bench.cost import DEFAULT, PROCESSOR_MB
from tests.bench.report import Panel, Scale, Section, Target, table

FEWER = 10
"""So many times fewer orders has the other run, whose memory is compared."""
TEXT = """\
## Reconcile and relay

**Reconcile**: so many orders were paid, and no webhook came. `reconcile` runs every {every:.0f} minutes, as its
schedule does (`{{"walk": "recent"}}`), until all are settled. Where it waits to keep its pace nobody waits: its clock
is put forward. All else is time as it passes, also that of AWS (moto with short cuts, a bus that takes all) and of the
fake Pocketsflow, which are in a process of their own. **Relay**: the {per_order:.0f} records that each of so many paid
orders leaves in the table's stream (opened, its session, paid, the payment linked with it), as Lambda hands them over.
Each run is a fresh process.

{table}

{floor}

A function of {memory} MB has {share:.2f} of a processor, where {cpu:.2f} ms of CPU are {cpu_there:.1f} ms: the
{burst:,} orders of {per_minute} pages take {burst_seconds:.0f} of the {window} seconds until the next {per_minute}, and
as long after the last. A run may take {timeout} seconds, and asks for no page in the last {reserve:.0f}: room for
{run_pages} pages. With more orders than are on those the next run goes on, {every:.0f} minutes after the beginning of
the one before: a long backlog is worked off at {run_pages} pages in {every:.0f} minutes, {sustained:.0f} orders a
second.
"""

FLOOR = """\
What the rate limit alone dictates: {orders:,} orders are on {pages} pages of {page_size}. Of Pocketsflow's hundred
requests a minute reconciliation has {per_minute}, so that buyers have the rest ([README](../README.md#limits)):
{per_minute} pages may be asked for at once and {per_minute} more after each {window} seconds, so the last one after
(⌈{pages} / {per_minute}⌉ − 1) × {window} = {floor} seconds. Needed were {seconds:.0f}, **{ratio:.2f} times as long**:
what is above is the work on the last {per_minute} pages, which nothing waits for any more."""

NO_FLOOR = """\
So few orders are on pages that may all be asked for at once: there is no time that the rate limit alone dictates."""


class Reconciled(NamedTuple):
    """What tests/bench/backlog_function.py has measured."""

    page_size: int
    per_minute: int
    window: int
    reserve: float
    timeout: int
    every: float
    floor: int
    seconds: float
    runs: int
    pages: int
    cpu: float
    requests: Mapping[str, int]
    memory: float


class Relayed(NamedTuple):
    seconds: float
    records: int
    cpu: float
    requests: Mapping[str, int]
    memory: float


class Figures(NamedTuple):
    """By number of orders, the smaller one first."""

    reconciled: Mapping[int, Reconciled]
    relayed: Mapping[int, Relayed]


def measure(scale: Scale) -> Figures:
    numbers = (max(1, scale.orders // FEWER), scale.orders)
    return Figures(
        {number: Reconciled(**_apart("reconcile", number)) for number in numbers},
        {number: Relayed(**_apart("relay", number)) for number in numbers},
    )


def section(figures: Figures) -> Section:
    orders = max(figures.reconciled)
    all_missed, all_told = figures.reconciled[orders], figures.relayed[orders]
    cpu = all_missed.cpu / orders * 1000
    burst = all_missed.page_size * all_missed.per_minute
    run_pages = (1 + int(all_missed.timeout - all_missed.reserve) // all_missed.window) * all_missed.per_minute
    text = TEXT.format(
        every=all_missed.every / 60,
        per_order=all_told.records / orders,
        table=table(
            (
                "function",
                "orders",
                "seconds",
                "orders a second",
                "CPU, ms an order",
                "requests an order: DynamoDB",
                "EventBridge",
                "Pocketsflow",
                "memory, MB",
            ),
            *(
                _row("reconcile", number, each, f"{each.pages / number:.3f}")
                for number, each in figures.reconciled.items()
            ),
            *(_row("relay", number, each, "0") for number, each in figures.relayed.items()),
        ),
        floor=_floor(orders, all_missed),
        memory=DEFAULT,
        share=DEFAULT / PROCESSOR_MB,
        cpu=cpu,
        cpu_there=cpu * PROCESSOR_MB / DEFAULT,
        burst=burst,
        burst_seconds=burst * cpu / 1000 * PROCESSOR_MB / DEFAULT,
        per_minute=all_missed.per_minute,
        window=all_missed.window,
        timeout=all_missed.timeout,
        reserve=all_missed.reserve,
        run_pages=run_pages,
        sustained=run_pages * all_missed.page_size / all_missed.every,
    )
    targets = [
        Target(f"memory of `{name}`, {max(by_number):,} orders / {min(by_number):,}", 1.1, [_growth(by_number)])
        for name, by_number in (("reconcile", figures.reconciled), ("relay", figures.relayed))
    ]
    panels = []
    if all_missed.floor:
        ratio = all_missed.seconds / all_missed.floor
        targets.insert(0, Target(f"reconcile of {orders:,} missed orders / the rate limit alone", 1.1, [ratio]))
        bars = {"its share of the rate limit alone": float(all_missed.floor), "reconcile": all_missed.seconds}
        panels.append(Panel(f"{orders:,} orders that no webhook told of", "s", bars))
    return Section(text, targets, panels)


def _apart(what: str, number: int) -> dict[str, float]:
    """By tests/bench/backlog_elsewhere.py, in processes that end with it."""
    run = (
        "import sys, tests.conftest; from tests.bench import backlog_elsewhere;"
        "backlog_elsewhere.main(sys.argv[1], int(sys.argv[2]), sys.argv[3])"
    )
    with tempfile.NamedTemporaryFile("r") as results:
        subprocess.run(
            [sys.executable, "-c", run, what, str(number), results.name],
            cwd=ROOT, env={"PYTHONPATH": f"{ROOT}/functions"}, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        measured: dict[str, float] = json.load(results)
    return measured


def _row(name: str, orders: int, each: Reconciled | Relayed, pages: str) -> tuple[str, ...]:
    to_bus = each.requests.get("PutEvents", 0)
    return (
        f"`{name}`",
        f"{orders:,}",
        f"{each.seconds:.0f}",
        f"{orders / each.seconds:.0f}",
        f"{each.cpu / orders * 1000:.2f}",
        f"{(sum(each.requests.values()) - to_bus) / orders:.2f}",
        f"{to_bus / orders:.2f}",
        pages,
        f"{each.memory:.1f}",
    )


def _floor(orders: int, each: Reconciled) -> str:
    if not each.floor:
        return NO_FLOOR
    return FLOOR.format(
        orders=orders,
        pages=-(-orders // each.page_size),
        page_size=each.page_size,
        per_minute=each.per_minute,
        window=each.window,
        floor=each.floor,
        seconds=each.seconds,
        ratio=each.seconds / each.floor,
    )


def _growth(by_number: Mapping[int, Reconciled] | Mapping[int, Relayed]) -> float:
    return by_number[max(by_number)].memory / by_number[min(by_number)].memory
