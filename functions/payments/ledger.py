"""The ledger: orders, and what is known of their payments.

An order is a grow-only set of facts; whether it is paid is derived from them. Items, by `pk`:

    order#<our id>           what was ordered, and its facts
    sale#<their id>          a payment: payments/sales.py; here lie the facts that name no order of ours, too
    subscription#<their id>  payments/subscriptions.py
    reconcile#…              payments/progress.py
    reference#<theirs>       payments/references.py
    raw#<sha256>             a verified body that is no fact, or too large to lie beside one; empty once taken out
    retention#state          payments/retention.py
    idem#<sha256>            one checkout per Idempotency-Key, for a day
    webhook#self_test        the last one that came, so that `pf` sees that it came here
    audit#…                  what a person did by `pf` (ops/audit.py)
    refund#<their id>        what a person's refund came to, for a day (ops/sending.py)
    webhook#last             when the last verified webhook came (payments/heard.py)

A fact is a top-level attribute, written once under a condition on the item itself: one request tells settled,
redelivered, second payment and mismatch apart, and no dedupe record ever expires. Facts of an order, by name:

    pay#<payment> sub#<subscription>   paid
    ref#<payment>#<refund>#<status>    refunded
    claim#<payment>#<of>               said without proof: changes nothing
    flags#<payment>                    refunded or disputed, as the API last showed it: the latest observation stands
    void#<payment>                     the payment belongs to another order
    drift#<payment>#<kind>             Pocketsflow denies what is written here
    accepted                           a payment for something else that a person has accepted

Beside them, also on a sale: resolved#<payment>, a person's note that it is dealt with. No fact: it changes nothing.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from botocore.exceptions import ClientError

from payments import orders
from payments.catalogue import Item
from payments.deployment import MODE
from payments.events import Claim, Payment, Refund
from payments.table import TABLE, client, key, old_item, plain, timestamp, value, values
from payments.telemetry import needs_attention

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
ASK_EVERY = timedelta(seconds=30)

Outcome = Literal["settled", "redelivered", "second_payment", "mismatched", "unmatched", "recorded"]
Drift = Literal["payment", "product", "currency", "amount", "refund", "subscription"]
"""What Pocketsflow denies, or tells otherwise."""

_FACT_PREFIXES = ("pay#", "sub#", "ref#", "claim#", "flags#", "void#", "drift#", "accepted")


# --- Checkout ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """An order about to be opened. `untrusted_metadata` is what the browser sent: no decision rests on it. `metadata`
    and `reference`, the shop's own number of the order, come from the shop's server."""

    id: str
    item: Item
    email: str | None
    untrusted_metadata: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """Pending in the ledger; its session is now to be made, for this product. `order_id` is an earlier one when a retry
    took it over."""

    order_id: str
    product_id: str
    """"" while the product of a cart is yet to be made."""


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
    """The Idempotency-Key, or the reference, belongs to a request with another body."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Pending in the ledger; another server makes its session."""

    order_id: str
    is_new: bool


Opening = Opened | Answered | InProgress | KeyReused


def open_order(order: Order, key: str | None, fingerprint: str, now: datetime) -> Opening:
    """Writes a pending order, at most one for each reference, or for each `key` where it has none. `fingerprint` tells
    one request body from another."""
    if order.reference is None and key is None:
        client.put_item(TableName=TABLE, Item=_order_item(order, now))
        return Opened(order.id, order.item.product_id)
    once = (
        _reference_write(order, order.reference, fingerprint)
        if order.reference
        else _key_write(order, key, fingerprint, now)
    )
    earlier = _write_once(once, order, now)
    if earlier is None:
        return Opened(order.id, order.item.product_id)
    if isinstance(earlier, InProgress):
        return earlier
    if earlier["fingerprint"] != fingerprint:
        return KeyReused()
    return _take_over(earlier["order_id"], now, renews=order.reference is not None)


def register(order: Order, fingerprint: str, now: datetime) -> Registered | InProgress | KeyReused:
    """Writes a pending order that has a reference, and whose session is made elsewhere; once for each reference."""
    assert order.reference is not None  # noqa: S101
    earlier = _write_once(_reference_write(order, order.reference, fingerprint), order, now)
    if earlier is None:
        return Registered(order.id, is_new=True)
    if isinstance(earlier, InProgress):
        return earlier
    return Registered(earlier["order_id"], is_new=False) if earlier["fingerprint"] == fingerprint else KeyReused()


