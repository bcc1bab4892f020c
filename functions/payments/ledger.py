"""The ledger: the only module that names the table.

An order is a grow-only set of facts; whether it is paid is derived from them. Items, by `pk`:

    order#<our id>    what was ordered, and its facts
    sale#<their id>   facts about payments of no order of ours, and refunds that name no order
    raw#<sha256>      a verified body that is no fact, or too large to lie beside one
    idem#<sha256>     one checkout per Idempotency-Key, for a day

A fact is a top-level attribute, written once under a condition on the item itself: one request tells settled,
redelivered, second payment and mismatch apart, and no dedupe record ever expires.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from payments import aws, orders
from payments.catalogue import Item
from payments.deployment import MODE
from payments.events import Payment, Refund, RefundClaim
from payments.telemetry import needs_attention

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import UniversalAttributeValueTypeDef as AnyValue

TABLE = os.environ["TABLE_NAME"]

MAX_FACTS = 100
"""On one item: no stream of refunds makes an item too large to write. More are kept as raw bodies."""
MAX_MORE_PAYMENTS = 10
"""Facts more that only payments may add: no number of refunds shuts a payment out."""
MAX_INLINE_BODY = 2_500
"""Bytes of a raw body that lie beside its fact: all of them fit DynamoDB's 400 kB; real bodies have 1 to 2 kB."""
MAX_ARRIVALS = 100
LOCK = timedelta(seconds=10)
"""How long a checkout in flight keeps its Idempotency-Key: longer than the function can run."""
KEY_LIFETIME = timedelta(hours=24)

Outcome = Literal["settled", "redelivered", "second_payment", "mismatched", "unmatched", "recorded"]

_client = aws.client("dynamodb")
_FACT_PREFIXES = ("pay#", "sub#", "ref#", "claim#")


# --- Checkout ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """An order about to be opened. `untrusted_metadata` is what the browser sent: no decision rests on it."""

    id: str
    item: Item
    email: str | None
    untrusted_metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opened:
    """Pending in the ledger; its session is now to be made. `order_id` is an earlier one when a retry took it over."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The same request was answered before."""

    order_id: str
    session_id: str
    url: str


@dataclass(frozen=True, slots=True)
class InProgress:
    """The same request is being answered at this moment."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The Idempotency-Key belongs to a request with another body."""


Opening = Opened | Answered | InProgress | KeyReused


def open_order(order: Order, key: str | None, fingerprint: str, now: datetime) -> Opening:
    """Writes a pending order, at most one for each `key`. `fingerprint` tells one request body from another."""
    put_order: Any = {"TableName": TABLE, "Item": _order_item(order, now)}
    if key is None:
        _client.put_item(**put_order)
        return Opened(order.id)
    put_key: Any = {
        "TableName": TABLE,
        "Item": {
            "pk": {"S": f"idem#{key}"},
            "order_id": {"S": order.id},
            "fingerprint": {"S": fingerprint},
            "expires": {"N": str(int((now + KEY_LIFETIME).timestamp()))},
        },
        # DynamoDB deletes an expired item within days, not at once.
        "ConditionExpression": "attribute_not_exists(pk) OR expires < :now",
        "ExpressionAttributeValues": {":now": {"N": str(int(now.timestamp()))}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    try:
        _client.transact_write_items(TransactItems=[{"Put": put_key}, {"Put": put_order}])
    except _client.exceptions.TransactionCanceledException as cancelled:
        held: dict[str, Any] = {**cancelled.response["CancellationReasons"][0]}
        if held.get("Code") == "TransactionConflict":  # the same key in another transaction, right now
            return InProgress(retry_after=1)
        if "Item" not in held:
            raise
        earlier = _plain(held["Item"])
        return _take_over(earlier["order_id"], now) if earlier["fingerprint"] == fingerprint else KeyReused()
    return Opened(order.id)


def attach_session(order_id: str, session_id: str, url: str) -> None:
    """Where the order is paid: what the same request is answered with from now on."""
    _client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET session_id = :session, checkout_url = :url REMOVE checkout_error",
        ConditionExpression="attribute_exists(created_at)",
        ExpressionAttributeValues={":session": {"S": session_id}, ":url": {"S": url}},
    )


def mark_failed(order_id: str, code: str) -> None:
    """The order stays pending and in the index, with the reason; a retry of its request may take it over at once."""
    _client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET checkout_error = :code",
        ConditionExpression="attribute_exists(created_at)",
        ExpressionAttributeValues={":code": {"S": code}},
    )


