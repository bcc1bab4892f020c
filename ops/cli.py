"""The command `pf` itself: its global options, how it answers, and how it fails.

Exit codes: 0 done, 1 not done, 2 the command is wrong, 75 not done now, or nobody knows: try again.
"""

import functools
import json
from typing import Any, NoReturn
from urllib.parse import urlsplit

import click
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from ops import stack

TRY_AGAIN = 75
_BUSY = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "ProvisionedThroughputExceededException"}
_BAD_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_SERVER_ERROR = 500

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
"""Of every command."""


class Failed(click.ClickException):
    """Not done; the message is one line and says why."""

    def show(self, file: Any = None) -> None:
        click.echo(f"pf: {self.message}", file=file, err=True)


class TryAgain(Failed):
    """Not done now, or nobody knows."""

    exit_code = TRY_AGAIN


class Pf(click.Group):
    """Says in a line what AWS says in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BotoCoreError, ClientError) as error:
            _fail(error)
        except stack.Unfit as error:
            raise Failed(str(error)) from None


@click.group(cls=Pf, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stack", "stack_name", metavar="NAME", help="The stack's name; by default that of samconfig.toml.")
@click.option("--stage", help="What the stack's stage must be: a safeguard for scripts.")
@click.option("--region", help="AWS region; by default that of the environment or the profile.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--sandbox", is_flag=True, help="The sandbox on this machine instead of a stack.")
@click.option("--aws-url", metavar="URL", help=f"Where the sandbox has AWS; by default {stack.SANDBOX_URL}.")
@click.pass_context
def pf(
    ctx: click.Context,
    *,
    stack_name: str | None,
    stage: str | None,
    region: str | None,
    profile: str | None,
    sandbox: bool,
    aws_url: str | None,
) -> None:
    """What a person does with a stack of this project."""
    if sandbox and (stack_name or region or profile):
        raise click.UsageError("--sandbox has no --stack, --region or --profile")
    if aws_url and not sandbox:
        raise click.UsageError("--aws-url needs --sandbox")
    if aws_url and not _is_address(aws_url):
        raise click.BadParameter("must be like http://127.0.0.1:8003", param_hint="--aws-url")
    # Found when a command wants it: `pf key --help` needs no AWS.
    ctx.obj = functools.cache(
        lambda: (
            stack.sandbox(aws_url or stack.SANDBOX_URL, stage)
            if sandbox
            else stack.find(stack_name or stack.configured_name(), stage, region, profile)
        )
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def tell(text: str) -> None:
    """To a person: what a script reads is on the other channel."""
    click.echo(text, err=True)


def print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2))


def _fail(error: BotoCoreError | ClientError) -> NoReturn:
    match error:
        case NoCredentialsError() | PartialCredentialsError():
            raise Failed("no AWS credentials; set AWS_PROFILE, or run `aws configure`") from None
        case NoRegionError():
            raise Failed("no AWS region; set AWS_REGION, or give --region") from None
        case ProfileNotFound():
            raise Failed(_line(error)) from None
        case ClientError(operation_name=operation):
            _refused(error, operation)
        case EndpointConnectionError() | ConnectTimeoutError():
            raise TryAgain(f"AWS is not there: {_line(error)}") from None
        case HTTPClientError():
            raise TryAgain(
                f"AWS did not answer; see whether it was done before you try again: {_line(error)}"
            ) from None
    raise Failed(_line(error)) from None


def _refused(error: ClientError, operation: str) -> NoReturn:
    code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _BUSY:
        raise TryAgain(f"AWS throttles {operation}; try again") from None
    if status >= _SERVER_ERROR:
        raise TryAgain(f"AWS failed in {operation} ({status}); see whether it was done before you try again") from None
    if code in _BAD_CREDENTIALS:
        raise Failed(f"AWS does not take these credentials ({code})") from None
    if code in _DENIED:
        raise Failed(f"these credentials may not do {operation}") from None
    raise Failed(_line(error)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
