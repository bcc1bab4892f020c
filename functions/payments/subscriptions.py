"""Subscriptions: one item for each subscriptionCustomerId, with what it is now and how often it has been paid.

Unlike an order's facts a state is overwritten: webhooks carry no time that anybody signed, so the latest that came
stands until Pocketsflow's API says otherwise. One state is for ever: what has `ended` never comes back to life.

    subscription#<id>   state, period, product, buyer, and the order it began with
    sale#<payment id>   one payment of it, found in the API: two months' webhooks may have the same body
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from payments.deployment import MODE
from payments.events import SubscriptionChanged
from payments.table import TABLE, client, key, old_item, plain, read_many, timestamp, value, values


@dataclass(frozen=True, slots=True)
class Renewal:
    """One payment of a subscription, the first included, as the API lists it. Amount in major units."""

    id: str
    subscription_id: str
    amount: Decimal | None
    currency: str | None
    paid_at: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """`changed` is False for what has ended before: nothing is written then. Of somebody who `is_erased`
    (payments/privacy.py) no address is written, and no body should be kept."""

    changed: bool
    is_erased: bool


def record(change: SubscriptionChanged, now: datetime, source: str) -> Recorded:
    """Makes a subscription what it is now said to be."""
    fields = {
        "state": change.state,
        "product_id": change.product_id,
        "cancel_at_period_end": change.cancel_at_period_end,
        "period_start": change.period_start,
        "period_end": change.period_end,
        "customer_reference": change.customer_reference,
        "customer_email": change.email,
        "mode": MODE,
        "source": source,
        "at": timestamp(now),
        "ended_at": timestamp(now) if change.state == "ended" else None,
    }
    given = values(fields)
    sets = [f"#{name} = {_UNLESS_ERASED.get(name, ':{}').format(name)}" for name in given]
    try:
        before = plain(
            client.update_item(
                TableName=TABLE,
                Key=key(f"subscription#{change.id}"),
                UpdateExpression=f"SET {', '.join(sets)} ADD rev :one",
                ConditionExpression="attribute_not_exists(ended_at)",
                ExpressionAttributeNames={f"#{name}": name for name in given},
                ExpressionAttributeValues={
                    **{f":{name}": content for name, content in given.items()},
                    ":one": {"N": "1"},
                },
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            ).get("Attributes", {})
        )
    except client.exceptions.ConditionalCheckFailedException as failed:
        return Recorded(changed=False, is_erased="erased" in old_item(failed))
    return Recorded(changed=True, is_erased="erased" in before)


_UNLESS_ERASED = {"customer_email": "if_not_exists(erased, :{})"}
"""`erased` is null, and so the address becomes."""


def link(order_id: str, fact: Mapping[str, Any], order: Mapping[str, Any], now: datetime) -> bool:
    """Makes a subscription belong to the order that it began with, for ever. False when it belongs to another one.

    `fact` is its payment fact, as it lies in the order: where nothing else is known yet, it says the state.
    """
    mine = {
        "order_id": order_id,
        "sku": order.get("sku"),
        "reference": order.get("reference"),
    }
    unless_known = {  # or taken out since the order was read: what lies there empty stays so
        "untrusted_metadata": order.get("untrusted_metadata"),
        "metadata": order.get("metadata"),
        "state": fact.get("state", "active"),
        "product_id": fact["product_id"],
        "cancel_at_period_end": False,
        "customer_reference": fact.get("customer_reference"),
        "customer_email": fact.get("customer_email", order.get("customer_email")),
        "mode": fact["mode"],
        "at": timestamp(now),
    }
    given, new = values(mine), values(unless_known)
    sets = [f"#{name} = :{name}" for name in given] + [f"#{name} = if_not_exists(#{name}, :{name})" for name in new]
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"subscription#{fact['payment_id']}"),
            UpdateExpression=f"SET {', '.join(sets)} ADD rev :one",
            ConditionExpression="attribute_not_exists(order_id) OR order_id = :order_id",
            ExpressionAttributeNames={f"#{name}": name for name in given | new},
            ExpressionAttributeValues={
                **{f":{name}": content for name, content in (given | new).items()},
                ":one": {"N": "1"},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def note_claim(subscription_id: str, order_id: str) -> None:
    """The order that a signed webhook named, first: its own, if the API shows the subscription and names none."""
    client.update_item(
        TableName=TABLE,
        Key=key(f"subscription#{subscription_id}"),
        UpdateExpression="SET claimed_by = if_not_exists(claimed_by, :order)",
        ExpressionAttributeValues={":order": {"S": order_id}},
    )


def record_renewal(renewal: Renewal, subscription: Mapping[str, Any], now: datetime) -> bool:
    """Counts a payment of a subscription, once for ever. False when it was counted before.

    A transaction: the payment's own item is the memory that the count needs, and no item grows with the years.
    """
    fact = {
        "kind": "renewal",
        "at": timestamp(now),
        "source": "api",
        "mode": MODE,
        "payment_id": renewal.id,
        "subscription_id": renewal.subscription_id,
        "amount": renewal.amount,
        "unit": "major",
        "currency": renewal.currency,
        "paid_at": renewal.paid_at,
        **{name: subscription.get(name) for name in _OF_SUBSCRIPTION},
    }
    write_payment: Any = {
        "TableName": TABLE,
        "Key": key(f"sale#{renewal.id}"),
        "UpdateExpression": "SET #fact = :fact, api = :api REMOVE awaits, since ADD rev :one",
        "ConditionExpression": "attribute_not_exists(#fact)",
        "ExpressionAttributeNames": {"#fact": f"renewal#{renewal.id}"},
        "ExpressionAttributeValues": {":fact": value(fact), ":api": {"M": {}}, ":one": {"N": "1"}},
    }
    count: Any = {
        "TableName": TABLE,
        "Key": key(f"subscription#{renewal.subscription_id}"),
        "UpdateExpression": "ADD payments :one, rev :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    for tries_left in reversed(range(_COUNT_TRIES)):
        try:
            client.transact_write_items(TransactItems=[{"Update": write_payment}, {"Update": count}])
        except client.exceptions.TransactionCanceledException as cancelled:
            codes = [reason.get("Code") for reason in cancelled.response["CancellationReasons"]]
            if codes[0] == "ConditionalCheckFailed":
                return False
            if "TransactionConflict" not in codes or not tries_left:
                raise
            time.sleep(0.1 * (_COUNT_TRIES - tries_left))  # the relay writes the subscription at this moment
        else:
            break
    return True


_COUNT_TRIES = 4


_OF_SUBSCRIPTION = (
    "order_id",
    "sku",
    "product_id",
    "customer_email",
    "customer_reference",
    "untrusted_metadata",
    "metadata",
    "reference",
)
"""What a consumer needs of the subscription in order to act on a payment of it."""


def read(subscription_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Subscriptions by id; unknown ones are absent."""
    found = read_many(f"subscription#{subscription}" for subscription in subscription_ids)
    return {pk.removeprefix("subscription#"): item for pk, item in found.items()}
