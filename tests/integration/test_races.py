"""Fifty at once, each in a process of its own: one wins, all are answered, and nothing is counted twice."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.environments import Run
from tests.integration.conftest import Deployment
from tests.payloads import answered, delivery, http_event, new_key, paid, refunded, sign

COURSE = "000000000000000000c0ffee"
SECRET = "whsec_sandbox"
AT_ONCE = 50

pytestmark = pytest.mark.parametrize("running", ["moto", "dynalite"], indirect=True, scope="module")


def checkout(key: str = "", **changes: str) -> dict[str, Any]:
    body = json.dumps({"sku": "course", **changes}).encode()
    return http_event("POST /checkout", body, content_type="application/json", idempotency_key=key)


def deliver(content: dict[str, Any]) -> dict[str, Any]:
    signature = sign(json.dumps(content).encode(), SECRET)
    return delivery(content, content["event"], x_pocketsflow_signature=signature)


def outcomes(runs: list[Run]) -> Counter[str]:
    """How often each outcome or code was answered; "killed" for none."""
    contents = [answered(run.answer)[1] if run.answer else {"code": "killed"} for run in runs]
    return Counter(content.get("outcome") or content.get("code") or "created" for content in contents)


@pytest.fixture
def order_id(deployment: Deployment) -> str:
    [run] = deployment.run("checkout", checkout())
    assert run.answer is not None
    order_id: str = answered(run.answer)[1]["orderId"]
    return order_id


def status(deployment: Deployment, order_id: str) -> str:
    [run] = deployment.run("checkout", http_event(f"GET /orders/{order_id}"))
    assert run.answer is not None
    status: str = answered(run.answer)[1]["status"]
    return status


def test_checkouts_with_one_key(deployment: Deployment) -> None:
    """A double click, fifty times: one order and one session; who comes while it is made is told to come again, and
    then hears what the first one heard."""
    sessions = len(deployment.provider.received)
    events = [checkout(new_key())] * AT_ONCE
    deployment.provider.delay_seconds = 0.5
    first = deployment.run("checkout", *events)
    deployment.provider.delay_seconds = 0
    again = deployment.run("checkout", *events)
    assert outcomes(first).keys() <= {"created", "in_progress"}
    assert outcomes(again) == {"created": AT_ONCE}
    assert len({run.answer["body"] for run in first + again if outcomes([run])["created"]}) == 1
    assert len(deployment.provider.received) == sessions + 1
    assert len(_orders(deployment)) == 1


def test_checkouts_with_one_key_and_different_bodies(deployment: Deployment) -> None:
    """Whoever comes first has the key; all who want something else with it are refused."""
    sessions, key = len(deployment.provider.received), new_key()
    events = [checkout(key, discountCode=f"CODE{number}") for number in range(AT_ONCE)]
    assert outcomes(deployment.run("checkout", *events)) == {"created": 1, "idempotency_key_reused": AT_ONCE - 1}
    assert len(deployment.provider.received) == sessions + 1


def test_retries_of_a_failed_checkout(deployment: Deployment) -> None:
    """Fifty take over at once what Pocketsflow failed: one does, under the same order id."""
    key = new_key()
    deployment.provider.status = 500
    assert outcomes(deployment.run("checkout", checkout(key))) == {"pocketsflow_failed": 1}
    deployment.provider.status, deployment.provider.delay_seconds = 201, 0.5
    sessions = len(deployment.provider.received)
    runs = deployment.run("checkout", *[checkout(key)] * AT_ONCE)
    deployment.provider.delay_seconds = 0
    assert outcomes(runs).keys() <= {"created", "in_progress"}
    assert len({run.answer["body"] for run in runs if outcomes([run])["created"]}) == 1
    assert len(deployment.provider.received) == sessions + 1
    assert len(_orders(deployment)) == 1


def test_identical_deliveries(deployment: Deployment, order_id: str) -> None:
    """One body, fifty times at once: one settles, the others know it, one fact."""
    delivered = deliver(paid(order_id, product=COURSE))
    assert outcomes(deployment.run("webhook", *[delivered] * AT_ONCE)) == {"settled": 1, "redelivered": AT_ONCE - 1}
    order = deployment.items()[f"order#{order_id}"]
    assert (order["rev"]["N"], order["payments"]["L"]) == ("1", [{"S": "pay#sale1"}])
    assert status(deployment, order_id) == "paid"


def test_payments_of_one_order(deployment: Deployment, order_id: str) -> None:
    """Fifty payments at once: one settles, forty-nine are owed back, none is lost; later all are known."""
    events = [deliver(paid(order_id, f"sale{number}", product=COURSE)) for number in range(AT_ONCE)]
    runs = deployment.run("webhook", *events)
    assert outcomes(runs) == {"settled": 1, "second_payment": AT_ONCE - 1}
    order = deployment.items()[f"order#{order_id}"]
    written = [name["S"] for name in order["payments"]["L"]]
    assert sorted(written) == sorted(f"pay#sale{number}" for number in range(AT_ONCE))
    [settled] = [number for number, run in enumerate(runs) if outcomes([run])["settled"]]
    assert written[0] == f"pay#sale{settled}"
    assert outcomes(deployment.run("webhook", *events)) == {"redelivered": AT_ONCE}
    assert deployment.items()[f"order#{order_id}"] == order


def test_payments_and_refunds_at_once(deployment: Deployment, order_id: str) -> None:
    """A payment and its refunds, each several times, in whatever order they win: one record, refunded."""
    payment = deliver(paid(order_id, product=COURSE))
    refunds = [deliver(refunded(order_id, refund=f"ref{number}", amount=13)) for number in range(5)]
    found = outcomes(deployment.run("webhook", *[payment, *refunds] * 8))
    assert found == {"settled": 1, "recorded": 5, "redelivered": 42}
    assert deployment.items()[f"order#{order_id}"]["rev"]["N"] == "6"
    assert status(deployment, order_id) == "refunded"


def test_payments_of_no_order(deployment: Deployment) -> None:
    """A sale that nobody here ordered is kept once, however many deliveries of it meet."""
    delivered = deliver(paid(None, "foreign", product=COURSE))
    found = outcomes(deployment.run("webhook", *[delivered] * AT_ONCE))
    assert found == {"unmatched": 1, "redelivered": AT_ONCE - 1}
    assert deployment.items()["sale#foreign"]["rev"]["N"] == "1"


def _orders(deployment: Deployment) -> list[str]:
    return [pk for pk in deployment.items() if pk.startswith("order#")]
