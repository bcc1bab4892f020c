"""Payments by Pocketsflow's own ids: the order each belongs to, what the API said of it, and what is nobody's yet.

An item `sale#<their id>` has

    order_id       ours, written once: a payment belongs to at most one order
    claimed_by     the order that a signed webhook named first: its own, if the API shows the payment and names none
    api            what Pocketsflow's API said of it last, so that the same row is no work the next time
    refunds_seen   `<refund id>#<status>` of the refunds that the API lists and the ledger holds
    awaits, since  the API has not been asked since something was said by webhook (the index `unconfirmed`)
    heard_at       a webhook told of it after the API had shown it (payments/heard.py)
    verdict        nobody's: `unmatched`, with the orders it may have been meant for, or `foreign`

beside the facts that wait here for their order (payments/ledger.py).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from payments.deployment import MODE
from payments.events import Payment
from payments.ledger import fact_fields, fact_name
from payments.table import TABLE, client, key, plain, read_many, timestamp, value

Verdict = Literal["unmatched", "foreign"]

MAX_CANDIDATES = 10
_CANDIDATE_AGE = timedelta(hours=48)
_CANDIDATE_PAGES = 5


def link(order_id: str, fact: Mapping[str, Any], now: datetime, *, fresh: bool = True) -> bool:
    """Makes a payment of an order belong to it, for ever. False when it belongs to another order already.

    `fact` is the payment's, as it lies in the order. When it is
    `fresh` and came by webhook it now waits for the API to say the same.
    """
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": key(f"sale#{fact['payment_id']}"),
        "UpdateExpression": "SET order_id = :order, linked_at = if_not_exists(linked_at, :now)",
        "ConditionExpression": "attribute_not_exists(order_id) OR order_id = :order",
        "ExpressionAttributeValues": {":order": {"S": order_id}, ":now": {"S": timestamp(now)}},
    }
    if fresh and fact["source"] != "api" and fact["kind"] == "payment":
        write["UpdateExpression"] += ", awaits = :api, since = if_not_exists(since, :now)"
        write["ExpressionAttributeValues"] |= {":api": {"S": "api"}}
    try:
        client.update_item(**write)
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def await_confirmation(payment_id: str, now: datetime, claimed_by: str | None = None) -> None:
    """The API is to be asked about a payment: it gave no answer yet, or a refund or a claim came by webhook, for the
    order `claimed_by`."""
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": key(f"sale#{payment_id}"),
        "UpdateExpression": "SET awaits = :api, since = if_not_exists(since, :now)",
        "ExpressionAttributeValues": {":api": {"S": "api"}, ":now": {"S": timestamp(now)}},
    }
    if claimed_by is not None:
        write["UpdateExpression"] += ", claimed_by = if_not_exists(claimed_by, :order)"
        write["ExpressionAttributeValues"] |= {":order": {"S": claimed_by}}
    client.update_item(**write)


def mark_seen(payment_id: str, api: Mapping[str, Any], refunds: Iterable[str], now: datetime) -> None:
    """What the API said of a payment, so that the same row is no work the next time, and the refunds seen there."""
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": key(f"sale#{payment_id}"),
        "UpdateExpression": "SET api = :api, seen_at = :now REMOVE awaits, since",
        "ExpressionAttributeValues": {":api": value(api), ":now": {"S": timestamp(now)}},
    }
    if seen := set(refunds):
        write["UpdateExpression"] += " ADD refunds_seen :refunds"
        write["ExpressionAttributeValues"] |= {":refunds": value(seen)}
    client.update_item(**write)


def ask_later(payment_id: str, now: datetime) -> None:
    """The API gave no answer about a payment that can be used: it goes behind all others that wait."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"sale#{payment_id}"),
        UpdateExpression="SET since = :now",
        ExpressionAttributeValues={":now": {"S": timestamp(now)}},
    )


