"""The shop's own server hears of every event by a webhook of Standard Webhooks, until it takes it.

github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import json
import os
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors import consumer, credentials, deliveries, outgoing
from payments import aws
from payments.outbound import Answer
from payments.table import timestamp
from payments.telemetry import observed

URL: str = json.loads(os.environ["SETTINGS"])["storefront_url"]
SECRET_ARN = os.environ["SECRET_ARN"]
PREFIX = "whsec_"
SHORTEST = 24
"""Bytes of a secret, by the specification: a word with fewer is some other service's."""


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: consumer.Event, now: datetime) -> str:
    """Every 2xx means that the server has it; 410 that it wants no more, until a person says otherwise. It may have it
    already: the id says so to it."""
    if deliveries.disabled():
        raise outgoing.Undelivered("disabled")
    answer = _post(event, _keys(now), now)
    if answer.status == 410:
        deliveries.disable("gone", now)
        raise outgoing.Undelivered("disabled")
    outgoing.must_succeed(answer)
    return "delivered"


def check(_kind: str, now: datetime) -> Mapping[str, Any]:
    """Sends what is no event; also to a server that has said 410, since it may have changed its mind."""
    test = consumer.Event(f"test_{uuid.uuid4().hex}", "pf.test", "", 0, timestamp(now), None, None, {})
    keys = _keys(now)
    answer = outgoing.must_succeed(_post(test, keys, now))
    return {"outcome": "delivered", "status": answer.status, "signatures": len(keys)}


def _post(event: consumer.Event, keys: list[bytes], now: datetime) -> Answer:
    content = {"type": event.type, "timestamp": event.occurred_at, "data": event.detail}
    # Amounts are text; what is a number in an event is a whole one, and was read as a Decimal.
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=int).encode()
    attempted_at = int(now.timestamp())
    signed = f"{event.id}.{attempted_at}.".encode() + body
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Pocketsflow-Serverless/1",
        "webhook-id": event.id,
        "webhook-timestamp": str(attempted_at),
        "webhook-signature": " ".join(_signature(signed, key) for key in keys),  # a server has one, or the other
    }
    return outgoing.send("POST", URL, headers=headers, body=body)


def _signature(content: bytes, key: bytes) -> str:
    return f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}"


def _keys(now: datetime) -> list[bytes]:
    """One at least: nothing leaves unsigned."""
    words = credentials.words(SECRET_ARN, PREFIX, now)
    keys = [key for word in words if len(key := _decoded(word.removeprefix(PREFIX))) >= SHORTEST]
    if not keys:
        raise outgoing.Undelivered("secret_missing")
    return keys


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # some write it without its padding
    except binascii.Error:
        return b""
