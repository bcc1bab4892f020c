"""Answers of the running system against infra/openapi.yaml, and a client that is made from it."""

import copy
import hashlib
import hmac
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from sandbox import aws
from sandbox.gateway import MAX_PAYLOAD
from sandbox.pocketsflow import WEBHOOK_SECRET
from sandbox.system import catalogue
from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, http, make_key, pf, shell, start
from tests.openapi import DOCUMENT, FORM, HTML, JSON, OPERATIONS, PROBLEM, deref, errors

DIRECT: dict[str, Any] = {"trust_env": False}
"""No proxy."""
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""For `make fuzz`: so long, and other requests each time."""
THE_SAME = ("--max-examples", "40", "--seed", "1", "--generation-deterministic")
LEFT_OUT = {
    "unsupported_method": "API Gateway answers 404, and not 405, to a method that a path does not have",
}


# --- Answers ----------------------------------------------------------------------------------------------------------


class Client:
    """Asks a sandbox, and holds each answer against the document. `seen` has what has been answered: route, status, and
    code or content type."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.seen: set[tuple[str, int, str]] = set()

    def ask(self, route: str, path: str | None = None, **options: Any) -> requests.Response:
        method, template = route.split(" ")
        url = self.sandbox.api + (path or template)
        answer = http.request(method, url, timeout=60, allow_redirects=False, **options)
        self.seen.add((route, answer.status_code, told_by(route, answer)))
        return answer

    def checkout(self, content: Any = None, /, **headers: str) -> requests.Response:
        return self.ask("POST /checkout", json={"sku": "course", **(content or {})}, headers=headers)

    def form(self, fields: dict[str, str], /, **headers: str) -> requests.Response:
        return self.ask("POST /checkout", data=fields, headers=headers)

    def deliver(self, body: bytes, signature: str | None = None) -> requests.Response:
        signed = hmac.digest(WEBHOOK_SECRET.encode(), body, "sha256").hex()
        headers = {"X-Pocketsflow-Signature": signature or signed, "Content-Type": JSON}
        return self.ask("POST /webhooks/pocketsflow", data=body, headers=headers)

    def server(self, key: str, content: Any, /, **headers: str) -> requests.Response:
        return self.ask("POST /server/checkout", json=content, headers={**bearer(key), **headers})

    def register(self, key: str, reference: str, content: Any) -> requests.Response:
        path = f"/server/orders/{reference}"
        return self.ask("PUT /server/orders/{reference}", path, json=content, headers=bearer(key))

    def faults(self, **kinds: str) -> None:
        """Of AWS."""
        wanted = {service: {"kind": kind, "seconds": 600} for service, kind in kinds.items()}
        http.post(f"{self.sandbox.api}/_sandbox/faults", json=wanted, timeout=15).raise_for_status()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def told_by(route: str, answer: requests.Response) -> str:
    """Its code, or what else it is; after holding status, headers and body against the document."""
    documented = deref(OPERATIONS[route].content["responses"][str(answer.status_code)])
    kind = answer.headers.get("content-type", "").partition(";")[0] if answer.content else ""
    of_gateway = kind == JSON and answer.status_code >= 400
    for name, header in documented.get("headers", {}).items():
        given, wanted = answer.headers.get(name), deref(header)
        if given is None:
            assert of_gateway or not wanted.get("required", False), (route, answer.status_code, name)
        else:
            value = int(given) if wanted["schema"].get("type") == "integer" else given
            assert errors(wanted["schema"], value) == [], (route, name)
    for name in ("Retry-After", "Location", "WWW-Authenticate"):
        assert name not in answer.headers or name in documented["headers"], (route, answer.status_code, name)
    if not of_gateway:
        assert answer.headers["cache-control"] == ("no-store" if "jwks" not in route else "public, max-age=300")
        assert answer.headers["x-content-type-options"] == "nosniff"
    if not kind:
        assert "content" not in documented
        return "nothing"
    content = answer.text if kind == HTML else answer.json()
    assert errors(documented["content"][kind]["schema"], content, closed=kind != HTML) == []
    if kind == PROBLEM:
        assert content["status"] == answer.status_code
        assert ("errors" in content) == (content["code"] == "invalid_request")
        return str(content["code"])
    return "gateway" if of_gateway else kind


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    made = Client(sandbox)
    yield made
    made.faults()


