"""What each answer costs: requests on the wire, tries included, of a warm function."""

import ast
from datetime import UTC, datetime
from typing import Any

import pytest

import checkout
import webhook
from payments import ledger, pocketsflow, secrets
from payments.warm_up import warm_up
from sandbox.template import ROOT
from sandbox.worker import Context
from tests.conftest import Aws, Provider
from tests.integration.conftest import open_order
from tests.integration.ledger_model import Clock, down
from tests.payloads import (
    OTHER_PRODUCT,
    SECRET,
    answered,
    asking,
    delivery,
    http_event,
    new_key,
    paid,
    refunded,
    sign,
    subscribed,
    unknown,
)

LARGE = {"padding": "x" * ledger.MAX_INLINE_BODY}
UPDATE, PUT, GET = "dynamodb UpdateItem", "dynamodb PutItem", "dynamodb GetItem"
SEND = "sqs SendMessage"
BOTH, SECRETS = "dynamodb TransactWriteItems", "secretsmanager GetSecretValue"
SESSION = "POST /checkout/sessions"


def deliver(content: Any, name: str = "", **headers: str) -> str:
    event = delivery(content, name or content["event"], **headers)
    _, told = answered(webhook.handler(event, Context(4)))
    return str(told.get("outcome") or told["code"])


def ask(key: str = "", **fields: Any) -> str:
    _, told = answered(checkout.handler(asking(key, **fields), Context(9)))
    return str(told.get("code") or "created")


@pytest.mark.parametrize(
    ("earlier", "body", "outcome", "sent"),
    [
        ([], lambda ours: paid(ours), "settled", [UPDATE]),
        ([lambda ours: paid(ours)], lambda ours: paid(ours), "redelivered", [UPDATE]),
        ([lambda ours: paid(ours)], lambda ours: paid(ours, amount=1), "redelivered", [UPDATE] * 2),
        ([lambda ours: paid(ours)], lambda ours: paid(ours, "sale2"), "second_payment", [UPDATE]),
        ([], lambda ours: paid(ours, product=OTHER_PRODUCT), "mismatched", [UPDATE]),
        ([], lambda ours: paid(ours) | LARGE, "settled", [UPDATE] * 2),
        ([lambda ours: paid(ours) | LARGE], lambda ours: paid(ours) | LARGE, "redelivered", [UPDATE] * 2),
        ([], lambda ours: paid(unknown(ours)), "unmatched", [UPDATE] * 2),
        ([], lambda ours: paid(unknown(ours)) | LARGE, "unmatched", [UPDATE] * 3),
        ([], lambda _: paid(None), "unmatched", [UPDATE]),
        ([], lambda _: paid("ORDER-1043"), "unmatched", [UPDATE, UPDATE]),
        ([], lambda ours: refunded(ours), "recorded", [UPDATE]),
        ([], lambda _: refunded(None), "recorded", [UPDATE]),
        ([], lambda _: {"event": "review.created"}, "recorded", [UPDATE]),
        ([], lambda _: {"event": "order.completed"}, "recorded", [UPDATE]),
    ],
    ids=[
        "first", "redelivery", "in other words", "second payment", "other product", "large", "large redelivery",
        "unknown order", "large, unknown order", "no order", "another shop's order", "refund",
        "refund of no order", "other event", "misfit",
    ],
)  # fmt: skip
def test_invariant_3_requests_of_a_delivery(
    cloud: Aws, order_id: str, wire: list[str], earlier: list[Any], body: Any, outcome: str, sent: list[str]
) -> None:
    """Settling is one conditional request, and so is a duplicate. A large body takes one more, to be kept first, and so
    does an anomaly: three at most."""
    for before in earlier:
        deliver(before(order_id))
    deliver({"event": "warm"})  # the secret is cached from here on
    wire.clear()
    assert deliver(body(order_id)) == outcome
    assert wire == sent


