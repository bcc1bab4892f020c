"""HTTP requests that end: after so many seconds and so many bytes, whatever the other side does."""

import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import certifi
from urllib3 import HTTPHeaderDict, PoolManager, Timeout
from urllib3.exceptions import HTTPError

CONNECT_SECONDS = 1
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
"""Where the caller names none."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote the address, and what came


class NoAnswer(Exception):
    """None came in time, or none at all."""


class NotHttp(Exception):
    """What is to be sent is no request, or what came no answer that can be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By name in any case."""
    body: bytes
    """Decoded; its first bytes."""


def session() -> PoolManager:
    """Connections that are kept, and no cookies; neither a proxy nor a .netrc of the environment sees what is sent."""
    return PoolManager(maxsize=10, cert_reqs="CERT_REQUIRED", ca_certs=certifi.where())


def send(
    http: PoolManager,
    method: str,
    url: str,
    seconds: float,
    most: int,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """The answer, its body cut after `most` bytes. Sent once; redirects are not followed. Raises NoAnswer and
    NotHttp."""
    if not url.lower().startswith(("https://", "http://")):  # urllib3 takes what has no scheme for http
        raise NotHttp
    sent = HTTPHeaderDict(_HEADERS)
    sent.update(headers or {})
    if any(map(_CONTROL.search, sent.values())):  # http.client lets a folded line break pass
        raise NotHttp
    timeout = Timeout(connect=CONNECT_SECONDS, read=seconds)
    # In a thread, because a socket's timeout starts anew with every packet: an answer that drips in has no end.
    call = ThreadPoolExecutor(max_workers=1)
    try:
        return call.submit(_read, http, method, url, most, headers=sent, body=body, timeout=timeout).result(seconds)
    except (HTTPError, OSError):
        raise NoAnswer from None
    except ValueError:  # http.client's: a header with a line break or in another script; an answer of less than nothing
        raise NotHttp from None
    finally:
        call.shutdown(wait=False)


def _read(http: PoolManager, method: str, url: str, most: int, **options: Any) -> Answer:
    with http.urlopen(method, url, redirect=False, retries=False, preload_content=False, **options) as response:
        if response.status < 200:  # http.client skips one kind of 1xx: what follows another is no next request's answer
            raise HTTPError
        return Answer(response.status, response.headers, response.read(most, decode_content=True))
