"""docs/events.md: the table and the example are those of the schemas, and the commands do what they are said to."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox import aws
from sandbox.servers import Server
from sandbox.template import ROOT
from tests.conftest import template
from tests.event_schemas import TYPES, example

PAGE = (ROOT / "docs/events.md").read_text()
CONSUME, REPLAY = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
STAGE = "pocketsflow.test"

# Stands for the AWS command line: the same names, options and output, made from the same descriptions of the services.
AWS = """
import json, os, sys
import boto3, jmespath
from botocore import xform_name

service, operation, *words = sys.argv[1:]
client = boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
name = client.meta.method_to_api_mapping[operation.replace("-", "_")]
members = client.meta.service_model.operation_model(name).input_shape.members
options = {xform_name(member, "-"): member for member in members}
given, query, output = {}, None, None
while words:
    word = words.pop(0)
    if word in ("--query", "--output"):
        query, output = (words.pop(0), output) if word == "--query" else (query, words.pop(0))
    else:
        member, value = options[word[2:]], words.pop(0)
        kind = members[member].type_name
        if kind != "string" and value[0] in "{[":
            value = json.loads(value)
        elif kind == "list":
            value = [value]
        given[member] = value
answer = getattr(client, operation.replace("-", "_"))(**given)
answer = jmespath.search(query, answer) if query else answer
print(answer if output == "text" else json.dumps(answer, default=str))
"""


@dataclass
class Stack:
    """The template's bus and archive, and a shell with a stand-in for `aws`."""

    url: str
    folder: Path
    outputs: dict[str, str]

    def run(self, block: str) -> str:
        keys = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": aws.REGION,
            "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
        }
        keys |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        told = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **keys, **self.outputs, "PATH": f"{self.folder}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def publish(self, *types: str) -> None:
        entries = [
            {"Source": STAGE, "DetailType": each, "Detail": json.dumps(example(each)), "EventBusName": self.bus}
            for each in types
        ]
        assert aws.client("events", self.url).put_events(Entries=entries)["FailedEntryCount"] == 0

    @property
    def bus(self) -> str:
        return self.outputs["BusName"]

    def received(self) -> list[Any]:
        """Ids of the events in the queue, which is empty afterwards."""
        sqs = aws.client("sqs", self.url)
        queue = sqs.get_queue_url(QueueName="shop-orders")["QueueUrl"]
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"])["detail"]["id"] for message in messages]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    server = Server(0)
    server.start(aws.application())
    requests.post(f"{server.url}/moto-api/reset", timeout=15).raise_for_status()  # one state in all of this process
    made = template()
    aws.create_resources(made, server.url)
    command = tmp_path / "aws"
    command.write_text(f"#!{sys.executable}\n{AWS}")
    command.chmod(0o755)
    yield Stack(server.url, tmp_path, {"BusName": made.references["Bus"]["Ref"]})
    server.close()


def test_the_table_is_complete() -> None:
    """Each type that there is a schema for has a line of its own, and no other has."""
    assert sorted(re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE)) == TYPES


def test_the_example_is_the_schemas() -> None:
    """The event that is shown has the detail of its schema's example."""
    [shown] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert shown["detail"] == example(shown["detail-type"])
    assert shown["source"] == f"pocketsflow.{shown['detail']['order_id'].split('_')[1]}"


def test_the_commands_name_outputs() -> None:
    """What the commands take from the stack are outputs of the template."""
    outputs = (ROOT / "template.yaml").read_text().partition("\nOutputs:\n")[2]
    for block in (CONSUME, REPLAY):
        own = set(re.findall(r"\b([A-Z_]+)=", block))
        for name in set(re.findall(r"\$(\w*[A-Za-z]\w*)", block)) - own:
            assert f"\n  {name}:\n" in f"\n{outputs}", name


def test_the_rule_delivers(stack: Stack) -> None:
    """After the commands of the page the queue gets what its rule asks for and nothing else, by a policy that lets in
    this rule alone; what cannot be delivered or handled goes to the other queue."""
    stack.run(CONSUME)
    stack.publish("order.paid", "payment.second")
    stack.publish("order.refunded")
    assert stack.received() == [example("order.paid")["id"], example("order.refunded")["id"]]
    events, sqs = aws.client("events", stack.url), aws.client("sqs", stack.url)
    [target] = events.list_targets_by_rule(Rule="shop-orders", EventBusName=stack.bus)["Targets"]
    rule = events.describe_rule(Name="shop-orders", EventBusName=stack.bus)["Arn"]
    dead = f"arn:aws:sqs:{aws.REGION}:{aws.ACCOUNT}:shop-orders-dead"
    assert target["DeadLetterConfig"] == {"Arn": dead}
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86400}
    for name in ("shop-orders", "shop-orders-dead"):
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        [statement] = json.loads(attributes["Policy"])["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rule}}
        assert statement["Resource"] == attributes["QueueArn"]
        dead_letters = json.loads(attributes.get("RedrivePolicy", "{}")).get("deadLetterTargetArn")
        assert dead_letters == (dead if name == "shop-orders" else None)


def test_the_archive_is_replayed(stack: Stack) -> None:
    """A replay brings the same event, with the same id, to the same queue."""
    stack.run(CONSUME)
    stack.publish("order.paid")
    first = stack.received()
    stack.run(re.sub(r"^FROM=.*$", "FROM=2000-01-01T00:00:00Z UNTIL=2100-01-01T00:00:00Z", REPLAY, flags=re.MULTILINE))
    assert stack.received() == first == [example("order.paid")["id"]]
