"""A WooCommerce shop: its REST API for orders, two pages, and what its gateway plugin sends.

It does what WooCommerce's source does (plugins/woocommerce/includes/rest-api/Controllers/Version2 and Version3,
class-wc-rest-authentication.php, class-wc-order.php, wc-order-functions.php at github.com/woocommerce/woocommerce):
codes and statuses of errors, who may set_paid, what a refund does to an order's status. Items, taxes and stock it has
none of; what a buyer would have been mailed it counts.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

import requests
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from ops import stack
from ops.keys import Keys
from sandbox.pocketsflow import API_KEY
from sandbox.purchase import PurchaseFailed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sandbox.system import Addresses

CONSUMER_KEY, CONSUMER_SECRET = "ck_sandbox-sandbox-sandbox", "cs_sandbox-sandbox-sandbox"
CART = {"2 mugs": Decimal("24.00"), "1 shirt": Decimal("25.00"), "shipping": Decimal("4.90")}
CURRENCY = "USD"
STATUSES = ("pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "trash")
_UNPAID = ("pending", "failed")
_PAYABLE = (*_UNPAID, "on-hold", "cancelled")  # by payment_complete, which set_paid reaches for _UNPAID alone
_SECONDS = 20.0
"""Until the shop must have heard."""
_TIMEOUT = 10
_API = "/wp-json/wc/v3"
_ROUTES = Map(
    [
        Rule(f"{_API}/orders", endpoint="list", methods=["GET"]),
        Rule(f"{_API}/orders/<int:number>", endpoint="show", methods=["GET"]),
        Rule(f"{_API}/orders/<int:number>", endpoint="change", methods=["PUT", "POST", "PATCH"]),
        Rule(f"{_API}/orders/<int:number>/notes", endpoint="notes", methods=["GET"]),
        Rule(f"{_API}/orders/<int:number>/notes", endpoint="add_note", methods=["POST"]),
        Rule(f"{_API}/orders/<int:number>/refunds", endpoint="add_refund", methods=["POST"]),
        Rule("/", endpoint="shop", methods=["GET"]),
        Rule("/checkout", endpoint="buy", methods=["POST"]),
        Rule("/checkout/order-received/<int:number>", endpoint="order", methods=["GET"]),
        Rule("/checkout/order-pay/<int:number>", endpoint="order", methods=["GET"]),
        Rule("/state", endpoint="state", methods=["GET"]),
    ]
)


class Failed(Exception):
    """What the API answers instead."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.content = status, {"code": code, "message": message, "data": {"status": status}}


@dataclass
class Order:
    number: int
    total: Decimal
    currency: str = CURRENCY
    status: str = "pending"
    key: str = field(default_factory=lambda: f"wc_order_{secrets.token_hex(7)}")
    email: str = "buyer@example.com"
    transaction_id: str = ""
    date_paid: str | None = None
    is_virtual: bool = False
    """Needs no processing: paid is completed."""
    refunds: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    """To the buyer, by what they say."""
    session_id: str = ""

    @property
    def left(self) -> Decimal:
        return self.total - sum(Decimal(refund["amount"]) for refund in self.refunds)

    def shown(self) -> dict[str, Any]:
        """As the API does, less what nobody here asks for."""
        refunds = [
            {"id": refund["id"], "reason": refund["reason"], "total": f"-{refund['amount']}"} for refund in self.refunds
        ]
        return {
            "id": self.number,
            "status": self.status,
            "currency": self.currency,
            "total": str(self.total),
            "order_key": self.key,
            "payment_method": "pocketsflow",
            "transaction_id": self.transaction_id,
            "date_paid": self.date_paid,
            "needs_payment": self.status in _UNPAID and self.total > 0,
            "refunds": refunds,
            "meta_data": [],
        }

    def state(self) -> dict[str, Any]:
        return {**self.shown(), "refunds": self.refunds, "notes": self.notes, "mails": self.mails}

    def become(self, status: str) -> None:
        """WC_Order::set_status and what hangs on it."""
        if status == self.status:
            return
        was, self.status = self.status, status
        self.notes.insert(0, f"Order status changed from {was} to {status}.")
        if status in ("processing", "completed") and self.date_paid is None:
            self.date_paid = _now()
        if status in ("processing", "completed") and was in _PAYABLE and not self.mails:
            self.mails.append(status)
        if status == "refunded":
            self.mails.append(status)
            if self.left:
                self.refunds.insert(0, self._refund(self.left, "Order fully refunded."))
                self.notes.insert(0, "To return funds to the customer you will need to issue a refund yourself.")

    def complete_payment(self, transaction_id: str) -> None:
        """WC_Order::payment_complete."""
        self.transaction_id = transaction_id or self.transaction_id
        self.date_paid = self.date_paid or _now()
        self.become("completed" if self.is_virtual else "processing")

    def refund(self, amount: Decimal, reason: str) -> dict[str, Any]:
        """wc_create_refund, which tells every failure as 500."""
        if not 0 <= amount <= self.left:
            raise Failed(500, "woocommerce_rest_cannot_create_order_refund", "Invalid refund amount.")
        made = self._refund(amount, reason)
        self.refunds.insert(0, made)
        if not self.left:
            self.become("refunded")
        return made

    def _refund(self, amount: Decimal, reason: str) -> dict[str, Any]:
        return {"id": self.number * 1000 + len(self.refunds), "amount": str(amount), "reason": reason}


