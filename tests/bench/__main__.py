"""`python -m tests.bench`: what the functions cost beside what others would use, as a report in Markdown with a chart.

Writes docs/performance.md and docs/performance.svg, and prints the report. Nothing is asserted: figures are for people,
and machines differ.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from sandbox.template import ROOT
from tests.bench import artifacts, backlog, baselines, burst, chart, cold, cold_emulated, cost, warm
from tests.bench.report import Scale, Section, table

REPORT = """\
# Performance

Written by `{command}`. Absolute figures are of one machine; **the ratios count**. 2.0 (1.8–2.3) is a median with
the 10th and 90th percentile. A ratio is taken within each round, where everything runs once in turns, so that what else
the machine is doing cancels out. CPU is user and system time. AWS is moto, by http and on the same machine.

{machine}

The webhook is measured beside what others would write for its job ([tests/bench/baselines/](../tests/bench/baselines)),
by the documentation of what they use: **(a)** one conditional `update_item` by boto3, and no signature; **(b)**
Powertools' event handler, idempotency and parameters; **(c)** the sample of AWS's inbound webhooks, which asks for its
secret in the handler and keeps it for an hour; **(d)** the provider's guide, Express, with AWS's SDK for JavaScript, as
written and bundled into one file by esbuild. None of them keeps the raw body, tells a second payment or another product
from the one that was ordered, takes what fails into a queue, or knows two secrets while one is replaced.

![Bars of what is measured below, this project's in green](performance.svg)

## Targets

{targets}

{sections}

{scaling}"""
Figures = TypeVar("Figures")


def main() -> None:
    every = Scale()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=every.rounds, help="of starts, at least 2; warm ten times that")
    parser.add_argument("--burst", type=int, default=every.burst, help="webhooks at once")
    parser.add_argument("--orders", type=int, default=every.orders, help="to reconcile and to relay")
    parser.add_argument("--output", default=str(ROOT / "docs"), help="a folder, or - for none")
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error("--rounds must be at least 2")
    if given.burst < 1 or given.orders < 1:
        parser.error("--burst and --orders must be at least 1")
    scale = Scale(given.rounds, given.burst, given.orders)
    sections = list(_sections(scale))
    chosen = [f"--{name}={value}" for name, value in scale._asdict().items() if value != every._asdict()[name]]
    report = REPORT.format(
        command=f'make bench ARGS="{" ".join(chosen)}"' if chosen else "make bench",
        machine=_machine(),
        targets=table(
            ("target", "bound", "measured", ""), *(target.row() for each in sections for target in each.targets)
        ),
        sections="\n".join(section.text for section in sections).strip(),
        scaling=Path(__file__).with_name("scaling.md").read_text(),
    )
    if given.output != "-":
        folder = Path(given.output)
        (folder / "performance.md").write_text(report)
        chart.draw([panel for section in sections for panel in section.panels], folder / "performance.svg")
    print(report, end="")


def _sections(scale: Scale) -> Iterable[Section]:
    yield cold.section(_measuring("import and init", lambda: cold.measure(scale)))
    with artifacts.built() as made:
        starts = _measuring("cold starts in the emulator", lambda: cold_emulated.measure(scale, made))
        yield cold_emulated.section(starts)
        calls = _measuring("warm webhooks", lambda: warm.measure(scale))
        yield warm.section(calls)
        yield burst.section(_measuring("bursts", lambda: burst.measure(scale, made)))
    told = _measuring("backlogs", lambda: backlog.measure(scale))
    yield backlog.section(told)
    relay = told.relayed[scale.orders].cpu / scale.orders * 1000
    yield cost.section(_webhooks(starts, calls), relay) if starts.webhooks else cost.unknown(made.left_out)


def _measuring(what: str, measure: Callable[[], Figures]) -> Figures:
    print(f"{what} …", file=sys.stderr)
    return measure()


def _webhooks(starts: cold_emulated.Figures, calls: warm.Figures) -> list[cost.Webhook]:
    """Each that is measured warm, and cold through the emulator."""
    return [
        cost.Webhook(
            name,
            warm=statistics.median(call.cpu for call in each[warm.FIRST]),
            cold=statistics.median(start.cpu for start in starts.webhooks[name]) * 1000,
            dynamodb=_mean(each, "dynamodb"),
            secrets=_mean(each, "secrets"),
            write_units=cost.OUR_WRITE_UNITS if name == warm.OURS else _mean(each, "dynamodb"),
            logged=_mean(each, "logged") + cost.LAMBDA_LOG_BYTES,
        )
        for name, each in calls.items()
        if name in starts.webhooks
    ]


def _mean(calls: Mapping[str, Sequence[warm.Call]], field: str) -> float:
    """Of the first deliveries."""
    return statistics.fmean(getattr(call, field) for call in calls[warm.FIRST])


def _machine() -> str:
    """When, and on what: nothing that names this machine or a person."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    packages = [f"{name} {version(name)}" for name in ("boto3", "botocore", "aws-lambda-powertools", "moto")]
    if node := baselines.node():
        packages.append("Node " + subprocess.check_output([node, "--version"], text=True).strip("v\n"))
    return (
        f"Measured on {datetime.now(UTC).date()}: {model[1] if model else platform.machine()}, {os.cpu_count()} cores;"
        f" {system}; Python {platform.python_version()}; {', '.join(packages)}."
    )


if __name__ == "__main__":
    main()
