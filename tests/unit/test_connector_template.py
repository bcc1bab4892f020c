"""infra/connector.yaml, once for each connector: off by default, each with its own rights, queue and alarms."""

import functools
import json
import re
from typing import Any

import pytest

from connectors import consumer, deliveries
from ops.connectors import OUTPUTS, SWITCHES
from payments import outbox
from sandbox.aws import matches
from sandbox.template import ROOT, Template
from tests.conftest import CONNECTORS

TEXT = (ROOT / "template.yaml").read_text()
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
STACKS = {name: f"{output.removesuffix('Connector')}Stack" for name, output in OUTPUTS.items()}
ALARMS = ("attention", "dead-letters", "errors", "late", "stuck")


@functools.cache
def nested(connector: str, **parameters: str) -> Template:
    given = {"Stage": "test", "Mode": "test", **CONNECTORS, **parameters}
    return dict(Template(TEXT, given).nested())[STACKS[connector]]


def one(connector: str, kind: str, logical_id: str = "", **parameters: str) -> dict[str, Any]:
    found = dict(nested(connector, **parameters).resources(kind))
    return found[logical_id] if logical_id else next(iter(found.values()))


def test_nothing_is_there_by_default() -> None:
    """A connector that is off costs nothing: no resource of it exists, nor its output."""
    template = Template(TEXT, {})
    assert [name for name, _ in template.nested()] == ["Observability"]
    assert not {*OUTPUTS.values()} & template.outputs().keys()


@pytest.mark.parametrize("connector", OUTPUTS)
def test_one_parameter_switches_it_on(connector: str) -> None:
    """And none of the others."""
    switch = SWITCHES[connector]
    template = Template(TEXT, {switch: CONNECTORS[switch]})
    assert [name for name, _ in template.nested()] == sorted(
        ["Observability", STACKS[connector]], key=["Observability"].count
    )
    assert OUTPUTS[connector] in template.outputs()


@pytest.mark.parametrize("connector", OUTPUTS)
def test_it_has_its_module(connector: str) -> None:
    """Handler and settings are its own; nothing that is secret stands in its environment."""
    [function] = nested(connector).functions()
    assert function.handler == f"connectors.{connector}.handler"
    assert (ROOT / "functions" / "connectors" / f"{connector}.py").exists()
    assert isinstance(json.loads(function.environment["SETTINGS"]), dict)
    assert function.environment["POWERTOOLS_SERVICE_NAME"] == connector


@pytest.mark.parametrize("connector", OUTPUTS)
def test_what_it_is_told(connector: str) -> None:
    """Types of events that there are, of this stage and this mode."""
    pattern = one(connector, "AWS::Events::Rule")["EventPattern"]
    known = {path.stem for path in (ROOT / "infra" / "events").glob("*.json")} - {"common"}
    assert {*pattern["detail-type"]} <= known
    event = {"source": "pocketsflow.test", "detail-type": pattern["detail-type"][0], "detail": {"mode": "test"}}
    told = json.dumps(pattern)
    assert matches(told, event)
    assert not matches(told, {**event, "source": "pocketsflow.prod"})
    assert not matches(told, {**event, "detail": {"mode": "live"}})
    assert not matches(told, {**event, "detail-type": "webhook.other"})


def test_every_event_for_a_person_is_noticed() -> None:
    """Whatever the relay alarms, the notices tell."""
    assert {*one("notices", "AWS::Events::Rule")["EventPattern"]["detail-type"]} == outbox.NEEDS_ATTENTION


def test_a_feed_of_some_products() -> None:
    """By their skus; of all where none is named."""
    pattern = json.dumps(one("feed", "AWS::Events::Rule", FeedProducts="course,print")["EventPattern"])
    event = {"source": "pocketsflow.test", "detail-type": "order.paid", "detail": {"mode": "test", "sku": "print"}}
    assert matches(pattern, event)
    assert not matches(pattern, {**event, "detail": {"mode": "test", "sku": "membership"}})
    assert not matches(pattern, {**event, "detail": {"mode": "test", "sku": None}})


def test_a_feed_of_events_that_there_are() -> None:
    """A name that is misspelled is refused by the deployment, and not waited for in vain."""
    parameter = Template(TEXT, {})._content["Parameters"]["FeedEvents"]
    known = {path.stem for path in (ROOT / "infra" / "events").glob("*.json")} - {"common"}
    assert sorted(parameter["AllowedValues"]) == sorted(known)


def test_three_days_of_tries() -> None:
    """The queue lays aside after the last of the waits that the code knows, and keeps for longer than they take."""
    queue = one("feed", "AWS::SQS::Queue", "Queue")
    assert queue["RedrivePolicy"]["maxReceiveCount"] == len(consumer.WAITS) + 1
    assert 2.8 * 86_400 < sum(consumer.WAITS) < 3.2 * 86_400
    assert queue["MessageRetentionPeriod"] > 2 * sum(consumer.WAITS)
    assert max(consumer.WAITS) <= 43_200
    [function] = nested("feed").functions()
    assert queue["VisibilityTimeout"] >= 6 * function.timeout
    assert function.timeout < deliveries.LEASE.total_seconds() < queue["VisibilityTimeout"]
    assert function.timeout > consumer.ONE_TRY


