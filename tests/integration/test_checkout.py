"""POST /checkout and GET /orders/{orderId}, against moto and a provider that says what a test wants."""

import contextlib
import io
import json
import socket
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions
import pytest
from botocore.awsrequest import AWSResponse
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

import checkout
import webhook
from payments import ledger, opening, orders, outbound, pocketsflow, secrets, table, telemetry
from payments.catalogue import Item
from sandbox.worker import Context
from tests.conftest import Aws, Provider
from tests.payloads import API_KEY, PRODUCT, answered, delivery, http_event, paid

KEY = str(uuid.UUID(int=7))


@pytest.fixture(autouse=True)
def without_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shop without catalogue.json; tests of the catalogue bring their own."""
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue={}))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    lines = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", lines)
    return lines


def ask(content: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    body = content if isinstance(content, bytes) else json.dumps({"productId": PRODUCT} if content is None else content)
    raw = body if isinstance(body, bytes) else body.encode()
    return answered(checkout.handler(_event(raw, **headers), Context(9)))


def _event(raw: bytes, **headers: str) -> dict[str, Any]:
    return http_event("POST /checkout", raw, **{"content_type": "application/json", **headers})


def ours(order_id: str) -> dict[str, str]:
    """What we add to the metadata."""
    return {"external_order_id": order_id, "pocketsflow_store": "00000000-0000-4000-8000-000000000000"}


def status(order_id: str) -> tuple[int, dict[str, Any]]:
    return answered(checkout.handler(http_event(f"GET /orders/{order_id}"), Context(9)))


def pending(cloud: Aws) -> list[dict[str, Any]]:
    return [item for pk, item in cloud.items().items() if pk.startswith("order#")]


def test_a_checkout(cloud: Aws, provider: Provider) -> None:
    """201 with the order, its session, where to pay and where to ask; the ledger holds it all."""
    code, created = ask()
    assert code == 201
    assert orders.is_id(created["orderId"])
    assert created["sessionId"] == "cs_1"
    assert created["url"] == "https://shop.pocketsflow.com/checkout?s=1"
    assert created["statusUrl"] == f"https://api.shop.example/orders/{created['orderId']}"
    order = cloud.order(created["orderId"])
    assert (order["session_id"]["S"], order["product_id"]["S"]) == ("cs_1", PRODUCT)
    assert provider.authorizations == [f"Bearer {API_KEY}"]


def test_the_status_of_an_order(cloud: Aws, provider: Provider) -> None:
    """Pending, then paid; nothing but the id, the status and when it changed; never cached."""
    _, created = ask({"productId": PRODUCT, "customerEmail": "buyer@example.com"})
    order_id = created["orderId"]
    code, content = status(order_id)
    assert (code, content) == (200, {"orderId": order_id, "status": "pending", "updatedAt": content["updatedAt"]})
    assert webhook.handler(delivery(paid(order_id)), Context(4))["statusCode"] == 200
    assert status(order_id)[1]["status"] == "paid"
    answer = checkout.handler(http_event(f"GET /orders/{order_id}"), Context(9))
    assert answer["headers"]["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "order_id",
    ["x", "ord_test_", "ord_prod_" + "0" * 26, "ord_test_" + "0" * 26, "ord_test_" + "0" * 26 + "\n", "💶" * 9],
)
def test_an_order_that_is_not_there(cloud: Aws, order_id: str) -> None:
    """404, whatever the id looks like."""
    code, problem = status(order_id)
    assert (code, problem["code"]) == (404, "order_not_found")


def test_the_order_is_pending_before_pocketsflow_is_asked(
    cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the provider sees the session, its order is in the ledger already, and in the index of pending orders."""
    seen = []
    call = pocketsflow.create_session

    def look(*asked: Any) -> pocketsflow.Session:
        index = cloud.dynamodb.query(
            TableName=cloud.table,
            IndexName="pending",
            KeyConditionExpression="open_day = :day",
            ExpressionAttributeValues={":day": {"S": datetime.now(UTC).date().isoformat()}},
        )
        seen.extend(item["pk"]["S"] for item in index["Items"])
        return call(*asked)

    monkeypatch.setattr(pocketsflow, "create_session", look)
    _, created = ask()
    assert seen == [f"order#{created['orderId']}"]


