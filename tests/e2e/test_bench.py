"""`make bench` and docs/performance.md, which it writes. Figures are not asserted: machines differ."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from sandbox.template import ROOT
from tests.bench import baselines, emulator
from tests.conftest import CONNECTORS, template
from tests.e2e.conftest import shell

DOCUMENT = (ROOT / "docs/performance.md").read_text()
TINY = ("--rounds", "2", "--burst", "5", "--orders", "20")
TARGETS = {
    "`webhook`, import and init, CPU / (a)": "≤ 1 ×",
    "`webhook`, import and init, CPU / (b)": "≤ 0.6 ×",
    "`webhook`, cold in the emulator, wall clock / (b)": "≤ 0.7 ×",
    "`webhook`, cold in the emulator, wall clock / (b), with byte code": "≤ 0.7 ×",
    "`webhook`, warm, CPU of a first delivery / `update_item`": "≤ 1.25 ×",
    "`webhook`, warm, first delivery, to DynamoDB": "≤ 1 requests",
    "`webhook`, warm, first delivery, to others": "≤ 0 requests",
    "`webhook`, warm, duplicate, to DynamoDB": "≤ 1 requests",
    "`webhook`, warm, duplicate, to others": "≤ 0 requests",
    "`webhook`, warm, bad signature, to DynamoDB": "≤ 0 requests",
    "`webhook`, warm, CPU of a bad signature / `update_item`": "≤ 0.3 ×",
    "`checkout`, import and init, CPU / as usual": "≤ 0.7 ×",
    "artifact, zipped, without byte code": "≤ 1.8 MB",
    "artifact, zipped, with byte code": "≤ 4 MB",
    "`webhook`, memory / (a)": "≤ 1.15 ×",
    "reconcile of 10,000 missed orders / the rate limit alone": "≤ 1.1 ×",
    "memory of `reconcile`, 10,000 orders / 1,000": "≤ 1.1 ×",
    "memory of `relay`, 10,000 orders / 1,000": "≤ 1.1 ×",
    "500 webhooks at once, not answered 200 in time": "≤ 0",
    "500 webhooks at once, lost or counted twice": "≤ 0",
}
"""With their bounds."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the smallest run of all parts has written."""
    folder = tmp_path_factory.mktemp("docs")
    told = _bench(*TINY, "--output", str(folder))
    assert told.returncode == 0, told.stderr
    assert told.stdout == (folder / "performance.md").read_text()
    return folder


@pytest.fixture(scope="module")
def report(made: Path) -> str:
    return (made / "performance.md").read_text()


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def frame(report: str) -> list[str]:
    """Its headings, the heads of its tables and the first cell of each of their rows, with 0 for every number; but of
    the targets, which small runs do not have all."""
    lines = [line for line in report.splitlines() if line.startswith(("#", "|"))]
    first = ["|".join(line.split("|")[:2]) if line.startswith("| ") else line for line in lines]
    start, end = (first.index(f"## {heading}") for heading in ("Targets", "Import and init"))
    return [re.sub(r"\d[\d.,]*", "0", line) for line in first[:start] + first[end:]]


def rows(report: str, heading: str) -> list[list[str]]:
    """Of the table below a heading, without its head: the cells."""
    section = report.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def needs_all() -> None:
    if baselines.node() is None:
        pytest.skip("needs Node and `make tests/bench/baselines/express/node_modules`")
    if obstacle := emulator.missing():
        pytest.skip(obstacle)


def test_every_process_has_its_row(report: str) -> None:
    """Starts of all functions of the template, connectors among them, and of all that they are measured beside."""
    functions = [f.handler.rpartition(".")[0] for f in template(Mode="live", **CONNECTORS).functions()]
    node = ["Node", *baselines.NODE] if baselines.node() else []
    names = ["Python", *(f"`{name}`" for name in functions), *baselines.PYTHON, baselines.CHECKOUT, *node]
    assert [name for name, *_ in rows(report, "Import and init")] == names


def test_every_way_of_a_delivery_has_its_row(report: str) -> None:
    """First delivery, duplicate and bad signature, here and at the baselines; (a) looks at no signature."""
    ways = ("first delivery", "duplicate", "bad signature")
    all_ways = ["`webhook`", baselines.POWERTOOLS, baselines.SAMPLE, *(baselines.NODE if baselines.node() else [])]
    expected = {("bare `update_item`", ""), (baselines.BARE, "first delivery"), *product(all_ways, ways)}
    assert {(name, way) for name, way, *_ in rows(report, "Warm webhook")} == expected


def test_a_delivery_is_one_request(report: str) -> None:
    """A warm webhook asks DynamoDB once, also for what it knows already, and for a forgery nobody; Powertools'
    idempotency takes three."""
    sent = {(name, way): figures[-2:] for name, way, *figures in rows(report, "Warm webhook")}
    assert sent["`webhook`", "first delivery"] == sent["`webhook`", "duplicate"] == ["1", "0"]
    assert sent["`webhook`", "bad signature"] == ["0", "0"]
    assert sent[baselines.POWERTOOLS, "first delivery"] == ["3", "0"]


def test_the_document_is_what_the_program_writes(report: str) -> None:
    """Nobody has edited it by hand, and it is of these functions, baselines and parts."""
    needs_all()
    assert frame(DOCUMENT) == frame(report)


def test_every_target_is_in_the_document() -> None:
    """What was aimed at, what was measured in one run, and whether it holds."""
    told = {what: (bound, said) for what, bound, _, said in rows(DOCUMENT, "Targets")}
    assert {what: bound for what, (bound, _) in told.items()}.items() >= TARGETS.items()
    assert {said for _, said in told.values()} <= {"holds", "**missed**"}


def test_the_chart_shows_what_was_measured(made: Path) -> None:
    """An SVG that names ours and each baseline; the document shows the one of its own run."""
    needs_all()
    for chart in (made / "performance.svg", ROOT / "docs/performance.svg"):
        drawn = re.findall("<!-- (.+?) -->", chart.read_text())  # letters are outlines, and named
        assert {"webhook", *baselines.PYTHON, *baselines.NODE} <= {*drawn}
    assert "(performance.svg)" in DOCUMENT


def test_the_document_says_what_it_was_measured_on() -> None:
    """A figure without its machine and versions says nothing."""
    [machine] = re.findall(r"^Measured on (.+)$", DOCUMENT, re.MULTILINE)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d: .+, \d+ cores; .+; Python 3\.\d+\.\d+;"
        r" boto3 [\d.]+, botocore [\d.]+, aws-lambda-powertools [\d.]+, moto [\d.]+, Node [\d.]+\.",
        machine,
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--rounds", "1"), "--rounds must be at least 2"),  # which has no spread
        (("--burst", "0"), "--burst and --orders must be at least 1"),
        (("--orders", "0"), "--burst and --orders must be at least 1"),
    ],
)
def test_what_measures_nothing_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    """Before anything is run."""
    told = _bench(*arguments)
    assert told.returncode == 2
    assert complaint in told.stderr


def test_make_bench_measures() -> None:
    """The command that the documents name."""
    [prerequisites] = re.findall(
        r"^bench: (.+)\n\tpython -m tests\.bench \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert prerequisites == ".venv/sam.ready $(EXPRESS)/node_modules"
    assert "`make bench`" in (ROOT / "README.md").read_text()
