"""`pf stats`: how a stack does, from its ledger, its queues and its metrics."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ops import items, story
from ops.cli import console, json_option, print_json, printable, progress, since_option, tell
from ops.items import Item
from ops.orders import DERIVED
from ops.stack import Stack
from ops.story import Json, Judged, Unreadable

_BY_DEFAULT = timedelta(days=7)
_OBJECT_ID = 24
"""Hex digits of an id of Pocketsflow's, the first eight of which are the second it was made in."""
_MOST_METRICS = 500
"""Of one question to CloudWatch."""
_PERIODS = ((timedelta(hours=6), 60), (timedelta(days=15), 300))
"""Seconds of a metric's points: of older ones CloudWatch keeps only longer sums."""
_LONGEST = 3600


@dataclass
class Figures:
    """Of orders opened, and cases begun, since a moment."""

    since: datetime
    statuses: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Of the payments that settled."""
    cases: Counter[str] = field(default_factory=Counter)
    to_paid: list[float] = field(default_factory=list)
    """Seconds from opened to paid."""
    to_settled: list[float] = field(default_factory=list)
    """Seconds from the payment at Pocketsflow to its fact here, where the payment's id tells its time."""
    unreadable: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        try:
            with story.reading(item):
                if item["pk"].startswith("order#"):
                    self._add_order(item, story.judge(item))
                else:
                    self._add_sale(item)
        except Unreadable:
            self.unreadable.append(item["pk"])

    def _add_order(self, order: Item, judged: Judged) -> None:
        for name, verdict in judged.verdicts.items():
            if verdict in ("second", "mismatched") and self._is_new(order[name]["at"]):
                self.cases[verdict] += 1
        self.cases["drift"] += sum(
            1 for name, fact in order.items() if name.startswith("drift#") and self._is_new(fact["at"])
        )
        if not self._is_new(order["created_at"]):
            return
        self.statuses[judged.status] += 1
        if judged.winner is None:
            return
        fact = order[judged.winner]
        opened, settled = (datetime.fromisoformat(at) for at in (order["created_at"], fact["at"]))
        self.sources[fact["source"]] += 1
        self.to_paid.append((settled - opened).total_seconds())
        made = _made_at(fact["payment_id"])
        if made is not None and opened - _SLACK <= made <= settled + _SLACK:
            self.to_settled.append(max(0.0, (settled - made).total_seconds()))

    def _add_sale(self, sale: Item) -> None:
        verdict = sale.get("verdict")
        if verdict and "order_id" not in sale and self._is_new(verdict["at"]):
            self.cases[verdict["kind"]] += 1

    def _is_new(self, at: str) -> bool:
        return datetime.fromisoformat(at) >= self.since

    def told(self) -> Json:
        opened, settled = self.statuses.total(), self.sources.total()
        return {
            "since": _text(self.since),
            "orders": {"opened": opened, **{status: self.statuses[status] for status in DERIVED}},
            "conversion": _share(settled, opened),
            "seconds_opened_to_paid": _spread(self.to_paid),
            "seconds_payment_to_settled": _spread(self.to_settled),
            "found_by_api": _share(self.sources["api"], settled),
            "cases": {name: self.cases[name] for name in ("second", "mismatched", "unmatched", "foreign", "drift")},
            "unreadable": sorted(self.unreadable),
        }


_SLACK = timedelta(minutes=1)
"""Clocks differ."""


def _made_at(payment_id: str) -> datetime | None:
    if len(payment_id) != _OBJECT_ID:
        return None
    try:
        int(payment_id, 16)
        return datetime.fromtimestamp(int(payment_id[:8], 16), UTC)
    except ValueError:
        return None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _spread(seconds: Iterable[float]) -> Json:
    ordered = sorted(seconds)
    if not ordered:
        return {"known": 0, "median": None, "p95": None}
    p95 = ordered[0] if len(ordered) == 1 else statistics.quantiles(ordered, n=20, method="inclusive")[-1]
    return {"known": len(ordered), "median": round(statistics.median(ordered), 3), "p95": round(p95, 3)}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# --- Now --------------------------------------------------------------------------------------------------------------


