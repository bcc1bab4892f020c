"""Everything in one process and in a time of its own: the real handlers, moto, and the fake Pocketsflow.

Nothing happens by itself: a test, or the simulation, lets time pass, delivers a webhook, lets the stream flow and
starts a run. Every random choice is the caller's.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from urllib3 import HTTPResponse

import checkout
import reconcile
import relay
import server
import webhook
from payments import opening, pocketsflow, provider, secrets, table
from payments.catalogue import Item
from sandbox import aws as sandbox_aws
from sandbox import pocketsflow as fake
from tests.clock import Clock, Context
from tests.conftest import Aws
from tests.payloads import API_KEY, SECRET, answered, http_event
from tests.transport import Sent, Transport, of, response

URL = "http://pocketsflow.test"
BATCH = 50
"""Records of the stream at once, as in the template."""
PRODUCTS: dict[str, fake.Product] = {
    "course": {"productId": "65a1b2c3d4e5f6a7b8c9d0e1", "name": "Course", "price": "49.00", "currency": "usd"},
    "membership": {"productId": "65a1b2c3d4e5f6a7b8c9d0e2", "name": "Membership", "price": "9.00", "currency": "usd"},
}
ELSEWHERE: fake.Product = {
    "productId": "65a1b2c3d4e5f6a7b8c9d0e3", "name": "Sold elsewhere", "price": "5.00", "currency": "usd",
}  # fmt: skip
CATALOGUE = {
    sku: Item(product["productId"], sku, price=Decimal(product["price"]), currency="usd")
    for sku, product in PRODUCTS.items()
}


class Account(fake.Account):
    """Its deliveries are handed to the world, which decides what becomes of them."""

    hand_over: Callable[[fake.Delivery], None]

    def start(self, batches: Iterable[list[fake.Delivery]], delay: float) -> list[Any]:  # noqa: ARG002
        for batch in batches:
            for delivery in batch:
                self.hand_over(delivery)
        return []


class World:
    def __init__(self, stack: Aws, clock: Clock, account: Account) -> None:
        self.stack, self.clock, self.account = stack, clock, account
        self.undelivered: list[fake.Delivery] = []
        self.published: list[dict[str, Any]] = []
        """Each {"type", **detail}, as often as the bus took it."""
        self.requests: list[str] = []
        """To Pocketsflow's API, as "GET /orders"."""
        self.answers: dict[str, Callable[[dict[str, str]], tuple[int, Any]]] = {}
        """Of Pocketsflow, in place of its own: by request, from the query, its status and its JSON."""
        self.on_request: Callable[[], None] = lambda: None
        self.asked: list[dict[str, Any]] = []
        """Records of the stream that ask for a run."""
        account.hand_over = self.undelivered.append
        self._position = 0
        [self._stream_arn] = [
            described["Table"]["LatestStreamArn"]
            for described in [stack.dynamodb.describe_table(TableName=stack.table)]
        ]

    def note_request(self, request: str) -> None:
        self.requests.append(request)
        self.on_request()

    # --- A buyer ------------------------------------------------------------------------------------------------------

    def checkout(self, sku: str = "course", **fields: Any) -> tuple[str, str]:
        """Our order id and Pocketsflow's session."""
        body = json.dumps({"sku": sku, "customerEmail": "buyer@example.com", **fields}).encode()
        event = http_event("POST /checkout", body, content_type="application/json")
        status, answer = answered(checkout.handler(event, Context(self.clock, 9)))
        assert status == 201, answer
        return answer["orderId"], answer["sessionId"]

    def ask_as_server(self, route: str, token: str | None, **fields: Any) -> tuple[int, dict[str, Any]]:
        """What the shop's own server is answered."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        event = http_event(route, json.dumps(fields).encode(), content_type="application/json", **headers)
        return answered(server.handler(event, Context(self.clock, 9)))

    def pay(self, session: str, product_id: str | None = None, amount: str | None = None) -> str:
        """Pocketsflow's id of the order, or of the subscription; its webhook waits in `undelivered`."""
        product = self.account.products[product_id or self.account.sessions[session]["productId"]]
        identity, _ = self.account.pay(session, product, amount=None if amount is None else Decimal(amount))
        return identity

    def buy(self, sku: str = "course") -> tuple[str, str]:
        """A checkout and its payment: our order id and theirs."""
        order_id, session = self.checkout(sku)
        return order_id, self.pay(session)

    def buy_unheard(self, sku: str = "course") -> tuple[str, str]:
        """The same, and no webhook tells of it."""
        bought = self.buy(sku)
        self.lose_webhooks()
        return bought

    def sell_elsewhere(self, product_id: str, metadata: dict[str, str] | None = None) -> str:
        """A sale of the account that no checkout here asked for."""
        session = self.account.open_session(
            {"productId": product_id, "metadata": metadata or {}, "customerEmail": "buyer@example.com"}
        )
        return self.pay(session)

    def status(self, order_id: str) -> str:
        code, answer = answered(checkout.handler(http_event(f"GET /orders/{order_id}"), Context(self.clock, 9)))
        return str(answer["status"] if code == 200 else answer["code"])

    # --- What arrives -------------------------------------------------------------------------------------------------

    def lose_webhooks(self) -> None:
        self.undelivered.clear()

    def deliver(self, *deliveries: fake.Delivery) -> list[str]:
        """What was answered to each: all that wait, unless some are named."""
        waiting = list(deliveries or self.undelivered)
        if not deliveries:
            self.undelivered.clear()
        return [self._deliver(delivery) for delivery in waiting]

    def _deliver(self, delivery: fake.Delivery) -> str:
        entry = self.account.entry(delivery)
        event = http_event(
            "POST /webhooks/pocketsflow", delivery.body, content_type="application/json",
            x_pocketsflow_signature=entry["signature"], x_pocketsflow_event=delivery.event,
            x_pocketsflow_timestamp=str(entry["timestamp"]),
        )  # fmt: skip
        _, answer = answered(webhook.handler(event, Context(self.clock, 4)))
        return str(answer.get("outcome") or answer["code"])

    def flow(self) -> None:
        """The stream flows until it is empty: what the relay writes comes through it again."""
        for _ in range(20):
            records = self.read_stream()
            if not records:
                return
            for start in range(0, len(records), BATCH):
                assert self.relay(records[start : start + BATCH]) == []
        raise AssertionError("the stream does not come to rest")

    def read_stream(self) -> list[dict[str, Any]]:
        """New records that the relay's filter lets through; those that ask for a run are put into `asked`."""
        records, self._position = sandbox_aws.read_stream(self._stream_arn, self._position)
        plain = json.loads(json.dumps(records, default=lambda raw: base64.b64encode(bytes(raw)).decode()))
        for number, record in enumerate(plain):
            record["dynamodb"].setdefault("SequenceNumber", str(self._position - len(plain) + number))
        keys = [record["dynamodb"]["Keys"]["pk"]["S"] for record in plain]
        self.asked += [record for record, pk in zip(plain, keys, strict=True) if pk == "reconcile#asked"]
        told = ("order#", "sale#", "subscription#", "raw#")
        changed = ("INSERT", "MODIFY")
        return [
            record
            for record, pk in zip(plain, keys, strict=True)
            if pk.startswith(told) and record["eventName"] in changed
        ]

    def relay(self, records: list[dict[str, Any]]) -> list[str]:
        """Sequence numbers of those that failed."""
        answer = relay.handler({"Records": records}, Context(self.clock, 30))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def reconcile(self, walk: str = "recent", **event: Any) -> dict[str, Any]:
        """One run; afterwards the stream has flowed."""
        asked = {"Records": [self.asked.pop()]} if walk == "asked" else {"walk": walk}
        answer: dict[str, Any] = reconcile.handler({**asked, **event}, Context(self.clock, 240))
        self.flow()
        return answer

    def later(self, **span: float) -> dict[str, Any]:
        """The next run, five minutes later unless said otherwise, and what it found."""
        self.clock.passes(**(span or {"minutes": 5}))
        answer = self.reconcile()
        assert answer["outcome"] == "done", answer
        found: dict[str, Any] = answer["found"]
        return found

    def types(self, order_id: str | None = None) -> list[str]:
        """Of the events published, about an order where one is named."""
        return [each["type"] for each in self.published if order_id in (None, each["order_id"])]


