"""From a connector's queue to its `deliver`: each event of the bus is done once, and tried for three days until it is.

EventBridge and SQS hand things over at least once and in any order. Who has done an event is remembered
(connectors/deliveries.py); whether it is still news, `deliver` says.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from connectors import deliveries
from connectors.outgoing import Undelivered
from payments import aws, strictjson
from payments.telemetry import about, count, logger, needs_attention, where

QUEUE_URL = os.environ["QUEUE_URL"]

WAITS = (5, 300, 1_800, 7_200, 18_000, 36_000, 43_200, 43_200, 43_200, 43_200, 21_600)
"""Seconds from one try to the next: three days in all. After the last try SQS lays it aside (infra/connector.yaml)."""
LATE = 4
"""The try that half an hour has passed by: when it fails, too, somebody is told."""
MOST = 43_000
"""SQS hides a message for twelve hours from when it was received, no longer."""
ONE_TRY = 30.0
"""Seconds that a delivery may take: what cannot be begun in time is left to the next invocation."""
AT_ONCE = {"unauthorized", "not_found", "refused", "gone", "forbidden_address", "disabled", "secret_missing"}
"""Reasons that no waiting mends: somebody is told at the first try."""

Deliver = Callable[["Event", datetime], str]
Check = Callable[[str, datetime], Mapping[str, Any]]

_queue = aws.client("sqs")


class Unreadable(Exception):
    """A message that is no event of ours. It ends among the dead letters."""


@dataclass(frozen=True, slots=True)
class Event:
    """What docs/events.md promises; `detail` is all of it."""

    id: str
    type: str
    subject: str
    revision: int
    occurred_at: str
    order_id: str | None
    status: str | None
    """Of the order, after the write that made the event; None for what is about no order."""
    detail: Mapping[str, Any]


def consume(event: dict[str, Any], context: aws.Context, deliver: Deliver, check: Check) -> dict[str, Any]:
    """Hands each message to `deliver`, which returns the outcome in a word or raises Undelivered, and may be called
    again for what it has done, since a crash leaves no trace. `{"test": <type of an event>}` is for `check`, which
    speaks to the other side, changes nothing there, and says what came of it (`pf connector test`)."""
    if "test" in event:
        return _checked(check, str(event["test"]), datetime.now(UTC))
    failures: list[dict[str, str]] = []
    reasons: set[str] = set()
    with aws.finishing_in_time(context):
        for message in event["Records"]:
            if aws.time_left() < ONE_TRY:
                _come_back(message, 0)
                failures.append({"itemIdentifier": message["messageId"]})
            elif (reason := _consume(message, deliver, datetime.now(UTC))) is not None:
                reasons.add(reason)
                failures.append({"itemIdentifier": message["messageId"]})
        with _if_possible("not_noted"):
            deliveries.note(
                done=len(failures) < len(event["Records"]), failure=min(reasons, default=None), now=datetime.now(UTC)
            )
    about(None)
    return {"batchItemFailures": failures}


def read(body: str) -> Event:
    """An envelope of EventBridge. Raises Unreadable."""
    try:
        envelope = strictjson.parse(body.encode())
        detail = envelope["detail"]
        return Event(
            detail["id"],
            envelope["detail-type"],
            detail["subject"],
            int(detail["revision"]),
            detail["occurred_at"],
            detail.get("order_id"),
            detail.get("status"),
            detail,
        )
    except (strictjson.Unreadable, ValueError, KeyError, TypeError):
        raise Unreadable from None


def _consume(message: Mapping[str, Any], deliver: Deliver, now: datetime) -> str | None:
    """Why it failed, or None."""
    tries = int(message["attributes"]["ApproximateReceiveCount"])
    event = None
    try:
        event = read(message["body"])
        about(event.order_id)
        outcome = _once(event, deliver, now)
    except Undelivered as undelivered:
        reason, retry_after = undelivered.reason, undelivered.retry_after
    except Unreadable:
        reason, retry_after = "unreadable", None
        needs_attention("connector_unreadable")
    except Exception as error:  # noqa: BLE001  # whatever one event causes, the others of the batch are none the worse
        reason, retry_after = "error", None
        needs_attention("connector_error", event_id=event.id if event else None, error=where(error))
    else:
        count("Delivered" if outcome not in ("done", "older", "not_ours") else "DeliverySkipped")
        logger.info(outcome, extra={"event_id": event.id, "type": event.type})
        return None
    count("DeliveryFailed")
    ids = {"event_id": event.id, "type": event.type} if event else {}
    logger.warning("undelivered", extra={**ids, "reason": reason, "tries": tries})
    if reason in AT_ONCE and tries == 1:
        needs_attention(f"connector_{reason}", **ids)
    if tries == LATE:
        count("DeliveryLate")
    _come_back(message, _wait(tries, retry_after))
    if event and reason != "in_progress":
        with _if_possible("not_noted"):
            deliveries.failed(event.id, reason, tries, now)
    return reason


def _once(event: Event, deliver: Deliver, now: datetime) -> str:
    told: dict[str, str | None] = {"type": event.type, "subject": event.subject, "order_id": event.order_id}
    match deliveries.claim(event.id, told, now):
        case "done":
            return "done"
        case "busy":
            raise Undelivered("in_progress", int(deliveries.LEASE.total_seconds()))
    outcome = deliver(event, now)
    deliveries.done(event.id, outcome, now)
    return outcome


def _wait(tries: int, retry_after: int | None) -> int:
    """Scattered, so that what failed together does not come back together; no time after the last try."""
    if tries > len(WAITS):
        return 0
    wait = WAITS[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311
    return min(MOST, max(int(wait), retry_after or 0))


def _come_back(message: Mapping[str, Any], seconds: int) -> None:
    with _if_possible("not_put_off"):  # it comes back all the same, after the queue's own time
        _queue.change_message_visibility(
            QueueUrl=QUEUE_URL, ReceiptHandle=message["receiptHandle"], VisibilityTimeout=seconds
        )


@contextmanager
def _if_possible(otherwise: str) -> Iterator[None]:
    """What makes a failure easier to bear, and must not be another one."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        logger.warning(otherwise, extra={"error": where(error)})


def _checked(check: Check, kind: str, now: datetime) -> dict[str, Any]:
    try:
        return dict(check(kind, now))
    except Undelivered as undelivered:
        return {"outcome": "failed", "reason": undelivered.reason}
