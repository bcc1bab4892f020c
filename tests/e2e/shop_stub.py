"""A shop's page and the API behind it, saying whatever a test wants them to say: real HTTP, two origins."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.servers import Server
from sandbox.template import ROOT

TAG = '<script src="/pocketsflow-checkout.js" data-api="{api}" async></script>'
BUTTON = '<button data-pf-sku="course">Buy</button>'
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "content-type,idempotency-key",
    "Access-Control-Expose-Headers": "retry-after",
}
TYPES = {"html": "text/html", "js": "text/javascript", "mjs": "text/javascript"}


@dataclass
class Asked:
    """A request for a checkout, as it came."""

    key: str
    content: Any
    headers: dict[str, str]


@dataclass
class Stub:
    """`at_first` and `status_at_first` are answers before the usual ones: (status, body, headers)."""

    site: Server = field(default_factory=lambda: Server(0, private=None))
    server: Server = field(default_factory=lambda: Server(0, private=None))
    head: str = TAG
    body: str = BUTTON
    html: str = '<html lang="en">'
    files: dict[str, str] = field(default_factory=dict)
    at_first: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    status_at_first: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    delay: float = 0
    url: str = ""
    """Of a checkout; a page of this site unless set."""
    states: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    """By idempotency key, as the API has them."""

    @property
    def api(self) -> str:
        return self.server.url

    @property
    def keys(self) -> list[str]:
        return [each.key for each in self.asked]

    def start(self) -> "Stub":
        self.site.start(Request.application(self._page))  # type: ignore[arg-type]
        self.server.start(Request.application(self._answer))  # type: ignore[arg-type]
        return self

    def close(self) -> None:
        self.site.close()
        self.server.close()

    def _page(self, request: Request) -> Response:
        name = request.path.rpartition("/")[2]
        if name.startswith("pocketsflow-checkout"):
            text = (ROOT / "storefront" / name).read_text()
        elif name in self.files:
            time.sleep(0.3 if name == "slow.js" else 0)
            text = self.files[name]
        elif name in ("", "thanks"):
            text, name = f"<!doctype html>{self.html}<title>A shop</title>{self.head}<main>{self.body}</main>", "x.html"
        elif name == "paying":
            text, name = "<!doctype html><title>Pay</title><h1>Pay here</h1>", "x.html"
        else:
            return Response(status=204)
        response = Response(text.replace("{api}", self.api), content_type=TYPES[name.rpartition(".")[2]])
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; "
            f"connect-src {self.api}; form-action {self.api} {self.site.url}; require-trusted-types-for 'script'"
        )
        return response

    def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headers=CORS)
        if request.path.startswith("/orders/"):
            status, body, headers = self._look(request.path.removeprefix("/orders/"))
        elif request.mimetype == "application/json":
            status, body, headers = self._open(request)
        else:
            self.asked.append(Asked("", request.form.to_dict(), dict(request.headers)))
            return Response(status=303, headers={"Location": f"{self.site.url}/paying?form"})
        return Response(json.dumps(body), status, {**CORS, "Set-Cookie": "a=b", **headers}, "application/json")

    def _open(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        key = request.headers["Idempotency-Key"]
        self.asked.append(Asked(key, request.get_json(), dict(request.headers)))
        scripted = self.at_first.pop(0) if self.at_first else None
        time.sleep(self.delay)
        if scripted:
            return scripted
        order_id = self.orders.setdefault(key, f"ord_test_{len(self.orders)}{uuid.uuid4().hex}")
        self.states.setdefault(order_id, "pending")
        url = self.url or f"{self.site.url}/paying?order={order_id}"
        status_url = f"{self.api}/orders/{order_id}"
        return 201, {"orderId": order_id, "sessionId": f"cs_{order_id}", "url": url, "statusUrl": status_url}, {}

    def _look(self, order_id: str) -> tuple[int, Any, dict[str, str]]:
        self.looked.append(order_id)
        if self.status_at_first:
            return self.status_at_first.pop(0)
        if order_id not in self.states:
            return problem(404, "order_not_found")
        return 200, {"orderId": order_id, "status": self.states[order_id], "updatedAt": "2026-11-28T10:00:00Z"}, {}


def problem(status: int, code: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """An answer of the functions; headers' underscores are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"type": "about:blank", "title": "No", "status": status, "code": code, "detail": "For developers only."}
    return status, body, named


def message(status: int, text: str) -> tuple[int, Any, dict[str, str]]:
    """An answer of API Gateway's own."""
    return status, {"message": text}, {}
