"""Warm deliveries: what one call of the webhook costs a process that has answered others before.

Run as `python -m tests.bench.warm RESULTS ROUNDS` with the webhook's environment; AWS is a server in another process.
Writes {call: {"cpu": [milliseconds, for each round], "requests": sent to AWS by one call}} as JSON to the file RESULTS.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

import webhook
from payments import ledger, orders, secrets, table
from payments.catalogue import Item
from sandbox.worker import Context
from tests.bench.cold import in_turns
from tests.payloads import PRODUCT, delivery, paid

BARE = "boto3 `update_item`"
ANSWERS = {
    "first delivery": '"outcome": "settled"',
    "redelivery": '"outcome": "redelivered"',
    "bad signature": '"code": "invalid_signature"',
}
WARM_UP = 30
_bare = boto3.client("dynamodb")


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Each call once a round, alone between two looks at the clock of this process."""
    for _ in range(WARM_UP):
        for call in _calls().values():
            call()
    figures: dict[str, dict[str, Any]] = {name: {"cpu": [], "requests": sent} for name, sent in _requests().items()}
    for names in in_turns(figures, rounds):
        calls = _calls()
        for name in names:
            begun = time.process_time()
            answer = calls[name]()
            figures[name]["cpu"].append((time.process_time() - begun) * 1000)
            # Another way through the handler would be another figure.
            assert name == BARE or ANSWERS[name] in answer["body"], answer
    return figures


def _calls() -> dict[str, Callable[[], Any]]:
    """The calls of one round, each for an order of its own that is in the table before."""
    item, new, known = _order(), _order(), _order()
    payment, redelivered = delivery(paid(new, payment=new)), delivery(paid(known, payment=known))
    forged = delivery(paid(item, payment=item), x_pocketsflow_signature="0" * 64)
    context = Context(timeout=60)
    webhook.handler(redelivered, context)
    return {
        BARE: lambda: _bare.update_item(
            TableName=table.TABLE,
            Key={"pk": {"S": f"order#{item}"}},
            UpdateExpression="SET note = :note",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":note": {"S": "paid"}},
        ),
        "first delivery": lambda: webhook.handler(payment, context),
        "redelivery": lambda: webhook.handler(redelivered, context),
        "bad signature": lambda: webhook.handler(forged, context),
    }


def _order() -> str:
    now = datetime.now(UTC)
    order = ledger.Order(orders.new_id(now), Item(PRODUCT), "buyer@example.com", {})
    ledger.open_order(order, None, "", now)
    return order.id


def _requests() -> dict[str, int]:
    """How many requests each call sends to AWS, second tries included."""
    sent: list[str] = []

    def note(event_name: str, **_: Any) -> None:
        sent.append(event_name)

    counts, calls, clients = {}, _calls(), (_bare, table.client, secrets._client, webhook._queue)
    for client in clients:
        client.meta.events.register("before-send", note)
    for name, call in calls.items():
        sent.clear()
        call()
        counts[name] = len(sent)
    for client in clients:
        client.meta.events.unregister("before-send", note)
    return counts


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(measure(int(sys.argv[2]))))
