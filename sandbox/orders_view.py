"""The way of each order, for the page below `/_sandbox/`: what the ledger, Pocketsflow and the bus know of it, joined.

Read from the memory of the sandbox's own process: no request to AWS, and nothing at all while nothing has changed.
"""

import base64
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import simplejson

from sandbox import aws
from sandbox.bus import Published
from sandbox.pocketsflow import Account
from sandbox.subscriptions import iso
from sandbox.template import Function
from sandbox.worker import Worker

LISTED = 200
"""As many orders are listed, and as much that belongs to none."""

Json = dict[str, Any]

_FACT = re.compile(r"(pay|sub|ref|claim|flags|void|drift)#|accepted$")
_ORDERED = (
    *("reference", "sku", "product_id", "variant_id", "price", "currency"),
    *("customer_email", "untrusted_metadata"),
)
_CAUSES_FIRST = ("opened", "session", "paid", "refunded", "delivery", "fact", "event")
"""The order of what happened within the same millisecond."""


class NotJudged(Exception):
    """The functions' code did not say what an order is; the message tells why."""


class Judge:
    """The status of orders, by the functions' own code in a process of its own, which the first question starts."""

    def __init__(self, function: Function, environment: Mapping[str, str]) -> None:
        """`function` is one whose environment that code is content with."""
        self._function = replace(function, handler=f"{__package__}.order_status.handler", timeout=60)
        self._environment = environment
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._closed = False

    def judge(self, records: list[Json]) -> list[Json]:
        """Raises NotJudged."""
        with self._lock:
            if self._worker is None and not self._closed:
                worker = Worker(self._function, self._environment)
                try:
                    worker.wait_until_ready()
                except RuntimeError as failure:
                    worker.close()
                    raise NotJudged(str(failure)) from None
                self._worker = worker
            asked = self._worker
        answer = asked.invoke(records) if asked else {"errorMessage": "The sandbox ends"}
        if isinstance(answer, dict):
            raise NotJudged(answer["errorMessage"])
        judged: list[Json] = answer
        return judged

    def close(self) -> None:
        self._closed = True
        with self._lock:
            if self._worker:
                self._worker.close()


class Ledger:
    """The table as its stream tells it."""

    def __init__(self, stream_arn: str, judge: Judge) -> None:
        self._stream_arn = stream_arn
        self._judge = judge
        self._lock = threading.Lock()
        self.position = 0
        self.items: dict[str, Json] = {}
        self.judged: dict[str, Json] = {}
        """Status and winner, by order id, of every order in `items`."""

    def catch_up(self) -> None:
        """Items are replaced, never changed, and so are the two dictionaries: who has read them keeps them."""
        with self._lock:
            records, position = aws.read_stream(self._stream_arn, self.position)
            items, changed = dict(self.items), set()
            for record in records:
                pk = record["dynamodb"]["Keys"]["pk"]["S"]
                changed.add(pk)
                if image := record["dynamodb"].get("NewImage"):
                    items[pk] = {name: _plain(content) for name, content in image.items()}
                else:
                    items.pop(pk, None)
            opened = [pk for pk in changed if pk.startswith("order#") and "created_at" in items.get(pk, ())]
            judged = self._judge.judge([items[pk] for pk in opened]) if opened else []
            self.judged = {**self.judged, **{_key(pk): told for pk, told in zip(opened, judged, strict=True)}}
            self.items, self.position = items, position


@dataclass
class _Seen:
    """All that is known at one moment, and whose it is."""

    items: dict[str, Json]
    judged: dict[str, Json]
    account: Account
    deliveries: list[Json]
    events: list[tuple[Json, datetime]]

    def __post_init__(self) -> None:
        self.orders = {_key(pk): item for pk, item in self.items.items() if _key(pk) in self.judged}
        self.by_reference = {
            each["reference"]: order_id for order_id, each in self.orders.items() if "reference" in each
        }
        self.owners: dict[str, set[str]] = {}
        """Our order ids by Pocketsflow's."""
        for order_id, order in self.orders.items():
            for theirs in [*_payment_ids(order), *self.account.paid.get(order.get("session_id", ""), [])]:
                self.owners.setdefault(theirs, set()).add(order_id)

    def of_delivery(self, delivery: Json) -> set[str]:
        return self.owners.get(delivery["orderId"], set()) | self.named_in(delivery["body"])

    def named_in(self, body: str) -> set[str]:
        """The order that a webhook's body names, by its id or by the shop's own number."""
        return {self.by_reference.get(name, name) for name in _claimed(body)} & self.orders.keys()

    def of_event(self, event: Json) -> set[str]:
        detail = event["detail"] if isinstance(event["detail"], dict) else {}
        told = detail.get("order_id")
        return {told} & self.orders.keys() if isinstance(told, str) else set()