def in_process(application: Any, world: World) -> Transport:
    """Carries what is sent to an application, such as the fake Pocketsflow."""
    answer = of(application)

    def send(sent: Sent) -> HTTPResponse:
        name = f"{sent.method} {sent.path}"
        world.note_request(name)
        if instead := world.answers.get(name):
            status, content = instead(dict(parse_qsl(sent.target.partition("?")[2])))
            return response(status, {}, json.dumps(content, default=float).encode())
        return answer(sent)

    return Transport(send)


@contextmanager
def world(stack: Aws, patch: Any, start: datetime) -> Iterator[World]:
    """`patch` is pytest's monkeypatch, or anything with its `setattr`."""
    clock = Clock(start.astimezone(UTC))
    products = {**PRODUCTS, "elsewhere": ELSEWHERE}
    account = Account(URL, products, "https://api.shop.example/webhooks/pocketsflow", lambda: clock.now)
    for endpoint in account.endpoints.values():
        endpoint["secret"] = SECRET
    made = World(stack, clock, account)
    for module in (checkout, server, webhook, relay, reconcile):
        patch.setattr(module, "datetime", clock.datetime)
    for module in (relay, reconcile, pocketsflow, provider, table):
        patch.setattr(module, "time", clock)
    patch.setattr(opening, "RULES", _with_catalogue(opening.RULES))
    patch.setattr(reconcile, "CATALOGUE", CATALOGUE)
    patch.setattr(checkout, "_asked_at", datetime.min.replace(tzinfo=UTC))
    patch.setattr(fake, "API_KEY", API_KEY)
    patch.setattr(pocketsflow, "URL", URL)
    patch.setattr(pocketsflow, "_SCHEMES", ("http://pocketsflow.test/", "https://"))
    patch.setattr(pocketsflow, "_http", in_process(fake.application(account), made))
    events = relay._bus.meta.events
    asked: list[list[dict[str, Any]]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(params["Entries"])

    def taken(parsed: dict[str, Any], **_: Any) -> None:
        for entry, result in zip(asked[-1], parsed.get("Entries", []), strict=False):
            if "ErrorCode" not in result:
                made.published.append({"type": entry["DetailType"], **json.loads(entry["Detail"])})

    events.register("provide-client-params.events.PutEvents", note)
    events.register("after-call.events.PutEvents", taken)
    secrets._copies.clear()
    try:
        yield made
    finally:
        events.unregister("provide-client-params.events.PutEvents", note)
        events.unregister("after-call.events.PutEvents", taken)


def _with_catalogue(rules: Any) -> Any:
    return replace(rules, catalogue=CATALOGUE)
