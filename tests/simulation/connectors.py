"""The connectors on a simulated day: what the bus takes goes through each one's queue and handler to a stand-in of its
platform, late, twice and in any order, and whatever SQS, the platform and the process do on the way.

What a queue does by its clock follows infra/connector.yaml, as tests/connected.py does; here it has the day's.
"""

import functools
import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import standardwebhooks.webhooks
from botocore.exceptions import EndpointConnectionError
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from connectors import (
    consumer,
    deliveries,
    entitlements,
    feed,
    membership,
    notices,
    outgoing,
    shopify,
    shopify_admin,
    storefront,
    woocommerce,
)
from sandbox import aws
from sandbox.platforms import shopify as shopify_shop
from sandbox.platforms import woocommerce as woocommerce_shop
from sandbox.platforms.feed import Platform as Hook
from sandbox.platforms.membership import Platform as Members
from sandbox.platforms.notices import Platform as Mailbox
from sandbox.platforms.storefront import Platform as Storefront
from sandbox.template import Template
from tests import transport
from tests.conftest import template
from tests.connected import BATCH, HIDDEN, TRIES, record
from tests.payloads import create_key
from tests.simulation.engine import Engine
from tests.simulation.weather import PLATFORM, Aws, Killed, Weather
from tests.transport import Sent, Transport, read_timeout, response
from tests.world import CATALOGUE, Context, World

KEY = f"pfs_test_{'k' * 43}"
"""Of the shop's server."""
LEVELS = {"course": "course", "membership": "member"}
TOTAL = Decimal("49.00")
AT_ONCE = 2
"""Invocations of one connector, as in the template."""
THREE_DAYS = timedelta(days=4)
"""After which nothing is tried any more, the waits being scattered."""

Event = Mapping[str, Any]


@dataclass
class Message:
    id: str
    event: str
    """Its id, the same for all messages of one event."""
    body: str
    tries: int = 0
    hidden: float = 0
    """Seconds from now for which nobody is given it."""


@dataclass(frozen=True)
class Order:
    """One of the shop's, which has the same at Shopify and at WooCommerce."""

    reference: str
    shopify: str
    woocommerce: int
    email: str

    @property
    def asked(self) -> dict[str, Any]:
        """What the shop's server sends for it."""
        metadata = {
            "shopify_order": self.shopify,
            "shopify_total": "49 usd",
            "woocommerce_order": str(self.woocommerce),
            "woocommerce_total": "49.00 usd",
        }
        return {"reference": self.reference, "customerEmail": self.email, "metadata": metadata}


class Line:
    """One connector: its queue, its table, its function."""

    def __init__(self, name: str, module: ModuleType, nested: Template, day: "Connectors") -> None:
        self.name, self.module = name, module
        self.table: str = nested.references["Deliveries"]["Ref"]
        [(_, rule)] = nested.resources("AWS::Events::Rule")
        self._pattern = rule["EventPattern"]
        [function] = nested.functions()
        self._timeout = function.timeout
        self._day = day
        self._due: list[tuple[datetime, int, Message]] = []
        self._numbers = count()
        self._running = 0
        self.dead: list[Message] = []
        self.events: set[str] = set()
        """Ids of all that ever came."""
        self.begun: Counter[str] = Counter()
        """How often each event was given to `deliver`."""
        self.came_back: Counter[str] = Counter()
        """How often each was tried, and the message came back."""
        self.counts: Counter[str] = Counter()

    def wants(self, kind: str, mode: str) -> bool:
        return kind in self._pattern["detail-type"] and mode in self._pattern["detail"]["mode"]

    def take(self, event: str, body: str, delay: float) -> None:
        self.events.add(event)
        self._wait(Message(f"{self.name}-{next(self._numbers)}", event, body), delay)

    def redrive(self) -> None:
        """A person has all tried again that was laid aside."""
        for message in self.dead:
            self.counts["redriven"] += 1
            self._wait(Message(message.id, message.event, message.body), self._day.random.uniform(0, 60))
        self.dead.clear()

    def _wait(self, message: Message, seconds: float) -> None:
        due = self._day.engine.clock.now + timedelta(seconds=seconds)
        heapq.heappush(self._due, (due, next(self._numbers), message))
        self._day.engine.at(due, self._work)

    def _work(self) -> None:
        """Whoever is at it looks again before ending, so nothing is left lying."""
        if self._running == AT_ONCE:
            return
        self._running += 1
        while batch := self._received():
            self._invoke(batch)
        self._running -= 1

    def _received(self) -> list[Message]:
        batch: list[Message] = []
        while len(batch) < BATCH and self._due and self._due[0][0] <= self._day.engine.clock.now:
            message = heapq.heappop(self._due)[2]
            if message.tries == TRIES:
                self.counts["dead"] += 1
                self.dead.append(message)
            else:
                message.tries, message.hidden = message.tries + 1, HIDDEN.total_seconds()
                batch.append(message)
        self._day.random.shuffle(batch)
        return batch

    def _invoke(self, batch: list[Message]) -> None:
        self.counts["tries"] += len(batch)
        self._day.in_flight |= {message.id: message for message in batch}
        clock = self._day.engine.clock
        begun = clock.now
        deliveries.TABLE = self.table  # of this environment, which Engine.sleep keeps
        try:
            answer = self.module.handler({"Records": list(map(record, batch))}, Context(clock, self._timeout))
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        except Killed:
            self._day.forget(self)
            failed = {message.id for message in batch}
            self.counts["killed"] += 1
        if clock.now - begun > timedelta(seconds=self._timeout):
            self._day.outlived.append(f"{self.name} at {begun}")
        for message in batch:
            del self._day.in_flight[message.id]
            if message.id in failed:
                self.came_back[message.event] += 1
                self._wait(message, message.hidden)

    def note_begun(self, patch: Any) -> None:
        deliver = self.module.deliver

        def noting(event: consumer.Event, now: Any) -> Any:
            self.begun[event.id] += 1
            return deliver(event, now)

        patch.setattr(self.module, "deliver", noting)


