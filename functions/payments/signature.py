"""Pocketsflow's webhook signature: bytes in, verdict out.

Lower-case hex HMAC-SHA256 of the raw body, keyed with the whole secret string, `whsec_` included
(docs.pocketsflow.com, custom platforms). The event name and the timestamp are outside of it.
"""

import hmac
import re
from collections.abc import Iterable

_SIGNATURE = re.compile("[0-9A-Fa-f]{64}")


def well_formed(signature: str) -> bool:
    return _SIGNATURE.fullmatch(signature) is not None


def verify(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """True when `signature` signs `body` with any of `secrets`. Never raises; empty secrets sign nothing."""
    given = signature.lower().encode() if well_formed(signature) else b""
    valid = False
    for secret in secrets:  # all of them, whatever matched: the time taken tells nothing
        expected = hmac.digest(secret.encode("utf-8", "surrogatepass"), body, "sha256").hex().encode()
        valid |= hmac.compare_digest(given, expected) and secret != ""
    return valid
