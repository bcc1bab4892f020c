"""What changed in the ledger, as events: a pure function from an item before and after a write.

The write and the outbox are the same thing: each event is derived from the two images in the table's stream, so nothing
that was written can fail to be told, and a write that changes nothing tells nothing. The shapes are in infra/events/.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from payments import orders
from payments.catalogue import Item
from payments.ledger import facts_of, item_of

Image = Mapping[str, Any]
"""An item of the ledger, plain; {} before it was there."""

VERSION = 1

NEEDS_ATTENTION = {
    "order.disputed",
    "order.refund_anomaly",
    "payment.second",
    "payment.unmatched",
    "payment.mismatched",
    "ledger.drift",
}
"""Money and orders disagree: a person is told."""

_TOLD_ELSEWHERE = {"large", "other_words", "subscription"}
"""Reasons for which a raw body is kept that are no event of their own."""


@dataclass(frozen=True, slots=True)
class Event:
    """`fact` is the attribute of the item that the event is about; `detail` is JSON, and has the event's id."""

    type: str
    fact: str
    detail: dict[str, Any]


def events(old: Image, new: Image) -> list[Event]:
    """The events that a write makes. Their ids are the same however often the same two images come."""
    kind, _, _ = new["pk"].partition("#")
    of = {"order": _of_order, "sale": _of_sale, "subscription": _of_subscription, "raw": _of_raw}
    return list(of[kind](old, new)) if kind in of else []


def new_payments(old: Image, new: Image) -> list[str]:
    """Names of the payments that a write added to an order."""
    return [name for name in new.get("payments", []) if name not in old]


# --- Orders -----------------------------------------------------------------------------------------------------------


class _Order:
    """An order as its facts make it."""

    def __init__(self, image: Image) -> None:
        self.facts = facts_of(image)
        self.payments: list[str] = image.get("payments", [])
        self.item = item_of(image) if image else Item("")
        self.winner = orders.winner(self.item, self.facts, self.payments)
        self.status = orders.status(self.item, self.facts, self.payments) if image else None

    def refunds(self, name: str | None) -> dict[str, Decimal]:
        """Of a payment that is known here, by refund id."""
        return orders.refunds(self.facts, self.facts[name]["payment_id"]) if name in self.payments else {}

    def flags(self, name: str) -> Mapping[str, Any]:
        """Of a payment that is known here; {} before the API showed any."""
        return self.facts.get(f"flags#{self.facts[name]['payment_id']}", {}) if name in self.payments else {}

    def is_overpaid_back(self) -> bool:
        """More was refunded than was paid."""
        paid = self.facts[self.winner].get("amount") if self.winner else None
        return paid is not None and sum(self.refunds(self.winner).values()) > Decimal(paid)


def _of_order(old: Image, new: Image) -> Iterator[Event]:
    before, after = _Order(old), _Order(new)
    told = _Teller(before, after, new)
    if after.winner and after.winner != before.winner:
        accepted = after.facts.get("accepted", {})
        yield told.of(
            "order.paid", after.winner, at=accepted["at"] if accepted.get("payment") == after.winner else None
        )
    for name in new_payments(old, new):
        if orders.is_void(after.facts, name) or name == after.winner:
            continue
        if orders.fits(after.item, after.facts[name]):
            yield told.of("payment.second", name)
        else:
            yield told.of("payment.mismatched", name, reason="not_what_was_ordered")
    for name in after.payments:
        if not orders.is_void(after.facts, name):
            yield from _refunded(before, after, name, told)
            yield from _flagged(before, after, name, told)
        elif name not in before.facts or not orders.is_void(before.facts, name):
            void = f"void#{after.facts[name]['payment_id']}"
            at = after.facts[void]["at"]
            yield told.of("payment.mismatched", name, void, at, reason="belongs_to_another_order")
    for name, fact in after.facts.items():
        if fact["kind"] == "drift" and name not in before.facts:
            payments = (after.facts[each] for each in after.payments)
            held = next((each for each in payments if each["payment_id"] == fact["payment_id"]), {})
            payment = {**held, "payment_id": fact["payment_id"]}
            drift = {"what": fact["what"], "ours": fact.get("ours"), "theirs": fact.get("theirs")}
            yield told.about("ledger.drift", payment, name, fact["at"], drift=drift)


class _Teller:
    """Makes the events of one write to one order."""

    def __init__(self, before: _Order, after: _Order, image: Image) -> None:
        self._facts, self._image = after.facts, image
        self._common = {
            "status": after.status,
            "change": {"from": before.status, "to": after.status},
            "customer_email": image.get("customer_email"),
            **_ordered(image),
        }

    def of(self, kind: str, name: str, by: str | None = None, at: str | None = None, **more: Any) -> Event:
        """About the payment `name`; `by` is the fact that made the event, where it is another one."""
        payment = self._facts[name]
        return self.about(kind, payment, by or name, at or payment["at"], **more)

    def about(self, kind: str, payment: Image, fact: str, at: str, **more: Any) -> Event:
        buyer = {"customer_email": payment["customer_email"]} if "customer_email" in payment else {}
        return _event(kind, fact, self._image, at, **{**self._common, "payment": _payment(payment), **buyer, **more})


