"""HTTPS requests to an address that the merchant names, which may lead anywhere: never into the network that the
function runs in, never on by a redirect, never for long.

Every address that the name has must be public, and the connection goes to one of them: the name is not looked up again,
so nobody can change it in between.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from urllib3 import PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from payments import addresses, outbound
from payments.deployment import SANDBOX
from payments.outbound import Answer

SECONDS = 5.0
"""From the first packet to the last byte."""
MOST = 64 * 1024
"""Bytes of an answer that are read."""
UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that leads to one machine of the internet: the rest is local, or becomes IPv4 on the way."""
_DIGITS = re.compile(r"[0-9]{1,6}")


class Undelivered(Exception):
    """The other side has not taken it, for a `reason` that is stable and quotes nothing. It is tried again: not before
    `retry_after` seconds, where it asked for that."""

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class ForbiddenAddress(HTTPError):
    """A name that leads into a network which is not public."""


def is_address(text: str) -> bool:
    """https on its own port, nothing but a host and what is behind it; in the sandbox also http to this machine."""
    found = addresses.origin(text, loopback=SANDBOX)
    return found is not None and (found[0] == "http" or found[2] == 443)


def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float = SECONDS,
) -> Answer:
    """Whatever the other side says, cut after MOST bytes. Raises Undelivered: `forbidden_address`, `no_answer` or
    `not_http`."""
    if not is_address(url):
        raise Undelivered("forbidden_address")
    try:
        return outbound.send(_http, method, url, seconds, MOST, headers=headers, body=body)
    except outbound.NoAnswer as none:
        raise Undelivered("forbidden_address" if _was_forbidden(none) else "no_answer") from None
    except outbound.NotHttp:
        raise Undelivered("not_http") from None


def must_succeed(answer: Answer) -> Answer:
    """The same answer when it is a 2xx. Raises Undelivered, with what Retry-After says."""
    status, retry_after = answer.status, _retry_after(answer.headers)
    if 200 <= status < 300:
        return answer
    if status in (401, 403):
        raise Undelivered("unauthorized", retry_after)
    known = {404: "not_found", 408: "no_answer", 410: "gone", 425: "busy", 429: "busy"}
    raise Undelivered(known.get(status, "failed" if status >= 500 else "refused"), retry_after)


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds: as they stand there, or up to a date, by the clock of who says it."""
    told = headers.get("Retry-After", "").strip()
    if _DIGITS.fullmatch(told):
        return int(told)
    try:
        left = parsedate_to_datetime(told) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, int(left.total_seconds()))


# --- Public addresses alone -------------------------------------------------------------------------------------------


def is_public(address: str) -> bool:
    """Whether an IP address is one machine's in the internet, whichever way it is written."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (found not in UNICAST or found.sixtofour or found.teredo):
        return False
    return found.is_global and not found.is_multicast


class _Connection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        """As urllib3's, but to addresses that were looked at."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(type(error)))) from None
        hosts = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if not all(map(is_public, hosts)):
            raise ForbiddenAddress
        for host in hosts:
            try:
                return create_connection((host, self.port), self.timeout, socket_options=self.socket_options)
            except OSError:  # the next one may answer
                continue
        raise NewConnectionError(self, "no address answers")


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


def _session() -> PoolManager:
    made = outbound.session()
    if not SANDBOX:
        made.pool_classes_by_scheme = {"https": _Pool}
        made.key_fn_by_scheme = {"https": made.key_fn_by_scheme["https"]}  # any other is unknown
    return made


def _was_forbidden(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ForbiddenAddress):
            return True
        error = error.__context__
    return False


_http = _session()
