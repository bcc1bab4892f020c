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
from types import SimpleNamespace
from typing import Any, Literal

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from hypothesis import settings
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from moto.dynamodb.models import dynamodb_backends

import webhook
from payments import events, ledger, orders, table
from payments.catalogue import Item
from sandbox import aws
from sandbox.template import PSEUDO_PARAMETERS
from sandbox.worker import Context
from tests import conftest
from tests.conftest import Aws
from tests.environments import operation
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
LEDGER, QUEUE = "dynamodb UpdateItem", "sqs SendMessage"
SECONDS = 60
"""For one invocation: nothing here is about time, and a busy machine pauses."""


class Clock:
    """Stands for `datetime` in the functions: it is as late as the test says."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self, zone: tzinfo) -> datetime:
        return self.time.astimezone(zone)

    def fromtimestamp(self, seconds: float, zone: tzinfo) -> datetime:
        return datetime.fromtimestamp(seconds, zone)

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
STATES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "active": ("active", {}),
    "in trial": ("trialing", {"status": "trial"}),
    "paused": ("paused", {"paused": True}),
    "late": ("past_due", {"status": "unpaid"}),
    "ended": ("ended", {"status": "canceled", "active": False}),
    "contradicting itself": (None, {"active": False}),
    "unheard of": (None, {"status": "incomplete"}),
}
"""What a signed subscriptionCustomer may look like, and the state that it tells."""
LIVE = ("active", "trialing")


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
    looks: str = "active"
    """Of a subscription: one of STATES."""
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
                content = subscribed(claimed, self.payment, self.product, **STATES[self.looks][1])
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
                return f"claim#{safe(self.payment)}#refund"
            case ("refund" | "sale and refund", "order.refunded"):
                return f"ref#{safe(self.payment)}#{safe(self.refund)}#{self.status.lower()}"
            case ("subscription", "customer.subscription.created") if self.begins:
                return f"sub#{safe(self.payment)}"
        return None

    @property
    def begins(self) -> bool:
        """A subscription that was paid for an order of ours, or for one that looks like it."""
        return STATES[self.looks][0] in LIVE and self.whose in ("ours", "unknown")

    def state(self, name: str) -> str | None:
        """What a subscription is said to be, when this body is delivered under a name and is no payment."""
        is_told = self.shape == "subscription" and name.startswith("customer.subscription.")
        if not is_told or self.event not in (None, name) or self.fact(name):
            return None
        return STATES[self.looks][0]


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
    waits_since: str | None = None
    """When a webhook last told something of this payment that belongs to no order."""

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


@dataclass
class Subscription:
    """What is known of one: the latest that was said, but for its end, after which nothing is heard."""

    state: str
    said: Said
    at: str
    times: int


class Book:
    """Everything that the ledger must know."""

    def __init__(self) -> None:
        self.orders: dict[str, Page] = {}
        self.sales: dict[str, Page] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.signed: set[bytes] = set()
        self.arrivals: Counter[bytes] = Counter()
        """Of bodies that are no fact."""
        self.asked_at: str | None = None
        """When somebody last asked for a reconciliation."""

    def open(self, order_id: str, item: Item, at: str) -> None:
        assert order_id not in self.orders
        self.orders[order_id] = Page(item, at)

    def receive(self, said: Said, name: str, order_id: str, at: str, source: str = "webhook") -> str:
        """What must be answered to a body that comes under a name, which changes what is known."""
        body, fact = said.about(order_id), said.fact(name)
        self.signed.add(body)
        if fact is None:
            self.arrivals[body] += 1
            self._follow(said, name, at)
            return "recorded"
        is_ours = said.whose == "ours" and order_id in self.orders
        page = self.orders[order_id] if is_ours else self.sales.setdefault(safe(said.payment), Page())
        if fact in page.facts:
            return "redelivered"
        if len(page.facts) >= ledger.MAX_FACTS + (ledger.MAX_MORE_PAYMENTS if is_payment(fact) else 0):
            return "recorded"
        page.facts[fact] = Fact(said, body, at)
        if not is_ours and source == "webhook":
            page.waits_since = at
        return page.outcome(fact)

    def _follow(self, said: Said, name: str, at: str) -> None:
        if (state := said.state(name)) is None:
            return
        identity = safe(said.payment)
        before = self.subscriptions.get(identity)
        if before is None or before.state != "ended":
            self.subscriptions[identity] = Subscription(state, said, at, before.times + 1 if before else 1)

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
    """The same orders, the same facts in the same words, the same subscriptions, and every signed body, but none that
    was not signed."""
    raw = {pk: item for pk, item in items.items() if pk.startswith("raw#")}
    pages = {f"order#{order_id}": page for order_id, page in book.orders.items()}
    pages |= {f"sale#{payment}": page for payment, page in book.sales.items() if page.facts}
    followed = {f"subscription#{identity}": known for identity, known in book.subscriptions.items()}
    others = {"reconcile#asked"} if book.asked_at else set()
    named = {pk: item for pk, item in items.items() if pk.startswith("reference#")}
    assert all(item == {"pk": pk, "waiting": item["waiting"]} for pk, item in named.items())  # of no order of ours
    assert {pk for pk in items if not pk.startswith(("raw#", "idem#"))} == {*pages, *followed, *others, *named}
    for pk in others:
        assert items[pk] == {"pk": pk, "asked_at": book.asked_at}
    for pk, known in followed.items():
        _assert_followed(items[pk], known)
    inline = set()
    for pk, page in pages.items():
        item = items[pk]
        facts = facts_in(item)
        assert facts.keys() == page.facts.keys()
        assert item["rev"] == len(facts)
        waits = {"awaits": "api", "since": page.waits_since} if page.waits_since else {}
        assert {name: item[name] for name in ("awaits", "since") if name in item} == waits
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


def _assert_followed(item: dict[str, Any], known: Subscription) -> None:
    told = {
        "state": known.state,
        "product_id": known.said.product,
        "cancel_at_period_end": False,
        "customer_email": "buyer@example.com",
        "mode": "test",
        "source": "webhook",
        "at": known.at,
        **({"ended_at": known.at} if known.state == "ended" else {}),
    }
    assert {name: value for name, value in item.items() if name not in ("pk", "rev")} == told
    assert item["rev"] >= known.times  # a write that was sent twice counts twice


@contextmanager
def first_answer_is_lost(lost: bool = True) -> Iterator[None]:
    """DynamoDB writes, but botocore does not hear of it and sends the same again."""

    def send_again(attempts: int, **_: Any) -> float | None:
        return 0 if lost and attempts == 1 else None

    hooks = table.client.meta.events
    hooks.register_first("needs-retry.dynamodb.UpdateItem", send_again)
    try:
        yield
    finally:
        hooks.unregister("needs-retry.dynamodb.UpdateItem", send_again)


@contextmanager
def down(*operations: str, times: int | None = None) -> Iterator[None]:
    """AWS answers these with an error of its own, at first or always; each as in "dynamodb UpdateItem". Nobody waits
    between two tries."""
    moto, failed = type(botocore_stubber), 0
    answer = moto.__call__

    def fail(self: Any, event_name: str, request: Any, **more: Any) -> Any:
        nonlocal failed
        if operation(request) in operations and (times is None or failed < times):
            failed += 1
            return AWSResponse(request.url, 500, {}, MockRawResponse(b"{}"))
        return answer(self, event_name, request, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto, "__call__", fail)
        patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
        yield


def deliver(body: bytes, name: str) -> str:
    """The outcome of a signed delivery."""
    status, answer = answered(webhook.handler(delivery(body, name), Context(SECONDS)))
    assert (status, answer["received"]) == (200, True)
    return str(answer["outcome"])


def found_by_the_api(body: bytes, name: str, now: datetime) -> str:
    """The same from a list of orders: the ledger is told without a webhook."""
    fact = events.parse(body, name)
    assert isinstance(fact, events.Payment | events.Refund | events.Claim)
    return ledger.record(fact, body, now, source="api")


def opened(item: Item, now: datetime) -> str:
    order = ledger.Order(orders.new_id(now), item, None, {})
    assert ledger.open_order(order, None, "fingerprint", now) == ledger.Opened(order.id, order.item.product_id)
    return order.id
