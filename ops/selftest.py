"""A signed webhook of our own through the public address: the way is open, this stack is behind it, and it takes the
secret. It changes no order."""

import secrets
import time
from dataclasses import dataclass

from ops import items, web
from ops.cli import Failed, TryAgain, progress
from ops.stack import Stack

EVENT = "pf.self_test"
PK = "webhook#self_test"
PATIENCE = 75
"""Seconds: a running function looks at a secret once a minute (functions/payments/secrets.py)."""
PAUSE = 15
"""Between two tries: each that fails is counted as a wrong signature."""


@dataclass(frozen=True)
class Verdict:
    """`why` is empty when it has passed."""

    why: str = ""
    may_pass_later: bool = False
    unreachable: bool = False

    @property
    def passed(self) -> bool:
        return not self.why


def send(stack: Stack, secret: str) -> Verdict:
    """Once. Raises what AWS raises."""
    stack.enter()
    url, nonce = stack.output("WebhookUrl"), secrets.token_hex(16)
    try:
        answer = web.deliver(url, EVENT, {"event": EVENT, "nonce": nonce}, secret)
    except web.NoAnswer:
        return Verdict(f"{url} does not answer", may_pass_later=True, unreachable=True)
    match answer.status, answer.outcome:
        case 200, "self_test":
            if (items.get(stack, PK) or {}).get("nonce") == nonce:
                return Verdict()
            return Verdict(f"another stack answers at {url}, and takes this stack's secret")
        case 200, "parked":
            return Verdict("the webhook could not write to the ledger", may_pass_later=True)
        case 200, "recorded":
            return Verdict(f"what is deployed is older than this tool; run make deploy STAGE={stack.stage}")
        case 401, "invalid_signature":
            return Verdict("the webhook function does not take the stored secret", may_pass_later=True)
        case 503, "webhook_secret_missing":
            return Verdict("the webhook function finds no secret", may_pass_later=True)
        case status, outcome if status == 429 or status >= 500:
            return Verdict(f"the webhook answers {status} {outcome}".rstrip(), may_pass_later=True)
    return Verdict(f"{url} answers {answer.status}, which this stack's webhook does not")


def insist(stack: Stack, secret: str) -> None:
    """Until it passes. Raises Failed or TryAgain when it does not, and what AWS raises."""
    began = time.monotonic()
    verdict = send(stack, secret)
    if verdict.may_pass_later:
        with progress("Waiting for the functions to notice", PATIENCE) as advance:
            while verdict.may_pass_later and time.monotonic() - began < PATIENCE:
                time.sleep(PAUSE)
                advance(PAUSE)
                verdict = send(stack, secret)
    if verdict.passed:
        return
    kind = TryAgain if verdict.unreachable else Failed
    raise kind(f"the self-test did not pass: {verdict.why}; `pf doctor` looks at everything")
