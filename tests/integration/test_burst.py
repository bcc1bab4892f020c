"""What the bench says of a burst of webhooks is what the ledger and the queue say, not what the answers claim."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.bench.burst import at_once
from tests.bench.emulator import Failed

ORDERS = [f"ord_test_{number}" for number in range(6)]


class Environments:
    """In the place of an execution environment, of the ledger and of the queue: `told` are outcomes by order, `paid`
    numbers of payments, `parked` orders; every other order is settled and paid once."""

    def __init__(self, told: dict[str, str], paid: dict[str, int], parked: Sequence[str] = ()) -> None:
        self._told, self._paid, self._parked = told, paid, parked

    def cpu(self) -> float:
        return 0

    def invoke(self, event: Any) -> Any:
        order = json.loads(event["body"])["metadata"]["external_order_id"]
        outcome = self._told.get(order, "settled")
        if outcome == "none":
            raise Failed(outcome)
        return {"statusCode": 200, "body": json.dumps({"outcome": outcome})}

    def parked(self) -> list[str]:
        return [json.dumps({"metadata": {"external_order_id": order}}) for order in self._parked]

    def ledger(self) -> Any:
        paid = {order: self._paid.get(order, 1) for order in ORDERS}
        return {f"order#{order}": {"payments": {"L": [{}] * times}} if times else {} for order, times in paid.items()}


@pytest.mark.parametrize(
    ("told", "paid", "parks", "unanswered", "lost", "twice"),
    [
        ("settled", 1, False, 0, 0, 0),
        ("settled", 0, False, 0, 1, 0),
        ("parked", 0, True, 0, 0, 0),
        ("parked", 0, False, 0, 1, 0),
        ("none", 0, False, 1, 1, 0),
        ("none", 1, False, 1, 0, 0),
        ("settled", 2, False, 0, 0, 1),
    ],
)
def test_what_became_of_a_payment(told: str, paid: int, parks: bool, unanswered: int, lost: int, twice: int) -> None:
    """Lost is what is neither paid nor lies in the queue, whatever was answered; and one of six is one."""
    world: Any = Environments({ORDERS[3]: told}, {ORDERS[3]: paid}, ORDERS[3:4] if parks else ())
    wave = at_once(world, [world, world], ORDERS)
    assert (wave.unanswered, wave.lost, wave.twice) == (unanswered, lost, twice)
    assert len(wave.answers) == len(ORDERS) - unanswered


def test_the_same_payment_many_times() -> None:
    """Is one order, lost once if it is lost."""
    world: Any = Environments({}, {ORDERS[0]: 0})
    wave = at_once(world, [world, world], ORDERS[:1] * 4)
    assert (len(wave.answers), wave.lost) == (4, 1)
