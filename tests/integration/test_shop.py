"""A shop in operation against a model of it: checkouts, payments, deliveries and faults, in any sequence."""

import json
import uuid
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import checkout
import webhook
from payments import opening, pocketsflow
from payments.catalogue import Item
from sandbox.worker import Context
from tests.conftest import Aws, Provider
from tests.integration.ledger_model import (
    EXAMPLES,
    LEDGER,
    NAMES,
    QUEUE,
    SECONDS,
    STATES,
    Book,
    Clock,
    Page,
    Said,
    Whose,
    assert_ledger_holds,
    deliver,
    down,
    empty,
    found_by_the_api,
    is_payment,
    own_name,
    stored,
)
from tests.payloads import (
    NOW,
    OTHER_PRODUCT,
    PRODUCT,
    answered,
    delivery,
    http_event,
    sign,
)

# Many short lives rather than a few long ones: each has a mixture of rules of its own.
CHECKOUTS = settings(EXAMPLES, max_examples=40, stateful_step_count=8)
SHOP = settings(EXAMPLES, max_examples=35, stateful_step_count=14)
KEYS = [str(uuid.UUID(int=0xABCDEF << 100 | number)) for number in range(2)]
PAUSES = [0, 9, 11, 90_000]
FATES = ["made", "died", "failed"]
CATALOGUE = {
    "course": Item(PRODUCT, "course"),
    "print": Item(PRODUCT, "print", "a2", Decimal("60.00"), "usd", hold_on_difference=True),
}
LOCK, KEY_LIFETIME = timedelta(seconds=10), timedelta(days=1)
OVERDUE, ASK_EVERY = timedelta(seconds=30), timedelta(seconds=30)
CREATE_SESSION = pocketsflow.create_session
ORDERS, SENT = Bundle("orders"), Bundle("sent")


class Died(BaseException):
    """Lambda ended the function's process."""


@dataclass
class Intent:
    """A purchase that a page asked for, perhaps several times."""

    content: dict[str, Any]
    order_id: str
    asked_at: datetime
    attempted_at: datetime
    session: str | None = None
    failed: bool = False


