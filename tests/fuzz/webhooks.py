"""The webhook under fire: deliveries that hypothesis makes up, and what must hold of every one of them.

The rules are reckoned anew here, from the bytes and the headers, by nothing of functions/: who signed it, which order
and which product the signed body names.
"""

import base64
import hashlib
import hmac
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import webhook
from payments import ledger, orders, table, telemetry
from payments.catalogue import Item
from sandbox.template import ROOT
from sandbox.worker import Context
from tests.conftest import Aws, deployed_stack, holds
from tests.payloads import NOW, OTHER_PRODUCT, PRODUCT, SECRET, http_event, paid, refunded, subscribed
from tests.strategies import ANY_TEXT, OUT_OF_RANGE, encoded, json_values, mutated, near, numbers, places

Items = dict[str, dict[str, Any]]
FINDINGS = Path(__file__).parent / "findings"
"""Deliveries that broke a rule, at first of webhooks with a defect put in (test_fuzz.py has the same ones): each is
delivered again by `make test`."""
ORDER, OTHER, REGISTERED = (f"ord_test_01hzy7v3k4m5n6p7q8r9s0t1v{number}" for number in (2, 3, 4))
REFERENCE = "SHOP-1043"
PRODUCTS = {ORDER: PRODUCT, OTHER: OTHER_PRODUCT, REGISTERED: PRODUCT}
MAX_BODY = 256 * 1024
OUTCOMES = {"settled", "redelivered", "second_payment", "mismatched", "unmatched", "recorded"}
PAID = {"paid", "partially_refunded", "refunded", "disputed"}

# --- What is delivered ------------------------------------------------------------------------------------------------

EVENTS = [
    "order.completed", "order.refunded", "customer.subscription.created", "customer.subscription.updated",
    "customer.subscription.deleted", "invoice.payment_succeeded", "review.created",
]  # fmt: skip
EXAMPLES = [json.loads(path.read_text()) for path in sorted((ROOT / "tests/fixtures").glob("*.json"))]
BODIES = [
    *(paid(order, product=PRODUCTS[order]) for order in PRODUCTS), paid(REFERENCE), paid(None), paid(ORDER, "sale2"),
    paid(OTHER, product=PRODUCT), {name: value for name, value in paid(ORDER).items() if name != "event"},
    refunded(ORDER), refunded(None), subscribed(ORDER), subscribed(None),
    subscribed(ORDER, status="canceled", active=False), {"event": "order.completed"}, *EXAMPLES,
    *(paid(ORDER, event=name) for name in ("order.refunded", "review.created")),
]  # fmt: skip
FIELDS = sorted({str(key) for body in BODIES for _, key in places(body)} | {"type", "pocketsflow_store"})
IDS = st.sampled_from([*PRODUCTS, *PRODUCTS.values(), REFERENCE, "sale1", "x" * 65, "a#b", f"{ORDER}\n", *EVENTS])
VALUES = json_values(IDS | ANY_TEXT | st.sampled_from(FIELDS), numbers(*OUT_OF_RANGE, "9" * 5_000, "1e-999999999"))


