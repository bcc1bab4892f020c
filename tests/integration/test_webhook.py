"""POST /webhooks/pocketsflow: what is refused, and how secrets are read. What is stored: test_invariants.py."""

import base64
import json
from datetime import timedelta
from typing import Any

import botocore.exceptions
import pytest

import webhook
from payments import secrets
from sandbox.worker import Context
from tests.conftest import Aws, template
from tests.payloads import NOW, SECRET, answered, delivery, http_event, paid, sign

ROTATED = "whsec_rotated_0123456789"


def outcome(event: dict[str, Any]) -> tuple[int, str]:
    status, content = answered(webhook.handler(event, Context(4)))
    return status, content.get("outcome") or content["code"]


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {}},
        {"headers": {"x-pocketsflow-signature": ""}},
        {"headers": {"x-pocketsflow-signature": "sha256=" + "0" * 64}},
        {"headers": {"x-pocketsflow-signature": "0" * 64}},
        {"body": "not base64!"},
        {"body": "e30"},
        {"body": "ä", "isBase64Encoded": True},
        {"body": "\ud800", "isBase64Encoded": False},
    ],
    ids=["no headers", "empty", "prefixed", "wrong", "not base64", "bad padding", "not ASCII", "half a character"],
)
def test_unsigned_is_refused_and_leaves_no_trace(cloud: Aws, order_id: str, change: dict[str, Any]) -> None:
    """401 in problem form; the ledger is as it was."""
    before = cloud.items()
    assert outcome({**delivery(paid(order_id)), **change}) == (401, "invalid_signature")
    assert cloud.items() == before


def test_the_signature_is_over_the_decoded_bytes(cloud: Aws, order_id: str) -> None:
    """The same body, as text and as base64, has one signature; a body re-serialised on the way has another."""
    body = json.dumps(paid(order_id), separators=(", ", ":")).encode()
    signed = {"x_pocketsflow_signature": sign(body), "x_pocketsflow_event": "order.completed"}
    event = http_event("POST /webhooks/pocketsflow", body, **signed)
    assert outcome({**event, "body": base64.b64encode(json.dumps(paid(order_id)).encode()).decode()})[0] == 401
    assert outcome({**event, "body": body.decode(), "isBase64Encoded": False}) == (200, "settled")
    assert outcome(event) == (200, "redelivered")


@pytest.mark.parametrize("encoded", [True, False])
def test_a_body_over_the_limit(cloud: Aws, encoded: bool) -> None:
    """256 KiB are taken, one byte more is 413, however it came; nothing of that is kept or parked."""
    for size, expected in ((webhook.MAX_BODY, (200, "recorded")), (webhook.MAX_BODY + 1, (413, "body_too_large"))):
        body = b"x" * size
        event = delivery(body)
        if not encoded:
            event |= {"body": body.decode(), "isBase64Encoded": False}
        assert outcome(event) == expected
    assert (len(cloud.items()), cloud.parked()) == (1, [])


def test_both_secrets_of_a_rotation_are_accepted(cloud: Aws, order_id: str) -> None:
    """While two endpoints live each event comes twice, signed differently: one settlement."""
    cloud.put_secret("WebhookSecrets", f"{SECRET}\n{ROTATED}\n")
    body = json.dumps(paid(order_id)).encode()
    assert outcome(delivery(body, x_pocketsflow_signature=sign(body, ROTATED))) == (200, "settled")
    assert outcome(delivery(body)) == (200, "redelivered")


def test_secrets_are_cached_for_five_minutes(cloud: Aws, reads: list[str]) -> None:
    """Deliveries within five minutes cost one read."""
    for seconds in (0, 1, 299):
        assert secrets.read("sandbox-WebhookSecrets", "whsec_", NOW + timedelta(seconds=seconds)) == [SECRET]
    assert len(reads) == 1
    secrets.read("sandbox-WebhookSecrets", "whsec_", NOW + timedelta(seconds=300))
    assert len(reads) == 2


def test_a_new_secret_is_noticed_within_a_minute(cloud: Aws, reads: list[str]) -> None:
    """A failing signature looks again once the copy is a minute old, and not more often under a flood."""
    known = secrets.read("sandbox-WebhookSecrets", "whsec_", NOW)
    cloud.put_secret("WebhookSecrets", ROTATED)
    body = b"{}"
    for second in range(59):
        assert webhook._verify(body, sign(body, ROTATED), NOW + timedelta(seconds=second)) == "invalid"
    assert (known, len(reads)) == ([SECRET], 1)
    assert webhook._verify(body, sign(body, ROTATED), NOW + timedelta(seconds=60)) == "valid"
    for second in range(61, 119):
        assert webhook._verify(body, "0" * 64, NOW + timedelta(seconds=second)) == "invalid"
    assert len(reads) == 2


def test_a_malformed_signature_costs_no_read(cloud: Aws, reads: list[str]) -> None:
    """What cannot be a signature is refused before any secret is looked at."""
    assert webhook._verify(b"{}", "0" * 63, NOW) == "invalid"
    assert reads == []


