"""Reconciliation's lease: two runs at once are one, and when it fails the settlement holds all the same."""

from itertools import count
from typing import Any

from payments.progress import LeaseLost
from tests.integration.outages import Outages, Try
from tests.world import World


def test_a_lease_that_expires_under_a_run(shop: World, outages: Outages) -> None:
    """Wherever the first run is when the second one takes over: both find the same payments, each is settled and told
    once, and the first one writes no more of where it is."""
    overtaken = 0
    for number in count(1):
        ids = [shop.buy()[0] for _ in range(2)]
        shop.lose_webhooks()
        shop.flow()
        shop.clock.passes(minutes=5)
        outages.fates["dynamodb"] = _second_run_at(number, shop, outages)
        try:
            first = shop.reconcile()
        except LeaseLost:
            first = {"outcome": "lost"}
            overtaken += 1
        if outages.fates.pop("dynamodb", None):
            break
        assert first["outcome"] in ("lost", "done", "already_running")
        shop.flow()
        for order_id in ids:
            assert (shop.status(order_id), shop.stack.order(order_id)["rev"]) == ("paid", {"N": "1"})
            assert len({event["id"] for event in shop.published if event["order_id"] == order_id}) == 1
        assert set(shop.types()) == {"order.paid"}
    assert overtaken > 3


def _second_run_at(number: int, shop: World, outages: Outages) -> Any:
    """Of the first run's requests to the ledger the one before which its lease is over and another run begins."""
    numbers = count(1)

    def fate(_: Try) -> None:
        if next(numbers) == number:
            del outages.fates["dynamodb"]
            shop.stack.dynamodb.update_item(
                TableName=shop.stack.table,
                Key={"pk": {"S": "reconcile#state"}},
                UpdateExpression="REMOVE lease_owner, lease_until",
            )
            shop.reconcile()

    return fate
