"""`make bench` and docs/performance.md, which it writes. Figures are not asserted: machines differ."""

import re
import subprocess
import sys

import pytest

from sandbox.template import ROOT
from tests.conftest import template
from tests.e2e.conftest import shell

DOCUMENT = (ROOT / "docs/performance.md").read_text()


@pytest.fixture(scope="module")
def report() -> str:
    """What two rounds print."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--rounds", "2", "--output", "-"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return told.stdout


def without_figures(report: str) -> list[str]:
    """Its lines but the machine's, with 0 for every number."""
    return [re.sub(r"\d[\d.]*", "0", line) for line in report.splitlines() if not line.startswith("Measured on ")]


def test_every_function_and_call_has_its_row(report: str) -> None:
    """Cold starts of all functions of the template, and the three ways of a delivery, each beside its bare client."""
    cold, warm = (re.findall(r"^\| ([^|]+?) +\| \d", table, re.MULTILINE) for table in report.split("## ")[1:])
    functions = [f"`{function.handler.partition('.')[0]}`" for function in template(Mode="live").functions()]
    assert cold == ["Python", "boto3 client", *functions]
    assert warm == ["boto3 `update_item`", "first delivery", "redelivery", "bad signature"]


def test_a_delivery_is_one_request(report: str) -> None:
    """A warm webhook asks DynamoDB once, also for what it knows already, and for a forgery nobody."""
    sent = dict(re.findall(r"^\| ([\w ]+) \|.* (\d+) \|$", report, re.MULTILINE))
    assert sent == {"first delivery": "1", "redelivery": "1", "bad signature": "0"}


def test_the_document_is_what_the_program_prints(report: str) -> None:
    """Nobody has edited it by hand, and it is of these functions and these words."""
    assert without_figures(DOCUMENT) == without_figures(report)


def test_the_document_says_what_it_was_measured_on() -> None:
    """A figure without its machine and versions says nothing."""
    [machine] = re.findall(r"^Measured on (.+)$", DOCUMENT, re.MULTILINE)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d: .+, \d+ cores; .+; Python 3\.\d+\.\d+;"
        r" boto3 [\d.]+, botocore [\d.]+, aws-lambda-powertools [\d.]+, requests [\d.]+\.",
        machine,
    )


def test_fewer_than_two_rounds_are_refused() -> None:
    """One round has no spread."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--rounds", "1"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "--rounds must be at least 2" in told.stderr


def test_make_bench_measures() -> None:
    """The command that the documents name."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^bench: \.venv/dev\.ready\n\tpython -m tests\.bench \$\(ARGS\)$", makefile, re.MULTILINE)
    assert "`make bench`" in (ROOT / "README.md").read_text()
