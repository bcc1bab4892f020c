"""docs/reliability.md and docs/reliability.svg, from what the simulated days were."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import matplotlib as mpl

from sandbox.template import ROOT
from tests.simulation.day import Plan
from tests.simulation.figures import Missed

mpl.use("svg")
from matplotlib import pyplot

MINUTE = 60.0
GOAL_P99, GOAL_MAX = 7 * MINUTE, 65 * MINUTE
"""Seconds from payment to settlement with all webhooks lost and a list that lags two minutes behind."""


@dataclass(frozen=True)
class Lived:
    """A day, as far as the report is concerned."""

    plan: Plan
    seconds: list[float]
    """From payment to settlement, sorted."""
    by: Counter[str]
    requests: Counter[str]
    busiest: Counter[str]
    """The most requests in any minute, by sender, and of all."""
    faults: Counter[str]
    counts: Counter[str]
    violations: list[str]


def percentile(seconds: Sequence[float], share: float) -> float:
    return seconds[min(len(seconds) - 1, int(len(seconds) * share))]


def text(days: list[Lived], missed: Missed, nameless: Missed, memory: tuple[Missed, Missed], limit: int) -> str:
    calm, bad = [day for day in days if not day.plan.hostile], [day for day in days if day.plan.hostile]
    small, large = memory
    pace = missed.minutes * 60
    faults = sum((day.faults for day in bad), Counter[str]())
    return f"""# Reliability

Every paid order settles, once, even if every webhook is lost, and every change reaches the bus. Written by `make simulate`, on
{datetime.now(UTC):%Y-%m-%d}: {days[0].plan.payments:,} payments over a day through the real handlers, moto and the fake Pocketsflow, in virtual time. A seed
reproduces a day to the letter: `.venv/bin/python -m tests.simulation --seed {days[0].plan.seed}`.

![Time from payment to settlement, one line for each rate of lost webhooks](reliability.svg)

## How long a payment takes to settle

{_settled(calm)}

With all webhooks lost and lists that lag two minutes behind, the goal is p99 ≤ 7 minutes and at most 65: a payment waits for
the list, then for the next run. A buyer who waits on the thank-you page ({calm[0].plan.polling:.0%} do here) has Pocketsflow asked at once.

## The same on a bad day

Outages of DynamoDB, SQS, Secrets Manager, EventBridge and Pocketsflow, for up to ninety minutes each, in one of them ledger and queue
at once; answers lost, throttled or partly refused; functions killed at random steps; webhooks late, twice, and under another event's
name; lists without metadata, or shifting while they are read.

{_settled(bad)}

What was met on these days together: {", ".join(f"{name} {times:,}" for name, times in sorted(faults.items()))}.

At the end of each day it is asserted that no payment was lost and none settled two orders or one order twice; that every second payment, mismatch and
payment of no order was told; that every change of the ledger was published, and nothing else; and that orders, refunds, disputes and
subscriptions are what Pocketsflow says they are.

## What it costs Pocketsflow

| webhooks lost | | requests by checkouts | by reconciliation | most in a minute: reconciliation | all |
|---|---|---|---|---|---|
{_requests(days)}

Reconciliation keeps to 25 requests in any minute. What is listed grows with the sales: two days, six hours each hour, the last half hour each
five minutes, and half a year each day, a hundred orders a page. At **{limit:,} orders a day** all of its share is spent.

## After an outage

| | orders | requests | minutes, at Pocketsflow's pace | our processor time / that time |
|---|---|---|---|---|
| the list has the metadata | {missed.orders:,} | {missed.requests:,} | {missed.minutes:.0f} | {missed.cpu_seconds / pace:.2f} |
| it does not: each order is read | {nameless.orders:,} | {nameless.requests:,} | {nameless.minutes:.0f} | {nameless.cpu_seconds / (nameless.minutes * 60):.2f} |

Bound by the rate limit, not by us (moto's processor time is counted with ours). Memory is flat in the number of orders: a run over {large.orders:,} peaks at
{large.peak_kilobytes / small.peak_kilobytes:.2f} times what one over {small.orders:,} does.
"""  # noqa: E501


def _settled(days: list[Lived]) -> str:
    lines = ["| webhooks lost | settled | by webhook | parking | reconciliation | p50 | p99 | max |", "|" + "---|" * 8]
    for day in days:
        shares = " | ".join(f"{day.by[way]:,}" for way in ("webhook", "parking", "reconcile"))
        times = " | ".join(_span(percentile(day.seconds, share)) for share in (0.5, 0.99, 1))
        lines.append(f"| {day.plan.loss:.0%} | {len(day.seconds):,} | {shares} | {times} |")
    return "\n".join(lines)


def _requests(days: list[Lived]) -> str:
    return "\n".join(
        f"| {day.plan.loss:.0%} | {'bad day' if day.plan.hostile else ''} | {day.requests['checkout']:,} "
        f"| {day.requests['reconcile']:,} | {day.busiest['reconcile']} | {day.busiest['all']} |"
        for day in days
    )


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < MINUTE else f"{seconds / MINUTE:.1f} min"


def chart(days: list[Lived]) -> None:
    mpl.rcParams["svg.hashsalt"] = "reliability"
    figure, axes = pyplot.subplots(figsize=(8.5, 4.2), facecolor="white")
    for day in days:
        shares = [(number + 1) / len(day.seconds) for number in range(len(day.seconds))]
        step = max(1, len(shares) // 400)
        label = f"{day.plan.loss:.0%} of webhooks lost{', a bad day' if day.plan.hostile else ''}"
        seconds = [max(0.1, each) for each in day.seconds]
        style = "--" if day.plan.hostile else "-"
        axes.plot([*seconds[::step], seconds[-1]], [*shares[::step], 1.0], style, label=label, linewidth=1.6)
    axes.set_xscale("log")
    ticks = {0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 420: "7 min", 3900: "65 min"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlabel("time from payment to settlement")
    axes.set_ylabel("share of orders settled")
    axes.set_ylim(0, 1.02)
    axes.grid(color="#ddd")
    axes.legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(ROOT / "docs/reliability.svg", metadata={"Date": None, "Creator": None})
