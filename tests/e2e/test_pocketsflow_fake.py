"""The fake Pocketsflow, over HTTP: what the other tests rely on when they use it in place of the real one."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Thread
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
FIXTURES = Path(__file__).parents[1] / "fixtures"


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

    def events(self) -> list[str]:
        """The names, in order of the alphabet: two webhooks of one action may arrive in either order."""
        return sorted(headers["X-Pocketsflow-Event"] for headers, _ in self.got)

    def last(self, event: str) -> Any:
        """The body of the latest webhook of that name."""
        return [json.loads(body) for headers, body in self.got if headers["X-Pocketsflow-Event"] == event][-1]

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

    def refuse(self, status: int, path: str, body: Any = None) -> None:
        """Posting there is answered with `status` and a message."""
        response = self.call("POST", path, body)
        assert (response.status_code, bool(response.json()["message"])) == (status, True)

    def subscribe(self, **fields: Any) -> str:
        return self.buy("membership", **fields)

    def happen(self, customer_id: str, *actions: str) -> Any:
        """The subscriber after these actions, if any."""
        row = None
        for action in actions:
            row = self.post(f"/_sandbox/subscriptions/{customer_id}/{action}")
        return row

    def ids(self, path: str) -> list[str]:
        """The ids of a list, or of a page, whose rows come first in it."""
        listed = self.get(path)
        rows = listed if isinstance(listed, list) else next(iter(listed.values()))
        return [row["_id"] for row in rows]

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


@contextmanager
def faking(receiver: Receiver, **options: Any) -> Iterator[Fake]:
    with serving() as server:
        fake = Fake(f"http://127.0.0.1:{server.port}")
        server.app = pocketsflow.create_app(fake.url, PRODUCTS, receiver.url, lambda: fake.moment, **options)
        yield fake


@pytest.fixture
def fake(receiver: Receiver) -> Iterator[Fake]:
    with faking(receiver) as fake:
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


def test_a_slow_receiver_times_out(receiver: Receiver) -> None:
    """Who does not answer in time gets no second chance, and the log says so; the documented time is 5 s."""
    assert pocketsflow.DELIVERY_TIMEOUT == 5
    done = threading.Event()

    def slow() -> Response:
        done.wait(10)
        return Response("late")

    receiver.answer = slow
    with faking(receiver, delivery_timeout=0.2) as fake:
        fake.buy()
        [entry] = fake.get("/_sandbox/deliveries")
    done.set()
    assert (entry["status"], entry["error"]) == (None, "timeout")
    assert 200 <= entry["durationMs"] < 5000
    assert len(receiver.got) == 1


def test_a_receiver_that_stalls_in_its_answer_times_out(receiver: Receiver) -> None:
    """A stall after the headers is a timeout like one before them."""
    done = threading.Event()

    def stalling() -> Iterator[bytes]:
        yield b"{"
        done.wait(10)

    receiver.answer = lambda: Response(stalling())
    with faking(receiver, delivery_timeout=0.2) as fake:
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


def test_fault_http_retry_after(fake: Fake) -> None:
    """What http_status makes, and only that, tells when to come back."""
    for seconds, told in ((7, "7"), (0.5, "0.5")):
        fake.post("/_sandbox/faults", {"http_status": 429, "http_retry_after": seconds})
        response = fake.call("GET", "/orders")
        assert (response.status_code, response.headers["Retry-After"]) == (429, told)
    fake.post("/_sandbox/faults", {"http_retry_after": 7})
    assert "Retry-After" not in fake.call("GET", "/orders").headers


def test_fault_http_times(fake: Fake) -> None:
    """The http_* faults are over after so many answers of the API, refusals included; the other faults stay."""
    fake.post("/_sandbox/faults", {"http_status": 503, "http_times": 3, "drop": True})
    fake.get("/_sandbox/deliveries")
    answers = [fake.call("GET", "/orders", key=key) for key in (pocketsflow.API_KEY, "wrong", pocketsflow.API_KEY)]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert fake.get("/orders")["orders"] == []
    assert fake.get("/_sandbox/faults") == {"drop": True}


def test_fault_seconds(fake: Fake, receiver: Receiver) -> None:
    """All faults are over after so many seconds of the account's clock, and what was held goes out then."""
    session_id = fake.session()
    fake.post("/_sandbox/faults", {"http_status": 503, "reorder": True, "seconds": 60})
    order_id = fake.pay(session_id)
    fake.moment += timedelta(seconds=59)
    assert fake.call("GET", "/orders").status_code == 503
    assert receiver.got == []
    fake.moment += timedelta(seconds=1)
    assert fake.ids("/orders") == [order_id]
    assert fake.get("/_sandbox/faults") == {}
    assert [entry["orderId"] for entry in fake.deliveries(1)] == [order_id]


