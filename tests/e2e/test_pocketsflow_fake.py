"""The fake Pocketsflow, over HTTP: what the other tests rely on when they use it in place of the real one."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from sandbox import pocketsflow

PRODUCTS: dict[str, pocketsflow.Product] = {
    "course": {"productId": "c0" * 12, "name": "Course <b>&\"' one", "price": "49.00", "currency": "usd"},
    "dime": {"productId": "d1" * 12, "name": "Dime", "price": "0.10", "currency": "usd"},
    "membership": {"productId": "ab" * 12, "name": "Membership", "price": "9.00", "currency": "usd"},
    "print": {"productId": "fa" * 12, "variantId": "a2" * 12, "name": "Print", "price": "120.00", "currency": "usd"},
}
UNKNOWN = "0" * 24


class Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[BaseWSGIServer]:
    """A server on a free port of 127.0.0.1; its `app` may be set until the first request."""
    server = make_server("127.0.0.1", 0, Response("not set"), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@dataclass
class Receiver:
    """A webhook endpoint that keeps what it gets."""

    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[], Response] = lambda: Response('{"outcome": "settled"}')
    url: str = ""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.got.append((dict(request.headers), request.get_data()))
        return self.answer()(environ, start_response)

    def orders(self) -> list[str]:
        return [json.loads(body)["order"]["id"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving() as server:
        server.app = receiver = Receiver(url=f"http://127.0.0.1:{server.port}/hook")
        yield receiver


@dataclass
class Fake:
    """A client of the fake; `moment` is its clock."""

    url: str
    moment: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def call(
        self, method: str, path: str, body: Any = None, key: str | None = pocketsflow.API_KEY
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with requests.Session() as http:
            http.trust_env = False
            return http.request(method, self.url + path, json=body, headers=headers, timeout=20, allow_redirects=False)

    def get(self, path: str) -> Any:
        response = self.call("GET", path)
        assert response.status_code == 200, response.text
        return response.json(parse_float=Decimal)

    def post(self, path: str, body: Any = None) -> Any:
        response = self.call("POST", path, body)
        assert response.status_code in (200, 201), response.text
        return response.json(parse_float=Decimal)

    def session(self, sku: str = "course", **fields: Any) -> str:
        made: str = self.post("/checkout/sessions", {"productId": PRODUCTS[sku]["productId"], **fields})["id"]
        return made

    def pay(self, session_id: str, **instead: str) -> str:
        order_id: str = self.post(f"/_sandbox/sessions/{session_id}/pay", instead)["orderId"]
        return order_id

    def buy(self, sku: str = "course", **fields: Any) -> str:
        return self.pay(self.session(sku, **fields))

    def form(self, path: str, **fields: str) -> requests.Response:
        return requests.post(self.url + path, data=fields, timeout=20, allow_redirects=False)

    def deliveries(self, count: int) -> list[Any]:
        """The log, once it has `count` entries."""
        for _ in range(200):
            entries: list[Any] = self.get("/_sandbox/deliveries")
            if len(entries) >= count:
                return entries
            time.sleep(0.02)
        raise AssertionError(f"{len(entries)} deliveries, not {count}")


@pytest.fixture
def fake(receiver: Receiver) -> Iterator[Fake]:
    with serving() as server:
        fake = Fake(f"http://127.0.0.1:{server.port}")
        server.app = pocketsflow.create_app(fake.url, PRODUCTS, receiver.url, lambda: fake.moment)
        yield fake


def signature(body: bytes, secret: str = pocketsflow.WEBHOOK_SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


# --- webhooks


def test_a_delivery_is_signed_over_its_raw_bytes(fake: Fake, receiver: Receiver) -> None:
    """The signature is the HMAC of the bytes as sent, with the whole secret, whatever characters they hold."""
    order_id = fake.buy(metadata={"name": "Zoë ☕ <&>", "lone": "\ud800"})
    [(headers, body)] = receiver.got
    assert "Zoë ☕ <&>".encode() in body
    assert json.loads(body)["metadata"]["lone"] == "\ud800"
    assert headers["X-Pocketsflow-Signature"] == signature(body)
    assert headers["X-Pocketsflow-Event"] == "order.completed"
    assert headers["X-Pocketsflow-Timestamp"] == str(int(fake.moment.timestamp() * 1000))
    assert headers["Content-Type"] == "application/json"
    [entry] = fake.get("/_sandbox/deliveries")
    assert entry["body"].encode() == body
    assert (entry["orderId"], entry["status"], entry["response"]) == (order_id, 200, {"outcome": "settled"})
    assert (entry["url"], entry["error"], entry["signature"]) == (receiver.url, None, signature(body))


def test_order_completed_has_the_documented_body(fake: Fake, receiver: Receiver) -> None:
    """The body has the fields of the documentation, no others, and echoes the metadata."""
    order_id = fake.buy("print", customerEmail="zoe@example.com", metadata={"external_order_id": "ORDER-1043"})
    body = json.loads(receiver.got[0][1])
    assert set(body) == {
        *("webhookId", "event", "product", "order", "currency", "customer", "tax"),
        *("amount", "amountBeforeTax", "metadata"),
    }
    assert body["event"] == "order.completed"
    assert body["product"] == {"id": PRODUCTS["print"]["productId"], "variantId": "a2" * 12}
    assert body["order"] == {"id": order_id}
    assert body["customer"]["email"] == "zoe@example.com"
    assert body["metadata"] == {"external_order_id": "ORDER-1043"}
    assert set(body["tax"]) == {"amount", "rate", "ToCountry", "ToZip", "ToState", "percentage", "vatNumber"}


def test_a_subscription_starts_without_an_order(fake: Fake, receiver: Receiver) -> None:
    """Paying for an offer sends customer.subscription.created alone, with no event name in the signed body."""
    customer_id = fake.buy("membership", metadata={"plan": "pro"})
    [(headers, raw)] = receiver.got
    body = json.loads(raw)
    assert headers["X-Pocketsflow-Event"] == "customer.subscription.created"
    assert "event" not in body
    assert body["subscription"]["id"] == PRODUCTS["membership"]["productId"]
    assert body["subscriptionCustomerId"] == body["subscriptionCustomer"]["id"] == customer_id
    assert body["metadata"] == {"plan": "pro"}
    assert fake.get("/orders")["orders"] == []


@pytest.mark.parametrize("status", [500, 302])
def test_a_failed_delivery_is_not_tried_again(fake: Fake, receiver: Receiver, status: int) -> None:
    """One attempt: neither an error nor a redirect brings a second request."""
    receiver.answer = lambda: Response("no", status, headers={"Location": receiver.url})
    fake.buy()
    time.sleep(0.3)
    assert len(receiver.got) == 1
    assert [(entry["status"], entry["response"]) for entry in fake.get("/_sandbox/deliveries")] == [(status, "no")]


def test_a_slow_receiver_times_out(fake: Fake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer in time gets no second chance, and the log says so; the documented time is 5 s."""
    assert pocketsflow.DELIVERY_TIMEOUT == 5
    monkeypatch.setattr(pocketsflow, "DELIVERY_TIMEOUT", 0.2)
    done = threading.Event()

    def slow() -> Response:
        done.wait(10)
        return Response("late")

    receiver.answer = slow
    fake.buy()
    [entry] = fake.get("/_sandbox/deliveries")
    done.set()
    assert (entry["status"], entry["error"]) == (None, "timeout")
    assert entry["durationMs"] >= 200
    assert len(receiver.got) == 1


