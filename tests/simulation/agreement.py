"""What must be true of the connectors when the day is over: each platform's state against the ledger's."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest

from connectors import entitlements, notices, shopify
from payments import ledger, orders, table
from tests.simulation import motospeed
from tests.simulation.connectors import TOTAL, Connectors, Line, Order

if TYPE_CHECKING:
    from tests.simulation.checks import Books

REFUNDING = ("order.partially_refunded", "order.refunded")


@dataclass(frozen=True)
class Sold:
    """One of the shop's orders, as the ledger has it."""

    order: Order
    status: str
    payment: str | None
    """That settled it."""
    order_id: str
    events: list[dict[str, Any]]
    was_undone: bool
    """A refund of it failed at the bank after it had been told: what a platform has booked, nothing undoes."""


def differences(books: "Books") -> Iterator[str]:
    connectors = books.day.connectors
    if connectors is None:
        return
    for line in connectors.lines.values():
        yield from _deliveries(line, books)
    sold = list(_sold(connectors, books))
    outcomes = {pk: item.get("outcome") for pk, item in items_of(connectors.lines["woocommerce"]).items()}
    yield from _storefront(connectors, sold)
    for each in sold:
        yield from _shopify(connectors, each)
        yield from _woocommerce(connectors, each, outcomes)
    yield from _members(connectors.lines["membership"], books)
    yield from _feed(connectors)
    yield from _notices(connectors, books)
    yield from (f"took longer than it may: {each}" for each in connectors.outlived)


def _sold(connectors: Connectors, books: "Books") -> Iterator[Sold]:
    by_order = defaultdict(list)
    for event in books.events.values():
        by_order[event["order_id"]].append(event)
    ids = {item["reference"]: pk.removeprefix("order#") for pk, item in books.items.items() if _has_reference(pk, item)}
    for reference, order in connectors.orders.items():
        order_id = ids.get(reference, "")
        status, payment = _status(books.order(order_id))
        was_undone = payment in books.day.failed_refunds
        yield Sold(order, status, payment, order_id, by_order[order_id], was_undone)


def _has_reference(pk: str, item: Mapping[str, Any]) -> bool:
    return pk.startswith("order#") and "reference" in item


def _status(order: Mapping[str, Any] | None) -> tuple[str, str | None]:
    """And the payment that settled it."""
    if order is None:
        return "pending", None
    facts, payments, item = ledger.facts_of(order), order.get("payments", []), ledger.item_of(order)
    winner = orders.winner(item, facts, payments)
    return orders.status(item, facts, payments), facts[winner]["payment_id"] if winner else None


# --- Queues -----------------------------------------------------------------------------------------------------------


def _deliveries(line: Line, books: "Books") -> Iterator[str]:
    """Each event that was published and is for it was handled to its end; none began again that had not failed."""
    expected = {identity for identity, event in books.events.items() if line.wants(event["type"], event["mode"])}
    items = items_of(line)
    for identity in expected:
        about = f"{line.name}: {books.events[identity]['type']} of order {books.events[identity]['order_id']}"
        if "outcome" not in items.get(f"event#{identity}", {}):
            yield f"{about} was never delivered"
        if line.begun[identity] > 1 + line.came_back[identity]:
            yield f"{about} was delivered {line.begun[identity]} times and failed {line.came_back[identity]} times"
    for message in line.dead:
        yield f"{line.name}: event {message.event} is dead again"
    for identity in line.events - expected:
        yield f"{line.name}: event {identity} came and was never published"


def items_of(line: Line) -> dict[str, dict[str, Any]]:
    held = motospeed.table_of(line.table).items
    return {key.value: table.plain(item.to_json()["Attributes"]) for key, item in held.items()}


# --- Platforms --------------------------------------------------------------------------------------------------------


def _storefront(connectors: Connectors, sold: list[Sold]) -> Iterator[str]:
    """The example's own database."""
    shop = connectors.storefront.shop.db
    seen = {identity for (identity,) in shop.execute("SELECT webhook_id FROM seen")}
    for identity in connectors.lines["storefront"].events ^ seen:
        yield f"storefront: event {identity} is known to one side alone"
    found = {f"web-{number}": (status, shipments) for number, status, shipments in shop.execute(_ORDERS)}
    for each in sold:
        status, shipments = found[each.order.reference]
        if status != each.status:
            yield f"storefront: order {each.order_id} is {each.status}, at the shop {status}"
        was_due = any(event["status"] in shopify.EARNED for event in each.events)
        if (each.status in shopify.EARNED and not shipments) or shipments > was_due:
            yield f"storefront: order {each.order_id} is {each.status} and was shipped {shipments} times"


_ORDERS = "SELECT number, status, shipments FROM orders"


def _shopify(connectors: Connectors, sold: Sold) -> Iterator[str]:
    order, about = connectors.shopify.orders[sold.order.shopify], f"shopify: order {sold.order_id} is {sold.status}"
    tags = {shopify.TAGS[sold.status]} if sold.status in shopify.TAGS else set()
    if sold.status in shopify.EARNED:
        tags.add(shopify.MARKED)
    was_marked = {shopify.MARKED} & order.tags if sold.status in ("refunded", "disputed") else set()
    if order.tags != tags | was_marked:
        yield f"{about}, its tags are {sorted(order.tags)}"
    if len(order.payments) != (shopify.MARKED in order.tags):
        yield f"{about}, and was marked as paid {len(order.payments)} times with tags {sorted(order.tags)}"
    lines = order.note.splitlines()
    if len(lines) != len(set(lines)):
        yield f"{about}, and its note says something twice"
    if sold.payment and not any(sold.payment in line for line in lines):
        yield f"{about}, and its note does not have the payment"
    refunded = _given_back(sold) if order.payments else Decimal(0)
    if order.refunded != refunded and not sold.was_undone:
        yield f"{about}, {refunded} was given back, at Shopify {order.refunded}"


