"""`pf doctor`: each line as it is when all is well, and when what it looks at has really gone wrong."""

import dataclasses
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import EndpointConnectionError

import ops.doctor
from payments import secrets as cached
from payments.event_names import EVENTS
from tests.pf import answer, fails, run
from tests.public import ADDRESS, WEBHOOK, Site
from tests.world import PRODUCTS

ACCOUNT = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
DEPLOYED = {"LastModified": "2026-11-20T12:00:00.000+0000"}


@pytest.fixture
def well(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A stack after its set-up, a purchase and a reconciliation, with somebody who is told."""
    site.shop.stack.put_secret("WebhookSecrets", "changeme")
    assert run("init").exit_code == 0
    site.shop.buy()
    assert site.shop.reconcile()["outcome"] == "done"
    topic = boto3.client("sns").create_topic(Name="alarms")["TopicArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="oncall@shop.example")
    boto3.client("sqs").create_queue(QueueName="sandbox-ParkedTooLong")
    with_outputs(site, AlarmTopicArn=topic)
    sells(monkeypatch, tmp_path, PRODUCTS)
    monkeypatch.setattr(ops.doctor, "_last_commit", lambda: datetime(2026, 11, 19, tzinfo=UTC))
    says(monkeypatch, "GetAccountSettings", {"AccountLimit": ACCOUNT})
    says(monkeypatch, "GetFunctionConfiguration", DEPLOYED)
    return site


def with_outputs(site: Site, **outputs: str) -> None:
    site.stack = dataclasses.replace(site.stack, outputs={**site.stack.outputs, **outputs})


def with_parameters(site: Site, **parameters: str) -> None:
    site.stack = dataclasses.replace(site.stack, parameters={**site.stack.parameters, **parameters})


def sells(monkeypatch: pytest.MonkeyPatch, folder: Path, products: Any) -> None:
    (folder / "catalogue.json").write_text(json.dumps({"products": products}))
    monkeypatch.setattr(ops.doctor, "CATALOGUE", folder / "catalogue.json")


def says(monkeypatch: pytest.MonkeyPatch, operation: str, content: Any) -> None:
    """AWS answers so, where moto knows no answer."""
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def calling(self: Any, name: str, arguments: Any) -> Any:
        return content if name == operation else call(self, name, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)


def look(*words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and the findings by their checks."""
    result = run("doctor", "--json", *words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    told = json.loads(result.stdout)
    assert told["ok"] == (result.exit_code == 0)
    found: dict[str, list[dict[str, str]]] = {}
    for finding in told["checks"]:
        found.setdefault(finding["check"], []).append(finding)
    return result.exit_code, found


def check(name: str, status: str, part: str, code: int | None = None) -> dict[str, str]:
    """One line is so; the exit code is as the worst line wants it."""
    left, found = look()
    [finding] = [each for each in found[name] if each["status"] != "ok"] or found[name]
    assert (finding["status"], part in finding["why"]) == (status, True), finding
    statuses = {each["status"] for findings in found.values() for each in findings}
    expected = 1 if "failed" in statuses else 75 if "unknown" in statuses else 0
    assert left == expected
    if code is not None:
        assert left == code
    if status in ("failed", "warning"):
        assert finding["mend"]
    return finding


# --- All is well ------------------------------------------------------------------------------------------------------


def test_all_is_well(well: Site) -> None:
    """Each line says ok, every check has one, and nothing is changed but the self-test's own item."""
    before, endpoints = well.shop.stack.items(), [dict(each) for each in well.ours]
    result = run("doctor", "--strict")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    for name, _ in ops.doctor.CHECKS:
        assert name in result.stdout
    after = well.shop.stack.items()
    assert {pk for pk in after if after[pk] != before.get(pk)} == {"webhook#self_test"}
    assert well.ours == endpoints


def test_secrets_are_not_shown(well: Site) -> None:
    """Neither the key nor the webhook's secret, in any form of the answer."""
    for words in (("doctor",), ("doctor", "--json")):
        shown = run(*words).output
        assert all(secret not in shown for secret in [*well.words, "pk_test_0"])


# --- The stack and its secrets ----------------------------------------------------------------------------------------


def test_an_older_template(well: Site) -> None:
    """Outputs are missing."""
    outputs = {name: value for name, value in well.stack.outputs.items() if name != "BusName"}
    well.stack = dataclasses.replace(well.stack, outputs=outputs)
    assert check("stack", "failed", "no BusName", 1)["mend"] == "make deploy STAGE=test"


@pytest.mark.parametrize("value", ["changeme", f"pk_live_{'x' * 16}"])
def test_no_api_key(well: Site, value: str) -> None:
    """Or one of the other mode: what needs one is skipped, not failed a second time."""
    well.shop.stack.put_secret("ApiKey", value)
    assert check("API key", "failed", "no API key of mode test", 1)["mend"] == "pf --stack pocketsflow init"
    _, found = look()
    assert [found[name][0]["status"] for name in ("webhook endpoint", "catalogue")] == ["skipped", "skipped"]


def test_an_api_key_that_was_revoked(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pocketsflow does not take it any more."""
    monkeypatch.setattr("sandbox.pocketsflow.API_KEY", "pk_test_another_one_0123")
    check("API key", "failed", "does not take", 1)


def test_pocketsflow_is_not_there(well: Site) -> None:
    """Nobody knows: exit code 75, and no verdict on the key."""
    well.shop.answers["GET /users/me"] = lambda _: (503, {})
    check("API key", "unknown", "did not answer", 75)


@pytest.mark.parametrize(
    ("value", "status", "part"), [("changeme", "failed", "placeholder"), ("{} whsec_xxx", "warning", "placeholder")]
)
def test_a_webhook_secret_that_is_none(well: Site, value: str, status: str, part: str) -> None:
    """A placeholder, alone or beside the secret."""
    well.shop.stack.put_secret("WebhookSecrets", value.format(*well.words))
    check("webhook secret", status, part)


def test_no_webhook_secret(well: Site) -> None:
    """As the template makes it; the self-test waits for it."""
    aws = well.shop.stack.secrets
    aws.delete_secret(SecretId="sandbox-WebhookSecrets", ForceDeleteWithoutRecovery=True)
    aws.create_secret(Name="sandbox-WebhookSecrets")
    check("webhook secret", "failed", "none is stored", 1)
    check("signed self-test", "skipped", "comes first")


# --- The webhook ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"url": "https://elsewhere.example"}, "no endpoint at Pocketsflow leads here"),
        ({"active": False}, "not active"),
        ({"events": [*EVENTS[1:]]}, "does not send order.completed"),
    ],
)
def test_an_endpoint_that_does_not_send(well: Site, fields: dict[str, Any], part: str) -> None:
    """Gone, inactive, or without an event."""
    [endpoint] = well.ours
    well.shop.account.endpoints[endpoint["_id"]] = {**endpoint, **fields}
    assert check("webhook endpoint", "failed", part, 1)["mend"] == "pf --stack pocketsflow init"


def test_an_endpoint_whose_secret_is_lost(well: Site) -> None:
    """Somebody has stored another one: the functions take that, and Pocketsflow does not sign with it."""
    well.shop.stack.put_secret("WebhookSecrets", "whsec_another_0123456789")
    check("webhook endpoint", "failed", "its secret is not stored", 1)


def test_a_rotation_that_is_not_over(well: Site) -> None:
    """`pf rotate` ends it."""
    assert run("rotate").exit_code == 75
    assert check("webhook endpoint", "warning", "a rotation began", 0)["mend"] == "pf --stack pocketsflow rotate"


def test_two_endpoints(well: Site) -> None:
    """Each event comes twice: that costs requests, and no payment."""
    well.add_endpoint("whsec_second_0123456789")
    check("webhook endpoint", "warning", "2 lead here", 0)


@pytest.mark.parametrize(
    ("status", "content", "part"),
    [
        (404, {}, "answers 404"),
        (200, {"outcome": "self_test"}, "another stack"),
        (200, {"outcome": "recorded"}, "older than this tool"),
        (401, {"code": "invalid_signature"}, "does not take the stored secret"),
        (500, {}, "answers 500"),
    ],
)
def test_a_self_test_that_does_not_pass(well: Site, status: int, content: Any, part: str) -> None:
    """Whatever answers in the stack's place."""
    well.shop.answers[WEBHOOK] = lambda _: (status, content)
    check("signed self-test", "failed", part, 1)


def test_a_secret_that_the_functions_do_not_know_yet(well: Site) -> None:
    """It is looked for once: whoever has just stored it waits a minute."""
    cached.read("sandbox-WebhookSecrets", "whsec_", well.shop.clock.now, timedelta(0))
    well.shop.stack.put_secret("WebhookSecrets", "whsec_another_0123456789")
    assert "wait a minute" in check("signed self-test", "failed", "does not take", 1)["mend"]


def test_a_webhook_that_takes_anything(well: Site) -> None:
    """Without a signature it must answer 401."""
    well.shop.answers[WEBHOOK] = lambda _: (200, {"received": True, "outcome": "recorded"})
    check("unsigned webhook", "failed", "answered 200", 1)


def test_nobody_answers_at_the_public_address(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows, then; all the same no line is missing."""
    from payments import outbound

    send = outbound.send

    def no_answer(http: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        if url.startswith(ADDRESS):
            raise outbound.NoAnswer
        return send(http, method, url, *arguments, **options)

    monkeypatch.setattr(outbound, "send", no_answer)
    code, found = look()
    unknown = {name for name, findings in found.items() if findings[0]["status"] == "unknown"}
    assert (code, unknown) == (75, {"signed self-test", "unsigned webhook", "CORS", "clock"})


# --- The shop ---------------------------------------------------------------------------------------------------------


def test_an_origin_that_the_gateway_does_not_know(well: Site) -> None:
    """The others are ok, each by a line of its own."""
    origins = well.stack.parameters["AllowedOrigins"]
    with_parameters(well, AllowedOrigins=f"{origins},https://new.example")
    check("CORS", "failed", "pages of https://new.example may not", 1)
    _, found = look()
    assert [each["status"] for each in found["CORS"]] == ["ok", "ok", "failed"]


def test_a_gateway_that_lets_everybody_in(well: Site) -> None:
    """Something between adds a header for all."""
    well.adds = [("access-control-allow-origin", "*")]
    _, found = look()
    assert "any origin" in found["CORS"][-1]["why"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"published": False}, "not published"),
        ({"active": False}, "not active"),
        ({"price": 50}, "costs 49.00 here and 50 at Pocketsflow"),
        ({"currency": "eur"}, "costs usd here and eur"),
        (None, "there is no product"),
    ],
)
def test_a_product_that_is_another_at_pocketsflow(well: Site, changes: dict[str, Any] | None, part: str) -> None:
    """By sku."""
    identity, products = PRODUCTS["course"]["productId"], well.shop.account.products
    if changes is None:
        del products[identity]
    else:
        products[identity] = {**products[identity], **changes}
    finding = check("catalogue", "failed", part, 1)
    assert finding["why"].startswith("course: ")


def test_a_price_in_cents_is_the_same_price(well: Site) -> None:
    """Nobody has seen which unit Pocketsflow's products have."""
    identity, products = PRODUCTS["course"]["productId"], well.shop.account.products
    products[identity] = {**products[identity], "price": 4900}
    check("catalogue", "ok", "2 products")


def test_a_catalogue_that_is_none(well: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that no build would take; without a file there is nothing to compare."""
    sells(monkeypatch, tmp_path, {"Course!": {}})
    check("catalogue", "failed", "sku 'Course!'", 1)
    (tmp_path / "catalogue.json").unlink()
    check("catalogue", "ok", "there is none")


# --- What happens -----------------------------------------------------------------------------------------------------


def test_no_webhook_yet(well: Site) -> None:
    """A purchase would bring one, or `pf trigger`."""
    well.shop.stack.dynamodb.delete_item(TableName=well.stack.table, Key={"pk": {"S": "webhook#last"}})
    assert "trigger order.completed" in check("last webhook", "warning", "none has come yet", 0)["mend"]


def test_no_webhook_for_long(well: Site) -> None:
    """And no reconciliation either, which is worse."""
    well.shop.clock.passes(days=8)
    check("last webhook", "warning", "8 days ago")
    check("reconciliation", "failed", "8 days ago", 1)


def test_no_reconciliation_yet(well: Site) -> None:
    """In the first five minutes of a stack."""
    well.shop.stack.dynamodb.delete_item(TableName=well.stack.table, Key={"pk": {"S": "reconcile#state"}})
    check("reconciliation", "warning", "none has finished yet", 0)


def test_a_reconciliation_that_was_cut_short(well: Site) -> None:
    """By Pocketsflow, which answers nothing."""
    well.shop.answers["GET /orders"] = lambda _: (500, {})
    assert well.shop.reconcile()["outcome"] == "partial"
    check("reconciliation", "warning", "partial", 0)


def test_parked_webhooks(well: Site) -> None:
    """Those that are tried, and those that are not tried any more."""
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=well.stack.output("ParkingQueue"), MessageBody="{}")
    check("parked webhooks", "warning", "1 wait for the ledger", 0)
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="sandbox-ParkedTooLong")["QueueUrl"], MessageBody="{}")
    assert "redrive" in check("parked webhooks", "failed", "1 could not be written for a day", 1)["mend"]


@pytest.mark.parametrize(
    ("name", "actions", "rings"),
    [
        ("pocketsflow-test.drift", [], True),
        ("any", ["topic"], True),
        ("pocketsflow-test-2.drift", [], False),
        ("pocketsflow-test.drift-of-another", ["OK"], False),
    ],
)
def test_an_alarm_that_rings(well: Site, name: str, actions: list[str], rings: bool) -> None:
    """By its name or by whom it tells; another stage's is another's, and one that is quiet is not told."""
    cloudwatch = boto3.client("cloudwatch")
    topic = [well.stack.output("AlarmTopicArn")] if actions == ["topic"] else []
    cloudwatch.put_metric_alarm(
        AlarmName=name, AlarmDescription="money and orders disagree", AlarmActions=topic, Namespace="x", MetricName="y",
        Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK" if actions == ["OK"] else "ALARM", StateReason="test")
    if rings:
        why = check("alarms", "failed", "money and orders disagree", 1)["why"]
        assert why.startswith(f"{name} since 2")
    else:
        check("alarms", "ok", "none rings", 0)


def test_nobody_is_told(well: Site) -> None:
    """Without an address; with one that was never confirmed nobody is told either, and somebody believes to be."""
    with_outputs(well, AlarmTopicArn=boto3.client("sns").create_topic(Name="quiet")["TopicArn"])
    check("who is told", "warning", "nobody", 0)


def test_an_address_that_was_never_confirmed(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS lists it without an ARN."""
    pending = {"Subscriptions": [{"SubscriptionArn": "PendingConfirmation"}]}
    says(monkeypatch, "ListSubscriptionsByTopic", pending)
    assert "confirm" in check("who is told", "failed", "has not been confirmed", 1)["mend"]


@pytest.mark.parametrize(
    ("account", "unreserved", "parameters", "status", "part"),
    [
        (10, 10, {"AccountConcurrency": "1000"}, "failed", "the account has 10"),
        (1000, 1000, {"AccountConcurrency": "10"}, "warning", "throttled for nothing"),
        (1000, 5, {"AccountConcurrency": "1000"}, "failed", "only 5 are unreserved"),
        (1000, 900, {"AccountConcurrency": "1000", "WebhookConcurrency": "100"}, "ok", "100 reserved"),
    ],
)
def test_concurrency(
    well: Site,
    monkeypatch: pytest.MonkeyPatch,
    account: int,
    unreserved: int,
    parameters: dict[str, str],
    status: str,
    part: str,
) -> None:
    """What the account may run at once, against what the stack was told."""
    limit = {"ConcurrentExecutions": account, "UnreservedConcurrentExecutions": unreserved}
    says(monkeypatch, "GetAccountSettings", {"AccountLimit": limit})
    with_parameters(well, **parameters)
    check("concurrency", status, part)


def test_code_that_was_changed_since_it_was_deployed(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the last commit of functions/; where git knows none, only the age is told."""
    monkeypatch.setattr(ops.doctor, "_last_commit", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    check("code", "warning", "has been changed since", 0)
    monkeypatch.setattr(ops.doctor, "_last_commit", lambda: None)
    check("code", "ok", "3 days ago")


def test_the_last_commit_is_git_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None where there is no repository."""
    monkeypatch.setattr(ops.doctor, "ROOT", tmp_path)
    assert ops.doctor._last_commit() is None


@pytest.mark.parametrize(("seconds", "status"), [(50, "ok"), (-50, "ok"), (70, "warning"), (-70, "warning")])
def test_the_clock(well: Site, seconds: int, status: str) -> None:
    """Of this machine, against the gateway's."""
    well.date = well.shop.clock.now + timedelta(seconds=seconds)
    check("clock", status, "this machine's is", 0)


# --- How it ends ------------------------------------------------------------------------------------------------------


def test_a_check_with_a_defect(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is that line's failure, and the other lines are there."""

    def breaks(_visit: Any) -> Any:
        raise KeyError("secret in the text")

    checks = [("clock", breaks) if name == "clock" else (name, function) for name, function in ops.doctor.CHECKS]
    monkeypatch.setattr(ops.doctor, "CHECKS", checks)
    finding = check("clock", "failed", "broke off: KeyError", 1)
    assert "secret" not in finding["why"]
    assert len(look()[1]) == len(ops.doctor.CHECKS)


def test_a_check_without_an_end(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up when the time for all is over."""
    goes_on = threading.Event()

    def waits(_visit: Any) -> Any:
        goes_on.wait(30)
        return iter([])

    monkeypatch.setattr(ops.doctor, "CHECKS", [("clock", waits)])
    monkeypatch.setattr(ops.doctor, "SECONDS", 0.05)
    check("clock", "unknown", "no answer within", 75)
    goes_on.set()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (answer("AccessDeniedException"), "failed", 1),
        (answer("ThrottlingException"), "unknown", 75),
        (answer("InternalError", 500), "unknown", 75),
        (EndpointConnectionError(endpoint_url="https://aws"), "unknown", 75),
    ],
    ids=["denied", "throttled", "failing", "unreachable"],
)
def test_aws_fails(well: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, code: int) -> None:
    """What may not be asked has failed; what did not answer is unknown."""
    fails(monkeypatch, "GetQueueAttributes", error)
    left, found = look()
    assert (left, found["parked webhooks"][0]["status"]) == (code, status)


def test_warnings_count_when_asked(well: Site) -> None:
    """For a pipeline that wants nothing to be told."""
    well.add_endpoint("whsec_second_0123456789")
    assert (look()[0], look("--strict")[0]) == (0, 1)


def test_a_sandbox_has_no_account(well: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not exist there is skipped, with the reason."""
    with_outputs(well, PocketsflowUrl="http://pocketsflow.test")
    monkeypatch.setattr(type(well.stack), "is_sandbox", True)
    code, found = look()
    skipped = {name for name, findings in found.items() if findings[0]["status"] == "skipped"}
    assert (code, skipped) == (0, {"who is told", "concurrency", "code"})


def test_every_check_is_tested_in_its_failing_state() -> None:
    """By name, in this file."""
    here = Path(__file__).read_text()
    for name, _ in ops.doctor.CHECKS:
        assert re.search(rf'check\("{name}", ("(failed|warning)"|status),', here), name
