"""The ledger's stream: every change of it becomes events on the bus, at least once, with ids that never change.

First the change is completed in the ledger, where it touches two items: a payment is made to belong to its order, a
refund that waited beside its payment is copied to the order. Only then is it told.
"""

import contextlib
import json
import math
import os
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, heard, ledger, outbox, privacy, references, retention, sales, subscriptions, table
from payments.batches import batches, bytes_of
from payments.deployment import STAGE
from payments.telemetry import about, count, logger, needs_attention, observed, where

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef as Entry

BUS_NAME = os.environ["BUS_NAME"]
UNPUBLISHED_BUCKET = os.environ["UNPUBLISHED_BUCKET"]
TRIES = 3
SPARE_SECONDS = 1
"""Beside one PutEvents: however slow the ledger is, what is completed is told, and the batch gets on."""

_bus = aws.client("events")


class Told(NamedTuple):
    record: str
    """Sequence number of the stream's record."""
    event: outbox.Event
    entry: "Entry"


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    """A batch of the stream (docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html). What
    could not be published is reported, and comes again."""
    count("RecordRead", len(event["Records"]))
    with aws.finishing_in_time(context):
        with aws.finishing_within(math.inf, leaving=aws.longest_try("events") + SPARE_SECONDS):
            telling, failed = _complete_all(event["Records"])
        failed |= {told.record for told in _publish(telling)}
        _note_arrivals(event["Records"])
    return {"batchItemFailures": [{"itemIdentifier": number} for number in sorted(failed, key=int)]}


def _complete_all(records: list[dict[str, Any]]) -> tuple[list[Told], set[str]]:
    """What is to be told, and the sequence numbers of the records that could not be completed."""
    telling, failed = [], set()
    for record in records:
        number = record["dynamodb"]["SequenceNumber"]
        about(_order_id(record["dynamodb"]))
        try:
            telling += [Told(number, each, _entry(each)) for each in _complete(record["dynamodb"])]
        except (BotoCoreError, ClientError) as error:
            needs_attention("record_not_relayed", error=where(error))
            failed.add(number)
        except Exception as error:  # noqa: BLE001  # a defect of ours: trying again would hold up all that follows
            needs_attention("record_not_understood", error=where(error))
            if not _put_aside(record):
                failed.add(number)
    about(None)
    return telling, failed


def _order_id(change: dict[str, Any]) -> str | None:
    kind, _, identity = change["Keys"]["pk"]["S"].partition("#")
    return identity if kind == "order" else None


def _complete(change: dict[str, Any]) -> list[outbox.Event]:
    """Makes what two items must agree on agree, and says which events the change makes."""
    now = datetime.now(UTC)
    old, new = table.plain(change.get("OldImage", {})), table.plain(change["NewImage"])
    kind, _, identity = new["pk"].partition("#")
    events = outbox.events(old, new)
    if kind == "order":
        if not old and "reference" in new:
            _claim(identity, new["reference"], now)
        if events:
            events = _owned(identity, old, new, events, now)
        for name, fact in new.items():
            if name in old or not name.startswith(("ref#", "claim#")) or fact["source"] != "webhook":
                continue
            if fact.get("of") == "subscription":
                subscriptions.note_claim(fact["payment_id"], identity)
            else:
                sales.await_confirmation(fact["payment_id"], now, claimed_by=identity)
    elif kind == "sale" and "order_id" in new:
        for name, fact in new.items():
            if name.startswith("ref#") and (name not in old or "order_id" not in old):
                ledger.copy_to_order(new["order_id"], name, fact, now)
    elif kind == "raw":
        for payment_id in heard.payments(old, new):
            heard.note_payment(payment_id, now)
    _stay_erased(old, new, now)
    return events


def _stay_erased(old: dict[str, Any], new: dict[str, Any], now: datetime) -> None:
    """What comes to an item of an erased person is told like any other, and does not stay."""
    for redaction in privacy.late(old, new, table.timestamp(now)):
        retention.redact(redaction)


def _claim(order_id: str, reference: str, now: datetime) -> None:
    """What named the reference of a new order before it was there: Pocketsflow is asked about it once more."""
    for waiting in references.waiting(reference):
        kind, _, identity = waiting.partition("#")
        if kind == "subscription":
            subscriptions.note_claim(identity, order_id)
        else:
            sales.await_confirmation(identity, now, claimed_by=order_id)


