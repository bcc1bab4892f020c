"""Members are let in by this stack itself, so no platform is spoken to: what stands here tells the story."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import requests
from werkzeug.wrappers import Response

from sandbox.aws import mails
from sandbox.purchase import PurchaseFailed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sandbox.system import Addresses

BUYER = "member@shop.example"
_TIMEOUT = 10
_SECONDS = 20.0
"""Until what was paid has become access."""


class Platform:
    stack = "MembershipStack"
    parameters: ClassVar = {"Membership": "on", "AccountConcurrency": "1000", "MemberMailFrom": "door@shop.example"}
    settings: ClassVar[dict[str, Any]] = {}
    secret = ""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return Response("nobody is called here", status=404)(environ, start_response)

    def story(self, addresses: "Addresses") -> Iterator[str]:
        with requests.Session() as http:
            http.trust_env = False
            item = {"sku": "membership", "customerEmail": BUYER, "successUrl": f"{addresses.shop}/members.html"}
            checkout = _expect(http.post(f"{addresses.api}/checkout", json=item, timeout=_TIMEOUT), 201)
            yield f"1 A buyer asks for the membership\n    {checkout['orderId']}"
            session = checkout["sessionId"]
            _expect(http.post(f"{addresses.pocketsflow}/_sandbox/sessions/{session}/pay", timeout=_TIMEOUT), 200)
            yield "2 They pay at Pocketsflow, whose webhook settles the order"
            access = f"{addresses.api}/access"
            opened = _soon(http, access, {"orderId": checkout["orderId"]})
            yield f"3 Back on the page, the order id is exchanged, once\n    levels {opened['levels']}"
            room = f"{addresses.shop}/members/{opened['levels'][0]}.json"
            _expect(http.get(room, timeout=_TIMEOUT), 401)
            bearer = {"Authorization": f"Bearer {opened['token']}"}
            seen = _expect(http.get(room, headers=bearer, timeout=_TIMEOUT), 200)
            yield f"4 The site checks the token by the JWKS and lets them in\n    {seen['title']}: {seen['text']}"
            _expect(http.post(f"{access}/link", json={"email": BUYER}, timeout=_TIMEOUT), 202)
            sent = [mail["text"] for mail in mails() if mail["to"] == BUYER]
            if not sent:
                raise PurchaseFailed("no link was sent")
            code = sent[-1].partition("#access=")[2].split()[0]
            yield f"5 The next day a link comes by mail\n    {addresses.api}/_sandbox/mails/"
            again = _expect(http.post(access, json={"code": code}, timeout=_TIMEOUT), 201)
            yield f"6 It lets them in, once\n    levels {again['levels']}, session until {again['sessionExpiresAt']}"


def _soon(http: requests.Session, access: str, body: dict[str, str]) -> Any:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        answer = http.post(access, json=body, timeout=_TIMEOUT)
        if answer.status_code != 409:
            return _expect(answer, 201)
        time.sleep(0.1)
    raise PurchaseFailed("the payment did not become access")


def _expect(answer: requests.Response, status: int) -> Any:
    if answer.status_code != status:
        raise PurchaseFailed(f"{answer.request.method} {answer.url} gave {answer.status_code} {answer.text}")
    return answer.json()
