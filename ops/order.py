"""`pf order`: one order on one screen, found by whatever the person at the telephone has of it."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from ops import audit, items, story
from ops.cli import Failed, console, json_option, pf, print_json, printable, progress, table, tell
from ops.items import Item
from ops.people import hidden, personal_option
from ops.stack import Stack
from ops.story import Json, Unreadable

_OURS = re.compile(r"ord_([a-z][a-z0-9-]{0,15})_[0-9a-hjkmnp-tv-z]{26}")
_ID = re.compile(r"[!-?A-~]{1,200}")
_ADDRESS = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{1,190}")
COLOURS = {
    "paid": "green",
    "pending": "yellow",
    "partially_refunded": "cyan",
    "refunded": "cyan",
    "active": "green",
    "trialing": "green",
}
"""All other statuses want to be looked at."""


def find(stack: Stack, asked: str) -> list[Item]:
    """The orders, and payments and subscriptions of none, that an id or an address stands for; the stack is entered.
    Raises Failed, which says what was looked for where."""
    if _ADDRESS.fullmatch(asked):
        found, looked_at = _scan(stack, lambda item: asked.casefold() in _addresses(item))
        return found or _nothing(f"no order, payment or subscription of that address among {looked_at} items")
    if not _ID.fullmatch(asked):
        _nothing(f"{printable(asked[:200])!r} can be no id: one has no spaces and at most 200 characters, all of ASCII")
    if match := _OURS.fullmatch(asked):
        if match[1] != stack.stage:
            _nothing(f"{asked} is an order of stage {match[1]}, and this is {stack.stage}")
        order = items.get(stack, f"order#{asked}")
        return [order] if order else _nothing(f"there is no order {asked} in {stack.table}")
    if found := _by_key(stack, asked):
        return found
    found, looked_at = _scan(stack, lambda item: _holds(item, asked))
    return found or _nothing(
        f"nothing by {asked}: it is no order's id and no reference, no payment and no subscription is known by it,"
        f" and of {looked_at} items none has it as its session, payment or refund"
    )


def _nothing(sentence: str) -> Any:
    raise Failed(sentence)


def _by_key(stack: Stack, asked: str) -> list[Item]:
    from payments import fields

    theirs = fields.identifier(asked)
    keyed = [items.get(stack, f"{kind}#{name}") for kind, name in _keys(asked, theirs)]
    return _with_orders(stack, [item for item in keyed if item])


def _keys(asked: str, theirs: str) -> Iterable[tuple[str, str]]:
    return ("reference", asked), ("sale", theirs), ("subscription", theirs)


def _with_orders(stack: Stack, found: Iterable[Item]) -> list[Item]:
    """The order of what has one, once, in its place."""
    placed: dict[str, Item] = {}
    for item in found:
        order_id = item.get("order_id")
        order = items.get(stack, f"order#{order_id}") if order_id else None
        if order or not item["pk"].startswith("reference#"):
            taken = order or item
            placed[taken["pk"]] = taken
    return list(placed.values())


def _scan(stack: Stack, wanted: Callable[[Item], bool]) -> tuple[list[Item], int]:
    """Those that are wanted, and how many were looked at."""
    looked_at = 0
    with progress("Looking through the ledger") as advance:

        def seen(many: int) -> None:
            nonlocal looked_at
            looked_at += many
            advance(many)

        found = [item for item in items.scan(stack, ("order#", "sale#", "subscription#"), seen) if wanted(item)]
    return _with_orders(stack, found), looked_at


def _holds(item: Item, asked: str) -> bool:
    names = (f"pay#{asked}", f"sub#{asked}", f"renewal#{asked}")
    return (
        item.get("session_id") == asked
        or any(name in item for name in names)
        or any(name.startswith("ref#") and name.split("#")[2:3] == [asked] for name in item)
    )


def _addresses(item: Item) -> set[str]:
    """Of the buyer; a renewal's is its subscription's, which is found as well."""
    named = [item, *(fact for name, fact in story.facts(item).items() if not name.startswith("renewal#"))]
    return {str(each["customer_email"]).casefold() for each in named if "customer_email" in each}


# --- The command ------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("wanted", metavar="ID")
@personal_option
@json_option
@click.pass_obj
def order(stack: Callable[[], Stack], wanted: str, personal: bool, as_json: bool) -> None:
    """Shows the order ID on one screen.

    ID is its id, the shop's reference, Pocketsflow's id of the order, session, refund or subscription, or the buyer's
    e-mail address.
    """
    here = stack()
    here.enter()
    found = find(here, wanted)
    told = list(_all(here, found, beside=as_json or len(found) == 1))
    if not personal:
        told = hidden(told, asked=wanted)
    if as_json:
        print_json(told[0] if len(told) == 1 else told)
    elif len(told) == 1:
        _show(told[0])
    else:
        _list(told)
        tell("Several: `pf order ID` shows one.")


def _all(stack: Stack, found: list[Item], *, beside: bool) -> Iterator[Json]:
    """An item that cannot be read is told on standard error among others, and where it is all there is, fails."""
    for item in found:
        try:
            yield _told(stack, item) if beside else _alone(item)
        except Unreadable as odd:
            if len(found) == 1:
                raise Failed(f"{odd}; see it as it is: aws dynamodb get-item --table-name {stack.table}") from None
            tell(f"pf: {odd}")


def _alone(item: Item) -> Json:
    """By the item alone, which suffices for a list of any length. Raises Unreadable."""
    if item["pk"].startswith("order#"):
        return story.tell(item, {}, None, [], pf.commands)
    return story.tell_stray(item, [], pf.commands)


def _told(stack: Stack, item: Item) -> Json:
    """With what lies beside it. Raises Unreadable."""
    kind, _, identity = item["pk"].partition("#")
    if kind != "order":
        return story.tell_stray(item, audit.of(stack, identity), pf.commands)
    with story.reading(item):
        theirs = {item[name]["payment_id"]: name for name in item.get("payments", [])}
    sales = {each: sale for each in theirs if (sale := items.get(stack, f"sale#{each}"))}
    begun = next((each for each, name in theirs.items() if name.startswith("sub#")), None)
    subscription = items.get(stack, f"subscription#{begun}") if begun else None
    entries = [entry for about in (identity, *theirs) for entry in audit.of(stack, about)]
    return story.tell(item, sales, subscription, entries, pf.commands)


def _show(told: Json) -> None:
    from rich.text import Text

    out = console()

    def line(*parts: str | tuple[str, str]) -> None:
        out.print(
            Text.assemble(*[(printable(part), "") if isinstance(part, str) else part for part in parts]), soft_wrap=True
        )

    def field(name: str, value: object) -> None:
        if value not in (None, "", [], {}):
            line((f"  {name:13}", "dim"), _text(value))

    name = told.get("payment") or told["order"] or told.get("subscription")
    line(
        (printable(str(name)), "bold"),
        "  ",
        (printable(str(told["status"])), f"bold {COLOURS.get(told['status'], 'red')}"),
    )
    ordered = told.get("ordered", {})
    for each, value in ordered.items():
        if each != "currency":
            field(_NAMES.get(each, each.replace("_", " ")), story.price(ordered) if each == "price" else value)
    field("opened", told.get("opened_at"))
    field("session", told.get("pocketsflow", {}).get("session"))
    field("mode", told.get("mode"))
    field("claimed by", told.get("claimed_by"))
    field("candidates", told.get("candidates"))
    if begun := told.get("subscription"):
        begun = begun if isinstance(begun, dict) else {"subscription": begun}
        line(("Subscription", "bold"))
        for each, value in begun.items():
            field(each.replace("_", " "), value)
    if told.get("payments"):
        line(("Payments", "bold"))
        for each in told["payments"]:
            known = "confirmed" if each["confirmed"] else "not confirmed yet"
            closed = ", case closed" if each["resolved"] else ""
            line(
                f"  {each['payment']}  {story.amount(each) or 'no amount'}"
                f"  {each['verdict']}, by {each['source']}, {known}{closed}"
            )
    line(("What happened, in UTC", "bold"))
    for step in told["timeline"]:
        line((f"  {printable(_moment(step['at']))}", "dim"), f"  {step['text']}")
    for title, lines in (("Waits", told["waits"]), ("What helps", told["next"])):
        if lines:
            line((title, "bold"))
            for each in lines:
                line(f"  {each}")


_NAMES = {"hold_on_difference": "held", "customer_email": "buyer", "untrusted_metadata": "said by page"}


def _text(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name}={_text(each)}" for name, each in value.items())
        case list():
            return ", ".join(map(_text, value))
        case bool():
            return "yes" if value else "no"
    return str(value)


def _moment(at: str) -> str:
    """To the second."""
    return at[:19].replace("T", " ")


def _list(told: list[Json]) -> None:
    rows = sorted(told, key=lambda each: str(each.get("opened_at") or each["timeline"][:1]), reverse=True)
    table(
        ("order", "status", "ordered", "opened", "payments"),
        [
            (
                str(each["order"] or each.get("payment") or each.get("subscription")),
                str(each["status"]),
                _text(each.get("ordered", {}).get("sku") or each.get("ordered", {}).get("product_id") or "-"),
                _moment(str(each.get("opened_at", "-"))),
                ", ".join(story.amount(paid) or paid["payment"] for paid in each.get("payments", [])) or "-",
            )
            for each in rows
        ],
    )
