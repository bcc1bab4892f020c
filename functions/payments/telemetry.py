"""One logger and one metrics sink. Ids and outcomes only: never a body, a secret, a name or an address.

Every line of an invocation has its `request_id` and, as soon as it is known, the `order_id`. A metric has the dimension
`service`, and no more without need: each combination is paid for. infra/observability.yaml has what is made of them.
"""

import functools
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from aws_lambda_powertools import Logger

from payments import metrics

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

ATTENTION = {
    "parked": "Parked",
    "still_parked": "Parked",
    "second_payment": "SecondPayment",
    "payment.second": "SecondPayment",
    "mismatched": "Mismatched",
    "payment.mismatched": "Mismatched",
    "unmatched": "Unmatched",
    "payment.unmatched": "Unmatched",
    "ledger.drift": "Drift",
    "reconcile_partial": "ReconcilePartial",
    "webhook_missed": "WebhookMissed",
}
"""Reasons that have an alarm of their own, by the metric that it watches; every other is `NeedsAttention`."""
LONGEST = timedelta(days=7)
"""That a duration is told as: a time that somebody else states may be any."""

_UNITS = {"Seconds": timedelta(seconds=1), "Milliseconds": timedelta(milliseconds=1)}

logger = Logger(service=metrics.SERVICE, utc=True)
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # in no line


def observed(handler: Handler) -> Handler:
    """A handler whose lines name its invocation, and whose metrics are written when it ends, however it ends."""

    @functools.wraps(handler)
    def observing(event: dict[str, Any], context: Any) -> dict[str, Any]:
        of_gateway = event.get("requestContext", {}).get("requestId")  # as the access log has it
        logger.append_keys(request_id=context.aws_request_id, api_request_id=of_gateway, order_id=None)
        try:
            return handler(event, context)
        finally:
            metrics.write()

    return observing


def about(order_id: str | None) -> None:
    """The lines from here on are about this order, or about none."""
    logger.append_keys(order_id=order_id)


def count(name: str, times: int = 1, **dimensions: str) -> None:
    """`dimensions` beside the service; their values must be few, and no stranger's."""
    metrics.add(name, times, "Count", **dimensions)


def measure(name: str, duration: timedelta, unit: Literal["Seconds", "Milliseconds"] = "Seconds") -> None:
    """None is shorter than nothing, or longer than LONGEST."""
    bounded = min(max(duration, timedelta(0)), LONGEST)
    metrics.add(name, bounded / _UNITS[unit], unit)


def needs_attention(reason: str, **ids: str | None) -> None:
    """A person should look: counted in the metric of its reason, which is alarmed (infra/observability.yaml)."""
    count(ATTENTION.get(reason, "NeedsAttention"))
    logger.error(reason, extra=ids)


def where(error: BaseException) -> str:
    """Type and line of an error, without its message: messages quote the values that caused them."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}" if frame else "?"
    return f"{type(error).__name__} at {place}"
