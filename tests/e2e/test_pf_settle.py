"""`pf settle` as a person uses it at a terminal."""

from tests.e2e.conftest import Sandbox
from tests.e2e.terminal import said


def test_a_person_gives_a_payment_to_an_order(sandbox: Sandbox) -> None:
    """Reads what it is about, says no, then yes: the shop's page says paid."""
    order_id, session = sandbox.order()
    payment = sandbox.pay(session, {"productId": "000000000000000000facade", "amount": "49.00"})
    assert sandbox.status(order_id) == "mismatched"
    command = ("settle", "--order", order_id, "--payment", payment, "--reason", "the buyer called")
    code, screen = said(sandbox, *command, typing="n\n")
    assert (code, "not settled" in screen) == (1, True)
    assert sandbox.status(order_id) == "mismatched"
    code, screen = said(sandbox, *command, typing="y\n")
    assert (code, "Settled: the order is paid." in screen) == (0, True), screen
    assert sandbox.status(order_id) == "paid"
    code, screen = said(sandbox, *command)
    assert (code, f"the order is settled by payment {payment}" in screen) == (1, True)