def test_fault_seconds_begin_anew(fake: Fake) -> None:
    """Faults set later last their own time, or for ever when they name none."""
    fake.post("/_sandbox/faults", {"http_status": 503, "seconds": 60})
    fake.post("/_sandbox/faults", {"http_status": 500})
    fake.moment += timedelta(days=1)
    assert fake.call("GET", "/orders").status_code == 500


def test_fault_refund_claim(fake: Fake, receiver: Receiver) -> None:
    """A refund is told as a sale is, in the older form: no event name, metadata or refund, so all look the same."""
    order_id = fake.buy(customerEmail="zoe@example.com", metadata={"external_order_id": "ORDER-1043"})
    fake.post("/_sandbox/faults", {"refund_claim": True})
    for amount in (9, 40):
        fake.post("/refunds", {"orderId": order_id, "amount": amount})
    sale, claim = (json.loads(raw) for _, raw in receiver.got[:2])
    assert receiver.events() == ["order.completed", "order.refunded", "order.refunded"]
    assert receiver.got[1][1] == receiver.got[2][1]
    assert set(sale) - set(claim) == {"event", "metadata"}
    assert (claim["order"], claim["customer"], claim["amount"]) == (
        {"id": order_id}, {"email": "zoe@example.com"}, sale["amount"],
    )  # fmt: skip
    assert len(fake.get("/refunds")) == 2


LISTS = ("/orders", "/payments", "/subscriptions/subscribers", "/refunds", "/refunds?page=1")


def test_fault_list_lag(fake: Fake) -> None:
    """What is younger than the lag is in no list, but there by its id."""
    order_id, customer_id = fake.buy(), fake.subscribe()
    refund_id = fake.post("/refunds", {"orderId": order_id})["_id"]
    fake.post("/_sandbox/faults", {"list_lag_seconds": 90})
    fake.moment += timedelta(seconds=89)
    assert [fake.ids(path) for path in LISTS] == [[]] * 5
    assert fake.post("/orders/subscriptions")["pagination"]["totalCount"] == 0
    for path in (f"/orders/{order_id}", f"/orders/subscriptions/{customer_id}", f"/refunds/{refund_id}"):
        assert fake.get(path)["_id"] in path
    fake.moment += timedelta(seconds=1)
    assert [len(fake.ids(path)) for path in LISTS] == [1, 2, 1, 1, 1]
    assert fake.post("/orders/subscriptions")["pagination"]["totalCount"] == 1


@pytest.mark.parametrize("how", ["list", "all", "string", "reference"])
def test_fault_hide_metadata(fake: Fake, receiver: Receiver, how: str) -> None:
    """Metadata is missing from lists or everywhere, is text, or only there as clientReferenceId; webhooks have it."""
    metadata = {"external_order_id": "ORDER-1043", "n": 1}
    order_id, customer_id = fake.buy(metadata=metadata), fake.subscribe(metadata=metadata)
    fake.post("/_sandbox/faults", {"hide_metadata": how})
    single = [fake.get(f"/orders/{order_id}"), fake.get(f"/orders/subscriptions/{customer_id}")]
    listed = [row for path in LISTS[:3] for row in next(iter(fake.get(path).values()))]
    listed += fake.post("/orders/subscriptions")["subscribers"]
    assert len(listed) == 5
    for row in single + listed:
        if how == "string":
            assert json.loads(row["metadata"]) == metadata
        elif how == "list" and row in single:
            assert row["metadata"] == metadata
        else:
            assert "metadata" not in row
        assert (row.get("clientReferenceId") == "ORDER-1043") == (how == "reference")
    fake.happen(customer_id, "renew")
    assert receiver.last("invoice.payment_succeeded")["metadata"] == metadata


