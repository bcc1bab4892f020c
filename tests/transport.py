"""In the place of urllib3's PoolManager: what is sent by HTTP is answered in this process, without a socket."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPResponse, Timeout
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import parse_url
from werkzeug.test import Client


@dataclass(frozen=True)
class Sent:
    """A request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    seconds: float
    """That each part of its answer may take."""

    def __post_init__(self) -> None:
        """What outbound would not send."""
        if any(set("\r\n") & set(each.encode("latin-1").decode("latin-1")) for each in self.headers.values()):
            raise ValueError("Invalid header value")

    @property
    def target(self) -> str:
        """Its path and its query."""
        return parse_url(self.url).request_uri

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


Answering = Callable[[Sent], HTTPResponse]


class Transport:
    """Takes what payments.outbound sends, and hands it to `send`."""

    def __init__(self, send: Answering) -> None:
        self.send = send

    def urlopen(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: Timeout, **_: Any
    ) -> HTTPResponse:
        return self.send(Sent(method, url, headers, body, float(timeout.read_timeout)))  # type: ignore[arg-type]


def response(status: int, headers: Mapping[str, str], body: bytes) -> HTTPResponse:
    """What comes to a request."""
    return HTTPResponse(io.BytesIO(body), headers=headers, status=status, preload_content=False)


def read_timeout(sent: Sent) -> ReadTimeoutError:
    """That nothing comes to a request."""
    return ReadTimeoutError(HTTPConnectionPool("nowhere"), sent.url, "Read timed out.")


def of(application: Any) -> Answering:
    """A WSGI application answers."""
    client = Client(application)

    def answer(sent: Sent) -> HTTPResponse:
        told = client.open(sent.target, method=sent.method, headers=list(sent.headers.items()), data=sent.body)
        return response(told.status_code, dict(told.headers), told.data)

    return answer
