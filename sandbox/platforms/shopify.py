"""A stand-in for a Shopify shop: its Admin API in GraphQL, the app's proxy, and an order's status page.

It knows the fields and the mutations below, with the types that shopify.dev has for them, and refuses what is not there
as Shopify does: with 200 and `errors`, or `userErrors` where a mutation was understood and is not possible.
"""

import hmac
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from wsgiref.types import StartResponse, WSGIEnvironment

import requests
from werkzeug.wrappers import Request, Response

from sandbox.pocketsflow import API_KEY
from sandbox.purchase import PurchaseFailed

if TYPE_CHECKING:
    from sandbox.system import Addresses

SHOP = "sandbox.myshopify.com"
VERSION = "2026-10"
CLIENT_ID = "5a0db0c5a0db0c5a0db0c5a0db0c5a0d"
CLIENT_SECRET = "shpss_sandbox-sandbox-sandbox"
TOKEN = "shpat_sandbox-sandbox-sandbox"
PREFIX = "/apps/pocketsflow"
MAX_NOTE = 5_000

_TIMEOUT = 10
_SECONDS = 20.0
"""Until the connector must have heard."""
_TOKENS = re.compile(r"[A-Za-z_]\w*|\$\w+|\d+|[^\s,]")
_ERRORS = {"userErrors": "UserError"}
_SCHEMA: dict[str, dict[str, str]] = {
    "query": {"order": "Order", "shop": "Shop", "currentAppInstallation": "AppInstallation"},
    "mutation": {
        "orderUpdate": "OrderUpdatePayload",
        "orderMarkAsPaid": "OrderMarkAsPaidPayload",
        "tagsAdd": "TagsAddPayload",
        "tagsRemove": "TagsRemovePayload",
        "refundCreate": "RefundCreatePayload",
    },
    "OrderUpdatePayload": {"order": "Order", **_ERRORS},
    "OrderMarkAsPaidPayload": {"order": "Order", **_ERRORS},
    "TagsAddPayload": _ERRORS,
    "TagsRemovePayload": _ERRORS,
    "RefundCreatePayload": {"order": "Order", "refund": "Refund", **_ERRORS},
    "UserError": {"field": "", "message": ""},
    "Shop": {"myshopifyDomain": "", "currencyCode": ""},
    "AppInstallation": {"accessScopes": "AccessScope"},
    "AccessScope": {"handle": ""},
    "Order": {
        **dict.fromkeys(("id", "name", "confirmationNumber", "displayFinancialStatus", "canMarkAsPaid"), ""),
        **dict.fromkeys(("cancelledAt", "closedAt", "test", "tags", "note", "currentSubtotalLineItemsQuantity"), ""),
        **dict.fromkeys(("totalOutstandingSet", "totalReceivedSet", "totalRefundedSet"), "MoneyBag"),
        "lineItems": "LineItemConnection",
        "transactions": "OrderTransaction",
        "refunds": "Refund",
    },
    "MoneyBag": {"presentmentMoney": "MoneyV2", "shopMoney": "MoneyV2"},
    "MoneyV2": {"amount": "", "currencyCode": ""},
    "LineItemConnection": {"nodes": "LineItem"},
    "LineItem": {"sku": "", "currentQuantity": ""},
    "OrderTransaction": {
        **dict.fromkeys(("id", "kind", "status", "gateway", "manualPaymentGateway"), ""),
        "amountSet": "MoneyBag",
    },
    "Refund": {"note": "", "totalRefundedSet": "MoneyBag"},
}
"""By type, each field's own type; "" for a scalar."""
_INPUTS = {
    "orderUpdate": {"id", "note", "tags", "customAttributes"},
    "orderMarkAsPaid": {"id"},
    "refundCreate": {"orderId", "note", "notify", "currency", "transactions", "refundLineItems"},
}

Selection = dict[str, tuple[dict[str, str], "Selection"]]
"""Of each field its arguments, as they stand there, and what is asked of it."""


class NotGraphql(Exception):
    """What was sent is none, or asks for what is not there; the message says what, as Shopify's would."""


