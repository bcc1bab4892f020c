"""Secrets Manager, cached: a warm function reads a secret every five minutes, not for every request."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws
from payments.deployment import SANDBOX
from payments.telemetry import needs_attention, where

MAX_AGE = timedelta(minutes=5)
REFRESH = timedelta(minutes=1)
"""`max_age` for a caller whose copy proved wrong: a new secret is noticed, a flood of bad requests is not
turned into a flood of reads."""
LAST_GOOD = timedelta(hours=1)
"""How long a copy serves while Secrets Manager is out of reach."""

TRIES = 2
"""Here and not in botocore, which would wait for up to a second in between."""

_MIN_LENGTH = 20  # shorter than any key Pocketsflow makes: whsec_xxx, pk_test_..., changeme

_client = aws.client("secretsmanager")


class Unavailable(Exception):
    """Secrets Manager did not answer and no copy is fresh enough. Answer 5xx; the caller may come again."""


@dataclass
class _Copy:
    words: list[str]
    read_at: datetime
    tried_at: datetime


_copies: dict[str, _Copy] = {}


def read(arn: str, prefix: str, now: datetime, max_age: timedelta = MAX_AGE) -> list[str]:
    """The usable words of a secret, those that begin with `prefix` and are no placeholder; [] when it has none.

    The value is words separated by white space, so that two webhook secrets can be valid at once.
    """
    copy = _copies.get(arn)
    if copy is None or now - copy.tried_at >= max_age:
        copy = _copies[arn] = _refreshed(arn, copy, now)
    return [word for word in copy.words if word.startswith(prefix) and _usable(word)]


def prefetch(arn: str, now: datetime) -> None:
    """Keeps a copy for who reads it first. A secret that does not come, or has no usable word yet, is left to them."""
    with suppress(BotoCoreError, ClientError):
        words = _client.get_secret_value(SecretId=arn).get("SecretString", "").split()
        if any(map(_usable, words)):
            _copies[arn] = _Copy(words, read_at=now, tried_at=now)


def _refreshed(arn: str, copy: _Copy | None, now: datetime) -> _Copy:
    for tries_left in reversed(range(TRIES)):
        try:
            value = _client.get_secret_value(SecretId=arn).get("SecretString", "")
        except _client.exceptions.ResourceNotFoundException:
            return _Copy([], read_at=now, tried_at=now)  # created by the template, never filled
        except (BotoCoreError, ClientError) as error:
            if not tries_left:
                needs_attention("secret_unreachable", error=where(error))
        else:
            return _Copy(value.split(), read_at=now, tried_at=now)
    if copy is None or now - copy.read_at >= LAST_GOOD:
        raise Unavailable
    return _Copy(copy.words, copy.read_at, tried_at=now)


def _usable(word: str) -> bool:
    # A key copied from where it is shown in part has dots or bullets that no HTTP header can carry.
    return word.isascii() and word.isprintable() and (SANDBOX or len(word) >= _MIN_LENGTH)
