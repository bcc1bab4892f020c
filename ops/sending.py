"""Which refund `pf` has sent, or is about to, so that two persons, or one who tries again, do not both send it.

    refund#<payment>   sent: amounts by refund id, which Pocketsflow's list may not have yet; while one is under way, or
                       nobody knows what became of it, its owner, at, who, amount, and known: the ids before it

No fact: DynamoDB forgets it after a day.
"""

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops import items
from ops.cli import TryAgain
from ops.stack import Stack

UNKNOWN = timedelta(hours=1)
"""How long a refund whose answer was lost may take to show in Pocketsflow's list: until then no other one is sent."""
KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Sent:
    """What lies there. `owner` is None when none is under way."""

    refunds: Mapping[str, Decimal]
    owner: str | None
    amount: Decimal
    known: frozenset[str]
    at: str
    who: str


def read(stack: Stack, payment_id: str) -> Sent:
    item = items.get(stack, _pk(payment_id)) or {}
    return Sent(
        refunds={identity: Decimal(amount) for identity, amount in item.get("sent", {}).items()},
        owner=item.get("owner"),
        amount=Decimal(item.get("amount", 0)),
        known=frozenset(item.get("known", [])),
        at=item.get("at", ""),
        who=item.get("who", ""),
    )


def begin(stack: Stack, payment_id: str, amount: Decimal, known: Iterable[str], now: datetime) -> str:
    """Its owner, for `end`. Raises TryAgain while there is another one."""
    dynamodb, owner = stack.client("dynamodb"), uuid.uuid4().hex
    begun: dict[str, Any] = {
        "owner": {"S": owner},
        "at": {"S": now.isoformat(timespec="seconds")},
        "who": {"S": stack.who()},
        "amount": {"S": str(amount)},
        "known": {"L": [{"S": identity} for identity in known]},
        "expires": {"N": str(int((now + KEPT).timestamp()))},
    }
    sets = ", ".join(f"#{name} = :{name}" for name in begun)
    try:
        dynamodb.update_item(
            TableName=stack.table,
            Key={"pk": {"S": _pk(payment_id)}},
            UpdateExpression=f"SET sent = if_not_exists(sent, :none), {sets}",
            ConditionExpression="attribute_not_exists(#owner) OR #owner = :owner OR #at < :long_ago",
            ExpressionAttributeNames={f"#{name}": name for name in begun},
            ExpressionAttributeValues={
                **{f":{name}": value for name, value in begun.items()},
                ":none": {"M": {}},
                ":long_ago": {"S": (now - UNKNOWN).isoformat(timespec="seconds")},
            },
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        raise under_way(payment_id, read(stack, payment_id)) from None
    return owner


def end(stack: Stack, payment_id: str, owner: str, refund: tuple[str, Decimal] | None = None) -> None:
    """It is known what became of it: a refund of this id and amount, or none. Where that cannot be written, the next
    one waits, or finds it in the list."""
    write: dict[str, Any] = {
        "TableName": stack.table,
        "Key": {"pk": {"S": _pk(payment_id)}},
        "UpdateExpression": "REMOVE #owner",
        "ConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": owner}},
    }
    if refund is not None:
        write["UpdateExpression"] += " SET sent.#refund = :amount"
        write["ExpressionAttributeNames"]["#refund"] = refund[0]
        write["ExpressionAttributeValues"][":amount"] = {"S": str(refund[1])}
    with contextlib.suppress(BotoCoreError, ClientError):
        stack.client("dynamodb").update_item(**write)


def under_way(payment_id: str, sent: Sent) -> TryAgain:
    return TryAgain(
        f"a refund of {sent.amount} of {payment_id} was sent at {sent.at} by {sent.who}, and nobody knows yet whether"
        f" it happened: look at Pocketsflow; no other one is sent within {UNKNOWN.seconds // 60} minutes of it"
    )


def _pk(payment_id: str) -> str:
    return f"refund#{payment_id}"