def test_the_six_fields_of_the_guide(cloud: Aws, provider: Provider) -> None:
    """Each reaches Pocketsflow unchanged; our order id is added to the addresses and the metadata, and the stack's own
    id to the metadata."""
    code, created = ask(
        {
            "productId": PRODUCT,
            "successUrl": "https://shop.example/done?a=1#top",
            "cancelUrl": "https://shop.example:443/cart",
            "customerEmail": "jané+tag@example.com",
            "discountCode": "SAVE 10%",
            "metadata": {"cart": "7", "note": "ünïcode ✓"},
        }
    )
    order_id = created["orderId"]
    assert code == 201
    assert provider.received == [
        {
            "productId": PRODUCT,
            "successUrl": f"https://shop.example/done?a=1&order_id={order_id}#top",
            "cancelUrl": f"https://shop.example:443/cart?order_id={order_id}",
            "customerEmail": "jané+tag@example.com",
            "discountCode": "SAVE 10%",
            "metadata": {"cart": "7", "note": "ünïcode ✓", **ours(order_id)},
        }
    ]


def test_fields_that_are_not_given_are_absent(cloud: Aws, provider: Provider) -> None:
    """The stack's own return addresses stand in; the optional fields are not sent, null or empty."""
    _, created = ask({"productId": PRODUCT, "customerEmail": None})
    order_id = created["orderId"]
    assert provider.received == [
        {
            "productId": PRODUCT,
            "successUrl": f"https://shop.example/thank-you?order_id={order_id}",
            "cancelUrl": f"https://shop.example/cart?order_id={order_id}",
            "metadata": ours(order_id),
        }
    ]


