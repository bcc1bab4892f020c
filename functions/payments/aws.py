"""AWS clients whose worst case fits the webhook's time budget.

botocore's own session instead of boto3's: the same clients without the 80 ms of CPU that a cold start
spends on importing s3transfer and resource factories (docs/decisions.md).
"""

from typing import TYPE_CHECKING, Literal, overload

import botocore.session
from botocore.config import Config

from payments.deployment import SANDBOX

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

CONNECT_SECONDS = 0.25
READ_SECONDS = {"dynamodb": 0.3, "secretsmanager": 0.7}
TRIES = {"dynamodb": 2, "secretsmanager": 1}

# A busy laptop pauses for longer than an AWS endpoint does, and nobody gives up on it after five seconds.
_PATIENCE = 20 if SANDBOX else 1


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
def client(service: str) -> object:
    """A client that gives up after TRIES calls of at most CONNECT_SECONDS + READ_SECONDS each.

    "legacy" because its first back-off is a fixed 50 ms for DynamoDB; "standard" may wait for a second.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS * _PATIENCE,
        read_timeout=READ_SECONDS[service] * _PATIENCE,
        retries={"total_max_attempts": TRIES[service], "mode": "legacy"},
    )
    return botocore.session.get_session().create_client(service, config=config)
