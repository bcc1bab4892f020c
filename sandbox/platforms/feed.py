"""A stand-in for the catch-hook of a no-code tool: it keeps what comes, and answers as the tools do.

Zapier says 200 `{"status": "success"}`, n8n 404 for a hook that is not its own or not active.
help.zapier.com/hc/en-us/articles/8496288690317, docs.n8n.io/integrations/builtin/core-nodes/n8n-nodes-base.webhook
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import requests
from werkzeug.wrappers import Request, Response

from sandbox.purchase import PurchaseFailed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sandbox.system import Addresses

_HOOK = "/hooks/catch/1234567/abcdef/"
_TIMEOUT = 10
_SECONDS = 20.0
"""Until what was paid has come."""


class Platform:
    stack = "FeedStack"
    parameters: Mapping[str, str] = {"Feed": "on"}
    settings: Mapping[str, Any] = {}

    def __init__(self, url: str) -> None:
        self._url = url
        self.secret = f"{url}{_HOOK}"
        self.caught: list[dict[str, Any]] = []

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.method == "GET" and request.path == "/state":
            return _json(200, self.caught)
        if request.method != "POST" or request.path != _HOOK:
            return _json(404, {"code": 404, "message": "The requested webhook is not registered."})
        self.caught.append(json.loads(request.get_data()))
        return _json(200, {"status": "success"})

    def story(self, addresses: "Addresses") -> Iterator[str]:
        with requests.Session() as http:
            http.trust_env = False
            yield f"1 The trigger of the no-code tool waits at {self.secret}, which is the connector's secret"
            invoked = http.post(
                f"{addresses.api}/_sandbox/invoke/FeedStackConnectorFunction", json={"test": "order.paid"}, timeout=60
            )
            yield f"2 pf connector test feed: a sample to map fields from\n    {invoked.text.strip()}"
            if not any(content["test"] for content in self.caught):
                raise PurchaseFailed("the sample has not come")

            form = {"sku": "course", "metadata[campaign]": "autumn"}
            sent = http.post(f"{addresses.api}/checkout", data=form, allow_redirects=False, timeout=_TIMEOUT)
            yield f"3 A page without script posts its form: {sent.status_code} to the checkout"
            if sent.status_code != 303:
                raise PurchaseFailed(f"the form was answered {sent.status_code}")
            [session] = parse_qs(urlsplit(sent.headers["Location"]).query)["session"]
            pay = f"{addresses.pocketsflow}/_sandbox/sessions/{session}/pay"
            payment = http.post(pay, json={}, timeout=_TIMEOUT).json()["orderId"]
            yield f"4 The buyer pays: Pocketsflow's order {payment}"
        yield f"5 The tool has it, flat\n{json.dumps(self._until_caught(payment), indent=4)}"

    def _until_caught(self, payment: str) -> dict[str, Any]:
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            for content in list(self.caught):
                if content["type"] == "order.paid" and content["payment_id"] == payment:
                    return content
            time.sleep(0.05)
        raise PurchaseFailed(f"no order.paid came within {_SECONDS:g} seconds")


def _json(status: int, content: Any) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
