"""Relay, reconcile and the webhook that empties the parking queue die around each request that they send, in turn.

What comes next sets it right: the same batch, the next run, the same messages. Then the ledger is as if nobody had
died, and the bus has heard the same events, by their ids.
"""

import json
from collections.abc import Callable
from itertools import count
from typing import Any, Literal

import pytest

from tests.environments import Kill
from tests.integration.conftest import COURSE, signed
from tests.integration.processes import HOURS, MEMBERSHIP, RECENT, Stack, ago, parked
from tests.payloads import paid, refunded, subscribed

SIDES: tuple[Literal["before"], Literal["after"]] = ("before", "after")


def survives(stack: Stack, live: Callable[[Kill | None], bool], least: int) -> None:
    """Lives through it undisturbed, then with a death around each of at least so many requests, from the same ledger
    each time. `live` says whether somebody has died."""

    def outcome(kill: Kill | None) -> Any:
        stack.again()
        died = live(kill)
        stack.flow()
        return died, stack.ledger(), stack.events()

    stack.flow()
    stack.remember()
    _, ledger, events = outcome(None)
    assert events
    for side in SIDES:
        for number in count(1):
            died, *found = outcome((side, number))
            assert found == [ledger, events], (side, number)
            if not died:
                break
        assert number > least


# --- Relay ------------------------------------------------------------------------------------------------------------


def test_the_relay_dies(stack: Stack) -> None:
    """A batch with a payment for which a refund waits, a second payment, a payment of two orders and a subscription:
    wherever it dies, the same batch again completes the ledger and tells all of it, with the same ids."""
    first, second, third = (stack.checkout()[0] for _ in range(3))
    subscriber, _ = stack.checkout("membership")
    webhooks = [
        signed(refunded(None, "sale1")),
        *(signed(paid(first, payment, product=COURSE)) for payment in ("sale1", "sale2")),
        *(signed(paid(order_id, "sale3", product=COURSE)) for order_id in (second, third)),
        signed(subscribed(subscriber, product=MEMBERSHIP), "customer.subscription.created"),
    ]

    def live(kill: Kill | None) -> bool:
        for webhook in webhooks:
            stack.run("webhook", webhook)
        batch = stack.read_stream()
        died = not stack.relay(batch, kill)
        if died:
            assert stack.relay(batch)
        return died

    survives(stack, live, least=7)


def test_the_relay_dies_over_a_record_that_it_does_not_understand(stack: Stack) -> None:
    """The record is put aside under its own number, once, and the other one is told."""
    order_id, _ = stack.checkout()
    objects: set[str] = set()

    def live(kill: Kill | None) -> bool:
        stack.run("webhook", signed(paid(order_id, product=COURSE)))
        [record] = stack.read_stream()
        broken = json.loads(json.dumps(record))
        broken["dynamodb"] |= {"SequenceNumber": "1", "NewImage": {"pk": {"S": "order#x"}}}
        died = not stack.relay([broken, record], kill)
        if died:
            assert stack.relay([broken, record])
        objects.update(stack.objects())
        return died

    survives(stack, live, least=2)
    assert objects == {"put-aside/1.json"}


# --- Reconcile --------------------------------------------------------------------------------------------------------


def lost_payments(stack: Stack) -> None:
    for _ in range(2):
        stack.pay(stack.checkout()[1])


def refunded_and_disputed(stack: Stack) -> None:
    sales = [stack.pay(stack.checkout()[1]) for _ in range(2)]
    for _, webhook in sales:
        stack.run("webhook", webhook)
    stack.flow()
    (refunded_id, _), (disputed_id, _) = sales
    stack.account.refund(refunded_id, None, None)
    stack.account.set_disputed(disputed_id, True)


def nobodys(stack: Stack) -> None:
    stack.checkout()  # which it may have been meant for
    for metadata in ({}, {"external_order_id": "another system's"}):
        stack.pay(stack.account.open_session({"productId": COURSE, "metadata": metadata}))


def lost_subscription(stack: Stack) -> None:
    stack.pay(stack.checkout("membership")[1])


def denied(stack: Stack) -> None:
    stack.run("webhook", signed(paid(stack.checkout()[0], "ghost", product=COURSE)))
    stack.flow()
    stack.write("sale#ghost", "since", ago(minutes=11))


def ended_subscription(stack: Stack) -> None:
    identity, webhook = stack.pay(stack.checkout("membership")[1])
    stack.run("webhook", webhook)
    stack.flow()
    stack.account.advance(identity, "cancel")


FOUND: dict[Callable[[Stack], None], tuple[dict[str, str], int]] = {
    lost_payments: (RECENT, 12),
    refunded_and_disputed: (RECENT, 16),
    nobodys: (RECENT, 12),
    lost_subscription: (RECENT, 11),
    denied: (RECENT, 11),
    ended_subscription: (HOURS, 12),
}


@pytest.mark.parametrize("happened", FOUND, ids=lambda happened: happened.__name__)
def test_a_reconciliation_dies(stack: Stack, happened: Callable[[Stack], None]) -> None:
    """The lease that it leaves holds up the next run until it has expired, and no longer: then all is found, settled
    and told as it would have been, whether or not the relay has seen the half of it meanwhile."""
    happened(stack)
    walk, least = FOUND[happened]

    def live(kill: Kill | None) -> bool:
        if stack.reconcile(walk, kill) is not None:
            return False
        assert kill is not None
        if kill[1] % 2:
            stack.flow()
        had_the_lease = stack.is_leased()
        assert stack.reconcile(walk)["outcome"] == ("already_running" if had_the_lease else "done")
        stack.let_the_lease_expire()
        assert stack.reconcile(walk)["outcome"] == "done"
        return True

    survives(stack, live, least)


# --- The parking queue ------------------------------------------------------------------------------------------------


def test_the_webhook_dies_over_parked_bodies(stack: Stack) -> None:
    """The queue brings all of them again: each is written once, and told once."""
    first, second = (stack.checkout()[0] for _ in range(2))
    subscriber, _ = stack.checkout("membership")
    messages = parked(
        signed(paid(first, "sale1", product=COURSE)),
        signed(paid(second, "sale2", product=COURSE, padding="x" * 9_000)),
        signed(refunded(first, "sale1", amount=10)),
        signed(subscribed(subscriber, product=MEMBERSHIP), "customer.subscription.created"),
        signed(subscribed(None, status="past_due"), "customer.subscription.updated"),
    )

    def live(kill: Kill | None) -> bool:
        [run] = stack.run("webhook", messages, kill=kill)
        if run.answer is None:
            [again] = stack.run("webhook", messages)
            assert again.answer == {"batchItemFailures": []}
        return run.answer is None

    survives(stack, live, least=6)