def test_requests_of_a_subscription(cloud: Aws, order_id: str, wire: list[str]) -> None:
    """The same one for its beginning; a change of it is kept word for word, and known of the subscription: two."""
    deliver({"event": "warm"})
    for name, state, outcome, sent in [
        ("created", {}, "settled", [UPDATE]),
        ("created", {}, "redelivered", [UPDATE]),
        ("updated", {"status": "past_due"}, "recorded", [UPDATE] * 2),
        ("deleted", {"status": "canceled"}, "recorded", [UPDATE] * 2),
        ("updated", {}, "recorded", [UPDATE] * 2),
        ("updated", {"status": "unheard of"}, "recorded", [UPDATE]),
    ]:
        wire.clear()
        assert deliver(subscribed(order_id, **state), f"customer.subscription.{name}") == outcome
        assert wire == sent


def test_requests_of_a_delivery_that_the_ledger_does_not_take(cloud: Aws, order_id: str, wire: list[str]) -> None:
    """Two tries of the same write, one of the queue; taken from there it costs what a delivery costs."""
    deliver({"event": "warm"})
    wire.clear()
    with down(UPDATE):
        assert deliver(paid(order_id)) == "parked"
    assert wire == [UPDATE, UPDATE, SEND]
    wire.clear()
    assert cloud.unpark(webhook.handler, Context(4)) == []
    assert wire == [UPDATE]


