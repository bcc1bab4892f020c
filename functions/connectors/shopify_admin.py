"""Shopify's Admin API in GraphQL: the only module that speaks to it.

An answer of 200 may be a failure: `errors` of the request, `userErrors` of a mutation. Both are Undelivered here.
docs: shopify.dev/docs/api/admin-graphql, …/docs/apps/build/authentication-authorization/client-credentials-grant
"""

import json
import math
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from connectors import outgoing
from connectors.money import Money
from connectors.outgoing import Undelivered
from payments import fields, secrets, strictjson

SECRET_ARN = os.environ["SECRET_ARN"]
URL: str = json.loads(os.environ["SETTINGS"])["shopify_url"]
VERSION: str = json.loads(os.environ["SETTINGS"])["shopify_api_version"]

SECONDS = 3.5
"""For a request: the eight that an event may take fit into what the consumer gives it."""
ORDER_ID = re.compile(r"[1-9][0-9]{0,19}")
PAID = {"PAID", "PARTIALLY_REFUNDED", "REFUNDED"}
"""Financial statuses of an order whose money has all come in, whatever became of it."""
MARKED = "pocketsflow-paid"
"""The tag of an order that was marked as paid here: once, whatever is put into it afterwards."""

_CLIENT_ID = re.compile(r"[0-9a-f]{32}")
_EARLIER = timedelta(minutes=10)
"""That a granted token is renewed before its end: they last for a day."""
_REASONS = {
    "THROTTLED": "busy",
    "IDEMPOTENCY_CONCURRENT_REQUEST": "busy",
    "ACCESS_DENIED": "unauthorized",
    "INTERNAL_SERVER_ERROR": "failed",
}
"""What Shopify's own codes are to us; every other is a request that it refuses."""

_MONEY = "{ presentmentMoney { amount currencyCode } }"
_ORDER = f"""query order($id: ID!) {{
  order(id: $id) {{
    id name confirmationNumber displayFinancialStatus canMarkAsPaid cancelledAt tags note
    totalOutstandingSet {_MONEY} totalReceivedSet {_MONEY} totalRefundedSet {_MONEY}
    currentSubtotalLineItemsQuantity
    lineItems(first: 50) {{ nodes {{ sku currentQuantity }} }}
    transactions(first: 20) {{ id kind status gateway manualPaymentGateway amountSet {_MONEY} }}
    refunds(first: 50) {{ note totalRefundedSet {_MONEY} }}
  }}
}}"""
_NOTE = """mutation note($input: OrderInput!) {
  orderUpdate(input: $input) { userErrors { field message } }
}"""
_MARK_AS_PAID = """mutation markAsPaid($input: OrderMarkAsPaidInput!) {
  orderMarkAsPaid(input: $input) { userErrors { field message } }
}"""
_ADD_TAGS = """mutation addTags($id: ID!, $tags: [String!]!) {
  tagsAdd(id: $id, tags: $tags) { userErrors { field message } }
}"""
_REMOVE_TAGS = """mutation removeTags($id: ID!, $tags: [String!]!) {
  tagsRemove(id: $id, tags: $tags) { userErrors { field message } }
}"""
_REFUND = """mutation refund($input: RefundInput!, $key: String!) {
  refundCreate(input: $input) @idempotent(key: $key) { userErrors { field message } }
}"""
_SHOP = "query shop { shop { myshopifyDomain } currentAppInstallation { accessScopes { handle } } }"

_granted: tuple[str, datetime] | None = None
"""A token, and until when it is good."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A transaction by which money came in."""

    id: str
    gateway: str
    amount: Decimal
    is_manual: bool
    """Booked by somebody, as by this connector: to refund it moves no money."""


@dataclass(frozen=True, slots=True)
class Refund:
    note: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Order:
    id: str
    """As the API has it: gid://shopify/Order/…"""
    name: str
    confirmation_number: str
    status: str
    can_be_marked: bool
    is_cancelled: bool
    outstanding: Money
    left: Decimal
    """Of what has come in, and not gone back."""
    tags: frozenset[str]
    note: str
    payments: tuple[Payment, ...]
    refunds: tuple[Refund, ...]
    sku: str | None
    """Of what is ordered, where that is one unit of one variant."""