def test_every_answer_is_documented(client: Client, key: str) -> None:
    """Status, headers and body of every answer that can be provoked in a shop that works."""
    buyer_and_gateway(client)
    of_webhooks(client)
    of_the_server(client, key)
    of_pocketsflow(client, key)
    of_members(client)
    expected = {
        ("POST /checkout", 201, JSON),
        ("POST /checkout", 303, "nothing"),
        *(("POST /checkout", status, HTML) for status in (400, 403, 409, 413)),
        *(("POST /checkout", 400, code) for code in ("invalid_request", "invalid_idempotency_key")),
        ("POST /checkout", 409, "idempotency_key_reused"),
        ("POST /checkout", 413, "body_too_large"),
        ("POST /checkout", 413, "gateway"),
        ("POST /checkout", 415, "unsupported_media_type"),
        ("GET /orders/{orderId}", 200, JSON),
        ("GET /orders/{orderId}", 404, "order_not_found"),
        ("GET /orders/{orderId}", 503, "ledger_unavailable"),
        ("POST /webhooks/pocketsflow", 200, JSON),
        ("POST /webhooks/pocketsflow", 401, "invalid_signature"),
        ("POST /webhooks/pocketsflow", 413, "body_too_large"),
        ("POST /webhooks/pocketsflow", 413, "gateway"),
        ("POST /webhooks/pocketsflow", 500, "ledger_unavailable"),
        ("POST /server/checkout", 201, JSON),
        *(("POST /server/checkout", 400, code) for code in ("invalid_request", "invalid_idempotency_key")),
        *(
            ("POST /server/checkout", 409, code)
            for code in ("idempotency_key_reused", "reference_reused", "in_progress")
        ),
        ("PUT /server/orders/{reference}", 200, JSON),
        ("PUT /server/orders/{reference}", 201, JSON),
        ("PUT /server/orders/{reference}", 400, "invalid_request"),
        ("PUT /server/orders/{reference}", 409, "reference_reused"),
        *(
            (route, status, code)
            for route in ("POST /server/checkout", "PUT /server/orders/{reference}")
            for status, code in (
                (401, "unauthorized"),
                (413, "body_too_large"),
                (413, "gateway"),
                (415, "unsupported_media_type"),
                (503, "ledger_unavailable"),
            )
        ),
        *(
            (route, status, code)
            for route in ("POST /checkout", "POST /server/checkout")
            for status, code in (
                (400, "discount_code_refused"),
                (502, "pocketsflow_refused"),
                (502, "pocketsflow_unauthorized"),
                (502, "pocketsflow_failed"),
                (502, "pocketsflow_unexpected"),
                (503, "pocketsflow_busy"),
                (503, "pocketsflow_unreachable"),
            )
        ),
        *(("POST /server/checkout", 502, code) for code in ("product_refused", "product_differs")),
        ("POST /access", 201, JSON),
        ("POST /access", 200, JSON),
        ("POST /access", 409, "access_pending"),
        *(("POST /access", 403, code) for code in ("exchange_over", "no_access")),
        ("GET /access", 200, JSON),
        ("GET /access", 401, "no_session"),
        ("GET /access", 503, "access_unavailable"),
        ("POST /access/link", 202, JSON),
        *(
            (route, status, code)
            for route in ("POST /access", "POST /access/link")
            for status, code in (
                (400, "invalid_request"),
                (413, "body_too_large"),
                (413, "gateway"),
                (415, "unsupported_media_type"),
            )
        ),
        ("POST /access", 503, "access_unavailable"),
        ("GET /.well-known/jwks.json", 200, JSON),
        ("POST /checkout", 502, HTML),
        ("POST /checkout", 503, HTML),
        ("POST /checkout", 503, "ledger_unavailable"),
    }
    assert client.seen == expected


