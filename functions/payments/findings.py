"""What a page of Pocketsflow's lists means for the ledger: what is new goes through the same settlement as a webhook's,
what is known is left alone, what contradicts is told, and nothing is taken back.

A payment costs two writes at most on the day that it is found, and none as long as its row stays the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from payments import fields, ledger, orders, references, rows, sales, subscriptions
from payments.catalogue import Item
from payments.deployment import MODE
from payments.events import Refund
from payments.ledger import Flags
from payments.pocketsflow import RequestFailed
from payments.provider import Provider
from payments.rows import Sale
from payments.sales import Verdict
from payments.telemetry import logger

WRITERS = 10
"""Writes at once: a run is then bound by Pocketsflow's rate limit, not by ours."""
MAX_FAILED_IN_A_ROW = 3
"""Single records that Pocketsflow does not give, until no more of them are asked for."""
JUDGED_AFTER = timedelta(minutes=5)
"""Until then a payment that the API does not place may have a webhook under way that does."""
SETTLED_LONG_AGO = timedelta(hours=1)
"""Until then a list may not show yet what a webhook has told."""

Work = TypeVar("Work")
Row = rows.Sale | rows.Paid | rows.Subscriber
Known = Mapping[str, Any]
"""An item of the ledger; {} for what is not there."""


@dataclass(frozen=True, slots=True)
class Shop:
    """Whose sales are looked for. `start`: what was made before it and is not known here stays unknown."""

    catalogue: Mapping[str, Item]
    store_id: str
    start: datetime

    def sells(self, product_id: str) -> bool:
        return any(item.product_id == product_id for item in self.catalogue.values())


