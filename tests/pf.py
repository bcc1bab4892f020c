"""`pf` in this process, on moto: a stack that CloudFormation knows, commands, and AWS that fails."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import boto3
import botocore.client
import botocore.loaders
import botocore.session
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from ops.__main__ import pf
from ops.stack import Stack
from tests.conftest import template

# Each command has a session of its own, which would read AWS's models anew: most of what a test of a command costs.
botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)  # type: ignore[attr-defined]

OUTPUTS = ("CheckoutFunction", "WebhookFunction", "RelayFunction", "ReconcileFunction")


@functools.cache
def session() -> boto3.Session:
    """Of all tests: to make clients is most of what a command takes here."""
    return boto3.Session()


def stack_of(name: str = "pocketsflow", parameters: Mapping[str, str] | None = None, **outputs: str) -> Stack:
    """The stack of the fixture `cloud`, with the template's parameters and outputs, and these instead of some."""
    declared = template(**(parameters or {}))
    parked = declared.references["Parking"]["Ref"]
    declared.references["ParkedTooLong"] = {"Arn": "arn:aws:sqs:eu-west-1:123456789012:sandbox-ParkedTooLong"}
    declared.references["Parking"] = {"Ref": parked, "Arn": "arn:aws:sqs:eu-west-1:123456789012:sandbox-Parking"}
    declared.references.update({name: {"Ref": name} for name in OUTPUTS})
    return Stack(name, declared.parameters(), {**declared.outputs(), **outputs}, session())


def deployed(name: str = "pocketsflow", **outputs: str) -> Stack:
    """The same, and CloudFormation knows it by this name."""
    stack = stack_of(name, **outputs)
    boto3.client("cloudformation").create_stack(
        StackName=name,
        TemplateBody=json.dumps(
            {
                "Parameters": {each: {"Type": "String"} for each in stack.parameters},
                "Resources": {},
                "Outputs": {each: {"Value": value} for each, value in stack.outputs.items()},
            }
        ),
        Parameters=[{"ParameterKey": each, "ParameterValue": value} for each, value in stack.parameters.items()],
    )
    return stack


def run(*words: str, answering: str | None = None) -> Result:
    """`answering` is what a person types, who then sits at a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        if answering is not None:
            patch.setattr("ops.cli.is_terminal", lambda: True)
        return CliRunner().invoke(pf, words, input=answering, prog_name="pf")


def done(*words: str) -> Any:
    """What it prints, as JSON."""
    result = run(*words, "--json")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


def failed(*words: str) -> tuple[int, str]:
    """Its exit code and its one line."""
    result = run(*words)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert isinstance(result.exception, SystemExit), result.exception
    [line] = result.stderr.splitlines()
    assert line.startswith("pf: ")
    return result.exit_code, line.removeprefix("pf: ")


def answer(code: str, status: int = 400, operation: str = "UpdateItem") -> ClientError:
    """What AWS says in an error."""
    said: Any = {"Error": {"Code": code, "Message": "."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(said, operation)


def fails(
    monkeypatch: pytest.MonkeyPatch, operation: str, error: Exception, times: int = 99, after: bool = False
) -> None:
    """An operation of AWS fails, instead of happening or after it has."""
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    left = [times]

    def calling(self: Any, name: str, arguments: Any) -> Any:
        if name != operation or not left[0]:
            return call(self, name, arguments)
        left[0] -= 1
        if after:
            call(self, name, arguments)
        raise error

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
