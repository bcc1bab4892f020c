"""The merchant's mailbox: what Amazon SES was given to send, as moto keeps it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import requests
from werkzeug.wrappers import Request, Response

from sandbox import aws
from sandbox.purchase import PurchaseFailed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sandbox.system import Addresses

_TIMEOUT = 10
_SECONDS = 20.0
"""Until the mail is there."""


class Platform:
    stack = "NoticesStack"
    parameters: Mapping[str, str] = {"NoticesTo": "merchant@shop.example", "NoticesFrom": "stack@shop.example"}
    settings: Mapping[str, Any] = {}
    secret = ""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        is_state = Request(environ).path == "/state"
        answer = (
            Response(json.dumps(self.mails()), content_type="application/json") if is_state else Response(status=404)
        )
        return answer(environ, start_response)

    def mails(self) -> list[dict[str, str]]:
        """To the merchant, oldest first."""
        return [mail for mail in aws.mails() if mail["to"] == self.parameters["NoticesTo"]]

    def story(self, addresses: "Addresses") -> Iterator[str]:
        with requests.Session() as http:
            http.trust_env = False
            order = http.post(f"{addresses.api}/checkout", json={"sku": "course"}, timeout=_TIMEOUT).json()
            yield f"1 A buyer opens a checkout: {order['orderId']}"
            for number, word in ((2, "pays"), (3, "pays once more, from a page that was still open")):
                pay = f"{addresses.pocketsflow}/_sandbox/sessions/{order['sessionId']}/pay"
                paid = http.post(pay, json={}, timeout=_TIMEOUT).json()
                yield f"{number} The buyer {word}: Pocketsflow's order {paid['orderId']}"
        mail = self._until_mailed(order["orderId"])
        text = mail["text"].replace("\n", "\n    ")
        yield f"4 The merchant has mail\n    To: {mail['to']}\n    Subject: {mail['subject']}\n\n    {text}"

    def _until_mailed(self, order_id: str) -> dict[str, str]:
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            for mail in self.mails():
                if order_id in mail["subject"]:
                    return mail
            time.sleep(0.05)
        raise PurchaseFailed(f"no mail came within {_SECONDS:g} seconds")
