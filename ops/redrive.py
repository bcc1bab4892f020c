"""`pf redrive`: what could not be written for a day is tried for another one."""

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
from botocore.exceptions import ClientError

from ops import audit, queues
from ops.cli import (
    Failed,
    TryAgain,
    confirmed,
    for_option,
    json_option,
    print_json,
    progress,
    reason_option,
    table,
    tell,
    yes_option,
)
from ops.queues import Message, Queue
from ops.replay import named_orders
from ops.stack import Stack

MOST_LOOKED_AT = 200
PAUSE_SECONDS = 1.0
MOST_LOOKS = 30
"""For a task of SQS that has begun and is not listed."""


@click.command()
@click.argument("queue", type=click.Choice(["ParkedTooLong"], case_sensitive=False))
@click.option("--limit", type=click.IntRange(min=1), help="Move so many at most.")
@for_option(60)
@yes_option
@reason_option(required=False)
@json_option
@click.pass_obj
def redrive(
    stack: Callable[[], Stack],
    *,
    queue: str,
    limit: int | None,
    seconds: int,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Has the webhooks in a queue of dead letters settled.

    First says what lies there; bodies are never shown. Move them when the cause is gone: what fails again is tried
    every five minutes, for a day.
    """
    on, now = stack(), datetime.now(UTC)
    dead = queues.parked_too_long(on)
    depth = dead.depth()
    groups = _groups(on.stage, dead.look(min(depth, MOST_LOOKED_AT)), now)
    if not as_json:
        _show(depth, groups)
    if not depth:
        if as_json:
            print_json({"queue": queue, "depth": 0, "messages": [], "moved": 0, "waiting": 0})
        else:
            tell(f"The queue {queue} is empty.")
        return
    many = min(depth, limit or depth)
    if not confirmed(f"Have {many} of {depth} webhooks settled?", yes=yes):
        raise Failed("nothing was moved")
    audit.write(on, "redrive", reason, now, queue=queue, depth=str(depth), limit=str(limit or "none"))
    with progress("webhooks moved", many) as advance:
        moved = _move(on, dead, many, advance, all_of_them=limit is None)
    left = queues.parking(on).wait_until_empty(seconds)
    if as_json:
        print_json({"queue": queue, "depth": depth, "messages": groups, "moved": moved, "waiting": left})
    else:
        tell(f"{moved} webhooks were moved" + (", and settled." if not left else "."))
    if left:
        raise TryAgain(f"{left} webhooks still wait in the queue Parking, and are tried for a day")


def _move(stack: Stack, dead: Queue, many: int, advance: Callable[[int], None], *, all_of_them: bool) -> int:
    """By SQS itself where it can: its task knows no limit, and the sandbox has none."""
    if all_of_them and not stack.is_sandbox:
        return _move_by_task(stack, advance)
    return _move_by_hand(dead, queues.parking(stack), many, advance)


def _move_by_task(stack: Stack, advance: Callable[[int], None]) -> int:
    """How many were moved. Raises Failed when the task ends before its time, and TryAgain when SQS tells of none."""
    sqs, source = stack.client("sqs"), stack.output("ParkedTooLongArn")

    def latest() -> dict[str, Any]:
        return next(iter(sqs.list_message_move_tasks(SourceArn=source, MaxResults=1).get("Results", [])), {})

    before = latest().get("StartedTimestamp")
    try:
        sqs.start_message_move_task(SourceArn=source)
    except ClientError as error:
        if not error.response["Error"].get("Code", "").endswith("UnsupportedOperation"):
            raise
        raise TryAgain("SQS moves none; if somebody has them moved already, look again when that is over") from None
    moved = looks = 0
    while True:
        task = latest()
        if task.get("StartedTimestamp") == before:  # the list is late, and the one before would pass for this one
            looks += 1
            if looks == MOST_LOOKS:
                raise TryAgain("SQS has begun to move them and does not tell how far it is; look again in a minute")
            time.sleep(PAUSE_SECONDS)
            continue
        advance(task.get("ApproximateNumberOfMessagesMoved", 0) - moved)
        moved = task.get("ApproximateNumberOfMessagesMoved", 0)
        if task["Status"] == "COMPLETED":
            return int(moved)
        if task["Status"] in ("FAILED", "CANCELLED"):
            raise Failed(f"the move ended as {task['Status'].lower()} after {moved} webhooks; run this again")
        time.sleep(PAUSE_SECONDS)


def _move_by_hand(dead: Queue, parking: Queue, many: int, advance: Callable[[int], None]) -> int:
    """Each is sent before it is deleted: what is interrupted in between settles twice, which changes nothing."""
    moved = 0
    while moved < many and (messages := dead.take(many - moved)):
        for message in messages:
            parking.put(message["Body"])
            dead.delete(message)
            moved += 1
            advance(1)
    return moved


def _groups(stage: str, messages: list[Message], now: datetime) -> list[dict[str, Any]]:
    """By event and order, the oldest first."""
    sent: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for message in messages:
        body, event = queues.unparked(message)
        order = min(named_orders(stage, body), default="")
        at = int(message.get("Attributes", {}).get("SentTimestamp", now.timestamp() * 1000))
        sent[event, order].append(datetime.fromtimestamp(at / 1000, UTC))
    found = sorted(sent.items(), key=lambda each: min(each[1]))
    return [
        {
            "event": event or None,
            "order_id": order or None,
            "number": len(times),
            "oldest": min(times).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        for (event, order), times in found
    ]


def _show(depth: int, groups: list[dict[str, Any]]) -> None:
    if not groups:
        return
    rows = [[each["event"] or "?", each["order_id"] or "-", str(each["number"]), each["oldest"]] for each in groups]
    table(["event", "order", "how many", "oldest since"], rows, title=f"{depth} webhooks")
    if (unseen := depth - sum(each["number"] for each in groups)) > 0:
        tell(f"{unseen} more were not looked at.")
