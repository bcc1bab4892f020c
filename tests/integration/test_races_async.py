"""Reconciliations, deliveries, status polls and the relay at once: one settlement, told under one id."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.environments import Run
from tests.integration.conftest import outcomes
from tests.integration.processes import ASKED, RECENT, Stack
from tests.payloads import http_event

ROUNDS = 8


def answers(runs: list[Run]) -> Counter[str]:
    """Of reconciliations."""
    return Counter(run.answer["outcome"] for run in runs if run.answer)


def test_reconciliations_at_once_are_one(stack: Stack) -> None:
    """One has the lease; the others say so and ask Pocketsflow for nothing."""
    ids = []
    for _ in range(3):
        order_id, session = stack.checkout()
        stack.pay(session)
        ids.append(order_id)
    stack.account.set_faults({"http_delay_seconds": 1})  # or the first one may be done before the last one asks
    runs = stack.run("reconcile", *[RECENT] * 10)
    assert answers(runs) == {"done": 1, "already_running": 9}
    assert sum(any(sent.startswith("GET ") for sent in run.sent) for run in runs) == 1
    stack.flow()
    assert {stack.status(order_id) for order_id in ids} == {"paid"}
    assert stack.types() == ["order.paid"] * 3


def test_everything_at_once_settles_once(stack: Stack) -> None:
    """Deliveries of a webhook, a scheduled and an asked reconciliation, status polls and the relay: whoever is first
    settles the order, and it alone."""
    for _ in range(ROUNDS):
        stack.clear()
        stack.reconcile(RECENT)
        order_id, session = stack.checkout()
        payment_id, webhook = stack.pay(session)
        stack.grow_old(order_id)
        with ThreadPoolExecutor() as pool:
            deliveries = pool.submit(stack.run, "webhook", *[webhook] * 3)
            reconciliations = pool.submit(stack.run, "reconcile", RECENT, ASKED)
            polls = pool.submit(stack.run, "checkout", *[http_event(f"GET /orders/{order_id}")] * 3)
            relayed = pool.submit(stack.flow)
        relayed.result()
        assert {run.content["status"] for run in polls.result()} <= {"pending", "paid"}
        settled = outcomes(deliveries.result())["settled"]
        for run in reconciliations.result():
            assert run.answer is not None
            settled += run.answer.get("found", {}).get("settled", 0)
        assert settled == 1
        stack.flow()
        order = stack.items()[f"order#{order_id}"]
        assert (order["rev"]["N"], order["payments"]["L"]) == ("1", [{"S": f"pay#{payment_id}"}])
        assert stack.types() == ["order.paid"]
        assert stack.status(order_id) == "paid"


def test_polls_of_many_environments_ask_once(stack: Stack) -> None:
    """Twenty at once, each for the first time: one record in the stream."""
    order_id, _ = stack.checkout()
    stack.grow_old(order_id)
    runs = stack.run("checkout", *[http_event(f"GET /orders/{order_id}")] * 20)
    assert {run.content["status"] for run in runs} == {"pending"}
    assert all(run.sent.count("dynamodb UpdateItem") == 1 for run in runs)
    assert stack.questions() == 1
