"""`pf republish`: events that were published before go over the bus again, with the ids that they had."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from ops import audit, functions, history, items, subject
from ops.cli import (
    Failed,
    TryAgain,
    confirmed,
    json_option,
    print_json,
    printable,
    progress,
    reason_option,
    since_option,
    table,
    tell,
    time_option,
    yes_option,
)
from ops.items import Item
from ops.stack import Stack
from payments.batches import batches, bytes_of
from sandbox.template import ROOT

if TYPE_CHECKING:
    from payments.outbox import Event

TYPES = sorted(path.stem for path in (ROOT / "infra/events").glob("*.json") if path.stem != "common")
TRIES = 3
HANDED_OVER = "handed-over/"
"""Below this lies a record while the relay has it: what it puts aside once more has a name of its own again."""
DONE_BY_HAND = "replayed/"


@dataclass
class Choice:
    """Which events of an item are wanted; `lost` counts those whose ids nobody knows any more."""

    since: datetime | None
    until: datetime | None
    types: tuple[str, ...]
    lost: int = 0

    def of(self, item: Item) -> "list[Event]":
        told = history.told(item)
        if told.lost and self._may_want(item):
            self.lost += told.lost
        return [each for each in told.events if self._wants(each)]

    def _wants(self, event: "Event") -> bool:
        return self._is_in_time(event.detail["occurred_at"]) and (not self.types or event.type in self.types)

    def _may_want(self, item: Item) -> bool:
        """Whether events that an item made may be wanted, whatever they were."""
        kinds = ("subscription.",) if item["pk"].startswith("subscription#") else ("order.", "payment.")
        times = [each["at"] for name, each in item.items() if "#" in name and isinstance(each, dict) and "at" in each]
        times += [item["at"]] if "at" in item else []
        is_of_type = not self.types or any(each.startswith(kinds) for each in self.types)
        return is_of_type and any(self._is_in_time(at) for at in times)

    def _is_in_time(self, text: str) -> bool:
        at = datetime.fromisoformat(text)
        return (self.since is None or self.since <= at) and (self.until is None or at <= self.until)


@click.command()
@click.argument("about", metavar="[ORDER]", required=False)
@since_option
@time_option("--until", "Until when")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(TYPES),
    metavar="TYPE",
    help="Only of this type; may come again.",
)
@click.option("--unpublished", is_flag=True, help="What the relay could not publish, instead.")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and publish none.")
@yes_option
@reason_option(required=False)
@json_option
@click.pass_obj
def republish(
    stack: Callable[[], Stack],
    *,
    about: str | None,
    since: datetime | None,
    until: datetime | None,
    types: tuple[str, ...],
    unpublished: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Publishes the events of an order, or all since a time, again.

    They have the ids that they had, so that a consumer drops what it has handled, and the status that holds now.
    """
    if [about is not None, since is not None, unpublished].count(True) != 1:
        raise click.UsageError("give an order, --since or --unpublished")
    if unpublished and (types or until):
        raise click.UsageError("--unpublished has no --type and no --until")
    on, now = stack(), datetime.now(UTC)
    if unpublished:
        _hand_over_all(on, now, reason, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    found = None if about is None else subject.find(on, about)
    on.enter()
    counted = Choice(since, until, types)
    counts = Counter(each.type for each in _events(on, found, counted))
    total = counts.total()
    told: dict[str, Any] = {"events": dict(sorted(counts.items())), "left_out": counted.lost}
    if not as_json:
        if counts:
            table(["event", "how many"], [[kind, str(number)] for kind, number in sorted(counts.items())])
        if counted.lost:
            tell(f"{counted.lost} more cannot be told by their ids any more; the bus's archive has them.")
    if dry_run or not total:
        if as_json:
            print_json({**told, "published": 0})
        elif not total:
            tell("There is no such event.")
        return
    bus = on.output("BusName")
    if not confirmed(f"Publish {total} events on {bus} again?", yes=yes):
        raise Failed("nothing was published")
    audit.write(on, "republish", reason, now, found.about if found else None, events=str(total), **_span(since, until))
    with progress("events published", total) as advance:
        published = _publish(on, _events(on, found, Choice(since, until, types)), advance)
    if as_json:
        print_json({**told, "published": published})
    else:
        tell(f"{published} events were published.")


def _span(since: datetime | None, until: datetime | None) -> dict[str, str]:
    return {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}


def _events(stack: Stack, found: subject.Subject | None, choice: Choice) -> "Iterator[Event]":
    """Read anew each time: all of them may be more than there is room for."""
    for item in _of_all(stack) if found is None else _of_one(stack, found):
        yield from choice.of(item)


def _of_all(stack: Stack) -> Iterator[Item]:
    with progress("items of the ledger seen") as seen:
        yield from items.scan(stack, ("order#", "sale#", "subscription#", "raw#"), seen)


def _of_one(stack: Stack, found: subject.Subject) -> Iterator[Item]:
    """An order, and its payments."""
    payments = [found.payment] if found.payment is not None else []
    if found.order is not None:
        yield found.order
        payments = subject.payments(found.order)
    for payment in payments:
        kinds = ("sale", "subscription") if payment.name.startswith("sub#") else ("sale",)
        for kind in kinds:
            if (item := items.get(stack, f"{kind}#{payment.id}")) is not None:
                yield item


def _publish(stack: Stack, events: "Iterable[Event]", advance: Callable[[int], None]) -> int:
    """How many the bus took. Raises TryAgain when it does not take all, and what AWS raises when it takes none."""
    client, done = stack.client("events"), 0
    entries = (
        {
            "Source": f"pocketsflow.{stack.stage}",
            "DetailType": each.type,
            "Detail": json.dumps(each.detail, ensure_ascii=False),
            "EventBusName": stack.output("BusName"),
        }
        for each in events
    )
    for chunk in batches(entries, lambda entry: bytes_of(entry["Detail"])):
        left = chunk
        for attempt in range(TRIES):
            time.sleep(0.3 * 2**attempt if attempt else 0)
            try:
                results = client.put_events(Entries=left)["Entries"]
            except (BotoCoreError, ClientError):
                if not done:
                    raise
                break
            refused = [entry for entry, result in zip(left, results, strict=True) if "ErrorCode" in result]
            done += len(left) - len(refused)
            advance(len(left) - len(refused))
            left = refused
            if not left:
                break
        if left:
            raise TryAgain(
                f"{done} events were published, then the bus took no more; run this again: ids do not change"
            )
    return done


# --- What the relay could not publish ---------------------------------------------------------------------------------


def _hand_over_all(stack: Stack, now: datetime, reason: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    bucket, s3 = stack.output("UnpublishedBucket"), stack.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = [each["Key"] for page in pages for each in page.get("Contents", [])]
    keys = [key for key in listed if not key.startswith(DONE_BY_HAND)]
    if not as_json:
        tell(f"{len(keys)} batches of changes lie in {bucket}.")
    if dry_run or not keys:
        if as_json:
            print_json({"batches": len(keys), "published": 0, "failed": 0})
        return
    if not confirmed(f"Hand {len(keys)} batches to the relay again?", yes=yes):
        raise Failed("nothing was published")
    audit.write(stack, "republish", reason, now, unpublished=str(len(keys)))
    published = 0
    with progress("batches published", len(keys)) as advance:
        for key in keys:
            published += _hand_over(stack, s3, bucket, key)
            advance(1)
    failed = len(keys) - published
    if as_json:
        print_json({"batches": len(keys), "published": published, "failed": failed})
    else:
        tell(f"{published} batches were published.")
    if failed:
        raise Failed(f"{failed} batches are not published and lie there still; the relay's log says why")


def _hand_over(stack: Stack, s3: Any, bucket: str, key: str) -> bool:
    """Whether the relay has published all of a batch, which is deleted then. It is moved away before: a record that
    is put aside once more comes to lie where it lay. One that the relay cannot take holds up no other one, and one that
    somebody else has in hand is his."""
    away = key if key.startswith(HANDED_OVER) else f"{HANDED_OVER}{key}"
    back = away.removeprefix(HANDED_OVER)
    try:
        if away != key:
            _move(s3, bucket, key, away)
        stored = s3.get_object(Bucket=bucket, Key=away)["Body"].read()
    except ClientError as error:
        if error.response["Error"].get("Code") != "NoSuchKey":
            raise
        return not _lies(s3, bucket, back)
    is_done = False
    try:
        payload = json.loads(stored)["payload"]
    except (ValueError, KeyError, TypeError):
        payload = None  # not of the relay: nobody knows what it is
    try:
        if isinstance(payload, str):
            answer = functions.invoke(stack, stack.output("RelayFunctionName"), payload.encode())
            is_done = answer == {"batchItemFailures": []}
    except Failed as failure:
        tell(printable(f"{back}: {failure.message}"))
    finally:
        if not is_done:
            _move(s3, bucket, away, back)
    if is_done:
        s3.delete_object(Bucket=bucket, Key=away)
    return is_done and not _lies(s3, bucket, back)


def _move(s3: Any, bucket: str, key: str, to: str) -> None:
    """Copied before it is deleted."""
    s3.copy_object(Bucket=bucket, Key=to, CopySource={"Bucket": bucket, "Key": key})
    s3.delete_object(Bucket=bucket, Key=key)


def _lies(s3: Any, bucket: str, key: str) -> bool:
    found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return any(each["Key"] == key for each in found)
