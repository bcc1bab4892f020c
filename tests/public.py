"""The stack's public address, in this process: API Gateway's stand-in before the real handlers, in a world's time.

What Pocketsflow sends is delivered at once, and the stream has flowed when it has been.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from email.utils import format_datetime
from threading import Lock
from typing import Any

import checkout
import ops.api_key
import ops.doctor
import ops.provider
import ops.rotate
import ops.selftest
import ops.web
import ops.webhooks
import server
import webhook
from ops.stack import Stack
from payments import metrics
from payments.event_names import EVENTS
from sandbox import pocketsflow as fake
from sandbox.gateway import Gateway
from tests.conftest import template
from tests.pf import stack_of
from tests.world import Context, World, in_process

ADDRESS = "https://api.shop.example"
WEBHOOK = "POST /webhooks/pocketsflow"
_HANDLERS = {"CheckoutFunction": checkout, "WebhookFunction": webhook, "ServerFunction": server}


_one_at_a_time = Lock()
"""What the functions print is turned away for all threads."""


class Site:
    """A stack that is deployed, Pocketsflow, and the way between them."""

    def __init__(self, shop: World, stack: Stack) -> None:
        self.shop, self.stack = shop, stack
        self.date: datetime | None = None
        """What the gateway's clock says, where it is not the world's."""
        self.adds: list[tuple[str, str]] = []
        """Headers that something between the gateway and the browser adds."""
        self.statuses: list[str] = []
        """What the gateway has answered."""
        shop.account.hand_over = self._deliver
        workers = {name: _Worker(shop, module) for name, module in _HANDLERS.items()}
        self._gateway = Gateway(template(), workers, lambda _: _refuse())

    def _deliver(self, delivery: fake.Delivery) -> None:
        if delivery.url != self.stack.output("WebhookUrl"):
            return
        with _elsewhere():
            self.shop.deliver(delivery)
            self.shop.flow()

    @property
    def ours(self) -> list[dict[str, Any]]:
        """Endpoints at Pocketsflow that lead here."""
        url = self.stack.output("WebhookUrl")
        return [each for each in self.shop.account.endpoints.values() if each["url"] == url]

    @property
    def words(self) -> list[str]:
        value = self.shop.stack.secrets.get_secret_value(SecretId="sandbox-WebhookSecrets")["SecretString"]
        return str(value).split()

    def add_endpoint(self, secret: str, **fields: Any) -> str:
        """Made by hand, as in Pocketsflow's dashboard: its id."""
        wanted = {"url": self.stack.output("WebhookUrl"), "events": [*EVENTS], **fields}
        return str(self.shop.account.add_endpoint(wanted, secret)["_id"])

    def refused(self) -> list[str]:
        """Active endpoints that lead here, and whose secret is not taken."""
        return [each["_id"] for each in self.ours if each["active"] and each["secret"] not in self.words]

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        def dated(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self.statuses.append(status)
            now = self.date or self.shop.clock.now
            return start_response(status, [*headers, *self.adds, ("Date", format_datetime(now, usegmt=True))], *more)

        return self._gateway(environ, dated)


class _Worker:
    def __init__(self, shop: World, module: Any) -> None:
        self._shop, self._module = shop, module

    def invoke(self, event: Any) -> Any:
        with _elsewhere():
            return self._module.handler(event, Context(self._shop.clock, 9))


@contextmanager
def _elsewhere() -> Iterator[None]:
    """The functions print to a log of their own, and not to what `pf` answers; figures do not heap up, since
    nobody writes those of `pf`."""
    with _one_at_a_time, redirect_stdout(io.StringIO()):
        metrics.clear()
        yield


def _refuse() -> Any:
    raise AssertionError("nothing here asks the sandbox's own routes")


@contextmanager
def served(shop: World, patch: Any) -> Iterator[Site]:
    """`patch` is pytest's monkeypatch. The account has no endpoint that leads here."""
    outputs = {"ApiUrl": ADDRESS, "WebhookUrl": f"{ADDRESS}/webhooks/pocketsflow"}
    site = Site(shop, stack_of(**outputs))
    patch.setattr("ops.stack.find", lambda *_: site.stack)
    shop.account.endpoints.clear()
    for module in (ops.webhooks, ops.rotate, ops.api_key, ops.doctor):
        patch.setattr(module, "datetime", shop.clock.datetime)
    for module in (ops.webhooks, ops.selftest, ops.provider, ops.web):
        patch.setattr(module, "time", shop.clock)
    way = in_process(site, shop)
    patch.setattr(ops.web, "session", lambda: way)
    yield site