def test_with_a_catalogue_only_its_skus_are_sold(
    cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product comes from the server; a product id from the browser is refused."""
    sold = {"mug": Item("0" * 23 + "1", "mug")}
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue=sold))
    assert ask({"sku": "mug"})[0] == 201
    assert provider.received[0]["productId"] == "0" * 23 + "1"
    for content in ({"productId": PRODUCT}, {"sku": "cup"}, {"sku": "mug", "productId": PRODUCT}, {}, {"sku": ["mug"]}):
        code, problem = ask(content)
        assert (code, problem["code"]) == (400, "invalid_request")
    assert len(provider.received) == 1


def test_every_wrong_field_is_named_and_none_is_echoed(cloud: Aws, provider: Provider) -> None:
    """One answer lists all that is wrong, in words that never repeat the input."""
    canary = "canary<script>"
    code, problem = ask(
        {
            "productId": canary,
            "successUrl": f"https://evil.example/{canary}",
            "cancelUrl": canary,
            "customerEmail": canary,
            "discountCode": f"{canary}\n",
            "metadata": {canary: 1},
            canary: canary,
        }
    )
    assert code == 400
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"", "productId", "successUrl", "cancelUrl", "customerEmail", "discountCode", "metadata"}
    assert "canary" not in json.dumps(problem)
    assert (provider.received, cloud.items()) == ([], {})


@pytest.mark.parametrize(
    ("event", "status_code", "code"),
    [
        (_event(b"{}", content_type="text/plain"), 415, "unsupported_media_type"),
        (_event(b"{}", content_type=""), 415, "unsupported_media_type"),
        (_event(b"x" * 70_000), 413, "body_too_large"),
        (_event(b""), 400, "invalid_request"),
        (_event(b"\xff"), 400, "invalid_request"),
        ({**_event(b""), "body": "***"}, 400, "invalid_request"),
        (_event(b"{}", idempotency_key="1"), 400, "invalid_request"),
        (_event(json.dumps({"productId": PRODUCT}).encode(), idempotency_key="1"), 400, "invalid_idempotency_key"),
        (
            _event(json.dumps({"productId": PRODUCT}).encode(), idempotency_key=f"{KEY},{KEY}"),
            400,
            "invalid_idempotency_key",
        ),
    ],
    ids=["text", "no type", "too large", "empty", "not UTF-8", "not base64", "empty object", "no UUID", "two keys"],
)
def test_bad_requests(cloud: Aws, provider: Provider, event: Any, status_code: int, code: str) -> None:
    """A clear 4xx with a stable code, and nothing is written or asked."""
    found, problem = answered(checkout.handler(event, Context(9)))
    assert (found, problem["code"], problem["status"]) == (status_code, code, status_code)
    assert (provider.received, cloud.items()) == ([], {})


def test_problems_are_rfc_9457(cloud: Aws, provider: Provider) -> None:
    """application/problem+json with title, status, code and detail."""
    answer = checkout.handler(_event(b"[]"), Context(9))
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"]).keys() == {"title", "status", "code", "detail", "errors"}


# --- Idempotency ------------------------------------------------------------------------------------------------------


def test_the_same_key_and_body_give_the_same_answer(cloud: Aws, provider: Provider) -> None:
    """A retry makes no second order and no second session; upper case and key order are the same request."""
    first = ask({"productId": PRODUCT, "metadata": {"a": "1", "b": "2"}}, idempotency_key=KEY)
    again = ask(
        f'{{"metadata": {{"b": "2", "a": "1"}}, "productId": "{PRODUCT}"}}'.encode(), idempotency_key=KEY.upper()
    )
    assert first == again
    assert first[0] == 201
    assert (len(provider.received), len(pending(cloud))) == (1, 1)


def test_the_same_key_with_another_body_is_refused(cloud: Aws, provider: Provider) -> None:
    """409: one of the two requests is a mistake, and nobody can tell which."""
    ask(idempotency_key=KEY)
    code, problem = ask({"productId": PRODUCT, "discountCode": "X"}, idempotency_key=KEY)
    assert (code, problem["code"]) == (409, "idempotency_key_reused")


def test_keys_of_two_origins_are_two_keys(cloud: Aws, provider: Provider) -> None:
    """One shop's page cannot read another's order by guessing its key."""
    one = ask(idempotency_key=KEY, origin="https://shop.example")
    two = ask(idempotency_key=KEY, origin="https://other.example")
    assert one[1]["orderId"] != two[1]["orderId"]


def test_no_key_means_no_memory(cloud: Aws, provider: Provider) -> None:
    """Two buyers without keys are two orders."""
    assert ask()[1]["orderId"] != ask()[1]["orderId"]


def test_two_concurrent_calls_give_one_session(cloud: Aws, provider: Provider) -> None:
    """While the first is being answered the second is told to come again, and then gets the first's answer."""
    provider.delay_seconds = 1
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(ask(idempotency_key=KEY)))
    thread.start()
    while not provider.received:
        time.sleep(0.01)
    answer = checkout.handler(_event(json.dumps({"productId": PRODUCT}).encode(), idempotency_key=KEY), Context(9))
    code, problem = answered(answer)
    thread.join()
    assert (code, problem["code"]) == (409, "in_progress")
    assert 1 <= int(answer["headers"]["retry-after"]) <= 10
    assert ask(idempotency_key=KEY) == first[0]
    assert (len(provider.received), len(pending(cloud))) == (1, 1)


