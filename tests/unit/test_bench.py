"""The bench's own arithmetic and form. Figures are not asserted: machines differ."""

import math
import re
import socket
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import reconcile
from payments import pocketsflow, provider
from sandbox.servers import HOST
from sandbox.template import ROOT
from tests.bench import backlog, baselines, burst, chart, cold, cost, endpoint, warm
from tests.bench.artifacts import Artifacts
from tests.bench.report import Panel, Section, Target, ratios
from tests.conftest import template
from tests.simulation.figures import requests_a_day

README = (ROOT / "README.md").read_text()
SCALING = (ROOT / "tests/bench/scaling.md").read_text()
OURS = cost.Webhook("`webhook`", 1.6, 320, write_units=cost.OUR_WRITE_UNITS, logged=cost.OUR_LOG_BYTES)
WEBHOOKS = [OURS, cost.Webhook("(b) Powertools", 5, 600, 3, 0, 3), cost.Webhook("(c) AWS's sample", 4, 330, 1, 1)]


# --- Targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "told", "said"),
    [
        ([1.0], "1", "holds"),
        ([1.25], "1.25", "holds"),
        ([1.26], "1.26", "**missed**"),
        ([1.0, 1.2, 9.0], "1.200 (1.040–7.440)", "holds"),  # the median counts
        ([1.0, 1.3, 1.4], "1.300 (1.060–1.380)", "**missed**"),
    ],
)
def test_a_target_holds_up_to_its_bound(measured: list[float], told: str, said: str) -> None:
    """What is more is missed, and is called so."""
    assert Target("CPU", 1.25, measured).row() == ("CPU", "≤ 1.25 ×", told, said)


def test_ratios_are_taken_round_by_round() -> None:
    """A busy moment meets both, and is in neither figure."""
    assert ratios([2, 20], [1, 10]) == [2, 2]


def measured(section: Section) -> dict[str, float]:
    """Each target's median."""
    return {target.what: statistics.median(target.measured) for target in section.targets}


def test_import_is_compared_with_the_baseline_that_is_named() -> None:
    """(a) for one target, (b) for another, and as it is usually written for the checkout."""
    cpu = {
        "`webhook`": 90, "`checkout`": 80, baselines.BARE: 100, baselines.POWERTOOLS: 180,
        baselines.SAMPLE: 140, baselines.CHECKOUT: 160, baselines.WRITTEN: 45, baselines.BUNDLED: 30,
    }  # fmt: skip
    section = cold.section({name: [cold.Start(each, 1), cold.Start(2 * each, 1)] for name, each in cpu.items()})
    assert measured(section) == pytest.approx(
        {
            "`webhook`, import and init, CPU / (a)": 0.9,
            "`webhook`, import and init, CPU / (b)": 0.5,
            "`checkout`, import and init, CPU / as usual": 0.5,
        }
    )
    assert "2.00 (2.00–2.00) × (d) Express and 3.00 (3.00–3.00) × (d) Express, bundled" in section.text


def test_a_warm_call_is_compared_with_the_bare_call_of_its_process() -> None:
    """CPU by ratio; of requests the most that 95 calls in a hundred make."""

    def calls(cpu: float, dynamodb: int, secrets: int = 0) -> list[warm.Call]:
        return [warm.Call(cpu, 1, dynamodb, secrets, 0, 0) for _ in range(100)]

    looks = [*calls(0.3, 0)[:95], *calls(0.3, 0, secrets=1)[:5]]
    ours = {warm.UPDATE: calls(1, 1), warm.FIRST: calls(1.2, 1), warm.DUPLICATE: calls(1.3, 2), warm.FORGED: looks}
    theirs = {warm.UPDATE: calls(2, 1), warm.FIRST: calls(5, 3)}
    section = warm.section({warm.OURS: ours, baselines.POWERTOOLS: theirs})
    name = warm.OURS
    assert measured(section) == pytest.approx(
        {
            f"{name}, warm, CPU of a first delivery / `update_item`": 1.2,
            f"{name}, warm, first delivery, to DynamoDB": 1,
            f"{name}, warm, first delivery, to others": 0,
            f"{name}, warm, duplicate, to DynamoDB": 2,
            f"{name}, warm, duplicate, to others": 0,
            f"{name}, warm, bad signature, to DynamoDB": 0,
            f"{name}, warm, bad signature, to others": 0,
            f"{name}, warm, CPU of a bad signature / `update_item`": 0.3,
        }
    )
    assert "| (b) Powertools | first delivery | 5.00 (5.00–5.00) | 2.50 (2.50–2.50) |" in section.text


def test_a_burst_that_is_not_answered_is_told() -> None:
    """Refusals, late answers and none at all are not in time; what is lost or counted twice is its own target."""
    good, late, refused = (
        burst.Answer(200, 1.0, "settled"), burst.Answer(200, 5.1, "settled"),
        burst.Answer(500, 1.0, "ledger_unavailable"),
    )  # fmt: skip
    waves = {
        burst.WAVES[0]: burst.Wave([good, late, refused], 2, 1, 0, 2.0, 1.0, 1.0),
        burst.WAVES[1]: burst.Wave([], 5, 0, 2, 2.0, 1.0, 1.0),
    }
    section = burst.section(burst.Figures(Artifacts({}), waves, 50))
    assert measured(section) == {
        "5 webhooks at once, not answered 200 in time": 5,
        "5 webhooks at once, lost or counted twice": 3,
    }
    assert "| 5, different | 1 |" in section.text


