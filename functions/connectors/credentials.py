"""What a person has put into the connector's secret: words, told apart by how they begin."""

from datetime import datetime

from connectors.outgoing import Undelivered
from payments import secrets


def words(arn: str, prefix: str, now: datetime) -> list[str]:
    """One at least that begins so, in the order in which they stand there. Raises Undelivered: `secret_unreachable`, or
    `secret_missing`."""
    try:
        found = secrets.read(arn, prefix, now) or secrets.read(arn, prefix, now, secrets.REFRESH)
    except secrets.Unavailable:
        raise Undelivered("secret_unreachable") from None
    if not found:
        raise Undelivered("secret_missing")
    return found