class OrdersView:
    def __init__(self, ledger: Ledger, account: Account, published: Published) -> None:
        self._ledger = ledger
        self._account = account
        self._published = published
        self._run = secrets.token_hex(4)
        """Another sandbox has seen other things."""

    def version(self) -> str:
        """Differs when anything that is shown may differ."""
        self._ledger.catch_up()
        held = self._account
        counts = (
            self._ledger.position, self._published.count, len(held.deliveries), len(held.sessions),
            len(held.payments), len(held.orders), len(held.refunds),
        )  # fmt: skip
        return f'"{self._run}-{"-".join(map(str, counts))}"'

    def listed(self) -> Json:
        """Orders, newest first, and how much belongs to none."""
        seen = self._seen()
        newest = sorted(seen.orders.items(), key=lambda order: (order[1]["created_at"], order[0]), reverse=True)
        return {
            "orders": [self._row(order_id, order, seen) for order_id, order in newest[:LISTED]],
            "older": len(newest[LISTED:]),
            "without": len(_without_order(seen)),
        }

    def way(self, order_id: str) -> Json | None:
        """One order: what happened, oldest first, and all that the ledger holds of it. None for one that is not
        there."""
        seen = self._seen()
        order = seen.orders.get(order_id)
        if order is None:
            return None
        theirs = {identity for identity, owners in seen.owners.items() if order_id in owners}
        beside = {f"{kind}#{identity}" for identity in theirs for kind in ("sale", "subscription")}
        items = {pk: item for pk, item in seen.items.items() if pk == f"order#{order_id}" or pk in beside}
        told = _facts(order)
        waiting = (fact for pk, item in items.items() if item is not order for fact in _facts(item))
        steps = [
            *_opening(order, self._account),
            *_at_pocketsflow(theirs, self._account),
            *(_delivery(each) for each in seen.deliveries if order_id in seen.of_delivery(each)),
            *told,
            *(fact for fact in waiting if fact["name"] not in order),
            *(_event(event, at) for event, at in seen.events if order_id in seen.of_event(event)),
        ]
        return {**self._row(order_id, order, seen), **seen.judged[order_id], "steps": _sorted(steps), "records": items}

    def without_order(self) -> Json:
        """What belongs to no order, newest first."""
        return {"steps": _without_order(self._seen())[: -LISTED - 1 : -1]}

    def _seen(self) -> _Seen:
        with self._account.lock:
            deliveries = list(self._account.deliveries)
        return _Seen(self._ledger.items, self._ledger.judged, self._account, deliveries, self._published.timed())

    def _row(self, order_id: str, order: Json, seen: _Seen) -> Json:
        product = self._account.products.get(order.get("product_id", ""), {})
        return {
            "id": order_id,
            "sku": order.get("sku"),
            "name": product.get("name"),
            "price": order.get("price"),
            "currency": order.get("currency"),
            "at": order["created_at"],
            "status": seen.judged[order_id]["status"],
            "error": order.get("checkout_error"),
        }


def _without_order(seen: _Seen) -> list[Json]:
    steps = [
        *(_delivery(each) for each in seen.deliveries if not seen.of_delivery(each)),
        *(_event(event, at) for event, at in seen.events if not seen.of_event(event)),
    ]
    for pk, item in seen.items.items():
        kind, _, identity = pk.partition("#")
        if kind in ("sale", "subscription") and identity not in seen.owners:
            steps += _facts(item)
        elif kind == "raw" and not seen.named_in(item.get("body", "")):
            steps += [_kept(item, number) for number in range(len(item.get("arrivals", [])))]
    return _sorted(steps)


def _sorted(steps: Iterable[Json]) -> list[Json]:
    return sorted(steps, key=lambda step: (step["at"], _CAUSES_FIRST.index(step["kind"])))


def _opening(order: Json, account: Account) -> list[Json]:
    at = order["created_at"]
    fields = {name: order[name] for name in _ORDERED if name in order}
    steps: list[Json] = [{"kind": "opened", "key": "opened", "at": at, "fields": fields}]
    if session_id := order.get("session_id"):
        steps.append(
            {
                "kind": "session", "key": f"session/{session_id}", "at": account.opened_at.get(session_id, at),
                "id": session_id, "url": order.get("checkout_url"), "request": account.sessions.get(session_id),
            }
        )  # fmt: skip
    elif error := order.get("checkout_error"):
        steps.append({"kind": "session", "key": "session", "at": order["attempted_at"], "error": error})
    return steps