def read_order(number: str, now: datetime, seconds: float = SECONDS) -> Order | None:
    """By the number that its addresses have; None where the shop has none, or the app may not see it. Raises
    Undelivered."""
    found = _ask(_ORDER, {"id": f"gid://shopify/Order/{number}"}, now, seconds).get("order")
    try:
        return None if found is None else _order(found)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError):
        raise Undelivered("unexpected") from None


def write_note(order: Order, note: str, now: datetime) -> None:
    _change("orderUpdate", _NOTE, {"input": {"id": order.id, "note": note}}, now)


def mark_as_paid(order: Order, now: datetime) -> None:
    _change("orderMarkAsPaid", _MARK_AS_PAID, {"input": {"id": order.id}}, now)


def add_tags(order: Order, tags: list[str], now: datetime) -> None:
    """Those that are there stay as they are."""
    _change("tagsAdd", _ADD_TAGS, {"id": order.id, "tags": tags}, now)


def remove_tags(order: Order, tags: list[str], now: datetime) -> None:
    _change("tagsRemove", _REMOVE_TAGS, {"id": order.id, "tags": tags}, now)


def refund(order: Order, payment: Payment, amount: Decimal, note: str, now: datetime) -> None:
    """Books that so much of a payment went back, once for each note and what was booked under it before: the key is
    made of them, and of nothing else. No mail to the buyer, whom Pocketsflow has told."""
    before = sum((each.amount for each in order.refunds if each.note == note), Decimal(0))
    transaction = {
        "orderId": order.id,
        "parentId": payment.id,
        "gateway": payment.gateway,
        "kind": "REFUND",
        "amount": f"{amount:f}",
    }
    content = {
        "orderId": order.id,
        "note": note,
        "notify": False,
        "currency": order.outstanding.currency.upper(),
        "transactions": [transaction],
    }
    key = uuid.uuid5(uuid.NAMESPACE_URL, f"{order.id} {note} {before:f}")
    _change("refundCreate", _REFUND, {"input": content, "key": str(key)}, now)


def scopes(now: datetime) -> tuple[str, set[str]]:
    """The shop that answers, and what the app may do there. Raises Undelivered."""
    found = _ask(_SHOP, {}, now, SECONDS)
    try:
        granted = {scope["handle"] for scope in found["currentAppInstallation"]["accessScopes"]}
        return str(found["shop"]["myshopifyDomain"]), granted
    except (KeyError, TypeError):
        raise Undelivered("unexpected") from None


def client_secrets(now: datetime) -> list[str]:
    """What Shopify signs with, several while the merchant rotates. Raises secrets.Unavailable."""
    return secrets.read(SECRET_ARN, "shpss_", now)


# --- A request --------------------------------------------------------------------------------------------------------


def _change(mutation: str, query: str, variables: Mapping[str, Any], now: datetime) -> None:
    changed = fields.obj(_ask(query, variables, now, SECONDS), mutation)
    if changed.get("userErrors") != []:  # absent or null is no success either
        raise Undelivered("refused")


def _ask(query: str, variables: Mapping[str, Any], now: datetime, seconds: float) -> dict[str, Any]:
    """The answer's `data`. Raises Undelivered."""
    headers = {"Content-Type": "application/json", "X-Shopify-Access-Token": _token(now, seconds)}
    body = json.dumps({"query": query, "variables": variables}).encode()
    answer = outgoing.send(
        "POST", f"{URL}/admin/api/{VERSION}/graphql.json", headers=headers, body=body, seconds=seconds
    )
    if answer.status == 401:
        _forget_token()
    content = _parsed(outgoing.must_succeed(answer).body)
    if content.get("errors"):
        raise _failure(content)
    return fields.obj(content, "data")


