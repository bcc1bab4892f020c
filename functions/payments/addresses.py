"""Return addresses: where Pocketsflow sends the buyer afterwards. Only to the merchant's own origins."""

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus, urlsplit, urlunsplit

MAX_LENGTH = 2_048

# Printable ASCII without the backslash, which browsers read as a slash. urlsplit would quietly drop tabs and newlines.
_PLAIN = re.compile(r"[!-\[\]-~]+")
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:]+\]")
_PORTS = {"https": 443, "http": 80}
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


def origin(address: object, loopback: bool) -> tuple[str, str, int] | None:
    """Scheme, host and port of an absolute https address; None for everything else.

    `loopback` also admits http, to this machine alone: the sandbox, and a static page under development.
    """
    if not isinstance(address, str) or len(address) > MAX_LENGTH or not _PLAIN.fullmatch(address):
        return None
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    host = parts.netloc.lower().removesuffix(f":{port}")
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):  # no user info passes: it has an @
        return None
    if parts.scheme == "http" and not (loopback and host in _LOOPBACK):
        return None
    return parts.scheme, host, _PORTS[parts.scheme] if port is None else port


def allowed(address: object, origins: Iterable[str] | None, loopback: bool) -> bool:
    """Whether an address is on one of the origins; for None anywhere."""
    found = origin(address, loopback)
    return found is not None and (origins is None or any(found == origin(listed, loopback) for listed in origins))


def with_order_id(address: str, order_id: str) -> str:
    """The address with our `order_id` in its query; the rest of the query and the fragment stay as they are."""
    parts = urlsplit(address)
    pairs = parts.query.split("&") if parts.query else []
    own = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) != "order_id"]
    return urlunsplit(parts._replace(query="&".join([*own, f"order_id={order_id}"])))
