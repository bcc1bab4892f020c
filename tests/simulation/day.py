"""Who does what on a simulated day: buyers, the seller, and what becomes of each webhook on its way."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import botocore.endpoint
import botocore.retryhandler
import pytest

import reconcile
import relay
import webhook
from connectors import notices
from payments import aws, findings, metrics, orders, outbound, pocketsflow, provider, secrets, table
from payments.telemetry import logger
from sandbox import pocketsflow as fake
from sandbox import subscriptions as fake_subscriptions
from tests import world as worlds
from tests.conftest import Aws, deployed_stack
from tests.payloads import http_event
from tests.simulation import weather as weathers
from tests.simulation.connectors import KEY, Connectors, connected
from tests.simulation.engine import Engine
from tests.simulation.platform import Platform
from tests.simulation.weather import Weather
from tests.transport import Transport
from tests.world import ELSEWHERE, PRODUCTS, World, world

START = datetime(2026, 11, 23, tzinfo=worlds.UTC)
COURSE, MEMBERSHIP = PRODUCTS["course"], PRODUCTS["membership"]
POLLS_UNTIL = {"paid", "partially_refunded", "refunded", "mismatched"}
"""Statuses with which storefront/pocketsflow-checkout.js stops."""
HOUR = 3600.0


@dataclass(frozen=True)
class Plan:
    """One day. `loss` is the share of the webhooks that never arrive; `hours` of sales are followed by `drain` hours
    without any, in which each schedule runs once more."""

    seed: int
    payments: int
    loss: float
    hostile: bool
    hours: float = 24
    drain: float = 8
    list_lag: int = 120
    polling: float = 0.05
    """Share of the buyers whose thank-you page stays open until it knows, for two minutes at most."""
    subscriptions: int = 24
    connectors: bool = False
    """All are on, and every second buyer of the course comes from an order of a platform."""

    def __str__(self) -> str:
        kind = "hostile" if self.hostile else "calm"
        return f"seed {self.seed}, {self.payments} payments, {self.loss:.0%} of webhooks lost, {kind}"


@dataclass
class Day:
    """A day that is being lived, or has been."""

    plan: Plan
    random: Random
    world: World
    engine: Engine
    platform: Platform
    weather: Weather
    api: weathers.Pocketsflow
    connectors: Connectors | None
    done: Callable[[], None] = lambda: None
    """Is called for each buyer who is through."""
    orders: dict[str, str] = field(default_factory=dict)
    """Product of each order that a buyer was told of, by its id."""
    failed_refunds: set[str] = field(default_factory=set)
    """Payments of which a refund failed at the bank after it had been told."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def end(self) -> datetime:
        return START + timedelta(hours=self.plan.hours)

    def live(self) -> None:
        span = self.plan.hours * HOUR
        days = self.random.uniform(span, span + (self.plan.drain - 2) * HOUR) % (24 * HOUR)  # again after the sales
        offsets = {"recent": self.random.uniform(1, 300), "hours": self.random.uniform(1, HOUR), "days": days}
        self.platform.schedule(offsets)
        # Of what was paid before the first run nothing is looked for: a shop is deployed before it sells.
        self.engine.after(0, lambda: self.platform.invoke("reconcile", {"walk": "recent"}))
        self.world.account.hand_over = self._send
        self.world.account.set_faults({"list_lag_seconds": self.plan.list_lag})
        for moment in sorted(self._arrivals(self.plan.payments, span)):
            self.engine.after(moment, self._buyer)
        for _ in range(self.plan.subscriptions):
            self.engine.after(self.random.uniform(0, span * 0.8), self._subscriber)
        for _ in range(max(3, self.plan.payments // 40)):
            self.engine.after(self.random.uniform(0, span), self._sell_elsewhere)
        if self.plan.hostile:
            for _ in range(6):
                self.engine.after(self.random.uniform(0, span), self._strange_lists)
        self.engine.run(self.end)
        self.weather.clear_up()
        self.engine.run(self.end + timedelta(hours=self.plan.drain))
        if self.connectors:
            self.platform.is_open = False
            self.connectors.settle()

    def _arrivals(self, number: int, span: float) -> Iterator[float]:
        """More in the evening than at night: the rate goes from a fifth to nine fifths of its mean."""
        while number:
            moment = self.random.uniform(0, span)
            if self.random.uniform(0, 1.8) < 1 - 0.8 * math.cos(2 * math.pi * (moment / (24 * HOUR) - 0.1)):
                number -= 1
                yield moment

    # --- Buyers -------------------------------------------------------------------------------------------------------

    def _buyer(self) -> None:
        opened = self._check_out("course")
        self.done()
        if opened is None:
            return
        order_id, session = opened
        self.engine.sleep(self.random.uniform(20, 300))
        story = self.random.random()
        if story < 0.03:
            self.counts["abandoned"] += 1
        elif story < 0.045:
            self._pay(session, ELSEWHERE["productId"])
            self.counts["paid for another product"] += 1
            if story < 0.035:
                self.engine.sleep(self.random.uniform(60, HOUR))
                self._pay(session)
        else:
            payment = self._pay(session)
            self.engine.after(0, lambda: self._poll(order_id))
            self._what_follows(session, payment)

    def _check_out(self, sku: str) -> tuple[str, str] | None:
        """A buyer tries again, and gives up at last. Our order id and Pocketsflow's session."""
        key = str(UUID(int=self.random.getrandbits(128), version=4)) if self.random.random() < 0.2 else ""
        asked = {"sku": sku, "customerEmail": f"buyer{self.random.getrandbits(32)}@example.com"}
        function, route, headers = "checkout", "POST /checkout", {"idempotency_key": key}
        if self.connectors and sku == "course" and self.random.random() < 0.5:
            self.counts["orders at the platforms"] += 1
            asked |= self.connectors.order().asked
            function, route, headers = "server", "POST /server/checkout", {"authorization": f"Bearer {KEY}"}
        event = http_event(route, json.dumps(asked).encode(), content_type="application/json", **headers)
        for attempt in range(5):
            status, answer = self.platform.http(function, event)
            if status == 201:
                self.orders[answer["orderId"]] = PRODUCTS[sku]["productId"]
                return answer["orderId"], answer["sessionId"]
            self.counts["checkouts that failed"] += 1
            self.engine.sleep(self.random.uniform(3, 20) * 2**attempt)
        self.counts["buyers who gave up"] += 1
        return None

    def _pay(self, session: str, product_id: str | None = None) -> str:
        self.counts["payments"] += 1
        return self.world.pay(session, product_id)

    def _poll(self, order_id: str) -> None:
        """storefront/pocketsflow-checkout.js."""
        if self.random.random() > self.plan.polling:
            return
        wait, end = 1.0, self.engine.clock.now + timedelta(minutes=2)
        while self.engine.clock.now < end:
            status, answer = self.platform.http("checkout", http_event(f"GET /orders/{order_id}"))
            self.counts["status polls"] += 1
            if status == 200 and answer["status"] in POLLS_UNTIL:
                return
            self.engine.sleep(wait)
            wait = min(wait * 1.5, 5)

    def _what_follows(self, session: str, payment: str) -> None:
        story, later = self.random.random(), self.random.uniform(60, 5 * HOUR)
        if story < 0.02:
            self.counts["second payments"] += 1
            self.engine.after(self.random.uniform(5, HOUR), lambda: self._pay(session))
        elif story < 0.05:
            self.engine.after(later, lambda: self._refund(payment, None))
        elif story < 0.08:
            self.engine.after(later, lambda: self._refund(payment, "10.00"))
            if story < 0.06:
                self.engine.after(later * 2, lambda: self._refund(payment, None))
        elif story < 0.09:
            self.engine.after(later, lambda: self._dispute(payment, disputed=True))
            if story < 0.085:
                self.engine.after(later * 2, lambda: self._dispute(payment, disputed=False))

    # --- The seller, and Pocketsflow ----------------------------------------------------------------------------------

    def _refund(self, payment: str, amount: str | None) -> None:
        if self.engine.clock.now > self.end:
            return
        self.counts["refunds"] += 1
        faults = self.world.account.faults
        if self.random.random() < 0.2:  # told in the older form, which says no more than that there is one
            self.world.account.set_faults({**faults, "refund_claim": True})
        made = self.world.account.refund(payment, None if amount is None else Decimal(amount), "requested_by_customer")
        self.world.account.set_faults(faults)
        if made is not None and self.random.random() < 0.1:
            self.failed_refunds.add(payment)
            self.counts["refunds that failed later"] += 1
            self.engine.after(
                self.random.uniform(60, HOUR), lambda: self.world.account.set_refund_status(made[0]["_id"], "failed")
            )

    def _dispute(self, payment: str, *, disputed: bool) -> None:
        if self.engine.clock.now < self.end:
            self.counts["disputes begun" if disputed else "disputes ended"] += 1
            self.world.account.set_disputed(payment, disputed)

    def _subscriber(self) -> None:
        opened = self._check_out("membership")
        if opened is None:
            return
        order_id, session = opened
        self.engine.sleep(self.random.uniform(20, 300))
        subscription = self._pay(session)
        self.counts["subscriptions"] += 1
        self.engine.after(0, lambda: self._poll(order_id))
        for _ in range(self.random.randint(0, 4)):
            self.engine.sleep(self.random.uniform(0.02, 0.1) * self.plan.hours * HOUR)
            if self.engine.clock.now < self.end:
                step = self.random.choice(("renew", "renew", "fail", "recover", "pause", "resume", "cancel"))
                if self.world.account.advance(subscription, step) is not None:
                    self.counts[f"subscriptions: {step}"] += 1

    def _sell_elsewhere(self) -> None:
        """Sales of the account that no checkout of this stack asked for."""
        unknown_order = orders.new_id(self.engine.clock.now)
        product_id, metadata = self.random.choice(
            [
                (ELSEWHERE["productId"], {}),
                (ELSEWHERE["productId"], {}),
                (COURSE["productId"], {"woocommerce_order": "77"}),
                (COURSE["productId"], {}),
                (COURSE["productId"], {"external_order_id": unknown_order}),
            ]
        )
        self.counts["sales elsewhere"] += 1
        self.world.sell_elsewhere(product_id, metadata)

    def _strange_lists(self) -> None:
        strange = self.random.choice(({"hide_metadata": "list"}, {"hide_metadata": "string"}, {"shift_rows": True}))
        base = {"list_lag_seconds": self.plan.list_lag}
        self.world.account.set_faults({**base, **strange})
        self.weather.counted(f"lists with {next(iter(strange))}")
        self.engine.after(600, lambda: self.world.account.set_faults(base))

    # --- Webhooks on their way ----------------------------------------------------------------------------------------

    def _send(self, delivery: fake.Delivery) -> None:
        self.counts["webhooks"] += 1
        if self.random.random() < self.plan.loss:
            self.counts["webhooks lost"] += 1
            return
        delay = self.random.lognormvariate(0, 0.5)
        if self.random.random() < 0.03:
            self.counts["webhooks late"] += 1
            delay += self.random.uniform(10, 900)
        if self.random.random() < 0.01:
            self.counts["webhooks under another name"] += 1
            delivery = self._relabelled(delivery)
        self._arrive(delay, delivery)
        if self.random.random() < 0.03:
            self.counts["webhooks twice"] += 1
            self._arrive(delay + self.random.uniform(0, HOUR), delivery)
        if self.random.random() < 0.01:
            self.counts["webhooks once more under another name"] += 1
            self._arrive(self.random.uniform(0, 10), self._relabelled(delivery))

    def _relabelled(self, delivery: fake.Delivery) -> fake.Delivery:
        names = [name for name in fake.SEEDED_EVENTS if name != delivery.event]
        return replace(delivery, event=self.random.choice(names))

    def _arrive(self, delay: float, delivery: fake.Delivery) -> None:
        """Pocketsflow tries once, whatever is answered."""

        def arrive() -> None:
            entry = self.world.account.entry(delivery)
            event = http_event(
                "POST /webhooks/pocketsflow", delivery.body, content_type="application/json",
                x_pocketsflow_signature=entry["signature"], x_pocketsflow_event=delivery.event,
                x_pocketsflow_timestamp=str(entry["timestamp"]),
            )  # fmt: skip
            status, answer = self.platform.http("webhook", event)
            self.counts[f"webhooks answered {status}"] += 1
            if answer.get("outcome") == "parked":
                self.counts["webhooks parked"] += 1

        self.engine.after(delay, arrive)


class _Inline:
    """In place of ThreadPoolExecutor: a day has one thread, so that a seed has one history."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, do: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            answer = do(*arguments, **named)
        except Exception as error:  # noqa: BLE001  # the caller's to raise
            return SimpleNamespace(result=lambda *_, error=error: _raise(error))
        return SimpleNamespace(result=lambda *_: answer)

    def __enter__(self) -> "_Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def shutdown(self, **_: Any) -> None:
        pass


def _raise(error: Exception) -> None:
    raise error


@contextmanager
def prepared(plan: Plan) -> Iterator[Day]:
    """A shop in the first minute of its day: every choice that anything in it makes is the seed's."""
    random = Random(plan.seed)
    with deployed_stack() as stack, pytest.MonkeyPatch.context() as patch, _shop(stack, patch, random) as shop:
        engine = Engine(shop.clock)
        weather = (
            weathers.hostile(random, START, timedelta(hours=plan.hours), plan.hours / 24) if plan.hostile else Weather()
        )
        wire = weathers.Aws(engine, weather, random)
        carrier = weathers.Pocketsflow(engine, weather, random, pocketsflow._http.send)  # type: ignore[attr-defined]
        patch.setattr(pocketsflow, "_http", Transport(carrier.send))
        _take_over(patch, engine, random)
        clients = (table.client, secrets._client, webhook._queue, relay._bus, notices._mail)
        for client in clients:
            client.meta.events.register_first("before-send", wire.send)
        try:
            connectors = connected(patch, engine, shop, wire, weather, random) if plan.connectors else None
            if connectors and plan.hostile:
                span = timedelta(hours=plan.hours)
                weathers.bring_to_platforms(weather, random, START, span)
            platform = Platform(patch, engine, shop, wire, random)
            yield Day(plan, random, shop, engine, platform, weather, carrier, connectors)
        finally:
            for client in clients:
                client.meta.events.unregister("before-send", wire.send)


@contextmanager
def _shop(stack: Aws, patch: Any, random: Random) -> Iterator[World]:
    """A world whose ids are the seed's, from the first on."""
    bits = SimpleNamespace(randbits=random.getrandbits, token_hex=lambda size: random.randbytes(size).hex())
    for module in (orders, fake):
        patch.setattr(module, "secrets", bits)
    patch.setattr(fake_subscriptions, "token_hex", bits.token_hex)
    with world(stack, patch, START) as shop:
        yield shop


def _take_over(patch: Any, engine: Engine, random: Random) -> None:
    """All time, chance and concurrency in the functions and in the fake Pocketsflow."""
    for module in (provider, pocketsflow, relay, botocore.retryhandler):
        patch.setattr(module, "random", random)
    for module in (aws, botocore.endpoint):
        patch.setattr(module, "time", engine.clock)
    patch.setattr(reconcile, "RECONCILE_FROM", START.isoformat())  # the shop is open before the first run
    patch.setattr(reconcile, "uuid", SimpleNamespace(uuid4=lambda: UUID(int=random.getrandbits(128), version=4)))
    for module in (outbound, findings):
        patch.setattr(module, "ThreadPoolExecutor", _Inline)
    patch.setattr(metrics, "add", lambda *_, **__: None)
    patch.setattr(aws, "_deadline", aws._deadline)  # of whoever was killed last, until the day is over
    patch.setattr(logger._logger, "disabled", True)
