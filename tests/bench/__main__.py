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
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sandbox.template import ROOT
from tests.bench import artifacts, backlog, baselines, burst, chart, cold, cold_emulated, cost, warm
from tests.bench.report import Scale, Section, Target, table

REPORT = """\
# Performance

Written by `make bench`. Absolute figures are of one machine; **the ratios count**. Each figure is a median,
with the 10th and 90th percentile in brackets. A ratio is taken within each round, where everything runs once in turns,
so that what else the machine is doing cancels out. CPU is user and system time.

{machine}

![Bars of what is measured below](performance.svg)

## Targets

{targets}

{sections}

{scaling}"""

LOGGED = {warm.OURS: cost.OUR_LOG_BYTES}
"""Bytes for each webhook."""
WRITE_UNITS = {warm.OURS: cost.OUR_WRITE_UNITS}


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
    report = REPORT.format(
        machine=_machine(),
        targets=_targets([target for section in sections for target in section.targets]),
        sections="\n".join(section.text for section in sections).strip(),
        scaling=Path(__file__).with_name("scaling.md").read_text(),
    )
    if given.output != "-":
        folder = Path(given.output)
        (folder / "performance.md").write_text(report)
        chart.draw([panel for section in sections for panel in section.panels], folder / "performance.svg")
    print(report, end="")


def _sections(scale: Scale) -> Iterable[Section]:
    yield cold.section(cold.measure(scale))
    with artifacts.built() as made:
        starts = cold_emulated.measure(scale, made)
        calls = warm.measure(scale)
        yield cold_emulated.section(starts)
        yield warm.section(calls)
        yield burst.section(burst.measure(scale, made))
    told = backlog.measure(scale)
    yield backlog.section(told)
    relayed = told.relayed[scale.orders]
    if starts.webhooks:
        yield cost.section(_webhooks(starts, calls), relayed.cpu / scale.orders * 1000)


def _webhooks(starts: cold_emulated.Figures, calls: warm.Figures) -> list[cost.Webhook]:
    """Each that is measured warm, and cold through the emulator."""
    return [
        cost.Webhook(
            name,
            warm=statistics.median(call.cpu for call in each[warm.FIRST]),
            cold=statistics.median(start.cpu for start in starts.webhooks[name]) * 1000,
            dynamodb=statistics.fmean(call.dynamodb for call in each[warm.FIRST]),
            secrets=statistics.fmean(call.secrets for call in each[warm.FIRST]),
            write_units=WRITE_UNITS.get(name, statistics.fmean(call.dynamodb for call in each[warm.FIRST])),
            logged=LOGGED.get(name, 0),
        )
        for name, each in calls.items()
        if name in starts.webhooks
    ]


def _targets(targets: Sequence[Target]) -> str:
    rows = [
        (
            target.what,
            f"≤ {target.bound:g} {target.unit}",
            f"{target.measured:.2f}",
            "holds" if target.measured <= target.bound else "**missed**",
        )
        for target in targets
    ]
    return table(("target", "bound", "measured", ""), *rows)


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
