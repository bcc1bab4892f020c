"""Keys of the shop's own servers: only their SHA-256 is kept, in one item, so that revoking one is one write and counts
at once. `pf key` writes the item (ops/keys.py); nothing that runs on AWS does.

    server#keys   key#<sha256 of the token>: {name, created_at, created_by}; revision
"""

import hashlib
import re

from payments.deployment import STAGE
from payments.table import TABLE, client, key

PK = "server#keys"
_TOKEN = re.compile(rf"pfs_{STAGE}_[A-Za-z0-9_-]{{43}}")
"""32 random bytes: nothing to guess, so a plain hash hides it, and to look a hash up tells nothing by its time."""


def is_valid(authorization: str) -> bool:
    """Whether the header `Authorization` is `Bearer` and a key that is not revoked. What looks like a key costs one
    read."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
        return False
    found = client.get_item(
        TableName=TABLE,
        Key=key(PK),
        ConsistentRead=True,
        ProjectionExpression="#key",
        ExpressionAttributeNames={"#key": f"key#{hashlib.sha256(token.encode()).hexdigest()}"},
    )
    return bool(found.get("Item"))