def _take_over(order_id: str, now: datetime) -> Opening:
    """An order whose checkout failed or was abandoned is this request's now, under the same id."""
    try:
        _client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": f"order#{order_id}"}},
            UpdateExpression="SET attempted_at = :now REMOVE checkout_error",
            ConditionExpression="attribute_exists(created_at) AND attribute_not_exists(session_id)"
            " AND (attribute_exists(checkout_error) OR attempted_at <= :abandoned)",
            ExpressionAttributeValues={":now": {"S": timestamp(now)}, ":abandoned": {"S": timestamp(now - LOCK)}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except _client.exceptions.ConditionalCheckFailedException as failed:
        order = _plain(_old_item(failed))
        if "session_id" in order:
            return Answered(order_id, order["session_id"], order["checkout_url"])
        waited = now - datetime.fromisoformat(order["attempted_at"])
        return InProgress(retry_after=max(1, LOCK.seconds - int(waited.total_seconds())))
    return Opened(order_id)


def _order_item(order: Order, now: datetime) -> "dict[str, AnyValue]":
    at = timestamp(now)
    return _values(
        {
            "pk": f"order#{order.id}",
            "created_at": at,
            "attempted_at": at,
            "open_day": at[:10],  # with created_at, the sparse index of pending orders
            "mode": MODE,
            "rev": 0,
            "product_id": order.item.product_id,
            "sku": order.item.sku,
            "variant_id": order.item.variant_id,
            "price": order.item.price,
            "currency": order.item.currency,
            "hold_on_difference": order.item.hold_on_difference or None,
            "customer_email": order.email,
            "untrusted_metadata": order.untrusted_metadata or None,
        }
    )


# --- Settlement -------------------------------------------------------------------------------------------------------


def record(fact: Payment | Refund | RefundClaim, body: bytes, now: datetime, source: str) -> Outcome:
    """Adds a fact to its order, at most once, for ever. One request, a second for an order that is not ours.

    `body` is the verified raw body it was read from; it is stored with it.
    """
    name = fact_name(fact)
    fields = _fact_fields(fact, body, now, source)
    if fact.order_id is None:
        return _record_sale(fact, name, fields, body, now)
    write = _fact_write(f"order#{fact.order_id}", name, fields)
    write["ConditionExpression"] += " AND attribute_exists(created_at)"
    try:
        order = _plain(_client.update_item(**write)["Attributes"])
    except _client.exceptions.ConditionalCheckFailedException as failed:
        order = _plain(_old_item(failed))
        if not order:
            return _record_sale(fact, name, fields, body, now)
        if not _is_own(failed, order.get(name), fields):
            return _not_added(order, name, fields, body, now)
    if not isinstance(fact, Payment):
        return "recorded"
    item, facts, payments = _item(order), _facts(order), order.get("payments", [])
    if not orders.fits(item, fields):
        return "mismatched"
    earlier = payments[: payments.index(name)] if name in payments else payments
    return "second_payment" if any(orders.fits(item, facts[other]) for other in earlier) else "settled"


def keep(body: bytes, reason: str, event: str, sent_at: str, now: datetime) -> None:
    """Stores a verified body that is no fact, each arrival noted: two renewals may have the same body.

    `event` and `sent_at` are the unsigned headers, as claimed.
    """
    arrival = {"at": timestamp(now), "reason": reason, "event": event, "sent_at": sent_at}
    try:
        _client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": _raw_key(body)}},
            UpdateExpression="SET body = :body, #mode = :mode,"
            " arrivals = list_append(if_not_exists(arrivals, :none), :arrival)",
            ConditionExpression="attribute_not_exists(arrivals) OR size(arrivals) < :most",
            ExpressionAttributeNames={"#mode": "mode"},
            ExpressionAttributeValues={
                ":body": {"B": body},
                ":mode": {"S": MODE},
                ":none": {"L": []},
                ":arrival": {"L": [{"M": _values(arrival)}]},
                ":most": {"N": str(MAX_ARRIVALS)},
            },
        )
    except _client.exceptions.ConditionalCheckFailedException:
        return  # the body is there, and a hundred arrivals tell as much as one more


def fact_name(fact: Payment | Refund | RefundClaim) -> str:
    """The attribute a fact is stored under: two deliveries of one fact have the same, for ever."""
    match fact:
        case Payment(kind="payment"):
            return f"pay#{fact.id}"
        case Payment():
            return f"sub#{fact.id}"
        case Refund():
            return f"ref#{fact.payment_id}#{fact.refund_id}#{fact.status}"
        case RefundClaim():
            return f"claim#{fact.payment_id}"


def _record_sale(
    fact: Payment | Refund | RefundClaim, name: str, fields: Mapping[str, Any], body: bytes, now: datetime
) -> Outcome:
    try:
        _client.update_item(**_fact_write(f"sale#{fields['payment_id']}", name, fields))
    except _client.exceptions.ConditionalCheckFailedException as failed:
        sale = _plain(_old_item(failed))
        if not _is_own(failed, sale.get(name), fields):
            return _not_added(sale, name, fields, body, now)
    return "unmatched" if isinstance(fact, Payment) or fact.order_id else "recorded"


