"""`pf trigger`: a sample of any event that is handled, signed as Pocketsflow signs it, through the public address."""

import secrets
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from ops import items, web, webhooks
from ops.cli import Failed, TryAgain, json_option, print_json, printable, tell
from ops.stack import Stack
from payments.event_names import EVENTS
from sandbox.template import ROOT

SAMPLES = Path(__file__).parent / "samples"
"""A body for each event, whose `webhookId` says who sent it; ids and metadata are put in."""

Content = dict[str, Any]


@click.command()
@click.argument("event", type=click.Choice(EVENTS), required=False, metavar="EVENT")
@click.option("--order", "order_id", metavar="ID", help="Our order that it is about.")
@click.option(
    "--product", metavar="ID", help="Pocketsflow's product; by default the order's, or the catalogue's first."
)
@click.option("--payment", metavar="ID", help="Pocketsflow's order that it is about; by default a new one.")
@click.option("--subscription", metavar="ID", help="The buyer's subscription; by default the order's, or a new one.")
@click.option("--list", "lists", is_flag=True, help="Name the events.")
@json_option
@click.pass_obj
def trigger(
    stack: Callable[[], Stack],
    *,
    event: str | None,
    order_id: str | None,
    product: str | None,
    payment: str | None,
    subscription: str | None,
    lists: bool,
    as_json: bool,
) -> None:
    """Sends a sample of EVENT to the sandbox or a test stack.

    It is signed with the stack's secret and goes through the public address, like Pocketsflow's own. With --order it
    settles that order; without, it is a payment of nobody's. Pocketsflow knows nothing of it, and reconciliation will
    say so.
    """
    if lists:
        print_json([*EVENTS]) if as_json else click.echo("\n".join(EVENTS))
        return
    if event is None:
        raise click.UsageError("name an event, or give --list")
    found = stack()
    if found.mode == "live":
        raise Failed(f"the stack {found.name} is live: a made-up event would change real orders")
    found.enter()
    order = _order(found, order_id) if order_id else {}
    content, about = _content(
        event, order, order_id=order_id, product=product, payment=payment, subscription=subscription
    )
    answer = _sent(found, event, content)
    if as_json:
        print_json({"event": event, "status": answer.status, "outcome": answer.outcome, **about})
    else:
        ids = "  ".join(f"{name} {printable(value)}" for name, value in about.items())
        click.echo(f"{event}  {answer.status} {answer.outcome}  {ids}".rstrip())
    if answer.status != 200:
        kind = TryAgain if answer.status >= 500 else Failed
        raise kind(f"the webhook did not take it ({answer.status} {answer.outcome}); `pf doctor` looks at everything")
    if answer.outcome == "unmatched" and not order_id:
        tell("It named no order, so it belongs to none: --order ID settles one.")


def _order(stack: Stack, order_id: str) -> Content:
    order = items.get(stack, f"order#{order_id}")
    if order is None:
        raise Failed(f"there is no order {printable(order_id)} in stage {stack.stage}")
    return order


def _content(
    event: str,
    order: Content,
    *,
    order_id: str | None,
    product: str | None,
    payment: str | None,
    subscription: str | None,
) -> tuple[Content, dict[str, str]]:
    """The body, and the ids in it that a further event may be about."""
    content = _sample(event)
    paid = {name.partition("#")[0]: name.partition("#")[2] for name in order.get("payments", [])}
    sold = _sold(product or order.get("product_id") or None)
    if product is None and order.get("hold_on_difference"):  # nothing else would settle it
        sold |= {"price": Decimal(order["price"]), "currency": order["currency"]}
    metadata = {"external_order_id": order_id} if order_id else {}
    if event.startswith("order."):
        identity = payment or (paid.get("pay") if event == "order.refunded" else None) or _new_id()
        about = {"payment": identity}
        content["order"]["id"] = identity
        if event == "order.refunded":
            content["refund"] |= {"id": _new_id(), "amount": sold["price"]}
            about["refund"] = content["refund"]["id"]
        else:
            variant = order.get("variant_id") or (None if order else sold["variant"])
            content["product"] = {"id": sold["id"], "variantId": variant}
            content |= {"amount": sold["price"], "amountBeforeTax": sold["price"], "currency": sold["currency"]}
            content["tax"] |= {"amount": Decimal(0), "rate": Decimal(0), "percentage": Decimal(0)}
    else:
        identity = subscription or paid.get("sub") or _new_id()
        about = {"subscription": identity}
        portal = f"https://app.pocketsflow.com/portal/{sold['id']}/{identity}"
        content |= {"subscriptionCustomerId": identity, "portalUrl": portal}
        content["subscription"]["id"] = sold["id"]
        content["subscriptionCustomer"]["id"] = identity
    content["metadata"] = metadata
    return content, {**({"order": order_id} if order_id else {}), **about}


def _sold(product: str | None) -> Content:
    """A product as the catalogue has it, or as it may be."""
    from payments.catalogue import Invalid, load

    try:
        known = list(load(ROOT / "functions/catalogue.json").values())
    except Invalid as invalid:
        raise Failed(str(invalid)) from None
    if product is None and not known:
        raise Failed("there is no catalogue; give --product")
    for item in known:
        if product in (None, item.product_id):
            return {"id": item.product_id, "variant": item.variant_id, "price": item.price, "currency": item.currency}
    return {"id": product, "variant": None, "price": Decimal("49.00"), "currency": "usd"}


def _sample(event: str) -> Content:
    from payments import strictjson

    content: Content = strictjson.parse((SAMPLES / f"{event}.json").read_bytes())
    return content


def _sent(stack: Stack, event: str, content: Content) -> web.Answer:
    words = webhooks.stored_words(stack)
    secret = next((word for word in words if webhooks.is_usable(word, sandbox=stack.is_sandbox)), None)
    if secret is None:
        raise Failed("no webhook secret is stored; run `pf init`")
    url = stack.output("WebhookUrl")
    try:
        return web.deliver(url, event, content, secret)
    except web.NoAnswer:
        raise TryAgain(f"{url} does not answer; whether it was taken nobody knows") from None


def _new_id() -> str:
    """As Pocketsflow's are."""
    return secrets.token_hex(12)