@dataclass(frozen=True)
class Delivery:
    """As the gateway hands it over: `body` and `encoded` are its fields, whether they fit each other or not."""

    body: str
    encoded: bool
    headers: dict[str, str]

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Short, since hypothesis prints it; `make fuzz` writes all of it into a file."""
        name = self.headers.get("x-pocketsflow-event")
        printer.text(f"<{name!r}: {self.body[:60]!r}, {len(self.body)} characters>")

    @property
    def event(self) -> dict[str, Any]:
        made = http_event("POST /webhooks/pocketsflow")
        return {**made, "body": self.body, "isBase64Encoded": self.encoded, "headers": self.headers}

    @property
    def bytes(self) -> bytes | None:
        """None for what are none."""
        try:
            return base64.b64decode(self.body, validate=True) if self.encoded else self.body.encode()
        except ValueError:
            return None

    @property
    def is_signed(self) -> bool:
        if self.bytes is None:
            return False
        given = self.headers.get("x-pocketsflow-signature", "")
        return given.isascii() and given.lower() == hmac.new(SECRET.encode(), self.bytes, hashlib.sha256).hexdigest()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Nearly a documented one, and then perhaps other bytes."""
    content = draw(near(BODIES, FIELDS, VALUES))
    body = encoded(content).encode("utf-8", "surrogatepass")
    cut = draw(st.integers(0, len(body)))
    match draw(st.sampled_from(["whole"] * 8 + ["cut", "bytes", "twice", "deep", "large", "coding", "any"])):
        case "cut":
            return body[:cut]
        case "bytes":
            return body[:cut] + draw(st.binary(max_size=4)) + body[cut + draw(st.integers(0, 2)) :]
        case "twice" if isinstance(content, dict) and content:
            name = draw(st.sampled_from(sorted(map(str, content))))
            again = encoded({name: draw(VALUES)})
            return body[:-1] + b", " + again[1:].encode("utf-8", "surrogatepass")
        case "deep":
            depth = draw(st.sampled_from([50, 990, 1_100, 60_000]))
            return body[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"
        case "large":
            # Of a body that comes again moto counts both copies in base64, and takes 405 kB; DynamoDB counts one.
            size = draw(st.sampled_from([2_400, 2_600, 140_000, MAX_BODY + 1]))
            return body + b" " * (size - len(body))
        case "coding":
            return body.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32"])))
        case "any":
            return draw(st.binary(max_size=100))
    return body


def named(body: bytes) -> str:
    """The event that a body is for, as far as one can see."""
    shapes = {b'"refund"': "order.refunded", b'"subscriptionCustomer"': "customer.subscription.created"}
    return next((name for field, name in shapes.items() if field in body), "order.completed")


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    body = draw(bodies())
    right = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    wrong = mutated(right) | ANY_TEXT | st.just(hmac.new(b"", body, hashlib.sha256).hexdigest())
    signature = draw(st.just(right) if draw(st.integers(0, 5)) else st.just(right.upper()) | wrong)
    usual = st.just(named(body))
    headers = {
        "content-type": "application/json",
        "x-pocketsflow-signature": signature,
        "x-pocketsflow-event": draw(usual if draw(st.booleans()) else st.sampled_from(EVENTS) | ANY_TEXT),
        "x-pocketsflow-timestamp": draw(st.just("1795463363515") | ANY_TEXT),
        **draw(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=1)),
    }
    for name in draw(st.sets(st.sampled_from(sorted(headers)), max_size=1)) if not draw(st.integers(0, 9)) else ():
        del headers[name]
    as_text = body.decode("utf-8", "surrogateescape")
    handed = [(base64.b64encode(body).decode(), True)] * 6 + [(as_text, False), (as_text, True)]
    return Delivery(*draw(st.sampled_from(handed)), headers)


SEQUENCES = st.lists(deliveries(), min_size=1, max_size=3)

# --- What must hold ---------------------------------------------------------------------------------------------------


class Broken(AssertionError):
    """A rule is."""


