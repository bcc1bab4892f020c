"""`payments/metrics.py`: lines in CloudWatch's embedded metric format."""

import json
from typing import Any

import pytest
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from payments import metrics


@pytest.fixture(autouse=True)
def _none_before() -> None:
    metrics.clear()


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    metrics.write()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_what_powertools_would_write(capsys: pytest.CaptureFixture[str]) -> None:
    """Same format, but for the moment: names, units, values and dimensions."""
    theirs: Any = AmazonCloudWatchEMFProvider(
        namespace=metrics.NAMESPACE, service=metrics.SERVICE, default_dimensions={"event": "x"}
    )
    for name, unit, value in (("Seen", "Count", 1), ("Lasted", "Seconds", 0.25), ("Seen", "Count", 2)):
        theirs.add_metric(name=name, unit=unit, value=value)
        metrics.add(name, value, unit, event="x")  # type: ignore[arg-type]
    expected = theirs.serialize_metric_set()
    [line] = written(capsys)
    assert line["_aws"].pop("Timestamp") == pytest.approx(expected["_aws"].pop("Timestamp"), abs=10_000)
    [ours], [definition] = line["_aws"].pop("CloudWatchMetrics"), expected["_aws"].pop("CloudWatchMetrics")
    assert {*ours.pop("Dimensions")[0]} == {*definition.pop("Dimensions")[0]} == {"service", "event"}
    assert ours == definition
    assert line == expected


def test_each_set_of_dimensions_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A metric is not counted under the dimensions of another."""
    metrics.add("Plain", 1, "Count")
    metrics.add("Told", 1, "Count", event="a")
    metrics.add("Told", 1, "Count", event="b")
    found = {
        (line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], line.get("event")) for line in written(capsys)
    }
    assert found == {("Plain", None), ("Told", "a"), ("Told", "b")}


@pytest.mark.parametrize("values", [99, 100, 101, 250])
def test_no_line_has_more_values_than_cloudwatch_takes(capsys: pytest.CaptureFixture[str], values: int) -> None:
    """A hundred of one metric; none is lost, and what has fewer is written once."""
    for value in range(values):
        metrics.add("Lasted", value, "Seconds")
    metrics.add("Seen", 1, "Count")
    lines = written(capsys)
    assert [value for line in lines for value in line["Lasted"]] == list(range(values))
    assert all(len(line["Lasted"]) <= metrics.MAX_VALUES for line in lines)
    assert [line["Seen"] for line in lines if "Seen" in line] == [[1]]


def test_what_is_written_is_not_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    """An invocation tells its own figures only; one without figures tells none."""
    metrics.add("Seen", 1, "Count")
    assert len(written(capsys)) == 1
    assert written(capsys) == []
