"""`pf stats`: figures that can be counted by hand."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from ops.figures import Figures
from tests.conftest import Aws
from tests.pf import answer, deployed, done, fails, run
from tests.world import PRODUCTS, World, world


@pytest.fixture
def shop(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    deployed()
    with world(cloud, monkeypatch, datetime.now(UTC) - timedelta(hours=2)) as made:
        yield made


def test_a_day_in_figures(shop: World) -> None:
    """Four orders: one paid after ten seconds, one after twenty and twice, one whose webhook was lost, one pending."""
    shop.reconcile()
    for seconds, times in ((10, 1), (20, 2)):
        _, session = shop.checkout()
        shop.clock.passes(seconds=seconds)
        for _ in range(times):
            shop.pay(session)
        shop.deliver()
        shop.flow()
    shop.checkout()
    shop.sell_elsewhere(PRODUCTS["course"]["productId"])
    _, session = shop.checkout()
    shop.pay(session)
    shop.lose_webhooks()
    shop.later(minutes=10)
    queue = shop.stack.parking_url
    shop.stack.sqs.send_message(QueueUrl=queue, MessageBody="{}")
    told = done("stats")
    assert told["orders"] == {
        "opened": 4, "pending": 1, "paid": 3, "partially_refunded": 0, "refunded": 0, "disputed": 0, "mismatched": 0,
    }  # fmt: skip
    assert (told["conversion"], told["found_by_api"]) == (0.75, 0.3333)
    assert told["seconds_opened_to_paid"] == {"known": 3, "median": 20.0, "p95": 542.0}
    assert (told["cases"]["second"], told["cases"]["unmatched"]) == (1, 1)
    assert (told["parked"], told["parked_too_long"]) == (1, 0)
    assert done("stats", "--since", "1m")["orders"]["opened"] == 0
    shown = run("stats").stdout
    for words in ("75.0%", "33.3%", "median 20.0 s, 95 % within 0:09:02, of 3"):
        assert words in shown, shown


def test_an_empty_ledger_divides_by_nothing(cloud: Aws) -> None:
    """What is not known is not nought."""
    deployed()
    told = done("stats")
    assert (told["conversion"], told["found_by_api"], told["last_webhook"]) == (None, None, None)
    assert told["seconds_opened_to_paid"] == {"known": 0, "median": None, "p95": None}
    assert "conversion            -" in run("stats").stdout


def test_the_time_in_a_payments_id_counts_where_it_can_be_one(cloud: Aws) -> None:
    """From the second in which Pocketsflow made it until it was a fact here; an id that tells another time tells
    none."""
    deployed().enter()
    figures = Figures(datetime(2026, 11, 1, tzinfo=UTC))
    opened, made = datetime(2026, 11, 28, 12, tzinfo=UTC), datetime(2026, 11, 28, 12, 1, tzinfo=UTC)
    for payment in (f"{int(made.timestamp()):08x}{'0' * 16}", "0" * 24, "z" * 24, "pay_1"):
        name = f"pay#{payment}"
        fact = {
            "at": "2026-11-28T12:01:03.000Z", "kind": "payment", "payment_id": payment, "product_id": "p",
            "source": "api",
        }  # fmt: skip
        created = {"created_at": opened.isoformat(timespec="milliseconds"), "product_id": "p"}
        figures.add({"pk": f"order#{payment}", **created, "payments": [name], name: fact})
    assert figures.told()["seconds_payment_to_settled"] == {"known": 1, "median": 3.0, "p95": 3.0}
    assert figures.told()["seconds_opened_to_paid"]["known"] == 4


def test_metrics_and_last_signs_of_life(cloud: Aws) -> None:
    """Sums of the functions' metrics of the time, and when a webhook and a run came last."""
    stack, now = deployed(), datetime.now(UTC)
    boto3.client("cloudwatch").put_metric_data(
        Namespace="pocketsflow-test",
        MetricData=[
            {
                "MetricName": "redelivered",
                "Dimensions": [{"Name": "service", "Value": "webhook"}],
                "Value": each,
                "Unit": "Count",
                "Timestamp": now - timedelta(minutes=5),
            }
            for each in (2, 3)
        ],
    )
    at = now.isoformat(timespec="milliseconds")
    for pk, name in (("webhook#last", "at"), ("reconcile#state", "finished_at")):
        cloud.dynamodb.put_item(TableName=stack.table, Item={"pk": {"S": pk}, name: {"S": at}})
    told = done("stats", "--since", "1h")
    assert told["metrics"] == {"webhook": {"redelivered": 5}}
    assert (told["last_webhook"], told["last_reconcile"]) == (at, at)


def test_a_service_that_is_not_there_is_no_nought(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is printed rather than a part."""
    deployed()
    fails(monkeypatch, "ListMetrics", answer("Throttling", operation="ListMetrics"))
    result = run("stats", "--json")
    assert (result.exit_code, result.stdout) == (75, "")
    assert json.dumps("AWS throttles ListMetrics; try again")[1:-1] in result.stderr
