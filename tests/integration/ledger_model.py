"""A model of the ledger: what Pocketsflow may say, what must be known of it, and what is really there.

The model is the README's table of outcomes and the rule that an order is a set of facts; it reads no code of ours.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Literal

from hypothesis import settings
from moto.dynamodb.models import dynamodb_backends

import webhook
from payments import events, ledger, orders
from payments.catalogue import Item
from sandbox import aws
from sandbox.template import PSEUDO_PARAMETERS
from sandbox.worker import Context
from tests import conftest
from tests.conftest import Aws
from tests.payloads import (
    NOW,
    PRODUCT,
    answered,
    delivery,
    paid,
    refunded,
    subscribed,
    unknown,
)

EXAMPLES = settings(conftest.EXAMPLES, max_examples=50)
"""One ledger serves all examples of a test: each begins by emptying it."""
SECONDS = 60
"""For one invocation: nothing here is about time, and a busy machine pauses."""


class Clock:
    """Stands for `datetime` in the functions: it is as late as the test says."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self, zone: tzinfo) -> datetime:
        return self.time.astimezone(zone)

    def passes(self, **span: float) -> None:
        self.time += timedelta(**span)

    @property
    def stamp(self) -> str:
        return self.time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.time.microsecond // 1000:03}Z"


# --- What Pocketsflow says --------------------------------------------------------------------------------------------

Whose = Literal["ours", "unknown", "foreign", "nobody's"]
OWN_NAMES = {
    "sale": "order.completed",
    "refund": "order.refunded",
    "sale and refund": "order.completed",
    "subscription": "customer.subscription.created",
}
NAMES = [*OWN_NAMES.values(), "customer.subscription.updated", "review.created", ""]


@dataclass(frozen=True)
class Said:
    """One body that Pocketsflow may sign. `wording` and `large` change its bytes and none of its ids."""

    shape: Literal["sale", "refund", "sale and refund", "subscription"] = "sale"
    whose: Whose = "ours"
    payment: str = "sale1"
    event: str | None = None
    product: str = PRODUCT
    variant: str | None = None
    amount: float = 60
    before_tax: float = 60
    currency: str = "usd"
    refund: str = "ref1"
    status: str = "succeeded"
    live: bool = True
    wording: int = 0
    large: bool = False

    def about(self, order_id: str) -> bytes:
        ids = {"ours": order_id, "unknown": unknown(order_id), "foreign": "ORDER-1043", "nobody's": None}
        claimed = ids[self.whose]
        match self.shape:
            case "sale" | "sale and refund":
                content = paid(claimed, self.payment, self.product, variant=self.variant, currency=self.currency)
                content |= {"amount": self.amount, "amountBeforeTax": self.before_tax}
            case "refund":
                content = refunded(claimed, self.payment, self.refund, self.amount, self.status)
            case "subscription":
                content = subscribed(claimed, self.payment, self.product, active=self.live)
        if self.shape == "sale and refund":
            content["refund"] = refunded(claimed, self.payment, self.refund, self.amount, self.status)["refund"]
        content |= {"event": self.event, "webhookId": f"wh_{self.wording}"}
        if self.event is None:
            del content["event"]
        if self.large:
            content["padding"] = "x" * ledger.MAX_INLINE_BODY
        return json.dumps(content).encode()

    def fact(self, name: str) -> str | None:
        """The fact that this body is when it is delivered under a name; None for what changes no order."""
        if self.event not in (None, name):
            return None
        match (self.shape, name):
            case ("sale", "order.completed"):
                return f"pay#{safe(self.payment)}"
            case ("sale", "order.refunded"):
                return f"claim#{safe(self.payment)}"
            case ("refund" | "sale and refund", "order.refunded"):
                return f"ref#{safe(self.payment)}#{safe(self.refund)}#{self.status.lower()}"
            case ("subscription", "customer.subscription.created") if self.live and self.whose in ("ours", "unknown"):
                return f"sub#{safe(self.payment)}"
        return None


