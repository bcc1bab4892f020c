"""template.yaml: what is deployed, read both as it is written and as SAM expands it to CloudFormation."""

import ast
import base64
import functools
import itertools
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from samtranslator.internal.managed_policies import get_bundled_managed_policy_map
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

import access
import reconcile
import relay
import retain
import shopify_checkout
import webhook
from connectors import notices
from ops.connectors import OUTPUTS as CONNECTOR_OUTPUTS
from payments import aws, ledger, pocketsflow, provider, secrets, table, tokens
from sandbox import aws as sandbox_aws
from sandbox.template import ROOT, Template

TEXT = (ROOT / "template.yaml").read_text()
SOURCE: dict[str, Any] = yaml_parse(TEXT)
PARAMETERS = SOURCE["Parameters"]
FUNCTIONS = [
    "CheckoutFunction",
    "ServerFunction",
    "ShopifyCheckoutFunction",
    "AccessFunction",
    "WebhookFunction",
    "RelayFunction",
    "ReconcileFunction",
    "RetainFunction",
    "PreflightFunction",
]
NO_VALUE = {"Ref": "AWS::NoValue"}


@functools.cache
def expanded(code: str = "s3://bucket/key", origins: tuple[str, ...] = ("https://shop.example",)) -> dict[str, Any]:
    """The template as CloudFormation gets it, with a list for a list parameter."""
    source = yaml_parse(TEXT)
    source["Globals"]["Function"]["CodeUri"] = code
    policies = SimpleNamespace(load=lambda: get_bundled_managed_policy_map("aws"))
    result: dict[str, Any] = transform(source, {"AllowedOrigins": list(origins)}, policies)
    return result


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Expanded resources of a type, by logical id."""
    found: dict[str, dict[str, Any]] = expanded()["Resources"]
    return {name: resource for name, resource in found.items() if resource["Type"] == kind}


def properties(name: str) -> dict[str, Any]:
    result: dict[str, Any] = expanded()["Resources"][name]["Properties"]
    return result


def variables(function: str) -> dict[str, Any]:
    """Of its environment."""
    result: dict[str, Any] = properties(function)["Environment"]["Variables"]
    return result


def resolved(kind: str, **parameters: str) -> dict[str, dict[str, Any]]:
    """Resources of a type as written, parameters and conditions filled in."""
    return dict(Template(TEXT, parameters).resources(kind))


def named(reference: Any) -> str:
    """`Ledger.Arn` for !GetAtt Ledger.Arn, `Ledger` for !Ref Ledger, `Ledger.Arn/x` for !Sub ${Ledger.Arn}/x."""
    [(kind, target)] = reference.items()
    assert kind in ("Ref", "Fn::GetAtt", "Fn::Sub")
    if kind == "Fn::Sub":
        return re.sub(r"\$\{([\w.]+)\}", r"\1", target)
    return target if kind == "Ref" else ".".join(target)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


# --- Functions --------------------------------------------------------------------------------------------------------


def test_these_are_all_functions():
    """The tables below speak of every function there is."""
    assert sorted(resources("AWS::Lambda::Function")) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_runtime(name: str):
    """Every function runs on Python 3.13 and arm64, as a zip, with the memory that the parameter says."""
    function = properties(name)
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["arm64"]
    assert function["MemorySize"] == {"Ref": "MemorySize"}
    assert "PackageType" not in function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_and_build(name: str):
    """The handler is there, and the Makefile beside it builds it."""
    module, _, function = properties(name)["Handler"].partition(".")
    tree = ast.parse((ROOT / "functions" / f"{module}.py").read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert SOURCE["Resources"][name]["Metadata"] == {"BuildMethod": "makefile"}
    targets = re.findall(r"^(build-.*?):", (ROOT / "functions" / "Makefile").read_text(), re.MULTILINE)
    assert f"build-{name}" in " ".join(targets).split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logs(name: str):
    """A function logs to a group of its own, which is kept for as long as the parameter says."""
    groups = [named(properties(function)["LoggingConfig"]["LogGroup"]) for function in FUNCTIONS]
    group = named(properties(name)["LoggingConfig"]["LogGroup"])
    assert groups.count(group) == 1
    assert group in resources("AWS::Logs::LogGroup")


def test_every_log_group_has_retention():
    """No log is kept for ever."""
    assert len(resources("AWS::Logs::LogGroup")) == len(FUNCTIONS) + 1
    for group in resources("AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_tracing_by_parameter():
    """X-Ray is off unless the parameter says otherwise."""
    for name in FUNCTIONS:
        assert properties(name)["TracingConfig"] == {"Mode": {"Fn::If": ["Traces", "Active", "PassThrough"]}}
    assert SOURCE["Conditions"]["Traces"] == {"Fn::Equals": [{"Ref": "Tracing"}, "on"]}
    assert PARAMETERS["Tracing"]["Default"] == "off"


def test_no_reserved_concurrency_by_default():
    """A new account has none to give; WebhookConcurrency sets it, and for the webhook alone."""
    unset, reserved = (resolved("AWS::Serverless::Function", WebhookConcurrency=value) for value in ("0", "10"))
    assert PARAMETERS["WebhookConcurrency"]["Default"] == 0
    assert not any("ReservedConcurrentExecutions" in function for function in unset.values())
    assert {name for name, function in reserved.items() if "ReservedConcurrentExecutions" in function} == {
        "WebhookFunction"
    }
    assert reserved["WebhookFunction"]["ReservedConcurrentExecutions"] == "10"
    smallest = min(value for value in PARAMETERS["WebhookConcurrency"]["AllowedValues"] if value)
    parked = mapping("WebhookFunctionParked")["ScalingConfig"]["MaximumConcurrency"]
    assert smallest > 2 * parked  # what was parked leaves more than half of it to deliveries


# --- Environment ------------------------------------------------------------------------------------------------------


def names_read(module: str) -> set[str]:
    """Names of the environment that a module and all that it imports of ours read."""
    path = ROOT / "functions" / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    never_run = {each for node in for_types for each in ast.walk(node)}
    for node in (each for each in ast.walk(tree) if each not in never_run):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name))):
                names.add(name)
            case ast.ImportFrom(module="payments" | "connectors" as package, names=imported):
                names |= set().union(*(names_read(f"{package}.{alias.name}") for alias in imported))
            case ast.ImportFrom(module=str(source)) if source.startswith(("payments.", "connectors.")):
                names |= names_read(source)
    return names


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_is_what_the_code_reads(name: str):
    """No name is set that nobody reads, none is read that is not set."""
    assert set(variables(name)) == names_read(properties(name)["Handler"].partition(".")[0])


def test_the_environment_is_read_in_one_way():
    """os.environ["NAME"]: no default hides a mistake, and the test above sees every name. Whether it is Lambda that a
    function runs on is told by Lambda's own."""
    for path in (ROOT / "functions").rglob("*.py"):
        text = path.read_text().replace('"AWS_LAMBDA_INITIALIZATION_TYPE" not in os.environ', "")
        assert len(re.findall(r"os\.environ|getenv", text)) == len(re.findall(r'os\.environ\["[A-Z_]+"\]', text)), path