@dataclass
class Order:
    number: str
    confirmation_number: str
    total: Decimal
    currency: str
    skus: list[str]
    tags: set[str] = field(default_factory=set)
    note: str = ""
    is_cancelled: bool = False
    payments: list[dict[str, Any]] = field(default_factory=list)
    refunds: list[tuple[str, Decimal]] = field(default_factory=list)
    refunded_of: list[str] = field(default_factory=list)
    """The payment's id of each."""

    @property
    def received(self) -> Decimal:
        return sum((payment["amount"] for payment in self.payments), Decimal(0))

    @property
    def refunded(self) -> Decimal:
        return sum((amount for _, amount in self.refunds), Decimal(0))

    @property
    def status(self) -> str:
        if not self.payments:
            return "PENDING"
        if self.received < self.total:
            return "PARTIALLY_PAID"
        if not self.refunded:
            return "PAID"
        return "REFUNDED" if self.refunded >= self.received else "PARTIALLY_REFUNDED"

    @property
    def can_be_marked(self) -> bool:
        return not self.is_cancelled and self.received < self.total

    def pay(self, gateway: str, amount: Decimal | None = None) -> None:
        """What is owed, or a part of it."""
        amount = self.total - self.received if amount is None else amount
        self.payments.append({"amount": amount, "gateway": gateway, "manualPaymentGateway": gateway == "manual"})

    def as_node(self) -> dict[str, Any]:
        return {
            "id": f"gid://shopify/Order/{self.number}",
            "name": f"#{self.number[-4:]}",
            "confirmationNumber": self.confirmation_number,
            "displayFinancialStatus": self.status,
            "canMarkAsPaid": self.can_be_marked,
            "cancelledAt": "2026-11-28T12:00:00Z" if self.is_cancelled else None,
            "closedAt": None,
            "test": False,
            "tags": sorted(self.tags),
            "note": self.note or None,
            "currentSubtotalLineItemsQuantity": len(self.skus),
            "totalOutstandingSet": self._bag(self.total - self.received),
            "totalReceivedSet": self._bag(self.received),
            "totalRefundedSet": self._bag(self.refunded),
            "lineItems": {
                "nodes": [{"sku": sku, "currentQuantity": self.skus.count(sku)} for sku in dict.fromkeys(self.skus)]
            },
            "transactions": [
                {
                    "id": f"{self.number}{number}",
                    "kind": "SALE",
                    "status": "SUCCESS",
                    **payment,
                    "amountSet": self._bag(payment["amount"]),
                }
                for number, payment in enumerate(self.payments)
            ],
            "refunds": [{"note": note, "totalRefundedSet": self._bag(amount)} for note, amount in self.refunds],
        }

    def _bag(self, amount: Decimal) -> dict[str, Any]:
        money = {"amount": f"{amount:f}", "currencyCode": self.currency.upper()}
        return {"presentmentMoney": money, "shopMoney": money}


