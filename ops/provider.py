"""Pocketsflow's API as a person's tools ask it; what it refuses is said in a sentence."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

import simplejson

from ops.cli import Failed, TryAgain
from ops.stack import Stack

SECONDS = 10.0
"""Of one request, to the last byte."""
MAX_PAGES = 1_000
_WIDENED = timedelta(days=1)
"""No source says in which zone a list's dates are read."""
_TRIES = 3
_BUSY_SECONDS = 5
"""Between two tries, where Pocketsflow does not say how long; its limit is a minute's."""

Row = dict[str, Any]
Answer = TypeVar("Answer")


class Provider:
    """`api_key` is the stack's own, unless another one is given. Methods raise Failed and TryAgain."""

    def __init__(self, stack: Stack, api_key: str | None = None) -> None:
        stack.enter()
        self._api_key = api_key or stored_api_key(stack)

    def me(self) -> Row:
        return self._row("GET", "/users/me")

    def order(self, payment_id: str) -> Row | None:
        """A sale by its id; None when there is none. Raises TryAgain for a record of another id."""
        from payments import pocketsflow

        found: Row | None = _said(lambda: pocketsflow.read(self._api_key, "/orders", payment_id), "the order")
        return found

    def refunds(self, order: Row) -> list[Row]:
        """Of one sale. Those that were made before it was are not asked for: no sale should cost a list of years."""
        try:
            made_at = datetime.fromisoformat(str(order.get("createdAt")))
            query = {"startDate": (made_at - _WIDENED).isoformat().replace("+00:00", "Z")}
        except (ValueError, OverflowError):
            query = {}
        return [each for each in self.rows("/refunds", query) if each.get("orderId") == order["_id"]]

    def refund(self, payment_id: str, amount: Decimal | None, reason: str) -> Row:
        """Sends it once: no idempotency key is known. TryAgain when nobody knows whether it happened. `amount` in major
        units; None for all that is left."""
        body = {"orderId": payment_id, "amount": amount, "reason": reason}
        return self._row("POST", "/refunds", {name: value for name, value in body.items() if value is not None})

    def products(self) -> Iterator[Row]:
        return self.rows("/products")

    def endpoints(self) -> list[Row]:
        """Of webhooks, without their secrets."""
        return list(self.rows("/webhooks"))

    def endpoint(self, identity: str) -> Row | None:
        """Of webhooks; None when there is none of this id."""
        content = self._ask("GET", f"/webhooks/{quote(identity, safe='')}", absent_is_fine=True)
        return content if isinstance(content, dict) else None

    def create_endpoint(self, url: str, events: Sequence[str], description: str, *, active: bool = True) -> Row:
        """With its `secret`, which is shown this once. TryAgain when nobody knows whether it was made."""
        fields = {"url": url, "events": list(events), "description": description, "active": active}
        return self._row("POST", "/webhooks", fields)

    def update_endpoint(self, identity: str, **fields: Any) -> Row:
        return self._row("PUT", f"/webhooks/{quote(identity, safe='')}", fields)

    def delete_endpoint(self, identity: str) -> None:
        """One that is gone already is deleted, too."""
        self._ask("DELETE", f"/webhooks/{quote(identity, safe='')}", absent_is_fine=True)

    def test_endpoint(self, identity: str) -> None:
        """Has Pocketsflow deliver a sample, with an order that does not exist."""
        self._ask("POST", f"/webhooks/{quote(identity, safe='')}/test")

    def rows(self, path: str, query: Mapping[str, str] = MappingProxyType({})) -> Iterator[Row]:
        """Of all pages of a list, each once."""
        from payments import pocketsflow

        met: set[Any] = set()
        for number in range(1, MAX_PAGES + 1):
            page = _said(lambda number=number: pocketsflow.list_page(self._api_key, path, query, number))  # type: ignore[misc]
            new = [row for row in page.rows if isinstance(row, dict) and row.get("_id") not in met]
            met |= {row.get("_id") for row in new}
            yield from new
            if not new or page.has_more is False:
                return
        raise TryAgain(f"Pocketsflow's list {path} has no end")

    def _row(self, method: str, path: str, body: Any = None) -> Row:
        content = self._ask(method, path, body)
        for wrapper in ("data", "user", "webhook", "refund"):
            if isinstance(content, dict) and "_id" not in content and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
        if not isinstance(content, dict):
            raise TryAgain(f"Pocketsflow's answer to {method} {path} is not what it should be")
        return content

    def _ask(self, method: str, path: str, body: Any = None, *, absent_is_fine: bool = False) -> Any:
        from payments import pocketsflow

        if body is None and method == "POST":
            body = {}
        sent = None if body is None else simplejson.dumps(body, use_decimal=True).encode()
        repeatable = method != "POST"
        return _said(
            lambda: pocketsflow.call(self._api_key, method, path, SECONDS, sent),
            what=f"{method} {path}",
            repeatable=repeatable,
            absent_is_fine=absent_is_fine,
        )


def stored_api_key(stack: Stack) -> str:
    """Raises Failed when the stack has none, or one of the other mode."""
    secrets = stack.client("secretsmanager")
    try:
        value = secrets.get_secret_value(SecretId=stack.output("ApiKeySecret")).get("SecretString", "")
    except secrets.exceptions.ResourceNotFoundException:
        value = ""
    words = [word for word in value.split() if word.startswith(f"pk_{stack.mode}_")]
    if not words:
        raise Failed(f"the stack has no API key of mode {stack.mode}; run `pf init`")
    return str(words[0])


def _said(
    call: Callable[[], Answer], what: str = "the list", *, repeatable: bool = True, absent_is_fine: bool = False
) -> Any:
    """Asks again where that can do no harm."""
    from payments.pocketsflow import RequestFailed

    for tries_left in reversed(range(_TRIES)):
        try:
            return call()
        except RequestFailed as failure:
            reason = failure.reason
            worth_it = repeatable and reason in ("busy", "failed", "unreachable")
            if absent_is_fine and reason == "not_found":
                return None
            if worth_it and tries_left:
                time.sleep(min(failure.retry_after or 1, _BUSY_SECONDS))
                continue
            if reason == "unauthorized":
                raise Failed("Pocketsflow does not take this API key; run `pf init`") from None
            if reason == "refused":
                raise Failed(f"Pocketsflow refuses {what}") from None
            if reason == "not_found":
                raise Failed(f"Pocketsflow does not know {what}") from None
            if reason == "busy":
                raise TryAgain("Pocketsflow has had too many requests this minute; try again in one") from None
            unknown = "" if repeatable else "; whether it was done nobody knows: look before you try again"
            raise TryAgain(f"Pocketsflow did not answer {what} as it should ({reason}){unknown}") from None
    raise AssertionError("the last try returns or raises")
