"""`pf key`: keys of the shop's own server (functions/payments/server_keys.py says how they are kept)."""

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from ops.cli import Failed, TryAgain, json_option, print_json, tell
from ops.items import timestamp
from ops.stack import Stack

PK = "server#keys"
PREFIX = "key#"
MAX_KEYS = 20
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TRIES = 5
_SHOWN = 12
"""Digits of the hash: enough to tell keys apart, and to find the one of a token that turned up somewhere."""


@dataclass(frozen=True)
class Key:
    hash: str
    name: str
    created_at: str
    created_by: str | None

    def shown(self) -> dict[str, str | None]:
        return {
            "name": self.name,
            "sha256": self.hash,
            "created_at": self.created_at,
            "created_by": self.created_by,
        }


class Keys:
    """The keys of a stack: one item of its table, changed by one conditional write at a time."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._dynamodb = stack.client("dynamodb")
        self._where = {"TableName": stack.table, "Key": {"pk": {"S": PK}}}

    def all(self) -> list[Key]:
        """Oldest first."""
        return self._read()[0]

    def create(self, name: str, now: datetime) -> tuple[str, Key]:
        """Stores a new key's hash; its token, which is nowhere else, and the key. Raises Failed."""
        token = f"pfs_{self._stack.stage}_{secrets.token_urlsafe(32)}"
        created_at = timestamp(now)
        new = Key(hashlib.sha256(token.encode()).hexdigest(), name, created_at, self._who())

        def change(keys: list[Key]) -> tuple[str, dict[str, Any]] | None:
            if new in keys:  # this very write, whose answer was lost
                return None
            if any(key.name == name for key in keys):
                raise Failed(f"there is a key {name} already; revoke it first, or take another name")
            if len(keys) >= MAX_KEYS:
                raise Failed(f"there are {MAX_KEYS} keys, the most there may be; revoke one first")
            fields = {"name": name, "created_at": created_at, "created_by": new.created_by}
            value = {"M": {field: {"S": text} for field, text in fields.items() if text is not None}}
            return "SET #key = :key, #revision = :next", {"#key": f"{PREFIX}{new.hash}", ":key": value}

        self._change(change)
        return token, new

    def revoke(self, name: str) -> Key:
        """Removes a key, which counts at once. Raises Failed."""
        revoked: list[Key] = []

        def change(keys: list[Key]) -> tuple[str, dict[str, Any]] | None:
            found = [key for key in keys if key.name == name]
            if not found:
                if revoked:  # by this very write, whose answer was lost, or by somebody else just now
                    return None
                raise Failed(f"there is no key {name}; `pf key list` shows those there are")
            revoked[:] = found
            return "REMOVE #key SET #revision = :next", {"#key": f"{PREFIX}{found[0].hash}"}

        self._change(change)
        return revoked[0]

    def _change(self, change: Callable[[list[Key]], tuple[str, dict[str, Any]] | None]) -> None:
        """Reads, and writes if nobody else has written since: names are unique, and keys are counted, over attributes
        that no condition can name."""
        for _ in range(_TRIES):
            keys, revision = self._read()
            changed = change(keys)
            if changed is None:
                return
            update, placeholders = changed
            names = {name: text for name, text in placeholders.items() if name.startswith("#")}
            values = {name: value for name, value in placeholders.items() if name.startswith(":")}
            values[":next"] = {"N": str(revision + 1)}
            if revision:
                values[":seen"] = {"N": str(revision)}
            try:
                self._dynamodb.update_item(
                    **self._where,
                    UpdateExpression=update,
                    ConditionExpression="#revision = :seen" if revision else "attribute_not_exists(#revision)",
                    ExpressionAttributeNames={**names, "#revision": "revision"},
                    ExpressionAttributeValues=values,
                )
            except self._dynamodb.exceptions.ConditionalCheckFailedException:
                continue
            return
        raise TryAgain("somebody else changes keys at this moment; try again")

    def _read(self) -> tuple[list[Key], int]:
        try:
            item = self._dynamodb.get_item(**self._where, ConsistentRead=True).get("Item", {})
        except self._dynamodb.exceptions.ResourceNotFoundException:
            raise Failed(f"there is no table {self._stack.table}") from None
        keys = [_key(name.removeprefix(PREFIX), each["M"]) for name, each in item.items() if name.startswith(PREFIX)]
        return sorted(keys, key=lambda key: (key.created_at, key.name)), int(item.get("revision", {"N": "0"})["N"])

    def _who(self) -> str | None:
        """Who runs this, where AWS says it."""
        if self._stack.is_sandbox:
            return None
        try:
            return str(self._stack.client("sts").get_caller_identity()["Arn"])
        except (BotoCoreError, ClientError):
            return None


def _key(hashed: str, fields: Mapping[str, Any]) -> Key:
    text = {name: value["S"] for name, value in fields.items()}
    return Key(hashed, text.get("name", ""), text.get("created_at", ""), text.get("created_by"))


def _checked(_ctx: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not NAME.fullmatch(name):
        raise click.BadParameter("lower-case letters, digits and dashes, first no dash, at most 40")
    return name


@click.group()
def key() -> None:
    """Keys for your own server.

    With one it may call POST /server/checkout and PUT /server/orders/{reference}.
    """


@key.command()
@click.argument("name", callback=_checked)
@json_option
@click.pass_obj
def create(stack: Callable[[], Stack], name: str, as_json: bool) -> None:
    """Makes the key NAME and prints its token.

    This once: only its SHA-256 is kept.
    """
    token, made = Keys(stack()).create(name, datetime.now(UTC))
    if as_json:
        print_json({**made.shown(), "token": token})
    else:
        tell(f"The key {name} counts from now on. Its token is shown this once; keep it like a password:")
        click.echo(token)


@key.command("list")
@json_option
@click.pass_obj
def list_(stack: Callable[[], Stack], as_json: bool) -> None:
    """Lists the keys, oldest first."""
    keys = Keys(stack()).all()
    if as_json:
        print_json([each.shown() for each in keys])
        return
    for each in keys:
        click.echo(f"{each.name:40}  {each.created_at}  {each.hash[:_SHOWN]}  {each.created_by or '-'}")
    if not keys:
        tell("There is no key.")


@key.command()
@click.argument("name", callback=_checked)
@json_option
@click.pass_obj
def revoke(stack: Callable[[], Stack], name: str, as_json: bool) -> None:
    """Ends the key NAME, at once."""
    revoked = Keys(stack()).revoke(name)
    if as_json:
        print_json(revoked.shown())
    else:
        tell(f"The key {name} ({revoked.hash[:_SHOWN]}) counts no longer.")
