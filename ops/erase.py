"""`pf erase`: a person's data goes out of everything that a stack keeps, as far as AWS lets it; money facts stay.

What of an item is about a person, and how it is taken out, says functions/payments/privacy.py. What lies in queues and
in the bucket of unpublished records is replaced by copies that say the same without the person.
"""

import base64
import binascii
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ops import audit, items, story
from ops.cli import (
    Failed,
    TryAgain,
    confirmed,
    json_option,
    print_json,
    progress,
    reason_option,
    table,
    tell,
    yes_option,
)
from ops.members import Member
from ops.stack import Stack

if TYPE_CHECKING:
    from payments.privacy import Person, Redaction

KINDS = {
    "order": "orders",
    "sale": "payments",
    "subscription": "subscriptions",
    "raw": "webhook bodies",
    "audit": "days and subjects of the audit",
}
QUEUES = "messages in queues"
OBJECTS = "objects of unpublished records"
MEMBERS = "members"
PASSES = 3
"""Over the ledger: what was written while one went on, the next one finds."""
HIDDEN_SECONDS = 120
"""A message that is looked at is nobody else's for so long."""
WAIT_SECONDS = 1
"""So that every server of a queue is asked."""
_ROUND = 10
LIMITS = (
    "The bus's archive cannot forget one person: events with the address stay for 90 days, then go.",
    "Point-in-time recovery of the ledger can bring the address back for 35 days; erase again after a restore.",
    "Logs and metrics never had it. Pocketsflow, and whoever consumes the events, have data of their own.",
    "The same person's other addresses are other persons here.",
)