def test_a_receiver_that_stalls_in_its_answer_times_out(
    fake: Fake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stall after the headers is a timeout like one before them."""
    monkeypatch.setattr(pocketsflow, "DELIVERY_TIMEOUT", 0.2)
    done = threading.Event()

    def stalling() -> Iterator[bytes]:
        yield b"{"
        done.wait(10)

    receiver.answer = lambda: Response(stalling())
    fake.buy()
    [entry] = fake.get("/_sandbox/deliveries")
    done.set()
    assert entry["error"] == "timeout"


def test_a_refused_connection_is_logged(fake: Fake) -> None:
    """A receiver that is not there leaves an entry with an error and no status."""
    made = fake.post("/webhooks", {"url": "http://127.0.0.1:9/", "events": ["order.completed"]})
    fake.buy()
    [entry] = [each for each in fake.get("/_sandbox/deliveries") if each["endpointId"] == made["_id"]]
    assert entry["status"] is None
    assert entry["error"] == "ConnectionError"


def test_only_active_endpoints_with_the_event_get_it(fake: Fake, receiver: Receiver) -> None:
    """A second endpoint gets the event signed with its own secret; an inactive or unsubscribed one nothing."""
    second = fake.post("/webhooks", {"url": receiver.url, "events": ["order.completed"]})
    fake.post("/webhooks", {"url": receiver.url, "events": ["order.completed"], "active": False})
    fake.post("/webhooks", {"url": receiver.url, "events": ["order.refunded"]})
    fake.buy()
    assert {headers["X-Pocketsflow-Signature"] for headers, _ in receiver.got} == {
        signature(body, secret)
        for _, body in receiver.got
        for secret in (pocketsflow.WEBHOOK_SECRET, second["secret"])
        if (json.loads(body)["webhookId"] == second["_id"]) == (secret == second["secret"])
    }
    assert len(receiver.got) == 2


def test_the_secret_is_shown_once(fake: Fake) -> None:
    """Only the answer that creates an endpoint holds its secret."""
    made = fake.post("/webhooks", {"url": "https://shop.example/hook", "events": ["order.completed"]})
    path = f"/webhooks/{made['_id']}"
    assert len(made["secret"]) == len("whsec_") + 32
    later = [fake.call("GET", "/webhooks"), fake.call("GET", path), fake.call("PUT", path, {"active": False})]
    assert [response.status_code for response in later] == [200, 200, 200]
    assert not any("whsec_" in response.text for response in later)


def test_a_test_event_has_an_order_that_does_not_exist(fake: Fake, receiver: Receiver) -> None:
    """POST /webhooks/{id}/test delivers a signed order.completed for no order, to that endpoint only."""
    [endpoint] = fake.get("/webhooks")
    fake.post("/webhooks", {"url": receiver.url, "events": ["order.completed"]})
    assert fake.post(f"/webhooks/{endpoint['_id']}/test")["message"]
    [(headers, body)] = receiver.got
    assert headers["X-Pocketsflow-Signature"] == signature(body)
    assert fake.call("GET", f"/orders/{receiver.orders()[0]}").status_code == 404


# --- faults


def test_fault_drop(fake: Fake, receiver: Receiver) -> None:
    """A dropped webhook is not sent, but logged; the order exists."""
    fake.post("/_sandbox/faults", {"drop": True})
    order_id = fake.buy()
    assert receiver.got == []
    [entry] = fake.get("/_sandbox/deliveries")
    assert (entry["status"], entry["error"], entry["orderId"]) == (None, "dropped", order_id)
    assert fake.get(f"/orders/{order_id}")["_id"] == order_id


def test_fault_duplicate(fake: Fake, receiver: Receiver) -> None:
    """A duplicate is the same bytes and signature, for one order."""
    fake.post("/_sandbox/faults", {"duplicate": True})
    order_id = fake.buy()
    assert receiver.orders() == [order_id, order_id]
    assert receiver.got[0][1] == receiver.got[1][1]
    assert fake.get("/orders")["pagination"]["totalCount"] == 1


def test_fault_delay(fake: Fake, receiver: Receiver) -> None:
    """Paying does not wait for a delayed webhook, which arrives later."""
    fake.post("/_sandbox/faults", {"delay_seconds": 0.4})
    order_id = fake.buy()
    assert receiver.got == []
    assert fake.deliveries(1)[0]["orderId"] == order_id
    assert receiver.orders() == [order_id]


def test_fault_reorder(fake: Fake, receiver: Receiver) -> None:
    """Of two deliveries the second is sent first; one that is still held goes out when the fault is cleared."""
    fake.post("/_sandbox/faults", {"reorder": True})
    first = fake.buy()
    assert receiver.got == []
    second = fake.buy()
    assert receiver.orders() == [second, first]
    third = fake.buy()
    assert len(receiver.got) == 2
    fake.post("/_sandbox/faults", {})
    assert receiver.orders() == [second, first, third]


def test_fault_relabel(fake: Fake, receiver: Receiver) -> None:
    """The header takes another name while body and signature stay valid: the attack the name's check is for."""
    fake.post("/_sandbox/faults", {"relabel": "order.refunded"})
    fake.buy()
    [(headers, body)] = receiver.got
    assert headers["X-Pocketsflow-Event"] == "order.refunded"
    assert json.loads(body)["event"] == "order.completed"
    assert headers["X-Pocketsflow-Signature"] == signature(body)


def test_fault_http(fake: Fake) -> None:
    """API answers get the status, body and delay; control and page do not; a cleared fault is gone."""
    session_id = fake.session()
    fake.post("/_sandbox/faults", {"http_status": 503, "http_body": "<html>", "http_delay_seconds": 0.2})
    started = time.monotonic()
    response = fake.call("GET", "/orders")
    assert time.monotonic() - started >= 0.2
    assert (response.status_code, response.text) == (503, "<html>")
    assert fake.call("GET", f"/checkout?session={session_id}").status_code == 200
    assert fake.get("/_sandbox/faults")["http_status"] == 503
    fake.post("/_sandbox/faults", {"http_status": 500})
    assert fake.call("GET", "/orders").json()["message"]
    fake.post("/_sandbox/faults", {})
    assert fake.call("GET", "/orders").status_code == 200


@pytest.mark.parametrize(
    "faults",
    [
        *({"dorp": True}, {"drop": "yes"}, {"drop": None}, {"delay_seconds": True}, {"delay_seconds": -1}, []),
        *({"http_status": 99}, {"http_status": "500"}, {"relabel": "a\nb"}, {"relabel": 1}, {"http_body": 1}),
    ],
)
def test_a_misspelt_fault_is_refused(fake: Fake, faults: Any) -> None:
    """Unknown names and wrong types are 400 and leave the faults as they were."""
    fake.post("/_sandbox/faults", {"duplicate": True})
    assert fake.call("POST", "/_sandbox/faults", faults).status_code == 400
    assert fake.get("/_sandbox/faults") == {"duplicate": True}


# --- API


@pytest.mark.parametrize("key", [None, "", "pk_test_wrong", "pk_live_sandbox", "pk_test_sandbox2"])
def test_a_wrong_key_is_refused(fake: Fake, key: str | None) -> None:
    """Without the one valid key every API address is 401 with a message, unknown ones too."""
    for path in ("/users/me", "/orders", "/nothing"):
        response = fake.call("GET", path, key=key)
        assert response.status_code == 401
        assert response.json()["message"]


@pytest.mark.parametrize(
    "path", [*(f"/{kind}/{UNKNOWN}" for kind in ("orders", "products", "refunds", "webhooks")), "/nothing"]
)
def test_an_unknown_id_is_404(fake: Fake, path: str) -> None:
    """What is not there is 404 with a message."""
    response = fake.call("GET", path)
    assert response.status_code == 404
    assert response.json()["message"]


def test_beyond_the_rate_limit_is_429(fake: Fake) -> None:
    """Bursts to 200, then 429, and 100 a minute from there; control and page are not counted."""
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {pocketsflow.API_KEY}"
        started = time.monotonic()
        answers = [http.get(f"{fake.url}/users/me", timeout=5) for _ in range(230)]
        refilled = (time.monotonic() - started) * 100 / 60 + 1
        assert [answer.status_code for answer in answers[:200]] == [200] * 200
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert 230 - len(refused) <= 200 + refilled
        assert refused[0].json()["message"]
        assert http.get(f"{fake.url}/_sandbox/faults", timeout=5).status_code == 200
        time.sleep(0.7)
        assert http.get(f"{fake.url}/users/me", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"productId": UNKNOWN}, 404),
        ({"productId": None}, 400),
        ({"productId": 5}, 400),
        ({"successUrl": "/thank-you"}, 400),
        ({"cancelUrl": "javascript:alert(1)"}, 400),
        ({"cancelUrl": "https://shop.example/\r\nX: y"}, 400),
        ({"successUrl": "https://shop.example; script-src *"}, 400),
        ({"metadata": "text"}, 400),
        ({"customerEmail": 1}, 400),
    ],
)
def test_a_wrong_session_is_refused(fake: Fake, change: dict[str, Any], status: int) -> None:
    """A session needs a product that exists, absolute http(s) addresses and an object as metadata."""
    response = fake.call("POST", "/checkout/sessions", {"productId": PRODUCTS["course"]["productId"], **change})
    assert (response.status_code, bool(response.json()["message"])) == (status, True)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_a_body_that_is_no_object_is_refused(fake: Fake, body: bytes) -> None:
    """What is not a JSON object is 400, never 500."""
    headers = {"Authorization": f"Bearer {pocketsflow.API_KEY}"}
    response = requests.post(f"{fake.url}/checkout/sessions", body, headers=headers, timeout=5)
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_session_keeps_its_request_as_received(fake: Fake) -> None:
    """Tests can see every field that was sent, undocumented ones too, and what was paid."""
    request = {
        "productId": PRODUCTS["dime"]["productId"],
        "clientReferenceId": "r",
        "odd": [1, None],
        "metadata": {"a": 1},
    }
    session_id = fake.post("/checkout/sessions", request)["id"]
    order_id = fake.pay(session_id)
    assert fake.get(f"/_sandbox/sessions/{session_id}") == {"request": request, "orders": [order_id]}


