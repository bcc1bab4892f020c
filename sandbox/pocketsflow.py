"""A fake Pocketsflow with state: its API, its hosted checkout page, its webhooks, and faults on demand.

It does what Pocketsflow's documentation and its SDK 1.2.1 say. Where they are silent it takes the behaviour that is
harder on the caller: lists are newest first (rows shift between pages), `endDate` is exclusive, a 429 has no
Retry-After, an order does not tell its variant, a payment has an id that no order has, a subscription is no order, and
`webhookId` is the endpoint's id (whoever dedupes on it loses sales). Serve it threaded: receivers may call back.

A simulation needs no server: `application(account).test_client()` with a subclass of `Account` that overrides `start`
or `attempt`, and a clock of its own.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

from sandbox import checkout_page, subscriptions
from sandbox.subscriptions import STEPS, Subscription, iso

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
    *(f"customer.subscription.{name}" for name in ("pause", "resumed", "trial_will_end")),
    *("invoice.payment_succeeded", "invoice.payment_failed"),
]
EVENTS = frozenset(
    [
        *SEEDED_EVENTS,
        *("customer.subscription.paused", "invoice.paid", "invoice.created", "invoice.upcoming"),
        *(f"identity.verification_session.{name}" for name in ("verified", "processing", "requires_input")),
        *("payment_intent.succeeded", "payment_intent.payment_failed", "customer.created", "review.created"),
        *("product.created", "product.updated", "product.deleted"),
    ]
)
# No quotes, blanks or control characters: the address also goes into a Location and a Content-Security-Policy header.
_ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?#][\x21-\x7e]*)?")
_PRODUCT_FIELDS = {
    **dict.fromkeys(("name", "description", "subtitle", "currency", "slug"), str),
    **dict.fromkeys(("active", "published", "payWant"), bool),
}
_NUMBER = (int, Decimal)
_FAULTS: dict[str, type | tuple[type, ...]] = {
    "drop": bool, "duplicate": bool, "reorder": bool, "delay_seconds": _NUMBER, "relabel": str, "refund_claim": bool,
    "http_status": int, "http_body": str, "http_delay_seconds": _NUMBER, "http_retry_after": _NUMBER,
    "http_times": int, "list_lag_seconds": _NUMBER, "shift_rows": bool, "ignore_dates": bool, "hide_metadata": str,
    "wrap": str, "seconds": _NUMBER,
}  # fmt: skip
_FAULT_LIMITS = {
    "http_status": (200, 599), "delay_seconds": (0, 600), "http_delay_seconds": (0, 600),
    "http_retry_after": (0, 86_400), "http_times": (1, 10**6), "list_lag_seconds": (0, 86_400),
    "seconds": (0, 366 * 86_400),
}  # fmt: skip
_FAULT_CHOICES = {
    "hide_metadata": ("list", "all", "string", "reference"),
    "wrap": ("sale", "order", "data", "none"),
}
_REFUND_STATUSES = ("pending", "completed", "failed")

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
        self,
        url: str,
        products: Mapping[str, Product],
        endpoint_url: str,
        now: Callable[[], datetime],
        delivery_timeout: float = DELIVERY_TIMEOUT,
    ) -> None:
        self.url = url.rstrip("/")
        self.now = now
        self.delivery_timeout = delivery_timeout
        self.lock = Lock()
        self.user_id = new_id()
        self.sessions: dict[str, Json] = {}
        self.opened_at: dict[str, str] = {}
        """When each session was."""
        self.paid: dict[str, list[str]] = {}
        self.products: dict[str, Json] = {}
        self.variants: dict[str, list[Json]] = {}
        self.orders: dict[str, Json] = {}
        self.payments: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.endpoints: dict[str, Json] = {}
        self.customers: dict[str, str] = {}
        self.deliveries: list[Json] = []
        self._faults: tuple[Json, datetime | None] = ({}, None)
        self._held: dict[str, list[Delivery]] = {}
        self._tokens: float = BURST
        self._tokens_at = now()
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

    @property
    def faults(self) -> Json:
        """Those in force: none are once their `seconds` are over."""
        faults, end = self._faults
        return faults if end is None or self.now() < end else {}

    def timestamp(self) -> str:
        return iso(self.now())

    def take_token(self) -> bool:
        """Whether one more request is within the limit: 100 a minute, bursts to 200."""
        with self.lock:
            moment = self.now()
            passed, self._tokens_at = (moment - self._tokens_at).total_seconds(), moment
            self._tokens = min(BURST, self._tokens + max(0, passed) * PER_SECOND)
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

    def open_session(self, fields: Json) -> str:
        """The id of a new checkout session; `fields` are those of the API's request, already checked."""
        identity = f"cs_{new_id()}"
        with self.lock:
            self.sessions[identity], self.paid[identity] = fields, []
            self.opened_at[identity] = self.timestamp()
        return identity

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
            portal_url = f"{self.url}/portal/{product['_id']}/{identity}"
            begun = subscriptions.begin(
                identity, product, session, email=email, amount=amount, portal_url=portal_url, moment=self.now()
            )
            with self.lock:
                self.subscriptions[identity] = begun
                self._add_payment(begun.payment())
            event = "customer.subscription.created"
            return identity, self.announce(event, identity, begun.body(event))
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
            shared = {field: order[field] for field in ("currency", "productId", "metadata")}
            self._add_payment({"type": "one-time", "amount": amount, "customerEmail": email, **shared})
        return identity, self.announce(
            "order.completed", identity, completed_body(order, variant_id or choice.variant_id)
        )

    def advance(self, identity: str, action: str) -> list[Thread] | None:
        """Let something happen to a subscription, see STEPS; None when it makes no sense for one in that state.

        Two webhooks of one action are on their way at once, so either may be the first to arrive.
        """
        step = STEPS[action]
        with self.lock:
            before = self.subscriptions[identity]
            if not step.possible(before):
                return None
            after = self.subscriptions[identity] = step.after(before, self.now())
            if step.paid:
                self._add_payment(after.payment())
        return [thread for event in step.events for thread in self.announce(event, identity, after.body(event))]

    def _add_payment(self, fields: Json) -> None:
        identity = new_id()
        self.payments[identity] = {
            "_id": identity, **fields, "status": "succeeded", "testMode": True, "createdAt": self.timestamp(),
        }  # fmt: skip

    def _refunded(self, order_id: str) -> Decimal:
        """What has been given back, or is about to be; a refund that failed is neither."""
        refunds = [each for each in self.refunds.values() if each["orderId"] == order_id]
        return sum((each["amount"] for each in refunds if each["status"] != "failed"), Decimal(0))

    def _flag_refunded(self, order_id: str) -> None:
        """A partial refund shows on no order, only in the list of refunds."""
        order = self.orders[order_id]
        self.orders[order_id] = {**order, "isRefunded": self._refunded(order_id) >= order["grossAmount"]}

    def refund(self, order_id: str, amount: Decimal | None, reason: str | None) -> tuple[Json, list[Thread]] | None:
        """Refund `amount` major units, or all that is left; None when that is more than is left, or nothing."""
        with self.lock:
            order = self.orders[order_id]
            left = order["grossAmount"] - self._refunded(order_id)
            amount = left if amount is None else amount
            if not 0 < amount <= left:
                return None
            refund = {
                "_id": new_id(), "orderId": order_id, "amount": amount, "reason": reason, "status": "completed",
                "createdAt": self.timestamp(),
            }  # fmt: skip
            self.refunds[cast(str, refund["_id"])] = refund
            self._flag_refunded(order_id)
        if self.faults.get("refund_claim"):
            return refund, self.announce("order.refunded", order_id, claim_body(order))
        # The API says "completed", the documented webhook sample "succeeded".
        body = {
            "event": "order.refunded",
            "order": {"id": order_id},
            "refund": {"id": refund["_id"], "amount": amount, "reason": reason, "status": "succeeded"},
            "customer": {"email": order["buyerEmail"]},
        }
        return refund, self.announce("order.refunded", order_id, body)

    def set_refund_status(self, refund_id: str, status: str) -> Json:
        """Change what the API says of a refund. No webhook tells of it, as with a refund that fails at the bank."""
        with self.lock:
            refund = self.refunds[refund_id] = {**self.refunds[refund_id], "status": status}
            self._flag_refunded(refund["orderId"])
        return refund

    def set_disputed(self, order_id: str, disputed: bool) -> Json:
        """No webhook tells of it: Pocketsflow has no such event."""
        with self.lock:
            order = self.orders[order_id] = {**self.orders[order_id], "isDisputed": disputed}
        return order

    def announce(self, event: str, order_id: str, body: Json, only: Json | None = None) -> list[Thread]:
        """Start delivering to every endpoint that wants the event, or to `only`; faults apply.

        Returns the threads worth waiting for: none that a fault delays.
        """
        released = self.release()
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
                    self.deliveries.append(self.entry(delivery, error="dropped"))
                    continue
                batch = [delivery] * (2 if faults.get("duplicate") else 1)
                if faults.get("reorder"):
                    held = self._held.pop(identity, None)
                    if held is None:
                        self._held[identity] = batch
                        continue
                    batch += held
                batches.append(batch)
        threads = self.start(batches, float(faults.get("delay_seconds", 0)))
        return released if faults.get("delay_seconds") else released + threads

    def set_faults(self, faults: Json) -> list[Thread]:
        """Replace all faults; what `reorder` held goes out when it is no longer set."""
        end = self.now() + timedelta(seconds=float(faults["seconds"])) if "seconds" in faults else None
        with self.lock:
            self._faults = faults, end
        return self.release()

    def release(self) -> list[Thread]:
        """Send what `reorder` held once it is no longer set, or over."""
        with self.lock:
            if self.faults.get("reorder"):
                return []
            held, self._held = list(self._held.values()), {}
        return self.start(held, 0) if held else []

    def http_faults(self) -> Json:
        """The http_* faults of one answer of the API; with `http_times` the last of them clears them."""
        with self.lock:
            faults = self.faults
            http = {name: value for name, value in faults.items() if name.startswith("http_")}
            if "http_times" in http:
                left = http["http_times"] - 1
                rest = {name: value for name, value in faults.items() if name not in http}
                self._faults = {**rest, **http, "http_times": left} if left else rest, self._faults[1]
        return http

    def start(self, batches: Iterable[list[Delivery]], delay: float) -> list[Thread]:
        """Have each batch sent in `delay` seconds, and return the threads that do.

        A simulation without threads overrides this: it calls `send` now, or when its own clock says so, and returns [].
        """
        threads = [Thread(target=self._send_later, args=(batch, delay), daemon=True) for batch in batches]
        for thread in threads:
            thread.start()
        return threads

    def _send_later(self, batch: list[Delivery], delay: float) -> None:
        time.sleep(delay)
        self.send(batch)

    def send(self, batch: list[Delivery]) -> None:
        """Attempt the deliveries one after the other, and log each."""
        for delivery in batch:
            entry = self.attempt(delivery)
            with self.lock:
                self.deliveries.append(entry)

    def attempt(self, delivery: Delivery) -> Json:
        """One POST and no second one (real Pocketsflow does not retry); returns the log's entry.

        A simulation without HTTP overrides this: it hands the delivery over and fills `status` and `response`, or
        `error`, of `self.entry(delivery)`.
        """
        entry, started = self.entry(delivery), time.monotonic()
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
                    timeout=self.delivery_timeout,
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

    def entry(self, delivery: Delivery, error: str | None = None) -> Json:
        """The log's entry of a delivery that has had no answer; `signature` and `timestamp` are the headers' values."""
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


