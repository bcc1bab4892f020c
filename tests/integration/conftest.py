"""Orders in the ledger."""

from typing import Any

import pytest

from tests.conftest import Aws
from tests.payloads import NOW, PRODUCT


@pytest.fixture
def order_id(cloud: Aws) -> str:
    """A pending order of PRODUCT."""
    return open_order()


def open_order(**item: Any) -> str:
    from payments import ledger, orders
    from payments.catalogue import Item

    order = ledger.Order(
        orders.new_id(NOW), Item(**{"product_id": PRODUCT, **item}), "buyer@example.com", {"cart": "7"}
    )
    opened = ledger.open_order(order, None, "fingerprint", NOW)
    assert opened == ledger.Opened(order.id)
    return order.id
