"""Fifty at once, each in a process of its own: one wins, all are answered, and nothing is counted twice."""

import pytest

from tests.integration.conftest import COURSE, Deployment, outcomes, signed
from tests.payloads import asking, new_key, paid, refunded

AT_ONCE = 50

pytestmark = pytest.mark.parametrize("running", ["moto", "dynalite"], indirect=True, scope="module")


@pytest.fixture
def order_id(deployment: Deployment) -> str:
    [run] = deployment.run("checkout", asking())
    return str(run.content["orderId"])


def test_checkouts_with_one_key(deployment: Deployment) -> None:
    """A double click, fifty times: one order and one session; who comes while it is made is told to come again, and
    then hears what the first one heard."""
    sessions = len(deployment.provider.received)
    events = [asking(new_key())] * AT_ONCE
    deployment.provider.delay_seconds = 0.5
    first = deployment.run("checkout", *events)
    deployment.provider.delay_seconds = 0
    again = deployment.run("checkout", *events)
    assert outcomes(first).keys() <= {"created", "in_progress"}
    assert outcomes(again) == {"created": AT_ONCE}
    assert len({str(run.content) for run in first + again if run.outcome == "created"}) == 1
    assert len(deployment.provider.received) == sessions + 1
    assert len(deployment.orders()) == 1


def test_checkouts_with_one_key_and_different_bodies(deployment: Deployment) -> None:
    """Whoever comes first has the key; all who want something else with it are refused."""
    sessions, key = len(deployment.provider.received), new_key()
    events = [asking(key, discountCode=f"CODE{number}") for number in range(AT_ONCE)]
    assert outcomes(deployment.run("checkout", *events)) == {"created": 1, "idempotency_key_reused": AT_ONCE - 1}
    assert len(deployment.provider.received) == sessions + 1


def test_retries_of_a_failed_checkout(deployment: Deployment) -> None:
    """Fifty take over at once what Pocketsflow failed: one does, under the same order id."""
    key = new_key()
    deployment.provider.status = 500
    assert outcomes(deployment.run("checkout", asking(key))) == {"pocketsflow_failed": 1}
    deployment.provider.status, deployment.provider.delay_seconds = 201, 0.5
    sessions = len(deployment.provider.received)
    runs = deployment.run("checkout", *[asking(key)] * AT_ONCE)
    deployment.provider.delay_seconds = 0
    assert outcomes(runs).keys() <= {"created", "in_progress"}
    assert len({str(run.content) for run in runs if run.outcome == "created"}) == 1
    assert len(deployment.provider.received) == sessions + 1
    assert len(deployment.orders()) == 1


def test_identical_deliveries(deployment: Deployment, order_id: str) -> None:
    """One body, fifty times at once: one settles, the others know it, one fact."""
    delivered = signed(paid(order_id, product=COURSE))
    assert outcomes(deployment.run("webhook", *[delivered] * AT_ONCE)) == {"settled": 1, "redelivered": AT_ONCE - 1}
    order = deployment.items()[f"order#{order_id}"]
    assert (order["rev"]["N"], order["payments"]["L"]) == ("1", [{"S": "pay#sale1"}])
    assert deployment.status(order_id) == "paid"


def test_payments_of_one_order(deployment: Deployment, order_id: str) -> None:
    """Fifty payments at once: one settles, forty-nine are owed back, none is lost; later all are known."""
    events = [signed(paid(order_id, f"sale{number}", product=COURSE)) for number in range(AT_ONCE)]
    runs = deployment.run("webhook", *events)
    assert outcomes(runs) == {"settled": 1, "second_payment": AT_ONCE - 1}
    order = deployment.items()[f"order#{order_id}"]
    written = [name["S"] for name in order["payments"]["L"]]
    assert sorted(written) == sorted(f"pay#sale{number}" for number in range(AT_ONCE))
    [settled] = [number for number, run in enumerate(runs) if run.outcome == "settled"]
    assert written[0] == f"pay#sale{settled}"
    assert outcomes(deployment.run("webhook", *events)) == {"redelivered": AT_ONCE}
    assert deployment.items()[f"order#{order_id}"] == order


def test_payments_and_refunds_at_once(deployment: Deployment, order_id: str) -> None:
    """A payment and its refunds, each several times, in whatever order they win: one record, refunded."""
    payment = signed(paid(order_id, product=COURSE))
    refunds = [signed(refunded(order_id, refund=f"ref{number}", amount=13)) for number in range(5)]
    found = outcomes(deployment.run("webhook", *[payment, *refunds] * 8))
    assert found == {"settled": 1, "recorded": 5, "redelivered": 42}
    assert deployment.items()[f"order#{order_id}"]["rev"]["N"] == "6"
    assert deployment.status(order_id) == "refunded"


def test_payments_of_no_order(deployment: Deployment) -> None:
    """A sale that nobody here ordered is kept once, however many deliveries of it meet."""
    delivered = signed(paid(None, "foreign", product=COURSE))
    found = outcomes(deployment.run("webhook", *[delivered] * AT_ONCE))
    assert found == {"unmatched": 1, "redelivered": AT_ONCE - 1}
    assert deployment.items()["sale#foreign"]["rev"]["N"] == "1"