def _refunded(before: _Order, after: _Order, name: str, told: _Teller) -> Iterator[Event]:
    """Of one payment: refunds that now count, and those that no longer do."""
    is_winner = name == after.winner
    # A payment that came or won just now brings along the refunds that waited for it.
    known = before.refunds(name) if is_winner == (name == before.winner) else {}
    kind = "payment.refunded"
    if is_winner:
        kind = "order.refunded" if after.status == "refunded" else "order.partially_refunded"
    for change in _refund_changes(after.facts, after.facts[name]["payment_id"], known):
        of: Any = {"name": name, "by": change.fact, "at": change.at, "refund": change.refund}
        if change.has_failed:
            yield told.of("order.refund_anomaly", anomaly="refund_failed", **of)
            continue
        yield told.of(kind, **of)
        if is_winner and after.is_overpaid_back():
            yield told.of("order.refund_anomaly", anomaly="more_than_paid", **of)


def _flagged(before: _Order, after: _Order, name: str, told: _Teller) -> Iterator[Event]:
    """Of one payment: a dispute that began or ended, and a refund that shows as a flag only."""
    known, flags = before.flags(name), after.flags(name)
    if not flags:
        return
    at = flags["at"]
    by = f"flags#{flags['payment_id']}@{at}"
    if flags["disputed"] != known.get("disputed", False):
        yield told.of("order.disputed" if flags["disputed"] else "order.dispute_closed", name, by, at)
    if after.refunds(name):
        return  # these count, whatever the flag says
    refund = {"id": None, "amount": None, "unit": None, "total": None}
    is_winner, was_winner = name == after.winner, name == before.winner
    if flags["refunded"] and not (known.get("refunded") and is_winner == was_winner):
        yield told.of("order.refunded" if is_winner else "payment.refunded", name, by, at, refund=refund)
    if known.get("refunded") and not flags["refunded"]:
        yield told.of("order.refund_anomaly", name, by, at, refund=refund, anomaly="refund_withdrawn")


# --- Refunds, of any payment ------------------------------------------------------------------------------------------


class _RefundChange(NamedTuple):
    """A refund that now counts, or counts for more, by a fact; or one that no longer does, because it failed."""

    fact: str
    at: str
    refund: dict[str, Any]
    has_failed: bool


def _refund_changes(facts: Mapping[str, Any], payment_id: str, known: Mapping[str, Decimal]) -> Iterator[_RefundChange]:
    """Over the refunds that were told before, `known`."""
    now = orders.refunds(facts, payment_id)
    total = _digits(sum(now.values(), Decimal(0)))
    for refund_id in sorted(now.keys() | known.keys()):
        amount = now.get(refund_id, known.get(refund_id, Decimal(0)))
        has_failed = refund_id not in now
        if refund_id in known and known[refund_id] >= amount and not has_failed:
            continue
        counting = {refund_id: amount}  # what the fact says by which it counts for so much
        name = next(name for name in sorted(facts) if orders.refunds({name: facts[name]}, payment_id) == counting)
        fact, by = facts[name], f"ref#{payment_id}#{refund_id}#failed" if has_failed else name
        refund = {"id": refund_id, "amount": _digits(fact.get("amount")), "unit": fact.get("unit"), "total": total}
        yield _RefundChange(by, facts[by]["at"], refund, has_failed)


# --- Payments of no order, and of subscriptions -----------------------------------------------------------------------


def _of_sale(old: Image, new: Image) -> Iterator[Event]:
    facts = facts_of(new)
    renewals = {name: fact for name, fact in new.items() if name.startswith("renewal#")}
    payment_id, verdict = new["pk"].removeprefix("sale#"), new.get("verdict")
    payments = (fact for fact in [*renewals.values(), *facts.values()] if fact["kind"] in _PAID)
    payment: Image = next(payments, {})
    common = {
        "mode": new.get("mode", payment.get("mode")),
        "payment": {**_payment(payment), "id": payment_id},
        "customer_email": payment.get("customer_email"),
    }
    if verdict and "verdict" not in old:
        kind, at = f"payment.{verdict['kind']}", verdict["at"]
        yield _event(kind, "verdict", new, at, **common, candidates=verdict["candidates"])
    for name, fact in renewals.items():
        if name not in old:
            yield _event(
                "subscription.payment_succeeded", name, new, fact["at"],
                **common, subscription_id=fact["subscription_id"],
                customer_reference=fact.get("customer_reference"), **_ordered(fact),
            )  # fmt: skip
    if not _tells_refunds(new):
        return
    known = orders.refunds(facts_of(old), payment_id) if _tells_refunds(old) else {}
    more = {**common, "status": None, "change": {"from": None, "to": None}, **_ordered(payment if renewals else {})}
    for change in _refund_changes(facts, payment_id, known):
        if change.has_failed:
            anomaly = {"refund": change.refund, "anomaly": "refund_failed"}
            yield _event("order.refund_anomaly", change.fact, new, change.at, **more, **anomaly)
        else:
            yield _event("payment.refunded", change.fact, new, change.at, **more, refund=change.refund)