class Findings:
    """Takes in pages, and counts what they held: `counts` by outcome. With `dry` nothing is written or asked.

    `want_refunds` is called when an order shows as refunded, before that is written: the amounts are in another list.
    """

    def __init__(
        self,
        shop: Shop,
        provider: Provider,
        now: Callable[[], datetime],
        want_refunds: Callable[[], None],
        *,
        dry: bool = False,
    ) -> None:
        self._shop, self._provider, self._now, self._dry = shop, provider, now, dry
        self._want_refunds = want_refunds
        self._failed_in_a_row = 0
        self.found: dict[str, datetime] = {}
        """Payments that settled their order here, by the time that they were made. Whoever notes them empties it."""
        self.counts: Counter[str] = Counter()
        """`unreadable` are rows that are not what they should be: never to be taken for "there are none"."""

    # --- Orders -------------------------------------------------------------------------------------------------------

    def orders(self, page: Iterable[Any], since: datetime, until: datetime) -> None:
        found = {}
        for row in page:
            sale = rows.sale(row)
            if rows.is_subscription(row):
                continue
            if sale is None:
                self._count_unreadable("order")
            elif sale.made_at is None or since <= sale.made_at <= until:
                found[sale.payment.id] = sale
        known = sales.read(found)
        work = [(sale, known.get(payment_id, {})) for payment_id, sale in found.items()]
        work = [(self._placed(sale), item) for sale, item in work if self._is_work(sale, item)]
        if any(_is_refund_news(sale, item) for sale, item in work):
            self._want_refunds()
        named, nameless = [], []
        for sale, item in work:
            if self._is_nameless(sale, item):
                nameless.append((sale, item))
            else:
                named.append((sale.of(_order_id(sale, item)), item))
        self._each(named, lambda pair: self._settle(*pair))
        # Those that have been asked for in vain come last, and are noted, to be asked for again: the walk may go on.
        for sale, item in sorted(nameless, key=lambda pair: "awaits" in pair[1]):
            is_placed = not self._gives_up() and self._single(self._place, sale, item)
            if not is_placed and "awaits" not in item:
                sales.await_confirmation(sale.payment.id, self._now())

    def _place(self, sale: Sale, item: Known) -> str:
        """A list may leave out what a single record has, so the API is asked once before a payment is nobody's. Each is
        settled at once: a page may have more of them than there is time for."""
        asked = None if fields.is_unfit(sale.payment.id) else self._read(sale.payment.id)
        return self._settle(replace(asked, made_at=asked.made_at or sale.made_at) if asked else sale, item)

    def _read(self, payment_id: str) -> Sale | None:
        """Its single record; None when Pocketsflow has none. Raises RequestFailed."""
        row = self._provider.read("/orders", payment_id)
        sale = rows.sale(row)
        if row is not None and sale is None:
            raise RequestFailed("unexpected")
        return self._placed(sale) if sale else None

    def _placed(self, sale: Sale) -> Sale:
        """With the order that its reference names, where it names none by its id."""
        return sale.of(sale.payment.order_id or self._named(sale, f"sale#{sale.payment.id}"))

    def _named(self, row: Row, waiting: str) -> str | None:
        if row.reference is None:
            return None
        return references.find(row.reference) if self._dry else references.order_of(row.reference, waiting)

    def unconfirmed(self, payment_ids: Iterable[str]) -> None:
        """Payments of which webhooks said something and no list has shown anything since: each is asked for by its id,
        once."""
        self._failed_in_a_row = 0
        for payment_id in payment_ids:
            if self._gives_up():
                return
            if fields.is_unfit(payment_id):
                sales.mark_seen(payment_id, {}, [], self._now())
            elif not self._single(self._confirm, payment_id):
                sales.ask_later(payment_id, self._now())

    def _gives_up(self) -> bool:
        """Pocketsflow gives no single record now."""
        return self._failed_in_a_row == MAX_FAILED_IN_A_ROW

    def _single(self, do: Callable[..., str], *about: Any) -> bool:
        """Does what reads a single record. False when that failed: no record holds up the others."""
        try:
            self.counts[do(*about)] += 1
        except RequestFailed as failure:
            if failure.is_of_all:
                raise
            self._failed_in_a_row += 1
            self._count_unreadable("single record")
            return False
        self._failed_in_a_row = 0
        return True

    def _confirm(self, payment_id: str) -> str:
        item = sales.read([payment_id]).get(payment_id, {})
        sale = self._read(payment_id)
        order_id = item.get("order_id") or _order_id(sale, item)
        if order_id is not None and (order := ledger.read(order_id)) is not None:
            self._confirm_refunds(order, item, payment_id)
        if sale is None:
            return self._deny(payment_id, item)
        if _is_refund_news(sale, item):
            self._want_refunds()
        return self._settle(sale.of(order_id), item)

    def _is_work(self, sale: Sale, item: Known) -> bool:
        if _is_other_mode(sale):
            self.counts["other_mode"] += 1
        elif not item and sale.made_at is not None and sale.made_at < self._shop.start:
            self.counts["before_start"] += 1
        elif _same_row(item.get("api"), sale.api) and not _is_newly_claimed(sale, item):
            self.counts["known"] += 1
        else:
            return True
        return False

    def _is_nameless(self, sale: Sale, item: Known) -> bool:
        """Nothing says yet whose it is, and it may be ours."""
        is_open = _order_id(sale, item) is None and "verdict" not in item
        return is_open and not self._dry and not self._is_foreign(sale)

    def _settle(self, sale: Sale, item: Known) -> str:
        payment, now = sale.payment, self._now()
        if self._dry:
            return self._would_settle(sale, item)
        if _is_other_mode(sale):  # as its single record says
            if "order_id" in item:
                other = "live" if MODE == "test" else "test"
                ledger.note_drift(item["order_id"], payment.id, "payment", now, ours=MODE, theirs=other)
            sales.mark_seen(payment.id, sale.api, [], now)
            return "other_mode"
        outcome = "confirmed"
        if payment.order_id is None:
            return self._judge(sale, item, now)
        if item.get("order_id") != payment.order_id:
            outcome = ledger.record(payment, None, now, "api", sale.flags)
            if outcome == "settled":
                self.found[payment.id] = sale.made_at or now
        if outcome in ("confirmed", "redelivered", "unmatched"):
            order = ledger.read(payment.order_id)
            if order is None:
                return self._judge(sale, item, now)
            self._compare(order, payment.order_id, sale, now)
            held = order.get(f"flags#{payment.id}", {})
            if sale.flags != Flags(held.get("refunded", False), held.get("disputed", False)):
                ledger.observe(payment.order_id, payment.id, sale.flags, now)
        sales.mark_seen(payment.id, sale.api, [], now)
        return outcome

    def _compare(self, order: Known, order_id: str, sale: Sale, now: datetime) -> None:
        """What a webhook said, against what the API says."""
        held = order.get(f"pay#{sale.payment.id}")
        if held is None:
            return
        theirs = sale.payment
        told = {"ours": held["product_id"], "theirs": theirs.product_id}
        if held["product_id"] != theirs.product_id:
            ledger.note_drift(order_id, theirs.id, "product", now, **told)
        if held.get("currency") and theirs.currency and held["currency"] != theirs.currency:
            told = {"ours": held["currency"], "theirs": theirs.currency}
            ledger.note_drift(order_id, theirs.id, "currency", now, **told)
        if not _same_amount(held.get("amount"), theirs.amount):
            told = {"ours": held["amount"], "theirs": str(theirs.amount)}
            ledger.note_drift(order_id, theirs.id, "amount", now, **told)
        elif orders.is_hundredth(ledger.item_of(order), held, theirs.amount_before_tax):
            told = {"ours": held["amount_before_tax"], "theirs": str(theirs.amount_before_tax)}
            ledger.note_drift(order_id, theirs.id, "amount", now, **told)
        facts = ledger.facts_of(order)
        returned = orders.refunds(facts, theirs.id)
        whole = held.get("amount") is not None and sum(returned.values()) >= Decimal(held["amount"])
        last = max((fact["at"] for fact in facts.values() if fact["kind"] == "refund"), default="")
        if returned and whole and not sale.flags.refunded and _is_long_ago(last, now):
            told = {"ours": "refunded", "theirs": "not refunded"}
            ledger.note_drift(order_id, theirs.id, "refund", now, **told)

    def _judge(self, sale: Sale, item: Known, now: datetime) -> str:
        """A payment of no order of ours."""
        payment = sale.payment
        if "verdict" in item:
            sales.mark_seen(payment.id, sale.api, [], now)
            return "known"
        if not sale.labelled and sale.made_at is not None and now - sale.made_at < JUDGED_AFTER:
            return "too_new"
        verdict: Verdict = "foreign" if self._is_foreign(sale) else "unmatched"
        likely: list[str] = []
        if verdict == "unmatched":
            likely = sales.candidates(payment.product_id, payment.email, sale.made_at or now)
            if not self._shop.catalogue and payment.order_id is None and not likely:
                verdict = "foreign"  # nothing says what this shop sells, and nobody here is waiting for it
        return verdict if sales.judge(payment, verdict, likely, sale.api, now, item=item) else "known"

    def _is_foreign(self, sale: Sale) -> bool:
        """Sold elsewhere in the same account: another product, another store, or another system's own metadata."""
        payment = sale.payment
        if payment.store_id is not None and payment.store_id != self._shop.store_id:
            return True
        if self._shop.catalogue and not self._shop.sells(payment.product_id):
            return True
        return payment.order_id is None and payment.store_id is None and sale.labelled

    def _deny(self, payment_id: str, item: Known) -> str:
        """Pocketsflow does not know a payment that it told us of. What is settled stays settled, and is told."""
        now = self._now()
        if "order_id" in item:
            ledger.note_drift(item["order_id"], payment_id, "payment", now, ours="paid", theirs="unknown")
        held = next((fact for name, fact in item.items() if name.startswith(("pay#", "sub#"))), None)
        if "order_id" not in item and held is not None and "verdict" not in item:
            likely = sales.candidates(held["product_id"], held.get("customer_email"), now)
            sales.judge(payment_id, "unmatched", likely, {}, now, item=item)
        else:
            sales.mark_seen(payment_id, {}, [], now)
        return "denied"

    def _would_settle(self, sale: Sale, item: Known) -> str:
        if "order_id" in item:
            return "confirmed"
        order = ledger.read(sale.payment.order_id) if sale.payment.order_id else None
        if order is None:
            return "foreign" if self._is_foreign(sale) else "unmatched"
        return "redelivered" if f"pay#{sale.payment.id}" in order else "would_settle"

    # --- Refunds ------------------------------------------------------------------------------------------------------

    def refunds(self, page: Iterable[Any], _since: datetime, _until: datetime) -> None:
        by_payment: dict[str, list[Refund]] = {}
        for row in page:
            refund = rows.refund(row)
            if refund is None:
                self._count_unreadable("refund")
            else:
                by_payment.setdefault(refund.payment_id, []).append(refund)
        known = sales.read(by_payment)
        work = []
        for payment_id, found in by_payment.items():
            item = known.get(payment_id, {})
            new = [refund for refund in found if _mark(refund) not in item.get("refunds_seen", set())]
            # Of payments that are not known here, or not ours, refunds are nobody's business.
            if new and item and ("order_id" in item or item.get("verdict", {}).get("kind") != "foreign"):
                work.append((new, item))
        self._each(work, lambda pair: self._record_refunds(*pair))

    def _record_refunds(self, found: Iterable[Refund], item: Known) -> str:
        if self._dry:
            return "would_refund"
        now, marks = self._now(), []
        for refund in found:
            ledger.record(_of(refund, item.get("order_id")), None, now, "api")
            marks.append(_mark(refund))
        sales.mark_refunds_seen(item["pk"].removeprefix("sale#"), marks)
        return "refund"

    def _confirm_refunds(self, order: Known, item: Known, payment_id: str) -> None:
        """Those of one payment that came by webhook only: each is asked for by its id."""
        seen = {mark.partition("#")[0] for mark in item.get("refunds_seen", set())}
        for name, fact in ledger.facts_of(order).items():
            if fact["kind"] != "refund" or fact["payment_id"] != payment_id or fact["source"] == "api":
                continue
            refund_id, order_id = fact["refund_id"], order["pk"].removeprefix("order#")
            if refund_id in seen or fields.is_unfit(refund_id):
                continue
            seen.add(refund_id)
            refund = rows.refund(self._provider.read("/refunds", refund_id))
            if refund is None or refund.payment_id != payment_id:
                told = {"ours": fact["status"], "theirs": "unknown"}
                ledger.note_drift(order_id, payment_id, "refund", self._now(), **told)
                continue
            if f"ref#{payment_id}#{refund_id}#{refund.status}" != name:
                ledger.record(_of(refund, order_id), None, self._now(), "api")
            sales.mark_refunds_seen(payment_id, [_mark(refund)])

    # --- Subscriptions ------------------------------------------------------------------------------------------------

    def payments(self, page: Iterable[Any], since: datetime, until: datetime) -> None:
        """Of subscriptions: the first one settles the order, and each is counted."""
        found = {}
        for row in page:
            paid = rows.paid(row)
            if paid is None:
                if not rows.is_one_time(row):
                    self._count_unreadable("payment")
            elif _is_other_mode(paid):
                self.counts["other_mode"] += 1
            elif paid.made_at is None or since <= paid.made_at <= until:
                found[paid.renewal.id] = paid
        known = sales.read(found)
        new = [paid for payment_id, paid in found.items() if "api" not in known.get(payment_id, {})]
        items = subscriptions.read(paid.renewal.subscription_id for paid in new)
        for paid in new:
            item = items.get(paid.renewal.subscription_id, {})
            if not item and paid.made_at is not None and paid.made_at < self._shop.start:
                self.counts["before_start"] += 1
            else:
                self.counts[self._count_payment(paid, item)] += 1

    def _count_payment(self, paid: rows.Paid, item: Known) -> str:
        if self._dry:
            return "would_count"
        order_id = None
        if "order_id" not in item:
            own = f"subscription#{paid.renewal.subscription_id}"
            order_id = paid.order_id or self._named(paid, own) or _claimant(paid, item)
        if order_id is not None:
            self.counts[ledger.record(paid.as_sale(order_id), None, self._now(), "api")] += 1
            order = ledger.read(order_id)
            if order is not None:  # the relay has not made the two know each other yet
                item = {**_told(paid), **item, "sku": order.get("sku"), "order_id": order_id}
                item |= {name: order.get(name) for name in ("untrusted_metadata", "metadata", "reference")}
        counted = subscriptions.record_renewal(paid.renewal, item, self._now())
        return "payment_counted" if counted else "known"

    def subscribers(self, page: Iterable[Any], _since: datetime, _until: datetime) -> None:
        found = {}
        for row in page:
            subscriber = rows.subscriber(row)
            if subscriber is None:
                self._count_unreadable("subscriber")
            elif _is_other_mode(subscriber):
                self.counts["other_mode"] += 1
            else:
                found[subscriber.change.id] = subscriber
        known = subscriptions.read(found)
        work = []
        for subscription_id, subscriber in found.items():
            item = known.get(subscription_id, {})
            if not item and subscriber.made_at is not None and subscriber.made_at < self._shop.start:
                self.counts["before_start"] += 1
            else:
                work.append((subscriber, item))
        self._each(work, lambda pair: self._follow(*pair))

    def _follow(self, subscriber: rows.Subscriber, item: Known) -> str:
        change, now = subscriber.change, self._now()
        told = {
            "state": change.state,
            "product_id": change.product_id,
            "cancel_at_period_end": change.cancel_at_period_end,
            "period_end": change.period_end,
        }
        is_same = all(item.get(name) == value for name, value in told.items() if value is not None)
        order_id = change.order_id or _claimant(subscriber, item)
        if order_id is None and "order_id" not in item and (not is_same or "claimed_by" in item):
            order_id = self._named(subscriber, f"subscription#{change.id}")
        was_paid = change.state not in ("ended", "past_due") or item.get("payments", 0) > 0
        is_new_sale = order_id is not None and "order_id" not in item and was_paid
        if is_same and not is_new_sale:
            return "known"
        if self._dry:
            return "would_follow"
        outcome = "followed"
        if is_new_sale:
            outcome = ledger.record(subscriber.as_sale(order_id), None, now, "api")
        if "ended_at" in item:
            if change.state != "ended" and "order_id" in item and _is_long_ago(item["ended_at"], now):
                kind: ledger.Drift = "subscription"
                ledger.note_drift(item["order_id"], change.id, kind, now, ours="ended", theirs=change.state)
            return "has_ended"
        subscriptions.record(change, now, source="api")
        return outcome

    # ------------------------------------------------------------------------------------------------------------------

    def _each(self, work: Iterable[Work], do: Callable[[Work], str]) -> None:
        """In parallel; the first error is raised when all have been tried."""
        with ThreadPoolExecutor(WRITERS) as pool:
            doing = [pool.submit(do, each) for each in work]
        for done in doing:
            self.counts[done.result()] += 1

    def _count_unreadable(self, kind: str) -> None:
        self.counts["unreadable"] += 1
        logger.warning("unreadable_row", extra={"kind": kind})


