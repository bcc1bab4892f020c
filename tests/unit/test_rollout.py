"""A gradual deployment: what `ROLLOUT=…` makes of template.yaml, as SAM expands it, and what it leaves alone."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from samtranslator.internal.managed_policies import get_bundled_managed_policy_map
from samtranslator.translator.transform import transform

from ops import rollout
from sandbox.template import ROOT, Template, parse
from tests.unit.test_template import TEXT, expanded

KIND = "Canary10Percent5Minutes"
GRADUAL = ["CheckoutFunction", "WebhookFunction"]


def cloudformation(release: str, kind: str = KIND) -> dict[str, Any]:
    """As CloudFormation gets it."""
    source = rollout.gradual(parse(TEXT), kind, release)
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    policies = SimpleNamespace(load=lambda: get_bundled_managed_policy_map("aws"))
    result: dict[str, Any] = transform(source, {"AllowedOrigins": ["https://shop.example"]}, policies)
    return result


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    resources: dict[str, Any] = cloudformation("r1")["Resources"]
    return resources


def of(made: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in made.items() if each["Type"] == kind}


def test_by_default_there_is_nothing_of_it() -> None:
    """No CodeDeploy, no alias before a buyer or a webhook, nothing that costs."""
    found = expanded()["Resources"]
    assert not [name for name, each in found.items() if each["Type"].startswith("AWS::CodeDeploy")]
    aliases = [name for name, each in found.items() if each["Type"] == "AWS::Lambda::Alias"]
    assert aliases == ["PreflightFunctionAliasdeployed"]
    assert "ROLLOUT" not in TEXT


@pytest.mark.parametrize("function", GRADUAL)
def test_traffic_moves_bit_by_bit_and_back_when_it_fails(made: dict[str, Any], function: str) -> None:
    """CodeDeploy moves the alias, watches both alarms, and rolls back when one goes off."""
    group = made[f"{function}DeploymentGroup"]["Properties"]
    assert group["DeploymentConfigName"] == {"Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": KIND}]}
    assert group["AlarmConfiguration"] == {
        "Enabled": True,
        "Alarms": [{"Name": {"Ref": "CheckoutRolloutAlarm"}}, {"Name": {"Ref": "WebhookRolloutAlarm"}}],
    }
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert group["ServiceRoleArn"] == {"Fn::GetAtt": ["RolloutRole", "Arn"]}
    alias = made[f"{function}Aliaslive"]
    update = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    assert update["DeploymentGroupName"] == {"Ref": f"{function}DeploymentGroup"}


@pytest.mark.parametrize("function", GRADUAL)
def test_an_alarm_hears_of_the_alias(made: dict[str, Any], function: str) -> None:
    """One crash is enough; it is of the alias that buyers and webhooks reach, and somebody is told."""
    alarm = made[f"{function.removesuffix('Function')}RolloutAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
    assert alarm["Dimensions"] == [
        {"Name": "FunctionName", "Value": {"Ref": function}},
        {"Name": "Resource", "Value": {"Fn::Sub": f"${{{function}}}:live"}},
    ]
    assert (alarm["Threshold"], alarm["Period"], alarm["EvaluationPeriods"]) == (1, 60, 1)
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]


def test_whatever_calls_them_calls_the_alias(made: dict[str, Any]) -> None:
    """The gateway's routes with their permissions, and the queue; the others call functions as before."""
    routes = json.dumps(made["Api"]["Properties"]["Body"]["paths"])
    for function in GRADUAL:
        assert f"${{{function}Aliaslive}}" in routes
        assert f"${{{function}.Arn}}" not in routes
    called = {json.dumps(each["FunctionName"]) for each in of(made, "AWS::Lambda::Permission").values()}
    aliases = {"CheckoutFunctionAliaslive", "WebhookFunctionAliaslive"}
    names = aliases | {"ServerFunction", "ShopifyCheckoutFunction", "AccessFunction"}
    assert called == {json.dumps({"Ref": name}) for name in names}
    mappings = of(made, "AWS::Lambda::EventSourceMapping")
    assert mappings["WebhookFunctionParked"]["FunctionName"] == {"Ref": "WebhookFunctionAliaslive"}
    assert mappings["RelayFunctionChanges"]["FunctionName"] == {"Ref": "RelayFunction"}


