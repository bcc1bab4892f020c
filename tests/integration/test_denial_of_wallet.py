"""What a stranger's requests cost: what will be refused is refused before anything is paid for."""

import base64
from typing import Any

import pytest

import access
import checkout
import server
import webhook
from payments import checkout_request, http, server_keys, strictjson
from sandbox.worker import Context
from tests.conftest import Aws
from tests.integration.ledger_model import LEDGER, QUEUE, down
from tests.payloads import answered, delivery, http_event, paid, sign

FUNCTIONS = {
    "POST /checkout": (checkout, checkout_request.MAX_BODY),
    "POST /server/checkout": (server, checkout_request.MAX_BODY),
    "PUT /server/orders/shop-1": (server, checkout_request.MAX_BODY),
    "POST /access": (access, access.MAX_BODY),
    "POST /access/link": (access, access.MAX_BODY),
    "POST /webhooks/pocketsflow": (webhook, webhook.MAX_BODY),
}
"""Routes that take a body, and how large it may be."""
LOOKS_RIGHT = {
    "authorization": f"Bearer pfs_test_{'k' * 43}",
    "x_pocketsflow_signature": "0" * 64,
    "idempotency_key": "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21",
}
UPDATE, SEND = "dynamodb UpdateItem", "sqs SendMessage"


@pytest.fixture
def cloud(emptied: Aws) -> Aws:
    return emptied


def call(route: str, body: bytes, **headers: str) -> tuple[int, str]:
    event = http_event(route, body, **{"content_type": "application/json", **headers})
    return call_with(event)


def call_with(event: dict[str, Any]) -> tuple[int, str]:
    function = next(each for route, (each, _) in FUNCTIONS.items() if event["rawPath"] in route)
    status, content = answered(function.handler(event, Context(9)))
    return status, content.get("code") or content["outcome"]


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("that is work")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither parsed, nor hashed, nor looked up."""
    monkeypatch.setattr(strictjson, "parse", never)
    monkeypatch.setattr(server_keys, "is_valid", never)
    monkeypatch.setattr(webhook.signature, "verify", never)


def test_every_route_with_a_body_is_here() -> None:
    """Those of the gateway."""
    from tests.openapi import OPERATIONS  # here, because it takes a while

    taking = {route for route, each in OPERATIONS.items() if "requestBody" in each.content}
    assert taking == {http_event(route)["routeKey"] for route in FUNCTIONS}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("route", FUNCTIONS)
def test_a_body_that_is_too_large_is_no_work(cloud: Aws, wire: list[str], route: str) -> None:
    """413 whatever came with it: no request to AWS or to Pocketsflow, and nothing is read."""
    body = b"x" * (FUNCTIONS[route][1] + 1)
    assert call(route, body, **LOOKS_RIGHT) == (413, "body_too_large")
    assert wire == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("route", FUNCTIONS)
@pytest.mark.parametrize("encoded", [True, False])
def test_it_is_not_even_decoded(
    cloud: Aws, wire: list[str], monkeypatch: pytest.MonkeyPatch, route: str, encoded: bool
) -> None:
    """Its length tells."""
    monkeypatch.setattr(http.base64, "b64decode", never)
    event = http_event(route, b"", content_type="application/json", **LOOKS_RIGHT)
    size = FUNCTIONS[route][1] + 1
    body = base64.b64encode(b"x" * (size + 3)).decode() if encoded else "x" * size
    assert call_with({**event, "body": body, "isBase64Encoded": encoded}) == (413, "body_too_large")
    assert wire == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("signature", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 63 + "\n", "０" * 64, "0" * 8_192])
def test_what_is_no_signature_is_no_work(cloud: Aws, wire: list[str], signature: str) -> None:
    """The secret is not asked for, no HMAC is made."""
    assert call("POST /webhooks/pocketsflow", b"x" * webhook.MAX_BODY, x_pocketsflow_signature=signature) == (
        401,
        "invalid_signature",
    )
    assert wire == []


def test_an_unsigned_body_is_never_read(cloud: Aws, wire: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret, once a minute, is all that a wrong signature costs: neither the ledger nor the queue is asked, and
    the body is not parsed."""
    monkeypatch.setattr(strictjson, "parse", never)
    for number in range(20):
        body = f'{{"number": {number}}}'.encode()
        assert (
            call("POST /webhooks/pocketsflow", body, x_pocketsflow_signature=sign(body, "whsec_another_012345"))[0]
            == 401
        )
    assert wire == ["secretsmanager GetSecretValue"]


@pytest.mark.parametrize(
    ("route", "body", "headers", "code"),
    [
        ("POST /checkout", b"{", {}, "invalid_request"),
        ("POST /checkout", b'{"sku": "nothing"}', {}, "invalid_request"),
        ("POST /checkout", b'{"sku": "course"}', {"content_type": "text/plain"}, "unsupported_media_type"),
        ("POST /checkout", b'{"sku": "course"}', {"idempotency_key": "1"}, "invalid_idempotency_key"),
        ("POST /server/checkout", b"{}", {"authorization": ""}, "unauthorized"),
        ("POST /server/checkout", b"{}", {"authorization": "Bearer x"}, "unauthorized"),
        ("POST /server/checkout", b"{}", {"authorization": f"Bearer pfs_prod_{'k' * 43}"}, "unauthorized"),
        ("POST /server/checkout", b"{}", {"authorization": f"Basic pfs_test_{'k' * 43}"}, "unauthorized"),
        ("PUT /server/orders/shop-1", b"{}", {"authorization": f"Bearer pfs_test_{'k' * 44}"}, "unauthorized"),
    ],
)
def test_what_has_no_form_costs_nothing(
    cloud: Aws, wire: list[str], route: str, body: bytes, headers: dict[str, str], code: str
) -> None:
    """No request leaves for what cannot be served whatever the ledger says."""
    assert call(route, body, **headers)[1] == code
    assert wire == []


def test_parking_is_bounded(cloud: Aws, order_id: str, wire: list[str]) -> None:
    """Two tries of the ledger and two of the queue for a delivery, whatever fails; what comes out of the queue is
    never put into it again."""
    event = delivery(paid(order_id))
    with down(LEDGER):
        assert call_with(event) == (200, "parked")
    wire.clear()
    with down(LEDGER, QUEUE):
        assert call_with(event) == (500, "ledger_unavailable")
    assert wire == [UPDATE, UPDATE, SEND, SEND]
    wire.clear()
    with down(LEDGER):
        assert len(cloud.unpark(webhook.handler, Context(9))) == 1
    assert wire == [UPDATE, UPDATE]
