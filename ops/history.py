"""The events that made an item of the ledger what it is, again, with the ids that they had.

Made from nothing, an item tells less than its changes told, and some of it by another name: two refunds of half the
money each were a partial one and then a whole one. So its facts are added one by one, in their order. An event that the
item as it is makes, too, is told so, with the status and the revision of now; another one with those of its time. What
cannot be told with certainty by its old id is not told: whoever dedupes by id would act on it a second time.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.items import Item

if TYPE_CHECKING:
    from payments.outbox import Event


class Told(NamedTuple):
    """`lost` is how many events there may have been whose ids nobody knows any more."""

    events: "list[Event]"
    lost: int


def told(item: Item) -> Told:
    """Needs Stack.enter()."""
    from payments import outbox

    kind = item["pk"].partition("#")[0]
    if kind in ("order", "sale"):
        return _of_facts(item)
    if kind == "subscription" and item.get("rev", 1) != 1:
        return Told([], 1)  # ids hang on the revision that a state had
    return Told(outbox.events({}, item), 0)


def _of_facts(item: Item) -> Told:
    steps = _steps(item)
    tellings = [{each.detail["id"]: each for each in _retold(item, order)} for order in _orders(steps)]
    common = set.intersection(*(set(telling) for telling in tellings))
    possible = set.union(*(set(telling) for telling in tellings))
    sure = [each for name, each in tellings[0].items() if name in common and not _is_overwritten(item, each.fact)]
    ambiguous = len(possible - common) // len(tellings) if len(tellings) > 1 else 0
    return Told(_as_of_now(item, sure), ambiguous + len(common) - len(sure))


def _steps(item: Item) -> list[tuple[str, str]]:
    """Time and name of all that was written one after the other. Payments are in the order in which they were, which
    their list knows better than the clocks do; a verdict comes with the payment that it is about."""
    steps: list[tuple[str, str]] = []
    last = ""
    for name in dict.fromkeys(item.get("payments", [])):
        if name in item:
            last = max(last, item[name]["at"])
            steps.append((last, name))
    known = {name for _, name in steps}
    facts = [
        (value["at"], name)
        for name, value in item.items()
        if name not in known and _is_step(name) and isinstance(value, dict)
    ]
    return sorted([*steps, *facts], key=lambda step: (step[0], step[1] == "verdict"))


def _is_step(name: str) -> bool:
    """Not what is there from the beginning: that a payment belongs to another order was found out before anything was
    told of it. What a person noted tells nothing."""
    return name in ("verdict", "accepted") or ("#" in name and not name.startswith(("void#", "resolved#")))


def _orders(steps: list[tuple[str, str]]) -> Iterator[list[str]]:
    """In which the steps may have come: refunds of one list were noted at one moment, and any may have been the
    last."""
    groups = [[name for _, name in group] for _, group in groupby(steps, key=lambda step: step[0])]
    most = max((sum(name.startswith("ref#") for name in group) for group in groups), default=1)
    for turn in range(max(1, most)):
        order: list[str] = []
        for group in groups:
            refunds = sorted(name for name in group if name.startswith("ref#"))
            first = turn % len(refunds) if refunds else 0
            order += [name for name in group if name not in refunds] + refunds[first:] + refunds[:first]
        yield order


def _retold(item: Item, order: list[str]) -> "Iterator[Event]":
    """Each write was one revision at least, so that these are never higher than they were."""
    from payments import outbox

    payments = list(dict.fromkeys(item.get("payments", [])))
    image: dict[str, Any] = {name: value for name, value in item.items() if name not in (*order, "payments")}
    image["rev"] = 0
    for name in order:
        before = image
        image = {**image, name: item[name], "rev": image["rev"] + (not name.startswith("flags#"))}
        if name in payments:
            image["payments"] = [*before.get("payments", []), name]
        yield from outbox.events(before, image)


def _is_overwritten(item: Item, fact: str) -> bool:
    """Whether an event of an observation may have been made by an earlier one: the ledger keeps the last. What shows
    as both refunded and disputed became so at one time only if it was seen so first."""
    if not fact.startswith("flags#"):
        return False
    name = fact.rpartition("@")[0]
    flags = item[name]
    payments = [item[each] for each in item.get("payments", []) if each in item]
    paid: Item = next((each for each in payments if each["payment_id"] == flags["payment_id"]), {})
    return bool(flags["refunded"] and flags["disputed"] and flags["at"] != paid.get("at"))


def _as_of_now(item: Item, events: "list[Event]") -> "list[Event]":
    from payments import outbox

    now = {each.detail["id"]: each for each in outbox.events({}, _whole(item))}
    return [now.get(each.detail["id"], each) for each in events]


def _whole(item: Item) -> Item:
    """Without the names of payments that are not there, and none twice."""
    if "payments" not in item:
        return item
    return {**item, "payments": [name for name in dict.fromkeys(item["payments"]) if name in item]}
