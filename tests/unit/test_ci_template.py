"""infra/ci.yaml and the workflow: who may deploy, what that can do at most, and what it cannot."""

import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import rollout
from sandbox.template import ROOT, Template, parse
from tests.conftest import CONNECTORS

CI = (ROOT / "infra/ci.yaml").read_text()
TEMPLATE = (ROOT / "template.yaml").read_text()
GIVEN = {"Repository": "octo/shop", "Environment": "test", "Stage": "test"}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PARAMETERS = parse(CI)["Parameters"]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())


def made(**parameters: str) -> dict[str, dict[str, Any]]:
    """Every resource, by logical id."""
    read = Template(CI, {**GIVEN, **parameters})
    kinds = {resource["Type"] for resource in parse(CI)["Resources"].values()}
    return {name: found for kind in kinds for name, found in read.resources(kind)}


def statements(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    documents = [policy["PolicyDocument"] for policy in resource.get("Policies", [])]
    for document in documents or [resource["PolicyDocument"]]:
        yield from document["Statement"]


def actions(statement: dict[str, Any]) -> set[str]:
    return set(words(statement.get("Action", [])))


def words(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


# --- Who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repository", ["octo/shop", "octo@12345/shop@67890"])
def test_only_this_repository_s_environment_takes_the_role(repository: str) -> None:
    """Audience and subject are pinned, each to one value: no branch, no pull request, no fork, no pattern."""
    [trust] = made(Repository=repository)["DeployRole"]["AssumeRolePolicyDocument"]["Statement"]
    issuer = "token.actions.githubusercontent.com"
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Condition"] == {
        "StringEquals": {
            f"{issuer}:aud": "sts.amazonaws.com",
            f"{issuer}:sub": f"repo:{repository}:environment:test",
        }
    }
    provider = f"arn:aws:iam::123456789012:oidc-provider/{issuer}"
    [trust] = made(OidcProviderArn=provider)["DeployRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Federated": provider}


def test_the_account_has_one_provider() -> None:
    """Made by the first environment, and kept when that goes; given to the next."""
    [provider] = [each for each in parse(CI)["Resources"].values() if each["Type"] == "AWS::IAM::OIDCProvider"]
    assert (provider["Condition"], provider["DeletionPolicy"]) == ("MakesProvider", "Retain")
    assert provider["Properties"] == {
        "Url": "https://token.actions.githubusercontent.com",
        "ClientIdList": ["sts.amazonaws.com"],
    }
    assert "Provider" not in made(OidcProviderArn="arn:aws:iam::123456789012:oidc-provider/x")


@pytest.mark.parametrize(
    ("parameter", "value", "accepted"),
    [
        *(("Repository", value, True) for value in ("octo/shop", "o-1/s.h_o-p", "octo@1/shop@2")),
        *(
            ("Repository", value, False)
            for value in ("octo", "*/shop", "octo/*", "octo/shop:x", "octo/shop/x", "a b/c")
        ),
        *(("Environment", value, True) for value in ("test", "production")),
        *(("Environment", value, False) for value in ("", "*", "te st", "test:x", "prod?")),
        *(("Stage", value, True) for value in ("test", "prod", "cinema")),
        *(("Stage", value, False) for value in ("", "ci", "ci-test", "sandbox", "*", "Prod")),
        ("OidcProviderArn", "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com", True),
        ("OidcProviderArn", "arn:aws:iam::123456789012:oidc-provider/evil.example", False),
    ],
)
def test_patterns(parameter: str, value: str, accepted: bool) -> None:
    """Nothing that widens the trust, nor a stage whose roles would be the pipeline's own."""
    assert (re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], value) is not None) is accepted


