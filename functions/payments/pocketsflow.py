"""Pocketsflow's HTTP API: the only module that speaks to it."""

import json
import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlencode

from payments import catalogue, fields, outbound, strictjson
from payments.deployment import SANDBOX
from payments.telemetry import count

URL = os.environ["POCKETSFLOW_URL"]

WAIT_SECONDS = 3.0
"""For a checkout, from the first packet to the last byte, a second try included: a buyer is waiting."""
CART_SECONDS = 2.25
"""The same for each of the two requests of a cart: for its product, and for its session."""
LIST_SECONDS = 10.0
"""For a page of a list."""
PAGE_SIZE = 100
LEAST_PAGE = 20
"""Pocketsflow's own page size: a list of fewer rows that says nothing of pages has no more."""
_MAX_ANSWER = 64 * 1024
_MAX_PAGE = 8 * 1024 * 1024
_MAX_ADDRESS = 2_048
_PRINTABLE = re.compile(r"[!-~]+")
_SCHEMES = ("https://", "http://127.0.0.1:") if SANDBOX else ("https://",)
_WRAPPERS = ("sale", "order", "refund", "data")

Reason = Literal["refused", "unauthorized", "busy", "failed", "unreachable", "unexpected", "not_found", "endless"]

_http = outbound.session()


class RequestFailed(Exception):
    """Pocketsflow did not do what was asked, or said nothing that can be used: never to be taken for "there is none".
    `retry_after`: seconds that it asked for, 60 at most."""

    def __init__(self, reason: Reason, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.retry_after = retry_after

    @property
    def is_of_all(self) -> bool:
        """Whether any other request would fail as well. A key may be refused for one path only."""
        return self.reason == "busy"


class ProductDiffers(Exception):
    """A product was made, but not as it was asked for: nobody may be sent to pay it."""


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Page:
    """`has_more` is None where nothing is said of pages: there may be more, until a page is empty or comes again."""

    rows: list[Any]
    has_more: bool | None


def create_product(api_key: str, name: str, price: Decimal, currency: str) -> str:
    """`POST /products`: one that is sold once, and its id. `price` in major units, as the SDK's README has it. Raises
    ProductDiffers, and RequestFailed after CART_SECONDS at most.

    It is published, since no source says that anything else can be bought. Its page has a name that nobody guesses.
    """
    product = {
        "name": name,
        "currency": currency.upper(),
        "published": True,
        "payWant": False,
        "slug": catalogue.new_order_slug(),
    }
    # By hand, since the json module writes no exact number that has a point.
    body = f'{json.dumps(product)[:-1]}, "price": {price:f}}}'
    made = _create(api_key, "/products", CART_SECONDS, body.encode())
    for wrapper in ("product", "data"):
        if isinstance(made, dict) and "_id" not in made and isinstance(made.get(wrapper), dict):
            made = made[wrapper]
    identity = made.get("_id") if isinstance(made, dict) else None
    if not fields.is_text(identity) or fields.identifier(identity) != identity:
        raise RequestFailed("unexpected")
    if made.get("price", price) != price or fields.word(made.get("currency", currency)) != currency:
        raise ProductDiffers
    return str(identity)


def create_session(api_key: str, checkout: Mapping[str, Any], seconds: float) -> Session:
    """`POST /checkout/sessions`. Raises RequestFailed, after so many seconds at most."""
    session = _create(api_key, "/checkout/sessions", seconds, json.dumps(checkout, allow_nan=False).encode())
    if not isinstance(session, dict) or not _is_text(session.get("id"), 256) or not _is_payable(session.get("url")):
        raise RequestFailed("unexpected")
    return Session(session["id"], session["url"])


def list_page(api_key: str, path: str, query: Mapping[str, str], number: int) -> Page:
    """A page of `/orders`, `/payments`, `/refunds` or `/subscriptions/subscribers`, from 1 on; rows as they came.

    The list stands under the path's last word, or `data`, or bare. Sources do not say that every list has pages, nor
    that a page is as large as asked for. Raises RequestFailed.
    """
    asked = {**query, "page": str(number), "pageSize": str(PAGE_SIZE)}
    content = call(api_key, "GET", f"{path}?{urlencode(asked)}", LIST_SECONDS)
    held: dict[str, Any] = content if isinstance(content, dict) else {"data": content}
    rows = held.get(path.rpartition("/")[2], held.get("data"))
    if not isinstance(rows, list):
        raise RequestFailed("unexpected")
    pagination = held.get("pagination")
    more = pagination.get("hasMore") if isinstance(pagination, dict) else None
    if not isinstance(more, bool):
        more = False if len(rows) < LEAST_PAGE else None
    return Page(rows, more)


def read(api_key: str, path: str, identity: str) -> dict[str, Any] | None:
    """One record, `GET /orders/{id}` for path `/orders`; None when Pocketsflow has none of this id. Raises
    RequestFailed, also for a record of another id."""
    try:
        content = call(api_key, "GET", f"{path}/{identity}", LIST_SECONDS)
    except RequestFailed as failure:
        if failure.reason == "not_found":
            return None
        raise
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and "_id" not in content and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or content.get("_id") != identity:
        raise RequestFailed("unexpected")
    return content


def _create(api_key: str, path: str, seconds: float, body: bytes) -> Any:
    """Only a 429 is tried once more, where the time suffices: it has made nothing, and no idempotency key is known to
    exist."""
    started = time.monotonic()
    count("PocketsflowRequests")
    try:
        return call(api_key, "POST", path, seconds, body)
    except RequestFailed as failure:
        pause = failure.retry_after if failure.retry_after is not None else random.uniform(0.3, 0.8)  # noqa: S311
        left = seconds - (time.monotonic() - started) - pause
        if failure.reason != "busy" or left < 0.5:
            raise
    time.sleep(pause)
    count("PocketsflowRequests")
    return call(api_key, "POST", path, left, body)


def call(api_key: str, method: str, path: str, seconds: float, body: bytes | None = None) -> Any:
    """The JSON of the answer to the JSON `body`, None where it has none. Raises RequestFailed after that many seconds
    at most."""
    most = _MAX_ANSWER if method == "POST" else _MAX_PAGE
    headers = {"Authorization": f"Bearer {api_key}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        answer = outbound.send(_http, method, f"{URL}{path}", seconds, most, headers=headers, body=body)
    except outbound.NoAnswer:
        raise RequestFailed("unreachable") from None
    except outbound.NotHttp:
        raise RequestFailed("unexpected") from None
    _check(method, answer)
    if not answer.body:
        return None
    try:
        return strictjson.parse(answer.body)
    except strictjson.Unreadable:
        raise RequestFailed("unexpected") from None


def _check(method: str, answer: outbound.Answer) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    if status == 429:
        raise RequestFailed("busy", _retry_after(answer))
    if status in (401, 403):
        raise RequestFailed("unauthorized")
    if status == 404 and method != "POST":
        raise RequestFailed("not_found")
    if 400 <= status < 500:
        raise RequestFailed("refused")
    raise RequestFailed("failed" if status >= 500 else "unexpected")


def _retry_after(answer: outbound.Answer) -> int | None:
    seconds = answer.headers.get("Retry-After", "")
    return min(int(seconds), 60) if seconds.isascii() and seconds.isdigit() and len(seconds) < 6 else None


def _is_payable(url: object) -> bool:
    """The address is opaque, but never plain http: the buyer is about to type a card number."""
    return _is_text(url, _MAX_ADDRESS) and str(url).startswith(_SCHEMES)


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit and _PRINTABLE.fullmatch(value) is not None
