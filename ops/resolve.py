"""`pf resolve`: a person has dealt with what was wrong with a payment.

    resolved#<payment>   on the item that holds the payment: at, who, why

It is no fact: it changes no status, makes no event, and can be taken back.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from ops import audit, items, subject
from ops.cli import Failed, json_option, print_json, printable, reason_option, tell
from ops.stack import Stack
from ops.subject import Payment

PREFIX = "resolved#"


@click.command()
@click.argument("about", metavar="ORDER|PAYMENT")
@reason_option(required=True)
@click.option("--undo", is_flag=True, help="It is open again.")
@json_option
@click.pass_obj
def resolve(stack: Callable[[], Stack], about: str, reason: str, undo: bool, as_json: bool) -> None:
    """Notes that somebody has dealt with a payment.

    One that is unmatched, mismatched, a second one, disputed or in drift is then listed as open no longer.
    """
    on, now = stack(), datetime.now(UTC)
    found = subject.find(on, about)
    payment = subject.the_payment(on, found)
    name = f"{PREFIX}{payment.id}"
    held = (items.get(on, payment.pk) or {}).get(name)
    if (held is None) is undo:
        tell(f"The payment {payment.id} is open." if undo else _resolved(payment, held))
    else:
        action = "unresolve" if undo else "resolve"
        audit.write(on, action, reason, now, about=found.about, payment=payment.id)
        held = None if undo else {"at": items.timestamp(now), "who": on.who(), "why": reason}
        _write(on, payment, name, held)
        tell(f"The payment {payment.id} is open again." if undo else _resolved(payment, held))
    if as_json:
        print_json({"payment": payment.id, "item": payment.pk, "resolved": held})


def _write(stack: Stack, payment: Payment, name: str, held: dict[str, str] | None) -> None:
    """Without `rev`: consumers reckon by it, and for them nothing has changed. Raises Failed when the payment, or what
    is to be taken back, is there no longer."""
    dynamodb = stack.client("dynamodb")
    write: dict[str, Any] = {
        "TableName": stack.table,
        "Key": {"pk": {"S": payment.pk}},
        "ExpressionAttributeNames": {"#resolved": name},
    }
    if held is None:
        write |= {"UpdateExpression": "REMOVE #resolved", "ConditionExpression": "attribute_exists(#resolved)"}
    else:
        write |= {
            "UpdateExpression": "SET #resolved = :held",
            "ConditionExpression": "attribute_exists(#payment)",
            "ExpressionAttributeValues": {":held": {"M": {field: {"S": text} for field, text in held.items()}}},
        }
        write["ExpressionAttributeNames"]["#payment"] = payment.name
    try:
        dynamodb.update_item(**write)
    except dynamodb.exceptions.ConditionalCheckFailedException as failed:
        if held is None and failed.response["ResponseMetadata"].get("RetryAttempts"):
            return  # taken back by this very call
        raise Failed(f"the payment {payment.id} is not in {payment.pk} any more; look at it again") from None


def _resolved(payment: Payment, held: Any) -> str:
    return printable(f"The payment {payment.id} is resolved since {held['at']} by {held['who']}: {held['why']}")