def test_only_cloudformation_takes_the_execution_role() -> None:
    """The workflow can hand it over, to CloudFormation alone, and not take it."""
    found = made()
    [trust] = found["ExecutionRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {
        "Effect": "Allow",
        "Principal": {"Service": "cloudformation.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    [passing] = [each for each in statements(found["DeployRole"]) if "iam:PassRole" in actions(each)]
    assert passing["Resource"] == "ExecutionRole.Arn"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}


# --- What -------------------------------------------------------------------------------------------------------------

ROLES = ["DeployRole", "ExecutionRole"]
BOUNDARIES = ["ExecutionBoundary", "Boundary"]


@pytest.mark.parametrize("name", ROLES + BOUNDARIES)
def test_no_action_with_a_star(name: str) -> None:
    """Each action is named; where a boundary speaks of whole services, it excludes them."""
    for statement in statements(made(KmsKeyArn=KEY)[name]):
        assert statement["Effect"] == "Allow"
        assert not [action for action in actions(statement) if "*" in action]
        assert ("NotAction" in statement) is (name == "ExecutionBoundary" and "Action" not in statement)
    assert "ManagedPolicyArns" not in made()[name]


EVERYWHERE = {
    "DeployRole": {"cloudwatch:DescribeAlarms", "lambda:GetAccountSettings"},
    "ExecutionRole": {
        *("budgets:ModifyBudget", "budgets:ViewBudget", "cloudwatch:DescribeAlarms", "kms:CreateKey"),
        *(f"logs:{verb}LogDelivery" for verb in ("Create", "Delete", "Get", "Update")),
        *("logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies"),
        *("logs:DescribeLogGroups", *(f"logs:{verb}QueryDefinition" for verb in ("Put", "Delete"))),
        "logs:DescribeQueryDefinitions",
    },
    "Boundary": {"cloudwatch:DescribeAlarms", "xray:PutTelemetryRecords", "xray:PutTraceSegments"},
}
"""What takes no resource but `*`."""


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_may_be_done_is_done_to_this_stage(name: str) -> None:
    """Another stage's stack, table, queue or role is out of reach; what has a name of its own (an API, a mapping, a
    secret, SAM's bucket) is bound in another way."""
    otherwise = re.compile(
        r"(arn:aws:apigateway:eu-west-1::/(apis|domainnames|tags)|arn:aws:lambda:\S+:event-source-mapping:\*$"
        r"|arn:aws:codedeploy:\S+:deploymentconfig:CodeDeployDefault\.Lambda\*$|arn:aws:iam::\d+:role/aws-service-role/ops\."
        r"|arn:aws:cloudformation:\S+(transform/Serverless-2016-10-31|stack/aws-sam-cli-managed-default/\*)$"
        r"|ExecutionRole\.Arn$|arn:aws:kms:|arn:aws:ses:\S+:identity/\*$)"  # of mail: the role names one sender
    )
    for statement in statements(made(KmsKeyArn=KEY)[name]):
        assert not actions(statement) & EVERYWHERE[name] or statement["Resource"] == "*"
        for resource in words(statement["Resource"]):
            if resource == "*":
                mapped = {"ArnLike": {"lambda:FunctionArn": _function("pocketsflow-test-*")}}
                assert actions(statement) <= EVERYWHERE[name] or statement["Condition"] == mapped
            elif ":secret:" in resource and "secretsmanager:CreateSecret" not in actions(statement):
                tag = "aws:ResourceTag/aws:cloudformation:stack-name"
                names = ["pocketsflow-test", "pocketsflow-test-*Stack-*"]  # its own, and its connectors'
                assert statement["Condition"] == {"StringLike": {tag: names}}
            elif ":secret:" not in resource:
                assert "pocketsflow-test" in resource or otherwise.match(resource), resource


def _function(name: str) -> str:
    return f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"


def test_the_workflow_changes_the_stack_through_the_execution_role_alone() -> None:
    """A change set that names no role, or another one, is denied; beside it the workflow reads, and uploads where
    the stage's artifacts are."""
    found = [each for each in statements(made()["DeployRole"]) if "cloudformation:CreateChangeSet" in actions(each)]
    [change, transform] = found
    of_nested = [each["Resource"] for each in statements(made()["ExecutionRole"])]
    assert transform["Resource"] in of_nested  # a connector's template is SAM's as well
    assert change["Condition"] == {"StringEquals": {"cloudformation:RoleArn": "ExecutionRole.Arn"}}
    assert transform["Resource"].endswith(":aws:transform/Serverless-2016-10-31")
    writing = re.compile(r":(Create|Put|Update|Delete|Execute|Set|Add|Remove|Send|Start|Stop|Invoke|Pass|Tag)")
    assert {
        action for each in statements(made()["DeployRole"]) for action in actions(each) if writing.search(action)
    } == {
        "cloudformation:CreateChangeSet",
        "cloudformation:DeleteChangeSet",
        "cloudformation:ExecuteChangeSet",
        "iam:PassRole",
        "s3:PutObject",
    }
    [upload] = [each for each in statements(made()["DeployRole"]) if "s3:PutObject" in actions(each)]
    assert upload["Resource"].endswith("samclisourcebucket-*/pocketsflow-test/*")
    assert "--s3-prefix pocketsflow-$(STAGE)" in (ROOT / "Makefile").read_text()


def test_the_workflow_reads_no_order() -> None:
    """Of the ledger it sees what the stack notes of itself."""
    [reading] = [each for each in statements(made()["DeployRole"]) if "dynamodb:GetItem" in actions(each)]
    assert actions(reading) == {"dynamodb:GetItem"}
    notes = ["reconcile#state", "rotate#state", "webhook#last", "webhook#self_test"]
    assert reading["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": notes}}


