"""Who did what with a stack by hand, when and why: written before it is done, so that nothing is done unwritten.

audit#<day>        entries of a day, in UTC
audit#<about>      the same ones, of one order or payment
audit#…+1          what goes on after MOST of them, and so on
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ops import items
from ops.cli import json_option, print_lines, since_option, table, tell
from ops.people import hidden
from ops.stack import Stack

MOST = 150
"""Of one item, which with the longest reasons then has 390 of the 400 kB that it may have."""

Entry = dict[str, Any]
"""`at`, `who` (ARN), `action`, `reason`, perhaps `about`, and what the action has besides: text, nothing personal."""


def write(stack: Stack, action: str, reason: str, now: datetime, about: str | None = None, **details: str) -> None:
    """Raises what AWS raises: then the action must not happen."""
    at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"at": at, "who": stack.who(), "action": action, "reason": reason, **details}
    if about is not None:
        entry["about"] = about
    value = {"M": {name: {"S": text} for name, text in entry.items()}}
    parts = dict.fromkeys([at[:10], *([about] if about is not None else [])], 0)
    dynamodb = stack.client("dynamodb")
    while True:
        try:
            dynamodb.transact_write_items(
                TransactItems=[
                    {
                        "Update": {
                            "TableName": stack.table,
                            "Key": {"pk": {"S": _pk(subject, part)}},
                            "UpdateExpression": "SET entries = list_append(if_not_exists(entries, :none), :entry)",
                            "ConditionExpression": "attribute_not_exists(entries) OR size(entries) < :most",
                            "ExpressionAttributeValues": {
                                ":none": {"L": []},
                                ":entry": {"L": [value]},
                                ":most": {"N": str(MOST)},
                            },
                        }
                    }
                    for subject, part in parts.items()
                ]
            )
        except dynamodb.exceptions.TransactionCanceledException as cancelled:
            codes = [reason.get("Code") for reason in cancelled.response["CancellationReasons"]]
            if "ConditionalCheckFailed" not in codes:
                raise
            is_full = (code == "ConditionalCheckFailed" for code in codes)
            parts = {subject: parts[subject] + full for subject, full in zip(parts, is_full, strict=True)}
        else:
            return


def of(stack: Stack, about: str) -> list[Entry]:
    """Of an order or a payment, oldest first."""
    found: list[Entry] = []
    for part in itertools.count():
        entries = (items.get(stack, _pk(about, part)) or {}).get("entries", [])
        found += entries
        if len(entries) < MOST:
            break
    return found


def _pk(subject: str, part: int) -> str:
    return f"audit#{subject}+{part}" if part else f"audit#{subject}"


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
