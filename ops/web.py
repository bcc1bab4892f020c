"""Requests to the stack's own public address, as a browser or Pocketsflow sends them; each ends."""

import functools
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import simplejson

if TYPE_CHECKING:
    from urllib3 import PoolManager

SECONDS = 10.0
"""Of one request: a cold start is in it."""
_MAX_ANSWER = 64 * 1024


class NoAnswer(Exception):
    """None came that is HTTP, or none in time."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By any case of their names."""
    content: dict[str, Any]
    """Of the JSON; {} where it is no object."""

    @property
    def outcome(self) -> str:
        """The webhook's, else the code of its problem; "" where it says neither."""
        told = self.content.get("outcome", self.content.get("code", ""))
        return told if isinstance(told, str) else ""


@functools.cache
def session() -> "PoolManager":
    from payments import outbound

    return outbound.session()


def ask(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Sent once. Raises NoAnswer."""
    from payments import outbound, strictjson

    try:
        answer = outbound.send(session(), method, url, SECONDS, _MAX_ANSWER, headers=headers, body=body)
    except (outbound.NoAnswer, outbound.NotHttp):
        raise NoAnswer from None
    try:
        content = strictjson.parse(answer.body)
    except strictjson.Unreadable:
        content = {}
    return Answer(answer.status, answer.headers, content if isinstance(content, dict) else {})


def deliver(url: str, event: str, content: Any, secret: str) -> Answer:
    """A webhook as Pocketsflow sends it. Raises NoAnswer."""
    body = simplejson.dumps(content, use_decimal=True, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "pf",
        "X-Pocketsflow-Event": event,
        "X-Pocketsflow-Signature": hmac.digest(secret.encode(), body, "sha256").hex(),
        "X-Pocketsflow-Timestamp": str(int(time.time() * 1000)),
    }
    return ask("POST", url, body, headers)
