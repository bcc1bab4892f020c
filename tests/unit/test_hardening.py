"""template.yaml: what a merchant brings along (domain, key, boundary), and who may come near queues, bus and topic."""

import re
from typing import Any

import pytest

from sandbox.template import PSEUDO_PARAMETERS, ROOT, Template
from tests.unit.test_template import FUNCTIONS, NO_VALUE, PARAMETERS, SOURCE, expanded, named, properties, role_of

TEXT = (ROOT / "template.yaml").read_text()
ACCOUNT = PSEUDO_PARAMETERS["AWS::AccountId"]
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"


def resolved(kind: str, **parameters: str) -> dict[str, dict[str, Any]]:
    return dict(Template(TEXT, parameters).resources(kind))


# --- Your own key -----------------------------------------------------------------------------------------------------

ENCRYPTED = {
    "AWS::DynamoDB::Table": lambda it: it["SSESpecification"].get("KMSMasterKeyId"),
    "AWS::SQS::Queue": lambda it: it.get("KmsMasterKeyId"),
    "AWS::SecretsManager::Secret": lambda it: it.get("KmsKeyId"),
    "AWS::SNS::Topic": lambda it: it.get("KmsMasterKeyId"),
    "AWS::Logs::LogGroup": lambda it: it.get("KmsKeyId"),
    "AWS::S3::Bucket": lambda it: it["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
        "ServerSideEncryptionByDefault"
    ].get("KMSMasterKeyID"),
}
EVERYTHING = {
    "Mode": "live",
    "ServerRoutes": "on",
    "Challenge": "turnstile",
    "Membership": "on",
    "ShopifyShop": "name.myshopify.com",
}


@pytest.mark.parametrize("kind", ENCRYPTED)
def test_a_key_of_your_own_encrypts_whatever_is_kept(kind: str) -> None:
    """Every table, queue, secret, topic, log group and bucket, when there is one; else AWS's keys."""
    with_key = resolved(kind, KmsKeyArn=KEY, **EVERYTHING)
    assert with_key
    assert {ENCRYPTED[kind](found) for found in with_key.values()} == {KEY}
    assert {ENCRYPTED[kind](found) for found in resolved(kind, **EVERYTHING).values()} == {None}
    assert PARAMETERS["KmsKeyArn"]["Default"] == ""


def test_a_queue_has_one_kind_of_encryption() -> None:
    """SQS refuses both at once."""
    for parameters, by_sqs in (({}, True), ({"KmsKeyArn": KEY}, False)):
        for queue in resolved("AWS::SQS::Queue", **parameters).values():
            assert queue["SqsManagedSseEnabled"] is by_sqs