def _address(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
    local, at, domain = text.partition("@")
    is_one = bool(local and at and domain) and "@" not in domain and text.isprintable() and " " not in text
    if not is_one or len(text) > _LONGEST:
        raise click.BadParameter("must be an e-mail address")
    return text


_LONGEST = 254


@dataclass
class Found:
    """How many of each kind name the person; `told` is what a person must see to."""

    counts: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    is_busy: bool = False
    """Messages were being tried at this moment, and could not be looked at."""


@click.command()
@click.option("--email", metavar="ADDRESS", required=True, callback=_address, help="Of the person; case is ignored.")
@reason_option(required=False, default="request of the person")
@yes_option
@json_option
@click.pass_obj
def erase(stack: Callable[[], Stack], *, email: str, reason: str, yes: bool, as_json: bool) -> None:
    """Takes a person's data out of ledger, queues and bucket.

    Orders, payments and what they add up to stay, without whose they are. Finds nothing when it is run again.
    """
    found = stack()
    found.enter()
    from payments.privacy import Person

    person, member = Person(email), Member(found, email)
    if person.is_named(reason):
        raise click.UsageError("the reason is kept in the audit; it must not have the address")
    seen = _look(found, person, member)
    if not as_json:
        _show(seen)
    receipt, done = None, Counter[str]()
    if seen.counts:
        if not confirmed("Take the person out of all of these, for ever?", yes=yes):
            raise Failed("nothing was erased")
        receipt = secrets.token_hex(8)
        counts = {kind: str(number) for kind, number in sorted(seen.counts.items())}
        audit.write(found, "erase", reason, datetime.now(UTC), receipt=receipt, **counts)
        done, seen = _erase(found, person, member)
    if as_json:
        erased = {"receipt": receipt, "erased": dict(done), "left": sum(seen.counts.values()), "busy": seen.is_busy}
        print_json({**erased, "told": seen.told, "limits": LIMITS})
    else:
        _tell(done, receipt)
    _end(seen)


def _show(seen: Found) -> None:
    if seen.counts:
        table(("named in", "how many"), [(kind, f"{number:,}") for kind, number in seen.counts.items()])
    else:
        tell("Nothing that pf can change names that address.")


def _tell(done: Counter[str], receipt: str | None) -> None:
    if receipt:
        tell(f"Erased in {sum(done.values()):,} places. Receipt {receipt}: the audit has it, and not the address.")
    tell("What pf cannot erase:")
    for text in LIMITS:
        tell(f"  {text}")


def _end(seen: Found) -> None:
    """Raises Failed for what a person must see to, TryAgain for what another run will find."""
    if seen.told:
        raise Failed("; ".join(dict.fromkeys(seen.told)))
    if seen.is_busy:
        raise TryAgain("messages of the queue Parking are being tried at this moment; erase again in five minutes")
    if seen.counts:
        raise TryAgain("more has come meanwhile; erase again")


def _look(stack: Stack, person: "Person", member: Member) -> Found:
    found = Found()
    with progress("Looking") as advance:
        for item, _ in _in_ledger(stack, person, advance, found):
            found.counts[_kind(item)] += 1
        for queue in _queues(stack):
            _Messages(stack, queue, person).pass_over(found, replace=False)
        for key in _Objects(stack, person).naming(found):
            found.counts[OBJECTS] += bool(key)
        found.counts[MEMBERS] += member.is_known()
    found.counts = +found.counts
    return found


def _erase(stack: Stack, person: "Person", member: Member) -> tuple[Counter[str], Found]:
    """Queues first: what they hold may be written to the ledger at any moment. What was done, and what is left."""
    done = Counter[str]()
    left = Found()
    with progress("Erasing") as advance:
        for queue in _queues(stack):
            _Messages(stack, queue, person).pass_over(left, replace=True)
        done[QUEUES], left.counts = left.counts[QUEUES], Counter()
        objects = _Objects(stack, person)
        for key in objects.naming(left):
            objects.rewrite(key)
            done[OBJECTS] += 1
        for _ in range(PASSES):
            left.counts.clear()
            for item, redactions in _in_ledger(stack, person, advance, left):
                left.counts[_kind(item)] += 1
                done[_kind(item)] += _redact(stack, redactions)
            if not left.counts:
                break
        done[MEMBERS] += member.forget()  # at last: what was on its way from the ledger has come
    return +done, left


def _in_ledger(
    stack: Stack, person: "Person", advance: Callable[[int], None], found: Found
) -> Iterator[tuple[items.Item, list["Redaction"]]]:
    from payments.privacy import SUBJECTS
    from payments.table import timestamp

    at = timestamp(datetime.now(UTC))
    for item in items.scan(stack, SUBJECTS, advance):
        try:
            with story.reading(item):
                redactions = person.redactions(item, at)
        except story.Unreadable as odd:
            if person.is_named(item):
                found.told.append(f"{odd}, which names the address; look at it yourself")
            continue
        if redactions:
            yield item, redactions


def _redact(stack: Stack, redactions: list["Redaction"]) -> bool:
    """Whether any of an item was there to be taken out. A fact that has come since is untouched, and found next."""
    dynamodb = stack.client("dynamodb")
    is_done = False
    for redaction in redactions:
        with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
            dynamodb.update_item(TableName=stack.table, **redaction.update())
            is_done = True
    return is_done


def _kind(item: items.Item) -> str:
    return KINDS[item["pk"].partition("#")[0]]


# --- Queues -----------------------------------------------------------------------------------------------------------


def _queues(stack: Stack) -> list[str]:
    """Addresses of Parking and ParkedTooLong."""
    name = stack.output("ParkedTooLongArn").rpartition(":")[2]
    return [stack.output("ParkingQueue"), stack.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]]