def test_two_transactions_that_collide(cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB cancels one of two that meet within it: that one is told to come again, which costs a second."""
    conflict = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
    }

    def collide(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 400, {}, MockRawResponse(json.dumps(conflict).encode()))

    event = _event(json.dumps({"productId": PRODUCT}).encode(), idempotency_key=KEY)
    secrets.read(opening.API_KEY_ARN, "pk_", datetime.now(UTC))  # known, so that moto answers nothing here
    hooks = table.client.meta.events
    hooks.register_first("before-send.dynamodb.TransactWriteItems", collide)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(botocore_stubber, "enabled", False)
            answer = checkout.handler(event, Context(9))
    finally:
        hooks.unregister("before-send.dynamodb.TransactWriteItems", collide)
    code, problem = answered(answer)
    assert (code, problem["code"], answer["headers"]["retry-after"]) == (409, "in_progress", "1")
    assert (provider.received, pending(cloud)) == ([], [])
    assert ask(idempotency_key=KEY)[0] == 201


def test_an_abandoned_lock_is_taken_over_with_the_same_order(cloud: Aws, provider: Provider) -> None:
    """A call that died once its order was written: ten seconds it may still live, then its order is the retry's."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    order = ledger.Order(orders.new_id(now), Item(PRODUCT), None, {})
    assert ledger.open_order(order, KEY, "f", now) == ledger.Opened(order.id, order.item.product_id)
    retry = replace(order, id=orders.new_id(now))
    early, late = now + timedelta(seconds=4), now + timedelta(seconds=10)
    assert ledger.open_order(retry, KEY, "f", early) == ledger.InProgress(retry_after=6)
    assert ledger.open_order(retry, KEY, "f", late) == ledger.Opened(order.id, order.item.product_id)
    assert ledger.open_order(retry, KEY, "f", late) == ledger.InProgress(retry_after=10)
    assert len(pending(cloud)) == 1


def test_a_failed_checkout_is_taken_over_at_once(cloud: Aws, provider: Provider) -> None:
    """The order of a checkout that Pocketsflow failed is reused by the retry, which leaves no mark of the failure."""
    provider.status = 500
    assert ask(idempotency_key=KEY)[0] == 502
    [failed] = pending(cloud)
    provider.status = 201
    code, created = ask(idempotency_key=KEY)
    assert (code, f"order#{created['orderId']}") == (201, failed["pk"]["S"])
    assert "checkout_error" not in cloud.order(created["orderId"])


def test_a_key_is_kept_for_a_day(cloud: Aws, provider: Provider) -> None:
    """24 hours later the key is free, whether or not DynamoDB has deleted its item; no other item ever expires."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    order = ledger.Order(orders.new_id(now), Item(PRODUCT), None, {})
    ledger.open_order(order, KEY, "f", now)
    later = replace(order, id=orders.new_id(now))
    assert ledger.open_order(later, KEY, "other", now + timedelta(hours=23, minutes=59)) == ledger.KeyReused()
    assert ledger.open_order(later, KEY, "other", now + timedelta(hours=24, seconds=1)) == ledger.Opened(
        later.id, later.item.product_id
    )
    assert [pk for pk, item in cloud.items().items() if "expires" in item] == [f"idem#{KEY}"]


# --- When Pocketsflow or AWS fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "status_code", "code"),
    [
        ({"status": 400, "body": {"message": ["bad"]}}, 502, "pocketsflow_refused"),
        ({"status": 404, "body": {"message": "no such product"}}, 502, "pocketsflow_refused"),
        ({"status": 401, "body": {"message": f"bad key {API_KEY}"}}, 502, "pocketsflow_unauthorized"),
        ({"status": 429}, 503, "pocketsflow_busy"),
        ({"status": 500, "body": "<html>oops</html>"}, 502, "pocketsflow_failed"),
        ({"status": 503}, 502, "pocketsflow_failed"),
        ({"body": "<html>maintenance</html>"}, 502, "pocketsflow_unexpected"),
        ({"body": {"id": "cs_1"}}, 502, "pocketsflow_unexpected"),
        ({"body": {"url": "https://a.example"}}, 502, "pocketsflow_unexpected"),
        ({"body": {"id": "cs_1", "url": "http://pay.example/"}}, 502, "pocketsflow_unexpected"),
        ({"body": {"id": "cs_1", "url": "javascript:alert(1)"}}, 502, "pocketsflow_unexpected"),
        ({"body": {"id": 7, "url": "https://a.example"}}, 502, "pocketsflow_unexpected"),
        ({"body": []}, 502, "pocketsflow_unexpected"),
        ({"body": "[" * 100_000}, 502, "pocketsflow_unexpected"),
        ({"body": "x" * 100_000}, 502, "pocketsflow_unexpected"),
        ({"status": 302, "headers": {"Location": "https://evil.example"}}, 502, "pocketsflow_unexpected"),
        ({"status": 201, "body": ""}, 502, "pocketsflow_unexpected"),
        ({"status": 302, "headers": {"Location": "http://[bad"}}, 502, "pocketsflow_unexpected"),
        ({"status": 302, "headers": {"Location": "\xff\xfe"}}, 502, "pocketsflow_unexpected"),
    ],
)
def test_pocketsflow_gives_no_usable_session(
    cloud: Aws, provider: Provider, log: io.StringIO, says: dict[str, Any], status_code: int, code: str
) -> None:
    """A stable code; the order is marked and found in the index of pending ones; the key is in no answer and no log."""
    for name, value in says.items():
        setattr(provider, name, value)
    answer = checkout.handler(_event(json.dumps({"productId": PRODUCT}).encode()), Context(9))
    found, problem = answered(answer)
    assert (found, problem["code"]) == (status_code, code)
    assert ("retry-after" in answer["headers"]) == (status_code == 503)
    assert len(provider.received) == (2 if code == "pocketsflow_busy" else 1)
    [order] = pending(cloud)
    assert order["checkout_error"]["S"] == code
    index = cloud.dynamodb.scan(TableName=cloud.table, IndexName="pending")["Items"]
    assert [entry["checkout_error"]["S"] for entry in index] == [code]
    assert API_KEY not in json.dumps(answer) + log.getvalue() + json.dumps(order)
    assert '"ERROR"' in log.getvalue()


def test_a_429_is_tried_once_more(cloud: Aws, provider: Provider, log: io.StringIO) -> None:
    """It has made no session: after a moment that differs from buyer to buyer the same request is sent again, for the
    same order, and nobody hears of it."""
    pauses = []
    for _ in range(20):
        provider.at_first = [429]
        code, created = ask({"productId": PRODUCT, "metadata": {"cart": "7"}})
        assert code == 201
        first, second = provider.received
        assert first == second
        assert first["metadata"] == {"cart": "7", **ours(created["orderId"])}
        [order] = pending(cloud)
        assert "checkout_error" not in order
        pauses += provider.pauses
        provider.received.clear()
        provider.pauses.clear()
        cloud.clear()
    assert len(set(pauses)) == 20
    assert all(0.3 <= pause <= 0.8 for pause in pauses)
    assert '"ERROR"' not in log.getvalue()


@pytest.mark.parametrize(
    ("second", "code"), [(429, "pocketsflow_busy"), (500, "pocketsflow_failed"), (400, "pocketsflow_refused")]
)
def test_a_second_try_is_the_last(cloud: Aws, provider: Provider, second: int, code: str) -> None:
    """What it is answered is what the buyer hears."""
    provider.at_first = [429, second]
    assert ask()[1]["code"] == code
    assert len(provider.received) == 2


@pytest.mark.parametrize("first", [500, 503, 400, 401, 302])
def test_nothing_but_a_429_is_tried_again(cloud: Aws, provider: Provider, first: int) -> None:
    """Whatever else went wrong, a session may have been made: a second one could be paid too."""
    provider.at_first = [first]
    assert ask()[0] == 502
    assert (len(provider.received), provider.pauses) == (1, [])


def test_a_second_try_has_what_is_left_of_the_time(
    cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both tries and the pause between them take no longer than one."""
    given: list[float] = []
    send = outbound.send

    def note(http: Any, method: str, url: str, seconds: float, most: int, **options: Any) -> Any:
        given.append(seconds)
        return send(http, method, url, seconds, most, **options)

    monkeypatch.setattr(outbound, "send", note)
    provider.at_first, provider.headers = [429], {"Retry-After": "1"}
    assert ask()[0] == 201
    assert given[0] == pocketsflow.WAIT_SECONDS
    assert 0 < given[1] <= pocketsflow.WAIT_SECONDS - 1


@pytest.mark.parametrize("status_code", [400, 404, 422])
def test_a_discount_code_that_pocketsflow_does_not_know(
    cloud: Aws, provider: Provider, log: io.StringIO, status_code: int
) -> None:
    """A buyer's slip: 400, nobody is called, and the same page can ask again without the code."""
    provider.status, provider.body = status_code, {"message": "no such discount"}
    code, problem = ask({"productId": PRODUCT, "discountCode": "NOPE"})
    assert (code, problem["code"]) == (400, "discount_code_refused")
    assert '"ERROR"' not in log.getvalue()
    [order] = pending(cloud)
    assert order["checkout_error"]["S"] == "discount_code_refused"
    assert ask({"productId": PRODUCT})[1]["code"] == "pocketsflow_refused"
    assert '"ERROR"' in log.getvalue()


@pytest.mark.parametrize(
    ("asked", "told"), [("7", "7"), ("3600", "60"), ("soon", "5"), ("-1", "5"), ("٣", "5"), ("", "5")]
)
def test_retry_after_of_pocketsflow_is_passed_on(cloud: Aws, provider: Provider, asked: str, told: str) -> None:
    """Seconds, at most a minute; five when it says nothing that can be read."""
    provider.status, provider.headers = 429, {"Retry-After": asked.encode().decode("latin-1")} if asked else {}
    answer = checkout.handler(_event(json.dumps({"productId": PRODUCT}).encode()), Context(9))
    assert answer["headers"]["retry-after"] == told


def test_pocketsflow_says_nothing(cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time given to it, 503: the buyer is not left waiting for the gateway's own limit."""
    monkeypatch.setattr(pocketsflow, "WAIT_SECONDS", 0.3)
    provider.delay_seconds = 2
    started = time.monotonic()
    code, problem = ask()
    assert (code, problem["code"]) == (503, "pocketsflow_unreachable")
    assert time.monotonic() - started < 1.5
    assert pending(cloud)[0]["checkout_error"]["S"] == "pocketsflow_unreachable"


@pytest.mark.parametrize("head", ["HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n", "HTTP/1.1 201 Created\r\nX: "])
def test_pocketsflow_says_it_byte_by_byte(cloud: Aws, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    """An answer that drips in, body or header, does not start the clock anew with every byte."""
    monkeypatch.setattr(pocketsflow, "WAIT_SECONDS", 0.5)
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(head.encode())
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=[listening])
        thread.start()
        monkeypatch.setattr(pocketsflow, "URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        started = time.monotonic()
        code, problem = ask()
        assert time.monotonic() - started < 1.5
        over.set()
        thread.join()
    assert (code, problem["code"]) == (503, "pocketsflow_unreachable")
    assert pending(cloud)[0]["checkout_error"]["S"] == "pocketsflow_unreachable"


def test_pocketsflow_is_not_there(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is 503 at once."""
    monkeypatch.setattr(pocketsflow, "URL", "http://127.0.0.1:9")
    assert ask()[1]["code"] == "pocketsflow_unreachable"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "api_key_missing"),
        (" ", "api_key_missing"),
        ("pk_test_xxx", "api_key_missing"),
        ("whsec_0123456789abcdef", "api_key_missing"),
        ("pk_test_abcd••••••••wxyz", "api_key_missing"),
        ("pk_test_0123456789ab\x01", "api_key_missing"),
        (f"pk_live_{'0' * 16}", "api_key_mode_mismatch"),
    ],
)
def test_no_key_that_fits(
    cloud: Aws, provider: Provider, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, value: str, code: str
) -> None:
    """503 with a stable code and an alarm; no order is opened and nobody is asked."""
    if value:
        cloud.put_secret("ApiKey", value)
    else:
        monkeypatch.setattr(opening, "API_KEY_ARN", cloud.secrets.create_secret(Name="empty")["ARN"])
    found, problem = ask()
    assert (found, problem["code"]) == (503, code)
    assert (provider.received, cloud.items()) == ([], {})
    assert code in log.getvalue()


def test_return_addresses_of_the_stack_that_are_not_allowed(
    cloud: Aws, provider: Provider, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """www or not www: the merchant's slip is not blamed on the caller, and does not hurt one who names good pages."""
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, success_url="https://www.shop.example/ok"))
    code, problem = ask()
    assert (code, problem["code"]) == (503, "return_address_not_allowed")
    assert '"ERROR"' in log.getvalue()
    assert ask({"productId": PRODUCT, "successUrl": "https://shop.example/ok"})[0] == 201


def test_a_live_stack_without_a_catalogue_sells_nothing(
    cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should one get past the deployment's own check, it still lets no browser choose the product."""
    monkeypatch.setattr(opening, "MODE", "live")
    assert ask()[1]["code"] == "catalogue_missing"


def test_the_ledger_is_out_of_reach(cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and Retry-After; Pocketsflow is not asked for a session that no order stands for."""

    def unreachable(**_: Any) -> None:
        raise botocore.exceptions.ReadTimeoutError(endpoint_url="https://dynamodb")

    for name in ("put_item", "get_item"):
        monkeypatch.setattr(table.client, name, unreachable)
    assert ask()[1]["code"] == "ledger_unavailable"
    assert status(orders.new_id(datetime.now(UTC)))[0] == 503
    assert provider.received == []


def test_secrets_manager_is_out_of_reach(cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 on a cold function; no order is opened."""

    def unreachable(**_: Any) -> None:
        raise botocore.exceptions.ConnectTimeoutError(endpoint_url="https://secretsmanager")

    monkeypatch.setattr(secrets._client, "get_secret_value", unreachable)
    assert ask()[1]["code"] == "api_key_unreachable"
    assert cloud.items() == {}