def test_every_release_is_a_version(made: dict[str, Any]) -> None:
    """Also when parameters alone have changed: an alias on yesterday's version has yesterday's variables. The version
    differs in a variable, or Lambda would say that it is there already."""
    later = cloudformation("r2")["Resources"]
    for function in GRADUAL:
        [before] = [name for name in of(made, "AWS::Lambda::Version") if name.startswith(function)]
        [after] = [name for name in of(later, "AWS::Lambda::Version") if name.startswith(function)]
        assert before != after
        assert made[function]["Properties"]["Environment"]["Variables"]["RELEASE"] == "r1"
        assert later[function]["Properties"]["Environment"]["Variables"]["RELEASE"] == "r2"


def test_codedeploy_may_move_these_aliases_and_no_other(made: dict[str, Any]) -> None:
    """A role of the template's, with the boundary; SAM's would have a managed policy for the whole account."""
    roles = {name for name, each in made.items() if each["Type"] == "AWS::IAM::Role"}
    assert roles - {name for name, each in expanded()["Resources"].items() if each["Type"] == "AWS::IAM::Role"} == {
        "RolloutRole"
    }
    role = made["RolloutRole"]["Properties"]
    assert role.keys() == {"AssumeRolePolicyDocument", "PermissionsBoundary", "Policies"}
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "codedeploy.amazonaws.com"}
    [aliases, alarms] = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert aliases["Resource"] == [
        where
        for function in GRADUAL
        for where in ({"Fn::GetAtt": [function, "Arn"]}, {"Fn::Sub": f"${{{function}.Arn}}:live"})
    ]
    assert alarms["Action"] == "cloudwatch:DescribeAlarms"


def test_all_else_is_as_it_was() -> None:
    """Reserved concurrency, throttles, timeouts and every other resource."""
    plain, merged = parse(TEXT), rollout.gradual(parse(TEXT), KIND, "r1")
    for function in GRADUAL:
        changed = merged["Resources"][function]["Properties"]
        for name in ("AutoPublishAlias", "AutoPublishCodeSha256", "DeploymentPreference"):
            del changed[name]
        del changed["Environment"]["Variables"]["RELEASE"]
    for name in ("CheckoutRolloutAlarm", "WebhookRolloutAlarm", "RolloutRole"):
        del merged["Resources"][name]
    assert merged == plain


def test_the_built_template_is_changed_in_place(tmp_path: Path) -> None:
    """What `sam deploy` reads then is whole, and CloudFormation's."""
    built = tmp_path / "template.yaml"
    built.write_text(TEXT)
    rollout.main(KIND, str(built))
    assert json.loads(built.read_text())["Resources"]["RolloutRole"]
    assert [f.logical_id for f in Template(built.read_text(), {}).functions()] == [
        f.logical_id for f in Template(TEXT, {}).functions()
    ]


@pytest.mark.parametrize("kind", ["AllAtOnce", "Linear10PercentEvery10Minutes"])
def test_an_unknown_rollout_is_refused(tmp_path: Path, kind: str) -> None:
    """Before anything is touched; AllAtOnce is what there is without one, and nobody waits for what takes longer than
    an hour."""
    built = tmp_path / "template.yaml"
    built.write_text(TEXT)
    with pytest.raises(SystemExit, match="Canary10Percent5Minutes"):
        rollout.main(kind, str(built))
    assert built.read_text() == TEXT


def test_make_deploy_rolls_out_what_it_has_built() -> None:
    """Between build and deploy."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndeploy: stage build\n")[2].splitlines()
    assert recipe[0] == "\t$(if $(ROLLOUT),python -m ops.rollout $(ROLLOUT) .aws-sam/build/template.yaml)"
    assert " deploy " in recipe[1]
