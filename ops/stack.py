"""Which stack `pf` works on: its stage, its table, and clients that end."""

import tomllib
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.template import PSEUDO_PARAMETERS, ROOT

SANDBOX_URL = "http://127.0.0.1:8003"
SANDBOX_STAGE = "sandbox"
SANDBOX_TABLE = "sandbox-Ledger"
_PATIENCE = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
"""A person waits; somebody's script does, too."""


class Unfit(Exception):
    """There is no such stack, or it is none of this project's; the message says what is wrong."""


@dataclass(frozen=True)
class Stack:
    stage: str
    table: str
    session: boto3.Session
    url: str | None = None
    """Of all AWS, in the sandbox."""

    @property
    def is_sandbox(self) -> bool:
        return self.url is not None

    def client(self, service: str) -> Any:
        return client(self.session, service, self.url)


def client(session: boto3.Session, service: str, url: str | None = None) -> Any:
    return session.client(service, endpoint_url=url, config=_PATIENCE)  # type: ignore[call-overload]  # any of them


def configured_name() -> str:
    """What `sam deploy` calls the stack."""
    try:
        content = tomllib.loads((ROOT / "samconfig.toml").read_text())
        name = content["default"]["deploy"]["parameters"]["stack_name"]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError):
        raise Unfit("samconfig.toml names no stack; give --stack") from None
    return str(name)


def find(name: str, stage: str | None, region: str | None = None, profile: str | None = None) -> Stack:
    """The stack of that name. Raises Unfit, also when its stage is not `stage`, and what AWS raises."""
    session = boto3.Session(region_name=region, profile_name=profile)
    try:
        [found] = client(session, "cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"].get("Code") != "ValidationError":
            raise
        raise Unfit(f"there is no stack {name} in {session.region_name}; give --stack, --region or --profile") from None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    if "LedgerTable" not in outputs or "Stage" not in parameters:
        raise Unfit(f"the stack {name} has no ledger ({found['StackStatus']}); is it one of this project's?")
    return _of_stage(Stack(parameters["Stage"], outputs["LedgerTable"], session), stage)


def sandbox(url: str, stage: str | None) -> Stack:
    """The sandbox whose AWS is there, for any key. Raises Unfit."""
    session = boto3.Session(SANDBOX_STAGE, SANDBOX_STAGE, region_name=PSEUDO_PARAMETERS["AWS::Region"])
    return _of_stage(Stack(SANDBOX_STAGE, SANDBOX_TABLE, session, url), stage)


def _of_stage(found: Stack, stage: str | None) -> Stack:
    if stage not in (None, found.stage):
        raise Unfit(f"the stage is {found.stage}, not {stage}")
    return found
