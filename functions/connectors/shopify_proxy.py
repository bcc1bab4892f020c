"""Whether Shopify has handed a request on: pure, a query in, its parameters out.

Shopify signs whatever anybody asks of the shop's page: a signature says where a request came from, not who asked.
docs: shopify.dev/docs/apps/build/online-store/app-proxies/authenticate-app-proxies
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

OLDEST = timedelta(minutes=5)
AHEAD = timedelta(minutes=1)
"""That Shopify's clock may be ahead of ours."""

_MAX_QUERY = 4_096
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP = re.compile(r"[0-9]{1,10}")
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
"""Nothing stands between what is signed: a name with = in it could swallow what stands before, such as the time."""
_TIME = b"timestamp="
"""For the same reason signed once, by Shopify: of two, one stands in a value, and which one nobody can tell."""


def read(query: str, shop: str, keys: Iterable[str], now: datetime) -> Mapping[str, str] | None:
    """Parameters that came once, of a query that is signed by one of the keys, for this shop, just now; else None."""
    try:
        pairs = parse_qsl(query[: _MAX_QUERY + 1], keep_blank_values=True, errors="strict", max_num_fields=60)
    except ValueError:
        return None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    signatures = values.pop("signature", [])
    once = {name: told[0] for name, told in values.items() if len(told) == 1}
    if len(query) > _MAX_QUERY or len(signatures) != 1 or not all(map(_NAME.fullmatch, values)):
        return None
    if not _is_signed(values, signatures[0], keys) or once.get("shop") != shop:
        return None
    return once if _is_of_now(once.get("timestamp", ""), now) else None


def _is_signed(values: Mapping[str, list[str]], signature: str, keys: Iterable[str]) -> bool:
    if not _SIGNATURE.fullmatch(signature):
        return False
    message = "".join(sorted(f"{name}={','.join(told)}" for name, told in values.items())).encode()
    if message.count(_TIME) != 1:
        return False
    return any(hmac.compare_digest(hmac.digest(key.encode(), message, "sha256").hex(), signature) for key in keys)


def _is_of_now(timestamp: str, now: datetime) -> bool:
    if not _TIMESTAMP.fullmatch(timestamp):
        return False
    return -AHEAD.total_seconds() <= now.timestamp() - int(timestamp) <= OLDEST.total_seconds()
