"""Cold starts: what it costs to start a process and import a function in it, as Lambda does before a first event."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

IMPORT = "import sys; sys.modules['simplejson'] = None; import {}"
"""Imports a module as on Lambda: requests takes simplejson where it is, and it is only among the tests' packages."""


class Program(NamedTuple):
    """What a fresh Python is to run, and all of its environment."""

    code: str
    environment: Mapping[str, str]


class Start(NamedTuple):
    """A process from start to end, in milliseconds: user and system time of the processor, and time on the clock."""

    cpu: float
    wall: float


def measure(programs: Mapping[str, Program], rounds: int) -> dict[str, list[Start]]:
    """`rounds` starts of each program. A first one is not counted: it writes byte code, which is there on Lambda."""
    for program in programs.values():
        start(program)
    starts: dict[str, list[Start]] = {name: [] for name in programs}
    for names in in_turns(programs, rounds):
        for name in names:
            starts[name].append(start(programs[name]))
    return starts


def start(program: Program) -> Start:
    """Raises RuntimeError when the program fails; its own words are on standard error."""
    begun = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", program.code], program.environment)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"failed: {program.code}")
    return Start(cpu=(used.ru_utime + used.ru_stime) * 1000, wall=wall * 1000)


def in_turns(names: Iterable[str], rounds: int) -> Iterator[list[str]]:
    """All of them in every round, each round from another one on: a busy moment meets all alike."""
    every = list(names)
    for number in range(rounds):
        first = number % len(every)
        yield every[first:] + every[:first]
