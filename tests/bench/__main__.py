"""`python -m tests.bench`: what the functions cost beside bare boto3, as a report in Markdown.

Prints it and writes it to docs/performance.md. Nothing is asserted: figures are for people, and machines differ.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox import aws
from sandbox.servers import Server
from sandbox.template import ROOT
from sandbox.worker import lambda_environment
from tests.bench import cold
from tests.bench.report import ratios, spread
from tests.conftest import template
from tests.payloads import SECRET

WARM_ROUNDS = 10
"""For each cold one: a call takes a fraction of a start."""

REPORT = """\
# Performance

Written by `make bench`. Absolute figures are of one machine; **the ratios count**. Each figure is a median, with the
10th and 90th percentile in brackets. A ratio is taken within each round, where everything runs once in turns, so that
what else the machine is doing cancels out. CPU is user and system time.

{machine}

## Cold start

A fresh process imports the function's module with the environment of `template.yaml` and byte code present, and ends.
"boto3 client" does no more than `boto3.client("dynamodb")`, and "Python" nothing at all. {cold_rounds} rounds.

| process | CPU, ms | CPU / boto3 client | wall clock, ms |
|---|---|---|---|
{cold}

## Warm webhook

A process that has answered others calls `webhook.handler` once. The order is in the table, the secret is cached, log
lines and metrics are written. The bare `update_item` sets one attribute of such an order, under a condition. AWS is
moto in another process, whose CPU is not counted. {warm_rounds} rounds.

| call | CPU, ms | CPU / update_item | requests to AWS |
|---|---|---|---|
{warm}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures cold starts and the webhook.")
    parser.add_argument("--rounds", type=int, default=30, help="of cold starts, at least 2; ten times as many warm")
    parser.add_argument("--output", default=str(ROOT / "docs/performance.md"), help="a file, or - for none")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2")
    warm_rounds = arguments.rounds * WARM_ROUNDS
    report = REPORT.format(
        machine=_machine(),
        cold_rounds=arguments.rounds,
        cold="\n".join(_cold(arguments.rounds)),
        warm_rounds=warm_rounds,
        warm="\n".join(_warm(warm_rounds)),
    )
    if arguments.output != "-":
        Path(arguments.output).write_text(report)
    print(report, end="")


def _cold(rounds: int) -> Iterator[str]:
    functions = template(Mode="live").functions()
    bare = lambda_environment(functions[0])
    programs = {
        "Python": cold.Program("pass", bare),
        "boto3 client": cold.Program("import boto3; boto3.client('dynamodb')", bare),
    }
    for function in functions:
        module = function.handler.partition(".")[0]
        programs[f"`{module}`"] = cold.Program(cold.IMPORT.format(module), lambda_environment(function))
    starts = cold.measure(programs, rounds)
    client = [start.cpu for start in starts["boto3 client"]]
    for name, each in starts.items():
        cpu, wall = zip(*each, strict=True)
        yield f"| {name} | {spread(cpu, 0)} | {spread(ratios(cpu, client), 2)} | {spread(wall, 0)} |"


def _warm(rounds: int) -> Iterator[str]:
    """By tests/bench/warm.py in a process of its own, with moto in this one."""
    declared = template(Stage="sandbox")
    with contextlib.closing(Server(0)) as server, tempfile.NamedTemporaryFile("r") as results:
        server.start(aws.application())
        aws.create_resources(declared, server.url)
        secret = declared.references["WebhookSecrets"]["Ref"]
        aws.client("secretsmanager", server.url).put_secret_value(SecretId=secret, SecretString=SECRET)
        [webhook] = [function for function in declared.functions() if function.handler == "webhook.handler"]
        subprocess.run(
            [sys.executable, "-m", "tests.bench.warm", results.name, str(rounds)],
            cwd=ROOT,
            env={**lambda_environment(webhook), "AWS_ENDPOINT_URL": server.url, "PATIENCE": "20"},  # of a busy machine
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        figures: dict[str, Any] = json.load(results)
    bare, *_ = figures.values()
    for name, each in figures.items():
        cpu = each["cpu"]
        yield f"| {name} | {spread(cpu, 2)} | {spread(ratios(cpu, bare['cpu']), 2)} | {each['requests']} |"


def _machine() -> str:
    """When, and on what: nothing that names this machine or a person."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    packages = [f"{name} {version(name)}" for name in ("boto3", "botocore", "aws-lambda-powertools", "requests")]
    return (
        f"Measured on {datetime.now(UTC).date()}: {model[1] if model else platform.machine()}, {os.cpu_count()} cores;"
        f" {system}; Python {platform.python_version()}; {', '.join(packages)}."
    )


if __name__ == "__main__":
    main()