def _owned(
    order_id: str, old: dict[str, Any], new: dict[str, Any], events: list[outbox.Event], now: datetime
) -> list[outbox.Event]:
    """The events of an order whose payments are its own. One that belongs to another order is disowned, and that write
    tells all that follows from it, instead of this one."""
    fresh = outbox.new_payments(old, new)
    foreign = [
        name
        for name in new.get("payments", [])
        if f"void#{new[name]['payment_id']}" not in new and not _link(order_id, name, new, now, fresh=name in fresh)
    ]
    if not foreign:
        return events
    void = {f"void#{new[name]['payment_id']}": {"kind": "void", "at": table.timestamp(now)} for name in foreign}
    for name in foreign:
        ledger.disown(order_id, new[name], now)
    as_if = outbox.events({**old, **void} if old else {}, {**new, **void})
    paid = {each.fact for each in events if each.type == "order.paid"}  # by another payment: the other write tells it
    return [
        each
        for each in as_if
        if each.fact not in (*foreign, *void) and (each.type != "order.paid" or each.fact in paid)
    ]


def _link(order_id: str, name: str, order: dict[str, Any], now: datetime, *, fresh: bool) -> bool:
    fact = order[name]
    if fact["kind"] == "subscription":
        return subscriptions.link(order_id, fact, order, now)
    return sales.link(order_id, fact, now, fresh=fresh)


def _note_arrivals(records: list[dict[str, Any]]) -> None:
    """When the last webhook came, once for the batch. For a figure: what is told does not wait for it."""
    times: list[str] = []
    for record in records:
        change = record["dynamodb"]
        with contextlib.suppress(Exception):  # what is not understood was told above
            times += heard.arrivals(table.plain(change.get("OldImage", {})), table.plain(change["NewImage"]))
    if not times:
        return
    try:
        heard.note(max(times))
    except (BotoCoreError, ClientError) as error:
        logger.warning("arrival_not_noted", extra={"error": where(error)})


def _publish(telling: list[Told]) -> list[Told]:
    """Sends all, entry by entry again what the bus did not take; gives back what it has not taken in the end."""
    left = []
    for chunk in batches(telling, lambda told: bytes_of(told.entry["Detail"])):
        for attempt in range(TRIES):
            pause = random.uniform(0.1, 0.3) * 2**attempt if attempt else 0  # noqa: S311
            if pause > aws.time_left():
                break
            time.sleep(pause)
            chunk = _put(chunk)  # noqa: PLW2901
            if not chunk:
                break
        left += chunk
    if left:
        needs_attention("events_not_published", events=str(len(left)))
    return left


def _put(chunk: list[Told]) -> list[Told]:
    try:
        results = _bus.put_events(Entries=[told.entry for told in chunk])["Entries"]
    except (BotoCoreError, ClientError) as error:
        logger.warning("put_events_failed", extra={"error": where(error)})
        return chunk
    refused = []
    for told, result in zip(chunk, results, strict=True):
        if "ErrorCode" in result:
            refused.append(told)
            continue
        ids = {"event_type": told.event.type, "event_id": told.event.detail["id"]}
        ids |= {"order_id": told.event.detail["order_id"]}
        if told.event.type in outbox.NEEDS_ATTENTION:
            needs_attention(told.event.type, **ids)
        else:
            logger.info("published", extra=ids)
        if told.event.type == "order.paid":
            count("PaidByWebhook" if told.event.detail["payment"]["source"] == "webhook" else "PaidByReconcile")
    count("EventPublished", len(chunk) - len(refused))
    return refused


def _entry(event: outbox.Event) -> "Entry":
    detail = json.dumps(event.detail, ensure_ascii=False)
    return {"Source": f"pocketsflow.{STAGE}", "DetailType": event.type, "Detail": detail, "EventBusName": BUS_NAME}


def _put_aside(record: dict[str, Any]) -> bool:
    """Keeps a record whole where Lambda keeps those that it gave up, in the same form. False when it could not."""
    client: Any = aws.client("s3")  # here, because only a defect needs it
    content = {"version": "1.0", "payload": json.dumps({"Records": [record]})}
    number = record["dynamodb"]["SequenceNumber"]
    try:
        client.put_object(Bucket=UNPUBLISHED_BUCKET, Key=f"put-aside/{number}.json", Body=json.dumps(content).encode())
    except (BotoCoreError, ClientError) as error:
        needs_attention("record_not_put_aside", error=where(error))
        return False
    return True
