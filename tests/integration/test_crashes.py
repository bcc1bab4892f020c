"""A function dies around each request that it sends, in turn; what comes next sets it right.

The process is killed for good, without a `finally`: before the request leaves, and once its answer is there.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal

import pytest
from werkzeug.wrappers import Request, Response

from sandbox.servers import Server
from tests.integration.conftest import COURSE, Deployment, outcomes, signed
from tests.payloads import OTHER_PRODUCT, asking, http_event, new_key, paid, refunded, subscribed, unknown

SIDES: tuple[Literal["before"], Literal["after"]] = ("before", "after")


@dataclass(frozen=True)
class Delivery:
    """One webhook, what was delivered before it, what it is answered and which requests it takes."""

    body: Callable[[str], dict[str, Any]]
    outcome: str
    sent: list[str]
    earlier: list[Callable[[str], dict[str, Any]]] = field(default_factory=list)
    once_written: str = "redelivered"


SECRET, WRITE = "secretsmanager GetSecretValue", "dynamodb UpdateItem"
DELIVERIES = {
    "payment": Delivery(lambda ours: paid(ours, product=COURSE), "settled", [SECRET, WRITE]),
    "large payment": Delivery(
        lambda ours: paid(ours, product=COURSE, padding="x" * 9_000), "settled", [SECRET, WRITE, WRITE]
    ),
    "second payment": Delivery(
        lambda ours: paid(ours, "sale2", product=COURSE),
        "second_payment",
        [SECRET, WRITE],
        earlier=[lambda ours: paid(ours, product=COURSE)],
    ),
    "other product": Delivery(lambda ours: paid(ours, product=OTHER_PRODUCT), "mismatched", [SECRET, WRITE]),
    "refund": Delivery(lambda ours: refunded(ours), "recorded", [SECRET, WRITE]),
    "unknown order": Delivery(lambda ours: paid(unknown(ours), f"of-{ours}"), "unmatched", [SECRET, WRITE, WRITE]),
    "large payment of an unknown order": Delivery(
        lambda ours: paid(unknown(ours), f"of-{ours}", padding="x" * 9_000),
        "unmatched",
        [SECRET, WRITE, WRITE, WRITE],
    ),
    "no order": Delivery(lambda ours: paid(None, f"of-{ours}"), "unmatched", [SECRET, WRITE]),
    "other words": Delivery(
        lambda ours: paid(ours, product=COURSE, amount=1),
        "redelivered",
        [SECRET, WRITE, WRITE],
        earlier=[lambda ours: paid(ours, product=COURSE)],
    ),
    "refund of no order": Delivery(lambda ours: refunded(None, f"of-{ours}"), "recorded", [SECRET, WRITE]),
    "change of a subscription": Delivery(
        lambda ours: {**subscribed(ours, f"of-{ours}", status="past_due"), "event": "customer.subscription.updated"},
        "recorded",
        [SECRET, WRITE, WRITE],
        once_written="recorded",
    ),
    "other event": Delivery(
        lambda ours: {"event": "review.created", "of": ours}, "recorded", [SECRET, WRITE], once_written="recorded"
    ),
}


@pytest.mark.parametrize("kind", DELIVERIES)
def test_a_webhook_dies(deployment: Deployment, kind: str) -> None:
    """Wherever it dies, the next delivery of the same body leaves what an undisturbed one leaves, and once it is
    written a redelivery says so."""
    scenario = DELIVERIES[kind]
    order_id = _prepared(deployment, scenario)
    [undisturbed] = deployment.run("webhook", _event(scenario, order_id))
    assert (undisturbed.outcome, undisturbed.sent) == (scenario.outcome, scenario.sent)
    expected = _traces(deployment, order_id)
    for side in SIDES:
        for number in range(1, len(scenario.sent) + 1):
            order_id = _prepared(deployment, scenario)
            event = _event(scenario, order_id)
            [killed] = deployment.run("webhook", event, kill=(side, number))
            assert killed.answer is None
            assert len(killed.sent) == (number if side == "after" else number - 1)
            before, [again] = _traces(deployment, order_id), deployment.run("webhook", event)
            written = before == expected
            assert again.outcome == (scenario.once_written if written else scenario.outcome)
            assert _traces(deployment, order_id) == expected
            assert written == (side == "after" and number == len(scenario.sent))


@pytest.mark.parametrize("failed_before", [False, True], ids=["first try", "taking over a failed one"])
@pytest.mark.parametrize("pocketsflow_status", [201, 500], ids=["session", "no session"])
def test_a_checkout_dies(deployment: Deployment, failed_before: bool, pocketsflow_status: int) -> None:
    """Its retry with the same key, once the lock of ten seconds is over, answers with one order: the one for which
    every session was made, so that whichever of them is paid settles it."""
    deaths = 0
    for side in SIDES:
        for number in count(1):
            deployment.clear()
            key, sessions = new_key(), len(deployment.provider.received)
            if failed_before:
                deployment.provider.status = 500
                assert outcomes(deployment.run("checkout", asking(key))) == {"pocketsflow_failed": 1}
            deployment.provider.status = pocketsflow_status
            [run] = deployment.run("checkout", asking(key), kill=(side, number))
            deployment.provider.status = 201
            if run.answer is not None:
                break
            deaths += 1
            [early] = deployment.run("checkout", asking(key))
            assert early.outcome in ("created", "in_progress")
            _let_the_lock_expire(deployment)
            made_by_then = len(deployment.provider.received)
            [late] = deployment.run("checkout", asking(key))
            assert late.outcome == "created"
            if early.outcome == "created":  # answered for good: no session is made any more
                assert (early.answer, made_by_then) == (late.answer, len(deployment.provider.received))
            [order_id] = deployment.orders()
            assert late.content["orderId"] == order_id
            made = deployment.provider.received[sessions:]
            assert {session["metadata"]["external_order_id"] for session in made} == {order_id}
            assert "checkout_error" not in deployment.items()[f"order#{order_id}"]
            assert outcomes(deployment.run("webhook", signed(paid(order_id, product=COURSE)))) == {"settled": 1}
            assert deployment.status(order_id) == "paid"
    assert deaths == 2 * (4 + failed_before)


def test_a_checkout_without_a_key_dies(deployment: Deployment) -> None:
    """Nobody can tell its retry from another buyer's: each has an order of its own, and one that was left behind
    stays pending and can still be paid."""
    for side in SIDES:
        for number in count(1):
            deployment.clear()
            sessions = len(deployment.provider.received)
            [run] = deployment.run("checkout", asking(), kill=(side, number))
            if run.answer is not None:
                break
            assert outcomes(deployment.run("checkout", asking())) == {"created": 1}
            opened = set(deployment.orders())
            assert {
                session["metadata"]["external_order_id"] for session in deployment.provider.received[sessions:]
            } <= opened
            for order_id in opened:
                payment = signed(paid(order_id, f"of-{order_id}", product=COURSE))
                assert outcomes(deployment.run("webhook", payment)) == {"settled": 1}
        assert number == 5


def test_a_payment_overtakes_a_checkout_that_dies(deployment: Deployment) -> None:
    """Paid before the session was noted, and the checkout dies: the order is paid, and its retry unpays nothing."""
    key = new_key()
    [run] = deployment.run("checkout", asking(key), kill=("after", 3))
    assert run.sent[-1] == "POST /checkout/sessions"
    [order_id] = deployment.orders()
    assert outcomes(deployment.run("webhook", signed(paid(order_id, product=COURSE)))) == {"settled": 1}
    _let_the_lock_expire(deployment)
    assert outcomes(deployment.run("checkout", asking(key))) == {"created": 1}
    assert deployment.status(order_id) == "paid"
    assert "open_day" not in deployment.items()[f"order#{order_id}"]


def test_a_status_request_dies(deployment: Deployment) -> None:
    """It only reads: the next one answers, and nothing has changed."""
    [created] = deployment.run("checkout", asking())
    order_id = created.content["orderId"]
    before = deployment.items()
    for side in SIDES:
        [run] = deployment.run("checkout", http_event(f"GET /orders/{order_id}"), kill=(side, 1))
        assert run.answer is None
        assert deployment.status(order_id) == "pending"
    assert deployment.items() == before


def test_a_preflight_dies(deployment: Deployment) -> None:
    """CloudFormation hears of it when Lambda tries again, and hearing it twice is hearing it once."""
    heard: list[Any] = []

    def cloudformation(environ: Any, start_response: Any) -> Any:
        heard.append(Request(environ).get_json(force=True))
        return Response()(environ, start_response)

    server = Server(0)
    server.start(cloudformation)
    event = {"RequestType": "Create", "ResponseURL": f"{server.url}/answer", "StackId": "s", "RequestId": "r"}
    event["LogicalResourceId"] = "Preflight"
    for side, times in (("before", 1), ("after", 2)):
        heard.clear()
        [killed] = deployment.run("preflight", event, kill=(side, 1))  # type: ignore[arg-type]
        assert killed.sent == ["PUT /answer"][: times - 1]
        deployment.run("preflight", event)
        assert len(heard) == times
        assert all(answer == heard[0] for answer in heard)
        assert heard[0]["Status"] == "FAILED"  # the sample catalogue is not for sale
    server.close()


def _prepared(deployment: Deployment, scenario: Delivery) -> str:
    """A new order, and what was delivered for it before."""
    [created] = deployment.run("checkout", asking())
    order_id: str = created.content["orderId"]
    for body in scenario.earlier:
        deployment.run("webhook", signed(body(order_id)))
    return order_id


def _event(scenario: Delivery, order_id: str) -> dict[str, Any]:
    return signed(scenario.body(order_id))


def _traces(deployment: Deployment, order_id: str) -> str:
    """What the ledger holds of an order, without its id, its times, and how often a raw body arrived or a subscription
    was told."""
    mine = {}
    for pk, item in deployment.items().items():
        for entry in item.pop("arrivals", {"L": []})["L"][1:]:
            assert entry["M"].keys() == {"at", "reason", "event", "sent_at"}
        if pk.startswith("subscription#"):
            del item["rev"]
        text = json.dumps(item, sort_keys=True, default=lambda raw: bytes(raw).decode())
        if order_id[:-6] in text:  # an unknown order's id has another end
            mine[pk] = text.replace(order_id, "ORDER").replace(order_id[:-6], "ORDER")
    hashes = re.compile(r"[0-9a-f]{64}")
    times = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
    return "\n".join(sorted(times.sub("TIME", hashes.sub("HASH", text)) for text in mine.values()))


def _let_the_lock_expire(deployment: Deployment) -> None:
    """As if ten seconds had passed since the last attempt."""
    past = (datetime.now(UTC) - timedelta(seconds=10)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for order_id in deployment.orders():
        deployment.ledger.update_item(
            TableName="sandbox-Ledger",
            Key={"pk": {"S": f"order#{order_id}"}},
            UpdateExpression="SET attempted_at = :past",
            ExpressionAttributeValues={":past": {"S": past}},
        )
