"""Members: what an order or a subscription has come to, noted for who asks (access.py).

Nothing is sent anywhere. What an event says is noted under its revision (entitlements.py), so that any order of events
and any repetition comes to the same.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors import consumer, entitlements
from payments import aws
from payments.telemetry import observed


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: consumer.Event, _now: datetime) -> str:
    """The order's status decides, whichever event tells it: also one of a refund that failed, or of a payment that was
    another order's. Of what settled no order of ours nothing comes."""
    kind, _, identity = event.subject.partition("#")
    if kind == "subscription":
        is_newest = entitlements.note_subscription(identity, event.revision, event.detail)
        may_enter = event.detail["subscription"]["access"]
    elif kind == "order" and event.status is not None:
        is_newest = entitlements.note_order(identity, event.revision, event.status)
        if event.type == "order.paid":  # at last: who sees that it was paid must see what has become of it
            entitlements.note_sale(identity, event.revision, event.detail)
        may_enter = event.status in entitlements.PAID
    else:
        return "not_ours"
    if not is_newest:
        return "older"
    return "granted" if may_enter else "revoked"


def check(_kind: str, _now: datetime) -> Mapping[str, Any]:
    """Whether there is anything to be a member of, and the table answers."""
    entitlements.pepper()
    found = entitlements.levels()
    return {"outcome": "ok" if found else "no_level_in_the_catalogue", "levels": sorted(found)}
