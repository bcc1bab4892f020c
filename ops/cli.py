"""The command `pf` itself: its global options, how it answers, and how it fails.

Exit codes: 0 done, 1 not done, 2 the command is wrong, 75 not done now, or nobody knows: try again.
"""

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn
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

if TYPE_CHECKING:
    from rich.console import Console

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
@click.option("--stack", "stack_name", metavar="NAME", help="The stack's name, if it is not that of samconfig.toml.")
@click.option("--stage", help="Which stage's stack, as in `make deploy STAGE=…`; with --stack: what its stage must be.")
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
            else stack.find(stack_name or stack.configured_name(stage), stage, region, profile)
        )
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


# --- Answers ----------------------------------------------------------------------------------------------------------


def tell(text: str) -> None:
    """To a person: what a script reads is on the other channel."""
    click.echo(text, err=True)


def print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2))


def print_lines(contents: Iterable[Any]) -> None:
    """JSON Lines, each as it comes."""
    for content in contents:
        click.echo(json.dumps(content))


def printable(text: str) -> str:
    """Without what could command a terminal, break a line or turn its direction: the text may be a stranger's."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def console(*, stderr: bool = False) -> "Console":
    """Of rich, without its markup: what is shown may be a stranger's. Never narrower than an id and its neighbours."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """On standard output; columns of the same width, and where it is no terminal nothing but text. What does not fit
    a terminal stands below each other: no id is ever broken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    shown = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in cells:
        shown.add_row(*map(Text, row))
    here = console()
    if here.measure(shown, options=here.options.update(max_width=_WIDEST)).maximum <= here.width:
        here.print(shown)
        return
    if title:
        here.print(title, style="italic")
    for row in cells:
        for name, cell in zip(columns, row, strict=True):
            line = Text.assemble((f"{name:{max(map(len, columns))}}", "bold"), "  ", cell)
            here.print(line, soft_wrap=True)
        here.print()


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal; what it gives takes how much further the work is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    shown = console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def is_terminal() -> bool:
    """Whether somebody sits there who can be asked."""
    return sys.stdin.isatty()


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether a person says y, or said --yes. Where nobody can be asked, the command is wrong without --yes."""
    if yes:
        return True
    if not is_terminal():
        raise click.UsageError("nobody can be asked here; give --yes")
    return click.confirm(question, err=True)


# --- Options of several commands --------------------------------------------------------------------------------------

_AGO = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WIDE = 240
_WIDEST = 10_000


def moment(text: str, now: datetime) -> datetime:
    """`30m`, `2h`, `3d`, `1w` ago, or a date or time of ISO 8601, in UTC where it says nothing else. Raises
    ValueError."""
    if match := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _moment(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else moment(text, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter("must be like 30m, 2h, 3d, 2026-11-01 or 2026-11-01T10:00:00Z") from None


def time_option(name: str, help_text: str, **more: Any) -> Callable[[Any], Any]:
    """An aware datetime, or None."""
    return click.option(
        name, metavar="TIME", callback=_moment, help=f"{help_text}: 30m, 2h, 3d ago, or a date.", **more
    )


def for_option(default: int) -> Callable[[Any], Any]:
    """How long a command may wait for others."""
    return click.option(
        "--for", "seconds", type=click.IntRange(min=0), default=default, metavar="SECONDS", show_default=True,
        help="How long to wait.",
    )  # fmt: skip


since_option = time_option("--since", "From when on")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def _reason(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and (not text.strip() or len(text) > _MAX_REASON or not text.isprintable()):
        raise click.BadParameter(f"must be one line of at most {_MAX_REASON} characters")
    return text


_MAX_REASON = 500


def reason_option(*, required: bool, default: str = "not given") -> Callable[[Any], Any]:
    """Why, for whoever reads the audit; nothing personal belongs there."""
    more = {"required": True} if required else {"default": default}
    return click.option("--reason", callback=_reason, help="Why, for the audit: one line.", **more)


# --- Failures ---------------------------------------------------------------------------------------------------------


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


def said(error: BotoCoreError | ClientError) -> Failed:
    """What AWS means by it, to be told instead of raised."""
    try:
        _fail(error)
    except Failed as failure:
        return failure


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