def _order_id(sale: Sale | None, item: Known) -> str | None:
    """By what the API says; else by what the ledger knows; else by what a signed webhook said."""
    listed = sale.payment.order_id if sale else None
    return listed or item.get("order_id") or _claimant(sale, item)


def _claimant(row: Row | None, item: Known) -> str | None:
    """The order that a signed webhook named: worth nothing where the API itself says something else."""
    claimed_by: str | None = item.get("claimed_by")
    return None if row is not None and row.labelled else claimed_by


def _is_newly_claimed(sale: Sale, item: Known) -> bool:
    """Whose it is has been said since a list has shown it: by a signed webhook, or by its reference."""
    return "order_id" not in item and "claimed_by" in item and (not sale.labelled or sale.reference is not None)


def _is_other_mode(row: Row) -> bool:
    return row.test_mode is not None and row.test_mode != (MODE == "test")


def _same_row(held: Known | None, listed: Known) -> bool:
    """A list may leave out whose it is, after another has said it."""
    return held is not None and {"order_id": held.get("order_id"), **listed} == {"order_id": None, **held}


def _is_refund_news(sale: Sale, item: Known) -> bool:
    return sale.flags.refunded and not item.get("api", {}).get("refunded")


def _told(paid: rows.Paid) -> dict[str, Any]:
    return {
        "product_id": paid.product_id,
        "customer_email": paid.email,
        "customer_reference": paid.customer_reference,
    }


def _of(refund: Refund, order_id: str | None) -> Refund:
    return replace(refund, order_id=order_id)


def _mark(refund: Refund) -> str:
    return f"{refund.refund_id}#{refund.status}"


def _same_amount(held: str | None, listed: Decimal | None) -> bool:
    """Webhooks do not say whether they count dollars or cents: either way it may be the same."""
    return held is None or listed is None or Decimal(held) in (listed, listed * 100)


def _is_long_ago(at: str, now: datetime) -> bool:
    return at != "" and now - datetime.fromisoformat(at) > SETTLED_LONG_AGO
