"""`make bench` and docs/performance.md, which it writes. Figures are not asserted: machines differ."""

import re
import subprocess
import sys
from itertools import product

import pytest

from sandbox.template import ROOT
from tests.bench import baselines
from tests.conftest import CONNECTORS, template
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


def rows(report: str, heading: str) -> list[list[str]]:
    """Of the table below a heading, without its head: the cells."""
    section = report.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_process_has_its_row(report: str) -> None:
    """Starts of all functions of the template, connectors among them, and of all that they are measured beside."""
    functions = [f.handler.rpartition(".")[0] for f in template(Mode="live", **CONNECTORS).functions()]
    node = ["Node", *baselines.NODE] if baselines.node() else []
    names = ["Python", *(f"`{name}`" for name in functions), *baselines.PYTHON, baselines.CHECKOUT, *node]
    assert [name for name, *_ in rows(report, "Import and init")] == names


def test_every_way_of_a_delivery_has_its_row(report: str) -> None:
    """First delivery, duplicate and bad signature, here and at the baselines; (a) looks at no signature."""
    ways = ("first delivery", "duplicate", "bad signature")
    all_ways = ["`webhook`", baselines.POWERTOOLS, baselines.SAMPLE, *([baselines.WRITTEN] if baselines.node() else [])]
    expected = {("bare `update_item`", ""), (baselines.BARE, "first delivery"), *product(all_ways, ways)}
    assert {(name, way) for name, way, *_ in rows(report, "Warm webhook")} == expected


def test_a_delivery_is_one_request(report: str) -> None:
    """A warm webhook asks DynamoDB once, also for what it knows already, and for a forgery nobody; Powertools'
    idempotency takes three."""
    sent = {(name, way): figures[-2:] for name, way, *figures in rows(report, "Warm webhook")}
    assert sent["`webhook`", "first delivery"] == sent["`webhook`", "duplicate"] == ["1", "0"]
    assert sent["`webhook`", "bad signature"] == ["0", "0"]
    assert sent[baselines.POWERTOOLS, "first delivery"] == ["3", "0"]


def test_the_document_is_what_the_program_prints(report: str) -> None:
    """Nobody has edited it by hand, and it is of these functions and these words."""
    if baselines.node() is None:
        pytest.skip("needs Node and `make tests/bench/baselines/express/node_modules`")
    assert without_figures(DOCUMENT) == without_figures(report)


def test_the_document_says_what_it_was_measured_on() -> None:
    """A figure without its machine and versions says nothing."""
    [machine] = re.findall(r"^Measured on (.+)$", DOCUMENT, re.MULTILINE)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d: .+, \d+ cores; .+; Python 3\.\d+\.\d+;"
        r" boto3 [\d.]+, botocore [\d.]+, aws-lambda-powertools [\d.]+, requests [\d.]+, Node [\d.]+\.",
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
    [prerequisites] = re.findall(
        r"^bench: (.+)\n\tpython -m tests\.bench \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert prerequisites == ".venv/sam.ready $(EXPRESS)/node_modules"
    assert "`make bench`" in (ROOT / "README.md").read_text()
