"""A fake Pocketsflow with state: its API, its hosted checkout page, its webhooks, and faults on demand.

It does what Pocketsflow's documentation and its SDK 1.2.1 say. Where they are silent it takes the behaviour that is
harder on the caller: orders are listed newest first (rows shift between pages), `endDate` is exclusive, a 429 has no
Retry-After, an order does not tell its variant, and `webhookId` is the endpoint's id (whoever dedupes on it loses
sales). Serve it threaded: receivers may call back.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from threading import Lock, Thread
from typing import Any, NotRequired, TypedDict, cast
from urllib.parse import urlsplit

import requests
import simplejson
import urllib3
from flask import Blueprint, Flask, Response, abort, current_app, redirect, request
from flask.json.provider import JSONProvider
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Response as AnyResponse

from sandbox import checkout_page

API_KEY = "pk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"
SUBSCRIPTION_SKUS = frozenset({"membership"})
DISCOUNTS = {"SAVE10": Decimal("0.90")}
BURST, PER_SECOND = 200, 100 / 60
DELIVERY_TIMEOUT = 5.0
RESPONSE_CAP = 4096
PAGE_SIZE, MAX_PAGE_SIZE = 20, 100
SEEDED_EVENTS = [
    *("order.completed", "order.refunded"),
    *(f"customer.subscription.{name}" for name in ("created", "updated", "deleted")),
]
EVENTS = frozenset(
    [
        *SEEDED_EVENTS,
        *(f"customer.subscription.{name}" for name in ("pause", "paused", "resumed", "trial_will_end")),
        *(f"invoice.{name}" for name in ("payment_succeeded", "payment_failed", "paid", "created", "upcoming")),
        *(f"identity.verification_session.{name}" for name in ("verified", "processing", "requires_input")),
        *("payment_intent.succeeded", "payment_intent.payment_failed", "customer.created", "review.created"),
        *("product.created", "product.updated", "product.deleted"),
    ]
)
# No quotes, blanks or control characters: the address also goes into a Location and a Content-Security-Policy header.
_ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?#][\x21-\x7e]*)?")
_PRODUCT_FIELDS = {"name": str, "description": str, "currency": str, "active": bool, "published": bool}
_FAULTS: dict[str, type | tuple[type, ...]] = {
    "drop": bool, "duplicate": bool, "reorder": bool, "delay_seconds": (int, Decimal), "relabel": str,
    "http_status": int, "http_body": str, "http_delay_seconds": (int, Decimal),
}  # fmt: skip

Json = dict[str, Any]


class Product(TypedDict):
    """One product of functions/catalogue.json; `price` in major units."""

    productId: str
    variantId: NotRequired[str]
    name: str
    price: str
    currency: str


@dataclass(frozen=True)
class Delivery:
    """One webhook for one endpoint, ready to send."""

    endpoint_id: str
    url: str
    secret: str
    event: str
    order_id: str
    body: bytes


class Account:
    """Everything one Pocketsflow account holds. Records are replaced, never changed, so a reader needs no lock."""

    def __init__(
        self, url: str, products: Mapping[str, Product], endpoint_url: str, now: Callable[[], datetime]
    ) -> None:
        self.url = url.rstrip("/")
        self.now = now
        self.lock = Lock()
        self.user_id = new_id()
        self.sessions: dict[str, Json] = {}
        self.paid: dict[str, list[str]] = {}
        self.products: dict[str, Json] = {}
        self.variants: dict[str, list[Json]] = {}
        self.orders: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.endpoints: dict[str, Json] = {}
        self.customers: dict[str, str] = {}
        self.deliveries: list[Json] = []
        self.faults: Json = {}
        self._held: dict[str, list[Delivery]] = {}
        self._tokens: float = BURST
        self._tokens_at = time.monotonic()
        for sku, product in products.items():
            self._seed(product, subscription=sku in SUBSCRIPTION_SKUS)
        self.add_endpoint({"url": endpoint_url, "events": SEEDED_EVENTS}, WEBHOOK_SECRET)

    def _seed(self, product: Product, *, subscription: bool) -> None:
        identity, price = product["productId"], Decimal(product["price"])
        fields: Json = {"_id": identity, "name": product["name"], "price": price, "currency": product["currency"]}
        if subscription:
            fields |= {"type": "subscription", "billingInterval": "month"}
        self.add_product(fields)
        if "variantId" in product:
            signed = {"_id": product["variantId"], "productId": identity, "name": product["name"], "price": price}
            unsigned = {"_id": new_id(), "productId": identity, "name": "Unsigned", "price": cents(price * 3 / 4)}
            self.variants[identity] = [signed, unsigned]

    def records(self, kind: str) -> dict[str, Json]:
        """What the API's path names: products, orders, refunds or webhooks."""
        by_kind = {
            "products": self.products,
            "orders": self.orders,
            "refunds": self.refunds,
            "webhooks": self.endpoints,
        }
        return by_kind[kind]

    def timestamp(self) -> str:
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def take_token(self) -> bool:
        """Whether one more request is within the limit: 100 a minute, bursts to 200."""
        with self.lock:
            passed, self._tokens_at = time.monotonic() - self._tokens_at, time.monotonic()
            self._tokens = min(BURST, self._tokens + passed * PER_SECOND)
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def add_product(self, fields: Json) -> Json:
        moment = self.timestamp()
        product = {
            "_id": new_id(), "userId": self.user_id, "currency": "usd", "type": "one-time", "active": True,
            "published": True, **fields, "testMode": True, "createdAt": moment, "updatedAt": moment,
        }  # fmt: skip
        with self.lock:
            return self.products.setdefault(product["_id"], product)

    def add_endpoint(self, fields: Json, secret: str) -> Json:
        """The stored endpoint, secret included: strip it everywhere but in the answer to its creation."""
        endpoint = {
            "_id": new_id(), "userId": self.user_id, "active": True, **fields,
            "secret": secret, "testMode": True, "createdAt": self.timestamp(),
        }  # fmt: skip
        with self.lock:
            return self.endpoints.setdefault(endpoint["_id"], endpoint)

    def choices(self, session_id: str, product: Json) -> list[checkout_page.Choice]:
        """What a session lets the buyer pay for, discount applied, the default first."""
        factor = DISCOUNTS.get(self.sessions[session_id].get("discountCode") or "")
        variants = self.variants.get(product["_id"]) or [
            {"_id": None, "name": product["name"], "price": product["price"]}
        ]
        return [
            checkout_page.Choice(v["_id"], v["name"], cents(v["price"] * factor) if factor else v["price"])
            for v in variants
        ]

    def pay(
        self, session_id: str, product: Json, variant_id: str | None = None, amount: Decimal | None = None
    ) -> tuple[str, list[Thread]]:
        """Take a payment for a session, of `product`, which need not be the one ordered. `amount` in major units.

        Returns the id of the order, or for a subscription of the subscriptionCustomer, and the threads that deliver.
        """
        session = self.sessions[session_id]
        choices = self.choices(session_id, product)
        choice = next((each for each in choices if each.variant_id == variant_id), choices[0])
        amount = choice.price if amount is None else amount
        email, identity = session.get("customerEmail") or "buyer@example.com", new_id()
        with self.lock:
            self.paid[session_id].append(identity)
            customer_id = self.customers.setdefault(email, new_id())
        if product["type"] == "subscription":
            body = self._subscription_body(product, identity, email, session)
            return identity, self.announce("customer.subscription.created", identity, body)
        fee = min(amount, cents(amount * Decimal("0.029") + Decimal("0.30")))
        moment, zero = self.timestamp(), Decimal("0.00")
        order: Json = {
            "_id": identity, "userId": self.user_id, "productId": product["_id"], "buyerEmail": email,
            "grossAmount": amount, "amountBeforeTax": amount, "netAmount": amount - fee, "taxAmount": zero,
            "stripeFee": fee, "currency": product["currency"], "country": "US",
            "isRefunded": False, "isDisputed": False, "isSubscription": False, "testMode": True, "product": product,
            "customer": {"_id": customer_id, "buyerEmail": email}, "metadata": session.get("metadata") or {},
            "createdAt": moment, "paidAt": moment,
        }  # fmt: skip
        if "clientReferenceId" in session:
            order["clientReferenceId"] = session["clientReferenceId"]
        with self.lock:
            self.orders[identity] = order
        return identity, self.announce(
            "order.completed", identity, completed_body(order, variant_id or choice.variant_id)
        )

    def _subscription_body(self, product: Json, identity: str, email: str, session: Json) -> Json:
        return {
            "subscription": {"id": product["_id"], "customerId": f"cus_{secrets.token_hex(4)}"},
            "subscriptionCustomer": {
                "id": identity, "status": "active", "active": True, "cancelAtPeriodEnd": False, "paused": False,
            },
            "customer": {"email": email, "firstName": "Jane", "lastName": "Buyer"},
            "status": "active",
            "paymentMethod": {
                "id": f"pm_{secrets.token_hex(4)}", "type": "card", "brand": "visa", "last4": "4242",
                "expMonth": 11, "expYear": 2029,
            },
            "portalUrl": f"{self.url}/portal/{product['_id']}/{identity}",
            "subscriptionCustomerId": identity,
            "clientReferenceId": session.get("clientReferenceId"),
            "metadata": session.get("metadata") or {},
        }  # fmt: skip

    def refund(self, order_id: str, amount: Decimal | None, reason: str | None) -> tuple[Json, list[Thread]] | None:
        """Refund `amount` major units, or all that is left; None when that is more than is left, or nothing."""
        with self.lock:
            order = self.orders[order_id]
            before = sum((each["amount"] for each in self.refunds.values() if each["orderId"] == order_id), Decimal(0))
            left = order["grossAmount"] - before
            amount = left if amount is None else amount
            if not 0 < amount <= left:
                return None
            refund = {
                "_id": new_id(), "orderId": order_id, "amount": amount, "reason": reason, "status": "completed",
                "createdAt": self.timestamp(),
            }  # fmt: skip
            self.refunds[cast(str, refund["_id"])] = refund
            # A partial refund shows on no order, only here.
            self.orders[order_id] = {**order, "isRefunded": amount == left}
        # The API says "completed", the documented webhook sample "succeeded".
        body = {
            "event": "order.refunded",
            "order": {"id": order_id},
            "refund": {"id": refund["_id"], "amount": amount, "reason": reason, "status": "succeeded"},
            "customer": {"email": order["buyerEmail"]},
        }
        return refund, self.announce("order.refunded", order_id, body)

    def announce(self, event: str, order_id: str, body: Json, only: Json | None = None) -> list[Thread]:
        """Start delivering to every endpoint that wants the event, or to `only`; faults apply.

        Returns the threads worth waiting for: none that a fault delays.
        """
        batches: list[list[Delivery]] = []
        with self.lock:
            faults = self.faults
            wanted = [each for each in self.endpoints.values() if each["active"] and event in each["events"]]
            for endpoint in [only] if only else wanted:
                identity = endpoint["_id"]
                text = simplejson.dumps({"webhookId": identity, **body}, ensure_ascii=False, separators=(",", ":"))
                raw = text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes \udxxx, as in JavaScript
                label = faults.get("relabel", event)
                delivery = Delivery(identity, endpoint["url"], endpoint["secret"], label, order_id, raw)
                if faults.get("drop"):
                    self.deliveries.append(self._entry(delivery, error="dropped"))
                    continue
                batch = [delivery] * (2 if faults.get("duplicate") else 1)
                if faults.get("reorder"):
                    held = self._held.pop(identity, None)
                    if held is None:
                        self._held[identity] = batch
                        continue
                    batch += held
                batches.append(batch)
        threads = self._start(batches, float(faults.get("delay_seconds", 0)))
        return [] if faults.get("delay_seconds") else threads

    def set_faults(self, faults: Json) -> list[Thread]:
        """Replace all faults; what `reorder` held goes out when it is no longer set."""
        with self.lock:
            self.faults, held = faults, []
            if not faults.get("reorder"):
                held, self._held = list(self._held.values()), {}
        return self._start(held, 0)

    def _start(self, batches: Iterable[list[Delivery]], delay: float) -> list[Thread]:
        threads = [Thread(target=self._send, args=(batch, delay), daemon=True) for batch in batches]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, batch: list[Delivery], delay: float) -> None:
        time.sleep(delay)
        for delivery in batch:
            entry = self._attempt(delivery)
            with self.lock:
                self.deliveries.append(entry)

    def _attempt(self, delivery: Delivery) -> Json:
        """One POST and no second one: real Pocketsflow does not retry."""
        entry, started = self._entry(delivery), time.monotonic()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Pocketsflow-Sandbox",
            "X-Pocketsflow-Event": delivery.event,
            "X-Pocketsflow-Signature": entry["signature"],
            "X-Pocketsflow-Timestamp": str(entry["timestamp"]),
        }
        try:
            with requests.Session() as http:
                http.trust_env = False
                with http.post(
                    delivery.url,
                    delivery.body,
                    headers=headers,
                    timeout=DELIVERY_TIMEOUT,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    entry["status"] = answer.status_code
                    # requests has already read the body of a redirect, even of one it does not follow
                    body = answer.raw.read(RESPONSE_CAP, decode_content=True) or answer.content[:RESPONSE_CAP]
                    entry["response"] = _parsed(body)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            entry["error"] = "timeout"
        except Exception as problem:  # noqa: BLE001 - whatever a receiver does wrong belongs in the log
            entry["error"] = type(problem).__name__
        entry["durationMs"] = round((time.monotonic() - started) * 1000)
        return entry

    def _entry(self, delivery: Delivery, error: str | None = None) -> Json:
        return {
            "id": new_id(), "endpointId": delivery.endpoint_id, "event": delivery.event, "orderId": delivery.order_id,
            "url": delivery.url, "body": delivery.body.decode(),
            "signature": hmac.new(delivery.secret.encode(), delivery.body, hashlib.sha256).hexdigest(),
            "timestamp": int(self.now().timestamp() * 1000),
            "status": None, "response": None, "error": error, "durationMs": 0,
        }  # fmt: skip


def new_id() -> str:
    return secrets.token_hex(12)


def cents(amount: Decimal) -> Decimal:
    """`amount` rounded to hundredths, half up."""
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def completed_body(order: Json, variant_id: str | None) -> Json:
    """The documented body of order.completed, without the webhookId."""
    return {
        "event": "order.completed",
        "product": {"id": order["productId"], "variantId": variant_id},
        "order": {"id": order["_id"]},
        "currency": order["currency"],
        "customer": {"email": order["buyerEmail"], "firstName": "Jane", "lastName": "Buyer"},
        "tax": {
            "amount": order["taxAmount"], "rate": 0, "ToCountry": "US", "ToZip": "94105", "ToState": "CA",
            "percentage": 0, "vatNumber": None,
        },
        "amount": order["grossAmount"],
        "amountBeforeTax": order["amountBeforeTax"],
        "metadata": order["metadata"],
    }  # fmt: skip


def _parsed(raw: bytes) -> object:
    """A receiver's answer for the log: parsed when it is JSON, else as text."""
    text = raw.decode("utf-8", "replace")
    try:
        return simplejson.loads(text, use_decimal=True)
    except (ValueError, RecursionError):
        return text


class ExactJson(JSONProvider):
    """JSON with Decimal in both directions: money is never a float."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return simplejson.dumps(obj, use_decimal=True)

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return simplejson.loads(s, use_decimal=True)


account = cast(Account, LocalProxy(lambda: current_app.extensions["pocketsflow"]))
api = Blueprint("api", __name__)
page = Blueprint("page", __name__, url_prefix="/checkout")
control = Blueprint("control", __name__, url_prefix="/_sandbox")


def create_app(url: str, products: Mapping[str, Product], endpoint_url: str, now: Callable[[], datetime]) -> Flask:
    """The fake as a WSGI application with state of its own.

    `url` is its own base address, `products` the "products" of functions/catalogue.json by sku, `endpoint_url` gets the
    webhooks signed with WEBHOOK_SECRET, `now` returns an aware datetime. Delivery threads are daemons, so there is
    nothing to close.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20
    app.json = ExactJson(app)
    app.extensions["pocketsflow"] = Account(url, products, endpoint_url, now)
    app.before_request(_authorise)
    app.after_request(_apply_faults)
    app.register_error_handler(HTTPException, _answer_error)
    for blueprint in (api, page, control):
        app.register_blueprint(blueprint)
    return app


def _is_api() -> bool:
    return request.blueprint != "page" and not request.path.startswith("/_sandbox/")


def _authorise() -> None:
    if not _is_api():
        return
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {API_KEY}".encode()):
        abort(401, "Invalid API key")
    if not account.take_token():
        abort(429, "Too many requests")


def _apply_faults(response: Response) -> Response:
    """http_* faults change the answer only: what was asked for has happened, as when an answer gets lost."""
    faults = account.faults
    if not _is_api():
        return response
    if "http_status" in faults:
        response.status_code = faults["http_status"]
        if response.status_code >= 400 and "http_body" not in faults:
            response.set_data(simplejson.dumps({"message": f"Sandbox fault {response.status_code}"}))
    if "http_body" in faults:
        response.set_data(faults["http_body"])
        response.content_type = "text/html" if faults["http_body"].startswith("<") else "application/json"
    time.sleep(float(faults.get("http_delay_seconds", 0)))
    return response


def _answer_error(problem: HTTPException) -> tuple[Json | str, int, dict[str, str]]:
    status = problem.code or 500
    message = problem.description or problem.name
    if request.blueprint == "page":
        return checkout_page.notice(problem.name, message), status, checkout_page.headers(())
    return {"message": message}, status, {}


def _body() -> Json:
    try:
        body = current_app.json.loads(request.get_data() or b"{}")
    except (ValueError, RecursionError):
        abort(400, "The body is not JSON")
    if not isinstance(body, dict):
        abort(400, "The body must be a JSON object")
    return body


def _found(records: Mapping[str, Json], identity: str, noun: str) -> Json:
    return records.get(identity) or abort(404, f"{noun} not found")


def _require(body: Json, field: str, kind: type | tuple[type, ...], *, required: bool = False) -> None:
    """400 unless `field` is of `kind`; a bool is no number. Absent and null are fine when not required."""
    value = body.get(field)
    if value is None and not required:
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        abort(400, f"{field} is missing or of the wrong type")


def _require_address(body: Json, field: str, *, required: bool = False) -> None:
    _require(body, field, str, required=required)
    if body.get(field) is not None and not _ADDRESS.fullmatch(body[field]):
        abort(400, f"{field} must be an absolute http(s) address")


def _without_secret(record: Json) -> Json:
    return {field: value for field, value in record.items() if field != "secret"}


@api.get("/<any(products, refunds, webhooks):kind>")
def list_records(kind: str) -> list[Json]:
    return [_without_secret(record) for record in list(account.records(kind).values())]


@api.get("/<any(products, orders, refunds, webhooks):kind>/<identity>")
def get_record(kind: str, identity: str) -> Json:
    return _without_secret(_found(account.records(kind), identity, kind[:-1].capitalize()))


@api.delete("/<any(products, webhooks):kind>/<identity>")
def delete_record(kind: str, identity: str) -> Json:
    noun = kind[:-1].capitalize()
    with account.lock:
        _found(account.records(kind), identity, noun)
        del account.records(kind)[identity]
    return {"message": f"{noun} deleted"}


@api.post("/checkout/sessions")
def create_session() -> tuple[Json, int]:
    body = _body()
    _require(body, "productId", str, required=True)
    _found(account.products, body["productId"], "Product")
    for field in ("successUrl", "cancelUrl"):
        _require_address(body, field)
    for field in ("customerEmail", "discountCode", "clientReferenceId"):
        _require(body, field, str)
    _require(body, "metadata", dict)
    identity = f"cs_{new_id()}"
    with account.lock:
        account.sessions[identity], account.paid[identity] = body, []
    return {"id": identity, "url": f"{account.url}/checkout?session={identity}"}, 201


def _product_fields(body: Json, *, new: bool) -> Json:
    for field, kind in _PRODUCT_FIELDS.items():
        _require(body, field, kind, required=new and field == "name")
    _require(body, "price", (int, Decimal), required=new)
    fields = {field: body[field] for field in _PRODUCT_FIELDS if body.get(field) is not None}
    if body.get("price") is not None:
        if not 0 <= body["price"] < 10**10:
            abort(400, "price is out of range")
        fields["price"] = Decimal(body["price"])
    return fields


@api.post("/products")
def create_product() -> tuple[Json, int]:
    return account.add_product(_product_fields(_body(), new=True)), 201


@api.post("/products/update/<identity>")
def update_product(identity: str) -> Json:
    fields = _product_fields(_body(), new=False)
    with account.lock:
        product = {**_found(account.products, identity, "Product"), **fields, "updatedAt": account.timestamp()}
        account.products[identity] = product
    return product


def _date(field: str) -> datetime | None:
    try:
        value = datetime.fromisoformat(request.args[field]) if field in request.args else None
    except ValueError:
        abort(400, f"{field} must be an ISO 8601 date")
    return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def _number(field: str, default: int, most: int) -> int:
    text = request.args.get(field, str(default))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text) or int(text) > most:
        abort(400, f"{field} must be a number from 1 to {most}")
    return int(text)