def test_requests_for_a_full_order(cloud: Aws, order_id: str, wire: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund for which the order has no room is kept beside it: one more."""
    monkeypatch.setattr(ledger, "MAX_FACTS", 1)
    deliver(refunded(order_id))
    wire.clear()
    assert deliver(refunded(order_id, refund="ref2")) == "recorded"
    assert wire == [UPDATE] * 2


def test_requests_of_a_stranger(cloud: Aws, order_id: str, wire: list[str]) -> None:
    """What cannot be a signature costs nothing; what is a wrong one a look at the secret, once."""
    assert deliver(paid(order_id), x_pocketsflow_signature="0" * 63) == "invalid_signature"
    assert wire == []
    for _ in range(10):
        assert deliver(paid(order_id), x_pocketsflow_signature="0" * 64) == "invalid_signature"
    assert wire == [SECRETS]
    body = b"x" * (webhook.MAX_BODY + 1)
    assert deliver(body, "order.completed", x_pocketsflow_signature=sign(body, SECRET)) == "body_too_large"
    assert wire == [SECRETS]


def test_requests_of_a_checkout(cloud: Aws, provider: Provider, wire: list[str]) -> None:
    """The order before Pocketsflow is asked, the session after it; a key costs no request of its own, and a retry is
    answered without Pocketsflow."""
    ask()  # the key of the API is cached from here on
    key, other = new_key(), new_key()
    for request, code, sent in [
        ({}, "created", [PUT, SESSION, UPDATE]),
        ({"key": key}, "created", [BOTH, SESSION, UPDATE]),
        ({"key": key}, "created", [BOTH, UPDATE]),
        ({"key": key, "discountCode": "X"}, "idempotency_key_reused", [BOTH]),
        ({"sku": "unknown"}, "invalid_request", []),
        ({"key": "no-uuid"}, "invalid_idempotency_key", []),
    ]:
        wire.clear()
        assert ask(**request) == code  # type: ignore[arg-type]
        assert wire == sent
    for status, code, asked in (
        (429, "pocketsflow_busy", [SESSION, SESSION]),
        (401, "pocketsflow_unauthorized", [SESSION]),
        (500, "pocketsflow_failed", [SESSION]),
    ):
        provider.status = status
        wire.clear()
        assert ask(other if status == 500 else new_key()) == code
        assert wire == [BOTH, *asked, UPDATE]
    provider.status = 201
    wire.clear()
    assert ask(other) == "created"
    assert wire == [BOTH, UPDATE, SESSION, UPDATE]


def test_requests_of_a_checkout_in_progress(
    cloud: Aws, provider: Provider, wire: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key while Pocketsflow is being asked: the order is looked at, and nobody else is."""
    key, create_session = new_key(), pocketsflow.create_session

    def ask_meanwhile(*request: Any) -> pocketsflow.Session:
        wire.clear()
        assert ask(key) == "in_progress"
        assert wire == [BOTH, UPDATE]
        return create_session(*request)

    monkeypatch.setattr(pocketsflow, "create_session", ask_meanwhile)
    assert ask(key) == "created"
    assert wire == [BOTH, UPDATE, SESSION, UPDATE]


def test_requests_of_a_status(cloud: Aws, wire: list[str], clock: Clock) -> None:
    """One read; none for what cannot be an order of this stage; one write, now and then, to ask for an order that
    should have been paid by now."""
    order_id = open_order()
    for asked, seconds, code, sent in [
        (order_id, 30, 200, [GET]),
        ("ord_test_" + "0" * 26, 60, 404, [GET]),
        ("ord_prod_" + "0" * 26, 0, 404, []),
        ("x" * 10_000, 0, 404, []),
        (order_id, 0, 200, [GET, UPDATE]),
        (order_id, 29, 200, [GET]),
        (order_id, 1, 200, [GET, UPDATE]),
    ]:
        wire.clear()
        clock.passes(seconds=seconds)
        assert checkout.handler(http_event(f"GET /orders/{asked}"), Context(9))["statusCode"] == code
        assert wire == sent


# --- The init phase ---------------------------------------------------------------------------------------------------


@pytest.fixture
def on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda tells a function about its environment, in which nothing was asked before."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
    secrets._copies.clear()


@pytest.mark.usefixtures("on_lambda")
def test_a_first_webhook_finds_all_that_it_needs(cloud: Aws, order_id: str, wire: list[str]) -> None:
    """The init phase reads the secret and connects to the ledger, and writes nothing: the first webhook is one request,
    as any other."""
    before = cloud.items()
    warm_up(webhook.WEBHOOK_SECRETS_ARN, datetime.now(UTC))
    assert wire == [SECRETS, UPDATE]
    assert cloud.items() == before
    wire.clear()
    assert deliver(paid(order_id)) == "settled"
    assert wire == [UPDATE]


@pytest.mark.usefixtures("on_lambda")
@pytest.mark.parametrize(("operation", "tries"), [(SECRETS, 1), (UPDATE, 2)])
def test_an_outage_of_the_init_phase_is_none_of_the_webhook(
    cloud: Aws, order_id: str, wire: list[str], capsys: pytest.CaptureFixture[str], operation: str, tries: int
) -> None:
    """What fails while a function begins is tried again where it is needed, and wakes nobody."""
    with down(operation):
        warm_up(webhook.WEBHOOK_SECRETS_ARN, datetime.now(UTC))
    assert wire.count(operation) == tries
    assert deliver(paid(order_id)) == "settled"
    assert "NeedsAttention" not in capsys.readouterr().out


@pytest.mark.usefixtures("on_lambda")
@pytest.mark.parametrize("before", [None, "changeme"])
def test_a_secret_that_comes_after_the_init_phase_is_found(
    cloud: Aws, order_id: str, wire: list[str], before: str | None
) -> None:
    """A stack whose secret is stored a moment after a function has begun settles the first webhook."""
    cloud.secrets.delete_secret(SecretId="sandbox-WebhookSecrets", ForceDeleteWithoutRecovery=True)
    cloud.secrets.create_secret(Name="sandbox-WebhookSecrets", **({"SecretString": before} if before else {}))
    warm_up(webhook.WEBHOOK_SECRETS_ARN, datetime.now(UTC))
    cloud.put_secret("WebhookSecrets", SECRET)
    assert deliver(paid(order_id)) == "settled"


def test_nothing_is_asked_anywhere_but_on_lambda(cloud: Aws, wire: list[str]) -> None:
    """A person's tools and tests import the functions, too."""
    secrets._copies.clear()
    warm_up(webhook.WEBHOOK_SECRETS_ARN, datetime.now(UTC))
    assert wire == []


@pytest.mark.parametrize("module", ["webhook", "checkout"])
def test_whoever_is_waited_for_is_warmed_up(module: str) -> None:
    """Pocketsflow hangs up after five seconds, and a buyer leaves: both functions call it while they are imported."""
    calls = ast.parse((ROOT / f"functions/{module}.py").read_text()).body
    assert any(isinstance(each, ast.Expr) and ast.unparse(each).startswith("warm_up(") for each in calls)
