"""The shop's own numbers of orders, which its server may give: `external_order_id` of a session that it made by itself.

    reference#<theirs>
        order_id, fingerprint   the order it belongs to, written once with the order (ledger.py)
        waiting                 payments that named it before that: sale#<id>, subscription#<id>

A number is looked up and waited for in one request, so that no order comes in between unseen.
"""

import time
from typing import Any

from payments import fields
from payments.table import TABLE, client, key, old_item, plain

MAX_WAITING = 100
"""Every sale of another system of the account may name the same number."""

_TRIES = 3


def order_of(external_order_id: object, waiting: str) -> str | None:
    """Our order that a signed `external_order_id` names, as its id, then as its reference; None for none.

    What names a reference of no order is noted there as `waiting`: should the order come later, it finds the payment.
    """
    order_id, reference = _named(external_order_id)
    if reference is None:
        return order_id
    for tries_left in reversed(range(_TRIES)):
        try:
            client.update_item(
                TableName=TABLE,
                Key=key(f"reference#{reference}"),
                UpdateExpression="ADD waiting :waiting",
                ConditionExpression="attribute_not_exists(order_id)"
                " AND (attribute_not_exists(waiting) OR (size(waiting) < :most AND NOT contains(waiting, :one)))",
                ExpressionAttributeValues={
                    ":waiting": {"SS": [waiting]},
                    ":one": {"S": waiting},
                    ":most": {"N": str(MAX_WAITING)},
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except client.exceptions.ConditionalCheckFailedException as failed:
            found: str | None = old_item(failed).get("order_id")
            return found
        except client.exceptions.TransactionConflictException:  # its order is being written right now
            if not tries_left:
                raise
            time.sleep(0.05)
        else:
            break
    return None


def find(external_order_id: object) -> str | None:
    """The same, without a note."""
    order_id, reference = _named(external_order_id)
    return order_id if reference is None else _read(reference).get("order_id")


def _named(external_order_id: object) -> tuple[str | None, str | None]:
    """Our id, or else a reference."""
    order_id = fields.our_order_id(external_order_id)
    return order_id, None if order_id else fields.order_reference(external_order_id)


def waiting(reference: str) -> set[str]:
    """Items of payments that named it before its order was there."""
    found: set[str] = _read(reference).get("waiting", set())
    return found


def _read(reference: str) -> dict[str, Any]:
    response = client.get_item(TableName=TABLE, Key=key(f"reference#{reference}"), ConsistentRead=True)
    return plain(response["Item"]) if "Item" in response else {}