KEPT = {"dynamodb:DeleteTable", "s3:DeleteBucket", "sqs:DeleteQueue", "sqs:PurgeQueue"}
READ = {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan", "sqs:ReceiveMessage", "secretsmanager:GetSecretValue"}


def test_a_deployment_deletes_and_reads_nothing_that_is_kept() -> None:
    """Neither by what the execution role may do, nor by anything that is added to it within its boundary."""
    found = made()
    forbidden = KEPT | READ | {"secretsmanager:PutSecretValue"}
    assert not [each for each in statements(found["ExecutionRole"]) if forbidden & actions(each)]
    assert found["ExecutionRole"]["PermissionsBoundary"] == "ExecutionBoundary.Ref"
    [all_but, *_] = statements(found["ExecutionBoundary"])
    assert forbidden | {"iam:*", "sts:*", "organizations:*", "account:*"} <= set(all_but["NotAction"])
    assert all_but["Condition"] == {"StringEquals": {"aws:RequestedRegion": ["eu-west-1", "us-east-1"]}}


@pytest.mark.parametrize("name", ["ExecutionRole", "ExecutionBoundary"])
def test_it_makes_no_role_without_the_boundary(name: str) -> None:
    """Nor gives one a policy, nor takes its boundary away; and none but the stack's."""
    bound = {"iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary"}
    never = {"iam:DeleteRolePermissionsBoundary", "iam:AttachRolePolicy", "iam:CreatePolicyVersion", "iam:CreateUser"}
    for statement in statements(made()[name]):
        assert not never & actions(statement)
        if bound & actions(statement):
            assert statement["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": "Boundary.Ref"}}
            assert statement["Resource"] == "arn:aws:iam::123456789012:role/pocketsflow-test-*"


@pytest.mark.parametrize("stack", ["pocketsflow-ci-test", "pocketsflow-test-ci", "pocketsflow-test"])
@pytest.mark.parametrize("name", ROLES)
def test_the_pipeline_s_own_roles_are_out_of_its_reach(stack: str, name: str) -> None:
    """Whatever the stack is called that made them: else it could rewrite whom its execution role trusts."""
    found = made()
    arn = f"arn:aws:iam::123456789012:role{found[name].get('Path', '/')}{stack}-{name}-1ABC"
    for by in ("ExecutionRole", "ExecutionBoundary"):
        for statement in statements(found[by]):
            if any(action.startswith("iam:") for action in actions(statement)):
                assert not [each for each in words(statement["Resource"]) if fnmatchcase(arn, each)]


def test_roles_are_passed_to_the_services_that_take_them() -> None:
    """Those that the template's roles trust."""
    [passing] = [each for each in statements(made()["ExecutionRole"]) if "iam:PassRole" in actions(each)]
    trusted = set()
    for role in _roles_of_the_stack():
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        trusted.add(statement["Principal"]["Service"])
    assert set(passing["Condition"]["StringEquals"]["iam:PassedToService"]) == trusted


def _roles_of_the_stack() -> list[dict[str, Any]]:
    merged = rollout.gradual(parse(TEMPLATE), "Canary10Percent5Minutes", "r1")
    every = {"Mode": "live", "ServerRoutes": "on", "Challenge": "turnstile", "Tracing": "on", "KmsKeyArn": KEY}
    read = Template(json.dumps(merged), {**every, **CONNECTORS})
    found = list(dict(read.resources("AWS::IAM::Role")).values())
    return found + [role for _, nested in read.nested() for _, role in nested.resources("AWS::IAM::Role")]


