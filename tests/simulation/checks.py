"""What must be true when the day is over: the provider's books against the ledger, and the ledger against the bus."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from payments import ledger, orders, outbox, table
from tests.simulation import agreement, motospeed
from tests.simulation.day import COURSE, Day

STABLE = {"order.paid", "payment.second", "payment.mismatched", "payment.unmatched", "payment.foreign", "ledger.drift"}
STABLE |= {"subscription.payment_succeeded"}
"""Events that an item makes however many steps led to it: their ids can be had from the last state alone."""
_STATES = {"active": "active", "past_due": "past_due", "canceled": "ended"}


@dataclass
class Books:
    """Everything at the end, read once."""

    day: Day
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was published, by id."""
    told: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids of the events of a type about a payment."""

    def __post_init__(self) -> None:
        held = motospeed.table_of(self.day.world.stack.table).items
        self.items = {key.value: table.plain(item.to_json()["Attributes"]) for key, item in held.items()}
        for event in self.day.world.published:
            self.events[event["id"]] = event
            payment = (event.get("payment") or {}).get("id")
            self.told[event["type"], payment].add(event["id"])

    def order(self, order_id: str | None) -> dict[str, Any] | None:
        return self.items.get(f"order#{order_id}")


def violations(books: Books) -> list[str]:
    """What is not as it must be, each with the order or the payment; none on a good day."""
    found = [
        *_sales(books),
        *_orders(books),
        *_subscriptions(books),
        *_events(books),
        *_loose_ends(books),
        *agreement.differences(books),
    ]
    return [f"{books.day.plan}: {violation}" for violation in found]


def _sales(books: Books) -> Iterator[str]:
    """None lost, and none of another's taken: each payment that Pocketsflow holds is where it belongs."""
    for payment_id, row in books.day.world.account.orders.items():
        order_id = row["metadata"].get("external_order_id")
        order = books.order(order_id)
        if order is not None:
            if f"pay#{payment_id}" not in order:
                yield f"payment {payment_id} is lost: order {order_id} does not hold it"
            continue
        ours = row["productId"] == COURSE["productId"] and "woocommerce_order" not in row["metadata"]
        kind = "unmatched" if ours else "foreign"
        sale = books.items.get(f"sale#{payment_id}", {})
        if sale.get("verdict", {}).get("kind") != kind:
            yield f"payment {payment_id} of no order is {sale.get('verdict')} instead of {kind}"
        if len(books.told[f"payment.{kind}", payment_id]) != 1:
            yield f"payment {payment_id} was told as {kind} {len(books.told[f'payment.{kind}', payment_id])} times"


def _orders(books: Books) -> Iterator[str]:
    """None settled twice, every double payment and mismatch told, and each status what Pocketsflow's books say."""
    paid: dict[str, list[str]] = defaultdict(list)
    for event in books.events.values():
        if event["type"] == "order.paid":
            paid[event["order_id"]].append(event["payment"]["id"])
    for pk, order in books.items.items():
        if not pk.startswith("order#"):
            continue
        order_id = pk.removeprefix("order#")
        facts, payments, item = ledger.facts_of(order), order.get("payments", []), ledger.item_of(order)
        winner = orders.winner(item, facts, payments)
        winners = [facts[winner]["payment_id"]] if winner else []
        if paid[order_id] != winners:
            yield f"order {order_id} was settled by {winners} and published as paid by {paid[order_id]}"
        for name in payments:
            payment_id, fits = facts[name]["payment_id"], orders.fits(item, facts[name])
            kind = "payment.second" if fits else "payment.mismatched"
            if name != winner and len(books.told[kind, payment_id]) != 1:
                yield f"order {order_id}: {payment_id} was told as {kind} {len(books.told[kind, payment_id])} times"
        status, theirs = orders.status(item, facts, payments), _provider_status(books.day, order, winners)
        if status != theirs:
            yield f"order {order_id} is {status}, at Pocketsflow {theirs}"


def _provider_status(day: Day, order: dict[str, Any], winners: list[str]) -> str:
    """From Pocketsflow's orders, refunds and disputes alone, but for which of two payments came first."""
    account, order_id = day.world.account, order["pk"].removeprefix("order#")
    if winners and winners[0] in account.subscriptions:
        return "paid"
    rows = [row for row in _rows(day).get(order_id, []) if row["productId"] == order["product_id"]]
    if not rows:
        return "mismatched" if order_id in _rows(day) else "pending"
    [row] = [row for row in rows if row["_id"] in winners] or rows[:1]
    refunded = _refunded(day).get(row["_id"], Decimal(0))
    if refunded >= row["grossAmount"]:
        return "refunded"
    return "disputed" if row["isDisputed"] else "partially_refunded" if refunded else "paid"


