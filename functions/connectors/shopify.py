"""Orders of a Shopify shop that were paid at Pocketsflow: marked as paid, and told of refunds and disputes.

Which order is in `metadata`, put there by shopify_checkout.py, with the total that was to be paid; nothing that a
browser says is read. What is done is looked for in the order itself, its tags, its note and its refunds, so that all of
it can be done again.

    refunds#<number>   waiting   refunds that came while the order was not marked as paid; in the connector's table
"""

import json
import os
from datetime import datetime
from decimal import Decimal
from typing import Any

from connectors import consumer, deliveries, money, shopify_admin
from connectors.consumer import Event
from connectors.money import Money
from connectors.outgoing import Undelivered
from connectors.shopify_admin import MARKED, Order
from payments import aws
from payments.table import TABLE, client, key, plain, value
from payments.telemetry import needs_attention, observed

SHOP: str = json.loads(os.environ["SETTINGS"])["shopify_shop"]
REFUNDS: str = json.loads(os.environ["SETTINGS"])["shopify_refunds"]

TAGS = {
    "partially_refunded": "pocketsflow-partially-refunded",
    "refunded": "pocketsflow-refunded",
    "disputed": "pocketsflow-disputed",
}
"""By status; an order has one of them at most."""
EARNED = {"paid", "partially_refunded"}
"""Statuses by which the goods are due. What is refunded or disputed before it was marked as paid is not marked any
more: that would ship it."""
REFUNDING = ("order.partially_refunded", "order.refunded")
MAX_NOTE = 5_000
"""Characters; Shopify takes no more."""
_PAYMENT, _REFUND = "Pocketsflow payment", "Pocketsflow refund"


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: Event, now: datetime) -> str:
    number = event.detail["metadata"].get("shopify_order", "") if event.type.startswith("order.") else ""
    if not shopify_admin.ORDER_ID.fullmatch(number) or event.status not in {"paid", *TAGS}:
        return "not_ours"
    is_current = deliveries.is_current(event.subject, event.revision, now)
    order = shopify_admin.read_order(number, now)
    if order is None:
        raise Undelivered("not_found")
    if obstacle := _obstacle(order, event):
        if is_current and event.status in EARNED:
            needs_attention(f"shopify_{obstacle}")
        return obstacle
    _write_down(order, event, now)
    if is_current:
        _set_state(order, event, now)
    if REFUNDS == "refund":
        _book_refunds(number, event, now)
    return "delivered" if is_current else "older"


def check(_kind: str, now: datetime) -> dict[str, Any]:
    """Whether the credentials are this shop's, and suffice."""
    shop, scopes = shopify_admin.scopes(now)
    if shop != SHOP or "write_orders" not in scopes:
        raise Undelivered("unauthorized")
    return {"outcome": "reached", "scopes": sorted(scopes)}


def _obstacle(order: Order, event: Event) -> str | None:
    """Why the order is left as it is: money and orders disagree. None for one that is marked as paid, or to be."""
    payments = [line for line in order.note.splitlines() if line.startswith(_PAYMENT)]
    is_ours = _payment_line(event) in payments
    if MARKED in order.tags:  # a note that somebody has emptied tells of no other payment
        return None if is_ours or not payments else "already_paid"
    if order.status in shopify_admin.PAID:
        return None if is_ours and any(each.is_manual for each in order.payments) else "already_paid"
    if order.is_cancelled:
        return "cancelled"
    return None if _fits(order, event) else "mismatched"


def _fits(order: Order, event: Event) -> bool:
    """Whether what was paid before tax is what the order still costs, and what it cost when the checkout was opened."""
    total = _total(event)
    return total == order.outstanding and money.is_paid(order.outstanding, event.detail["payment"])


def _total(event: Event) -> Money | None:
    """What the order cost when its checkout was opened."""
    return money.read(event.detail["metadata"].get("shopify_total", ""))


def _write_down(order: Order, event: Event, now: datetime) -> None:
    """Before the order is marked as paid, so that the next try knows whose doing that was."""
    lines = [line for line in _lines(event) if line not in order.note.splitlines()]
    note = "\n".join([order.note, *lines] if order.note else lines)
    if lines and len(note) <= MAX_NOTE:
        shopify_admin.write_note(order, note, now)


