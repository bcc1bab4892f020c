"""Orders of a WooCommerce shop, by its REST API (wc/v3): paid, given back, disputed, as the ledger has it.

Which order an event is about, and what that cost when its checkout was opened, says what the shop's own plugin sent
along by its key (integrations/woocommerce/): the trusted metadata `woocommerce_order` and `woocommerce_total`, and
nothing else. An order is looked at before anything is done to it: WooCommerce knows no idempotency keys, so what is
there already is told by the payment's id, a refund's reason, a mark in a note.

    hold#<number>   status   what the order was before a dispute put it on hold; in the connector's table
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from connectors import consumer, credentials, deliveries, money, outgoing
from connectors.consumer import Event
from connectors.money import Money
from connectors.outgoing import Undelivered
from payments import aws, strictjson
from payments.outbound import Answer
from payments.table import TABLE, client, key, plain, value
from payments.telemetry import needs_attention, observed

URL: str = json.loads(os.environ["SETTINGS"])["woocommerce_url"]
SECRET_ARN = os.environ["SECRET_ARN"]
API = f"{URL.rstrip('/')}/wp-json/wc/v3"
STILL_RUNNING = 60
"""Seconds for which PHP may go on with a request that we gave up, twice what it has by default: the same again would
overlap with it, and neither would see the other's refund."""

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_FIELDS = ("status", "currency", "total", "transaction_id", "date_paid", "refunds")
_UNPAID = {"pending", "failed"}  # what WooCommerce lets set_paid settle: WC_Order::needs_payment
_FOR_GOOD = {"refunded", "cancelled", "trash"}
_STATES = {
    "order.paid": "Paid at Pocketsflow.",
    "order.partially_refunded": "A part was given back at Pocketsflow.",
    "order.refunded": "Given back at Pocketsflow.",
    "order.disputed": "The buyer's bank disputes the payment. Answer at Pocketsflow, and ship nothing until then.",
    "order.dispute_closed": "The dispute is over.",
}
"""Events that name a state which the order is to have, and what a note says of each."""
_NOTES = {
    "order.refund_anomaly": "What was given back at Pocketsflow and this order disagree. Compare the two.",
    "payment.second": "Paid a second time at Pocketsflow. Give one of the two payments back.",
    "payment.refunded": "A payment that did not settle this order was given back at Pocketsflow.",
}
"""Events that change nothing here, and what a note says of each."""


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: Event, now: datetime) -> str:
    """The order becomes what the event says, unless a newer one was here. A refund is booked in any case, once: the
    newer event need not know of it."""
    number = event.detail.get("metadata", {}).get("woocommerce_order", "")
    if event.type not in {*_STATES, *_NOTES} or not _NUMBER.fullmatch(number):
        return "not_ours"
    if event.type in _NOTES:
        return _note(number, event, _NOTES[event.type], now)
    is_current = deliveries.is_current(event.subject, event.revision, now)
    refund = event.detail.get("refund")
    if not is_current and refund is None:
        return "older"
    order = _order("GET", number, now)
    if problem := _misfit(order, event):
        needs_attention(f"woocommerce_{problem}", event_id=event.id)
        return problem
    changed = is_current and _settle(number, order, event, now)
    if refund is not None and order["status"] != "refunded":
        changed = _book(number, order, event, now) or changed
    noted = _note(number, event, _STATES[event.type], now)
    return "delivered" if changed else noted


def check(_kind: str, now: datetime) -> Mapping[str, Any]:
    """Whether the key may read orders, and write them: one that may not is refused before the order is looked for."""
    if not isinstance(_ask("GET", "/orders?per_page=1&_fields=id", now), list):
        raise Undelivered("not_json")
    answer = _send("PUT", "/orders/0", now, {})
    if answer.status not in (400, 404):  # there is none of this number
        outgoing.must_succeed(answer)
    return {"outcome": "ok"}


def _misfit(order: Mapping[str, Any], event: Event) -> str | None:
    """Why the order is left as it is, for a person to look; None where the payment is its own."""
    payment, total = event.detail["payment"], _total(event)
    if order["transaction_id"] == payment["id"]:
        return None
    if order["transaction_id"] or order["date_paid"]:
        return "paid_otherwise"
    costs = Money(Decimal(order["total"]), order["currency"].lower())
    if total != costs or not money.is_paid(costs, payment):
        return "mismatched"
    return None if order["status"] in _UNPAID else "not_payable"


def _total(event: Event) -> Money | None:
    """What the order cost when its checkout was opened."""
    return money.read(event.detail["metadata"].get("woocommerce_total", ""))


