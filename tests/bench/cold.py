"""Cold starts: what it costs to start a process and import a function in it, as Lambda does before a first event."""

import compileall
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sandbox.template import ROOT
from sandbox.worker import lambda_environment
from tests.bench import baselines
from tests.bench.report import OURS, Panel, Scale, Section, Target, bars, ratios, spread, table
from tests.conftest import CONNECTORS, template

IMPORT = "import sys; sys.modules['simplejson'] = None; import {}"
"""Imports a module as on Lambda: requests takes simplejson where it is, and it is only among the tests' packages."""

TEXT = """\
## Import and init

A fresh process imports a function's module with the environment of `template.yaml` and byte code present, and ends:
Lambda's init phase without Lambda, and without the two requests by which `webhook` and `checkout` read their secret and
connect to the ledger there (`functions/payments/warm_up.py`), and others in their first invocation: the cold starts
below, from the first event to its answer, have them all. "{checkout}" is Powertools' event handler, requests and boto3.
{rounds} rounds. {beside_node}

{table}
"""

Starts = Mapping[str, Sequence["Start"]]


class Program(NamedTuple):
    """What a fresh process is to run, and all of its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


class Start(NamedTuple):
    """A process from start to end, in milliseconds: user and system time of the processor, and time on the clock."""

    cpu: float
    wall: float


def measure(scale: Scale) -> Starts:
    """Each program's starts, a round each. Byte code is there before, as on Lambda."""
    compileall.compile_dir(ROOT / "functions", quiet=1)
    compileall.compile_dir(baselines.FOLDER, maxlevels=0, quiet=1)
    programs = dict(_programs())
    starts: dict[str, list[Start]] = {name: [] for name in programs}
    for names in in_turns(programs, scale.rounds):
        for name in names:
            starts[name].append(start(programs[name]))
    return starts


def section(starts: Starts) -> Section:
    cpu = {name: [each.cpu for each in every] for name, every in starts.items()}
    bare = cpu[baselines.BARE]
    rows = [
        (
            name,
            spread(cpu[name], 0),
            spread(ratios(cpu[name], bare), 2),
            spread([each.wall for each in every], 0),
        )
        for name, every in starts.items()
    ]

    def beside(name: str, of: str) -> list[float]:
        return ratios(cpu[name], cpu[of])

    there = [name for name in baselines.NODE if name in starts]
    beside_node = " and ".join(f"{spread(beside(OURS, name), 2)} × {name}" for name in there)
    return Section(
        TEXT.format(
            checkout=baselines.CHECKOUT,
            rounds=len(bare),
            beside_node=f"The CPU of `webhook` is {beside_node}." if there else baselines.NODE_MISSING,
            table=table(("process", "CPU, ms", "CPU / (a)", "wall clock, ms"), *rows),
        ),
        targets=(
            Target(f"{OURS}, import and init, CPU / (a)", 1.0, beside(OURS, baselines.BARE)),
            Target(f"{OURS}, import and init, CPU / (b)", 0.6, beside(OURS, baselines.POWERTOOLS)),
            Target("`checkout`, import and init, CPU / as usual", 0.7, beside("`checkout`", baselines.CHECKOUT)),
        ),
        panels=(
            Panel(
                "Import and init, CPU",
                "ms",
                bars({name: statistics.median(cpu[name]) for name in (OURS, *baselines.PYTHON, *there)}),
            ),
        ),
    )


def start(program: Program) -> Start:
    """Raises RuntimeError when the program fails; its own words are on standard error."""
    begun = time.perf_counter()
    child = os.posix_spawn(program.command[0], program.command, program.environment)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"failed: {' '.join(program.command)}")
    return Start(cpu=(used.ru_utime + used.ru_stime) * 1000, wall=wall * 1000)


def in_turns(names: Iterable[str], rounds: int) -> Iterator[list[str]]:
    """All of them in every round, each round from another one on: a busy moment meets all alike."""
    every = list(names)
    for number in range(rounds):
        first = number % len(every)
        yield every[first:] + every[:first]


def _programs() -> Iterator[tuple[str, Program]]:
    functions = {f.handler.rpartition(".")[0]: f for f in template(Mode="live", **CONNECTORS).functions()}
    beside = baselines.environment(functions["webhook"])
    yield "Python", _python("pass", beside)
    for module, function in functions.items():
        yield f"`{module}`", _python(IMPORT.format(module), lambda_environment(function))
    for name, module in (*baselines.PYTHON.items(), (baselines.CHECKOUT, baselines.CHECKOUT_MODULE)):
        yield name, _python(IMPORT.format(module), beside)
    if node := baselines.node():
        yield "Node", Program((node, "--eval", "0"), beside)
        for name, module in baselines.NODE.items():
            yield name, Program((node, str(module)), beside)


def _python(code: str, environment: Mapping[str, str]) -> Program:
    return Program((sys.executable, "-c", code), environment)