def buyer_and_gateway(client: Client) -> None:
    ours = {"sku": "course"}
    key = "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e99"
    opened = client.checkout({"metadata": {"cart": "7"}}, **{"Idempotency-Key": key}).json()
    assert client.checkout({"metadata": {"cart": "7"}}, **{"Idempotency-Key": key.upper()}).json() == opened
    client.checkout({"metadata": {"cart": "8"}}, **{"Idempotency-Key": key})
    client.checkout({"sku": "other"})
    client.checkout({}, **{"Idempotency-Key": "x"})
    client.ask("POST /checkout", data="x", headers={"Content-Type": "text/plain"})
    client.ask("POST /checkout", data=b" " * 65537, headers={"Content-Type": JSON})
    client.form({**ours, "metadata[cart]": "7"}, Origin=client.sandbox.shop)
    client.form({**ours, "sku": "other"})
    client.form(ours, Origin="https://evil.example")
    client.form({**ours, "metadata[cart]": "9"}, **{"Idempotency-Key": key.replace("9", "8")})
    client.form({**ours, "metadata[cart]": "0"}, **{"Idempotency-Key": key.replace("9", "8")})
    client.form({**ours, "metadata[cart]": "9" * 65536})
    client.ask("GET /orders/{orderId}", f"/orders/{opened['orderId']}")
    client.sandbox.pay(opened["sessionId"])
    paid = client.ask("GET /orders/{orderId}", f"/orders/{opened['orderId']}").json()
    assert paid["status"] == "paid"
    client.ask("GET /orders/{orderId}", "/orders/A-1001")
    for route in OPERATIONS:
        if not route.startswith("GET"):
            path = route.split(" ")[1].replace("{reference}", "A-1")
            client.ask(route, path, data=b" " * (MAX_PAYLOAD + 1), headers={"Content-Type": JSON})
    client.faults(dynamodb="throttled")
    client.ask("GET /orders/{orderId}", f"/orders/{opened['orderId']}")
    client.checkout()
    client.form(ours)
    client.faults()


def of_webhooks(client: Client) -> None:
    assert client.deliver(b"no JSON").json()["outcome"] == "recorded"
    client.deliver(b"{}", "0" * 64)
    client.deliver(b"{}", "x")
    client.deliver(b" " * (256 * 1024 + 1))
    client.faults(dynamodb="throttled")
    assert client.deliver(b'{"event": "review.created"}').json()["outcome"] == "parked"
    client.faults(dynamodb="throttled", sqs="throttled")
    client.deliver(b'{"event": "review.created"}')
    client.faults()


def of_members(client: Client) -> None:
    """The course has a level, the print has none."""
    session = ""
    for sku in ("print", "course"):
        opened = client.checkout({"sku": sku}).json()
        order = {"orderId": opened["orderId"]}
        assert client.ask("POST /access", json=order).status_code == 409
        client.sandbox.pay(opened["sessionId"])
        until = time.monotonic() + 20
        while (answer := client.ask("POST /access", json=order)).status_code == 409:
            assert time.monotonic() < until
            time.sleep(0.1)
        session = answer.json().get("session", session)
    client.ask("POST /access", json=order)
    for route, content in (("POST /access", {"code": "x"}), ("POST /access/link", {"email": "x"})):
        client.ask(route, json=content)
        client.ask(route, data="x", headers={"Content-Type": "text/plain"})
        client.ask(route, data=b" " * 4097, headers={"Content-Type": JSON})
    client.ask("POST /access/link", json={"email": "stranger@example.com"})
    client.ask("GET /access", headers=bearer(session))
    client.ask("GET /access", headers=bearer("x"))
    client.ask("POST /access", json={"leave": session[:-43] + "A" * 43})
    client.ask("GET /.well-known/jwks.json")
    client.faults(dynamodb="throttled")
    client.ask("POST /access", json=order)
    client.ask("GET /access", headers=bearer(session))
    client.faults()


def of_the_server(client: Client, key: str) -> None:
    ours = {"sku": "course", "reference": "contract-1"}
    opened = client.server(key, ours).json()
    assert opened["reference"] == "contract-1"
    assert client.server(key, ours).json() == opened
    client.server(key, {"sku": "course"})
    client.server(key, {**ours, "sku": "print"})
    client.server(key, {"sku": "course", "successUrl": "http://elsewhere.example/"})
    client.server(key, {"sku": "course", "challengeToken": "x"})
    again = {"Idempotency-Key": "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e98"}
    client.server(key, {"sku": "course"}, **again)
    client.server(key, {"sku": "print"}, **again)
    client.server(key, {"sku": "course"}, **{"Idempotency-Key": "x"})
    registered = client.register(key, "contract-2", {"sku": "course", "metadata": {"a": "b"}}).json()
    assert client.register(key, "contract-2", {"sku": "course", "metadata": {"a": "b"}}).json() == registered
    client.register(key, "contract-2", {"sku": "course"})
    client.register(key, "ord_x", {"sku": "course"})
    client.register(key, "contract-3", {"sku": "course", "successUrl": "https://shop.example"})
    for other in ("", "x", f"pfs_sandbox_{'x' * 43}"):
        client.server(other, ours)
        client.register(other, "contract-2", {"sku": "course"})
    for route in ("POST /server/checkout", "PUT /server/orders/{reference}"):
        path = route.split(" ")[1].replace("{reference}", "contract-4")
        client.ask(route, path, data="sku=course", headers={**bearer(key), "Content-Type": FORM})
        client.ask(route, path, data=b" " * 65537, headers={**bearer(key), "Content-Type": JSON})
    client.faults(dynamodb="throttled")
    client.server(key, ours)
    client.register(key, "contract-2", {"sku": "course"})
    client.faults()
    in_flight(client.sandbox, opened["orderId"])
    client.server(key, ours)