def test_orders_are_listed_page_by_page(fake: Fake) -> None:
    """Pages hold each order once, say when they end, and never exceed 100 rows."""
    made = [fake.buy() for _ in range(5)]
    pages = [fake.get(f"/orders?page={number}&pageSize=2") for number in (1, 2, 3, 4)]
    assert [len(page["orders"]) for page in pages] == [2, 2, 1, 0]
    assert [page["pagination"]["hasMore"] for page in pages] == [True, True, False, False]
    assert pages[2]["pagination"] == {
        "totalCount": 5, "totalPages": 3, "currentPage": 3, "pageSize": 2, "hasMore": False,
    }  # fmt: skip
    assert {order["_id"] for page in pages for order in page["orders"]} == set(made)
    for query in ("page=0", "page=x", "pageSize=101", "pageSize=0", "startDate=yesterday"):
        assert fake.call("GET", f"/orders?{query}").status_code == 400


def test_orders_are_filtered_by_date_and_product(fake: Fake) -> None:
    """startDate is inclusive, endDate exclusive, productId exact."""
    early = fake.buy()
    fake.moment += timedelta(days=1)
    late = fake.buy("dime")

    def found(query: str) -> list[str]:
        return [order["_id"] for order in fake.get(f"/orders?{query}")["orders"]]

    assert found("startDate=2026-03-01T12:00:00Z") == [late, early]
    assert found("endDate=2026-03-02T12:00:00.000Z") == [early]
    assert found("startDate=2026-03-02") == [late]
    assert found(f"productId={PRODUCTS['course']['productId']}") == [early]


