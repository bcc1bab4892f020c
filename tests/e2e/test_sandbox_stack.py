"""The sandbox's stack, as AWS would tell of it: what it is called, and its functions at work."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.e2e.conftest import Sandbox


def client(sandbox: Sandbox, service: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]  # any of them
        service, region_name="eu-west-1", endpoint_url=sandbox.aws, aws_access_key_id="x", aws_secret_access_key="x"
    )


def test_cloudformation_describes_it(sandbox: Sandbox) -> None:
    """Parameters and outputs of the template, with the addresses where it is."""
    [stack] = client(sandbox, "cloudformation").describe_stacks(StackName="sandbox")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (outputs["ApiUrl"], outputs["PocketsflowUrl"]) == (sandbox.api, sandbox.pocketsflow)
    assert outputs["WebhookUrl"] == f"{sandbox.api}/webhooks/pocketsflow"
    assert outputs["LedgerTable"] == "sandbox-Ledger"
    assert (parameters["Stage"], parameters["Mode"]) == ("sandbox", "test")
    assert parameters["AllowedOrigins"].split(",")[0] == sandbox.shop


def test_cloudformation_knows_no_other_and_does_no_more(sandbox: Sandbox) -> None:
    """In the words of AWS."""
    cloudformation = client(sandbox, "cloudformation")
    with pytest.raises(ClientError, match=r"ValidationError.* a&b does not exist"):
        cloudformation.describe_stacks(StackName="a&b")
    with pytest.raises(ClientError, match="InvalidAction"):
        cloudformation.delete_stack(StackName="sandbox")


def test_a_function_is_invoked(sandbox: Sandbox) -> None:
    """Its answer, or its error as Lambda gives it."""
    functions = client(sandbox, "lambda")
    answered = functions.invoke(FunctionName="ReconcileFunction", Payload=b'{"walk": "recent"}')
    assert "FunctionError" not in answered
    assert json.load(answered["Payload"])["outcome"] in ("done", "already_running")
    failed = functions.invoke(FunctionName="ReconcileFunction", Payload=b'{"walk": "?"}')
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorType"] == "ValueError"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        functions.invoke(FunctionName="Nothing")