def test_the_bucket_asks_for_the_key_seldom() -> None:
    """With a key of its own for the objects; without one S3's."""
    for parameters, expected in (({}, ("AES256", None)), ({"KmsKeyArn": KEY}, ("aws:kms", True))):
        bucket = resolved("AWS::S3::Bucket", **parameters)["Unpublished"]
        [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert (rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"], rule.get("BucketKeyEnabled")) == expected


WITH_THE_KEY = {
    "CheckoutFunction": {"kms:Decrypt"},
    "ServerFunction": {"kms:Decrypt"},
    "ShopifyCheckoutFunction": {"kms:Decrypt"},
    "AccessFunction": {"kms:Decrypt"},
    "WebhookFunction": {"kms:Decrypt", "kms:GenerateDataKey"},  # what it parks
    "RelayFunction": {"kms:Decrypt", "kms:GenerateDataKey"},  # what it puts aside
    "ReconcileFunction": {"kms:Decrypt"},
    "RetainFunction": {"kms:Decrypt"},
    "PreflightFunction": set(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_use_that_key_and_no_other(name: str) -> None:
    """Single actions on the key that is given, and nothing where none is."""
    [policy] = properties(role_of(name))["Policies"]
    found = [each["Fn::If"] for each in policy["PolicyDocument"]["Statement"] if "Fn::If" in each]
    with_key = [(yes, no) for condition, yes, no in found if condition == "HasKey"]
    assert {yes["Action"] for yes, _ in with_key} == WITH_THE_KEY[name]
    for yes, no in with_key:
        assert no == NO_VALUE
        assert yes == {"Effect": "Allow", "Action": yes["Action"], "Resource": {"Ref": "KmsKeyArn"}}


# --- Your own domain --------------------------------------------------------------------------------------------------


def test_a_domain_is_optional_and_speaks_tls_1_2() -> None:
    """Mapped without a path, so that a status' address is right; no default."""
    assert not resolved("AWS::ApiGatewayV2::DomainName")
    assert not resolved("AWS::ApiGatewayV2::ApiMapping")
    given = {"DomainName": "pay.shop.example", "CertificateArn": CERTIFICATE}
    [domain] = resolved("AWS::ApiGatewayV2::DomainName", **given).values()
    assert domain == {
        "DomainName": "pay.shop.example",
        "DomainNameConfigurations": [
            {"CertificateArn": CERTIFICATE, "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}
        ],
    }
    mapping = properties("DomainMapping")
    assert mapping == {"ApiId": {"Ref": "Api"}, "DomainName": {"Ref": "Domain"}, "Stage": mapping["Stage"]}
    assert expanded()["Resources"][mapping["Stage"]["Ref"]]["Type"] == "AWS::ApiGatewayV2::Stage"
    outputs = Template(TEXT, given).outputs()
    assert outputs["ApiUrl"] == "https://pay.shop.example"
    assert outputs["WebhookUrl"] == "https://pay.shop.example/webhooks/pocketsflow"
    assert "DomainTarget" not in Template(TEXT, {}).outputs()


def test_the_address_at_aws_stays() -> None:
    """An endpoint that is registered there goes on receiving webhooks while the new one is not registered yet."""
    [api] = resolved("AWS::Serverless::HttpApi").values()
    assert "DisableExecuteApiEndpoint" not in api
    assert "Domain" not in api


def test_a_domain_without_a_certificate_is_refused() -> None:
    """Before anything is made."""
    [rule] = SOURCE["Rules"]["ADomainHasACertificate"]["Assertions"]
    unset = [{"Fn::Equals": [{"Ref": name}, ""]} for name in ("DomainName", "CertificateArn")]
    set_ = [{"Fn::Not": [each]} for each in unset]
    assert rule["Assert"] == {"Fn::Or": [{"Fn::And": unset}, {"Fn::And": set_}]}


@pytest.mark.parametrize(
    ("parameter", "value", "accepted"),
    [
        *(("DomainName", value, True) for value in ("", "pay.shop.example", "a.bc", "a-1.io")),
        *(("DomainName", value, False) for value in ("shop", "Pay.shop.example", "https://a.example", "a.example/x")),
        *(("DomainName", value, False) for value in ("-a.example", "a..example", "*.shop.example", "a.example.")),
        ("CertificateArn", CERTIFICATE, True),
        *(("CertificateArn", value, False) for value in ("x", CERTIFICATE + "/", CERTIFICATE.replace("acm", "iam"))),
        *(("KmsKeyArn", value, True) for value in ("", KEY, KEY.replace("key/1111-", "key/mrk-"))),
        *(("KmsKeyArn", value, False) for value in ("alias/x", "*", KEY.replace("key/", "alias/"), KEY + "*")),
        *(("PermissionsBoundary", value, True) for value in ("", BOUNDARY)),
        *(("PermissionsBoundary", value, False) for value in ("x", BOUNDARY.replace("policy", "role"), BOUNDARY + "*")),
        *(("OperatorRole", value, True) for value in ("", "arn:aws:iam::123456789012:role/Admin")),
        *(("OperatorRole", value, False) for value in ("*", "arn:aws:iam::123456789012:role/*", BOUNDARY)),
    ],
)
def test_patterns(parameter: str, value: str, accepted: bool) -> None:
    """CloudFormation refuses what AWS would refuse later, and what would let everybody in."""
    assert (re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], value) is not None) is accepted


# --- A boundary -------------------------------------------------------------------------------------------------------


def test_every_role_carries_the_boundary() -> None:
    """Where there is one; so that a pipeline can make roles, and none that may do more than it says."""
    for role in resolved("AWS::IAM::Role", PermissionsBoundary=BOUNDARY, **EVERYTHING).values():
        assert role["PermissionsBoundary"] == BOUNDARY
    for role in resolved("AWS::IAM::Role", **EVERYTHING).values():
        assert "PermissionsBoundary" not in role
    roles = [name for name, each in expanded()["Resources"].items() if each["Type"] == "AWS::IAM::Role"]
    assert sorted(roles) == sorted(resolved("AWS::IAM::Role", **EVERYTHING))  # SAM makes none of its own


# --- Who may come near ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["Parking", "ParkedTooLong"])
def test_a_queue_is_this_account_s_and_speaks_tls(queue: str) -> None:
    """Its policy allows nothing to anybody."""
    policy = properties(f"{queue}Policy")
    assert [named(each) for each in policy["Queues"]] == [queue]
    denied = policy["PolicyDocument"]["Statement"]
    for statement in denied:
        assert named(statement["Resource"]) == f"{queue}.Arn"
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
    assert [statement["Condition"] for statement in denied] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"StringNotEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}},
    ]


def test_the_topic_speaks_tls() -> None:
    """Beside CloudWatch's, one statement that denies."""
    [_, statement] = properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sns:Publish")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("operator", ["", "arn:aws:iam::123456789012:role/Admin"])
def test_the_relay_and_people_speak_on_the_bus(operator: str) -> None:
    """An event there fulfils an order: the account's other functions, servers and pipelines are denied."""
    read = Template(TEXT, {"OperatorRole": operator})
    read.references["RelayRole"] = {"Arn": "arn:aws:iam::123456789012:role/relay"}
    [policy] = dict(read.resources("AWS::Events::EventBusPolicy")).values()
    statement = policy["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "events:PutEvents")
    assert statement["Condition"] == {
        "ArnNotLike": {
            "aws:PrincipalArn": [
                "arn:aws:iam::123456789012:role/relay",
                f"arn:aws:iam::{ACCOUNT}:user/*",
                f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/*",
                *([operator] if operator else []),
            ]
        }
    }


def test_a_second_stack_beside_the_first() -> None:
    """Names that are given, not made up by CloudFormation, have the stage or the stack's name in them."""
    given = {
        (name, key): value
        for name, resource in expanded()["Resources"].items()
        for key, value in resource.get("Properties", {}).items()
        if re.fullmatch(r"Name|\w*(Function|Table|Queue|Topic|Bucket|Role|Alarm|LogGroup|Archive)Name", key)
        and "Ref" not in value
        and "Fn::GetAtt" not in value
        and resource["Type"] not in ("AWS::Lambda::Alias", "AWS::ApiGatewayV2::Stage")  # each its parent's own
    }
    assert given == {
        ("Bus", "Name"): {"Fn::Sub": "pocketsflow-${Stage}"},
        ("Archive", "ArchiveName"): {"Fn::Sub": "pocketsflow-${Stage}"},
        ("AccessLogs", "LogGroupName"): {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/access"},
    }
