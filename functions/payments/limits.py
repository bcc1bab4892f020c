"""How often one address may ask for something: HTTP APIs count no addresses, so the function's own table does."""

import hmac
import ipaddress
from datetime import datetime, timedelta

from payments.table import TABLE, client, key

WINDOW = timedelta(minutes=10)


def count_checkout(address: str, secret: str, most: int, now: datetime) -> int | None:
    """Counts one more checkout for an internet address, as `one_more` does."""
    return one_more("checkouts", network(address), secret.encode(), most=most, within=WINDOW, now=now)


def one_more(what: str, who: str, secret: bytes, *, most: int, within: timedelta, now: datetime) -> int | None:
    """Counts one more, in one request; None while there are `most` or fewer in this window, else the seconds until the
    next one.

    Whose they are is kept only as a hash by a key made from `secret`, another one in each window, for two windows.
    """
    window = int(within.total_seconds())
    start = int(now.timestamp()) // window * window
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(f"limit#{_hashed(what, who, secret, start)}"),
            UpdateExpression="ADD #what :one SET expires = :end",
            ConditionExpression="attribute_not_exists(#what) OR #what < :most",
            ExpressionAttributeNames={"#what": what},
            ExpressionAttributeValues={
                ":one": {"N": "1"},
                ":end": {"N": str(start + 2 * window)},
                ":most": {"N": str(most)},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return max(1, start + window - int(now.timestamp()))
    return None


def network(address: str) -> str:
    """Who has one IPv6 address has all of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # the gateway gives none: then it is an address all the same
        return address
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found.packed, 64), strict=False).network_address)


def _hashed(what: str, who: str, secret: bytes, start: int) -> str:
    own_key = hmac.digest(secret, f"{what} per address".encode(), "sha256")
    return hmac.digest(own_key, f"{start}\n{who}".encode(), "sha256").hex()
