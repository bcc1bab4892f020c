"""POST /webhooks/pocketsflow: verify the raw body, write its fact once, answer 200.

Pocketsflow tries once, for five seconds, and never again: after the signature has verified, nothing may be lost. When
the ledger does not take a body it is parked in a queue, which feeds this same function for a day.
"""

import base64
import json
import os
from datetime import UTC, datetime
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, events, http, ledger, references, secrets, signature, subscriptions
from payments.event_names import EVENTS
from payments.telemetry import about, count, logger, measure, needs_attention, observed, where
from payments.warm_up import warm_up

WEBHOOK_SECRETS_ARN = os.environ["WEBHOOK_SECRETS_ARN"]
PARKING_URL = os.environ["PARKING_URL"]
STORE_ID = os.environ["STORE_ID"]
WAITS_FOR_API = os.environ["SETTLE"] == "confirmed"
MAX_BODY = 256 * 1024
MILLISECOND_DIGITS = 13
"""Of a time since 1970, until the year 2286."""
LEDGER_SECONDS = 2.0
"""For all tries of the ledger; what is left is for the parking queue."""

PARKING_TRIES = 2
"""Here and not in botocore, which would wait for up to a second in between."""

Outcome = ledger.Outcome | Literal["self_test"]

_queue = aws.client("sqs")
warm_up(WEBHOOK_SECRETS_ARN, datetime.now(UTC))


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    with aws.finishing_in_time(context):
        if "Records" in event:
            return _unpark(event["Records"], datetime.now(UTC))
        return _receive(event, datetime.now(UTC))


def _receive(event: http.Event, now: datetime) -> http.Answer:
    try:
        body = http.raw_body(event, MAX_BODY)
        verdict = _verify(body, http.header(event, "x-pocketsflow-signature"), now)
    except http.TooLarge:
        return _refused(413, "body_too_large", f"The body may have {MAX_BODY} bytes.")
    except http.Malformed:
        verdict = "invalid"
    except secrets.Unavailable:
        needs_attention("webhook_secret_unreachable")
        return http.problem(500, "webhook_secret_unreachable", "The signature cannot be checked at the moment.")
    if verdict == "no_secret":
        needs_attention("webhook_secret_missing")
        return http.problem(503, "webhook_secret_missing", "This stack has no webhook secret yet.")
    if verdict == "invalid":
        return _refused(401, "invalid_signature", "X-Pocketsflow-Signature does not sign this body.")
    return _store(event, body, now)


def _verify(body: bytes, given: str, now: datetime) -> Literal["valid", "invalid", "no_secret"]:
    """A signature that fails may be of a secret just added: one look a minute."""
    if not signature.well_formed(given):
        count("SignatureMalformed")
        return "invalid"
    for max_age in (secrets.MAX_AGE, secrets.REFRESH):
        known = secrets.read(WEBHOOK_SECRETS_ARN, "whsec_", now, max_age)
        if signature.verify(body, given, known):
            return "valid"
    if not known:
        return "no_secret"
    count("SignatureMismatch")  # alarmed: with a secret that is no longer Pocketsflow's every payment is refused
    return "invalid"


def _store(event: http.Event, body: bytes, now: datetime) -> http.Answer:
    name, sent_at = (_claimed(event, header) for header in ("x-pocketsflow-event", "x-pocketsflow-timestamp"))
    try:
        with aws.finishing_within(LEDGER_SECONDS * aws.PATIENCE, leaving=aws.longest_try("sqs")):
            outcome: str = _write(body, name, sent_at, now)
    except (BotoCoreError, ClientError) as error:
        needs_attention("parked", error=where(error))
        try:
            _park(body, name, sent_at)
        except (BotoCoreError, ClientError):
            needs_attention("ledger_unavailable")
            return http.problem(500, "ledger_unavailable", "The event could not be recorded.")
        outcome = "parked"
    _measure(outcome, name, sent_at, now)
    if outcome == "settled":
        measure("SettleLatency", datetime.now(UTC) - now, "Milliseconds")
    return http.answer(200, {"received": True, "outcome": outcome})


