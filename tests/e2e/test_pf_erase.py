"""`pf erase` as a person uses it at a terminal."""

import base64
import json
from typing import Any

import boto3

from tests.e2e.conftest import Sandbox, http
from tests.e2e.terminal import said

ADDRESS = "Erika.Erased@example.com"


def client(sandbox: Sandbox, service: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]  # any of them
        service, region_name="eu-west-1", endpoint_url=sandbox.aws, aws_access_key_id="x", aws_secret_access_key="x"
    )


def naming(sandbox: Sandbox) -> list[str]:
    """Everything in ledger, queues and bucket that has the address, also in bytes."""
    word, found = ADDRESS.lower(), []
    for page in client(sandbox, "dynamodb").get_paginator("scan").paginate(TableName="sandbox-Ledger"):
        found += [item["pk"]["S"] for item in page["Items"] if word in repr(item).lower()]
    sqs, s3 = client(sandbox, "sqs"), client(sandbox, "s3")
    for name in ("sandbox-Parking", "sandbox-ParkedTooLong"):
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
        bodies = [base64.b64decode(json.loads(message["Body"])["body"]) for message in received]
        found += [name for body in bodies if word in body.decode().lower()]
    for entry in s3.list_objects_v2(Bucket="sandbox-unpublished").get("Contents", []):
        data = s3.get_object(Bucket="sandbox-unpublished", Key=entry["Key"])["Body"].read()
        found += [entry["Key"]] if word in data.decode().lower() else []
    return found


def test_a_person_is_erased_and_stays_erased(sandbox: Sandbox) -> None:
    """Bought, paid, and one more payment parked for too long; erased after a no and a yes. The same webhook again and a
    reconciliation bring nothing back; the order is paid."""
    created = sandbox.checkout({"sku": "course", "customerEmail": ADDRESS, "metadata": {"cart": "7"}}).json()
    payment = sandbox.pay(created["sessionId"])
    order_id = created["orderId"]
    log = http.get(f"{sandbox.pocketsflow}/_sandbox/deliveries", timeout=15).json()
    [sent] = [entry for entry in log if entry["orderId"] == payment]
    parked = {**json.loads(sent["body"]), "order": {"id": "parked"}}
    message = {"body": base64.b64encode(json.dumps(parked).encode()).decode(), "event": sent["event"], "sent_at": "1"}
    sqs = client(sandbox, "sqs")
    url = sqs.get_queue_url(QueueName="sandbox-ParkedTooLong")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))
    assert {f"order#{order_id}", "sandbox-ParkedTooLong"} <= {*naming(sandbox)}

    code, screen = said(sandbox, "erase", "--email", ADDRESS, typing="n\n")
    assert (code, "nothing was erased" in screen) == (1, True), screen
    code, screen = said(sandbox, "erase", "--email", ADDRESS.upper(), typing="y\n")
    assert (code, "Receipt" in screen, "35 days" in screen) == (0, True, True), screen
    assert naming(sandbox) == []

    headers = {"X-Pocketsflow-Signature": sent["signature"], "X-Pocketsflow-Event": sent["event"]}
    again = http.post(sent["url"], data=sent["body"].encode(), headers=headers, timeout=15)
    assert again.json()["outcome"] == "redelivered"
    for walk in ("recent", "hours"):
        told = http.post(f"{sandbox.api}/_sandbox/invoke/ReconcileFunction", json={"walk": walk}, timeout=60).json()
        assert told["outcome"] in ("done", "already_running"), told
    assert naming(sandbox) == []
    assert sandbox.status(order_id) == "paid"
    [left] = sqs.receive_message(QueueUrl=url, VisibilityTimeout=60)["Messages"]
    copy = json.loads(base64.b64decode(json.loads(left["Body"])["body"]))
    assert (copy["order"], copy["amount"], copy["metadata"]["external_order_id"]) == (
        {"id": "parked"}, parked["amount"], order_id,
    )  # fmt: skip
    sqs.delete_message(QueueUrl=url, ReceiptHandle=left["ReceiptHandle"])

    code, screen = said(sandbox, "erase", "--email", ADDRESS)
    assert (code, "Nothing that pf can change names that address." in screen) == (0, True), screen


def test_retention_runs(sandbox: Sandbox) -> None:
    """Its function is there, and takes nothing of what is young."""
    order_id = sandbox.checkout({"sku": "course", "customerEmail": "young@example.com"}).json()["orderId"]
    told = http.post(f"{sandbox.api}/_sandbox/invoke/RetainFunction", json={}, timeout=60).json()
    assert told == {"outcome": "done", "addresses": 0, "bodies": 0}
    assert sandbox.record(order_id)["customer_email"] == "young@example.com"
