"""POST /webhooks/pocketsflow: verify the raw body, write its fact once, answer 200.

Pocketsflow tries once, for five seconds, and never again: after the signature has verified, nothing may be lost.
"""

import os
from datetime import UTC, datetime
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, events, http, ledger, secrets, signature
from payments.telemetry import count, logger, metrics, needs_attention, where

WEBHOOK_SECRETS_ARN = os.environ["WEBHOOK_SECRETS_ARN"]
MAX_BODY = 256 * 1024


@metrics.log_metrics
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    with aws.finishing_in_time(context):
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
        return http.problem(503, "webhook_secret_unreachable", "The signature cannot be checked at the moment.")
    if verdict == "no_secret":
        needs_attention("webhook_secret_missing")
        return http.problem(503, "webhook_secret_missing", "This stack has no webhook secret yet.")
    if verdict == "invalid":
        return _refused(401, "invalid_signature", "X-Pocketsflow-Signature does not sign this body.")
    return _store(event, body, now)


def _verify(body: bytes, given: str, now: datetime) -> Literal["valid", "invalid", "no_secret"]:
    """A signature that fails may be of a secret just added: one look a minute."""
    if not signature.well_formed(given):
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
        outcome = _record(body, name, sent_at, now)
    except Exception as error:  # noqa: BLE001  # nobody sends this body again: whatever went wrong, keep it
        needs_attention("fact_not_recorded", error=where(error))
        try:
            ledger.keep(body, "error", name, sent_at, now)
        except (BotoCoreError, ClientError):
            return http.problem(503, "ledger_unavailable", "The event could not be recorded.")
        outcome = "recorded"
    count(outcome)
    return http.answer(200, {"received": True, "outcome": outcome})


def _record(body: bytes, name: str, sent_at: str, now: datetime) -> ledger.Outcome:
    fact = events.parse(body, name)
    if isinstance(fact, events.Unknown):
        ledger.keep(body, fact.reason, name, sent_at, now)
        if fact.reason == "other_event":
            logger.info("event_kept")
        else:
            needs_attention(f"event_{fact.reason}")
        return "recorded"
    outcome = ledger.record(fact, body, now, source="webhook")
    ids = {"order_id": fact.order_id, "fact": ledger.fact_name(fact)}
    # A sale that names no order of this stage was made elsewhere in the same account: kept, but nobody's emergency.
    if outcome in ("second_payment", "mismatched") or (outcome == "unmatched" and fact.order_id):
        needs_attention(outcome, **ids)
    else:
        logger.info(outcome, extra=ids)
    return outcome


def _claimed(event: http.Event, header: str) -> str:
    """An unsigned header, as far as it can be an event name or a time."""
    value = http.header(event, header)
    return value if value.isascii() and value.isprintable() and len(value) <= 64 else ""


def _refused(status: int, code: str, detail: str) -> http.Answer:
    count("WebhookRefused")
    logger.info("webhook_refused", extra={"code": code})
    return http.problem(status, code, detail)