class Platform:
    stack = "ShopifyStack"
    secret = f"{CLIENT_ID} {CLIENT_SECRET}"

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = {"shopify_url": url}
        self.parameters = {"ShopifyShop": SHOP}
        self.proxied = ""
        """Where the app's proxy leads to."""
        self.orders: dict[str, Order] = {}
        self.scopes = ["read_orders", "write_orders", "write_app_proxy"]
        self.faults: list[str] = []
        """What happens to the next requests to the API, instead or as well: names in _FAULTS, or "lost"."""
        self.requests: list[str] = []
        """Fields that were asked for, in order."""
        self._refunds: dict[str, dict[str, Any]] = {}
        self._one_at_a_time = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if (request.method, request.path) == ("GET", PREFIX):  # the app asks the API meanwhile
            return self._proxy(request)(environ, start_response)
        with self._one_at_a_time:
            return self._answer(request)(environ, start_response)

    def order(self, number: str = "5551234567890", **changes: Any) -> Order:
        """A buyer has ordered, and will pay later."""
        made = Order(number, "XPAV284CT", Decimal("49.00"), "usd", ["course"])
        for name, value in changes.items():
            setattr(made, name, value)
        self.orders[number] = made
        return made

    def state(self) -> dict[str, Any]:
        """What a merchant sees."""
        return {
            number: {
                "status": order.status, "tags": sorted(order.tags), "note": order.note.splitlines(),
                "received": f"{order.received:f}", "refunded": f"{order.refunded:f}",
            }
            for number, order in self.orders.items()
        }  # fmt: skip

    def signed(self, parameters: Iterable[tuple[str, str]], timestamp: float) -> str:
        """The query with which Shopify hands on a buyer's to the app."""
        own = [
            ("shop", SHOP),
            ("logged_in_customer_id", ""),
            ("path_prefix", PREFIX),
            ("timestamp", f"{timestamp:.0f}"),
        ]
        pairs = [*parameters, *own]
        return urlencode([*pairs, ("signature", signature(pairs, CLIENT_SECRET))])

    def story(self, addresses: "Addresses") -> Iterator[str]:
        """From an order that waits for its payment to the same order, paid."""
        self.proxied = f"{addresses.api}/shopify/checkout"
        order = self.order()
        page = f"{self.url}/orders/{order.number}"
        yield f"1 A buyer has ordered at the Shopify shop and has yet to pay\n    {page}"
        link = f"{self.url}{PREFIX}?{urlencode({'order': order.number, 'number': order.confirmation_number})}"
        with requests.Session() as http:
            http.trust_env = False
            gone = http.get(link, timeout=_TIMEOUT, allow_redirects=False)
            if gone.status_code != 303:
                raise PurchaseFailed(f"the link to pay gave {gone.status_code} {gone.text}")
            checkout = gone.headers["Location"]
            yield f"2 The link there leads through Shopify, which signs it, to a checkout\n    {checkout}"
            session = checkout.rpartition("=")[2]
            paid = http.post(f"{addresses.pocketsflow}/_sandbox/sessions/{session}/pay", timeout=_TIMEOUT)
            yield "3 The buyer pays there; the webhook settles the order, and the bus tells the connector"
            self._wait_for(order, "pocketsflow-paid")
            yield f"4 Shopify shows the order as {order.status}\n    {', '.join(sorted(order.tags))}\n    {order.note}"
            refund, headers = {"orderId": paid.json()["orderId"], "amount": 10}, {"Authorization": f"Bearer {API_KEY}"}
            http.post(f"{addresses.pocketsflow}/refunds", json=refund, headers=headers, timeout=_TIMEOUT)
        self._wait_for(order, "pocketsflow-partially-refunded")
        last = order.note.splitlines()[-1]
        yield f"5 10.00 of it are given back at Pocketsflow\n    {', '.join(sorted(order.tags))}\n    {last}"

    def _wait_for(self, order: Order, tag: str) -> None:
        until = time.monotonic() + _SECONDS
        while tag not in order.tags:
            if time.monotonic() > until:
                raise PurchaseFailed(f"Shopify's order is {order.status} and has no tag {tag}")
            time.sleep(0.05)

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/state":
                return _json(self.state())
            case "GET", path if path.startswith("/orders/"):
                return self._page(path.removeprefix("/orders/"))
            case "POST", "/admin/oauth/access_token":
                return self._grant(request)
            case "POST", path if path == f"/admin/api/{VERSION}/graphql.json":
                return self._graphql(request)
        return _json({"errors": "Not Found"}, 404)

    def _proxy(self, request: Request) -> Response:
        """The app's answer, as it is: also where it leads away from the shop."""
        query = self.signed(request.args.items(multi=True), time.time())
        with requests.Session() as http:
            http.trust_env = False
            answer = http.get(f"{self.proxied}?{query}", timeout=_TIMEOUT, allow_redirects=False)
        kept = {name: answer.headers[name] for name in ("Content-Type", "Location") if name in answer.headers}
        return Response(answer.content, answer.status_code, kept)

    def _page(self, number: str) -> Response:
        """An order's, with the link that the merchant's theme or mail has."""
        if (order := self.orders.get(number)) is None:
            return _json({"errors": "Not Found"}, 404)
        query = urlencode({"order": number, "number": order.confirmation_number})
        link = f'<p><a href="/shopify{PREFIX}?{escape(query)}">Pay now</a></p>' if order.can_be_marked else ""
        text = f"Order {order.as_node()['name']}: {order.total:f} {order.currency}, {order.status.lower()}"
        return Response(f'<!doctype html><meta charset="utf-8"><h1>{escape(text)}</h1>{link}', content_type="text/html")

    def _grant(self, request: Request) -> Response:
        asked = request.form.to_dict()
        right = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        if asked != right:
            return _json({"error": "invalid_client"}, 400)
        return _json({"access_token": TOKEN, "scope": ",".join(self.scopes), "expires_in": 86399})

    def _graphql(self, request: Request) -> Response:
        fault = self.faults.pop(0) if self.faults else ""
        if fault in _FAULTS:
            return _FAULTS[fault]()
        if request.headers.get("X-Shopify-Access-Token") != TOKEN:
            return _json(
                {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}, 401
            )
        content = request.get_json()
        try:
            kind, selection = _parse(content["query"])
            data = {name: self._resolve(name, kind, content["variables"], *asked) for name, asked in selection.items()}
        except NotGraphql as error:
            return _json({"errors": [{"message": str(error)}]})
        return _FAULTS["500"]() if fault == "lost" else _json({"data": data, "extensions": {"cost": _cost(2000)}})

    def _resolve(
        self, name: str, kind: str, variables: Mapping[str, Any], arguments: dict[str, str], selection: Selection
    ) -> Any:
        self.requests.append(name)
        given = {key: variables[text[1:]] if text.startswith("$") else text for key, text in arguments.items()}
        return _pick(getattr(self, f"_{name}")(given), _SCHEMA[kind][name], selection)

    # --- What can be asked for ----------------------------------------------------------------------------------------

    def _shop(self, _given: dict[str, Any]) -> dict[str, Any]:
        return {"myshopifyDomain": SHOP, "currencyCode": "USD"}

    def _currentAppInstallation(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"accessScopes": [{"handle": scope} for scope in self.scopes]}

    def _order(self, given: dict[str, Any]) -> dict[str, Any] | None:
        order = self._found(given["id"])
        return None if order is None else order.as_node()

    def _found(self, identity: str) -> Order | None:
        return self.orders.get(str(identity).removeprefix("gid://shopify/Order/"))

    def _orderUpdate(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        content = _input("orderUpdate", given)
        if (order := self._found(content["id"])) is None:
            return _wrong("Order does not exist")
        if len(content["note"]) > MAX_NOTE:
            return _wrong("Note is too long (maximum is 5000 characters)")
        order.note = content["note"]
        return {"order": order.as_node(), "userErrors": []}

    def _orderMarkAsPaid(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        order = self._found(_input("orderMarkAsPaid", given)["id"])
        if order is None or not order.can_be_marked:
            return _wrong("Order cannot be marked as paid.")
        order.pay("manual")
        return {"order": order.as_node(), "userErrors": []}

    def _tagsAdd(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if (order := self._found(given["id"])) is None:
            return _wrong("Order does not exist")
        order.tags |= {*given["tags"]}
        return {"userErrors": []}

    def _tagsRemove(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if (order := self._found(given["id"])) is None:
            return _wrong("Order does not exist")
        order.tags -= {*given["tags"]}
        return {"userErrors": []}

    def _refundCreate(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """Once for each key, without which nothing is refunded since 2026-04."""
        if "@idempotent" not in given:
            raise NotGraphql("The @idempotent directive is required for this mutation")
        if given["@idempotent"] not in self._refunds:
            content = _input("refundCreate", given)
            order, [transaction] = self._found(content["orderId"]), content["transactions"]
            amount = Decimal(transaction["amount"])
            if order is None or not 0 < amount <= order.received - order.refunded:
                return _wrong("Refund amount exceeds the amount that can be refunded")
            if (transaction["kind"], content["currency"]) != ("REFUND", order.currency.upper()):
                return _wrong("Transactions are invalid")
            if transaction["parentId"] not in [each["id"] for each in order.as_node()["transactions"]]:
                return _wrong("Transactions parent is invalid")
            order.refunds.append((content["note"], amount))
            order.refunded_of.append(transaction["parentId"])
            self._refunds[given["@idempotent"]] = {"order": order.as_node(), "userErrors": []}
        return self._refunds[given["@idempotent"]]


def signature(pairs: Iterable[tuple[str, str]], secret: str) -> str:
    """Shopify's, of a request to an app's proxy: sorted, the values of one name joined, and nothing in between.

    docs: shopify.dev/docs/apps/build/online-store/app-proxies/authenticate-app-proxies
    """
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    message = "".join(sorted(f"{name}={','.join(each)}" for name, each in values.items()))
    return hmac.digest(secret.encode(), message.encode(), "sha256").hex()


# --- GraphQL, as much of it as there is -------------------------------------------------------------------------------


def _parse(query: str) -> tuple[str, Selection]:
    """`query` or `mutation`, and what is asked for. Raises NotGraphql for a field that its type does not have."""
    tokens = _TOKENS.findall(query)
    kind = tokens.pop(0)
    if kind not in ("query", "mutation") or "{" not in tokens:
        raise NotGraphql(f"syntax error, unexpected {kind}")
    del tokens[: tokens.index("{")]
    selection = _selection(tokens, kind)
    if tokens:
        raise NotGraphql(f"syntax error, unexpected {tokens[0]}")
    return kind, selection


def _selection(tokens: list[str], kind: str) -> Selection:
    if not tokens or tokens.pop(0) != "{":
        raise NotGraphql(f"field of type {kind} must have selections")
    found: Selection = {}
    while (name := tokens.pop(0)) != "}":
        if name not in _SCHEMA[kind]:
            raise NotGraphql(f"Field '{name}' doesn't exist on type '{kind}'")
        arguments = _arguments(tokens)
        if tokens[0] == "@":
            directive = "".join(tokens[:2])
            del tokens[:2]
            arguments[directive] = _arguments(tokens)["key"]
        found[name] = arguments, _selection(tokens, _SCHEMA[kind][name]) if _SCHEMA[kind][name] else {}
    return found


def _arguments(tokens: list[str]) -> dict[str, str]:
    if tokens[0] != "(":
        return {}
    end = tokens.index(")")
    inside = tokens[1:end]
    del tokens[: end + 1]
    return dict(zip(inside[::3], inside[2::3], strict=True))


def _pick(value: Any, kind: str, selection: Selection) -> Any:
    """What was asked for, and no more."""
    if isinstance(value, list):
        return [_pick(each, kind, selection) for each in value]
    if value is None or not kind:
        return value
    return {name: _pick(value[name], _SCHEMA[kind][name], below) for name, (_, below) in selection.items()}


def _input(mutation: str, given: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = given["input"]
    if unknown := content.keys() - _INPUTS[mutation]:
        raise NotGraphql(f"Variable $input was provided invalid value for {', '.join(sorted(unknown))}")
    return content


def _wrong(message: str) -> dict[str, Any]:
    return {"order": None, "refund": None, "userErrors": [{"field": ["id"], "message": message}]}


def _cost(available: int) -> dict[str, Any]:
    bucket = {"maximumAvailable": 2000.0, "currentlyAvailable": available, "restoreRate": 100.0}
    return {"requestedQueryCost": 752, "actualQueryCost": 12 if available else None, "throttleStatus": bucket}


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers or {}, content_type="application/json")


def _failed(code: str, available: int = 2000) -> Response:
    errors = [{"message": code.capitalize(), "extensions": {"code": code}}]
    return _json({"errors": errors, "extensions": {"cost": _cost(available)}})


_FAULTS: dict[str, Callable[[], Response]] = {
    "429": lambda: _json({"errors": "Exceeded 2 calls per second"}, 429, {"Retry-After": "900"}),
    "500": lambda: _json({"errors": "Internal Server Error"}, 500),
    "401": lambda: _json({"errors": "[API] Invalid API key or access token"}, 401),
    "throttled": lambda: _failed("THROTTLED", available=2),
    "denied": lambda: _failed("ACCESS_DENIED"),
    "html": lambda: Response("<!doctype html><title>Something went wrong</title>"),
}
