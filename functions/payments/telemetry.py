"""One logger and one metrics sink. Ids and outcomes only: never a body, a secret, a name or an address."""

import os

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = os.environ["POWERTOOLS_SERVICE_NAME"]

logger = Logger(service=SERVICE)
metrics = Metrics(service=SERVICE, namespace=os.environ["POWERTOOLS_METRICS_NAMESPACE"])


def count(name: str, times: int = 1) -> None:
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=times)


def needs_attention(reason: str, **ids: str | None) -> None:
    """A person should look: counted in `NeedsAttention`, which the template alarms on."""
    count("NeedsAttention")
    logger.error(reason, extra=ids)


def where(error: BaseException) -> str:
    """Type and line of an error, without its message: messages quote the values that caused them."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}" if frame else "?"
    return f"{type(error).__name__} at {place}"