class _Messages:
    """What was parked in a queue (functions/webhook.py): payments that the ledger does not have yet. None is lost: the
    copy is there before the message goes, and twice the same is the same."""

    def __init__(self, stack: Stack, url: str, person: "Person") -> None:
        self._sqs, self._url, self._person = stack.client("sqs"), url, person

    def pass_over(self, found: Found, *, replace: bool) -> None:
        """Looks at each message once; others than the person's can be received again afterwards."""
        seen: dict[str, str] = {}
        """Receipt handles by message, but of those that are gone."""
        copies: set[str] = set()
        try:
            while received := self._receive():
                fresh = [message for message in received if message["MessageId"] not in seen]
                seen |= {message["MessageId"]: message["ReceiptHandle"] for message in received}
                if not fresh:  # once around; perhaps not, with more messages than can be hidden for so long
                    found.is_busy = True
                    break
                for message in fresh:
                    copy = None if message["MessageId"] in copies else self._copy(message["Body"], found)
                    if copy is None:
                        continue
                    found.counts[QUEUES] += 1
                    if replace:
                        copies.add(self._sqs.send_message(QueueUrl=self._url, MessageBody=copy)["MessageId"])
                        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
                        del seen[message["MessageId"]]
        finally:
            for handle in seen.values():
                self._show_again(handle)
        found.is_busy |= self._hidden() > 0

    def _receive(self) -> list[Any]:
        asked = {"MaxNumberOfMessages": _ROUND, "VisibilityTimeout": HIDDEN_SECONDS, "WaitTimeSeconds": WAIT_SECONDS}
        received: list[Any] = self._sqs.receive_message(QueueUrl=self._url, **asked).get("Messages", [])
        return received

    def _copy(self, text: str, found: Found) -> str | None:
        """The message without the person; None for one that names somebody else, or that must stay as it is."""
        from payments import events, privacy

        try:
            message = json.loads(text)
            body = base64.b64decode(message["body"], validate=True)
            name, sent_at = str(message["event"]), str(message["sent_at"])
        except (ValueError, TypeError, KeyError, binascii.Error):
            if self._person.is_named(text):
                found.told.append("a message that no webhook has parked names the address; look at the queue yourself")
            return None
        if not self._person.is_named(body):
            return None
        copy = privacy.without_person(body, self._person)
        if _nobodys(events.parse(body, name)) != _nobodys(events.parse(copy, name)):
            found.told.append("a parked message would say something else without the person, and stays as it is")
            return None
        return json.dumps({"body": base64.b64encode(copy).decode(), "event": name, "sent_at": sent_at})

    def _show_again(self, handle: str) -> None:
        with suppress(self._sqs.exceptions.ClientError):  # it was shown again by itself
            self._sqs.change_message_visibility(QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=0)

    def _hidden(self) -> int:
        name = "ApproximateNumberOfMessagesNotVisible"
        found = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=[name])
        return int(found["Attributes"][name])


def _nobodys(fact: Any) -> Any:
    """A fact, whoever's it is."""
    personal = {"email", "customer_reference"} & {each.name for each in fields(fact)}
    return replace(fact, **dict.fromkeys(personal))


# --- The bucket of unpublished records --------------------------------------------------------------------------------


class _Objects:
    """Records of the ledger's stream that were not published, as Lambda and the relay keep them: docs/events.md."""

    def __init__(self, stack: Stack, person: "Person") -> None:
        self._s3, self._bucket, self._person = stack.client("s3"), stack.output("UnpublishedBucket"), person

    def naming(self, found: Found) -> Iterator[str]:
        """Keys of those that name the person."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for entry in page.get("Contents", []):
                data = self._read(entry["Key"])
                try:
                    copy = self._without(data)
                except (ValueError, TypeError, KeyError, AttributeError):
                    if self._person.is_named(data):
                        told = f"{entry['Key']} in the bucket of unpublished records is none, and names the address"
                        found.told.append(told)
                    continue
                if copy is not None:
                    yield entry["Key"]

    def rewrite(self, key: str) -> None:
        """Its 90 days begin anew."""
        copy = self._without(self._read(key))
        if copy is not None:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=copy)

    def _read(self, key: str) -> bytes:
        data: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return data

    def _without(self, data: bytes) -> bytes | None:
        """None where the person is not named."""
        from payments import table

        content = json.loads(data)
        payload = json.loads(content["payload"])
        at, is_named = table.timestamp(datetime.now(UTC)), False
        for record in payload["Records"]:
            for image in (record["dynamodb"].get(name) for name in ("OldImage", "NewImage")):
                for redaction in self._person.redactions(table.plain(image), at) if image else ():
                    if redaction.pk == image["pk"]["S"]:
                        redaction.on(image)
                        is_named = True
        return json.dumps({**content, "payload": json.dumps(payload)}).encode() if is_named else None
