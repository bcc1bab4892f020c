"""What holds for every command of `pf`: it explains itself, ends in one line when AWS fails, and says the same to a
script."""

import re
from typing import Any

import click
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from ops.__main__ import pf
from ops.stack import Stack
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.pf import answer, deployed, failed, fails, run

WHY = ("--reason", "because", "--yes")
ORDER = "ord_test_01m844ah4r4tff59tdwh9edd1r"
WORDS: dict[str, tuple[str, ...]] = {
    "audit": (),
    "catalogue pull": ("--yes",),
    "connector discard": ("feed", "--event", "1", *WHY),
    "connector list": (),
    "connector retry": ("feed", "--yes"),
    "connector secret": ("feed",),
    "connector status": ("feed",),
    "connector test": ("feed",),
    "doctor": (),
    "erase": ("--email", "nobody@example.com", "--yes"),
    "events": (),
    "export": ("--since", "1d"),
    "init": ("--key-file", "/dev/null"),
    "kept": (),
    "key create": ("shop",),
    "key list": (),
    "key revoke": ("shop",),
    "listen": ("--for", "0.1"),
    "order": (ORDER,),
    "orders": ("--status", "paid"),
    "reconcile": (),
    "redrive": ("ParkedTooLong", "--yes"),
    "refund": (ORDER, *WHY),
    "replay": (ORDER,),
    "republish": (ORDER, "--yes"),
    "resolve": (ORDER, "--reason", "because"),
    "rotate": (),
    "settle": ("--order", ORDER, "--payment", "6b042b389531985d5d9dc9f8", *WHY),
    "stats": (),
    "tail": ("--for", "0.1"),
    "trigger": ("order.completed",),
}
"""Each command that works on a stack, with the least that it needs."""


def commands(group: click.Group = pf, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


def words(name: str) -> tuple[str, ...]:
    return (*name.split(), *WORDS[name])


def test_every_command_is_here() -> None:
    """A new one finds its place in these tests; `completion` works on no stack."""
    assert commands().keys() - {"completion"} == WORDS.keys()


@pytest.mark.parametrize("name", sorted(WORDS))
def test_it_explains_itself_and_answers_in_json(name: str) -> None:
    """In a first line that is a sentence, without a stack; every option has its help."""
    command = commands()[name]
    asked = run(*name.split(), "--help")
    assert asked.exit_code == 0
    assert re.match(r"[A-Z].*[.:]$", (command.help or "").splitlines()[0])
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert "--json" in {flag for each in options for flag in each.opts}
    assert all(each.help for each in options)


@pytest.mark.parametrize("name", sorted(WORDS))
@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (NoCredentialsError(), 1, "no AWS credentials"),
        (answer("ExpiredToken"), 1, "does not take these credentials"),
        (EndpointConnectionError(endpoint_url="https://aws"), 75, "AWS is not there"),
    ],
    ids=["none", "expired", "unreachable"],
)
def test_without_credentials_or_aws(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, code: int, part: str
) -> None:
    """One line on standard error, nothing on the other, and an exit code."""
    fails(monkeypatch, "DescribeStacks", error)
    told = failed(*words(name))
    assert (told[0], part in told[1]) == (code, True), told


def test_on_the_wrong_stage(cloud: Aws) -> None:
    """Nothing is done."""
    deployed()
    before = cloud.items()
    for name in WORDS:
        told = failed("--stack", "pocketsflow", "--stage", "prod", *words(name))
        assert told == (1, "the stage is test, not prod"), name
        assert failed("--stage", "prod", *words(name))[1].startswith("there is no stack pocketsflow-prod"), name
    assert cloud.items() == before


def _denied(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
    """Whatever is asked of AWS but for the stack itself."""
    import botocore.client

    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def calling(self: Any, name: str, arguments: Any) -> Any:
        if name == "DescribeStacks":
            return call(self, name, arguments)
        raise answer("AccessDeniedException", 400, name)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
    assert stack.table


def test_without_permission(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what may not be done, and no traceback. The doctor goes on, `kept` asks for the stack alone,
    and `connector secret` was given none."""
    _denied(monkeypatch, deployed(FeedConnector="queue dead table function secret"))
    for name in WORDS.keys() - {"doctor", "kept", "connector secret"}:
        result = run(*words(name))
        assert result.exit_code == 1, (name, result.output)
        assert isinstance(result.exception, SystemExit), (name, result.exception)
        assert re.search(r"pf: .*(may not do \w+|is empty|no API key)", result.stderr.splitlines()[-1]), result.stderr


def test_the_document_has_every_command() -> None:
    """And none that is not there."""
    named = re.findall(r"^\| \[?`pf ([a-z]+)", (ROOT / "docs/pf.md").read_text(), re.MULTILINE)
    assert set(named) == pf.commands.keys()
