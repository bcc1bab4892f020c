"""`pf replay`: the bodies that the ledger keeps go through the same settlement again.

Each was verified when it came. They are put where the webhook function parks what the ledger does not take, and it
takes them from there as ever: what is known already is a redelivery and changes nothing.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from ops import audit, items, queues, subject
from ops.cli import (
    TryAgain,
    for_option,
    json_option,
    print_json,
    progress,
    reason_option,
    since_option,
    table,
    tell,
)
from ops.items import Item
from ops.stack import Stack
from payments import strictjson

_EVENTS = {
    "pay#": "order.completed",
    "sub#": "customer.subscription.created",
    "ref#": "order.refunded",
    "claim#": "",  # of one of the above
}
"""Under which name a fact's body came, where it has none of its own."""
_CLAIMED = {"payment": "pay#", "subscription": "sub#", "refund": "ref#"}
_FACTS_OF_RAW = {"large", "other_words", "item_full"}
"""Reasons for which a body is kept whose arrival names a fact in the place of an event."""
_STATE = "subscription"
"""The same for what a subscription was at that time, which must not come back over what it is now."""


@dataclass
class Journal:
    """Bodies, each once under one name, and what was left out; `orders` are those that are named anywhere."""

    stage: str
    bodies: dict[tuple[str, str], str] = field(default_factory=dict)
    orders: set[str] = field(default_factory=set)
    redacted: int = 0
    states: int = 0

    def add(self, body: bytes, event: str, sent_at: str) -> None:
        event = _own_name(body) or event
        self.bodies.setdefault((hashlib.sha256(body).hexdigest(), event), queues.parked(body, event, sent_at))
        self.orders |= named_orders(self.stage, body)


@click.command()
@click.argument("about", metavar="[ORDER]", required=False)
@since_option
@click.option("--dry-run", is_flag=True, help="Say how many bodies there are, and send none.")
@for_option(60)
@reason_option(required=False)
@json_option
@click.pass_obj
def replay(
    stack: Callable[[], Stack],
    *,
    about: str | None,
    since: datetime | None,
    dry_run: bool,
    seconds: int,
    reason: str,
    as_json: bool,
) -> None:
    """Has the bodies of an order, or all since a time, settled again.

    Nothing counts twice. What a subscription's webhooks said of its state is left out (`pf reconcile` asks what it is),
    and so is what was redacted.
    """
    if (about is None) is (since is None):
        raise click.UsageError("give either an order or --since")
    on, now = stack(), datetime.now(UTC)
    found = None if about is None else subject.find(on, about)
    journal = _read(on, found, since)
    if found is not None and found.order is not None:
        journal.orders.add(subject.order_id(found.order))
    before = _statuses(on, journal.orders)
    told: dict[str, Any] = {"bodies": len(journal.bodies), "redacted": journal.redacted, "states": journal.states}
    if dry_run or not journal.bodies:
        _tell(told, as_json=as_json)
        return
    more = {"since": since.isoformat()} if since else {}
    audit.write(on, "replay", reason, now, found.about if found else None, bodies=str(told["bodies"]), **more)
    parking = queues.parking(on)
    with progress("bodies sent", len(journal.bodies)) as sent:
        parking.put_all(list(journal.bodies.values()), sent)
    left = parking.wait_until_empty(seconds)
    after = _statuses(on, journal.orders)
    told |= {
        "waiting": left,
        "changed": {
            order: {"from": before.get(order), "to": status}
            for order, status in sorted(after.items())
            if before.get(order) != status
        },
    }
    _tell(told, as_json=as_json)
    if left:
        raise TryAgain(f"{left} bodies still wait in the queue Parking, and are tried for a day")


def _read(stack: Stack, found: subject.Subject | None, since: datetime | None) -> Journal:
    journal = Journal(stack.stage)
    from_then = items.timestamp(since) if since else ""
    words: list[bytes] = []
    if found is not None:
        words = _take_subject(stack, journal, found)
    with progress("items of the ledger seen") as seen:
        for item in items.scan(stack, ("raw#",) if found else ("order#", "sale#", "raw#"), seen):
            if item["pk"].startswith("raw#"):
                if found is None or any(word in item.get("body", b"") for word in words):
                    _take_raw(journal, item, from_then)
            else:
                _take_facts(stack, journal, item, from_then)
    return journal


def _take_subject(stack: Stack, journal: Journal, found: subject.Subject) -> list[bytes]:
    """The facts of what was named, and the words by which other bodies are known to be about it."""
    words, sales = [], set()
    if found.order is not None:
        _take_facts(stack, journal, found.order, "")
        sales = {name.partition("#")[2] for name in found.order.get("payments", [])}
        words = [subject.order_id(found.order)]
        if "reference" in found.order:
            words.append(f'"{found.order["reference"]}"')
    elif found.payment is not None:
        sales = {found.payment.id}
    for payment in sales:
        _take_facts(stack, journal, items.get(stack, f"sale#{payment}") or {}, "")
        words.append(f'"{payment}"')
    return [word.encode() for word in words]


def _take_facts(stack: Stack, journal: Journal, item: Item, since: str) -> None:
    for name, fact in item.items():
        if not name.startswith(tuple(_EVENTS)) or fact.get("source") != "webhook" or fact["at"] < since:
            continue
        holder = (items.get(stack, fact["raw_item"]) or {}) if "raw_item" in fact else fact
        body = holder.get("body" if "raw_item" in fact else "raw")
        if not body or "redacted_at" in holder or "redacted_at" in fact:
            journal.redacted += 1
        else:
            journal.add(body, _event_of(name), fact["at"])


def _take_raw(journal: Journal, item: Item, since: str) -> None:
    """Once for each name that it came under."""
    arrivals = [each for each in item.get("arrivals", []) if each["at"] >= since]
    if arrivals and (not item.get("body") or "redacted_at" in item):
        journal.redacted += 1
        return
    for arrival in arrivals:
        if arrival["reason"] == _STATE:
            journal.states += 1
            continue
        event = _event_of(arrival["event"]) if arrival["reason"] in _FACTS_OF_RAW else arrival["event"]
        journal.add(item["body"], event, arrival["sent_at"] or arrival["at"])


def _event_of(fact: str) -> str:
    prefix = f"{fact.partition('#')[0]}#"
    return _EVENTS[_CLAIMED[fact.rpartition("#")[2]] if prefix == "claim#" else prefix]


def _own_name(body: bytes) -> str:
    """What a body calls itself: the only name under which it settles."""
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        return ""
    found: Mapping[str, Any] = content if isinstance(content, dict) else {}
    name = found.get("event")
    return name if isinstance(name, str) else ""


def named_orders(stage: str, body: bytes) -> set[str]:
    """Our order ids in a body."""
    return {match.decode() for match in re.findall(rb"ord_%s_[0-9a-z]{26}" % stage.encode(), body)}


def _statuses(stack: Stack, orders: Iterable[str]) -> dict[str, str]:
    found = {order: items.get(stack, f"order#{order}") for order in orders}
    return {order: subject.status(stack, item) for order, item in found.items() if item is not None}


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    left_out = {"redacted": "redacted", "states": "of a subscription's state"}
    more = ", ".join(f"{told[name]} {what}" for name, what in left_out.items() if told[name])
    tell(f"{told['bodies']} bodies" + (f"; left out: {more}." if more else "."))
    if "changed" not in told:
        return
    if not told["changed"]:
        tell("Nothing has changed.")
        return
    table(["order", "was", "is"], [[order, str(each["from"]), each["to"]] for order, each in told["changed"].items()])
