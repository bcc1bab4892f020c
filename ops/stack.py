"""Which stack `pf` works on: what CloudFormation says of it, and clients that end.

The sandbox has a stack, too, so that every command works on both in the same way.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from sandbox.template import PSEUDO_PARAMETERS, ROOT

SANDBOX_URL = "http://127.0.0.1:8003"
SANDBOX = PSEUDO_PARAMETERS["AWS::StackName"]
"""Name and stage of the sandbox's stack."""
POCKETSFLOW_URL = "https://api.pocketsflow.com"
_PATIENCE = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
"""A person waits; somebody's script does, too."""
_PATIENCE_FOR_FUNCTIONS = Config(connect_timeout=3, read_timeout=910, retries={"total_max_attempts": 1})
"""A function may run for a quarter of an hour, and is invoked once."""
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")


_one_at_a_time = Lock()


class Unfit(Exception):
    """There is no such stack, or it is none of this project's; the message says what is wrong."""


@dataclass(frozen=True)
class Stack:
    name: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    session: boto3.Session
    url: str | None = None
    """Of all AWS, in the sandbox."""
    _clients: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """One for each service: another would connect anew."""

    @property
    def stage(self) -> str:
        return self.parameters["Stage"]

    @property
    def mode(self) -> str:
        """`test` or `live`."""
        return self.parameters["Mode"]

    @property
    def table(self) -> str:
        return self.outputs["LedgerTable"]

    @property
    def is_sandbox(self) -> bool:
        return self.url is not None

    @property
    def pocketsflow_url(self) -> str:
        return self.outputs["PocketsflowUrl"] if self.is_sandbox else POCKETSFLOW_URL

    def output(self, name: str) -> str:
        """Raises Unfit when the stack was deployed from an older template."""
        if name not in self.outputs:
            raise Unfit(f"the stack {self.name} has no output {name}; deploy it anew: make deploy STAGE={self.stage}")
        return self.outputs[name]

    def client(self, service: str) -> Any:
        with _one_at_a_time:  # a session makes clients in one thread only
            if service not in self._clients:
                self._clients[service] = client(self.session, service, self.url)
            return self._clients[service]

    def who(self) -> str:
        """The ARN of whoever runs this. Raises what AWS raises."""
        return str(self.client("sts").get_caller_identity()["Arn"])

    def enter(self) -> None:
        """From now on the code of functions/ can be imported: it reads its environment when it is, so never before."""
        for name in self._misleading():
            os.environ.pop(name, None)
        os.environ.update(self._environment())
        imported = sys.modules.get("payments.table")
        if imported is not None and self.table != imported.TABLE:
            raise RuntimeError(f"the functions' code is at work on {imported.TABLE}, not on {self.table}")

    def _misleading(self) -> tuple[str, ...]:
        """What would have the functions' code take other credentials than this session's: it knows no --profile, and
        for it keys of the environment come first."""
        held = self.session.get_credentials() if self.url is None else None
        profile = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE") if self.session.profile_name == "default" else ()
        return profile + (() if held is None or held.method == "env" else _KEYS)

    def _environment(self) -> dict[str, str]:
        where = {"AWS_REGION": self.session.region_name, "AWS_DEFAULT_REGION": self.session.region_name}
        if self.session.profile_name != "default":
            where["AWS_PROFILE"] = self.session.profile_name
        if self.url is not None:
            keys = {"AWS_ACCESS_KEY_ID": SANDBOX, "AWS_SECRET_ACCESS_KEY": SANDBOX}
            where |= {"AWS_ENDPOINT_URL": self.url, **keys}
        return {
            **where,
            "STAGE": self.stage,
            "MODE": self.mode,
            "TABLE_NAME": self.table,
            "POCKETSFLOW_URL": self.pocketsflow_url,
            "PATIENCE": "10",
            "POWERTOOLS_SERVICE_NAME": "pf",
            "POWERTOOLS_METRICS_NAMESPACE": f"pocketsflow-{self.stage}",
            "POWERTOOLS_LOG_LEVEL": "CRITICAL",  # what a person does is said by the commands, and in no figure
        }


def client(session: boto3.Session, service: str, url: str | None = None) -> Any:
    patience = _PATIENCE_FOR_FUNCTIONS if service == "lambda" else _PATIENCE
    return session.client(service, endpoint_url=url, config=patience)  # type: ignore[call-overload]  # any of them


def configured_name(stage: str | None) -> str:
    """What `make deploy` calls the stack of a stage, or `sam deploy` the one that samconfig.toml names."""
    name = _configured("default").get("stack_name")
    if not isinstance(name, str):
        raise Unfit("samconfig.toml names no stack; give --stack")
    return f"{name}-{stage}" if stage else name


def _configured(section: str) -> dict[str, Any]:
    """What samconfig.toml says of a deployment; {} when it says nothing."""
    try:
        found = tomllib.loads((ROOT / "samconfig.toml").read_text())[section]["deploy"]["parameters"]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def find(name: str, stage: str | None, region: str | None = None, profile: str | None = None) -> Stack:
    """The stack of that name, in the region where `make deploy` has put it unless another is named. Raises Unfit, also
    when its stage is not `stage`, and what AWS raises."""
    session = boto3.Session(region_name=region, profile_name=profile)
    if session.region_name is None and stage is not None:
        session = boto3.Session(region_name=_configured(stage).get("region"), profile_name=profile)
    return _read(session, name, stage)


def sandbox(url: str, stage: str | None) -> Stack:
    """The sandbox whose AWS is there, for any key. Raises Unfit."""
    session = boto3.Session(SANDBOX, SANDBOX, region_name=PSEUDO_PARAMETERS["AWS::Region"])
    try:
        return _read(session, SANDBOX, stage, url)
    except EndpointConnectionError:
        raise Unfit(f"there is no sandbox at {url}; start one: make demo") from None


def _read(session: boto3.Session, name: str, stage: str | None, url: str | None = None) -> Stack:
    try:
        [found] = client(session, "cloudformation", url).describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"].get("Code") != "ValidationError":
            raise
        raise Unfit(f"there is no stack {name} in {session.region_name}; give --stack, --region or --profile") from None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    if "LedgerTable" not in outputs or "Stage" not in parameters:
        raise Unfit(f"the stack {name} has no ledger ({found['StackStatus']}); is it one of this project's?")
    if stage not in (None, parameters["Stage"]):
        raise Unfit(f"the stage is {parameters['Stage']}, not {stage}")
    return Stack(name, parameters, outputs, session, url)