# --- Cost -------------------------------------------------------------------------------------------------------------


def worth(how: str) -> float:
    """What an arithmetic comes to, as it is written."""
    return math.prod(float(re.sub(r"[^0-9.]", "", factor)) for factor in how.split("×"))


@pytest.mark.parametrize("memory", cost.MEMORY)
def test_each_line_of_the_cost_comes_to_what_it_says(memory: int) -> None:
    """Who reckons it by hand comes to the same."""
    for lines in [*(cost.deliveries(webhook, memory) for webhook in WEBHOOKS), cost.orders(OURS, 1.8, memory)]:
        assert [line.dollars for line in lines] == pytest.approx([worth(line.how) for line in lines])


def test_cpu_takes_longer_where_there_is_less_of_it() -> None:
    """In proportion to memory up to one processor, and not less beyond; what is waited for takes as long anywhere."""
    assert [cost.billed(10, 5, memory) for memory in (1769 // 2, 1769, 2 * 1769)] == [26, 15, 15]


def test_the_cost_is_of_the_prices_in_the_readme() -> None:
    """Two documents do not tell two prices."""
    in_readme = set(re.findall(r"× ([0-9.]+[0-9]) \|", README))
    prices = (cost.API, cost.INVOCATION, cost.GB_SECOND, cost.WRITE_UNIT, cost.READ_UNIT, cost.SECRET)
    assert {f"{price:.10f}".rstrip("0") for price in (*prices, cost.EVENT)} <= in_readme


def test_an_order_costs_what_the_readme_says() -> None:
    """Units of a million orders are a hundred times those of ten thousand."""
    lines = {line.what: line.how for line in cost.orders(OURS, 1.8, cost.DEFAULT)}
    for what in ("DynamoDB writes", "DynamoDB reads", "HTTP API", "Events on the bus"):
        [number] = re.findall(rf"^\| {what}[^|]*\| ([0-9,]+) ×", README, re.MULTILINE)
        name = {"Events on the bus": "EventBridge"}.get(what, what.replace("DynamoDB ", "DynamoDB, "))
        assert lines[name].startswith(f"{100 * int(number.replace(',', '')):,} ×")


def test_the_cost_tells_of_all_and_of_each_size() -> None:
    """A row for each webhook, a column for each size, and a bar for each."""
    section = cost.section(WEBHOOKS, 1.8)
    rows = re.findall(r"^\| (\S[^|]*?) \|((?: [0-9.]+ \|){5})$", section.text, re.MULTILINE)
    assert [name for name, _ in rows] == [webhook.name for webhook in WEBHOOKS]
    [panel] = section.panels
    assert list(panel.bars) == ["webhook", "(b) Powertools", "(c) AWS's sample"]
    assert [f"{value:.2f}" for value in panel.bars.values()] == [figures.split(" | ")[1] for _, figures in rows]


# --- Backlog ----------------------------------------------------------------------------------------------------------


def figures(orders: int, floor: int, seconds: float) -> backlog.Figures:
    requests = {"UpdateItem": 2 * orders}
    one = backlog.Reconciled(100, 25, 61, 20.0, 240, 300.0, floor, seconds, 1, 100, 20.0, requests, 55.0)
    relayed = backlog.Relayed(40.0, 4 * orders, 18.0, {"UpdateItem": orders, "PutEvents": orders // 10}, 48.0)
    few = orders // backlog.FEWER
    return backlog.Figures(
        {few: one._replace(floor=0, memory=50.0), orders: one}, {few: relayed._replace(memory=48.0), orders: relayed}
    )


def test_a_backlog_is_compared_with_the_rate_limit() -> None:
    """Ten thousand orders are on a hundred pages: three full minutes until the last may be asked for."""
    section = backlog.section(figures(10_000, 183, 201.3))
    assert [each for target in section.targets for each in target.measured] == pytest.approx([1.1, 1.1, 1.0])
    assert "(⌈100 / 25⌉ − 1) × 61 = 183 seconds" in section.text
    assert [panel.bars for panel in section.panels] == [
        {"its share of the rate limit alone": 183.0, "reconcile": 201.3}
    ]


def test_a_backlog_that_no_limit_holds_up_has_no_such_ratio() -> None:
    """On pages that may all be asked for at once the limit dictates no time to compare with."""
    section = backlog.section(figures(100, 0, 0.5))
    assert [target.what.partition(" ")[0] for target in section.targets] == ["memory", "memory"]
    assert backlog.NO_FLOOR in section.text
    assert not section.panels


def test_connections_are_kept() -> None:
    """One connection has several answers. Otherwise each request would pay for its own, which at AWS it does not."""

    def echo(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Path", environ["PATH_INFO"])])
        return [environ["wsgi.input"].read().upper()]

    with endpoint.serving(echo) as url, socket.create_connection((HOST, int(url.rpartition(":")[2]))) as connection:
        for word in ("one", "two"):
            connection.sendall(f"POST /{word} HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n{word}".encode())
            answer = connection.recv(1024).decode()
            assert answer.startswith("HTTP/1.1 200 OK\r\n")
            assert f"X-Path: /{word}\r\n" in answer
            assert answer.endswith(f"\r\n\r\n{word.upper()}")


# --- Chart ------------------------------------------------------------------------------------------------------------


def test_the_chart_has_every_bar(tmp_path: Path) -> None:
    """Title, unit, name and value of each panel are on it, and the same panels make the same file."""
    panels = [
        Panel("Cold start", "ms", {"webhook": 290.4, "(a) bare boto3": 1301.2}),
        Panel("Warm", "ms", {"webhook": 1.5, "(d) Express, bundled": 12.34}),
        Panel("Nothing", "$", {"relay": 0.0}),
    ]
    for name in ("one.svg", "two.svg"):
        chart.draw(panels, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    words = [word.strip() for word in re.findall(r"<!-- (.*?) -->", drawn)]
    for panel in panels:
        assert f"{panel.title}, {panel.unit}" in words
        assert panel.bars.keys() <= set(words)
    assert {"290", "1,301", "1.50", "12.3", "0.00"} <= set(words)
    assert drawn.count(f"fill: {chart.OWN}") == len(panels)
    assert drawn == (tmp_path / "two.svg").read_text()


# --- Scaling ----------------------------------------------------------------------------------------------------------


def row(what: str) -> list[str]:
    [line] = [line for line in SCALING.splitlines() if line.startswith(f"| {what} ")]
    return [cell.strip(" *") for cell in line.strip("|").split(" | ")]


def test_scaling_reckons_with_the_pace_of_reconciliation() -> None:
    """What a run and a day can list, and what a payment a second would need."""
    assert row("Pocketsflow, all lists")[1] == f"{provider.PER_MINUTE * 60 * 24:,} pages a day"
    listed = requests_a_day(86_400)
    rest = sum(listed.values()) - sum(number for name, number in listed.items() if name.endswith(".history"))
    told = f"{round(sum(listed.values()), -3):,}**; {round(rest, -2):,} but for the walk through half a year"
    assert row("Pocketsflow, all lists")[2] == told
    recent = 300 + reconcile.OVERLAP.total_seconds()
    assert row("Pocketsflow, recent sales")[2] == f"{recent / pocketsflow.PAGE_SIZE:.0f}"
    [function] = [each for each in template().functions() if each.handler == "reconcile.handler"]
    usable = function.timeout - pocketsflow.LIST_SECONDS - provider.MARGIN_SECONDS
    pages = (1 + usable // provider.WINDOW_SECONDS) * provider.PER_MINUTE
    assert row("Pocketsflow, recent sales")[1] == f"{pages:.0f} pages in each run of five minutes"


def test_scaling_reckons_with_the_template() -> None:
    """The limits that are ours: throttles, batches, functions at once, keys of the indexes."""
    large, new = (routes(AccountConcurrency=concurrency, ServerRoutes="off") for concurrency in ("1000", "10"))
    told = " ".join(SCALING.split())
    assert f"lets {large['POST /checkout']['ThrottlingRateLimit']} checkouts a second" in told
    assert f"lets {new['POST /checkout']['ThrottlingRateLimit']} checkouts a second" in told
    assert "POST /webhooks/pocketsflow" not in large
    functions = dict(template().resources("AWS::Serverless::Function"))
    changes = functions["RelayFunction"]["Events"]["Changes"]["Properties"]
    assert "ParallelizationFactor" not in changes
    readers = [
        name
        for name, function in functions.items()
        for event in function.get("Events", {}).values()
        if event["Type"] == "DynamoDB"
    ]
    assert readers == ["RelayFunction", "ReconcileFunction"]
    parked = functions["WebhookFunction"]["Events"]["Parked"]["Properties"]
    assert f"by {parked['ScalingConfig']['MaximumConcurrency']} functions at once" in row("Parking queue")[1]
    [(_, table)] = template().resources("AWS::DynamoDB::Table")
    keys = {
        each["IndexName"]: [key["AttributeName"] for key in each["KeySchema"]]
        for each in table["GlobalSecondaryIndexes"]
    }
    assert keys == {"pending": ["open_day", "created_at"], "unconfirmed": ["awaits", "since"]}


def routes(**parameters: str) -> dict[str, Any]:
    [(_, api)] = template(**parameters).resources("AWS::Serverless::HttpApi")
    settings: dict[str, Any] = api["RouteSettings"]
    return settings


def test_each_limit_has_its_page() -> None:
    """Every reference leads to a page of AWS's, and every page is referred to."""
    named = dict(re.findall(r"^\[(\w+)\]: (https://docs\.aws\.amazon\.com/\S+)$", SCALING, re.MULTILINE))
    assert set(re.findall(r"\]\[(\w+)\]", SCALING)) == set(named)
    assert len(named) == SCALING.count("]: http")