@dataclass
class Connectors:
    """All of them, and the shop whose orders are at the platforms."""

    engine: Engine
    weather: Weather
    random: Random
    lines: dict[str, Line] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    """By reference."""
    mislaid: list[Callable[[], None]] = field(default_factory=list)
    """Orders that the platforms do not have for now: each puts one back."""
    mails: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """That the merchant was sent: by type, payment and moment of the event."""
    in_flight: dict[str, Message] = field(default_factory=dict)
    outlived: list[str] = field(default_factory=list)
    """Invocations that took longer than their function may."""

    def __post_init__(self) -> None:
        self.storefront = Storefront("https://storefront.example")
        self.shopify = shopify_shop.Platform("https://shop-example.myshopify.com")
        self.woocommerce = woocommerce_shop.Platform("https://woocommerce.example")
        self.hook = Hook("https://hooks.example")

    # --- From the bus -------------------------------------------------------------------------------------------------

    def carry(self, entries: list[dict[str, Any]]) -> None:
        """What the bus has taken, as often as it has."""
        for entry in entries:
            detail = json.loads(entry["Detail"])
            envelope = {"detail-type": entry["DetailType"], "source": entry["Source"], "detail": detail}
            body = json.dumps(envelope)
            for line in self.lines.values():
                if line.wants(entry["DetailType"], detail["mode"]):
                    line.take(detail["id"], body, self.delay(entry["DetailType"]))
                    if self.random.random() < 0.03:  # SQS and EventBridge promise once at least
                        line.take(detail["id"], body, self.random.uniform(0, 3600))

    def delay(self, _kind: str) -> float:
        """Seconds; so some are overtaken by what comes after them, a payment by its refund."""
        late = self.random.uniform(60, 12 * 3600) if self.random.random() < 0.3 else 0
        return self.random.lognormvariate(0, 0.5) + late

    # --- The shop -----------------------------------------------------------------------------------------------------

    def order(self) -> Order:
        """A buyer has ordered, and is about to ask for the checkout. Some come back."""
        number = len(self.orders) + 1
        known = [*self.orders.values()]
        returns = known and self.random.random() < 0.1
        email = self.random.choice(known).email if returns else f"member{number}@example.com"
        made = Order(f"web-{number}", str(5_550_000_000_000 + number), 100 + number, email)
        self.orders[made.reference] = made
        with self.storefront.shop.db as db:
            db.execute("INSERT INTO orders (number) VALUES (?)", [number])
        self.shopify.order(made.shopify)
        self.woocommerce.orders[made.woocommerce] = woocommerce_shop.Order(made.woocommerce, TOTAL)
        if self.random.random() < self.weather.mislaid:
            self.weather.counted("orders missing at the platforms")
            self._mislay(self.shopify.orders, made.shopify)
            self._mislay(self.woocommerce.orders, made.woocommerce)
        return made

    def _mislay(self, orders: dict[Any, Any], number: Any) -> None:
        order = orders.pop(number)
        self.mislaid.append(lambda: orders.__setitem__(number, order))

    def settle(self) -> None:
        """Nothing is sold any more. After three days nothing is tried; a person puts right what was wrong, and has it
        tried again."""
        self.engine.run(self.engine.clock.now + THREE_DAYS)
        for put_back in self.mislaid:
            put_back()
        for line in self.lines.values():
            line.redrive()
        self.engine.run(self.engine.clock.now + timedelta(days=1))

    # --- What the functions speak to ----------------------------------------------------------------------------------

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:  # noqa: N803
        """SQS's, in the place of its client."""
        if self.weather.outage("sqs", self.engine.clock.now):
            raise EndpointConnectionError(endpoint_url=QueueUrl)
        assert 0 <= VisibilityTimeout <= 43_200
        self.in_flight[ReceiptHandle].hidden = VisibilityTimeout

    def mail(self, request: Mapping[str, Any]) -> None:
        """SES has taken it."""
        text = request["Content"]["Simple"]["Body"]["Text"]["Data"]
        about = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        kind, payment, noticed = (about[name].strip() for name in ("Event", "Payment", "Noticed"))
        self.mails[kind, payment.partition(" ")[0], noticed] += 1

    def forget(self, line: Line) -> None:
        """The next process of a connector knows nothing of what this one had in memory."""
        if line.name == "shopify":
            shopify_admin._granted = None
        if line.name == "membership":
            entitlements.pepper.cache_clear()


