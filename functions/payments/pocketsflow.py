"""Pocketsflow's HTTP API: the only module that speaks to it."""

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import requests
from urllib3.exceptions import HTTPError

from payments import strictjson
from payments.deployment import SANDBOX

URL = os.environ["POCKETSFLOW_URL"]

WAIT_SECONDS = 3.0
"""For one answer, from the first packet to its last byte."""
_MAX_ANSWER = 64 * 1024
_MAX_ADDRESS = 2_048
_PRINTABLE = re.compile(r"[!-~]+")
_SCHEMES = ("https://", "http://127.0.0.1:") if SANDBOX else ("https://",)

Reason = Literal["refused", "unauthorized", "busy", "failed", "unreachable", "unexpected"]

_http = requests.Session()
_http.trust_env = False  # neither a proxy nor a .netrc of the environment sees the key


class CheckoutFailed(Exception):
    """No session was made, or none that can be used. `retry_after`: seconds that Pocketsflow asked for, 60 at most."""

    def __init__(self, reason: Reason, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    url: str


def create_session(api_key: str, checkout: Mapping[str, Any]) -> Session:
    """`POST /checkout/sessions`. Raises CheckoutFailed, after WAIT_SECONDS at most; nothing is tried twice, since
    no idempotency key is known to exist."""
    # In a thread, because the timeouts of requests start anew with every packet: an answer that drips in has no end.
    call = ThreadPoolExecutor(max_workers=1)
    try:
        response, content = call.submit(_post, api_key, checkout).result(WAIT_SECONDS)
    except (requests.RequestException, HTTPError, TimeoutError):
        raise CheckoutFailed("unreachable") from None
    except ValueError:  # requests looks into a redirect that it is told not to follow
        raise CheckoutFailed("unexpected") from None
    finally:
        call.shutdown(wait=False)
    _check(response)
    try:
        session = strictjson.parse(content)
    except strictjson.Unreadable:
        raise CheckoutFailed("unexpected") from None
    if not isinstance(session, dict) or not _is_text(session.get("id"), 256) or not _is_payable(session.get("url")):
        raise CheckoutFailed("unexpected")
    return Session(session["id"], session["url"])


def _post(api_key: str, checkout: Mapping[str, Any]) -> tuple[requests.Response, bytes]:
    """The answer and its body, which is cut where it is larger than any session."""
    with _http.post(
        f"{URL}/checkout/sessions",
        json=checkout,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=(1, WAIT_SECONDS),
        allow_redirects=False,
        stream=True,
    ) as response:
        return response, response.raw.read(_MAX_ANSWER, decode_content=True)


def _check(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status == 429:
        raise CheckoutFailed("busy", _retry_after(response))
    if status in (401, 403):
        raise CheckoutFailed("unauthorized")
    if 400 <= status < 500:
        raise CheckoutFailed("refused")
    raise CheckoutFailed("failed" if status >= 500 else "unexpected")


def _retry_after(response: requests.Response) -> int | None:
    seconds = response.headers.get("Retry-After", "")
    return min(int(seconds), 60) if seconds.isascii() and seconds.isdigit() and len(seconds) < 6 else None


def _is_payable(url: object) -> bool:
    """The address is opaque, but never plain http: the buyer is about to type a card number."""
    return _is_text(url, _MAX_ADDRESS) and str(url).startswith(_SCHEMES)


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit and _PRINTABLE.fullmatch(value) is not None