def mark_refunds_seen(payment_id: str, refunds: Iterable[str]) -> None:
    """`refunds` as `<refund id>#<status>`: these are written, and no work the next time."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"sale#{payment_id}"),
        UpdateExpression="ADD refunds_seen :refunds",
        ExpressionAttributeValues={":refunds": value(set(refunds))},
    )


def judge(
    payment: Payment | str,
    verdict: Verdict,
    candidates: list[str],
    api: Mapping[str, Any],
    now: datetime,
    *,
    item: Mapping[str, Any],
) -> bool:
    """A payment that no order of ours asked for: whose it may be. Told once; it settles nothing. False, and nothing is
    written, when an order has it, or claims it, since its `item` was read.

    `payment` is its id alone when the API does not know it: then what its webhook said is all there is.
    """
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": key(f"sale#{payment if isinstance(payment, str) else payment.id}"),
        "UpdateExpression": "SET verdict = if_not_exists(verdict, :verdict), api = :api, seen_at = :now,"
        " #mode = :mode ADD rev :one REMOVE awaits, since",
        "ConditionExpression": "attribute_not_exists(order_id)"
        + ("" if "claimed_by" in item else " AND attribute_not_exists(claimed_by)"),
        "ExpressionAttributeNames": {"#mode": "mode"},
        "ExpressionAttributeValues": {
            ":verdict": value({"kind": verdict, "candidates": candidates, "at": timestamp(now)}),
            ":api": value(api),
            ":now": {"S": timestamp(now)},
            ":mode": {"S": MODE},
            ":one": {"N": "1"},
        },
    }
    if isinstance(payment, Payment):
        name = fact_name(payment)
        write["UpdateExpression"] = write["UpdateExpression"].replace(
            "SET ", "SET #fact = if_not_exists(#fact, :fact), "
        )
        write["ExpressionAttributeNames"] |= {"#fact": name}
        write["ExpressionAttributeValues"] |= {":fact": value(fact_fields(payment, None, now, "api"))}
    try:
        client.update_item(**write)
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def read(payment_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is known of payments, by id; unknown ones are absent."""
    return {
        pk.removeprefix("sale#"): item for pk, item in read_many(f"sale#{payment}" for payment in payment_ids).items()
    }


def unconfirmed(before: datetime, most: int) -> list[str]:
    """Payments of which the API has said nothing yet, the oldest first."""
    found = client.query(
        TableName=TABLE,
        IndexName="unconfirmed",
        KeyConditionExpression="awaits = :api AND since < :before",
        ExpressionAttributeValues={":api": {"S": "api"}, ":before": {"S": timestamp(before)}},
        Limit=most,
    )
    return [plain(item)["pk"].removeprefix("sale#") for item in found["Items"]]


def candidates(product_id: str, email: str | None, at: datetime) -> list[str]:
    """Pending orders that a payment of no order may have been meant for: the same product, opened in the two days
    before; those of the buyer's own address alone, when there are any. For a person: likeness settles nothing."""
    pending: list[str] = []
    for days in range(3):
        query: dict[str, Any] = {
            "TableName": TABLE,
            "IndexName": "pending",
            "KeyConditionExpression": "open_day = :day AND created_at BETWEEN :from AND :to",
            "FilterExpression": "product_id = :product",
            "ExpressionAttributeValues": {
                ":day": {"S": timestamp(at - timedelta(days=days))[:10]},
                ":from": {"S": timestamp(at - _CANDIDATE_AGE)},
                ":to": {"S": timestamp(at)},
                ":product": {"S": product_id},
            },
            "ScanIndexForward": False,
        }
        for _ in range(_CANDIDATE_PAGES):  # a thousand abandoned orders make no search without end
            page = client.query(**query)
            pending += [item["pk"]["S"] for item in page["Items"]]
            if len(pending) >= 100 or "LastEvaluatedKey" not in page:
                break
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    found = read_many(pending[:100])
    same = [
        pk for pk in pending[:100] if email and str(found.get(pk, {}).get("customer_email")).lower() == email.lower()
    ]
    return [pk.removeprefix("order#") for pk in (same or pending)[:MAX_CANDIDATES]]
