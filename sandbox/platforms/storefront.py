"""The shop's own server: examples/storefront-server, as it stands there, with faults and a look inside."""

import importlib.util
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, build_opener
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import requests
from werkzeug.wrappers import Response

import ops.stack
from ops.keys import Keys
from sandbox.pocketsflow import API_KEY
from sandbox.purchase import PurchaseFailed
from sandbox.system import Addresses, catalogue
from sandbox.template import ROOT

SECRET = "whsec_c2FuZGJveC1zYW5kYm94LXNhbmRib3gtc2FuZGJveA=="
_TIMEOUT = 10
_SECONDS = 20.0
"""Until the server must have heard."""


def example() -> Any:
    """The module. What it sends to this machine goes through nobody's proxy."""
    found = importlib.util.spec_from_file_location("storefront_server", ROOT / "examples/storefront-server/server.py")
    assert found is not None  # noqa: S101
    assert found.loader is not None  # noqa: S101
    module: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.urlopen = build_opener(ProxyHandler({})).open
    return module


class Platform:
    stack = "StorefrontStack"
    secret = SECRET

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = {"storefront_url": f"{url}/webhooks"}
        self.parameters = {"StorefrontUrl": "https://shop.example/webhooks"}
        self.shop = example().Shop(url, next(iter(catalogue()), ""), "", "", SECRET, database=":memory:")
        self.faults: list[WSGIApplication] = []
        """What the next webhooks are answered by, each by one, instead of the server."""
        self.received: deque[tuple[str, str]] = deque(maxlen=1_000)
        """Webhooks, forged ones too: id and what was answered."""
        self._one_at_a_time = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/state":
            answer = Response(json.dumps(self.state()), content_type="application/json")
            return answer(environ, start_response)
        if environ["PATH_INFO"] != "/webhooks":
            return self._asked(environ, start_response)

        def noting(status: str, *more: Any) -> Any:
            self.received.append((environ.get("HTTP_WEBHOOK_ID", ""), status))
            return start_response(status, *more)

        return (self.faults.pop(0) if self.faults else self._asked)(environ, noting)

    def _asked(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._one_at_a_time:  # it has one connection to its database
            answer: Iterable[bytes] = self.shop(environ, start_response)
            return answer

    def state(self) -> dict[str, Any]:
        with self._one_at_a_time:
            found = self.shop.db.execute("SELECT * FROM orders ORDER BY number")
            names, rows = [column for column, *_ in found.description], found.fetchall()
        return {"orders": [dict(zip(names, row, strict=True)) for row in rows], "received": list(self.received)}

    def story(self, at: Addresses) -> Iterator[str]:
        self.shop.api = at.api
        self.shop.key, _ = Keys(ops.stack.sandbox(at.aws, None)).create("storefront", datetime.now(UTC))
        with requests.Session() as http:
            http.trust_env = False
            yield _told("1 Somebody buys at the shop's own server", f"POST {self.url}/buy")
            bought = http.post(f"{self.url}/buy", allow_redirects=False, timeout=_TIMEOUT)
            if bought.status_code != 303:
                raise PurchaseFailed(f"the shop's server answered {bought.status_code}")
            checkout, order = bought.headers["Location"], self._last()
            yield _told(
                f"2 It has asked for a checkout of its order web-{order['number']}, and sends the buyer there",
                f"POST {at.api}/server/checkout",
                f"{order['order_id']} {order['status']}",
                checkout,
            )
            [session] = parse_qs(urlsplit(checkout).query)["session"]
            self.faults.append(Response("", 503))
            paid = _answered(http.post(f"{at.pocketsflow}/_sandbox/sessions/{session}/pay", timeout=_TIMEOUT))
            yield _told(
                "3 The buyer pays; the shop's server is down at this moment", f"Pocketsflow's {paid['orderId']}"
            )
            order = self._once(lambda order: order["status"] == "paid")
            yield _told(
                "4 order.paid comes as a webhook of Standard Webhooks, and again, until the server has verified it",
                f"POST {self.url}/webhooks",
                *(f"webhook-id {identity[:16]}…  {status}" for identity, status in self.received),
                f"web-{order['number']} is {order['status']}, shipped {order['shipments']} time",
            )
            refund = {"orderId": paid["orderId"], "reason": "requested_by_customer"}
            headers = {"Authorization": f"Bearer {API_KEY}"}
            _answered(http.post(f"{at.pocketsflow}/refunds", json=refund, headers=headers, timeout=_TIMEOUT))
            order = self._once(lambda order: order["status"] == "refunded")
            yield _told(
                "5 The money goes back",
                f"web-{order['number']} is {order['status']}",
                f"{self.url}/ is the shop, {self.url}/state what it knows",
            )

    def _once(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + _SECONDS
        while not holds(order := self._last()):
            if time.monotonic() > until:
                raise PurchaseFailed(f"the shop's server calls its order {order['status']}")
            time.sleep(0.05)
        return order

    def _last(self) -> dict[str, Any]:
        order: dict[str, Any] = self.state()["orders"][-1]
        return order


def _told(step: str, *details: str) -> str:
    return "\n".join([step, *(f"    {detail}" for detail in details)])


def _answered(answer: requests.Response) -> Any:
    if not answer.ok:
        raise PurchaseFailed(f"{answer.request.method} {answer.url} gave {answer.status_code} {answer.text}")
    return answer.json()
