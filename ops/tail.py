"""`pf tail`: what a stack publishes, as it happens; `pf listen`: the webhooks behind it, sent on to this machine."""

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from ops import items, story, tap
from ops.cli import Failed, console, json_option, print_lines, printable, tell
from ops.items import Item
from ops.people import hidden, personal_option
from ops.stack import Stack
from ops.story import Json
from sandbox.template import ROOT

TYPES = tuple(sorted(path.stem for path in (ROOT / "infra/events").glob("*.*.json")))
COLOURS = {"order.paid": "green", "payment.foreign": "dim", "webhook.other": "dim"}
BAD = ("payment.second", "payment.mismatched", "payment.unmatched", "ledger.drift", "order.disputed")
FORWARD_SECONDS = 5
"""As long as Pocketsflow waits for the answer to a webhook."""

seconds_option = click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so many seconds.",
)


def _until(seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + seconds


# --- pf tail ----------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--type", "types", type=click.Choice(TYPES), multiple=True, help="Only these; as often as you like.")
@click.option("--order", "order_id", metavar="ID", help="Only events about this order.")
@seconds_option
@personal_option
@json_option
@click.pass_obj
def tail(
    stack: Callable[[], Stack],
    *,
    types: tuple[str, ...],
    order_id: str | None,
    seconds: float | None,
    personal: bool,
    as_json: bool,
) -> None:
    """Prints what the stack publishes, as it happens, until Ctrl-C.

    A queue and a rule of its own make it so, and are removed at the end. --json prints JSON Lines.
    """
    here = stack()
    pattern: dict[str, Any] = {"detail-type": list(types)} if types else {}
    if order_id:
        pattern["detail"] = {"order_id": [order_id]}
    with suppress(KeyboardInterrupt), tap.opened(here, pattern, datetime.now(UTC)) as opened:
        tell(f"Listening to {opened.name}; Ctrl-C ends it.")
        for event in opened.events(_until(seconds)):
            shown = event if personal else hidden(event)
            if as_json:
                print_lines([shown])
            else:
                show(shown)


def show(event: tap.Event, more: str = "") -> None:
    """On a line. What an event holds may be a stranger's."""
    from rich.text import Text

    kind, detail = str(event.get("detail-type")), event.get("detail")
    about = detail if isinstance(detail, dict) else {}
    colour = "red" if kind in BAD else COLOURS.get(kind, "cyan")
    words = [about.get("order_id") or about.get("subject") or "-", *_particulars(about), more]
    line = Text.assemble(
        (printable(str(event.get("time"))[:19].replace("T", " ")), "dim"),
        "  ",
        (f"{printable(kind):28}", colour),
        "  ",
        printable("  ".join(str(word) for word in words if word)),
    )
    console().print(line, soft_wrap=True)


def _particulars(detail: Json) -> Iterator[str]:
    payment, refund, subscription = (
        found if isinstance(found := detail.get(name), dict) else {} for name in ("payment", "refund", "subscription")
    )
    yield str(detail.get("status") or subscription.get("state") or "")
    yield story.amount(payment)
    if refund.get("id"):
        yield f"refund {refund['id']} {refund.get('amount') or ''}".strip()
    if payment.get("id"):
        yield f"payment {payment['id']}"


# --- pf listen --------------------------------------------------------------------------------------------------------


class Webhook(NamedTuple):
    """A signed body, and the event that it came as."""

    body: bytes
    event: str


def _is_local(_ctx: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.port != 0 and parts.username is None
        fine = fine and parts.hostname in ("127.0.0.1", "localhost", "::1") and not re.search(r"[^!-~]|\\", url)
    except ValueError:
        fine = False
    if not fine:
        raise click.BadParameter("must be an address of this machine, like http://localhost:8001/webhooks/pocketsflow")
    return url


@click.command()
@click.option("--forward", metavar="URL", callback=_is_local, help="Where to send each webhook on: this machine only.")
@seconds_option
@json_option
@click.pass_obj
def listen(stack: Callable[[], Stack], forward: str | None, seconds: float | None, as_json: bool) -> None:
    """Prints what a test stack receives, and sends its webhooks on to this machine, until Ctrl-C.

    Each is signed anew with the stack's webhook secret, and has the very bytes that came. --json prints JSON Lines.
    """
    here = stack()
    if here.mode != "test":
        raise Failed(f"{here.name} is a live stack: buyers' data does not leave it; listen to a test stack")
    here.enter()
    secret = _secret(here) if forward else ""
    seen: set[str] = set()
    with suppress(KeyboardInterrupt), tap.opened(here, {}, datetime.now(UTC)) as opened:
        tell(f"Listening to {opened.name}; Ctrl-C ends it.")
        for event in opened.events(_until(seconds)):
            told = event.get("detail")
            if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("id", "subject")):
                tell(f"An event of none of this project's: {printable(str(event.get('detail-type')))}")
                continue
            if told["id"] in seen:  # the bus delivers at least once
                continue
            seen.add(told["id"])
            webhook = received(here, event["detail-type"], told)
            outcome = _forward(forward, webhook, secret) if webhook and forward else None
            if as_json:
                print_lines([{"event": hidden(event), "webhook": webhook and webhook.event, "forwarded": outcome}])
            elif webhook is None:
                show(hidden(event), "no webhook: the API told it")
            else:
                show(hidden(event), f"{webhook.event} → {outcome}" if outcome else webhook.event)


def _secret(stack: Stack) -> str:
    client = stack.client("secretsmanager")
    try:
        value = client.get_secret_value(SecretId=stack.output("WebhookSecretsSecret")).get("SecretString", "")
    except client.exceptions.ResourceNotFoundException:
        value = ""
    secrets = [word for word in value.split() if word.startswith("whsec_")]
    if not secrets:
        raise Failed("the stack has no webhook secret, with which to sign; store the one of its endpoint first")
    return str(secrets[0])


def received(stack: Stack, kind: str, detail: Json) -> Webhook | None:
    """The webhook that made an event; None when none did. The stack is entered.

    An event's id is the hash of its item, fact and type (functions/payments/outbox.py): that finds the fact.
    """
    from ops import journal

    pk = detail["subject"]
    item = items.get(stack, pk) or {"pk": pk}
    if pk.startswith("raw#"):
        name = detail.get("webhook", {}).get("event") or "unknown"
        return Webhook(item["body"], name) if item.get("body") else None
    if pk.startswith("subscription#"):
        return _of_subscription(stack, item)
    hashed = {hashlib.sha256(f"{pk}\n{name}\n{kind}".encode()).hexdigest(): name for name in item}
    fact_name = hashed.get(detail["id"], "")
    if fact_name == "verdict":
        fact_name = next((name for name in item if name.startswith(("pay#", "sub#"))), "")
    fact = story.facts(item).get(fact_name, {})
    body = fact.get("raw")
    if body is None and "raw_item" in fact:
        body = (items.get(stack, fact["raw_item"]) or {}).get("body")
    return None if not body else Webhook(body, journal.event_of(fact_name, body) or "unknown")


def _of_subscription(stack: Stack, item: Item) -> Webhook | None:
    """Its state was written with the body's arrival, at the same moment."""
    identity = item["pk"].partition("#")[2].encode()
    for raw in items.scan(stack, ("raw#",)):
        for arrival in raw["arrivals"] if identity in raw.get("body", b"") else []:
            if (arrival["reason"], arrival["at"]) == ("subscription", item.get("at")):
                return Webhook(raw["body"], arrival["event"])
    return None


def _forward(url: str, webhook: Webhook, secret: str) -> str:
    """What became of it, in a word."""
    import requests

    headers = {
        "Content-Type": "application/json",
        "X-Pocketsflow-Event": webhook.event,
        "X-Pocketsflow-Signature": hmac.new(secret.encode(), webhook.body, "sha256").hexdigest(),
        "X-Pocketsflow-Timestamp": str(int(time.time() * 1000)),
    }
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no .netrc: it stays on this machine
        try:
            answer = session.post(
                url, data=webhook.body, headers=headers, timeout=FORWARD_SECONDS, allow_redirects=False, stream=True
            )
        except requests.Timeout:
            return f"no answer within {FORWARD_SECONDS} s"
        except requests.RequestException as error:
            return f"not delivered ({type(error).__name__})"
        with answer:
            return str(answer.status_code)
