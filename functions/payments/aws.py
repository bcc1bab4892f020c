"""AWS clients whose worst case fits the webhook's time budget.

botocore's own session instead of boto3's: the same clients without what a cold start spends on importing s3transfer
and resource factories (docs/decisions.md).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, overload

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from payments.deployment import SANDBOX

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

CONNECT_SECONDS = 0.2
"""For TCP, and as long again for TLS: urllib3 gives each of them all of it."""
READ_SECONDS = {"dynamodb": 0.3, "secretsmanager": 0.7}
TRIES = {"dynamodb": 2, "secretsmanager": 1}

FAREWELL_SECONDS = 0.15
"""What the answer, the log and the metrics may take once the last call is over."""

# A busy laptop pauses for longer than an AWS endpoint does, and nobody gives up on it after five seconds.
_PATIENCE = 20 if SANDBOX else 1

_session = botocore.session.get_session()  # one: each reads all of AWS's endpoints anew
_deadline = math.inf


class Context(Protocol):
    """What is asked of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int: ...


class OutOfTime(BotoCoreError):
    """The function's time does not suffice for one more try, so none was begun. Answer while it still can be heard."""

    fmt = "not sent: it could not end in time"


def longest_try(service: str) -> float:
    """Seconds until a try is given up, where the service has one address that answers or none."""
    return 2 * CONNECT_SECONDS + READ_SECONDS[service]


@contextmanager
def finishing_in_time(context: Context) -> Iterator[None]:
    """A try within the block that could outlast the invocation raises OutOfTime instead."""
    global _deadline  # noqa: PLW0603  # Lambda runs one invocation at a time
    _deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - FAREWELL_SECONDS
    try:
        yield
    finally:
        _deadline = math.inf


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
def client(service: str) -> object:
    """A client that gives up after TRIES calls, each of which takes no longer than its longest_try.

    "legacy" because its first back-off is a fixed 50 ms for DynamoDB; "standard" may wait for a second.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS * _PATIENCE,
        read_timeout=READ_SECONDS[service] * _PATIENCE,
        retries={"total_max_attempts": TRIES[service], "mode": "legacy"},
    )
    made = _session.create_client(service, config=config)

    def refuse_late(**_: object) -> None:
        if time.monotonic() + longest_try(service) > _deadline:
            raise OutOfTime

    made.meta.events.register_first("before-send", refuse_late)  # called for each try
    return made
