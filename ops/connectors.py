"""`pf connector`: where events of the bus go on to, and what became of them (functions/connectors/)."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from ops import audit, functions, items
from ops.cli import (
    Failed,
    confirmed,
    is_terminal,
    json_option,
    print_json,
    progress,
    reason_option,
    table,
    tell,
    yes_option,
)
from ops.queues import Message, Queue
from ops.stack import Stack

OUTPUTS = {
    "storefront": "StorefrontConnector",
    "shopify": "ShopifyConnector",
    "woocommerce": "WooCommerceConnector",
    "membership": "MembershipConnector",
    "feed": "FeedConnector",
    "notices": "NoticesConnector",
}
"""Of the stack, by connector: each is there while the connector is on."""
MOST_LOOKED_AT = 200
SWITCHES = {
    "storefront": "StorefrontUrl",
    "shopify": "ShopifyShop",
    "woocommerce": "WooCommerceUrl",
    "membership": "Membership",
    "feed": "Feed",
    "notices": "NoticesTo",
}
"""Parameters of the template that switch them on."""
_NOTED = ("done_at", "failed_at", "failure", "disabled", "disabled_at")


@dataclass(frozen=True)
class Connector:
    name: str
    queue: Queue
    dead: Queue
    table: str
    function: str
    secret: str | None
    _dynamodb: Any

    def item(self, pk: str) -> dict[str, Any]:
        """Of its own table; {} for none."""
        answer = self._dynamodb.get_item(TableName=self.table, Key={"pk": {"S": pk}}, ConsistentRead=True)
        return items.plain(answer.get("Item", {}))

    def enable(self) -> None:
        self._dynamodb.update_item(
            TableName=self.table, Key={"pk": {"S": "connector"}}, UpdateExpression="REMOVE disabled, disabled_at"
        )

    def summary(self) -> dict[str, Any]:
        noted = self.item("connector")
        depths = {"waiting": self.queue.depth(), "dead": self.dead.depth()}
        return {"connector": self.name, **depths, **{name: noted.get(name) for name in _NOTED}}


def find(stack: Stack, name: str) -> Connector:
    """Raises Failed for one that is off."""
    if OUTPUTS[name] not in stack.outputs:
        raise Failed(f"the connector {name} is off; the parameter {SWITCHES[name]} switches it on, and a deployment")
    queue, dead, its_table, function, arn = stack.output(OUTPUTS[name]).split(" ")
    sqs, dynamodb = stack.client("sqs"), stack.client("dynamodb")
    its_secret = None if arn == "-" else arn
    return Connector(name, Queue(queue, sqs), Queue(dead, sqs), its_table, function, its_secret, dynamodb)


def all_on(stack: Stack) -> list[Connector]:
    return [find(stack, name) for name, output in OUTPUTS.items() if output in stack.outputs]


@click.group("connector")
def connector() -> None:
    """Where events go on to: your own server, Shopify, WooCommerce, members, a no-code tool, a mailbox."""


_name = click.argument("name", type=click.Choice(list(OUTPUTS)))


@connector.command("list")
@json_option
@click.pass_obj
def listed(stack: Callable[[], Stack], *, as_json: bool) -> None:
    """The connectors that are on, and how they are."""
    found = [each.summary() for each in all_on(stack())]
    if as_json:
        print_json(found)
    elif not found:
        tell("No connector is on; docs/connectors/ says how to switch one on.")
    else:
        table(["connector", "waiting", "dead", "last delivered", "last failure"], [_row(each) for each in found])


def _row(summary: dict[str, Any]) -> list[str]:
    failure = f"{summary['failure']} at {summary['failed_at']}" if summary["failure"] else "-"
    if summary["disabled"]:
        failure = f"DISABLED ({summary['disabled']}) since {summary['disabled_at']}"
    return [
        summary["connector"],
        str(summary["waiting"]),
        str(summary["dead"]),
        summary["done_at"] or "never",
        failure,
    ]


@connector.command("status")
@_name
@json_option
@click.pass_obj
def status(stack: Callable[[], Stack], *, name: str, as_json: bool) -> None:
    """How one is, and what lies among its dead letters and why."""
    found = find(stack(), name)
    summary = found.summary()
    dead = [_letter(found, message) for message in found.dead.look(min(summary["dead"], MOST_LOOKED_AT))]
    if as_json:
        print_json({**summary, "letters": dead})
        return
    table(["connector", "waiting", "dead", "last delivered", "last failure"], [_row(summary)])
    if dead:
        groups: dict[tuple[str, ...], int] = defaultdict(int)
        for each in dead:
            groups[each["type"] or "?", each["order_id"] or "-", each["failure"] or "?"] += 1
        rows = [[*group, str(number)] for group, number in sorted(groups.items())]
        table(["event", "order", "why", "how many"], rows, title="Dead letters")
        if (unseen := summary["dead"] - len(dead)) > 0:
            tell(f"{unseen} more were not looked at.")
        tell(f"When the cause is gone: pf connector retry {name}")


@connector.command("retry")
@_name
@click.option("--event", "event_id", metavar="ID", help="Only the event with this id.")
@yes_option
@reason_option(required=False)
@json_option
@click.pass_obj
def retry(
    stack: Callable[[], Stack], *, name: str, event_id: str | None, yes: bool, reason: str, as_json: bool
) -> None:
    """Tries its dead letters again, and has it send again if the other side had ended that.

    An event that was delivered meanwhile is not delivered twice.
    """
    on = stack()
    found = find(on, name)
    depth, is_disabled = found.dead.depth(), "disabled" in found.item("connector")
    if not depth and not is_disabled:
        if as_json:
            print_json({"connector": name, "moved": 0, "enabled": False})
        else:
            tell(f"{name} has no dead letters, and is not disabled.")
        return
    which = f"the event {event_id}" if event_id else f"{depth} events"
    question = f"Have {which} delivered to {name} again?" if depth else f"Send to {name} again?"
    if not confirmed(question, yes=yes):
        raise Failed("nothing was tried again")
    details = {"connector": name, "depth": str(depth), "event": event_id or "all"}
    audit.write(on, "connector retry", reason, datetime.now(UTC), **details)
    waiting = found.queue.depth()
    if is_disabled:
        found.enable()
    with progress("events", depth) as advance:
        moved = _take_out(found, depth, event_id, found.queue.put, advance)
    if event_id and not moved:
        raise _no_letter(name, event_id)
    if as_json:
        print_json({"connector": name, "moved": moved, "enabled": is_disabled})
        return
    if is_disabled:
        tell(f"{name} is sent to again, within twelve hours also what waits in its queue ({waiting}).")
    if depth:
        tell(f"{moved} events are tried again; pf connector status {name} shows what becomes of them.")


@connector.command("discard")
@_name
@click.option("--event", "event_id", metavar="ID", required=True, help="The event with this id; status --json has it.")
@yes_option
@reason_option(required=True)
@json_option
@click.pass_obj
def discard(stack: Callable[[], Stack], *, name: str, event_id: str, yes: bool, reason: str, as_json: bool) -> None:
    """Gives up a dead letter that can never be delivered, so that the alarm rings for the next.

    The ledger has it all the same: `pf republish ORDER` tells it again.
    """
    on = stack()
    found = find(on, name)
    depth = found.dead.depth()
    if not confirmed(f"Give up the event {event_id}, which {name} has not heard of?", yes=yes):
        raise Failed("nothing was given up")
    audit.write(on, "connector discard", reason, datetime.now(UTC), connector=name, event=event_id)
    with progress("events", depth) as advance:
        given_up = _take_out(found, depth, event_id, lambda _: None, advance)
    if not given_up:
        raise _no_letter(name, event_id)
    if as_json:
        print_json({"connector": name, "discarded": given_up})
    else:
        tell(f"Given up. {name} has not heard of it; pf republish tells it again.")


def _no_letter(name: str, event_id: str) -> Failed:
    return Failed(f"no dead letter of {name} is the event {event_id}")


def _take_out(
    found: Connector, depth: int, event_id: str | None, keep: Callable[[str], None], advance: Callable[[int], None]
) -> int:
    """Each is kept before it is deleted: what is interrupted in between comes twice, and is delivered once. Messages
    that are not meant stay hidden for a minute, so that each is looked at once."""
    taken = seen = 0
    while seen < depth and (messages := found.dead.take(depth - seen)):
        for message in messages:
            seen += 1
            if event_id in (None, _envelope(message).get("detail", {}).get("id")):
                keep(message["Body"])
                found.dead.delete(message)
                taken += 1
            advance(1)
    return taken


@connector.command("secret")
@_name
@reason_option(required=False)
@json_option
@click.pass_obj
def secret(stack: Callable[[], Stack], *, name: str, reason: str, as_json: bool) -> None:
    """Puts what the other side knows it by into its secret, in the place of what was there.

    Asked for without being shown, or read from standard input; several words are separated by spaces. The page of the
    connector in docs/connectors/ says which.
    """
    on = stack()
    found = find(on, name)
    if found.secret is None:
        raise Failed(f"the connector {name} has no secret")
    typed = click.prompt("Secret", hide_input=True, err=True) if is_terminal() else sys.stdin.read()
    words = typed.split()
    if not words or any(not word.isascii() or not word.isprintable() for word in words):
        raise Failed("this is no secret: words of ASCII, and one at least")
    audit.write(on, "connector secret", reason, datetime.now(UTC), connector=name, words=str(len(words)))
    on.client("secretsmanager").put_secret_value(SecretId=found.secret, SecretString=" ".join(words))
    if as_json:
        print_json({"connector": name, "words": len(words)})
    else:
        tell(f"Kept: {len(words)} words, which count within five minutes. See: pf connector test {name}")


@connector.command("test")
@_name
@click.option(
    "--type", "kind", default="order.paid", show_default=True, help="Of the sample, where one is sent (feed)."
)
@json_option
@click.pass_obj
def test(stack: Callable[[], Stack], *, name: str, kind: str, as_json: bool) -> None:
    """Speaks to the other side with the connector's own credentials and changes nothing there."""
    on = stack()
    found = find(on, name)
    answer = functions.invoke(on, found.function, json.dumps({"test": kind}).encode())
    if as_json:
        print_json({"connector": name, **answer})
    else:
        tell("  ".join(f"{key}: {value}" for key, value in answer.items()))
    if answer.get("outcome") == "failed":
        raise Failed(f"{name} does not take it ({answer['reason']}); docs/connectors/{name}.md says what to do")


def _letter(found: Connector, message: Message) -> dict[str, Any]:
    envelope = _envelope(message)
    detail = envelope.get("detail", {})
    event_id = detail.get("id")
    noted = found.item(f"event#{event_id}") if event_id else {}
    return {
        "event_id": event_id,
        "type": envelope.get("detail-type"),
        "order_id": detail.get("order_id"),
        "failure": noted.get("failure"),
        "tries": noted.get("tries"),
        "failed_at": noted.get("failed_at"),
    }


def _envelope(message: Message) -> dict[str, Any]:
    """{} for what is no event: a message of a stranger's."""
    try:
        content = json.loads(message["Body"])
    except ValueError:
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("detail"), dict) else {}