def _failure(content: dict[str, Any]) -> Undelivered:
    """Of a request that Shopify took, and did not do: by its first code that means anything here."""
    errors = content["errors"] if isinstance(content["errors"], list) else []
    codes = [fields.obj(error, "extensions").get("code") for error in errors if isinstance(error, dict)]
    reason = next((_REASONS[code] for code in codes if code in _REASONS), "refused")
    return Undelivered(reason, _restored_after(content) if "THROTTLED" in codes else None)


def _restored_after(content: dict[str, Any]) -> int:
    """Seconds until the bucket holds again what the query may cost."""
    cost = fields.obj(fields.obj(content, "extensions"), "cost")
    bucket = fields.obj(cost, "throttleStatus")
    try:
        lacking = cost["requestedQueryCost"] - bucket["currentlyAvailable"]
        return max(1, math.ceil(Decimal(lacking / bucket["restoreRate"])))
    except (KeyError, TypeError, ArithmeticError):
        return 1


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        content = None
    if not isinstance(content, dict):
        raise Undelivered("unexpected")
    return content


def _token(now: datetime, seconds: float) -> str:
    """The secret's own, of an app that has one for good; else one that Shopify grants for a day to the app's client id
    and secret. Raises Undelivered."""
    global _granted  # noqa: PLW0603
    try:
        words = secrets.read(SECRET_ARN, "", now)
    except secrets.Unavailable:
        raise Undelivered("secret_unreachable") from None
    if own := [word for word in words if word.startswith("shpat_")]:
        return own[0]
    if _granted is None or now >= _granted[1]:
        client_id = next((word for word in words if _CLIENT_ID.fullmatch(word)), None)
        keys = [word for word in words if word.startswith("shpss_")]
        if client_id is None or not keys:
            raise Undelivered("unauthorized")
        _granted = _grant(client_id, keys[0], now, seconds)
    return _granted[0]


def _grant(client_id: str, client_secret: str, now: datetime, seconds: float) -> tuple[str, datetime]:
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    url = f"{URL}/admin/oauth/access_token"
    answer = outgoing.send("POST", url, headers=headers, body=urlencode(form).encode(), seconds=seconds)
    if answer.status == 400:  # how OAuth says that it does not know the client
        raise Undelivered("unauthorized")
    content = _parsed(outgoing.must_succeed(answer).body)
    token, lifetime = content.get("access_token"), content.get("expires_in")
    if not fields.is_text(token) or not isinstance(lifetime, Decimal):
        raise Undelivered("unexpected")
    return str(token), now + timedelta(seconds=int(lifetime)) - _EARLIER


def _forget_token() -> None:
    global _granted  # noqa: PLW0603
    _granted = None


# --- An order ---------------------------------------------------------------------------------------------------------


def _order(found: dict[str, Any]) -> Order:
    bought = [line["sku"] for line in found["lineItems"]["nodes"] if line["currentQuantity"] > 0]
    return Order(
        id=str(found["id"]),
        name=str(found["name"]),
        confirmation_number=str(found["confirmationNumber"] or ""),
        status=str(found["displayFinancialStatus"]),
        can_be_marked=found["canMarkAsPaid"] is True,
        is_cancelled=found["cancelledAt"] is not None,
        outstanding=_money(found["totalOutstandingSet"]),
        left=_money(found["totalReceivedSet"]).amount - _money(found["totalRefundedSet"]).amount,
        tags=frozenset(found["tags"]),
        note=found["note"] or "",
        payments=tuple(
            Payment(
                each["id"],
                each["gateway"],
                _money(each["amountSet"]).amount,
                is_manual=each["manualPaymentGateway"] is True,
            )
            for each in found["transactions"]
            if each["kind"] in ("SALE", "CAPTURE") and each["status"] == "SUCCESS"
        ),
        refunds=tuple(Refund(each["note"] or "", _money(each["totalRefundedSet"]).amount) for each in found["refunds"]),
        sku=bought[0] if found["currentSubtotalLineItemsQuantity"] == len(bought) == 1 else None,
    )


def _money(bag: dict[str, Any]) -> Money:
    shown = bag["presentmentMoney"]
    return Money(Decimal(shown["amount"]).normalize(), str(shown["currencyCode"]).lower())