def _write_once(once: Mapping[str, Any], order: Order, now: datetime) -> dict[str, Any] | InProgress | None:
    """Writes `once`, one entry of a transaction, and the order with it. When that was written before:
    what lies there."""
    put_order: Any = {"Put": {"TableName": TABLE, "Item": _order_item(order, now)}}
    entry: Any = once
    try:
        client.transact_write_items(TransactItems=[entry, put_order])
    except client.exceptions.TransactionCanceledException as cancelled:
        held: dict[str, Any] = {**cancelled.response["CancellationReasons"][0]}
        if held.get("Code") == "TransactionConflict":  # the same key in another transaction, right now
            return InProgress(retry_after=1)
        if "Item" not in held:
            raise
        return plain(held["Item"])
    return None


def _key_write(order: Order, key: str | None, fingerprint: str, now: datetime) -> dict[str, Any]:
    return {
        "Put": {
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
    }


def _reference_write(order: Order, reference: str, fingerprint: str) -> dict[str, Any]:
    """For ever. What waits there for the reference (payments/references.py) stays, and the relay sees to it."""
    return {
        "Update": {
            "TableName": TABLE,
            "Key": key(f"reference#{reference}"),
            "UpdateExpression": "SET order_id = :order, fingerprint = :fingerprint",
            "ConditionExpression": "attribute_not_exists(order_id)",
            "ExpressionAttributeValues": {":order": {"S": order.id}, ":fingerprint": {"S": fingerprint}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def keep_product(order_id: str, product_id: str) -> str:
    """What is sold to a cart, written before its session is made: from now on the order is for this product. One that
    is there already stands, and is answered."""
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"order#{order_id}"),
            UpdateExpression="SET product_id = :product",
            ConditionExpression="product_id = :none",
            ExpressionAttributeValues={":product": {"S": product_id}, ":none": {"S": ""}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except client.exceptions.ConditionalCheckFailedException as failed:
        return str(old_item(failed)["product_id"])
    return product_id


def attach_session(order_id: str, session_id: str, url: str) -> None:
    """Where the order is paid: what the same request is answered with from now on."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"order#{order_id}"),
        UpdateExpression="SET session_id = :session, checkout_url = :url REMOVE checkout_error",
        ConditionExpression="attribute_exists(created_at)",
        ExpressionAttributeValues={":session": {"S": session_id}, ":url": {"S": url}},
    )


def mark_failed(order_id: str, code: str) -> None:
    """The order stays pending and in the index, with the reason; a retry of its request may take it over at once."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"order#{order_id}"),
        UpdateExpression="SET checkout_error = :code",
        ConditionExpression="attribute_exists(created_at)",
        ExpressionAttributeValues={":code": {"S": code}},
    )


def _take_over(order_id: str, now: datetime, *, renews: bool) -> Opening:
    """An order whose checkout failed or was abandoned is this request's now, under the same id; with `renews` also one
    whose session is a day old while nothing is paid."""
    write: Any = {
        "TableName": TABLE,
        "Key": key(f"order#{order_id}"),
        "UpdateExpression": "SET attempted_at = :now REMOVE checkout_error, session_id, checkout_url",
        "ConditionExpression": "attribute_exists(created_at) AND attribute_not_exists(session_id)"
        " AND (attribute_exists(checkout_error) OR attempted_at <= :abandoned)",
        "ExpressionAttributeValues": {":now": {"S": timestamp(now)}, ":abandoned": {"S": timestamp(now - LOCK)}},
        "ReturnValues": "ALL_OLD",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if renews:
        write["ConditionExpression"] += " OR (attribute_exists(open_day) AND attempted_at <= :old)"
        write["ExpressionAttributeValues"] |= {":old": {"S": timestamp(now - KEY_LIFETIME)}}
    try:
        taken = plain(client.update_item(**write)["Attributes"])
    except client.exceptions.ConditionalCheckFailedException as failed:
        order = old_item(failed)
        if "session_id" in order:
            return Answered(order_id, order["session_id"], order["checkout_url"])
        waited = now - datetime.fromisoformat(order["attempted_at"])
        return InProgress(retry_after=max(1, LOCK.seconds - int(waited.total_seconds())))
    return Opened(order_id, taken["product_id"])


def _order_item(order: Order, now: datetime) -> Mapping[str, Any]:
    at = timestamp(now)
    return values(
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
            "metadata": order.metadata or None,
            "reference": order.reference,
        }
    )


# --- Settlement -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flags:
    """What a payment's row in Pocketsflow's API shows beside its amounts."""

    refunded: bool
    disputed: bool


NO_FLAGS = Flags(refunded=False, disputed=False)


def record(
    fact: Payment | Refund | Claim, body: bytes | None, now: datetime, source: str, flags: Flags = NO_FLAGS
) -> Outcome:
    """Adds a fact to its order, at most once, for ever. One request, a second for an order that is not ours.

    `body` is the verified raw body it was read from; it is stored with it. What the API says has none, since the API
    can be asked again; its `flags` are written with a payment that is new.
    """
    name = fact_name(fact)
    fields = fact_fields(fact, body, now, source)
    if fact.order_id is None:
        return _record_sale(fact, name, fields, body, now)
    write = _fact_write(f"order#{fact.order_id}", name, fields)
    write["ConditionExpression"] += " AND attribute_exists(created_at)"
    if flags != NO_FLAGS:
        write["UpdateExpression"] = write["UpdateExpression"].replace("SET ", "SET #flags = :flags, ")
        write["ExpressionAttributeNames"] |= {"#flags": f"flags#{fields['payment_id']}"}
        write["ExpressionAttributeValues"] |= {":flags": value(_flag_fields(fields["payment_id"], flags, now))}
    try:
        order = plain(client.update_item(**write)["Attributes"])
    except client.exceptions.ConditionalCheckFailedException as failed:
        order = old_item(failed)
        if not order:
            return _record_sale(fact, name, fields, body, now)
        if not _is_own(failed, order.get(name), fields):
            return _not_added(order, name, fields, body, now)
    if not isinstance(fact, Payment):
        return "recorded"
    item, facts, payments = item_of(order), {**facts_of(order), name: fields}, order.get("payments", [])
    if not orders.fits(item, fields):
        return "mismatched"
    earlier = payments[: payments.index(name)] if name in payments else payments
    return "settled" if orders.winner(item, facts, [*earlier, name]) == name else "second_payment"


def keep(body: bytes, reason: str, event: str, sent_at: str, now: datetime) -> None:
    """Stores a verified body that is no fact, each arrival noted: two renewals may have the same body.

    `event` and `sent_at` are the unsigned headers, as claimed.
    """
    arrival = {"at": timestamp(now), "reason": reason, "event": event, "sent_at": sent_at}
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(raw_key(body)),
            UpdateExpression="SET body = if_not_exists(body, :body), #mode = :mode,"  # an emptied one stays empty
            " arrivals = list_append(if_not_exists(arrivals, :none), :arrival)",
            ConditionExpression="attribute_not_exists(arrivals) OR size(arrivals) < :most",
            ExpressionAttributeNames={"#mode": "mode"},
            ExpressionAttributeValues={
                ":body": {"B": body},
                ":mode": {"S": MODE},
                ":none": {"L": []},
                ":arrival": {"L": [{"M": values(arrival)}]},
                ":most": {"N": str(MAX_ARRIVALS)},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return  # the body is there, and a hundred arrivals tell as much as one more


def note_self_test(nonce: str, now: datetime) -> None:
    """That this stack has had it: whoever sent it looks here whether it was this one."""
    client.update_item(
        TableName=TABLE,
        Key=key("webhook#self_test"),
        UpdateExpression="SET nonce = :nonce, #at = :now",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":nonce": {"S": nonce}, ":now": {"S": timestamp(now)}},
    )


def forget(pk: str, now: datetime) -> None:
    """Empties what `keep` has stored: it is about somebody who has been erased (payments/privacy.py)."""
    with contextlib.suppress(client.exceptions.ConditionalCheckFailedException):
        client.update_item(
            TableName=TABLE,
            Key=key(pk),
            UpdateExpression="SET body = :nothing, redacted_at = :now",
            ConditionExpression="attribute_exists(body)",
            ExpressionAttributeValues={":nothing": {"B": b""}, ":now": {"S": timestamp(now)}},
        )


def raw_key(body: bytes) -> str:
    """Of the item that `keep` stores a body in."""
    return f"raw#{hashlib.sha256(body).hexdigest()}"


def fact_name(fact: Payment | Refund | Claim) -> str:
    """The attribute a fact is stored under: two deliveries of one fact have the same, for ever."""
    match fact:
        case Payment(kind="payment"):
            return f"pay#{fact.id}"
        case Payment():
            return f"sub#{fact.id}"
        case Refund():
            return f"ref#{fact.payment_id}#{fact.refund_id}#{fact.status}"
        case Claim():
            return f"claim#{fact.payment_id}#{fact.of}"


def _record_sale(
    fact: Payment | Refund | Claim, name: str, fields: Mapping[str, Any], body: bytes | None, now: datetime
) -> Outcome:
    write = _fact_write(f"sale#{fields['payment_id']}", name, fields)
    if fields["source"] == "webhook":  # whose it is, reconciliation finds out
        write["UpdateExpression"] = write["UpdateExpression"].replace("SET ", "SET awaits = :api, since = :now, ")
        write["ExpressionAttributeValues"] |= {":api": {"S": "api"}, ":now": {"S": timestamp(now)}}
    try:
        client.update_item(**write)
    except client.exceptions.ConditionalCheckFailedException as failed:
        sale = old_item(failed)
        if not _is_own(failed, sale.get(name), fields):
            return _not_added(sale, name, fields, body, now)
    return "unmatched" if isinstance(fact, Payment) or fact.order_id else "recorded"


def _fact_write(pk: str, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    write: dict[str, Any] = {
        "TableName": TABLE,
        "Key": key(pk),
        "UpdateExpression": "SET #fact = :fact ADD rev :one",
        "ConditionExpression": "attribute_not_exists(#fact) AND (attribute_not_exists(rev) OR rev < :most)",
        "ExpressionAttributeNames": {"#fact": name},
        "ExpressionAttributeValues": {":fact": value(fields), ":one": {"N": "1"}, ":most": {"N": str(MAX_FACTS)}},
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


def _not_added(
    item: Mapping[str, Any], name: str, fields: Mapping[str, Any], body: bytes | None, now: datetime
) -> Outcome:
    """Why a fact was not added to an item that is there: it was known, or the item is full.

    What is known may have come in other words, which are kept: nobody has judged yet which of the two is right. Of what
    was taken out (payments/privacy.py) no words are kept anew.
    """
    known = item.get(name)
    if known and "redacted_at" in known:
        if "raw_item" in fields:
            forget(fields["raw_item"], now)
        return "redelivered"
    if known is None:
        needs_attention("item_full", item=item["pk"], fact=name)
    if (
        body is not None and "raw" in fields and (known is None or known.get("raw") != fields["raw"])
    ):  # a large body is kept already
        keep(body, "other_words" if known else "item_full", event=name, sent_at="", now=now)
    return "redelivered" if known else "recorded"


def _is_own(failed: ClientError, known: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> bool:
    """Whether the fact in the way was written by this very call: DynamoDB's answer was lost, and botocore has sent
    the write again."""
    sent_again = failed.response["ResponseMetadata"]["RetryAttempts"] > 0
    return sent_again and known is not None and all(known[name] == fields[name] for name in ("at", "source"))


def fact_fields(fact: Payment | Refund | Claim, body: bytes | None, now: datetime, source: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"at": timestamp(now), "source": source, "mode": MODE}
    if body is not None and len(body) <= MAX_INLINE_BODY:
        fields["raw"] = body
    elif body is not None:
        keep(body, "large", event=fact_name(fact), sent_at="", now=now)
        fields["raw_item"] = raw_key(body)
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
                "unit": fact.unit,
                "variant_unknown": None if fact.variant_known else True,
                "store_id": fact.store_id,
                "state": fact.state,
                "customer_reference": fact.customer_reference,
            }
        case Refund():
            fields |= {
                "kind": "refund",
                "payment_id": fact.payment_id,
                "refund_id": fact.refund_id,
                "status": fact.status,
                "amount": fact.amount,
                "confirmed": fact.confirmed,
                "unit": fact.unit,
            }
        case Claim():
            fields |= {"kind": "claim", "of": fact.of, "payment_id": fact.payment_id}
    return fields


# --- What comes after a fact ------------------------------------------------------------------------------------------


def disown(order_id: str, fact: Mapping[str, Any], now: datetime) -> None:
    """Takes a payment that belongs to another order out of this one's reckoning."""
    payment_id = fact["payment_id"]
    _note(order_id, f"void#{payment_id}", {"kind": "void", "payment_id": payment_id}, now)


def note_drift(
    order_id: str, payment_id: str, kind: Drift, now: datetime, *, ours: str | None = None, theirs: str | None = None
) -> None:
    """Pocketsflow denies what the order holds: told once, and nothing else is changed."""
    fields = {"kind": "drift", "payment_id": payment_id, "what": kind, "ours": ours, "theirs": theirs}
    _note(order_id, f"drift#{payment_id}#{kind}", fields, now)


def accept(order_id: str, name: str, payments: int, now: datetime) -> bool:
    """A person has decided that the payment `name`, which lies in the order and is for something else, settles it.
    False when the order has another number of `payments` than that person saw, or such a decision already."""
    payment_id = name.partition("#")[2]
    fields = {"kind": "accepted", "payment_id": payment_id, "payment": name, "after": payments}
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"order#{order_id}"),
            UpdateExpression="SET accepted = :fact ADD rev :one",
            ConditionExpression="attribute_exists(#payment) AND attribute_not_exists(accepted)"
            " AND size(payments) = :seen",
            ExpressionAttributeNames={"#payment": name},
            ExpressionAttributeValues={
                ":fact": value({"at": timestamp(now), "mode": MODE, **fields}),
                ":seen": {"N": str(payments)},
                ":one": {"N": "1"},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def copy_to_order(order_id: str, name: str, fields: Mapping[str, Any], now: datetime) -> None:
    """A refund that waited beside its payment is the order's."""
    write = _fact_write(f"order#{order_id}", name, fields)
    write["ConditionExpression"] += " AND attribute_exists(created_at)"
    try:
        client.update_item(**write)
    except client.exceptions.ConditionalCheckFailedException as failed:
        _not_added({"pk": f"order#{order_id}", **old_item(failed)}, name, fields, fields.get("raw"), now)


def observe(order_id: str, payment_id: str, flags: Flags, now: datetime) -> None:
    """What the API shows of a payment, over what it showed before. The latest observation stands, whichever is
    written first."""
    name = f"flags#{payment_id}"
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"order#{order_id}"),
            UpdateExpression="SET #flags = :flags ADD rev :one",
            ConditionExpression="attribute_exists(created_at) AND (attribute_not_exists(#flags) OR #flags.#at < :at)",
            ExpressionAttributeNames={"#flags": name, "#at": "at"},
            ExpressionAttributeValues={
                ":flags": value(_flag_fields(payment_id, flags, now)),
                ":at": {"S": timestamp(now)},
                ":one": {"N": "1"},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return  # a later one stands


def _note(order_id: str, name: str, fields: Mapping[str, Any], now: datetime) -> None:
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"order#{order_id}"),
            UpdateExpression="SET #fact = :fact ADD rev :one",
            ConditionExpression="attribute_exists(created_at) AND attribute_not_exists(#fact)",
            ExpressionAttributeNames={"#fact": name},
            ExpressionAttributeValues={
                ":fact": value({"at": timestamp(now), "mode": MODE, **fields}),
                ":one": {"N": "1"},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return  # it stands there


def _flag_fields(payment_id: str, flags: Flags, now: datetime) -> dict[str, Any]:
    return {
        "kind": "flags",
        "payment_id": payment_id,
        "refunded": flags.refunded,
        "disputed": flags.disputed,
        "at": timestamp(now),
    }


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    status: orders.Status
    updated_at: str
    opened_at: datetime


def state(order_id: str) -> State | None:
    """The status of an order, derived from its facts; None when there is no such order."""
    order = read(order_id)
    if order is None:
        return None
    facts = facts_of(order)
    updated_at = max([order["created_at"], *(fact["at"] for fact in facts.values())])
    status = orders.status(item_of(order), facts, order.get("payments", []))
    return State(status, updated_at, datetime.fromisoformat(order["created_at"]))


def item_of(order: Mapping[str, Any]) -> Item:
    return Item(
        product_id=order["product_id"],
        sku=order.get("sku"),
        variant_id=order.get("variant_id"),
        price=Decimal(order["price"]) if "price" in order else None,
        currency=order.get("currency"),
        hold_on_difference=order.get("hold_on_difference", False),
    )


def facts_of(order: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: value for name, value in order.items() if name.startswith(_FACT_PREFIXES)}


def read(order_id: str) -> dict[str, Any] | None:
    """An order as it lies in the table, plain; None when there is none."""
    response = client.get_item(TableName=TABLE, Key=key(f"order#{order_id}"), ConsistentRead=True)
    return plain(response["Item"]) if "Item" in response else None


def ask_to_reconcile(now: datetime) -> None:
    """Asks for a look at what Pocketsflow lists, at most once in 30 s. The write is the question: the table's stream
    takes it to the reconcile function (template.yaml)."""
    try:
        client.update_item(
            TableName=TABLE,
            Key=key("reconcile#asked"),
            UpdateExpression="SET asked_at = :now",
            ConditionExpression="attribute_not_exists(asked_at) OR asked_at <= :before",
            ExpressionAttributeValues={":now": {"S": timestamp(now)}, ":before": {"S": timestamp(now - ASK_EVERY)}},
        )
    except client.exceptions.ConditionalCheckFailedException:
        return  # somebody has asked