def claim_body(order: Json) -> Json:
    """A refund told in the form of the help centre: an older order.completed, without the event's name, the metadata,
    the buyer's names, the variant, and without the refund."""
    body = completed_body(order, None)
    return {field: body[field] for field in body if field not in ("event", "metadata")} | {
        "customer": {"email": order["buyerEmail"]}
    }


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


def create_app(
    url: str,
    products: Mapping[str, Product],
    endpoint_url: str,
    now: Callable[[], datetime],
    *,
    delivery_timeout: float = DELIVERY_TIMEOUT,
) -> Flask:
    """The fake as a WSGI application with state of its own.

    `url` is its own base address, `products` the "products" of functions/catalogue.json by sku, `endpoint_url` gets the
    webhooks signed with WEBHOOK_SECRET, `now` returns an aware datetime, `delivery_timeout` is in seconds. Delivery
    threads are daemons, so there is nothing to close.
    """
    return application(Account(url, products, endpoint_url, now, delivery_timeout))


def application(served: Account) -> Flask:
    """The fake's API, checkout page and controls for an account."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20
    app.json = ExactJson(app)
    app.extensions["pocketsflow"] = served
    app.before_request(_release_held)
    app.before_request(_authorise)
    app.after_request(_apply_faults)
    app.register_error_handler(HTTPException, _answer_error)
    for blueprint in (api, page, control):
        app.register_blueprint(blueprint)
    return app


def _release_held() -> None:
    """Faults that are over by the clock call nobody; a request is the next chance to notice."""
    account.release()


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
    if not _is_api():
        return response
    faults = account.http_faults()
    if "http_status" in faults:
        response.status_code = faults["http_status"]
        if response.status_code >= 400 and "http_body" not in faults:
            response.set_data(simplejson.dumps({"message": f"Sandbox fault {response.status_code}"}))
        if "http_retry_after" in faults:
            response.headers["Retry-After"] = f"{Decimal(faults['http_retry_after']):f}"
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


@api.get("/<any(products, webhooks):kind>")
def list_records(kind: str) -> list[Json]:
    return [_without_secret(record) for record in list(account.records(kind).values())]


@api.get("/<any(products, orders, refunds, webhooks):kind>/<identity>")
def get_record(kind: str, identity: str) -> Json:
    record = _without_secret(_found(account.records(kind), identity, kind[:-1].capitalize()))
    if kind != "orders":
        return record
    wrapper, order = account.faults.get("wrap", "none"), _faulty(record, listed=False)
    return order if wrapper == "none" else {wrapper: order}


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
    identity = account.open_session(body)
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
    if "currency" in fields:
        fields["currency"] = fields["currency"].lower()  # USD in the SDK's README, usd in every answer
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


def _faulty(row: Json, *, listed: bool) -> Json:
    """A row as `hide_metadata` lets it be seen."""
    how = account.faults.get("hide_metadata")
    if "metadata" not in row or how is None or (how == "list" and not listed):
        return row
    if how == "string":
        return {**row, "metadata": simplejson.dumps(row["metadata"])}
    seen = {field: value for field, value in row.items() if field != "metadata"}
    if how == "reference" and "external_order_id" in row["metadata"]:
        seen["clientReferenceId"] = row["metadata"]["external_order_id"]
    return seen


def _listed(records: dict[str, Json], *, dated: bool = True, **wanted: str | None) -> list[Json]:
    """Newest first: the rows whose fields are as `wanted`, where that is not None, and within the dates asked for."""
    faults = account.faults
    lag = timedelta(seconds=float(faults.get("list_lag_seconds", 0)))
    ripe = account.now() - lag if lag else None
    dated = dated and not faults.get("ignore_dates")
    start, end = (_date("startDate"), _date("endDate")) if dated else (None, None)

    def fits(row: Json) -> bool:
        made = datetime.fromisoformat(row["createdAt"])
        within = (start is None or made >= start) and (end is None or made < end) and (ripe is None or made <= ripe)
        return within and all(value in (None, row[field]) for field, value in wanted.items())

    with account.lock:
        return [row for row in reversed(records.values()) if fits(row)]


def _page_of(name: str, rows: list[Json], number: int, size: int) -> Json:
    """One page of a listing. With `shift_rows` a row has come in before each further page, so that it begins with the
    last row of the page before it; with one row a page that never ends."""
    shift = number - 1 if account.faults.get("shift_rows") else 0
    first, total = (number - 1) * size - shift, len(rows) + shift
    pages = -(-total // size)
    pagination = {
        "totalCount": total, "totalPages": pages, "currentPage": number, "pageSize": size, "hasMore": number < pages,
    }  # fmt: skip
    return {name: [_faulty(row, listed=True) for row in rows[first : first + size]], "pagination": pagination}


def _page_asked_for() -> tuple[int, int]:
    """Number and size of the page that the address asks for."""
    return _number("page", 1, 10**9), _number("pageSize", PAGE_SIZE, MAX_PAGE_SIZE)


@api.get("/orders")
def list_orders() -> Json:
    rows = _listed(account.orders, productId=request.args.get("productId"))
    return _page_of("orders", rows, *_page_asked_for())


@api.get("/payments")
def list_payments() -> Json:
    kind = request.args.get("type", "all")
    if kind not in ("all", "subscription"):
        abort(400, "type must be all or subscription")
    rows = _listed(account.payments, type=None if kind == "all" else kind)
    return _page_of("payments", rows, *_page_asked_for())


def _subscribers() -> list[Json]:
    with account.lock:
        rows = {identity: subscription.row() for identity, subscription in account.subscriptions.items()}
    return _listed(rows, dated=False)


@api.get("/subscriptions/subscribers")
def list_subscribers() -> Json:
    return _page_of("subscribers", _subscribers(), *_page_asked_for())


@api.post("/orders/subscriptions")
def list_subscriptions() -> Json:
    body = _body()
    page = {"page": 1, "pageSize": PAGE_SIZE}
    for field, most in (("page", 10**9), ("pageSize", MAX_PAGE_SIZE)):
        _require(body, field, int)
        page[field] = page[field] if body.get(field) is None else body[field]
        if not 1 <= page[field] <= most:
            abort(400, f"{field} must be a number from 1 to {most}")
    return _page_of("subscribers", _subscribers(), page["page"], page["pageSize"])


def _subscription(identity: str) -> Subscription:
    return account.subscriptions.get(identity) or abort(404, "Subscription not found")


@api.get("/orders/subscriptions/<identity>")
def get_subscription(identity: str) -> Json:
    return _faulty(_subscription(identity).row(), listed=False)


@api.get("/refunds")
def list_refunds() -> Json | list[Json]:
    """A plain list, as the SDK reads it, unless a page is asked for."""
    rows = _listed(account.refunds)
    return _page_of("refunds", rows, *_page_asked_for()) if "page" in request.args else rows


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


@control.post("/subscriptions/<identity>/<action>")
def advance_subscription(identity: str, action: str) -> Json:
    """The subscriber's row; `action` is one of STEPS."""
    _subscription(identity)
    if action not in STEPS:
        abort(404, f"action must be one of {', '.join(STEPS)}")
    threads = account.advance(identity, action)
    if threads is None:
        abort(400, f"{action} makes no sense for a subscription in this state")
    _wait(threads)
    return _subscription(identity).row()


@control.post("/orders/<identity>/dispute")
def dispute_order(identity: str) -> Json:
    body = _body()
    _require(body, "disputed", bool, required=True)
    _found(account.orders, identity, "Order")
    return account.set_disputed(identity, body["disputed"])


@control.post("/refunds/<identity>")
def change_refund(identity: str) -> Json:
    body = _body()
    _found(account.refunds, identity, "Refund")
    if body.get("status") not in _REFUND_STATUSES:
        abort(400, f"status must be one of {', '.join(_REFUND_STATUSES)}")
    return account.set_refund_status(identity, body["status"])


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
    for field, (least, most) in _FAULT_LIMITS.items():
        if not least <= body.get(field, least) <= most:
            abort(400, f"{field} must be from {least} to {most}")
    for field, choices in _FAULT_CHOICES.items():
        if body.get(field, choices[0]) not in choices:
            abort(400, f"{field} must be one of {', '.join(choices)}")
    if not re.fullmatch(r"[\x21-\x7e]{1,100}", body.get("relabel", "order.refunded")):
        abort(400, "relabel must be fit for a header")
    _wait(account.set_faults(body))
    return body