def test_fault_hide_metadata_keeps_a_reference_of_its_own(fake: Fake) -> None:
    """Without an external_order_id the clientReferenceId stays what the shop sent."""
    order_id = fake.buy(metadata={"plan": "pro"}, clientReferenceId="mine")
    fake.post("/_sandbox/faults", {"hide_metadata": "reference"})
    assert fake.get(f"/orders/{order_id}")["clientReferenceId"] == "mine"


@pytest.mark.parametrize("wrapper", ["sale", "order", "data"])
def test_fault_wrap(fake: Fake, wrapper: str) -> None:
    """An order comes inside another object when it is asked for by its id, and bare in lists."""
    order_id = fake.buy()
    bare = fake.get(f"/orders/{order_id}")
    fake.post("/_sandbox/faults", {"wrap": wrapper})
    assert fake.get(f"/orders/{order_id}") == {wrapper: bare}
    assert fake.get("/orders")["orders"] == [bare]
    assert fake.call("GET", f"/orders/{UNKNOWN}").status_code == 404
    fake.post("/_sandbox/faults", {"wrap": "none"})
    assert fake.get(f"/orders/{order_id}") == bare


def test_fault_shift_rows(fake: Fake) -> None:
    """Each further page begins with the last row of the one before it; the walk still ends and misses nothing."""
    e, d, c, b, a = [fake.buy() for _ in range(5)]
    fake.post("/_sandbox/faults", {"shift_rows": True})
    pages: list[list[str]] = []
    more = True
    while more:
        page = fake.get(f"/orders?page={len(pages) + 1}&pageSize=2")
        pages.append([order["_id"] for order in page["orders"]])
        more = page["pagination"]["hasMore"]
    assert pages == [[a, b], [b, c], [c, d], [d, e]]
    for path in ("/payments", "/subscriptions/subscribers", "/refunds"):
        assert fake.get(f"{path}?page=2")["pagination"]["hasMore"] is False


def test_fault_ignore_dates(fake: Fake) -> None:
    """A listing holds everything, whatever dates are asked for."""
    order_id = fake.buy()
    refund_id = fake.post("/refunds", {"orderId": order_id})["_id"]
    nothing = "startDate=2027-01-01&endDate=2020-01-01"
    assert fake.ids(f"/orders?{nothing}") == fake.ids(f"/refunds?{nothing}") == fake.ids(f"/payments?{nothing}") == []
    fake.post("/_sandbox/faults", {"ignore_dates": True})
    assert fake.ids(f"/orders?{nothing}") == [order_id]
    assert fake.ids(f"/refunds?{nothing}") == [refund_id]
    assert len(fake.ids(f"/payments?{nothing}")) == 1