class Stand:
    """Three orders of a stack, as good as new before each sequence."""

    def __init__(self, stack: Aws) -> None:
        self._stack = stack
        for order_id in (ORDER, OTHER):
            ledger.open_order(ledger.Order(order_id, Item(PRODUCTS[order_id]), None, {}), None, "fingerprint", NOW)
        registered = ledger.Order(REGISTERED, Item(PRODUCT), None, {}, reference=REFERENCE)
        ledger.register(registered, "fingerprint", NOW)
        self._new = self._now = stack.items()

    def hold(self, sequence: list[Delivery]) -> None:
        """Delivers, each twice, and raises Broken."""
        self._put_back()
        try:
            self._fire(sequence)
        except Broken:
            self._look()
            raise

    def _fire(self, sequence: list[Delivery]) -> None:
        settled: list[str] = []
        for delivery in sequence:
            before, outcome, after = self._now, self._deliver(delivery), self._look()
            self._judge(delivery, outcome, before, after)
            settled += _paid(after) - _paid(before)
            again = self._deliver(delivery)
            _must(again not in ("settled", "second_payment", "mismatched", "unmatched"), "counted twice", delivery)
            _must(_facts(self._look()) == _facts(after), "changed by being told again", delivery)
        _must(len(set(settled)) == len(settled), "settled twice", sequence)

    def _look(self) -> Items:
        self._now = self._stack.items()
        return self._now

    def _put_back(self) -> None:
        for pk in self._now.keys() - self._new.keys():
            self._stack.dynamodb.delete_item(TableName=self._stack.table, Key={"pk": {"S": pk}})
        for pk, item in self._new.items():
            if self._now.get(pk) != item:
                self._stack.dynamodb.put_item(TableName=self._stack.table, Item=item)
        self._now = self._new

    def _deliver(self, delivery: Delivery) -> str:
        """The outcome, or the status of a refusal."""
        lines = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(telemetry.logger.registered_handler, "stream", lines)
            try:
                answer = webhook.handler(json.loads(json.dumps(delivery.event)), Context(60))
            except Exception as error:
                raise Broken(f"raised {type(error).__name__}", delivery) from error
        for line in lines.getvalue().splitlines():
            _must(isinstance(json.loads(line), dict), "a line of the log is none", delivery)
        content = json.loads(answer["body"])
        status = answer["statusCode"]
        _must(status in (200, 401, 413), f"answered {status}", delivery)
        _must((status == 200) == (content.keys() == {"received", "outcome"}), "an answer of no form", delivery)
        return str(content.get("outcome", status))

    def _judge(self, delivery: Delivery, outcome: str, before: Items, after: Items) -> None:
        body = delivery.bytes
        small = body is not None and len(body) <= MAX_BODY
        _must((outcome in OUTCOMES) == (delivery.is_signed and small), f"{outcome}: signed or not", delivery)
        if outcome not in OUTCOMES:
            _must(before == after, "refused, and written", delivery)
            return
        assert body is not None
        _must(any(holds(item, body) for item in after.values()), "acknowledged, and not kept", delivery)
        for order_id in _paid(after) - _paid(before):
            _must(outcome == "settled", f"{outcome}, and settled", delivery)
            _must(_pays_for(delivery, after[f"order#{order_id}"]), "settled by what does not pay for it", delivery)
        _must(len(_paid(after) - _paid(before)) <= 1, "settled several", delivery)


def _pays_for(delivery: Delivery, order: dict[str, Any]) -> bool:
    """Whether the signed bytes say that this order's product was sold, for this order, under the header's name."""
    content = json.loads((delivery.bytes or b"").decode(), object_pairs_hook=_once)
    names = {order["pk"]["S"].removeprefix("order#"), order.get("reference", {}).get("S")}
    sold = [content.get(name, {}).get("id") for name in ("product", "subscription") if content.get(name)]
    event = delivery.headers["x-pocketsflow-event"]
    return (
        content["metadata"]["external_order_id"] in names
        and order["product_id"]["S"] in sold
        and event in ("order.completed", "customer.subscription.created")
        and content.get("event") in (None, event)
        and not content.get("refund")
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _must(len(dict(pairs)) == len(pairs), "settled by an ambiguous body", pairs)
    return dict(pairs)


def _paid(items: Items) -> set[str]:
    """Orders that are."""
    plain = [table.plain(item) for pk, item in items.items() if pk.startswith("order#")]
    return {
        order["pk"].removeprefix("order#")
        for order in plain
        if orders.status(ledger.item_of(order), ledger.facts_of(order), order.get("payments", [])) in PAID
    }


def _facts(items: Items) -> Items:
    """What money is reckoned by."""
    return {pk: item for pk, item in items.items() if pk.startswith(("order#", "sale#"))}


def _must(holds: bool, rule: str, about: Any) -> None:
    if not holds:
        raise Broken(rule, about)


@contextmanager
def stand() -> Iterator[Stand]:
    with deployed_stack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhook, "LEDGER_SECONDS", 30)  # nothing here is about time
        yield Stand(stack)


# --- What was found ---------------------------------------------------------------------------------------------------


def keep(sequence: list[Delivery]) -> Path:
    """Writes it down; from now on it is delivered by `make test`."""
    content = json.dumps([asdict(delivery) for delivery in sequence], indent=2) + "\n"
    path = FINDINGS / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
    FINDINGS.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def kept() -> dict[str, list[Delivery]]:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FINDINGS.glob("*.json"))}
    return {name: [Delivery(**delivery) for delivery in sequence] for name, sequence in found.items()}
