"""The API key of a stack: asked for without being shown, held against the stack and Pocketsflow, then stored."""

from datetime import UTC, datetime
from typing import IO

import click

from ops import audit, cli, provider
from ops.cli import Failed, TryAgain, tell
from ops.provider import Provider
from ops.stack import Stack

_MIN_LENGTH = 20
"""As functions/payments/secrets.py has it."""
_TRIES = 3
_WHERE = "Pocketsflow's dashboard, Developers, API keys"

key_file_option = click.option(
    "--key-file",
    type=click.File("r"),
    metavar="FILE",
    help="Where the API key is, instead of typing it; - is standard input.",
)


def stored(stack: Stack) -> str | None:
    """The key, where the stack has one that Pocketsflow takes. Raises TryAgain when Pocketsflow cannot be asked, and
    what AWS raises."""
    try:
        api_key = provider.stored_api_key(stack)
        check(stack, api_key)
    except TryAgain:
        raise
    except Failed:
        return None
    return api_key


def ask(stack: Stack, key_file: IO[str] | None) -> str:
    """A key that Pocketsflow takes, from the file or from the person. Raises Failed and TryAgain."""
    if key_file is not None:
        api_key = key_file.read().strip()
        check(stack, api_key)
        return api_key
    if not cli.is_terminal():
        raise Failed("nobody can be asked for the API key here; give --key-file FILE, or --key-file - and pipe it in")
    tell(f"The API key of mode {stack.mode} is in {_WHERE}; it begins with pk_{stack.mode}_. It is not shown here.")
    for tries_left in reversed(range(_TRIES)):
        api_key = click.prompt("API key", hide_input=True, err=True).strip()
        try:
            check(stack, api_key)
        except TryAgain:
            raise
        except Failed as failure:
            if not tries_left:
                raise
            tell(f"{failure.message}. Once more:")
        else:
            return str(api_key)
    raise AssertionError("the last try returns or raises")


def check(stack: Stack, api_key: str) -> None:
    """Raises Failed for a key that is not this stack's, TryAgain when Pocketsflow cannot be asked."""
    other = {"test": "live", "live": "test"}[stack.mode]
    if api_key.startswith(f"pk_{other}_"):
        raise Failed(f"this is a key of mode {other}, and the stack {stack.name} is of mode {stack.mode}")
    if not api_key.startswith(f"pk_{stack.mode}_"):
        raise Failed(f"this is no API key: it would begin with pk_{stack.mode}_")
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key or "..." in api_key:
        raise Failed(f"this is a key as it is shown in part; the whole one is shown when it is made, in {_WHERE}")
    if len(api_key) < _MIN_LENGTH and not stack.is_sandbox:
        raise Failed("this API key is too short to be whole")
    try:
        account = Provider(stack, api_key).me()
    except TryAgain:
        raise
    except Failed:
        raise Failed("Pocketsflow does not take this API key") from None
    if account.get("testMode") not in (None, stack.mode == "test"):
        raise Failed(f"Pocketsflow says that this key is not of mode {stack.mode}")


def store(stack: Stack, api_key: str, action: str, reason: str) -> None:
    """In the place of the one before, which Secrets Manager keeps as AWSPREVIOUS."""
    audit.write(stack, f"{action}.store_api_key", reason, datetime.now(UTC))
    stack.client("secretsmanager").put_secret_value(SecretId=stack.output("ApiKeySecret"), SecretString=api_key)
