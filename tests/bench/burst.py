"""A burst: hundreds of webhooks at once, for as many execution environments as the smallest AWS account has."""

import contextlib
import json
import math
import os
import queue
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.bench.artifacts import OURS, Artifacts
from tests.bench.cloud import Cloud, running
from tests.bench.deliveries import payment
from tests.bench.emulator import Environment, Failed
from tests.bench.report import Scale, Section, Target, table

ENVIRONMENTS = 10
"""Concurrent executions of a new AWS account."""
IN_TIME = 5
"""Seconds that Pocketsflow waits for an answer."""
WAVES = ("different", "the same")
ALONE = 100
"""Webhooks for one environment by itself, at most."""

TEXT = """\
## Burst

{number} different webhooks at once, then {number} times the same one, for {environments} environments as above, each of
which has answered one before, and now takes one after the other from what is left. Timeouts are the template's. Every
answer's time is counted from the beginning of the burst. "Lost" is an order that is neither paid afterwards nor waits
in the parking queue, "twice" one with two payments.

{waves}

One environment by itself answers {alone:.0f} webhooks a second. The {environments} of them share {cores} cores with the
process that plays AWS and hands out the webhooks: of the {wall:.1f} s of the first burst that one had a processor for
{ours:.1f} s, and they for {theirs:.1f} s. moto answers one request at a time and every webhook asks it once, so that
environments wait for each other here, as they do not at DynamoDB. Nor has Lambda such a queue: a new account of
{environments} concurrent executions would refuse most of such a burst (429), and reconciliation would find it.
"""


class Answer(NamedTuple):
    status: int
    seconds: float
    """Since the beginning of the burst."""
    outcome: str
    """Or the code of a refusal."""


class Wave(NamedTuple):
    """A burst, with seconds on the clock, and of the processor: the environments' and this process's."""

    answers: Sequence[Answer]
    unanswered: int
    lost: int
    twice: int
    wall: float
    theirs: float
    ours: float


class Figures(NamedTuple):
    artifacts: Artifacts
    waves: Mapping[str, Wave] = {}
    alone: float = 0
    """Webhooks a second."""


def measure(scale: Scale, artifacts: Artifacts) -> Figures:
    if not artifacts.by_name:
        return Figures(artifacts)
    artifact = artifacts.by_name[OURS]
    with running() as cloud, contextlib.ExitStack() as stack:
        timeout = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(cloud.functions["webhook"].timeout)}
        environment = cloud.environment("webhook") | timeout
        pool = [
            stack.enter_context(Environment(artifact.command, artifact.folder, environment))
            for _ in range(ENVIRONMENTS)
        ]
        for each, order in zip(pool, cloud.orders(ENVIRONMENTS), strict=True):
            _warm_up(each, order)
        alone = at_once(cloud, pool[:1], cloud.orders(min(scale.burst, ALONE)))
        sent = (cloud.orders(scale.burst), cloud.orders(1) * scale.burst)
        waves = {name: at_once(cloud, pool, orders) for name, orders in zip(WAVES, sent, strict=True)}
    return Figures(artifacts, waves, len(alone.answers) / alone.wall)


def section(figures: Figures) -> Section:
    if not figures.waves:
        return Section("## Burst\n\n" + "\n".join(figures.artifacts.left_out) + "\n")
    first = figures.waves[WAVES[0]]
    number = len(first.answers) + first.unanswered
    text = TEXT.format(
        number=number,
        environments=ENVIRONMENTS,
        cores=os.cpu_count(),
        waves=table(
            (
                "webhooks",
                f"answered in {IN_TIME} s",
                "outcomes",
                "lost",
                "twice",
                "a second",
                "for each environment",
                "p50, s",
                "p99, s",
                "last, s",
            ),
            *(_row(name, wave) for name, wave in figures.waves.items()),
        ),
        alone=figures.alone,
        wall=first.wall,
        ours=first.ours,
        theirs=first.theirs,
    )
    every = figures.waves.values()
    return Section(
        text,
        targets=(
            Target(f"{number} webhooks at once, not answered 200 in time", 0, [max(map(_late, every))], ""),
            Target(f"{number} webhooks at once, lost or counted twice", 0, [sum(w.lost + w.twice for w in every)], ""),
        ),
    )


def _warm_up(environment: Environment, order: str) -> None:
    """The emulator counts a runtime's start among the time that the function has; a second one finds all files read."""
    with contextlib.suppress(Failed):
        environment.invoke(payment(order))
        return
    environment.invoke(payment(order))


def _row(name: str, wave: Wave) -> tuple[object, ...]:
    times = sorted(answer.seconds for answer in wave.answers) or [math.inf]
    number, a_second = len(wave.answers) + wave.unanswered, len(wave.answers) / wave.wall
    outcomes = Counter(answer.outcome for answer in wave.answers)
    return (
        f"{number}, {name}",
        number - _late(wave),
        ", ".join(f"{times} {outcome}" for outcome, times in outcomes.most_common()),
        wave.lost,
        wave.twice,
        f"{a_second:.0f}",
        f"{a_second / ENVIRONMENTS:.1f}",
        f"{statistics.median(times):.2f}",
        f"{times[len(times) * 99 // 100 - (len(times) == 1)]:.2f}",
        f"{times[-1]:.2f}",
    )


def _late(wave: Wave) -> int:
    """Those that never were, and those that were refused, among them."""
    good = sum(answer.status == 200 and answer.seconds <= IN_TIME for answer in wave.answers)
    return len(wave.answers) + wave.unanswered - good


def at_once(cloud: Cloud, pool: Sequence[Environment], orders: Sequence[str]) -> Wave:
    """A payment of each order, at once; the same order is the same delivery."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for order in orders:
        waiting.put(payment(order))
    theirs, ours, begun = sum(each.cpu() for each in pool), time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(len(pool)) as threads:
        answers = [
            each for some in threads.map(lambda each: list(_answers(each, waiting, begun)), pool) for each in some
        ]
    wall, ours = time.perf_counter() - begun, time.process_time() - ours
    theirs = sum(each.cpu() for each in pool) - theirs
    ledger, parked = cloud.ledger(), cloud.parked()
    payments = {order: len(ledger[f"order#{order}"].get("payments", {"L": []})["L"]) for order in orders}
    return Wave(
        answers,
        unanswered=len(orders) - len(answers),
        lost=sum(not paid and not any(order in body for body in parked) for order, paid in payments.items()),
        twice=sum(paid > 1 for paid in payments.values()),
        wall=wall,
        theirs=theirs,
        ours=ours,
    )


def _answers(environment: Environment, waiting: "queue.SimpleQueue[Any]", begun: float) -> Iterator[Answer]:
    """One after the other, until nothing waits."""
    while True:
        try:
            event = waiting.get_nowait()
        except queue.Empty:
            return
        with contextlib.suppress(Failed):
            told = environment.invoke(event)
            content = json.loads(told["body"])
            yield Answer(told["statusCode"], time.perf_counter() - begun, content.get("outcome") or content["code"])
