"""The no-code feed: each event as one flat JSON object, posted to a catch-hook address (Zapier, Make, n8n).

Whoever has the address can post there, so it is a secret. The tools know no idempotency key: the field `id` is for
theirs. docs/connectors/feed.md.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from connectors import consumer, credentials, outgoing
from payments import aws
from payments.deployment import MODE
from payments.table import timestamp
from payments.telemetry import observed

SECRET_ARN = os.environ["SECRET_ARN"]

FIELDS = {
    "id": "id",
    "revision": "revision",
    "occurred_at": "occurred_at",
    "mode": "mode",
    "order_id": "order_id",
    "reference": "reference",
    "status": "status",
    "changed_from": "change.from",
    "sku": "sku",
    "product_id": "product_id",
    "variant_id": "variant_id",
    "customer_email": "customer_email",
    "customer_reference": "customer_reference|subscription.customer_reference",
    "payment_id": "payment.id",
    "payment_kind": "payment.kind",
    "payment_product_id": "payment.product_id",
    "payment_confirmed": "payment.confirmed",
    "amount": "payment.amount",
    "amount_before_tax": "payment.amount_before_tax",
    "amount_unit": "payment.unit",
    "currency": "payment.currency",
    "refund_id": "refund.id",
    "refund_amount": "refund.amount",
    "refund_unit": "refund.unit",
    "refunded_total": "refund.total",
    "subscription_id": "subscription_id|subscription.id|payment.subscription_id",
    "subscription_state": "subscription.state",
    "subscription_access": "subscription.access",
    "subscription_product_id": "subscription.product_id",
    "subscription_cancels": "subscription.cancel_at_period_end",
    "subscription_period_start": "subscription.period_start",
    "subscription_period_end": "subscription.period_end",
    "subscription_payments": "subscription.payments",
    "reason": "reason|anomaly|drift.what",
    "candidates": "candidates",
}
"""Where each field stands in an event: the first of these places that has something. A name stays for ever; a new one
comes last. Metadata of a browser is not among them: in these tools nobody would see that nothing may rest on it."""

_UNFIT = re.compile(r"[^a-z0-9]+")
_NAME_LENGTH = 40
_FORMULA = re.compile(r"[\t\r\n]|[\s\"'`\x00\u200b-\u200f\u2060\ufeff]*(?:[=@＝＠＋－]|[+-](?![\d ().-]+\Z))")
"""What a spreadsheet takes for more than text (owasp.org/www-community/attacks/CSV_Injection), also behind white space,
quotes and what cannot be seen; telephone numbers excepted."""
_SAMPLE = {
    "revision": 1,
    "mode": MODE,
    "order_id": "ord_sample_01m844ah4r4tff59tdwh9edd1r",
    "reference": "A-1001",
    "status": "paid",
    "change": {"from": "pending", "to": "paid"},
    "sku": "course",
    "product_id": "6b042ac0d23f0824128b2f33",
    "variant_id": "6b042ac0d23f0824128b2f34",
    "customer_email": "jane@example.com",
    "customer_reference": "user-123",
    "metadata": {"customer": "4711"},
    "payment": {
        "id": "6b042b389531985d5d9dc9f8",
        "kind": "payment",
        "product_id": "6b042ac0d23f0824128b2f33",
        "amount": "64.99",
        "amount_before_tax": "60.00",
        "unit": "major",
        "currency": "usd",
        "confirmed": True,
    },
    "refund": {"id": "6b042bb036f675cc81e74ef5", "amount": "10.00", "unit": "major", "total": "10.00"},
    "subscription": {
        "id": "6b042bec1600a35a099950d8",
        "state": "active",
        "access": True,
        "product_id": "6b042afc1818e811892f902b",
        "cancel_at_period_end": False,
        "period_start": "2026-11-23T12:00:00.000Z",
        "period_end": "2026-12-23T12:00:00.000Z",
        "payments": 1,
    },
    "reason": "not_what_was_ordered",
    "candidates": ["ord_sample_01m8439jer1head8x4a1jh69re"],
}
"""Every field has a value, so that each can be mapped."""
_OF_TYPE: Mapping[str, dict[str, Any]] = {
    "order.partially_refunded": {"status": "partially_refunded", "changed_from": "paid"},
    "order.refunded": {"status": "refunded", "changed_from": "paid"},
    "order.disputed": {"status": "disputed", "changed_from": "paid"},
    "order.dispute_closed": {"status": "paid", "changed_from": "disputed"},
    "payment.mismatched": {"status": "mismatched", "changed_from": "pending"},
    "subscription.changed": {"changed_from": "active"},
    "subscription.ended": {"changed_from": "active", "subscription_state": "ended", "subscription_access": False},
    "subscription.payment_failed": {"changed_from": "active", "subscription_state": "past_due"},
}
"""What a tool may filter by, in the sample of a type."""


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: consumer.Event, now: datetime) -> str:
    _post(flat(event.type, event.detail), now)
    return "delivered"


def check(kind: str, now: datetime) -> dict[str, Any]:
    """Posts a sample of that type, which says `test`."""
    at = timestamp(now)
    number = hashlib.sha256(f"{kind} {at}".encode()).hexdigest()  # another each time: no tool drops it as known
    sample = flat(kind, {**_SAMPLE, "id": number, "occurred_at": at}, test=True)
    _post(sample | _OF_TYPE.get(kind, {}), now)
    return {"outcome": "delivered", "type": kind}


def flat(kind: str, detail: Mapping[str, Any], *, test: bool = False) -> dict[str, Any]:
    """The same names for every type, null where an event has nothing to say; then the metadata of the shop's own
    server, each name with `metadata_` before it, so that it can be no other field's."""
    content = {"type": kind, "test": test}
    content |= {name: _cell(_value(detail, places)) for name, places in FIELDS.items()}
    for key, value in sorted(detail.get("metadata", {}).items()):
        name = f"metadata_{_UNFIT.sub('_', key.lower()).strip('_')[:_NAME_LENGTH]}"
        while name in content:  # two that are written alike now
            name += "_"
        content[name] = _cell(value)
    return content


def _value(detail: Mapping[str, Any], places: str) -> Any:
    for place in places.split("|"):
        value: Any = detail
        for name in place.split("."):
            value = value.get(name) if value else None
        if value is not None:
            return value
    return None


def _cell(value: Any) -> Any:
    """Lists as text; counts, the only numbers, as such; text that starts no formula in the spreadsheet where most of it
    ends."""
    match value:
        case list():
            return ", ".join(value) or None
        case Decimal():
            return int(value)
        case str() if _FORMULA.match(value):
            return f"'{value}"
    return value


def _post(content: Mapping[str, Any], now: datetime) -> None:
    headers = {"content-type": "application/json", "user-agent": "pocketsflow-feed/1"}
    outgoing.must_succeed(outgoing.send("POST", _address(now), headers=headers, body=json.dumps(content).encode()))


def _address(now: datetime) -> str:
    """The one word of the connector's secret. Raises Undelivered."""
    address, *more = credentials.words(SECRET_ARN, "", now)
    if more:
        raise outgoing.Undelivered("forbidden_address")
    return address
