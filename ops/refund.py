"""`pf refund`: money goes back to the buyer, at Pocketsflow.

No idempotency key is known there, so nothing is sent twice: one is under way at a time (ops/sending.py), what was
refunded is read again just before, and when the answer was lost no other one is sent before that shows. The ledger
hears of it by webhook or reconciliation, as of any refund.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click

from ops import audit, items, sending, subject
from ops.cli import (
    Failed,
    TryAgain,
    confirmed,
    json_option,
    print_json,
    printable,
    reason_option,
    tell,
    yes_option,
)
from ops.provider import Provider, Row
from ops.stack import Stack
from ops.subject import Payment, Subject

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?")
_FAILED = "failed"
_WIDTH = 32
"""Of `refund` and an id."""


@dataclass(frozen=True)
class Standing:
    """Of a payment, in major units: what was paid, and what was given back by refund id; one that failed was not.
    `order` is Pocketsflow's."""

    paid: Decimal
    currency: str
    refunds: dict[str, Decimal]
    order: Row

    @property
    def refunded(self) -> Decimal:
        return sum(self.refunds.values(), Decimal(0))

    @property
    def left(self) -> Decimal:
        return self.paid - self.refunded


def _amount(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> Decimal | None:
    if text is None:
        return None
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise click.BadParameter("must be like 10.00, more than nothing")
    return Decimal(text)


@click.command()
@click.argument("about", metavar="ORDER|PAYMENT")
@click.option("--amount", callback=_amount, metavar="10.00", help="In major units; by default all that is left.")
@reason_option(required=True)
@yes_option
@json_option
@click.pass_obj
def refund(
    stack: Callable[[], Stack], *, about: str, amount: Decimal | None, reason: str, yes: bool, as_json: bool
) -> None:
    """Gives the money of a payment back, or some of it.

    An order with several payments wants the payment's id. Pocketsflow is told the reason, too.
    """
    on, now = stack(), datetime.now(UTC)
    found = subject.find(on, about)
    payment = subject.the_payment(on, found)
    if payment.name.startswith(("sub#", "renewal#")):
        raise Failed("payments of a subscription are refunded in Pocketsflow's dashboard: its API knows no such refund")
    if subject.role(on, found.order, payment) == subject.ELSEWHERE:
        raise Failed(f"the payment {payment.id} belongs to another order, whose money it is; name the payment itself")
    provider = Provider(on)
    seen = _standing(on, provider, payment, found)
    if (earlier := _shown(on, payment, seen, now)) is not None and amount in (None, earlier[1]):
        _tell(found, payment, seen, *earlier, status="sent before", as_json=as_json)
        return
    wanted = _checked(amount or seen.left, seen)
    if not as_json:
        _show(on, found, payment, seen, wanted)
    many = f"{wanted} {seen.currency}"
    if not confirmed(f"Refund {many} of payment {payment.id}?", yes=yes):
        raise Failed("nothing was refunded")
    owner = sending.begin(on, payment.id, wanted, seen.refunds, datetime.now(UTC))
    try:
        before = _standing(on, provider, payment, found)
        _checked(wanted, before)
        if before.refunds != seen.refunds:
            raise TryAgain("somebody has refunded some of it just now; look again")
        details = {"payment": payment.id, "amount": str(wanted), "currency": seen.currency}
        audit.write(on, "refund", reason, now, found.about, **details)
    except BaseException:
        sending.end(on, payment.id, owner)
        raise
    try:
        row = _refunded(provider, payment, wanted, reason, before)
    except TryAgain:
        raise
    except Failed:  # refused: whatever else happens from here on, nobody knows what became of it
        sending.end(on, payment.id, owner)
        raise
    made = str(row["_id"])
    sending.end(on, payment.id, owner, (made, wanted))
    after = replace(before, refunds={**before.refunds, made: wanted})
    _tell(found, payment, after, made, wanted, status=str(row.get("status", "unknown")), as_json=as_json)


def _shown(stack: Stack, payment: Payment, seen: Standing, now: datetime) -> tuple[str, Decimal] | None:
    """The refund whose answer was lost, and which shows now. Raises TryAgain where nobody knows of it yet."""
    sent = sending.read(stack, payment.id)
    if sent.owner is None:
        return None
    new = [
        identity for identity, amount in seen.refunds.items() if identity not in sent.known and amount == sent.amount
    ]
    if len(new) == 1:
        sending.end(stack, payment.id, sent.owner, (new[0], sent.amount))
        return new[0], sent.amount
    if now - datetime.fromisoformat(sent.at) < sending.UNKNOWN:
        raise sending.under_way(payment.id, sent)
    return None


def _tell(
    found: Subject, payment: Payment, after: Standing, identity: str, amount: Decimal, *, status: str, as_json: bool
) -> None:
    if not as_json:
        told = f"Refunded {amount} {after.currency} ({printable(status)}): {printable(identity)}."
        tell(f"{told} The order shows it as soon as a webhook comes.")
        return
    print_json(
        {
            "refund": identity,
            "payment": payment.id,
            "order_id": found.about if found.order else None,
            "amount": str(amount),
            "currency": after.currency,
            "status": printable(status),
            "left": str(after.left),
        }
    )


def _standing(stack: Stack, provider: Provider, payment: Payment, found: Subject) -> Standing:
    """What Pocketsflow says, and refunds that only `pf` or the ledger have heard of yet. Raises Failed."""
    order = provider.order(payment.id)
    if order is None:
        raise Failed(f"Pocketsflow does not know the payment {payment.id}")
    paid, currency = order.get("grossAmount"), order.get("currency")
    if not isinstance(paid, Decimal):
        raise Failed(f"Pocketsflow does not say what was paid for {payment.id}; refund it in the dashboard")
    rows = provider.refunds(order)
    failed = {row.get("_id") for row in rows if row.get("status") == _FAILED}
    refunds = {**sending.read(stack, payment.id).refunds, **_heard_of(stack, found, payment), **_amounts(rows)}
    counting = {identity: each for identity, each in refunds.items() if identity not in failed}
    return Standing(paid, printable(str(currency or "")), counting, order)


def _amounts(rows: Iterable[Row]) -> dict[str, Decimal]:
    """Pending ones count: that money is on its way. Raises Failed for a refund of nobody knows how much."""
    found: dict[str, Decimal] = {}
    for row in rows:
        if not isinstance(row.get("amount"), Decimal) or not isinstance(row.get("_id"), str):
            raise Failed("a refund in Pocketsflow's list has no amount; refund this one in the dashboard")
        found[row["_id"]] = row["amount"]
    return found


def _heard_of(stack: Stack, found: Subject, payment: Payment) -> dict[str, Decimal]:
    """By webhook: with the order, or still beside the payment."""
    from payments import ledger, orders

    told = items.get(stack, f"sale#{payment.id}") or {}
    if found.order is not None:
        told |= items.get(stack, found.order["pk"]) or {}
    return orders.refunds(ledger.facts_of(told), payment.id)


def _checked(wanted: Decimal, standing: Standing) -> Decimal:
    """Raises Failed."""
    if standing.left <= 0:
        raise Failed(f"nothing is left: {standing.refunded} of {standing.paid} {standing.currency} were refunded")
    if wanted > standing.left:
        raise Failed(f"{wanted} is more than is left: {standing.left} {standing.currency}")
    return wanted


def _show(stack: Stack, found: Subject, payment: Payment, seen: Standing, wanted: Decimal) -> None:
    rows = [
        ("order", found.about if found.order is not None else "-"),
        ("payment", f"{payment.id} ({subject.role(stack, found.order, payment)})"),
        ("paid", f"{seen.paid} {seen.currency}"),
        *((f"refund {identity}", f"{amount} {seen.currency}") for identity, amount in seen.refunds.items()),
        ("left", f"{seen.left} {seen.currency}"),
        ("to refund", f"{wanted} {seen.currency}"),
    ]
    for name, value in rows:
        click.echo(printable(f"{name:<{_WIDTH}}  {value}"))


def _refunded(provider: Provider, payment: Payment, wanted: Decimal, reason: str, before: Standing) -> Row:
    """The refund as Pocketsflow has it. Raises TryAgain where nobody knows whether there is one."""
    try:
        row = provider.refund(payment.id, wanted, reason)
        if isinstance(row.get("_id"), str):
            return row
        told = "Pocketsflow's answer names none"
    except TryAgain as lost:
        told = lost.message
    try:
        rows = provider.refunds(before.order)
    except (TryAgain, Failed):
        rows = []
    new: list[Any] = [
        row
        for row in rows
        if row.get("_id") not in before.refunds and row.get("amount") == wanted and row.get("status") != _FAILED
    ]
    if len(new) == 1:
        return dict(new[0])
    raise TryAgain(
        f"nobody knows whether {wanted} {before.currency} of {payment.id} were refunded ({told}), and Pocketsflow's"
        " list of refunds does not tell: look there before you try again"
    )
