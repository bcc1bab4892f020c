"""`pf settle`: a person decides that a payment is an order's, where nothing else can."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ops import audit, items
from ops.cli import Failed, TryAgain, confirmed, json_option, print_json, printable, reason_option, tell, yes_option
from ops.provider import Provider
from ops.stack import Stack

if TYPE_CHECKING:
    from payments.events import Payment


@click.command()
@click.option("--order", "order_id", metavar="ID", required=True, help="Our order.")
@click.option("--payment", "payment_id", metavar="ID", required=True, help="Pocketsflow's order or subscription.")
@reason_option(required=True)
@yes_option
@json_option
@click.pass_obj
def settle(
    stack: Callable[[], Stack], *, order_id: str, payment_id: str, reason: str, yes: bool, as_json: bool
) -> None:
    """Makes a payment settle an order.

    For a payment that names no order (unmatched), or one that is for something else than was ordered (mismatched). It
    can be done once for an order that nothing has settled, and never with a payment that belongs to another one.
    """
    found = stack()
    found.enter()
    from payments import ledger

    order = ledger.read(order_id)
    if order is None:
        raise Failed(f"there is no order {printable(order_id)} in stage {found.stage}")
    held = next((name for name in order.get("payments", []) if name.partition("#")[2] == payment_id), None)
    _check_open(order, held)
    fact = _asked(found, order_id, payment_id, order.get(held or "", {}))
    paid = order[held] if held else ledger.fact_fields(fact, None, datetime.now(UTC), "person")
    tell(f"order    {order_id}: {_what(order)}")
    tell(f"payment  {payment_id}: {_what(paid)}")
    if not confirmed("Does this payment settle this order, for ever?", yes=yes):
        raise Failed("not settled")
    now = datetime.now(UTC)
    audit.write(found, "settle", reason, now, about=order_id, payment=payment_id)
    _settle(order_id, fact, now)
    state = ledger.state(order_id)
    status = state.status if state else None
    if as_json:
        print_json({"order_id": order_id, "payment_id": payment_id, "status": status})
    else:
        tell(f"Settled: the order is {status}.")


def _check_open(order: dict[str, Any], held: str | None) -> None:
    from payments import ledger, orders

    facts = ledger.facts_of(order)
    winner = orders.winner(ledger.item_of(order), facts, order.get("payments", []))
    if winner is not None:
        raise Failed(f"the order is settled by payment {winner.partition('#')[2]}; see `pf order`")
    if held is not None and orders.is_void(facts, held):
        raise Failed("the payment belongs to another order; see `pf order` with its id")
    if "accepted" in facts:
        raise Failed("a person has decided about this order before; see `pf order`")


def _asked(stack: Stack, order_id: str, payment_id: str, held: dict[str, Any]) -> "Payment":
    """The payment as Pocketsflow, or for a subscription the ledger, knows it now; `held` is what lies in the order of
    it. Raises Failed."""
    from payments import events, fields, rows

    if fields.identifier(payment_id) != payment_id:
        raise Failed("that is no id of a payment")
    subscription = items.get(stack, f"subscription#{payment_id}") or {}
    sale = items.get(stack, f"sale#{payment_id}") or {}
    owner = subscription.get("order_id") or sale.get("order_id")
    if owner not in (None, order_id):
        raise Failed(f"the payment belongs to order {owner}, for ever")
    if held.get("kind") == "subscription" or "state" in subscription:
        told = {**held, **subscription}
        state = told.get("state")
        if state in ("ended", "past_due") and not told.get("payments"):
            raise Failed(f"nobody has paid the subscription, which is {state}: it settles nothing")
        return events.Payment(
            kind="subscription",
            id=payment_id,
            order_id=order_id,
            product_id=told["product_id"],
            variant_id=None,
            amount=None,
            amount_before_tax=None,
            currency=None,
            email=told.get("customer_email"),
            confirmed=False,
            state=state,
            customer_reference=told.get("customer_reference"),
        )
    row = Provider(stack).order(payment_id)
    if row is None:
        raise Failed(f"Pocketsflow knows no payment {payment_id}")
    if rows.is_subscription(row) or f"renewal#{payment_id}" in sale:
        raise Failed("the payment is a subscription's; give the id of the subscription")
    found = rows.sale(row)
    if found is None:
        raise TryAgain("Pocketsflow's answer is not what it should be")
    if found.test_mode is not None and found.test_mode != (stack.mode == "test"):
        raise Failed(f"the payment is of the other mode; this stack's is {stack.mode}")
    if found.flags.refunded or found.flags.disputed:
        raise Failed(f"the payment is {'refunded' if found.flags.refunded else 'disputed'}: it settles nothing")
    return found.of(order_id).payment


def _settle(order_id: str, fact: "Payment", now: datetime) -> None:
    """The same settlement as a webhook's; what does not fit is accepted besides."""
    from payments import ledger, orders

    held = ledger.fact_name(fact)
    ledger.record(fact, None, now, "person")
    order = ledger.read(order_id)
    if order is None or held not in order:
        raise TryAgain("the payment is not in the order yet; run the same command again")
    if not _link(order_id, order, held, now):
        ledger.disown(order_id, order[held], now)
        raise Failed("the payment was made another order's at this moment; see `pf order` with its id")
    facts, payments = ledger.facts_of(order), order["payments"]
    if orders.winner(ledger.item_of(order), facts, payments) not in (held, None):
        raise Failed("meanwhile another payment has settled the order; see `pf order`")
    if orders.fits(ledger.item_of(order), order[held]) or ledger.accept(order_id, held, len(payments), now):
        return
    if (ledger.read(order_id) or {}).get("accepted", {}).get("payment") != held:  # else it was this call's, sent twice
        raise TryAgain("the order changes at this moment; look at it with `pf order`, and run the same command again")


def _link(order_id: str, order: dict[str, Any], name: str, now: datetime) -> bool:
    """Makes the payment the order's before anybody is told that it is; the relay does so again."""
    from payments import sales, subscriptions

    if order[name]["kind"] == "subscription":
        return subscriptions.link(order_id, order[name], order, now)
    return sales.link(order_id, order[name], now, fresh=False)


def _what(thing: dict[str, Any]) -> str:
    parts = [
        thing.get("sku"),
        f"product {thing['product_id']}",
        f"variant {thing['variant_id']}" if thing.get("variant_id") else None,
        " ".join(str(thing[name]) for name in ("price", "amount", "currency") if thing.get(name) is not None) or None,
        str(thing.get("created_at") or thing.get("at")),
    ]
    return printable(", ".join(part for part in parts if part))
