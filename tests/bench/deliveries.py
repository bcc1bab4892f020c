"""Deliveries with all that API Gateway puts into an event, which frameworks look at, and Lambda's context."""

import json
import time
import uuid
from typing import Any

from werkzeug.test import EnvironBuilder

from sandbox.gateway import to_event
from tests.payloads import paid, sign

ROUTE = "POST /webhooks/pocketsflow"


class Context:
    """What Powertools asks of Lambda's context object, too."""

    function_name = "bench"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:bench"

    def __init__(self, seconds: int = 60) -> None:
        self._deadline = time.monotonic() + seconds
        self.aws_request_id = str(uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        return int((self._deadline - time.monotonic()) * 1000)


def payment(order_id: str, signature: str | None = None) -> dict[str, Any]:
    """`order.completed` of an order of ours, by a payment that no other order has; validly signed if not said
    otherwise."""
    body = json.dumps(paid(order_id, payment=f"sale_{order_id}")).encode()
    headers = {
        "X-Pocketsflow-Event": "order.completed",
        "X-Pocketsflow-Signature": signature or sign(body),
        "X-Pocketsflow-Timestamp": "1795463363515",
    }
    return post(ROUTE, body, headers)


def post(route: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """A request with JSON as API Gateway hands it over."""
    method, path = route.split()
    sent = EnvironBuilder(path, method=method, data=body, headers=headers, content_type="application/json")
    return to_event(sent.get_request(), route, {})