def in_flight(sandbox: Sandbox, order_id: str) -> None:
    """As if the session of an order were being made at this moment."""
    aws.client("dynamodb", sandbox.aws).update_item(
        TableName="sandbox-Ledger",
        Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET attempted_at = :now REMOVE session_id, checkout_url",
        ExpressionAttributeValues={":now": {"S": datetime.now(UTC).isoformat(timespec="milliseconds")[:23] + "Z"}},
    )


def of_pocketsflow(client: Client, key: str) -> None:
    def ask(content: dict[str, str], **faults: Any) -> None:
        client.sandbox.faults(**faults)
        client.checkout(content)
        client.server(key, {"sku": "course", **content})

    ask({"discountCode": "NONE"}, http_status=422)
    for status in (401, 422, 429, 500):
        ask({}, http_status=status)
    client.form({"sku": "course"})
    client.sandbox.faults(http_status=429)
    client.form({"sku": "course"})
    ask({}, http_body="<html>")
    ask({}, http_delay_seconds=20)
    cart = {"name": "Cart", "total": {"amount": "60.00", "currency": "usd"}}
    client.sandbox.faults(http_status=422)
    client.server(key, cart)
    client.sandbox.faults(http_body='{"_id": "65a1b2c3d4e5f6a7b8c9d0e1", "price": 6000}')
    client.server(key, cart)
    client.sandbox.faults()


def test_answers_of_a_shop_that_is_not_set_up() -> None:
    """The same where secrets are missing or out of reach, a return address is of another shop, an address opens too
    many checkouts, and a challenge is not solved."""
    sandbox = start(
        *("--port", "0", "--fault", "secretsmanager=down:600", "--parameter", "Challenge=turnstile"),
        *("--parameter", "CheckoutsPerAddress=6", "--parameter", "SuccessUrl=https://elsewhere.example/thank-you"),
    )
    try:
        client, key = Client(sandbox), make_key(sandbox, "contract")
        secrets = aws.client("secretsmanager", sandbox.aws)
        back = {"successUrl": f"{sandbox.shop}/thank-you.html"}
        client.checkout()
        client.checkout(back)
        client.server(key, {"sku": "course"})
        client.deliver(b"{}")
        client.faults()
        client.checkout(back)
        client.form({"sku": "course", **back})
        client.faults(secretsmanager="down")
        client.checkout({**back, "challengeToken": "solved-1"})
        client.faults()
        for name in ("ApiKey", "WebhookSecrets", "ChallengeSecret"):
            secrets.put_secret_value(SecretId=f"sandbox-{name}", SecretString=" ")
        client.checkout({**back, "challengeToken": "solved-1"})
        client.server(key, {"sku": "course"})
        client.deliver(b"{}")
        for _ in range(5):  # also where ten minutes end in between
            client.checkout(back)
            client.form({"sku": "course", **back})
    finally:
        assert sandbox.end() == 0
    assert client.seen == {
        ("POST /checkout", 503, "return_address_not_allowed"),
        ("POST /checkout", 503, "api_key_unreachable"),
        ("POST /checkout", 403, "challenge_failed"),
        ("POST /checkout", 403, HTML),
        ("POST /checkout", 503, "challenge_unreachable"),
        ("POST /checkout", 503, "challenge_secret_missing"),
        ("POST /checkout", 429, "too_many_checkouts"),
        ("POST /checkout", 429, HTML),
        ("POST /server/checkout", 503, "api_key_unreachable"),
        ("POST /server/checkout", 503, "api_key_missing"),
        ("POST /webhooks/pocketsflow", 500, "webhook_secret_unreachable"),
        ("POST /webhooks/pocketsflow", 503, "webhook_secret_missing"),
    }