def test_money_is_exact(fake: Fake, receiver: Receiver) -> None:
    """Three dimes are 0.30 wherever they show; no amount passes through a binary fraction."""
    order_id = fake.pay(fake.session("dime"), amount="0.30")
    for _ in range(2):
        fake.post("/refunds", {"orderId": order_id, "amount": 0.1})
    last = fake.post("/refunds", {"orderId": order_id})
    assert last["amount"] == Decimal("0.10")
    assert b'"amount":0.30,' in receiver.got[0][1]
    assert fake.get(f"/orders/{order_id}")["grossAmount"] == Decimal("0.30")
    assert fake.get(f"/orders/{order_id}")["isRefunded"] is True
    everything = fake.call("GET", "/refunds").text + str(receiver.got)
    assert "000000004" not in everything
    assert "9999999" not in everything


def test_a_refund_is_told_and_shown(fake: Fake, receiver: Receiver) -> None:
    """A partial refund flags no order; its webhook has the documented shape; more than is left is refused."""
    order_id = fake.buy()
    refund = fake.post("/refunds", {"orderId": order_id, "amount": 9, "reason": "late"})
    headers, raw = receiver.got[1]
    body = json.loads(raw)
    del body["webhookId"]
    assert headers["X-Pocketsflow-Event"] == "order.refunded"
    assert body == {
        "event": "order.refunded",
        "order": {"id": order_id},
        "refund": {"id": refund["_id"], "amount": 9, "reason": "late", "status": "succeeded"},
        "customer": {"email": "buyer@example.com"},
    }
    assert fake.get(f"/orders/{order_id}")["isRefunded"] is False
    assert fake.get(f"/refunds/{refund['_id']}")["status"] == "completed"
    for amount in (40.01, 0, -1, "1", True):
        assert fake.call("POST", "/refunds", {"orderId": order_id, "amount": amount}).status_code == 400
    assert fake.call("POST", "/refunds", {"orderId": UNKNOWN}).status_code == 404
    assert len(receiver.got) == 2


