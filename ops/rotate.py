"""`pf rotate`: another webhook secret, while events come in and none is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import click

from ops import api_key as keys
from ops import cli, webhooks
from ops.cli import Failed, TryAgain, json_option, print_json, printable, reason_option, tell
from ops.provider import Provider, stored_api_key
from ops.stack import Stack
from ops.webhooks import View, Webhook

GRACE = 15
"""Minutes: by then every event that was on its way to the old endpoint has come."""


@click.command()
@click.option(
    "--grace", type=click.IntRange(0, 1440), metavar="MINUTES", help=f"How long both count; {GRACE} if not said."
)
@click.option("--finish", is_flag=True, help="Go on with a rotation that is under way, and begin none.")
@click.option("--api-key", "of_api_key", is_flag=True, help="Put another API key in the place of the stored one.")
@keys.key_file_option
@reason_option(required=False)
@json_option
@click.pass_obj
def rotate(
    stack: Callable[[], Stack],
    *,
    grace: int | None,
    finish: bool,
    of_api_key: bool,
    key_file: IO[str] | None,
    reason: str,
    as_json: bool,
) -> None:
    """Puts a new webhook secret in the place of the old one.

    Makes a second endpoint at Pocketsflow and has both count for a while, in which each event comes twice and settles
    once; then ends the old one. At a terminal it waits for that; elsewhere it ends with exit code 75 and says when to
    run it again. Broken off anywhere, it goes on from there.
    """
    if of_api_key and (finish or grace is not None):
        raise click.UsageError("--api-key has no --grace and no --finish")
    if key_file is not None and not of_api_key:
        raise click.UsageError("--key-file needs --api-key")
    found = stack()
    found.enter()
    if of_api_key:
        keys.store(found, keys.ask(found, key_file), "rotate", reason)
        told = {"rotated": "api_key"}
        tell("The new API key is stored. Functions that run notice it within five minutes; revoke the old one then.")
    else:
        webhook = Webhook(found, Provider(found, stored_api_key(found)), "rotate", reason)
        told = _rotate(webhook, grace, begins=not finish)
    if as_json:
        print_json(told)


def _rotate(webhook: Webhook, grace: int | None, *, begins: bool) -> dict[str, Any]:
    view = webhook.without_leftovers()
    if view.rotation is None:
        if not begins:
            webhook.tidy()
            tell("No rotation is under way.")
            return {"rotated": None}
        view = _begin(webhook, view, GRACE if grace is None else grace)
    elif grace is not None and view.rotation["grace"] != grace:
        webhook.note_rotation({**view.rotation, "grace": grace})
        view = webhook.look()
    new = _ensure_new(webhook, view)
    view = webhook.look()
    endpoint, rotation = view.of(new), view.rotation or {}
    if "active_at" not in rotation or not endpoint.active or endpoint.missing:
        webhook.await_functions(view, endpoint)
        webhook.test(view.words_of(new))
        if not endpoint.active or endpoint.missing:
            webhook.activate(endpoint)
        rotation = {**rotation, "new": new, "active_at": datetime.now(UTC).isoformat()}
        webhook.note_rotation(rotation)
        tell(f"Endpoint {printable(new)} has all events from now on, and its secret is taken.")
    _wait(max(_ends_at(rotation), webhooks.known_at(view.notes[new])))
    _end(webhook, new, rotation["old"])
    return {"rotated": "webhook_secret", "endpoint": new, "ended": rotation["old"]}


def _begin(webhook: Webhook, view: View, grace: int) -> View:
    if not view.endpoints:
        raise Failed("no endpoint leads here, so there is nothing to rotate; run `pf init`")
    webhook.audit("begin", grace=str(grace))
    by_hand = [(endpoint.id, view.unclaimed) for endpoint in view.endpoints if endpoint.id not in view.notes]
    old = [endpoint.id for endpoint in view.endpoints]
    webhook.note_rotation({"old": old, "begun_at": datetime.now(UTC).isoformat(), "grace": grace}, by_hand)
    return webhook.look()


def _ensure_new(webhook: Webhook, view: View) -> str:
    """The endpoint that stays. One whose secret is lost, or that somebody has deleted, is made anew."""
    old = (view.rotation or {})["old"]
    for endpoint in view.endpoints:
        if endpoint.id in old:
            continue
        if view.words_of(endpoint.id):
            return endpoint.id
        webhook.delete(endpoint.id)
    if "active_at" in (view.rotation or {}):
        webhook.note_rotation({name: value for name, value in (view.rotation or {}).items() if name != "active_at"})
    return webhook.make()


def _ends_at(rotation: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(rotation["active_at"]) + timedelta(minutes=rotation["grace"])


def _wait(until: datetime) -> None:
    now = datetime.now(UTC)
    if now >= until:
        return
    at = f"{until + timedelta(minutes=1):%H:%M} UTC"  # the next full minute
    if not cli.is_terminal():
        raise TryAgain(f"the old endpoint stays until {until:%H:%M:%S} UTC; run the same command again after {at}")
    tell(f"Both endpoints count until {until:%H:%M:%S} UTC. You may end this, and run it again after {at}.")
    webhooks.wait_until(until, "Waiting for events on their way to the old endpoint")


def _end(webhook: Webhook, new: str, old: list[str]) -> None:
    """The old ones, after a last look at the new one: without it nothing would come any more."""
    view = webhook.look()
    words = view.words_of(new)
    if not words or not view.of(new).active:
        raise TryAgain(
            f"endpoint {printable(new)} is not active any more, or its secret was lost; run `pf rotate` again"
        )
    webhook.test(words)
    for endpoint in view.endpoints:
        if endpoint.id in old:
            webhook.delete(endpoint.id)
    webhook.tidy()
    webhook.audit("end", endpoint=new)
    webhook.note_rotation(None)
    tell(f"Done: only endpoint {printable(new)} leads here, and only its secret is taken.")
