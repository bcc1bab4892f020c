"""`pf events`: the journal, which is every fact and every signed body that the ledger keeps, in the order they came."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ops import items, order, story
from ops.cli import json_option, print_lines, progress, since_option, table, tell
from ops.items import Item
from ops.stack import Stack
from ops.story import Json, Unreadable

_KINDS = ("order#", "sale#", "raw#")
_BY_DEFAULT = timedelta(days=1)
_EVENTS = {"pay": "order.completed", "sub": "customer.subscription.created", "ref": "order.refunded"}
"""What a fact of a webhook came as, where its body does not say."""


def entries(item: Item) -> Iterator[Json]:
    """All that an item of the ledger keeps, without bodies: `raw` has them, as bytes. The stack is entered. Raises
    Unreadable."""
    if item["pk"].startswith("raw#"):
        yield from _arrivals(item)
        return
    verdicts = story.judge(item).verdicts if item["pk"].startswith("order#") else {}
    with story.reading(item):
        for name, fact in story.facts(item).items():
            body = fact.get("raw")
            yield {
                "at": fact["at"],
                "item": item["pk"],
                "fact": name,
                "source": fact.get("source"),
                "event": event_of(name, body) if fact.get("source") == "webhook" else None,
                "outcome": verdicts.get(name) or _outcome(name, item),
                "payment": fact.get("payment_id"),
                "sha256": hashlib.sha256(body).hexdigest() if body is not None else _sha256(fact.get("raw_item")),
                "raw": body,
            }


def _arrivals(item: Item) -> Iterator[Json]:
    with story.reading(item):
        for arrival in item["arrivals"]:
            yield {
                "at": arrival["at"],
                "item": item["pk"],
                "fact": None,
                "source": "webhook",
                "event": arrival["event"] or None,
                "outcome": arrival["reason"],
                "payment": None,
                "sha256": _sha256(item["pk"]),
                "raw": item["body"],
            }


def _sha256(pk: str | None) -> str | None:
    return pk.removeprefix("raw#") if pk else None


def event_of(name: str, body: bytes | None) -> str | None:
    """What a webhook called itself, or by its fact must have been."""
    from payments import strictjson

    try:
        content = strictjson.parse(body or b"null")
    except strictjson.Unreadable:
        content = None
    said = content.get("event") if isinstance(content, dict) else None
    return said if isinstance(said, str) else _EVENTS.get(name.partition("#")[0])


def _outcome(name: str, item: Item) -> str:
    if name.startswith(("pay#", "sub#")):
        return str(item.get("verdict", {}).get("kind", "waits"))
    return "recorded"


def _of_order(stack: Stack, wanted: str) -> Iterator[Item]:
    """Of an order, or of whatever stands for it: its own items, and every body kept apart that names one of them."""
    for found in order.find(stack, wanted):
        yield found
        kind, _, identity = found["pk"].partition("#")
        with story.reading(found):
            theirs = [found[name]["payment_id"] for name in found.get("payments", [])]
        for each in theirs if kind == "order" else []:
            sale = items.get(stack, f"sale#{each}")
            if sale:
                yield sale
        named = [name.encode() for name in (identity, *theirs)]
        referred = {fact["raw_item"] for fact in story.facts(found).values() if "raw_item" in fact}
        for raw in _scan(stack, ("raw#",)):
            body = raw.get("body", b"")
            if raw["pk"] in referred or (isinstance(body, bytes) and any(name in body for name in named)):
                yield raw


def _scan(stack: Stack, prefixes: tuple[str, ...]) -> Iterator[Item]:
    with progress("Looking through the ledger") as advance:
        yield from items.scan(stack, prefixes, advance)


def _all(found: Iterator[Item], since: datetime, *, raw: bool) -> Iterator[Json]:
    """Without bodies where they are not asked for: all are sorted, and many do not fit into memory."""
    for item in found:
        try:
            for entry in entries(item):
                with story.reading(item):
                    if datetime.fromisoformat(entry["at"]) >= since:
                        yield entry if raw else {name: each for name, each in entry.items() if name != "raw"}
        except Unreadable as odd:
            tell(f"pf: {odd}")


@click.command()
@click.argument("wanted", metavar="[ORDER]", required=False)
@since_option
@click.option("--raw", is_flag=True, help="Print the webhooks' bodies, as JSON Lines: personal data.")
@json_option
@click.pass_obj
def events(stack: Callable[[], Stack], wanted: str | None, since: datetime | None, raw: bool, as_json: bool) -> None:
    """Lists facts and signed webhooks as they came, oldest first.

    Those of ORDER (any id that `pf order` knows), or all of the last day, unless --since says otherwise. --json prints
    JSON Lines.
    """
    here = stack()
    here.enter()
    if wanted is None:
        found = _scan(here, _KINDS)
        since = since or datetime.now(UTC) - _BY_DEFAULT
    else:
        found = _of_order(here, wanted)
        since = since or datetime.min.replace(tzinfo=UTC)
    told = sorted(_all(found, since, raw=raw), key=lambda entry: (str(entry["at"]), str(entry["fact"])))
    if raw:
        tell("These are bodies as they came: personal data of buyers.")
        print_lines(_with_body(here, entry) for entry in told if entry["sha256"])
    elif as_json:
        print_lines(told)
    elif told:
        _show(told)
    else:
        tell("There is nothing.")


def _with_body(stack: Stack, entry: Json) -> Json:
    """As text where it is text, else in hexadecimal digits; null for one that is kept no longer."""
    body: Any = entry["raw"]
    if body is None:
        body = (items.get(stack, f"raw#{entry['sha256']}") or {}).get("body")
    shown = {name: each for name, each in entry.items() if name != "raw"}
    if not body:
        return {**shown, "body": None}
    try:
        return {**shown, "body": body.decode()}
    except UnicodeDecodeError:
        return {**shown, "body_hex": body.hex()}


def _show(told: list[Json]) -> None:
    table(
        ("at", "item", "fact", "source", "event", "outcome", "sha256"),
        [
            (
                entry["at"][:19].replace("T", " "),
                entry["item"] if not entry["item"].startswith("raw#") else "raw",
                entry["fact"] or "-",
                entry["source"] or "-",
                entry["event"] or "-",
                entry["outcome"],
                (entry["sha256"] or "-")[:12],
            )
            for entry in told
        ],
    )
