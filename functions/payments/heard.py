"""What has come by webhook, and when: how silence is told from a shop without sales.

The relay notes it, so that a delivery costs the webhook no further request.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from payments.table import TABLE, client, key, plain, timestamp

LAST = "webhook#last"
_COPIES = {"large", "other_words"}
"""Reasons for which a body is kept beside its fact; `event` is then the fact's name (ledger.keep)."""


def arrivals(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """When those webhooks came that a write to an item, from `old` to `new`, was made for."""
    facts = (fact for name, fact in new.items() if name not in old and isinstance(fact, Mapping))
    kept = new.get("arrivals", [])[len(old.get("arrivals", [])) :]
    return [fact["at"] for fact in facts if fact.get("source") == "webhook"] + [arrival["at"] for arrival in kept]


def payments(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Ids of payments whose webhook came in words that a write keeps: the fact itself may be the API's."""
    kept = new.get("arrivals", [])[len(old.get("arrivals", [])) :]
    names = [arrival["event"].partition("#") for arrival in kept if arrival["reason"] in _COPIES]
    return [payment_id for kind, _, payment_id in names if kind == "pay"]


def note(at: str) -> None:
    """The last verified webhook came then, unless a later one is noted."""
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(LAST),
            UpdateExpression="SET #at = :at",
            ConditionExpression="attribute_not_exists(#at) OR #at < :at",
            ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues={":at": {"S": at}},
        )
    except client.exceptions.ConditionalCheckFailedException:
        return  # a later one is noted


def note_payment(payment_id: str, now: datetime) -> None:
    """A webhook has told of a payment that reconciliation had found before."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"sale#{payment_id}"),
        UpdateExpression="SET heard_at = if_not_exists(heard_at, :now)",
        ExpressionAttributeValues={":now": {"S": timestamp(now)}},
    )


def has_come(sale: Mapping[str, Any]) -> bool:
    """Whether a webhook has told of a payment by now; also one that did not say whose it is, and lies there."""
    facts = (fact for name, fact in sale.items() if name.startswith("pay#"))
    return bool({"heard_at", "claimed_by"} & sale.keys()) or any(fact.get("source") == "webhook" for fact in facts)


def last() -> datetime | None:
    """When the last verified webhook came; None when there never was one."""
    item = plain(client.get_item(TableName=TABLE, Key=key(LAST)).get("Item", {}))
    return datetime.fromisoformat(item["at"]) if item else None
