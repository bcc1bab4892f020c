"""A warm execution environment: `python -m tests.bench.caller MODULE DESCRIPTOR` calls MODULE.handler as it is told.

Each line of standard input is a call, in JSON, and is answered by a line on DESCRIPTOR:
{"event": …} has the handler answer it: {"cpu": milliseconds, "wall": milliseconds, "answer": …}
{"update": order id} sends a bare `update_item`: the same, without an answer
{"open": number} puts that many orders into the ledger, where MODULE is one of ours: {"orders": [order id, …]}
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3

from tests.bench.deliveries import Context
from tests.payloads import PRODUCT

_bare = boto3.client("dynamodb")


def main(module: str, descriptor: int) -> None:
    handler = importlib.import_module(module).handler
    with os.fdopen(descriptor, "w", buffering=1) as answers:
        for line in sys.stdin:
            call = json.loads(line)
            if "open" in call:
                told = {"orders": [_open_order() for _ in range(call["open"])]}
            elif "update" in call:
                told = {**_timed(_update, call["update"]), "answer": None}
            else:
                told = _timed(handler, call["event"], Context())
            answers.write(json.dumps(told) + "\n")


def _timed(call: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    answer = call(*arguments)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu * 1000, "wall": wall * 1000, "answer": answer}


def _update(order_id: str) -> None:
    _bare.update_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET note = :note",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":note": {"S": "paid"}},
    )


def _open_order() -> str:
    from payments import ledger, orders
    from payments.catalogue import Item

    now = datetime.now(UTC)
    order = ledger.Order(orders.new_id(now), Item(PRODUCT), "buyer@example.com", {})
    ledger.open_order(order, None, "", now)
    return order.id


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
