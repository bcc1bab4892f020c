"""docs/reliability.md and docs/reliability.svg, from what the simulated days were."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import matplotlib as mpl

from payments.provider import PER_MINUTE
from sandbox.template import ROOT
from tests.simulation.day import Plan
from tests.simulation.figures import REFUNDED, Missed, days_a_day, requests_a_day

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
    deliveries: Mapping[str, Counter[str]]
    """Of each connector that was on: `events`, `tries`, `dead`, `killed`, `redriven`."""


def percentile(seconds: Sequence[float], share: float) -> float:
    return seconds[min(len(seconds) - 1, int(len(seconds) * share))]


REPORT = """\
# Reliability

Written by `make simulate`. Pocketsflow delivers each webhook once, with five seconds to answer. This is what becomes of
a day's payments when webhooks are lost, when all of them are, and when AWS and Pocketsflow fail besides.

**Promised, and asserted at the end of each day:**

- No payment is lost: each one that Pocketsflow holds for an order of this shop is a fact of that order, and each order
  with a payment for what was ordered is paid, or what refunds and disputes have made of it.
- None settles twice: an order has one winner, and `order.paid` has gone out for it under one id.
- Every second payment, every payment for another product, and every sale of no order is told, once.
- Every change of the ledger is on the bus, and nothing that was no change.
- The ledger says what Pocketsflow's books say: orders, refunds, disputes, subscriptions and how often they were paid.
- No function takes longer than it may, nothing is left to be confirmed, and no false drift is told.
- With connectors on, the platforms' states are the ledger's: each event got there, was done once, and nothing that
  was older than what it found changed anything.

**Measured** on {date} with {payments:,} buyers a day (seed {seed}): the real handlers, AWS by moto, and the fake
Pocketsflow, whose lists lag {lag} minutes behind its payments, in virtual time. Every choice is the seed's, so a
seed reproduces a day. Webhooks come late, twice, out of order and under another event's name on all days. In all there
were {story}.

![Share of orders settled over the time since the payment, one line for each rate of lost webhooks](reliability.svg)

## From payment to settlement

Without outages:

{calm}

The goal, asserted where all webhooks are lost: p99 of 7 minutes, at most 65. A payment waits until the list shows it,
then for the next run, five minutes at most. Of the buyers {polling:.0%} keep the thank-you page open, and a page that
has waited for half a minute has Pocketsflow asked at once, for everybody. A webhook that is late by more than that
is overtaken, so some orders settle by reconciliation even when no webhook is lost.

## The same on a bad day

Outages of DynamoDB, SQS, Secrets Manager, EventBridge and Pocketsflow of up to ninety minutes, once of ledger and queue
together; answers lost, throttled, or in part refused; functions killed at random requests; lists that leave out
metadata, or shift while they are read. No goal is set here: what Pocketsflow does not answer cannot be known. Nothing
is lost.

{bad}

What the functions met on these days:

{faults}

## With connectors

Bad days of {connected:,} buyers, half of them from orders of a shop that has them at Shopify, at WooCommerce and on a
server of its own; with members, a feed and notices. The platforms have outages as well, lose answers, are missing
orders; events come late, twice and in any order; functions are killed between a call and the note of it. What was laid
aside after twelve tries is tried again once somebody has put the cause right. At the end all states are compared.

{deliveries}

## What it costs Pocketsflow

Of a hundred requests a minute reconciliation takes 25 at most, whatever happens; this is asserted too.

{requests}

What is listed grows with the sales. With N orders a day, and {refunded:.0%} of them refunded, a hundred to a page:

    requests a day = N / 100 x ({days_a_day}) + {fixed:,}

These are the runs every five minutes, hour and day, with how far back each asks, and pages that are all but empty.

A share of 25 a minute is 36,000 a day: enough for **{limit:,} orders a day**. {history:.0%} of that is the daily walk
through half a year, which finds refunds and disputes of long ago. It comes last in a run: more sales than that first
stretch it over more than a day.

## After an outage

All webhooks missed, then runs every five minutes until each order is settled. CPU is ours, without moto's part:

| Pocketsflow's list | orders | requests | minutes | CPU, s | CPU per 1,000 orders, s |
|---|---|---|---|---|---|
{missed}

Bound by Pocketsflow's rate limit, not by us: with metadata in the list, our own CPU is {share:.0%} of the time that so
many requests take at 25 a minute. A list without metadata costs a request for each order.