def test_the_boundary_has_what_the_stack_s_roles_need_and_no_more() -> None:
    """Action by action, of everything that the template can make; what a key's own policy allows a role included."""
    needed = {action for role in _roles_of_the_stack() for each in statements(role) for action in actions(each)}
    [key] = dict(Template(TEMPLATE, {"Membership": "on"}).resources("AWS::KMS::Key")).values()
    by_key = [each for each in key["KeyPolicy"]["Statement"] if each["Principal"] == {"AWS": "AccessRole.Arn"}]
    needed |= {action for each in by_key for action in actions(each)}
    assert {action for each in statements(made(KmsKeyArn=KEY)["Boundary"]) for action in actions(each)} == needed


TYPES = {
    "AWS::ApiGatewayV2": "apigateway:POST",
    "AWS::Budgets": "budgets:ModifyBudget",
    "AWS::CloudFormation::Stack": "cloudformation:CreateStack",
    "AWS::CloudFormation::CustomResource": "lambda:InvokeFunction",
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm",
    "AWS::CloudWatch::CompositeAlarm": "cloudwatch:PutCompositeAlarm",
    "AWS::CloudWatch::Dashboard": "cloudwatch:PutDashboard",
    "AWS::DynamoDB::Table": "dynamodb:CreateTable",
    "AWS::Events::Archive": "events:CreateArchive",
    "AWS::Events::EventBus": "events:CreateEventBus",
    "AWS::Events::EventBusPolicy": "events:PutPermission",
    "AWS::Events::Rule": "events:PutRule",
    "AWS::IAM::Role": "iam:CreateRole",
    "AWS::KMS::Key": "kms:CreateKey",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup",
    "AWS::Logs::QueryDefinition": "logs:PutQueryDefinition",
    "AWS::S3::Bucket": "s3:CreateBucket",
    "AWS::S3::BucketPolicy": "s3:PutBucketPolicy",
    "AWS::SNS::Subscription": "sns:Subscribe",
    "AWS::SNS::Topic": "sns:CreateTopic",
    "AWS::SNS::TopicPolicy": "sns:SetTopicAttributes",
    "AWS::SQS::Queue": "sqs:CreateQueue",
    "AWS::SQS::QueuePolicy": "sqs:SetQueueAttributes",
    "AWS::SecretsManager::Secret": "secretsmanager:CreateSecret",
    "AWS::Serverless::Application": "cloudformation:CreateStack",
    "AWS::Serverless::Function": "lambda:CreateFunction",
    "AWS::Serverless::HttpApi": "apigateway:POST",
}
EVENTS = {
    "HttpApi": "lambda:AddPermission",
    "SQS": "lambda:CreateEventSourceMapping",
    "DynamoDB": "lambda:CreateEventSourceMapping",
    "ScheduleV2": "scheduler:CreateSchedule",
}


def test_whatever_the_template_declares_can_be_made() -> None:
    """A resource of another type needs a right in infra/ci.yaml, and a line here."""
    allowed = {action for each in statements(made()["ExecutionRole"]) for action in actions(each)}
    declared = [ROOT / "template.yaml", *(ROOT / "infra" / f"{name}.yaml" for name in ("observability", "connector"))]
    for path in declared:
        for resource in parse(path.read_text())["Resources"].values():
            kind = resource["Type"]
            assert next(right for name, right in TYPES.items() if kind.startswith(name)) in allowed, kind
            for event in resource.get("Properties", {}).get("Events", {}).values():
                assert EVENTS[event["Type"]] in allowed


def test_an_archive_is_within_reach() -> None:
    """CloudFormation begins most names that it makes up with the stack's, but promises none for an archive's, which has
    48 characters at most."""
    [(_, archive)] = Template(TEMPLATE, {"Stage": "a" * 16}).resources("AWS::Events::Archive")
    [making] = [
        each for each in statements(made(Stage="a" * 16)["ExecutionRole"]) if "events:CreateArchive" in actions(each)
    ]
    assert fnmatchcase(f"arn:aws:events:eu-west-1:123456789012:archive/{archive['ArchiveName']}", making["Resource"])
    assert len(archive["ArchiveName"]) <= 48