def _settle(number: str, order: dict[str, Any], event: Event, now: datetime) -> bool:
    """Gives the order the state that the event names; False when it has it."""
    change: dict[str, Any]
    before, is_unpaid = None, order["status"] in _UNPAID
    if event.status == "refunded":
        if not is_unpaid:
            return False  # what is left of it is booked, and that is what changes its status
        # Never paid here, and never delivered: WooCommerce books the refund of all of it by itself.
        change = {"status": "refunded"}
    elif event.status == "disputed":
        if order["status"] in _FOR_GOOD | {"on-hold"}:
            return False
        _remember(number, order["status"], now)
        change = {"status": "on-hold"}
    elif is_unpaid:
        change = {"set_paid": True}
    else:
        before = _remembered(number) if order["status"] == "on-hold" else None
        if before is None:
            return False
        change = {"status": "pending", "set_paid": True} if before in _UNPAID else {"status": before}
    change["transaction_id"] = event.detail["payment"]["id"]
    order.update(_order("PUT", number, now, change))
    if "set_paid" in change and not order["date_paid"]:
        raise Undelivered("refused")
    if before is not None:
        _forget(number)
    return True


def _book(number: str, order: Mapping[str, Any], event: Event, now: datetime) -> bool:
    """A refund in the shop's books, without a call of any gateway; False when it is there. One may be told again with a
    larger amount: the difference is booked."""
    refund, total = event.detail["refund"], _total(event)
    left = Decimal(order["total"]) + sum(Decimal(each["total"]) for each in order["refunds"])  # which are negative
    reason = f"Pocketsflow refund {refund['id'] or ''}".strip()
    if event.status == "refunded":
        amount = left
    elif total is None:
        return False
    else:
        booked = -sum(Decimal(each["total"]) for each in order["refunds"] if each["reason"] == reason)
        amount = min(left, money.net(total, event.detail["payment"], refund) - booked)
    if amount <= 0:
        return False
    books = {"amount": str(amount), "reason": reason, "api_refund": False, "api_restock": False}
    _ask("POST", f"/orders/{number}/refunds", now, books)
    return True


def _note(number: str, event: Event, text: str, now: datetime) -> str:
    """For the shop's people, once: the mark tells it from others. Newest come first, so a long list may be cut."""
    mark = f"[{event.id[:16]}]"
    answer = outgoing.must_succeed(_send("GET", f"/orders/{number}/notes?type=internal&_fields=note", now))
    if mark.encode() in answer.body:
        return "already"
    note = f"{text} Payment {event.detail['payment']['id']}. {mark}"
    _ask("POST", f"/orders/{number}/notes", now, {"note": note, "customer_note": False})
    return "delivered"


def _remember(number: str, status: str, now: datetime) -> None:
    """What a dispute interrupts, before it does."""
    expires = int((now + deliveries.KEPT * 4).timestamp())  # longer than banks take
    client.update_item(
        TableName=TABLE,
        Key=key(f"hold#{number}"),
        UpdateExpression="SET #status = :status, expires = :expires",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": value(status), ":expires": value(expires)},
    )


def _forget(number: str) -> None:
    names = {"#status": "status"}
    update: Any = {"UpdateExpression": "REMOVE #status", "ExpressionAttributeNames": names}
    client.update_item(TableName=TABLE, Key=key(f"hold#{number}"), **update)


def _remembered(number: str) -> str | None:
    answer = client.get_item(TableName=TABLE, Key=key(f"hold#{number}"), ConsistentRead=True)
    return plain(answer.get("Item", {})).get("status")


def _order(method: str, number: str, now: datetime, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    order = _ask(method, f"/orders/{number}?_fields={','.join(_FIELDS)}", now, content)
    if not isinstance(order, dict) or not order.keys() >= {*_FIELDS}:
        raise Undelivered("not_json")
    return order


def _ask(method: str, path: str, now: datetime, content: Mapping[str, Any] | None = None) -> Any:
    """The JSON of the answer. Raises Undelivered, also for a page that a host, a firewall or a plugin put there."""
    answer = outgoing.must_succeed(_send(method, path, now, content))
    try:
        return strictjson.parse(answer.body)
    except strictjson.Unreadable:
        raise Undelivered("not_json") from None


def _send(method: str, path: str, now: datetime, content: Mapping[str, Any] | None = None) -> Answer:
    headers = {"Authorization": f"Basic {_credentials(now)}", "Accept": "application/json", "User-Agent": "Pocketsflow"}
    body = None
    if content is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(content).encode()
    try:
        return outgoing.send(method, f"{API}{path}", headers=headers, body=body)
    except Undelivered as undelivered:
        if undelivered.reason == "no_answer":
            raise Undelivered("no_answer", STILL_RUNNING) from None
        raise


def _credentials(now: datetime) -> str:
    key, secret = (credentials.words(SECRET_ARN, prefix, now)[0] for prefix in ("ck_", "cs_"))
    return base64.b64encode(f"{key}:{secret}".encode()).decode()
