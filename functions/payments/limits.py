"""How many checkouts one address may open: HTTP APIs count no addresses, so the ledger's table does."""

import hmac
import ipaddress
from datetime import datetime, timedelta

from payments.table import TABLE, client, key

WINDOW = timedelta(minutes=10)


def count_checkout(address: str, secret: str, most: int, now: datetime) -> int | None:
    """Counts one more for the address, in one request; None while it has `most` or fewer in this window, else the
    seconds until the next one.

    An address is kept only as a hash by a key made from `secret`, another one in each window, for minutes.
    """
    window = int(WINDOW.total_seconds())
    start = int(now.timestamp()) // window * window
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"limit#{_hashed(_network(address), secret, start)}"),
            UpdateExpression="ADD checkouts :one SET expires = :end",
            ConditionExpression="attribute_not_exists(checkouts) OR checkouts < :most",
            ExpressionAttributeValues={
                ":one": {"N": "1"},
                ":end": {"N": str(start + 2 * window)},
                ":most": {"N": str(most)},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return max(1, start + window - int(now.timestamp()))
    return None


def _network(address: str) -> str:
    """Who has one IPv6 address has all of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # the gateway gives none: then it is an address all the same
        return address
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found.packed, 64), strict=False).network_address)


def _hashed(network: str, secret: str, start: int) -> str:
    own_key = hmac.digest(secret.encode(), b"checkouts per address", "sha256")
    return hmac.digest(own_key, f"{start}\n{network}".encode(), "sha256").hex()
