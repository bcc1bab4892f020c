"""Where reconciliation is: one item of the ledger with its lease, its cursors and its unfinished walks.

A run holds the lease, so that two at once are one; it expires, so that a crash holds nobody up for longer than a run
may take. Cursors move when the work behind them is done, never before.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from payments.table import TABLE, client, key, plain, timestamp, value

STATE = "reconcile#state"


@dataclass
class Walk:
    """Through the pages of a list, of what was made between two times. `stuck`: the last run got none of them."""

    since: str
    until: str
    page: int = 1
    stuck: bool = False


@dataclass
class Run:
    """What a run has in hand. `start` is the moment of the very first one; `spent` are its last requests;
    `unheard` the payments that were found before any webhook told of them, with the time that each was made."""

    owner: str
    start: str
    due: set[str]
    cursors: dict[str, str] = field(default_factory=dict)
    walks: dict[str, Walk] = field(default_factory=dict)
    spent: list[float] = field(default_factory=list)
    unheard: dict[str, str] = field(default_factory=dict)


class LeaseLost(Exception):
    """Another run has the lease: this one took longer than it may. Stop, and write nothing more."""


def begin(due: Iterable[str], owner: str, now: datetime, lease: timedelta) -> Run | None:
    """Notes which walks are due, and takes the lease; None while another run has it, which finds them due then."""
    update, values = "SET #start = if_not_exists(#start, :now)", {":now": value(timestamp(now))}
    if due := set(due):
        update += " ADD due :due"
        values[":due"] = value(due)
    client.update_item(
        TableName=TABLE,
        Key=key(STATE),
        UpdateExpression=update,
        ExpressionAttributeNames={"#start": "start"},
        ExpressionAttributeValues=values,
    )
    try:
        state = plain(
            client.update_item(
                TableName=TABLE,
                Key=key(STATE),
                UpdateExpression="SET lease_owner = :owner, lease_until = :until",
                ConditionExpression="attribute_not_exists(lease_until) OR lease_until < :now OR lease_owner = :owner",
                ExpressionAttributeValues={
                    ":owner": {"S": owner},
                    ":now": {"S": timestamp(now)},
                    ":until": {"S": timestamp(now + lease)},
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        )
    except client.exceptions.ConditionalCheckFailedException:
        return None
    return _run(state, owner)


def look(due: Iterable[str], now: datetime) -> Run:
    """A run that writes nothing: where the last one stopped, and these walks."""
    state = plain(client.get_item(TableName=TABLE, Key=key(STATE)).get("Item", {}))
    return _run({"start": timestamp(now), **state, "due": set(due), "walks": {}}, owner="")


def _run(state: dict[str, Any], owner: str) -> Run:
    return Run(
        owner=owner,
        start=state["start"],
        due=state.get("due", set()),
        cursors=state.get("cursors", {}),
        walks={name: Walk(**walk) for name, walk in state.get("walks", {}).items()},
        spent=[moment / 1000 for moment in state.get("spent", [])],
        unheard=state.get("unheard", {}),
    )


def save(run: Run, now: datetime, begun: Iterable[str] = (), *, outcome: str | None = None) -> None:
    """Puts down where the run is; `begun` are walks that are due no more. With an `outcome` it ends, and the lease is
    given back. Raises LeaseLost."""
    values: dict[str, Any] = {
        ":owner": {"S": run.owner},
        ":cursors": value(run.cursors),
        ":walks": value({name: vars(walk) for name, walk in run.walks.items()}),
        ":spent": value([math.ceil(moment * 1000) for moment in run.spent]),  # not a moment too early
        ":unheard": value(run.unheard),
    }
    update = "SET cursors = :cursors, walks = :walks, spent = :spent, unheard = :unheard"
    if outcome:
        update += ", finished_at = :now, outcome = :outcome REMOVE lease_owner, lease_until"
        values |= {":now": {"S": timestamp(now)}, ":outcome": {"S": outcome}}
    if begun := set(begun):
        update += " DELETE due :begun"
        values |= {":begun": value(begun)}
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(STATE),
            UpdateExpression=update,
            ConditionExpression="lease_owner = :owner",
            ExpressionAttributeValues=values,
        )
    except client.exceptions.ConditionalCheckFailedException as failed:
        if outcome and failed.response["ResponseMetadata"]["RetryAttempts"]:
            return  # the lease was given back by this very call
        raise LeaseLost from None
