"""What the sandbox's functions count, and its alarms, by the calls that work on AWS."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox import aws
from sandbox.figures import MOST, Figures
from tests.e2e.conftest import Sandbox


class Calls:
    """CloudWatch, as far as it is asked."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def put_metric_data(self, **call: Any) -> None:
        self.taken.append(call)


def test_a_purchase_is_counted(sandbox: Sandbox) -> None:
    """A moment after it: by name, dimension and time."""
    cloudwatch = aws.client("cloudwatch", sandbox.aws)
    began = datetime.now(UTC)

    def paid() -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="pocketsflow-sandbox", MetricName="PaidByWebhook",
            Dimensions=[{"Name": "service", "Value": "relay"}], Statistics=["Sum"], Period=3600,
            StartTime=began - timedelta(minutes=1), EndTime=began + timedelta(minutes=5),
        )  # fmt: skip
        return sum(point["Sum"] for point in found["Datapoints"])

    before = paid()
    _, session_id = sandbox.order()
    sandbox.pay(session_id)
    deadline = time.monotonic() + 30
    while paid() <= before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert paid() > before


def test_alarms_are_there_by_their_prefix(sandbox: Sandbox) -> None:
    """As `pf doctor` looks for them: each with what it means, and telling the stack's topic."""
    cloudwatch = aws.client("cloudwatch", sandbox.aws)
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix="pocketsflow-sandbox.")["MetricAlarms"]
    assert len(alarms) > 20
    topics = {topic["TopicArn"] for topic in aws.client("sns", sandbox.aws).list_topics()["Topics"]}
    assert {action for alarm in alarms for action in alarm["AlarmActions"]} <= topics
    assert {alarm["StateValue"] for alarm in alarms} <= {"OK", "INSUFFICIENT_DATA"}


def test_figures_go_in_batches_and_other_lines_nowhere() -> None:
    """As many at once as CloudWatch takes; a line that only looks like figures is none."""
    calls = Calls()
    figures = Figures(calls)
    directive = {"Namespace": "n", "Dimensions": [["service"]], "Metrics": [{"Name": "Seen", "Unit": "Count"}]}
    written = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "service": "webhook", "Seen": [1.0, 2.0]}
    for line in ["hello", '{"_aws"', "{}", *[json.dumps(written)] * (MOST + 1)]:
        figures.hear(line)
    figures.poll()
    assert [(call["Namespace"], len(call["MetricData"])) for call in calls.taken] == [("n", MOST), ("n", 1)]
    assert calls.taken[0]["MetricData"][0] == {
        "MetricName": "Seen",
        "Dimensions": [{"Name": "service", "Value": "webhook"}],
        "Timestamp": datetime(1970, 1, 1, tzinfo=UTC),
        "Values": [1.0, 2.0],
        "Unit": "Count",
    }
    figures.poll()
    assert len(calls.taken) == 2