def safe(text: str) -> str:
    unfit = not re.fullmatch("[A-Za-z0-9_-]{1,64}", text)
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}" if unfit else text


def is_payment(fact: str) -> bool:
    return fact.startswith(("pay#", "sub#"))


def own_name(words: Said) -> str:
    return words.event or OWN_NAMES[words.shape]


def own_fact(words: Said) -> str | None:
    return words.fact(own_name(words))


# --- The model --------------------------------------------------------------------------------------------------------


@dataclass
class Fact:
    said: Said
    body: bytes
    at: str


@dataclass
class Page:
    """What is known of an order, or of a payment that belongs to none: facts by name, in the order of writing, each
    in the words that came first."""

    item: Item | None = None
    opened_at: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)

    def fits(self, fact: str) -> bool:
        said, item = self.facts[fact].said, self.item
        assert item is not None
        sale = fact.startswith("pay#")
        if said.product != item.product_id or item.variant_id not in (None, said.variant if sale else None):
            return False
        if not item.hold_on_difference or not sale:
            return True
        assert item.price is not None
        return said.currency == item.currency and money(said.before_tax) in (item.price, 100 * item.price)

    def outcome(self, fact: str) -> str:
        """Of a fact just written."""
        if self.item is None and (is_payment(fact) or self.facts[fact].said.whose == "unknown"):
            return "unmatched"
        if not is_payment(fact):
            return "recorded"
        if not self.fits(fact):
            return "mismatched"
        return "settled" if self.winner == fact else "second_payment"

    @property
    def winner(self) -> str | None:
        return next((fact for fact in self.facts if is_payment(fact) and self.fits(fact)), None)

    @property
    def status(self) -> str:
        if self.winner is None:
            return "mismatched" if any(map(is_payment, self.facts)) else "pending"
        refunds: dict[str, Decimal] = {}
        for name, fact in self.facts.items():
            said = fact.said
            if not name.startswith("ref#") or safe(said.payment) != self.winner.partition("#")[2]:
                continue
            failed = f"{name.rpartition('#')[0]}#failed" in self.facts
            if said.status.lower() in ("succeeded", "completed") and not failed:
                refunds[said.refund] = max(money(said.amount), refunds.get(said.refund, Decimal(0)))
        if not refunds:
            return "paid"
        price_is_known = self.winner.startswith("pay#")
        whole = price_is_known and sum(refunds.values()) >= money(self.facts[self.winner].said.amount)
        return "refunded" if whole else "partially_refunded"

    @property
    def updated_at(self) -> str:
        return max([self.opened_at, *(fact.at for fact in self.facts.values())])


def money(amount: float) -> Decimal:
    return Decimal(str(amount))


class Book:
    """Everything that the ledger must know."""

    def __init__(self) -> None:
        self.orders: dict[str, Page] = {}
        self.sales: dict[str, Page] = {}
        self.signed: set[bytes] = set()
        self.arrivals: Counter[bytes] = Counter()
        """Of bodies that are no fact."""

    def open(self, order_id: str, item: Item, at: str) -> None:
        assert order_id not in self.orders
        self.orders[order_id] = Page(item, at)

    def receive(self, said: Said, name: str, order_id: str, at: str) -> str:
        """What must be answered to a body that comes under a name, which changes what is known."""
        body, fact = said.about(order_id), said.fact(name)
        self.signed.add(body)
        if fact is None:
            self.arrivals[body] += 1
            return "recorded"
        is_ours = said.whose == "ours" and order_id in self.orders
        page = self.orders[order_id] if is_ours else self.sales.setdefault(safe(said.payment), Page())
        if fact in page.facts:
            return "redelivered"
        if len(page.facts) >= ledger.MAX_FACTS + (ledger.MAX_MORE_PAYMENTS if is_payment(fact) else 0):
            return "recorded"
        page.facts[fact] = Fact(said, body, at)
        return page.outcome(fact)

    def keep(self, body: bytes) -> None:
        """A signed body that is no fact, or could not be written as one."""
        self.signed.add(body)
        self.arrivals[body] += 1


