"""Cold starts as Lambda has them: a new execution environment answers its first event, from the built artifact."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox import aws
from tests.bench import baselines, emulator
from tests.bench.artifacts import OURS, OURS_WITHOUT, POWERTOOLS_WITH, Artifacts
from tests.bench.cloud import Cloud, running
from tests.bench.cold import in_turns
from tests.bench.deliveries import payment
from tests.bench.emulator import Environment
from tests.bench.report import Panel, Scale, Section, Target, bars, ratios, spread, table
from tests.payloads import create_key, http_event

FURTHER, FURTHER_ROUNDS = 200, 3
"""Webhooks after the first one, and in how many rounds: one environment is like the other in what they leave behind."""
OTHERS = 3
"""Rounds for each of the functions that no payment waits for."""
BUSY = {"PATIENCE": "20", "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
"""So that nothing is tried twice on a busy machine."""
SERVER_KEY = f"pfs_test_{'k' * 43}"
MB = 1_000_000

TEXT = """\
## Cold start through Lambda's runtime interface

AWS's Runtime Interface Emulator and Lambda's runtime client run the artifact as `sam build` makes it, unzipped into a
folder that nothing writes to. The clock runs from the first event of a new environment, whose runtime starts then, to
the answer to it: `order.completed`, validly signed, of an order that is there. CPU and memory are those of the
runtime's process; memory is the most that it ever had, after the first webhook and after {further} more. boto3 lies
with Lambda's client outside the artifact and has byte code, as on Lambda. (b) is there without byte code, as `sam
build` leaves it, and with it. {rounds} rounds, in turns. {aws}

{starts}

The other functions, by the least event that they answer; medians of {of}. What `reconcile` and `relay` need at work
stands below.

{others}

## Size

The artifact is the same for all functions. MB are millions of bytes, here and above.

{sizes}
"""


class Start(NamedTuple):
    """Seconds on the clock and of the processor, and bytes, when the first event was answered."""

    wall: float
    cpu: float
    memory: int


class Least(NamedTuple):
    """The least event that a function answers, in words and in fact, and what stands in the right answer."""

    words: str
    event: Callable[[], Any]
    answer: str


class Figures(NamedTuple):
    """`webhooks` by the artifact's name, `others` by module; of `later`, bytes after `further` more webhooks."""

    artifacts: Artifacts
    webhooks: Mapping[str, Sequence[Start]] = {}
    further: int = 0
    later: Mapping[str, Sequence[int]] = {}
    others: Mapping[str, Sequence[Start]] = {}
    words: Mapping[str, str] = {}
    """Of the events that the others answered."""


class Program(NamedTuple):
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    least: Least

    def start(self, further: int = 0) -> tuple[Start, int]:
        """In an environment of its own; and the bytes after `further` more events."""
        first, *more = [self.least.event() for _ in range(1 + further)]
        with Environment(self.command, self.folder, self.environment) as environment:
            begun = time.perf_counter()
            answer = environment.invoke(first)
            start = Start(time.perf_counter() - begun, environment.cpu(), environment.memory())
            for each in (answer, *map(environment.invoke, more)):
                if self.least.answer not in json.dumps(each):
                    raise RuntimeError(f"{self.command[-1]} answered {each}")
            return start, environment.memory()


def measure(scale: Scale, artifacts: Artifacts) -> Figures:
    """Rounds in which every webhook starts once, in turns, and a few with all other functions."""
    if not artifacts.by_name:
        return Figures(artifacts)
    further = min(FURTHER, 10 * scale.rounds)
    with running() as cloud:
        programs = {name: _webhook(name, cloud, artifacts) for name in artifacts.by_name}
        starts: dict[str, list[Start]] = {name: [] for name in programs}
        later: dict[str, list[int]] = {name: [] for name in programs}
        for number, names in enumerate(in_turns(programs, scale.rounds)):
            for name in names:
                more = further if number < FURTHER_ROUNDS else 0
                start, memory = programs[name].start(more)
                starts[name].append(start)
                later[name] += [memory] if more else []
        functions = _others(cloud, artifacts)
        functions["retain"].start()  # once a week it walks through the table, at its leisure
        others: dict[str, list[Start]] = {module: [] for module in functions}
        for modules in in_turns(functions, max(1, scale.rounds // OTHERS)):
            for module in modules:
                others[module].append(functions[module].start()[0])
    words = {module: function.least.words for module, function in functions.items()}
    return Figures(artifacts, starts, further, later, others, words)


def section(figures: Figures) -> Section:
    if not figures.webhooks:
        return Section(TEXT.partition("\n")[0] + "\n\n" + "\n".join(figures.artifacts.left_out) + "\n")
    walls = {name: [start.wall * 1000 for start in starts] for name, starts in figures.webhooks.items()}
    to_b, to_b_with = (ratios(walls[OURS], walls[name]) for name in (baselines.POWERTOOLS, POWERTOOLS_WITH))
    later = {name: statistics.median(memory) / MB for name, memory in figures.later.items()}
    zipped = {name: artifact.zipped / MB for name, artifact in figures.artifacts.by_name.items()}
    text = TEXT.format(
        further=figures.further,
        rounds=len(walls[OURS]),
        aws=" ".join(("AWS is moto in another process.", *figures.artifacts.left_out)),
        starts=table(
            (
                "environment",
                "wall clock, ms",
                "wall clock / (b)",
                "CPU, ms",
                "memory, MB",
                f"after {figures.further} more",
            ),
            *(
                (
                    name,
                    spread(walls[name], 0),
                    spread(ratios(walls[name], walls[baselines.POWERTOOLS]), 2),
                    spread([start.cpu * 1000 for start in starts], 0),
                    f"{_memory(starts):.1f}",
                    f"{later[name]:.1f}",
                )
                for name, starts in figures.webhooks.items()
            ),
        ),
        of=len(next(iter(figures.others.values()))),
        others=table(
            ("function", "event", "wall clock, ms", "CPU, ms", "memory after it, MB"),
            *(
                (
                    f"`{module}`",
                    figures.words[module],
                    f"{statistics.median(start.wall for start in starts) * 1000:.0f}",
                    f"{statistics.median(start.cpu for start in starts) * 1000:.0f}",
                    f"{_memory(starts):.1f}",
                )
                for module, starts in figures.others.items()
            ),
        ),
        sizes=table(
            ("artifact", "zipped, MB", "unzipped, MB"),
            *(
                (name, f"{zipped[name]:.3f}", f"{artifact.unzipped / MB:.3f}")
                for name, artifact in figures.artifacts.by_name.items()
            ),
        ),
    )
    return Section(
        text,
        targets=(
            Target(f"{OURS}, cold in the emulator, wall clock / (b)", 0.7, to_b),
            Target(f"{OURS}, cold in the emulator, wall clock / {POWERTOOLS_WITH}", 0.7, to_b_with),
            Target(f"{OURS}, memory / (a)", 1.15, ratios(figures.later[OURS], figures.later[baselines.BARE])),
            Target("artifact, zipped, without byte code", 1.8, [zipped[OURS_WITHOUT]], "MB"),
            Target("artifact, zipped, with byte code", 4, [zipped[OURS]], "MB"),
        ),
        panels=(
            Panel(
                "Cold start in the emulator, wall clock",
                "ms",
                bars({n: statistics.median(w) for n, w in walls.items()}),
            ),
            Panel("Memory, at most", "MB", bars(later)),
        ),
    )


def _memory(starts: Sequence[Start]) -> float:
    return statistics.median(start.memory for start in starts) / MB


def _webhook(name: str, cloud: Cloud, artifacts: Artifacts) -> Program:
    """Ours says what became of the payment: another way through it would be another figure."""
    ours = name in (OURS, OURS_WITHOUT)
    environment = cloud.environment("webhook") if ours else cloud.environment_of_baseline()
    answer = json.dumps('"outcome": "settled"')[1:-1] if ours else '"statusCode": 200'
    least = Least("a payment", lambda: payment(*cloud.orders(1)), answer)
    artifact = artifacts.by_name[name]
    return Program(artifact.command, artifact.folder, environment | BUSY, least)


def _others(cloud: Cloud, artifacts: Artifacts) -> dict[str, Program]:
    folder, events = artifacts.by_name[OURS].folder, _least_events(cloud)
    of_queue = Least("no message of its queue", lambda: {"Records": []}, '"batchItemFailures": []')
    return {
        module: Program(
            (*emulator.PYTHON, f"{module}.handler"),
            folder,
            cloud.environment(module) | BUSY,
            events.get(module, of_queue),
        )
        for module in cloud.functions
        if module != "webhook"
    }


def _least_events(cloud: Cloud) -> dict[str, Least]:
    references, json_by = (
        itertools.count(),
        {"content_type": "application/json", "authorization": f"Bearer {SERVER_KEY}"},
    )
    create_key(cloud, SERVER_KEY)
    [opened, *_], _ = aws.read_stream(cloud.stream, 0)
    [unknown] = cloud.orders(1)
    cloud.dynamodb.delete_item(TableName=cloud.table, Key={"pk": {"S": f"order#{unknown}"}})
    told = {"RequestType": "Create", "StackId": "stack", "RequestId": "request", "LogicalResourceId": "Preflight"}
    return {
        "checkout": Least(
            "the status of an order that is not there", lambda: http_event(f"GET /orders/{unknown}"), "order_not_found"
        ),
        "server": Least(
            "an order of the shop's server",
            lambda: http_event(f"PUT /server/orders/{next(references)}", b'{"sku": "course"}', **json_by),
            '"statusCode": 201',
        ),
        "shopify_checkout": Least(
            "a page without Shopify's signature", lambda: http_event("GET /shopify/checkout"), '"statusCode": 401'
        ),
        "access": Least("the key of its tokens", lambda: http_event("GET /.well-known/jwks.json"), '"statusCode": 200'),
        "relay": Least("a new order", lambda: {"Records": [opened]}, '"batchItemFailures": []'),
        "reconcile": Least("its schedule's, before there is an API key", lambda: {"walk": "recent"}, "no_api_key"),
        "retain": Least("its schedule's, on most days", dict, '"outcome": "done"'),
        "preflight": Least(
            "a new stack",
            lambda: {**told, "ResponseURL": f"{cloud.url}/{cloud.bucket}/answers/{next(references)}"},
            "null",
        ),
    }