def test_pocketsflow_is_at_its_address():
    """No parameter can send the API key elsewhere."""
    addresses = {name: variables(name)["POCKETSFLOW_URL"] for name in FUNCTIONS if "API_KEY_ARN" in variables(name)}
    assert addresses == dict.fromkeys(
        ["CheckoutFunction", "ServerFunction", "ShopifyCheckoutFunction", "ReconcileFunction"],
        "https://api.pocketsflow.com",
    )


def test_a_store_is_a_stack():
    """What a checkout writes into its sales is what the webhook and reconciliation take for their own: the stack's
    unique id, which no other stack of the account has, by whatever name."""
    stores = [variables(name)["STORE_ID"] for name in FUNCTIONS if "STORE_ID" in variables(name)]
    assert stores == [{"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}] * 5


def test_patience_is_for_those_whom_nobody_waits_for():
    """A buyer and Pocketsflow wait for the checkout and the webhook; an outage of hours is waited out by the others."""
    patience = {name: int(variables(name)["PATIENCE"]) for name in FUNCTIONS if "PATIENCE" in variables(name)}
    waiting = ["CheckoutFunction", "ServerFunction", "ShopifyCheckoutFunction", "AccessFunction", "WebhookFunction"]
    waited_for = dict.fromkeys(waiting, 1)
    assert patience == {**waited_for, "RelayFunction": 5, "ReconcileFunction": 5, "RetainFunction": 5}


def test_what_counts_as_paid_is_a_parameter():
    """A signed webhook, unless the merchant wants Pocketsflow's API to say so too."""
    assert (PARAMETERS["Settle"]["Default"], PARAMETERS["Settle"]["AllowedValues"]) == (
        "webhook",
        ["webhook", "confirmed"],
    )
    assert variables("WebhookFunction")["SETTLE"] == {"Ref": "Settle"}
    assert variables("ReconcileFunction")["RECONCILE_FROM"] == {"Ref": "ReconcileFrom"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_secret_in_the_environment(name: str):
    """The environment holds addresses of secrets, never secrets."""
    assert not any("resolve:" in text for text in strings(variables(name)))
    assert {variable for variable in variables(name) if re.search("SECRET|KEY|TOKEN|PASSWORD", variable)} <= {
        "API_KEY_ARN",
        "WEBHOOK_SECRETS_ARN",
        "CHALLENGE_SECRET_ARN",
        "SECRET_ARN",
        "MEMBER_KEY_ARN",
    }


# --- Rights -----------------------------------------------------------------------------------------------------------

READING_A_STREAM = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
READING_A_QUEUE = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
"""What Lambda does for a function that has one as an event source, with the function's own role."""
MEMBERS = "MembershipStack.Outputs.TableArn"
RIGHTS = {
    "CheckoutFunction": {
        ("dynamodb:PutItem", "Ledger.Arn"),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("secretsmanager:GetSecretValue", "ApiKey"),
        ("logs:CreateLogStream", "CheckoutLogs.Arn"),
        ("logs:PutLogEvents", "CheckoutLogs.Arn"),
    },
    "ServerFunction": {
        ("dynamodb:PutItem", "Ledger.Arn"),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("secretsmanager:GetSecretValue", "ApiKey"),
        ("logs:CreateLogStream", "ServerLogs.Arn"),
        ("logs:PutLogEvents", "ServerLogs.Arn"),
    },
    "ShopifyCheckoutFunction": {
        ("dynamodb:PutItem", "Ledger.Arn"),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("secretsmanager:GetSecretValue", "ApiKey"),
        ("secretsmanager:GetSecretValue", "ShopifyStack.Outputs.Secret"),
        ("logs:CreateLogStream", "ShopifyCheckoutLogs.Arn"),
        ("logs:PutLogEvents", "ShopifyCheckoutLogs.Arn"),
    },
    "AccessFunction": {
        *((f"dynamodb:{action}Item", MEMBERS) for action in ("Get", "BatchGet", "Update", "Put", "Delete")),
        ("logs:CreateLogStream", "MemberLogs.Arn"),
        ("logs:PutLogEvents", "MemberLogs.Arn"),
    },
    "WebhookFunction": {
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("secretsmanager:GetSecretValue", "WebhookSecrets"),
        ("sqs:SendMessage", "Parking.Arn"),
        *((f"sqs:{action}", "Parking.Arn") for action in READING_A_QUEUE),
        ("logs:CreateLogStream", "WebhookLogs.Arn"),
        ("logs:PutLogEvents", "WebhookLogs.Arn"),
    },
    "RelayFunction": {
        *((f"dynamodb:{action}", "Ledger.StreamArn") for action in READING_A_STREAM),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("events:PutEvents", "Bus.Arn"),
        ("s3:PutObject", "Unpublished.Arn/*"),
        ("s3:ListBucket", "Unpublished.Arn"),
        ("logs:CreateLogStream", "RelayLogs.Arn"),
        ("logs:PutLogEvents", "RelayLogs.Arn"),
    },
    "ReconcileFunction": {
        *((f"dynamodb:{action}", "Ledger.StreamArn") for action in READING_A_STREAM),
        ("dynamodb:BatchGetItem", "Ledger.Arn"),
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:Query", "Ledger.Arn/index/pending"),
        ("dynamodb:Query", "Ledger.Arn/index/unconfirmed"),
        ("secretsmanager:GetSecretValue", "ApiKey"),
        ("logs:CreateLogStream", "ReconcileLogs.Arn"),
        ("logs:PutLogEvents", "ReconcileLogs.Arn"),
    },
    "RetainFunction": {
        ("dynamodb:GetItem", "Ledger.Arn"),
        ("dynamodb:Scan", "Ledger.Arn"),
        ("dynamodb:UpdateItem", "Ledger.Arn"),
        ("dynamodb:Query", "Ledger.Arn/index/pending"),
        ("logs:CreateLogStream", "RetainLogs.Arn"),
        ("logs:PutLogEvents", "RetainLogs.Arn"),
    },
    "PreflightFunction": {
        ("logs:CreateLogStream", "PreflightLogs.Arn"),
        ("logs:PutLogEvents", "PreflightLogs.Arn"),
    },
}
TRACING = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def role_of(function: str) -> str:
    name, _, attribute = named(properties(function)["Role"]).partition(".")
    assert attribute == "Arn"
    return name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_do_exactly_this(name: str):
    """Single actions on single resources; beside them only X-Ray, where everything is `*`, and only when it is on, and
    the challenge's secret, where there is one."""
    allowed = set()
    traced = []
    [policy] = properties(role_of(name))["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        if "Fn::If" in statement:
            condition, yes, no = statement["Fn::If"]
            if condition == "HasKey":
                assert no == NO_VALUE
                continue  # tests/unit/test_hardening.py
            if condition == "SendsLinks":
                assert (name, yes["Action"], no) == ("AccessFunction", "ses:SendEmail", NO_VALUE)
                assert yes["Condition"] == {"StringEquals": {"ses:FromAddress": {"Ref": "MemberMailFrom"}}}
                continue
            if condition == "HasChallenge":
                assert (name, named(yes["Resource"]), no) == ("CheckoutFunction", "ChallengeSecret", NO_VALUE)
                assert yes["Action"] == "secretsmanager:GetSecretValue"
                continue
            assert (condition, no) == ("Traces", NO_VALUE)
            traced.append(yes)
            continue
        assert statement.keys() == {"Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        assert isinstance(statement["Action"], str)
        allowed.add((statement["Action"], named(statement["Resource"])))
    assert allowed == RIGHTS[name]
    [trace] = traced
    assert trace["Effect"] == "Allow"
    assert set(trace["Action"]) == TRACING
    assert trace["Resource"] == "*"


def test_no_role_is_shared():
    """Each function has a role of its own, that Lambda alone can take, without managed policies; there is no other but
    the schedules'."""
    roles = [role_of(name) for name in FUNCTIONS]
    assert sorted([*roles, "ScheduleRole"]) == sorted(resources("AWS::IAM::Role"))
    for role in roles:
        assert properties(role).keys() == {"AssumeRolePolicyDocument", "PermissionsBoundary", "Policies"}
        assert properties(role)["AssumeRolePolicyDocument"]["Statement"] == [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::IAM::User"):
        assert not resources(kind)


def test_the_schedules_may_start_their_functions_alone():
    """EventBridge Scheduler takes their role, for this account alone, and may start two functions with it."""
    role = properties("ScheduleRole")
    assert role.keys() == {"AssumeRolePolicyDocument", "PermissionsBoundary", "Policies"}
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        }
    ]
    [policy] = role["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    assert [named(statement["Resource"]) for statement in statements] == ["ReconcileFunction.Arn", "RetainFunction.Arn"]
    for statement in statements:
        assert statement.keys() == {"Effect", "Action", "Resource"}
        assert (statement["Effect"], statement["Action"]) == ("Allow", "lambda:InvokeFunction")


PEOPLE = [
    "arn:${AWS::Partition}:iam::${AWS::AccountId}:user/*",
    "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-reserved/sso.amazonaws.com/*",
]


MAILS = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:identity/*"


def test_no_action_with_a_star():
    """No policy anywhere allows `service:*` or names resources by a pattern, but for the objects of one bucket, which
    have no names before they are there, and whichever identity of SES one sender's is; `*` alone is X-Ray's, once in
    each function's role."""
    stars = []
    for name, resource in expanded()["Resources"].items():
        found = resource.get("Properties", {})
        assert "ManagedPolicyArns" not in found, name
        documents = [found.get("Policies"), found.get("PolicyDocument"), found.get("Statement")]
        stars += [(name, text) for text in strings(documents) if "*" in text]
    denying = [("UnpublishedPolicy", text) for text in ("*", "s3:*", "${Unpublished.Arn}/*")]
    denying += [(f"{queue}Policy", text) for queue in QUEUES for text in ("*", "sqs:*") * 2]
    denying += [("AlarmTopicPolicy", "*"), ("BusPolicy", "*"), *(("BusPolicy", text) for text in PEOPLE)]
    in_roles = [(role_of(name), "*") for name in FUNCTIONS]
    named = [("RelayRole", "${Unpublished.Arn}/*"), ("AccessRole", MAILS)]
    assert sorted(stars) == sorted([*in_roles, *denying, *named])


def test_only_the_gateway_calls_and_only_its_routes():
    """Each route of the API may call its own function."""
    permissions = [resource["Properties"] for resource in resources("AWS::Lambda::Permission").values()]
    assert {permission["Principal"] for permission in permissions} == {"apigateway.amazonaws.com"}
    assert {
        (named(permission["FunctionName"]), permission["SourceArn"]["Fn::Sub"][0].partition("/${__Stage__}/")[2])
        for permission in permissions
    } == {
        ("CheckoutFunction", "POST/checkout"),
        ("CheckoutFunction", "GET/orders/*"),
        ("ServerFunction", "POST/server/checkout"),
        ("ServerFunction", "PUT/server/orders/*"),
        ("ShopifyCheckoutFunction", "GET/shopify/checkout"),
        ("AccessFunction", "POST/access"),
        ("AccessFunction", "GET/access"),
        ("AccessFunction", "POST/access/link"),
        ("AccessFunction", "GET/.well-known/jwks.json"),
        ("WebhookFunction", "POST/webhooks/pocketsflow"),
    }


# --- Time -------------------------------------------------------------------------------------------------------------

BACK_OFF = 0.05  # botocore's first, for DynamoDB, in its legacy mode
SECRET = secrets.TRIES * aws.longest_try("secretsmanager")
WRITE = aws.TRIES["dynamodb"] * aws.longest_try("dynamodb") + BACK_OFF


def test_webhook_answers_in_time():
    """Pocketsflow hangs up after five seconds, of which one is left for the start and the network. No try begins that
    could outlast the function (aws.finishing_in_time)."""
    assert properties("WebhookFunction")["Timeout"] <= 4
    assert aws.FAREWELL_SECONDS >= 0.1


def test_webhook_has_time_to_park():
    """Each as slow as allowed: the secret at once, all that the ledger may take, and the queue; or the secret at its
    last try, a write and the queue. A write that fails is tried again within what the ledger may take."""
    left = properties("WebhookFunction")["Timeout"] - aws.FAREWELL_SECONDS
    parking = aws.longest_try("sqs")
    assert left > aws.longest_try("secretsmanager") + webhook.LEDGER_SECONDS + parking
    assert left > SECRET + aws.longest_try("dynamodb") + parking
    assert webhook.LEDGER_SECONDS > WRITE


def test_checkout_answers_in_time():
    """Secret, key, Pocketsflow, session: each as slow as allowed, a checkout succeeds; one that takes an earlier order
    over has at least begun to ask Pocketsflow early enough to hear the answer."""
    timeout = properties("CheckoutFunction")["Timeout"] - aws.FAREWELL_SECONDS
    assert timeout > SECRET + WRITE + pocketsflow.WAIT_SECONDS + WRITE
    assert timeout > SECRET + WRITE + WRITE + pocketsflow.WAIT_SECONDS


def test_a_cart_answers_in_time():
    """Its product and its session beside secret, the server's key, and three writes: with each try as slow as allowed
    it succeeds, where none has to be made twice. A try more costs the session, which the next request makes."""
    timeout = properties("ServerFunction")["Timeout"] - aws.FAREWELL_SECONDS
    secret, once = aws.longest_try("secretsmanager"), aws.longest_try("dynamodb")
    assert timeout > secret + once + once + pocketsflow.CART_SECONDS + once + pocketsflow.CART_SECONDS + once
    assert 1 < pocketsflow.CART_SECONDS < pocketsflow.WAIT_SECONDS


def test_a_key_is_locked_for_longer_than_a_checkout_runs():
    """No retry may take over an order while its first request is still being answered."""
    for name in ("CheckoutFunction", "ServerFunction", "ShopifyCheckoutFunction"):
        assert properties(name)["Timeout"] < ledger.LOCK.total_seconds()


def test_clients_wait_no_longer_than_is_reckoned_with():
    """The clients that are really used have the time limits and tries of the sums above."""
    assert aws.PATIENCE == 1
    assert aws.TRIES == {"dynamodb": 2, "secretsmanager": 1, "sqs": 1, "events": 1, "s3": 2, "kms": 1, "sesv2": 1}
    used: dict[str, Any] = {
        "dynamodb": table.client,
        "secretsmanager": secrets._client,
        "sqs": webhook._queue,
        "events": relay._bus,
        "s3": aws.client("s3"),
        "kms": tokens._kms,
        "sesv2": notices._mail,
    }
    assert used.keys() == aws.TRIES.keys() == aws.READ_SECONDS.keys()
    for service, client in used.items():
        config = client.meta.config
        assert client.meta.service_model.service_name == service
        assert (config.connect_timeout, config.read_timeout) == (aws.CONNECT_SECONDS, aws.READ_SECONDS[service])
        assert config.retries["total_max_attempts"] == aws.TRIES[service]
        assert config.retries["mode"] == "legacy"


def test_one_reconciliation_at_a_time():
    """A run ends before its lease does, and the lease of a run that crashed before the next run is due. Lambda does not
    start a failed one again: the next is its retry."""
    every = min(seconds for _, seconds, _ in schedules())
    assert properties("ReconcileFunction")["Timeout"] < reconcile.LEASE.total_seconds() < every == 300
    retries = properties("ReconcileFunctionEventInvokeConfig")
    assert named(retries["FunctionName"]) == "ReconcileFunction"
    assert (retries["MaximumRetryAttempts"], retries["MaximumEventAgeInSeconds"]) == (0, every)
    least = pocketsflow.LIST_SECONDS + provider.MARGIN_SECONDS
    assert properties("ReconcileFunction")["Timeout"] > 2 * least


def test_retention_goes_on_the_next_day():
    """A run stops while there is time for a page, a write and a note, each as slow as it may be, and is not cut off.
    Lambda does not start a failed one again: the next is its retry."""
    patience = int(variables("RetainFunction")["PATIENCE"])
    assert 3 * patience * WRITE < retain.SPARE_SECONDS
    assert properties("RetainFunction")["Timeout"] > 2 * retain.SPARE_SECONDS
    assert properties("RetainFunctionEventInvokeConfig")["MaximumRetryAttempts"] == 0


def test_relay_has_time_for_each_try_of_the_bus():
    """A batch whose events the bus refuses as slowly as it may is reported by the function, not cut off."""
    patience = int(variables("RelayFunction")["PATIENCE"])
    put = patience * aws.longest_try("events") / aws.PATIENCE
    assert properties("RelayFunction")["Timeout"] - aws.FAREWELL_SECONDS > relay.TRIES * put


# --- The way in -------------------------------------------------------------------------------------------------------

ROUTES = {
    "POST /checkout": "CheckoutFunction",
    "GET /orders/{orderId}": "CheckoutFunction",
    "POST /server/checkout": "ServerFunction",
    "PUT /server/orders/{reference}": "ServerFunction",
    "GET /shopify/checkout": "ShopifyCheckoutFunction",
    "POST /access": "AccessFunction",
    "GET /access": "AccessFunction",
    "POST /access/link": "AccessFunction",
    "GET /.well-known/jwks.json": "AccessFunction",
    "POST /webhooks/pocketsflow": "WebhookFunction",
}


def stage() -> dict[str, Any]:
    [found] = resources("AWS::ApiGatewayV2::Stage").values()
    result: dict[str, Any] = found["Properties"]
    return result


def test_routes():
    """In payload 2.0, those for servers where they are wanted, and no other way in."""
    found = {}
    for path, methods in properties("Api")["Body"]["paths"].items():
        for method, operation in _where_wanted(methods).items():
            integration = _where_wanted(operation)["x-amazon-apigateway-integration"]
            assert integration["payloadFormatVersion"] == "2.0"
            uri = _where_wanted(integration["uri"])
            [function] = re.findall(r"\$\{(\w+)\.Arn\}", uri["Fn::Sub"])
            found[f"{method.upper()} {path}"] = function
    assert found == ROUTES
    assert not resources("AWS::Lambda::Url")


def _where_wanted(value: Any) -> Any:
    """What SAM puts under the condition of a function."""
    if "Fn::If" not in value:
        return value
    condition, yes, no = value["Fn::If"]
    assert condition in ("HasServerRoutes", "HasShopify", "HasMembership")
    assert no == NO_VALUE
    return yes


BROWSER_ROUTES = {"POST /checkout": pocketsflow.WAIT_SECONDS + 0.5, "GET /orders/{orderId}": 0.25}
SERVER_ROUTES = {"POST /server/checkout": pocketsflow.WAIT_SECONDS + 0.5, "PUT /server/orders/{reference}": 0.25}
SHOPIFY_ROUTES = {"GET /shopify/checkout": 2 * shopify_checkout.SHOPIFY_SECONDS + pocketsflow.WAIT_SECONDS + 0.75}
MEMBER_ROUTES = {
    "POST /access": 0.5,
    "GET /access": 0.5,
    "POST /access/link": access.LINK_SECONDS + 0.5,
    "GET /.well-known/jwks.json": 0.25,
}
ALL_ROUTES = BROWSER_ROUTES | SERVER_ROUTES | SHOPIFY_ROUTES | MEMBER_ROUTES
CARTS = {
    "POST /server/checkout": 2 * pocketsflow.CART_SECONDS + 0.75,
    "GET /shopify/checkout": 2 * shopify_checkout.SHOPIFY_SECONDS + 2 * pocketsflow.CART_SECONDS + 1,
}
"""Seconds that a call takes at the slowest that is usual: all the time given to Pocketsflow and to Shopify, half a
second for the ledger, and a quarter more for a cart's product, and for what is read of a Shopify order; a quarter of a
second for one read."""
ROUTED = pytest.mark.parametrize(  # what is on beside the browser's routes; all of it needs the large quota
    ("routed", "quota"),
    [
        *itertools.product(["", "server", "shopify", "server carts", "shopify carts"], ["10", "1000"]),
        ("server shopify", "1000"),
        ("server shopify carts", "1000"),
        ("members", "1000"),
        ("server shopify carts members", "1000"),
    ],
)


def given(routed: str) -> dict[str, str]:
    words = routed.split()
    return {
        "ServerRoutes": "on" if "server" in words else "off",
        "ShopifyShop": "name.myshopify.com" if "shopify" in words else "",
        "ProductPerOrder": "on" if "carts" in words else "off",
        "Membership": "on" if "members" in words else "off",
    }


def throttles(**parameters: str) -> dict[str, dict[str, float]]:
    [api] = resolved("AWS::Serverless::HttpApi", **parameters).values()
    settings: dict[str, dict[str, float]] = api["RouteSettings"]
    return settings


@ROUTED
def test_throttles_on_every_route_but_the_webhook(routed: str, quota: str):
    """A throttled delivery is a lost delivery; what others can call is bounded, in literal numbers. A route that is not
    there has no settings, which CloudFormation would refuse."""
    settings = throttles(**given(routed), AccountConcurrency=quota)
    there = {**BROWSER_ROUTES}
    there |= SERVER_ROUTES if "server" in routed else {}
    there |= SHOPIFY_ROUTES if "shopify" in routed else {}
    there |= MEMBER_ROUTES if "members" in routed else {}
    assert settings.keys() == there.keys()
    assert ROUTES.keys() - {"POST /webhooks/pocketsflow"} == ALL_ROUTES.keys()
    for limit in settings.values():
        assert limit.keys() == {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
        assert all(isinstance(number, int | float) and number > 0 for number in limit.values())
    assert "DefaultRouteSettings" not in stage()
    assert PARAMETERS["ServerRoutes"]["Default"] == "off"


@ROUTED
def test_pocketsflow_s_hundred_requests_a_minute_are_shared(routed: str, quota: str):
    """Checkouts get 70 of them, reconciliation 25, a person's tools 5: a busy shop does not stop the reconciliation
    that its buyers need, nor the other way round. In any minute: the rate of all routes, and their bursts on top; a
    cart takes two."""
    settings = throttles(**given(routed), AccountConcurrency=quota)
    checkouts = {route: limit for route, limit in settings.items() if route.endswith("/checkout")}
    assert len(checkouts) == 1 + ("server" in routed) + ("shopify" in routed)
    requests = 0.0
    for route, limit in checkouts.items():
        each = 2 if route in CARTS and "carts" in routed else 1
        requests += each * (limit["ThrottlingRateLimit"] * 60 + limit["ThrottlingBurstLimit"])
    assert requests <= 70
    assert provider.PER_MINUTE == 25
    assert 70 + provider.PER_MINUTE + 5 <= 100


@ROUTED
def test_other_routes_leave_half_of_the_account_to_the_webhook(routed: str, quota: str):
    """Traffic of browsers and servers occupies at most half of the account's executions, however it comes.

    A throttle is a bucket: of the calls that come within a call's duration d it lets `burst` through at once and
    refills `rate * d`, so that at most burst + rate * d run at one moment (Little's law for the steady part, and the
    bucket on top).
    """
    assert int(quota) in PARAMETERS["AccountConcurrency"]["AllowedValues"]
    assert PARAMETERS["AccountConcurrency"]["Default"] == 10
    running = 0.0
    for route, limit in throttles(**given(routed), AccountConcurrency=quota).items():
        seconds = (ALL_ROUTES | (CARTS if "carts" in routed else {}))[route]
        running += limit["ThrottlingBurstLimit"] + limit["ThrottlingRateLimit"] * seconds
    assert running <= int(quota) / 2


def test_a_server_and_shopify_need_room():
    """A new account's ten functions are too few for both beside the browser: the deployment is refused."""
    rule = SOURCE["Rules"]["AServerAndShopifyNeedRoom"]
    shopify = {"Fn::Not": [{"Fn::Equals": [{"Ref": "ShopifyShop"}, ""]}]}
    assert rule["RuleCondition"] == {"Fn::And": [{"Fn::Equals": [{"Ref": "ServerRoutes"}, "on"]}, shopify]}
    assert [each["Assert"] for each in rule["Assertions"]] == [{"Fn::Equals": [{"Ref": "AccountConcurrency"}, 1000]}]


def test_carts_without_the_server_s_routes_are_refused():
    """Before anything is made: no browser may name a price. Off, unless somebody wants them."""
    [rule] = SOURCE["Rules"]["ACartComesFromAServer"]["Assertions"]
    off, on = (
        {"Fn::Equals": [{"Ref": name}, value]} for name, value in (("ProductPerOrder", "off"), ("ServerRoutes", "on"))
    )
    shopify = {"Fn::Not": [{"Fn::Equals": [{"Ref": "ShopifyShop"}, ""]}]}
    assert rule["Assert"] == {"Fn::Or": [off, on, shopify]}
    assert (PARAMETERS["ProductPerOrder"]["Default"], PARAMETERS["ProductPerOrder"]["AllowedValues"]) == (
        "off",
        ["on", "off"],
    )
    assert [name for name in FUNCTIONS if "PRODUCT_PER_ORDER" in variables(name)] == [
        "ServerFunction",
        "ShopifyCheckoutFunction",
        "PreflightFunction",
    ]


HEADERS = ["content-type", "idempotency-key"]


def test_members_need_room():
    """Four routes more leave a new account's ten executions too few for the webhook: such a stack is refused."""
    rule = SOURCE["Rules"]["MembersNeedRoom"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Membership"}, "on"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Equals": [{"Ref": "AccountConcurrency"}, 1000]}


def test_the_function_alone_signs_for_members():
    """Its role may sign and read the public half; everybody else is denied to sign, whatever else allows it. The
    account keeps the rest, so that the key can be looked after."""
    key = properties("MemberKey")
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    administration, function, nobody_else = key["KeyPolicy"]["Statement"]
    assert administration["Principal"]["AWS"]["Fn::Sub"].endswith(":root")
    assert named(function["Principal"]["AWS"]) == "AccessRole.Arn"
    assert function["Action"] == ["kms:Sign", "kms:GetPublicKey"]
    assert (nobody_else["Effect"], nobody_else["Principal"], nobody_else["Action"]) == ("Deny", "*", "kms:Sign")
    assert named(nobody_else["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]) == "AccessRole.Arn"


def test_a_link_is_sent_in_time():
    """Whatever is as slow as allowed: counting twice, looking the member up, and the mail, within the time that every
    such request takes; and a session is opened within the function's."""
    read, mail = aws.longest_try("dynamodb"), aws.longest_try("sesv2")
    assert mail + read < access.LINK_SECONDS
    timeout = properties("AccessFunction")["Timeout"] - aws.FAREWELL_SECONDS
    assert timeout > access.LINK_SECONDS + 2 * read + aws.FAREWELL_SECONDS
    assert timeout > 2 * WRITE + aws.longest_try("kms") * 2


def test_cors_by_parameter():
    """Browsers may call from the listed origins, with the two methods and headers that are needed; members show a
    session in one more."""
    origins = ("https://shop.example", "https://www.shop.example")
    body = expanded(origins=origins)["Resources"]["Api"]["Properties"]["Body"]
    assert body["x-amazon-apigateway-cors"] == {
        "allowOrigins": list(origins),
        "allowMethods": ["GET", "POST"],
        "allowHeaders": {"Fn::If": ["HasMembership", [*HEADERS, "authorization"], HEADERS]},
        "exposeHeaders": ["retry-after"],
        "maxAge": 3600,
    }


def test_the_access_log_is_about_nobody():
    """Requests are logged without address, agent, path, query or user."""
    settings = stage()["AccessLogSettings"]
    assert named(settings["DestinationArn"]) == "AccessLogs.Arn"
    assert sorted(json.loads(settings["Format"]).values()) == [
        "$context.integration.error",
        "$context.requestId",
        "$context.requestTime",
        "$context.responseLatency",
        "$context.routeKey",
        "$context.status",
    ]


# --- What comes by itself -------------------------------------------------------------------------------------------


def mapping(name: str) -> dict[str, Any]:
    """An event source mapping, without its filter."""
    found = {**properties(name)}
    found.pop("FilterCriteria", None)
    return found


def test_these_are_all_event_sources():
    """The stream has two readers, which is as many as DynamoDB allows without throttling, and the queue one."""
    found = resources("AWS::Lambda::EventSourceMapping")
    assert {name: named(resource["Properties"]["EventSourceArn"]) for name, resource in found.items()} == {
        "RelayFunctionChanges": "Ledger.StreamArn",
        "ReconcileFunctionAsked": "Ledger.StreamArn",
        "WebhookFunctionParked": "Parking.Arn",
    }


def test_the_relay_reads_every_change():
    """From the table's beginning; what failed is named and comes again alone, a batch that breaks the function is cut
    in two; after a bounded time and number of tries the records themselves go to the bucket, and never away."""
    found = mapping("RelayFunctionChanges")
    assert 1 <= found.pop("BatchSize") <= 100
    assert found.pop("MaximumRetryAttempts") == 10_000  # Lambda's most: the age is what ends it
    assert 3_600 <= found.pop("MaximumRecordAgeInSeconds") <= 12 * 3_600  # DynamoDB keeps a record for a day
    assert found == {
        "EventSourceArn": {"Fn::GetAtt": ["Ledger", "StreamArn"]},
        "FunctionName": {"Ref": "RelayFunction"},
        "StartingPosition": "TRIM_HORIZON",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["Unpublished", "Arn"]}}},
    }


def test_a_question_starts_one_run_at_most():
    """Each alone, once, and while somebody still waits for the answer; never one of before the stack."""
    assert mapping("ReconcileFunctionAsked") == {
        "EventSourceArn": {"Fn::GetAtt": ["Ledger", "StreamArn"]},
        "FunctionName": {"Ref": "ReconcileFunction"},
        "StartingPosition": "LATEST",
        "BatchSize": 1,
        "MaximumRetryAttempts": 0,
        "MaximumRecordAgeInSeconds": 60,
    }


def passes(name: str, pk: str, event_name: str) -> bool:
    """Whether a mapping's filter lets a change of an item through."""
    record = {
        "eventName": event_name,
        "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": {"pk": {"S": pk}}, "NewImage": {"pk": {"S": pk}}, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }
    filters = properties(name)["FilterCriteria"]["Filters"]
    assert all(each.keys() == {"Pattern"} for each in filters)
    return any(sandbox_aws.matches(each["Pattern"], record) for each in filters)


@pytest.mark.parametrize(
    ("pk", "reader"),
    [
        ("order#ord_test_1", "RelayFunctionChanges"),
        ("sale#1", "RelayFunctionChanges"),
        ("subscription#1", "RelayFunctionChanges"),
        ("raw#1", "RelayFunctionChanges"),
        ("sale#reconcile#asked", "RelayFunctionChanges"),
        ("reconcile#asked", "ReconcileFunctionAsked"),
        ("reconcile#asked#", None),
        ("reconcile#state", None),
        ("idem#order#1", None),
        ("order", None),
        ("Order#1", None),
        ("x-order#1", None),
    ],
)
def test_a_change_starts_whom_it_concerns(pk: str, reader: str | None):
    """What becomes events goes to the relay, a question to reconciliation, and nothing that they write to themselves,
    nor an item that is deleted, to anybody."""
    for name in ("RelayFunctionChanges", "ReconcileFunctionAsked"):
        for event_name, is_told in (("INSERT", True), ("MODIFY", True), ("REMOVE", False)):
            assert passes(name, pk, event_name) is (is_told and name == reader)


def test_the_queue_feeds_the_webhook():
    """A few messages at a time, beside the deliveries and never instead of them; those that fail come again alone."""
    found = mapping("WebhookFunctionParked")
    assert 1 <= found.pop("BatchSize") <= 10
    assert found == {
        "EventSourceArn": {"Fn::GetAtt": ["Parking", "Arn"]},
        "FunctionName": {"Ref": "WebhookFunction"},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 2},
    }


SECONDS = {"minute": 60, "minutes": 60, "hour": 3_600, "day": 86_400}


def schedules(function: str = "ReconcileFunction") -> list[tuple[str, int, Any]]:
    """Of a function: logical id, seconds between two runs, input."""
    found = []
    for name, resource in resources("AWS::Scheduler::Schedule").items():
        if named(resource["Properties"]["Target"]["Arn"]) != f"{function}.Arn":
            continue
        [(number, unit)] = re.findall(r"^rate\((\d+) (\w+)\)$", resource["Properties"]["ScheduleExpression"])
        given = json.loads(resource["Properties"]["Target"]["Input"])
        found.append((name, int(number) * SECONDS[unit], given))
    return found


def test_the_schedules():
    """Every five minutes, every hour and every day, each with a walk of its own; beside them only the question."""
    assert sorted((seconds, given) for _, seconds, given in schedules()) == [
        (300, {"walk": "recent"}),
        (3_600, {"walk": "hours"}),
        (86_400, {"walk": "days"}),
    ]
    assert {given["walk"] for _, _, given in schedules()} | {"asked"} == reconcile.SCHEDULED.keys()
    assert [seconds for _, seconds, _ in schedules("RetainFunction")] == [86_400]


def test_schedules_belong_to_the_stack():
    """No name that another stack of the account might have; on, punctual, with the role that may do nothing else."""
    for resource in resources("AWS::Scheduler::Schedule").values():
        found = resource["Properties"]
        assert found.keys() == {"ScheduleExpression", "FlexibleTimeWindow", "Target"}
        assert found["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert named(found["Target"]["Arn"]) in ("ReconcileFunction.Arn", "RetainFunction.Arn")
        assert named(found["Target"]["RoleArn"]) == "ScheduleRole.Arn"
        assert found["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 240}


def test_the_bus():
    """One bus, on which the relay publishes under the stage's name; an archive keeps all of it for 90 days."""
    assert resources("AWS::Events::EventBus").keys() == {"Bus"}
    assert properties("Bus") == {"Name": {"Fn::Sub": "pocketsflow-${Stage}"}}
    assert properties("Archive") == {
        "ArchiveName": {"Fn::Sub": "pocketsflow-${Stage}"},
        "SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]},
        "RetentionDays": 90,
    }
    assert variables("RelayFunction")["BUS_NAME"] == {"Ref": "Bus"}


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_the_ledger():
    """On demand, recoverable, encrypted, streamed with both images; only idempotency keys expire."""
    table = properties("Ledger")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert "ProvisionedThroughput" not in table
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"]["SSEEnabled"] is True
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]


def index_of(name: str) -> dict[str, Any]:
    [index] = [each for each in properties("Ledger")["GlobalSecondaryIndexes"] if each["IndexName"] == name]
    return {**index, "KeySchema": {key["AttributeName"]: key["KeyType"] for key in index["KeySchema"]}}


def test_these_are_all_indexes():
    """Each costs every write of what is in it; DynamoDB adds or removes one in an update of the stack."""
    assert {each["IndexName"] for each in properties("Ledger")["GlobalSecondaryIndexes"]} == {"pending", "unconfirmed"}
    declared = {each["AttributeName"] for each in properties("Ledger")["AttributeDefinitions"]}
    assert declared == {"pk", *(key for name in ("pending", "unconfirmed") for key in index_of(name)["KeySchema"])}


def test_the_index_of_what_the_api_has_not_said_is_sparse():
    """A payment leaves it when `awaits` is removed; who asks is given the oldest first, and nothing but keys."""
    assert index_of("unconfirmed") == {
        "IndexName": "unconfirmed",
        "KeySchema": {"awaits": "HASH", "since": "RANGE"},
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }


def test_the_index_of_pending_orders_is_sparse():
    """Its keys are no keys of the table, so that an order leaves it when `open_day` is removed."""
    index = index_of("pending")
    assert index["KeySchema"] == {"open_day": "HASH", "created_at": "RANGE"}
    assert index["Projection"]["ProjectionType"] == "INCLUDE"
    assert not {"customer_email", "untrusted_metadata"} & set(index["Projection"]["NonKeyAttributes"])


def test_the_ledger_outlives_its_stack():
    """A stack that is deleted or a property that replaces the table leaves the table; a failed creation does not."""
    ledger_resource = expanded()["Resources"]["Ledger"]
    assert ledger_resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert ledger_resource["UpdateReplacePolicy"] == "Retain"
    assert [name for name, resource in expanded()["Resources"].items() if "Table" in resource["Type"]] == ["Ledger"]


@pytest.mark.parametrize(("value", "protected"), [("on", True), ("off", False)])
def test_deletion_protection_by_parameter(value: str, protected: bool):
    """The parameter decides whether anybody can delete the table."""
    assert (
        resolved("AWS::DynamoDB::Table", DeletionProtection=value)["Ledger"]["DeletionProtectionEnabled"] is protected
    )


def test_what_is_kept_has_no_name_of_its_own():
    """What stays behind must not stand in the way of the next stack."""
    kept = {
        name: resource.get("Properties", {})
        for name, resource in expanded()["Resources"].items()
        if "Retain" in resource.get("UpdateReplacePolicy", "") or "Retain" in resource.get("DeletionPolicy", "")
    }
    assert {"Ledger", "ApiKey", "WebhookSecrets", "Parking", "ParkedTooLong", "Unpublished"} <= kept.keys()
    for name, found in kept.items():
        assert not found.keys() & {"Name", "TableName", "LogGroupName", "QueueName", "BucketName"}, name


QUEUES = ["Parking", "ParkedTooLong"]


@pytest.mark.parametrize("name", QUEUES)
def test_a_parked_body_is_kept(name: str):
    """Encrypted, for as long as SQS keeps anything, and longer than the stack lives; a creation that fails leaves
    nothing behind."""
    assert resources("AWS::SQS::Queue").keys() == set(QUEUES)
    assert resolved("AWS::SQS::Queue")[name]["SqsManagedSseEnabled"] is True
    assert properties(name)["MessageRetentionPeriod"] == 14 * 24 * 3_600
    assert "FifoQueue" not in properties(name)
    queue = expanded()["Resources"][name]
    assert (queue["DeletionPolicy"], queue["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


@pytest.mark.parametrize("name", QUEUES)
def test_the_largest_body_fits_the_queue(name: str):
    """In base64, with the longest event name and time that are taken, each character of them escaped. A mebibyte is
    what SQS allows."""
    message = {"body": base64.b64encode(b"x" * webhook.MAX_BODY).decode(), "event": '"' * 64, "sent_at": '"' * 64}
    assert len(json.dumps(message)) <= properties(name)["MaximumMessageSize"] <= 1024 * 1024


def test_a_parked_body_is_tried_for_a_day():
    """Then it lies where the alarm sees it. No try begins while Lambda may still be busy with the one before."""
    parking = properties("Parking")
    redrive = parking["RedrivePolicy"]
    assert named(redrive["deadLetterTargetArn"]) == "ParkedTooLong.Arn"
    assert parking["VisibilityTimeout"] * redrive["maxReceiveCount"] == 24 * 3_600
    assert parking["VisibilityTimeout"] >= 6 * properties("WebhookFunction")["Timeout"]
    assert "RedrivePolicy" not in properties("ParkedTooLong")
    assert variables("WebhookFunction")["PARKING_URL"] == {"Ref": "Parking"}


def test_the_bucket_of_what_could_not_be_published():
    """Encrypted, nobody's but the account's, and not for ever: the records hold people's addresses."""
    assert resources("AWS::S3::Bucket").keys() == {"Unpublished"}
    bucket = resolved("AWS::S3::Bucket")["Unpublished"]
    [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    blocked = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    assert bucket["PublicAccessBlockConfiguration"] == dict.fromkeys(blocked, True)
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert bucket["LifecycleConfiguration"] == {"Rules": [{"Status": "Enabled", "ExpirationInDays": 90}]}
    assert "AccessControl" not in bucket
    resource = expanded()["Resources"]["Unpublished"]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert variables("RelayFunction")["UNPUBLISHED_BUCKET"] == {"Ref": "Unpublished"}


def test_the_bucket_speaks_tls_only():
    """Its policy denies, and allows nothing to anybody."""
    assert resources("AWS::S3::BucketPolicy").keys() == {"UnpublishedPolicy"}
    policy = properties("UnpublishedPolicy")
    assert named(policy["Bucket"]) == "Unpublished"
    [statement] = policy["PolicyDocument"]["Statement"]
    denied = [named(resource) for resource in statement.pop("Resource")]
    assert denied == ["Unpublished.Arn", "Unpublished.Arn/*"]
    assert statement == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def test_secrets_are_created_empty():
    """No placeholder, no generated value: nothing that an update would put back in place of the real one."""
    secrets = resources("AWS::SecretsManager::Secret")
    assert secrets.keys() == {"ApiKey", "WebhookSecrets", "ChallengeSecret"}
    assert secrets["ChallengeSecret"]["Condition"] == "HasChallenge"
    for secret in secrets.values():
        assert secret["Properties"].keys() == {"Description", "KmsKeyId"}
        assert secret["UpdateReplacePolicy"] == "Retain"


# --- Parameters -------------------------------------------------------------------------------------------------------

ADDRESSES = ["SuccessUrl", "CancelUrl"]


@pytest.mark.parametrize(
    ("parameter", "value", "accepted"),
    [
        *(("Stage", value, True) for value in ("dev", "prod-2", "a", "a" * 16, "sandbox-2", "sandboxes")),
        *(("Stage", value, False) for value in ("sandbox", "", "Prod", "2prod", "-a", "a_b", "a.b", "a" * 17, "a b")),
        *(
            ("AllowedOrigins", value, True)
            for value in ("https://shop.example", "https://shop.example:8443", "http://localhost:8000")
        ),
        ("AllowedOrigins", "http://127.0.0.1:8000", True),
        *(
            ("AllowedOrigins", value, False)
            for value in ("*", "", "null", "https://*.example", "https://*", "shop.example")
        ),
        *(("AllowedOrigins", value, False) for value in ("http://shop.example", "http://localhost.evil.com")),
        *(("AllowedOrigins", value, False) for value in ("https://shop.example/", "https://shop.example/path")),
        *(
            ("AllowedOrigins", value, False)
            for value in ("https://a@b.example", "https://SHOP.example", "//shop.example")
        ),
        *(
            ("AllowedOrigins", value, False)
            for value in ("https://shop.example?x", "https://shop.example#x", "ftp://s")
        ),
        *((name, "https://shop.example/thank-you?a=b#c", True) for name in ADDRESSES),
        *((name, "http://localhost:8000/thank-you.html", True) for name in ADDRESSES),
        *((name, value, False) for name in ADDRESSES for value in ("", "https://shop.example", "/thank-you")),
        *(
            (name, value, False)
            for name in ADDRESSES
            for value in ("http://shop.example/", "https://a@b/", "https://s/ x")
        ),
        *((name, "javascript:alert(1)", False) for name in ADDRESSES),
        *(("ReconcileFrom", value, True) for value in ("", "2026-11-25T00:00:00Z", "2027-12-31T23:59:59Z")),
        *(
            ("ReconcileFrom", value, False)
            for value in ("now", "2026-11-25", "2026-11-25T00:00:00", "2026-11-25 00:00:00Z", "2026-11-25T00:00Z")
        ),
        *(
            ("ReconcileFrom", value, False)
            for value in ("2026-11-25T00:00:00+01:00", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z")
        ),
        *(
            ("ReconcileFrom", value, False)
            for value in ("2026-11-32T00:00:00Z", "2026-11-25T24:00:00Z", "2026-11-25T00:60:00Z", "20261125T000000Z")
        ),
        *(("AlarmEmail", value, True) for value in ("", "on.call@shop.example")),
        *(("AlarmEmail", value, False) for value in ("on.call", "a b@c", "@c", "a@")),
    ],
)
def test_patterns(parameter: str, value: str, accepted: bool):
    """CloudFormation refuses what no function could work with."""
    assert (re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], value) is not None) is accepted


def test_every_pattern_says_what_it_wants():
    """A refused value comes with an explanation, or the parameter's description is one."""
    for name, parameter in PARAMETERS.items():
        if "AllowedPattern" in parameter:
            assert "ConstraintDescription" in parameter or "Description" in parameter, name


def test_defaults_are_accepted():
    """`sam deploy` works without a parameter."""
    for name, parameter in PARAMETERS.items():
        assert "Default" in parameter, name
        assert re.fullmatch(parameter.get("AllowedPattern", ".*"), str(parameter["Default"])), name
        values = parameter["Default"].split(",") if "List" in parameter["Type"] else [parameter["Default"]]
        assert {*values} <= {*parameter.get("AllowedValues", values)}, name
        assert parameter["Default"] >= parameter.get("MinValue", parameter["Default"]), name
        assert parameter["Default"] <= parameter.get("MaxValue", parameter["Default"]), name


def test_parameters_are_all_shown_and_all_used():
    """Each parameter stands in the interface, once, and is used."""
    groups = SOURCE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(PARAMETERS)
    used = " ".join(strings([SOURCE[part] for part in ("Conditions", "Globals", "Resources", "Rules")]))
    for name in PARAMETERS:
        assert re.search(rf"\b{name}\b", used), name


# --- Who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("email", "subscribed"), [("", False), ("on.call@shop.example", True)])
def test_somebody_subscribes_when_there_is_an_address(email: str, subscribed: bool):
    """Without an address there is no subscription that could never be confirmed."""
    assert bool(resolved("AWS::SNS::Subscription", AlarmEmail=email)) is subscribed


def test_only_this_account_s_alarms_speak_on_the_topic():
    """CloudWatch publishes, and Budgets, for this account alone."""
    [statement, _] = properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]}
    assert statement["Action"] == "sns:Publish"
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


# --- Live only --------------------------------------------------------------------------------------------------------


def test_preflight_is_only_in_live():
    """What checks a live stack is in no other."""
    conditions = {name: resource.get("Condition") for name, resource in expanded()["Resources"].items()}
    live = {name for name, condition in conditions.items() if condition == "IsLive"}
    assert live == {name for name in conditions if name.startswith("Preflight")}
    assert SOURCE["Conditions"]["IsLive"] == {"Fn::Equals": [{"Ref": "Mode"}, "live"]}
    assert "PreflightFunction" not in resolved("AWS::Serverless::Function", Mode="test")
    assert "PreflightFunction" in resolved("AWS::Serverless::Function", Mode="live")


def without_live_branches(value: Any) -> Any:
    """A part of the template as a test stack sees it."""
    if isinstance(value, dict):
        if value.get("Fn::If", [None])[0] == "IsLive":
            return value["Fn::If"][2]
        return {name: without_live_branches(inner) for name, inner in value.items()}
    return [without_live_branches(inner) for inner in value] if isinstance(value, list) else value


def test_checkout_waits_for_the_preflight():
    """CloudFormation updates what is referred to first: a refused deployment never touches the running function."""
    [_, live, _] = properties("CheckoutFunction")["Description"]["Fn::If"]
    assert "${Preflight}" in live["Fn::Sub"]


def test_nothing_else_refers_to_what_is_only_in_live():
    """A test stack has no reference into nothing."""
    for name, resource in expanded()["Resources"].items():
        if not name.startswith("Preflight"):
            assert not any("Preflight" in text for text in strings(without_live_branches(resource))), name
    assert not any("Preflight" in text for text in strings(expanded()["Outputs"]))


def test_preflight_runs_again_for_other_code_and_other_addresses():
    """CloudFormation calls a custom resource when a property changes: the code's version, or an address."""
    versions = set()
    for code in ("s3://bucket/one", "s3://bucket/two"):
        found = expanded(code)["Resources"]
        version = named(found["Preflight"]["Properties"]["Code"])
        assert found[version]["Type"] == "AWS::Lambda::Version"
        versions.add(version)
    assert len(versions) == 2
    assert {"AllowedOrigins", "SuccessUrl", "CancelUrl"} <= set(strings(properties("Preflight")["Addresses"]))


def test_a_challenge_has_a_verifier():
    """CloudFormation looks into the map for every value, also under a condition that does not hold; who verifies is
    written here, and no parameter can name another."""
    verifiers = SOURCE["Mappings"]["Verifiers"]
    assert PARAMETERS["Challenge"]["AllowedValues"] == list(verifiers)
    assert PARAMETERS["Challenge"]["Default"] == "off"
    urls = {name: found["Url"] for name, found in verifiers.items()}
    assert urls.pop("off") == "-"
    assert all(url.startswith("https://") and url.endswith("/siteverify") for url in urls.values())
    for choice, url in {"off": "", **urls}.items():
        function = resolved("AWS::Serverless::Function", Challenge=choice)["CheckoutFunction"]
        assert function["Environment"]["Variables"]["CHALLENGE_URL"] == url


def test_preflight_fails_in_time():
    """CloudFormation waits for longer than the function runs, but not for an hour."""
    preflight = properties("Preflight")
    assert named(preflight["ServiceToken"]) == "PreflightFunction.Arn"
    assert properties("PreflightFunction")["Timeout"] < preflight["ServiceTimeout"] <= 60


# --- Outputs ----------------------------------------------------------------------------------------------------------


def test_outputs():
    """What a person needs after `sam deploy`, and no secret."""
    outputs = {name: output["Value"] for name, output in expanded()["Outputs"].items()}
    base = "https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}"
    own = "https://${DomainName}"
    assert outputs == {
        "ApiUrl": {"Fn::If": ["HasDomain", {"Fn::Sub": own}, {"Fn::Sub": base}]},
        "WebhookUrl": {
            "Fn::If": [
                "HasDomain",
                {"Fn::Sub": f"{own}/webhooks/pocketsflow"},
                {"Fn::Sub": f"{base}/webhooks/pocketsflow"},
            ]
        },
        "DomainTarget": {"Fn::GetAtt": ["Domain", "RegionalDomainName"]},
        "LedgerTable": {"Ref": "Ledger"},
        "ApiKeySecret": {"Ref": "ApiKey"},
        "WebhookSecretsSecret": {"Ref": "WebhookSecrets"},
        "ChallengeSecretArn": {"Ref": "ChallengeSecret"},
        "AlarmTopicArn": {"Ref": "AlarmTopic"},
        "BusName": {"Ref": "Bus"},
        "ParkingQueue": {"Ref": "Parking"},
        "ParkedTooLongArn": {"Fn::GetAtt": ["ParkedTooLong", "Arn"]},
        "UnpublishedBucket": {"Ref": "Unpublished"},
        "CheckoutFunctionName": {"Ref": "CheckoutFunction"},
        "WebhookFunctionName": {"Ref": "WebhookFunction"},
        "RelayFunctionName": {"Ref": "RelayFunction"},
        "ReconcileFunctionName": {"Ref": "ReconcileFunction"},
        **{
            output: {"Fn::GetAtt": [f"{output.removesuffix('Connector')}Stack", "Outputs.Connector"]}
            for output in CONNECTOR_OUTPUTS.values()
        },
    }