def test_a_secret_that_is_no_longer_pocketsflow_s(
    cloud: Aws, order_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every payment is refused, so the metric that an alarm watches counts each: not what cannot be a signature."""
    observability = dict(template().nested())["Observability"]
    alarm = dict(observability.resources("AWS::CloudWatch::Alarm"))["WebhookSignatureAlarm"]
    cloud.put_secret("WebhookSecrets", ROTATED)
    for signature, counted in (("", 0), ("0" * 63, 0), (None, 1)):
        changed = {} if signature is None else {"x_pocketsflow_signature": signature}
        assert outcome(delivery(paid(order_id), **changed)) == (401, "invalid_signature")
        assert capsys.readouterr().out.count(f'"{alarm["MetricName"]}":[1]') == counted


def test_a_secret_never_filled(cloud: Aws, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the template creates it, without a value: 503 for a signed request, one read a minute, then it heals."""
    arn = cloud.secrets.create_secret(Name="never-filled")["ARN"]
    monkeypatch.setattr(webhook, "WEBHOOK_SECRETS_ARN", arn)
    body = b"{}"
    for second in range(0, 50, 10):
        assert webhook._verify(body, sign(body), NOW + timedelta(seconds=second)) == "no_secret"
    assert len(reads) == 1
    cloud.secrets.put_secret_value(SecretId=arn, SecretString=SECRET)
    assert webhook._verify(body, sign(body), NOW + timedelta(seconds=60)) == "valid"


def test_secrets_manager_out_of_reach_while_warm(cloud: Aws, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last good copy serves for an hour, trying again every five minutes; then nobody can say what is signed."""
    secrets.read("sandbox-WebhookSecrets", "whsec_", NOW)
    down = _unreachable(monkeypatch)
    for minutes in range(60):
        assert secrets.read("sandbox-WebhookSecrets", "whsec_", NOW + timedelta(minutes=minutes)) == [SECRET]
    assert len(down) == 11 * secrets.TRIES
    with pytest.raises(secrets.Unavailable):
        secrets.read("sandbox-WebhookSecrets", "whsec_", NOW + timedelta(minutes=60))


def test_secrets_manager_out_of_reach_while_cold(cloud: Aws, order_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, and nothing is stored or parked of what could not be verified."""
    before = cloud.items()
    down = _unreachable(monkeypatch)
    assert outcome(delivery(paid(order_id))) == (500, "webhook_secret_unreachable")
    assert (cloud.items(), cloud.parked()) == (before, [])
    assert len(down) == secrets.TRIES


def test_one_stumble_of_secrets_manager_costs_nothing(
    cloud: Aws, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold function whose first read fails tries again at once: Pocketsflow will not."""
    call, stumbles = secrets._client.get_secret_value, [botocore.exceptions.ReadTimeoutError(endpoint_url="x")]

    def stumble(**request: Any) -> Any:
        if stumbles:
            raise stumbles.pop()
        return call(**request)

    monkeypatch.setattr(secrets._client, "get_secret_value", stumble)
    assert outcome(delivery(paid(order_id))) == (200, "settled")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each read of a secret, by its id."""
    made: list[str] = []
    call = secrets._client.get_secret_value

    def counted(SecretId: str) -> Any:  # noqa: N803
        made.append(SecretId)
        return call(SecretId=SecretId)

    monkeypatch.setattr(secrets._client, "get_secret_value", counted)
    return made


def _unreachable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tried: list[str] = []

    def fail(SecretId: str) -> Any:  # noqa: N803
        tried.append(SecretId)
        raise botocore.exceptions.ConnectTimeoutError(endpoint_url="https://secretsmanager")

    monkeypatch.setattr(secrets._client, "get_secret_value", fail)
    return tried


def test_a_self_test_shows_that_it_came_here(cloud: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    """One item says so; nothing is kept or published, and it is counted as nothing else, be it sent a hundred times."""
    for nonce in ("first", "second"):
        body = {"event": "pf.self_test", "nonce": nonce}
        assert outcome(delivery(body, x_pocketsflow_event="pf.self_test")) == (200, "self_test")
        [item] = cloud.items().values()
        assert (item["pk"], item["nonce"]) == ({"S": "webhook#self_test"}, {"S": nonce})
    assert '"_aws"' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ({"event": "pf.self_test"}, "pf.self_test"),
        ({"event": "pf.self_test", "nonce": 7}, "pf.self_test"),
        ({"nonce": "x"}, "pf.self_test"),
        ({"event": "pf.self_test", "nonce": "x"}, "order.completed"),
    ],
)
def test_what_only_looks_like_a_self_test_is_kept(cloud: Aws, body: dict[str, Any], header: str) -> None:
    """As any other signed body: by the unsigned header alone nothing disappears."""
    assert outcome(delivery(body, x_pocketsflow_event=header)) == (200, "recorded")
    [pk] = cloud.items()
    assert pk.startswith("raw#")