def _lines(event: Event) -> list[str]:
    payment = event.detail["payment"]
    lines = [_payment_line(event)]
    refund = event.detail.get("refund")
    if event.type in REFUNDING and refund and refund["id"]:
        lines.append(f"{_refund_line(refund)}: {refund['amount']} {payment['currency']}")
    if event.type in ("order.disputed", "order.dispute_closed"):
        became = "is disputed" if event.type == "order.disputed" else "is no longer disputed"
        lines.append(f"{_PAYMENT} {payment['id']} {became} ({event.occurred_at})")
    return lines


def _payment_line(event: Event) -> str:
    return f"{_PAYMENT} {event.detail['payment']['id']} for {event.order_id}"


def _refund_line(refund: dict[str, Any]) -> str:
    return f"{_REFUND} {refund['id']}"


def _set_state(order: Order, event: Event, now: datetime) -> None:
    tags = {tag for status, tag in TAGS.items() if status == event.status}
    if event.status in EARNED:
        tags.add(MARKED)
        # Once: what somebody puts into it afterwards is owed, and not paid by this payment.
        if MARKED not in order.tags and order.status not in shopify_admin.PAID:
            if not order.can_be_marked:
                raise Undelivered("refused")
            shopify_admin.mark_as_paid(order, now)
    if missing := tags - order.tags:
        shopify_admin.add_tags(order, sorted(missing), now)
    if outdated := ({*TAGS.values()} - tags) & order.tags:
        shopify_admin.remove_tags(order, sorted(outdated), now)


def _book_refunds(number: str, event: Event, now: datetime) -> None:
    """Each once, however late it is told: it is no state. The last one takes what is left of the payment, and none what
    was paid by other ways; one that comes while the order is not marked as paid, since it is disputed, waits until it
    is."""
    told, total = _told(event), _total(event)
    if total is None or (told is None and event.status not in EARNED):
        return
    for note, net in {**_waiting(number), **(told or {})}.items():
        order = shopify_admin.read_order(number, now)
        manual = [each for each in order.payments if each.is_manual] if order else []
        if order is None or not manual or MARKED not in order.tags:
            _wait(number, told or {}, now)
            return
        payment = max(manual, key=lambda each: each.amount == total.amount)
        ours = sum((each.amount for each in order.refunds if each.note.startswith(_REFUND)), Decimal(0))
        booked = sum((each.amount for each in order.refunds if each.note == note), Decimal(0))
        left = min(total.amount - ours, order.left)
        is_last = event.status == "refunded" and note in (told or {})
        amount = left if is_last else min(net - booked, left)
        if amount > 0:
            shopify_admin.refund(order, payment, amount, note, now)


def _told(event: Event) -> dict[str, Decimal] | None:
    """The note of the refund that an event tells of, and what it takes off the order."""
    refund, total = event.detail.get("refund"), _total(event)
    if event.type not in REFUNDING or not refund or refund["id"] is None or refund["amount"] is None or total is None:
        return None
    return {_refund_line(refund): money.net(total, event.detail["payment"], refund)}


def _wait(number: str, refunds: dict[str, Decimal], now: datetime) -> None:
    if not refunds:
        return
    client.update_item(
        TableName=TABLE,
        Key=key(f"refunds#{number}"),
        UpdateExpression="ADD waiting :these SET expires = :expires",
        ExpressionAttributeValues={
            ":these": value({f"{net} {note}" for note, net in refunds.items()}),
            ":expires": value(int((now + 4 * deliveries.KEPT).timestamp())),  # longer than banks take
        },
    )


def _waiting(number: str) -> dict[str, Decimal]:
    """By note; what was booked meanwhile is still there, and known by its note to the order."""
    item = client.get_item(TableName=TABLE, Key=key(f"refunds#{number}"), ConsistentRead=True).get("Item", {})
    found: dict[str, Decimal] = {}
    for each in plain(item).get("waiting", ()):
        net, _, note = each.partition(" ")
        found[note] = max(Decimal(net), found.get(note, Decimal(0)))
    return found
