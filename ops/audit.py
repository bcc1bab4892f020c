"""Who did what with a stack by hand, when and why: written before it is done, so that nothing is done unwritten.

audit#<day>        entries of a day, in UTC
audit#<about>      the same ones, of one order or payment

An item holds so many that it stays below DynamoDB's 400 kB, and is cheap to write; the next ones lie in `audit#…#2`.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ops import items
from ops.cli import TryAgain, json_option, print_lines, since_option, table, tell
from ops.people import hidden
from ops.stack import Stack

Entry = dict[str, Any]
"""`at`, `who` (ARN), `action`, `reason`, perhaps `about`, and what the action has besides: text, nothing personal."""

MAX_ENTRIES = 100
"""Of an item: a reason has 2 kB at most."""
TRIES = 8


def write(stack: Stack, action: str, reason: str, now: datetime, about: str | None = None, **details: str) -> None:
    """Raises what AWS raises: then the action must not happen."""
    at = items.timestamp(now)
    entry = {"at": at, "who": stack.who(), "action": action, "reason": reason, **details}
    if about is not None:
        entry["about"] = about
    value = {"M": {name: {"S": text} for name, text in entry.items()}}
    subjects = [at[:10], *([about] if about is not None else [])]
    dynamodb = stack.client("dynamodb")
    for number in range(TRIES):
        if number:  # others write of the same day at this moment
            time.sleep(random.uniform(0.05, 0.2) * number)  # noqa: S311
        try:
            dynamodb.transact_write_items(TransactItems=[_append(stack, subject, value) for subject in subjects])
        except dynamodb.exceptions.TransactionCanceledException as cancelled:
            codes = {reason.get("Code") for reason in cancelled.response.get("CancellationReasons", [])}
            if not codes & {"ConditionalCheckFailed", "TransactionConflict"}:
                raise
        else:
            return
    raise TryAgain("too many others write into the audit at this moment; nothing was done: try again")


def _append(stack: Stack, subject: str, value: Any) -> dict[str, Any]:
    """To the last page, while nobody else has filled it."""
    number = sum(1 for page in _pages(stack, subject) if len(page) >= MAX_ENTRIES) + 1
    return {
        "Update": {
            "TableName": stack.table,
            "Key": {"pk": {"S": _pk(subject, number)}},
            "UpdateExpression": "SET entries = list_append(if_not_exists(entries, :none), :entry)",
            "ConditionExpression": "attribute_not_exists(entries) OR size(entries) < :most",
            "ExpressionAttributeValues": {
                ":none": {"L": []},
                ":entry": {"L": [value]},
                ":most": {"N": str(MAX_ENTRIES)},
            },
        }
    }


def _pages(stack: Stack, subject: str) -> Iterator[list[Entry]]:
    """All but the last are full."""
    for number in itertools.count(1):
        page = (items.get(stack, _pk(subject, number)) or {}).get("entries", [])
        yield page
        if len(page) < MAX_ENTRIES:
            return


def _pk(subject: str, number: int) -> str:
    return f"audit#{subject}" if number == 1 else f"audit#{subject}#{number}"


def of(stack: Stack, about: str) -> list[Entry]:
    """Of an order or a payment, oldest first."""
    return [entry for page in _pages(stack, about) for entry in page]


def between(stack: Stack, since: datetime, until: datetime) -> Iterator[Entry]:
    """All entries of a time, oldest first."""
    day = since.astimezone(UTC).date()
    while day <= until.astimezone(UTC).date():
        for entry in of(stack, day.isoformat()):
            if since <= datetime.fromisoformat(entry["at"]) <= until:
                yield entry
        day += timedelta(days=1)


# --- The command ------------------------------------------------------------------------------------------------------

_BY_DEFAULT = timedelta(days=30)


@click.command("audit")
@click.argument("about", metavar="[ORDER|PAYMENT]", required=False)
@since_option
@json_option
@click.pass_obj
def listed(stack: Callable[[], Stack], about: str | None, since: datetime | None, as_json: bool) -> None:
    """Lists who did what with this stack by hand, when and why, oldest first.

    About an order or a payment, or all of the last thirty days, unless --since says otherwise.
    """
    here, now = stack(), datetime.now(UTC)
    if about is None:
        found = list(between(here, since or now - _BY_DEFAULT, now))
    else:
        first = since or datetime.min.replace(tzinfo=UTC)
        found = [entry for entry in of(here, about) if datetime.fromisoformat(entry["at"]) >= first]
    found = hidden(found)  # nothing personal belongs into a reason, and people write it there all the same
    if as_json:
        print_lines(found)
    elif found:
        table(("at", "who", "action", "about", "reason"), map(_row, found))
    else:
        tell("Nothing was done by hand.")


def _row(entry: Entry) -> tuple[str, ...]:
    who = str(entry.get("who", "-")).rpartition("/")[2]
    return str(entry["at"])[:19].replace("T", " "), who, *(str(entry.get(name, "-")) for name in _SHOWN)


_SHOWN = ("action", "about", "reason")