class Internet:
    """Stands between the functions and the platforms."""

    def __init__(self, of: Connectors) -> None:
        self._of = of
        platforms = {
            "storefront": (of.storefront, "storefront.example"),
            "shopify": (of.shopify, "shop-example.myshopify.com"),
            "woocommerce": (of.woocommerce, "woocommerce.example"),
            "feed": (of.hook, "hooks.example"),
        }
        self._platforms = {host: (name, transport.of(platform)) for name, (platform, host) in platforms.items()}

    def send(self, sent: Sent) -> HTTPResponse:
        engine, weather, random = self._of.engine, self._of.weather, self._of.random
        name, platform = self._platforms[sent.url.split("/")[2]]
        fault = weather.outage(name, engine.clock.now) or weather.fault(random)
        if fault:
            weather.counted(PLATFORM[fault])
        if fault == "killed before":
            raise Killed
        engine.sleep(random.uniform(0.05, 0.6))
        if fault == "throttled":
            return response(429, {"Retry-After": str(random.randint(1, 900))}, b"")
        if fault == "down":
            return response(random.choice((500, 502, 503)), {}, b"<html>busy</html>")
        if fault == "slow":
            engine.sleep(sent.seconds)
            raise read_timeout(sent)
        with weather.elsewhere():
            answer = platform(sent)
        if fault == "killed after":
            raise Killed
        if fault == "lost":
            raise ProtocolError
        return answer


def connected(patch: Any, engine: Engine, world: World, wire: Aws, weather: Weather, random: Random) -> Connectors:
    """All connectors are on. Before moto is sped up: their resources are made."""
    made = Connectors(engine, weather, random)
    create_key(world.stack, KEY)
    platforms = {
        "storefront": (made.storefront, storefront, storefront),
        "shopify": (made.shopify, shopify, shopify_admin),
        "woocommerce": (made.woocommerce, woocommerce, woocommerce),
        "membership": (Members(""), membership, entitlements),
        "feed": (made.hook, feed, feed),
        "notices": (Mailbox(""), notices, notices),
    }
    declared = template(**{name: value for each, *_ in platforms.values() for name, value in each.parameters.items()})
    declared.references["Bus"] = {"Ref": world.stack.bus}
    nested = dict(declared.nested())
    for name, (platform, module, reading) in platforms.items():
        stack = nested[platform.stack]
        aws.create_resources(stack)
        made.lines[name] = line = Line(name, module, stack, made)
        line.note_begun(patch)
        for having in {module, reading}:
            if hasattr(having, "TABLE"):
                patch.setattr(having, "TABLE", line.table)
        if platform.secret:
            arn = stack.references["ConnectorSecret"]["Ref"]
            world.stack.secrets.put_secret_value(SecretId=arn, SecretString=platform.secret)
            patch.setattr(reading, "SECRET_ARN", arn)
    _take_over(patch, engine, random, made)
    wire.published, wire.mailed = made.carry, made.mail
    return made


def _take_over(patch: Any, engine: Engine, random: Random, made: Connectors) -> None:
    levels = {sku: replace(item, level=LEVELS[sku]) for sku, item in CATALOGUE.items()}
    patch.setattr(entitlements, "CATALOGUE", levels)
    patch.setattr(entitlements, "secrets", SimpleNamespace(token_bytes=random.randbytes))
    patch.setattr(entitlements, "pepper", functools.cache(entitlements.pepper.__wrapped__))
    patch.setattr(shopify, "SHOP", shopify_shop.SHOP)
    patch.setattr(shopify, "REFUNDS", "refund")
    patch.setattr(shopify_admin, "_granted", None)
    patch.setattr(consumer, "_queue", made)
    patch.setattr(consumer, "datetime", engine.clock.datetime)
    patch.setattr(consumer, "random", random)
    patch.setattr(standardwebhooks.webhooks, "datetime", engine.clock.datetime)
    patch.setattr(outgoing, "_http", Transport(Internet(made).send))
    patch.setattr(deliveries, "TABLE", deliveries.TABLE)  # what it is at the end, too
    engine.kept.append((deliveries, "TABLE"))