def _write(body: bytes, name: str, sent_at: str, now: datetime) -> Outcome:
    """Raises what AWS raises, and nothing else."""
    try:
        return _record(body, name, sent_at, now)
    except (BotoCoreError, ClientError):
        raise
    except Exception as error:  # noqa: BLE001  # nobody sends this body again: whatever went wrong, keep it
        needs_attention("fact_not_recorded", error=where(error))
        ledger.keep(body, "error", name, sent_at, now)
        return "recorded"


def _record(body: bytes, name: str, sent_at: str, now: datetime) -> Outcome:
    fact = events.parse(body, name, references.order_of)
    if isinstance(fact, events.SelfTest):
        ledger.note_self_test(fact.nonce, now)
        logger.info("self_test")
        return "self_test"
    if isinstance(fact, events.Unknown):
        ledger.keep(body, fact.reason, name, sent_at, now)
        if fact.reason == "other_event":
            logger.info("event_kept")
        else:
            needs_attention(f"event_{fact.reason}")
        return "recorded"
    about(fact.order_id)
    if isinstance(fact, events.SubscriptionChanged):
        ledger.keep(body, "subscription", name, sent_at, now)
        recorded = subscriptions.record(fact, now, source="webhook")
        if recorded.is_erased:
            ledger.forget(ledger.raw_key(body), now)
        logger.info(
            "subscription_changed" if recorded.changed else "subscription_has_ended", extra={"subscription": fact.id}
        )
        return "recorded"
    if WAITS_FOR_API and isinstance(fact, events.Payment):
        fact = events.Claim(fact.kind, fact.id, fact.order_id)
    outcome = ledger.record(fact, body, now, source="webhook")
    ids = {"fact": ledger.fact_name(fact)}
    # A sale that names no order of this stage was made elsewhere in the same account: kept, but nobody's emergency.
    elsewhere = fact.order_id is None or (isinstance(fact, events.Payment) and fact.store_id not in (None, STORE_ID))
    if outcome in ("second_payment", "mismatched") or (outcome == "unmatched" and not elsewhere):
        needs_attention(outcome, **ids)
    else:
        logger.info(outcome, extra=ids)
    return outcome


# --- The parking queue ------------------------------------------------------------------------------------------------


def _park(body: bytes, name: str, sent_at: str) -> None:
    """base64, because a queue does not take every character."""
    message = {"body": base64.b64encode(body).decode(), "event": name, "sent_at": sent_at}
    for tries_left in reversed(range(PARKING_TRIES)):
        try:
            _queue.send_message(QueueUrl=PARKING_URL, MessageBody=json.dumps(message))
        except (BotoCoreError, ClientError):
            if not tries_left:
                raise
        else:
            return


def _unpark(records: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """What was verified when it came. Nothing is parked again: what fails is reported and comes again in five minutes
    (docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html)."""
    failed = []
    for record in records:
        about(None)
        try:
            message = json.loads(record["body"])
            name, sent_at = str(message["event"]), str(message["sent_at"])
            outcome = _write(base64.b64decode(message["body"]), name, sent_at, now)
        except Exception as error:  # noqa: BLE001  # also what nobody here has parked: it holds up no other
            needs_attention("still_parked", error=where(error))
            failed.append({"itemIdentifier": record["messageId"]})
        else:
            _measure(outcome, name, sent_at, now)
    return {"batchItemFailures": failed}


def _measure(outcome: str, name: str, sent_at: str, now: datetime) -> None:
    """What became of a delivery, and how long after the payment it settled: by the time that the delivery claims,
    which is fit for a figure and for no decision."""
    if outcome == "self_test":
        return
    # The header is not signed, and each name is paid for.
    count("Deliveries", event=name if name in EVENTS else "other", outcome=outcome)
    if outcome == "settled" and sent_at.isdecimal() and len(sent_at) <= MILLISECOND_DIGITS:
        measure("PaymentToSettlement", now - datetime.fromtimestamp(int(sent_at) / 1000, UTC))


def _claimed(event: http.Event, header: str) -> str:
    """An unsigned header, as far as it can be an event name or a time."""
    value = http.header(event, header)
    return value if value.isascii() and value.isprintable() and len(value) <= 64 else ""


def _refused(status: int, code: str, detail: str) -> http.Answer:
    logger.info("webhook_refused", extra={"code": code})
    return http.problem(status, code, detail)