def _woocommerce(connectors: Connectors, sold: Sold, outcomes: Mapping[str, Any]) -> Iterator[str]:
    order, about = connectors.woocommerce.orders[sold.order.woocommerce], f"woocommerce: order {sold.order_id}"
    status = _AT_WOOCOMMERCE[sold.status]
    if order.status != status and not (sold.was_undone and order.status == "refunded"):
        yield f"{about} is {sold.status}, at the shop {order.status}"
    if order.transaction_id != (sold.payment or ""):
        yield f"{about} was settled by {sold.payment}, at the shop by {order.transaction_id}"
    refunded = TOTAL if order.status == "refunded" else _given_back(sold)
    if TOTAL - order.left != refunded and not sold.was_undone:
        yield f"{about} is {sold.status}, {refunded} was given back, at the shop {TOTAL - order.left}"
    marks = sorted(note[-17:-1] for note in order.notes if note.endswith("]"))
    told = sorted(event["id"][:16] for event in sold.events if outcomes.get(f"event#{event['id']}") in _NOTED)
    if marks != told:
        yield f"{about} was told of {len(told)} events, and has {len(marks)} notes"


_NOTED = {"delivered", "already"}
_AT_WOOCOMMERCE = {
    "pending": "pending",
    "mismatched": "pending",
    "paid": "processing",
    "partially_refunded": "processing",
    "refunded": "refunded",
    "disputed": "on-hold",
}


def _refunds(events: list[dict[str, Any]]) -> dict[str, Decimal]:
    """Of the payment that settled the order, what was ever told of each."""
    told: dict[str, Decimal] = {}
    for event in events:
        refund = event.get("refund") or {}
        if event["type"] in REFUNDING and refund.get("id") and refund["amount"]:
            told[refund["id"]] = max(told.get(refund["id"], Decimal(0)), Decimal(refund["amount"]))
    return told


def _given_back(sold: Sold) -> Decimal:
    """Of the order's total, which has no tax: the last refund takes what is left."""
    events = [event for event in sold.events if event["type"] in REFUNDING and event["refund"]["id"]]
    if any(event["status"] == "refunded" for event in events):
        return TOTAL
    net = Decimal(0)
    for amount in _refunds(events).values():
        payment = events[0]["payment"]
        share = Decimal(payment["amount_before_tax"]) / Decimal(payment["amount"])
        net += (amount * share).quantize(TOTAL, ROUND_HALF_UP)
    return net


def _members(line: Line, books: "Books") -> Iterator[str]:
    """Each purchase, and each member, by what the ledger has of them."""
    items, now, grace = items_of(line), books.day.engine.clock.now, timedelta(days=7)
    levels: dict[str, set[str]] = defaultdict(set)
    paid = [event for event in books.events.values() if event["type"] == "order.paid"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entitlements, "_read", lambda pk: items.get(pk, {}))
        patch.setattr(entitlements, "read_many", lambda keys: {pk: items[pk] for pk in keys if pk in items})
        for event in paid:
            order_id, subscription = event["order_id"], event["payment"]["subscription_id"]
            status, _ = _status(books.order(order_id))
            state = books.items.get(f"subscription#{subscription}", {}).get("state")
            is_member = status in entitlements.PAID and state != "ended"
            level = {entitlements.CATALOGUE[event["sku"]].level or ""} if is_member else set()
            levels[event["customer_email"]] |= level
            found = entitlements.access(f"grant#{order_id}", now, grace).levels
            if found != tuple(level):
                yield f"membership: order {order_id} is {status} {state or ''}, and gives {found}"
        for email, its in levels.items():
            found = entitlements.access(f"member#{entitlements.member_id(email)}", now, grace).levels
            if found != tuple(sorted(its)):
                yield f"membership: a member of {sorted(its)} has {found}"


def _feed(connectors: Connectors) -> Iterator[str]:
    line = connectors.lines["feed"]
    caught = Counter(content["id"] for content in connectors.hook.caught)
    for identity in line.events ^ caught.keys():
        yield f"feed: event {identity} is known to one side alone"
    for identity, times in caught.items():
        if times > line.begun[identity]:
            yield f"feed: event {identity} came {times} times"


def _notices(connectors: Connectors, books: "Books") -> Iterator[str]:
    """A mail for each event, one more for each time that something failed behind it; none where an hour is full."""
    line = connectors.lines["notices"]
    outcomes = {pk: item.get("outcome") for pk, item in items_of(line).items()}
    least: Counter[tuple[str, str, str]] = Counter()
    most: Counter[tuple[str, str, str]] = Counter()
    for identity in line.events & books.events.keys():
        event = books.events[identity]
        if event["type"] not in notices.NOTICES:
            continue
        about = event["type"], event["payment"]["id"], event["occurred_at"]
        least[about] += outcomes.get(f"event#{identity}") == "delivered"
        most[about] += line.begun[identity]
    for about in least | connectors.mails:
        if not least[about] <= connectors.mails[about] <= most[about]:
            yield f"notices: {about[0]} of {about[1]} was mailed {connectors.mails[about]} times"