def _fact_write(pk: str, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": {"pk": {"S": pk}},
        "UpdateExpression": "SET #fact = :fact ADD rev :one",
        "ConditionExpression": "attribute_not_exists(#fact) AND (attribute_not_exists(rev) OR rev < :most)",
        "ExpressionAttributeNames": {"#fact": name},
        "ExpressionAttributeValues": {":fact": _value(fields), ":one": {"N": "1"}, ":most": {"N": str(MAX_FACTS)}},
        "ReturnValues": "ALL_OLD",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if fields["kind"] in ("payment", "subscription"):
        write["UpdateExpression"] = (
            "SET #fact = :fact, payments = list_append(if_not_exists(payments, :none), :name)"
            " ADD rev :one REMOVE open_day"
        )
        write["ExpressionAttributeValues"] |= {
            ":none": {"L": []},
            ":name": {"L": [{"S": name}]},
            ":most": {"N": str(MAX_FACTS + MAX_MORE_PAYMENTS)},
        }
    return write


def _not_added(item: Mapping[str, Any], name: str, fields: Mapping[str, Any], body: bytes, now: datetime) -> Outcome:
    """Why a fact was not added to an item that is there: it was known, or the item is full.

    What is known may have come in other words, which are kept: nobody has judged yet which of the two is right.
    """
    known = item.get(name)
    if known is None:
        needs_attention("item_full", item=item["pk"], fact=name)
    if "raw" in fields and (known is None or known.get("raw") != fields["raw"]):  # a large body is kept already
        keep(body, "other_words" if known else "item_full", event=name, sent_at="", now=now)
    return "redelivered" if known else "recorded"


def _is_own(failed: ClientError, known: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> bool:
    """Whether the fact in the way was written by this very call: DynamoDB's answer was lost, and botocore has sent
    the write again."""
    sent_again = failed.response["ResponseMetadata"]["RetryAttempts"] > 0
    return sent_again and known is not None and all(known[name] == fields[name] for name in ("at", "source"))


def _fact_fields(fact: Payment | Refund | RefundClaim, body: bytes, now: datetime, source: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"at": timestamp(now), "source": source, "mode": MODE}
    if len(body) <= MAX_INLINE_BODY:
        fields["raw"] = body
    else:
        keep(body, "large", event=fact_name(fact), sent_at="", now=now)
        fields["raw_item"] = _raw_key(body)
    match fact:
        case Payment():
            fields |= {
                "kind": fact.kind,
                "payment_id": fact.id,
                "product_id": fact.product_id,
                "variant_id": fact.variant_id,
                "amount": fact.amount,
                "amount_before_tax": fact.amount_before_tax,
                "currency": fact.currency,
                "customer_email": fact.email,
                "confirmed": fact.confirmed,
            }
        case Refund():
            fields |= {
                "kind": "refund",
                "payment_id": fact.payment_id,
                "refund_id": fact.refund_id,
                "status": fact.status,
                "amount": fact.amount,
                "confirmed": fact.confirmed,
            }
        case RefundClaim():
            fields |= {"kind": "refund_claim", "payment_id": fact.payment_id}
    return fields


def _raw_key(body: bytes) -> str:
    return f"raw#{hashlib.sha256(body).hexdigest()}"


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    status: orders.Status
    updated_at: str


def state(order_id: str) -> State | None:
    """The status of an order, derived from its facts; None when there is no such order."""
    response = _client.get_item(TableName=TABLE, Key={"pk": {"S": f"order#{order_id}"}}, ConsistentRead=True)
    if "Item" not in response:
        return None
    order = _plain(response["Item"])
    facts = _facts(order)
    updated_at = max([order["created_at"], *(fact["at"] for fact in facts.values())])
    return State(orders.status(_item(order), facts, order.get("payments", [])), updated_at)


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: text that sorts as time does."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _item(order: Mapping[str, Any]) -> Item:
    return Item(
        product_id=order["product_id"],
        sku=order.get("sku"),
        variant_id=order.get("variant_id"),
        price=Decimal(order["price"]) if "price" in order else None,
        currency=order.get("currency"),
        hold_on_difference=order.get("hold_on_difference", False),
    )


def _facts(order: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: value for name, value in order.items() if name.startswith(_FACT_PREFIXES)}


# --- DynamoDB's JSON --------------------------------------------------------------------------------------------------


def _values(fields: Mapping[str, Any]) -> "dict[str, AnyValue]":
    """Absent rather than null. Amounts become strings: kept as they came."""
    return {name: _value(value) for name, value in fields.items() if value is not None}


def _value(value: Any) -> "AnyValue":
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case Mapping():
            return {"M": _values(value)}
    return {"S": str(value)}


def _old_item(failed: ClientError) -> dict[str, Any]:
    """The item that stood in the way of a conditional write; {} when there was none."""
    response: dict[str, Any] = {**failed.response}
    item: dict[str, Any] = response.get("Item", {})
    return item


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in item.items()}


def _plain_value(value: Any) -> Any:
    [(kind, content)] = value.items()
    match kind:
        case "M":
            return _plain(content)
        case "L":
            return [_plain_value(element) for element in content]
        case "N":
            return int(content)
    return content
