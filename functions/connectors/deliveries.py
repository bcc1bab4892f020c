"""What a connector remembers, in a table of its own: what it has delivered, and how new that was.

    event#<id>          outcome     what became of it; there once it is done, and then it is not done again
                        lease       until then (seconds since the epoch) somebody is at it
                        failure, failed_at, tries
                        type, subject, order_id, expires
    subject#<subject>   revision    the newest that was handled (docs/events.md)
    connector           done_at, failed_at, failure; disabled, disabled_at

It forgets them after longer than a replay of the bus's archive can bring them again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from payments.table import TABLE, client, key, old_item, plain, timestamp, value

KEPT = timedelta(days=100)
"""The archive has ninety days, a queue of dead letters two weeks more."""
LEASE = timedelta(minutes=3)
"""Longer than an invocation: who had it is gone by then."""

Claim = Literal["claimed", "done", "busy"]


def claim(event_id: str, about: Mapping[str, str | None], now: datetime) -> Claim:
    """Takes an event on, in one request: nobody else does until it is `done`, `failed`, or the lease is over."""
    try:
        _set(
            f"event#{event_id}",
            {**about, "lease": _seconds(now + LEASE), "expires": _seconds(now + KEPT)},
            "attribute_not_exists(outcome) AND (attribute_not_exists(lease) OR lease <= :now)",
            {":now": _seconds(now)},
        )
    except client.exceptions.ConditionalCheckFailedException as failed:
        return "done" if "outcome" in old_item(failed) else "busy"
    return "claimed"


def done(event_id: str, outcome: str, now: datetime) -> None:
    _set(f"event#{event_id}", {"outcome": outcome, "at": timestamp(now)}, remove=("lease", "failure", "failed_at"))


def failed(event_id: str, reason: str, tries: int, now: datetime) -> None:
    """Gives it back: the next try need not wait for the lease to end."""
    fields = {"failure": reason, "failed_at": timestamp(now), "tries": tries}
    _set(f"event#{event_id}", fields, remove=("lease",))


def is_current(subject: str, revision: int, now: datetime) -> bool:
    """Whether nothing newer of the subject was handled, in one request that also notes this revision. Several events
    may have one revision, and one may come twice: as new as what was handled is new enough."""
    try:
        _set(
            f"subject#{subject}",
            {"revision": revision, "expires": _seconds(now + KEPT)},
            "attribute_not_exists(revision) OR revision <= :this",
            {":this": revision},
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


# --- Of the connector as a whole --------------------------------------------------------------------------------------


def note(*, done: bool, failure: str | None, now: datetime) -> None:
    """That something was delivered, or what kept something from it: for who looks at night (`pf connector status`)."""
    fields = {"done_at": timestamp(now)} if done else {}
    _set("connector", fields | ({"failure": failure, "failed_at": timestamp(now)} if failure else {}))


def disable(reason: str, now: datetime) -> None:
    """Nothing is sent any more until a person says so (`pf connector retry`)."""
    _set("connector", {"disabled": reason, "disabled_at": timestamp(now)})


def disabled() -> bool:
    answer = client.get_item(TableName=TABLE, Key=key("connector"), ConsistentRead=True)
    return "disabled" in plain(answer.get("Item", {}))


def _set(
    pk: str,
    fields: Mapping[str, Any],
    condition: str | None = None,
    compared: Mapping[str, int] | None = None,
    *,
    remove: tuple[str, ...] = (),
) -> None:
    set_ = {name: content for name, content in fields.items() if content is not None}
    names = [*set_, *remove]
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in set_)
    if remove:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
    more: Any = {}
    if condition:
        more = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    client.update_item(
        TableName=TABLE,
        Key=key(pk),
        UpdateExpression=expression,
        ExpressionAttributeNames={f"#{name}": name for name in names},
        ExpressionAttributeValues={
            **{f":{name}": value(content) for name, content in set_.items()},
            **{name: value(content) for name, content in (compared or {}).items()},
        },
        **more,
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
