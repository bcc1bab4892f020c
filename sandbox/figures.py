"""What the functions count becomes figures of CloudWatch, as on AWS: by the lines that they print."""

import json
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

MOST = 1000
"""Of one PutMetricData."""


class Figures:
    """Takes lines in, and gives what they count to CloudWatch at the next poll: many at once, and nobody waits."""

    def __init__(self, cloudwatch: Any) -> None:
        self._cloudwatch = cloudwatch
        self._lines: deque[str] = deque(maxlen=10_000)

    def hear(self, line: str) -> None:
        if '"_aws"' in line:
            self._lines.append(line)

    def poll(self) -> None:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        while self._lines:
            for namespace, datum in _data(self._lines.popleft()):
                found[namespace].append(datum)
        for namespace, data in found.items():
            for start in range(0, len(data), MOST):
                self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=data[start : start + MOST])


def _data(line: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    try:
        written = json.loads(line)
    except ValueError:
        return
    at = datetime.fromtimestamp(written["_aws"]["Timestamp"] / 1000, UTC)
    for directive in written["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = [{"Name": name, "Value": written[name]} for name in names]
            for metric in directive["Metrics"]:
                yield (
                    directive["Namespace"],
                    {
                        "MetricName": metric["Name"],
                        "Dimensions": dimensions,
                        "Timestamp": at,
                        "Values": written[metric["Name"]],
                        "Unit": metric["Unit"],
                    },
                )