_PAID = {"payment", "subscription", "renewal"}


def _tells_refunds(sale: Image) -> bool:
    """Refunds are told of a payment of a subscription, and of one that may have been meant for an order. Those of an
    order's own payment the order tells, those of somebody else's nobody."""
    is_renewal = any(name.startswith("renewal#") for name in sale)
    return "order_id" not in sale and (is_renewal or sale.get("verdict", {}).get("kind") == "unmatched")


# --- Subscriptions ----------------------------------------------------------------------------------------------------

_TELLING = ("state", "cancel_at_period_end", "period_end", "product_id", "order_id")


def _of_subscription(old: Image, new: Image) -> Iterator[Event]:
    if all(old.get(name) == new.get(name) for name in _TELLING):
        return
    subscription = {
        "id": new["pk"].removeprefix("subscription#"),
        "state": new["state"],
        "access": new["state"] != "ended",
        "product_id": new.get("product_id"),
        "cancel_at_period_end": new.get("cancel_at_period_end", False),
        "period_start": new.get("period_start"),
        "period_end": new.get("period_end"),
        "payments": new.get("payments", 0),
        "customer_reference": new.get("customer_reference"),
    }
    more = {
        "subscription": subscription,
        "change": {"from": old.get("state"), "to": new["state"]},
        "customer_email": new.get("customer_email"),
        **_ordered(new),
    }
    fact = f"rev{new['rev']}"
    kind = "subscription.changed" if "state" in old else "subscription.started"
    if new["state"] == "ended" and old.get("state") != "ended":
        kind = "subscription.ended"
    yield _event(kind, fact, new, new["at"], **more)
    if new["state"] == "past_due" and old.get("state") != "past_due":
        yield _event("subscription.payment_failed", fact, new, new["at"], **more)


# --- Everything else that was signed ----------------------------------------------------------------------------------


def _of_raw(old: Image, new: Image) -> Iterator[Event]:
    told = {_delivery(arrival) for arrival in old.get("arrivals", [])}
    for arrival in new.get("arrivals", []):
        delivery = _delivery(arrival)
        if arrival["reason"] in _TOLD_ELSEWHERE or delivery in told:
            continue
        told.add(delivery)
        webhook = {name: arrival[name] for name in ("event", "sent_at", "reason")}
        webhook["sha256"] = new["pk"].removeprefix("raw#")
        yield _event("webhook.other", "\n".join(delivery), new, arrival["at"], webhook=webhook)


def _delivery(arrival: Image) -> tuple[str, str, str]:
    """What tells one delivery of a body from another: by the time that it says it was sent, since one delivery may be
    written twice (AWS's answer was lost, or it was parked besides)."""
    return arrival["event"], arrival["sent_at"] or arrival["at"], arrival["reason"]


# --- What every event has ---------------------------------------------------------------------------------------------


def _event(kind: str, fact: str, image: Image, at: str, **more: Any) -> Event:
    pk = image["pk"]
    detail = {
        "id": hashlib.sha256(f"{pk}\n{fact}\n{kind}".encode()).hexdigest(),
        "version": VERSION,
        "subject": pk,
        "revision": image.get("rev", len(image.get("arrivals", []))),
        "occurred_at": at,
        "mode": image.get("mode"),
        "order_id": pk.removeprefix("order#") if pk.startswith("order#") else None,
        **more,
    }
    return Event(kind, fact, detail)


def _ordered(image: Image) -> dict[str, Any]:
    """What was ordered; what the shop's server said with it, and what its page said, which nothing may rest on."""
    more = {"order_id": image["order_id"]} if "order_id" in image else {}
    return {
        **more,
        "sku": image.get("sku"),
        "product_id": image.get("product_id") or None,
        "variant_id": image.get("variant_id"),
        "reference": image.get("reference"),
        "metadata": image.get("metadata", {}),
        "untrusted_metadata": image.get("untrusted_metadata", {}),
    }


def _payment(fact: Image) -> dict[str, Any]:
    """Amounts are text; `unit` says what they count, where the source does."""
    kind, payment_id = fact.get("kind"), fact.get("payment_id")
    return {
        "id": payment_id,
        "kind": kind,
        "subscription_id": payment_id if kind == "subscription" else fact.get("subscription_id"),
        "product_id": fact.get("product_id"),
        "variant_id": fact.get("variant_id"),
        "amount": _digits(fact.get("amount")),
        "amount_before_tax": _digits(fact.get("amount_before_tax")),
        "unit": fact.get("unit"),
        "currency": fact.get("currency"),
        "source": fact.get("source"),
        "confirmed": fact.get("confirmed", fact.get("source") == "api"),
    }


def _digits(amount: str | Decimal | None) -> str | None:
    """JSON knows 1e2 and -0 too."""
    return None if amount is None else f"{abs(Decimal(amount)):f}"