def _rows(day: Day) -> dict[str, list[dict[str, Any]]]:
    """Pocketsflow's orders, by the order of ours that they name."""
    if not hasattr(day, "_rows"):
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in day.world.account.orders.values():
            found[row["metadata"].get("external_order_id", "")].append(row)
        day._rows = dict(found)
    return day._rows


def _refunded(day: Day) -> dict[str, Decimal]:
    if not hasattr(day, "_refunds"):
        day._refunds = defaultdict(Decimal)
        for refund in day.world.account.refunds.values():
            if refund["status"] == "completed":
                day._refunds[refund["orderId"]] += refund["amount"]
    return day._refunds


def _subscriptions(books: Books) -> Iterator[str]:
    account = books.day.world.account
    paid: dict[str, int] = defaultdict(int)
    for payment in account.payments.values():
        paid[payment.get("subscriptionCustomerId", "")] += 1
    for subscription_id, theirs in account.subscriptions.items():
        order_id = theirs.metadata.get("external_order_id")
        ours, order = books.items.get(f"subscription#{subscription_id}", {}), books.order(order_id) or {}
        if f"sub#{subscription_id}" not in order:
            yield f"subscription {subscription_id} is lost: order {order_id} does not hold it"
        state = "paused" if theirs.paused and theirs.status != "canceled" else _STATES[theirs.status]
        if ours.get("state") != state or ours.get("order_id") != order_id:
            yield f"subscription {subscription_id} of order {order_id} is {ours.get('state')}, at Pocketsflow {state}"
        if ours.get("payments") != paid[subscription_id]:
            payments = f"{ours.get('payments')} payments, at Pocketsflow {paid[subscription_id]}"
            yield f"subscription {subscription_id} of order {order_id} has {payments}"


def _events(books: Books) -> Iterator[str]:
    """Every change of the ledger was published, and nothing else was."""
    expected = dict(books.day.platform.expected)
    for pk, item in books.items.items():
        for event in outbox.events({}, item):
            if event.type in STABLE:
                expected[event.detail["id"]] = (event.type, pk)
    for identity, (kind, pk) in expected.items():
        if identity not in books.events:
            yield f"{kind} of {pk} was never published"
    for identity in books.events.keys() - expected.keys():
        event = books.events[identity]
        yield f"{event['type']} of order {event['order_id']} was published and nothing had changed"


def _loose_ends(books: Books) -> Iterator[str]:
    """Nothing waits any more, nothing was put aside, and no alarm was false."""
    for pk, item in books.items.items():
        if "awaits" in item:
            yield f"{pk} still waits to be confirmed"
        for name in item:
            if (name.startswith("drift#") and not name.endswith("#refund")) or (
                name.startswith("drift#") and item[name]["payment_id"] not in books.day.failed_refunds
            ):
                yield f"{pk} has a false alarm: {name}"
            elif name.startswith("void#"):
                yield f"{pk} gave a payment away: {name}"
    yield from (f"put aside for a person: {each}" for each in books.day.platform.given_up)
    yield from (f"took longer than it may: {each}" for each in books.day.platform.outlived)


# --- Figures of a day -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settlement:
    seconds: float
    """From the payment to the fact in the ledger."""
    by: str
    """`webhook`, `parking` or `reconcile`."""


def settlements(books: Books) -> list[Settlement]:
    """Of every order that was paid."""
    found = []
    account = books.day.world.account
    for pk, order in books.items.items():
        facts = ledger.facts_of(order)
        if not pk.startswith("order#") or not (payments := order.get("payments")):
            continue
        name = orders.winner(ledger.item_of(order), facts, payments)
        if name is None:
            continue
        fact = facts[name]
        if name.startswith("sub#"):
            made_at = account.subscriptions[fact["payment_id"]].created
        else:
            rows = _rows(books.day)[pk.removeprefix("order#")]
            made_at = min(datetime.fromisoformat(r["createdAt"]) for r in rows if r["productId"] == order["product_id"])
        seconds = (datetime.fromisoformat(fact["at"]) - made_at).total_seconds()
        by = "reconcile" if fact["source"] == "api" else "webhook"
        if by == "webhook" and fact["at"] in books.day.platform.unparked_at:
            by = "parking"
        found.append(Settlement(max(0.0, seconds), by))
    return found
