"""docs/deploying.md: what it tells a person to type exists, and what it says of roles and keys is so."""

import json
import re
import shlex
import subprocess

import botocore.session
import pytest
from botocore import xform_name

from ops.rollout import KINDS
from sandbox.template import ROOT, Template, parse

PAGE = (ROOT / "docs/deploying.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
DEPLOYED = [line for line in COMMANDS if "sam deploy" in line]
ASKED = [line for line in COMMANDS if re.match(r"(API=\$\()?aws ", line)]
TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE = parse(TEXT)


@pytest.mark.parametrize("command", DEPLOYED, ids=range(len(DEPLOYED)))
def test_a_template_takes_what_it_is_given(command: str) -> None:
    """By name and pattern, and gets whatever has no default."""
    path = re.search(r"-t (\S+)", command)
    assert path is not None
    declared = parse((ROOT / path[1]).read_text())["Parameters"]
    given = dict(each.split("=", 1) for each in command.partition("--parameter-overrides ")[2].split())
    assert {name for name, each in declared.items() if "Default" not in each} <= given.keys() <= declared.keys()
    for name, value in given.items():
        assert re.fullmatch(declared[name].get("AllowedPattern", ".*"), value), name
    assert command.startswith(".venv/sam/bin/sam deploy ")


def test_these_are_all_commands() -> None:
    """Beside SAM's own and AWS's only a target of the Makefile, with a rollout that there is."""
    [make] = [line for line in COMMANDS if line not in DEPLOYED + ASKED]
    assert re.fullmatch(r"make deploy STAGE=prod ROLLOUT=(\w+)", make)
    assert make.rpartition("=")[2] in KINDS
    assert len(DEPLOYED) == 3
    for target in re.findall(r"`make ([a-z]+)", PAGE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_the_throttles_of_the_server_s_routes_can_be_taken_away() -> None:
    """Of each that is not there with `ServerRoutes=off`, by words that AWS takes."""
    gone = []
    for command in ASKED:
        service, operation, *options = shlex.split(re.sub(r"^API=\$\((.*)\)$", r"\1", command))[1:]
        model = botocore.session.get_session().get_service_model(service)
        [name] = [each for each in model.operation_names if xform_name(each, "-") == operation]
        known = {xform_name(each, "-") for each in model.operation_model(name).input_shape.members}
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert {each.removeprefix("--") for each in given} <= known | {"query", "output"}
        if name == "DeleteRouteSettings":
            gone.append(given["--route-key"])
            assert (given["--api-id"], given["--stage-name"]) == ("$API", "$default")
    routes = {
        there: {
            route
            for _, api in Template(TEXT, {"ServerRoutes": there}).resources("AWS::Serverless::HttpApi")
            for route, settings in api["RouteSettings"].items()
            if settings
        }
        for there in ("on", "off")
    }
    assert set(gone) == routes["on"] - routes["off"] != set()


def test_names_are_the_templates() -> None:
    """Each parameter and output that the page names is one of a template."""
    known: set[str] = set()
    for path in ("template.yaml", "infra/ci.yaml", "infra/waf.yaml"):
        content = parse((ROOT / path).read_text())
        known |= content["Parameters"].keys() | content["Outputs"].keys()
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z][A-Za-z]+)[`=]", PAGE))
    assert len(named) > 15
    assert named <= known


def test_what_a_workflow_is_told_is_what_it_asks() -> None:
    """The variables of an environment."""
    asked = set(re.findall(r"vars\.(\w+)", (ROOT / ".github/workflows/deploy.yml").read_text()))
    assert {"DEPLOY_ROLE", "EXECUTION_ROLE", "AWS_REGION", "ROLLOUT"} == asked
    assert all(f"`{name}`" in PAGE for name in asked)


def test_the_key_s_policy_lets_in_what_uses_the_key() -> None:
    """Services that use it in their own name: logs, what publishes on the topic, and the bus, which fills the queues of
    connectors. The rest comes with a role."""
    [statements] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    [_, of_services] = statements
    allowed = of_services["Principal"]["Service"]
    [publishing, _] = TEMPLATE["Resources"]["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    queues = parse((ROOT / "infra/connector.yaml").read_text())["Resources"]["QueuePolicy"]["Properties"]
    [sending, _] = queues["PolicyDocument"]["Statement"]
    assert set(allowed) == {*publishing["Principal"]["Service"], sending["Principal"]["Service"]}
    assert statements[0]["Principal"] == {"Service": "logs.REGION.amazonaws.com"}
    deploying = parse((ROOT / "infra/ci.yaml").read_text())["Resources"]["ExecutionRole"]["Properties"]["Policies"]
    [of_key] = re.findall(r"'HasKey', ({[^{}]*{'Ref': 'KmsKeyArn'})", str(deploying))
    rights = set(re.findall(r"'(kms:\w+)'", of_key))
    assert rights == {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"}
    assert all(f"`{right}`" in PAGE for right in rights)


def test_the_first_time_asks_and_the_next_does_not() -> None:
    """The recipe looks for the stage's section in samconfig.toml; both name the stack after the stage, and neither
    builds for a stage that is none."""
    recipe = MAKEFILE.partition("\ndeploy: stage build\n")[2].partition("\n\n")[0]
    asking = (
        r"$(if $(shell grep -s '^\[$(STAGE)\.deploy' samconfig.toml),,--guided --parameter-overrides Stage=$(STAGE))"
    )
    assert asking in recipe
    assert "OF_STAGE = --config-env $(STAGE) --stack-name pocketsflow-$(STAGE)" in MAKEFILE
    assert recipe.count("\n") <= 2


@pytest.mark.parametrize(
    ("stage", "code"), [("test", 0), ("prod-2", 0), ("", 2), ("default", 2), ("Prod", 2), ("a" * 17, 2), ("a b", 2)]
)
def test_a_stage_that_is_none_is_refused(stage: str, code: int) -> None:
    """Before anything is built: it becomes the stack's name, and a section of samconfig.toml."""
    told = subprocess.run(
        ["make", "-s", "stage", f"STAGE={stage}"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == code, told.stderr
    assert ("STAGE=test" in told.stderr) is (code != 0)
