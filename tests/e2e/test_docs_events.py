"""docs/events.md: its commands, run against the sandbox's AWS."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from sandbox import aws as sandbox_aws
from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, shell

CONSUME, ARCHIVE, LATER = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/events.md").read_text(), re.DOTALL)
BUS, BUCKET = "pocketsflow-sandbox", "sandbox-unpublished"


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Any:
    """Runs a block in bash, as a person with these outputs of the stack would."""
    command = tmp_path / "aws"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/e2e/aws_command.py "$@"\n')
    command.chmod(0o755)
    outputs = {"BusName": BUS, "UnpublishedBucket": BUCKET, "RelayFunctionName": "RelayFunction"}
    keys = {"AWS_ACCESS_KEY_ID": "person", "AWS_SECRET_ACCESS_KEY": "person", "AWS_DEFAULT_REGION": sandbox_aws.REGION}
    environment = {
        **shell(), **outputs, **keys,
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": sandbox.aws, "SANDBOX_API": sandbox.api,
    }  # fmt: skip

    def in_bash(block: str) -> str:
        told = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    return in_bash


def client(sandbox: Sandbox, service: Any) -> Any:
    return boto3.client(
        service, endpoint_url=sandbox.aws, region_name=sandbox_aws.REGION,
        aws_access_key_id="person", aws_secret_access_key="person",
    )  # fmt: skip


def test_a_rule_and_its_queue(sandbox: Sandbox, run: Any) -> None:
    """After the commands a purchase lies in the consumer's own queue, as the event that the page shows; the archive's
    commands find what they name."""
    run(CONSUME.replace('"mode": ["live"]', '"mode": ["test"]'))
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    sqs = client(sandbox, "sqs")
    url = sqs.get_queue_url(QueueName="shop-orders")["QueueUrl"]
    got: list[Any] = []
    deadline = time.monotonic() + 30
    while not got and time.monotonic() < deadline:
        got = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", [])
    event = json.loads(got[0]["Body"])
    assert (event["detail-type"], event["detail"]["order_id"]) == ("order.paid", order_id)
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert json.loads(policy["RedrivePolicy"])["maxReceiveCount"] in (5, "5")
    assert "shop-orders" in run(ARCHIVE)


def test_what_could_not_be_published_is_published_later(sandbox: Sandbox, run: Any) -> None:
    """An object of the bucket, in Lambda's shape, goes through the relay again, and out of the way."""
    record = {
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": "1",
            "NewImage": {
                "pk": {"S": "raw#0"},
                "mode": {"S": "test"},
                "arrivals": {"L": [{"M": {name: {"S": "later"} for name in ("at", "reason", "event", "sent_at")}}]},
            },
        },
    }
    content = {"version": "1.0", "payload": json.dumps({"Records": [record]})}
    s3 = client(sandbox, "s3")
    s3.put_object(Bucket=BUCKET, Key="put-aside/1.json", Body=json.dumps(content).encode())
    assert '{"batchItemFailures": []}' in run(LATER)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == ["replayed/put-aside/1.json"]
    assert run(LATER) == ""