# --- schemathesis -----------------------------------------------------------------------------------------------------


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """With all of the requests that the fake Pocketsflow takes. Killed: moto copies its table for each transaction, and
    takes its time to let go of hundreds of copies."""
    running = start("--port", "0")
    yield running
    running.process.kill()
    running.process.communicate(timeout=15)


def test_schemathesis_finds_nothing(own_sandbox: Sandbox, tmp_path: Path) -> None:
    """Hundreds of right and wrong requests to every route: each answer is documented, every wrong request is refused,
    every right one is served. Always the same ones, but for the ports in addresses and where `make fuzz` asks."""
    sandbox, key = own_sandbox, make_key(own_sandbox, "fuzz")
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(of_this_shop(sandbox)))
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", str(tmp_path / "openapi.yaml")),
        *("--url", sandbox.api, "--header", f"Authorization: Bearer {key}"),
        *("--checks", "all", "--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--no-shrink"),
        *(("--max-time", f"{FUZZ_SECONDS:g}", "--max-examples", "100000") if FUZZ_SECONDS else THE_SAME),
        *("--request-timeout", "20", "--output-sanitize", "false", "--no-color"),
    ]
    told = subprocess.run(
        command,
        cwd=tmp_path,
        env={**shell(), "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.e2e.fuzzing", "NO_PROXY": "*"},
        capture_output=True, text=True, timeout=240 + FUZZ_SECONDS, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Tested: 5" in told.stdout


def of_this_shop(sandbox: Sandbox) -> dict[str, Any]:
    """The document, narrowed to what only the shop knows: its skus, its origins, an order. It has no members, whose
    routes answer to what was bought a moment ago."""
    content: dict[str, Any] = copy.deepcopy(DOCUMENT)
    for path in ("/access", "/access/link", "/.well-known/jwks.json"):
        del content["paths"][path]
    schemas = content["components"]["schemas"]
    for name in ("CheckoutRequest", "CheckoutForm", "ServerCheckoutRequest", "Registration"):
        for keyword in ("if", "then", "else"):
            del schemas[name][keyword]
        fields = schemas[name]["properties"]
        del fields["productId"]
        fields.pop("name", None)  # in the place of a sku
        schemas[name] |= {"required": ["sku"], "properties": {each: _flat(fields[each]) for each in fields}}
        schemas[name]["properties"]["sku"] = {"enum": sorted(catalogue())}
        absent = "" if name == "CheckoutForm" else None
        for each in {"successUrl", "cancelUrl"} & fields.keys():
            here = [f"{sandbox.shop}/thank-you.html", f"{sandbox.shop}/?a=1#b"]
            schemas[name]["properties"][each] = {"enum": [*here, absent]}
    for path in ("/checkout", "/server/checkout"):
        shown = content["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"]
        for name in ("product", "cart"):
            shown.pop(name, None)
        for name in ("successUrl", "cancelUrl"):
            shown["everything"]["value"][name] = f"{sandbox.shop}/thank-you.html"
    order_id, _ = sandbox.order()
    [parameter] = content["paths"]["/orders/{orderId}"]["get"]["parameters"]
    parameter["example"] = order_id
    return content


def _flat(field: dict[str, Any]) -> dict[str, Any]:
    """A field that may be absent, without an alternative: of those schemathesis makes fewer wrong values."""
    wanted, absent = field["anyOf"]
    whole = copy.deepcopy(deref(wanted))
    if "const" not in absent:
        return {**whole, "type": [whole["type"], "null"]}
    return {**whole, "pattern": "|".join(("^$", whole["pattern"]))}


# --- A client made from it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package `shop_client`, made by openapi-python-client without a word of warning; importable."""
    folder = tmp_path_factory.mktemp("generated")
    tools = Path(sys.executable).parent
    told = subprocess.run(
        [
            *(str(tools / "openapi-python-client"), "generate", "--path", str(ROOT / "infra/openapi.yaml")),
            *("--output-path", str(folder / "shop_client"), "--meta", "none", "--fail-on-warning"),
        ],
        env={**shell(), "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def test_a_generated_client_buys(sandbox: Sandbox, generated: Path) -> None:
    """Checkout, payment, paid; and a refusal is an object with its code."""
    shop_client, models = importlib.import_module("shop_client"), importlib.import_module("shop_client.models")
    create_checkout = importlib.import_module("shop_client.api.browser.create_checkout")
    read_order = importlib.import_module("shop_client.api.browser.read_order")
    with shop_client.Client(base_url=sandbox.api, raise_on_unexpected_status=True, httpx_args=DIRECT) as client:
        body = models.CheckoutRequest(sku="course", customer_email="buyer@example.com")
        checkout = create_checkout.sync(
            client=client, body=body, idempotency_key="6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e97"
        )
        assert isinstance(checkout, models.Checkout)
        assert read_order.sync(checkout.order_id, client=client).status is models.Status.PENDING
        sandbox.pay(checkout.session_id)
        assert read_order.sync(checkout.order_id, client=client).status is models.Status.PAID
        refused = create_checkout.sync(client=client, body=models.CheckoutRequest(sku="other"))
        assert refused.code == "invalid_request"
        assert [each.field for each in refused.errors] == ["sku"]
        form = create_checkout.sync_detailed(client=client, body=models.CheckoutForm(sku="course"))
        assert form.status_code == 303
        assert form.headers["location"].startswith(sandbox.pocketsflow)


def test_a_generated_client_of_the_server(sandbox: Sandbox, generated: Path, key: str) -> None:
    """With its key: a checkout by reference, and an order that is registered; without one it is told so."""
    shop_client, models = importlib.import_module("shop_client"), importlib.import_module("shop_client.models")
    create = importlib.import_module("shop_client.api.server.create_server_checkout")
    register = importlib.import_module("shop_client.api.server.register_order")
    read_order = importlib.import_module("shop_client.api.browser.read_order")
    options = {"base_url": sandbox.api, "raise_on_unexpected_status": True, "httpx_args": DIRECT}
    with shop_client.AuthenticatedClient(token=key, **options) as client:
        metadata = models.Metadata.from_dict({"customer": "4711"})
        body = models.ServerCheckoutRequest(sku="course", reference="generated-1", metadata=metadata)
        checkout = create.sync(client=client, body=body)
        assert checkout.reference == "generated-1"
        sandbox.pay(checkout.session_id)
        assert read_order.sync(checkout.order_id, client=client).status is models.Status.PAID
        total = models.Total(amount="60.00", currency="usd")
        cart = create.sync(client=client, body=models.ServerCheckoutRequest(name="Order generated-3", total=total))
        sandbox.pay(cart.session_id)
        assert read_order.sync(cart.order_id, client=client).status is models.Status.PAID
        registered = register.sync_detailed("generated-2", client=client, body=models.Registration(sku="print"))
        assert registered.status_code == 201
        again = register.sync_detailed("generated-2", client=client, body=models.Registration(sku="print"))
        assert again.status_code == 200
        assert again.parsed == registered.parsed
        other = register.sync("generated-2", client=client, body=models.Registration(sku="course"))
        assert other.code == "reference_reused"
    with shop_client.AuthenticatedClient(token="none", **options) as client:
        assert create.sync(client=client, body=body).code == "unauthorized"


# --- pf ---------------------------------------------------------------------------------------------------------------


def test_the_table_knows_no_token(sandbox: Sandbox, client: Client) -> None:
    """`pf --sandbox key create` leaves the token's hash in the table, and the token nowhere; it counts at once, and no
    longer once it is revoked."""
    token = make_key(sandbox, "scanned")
    pages = aws.client("dynamodb", sandbox.aws).get_paginator("scan").paginate(TableName="sandbox-Ledger")
    written = [item for page in pages for item in page["Items"]]
    [keys] = [item for item in written if item["pk"]["S"] == "server#keys"]
    assert f"key#{hashlib.sha256(token.encode()).hexdigest()}" in keys
    for part in (token, token.removeprefix("pfs_sandbox_")):
        assert part not in repr(written)
    assert client.register(token, "scanned-1", {"sku": "course"}).status_code == 201
    shown = json.loads(pf(sandbox, "key", "list", "--json").stdout)
    assert "scanned" in [each["name"] for each in shown]
    pf(sandbox, "key", "revoke", "scanned")
    assert client.register(token, "scanned-1", {"sku": "course"}).status_code == 401