class Platform:
    stack = "WooCommerceStack"
    parameters: ClassVar = {"WooCommerceUrl": "https://woocommerce.example", "ProductPerOrder": "on"}
    secret = f"{CONSUMER_KEY} {CONSUMER_SECRET}"

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = {"woocommerce_url": url}
        self.keys = {CONSUMER_KEY: CONSUMER_SECRET}
        self.may_write = True
        self.orders: dict[int, Order] = {}
        self.api = self.server_key = ""
        """What is entered in the plugin's settings."""
        self._lock = RLock()
        self._http = requests.Session()
        self._http.trust_env = False

    def open(self, total: Decimal, **fields: Any) -> Order:
        """A buyer's order, not yet paid."""
        with self._lock:
            order = Order(len(self.orders) + 101, total, **fields)
            self.orders[order.number] = order
            return order

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ)
        try:
            endpoint, arguments = _ROUTES.bind_to_environ(environ).match()
            answer: Callable[..., Response] = getattr(self, f"_{endpoint}")
            if request.path.startswith(_API):
                self._authenticate(request)
            response = answer(request, **arguments)
        except Failed as failed:
            response = _json(failed.content, failed.status)
        except HTTPException:
            message = "No route was found matching the URL and request method."
            response = _json(Failed(404, "rest_no_route", message).content, 404)
        return response(environ, start_response)

    def state(self) -> dict[str, Any]:
        with self._lock:
            return {"orders": [order.state() for order in self.orders.values()]}

    # --- The API ------------------------------------------------------------------------------------------------------

    def _authenticate(self, request: Request) -> None:
        """WC_REST_Authentication: an unknown key is nobody, and nobody may do nothing."""
        given = request.authorization
        key, secret = (given.username, given.password) if given and given.type == "basic" else (None, None)
        if key not in self.keys:
            what = "list resources" if request.path.endswith("/orders") else "view this resource"
            raise Failed(401, "woocommerce_rest_cannot_view", f"Sorry, you cannot {what}.")
        if secret != self.keys[key]:
            raise Failed(401, "woocommerce_rest_authentication_error", "Consumer secret is invalid.")
        if request.method != "GET" and not self.may_write:
            message = "The API key provided does not have write permissions."
            raise Failed(401, "woocommerce_rest_authentication_error", message)

    def _list(self, request: Request) -> Response:
        most = request.args.get("per_page", 10, int)
        with self._lock:
            return _json([_only(order.shown(), request) for order in list(self.orders.values())[:most]])

    def _show(self, request: Request, number: int) -> Response:
        with self._lock:
            return _json(_only(self._found(number).shown(), request))

    def _change(self, request: Request, number: int) -> Response:
        wanted = _content(request)
        with self._lock:
            order = self._found(number, 400)
            status = wanted.get("status") or order.status
            if status not in STATUSES:
                raise Failed(400, "rest_invalid_param", "Invalid parameter(s): status")
            order.transaction_id = wanted.get("transaction_id", order.transaction_id)
            order.become(status)
            if wanted.get("set_paid") is True and order.status in _UNPAID and order.total > 0:
                order.complete_payment(wanted.get("transaction_id", ""))
            return _json(_only(order.shown(), request))

    def _notes(self, _request: Request, number: int) -> Response:
        with self._lock:
            return _json([{"note": note} for note in self._found(number).notes])

    def _add_note(self, request: Request, number: int) -> Response:
        wanted = _content(request)
        with self._lock:
            order = self._found(number)
            order.notes.insert(0, wanted["note"])
            if wanted.get("customer_note"):
                order.mails.append("note")
            return _json({"id": len(order.notes), "note": wanted["note"]}, 201)

    def _add_refund(self, request: Request, number: int) -> Response:
        wanted = _content(request)
        with self._lock:
            order = self._found(number, 500)
            if wanted.get("api_refund", True):
                message = "The payment gateway for this order does not support automatic refunds."
                raise Failed(500, "woocommerce_rest_cannot_create_order_refund", message)
            return _json(order.refund(Decimal(wanted["amount"]), wanted.get("reason") or ""), 201)

    def _found(self, number: int, status: int = 404) -> Order:
        if number not in self.orders:
            raise Failed(status, "woocommerce_rest_shop_order_invalid_id", "Invalid ID.")
        return self.orders[number]

    # --- The pages ----------------------------------------------------------------------------------------------------

    def _shop(self, _request: Request) -> Response:
        lines = "".join(f"<li>{escape(name)}: {price} {CURRENCY}</li>" for name, price in CART.items())
        return _page(
            f'<ul>{lines}</ul><form method="post" action="{escape(self.url)}/checkout"><button>Buy</button></form>'
        )

    def _buy(self, _request: Request) -> Response:
        order = self.open(sum(CART.values(), Decimal(0)))
        address = self.ask(order)
        return Response(status=303, headers={"Location": address}) if address else _page("Payment is not possible now.")

    def _order(self, request: Request, number: int) -> Response:
        order = self.orders.get(number)
        if order is None or request.args.get("key") != order.key:
            return _page("This order is not yours.")
        said = "Your payment is being confirmed." if order.status in _UNPAID else "Thank you."
        return _page(f"Order {number} is {escape(order.status)}. {said}")

    def _state(self, _request: Request) -> Response:
        return _json(self.state())

    # --- The plugin ---------------------------------------------------------------------------------------------------

    def ask(self, order: Order) -> str | None:
        """The address to pay at; None when there is none."""
        headers = {"Authorization": f"Bearer {self.server_key}"}
        answer = self._http.post(f"{self.api}/server/checkout", json=self.wanted(order), headers=headers, timeout=20)
        if answer.status_code != 201:
            return None
        order.session_id = answer.json()["sessionId"]
        return str(answer.json()["url"])

    def wanted(self, order: Order) -> dict[str, Any]:
        """What the plugin sends: integrations/woocommerce/pocketsflow-gateway/class-pocketsflow-gateway.php."""
        body = {
            "name": f"Sandbox: order {order.number}",
            "total": {"amount": str(order.total), "currency": order.currency.lower()},
            "metadata": {
                "woocommerce_order": str(order.number),
                "woocommerce_total": f"{order.total} {order.currency.lower()}",
            },
            "successUrl": f"{self.url}/checkout/order-received/{order.number}?key={order.key}",
            "cancelUrl": f"{self.url}/checkout/order-pay/{order.number}?key={order.key}",
            "customerEmail": order.email,
        }
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return {**body, "reference": f"wc-{order.number}-{digest[:12]}"}

    # --- The story ----------------------------------------------------------------------------------------------------

    def story(self, addresses: "Addresses") -> Iterator[str]:
        """From the shop's page through a purchase and a refund of a part to what the shop then shows. Raises
        PurchaseFailed."""
        self.api = addresses.api
        self.server_key, _ = Keys(stack.sandbox(addresses.aws, None)).create("woocommerce", datetime.now(UTC))
        bought = self._http.post(f"{self.url}/checkout", allow_redirects=False, timeout=_TIMEOUT)
        if bought.status_code != 303:
            raise PurchaseFailed("the shop's plugin got no checkout")
        order = list(self.orders.values())[-1]
        yield _told("1 A buyer orders in the shop", f"POST {self.url}/checkout", _line(order))
        asked = f"POST {self.api}/server/checkout"
        yield _told("2 The plugin has asked for a checkout, by its key", asked, bought.headers["Location"])
        pay = f"{addresses.pocketsflow}/_sandbox/sessions/{order.session_id}/pay"
        paid = self._answered(self._http.post(pay, timeout=_TIMEOUT))["orderId"]
        yield _told("3 The buyer pays at Pocketsflow", f"Pocketsflow's order {paid}")
        self._hear(order, "Paid at Pocketsflow")
        yield _told("4 order.paid has come to the shop by its REST API", _line(order), order.notes[0])
        refund, headers = {"orderId": paid, "amount": 10}, {"Authorization": f"Bearer {API_KEY}"}
        back = self._http.post(f"{addresses.pocketsflow}/refunds", json=refund, headers=headers, timeout=_TIMEOUT)
        self._answered(back)
        self._hear(order, "A part was given back")
        booked = f"{order.refunds[0]['amount']} {order.currency} less in the shop's books"
        yield _told(
            "5 10.00 of it are given back at Pocketsflow", booked, _line(order), f"{self.url}/state is all of the shop"
        )

    def _hear(self, order: Order, note: str) -> None:
        until = time.monotonic() + _SECONDS
        while not any(note in each for each in order.notes):
            if time.monotonic() > until:
                raise PurchaseFailed(f"the shop has not heard of it within {_SECONDS:g} seconds: {_line(order)}")
            time.sleep(0.05)

    def _answered(self, answer: requests.Response) -> Any:
        if not answer.ok:
            raise PurchaseFailed(f"{answer.request.method} {answer.url} gave {answer.status_code}")
        return answer.json()


def _line(order: Order) -> str:
    return f"order {order.number}, {order.total} {order.currency}, {order.status} {order.transaction_id}".rstrip()


def _told(step: str, *details: str) -> str:
    return "\n".join([step, *(f"    {detail}" for detail in details)])


def _only(shown: dict[str, Any], request: Request) -> dict[str, Any]:
    """WordPress' own parameter _fields."""
    fields = request.args.get("_fields")
    return {name: shown[name] for name in fields.split(",") if name in shown} if fields else shown


def _content(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(request.get_data())
    except ValueError:
        raise Failed(400, "rest_invalid_json", "Invalid JSON body passed.") from None
    return content if isinstance(content, dict) else {}


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status=status, content_type="application/json; charset=UTF-8")


def _page(body: str) -> Response:
    return Response(
        f"<!doctype html><title>Sandbox</title><h1>Sandbox</h1>{body}", content_type="text/html; charset=utf-8"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")[:19]