Memory is flat: a process that settles {small[0]:,} missed orders takes {small[1]:.0f} MB at most, the test's own parts
included, and one that settles {large[0]:,} takes {large[1]:.0f} MB.

## Again

    make simulate                                        all of this, in about half an hour on two cores
    make simulate ARGS="--seed 7 --payments 500 --print" another, smaller day, without writing this page

What is broken is told with the seed and the order. A small bad day is part of `make test`.
"""

_STORY = {
    "refunds": "refunds, partial and full",
    "refunds that failed later": "refunds that fail later at the bank",
    "disputes begun": "disputes",
    "second payments": "second payments",
    "paid for another product": "payments for another product",
    "sales elsewhere": "sales of the account elsewhere",
    "subscriptions": "subscriptions",
    "status polls": "looks at the thank-you page",
}


def text(
    days: list[Lived],
    connected: list[Lived],
    missed: Sequence[Missed],
    memory: Sequence[tuple[int, float]],
    limit: int,
    listed: Mapping[str, int],
) -> str:
    """`memory` are orders and MB; `listed` the requests a day by walk at the `limit`."""
    calm, bad = [day for day in days if not day.plan.hostile], [day for day in days if day.plan.hostile]
    plan, named, *_ = days[0].plan, missed[0]
    met = sum((day.faults for day in bad), Counter[str]())
    lived = sum((day.counts for day in days), Counter[str]())
    pace = named.requests / PER_MINUTE * 60
    return REPORT.format(
        date=datetime.now(UTC).date(),
        payments=plan.payments,
        seed=plan.seed,
        lag=plan.list_lag // 60,
        story=", ".join(f"{lived[name]:,} {words}" for name, words in _STORY.items()),
        calm=_settled(calm),
        polling=plan.polling,
        bad=_settled(bad),
        faults="\n".join(["| fault | times |", "|---|---|", *(f"| {name} | {met[name]:,} |" for name in sorted(met))]),
        connected=connected[0].plan.payments,
        deliveries=_deliveries(connected),
        requests=_requests(days),
        refunded=REFUNDED,
        days_a_day=days_a_day(),
        fixed=sum(requests_a_day(0).values()),
        limit=limit,
        history=listed["orders.history"] / sum(listed.values()),
        missed="\n".join(
            f"| {how} metadata | {each.orders:,} | {each.requests:,} | {each.minutes:.0f} | {each.own_seconds:.1f} "
            f"| {1000 * each.own_seconds / each.orders:.1f} |"
            for how, each in zip(("with", "without"), missed, strict=True)
        ),
        share=named.own_seconds / pace,
        small=memory[0],
        large=memory[1],
    )


def _settled(days: list[Lived]) -> str:
    lines = ["| webhooks lost | settled | by webhook | parking | reconciliation | p50 | p99 | max |", "|" + "---|" * 8]
    for day in days:
        shares = " | ".join(f"{day.by[way]:,}" for way in ("webhook", "parking", "reconcile"))
        times = " | ".join(_span(percentile(day.seconds, share)) for share in (0.5, 0.99, 1))
        lines.append(f"| {day.plan.loss:.0%} | {len(day.seconds):,} | {shares} | {times} |")
    return "\n".join(lines)


def _deliveries(days: list[Lived]) -> str:
    lines = [
        "| connector | events | tries | killed | laid aside, then redriven | different at the end |",
        "|" + "---|" * 6,
    ]
    for name in days[0].deliveries:
        of = sum((day.deliveries[name] for day in days), Counter[str]())
        different = sum(f": {name}: " in violation for day in days for violation in day.violations)
        told = " | ".join(f"{of[each]:,}" for each in ("events", "tries", "killed", "dead"))
        lines.append(f"| {name} | {told} | {different} |")
    return "\n".join(lines)


def _requests(days: list[Lived]) -> str:
    lines = [
        "| webhooks lost | | by checkouts | by reconciliation | most in any minute: by reconciliation | all |",
        "|---|---|---|---|---|---|",
    ]
    for day in days:
        most = f"{day.busiest['reconcile']} | {day.busiest['all']}"
        sent = f"{day.requests['checkout']:,} | {day.requests['reconcile']:,}"
        lines.append(f"| {day.plan.loss:.0%} | {'bad day' if day.plan.hostile else ''} | {sent} | {most} |")
    return "\n".join(lines)


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
    axes.legend(loc="lower left", bbox_to_anchor=(0.32, 0.01), fontsize=8)
    figure.tight_layout()
    figure.savefig(ROOT / "docs/reliability.svg", metadata={"Date": None, "Creator": None})
