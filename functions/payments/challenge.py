"""Whether a person, and no script, asks: a challenge's token, verified where it was made.

Turnstile (developers.cloudflare.com/turnstile/get-started/server-side-validation) and hCaptcha
(docs.hcaptcha.com#verify-the-user-response-server-side) take the same form and answer alike.
"""

import os
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from payments import aws, outbound, secrets, strictjson

URL = os.environ["CHALLENGE_URL"]
"""Empty for none."""
SECRET_ARN = os.environ["CHALLENGE_SECRET_ARN"]
SECONDS = 1.5
"""However slow AWS is besides, Pocketsflow keeps its time (tests/integration/test_time_budget.py)."""
_MAX_ANSWER = 16 * 1024
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

_http = outbound.session()


class NoSecret(Exception):
    """Nobody has stored the challenge's secret."""


class Unavailable(Exception):
    """Nobody said whether it is solved. Answer 5xx: without an answer nobody passes."""


def is_solved(token: str | None, key: str | None, now: datetime) -> bool:
    """Asks once. A token passes once; the same request sent again passes again where the verifier knows a key of it, as
    Turnstile does: `key` (hexadecimal, 32 digits or more) must be of one order. Raises NoSecret and Unavailable."""
    if token is None:
        return False
    form = {"secret": _secret(now), "response": token}
    if aws.time_left() < SECONDS:
        raise Unavailable
    if key:
        form["idempotency_key"] = str(UUID(key[:32]))
    try:
        answer = outbound.send(_http, "POST", URL, SECONDS, _MAX_ANSWER, headers=_FORM, body=urlencode(form).encode())
        verdict = strictjson.parse(answer.body)
    except (outbound.NoAnswer, outbound.NotHttp, strictjson.Unreadable):
        raise Unavailable from None
    # Turnstile answers 400 to a token that is none, with its verdict all the same.
    if not isinstance(verdict, dict) or not isinstance(verdict.get("success"), bool) or answer.status >= 500:
        raise Unavailable
    if _OURS & set(_codes(verdict)):
        raise NoSecret
    return verdict["success"] is True and answer.status == 200


_OURS = {"missing-input-secret", "invalid-input-secret"}
"""What the verifier says of a secret that is none. That it is another widget's, a stranger's token can make it say."""


def _codes(verdict: dict[str, object]) -> list[str]:
    codes = verdict.get("error-codes")
    return [code for code in codes if isinstance(code, str)] if isinstance(codes, list) else []


def _secret(now: datetime) -> str:
    try:
        words = secrets.read(SECRET_ARN, "", now) or secrets.read(SECRET_ARN, "", now, secrets.REFRESH)
    except secrets.Unavailable:
        raise Unavailable from None
    if not words:
        raise NoSecret
    return words[0]
