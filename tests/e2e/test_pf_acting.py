"""The commands by which a person acts, at a terminal, on the sandbox."""

import json
from typing import Any

from ops import queues
from sandbox import aws, pocketsflow
from tests.e2e.conftest import Sandbox, http
from tests.e2e.terminal import said
from tests.e2e.test_sandbox_delivery import wait_for
from tests.payloads import paid

COURSE = "000000000000000000c0ffee"


def bus(sandbox: Sandbox, order_id: str) -> list[str]:
    """Ids of the events about an order."""
    events: list[Any] = http.get(f"{sandbox.api}/_sandbox/bus?order={order_id}", timeout=15).json()
    return [each["detail"]["id"] for each in events]


def audited(sandbox: Sandbox, about: str) -> list[tuple[str, str]]:
    """What was done with an order, and why."""
    found = aws.client("dynamodb", sandbox.aws).get_item(
        TableName="sandbox-Ledger", Key={"pk": {"S": f"audit#{about}"}}
    )
    entries = found.get("Item", {"entries": {"L": []}})["entries"]["L"]
    return [(each["M"]["action"]["S"], each["M"]["reason"]["S"]) for each in entries]


def test_a_purchase_that_no_webhook_told_is_found(sandbox: Sandbox) -> None:
    """By reconciliation, now."""
    sandbox.faults(drop=True)
    order_id, session = sandbox.order()
    sandbox.pay(session)
    sandbox.faults()
    assert sandbox.status(order_id) == "pending"
    code, screen = said(sandbox, "reconcile", "--reason", "webhooks were lost")
    assert (code, "paid, and no webhook had said so" in screen) == (0, True), screen
    assert sandbox.status(order_id) == "paid"


def test_a_webhook_that_was_parked_too_long_is_settled(sandbox: Sandbox) -> None:
    """After a look at what lies there and a yes; no leaves it."""
    order_id, _ = sandbox.order()
    sqs = aws.client("sqs", sandbox.aws)
    url = sqs.get_queue_url(QueueName="sandbox-ParkedTooLong")["QueueUrl"]
    body = json.dumps(paid(order_id, pocketsflow.new_id(), COURSE)).encode()
    sqs.send_message(QueueUrl=url, MessageBody=queues.parked(body, "order.completed", ""))
    code, screen = said(sandbox, "redrive", "ParkedTooLong", typing="n\n")
    assert (code, "nothing was moved" in screen, order_id in screen) == (1, True, True), screen
    assert "buyer@" not in screen
    assert sandbox.status(order_id) == "pending"
    code, screen = said(sandbox, "redrive", "ParkedTooLong", typing="y\n")
    assert (code, "1 webhooks were moved, and settled." in screen) == (0, True), screen
    assert sandbox.status(order_id) == "paid"
    code, screen = said(sandbox, "redrive", "ParkedTooLong")
    assert (code, "is empty" in screen) == (0, True)


def test_money_goes_back(sandbox: Sandbox) -> None:
    """When a person says y, and the webhook tells the ledger."""
    order_id, session = sandbox.order()
    payment = sandbox.pay(session)
    command = ("refund", order_id, "--amount", "10.00", "--reason", "the buyer asked")
    code, screen = said(sandbox, *command, typing="n\n")
    assert (code, "nothing was refunded" in screen) == (1, True), screen
    assert payment in screen
    assert (sandbox.status(order_id), audited(sandbox, order_id)) == ("paid", [])
    code, screen = said(sandbox, *command, typing="y\n")
    assert (code, "Refunded 10.00 usd (completed)" in screen) == (0, True), screen
    wait_for(lambda: sandbox.status(order_id) == "partially_refunded")
    assert audited(sandbox, order_id) == [("refund", "the buyer asked")]


def test_a_fact_that_is_gone_comes_back_and_events_go_out_again(sandbox: Sandbox) -> None:
    """From the body that lies beside the order; the event has the id that it had."""
    order = sandbox.checkout(
        {"sku": "course", "metadata": {f"field-{number}": "x" * 300 for number in range(12)}}
    ).json()
    order_id, payment = order["orderId"], sandbox.pay(order["sessionId"])
    wait_for(lambda: len(bus(sandbox, order_id)) == 1)
    aws.client("dynamodb", sandbox.aws).update_item(
        TableName="sandbox-Ledger", Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="REMOVE #fact, payments", ExpressionAttributeNames={"#fact": f"pay#{payment}"},
    )  # fmt: skip
    code, screen = said(sandbox, "replay", order_id)
    assert (code, order_id in screen, "pending" in screen, "paid" in screen) == (0, True, True, True), screen
    assert sandbox.status(order_id) == "paid"
    wait_for(lambda: len(bus(sandbox, order_id)) == 2)
    code, screen = said(sandbox, "republish", order_id, typing="y\n")
    assert (code, "1 events were published." in screen) == (0, True), screen
    wait_for(lambda: len(bus(sandbox, order_id)) == 3)
    assert len(set(bus(sandbox, order_id))) == 1
    code, screen = said(sandbox, "resolve", order_id, "--reason", "looked at it")
    assert (code, f"The payment {payment} is resolved since" in screen) == (0, True), screen
    assert [action for action, _ in audited(sandbox, order_id)] == ["replay", "republish", "resolve"]


def test_the_sandbox_s_catalogue_is_its_products(sandbox: Sandbox) -> None:
    """Nothing is asked, and nothing written."""
    code, screen = said(sandbox, "catalogue", "pull")
    assert (code, "The catalogue is as Pocketsflow's products are." in screen) == (0, True), screen
