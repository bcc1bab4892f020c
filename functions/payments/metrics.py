"""CloudWatch metrics without a call: lines of the log, in the embedded metric format
(docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).

Our own, because powertools' Metrics take a tenth of a DynamoDB write more in every webhook (docs/decisions.md).
"""

import json
import os
import sys
import time
from typing import Literal

Unit = Literal["Count", "Seconds", "Milliseconds"]

NAMESPACE = os.environ["POWERTOOLS_METRICS_NAMESPACE"]
SERVICE = os.environ["POWERTOOLS_SERVICE_NAME"]
MAX_VALUES = 100
"""Of one metric in a line."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_Dimensions = tuple[tuple[str, str], ...]
_found: dict[_Dimensions, dict[tuple[str, Unit], list[float]]] = {}


def add(name: str, value: float, unit: Unit, **dimensions: str) -> None:
    """Kept until the next `write`. `dimensions` come beside the service."""
    _found.setdefault(tuple(dimensions.items()), {}).setdefault((name, unit), []).append(value)


def write() -> None:
    """A line for each set of dimensions, or more where a metric has more than MAX_VALUES values."""
    while _found:
        dimensions, metrics = _found.popitem()
        start = 0
        while page := {key: part for key, values in metrics.items() if (part := values[start : start + MAX_VALUES])}:
            sys.stdout.write(_line({"service": SERVICE, **dict(dimensions)}, page))
            start += MAX_VALUES


def clear() -> None:
    """Forgets what was not written."""
    _found.clear()


def _line(dimensions: dict[str, str], metrics: dict[tuple[str, Unit], list[float]]) -> str:
    defined = {
        "Namespace": NAMESPACE,
        "Dimensions": [[*dimensions]],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in metrics],
    }
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [defined]}
    found = {name: values for (name, _), values in metrics.items()}
    return _encode({"_aws": about, **dimensions, **found}) + "\n"
