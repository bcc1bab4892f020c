"""E-mail to the merchant about what needs a person: an order paid twice, a payment that fits nothing, a dispute.

One mail for each event; two where a crash comes between the mail and the note of it. What a buyer or a stranger can
write stands in none: ids, amounts and words of ours. docs/connectors/notices.md.
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from connectors import consumer
from connectors.outgoing import Undelivered
from payments import aws, orders
from payments.deployment import SANDBOX, STAGE
from payments.table import TABLE, client, key
from payments.telemetry import observed

_SETTINGS = json.loads(os.environ["SETTINGS"])
TO: str = _SETTINGS["notices_to"]
FROM: str = _SETTINGS["notices_from"]

MOST = 10
"""Mails of one type within an hour of the clock; the tenth says so."""


@dataclass(frozen=True, slots=True)
class Notice:
    """`acts` are commands of `pf` that may help, with {order} and {payment} in them; `more` is the one that lists all
    of the kind; `page` says what else there is to know."""

    title: str
    says: str
    acts: tuple[str, ...]
    more: str
    page: str


NOTICES = {
    "payment.second": Notice(
        "An order was paid a second time",
        "A paid order was paid once more. Money is owed back: refund this payment, and deliver nothing more.",
        ("refund {payment} --reason TEXT",),
        "orders --status second-payment --since 1d",
        "docs/runbook.md#second-payment",
    ),
    "payment.mismatched": Notice(
        "A payment does not fit its order",
        "Something else was paid than was ordered, or with another order's payment. The order is not settled by it:"
        " accept it, or refund it.",
        ("settle --order {order} --payment {payment} --reason TEXT", "refund {payment} --reason TEXT"),
        "orders --status mismatched --since 1d",
        "docs/runbook.md#mismatched",
    ),
    "payment.unmatched": Notice(
        "A payment belongs to no order",
        "Somebody paid for one of your products, and no order of this stack asked for it. `pf order` shows the"
        " orders that it may have been meant for: give it to one of them, or say that it is none of theirs.",
        ("settle --order ID --payment {payment} --reason TEXT", "resolve {payment} --reason TEXT"),
        "orders --status unmatched --since 1d",
        "docs/runbook.md#unmatched",
    ),
    "order.disputed": Notice(
        "A payment is disputed",
        "The buyer's bank disputes the payment. Answer at Pocketsflow before its time is over; what was granted is"
        " yours to suspend until then.",
        ("resolve {payment} --reason TEXT",),
        "orders --status disputed --since 1d",
        "docs/connectors/notices.md#a-payment-is-disputed",
    ),
    "order.refund_anomaly": Notice(
        "A refund and its order disagree",
        "More went back than was paid, or a refund that had gone through failed or is denied. Compare with"
        " Pocketsflow's dashboard before anything else is refunded.",
        (),
        "events --since 1d",
        "docs/connectors/notices.md#a-refund-and-its-order-disagree",
    ),
    "ledger.drift": Notice(
        "Pocketsflow denies what the ledger holds",
        "Pocketsflow's API says otherwise than its webhook did. Nothing was changed: believe its dashboard.",
        ("resolve {payment} --reason TEXT",),
        "orders --status drift --since 1d",
        "docs/runbook.md#drift",
    ),
}

_mail: Any = aws.client("sesv2")


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    return consumer.consume(event, context, deliver, check)


def deliver(event: consumer.Event, now: datetime) -> str:
    notice = NOTICES.get(event.type)
    if notice is None:
        return "not_ours"
    mails = _reserve(event, now)
    if mails is None:
        return "held_back"
    try:
        _send(*_written(event, notice, is_last=mails == MOST))
    except Undelivered:
        _release(event, now)
        raise
    return "delivered"


def check(_kind: str, now: datetime) -> dict[str, Any]:
    """Sends a mail that says what it is."""
    text = f"Notices of pocketsflow-{STAGE} arrive here. This one was asked for at {now:%Y-%m-%d %H:%M} UTC.\n"
    _send(f"[pocketsflow-{STAGE}] Test", text)
    return {"outcome": "delivered"}


# --- What it says -----------------------------------------------------------------------------------------------------


def _written(event: consumer.Event, notice: Notice, *, is_last: bool) -> tuple[str, str]:
    """Subject and text."""
    payment = event.detail["payment"]
    is_test = event.detail["mode"] == "test"
    amount = f" ({payment['amount']} {payment['currency']})" if payment["amount"] and payment["currency"] else ""
    about = {
        "Event": event.type,
        "Order": event.order_id,
        "Your reference": event.detail.get("reference"),
        "Status": event.status,
        "Payment": f"{payment['id']}{amount}",
        "Noticed": event.occurred_at,
    }
    pf = "pf --sandbox" if SANDBOX else f"pf --stage {STAGE}"
    lines = [
        f"{notice.says}{' It is test money.' if is_test else ''}",
        "",
        *(f"{name + ':':<16}{value}" for name, value in about.items() if value),
        "",
        f"Look:           {pf} order {event.order_id or payment['id']}",
        *(f"Then, perhaps:  {pf} {act.format(order=event.order_id, payment=payment['id'])}" for act in notice.acts),
        f"More:           {notice.page}",
    ]
    if is_last:
        lines += ["", f"No more mails of this kind before the next full hour. All there is: {pf} {notice.more}"]
    of = f": {event.order_id}" if orders.is_id(event.order_id) else ""
    return f"[pocketsflow-{STAGE}] {notice.title}{of}", "\n".join([*lines, ""])


# --- How often --------------------------------------------------------------------------------------------------------


def _reserve(event: consumer.Event, now: datetime) -> int | None:
    """How many mails of the type this hour has with this one; None when it has had all. In one request; the same event
    again is the same mail."""
    try:
        answer = client.update_item(
            TableName=TABLE,
            Key=_hour(event, now),
            UpdateExpression="ADD mails :these SET expires = :expires",
            ConditionExpression="attribute_not_exists(mails) OR size(mails) < :most OR contains(mails, :this)",
            ExpressionAttributeValues={
                ":these": {"SS": [event.id]},
                ":this": {"S": event.id},
                ":most": {"N": str(MOST)},
                ":expires": {"N": str(int((now + timedelta(days=1)).timestamp()))},
            },
            ReturnValues="ALL_NEW",
        )
    except client.exceptions.ConditionalCheckFailedException:
        return None
    return len(answer["Attributes"]["mails"]["SS"])


def _release(event: consumer.Event, now: datetime) -> None:
    """What was not sent takes no other's place."""
    client.update_item(
        TableName=TABLE,
        Key=_hour(event, now),
        UpdateExpression="DELETE mails :these",
        ExpressionAttributeValues={":these": {"SS": [event.id]}},
    )


def _hour(event: consumer.Event, now: datetime) -> Any:
    return key(f"hour#{event.type}#{now:%Y-%m-%dT%H}")


# --- SES --------------------------------------------------------------------------------------------------------------


def _send(subject: str, text: str) -> None:
    """Subject and text are fields of their own, which SES encodes: no line of theirs becomes a header. Raises
    Undelivered."""
    content = {"Subject": {"Data": subject, "Charset": "UTF-8"}, "Body": {"Text": {"Data": text, "Charset": "UTF-8"}}}
    try:
        _mail.send_email(FromEmailAddress=FROM, Destination={"ToAddresses": [TO]}, Content={"Simple": content})
    except ClientError as error:
        raise Undelivered(_reason(error)) from None
    except BotoCoreError:
        raise Undelivered("no_answer") from None


def _reason(error: ClientError) -> str:
    """SES refuses who is not verified, a sandbox's other recipients, and a suspended account: those a person mends."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status == 403:
        return "unauthorized"
    if status == 429 or status >= 500 or error.response["Error"]["Code"] in _BUSY:
        return "busy"
    return "refused"


_BUSY = {"LimitExceededException", "ThrottlingException", "Throttling"}
"""With 400, where others have 429: docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html"""