@pytest.mark.parametrize("connector", OUTPUTS)
def test_what_it_may_do(connector: str) -> None:
    """Its own queue, table and secret, single actions of each; mail from one address where it sends mail."""
    [policy] = one(connector, "AWS::IAM::Role")["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    allowed = {each["Action"]: each["Resource"] for each in statements}
    of_all = {
        "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
        "dynamodb:GetItem", "dynamodb:UpdateItem", "logs:CreateLogStream", "logs:PutLogEvents",
    }  # fmt: skip
    secret = {"secretsmanager:GetSecretValue"} if connector not in ("membership", "notices") else set()
    mail = {"ses:SendEmail"} if connector == "notices" else set()
    assert allowed.keys() == of_all | secret | mail
    assert all(each["Effect"] == "Allow" for each in statements)
    assert not [resource for resource in allowed.values() if resource == "*"]
    for statement in statements:
        if statement["Action"] == "ses:SendEmail":
            assert statement["Condition"] == {"StringEquals": {"ses:FromAddress": CONNECTORS["NoticesFrom"]}}
    with_key = one(connector, "AWS::IAM::Role", KmsKeyArn=KEY)["Policies"][0]["PolicyDocument"]["Statement"]
    assert [each["Resource"] for each in with_key if each["Action"].startswith("kms:")] == [KEY]


def test_what_is_kept_is_encrypted_and_stays() -> None:
    """By your own key where there is one; a connector that is switched off leaves what it has not delivered."""
    for parameters, key in (({}, None), ({"KmsKeyArn": KEY}, KEY)):
        for queue in dict(nested("feed", **parameters).resources("AWS::SQS::Queue")).values():
            assert (queue["SqsManagedSseEnabled"], queue.get("KmsMasterKeyId")) == (key is None, key)
        assert one("feed", "AWS::DynamoDB::Table", **parameters)["SSESpecification"].get("KMSMasterKeyId") == key
        assert one("feed", "AWS::SecretsManager::Secret", **parameters).get("KmsKeyId") == key
        assert one("feed", "AWS::Logs::LogGroup", **parameters).get("KmsKeyId") == key
    for logical_id in ("Queue", "DeadLetters", "Deliveries"):
        resource = nested("feed")._content["Resources"][logical_id]
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resource["UpdateReplacePolicy"] == "Retain"


def test_only_its_rule_fills_a_queue() -> None:
    """Over TLS; and the rule's own dead letters are the queue's."""
    for logical_id in ("Queue", "DeadLetters"):
        policy = one("feed", "AWS::SQS::QueuePolicy", f"{logical_id}Policy")
        [rule, tls] = policy["PolicyDocument"]["Statement"]
        assert rule["Principal"] == {"Service": "events.amazonaws.com"}
        assert rule["Condition"] == {"ArnEquals": {"aws:SourceArn": "Rule.Arn"}}
        assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        assert rule["Resource"] == tls["Resource"] == f"{logical_id}.Arn"
    [target] = one("feed", "AWS::Events::Rule")["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": "DeadLetters.Arn"}
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86400}


@pytest.mark.parametrize("connector", OUTPUTS)
def test_its_alarms(connector: str) -> None:
    """Somebody is told what was given up, refused, late, stuck or crashed; each alarm has its section in the runbook,
    which names commands that there are."""
    runbook = (ROOT / "docs/runbook.md").read_text()
    found = dict(nested(connector).resources("AWS::CloudWatch::Alarm")).values()
    assert sorted(each["AlarmName"] for each in found) == [f"pocketsflow-test.{connector}-{name}" for name in ALARMS]
    for alarm in found:
        assert alarm["AlarmActions"] == ["AlarmTopic.Ref"]
        [section] = re.findall(r"docs/runbook\.md#(connector-[a-z-]+)", alarm["AlarmDescription"])
        assert alarm["AlarmName"].endswith(section.removeprefix("connector"))
        assert f"\n## {section}\n" in runbook


def test_late_is_by_a_metric_of_its_own() -> None:
    """SQS' age of the oldest message knows nothing of what was received three times: what is tried and fails is counted
    by the function that tries."""
    alarms = dict(nested("feed").resources("AWS::CloudWatch::Alarm"))
    late, stuck = alarms["LateAlarm"], alarms["StuckAlarm"]
    assert (late["Namespace"], late["MetricName"]) == ("pocketsflow-test", "DeliveryLate")
    assert late["Dimensions"] == [{"Name": "service", "Value": "feed"}]
    assert 0.9 * sum(consumer.WAITS[: consumer.LATE - 1]) > 1_800
    assert (stuck["Namespace"], stuck["MetricName"]) == ("AWS/SQS", "ApproximateAgeOfOldestMessage")