# --- the page


def test_the_page_escapes_what_it_shows(fake: Fake) -> None:
    """Hostile names, e-mails and metadata are text on the page, and its policy allows no script."""
    hostile = "<script>alert(1)</script>\"'>"
    session_id = fake.session(customerEmail=hostile, metadata={hostile: hostile, "nested": {"a": hostile}})
    response = fake.call("GET", f"/checkout?session={session_id}")
    assert response.status_code == 200
    assert "<script" not in response.text
    assert "<b>" not in response.text
    assert "Course &lt;b&gt;&amp;&quot;&#x27; one" in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    for path in ("/checkout?session=<script>", "/checkout"):
        unknown = fake.call("GET", path)
        assert (unknown.status_code, "<script" in unknown.text) == (404, False)


def test_pay_twice_makes_two_orders(fake: Fake, receiver: Receiver) -> None:
    """Two payments for one session are two orders with a webhook each, and the buyer comes back once."""
    session_id = fake.session(successUrl="https://shop.example/thanks?a=1&b={x}")
    response = fake.form(f"/checkout/{session_id}/pay-twice")
    assert response.status_code == 303
    assert response.headers["Location"].startswith("https://shop.example/thanks?a=1&b=")
    fake.deliveries(2)
    assert len(set(receiver.orders())) == 2
    assert set(fake.get(f"/_sandbox/sessions/{session_id}")["orders"]) == set(receiver.orders())


