"""An order in plain words, from what the ledger holds of it: what happened, what waits, and what helps next.

Statuses and verdicts are those of the functions' own code: what a change would be told as, is what it is.
Everything here is JSON, and may have been written by strangers.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ops.cli import printable

Item = Mapping[str, Any]
Json = dict[str, Any]


class Unreadable(Exception):
    """An item of the table that the functions' code does not understand; the message names it."""


@contextmanager
def reading(item: Item) -> Iterator[None]:
    """Raises Unreadable for what an odd item raises."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(f"unreadable item {printable(str(item.get('pk')))}: {type(error).__name__}") from None


@dataclass(frozen=True)
class Judged:
    """What an order is. `verdicts` are those of its payments, by the fact's name: `settled`, `second`, `mismatched`,
    or `other_order`."""

    status: str
    updated_at: str
    winner: str | None
    verdicts: Mapping[str, str]


def judge(order: Item) -> Judged:
    """The stack must be entered. Raises Unreadable."""
    from payments import ledger, orders, outbox

    with reading(order):
        facts = ledger.facts_of(order)
        told = {each.fact: each.type for each in outbox.events({}, order) if each.type in _VERDICTS}
        verdicts = {name: _VERDICTS.get(told.get(name, ""), "other_order") for name in order.get("payments", [])}
        return Judged(
            status=orders.status(ledger.item_of(order), facts, order.get("payments", [])),
            updated_at=max([order["created_at"], *(fact["at"] for fact in facts.values())]),
            winner=next((name for name, verdict in verdicts.items() if verdict == "settled"), None),
            verdicts=verdicts,
        )


_VERDICTS = {"order.paid": "settled", "payment.second": "second", "payment.mismatched": "mismatched"}


def facts(item: Item) -> dict[str, Json]:
    """Everything in an item that has its moment, by name."""
    return {
        name: fact
        for name, fact in item.items()
        if ("#" in name or name == "accepted") and isinstance(fact, dict) and isinstance(fact.get("at"), str)
    }


def amount(fact: Item) -> str:
    """With its currency, where they are known."""
    return " ".join(str(fact[name]) for name in ("amount", "currency") if fact.get(name) is not None)


def price(ordered: Item) -> str:
    return " ".join(str(ordered[name]) for name in ("price", "currency") if name in ordered)


# --- One order --------------------------------------------------------------------------------------------------------


def tell(
    order: Item, sales: Mapping[str, Item], subscription: Item | None, audit: Iterable[Item], commands: Container[str]
) -> Json:
    """All of an order. `sales` are the items beside its payments, by Pocketsflow's id, `commands` those that `pf` has.
    Raises Unreadable."""
    judged = judge(order)
    with reading(order):
        order_id = order["pk"].removeprefix("order#")
        paid = [_payment(name, order, judged, sales) for name in order.get("payments", [])]
        told = {
            "order": order_id,
            "status": judged.status,
            "updated_at": judged.updated_at,
            "mode": order.get("mode"),
            "opened_at": order["created_at"],
            "ordered": {name: order[name] for name in _ORDERED if name in order},
            "payments": paid,
            "refunds": [_refund(fact) for name, fact in facts(order).items() if name.startswith("ref#")],
            "subscription": _subscription(subscription) if subscription else None,
            "timeline": _sorted(
                [*_opening(order), *_happened(order, judged), *_beside(sales, order), *_decided(audit)]
            ),
            "waits": list(_waits(order, judged, sales)),
            "pocketsflow": {
                "session": order.get("session_id"),
                "payments": [each["payment"] for each in paid],
                "checkout_url": order.get("checkout_url"),
            },
        }
        return {**told, "next": [text for text in _next(told, order) if text.split()[1] in commands]}


_ORDERED = (
    *("sku", "product_id", "variant_id", "price", "currency", "hold_on_difference", "reference", "customer_email"),
    *("metadata", "untrusted_metadata"),
)


def _payment(name: str, order: Item, judged: Judged, sales: Mapping[str, Item]) -> Json:
    fact = order[name]
    sale = sales.get(fact["payment_id"], {})
    return {
        "payment": fact["payment_id"],
        "kind": fact["kind"],
        "verdict": judged.verdicts[name],
        "at": fact["at"],
        "amount": fact.get("amount"),
        "currency": fact.get("currency"),
        "source": fact["source"],
        "confirmed": fact["source"] == "api" or bool(sale.get("api")),
        "product_id": fact["product_id"],
        "variant_id": fact.get("variant_id"),
        "customer_email": fact.get("customer_email"),
        "resolved": f"resolved#{fact['payment_id']}" in order,
    }


def _refund(fact: Item) -> Json:
    return {
        "refund": fact["refund_id"],
        "payment": fact["payment_id"],
        "status": fact["status"],
        "amount": fact.get("amount"),
        "at": fact["at"],
        "source": fact["source"],
    }


def _subscription(item: Item) -> Json:
    names = ("state", "product_id", "period_start", "period_end", "cancel_at_period_end", "payments", "ended_at")
    return {
        "subscription": item["pk"].removeprefix("subscription#"),
        **{name: item[name] for name in (*names, "customer_reference", "customer_email") if name in item},
    }


def _waits(order: Item, judged: Judged, sales: Mapping[str, Item]) -> Iterator[str]:
    if not order.get("payments"):
        if order.get("checkout_error"):
            yield f"for a checkout: Pocketsflow made no session ({order['checkout_error']})"
        else:
            yield "for the buyer to pay, or for word of it"
    for payment, sale in sales.items():
        if "awaits" in sale:
            yield f"payment {payment} for Pocketsflow's API to say the same, since {sale['since']}"
    for name, fact in facts(order).items():
        if name.startswith("claim#") and not any(each.endswith(f"#{fact['payment_id']}") for each in judged.verdicts):
            yield f"a {fact['of']} {fact['payment_id']}, told without proof, for Pocketsflow's API to say the same"


def _next(told: Json, order: Item) -> Iterator[str]:
    """The commands that help, the most pressing first."""
    order_id = told["order"]
    drifting = {fact["payment_id"] for name, fact in facts(order).items() if name.startswith("drift#")}
    for each in told["payments"]:
        if each["resolved"]:
            continue
        if each["verdict"] == "mismatched":
            yield f"pf settle --order {order_id} --payment {each['payment']} --reason …"
        if each["verdict"] in ("second", "mismatched"):
            yield f"pf refund {each['payment']} --reason …"
        is_disputed = told["status"] == "disputed" and each["verdict"] == "settled"
        if each["verdict"] in ("second", "mismatched") or each["payment"] in drifting or is_disputed:
            yield f"pf resolve {each['payment']} --reason …"
    if told["waits"]:
        yield "pf reconcile"
    yield f"pf events {order_id}"


# --- What happened ----------------------------------------------------------------------------------------------------


def _sorted(steps: Iterable[Json]) -> list[Json]:
    return sorted(steps, key=lambda step: str(step["at"]))


def _opening(order: Item) -> Iterator[Json]:
    number = f", as its number {order['reference']}" if "reference" in order else ""
    whose = "server" if number or "metadata" in order else "page"
    at = order.get("attempted_at", order["created_at"])
    yield _step(order["created_at"], "opened", f"opened by the shop's {whose}{number}")
    if at != order["created_at"]:
        yield _step(at, "retried", "the checkout was asked for again")
    if "session_id" in order:
        yield _step(at, "session", f"session {order['session_id']} at Pocketsflow")
    elif "checkout_error" in order:
        yield _step(at, "failed", f"Pocketsflow made no session: {order['checkout_error']}")


def _happened(order: Item, judged: Judged) -> Iterator[Json]:
    for name, fact in facts(order).items():
        yield _step(fact["at"], name.partition("#")[0], _words(name, fact, judged.verdicts.get(name)))


def _words(name: str, fact: Item, verdict: str | None) -> str:
    payment, by = fact.get("payment_id", name.partition("#")[2]), _SOURCES.get(fact.get("source", ""), "")
    of = f" of {amount(fact)}" if amount(fact) else ""
    match name.partition("#")[0]:
        case "pay" | "sub":
            what = "subscription" if name.startswith("sub#") else "payment"
            return f"{_PAID[verdict or 'unplaced']}: {what} {payment}{of}{by}"
        case "renewal":
            return f"paid again: {payment}{of} for subscription {fact['subscription_id']}{by}"
        case "ref":
            return f"refund {fact['refund_id']} of payment {payment}{of}: {fact['status']}{by}"
        case "claim":
            return f"a webhook claims a {fact['of']} {payment}, without proof"
        case "flags":
            flags = [each for each in ("refunded", "disputed") if fact[each]]
            return f"Pocketsflow shows payment {payment} as {' and '.join(flags) or 'neither refunded nor disputed'}"
        case "void":
            return f"payment {payment} belongs to another order, and counts here no longer"
        case "drift":
            ours, theirs = (fact.get(each, "nothing") for each in ("ours", "theirs"))
            return f"Pocketsflow tells of payment {payment} another {fact['what']}: {theirs}, not {ours}"
        case "accepted":
            return f"a person accepted payment {payment} for this order"
        case "resolved":
            return f"a person called the case of payment {payment} closed"
    return name


_PAID = {
    "settled": "paid",
    "second": "paid a second time, and money is owed back",
    "mismatched": "paid, but not for what was ordered",
    "other_order": "paid for another order",
    "unplaced": "paid, for no order yet",
}
_SOURCES = {
    "webhook": ", by webhook",
    "api": ", found in Pocketsflow's API",
    "person": ", given to this order by a person",
}


def _beside(sales: Mapping[str, Item], order: Item) -> Iterator[Json]:
    """What lies with its payments, and has not come to the order itself."""
    for payment, sale in sales.items():
        for name, fact in facts(sale).items():
            if name not in order:
                yield _step(fact["at"], name.partition("#")[0], _words(name, fact, None))
        if sale.get("api") and "seen_at" in sale:
            yield _step(sale["seen_at"], "confirmed", f"Pocketsflow's API shows payment {payment}")


def _decided(audit: Iterable[Item]) -> Iterator[Json]:
    for entry in audit:
        who = str(entry.get("who", "somebody")).rpartition("/")[2]
        yield _step(entry["at"], "decided", f"{who} did {entry.get('action')}: {entry.get('reason')}")


def _step(at: str, what: str, text: str) -> Json:
    return {"at": at, "what": what, "text": text}


# --- What belongs to no order -----------------------------------------------------------------------------------------


def tell_stray(item: Item, audit: Iterable[Item], commands: Container[str]) -> Json:
    """A payment or a subscription that no order here began. Raises Unreadable."""
    kind, _, identity = item["pk"].partition("#")
    with reading(item):
        verdict = item.get("verdict", {})
        renewal: Item = next((fact for name, fact in facts(item).items() if name.startswith("renewal#")), {})
        steps = [
            _step(fact["at"], name.partition("#")[0], _words(name, fact, None)) for name, fact in facts(item).items()
        ]
        if verdict:
            steps.append(_step(verdict["at"], "judged", f"found to be {verdict['kind']}"))
        waits = [f"for Pocketsflow's API to say whose it is, since {item['since']}"] if "awaits" in item else []
        told: Json = {
            "payment" if kind == "sale" else "subscription": identity,
            "order": renewal.get("order_id"),
            "status": "renewal" if renewal else verdict.get("kind") or item.get("state") or "unplaced",
            "claimed_by": item.get("claimed_by"),
            "candidates": list(verdict.get("candidates", [])),
            "timeline": _sorted([*steps, *_beside({identity: item} if kind == "sale" else {}, item), *_decided(audit)]),
            "waits": waits,
        }
        if kind == "subscription":
            told |= _subscription(item)
        began = [renewal["order_id"]] if "order_id" in renewal else []
        helpful = [
            *(f"pf order {each}" for each in (*began, *told["candidates"])),
            *(["pf reconcile"] if waits else []),
        ]
        if verdict.get("kind") == "unmatched" and f"resolved#{identity}" not in item:
            meant = [f"pf settle --order {each} --payment {identity} --reason …" for each in told["candidates"]]
            helpful += [*meant, f"pf refund {identity} --reason …", f"pf resolve {identity} --reason …"]
        return {**told, "next": [text for text in helpful if text.split()[1] in commands]}