def _queues(stack: Stack) -> Json:
    """How many messages lie in each; in flight counts as well."""
    sqs = stack.client("sqs")
    parking = stack.output("ParkingQueue")
    too_long = sqs.get_queue_url(QueueName=stack.output("ParkedTooLongArn").rpartition(":")[2])["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def depth(url: str) -> int:
        asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(asked.get(name, 0)) for name in names)

    return {"parked": depth(parking), "parked_too_long": depth(too_long)}


def _metrics(stack: Stack, since: datetime, now: datetime) -> Json:
    """Sums of all that is counted, by function and name; those without a value are not there."""
    period = next((seconds for span, seconds in _PERIODS if now - since <= span), _LONGEST)
    cloudwatch, namespace = stack.client("cloudwatch"), f"pocketsflow-{stack.stage}"
    pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace=namespace)
    metrics = [metric for page in pages for metric in page["Metrics"]][:_MOST_METRICS]
    if not metrics:
        return {}
    queries = [
        {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": period, "Stat": "Sum", "Unit": "Count"}}
        for number, metric in enumerate(metrics)
    ]
    sums: Counter[int] = Counter()
    asked = {"MetricDataQueries": queries, "StartTime": since, "EndTime": now}
    for page in cloudwatch.get_paginator("get_metric_data").paginate(**asked):
        for result in page["MetricDataResults"]:
            sums[int(result["Id"][1:])] += round(sum(result["Values"]))
    told: dict[str, dict[str, int]] = {}
    for number, metric in enumerate(metrics):
        dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
        name = " ".join([metric["MetricName"], *(value for key, value in dimensions.items() if key != "service")])
        if sums[number]:
            told.setdefault(dimensions.get("service", "all"), {})[name] = sums[number]
    return told


def _last(stack: Stack) -> Json:
    webhook, run = (items.get(stack, pk) or {} for pk in ("webhook#last", "reconcile#state"))
    return {"last_webhook": webhook.get("at"), "last_reconcile": run.get("finished_at")}


# --- The command ------------------------------------------------------------------------------------------------------


@click.command()
@since_option
@json_option
@click.pass_obj
def stats(stack: Callable[[], Stack], since: datetime | None, as_json: bool) -> None:
    """Says how many orders were opened, paid and given back, how fast, and what went wrong.

    Of the last seven days, unless --since says otherwise.
    """
    here, now = stack(), datetime.now(UTC)
    here.enter()
    figures = Figures(since or now - _BY_DEFAULT)
    with progress("Looking through the ledger") as advance:
        for item in items.scan(here, ("order#", "sale#"), advance):
            figures.add(item)
    told = {
        **figures.told(),
        **_queues(here),
        **_last(here),
        "metrics": _metrics(here, figures.since, now),
    }
    if as_json:
        print_json(told)
    else:
        _show(told)


def _show(told: Json) -> None:
    from rich.text import Text

    out = console()

    def line(name: str, value: object, colour: str = "") -> None:
        shown = "-" if value is None else printable(str(value))
        out.print(Text.assemble((f"{name:22}", "dim"), (shown, colour)), soft_wrap=True)

    orders: dict[str, Any] = told["orders"]
    line("since", told["since"])
    for name, count in orders.items():
        line(name.replace("_", " "), count)
    line("conversion", _percent(told["conversion"]))
    for title, name in (
        ("opened to paid", "seconds_opened_to_paid"),
        ("payment to settled", "seconds_payment_to_settled"),
    ):
        line(title, _spread_text(told[name]))
    line("found by the API", _percent(told["found_by_api"]))
    for name, count in told["cases"].items():
        line(f"{name} payments" if name != "drift" else name, count, "red" if count and name != "foreign" else "")
    line("parked now", told["parked"], "red" if told["parked"] else "")
    line("parked too long", told["parked_too_long"], "red" if told["parked_too_long"] else "")
    line("last webhook", told["last_webhook"])
    line("last reconciliation", told["last_reconcile"])
    for service, sums in told["metrics"].items():
        line(f"metrics of {service}", ", ".join(f"{name} {count}" for name, count in sums.items()))
    for pk in told["unreadable"]:
        tell(f"pf: unreadable item {printable(pk)}")


def _spread_text(spread: Json) -> str | None:
    if not spread["known"]:
        return None
    return f"median {_span(spread['median'])}, 95 % within {_span(spread['p95'])}, of {spread['known']}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