def test_the_page_pays_and_cancels(fake: Fake) -> None:
    """Pay and Cancel lead to the shop's addresses, or to a page when it gave none; cancelling pays nothing."""
    urls = {"successUrl": "https://shop.example/thanks", "cancelUrl": "https://shop.example/cart"}
    session_id, bare = fake.session(**urls), fake.session()
    policy = fake.call("GET", f"/checkout?session={session_id}").headers["Content-Security-Policy"]
    assert policy.endswith("form-action 'self' https://shop.example")
    assert fake.form(f"/checkout/{session_id}/cancel").headers["Location"] == urls["cancelUrl"]
    assert fake.get(f"/_sandbox/sessions/{session_id}")["orders"] == []
    assert fake.form(f"/checkout/{session_id}/pay").headers["Location"] == urls["successUrl"]
    assert fake.form(f"/checkout/{bare}/pay").status_code == 200
    assert fake.form(f"/checkout/{bare}/cancel").status_code == 200
    fake.deliveries(2)


def test_the_buyer_may_pick_a_variant(fake: Fake, receiver: Receiver) -> None:
    """The page offers the catalogue's variant first and a cheaper one; an unknown one is refused."""
    session_id = fake.session("print")
    page = fake.call("GET", f"/checkout?session={session_id}").text
    signed, unsigned = (part.split('"')[0] for part in page.split('<option value="')[1:])
    assert signed == "a2" * 12
    assert fake.form(f"/checkout/{session_id}/pay", variantId=unsigned).status_code == 200
    fake.deliveries(1)
    body = json.loads(receiver.got[0][1], parse_float=Decimal)
    assert (body["product"]["variantId"], body["amount"]) == (unsigned, Decimal("90.00"))
    assert fake.form(f"/checkout/{session_id}/pay", variantId="made-up").status_code == 400


def test_a_known_discount_code_lowers_the_price(fake: Fake) -> None:
    """SAVE10 takes a tenth off; an unknown code changes nothing."""
    paid = [fake.get(f"/orders/{fake.buy(discountCode=code)}")["grossAmount"] for code in ("SAVE10", "NOPE")]
    assert paid == [Decimal("44.10"), Decimal("49.00")]


def test_something_else_can_be_paid_than_was_ordered(fake: Fake, receiver: Receiver) -> None:
    """The control route pays another product, variant or amount, as a mismatched payment would."""
    session_id = fake.session("course")
    fake.pay(session_id, productId=PRODUCTS["print"]["productId"], variantId="odd", amount="12.00")
    assert b'"amount":12.00,' in receiver.got[0][1]
    assert json.loads(receiver.got[0][1])["product"] == {"id": PRODUCTS["print"]["productId"], "variantId": "odd"}
    for wrong in ({"amount": "x"}, {"amount": "NaN"}, {"amount": 12}, {"amount": "-1"}):
        assert fake.call("POST", f"/_sandbox/sessions/{session_id}/pay", wrong).status_code == 400