# --- What is really there ---------------------------------------------------------------------------------------------


def moto_table(cloud: Aws) -> Any:
    """moto's own: half a millisecond an item is what its scan takes."""
    return dynamodb_backends[PSEUDO_PARAMETERS["AWS::AccountId"]][aws.REGION].tables[cloud.table]


def empty(cloud: Aws) -> None:
    moto_table(cloud).items.clear()
    moto_table(cloud).stream_shard.items.clear()  # copied with the table for each transaction


def stored(cloud: Aws) -> dict[str, dict[str, Any]]:
    items = [plain({"M": item.to_json()["Attributes"]}) for item in moto_table(cloud).items.values()]
    return {item["pk"]: item for item in items}


def plain(value: dict[str, Any]) -> Any:
    [(kind, content)] = value.items()
    match kind:
        case "M":
            return {name: plain(inner) for name, inner in content.items()}
        case "L":
            return [plain(inner) for inner in content]
        case "N":
            return int(content)
        case "B":
            return bytes(content)
    return content


def facts_in(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: value for name, value in item.items() if "#" in name}


def assert_ledger_holds(book: Book, items: dict[str, dict[str, Any]]) -> None:
    """The same orders, the same facts in the same words, and every signed body, but none that was not signed."""
    raw = {pk: item for pk, item in items.items() if pk.startswith("raw#")}
    pages = {f"order#{order_id}": page for order_id, page in book.orders.items()}
    pages |= {f"sale#{payment}": page for payment, page in book.sales.items() if page.facts}
    assert {pk for pk in items if not pk.startswith(("raw#", "idem#"))} == pages.keys()
    inline = set()
    for pk, page in pages.items():
        item = items[pk]
        facts = facts_in(item)
        assert facts.keys() == page.facts.keys()
        assert item["rev"] == len(facts)
        assert ("open_day" in item) is (page.item is not None and not any(map(is_payment, page.facts)))
        for name, fact in facts.items():
            body = fact["raw"] if "raw" in fact else raw[fact["raw_item"]]["body"]
            inline.add(body)
            assert body == page.facts[name].body
            assert fact["at"] == page.facts[name].at
    for pk, item in raw.items():
        assert pk == f"raw#{hashlib.sha256(item['body']).hexdigest()}"
        assert len(item["arrivals"]) >= book.arrivals[item["body"]]
    assert {item["body"] for item in raw.values()} | inline == book.signed
    assert {item["body"] for item in raw.values()} >= book.arrivals.keys()


@contextmanager
def first_answer_is_lost(lost: bool = True) -> Iterator[None]:
    """DynamoDB writes, but botocore does not hear of it and sends the same again."""

    def send_again(attempts: int, **_: Any) -> float | None:
        return 0 if lost and attempts == 1 else None

    hooks = ledger._client.meta.events
    hooks.register_first("needs-retry.dynamodb.UpdateItem", send_again)
    try:
        yield
    finally:
        hooks.unregister("needs-retry.dynamodb.UpdateItem", send_again)


def deliver(body: bytes, name: str) -> str:
    """The outcome of a signed delivery."""
    status, answer = answered(webhook.handler(delivery(body, name), Context(SECONDS)))
    assert (status, answer["received"]) == (200, True)
    return str(answer["outcome"])


def found_by_the_api(body: bytes, name: str, now: datetime) -> str:
    """The same from a list of orders: the ledger is told without a webhook."""
    fact = events.parse(body, name)
    assert not isinstance(fact, events.Unknown)
    return ledger.record(fact, body, now, source="api")


def opened(item: Item, now: datetime) -> str:
    order = ledger.Order(orders.new_id(now), item, None, {})
    assert ledger.open_order(order, None, "fingerprint", now) == ledger.Opened(order.id)
    return order.id