class Checkouts(RuleBasedStateMachine):
    """Pages ask for checkouts, with and without a key, once and again; Pocketsflow fails and functions die."""

    def __init__(self, cloud: Aws, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        empty(cloud)
        clock.time = NOW
        provider.received.clear()
        checkout._asked_at = datetime.min.replace(tzinfo=UTC)
        self.cloud, self.provider, self.clock, self.monkeypatch = cloud, provider, clock, monkeypatch
        self.book = Book()
        self.intents: dict[str, Intent] = {}
        self.sessions: dict[str, str | None] = {}
        """By order, as the model knows them."""
        self.asked: list[str] = []
        """Orders that a session was asked for, each time that it was."""
        self.made: list[str] = []
        self.fate = "made"
        self.read: dict[str, Any] = {}
        self.asked_to_reconcile: datetime | None = None
        monkeypatch.setattr(pocketsflow, "create_session", self._create_session)

    @initialize(
        target=ORDERS,
        sku=st.sampled_from(sorted(CATALOGUE)),
        key=st.sampled_from([*KEYS, None]),
        fate=st.sampled_from(FATES),
    )
    def first_checkout(self, sku: str, key: str | None, fate: str) -> Any:
        return self._ask({"sku": sku}, key, fate)

    @rule(
        target=ORDERS,
        sku=st.sampled_from([*sorted(CATALOGUE), "nothing"]),
        key=st.sampled_from([None, *KEYS]),
        fate=st.sampled_from(FATES),
        seconds=st.sampled_from(PAUSES),
    )
    def checkout(self, sku: str, key: str | None, fate: str, seconds: int) -> Any:
        """With a key that is known this is a repetition, or another body under it."""
        self.clock.passes(seconds=seconds)
        return self._ask({"sku": sku}, key, fate)

    @precondition(lambda self: self.intents)
    @rule(
        target=ORDERS,
        data=st.data(),
        fate=st.sampled_from(FATES),
        seconds=st.sampled_from(PAUSES),
    )
    def ask_again(self, data: st.DataObject, fate: str, seconds: int) -> Any:
        """The same request in another spelling."""
        key = data.draw(st.sampled_from(sorted(self.intents)), "key")
        self.clock.passes(seconds=seconds)
        return self._ask(self.intents[key].content, key, fate, respelled=True)

    @precondition(lambda self: self.intents)
    @rule(data=st.data())
    def ask_something_else_with_a_key(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.intents)), "key")
        assume(not self._is_expired(self.intents[key]))
        self._ask({**self.intents[key].content, "discountCode": "OTHER"}, key, "made")

    def _ask(self, content: dict[str, Any], key: str | None, fate: str, respelled: bool = False) -> Any:
        """Asks, and compares the answer with what it must be. The new order, if there is one, for the bundle."""
        self.clock.passes(milliseconds=1)
        now, before = self.clock.time, len(self.asked)
        self.fate = fate
        body = json.dumps({"metadata": None, **content}, indent=2) if respelled else json.dumps(content)
        known = self.intents.get(key) if key else None
        if known and self._is_expired(known):
            known = None
        died = False
        answer: dict[str, Any] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of powertools, about a function that dies without a metric
                answer = self._checkout(body.encode(), key.upper() if key and respelled else key)
        except Died:
            died = True

        if content["sku"] not in CATALOGUE:
            assert (answer["statusCode"], answered(answer)[1]["code"]) == (400, "invalid_request")
            assert len(self.asked) == before
            return multiple()
        if known and known.content != content:
            assert (answer["statusCode"], answered(answer)[1]["code"]) == (409, "idempotency_key_reused")
            assert len(self.asked) == before
            return multiple()
        if known and known.session:
            assert (answer["statusCode"], len(self.asked)) == (201, before)
            created = answered(answer)[1]
            assert (created["orderId"], created["sessionId"]) == (known.order_id, known.session)
            return multiple()
        if known and not known.failed and now - known.attempted_at < LOCK:
            assert (answer["statusCode"], answered(answer)[1]["code"]) == (409, "in_progress")
            assert 1 <= int(answer["headers"]["retry-after"]) <= LOCK.seconds
            assert len(self.asked) == before
            return multiple()

        assert len(self.asked) == before + 1
        order_id = self.asked[-1]
        intent = known or Intent(content, order_id, now, now)
        assert order_id == intent.order_id
        intent.attempted_at, intent.failed, intent.session = now, fate == "failed", None
        if key:
            self.intents[key] = intent
        if not known:
            self.book.open(order_id, CATALOGUE[content["sku"]], self.clock.stamp)
        assert died is (fate == "died")
        if fate == "made":
            status, created = answered(answer)
            intent.session = self.provider.body["id"]
            url = self.provider.body["url"]
            assert (status, created["orderId"], created["sessionId"]) == (201, order_id, intent.session)
            assert (created["url"], created["statusUrl"]) == (url, f"https://api.shop.example/orders/{order_id}")
        elif fate == "failed":
            assert (answer["statusCode"], answered(answer)[1]["code"]) == (502, "pocketsflow_failed")
        self.sessions[order_id] = intent.session
        return multiple() if known else order_id

    def _is_expired(self, intent: Intent) -> bool:
        return self.clock.time - intent.asked_at > KEY_LIFETIME

    def _checkout(self, body: bytes, key: str | None) -> dict[str, Any]:
        headers = {"content_type": "application/json", **({"idempotency_key": key} if key else {})}
        answer: dict[str, Any] = checkout.handler(http_event("POST /checkout", body, **headers), Context(SECONDS))
        return answer

    def _create_session(self, api_key: str, wanted: dict[str, Any], seconds: float) -> pocketsflow.Session:
        """The real call, unless the function is to die before it is made."""
        self.asked.append(wanted["metadata"]["external_order_id"])
        if self.fate == "died":
            raise Died
        number = len(self.asked)
        self.provider.status = 201 if self.fate == "made" else 500
        self.provider.body = {"id": f"cs_{number}", "url": f"https://shop.pocketsflow.com/checkout?s={number}"}
        session = CREATE_SESSION(api_key, wanted, seconds)
        self.made.append(self.asked[-1])
        return session

    @invariant()
    def every_order_has_the_status_that_its_facts_add_up_to(self) -> None:
        items = stored(self.cloud)
        for order_id, page in self.book.orders.items():
            expected = items[f"order#{order_id}"], page.status, page.updated_at
            if self.read.get(order_id) == expected:
                continue  # nothing is new, and asking costs most of a step
            self.read[order_id] = expected
            status, content = answered(checkout.handler(http_event(f"GET /orders/{order_id}"), Context(SECONDS)))
            assert status == 200
            assert content == {"orderId": order_id, "status": page.status, "updatedAt": page.updated_at}
            self._may_have_asked(page)

    def _may_have_asked(self, page: Page) -> None:
        """A look at an order that is pending for long is a question too, once in a while."""
        now = self.clock.time
        is_overdue = page.status == "pending" and now - datetime.fromisoformat(page.opened_at) > OVERDUE
        if is_overdue and (self.asked_to_reconcile is None or now - self.asked_to_reconcile >= ASK_EVERY):
            self.asked_to_reconcile, self.book.asked_at = now, self.clock.stamp

    @invariant()
    def the_ledger_holds_what_was_signed(self) -> None:
        items = stored(self.cloud)
        assert_ledger_holds(self.book, items)
        assert {order_id: items[f"order#{order_id}"].get("session_id") for order_id in self.sessions} == self.sessions
        assert sum(pk.startswith("idem#") for pk in items) == len(self.intents)

    @invariant()
    def one_session_for_each_purchase(self) -> None:
        """Those that Pocketsflow made are those that the orders have, and none was made twice."""
        assert sorted(self.made) == sorted(order_id for order_id, session in self.sessions.items() if session)
        received = [wanted["metadata"]["external_order_id"] for wanted in self.provider.received]
        assert Counter(received) <= Counter(self.asked)
        assert Counter(received) >= Counter(self.made)

    def teardown(self) -> None:
        """The index of pending orders holds those that nobody has paid."""
        pending = {order_id for order_id, page in self.book.orders.items() if not any(map(is_payment, page.facts))}
        days = {page.opened_at[:10] for page in self.book.orders.values()}
        found = set()
        for day in days:
            index = self.cloud.dynamodb.query(
                TableName=self.cloud.table,
                IndexName="pending",
                KeyConditionExpression="open_day = :day",
                ExpressionAttributeValues={":day": {"S": day}},
            )
            found |= {item["pk"]["S"].removeprefix("order#") for item in index["Items"]}
        assert found == pending