def _at_pocketsflow(theirs: set[str], account: Account) -> list[Json]:
    """Payments and refunds there, of which webhooks tell, or do not."""
    steps: list[Json] = []
    for identity in theirs:
        if order := account.orders.get(identity):
            steps.append(_paid(identity, order["paidAt"], order["grossAmount"], order["currency"], order["buyerEmail"]))
        elif begun := account.subscriptions.get(identity):
            steps.append(_paid(identity, iso(begun.created), begun.amount, begun.currency, begun.email))
    for refund in list(account.refunds.values()):
        if refund["orderId"] in theirs:
            steps.append(
                {
                    "kind": "refunded", "key": f"refund/{refund['_id']}", "at": refund["createdAt"],
                    "id": refund["_id"], "amount": str(refund["amount"]), "status": refund["status"],
                    "currency": account.orders[refund["orderId"]]["currency"],
                }
            )  # fmt: skip
    return steps


def _paid(identity: str, at: str, amount: object, currency: str, email: str) -> Json:
    return {
        "kind": "paid", "key": f"paid/{identity}", "at": at, "id": identity, "amount": str(amount),
        "currency": currency, "email": email,
    }  # fmt: skip


def _delivery(entry: Json) -> Json:
    signature, response = entry["signature"], entry["response"]
    return {
        "kind": "delivery", "key": f"delivery/{entry['id']}",
        "at": iso(datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)),
        "event": entry["event"], "url": entry["url"], "status": entry["status"], "error": entry["error"],
        "response": response, "ms": entry["durationMs"], "body": entry["body"],
        "outcome": (response.get("outcome") or response.get("code")) if isinstance(response, dict) else None,
        "headers": {
            "Content-Type": "application/json",
            "X-Pocketsflow-Event": entry["event"],
            "X-Pocketsflow-Timestamp": str(entry["timestamp"]),
            "X-Pocketsflow-Signature": f"{signature[:12]}…{signature[-4:]}",
        },
    }  # fmt: skip


def _facts(item: Json) -> list[Json]:
    return [
        {
            "kind": "fact", "key": f"{item['pk']}/{name}", "at": content["at"], "name": name, "item": item["pk"],
            "source": content.get("source", "api"), "raw": content.get("raw"),
            "fields": {field: value for field, value in content.items() if field != "raw"},
        }
        for name, content in item.items()
        if _FACT.match(name) and isinstance(content, dict) and "at" in content
    ]  # fmt: skip


def _kept(item: Json, number: int) -> Json:
    """A body that is no fact of its own, as one of its arrivals."""
    arrival = item["arrivals"][number]
    return {
        "kind": "fact", "key": f"{item['pk']}/{number}", "at": arrival["at"], "name": arrival["reason"],
        "item": item["pk"], "source": "webhook", "raw": item["body"], "fields": {**arrival, "kind": "body"},
    }  # fmt: skip


def _event(event: Json, at: datetime) -> Json:
    detail = event["detail"] if isinstance(event["detail"], dict) else {"detail": event["detail"]}
    return {
        "kind": "event", "key": f"event/{event['id']}", "at": iso(at), "type": event["detail-type"],
        "source": event["source"], "id": detail.get("id"), "revision": detail.get("revision"),
        "subject": detail.get("subject"), "detail": detail,
    }  # fmt: skip


@lru_cache(10_000)
def _claimed(body: str) -> frozenset[str]:
    """The order that a webhook's body names in its metadata."""
    try:
        content = simplejson.loads(body)
    except (ValueError, RecursionError):
        return frozenset()
    metadata = content.get("metadata") if isinstance(content, dict) else None
    named = metadata.get("external_order_id") if isinstance(metadata, dict) else None
    return frozenset([named] if isinstance(named, str) else [])


def _payment_ids(order: Json) -> list[str]:
    return [_key(name) for name in order.get("payments", [])]


def _key(name: str) -> str:
    """What stands behind the kind: `order#ord_…`, `pay#…`."""
    return name.partition("#")[2]


def _plain(typed: Json) -> Any:
    """DynamoDB's JSON, as a stream gives it, without its types. Numbers of the ledger are counts; bodies are bytes."""
    [(kind, content)] = typed.items()
    match kind:
        case "M":
            return {name: _plain(each) for name, each in content.items()}
        case "L":
            return [_plain(each) for each in content]
        case "N":
            return int(content)
        case "NULL":
            return None
        case "B":
            return base64.b64decode(content).decode(errors="replace")
    return content
