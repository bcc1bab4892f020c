"""What a first request would have to wait for, made in Lambda's init phase, which has a whole processor: an invocation
has as much of one as its memory buys, a third at 512 MB."""

import os
from contextlib import suppress
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, secrets, table

LEDGER_SECONDS = 1.2
"""For one try that nobody answers, and none after it: what is left is for parking the webhook that waits."""


def warm_up(secret_arn: str, now: datetime) -> None:
    """Reads the secret and connects to the ledger, by a write that is always refused. What fails here fails again, and
    is dealt with, where it is needed. Does nothing anywhere but on Lambda
    (docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html)."""
    if "AWS_LAMBDA_INITIALIZATION_TYPE" not in os.environ:
        return
    secrets.prefetch(secret_arn, now)
    with aws.finishing_within(LEDGER_SECONDS * aws.PATIENCE, leaving=0), suppress(BotoCoreError, ClientError):
        table.client.update_item(
            TableName=table.TABLE,
            Key=table.key("warm_up"),
            UpdateExpression="REMOVE warm",
            ConditionExpression="attribute_exists(pk)",
        )