class Shop(Checkouts):
    """A shop in operation: what is asked for is paid, reported, reported again and refunded, or is not."""

    def __init__(self, *with_what: Any) -> None:
        super().__init__(*with_what)
        self.cloud.clear()
        self.parked: list[tuple[str, Said, str]] = []
        """What was delivered and waits in the queue."""

    @rule(target=SENT, order_id=ORDERS, event=st.sampled_from(["order.completed", None]), large=st.booleans())
    def pay(self, order_id: str, event: str | None, large: bool) -> Any:
        return self._say(order_id, Said("sale", "ours", "sale1", event, variant="a2", amount=64.99, large=large))

    @rule(target=SENT, order_id=ORDERS, payment=st.sampled_from(["sale2", "sale 3"]))
    def pay_again(self, order_id: str, payment: str) -> Any:
        return self._say(order_id, Said("sale", "ours", payment, "order.completed", variant="a2", amount=64.99))

    @rule(target=SENT, order_id=ORDERS, wrong=st.sampled_from(["product", "variant", "price", "shape"]))
    def pay_wrongly(self, order_id: str, wrong: str) -> Any:
        """Variant and price are wrong only where they were ordered, the shape of a refund everywhere."""
        words = Said("sale", "ours", "sale0", "order.completed", variant="a2")
        changes: dict[str, dict[str, Any]] = {
            "product": {"product": OTHER_PRODUCT},
            "variant": {"variant": "a3"},
            "price": {"currency": "eur"},
            "shape": {"shape": "sale and refund", "event": None},
        }
        return self._say(order_id, replace(words, **changes[wrong]))

    @rule(
        target=SENT,
        order_id=ORDERS,
        payment=st.sampled_from(["sale1", "sale2", "sale 3"]),
        refund=st.sampled_from(["ref1", "ref2"]),
        amount=st.sampled_from([10, 54.99, 64.99]),
        status=st.sampled_from(["succeeded", "succeeded", "completed", "pending", "failed"]),
        whose=st.sampled_from(["ours", "ours", "ours", "nobody's", "foreign"]),
    )
    def refund(self, order_id: str, payment: str, refund: str, amount: float, status: str, whose: Whose) -> Any:
        """In part or in full, before its payment or after it, with our order id or without."""
        event = "order.refunded"
        return self._say(order_id, Said("refund", whose, payment, event, amount=amount, refund=refund, status=status))

    @rule(delivered=SENT, refund=st.sampled_from(["ref1", "ref2"]), amount=st.sampled_from([10, 64.99]))
    def refund_fails_and_then_succeeds(self, delivered: tuple[str, Said, str], refund: str, amount: float) -> None:
        order_id, paid_for, _ = delivered
        for status in ("failed", "succeeded"):
            self._deliver(
                order_id, replace(paid_for, shape="refund", event=None, refund=refund, status=status, amount=amount)
            )

    @rule(
        target=SENT,
        order_id=ORDERS,
        product=st.sampled_from([PRODUCT, OTHER_PRODUCT]),
        looks=st.sampled_from(["active", "active", *STATES]),
        whose=st.sampled_from(["ours", "ours", "foreign"]),
    )
    def subscribe(self, order_id: str, product: str, looks: str, whose: Whose) -> Any:
        return self._say(order_id, Said("subscription", whose, "sub1", None, product, looks=looks))

    @rule(
        target=SENT,
        order_id=ORDERS,
        event=st.sampled_from(["customer.subscription.updated", "customer.subscription.deleted"]),
        looks=st.sampled_from([*STATES]),
    )
    def change_a_subscription(self, order_id: str, event: str, looks: str) -> Any:
        """In any direction, as nobody numbers what is sent; only from its end there is no way back."""
        return self._say(order_id, Said("subscription", "ours", "sub1", event, looks=looks))

    @rule(target=SENT, order_id=ORDERS, whose=st.sampled_from(["unknown", "foreign", "nobody's"]))
    def sell_elsewhere(self, order_id: str, whose: Whose) -> Any:
        """A sale of the same account that is of no order of ours."""
        return self._say(order_id, Said("sale", whose, "elsewhere", "order.completed"))

    @rule(delivered=SENT, times=st.integers(1, 3))
    def redeliver(self, delivered: tuple[str, Said, str], times: int) -> None:
        """The same bytes."""
        for _ in range(times):
            self._deliver(*delivered)

    @rule(
        target=SENT,
        delivered=SENT,
        wording=st.integers(1, 2),
        amount=st.sampled_from([None, 77.77]),
        by_api=st.booleans(),
    )
    def tell_in_other_words(
        self, delivered: tuple[str, Said, str], wording: int, amount: float | None, by_api: bool
    ) -> Any:
        """Another endpoint's webhookId, another amount, or the same from another source."""
        order_id, words, name = delivered
        other = replace(words, wording=wording, amount=words.amount if amount is None else amount)
        if by_api and other.fact(name):
            self.clock.passes(milliseconds=1)
            expected = self.book.receive(other, name, order_id, self.clock.stamp, "api")
            assert found_by_the_api(other.about(order_id), name, self.clock.time) == expected
        else:
            self._deliver(order_id, other, name)
        return order_id, other, name

    @rule(delivered=SENT, name=st.sampled_from(NAMES))
    def relabel(self, delivered: tuple[str, Said, str], name: str) -> None:
        """The same signed bytes under another event's name, which nobody signed."""
        order_id, words, _ = delivered
        self._deliver(order_id, words, name)

    @rule(delivered=SENT, how=st.sampled_from(["body", "signature", "secret", "absent", "base64"]))
    def tamper(self, delivered: tuple[str, Said, str], how: str) -> None:
        """What is not signed is refused."""
        order_id, words, name = delivered
        body = words.about(order_id)
        changed = body.replace(b'"sale', b'"free') + b" "
        event = {
            "body": lambda: delivery(changed, name, x_pocketsflow_signature=sign(body)),
            "signature": lambda: delivery(changed, name, x_pocketsflow_signature=f"sha256={sign(changed)}"),
            "secret": lambda: delivery(changed, name, x_pocketsflow_signature=sign(changed, "whsec_fedcba9876543210")),
            "absent": lambda: delivery(changed, name, x_pocketsflow_signature=""),
            "base64": lambda: {**delivery(changed, name), "body": "%"},
        }[how]()
        status, problem = answered(webhook.handler(event, Context(SECONDS)))
        assert (status, problem["code"]) == (401, "invalid_signature")

    @rule(
        body=st.binary(max_size=20) | st.just(b'{"event": "review.created", "stars": 5}'), name=st.sampled_from(NAMES)
    )
    def say_something_else(self, body: bytes, name: str) -> None:
        """Signed, and no fact of any order."""
        self.book.keep(body)
        assert deliver(body, name) == "recorded"

    @rule(delivered=SENT, times=st.sampled_from([1, 2, None]), queue_too=st.booleans())
    def the_ledger_fails(self, delivered: tuple[str, Said, str], times: int | None, queue_too: bool) -> None:
        """Once: nobody notices. Twice or always: the body waits in the queue, and is no fact before it comes from
        there. The queue too: no 2xx."""
        order_id, words, name = delivered
        words = replace(words, wording=9)
        if times == 1:
            with down(LEDGER, times=1):
                self._deliver(order_id, words, name)
            return
        with down(LEDGER, *([QUEUE] if queue_too else []), times=None if queue_too else times):
            event = delivery(words.about(order_id), name)
            status, answer = answered(webhook.handler(event, Context(SECONDS)))
        if queue_too:
            assert (status, answer["code"]) == (500, "ledger_unavailable")
        else:
            assert (status, answer["outcome"]) == (200, "parked")
            self.parked.append((order_id, words, name))

    @precondition(lambda self: self.parked)
    @rule(still_down=st.booleans())
    def the_queue_is_emptied(self, still_down: bool) -> None:
        """What is parked becomes what it would have been; while the ledger is down it stays where it is."""
        self.clock.passes(minutes=5)
        if still_down:
            with down(LEDGER):
                assert len(self.cloud.unpark(webhook.handler, Context(SECONDS))) == len(self.parked)
            return
        for order_id, words, name in self.parked:
            self.book.receive(words, name, order_id, self.clock.stamp)
        self.parked.clear()
        assert self.cloud.unpark(webhook.handler, Context(SECONDS)) == []

    @invariant()
    def the_queue_holds_what_waits(self) -> None:
        assert self.cloud.parked() == [words.about(order_id) for order_id, words, _ in self.parked]

    def _say(self, order_id: str, words: Said) -> tuple[str, Said, str]:
        """For the bundle: what was delivered, about which order, under which name."""
        # That a payment belongs to one order only is Pocketsflow's promise here (README, Limits).
        words = replace(words, payment=f"{[*self.book.orders].index(order_id)}-{words.payment}")
        self._deliver(order_id, words)
        return order_id, words, own_name(words)

    def _deliver(self, order_id: str, words: Said, name: str | None = None) -> None:
        self.clock.passes(milliseconds=1)
        name = own_name(words) if name is None else name
        expected = self.book.receive(words, name, order_id, self.clock.stamp)
        assert deliver(words.about(order_id), name) == expected


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue=CATALOGUE))


@pytest.mark.usefixtures("catalogue")
def test_one_session_for_each_purchase(
    cloud: Aws, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a page asks, and whatever fails in between, a key and a body are one order and one session: the
    same answer for a day, a conflict for another body, a retry where there is no session yet."""
    run_state_machine_as_test(lambda: Checkouts(cloud, provider, clock, monkeypatch), settings=CHECKOUTS)


@pytest.mark.usefixtures("catalogue")
def test_a_shop_in_operation(cloud: Aws, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every step of any sequence of checkouts, payments, deliveries and faults, every order has the status that
    the model gives it, one session for each purchase, and the ledger holds all that was signed and nothing else."""
    run_state_machine_as_test(lambda: Shop(cloud, provider, clock, monkeypatch), settings=SHOP)