@api.get("/orders")
def list_orders() -> Json:
    start, end, product_id = _date("startDate"), _date("endDate"), request.args.get("productId")
    number, size = _number("page", 1, 10**9), _number("pageSize", PAGE_SIZE, MAX_PAGE_SIZE)

    def wanted(order: Json) -> bool:
        made = datetime.fromisoformat(order["createdAt"])
        fits = (start is None or made >= start) and (end is None or made < end)
        return fits and product_id in (None, order["productId"])

    with account.lock:
        orders = [order for order in reversed(account.orders.values()) if wanted(order)]
    pages = -(-len(orders) // size)
    pagination = {
        "totalCount": len(orders), "totalPages": pages, "currentPage": number, "pageSize": size,
        "hasMore": number < pages,
    }  # fmt: skip
    return {"orders": orders[(number - 1) * size : number * size], "pagination": pagination}


@api.post("/refunds")
def create_refund() -> tuple[Json, int]:
    """Answers after its webhooks have been attempted, so that a test need not wait."""
    body = _body()
    _require(body, "orderId", str, required=True)
    _require(body, "amount", (int, Decimal))
    _require(body, "reason", str)
    _found(account.orders, body["orderId"], "Order")
    amount = None if body.get("amount") is None else Decimal(body["amount"])
    made = account.refund(body["orderId"], amount, body.get("reason"))
    if made is None:
        abort(400, "The amount must be more than nothing and at most what is left of the order")
    _wait(made[1])
    return made[0], 201


def _endpoint_fields(body: Json, *, new: bool) -> Json:
    _require_address(body, "url", required=new)
    _require(body, "events", list, required=new)
    _require(body, "description", str)
    _require(body, "active", bool)
    events = body.get("events")
    if events is not None and not (events and all(isinstance(each, str) and each in EVENTS for each in events)):
        abort(400, "events must name at least one event, and only known ones")
    return {field: body[field] for field in ("url", "events", "description", "active") if body.get(field) is not None}


@api.post("/webhooks")
def create_endpoint() -> tuple[Json, int]:
    """The only answer that shows the secret."""
    return account.add_endpoint(_endpoint_fields(_body(), new=True), f"whsec_{secrets.token_hex(16)}"), 201


@api.put("/webhooks/<identity>")
def update_endpoint(identity: str) -> Json:
    fields = _endpoint_fields(_body(), new=False)
    with account.lock:
        endpoint = {**_found(account.endpoints, identity, "Webhook"), **fields}
        account.endpoints[identity] = endpoint
    return _without_secret(endpoint)


@api.post("/webhooks/<identity>/test")
def send_test(identity: str) -> Json:
    """Delivers an order.completed whose order does not exist, as a dashboard test may."""
    endpoint = _found(account.endpoints, identity, "Webhook")
    order: Json = {
        "_id": new_id(), "productId": new_id(), "buyerEmail": "test@example.com", "currency": "usd", "metadata": {},
        "grossAmount": Decimal("64.99"), "amountBeforeTax": Decimal("64.99"), "taxAmount": Decimal("0.00"),
    }  # fmt: skip
    _wait(account.announce("order.completed", order["_id"], completed_body(order, None), only=endpoint))
    return {"message": "Test webhook sent"}


@api.get("/users/me")
def get_user() -> Json:
    return {
        "_id": account.user_id, "userId": account.user_id, "email": "seller@example.com", "name": "Sandbox Seller",
        "currency": "usd", "country": "US", "testMode": True, "hasSales": bool(account.orders),
    }  # fmt: skip


def _session() -> tuple[str, Json]:
    """The id and the product of the session the address names."""
    identity = (request.view_args or {}).get("identity", request.args.get("session", ""))
    session = _found(account.sessions, identity, "Session")
    return identity, _found(account.products, session["productId"], "Product")


@page.get("")
def show_checkout() -> tuple[str, dict[str, str]]:
    identity, product = _session()
    session = account.sessions[identity]
    targets = [urlsplit(session[field]) for field in ("successUrl", "cancelUrl") if session.get(field)]
    html = checkout_page.checkout(
        identity, product["name"], product["currency"], account.choices(identity, product),
        email=session.get("customerEmail") or "buyer@example.com", metadata=session.get("metadata") or {},
    )  # fmt: skip
    return html, checkout_page.headers(sorted({f"{target.scheme}://{target.netloc}" for target in targets}))


def _go_back(identity: str, field: str, text: str) -> AnyResponse:
    address = account.sessions[identity].get(field)
    if address:
        return redirect(address, 303)
    return Response(checkout_page.notice("Thank you", text), headers=checkout_page.headers(()))


@page.post("/<identity>/pay", defaults={"times": 1})
@page.post("/<identity>/pay-twice", defaults={"times": 2})
def pay_on_page(identity: str, times: int) -> AnyResponse:
    """Does not wait for the webhooks: a real buyer is often back before they arrive."""
    _, product = _session()
    variant_id = request.form.get("variantId") or None
    if variant_id and variant_id not in [choice.variant_id for choice in account.choices(identity, product)]:
        abort(400, "No such variant")
    for _ in range(times):
        account.pay(identity, product, variant_id)
    return _go_back(identity, "successUrl", "Your payment has been received.")


@page.post("/<identity>/cancel")
def cancel_on_page(identity: str) -> AnyResponse:
    _session()
    return _go_back(identity, "cancelUrl", "Nothing has been paid.")


def _wait(threads: Iterable[Thread]) -> None:
    for thread in threads:
        thread.join()


@control.get("/sessions/<identity>")
def show_session(identity: str) -> Json:
    """`orders` are ids, for a subscription those of the subscriptionCustomer."""
    return {"request": _found(account.sessions, identity, "Session"), "orders": account.paid[identity]}


@control.post("/sessions/<identity>/pay")
def pay_session(identity: str) -> Json:
    _, product = _session()
    body = _body()
    for field in ("productId", "variantId", "amount"):
        _require(body, field, str)
    if body.get("productId"):
        product = _found(account.products, body["productId"], "Product")
    try:
        amount = Decimal(body["amount"]) if body.get("amount") else None
    except InvalidOperation:
        abort(400, "amount must be a decimal number in a string")
    if amount is not None and not (amount.is_finite() and 0 <= amount < 10**10):
        abort(400, "amount is out of range")
    order_id, threads = account.pay(identity, product, body.get("variantId"), amount)
    _wait(threads)
    return {"orderId": order_id}


@control.get("/deliveries")
def list_deliveries() -> list[Json]:
    with account.lock:
        return list(account.deliveries)


@control.get("/faults")
def show_faults() -> Json:
    return account.faults


@control.post("/faults")
def set_faults() -> Json:
    body = _body()
    for field in body:
        if field not in _FAULTS:
            abort(400, f"Unknown fault {field}")
        _require(body, field, _FAULTS[field], required=True)
    if not 200 <= body.get("http_status", 200) <= 599:
        abort(400, "http_status must be from 200 to 599")
    if not all(0 <= body.get(field, 0) <= 600 for field in ("delay_seconds", "http_delay_seconds")):
        abort(400, "A delay is from 0 to 600 seconds")
    if not re.fullmatch(r"[\x21-\x7e]{1,100}", body.get("relabel", "order.refunded")):
        abort(400, "relabel must be fit for a header")
    _wait(account.set_faults(body))
    return body
