"""AWS clients whose worst case fits the time budget of the function that uses them.

botocore's own session instead of boto3's: the same clients without what a cold start spends on importing s3transfer
and resource factories (docs/decisions.md).
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

PATIENCE = int(os.environ["PATIENCE"])
"""How many times as long a try may take where nobody waits for the answer: 1 while a person or Pocketsflow does."""
CONNECT_SECONDS = 0.2 * PATIENCE
"""For TCP, and as long again for TLS: urllib3 gives each of them all of it."""
READ_SECONDS = {
    "dynamodb": 0.3 * PATIENCE,
    "secretsmanager": 0.7 * PATIENCE,
    "sqs": 0.3 * PATIENCE,
    "events": 0.7 * PATIENCE,
    "s3": 1.0 * PATIENCE,
    "kms": 0.7 * PATIENCE,
    "sesv2": 0.7 * PATIENCE,
}
TRIES = {
    "dynamodb": 2,
    "secretsmanager": 1,
    "sqs": 1,
    "events": 1,
    "s3": 2,
    "kms": 1,
    "sesv2": 1,  # twice may be two mails
}

_USER_AGENT = "pocketsflow-serverless"
FAREWELL_SECONDS = 0.15
"""What the answer, the log and the metrics may take once the last call is over."""


_FOR_CREDENTIALS = ("sts", "sso", "sso-oidc", "signin")
"""What botocore asks for keys: on a laptop, where `pf` uses these clients."""


class _Loader(Loader):
    """botocore's data without what no client here asks for, a fifth of a cold start's CPU: a look into the folders of
    400 services, and a megabyte of endpoints, in whose place each service's own rules speak when it is called."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  # as botocore calls it
        return [*READ_SECONDS, *_FOR_CREDENTIALS]

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        if name == "endpoints":
            return {"version": 3, "partitions": []}, self.BUILTIN_DATA_PATH  # another path would overrule those rules
        return super().load_data_with_path(name)


_session = botocore.session.get_session()  # one: each reads its configuration anew
_session.register_component("data_loader", _Loader())
_deadline = math.inf


class Context(Protocol):
    """What is asked of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class OutOfTime(BotoCoreError):
    """The function's time does not suffice for one more try, so none was begun. Answer while it still can be heard."""

    fmt = "not sent: it could not end in time"


def longest_try(service: str) -> float:
    """Seconds until a try is given up, where the service has one address that answers or none."""
    return 2 * CONNECT_SECONDS + READ_SECONDS[service]


def finishing_in_time(context: Context) -> AbstractContextManager[None]:
    """A try within the block that could outlast the invocation raises OutOfTime instead."""
    return _until(time.monotonic() + context.get_remaining_time_in_millis() / 1000 - FAREWELL_SECONDS)


def time_left() -> float:
    """Seconds until no try begins any more."""
    return _deadline - time.monotonic()


def finishing_within(seconds: float, leaving: float) -> AbstractContextManager[None]:
    """The same for a part of the invocation, which also leaves time for what comes after it."""
    return _until(min(time.monotonic() + seconds, _deadline - leaving))


@contextmanager
def _until(deadline: float) -> Iterator[None]:
    global _deadline  # noqa: PLW0603  # Lambda runs one invocation at a time
    before, _deadline = _deadline, deadline
    try:
        yield
    finally:
        _deadline = before


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
@overload
def client(service: Literal["sqs"]) -> "SQSClient": ...
@overload
def client(service: Literal["events"]) -> "EventBridgeClient": ...
@overload
def client(service: Literal["s3", "kms", "sesv2"]) -> object: ...
def client(service: str) -> object:
    """A client that gives up after TRIES calls, each of which takes no longer than its longest_try.

    "legacy" because its first back-off is a fixed 50 ms for DynamoDB; "standard" may wait for a second. What AWS checks
    is not checked here as well, and the user agent is not put together twice for each request: a sixth of a call.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS[service],
        retries={"total_max_attempts": TRIES[service], "mode": "legacy"},
        parameter_validation=False,
        user_agent=_USER_AGENT,
        s3={"us_east_1_regional_endpoint": "regional"},  # as in every other region
    )
    made = _session.create_client(service, config=config)

    def refuse_late(**_: object) -> None:
        if time.monotonic() + longest_try(service) > _deadline:
            raise OutOfTime

    made.meta.events.register_first("before-send", refuse_late)  # called for each try
    return made