@pytest.mark.parametrize(
    "faults",
    [
        *({"dorp": True}, {"drop": "yes"}, {"drop": None}, {"delay_seconds": True}, {"delay_seconds": -1}, []),
        *({"http_status": 99}, {"http_status": "500"}, {"relabel": "a\nb"}, {"relabel": 1}, {"http_body": 1}),
        *({"list_lag_seconds": 86401}, {"list_lag_seconds": "1"}, {"hide_metadata": "none"}, {"hide_metadata": True}),
        *({"wrap": "orders"}, {"shift_rows": 1}, {"ignore_dates": "no"}, {"refund_claim": 0}, {"seconds": -1}),
        *({"http_times": 0}, {"http_times": 1.5}, {"http_retry_after": -1}, {"http_retry_after": "5"}),
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
    "path",
    [
        *(f"/{kind}/{UNKNOWN}" for kind in ("orders", "products", "refunds", "webhooks", "orders/subscriptions")),
        *(f"/payments/{UNKNOWN}", "/nothing"),
    ],
)
def test_an_unknown_id_is_404(fake: Fake, path: str) -> None:
    """What is not there is 404 with a message."""
    response = fake.call("GET", path)
    assert response.status_code == 404
    assert response.json()["message"]


def test_beyond_the_rate_limit_is_429(fake: Fake) -> None:
    """Bursts to 200, then 429, and 100 a minute from there by the account's clock; control and page are not counted."""
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {pocketsflow.API_KEY}"

        def statuses(count: int) -> list[int]:
            return [http.get(f"{fake.url}/users/me", timeout=5).status_code for _ in range(count)]

        assert statuses(205) == [200] * 200 + [429] * 5
        refused = http.get(f"{fake.url}/users/me", timeout=5)
        assert refused.json()["message"]
        assert "Retry-After" not in refused.headers
        assert http.get(f"{fake.url}/_sandbox/faults", timeout=5).status_code == 200
        fake.moment += timedelta(seconds=0.7)
        assert statuses(2) == [200, 429]
        fake.moment += timedelta(seconds=6)
        assert statuses(11) == [200] * 10 + [429]
        fake.moment -= timedelta(hours=1)
        assert statuses(1) == [429]
        fake.moment += timedelta(days=1)
        assert statuses(201) == [200] * 200 + [429]


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


def test_a_failed_refund_gives_nothing_back(fake: Fake, receiver: Receiver) -> None:
    """An order is refunded while the refunds that did not fail add up to all of it; no webhook tells of a change."""
    order_id = fake.buy()
    part, rest = (fake.post("/refunds", {"orderId": order_id, **more})["_id"] for more in ({"amount": 9}, {}))

    def refunded(refund_id: str, status: str) -> bool:
        assert fake.post(f"/_sandbox/refunds/{refund_id}", {"status": status})["status"] == status
        assert fake.get(f"/refunds/{refund_id}")["status"] == status
        flag: bool = fake.get(f"/orders/{order_id}")["isRefunded"]
        return flag

    assert refunded(part, "pending") is True
    assert refunded(rest, "failed") is False
    assert len(receiver.got) == 3
    again = fake.post("/refunds", {"orderId": order_id})
    assert again["amount"] == Decimal("40.00")
    assert refunded(part, "completed") is True
    assert refunded(again["_id"], "failed") is False
    assert refunded(rest, "completed") is True
    for wrong in ({"status": "succeeded"}, {"status": None}, {}):
        fake.refuse(400, f"/_sandbox/refunds/{part}", wrong)
    fake.refuse(404, f"/_sandbox/refunds/{UNKNOWN}", {"status": "failed"})


def test_refunds_are_a_list_or_pages(fake: Fake) -> None:
    """Newest first: all of them as a plain list, or one page of them when a page is asked for; dates apply to both."""
    order_id = fake.buy()
    made: list[str] = []
    for _ in range(3):
        made.insert(0, fake.post("/refunds", {"orderId": order_id, "amount": 1})["_id"])
        fake.moment += timedelta(days=1)
    assert fake.ids("/refunds") == made
    page = fake.get("/refunds?page=2&pageSize=2")
    assert [refund["_id"] for refund in page["refunds"]] == made[2:]
    assert page["pagination"] == {
        "totalCount": 3, "totalPages": 2, "currentPage": 2, "pageSize": 2, "hasMore": False,
    }  # fmt: skip
    for more in ("", "&page=1"):
        assert fake.ids(f"/refunds?startDate=2026-03-02T12:00:00Z&endDate=2026-03-03T12:00:00Z{more}") == [made[1]]


def test_a_dispute_shows_on_the_order_alone(fake: Fake, receiver: Receiver) -> None:
    """No webhook tells of a dispute, nor of its end."""
    order_id = fake.buy()
    for disputed in (True, False):
        fake.post(f"/_sandbox/orders/{order_id}/dispute", {"disputed": disputed})
        assert fake.get(f"/orders/{order_id}")["isDisputed"] is disputed
    assert len(receiver.got) == 1
    for wrong in ({}, {"disputed": "yes"}, {"disputed": None}):
        fake.refuse(400, f"/_sandbox/orders/{order_id}/dispute", wrong)
    fake.refuse(404, f"/_sandbox/orders/{UNKNOWN}/dispute", {"disputed": True})


def test_payments_are_listed(fake: Fake) -> None:
    """Sales and subscriptions, newest first, amounts in major units; no payment has the id of an order."""
    order_id = fake.buy(customerEmail="zoe@example.com", metadata={"a": 1})
    fake.moment += timedelta(days=1)
    customer_id = fake.subscribe(customerEmail="bo@example.com", metadata={"b": 2}, clientReferenceId="r")
    fake.happen(customer_id, "renew")
    renewal, first, sale = fake.get("/payments")["payments"]
    offer = PRODUCTS["membership"]["productId"]
    assert first == {
        "_id": first["_id"], "type": "subscription", "amount": Decimal("9.00"), "currency": "usd", "productId": offer,
        "customerEmail": "bo@example.com", "status": "succeeded", "testMode": True,
        "createdAt": "2026-03-02T12:00:00.000Z", "metadata": {"b": 2}, "subscriptionId": offer,
        "subscriptionCustomerId": customer_id, "clientReferenceId": "r",
    }  # fmt: skip
    assert {**renewal, "_id": first["_id"]} == first
    assert sale == {
        "_id": sale["_id"], "type": "one-time", "amount": Decimal("49.00"), "currency": "usd",
        "productId": PRODUCTS["course"]["productId"], "customerEmail": "zoe@example.com", "status": "succeeded",
        "testMode": True, "createdAt": "2026-03-01T12:00:00.000Z", "metadata": {"a": 1},
    }  # fmt: skip
    assert len({renewal["_id"], first["_id"], sale["_id"], order_id, customer_id}) == 5
    assert fake.ids("/payments?type=subscription") == [renewal["_id"], first["_id"]]
    assert fake.ids("/payments?type=all&endDate=2026-03-02T12:00:00Z") == [sale["_id"]]
    assert fake.ids("/payments?startDate=2026-03-02&pageSize=1&page=2") == [first["_id"]]
    assert fake.get("/payments?pageSize=2")["pagination"] == {
        "totalCount": 3, "totalPages": 2, "currentPage": 1, "pageSize": 2, "hasMore": True,
    }  # fmt: skip
    for query in ("type=one-off", "page=0", "startDate=x"):
        assert fake.call("GET", f"/payments?{query}").status_code == 400


# --- subscriptions


def like_the_fixture(name: str, body: Any) -> bool:
    """Whether a body has the fields of Pocketsflow's sample, to the depth that it has, and its types."""

    def shape(value: Any) -> Any:
        return {key: shape(each) for key, each in value.items()} if isinstance(value, dict) else type(value)

    sample = json.loads((FIXTURES / f"{name}.json").read_text(), parse_float=Decimal)
    return bool(shape({**sample, "metadata": {}}) == shape({**body, "metadata": {}}))


def test_subscribers_are_listed(fake: Fake) -> None:
    """A sale makes a row, found in both lists and by its id; dates do not apply."""
    older = fake.subscribe()
    fake.moment += timedelta(hours=1)
    newer = fake.subscribe(customerEmail="bo@example.com", metadata={"plan": "pro"}, clientReferenceId="user-1")
    page = fake.get("/subscriptions/subscribers?startDate=2027-01-01")
    assert [row["_id"] for row in page["subscribers"]] == [newer, older]
    assert page["subscribers"][0] == {
        "_id": newer, "subscriptionId": PRODUCTS["membership"]["productId"], "status": "active", "active": True,
        "paused": False, "cancelAtPeriodEnd": False, "currentPeriodStart": "2026-03-01T13:00:00.000Z",
        "currentPeriodEnd": "2026-04-01T13:00:00.000Z", "customer": {"email": "bo@example.com"},
        "clientReferenceId": "user-1", "metadata": {"plan": "pro"}, "testMode": True,
        "createdAt": "2026-03-01T13:00:00.000Z", "updatedAt": "2026-03-01T13:00:00.000Z",
    }  # fmt: skip
    assert fake.post("/orders/subscriptions") == page
    assert fake.post("/orders/subscriptions", {"page": 2, "pageSize": 1}) == {
        "subscribers": page["subscribers"][1:],
        "pagination": {"totalCount": 2, "totalPages": 2, "currentPage": 2, "pageSize": 1, "hasMore": False},
    }
    assert fake.get("/subscriptions/subscribers?page=2&pageSize=1")["subscribers"] == page["subscribers"][1:]
    assert fake.get(f"/orders/subscriptions/{newer}") == page["subscribers"][0]
    for wrong in ({"page": 0}, {"page": "1"}, {"pageSize": 101}, {"page": True}):
        fake.refuse(400, "/orders/subscriptions", wrong)


def test_a_renewal_pays_another_month(fake: Fake, receiver: Receiver) -> None:
    """A payment and a month more; its webhook is the same bytes each time, so no hash tells two months apart."""
    customer_id = fake.subscribe(metadata={"plan": "pro"}, clientReferenceId="user-1", discountCode="SAVE10")
    for number in (1, 2, 3):
        fake.moment += timedelta(days=31)
        row = fake.happen(customer_id, "renew")
        assert row["currentPeriodEnd"] == f"2026-0{4 + number}-01T12:00:00.000Z"
        assert row["currentPeriodStart"] == f"2026-0{3 + number}-01T12:00:00.000Z"
    assert row["updatedAt"] == "2026-06-02T12:00:00.000Z"
    assert fake.get(f"/orders/subscriptions/{customer_id}") == row
    assert receiver.events() == ["customer.subscription.created", *["invoice.payment_succeeded"] * 3]
    assert len({body for _, body in receiver.got[1:]}) == 1
    body = receiver.last("invoice.payment_succeeded")
    assert like_the_fixture("invoice.payment_succeeded", body)
    assert (body["amount"], body["currency"], body["subscriptionCustomerId"]) == (810, "usd", customer_id)
    assert [row["amount"] for row in fake.get("/payments?type=subscription")["payments"]] == [Decimal("8.10")] * 4
    assert len({row["createdAt"] for row in fake.get("/payments")["payments"]}) == 4


def test_a_month_ends_on_its_last_day(fake: Fake) -> None:
    """A subscription of the 31st goes on at the end of a shorter month, and on the 31st of the next."""
    fake.moment = datetime(2026, 12, 31, 12, tzinfo=UTC)
    row = fake.happen(fake.subscribe(), "renew", "renew")
    assert row["currentPeriodStart"] == "2027-02-28T12:00:00.000Z"
    assert row["currentPeriodEnd"] == "2027-03-31T12:00:00.000Z"


@pytest.mark.parametrize(
    ("actions", "state", "events", "payments"),
    [
        (["fail"], {"status": "past_due"}, ["customer.subscription.updated", "invoice.payment_failed"], 1),
        (["fail", "recover"], {}, ["customer.subscription.updated", "invoice.payment_succeeded"], 2),
        (["pause"], {"paused": True}, ["customer.subscription.pause"], 1),
        (["pause", "resume"], {}, ["customer.subscription.resumed"], 1),
        (["cancel"], {"status": "canceled", "active": False}, ["customer.subscription.deleted"], 1),
        (["cancel-at-period-end"], {"cancelAtPeriodEnd": True}, ["customer.subscription.updated"], 1),
        (["trial-will-end"], {}, ["customer.subscription.trial_will_end"], 1),
    ],
)
def test_what_happens_to_a_subscription_is_told_and_shown(
    fake: Fake, receiver: Receiver, actions: list[str], state: dict[str, Any], events: list[str], payments: int
) -> None:
    """The last action sends its webhooks to the seeded endpoint; they and the API tell the same new state."""
    customer_id = fake.subscribe()
    fake.happen(customer_id, *actions[:-1])
    receiver.got.clear()
    row = fake.happen(customer_id, actions[-1])
    assert receiver.events() == events
    state = {"status": "active", "active": True, "paused": False, "cancelAtPeriodEnd": False, **state}
    assert {field: row[field] for field in state} == state
    assert fake.get("/subscriptions/subscribers")["subscribers"] == [row]
    assert len(fake.get("/payments")["payments"]) == payments
    for event in events:
        body = receiver.last(event)
        assert body["subscriptionCustomer"] == {"id": customer_id, **state}
        assert (body["status"], body["subscriptionCustomerId"]) == (state["status"], customer_id)
        assert (body["paymentMethod"] is None) == (event == "customer.subscription.deleted")
        assert ("amount" in body, "currency" in body, "event" in body) == (
            (event.startswith("invoice."),) * 2 + (False,)
        )


@pytest.mark.parametrize(
    ("action", "event"),
    [("cancel", "customer.subscription.deleted"), ("cancel-at-period-end", "customer.subscription.updated")],
)
def test_a_subscription_body_is_like_the_sample(fake: Fake, receiver: Receiver, action: str, event: str) -> None:
    """The bodies have the fields of Pocketsflow's public example, and no others."""
    fake.happen(fake.subscribe(clientReferenceId="user-1"), action)
    assert like_the_fixture("customer.subscription.created", receiver.last("customer.subscription.created"))
    assert like_the_fixture(event, receiver.last(event))


@pytest.mark.parametrize(
    ("before", "action"),
    [
        *(
            (["cancel"], action)
            for action in ("renew", "fail", "recover", "pause", "resume", "cancel", "trial-will-end")
        ),
        *((["pause"], action) for action in ("renew", "fail", "pause")),
        *((["cancel-at-period-end"], action) for action in ("renew", "fail", "cancel-at-period-end")),
        *(([], action) for action in ("recover", "resume")),
        *((["cancel"], "cancel-at-period-end"), (["fail"], "renew"), (["fail", "cancel"], "recover")),
    ],
)
def test_what_makes_no_sense_for_a_subscription_is_refused(
    fake: Fake, receiver: Receiver, before: list[str], action: str
) -> None:
    """An action that does not fit the state is 400 and changes and sends nothing."""
    customer_id = fake.subscribe()
    fake.happen(customer_id, *before)
    state, sent = fake.get(f"/orders/subscriptions/{customer_id}"), len(receiver.got)
    fake.refuse(400, f"/_sandbox/subscriptions/{customer_id}/{action}")
    assert fake.get(f"/orders/subscriptions/{customer_id}") == state
    assert len(receiver.got) == sent


def test_an_unknown_action_or_subscription_is_404(fake: Fake) -> None:
    """Neither is guessed at."""
    fake.refuse(404, f"/_sandbox/subscriptions/{fake.subscribe()}/upgrade")
    fake.refuse(404, f"/_sandbox/subscriptions/{UNKNOWN}/renew")
    fake.refuse(404, f"/_sandbox/subscriptions/{fake.buy()}/renew")


def test_faults_apply_to_the_webhooks_of_a_subscription(fake: Fake, receiver: Receiver) -> None:
    """A renewal whose webhook is lost shows in the API alone; of two webhooks the second can be made to come first."""
    customer_id = fake.subscribe()
    fake.post("/_sandbox/faults", {"drop": True})
    fake.happen(customer_id, "renew")
    assert len(receiver.got) == 1
    assert len(fake.get("/payments")["payments"]) == 2
    [_, lost] = fake.get("/_sandbox/deliveries")
    assert (lost["event"], lost["orderId"], lost["error"]) == ("invoice.payment_succeeded", customer_id, "dropped")
    fake.post("/_sandbox/faults", {"reorder": True})
    fake.happen(customer_id, "fail")
    names = [headers["X-Pocketsflow-Event"] for headers, _ in receiver.got[1:]]
    assert names == ["customer.subscription.updated", "invoice.payment_failed"]


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


# --- without a server


class Simulated(pocketsflow.Account):
    """Delivers by a call, when `later` is worked off; no thread, no socket, no real time."""

    later: list[tuple[float, list[pocketsflow.Delivery]]]

    def start(self, batches: Iterable[list[pocketsflow.Delivery]], delay: float) -> list[Thread]:
        self.later += [(delay, batch) for batch in batches]
        return []

    def attempt(self, delivery: pocketsflow.Delivery) -> pocketsflow.Json:
        return {**self.entry(delivery), "status": 200, "response": {"got": delivery.event}}


def test_a_simulation_needs_neither_server_nor_threads() -> None:
    """What is to be sent, when, and how is left to a subclass; the API answers in the same process."""
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    account = Simulated("http://pocketsflow.test", PRODUCTS, "http://shop.test/hook", lambda: moment)
    account.later = []
    http = pocketsflow.application(account).test_client()
    account.set_faults({"delay_seconds": 600})
    session_id = account.open_session({"productId": PRODUCTS["course"]["productId"]})
    before = time.monotonic()
    order_id, threads = account.pay(session_id, account.products[PRODUCTS["course"]["productId"]])
    assert threads == []
    [(delay, batch)] = account.later
    assert (delay, account.deliveries) == (600, [])
    account.send(batch)
    [entry] = account.deliveries
    assert (entry["orderId"], entry["response"]) == (order_id, {"got": "order.completed"})
    assert entry["signature"] == signature(batch[0].body)
    answer = http.get("/orders", headers={"Authorization": f"Bearer {pocketsflow.API_KEY}"})
    assert [order["_id"] for order in answer.get_json()["orders"]] == [order_id]
    assert http.post(f"/_sandbox/orders/{order_id}/dispute", json={"disputed": True}).status_code == 200
    assert account.orders[order_id]["isDisputed"] is True
    assert time.monotonic() - before < 5
