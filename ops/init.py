"""`pf init`: from a stack that is deployed to one that takes payments."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import click

from ops import api_key as keys
from ops import webhooks
from ops.cli import json_option, print_json, printable, reason_option, tell
from ops.provider import Provider
from ops.stack import Stack
from ops.webhooks import Endpoint, View, Webhook
from payments.event_names import EVENTS
from sandbox.template import ROOT


@dataclass(frozen=True)
class Registered:
    endpoint: str
    did: str
    """`kept`, `completed` (it was inactive, or lacked events), `created` or `replaced`."""


@click.command()
@keys.key_file_option
@reason_option(required=False)
@json_option
@click.pass_obj
def init(stack: Callable[[], Stack], key_file: IO[str] | None, reason: str, as_json: bool) -> None:
    """Stores the API key and registers the webhook.

    Asks for the key, has Pocketsflow check it, registers the webhook's address there, stores its secret, and sends a
    signed test through the public address. What is right already is kept: run it as often as you like, also after it
    broke off.
    """
    found = stack()
    api_key, key_did = _api_key(found, key_file, reason)
    registered = register(Webhook(found, Provider(found, api_key), "init", reason))
    if as_json:
        print_json(
            {
                "api_key": key_did,
                "endpoint": {"id": registered.endpoint, "did": registered.did},
                "self_test": "passed",
                "api_url": found.output("ApiUrl"),
                "webhook_url": found.output("WebhookUrl"),
            }
        )
        return
    _say_what_is_next(found)


def _api_key(stack: Stack, key_file: IO[str] | None, reason: str) -> tuple[str, str]:
    kept = keys.stored(stack) if key_file is None else None
    if kept is not None:
        tell("API key: Pocketsflow takes the stored one; kept.")
        return kept, "kept"
    given = keys.ask(stack, key_file)
    if given == keys.stored(stack):
        tell("API key: it is the stored one; kept.")
        return given, "kept"
    keys.store(stack, given, "init", reason)
    tell("API key: Pocketsflow takes it; stored. Functions that run notice a new one within five minutes.")
    return given, "stored"


def register(webhook: Webhook) -> Registered:
    """One endpoint that leads here, active, with all events, whose secret is stored and is taken. Goes on where a run
    before it ended. Raises Failed and TryAgain."""
    view = webhook.without_leftovers()
    if not _known(view) and _proves_one(webhook, view):
        view = webhook.look()
    endpoint = _known(view)
    replaced: list[Endpoint] = []
    made = None
    if endpoint is None:
        replaced = list(view.endpoints)
        for each in replaced:
            words = view.unclaimed if each.id not in view.notes else []
            if words or each.id not in view.notes:
                webhook.note(each.id, words, refused=True)
        if replaced:
            tell("Webhook: of the endpoint that leads here no secret is stored; a new one takes its place.")
        made = webhook.make()
        view = webhook.look()
        endpoint = view.of(made)
    webhook.await_functions(view, endpoint)
    webhook.test(view.words_of(endpoint.id))
    tell("Webhook: a signed test came through the public address.")
    did = "kept"
    if made is not None:
        did = "replaced" if replaced else "created"
    elif endpoint.missing or not endpoint.active:
        did = "completed"
    if endpoint.missing or not endpoint.active:
        webhook.activate(endpoint)
    tell(f"Webhook: endpoint {printable(endpoint.id)} {did}; it has all {len(EVENTS)} events.")
    if view.rotation is not None:
        tell("A rotation of the webhook's secret is under way; `pf rotate` goes on with it.")
    else:
        _end_others(webhook, endpoint)
        webhook.tidy()
    return Registered(endpoint.id, did)


def _known(view: View) -> Endpoint | None:
    """Whose secret is stored: an active one before another."""
    known = [endpoint for endpoint in view.endpoints if view.words_of(endpoint.id)]
    return next((endpoint for endpoint in known if endpoint.active), known[0] if known else None)


def _proves_one(webhook: Webhook, view: View) -> bool:
    """Whether of those that somebody made by hand the secret of one is stored; it is known from then on."""
    return any(endpoint.id not in view.notes and webhook.prove(view, endpoint) for endpoint in view.endpoints)


def _end_others(webhook: Webhook, endpoint: Endpoint) -> None:
    """Those that lead here too: one whose deliveries are refused goes once the other is known everywhere, one whose
    secret is stored is left to `pf rotate`."""
    view = webhook.look()
    for other in view.endpoints:
        if other.id == endpoint.id:
            continue
        is_known = bool(view.words_of(other.id)) or (other.id not in view.notes and webhook.prove(view, other))
        if is_known:
            tell(f"Webhook: {printable(other.id)} leads here, too: each event comes twice. `pf rotate` leaves one.")
            continue
        if endpoint.id in view.notes:
            webhooks.wait_until(webhooks.known_at(view.notes[endpoint.id]), "Waiting until the old one can go")
        webhook.delete(other.id)
        tell(f"Webhook: endpoint {printable(other.id)} deleted; nothing that it sent could be accepted.")


def _say_what_is_next(stack: Stack) -> None:
    address = stack.output("ApiUrl")
    tell(f"\nThe stack {stack.name} takes payments of mode {stack.mode}. Put its address into your shop's pages:\n")
    click.echo(f'data-api="{address}"')
    tell(
        "\nThen make the first payment from such a page, or open the `url` that this answers:\n\n"
        f"curl -sS {address}/checkout -H 'Content-Type: application/json' -d '{_first_product()}'\n\n"
        f"`{_command(stack)} doctor` says at any time whether everything is as it should be."
    )


def _command(stack: Stack) -> str:
    return "pf --sandbox" if stack.is_sandbox else f"pf --stack {stack.name}"


def _first_product() -> str:
    """What a checkout asks for."""
    from payments.catalogue import Invalid, load

    try:
        skus = list(load(ROOT / "functions/catalogue.json"))
    except Invalid:
        skus = []
    return json.dumps({"sku": skus[0]} if skus else {"productId": "24 hex digits, at Pocketsflow"})