def test_policies_fit() -> None:
    """IAM takes 10,240 characters of a role's own policies, and 6,144 of a managed one, white space aside."""
    found = made(Stage="a" * 16, KmsKeyArn=KEY)
    for name in ROLES:
        assert (
            sum(len(json.dumps(p["PolicyDocument"], separators=(",", ":"))) for p in found[name]["Policies"]) < 10_240
        )
    for name in BOUNDARIES:
        assert len(json.dumps(found[name]["PolicyDocument"], separators=(",", ":"))) < 6_144


# --- The workflow -----------------------------------------------------------------------------------------------------

JOBS = WORKFLOW["jobs"]


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = JOBS[job]["steps"]
    return found


def test_the_order_of_jobs() -> None:
    """Lint, audit, tests and build; the test stage and its doctor; production. Each environment is GitHub's, which is
    where a reviewer approves."""
    assert [(name, job.get("needs"), job.get("environment")) for name, job in JOBS.items()] == [
        ("check", None, None),
        ("test", "check", "test"),
        ("production", "test", "production"),
    ]
    assert [step["run"] for step in steps("check") if "run" in step] == [
        "make lint",
        "make audit",
        "make test",
        "make build",
    ]
    for job, stage in (("test", "test"), ("production", "prod")):
        assert JOBS[job]["env"] == {"STAGE": stage}
        [*_, deploy, doctor] = steps(job)
        assert deploy["run"].startswith('make -o build deploy STAGE="$STAGE" ')
        assert doctor["run"].startswith('.venv/bin/pf --stage "$STAGE" doctor || ')


@pytest.mark.parametrize(("answers", "code", "asked"), [("0", 0, 1), ("1", 1, 1), ("75 0", 0, 2), ("75 75", 75, 2)])
def test_a_doctor_who_does_not_know_is_asked_again(tmp_path: Path, answers: str, code: int, asked: int) -> None:
    """Once, after a minute; what has failed, and what nobody knows then, ends the job before production."""
    for name, body in {
        ".venv/bin/pf": "echo >> asked; read -r first rest < answers; echo $rest > answers; exit $first",
        "sleep": "test $1 = 60",
    }.items():
        command = tmp_path / name
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f"#!/bin/bash\n{body}\n")
        command.chmod(0o755)
    (tmp_path / "answers").write_text(f"{answers}\n")
    [*_, doctor] = steps("test")
    told = subprocess.run(
        ["bash", "-e", "-c", doctor["run"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "STAGE": "test"},
        check=False,
        timeout=30,
    )
    assert (told.returncode, len((tmp_path / "asked").read_text())) == (code, asked)


def test_no_pull_request_deploys() -> None:
    """Nor any branch but the default one; and one deployment of a stage at a time, which nothing cuts off."""
    assert JOBS["test"]["if"] == (
        "github.event_name != 'pull_request' && "
        "github.ref == format('refs/heads/{0}', github.event.repository.default_branch)"
    )
    for job in ("test", "production"):
        assert JOBS[job]["concurrency"] == {"group": f"deploy-{job}"}
    assert "pull_request_target" not in WORKFLOW[True]  # `on` is true in YAML 1.1


def test_no_stored_key_and_no_right_too_many() -> None:
    """Nothing by default; a token for AWS only where it is used, and no secret anywhere."""
    assert WORKFLOW["permissions"] == {}
    assert JOBS["check"]["permissions"] == {"contents": "read"}
    for job in ("test", "production"):
        assert JOBS[job]["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets" not in (ROOT / ".github/workflows/deploy.yml").read_text()
    assert all(step["with"] == {"persist-credentials": False} for job in JOBS for step in steps(job)[:1])


@pytest.mark.parametrize("job", JOBS)
def test_every_action_is_a_commit(job: str) -> None:
    """A tag can be moved to other code. The version stands beside it, for whoever renews it."""
    used = [step["uses"] for step in steps(job) if "uses" in step]
    assert all(re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", action) for action in used), used
    lines = re.findall(r"uses: (.+)", (ROOT / ".github/workflows/deploy.yml").read_text())
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in lines)


@pytest.mark.parametrize("job", JOBS)
def test_no_expression_becomes_a_command(job: str) -> None:
    """What GitHub fills in reaches a shell as a variable."""
    assert not [step["run"] for step in steps(job) if "${{" in step.get("run", "")]
