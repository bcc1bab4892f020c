"""`python -m tests.bench`: what the functions cost beside what others would use, as a report in Markdown.

Prints it and writes it to docs/performance.md. Nothing is asserted: figures are for people, and machines differ.
"""

import argparse
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sandbox.template import ROOT
from tests.bench import baselines, cold, warm
from tests.bench.report import Scale

REPORT = """\
# Performance

Written by `make bench`. Absolute figures are of one machine; **the ratios count**. Each figure is a median, with the
10th and 90th percentile in brackets. A ratio is taken within each round, where everything runs once in turns, so that
what else the machine is doing cancels out. CPU is user and system time.

{machine}

{sections}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures cold starts and the webhook.")
    parser.add_argument("--rounds", type=int, default=30, help="of cold starts, at least 2; ten times as many warm")
    parser.add_argument("--output", default=str(ROOT / "docs/performance.md"), help="a file, or - for none")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2")
    scale = Scale(arguments.rounds)
    sections = (cold.section(cold.measure(scale)), warm.section(warm.measure(scale)))
    report = REPORT.format(machine=_machine(), sections="\n".join(section.text for section in sections).strip())
    if arguments.output != "-":
        Path(arguments.output).write_text(report)
    print(report, end="")


def _machine() -> str:
    """When, and on what: nothing that names this machine or a person."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    packages = [f"{name} {version(name)}" for name in ("boto3", "botocore", "aws-lambda-powertools", "requests")]
    if node := baselines.node():
        packages.append("Node " + subprocess.check_output([node, "--version"], text=True).strip("v\n"))
    return (
        f"Measured on {datetime.now(UTC).date()}: {model[1] if model else platform.machine()}, {os.cpu_count()} cores;"
        f" {system}; Python {platform.python_version()}; {', '.join(packages)}."
    )


if __name__ == "__main__":
    main()
