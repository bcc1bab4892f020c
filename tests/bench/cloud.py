"""AWS for execution environments that are measured: moto in this process, with the resources of a live stack that has
every connector, the secrets that it cannot answer without, and orders that wait for their payment."""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from sandbox import aws
from sandbox.platforms.shopify import CLIENT_SECRET
from sandbox.servers import Server
from sandbox.template import Template
from sandbox.worker import lambda_environment
from tests.bench import baselines
from tests.bench.warm import IDEMPOTENCY_TABLE, Caller
from tests.conftest import CONNECTORS, template
from tests.payloads import SECRET

AT_ONCE = 25
"""Items of one BatchWriteItem."""


class Cloud:
    """`functions` are those of the template, by module."""

    def __init__(self, declared: Template, url: str) -> None:
        self.url = url
        self.functions = {each.handler.rpartition(".")[0]: each for each in declared.functions()}
        self.dynamodb = aws.client("dynamodb", url)
        named = declared.references
        self.table, self.stream, self.bucket = (
            named["Ledger"]["Ref"],
            named["Ledger"]["StreamArn"],
            named["Unpublished"]["Ref"],
        )
        self._first = self._opened()
        self._numbers = itertools.count()

    def environment(self, module: str) -> dict[str, str]:
        """Of a function whose modules are an artifact's."""
        return self._of_artifact(lambda_environment(self.functions[module]))

    def environment_of_baseline(self) -> dict[str, str]:
        webhook = self.functions["webhook"]
        told = {name: webhook.environment[name] for name in ("TABLE_NAME", "WEBHOOK_SECRETS_ARN")}
        return self._of_artifact(baselines.environment(webhook, told | {"IDEMPOTENCY_TABLE": IDEMPOTENCY_TABLE}))

    def orders(self, number: int) -> list[str]:
        """Ids of new ones: as a checkout has opened the first, but for their ids."""
        written = json.dumps(
            self.dynamodb.get_item(TableName=self.table, Key={"pk": {"S": f"order#{self._first}"}})["Item"]
        )
        ids = [f"{self._first[:-8]}{next(self._numbers):08}" for _ in range(number)]
        items = [json.loads(written.replace(self._first, order_id)) for order_id in ids]
        for start in range(0, number, AT_ONCE):
            puts = [{"PutRequest": {"Item": item}} for item in items[start : start + AT_ONCE]]
            self.dynamodb.batch_write_item(RequestItems={self.table: puts})
        return ids

    def ledger(self) -> dict[str, Any]:
        """All of its items, by key."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table)
        return {item["pk"]["S"]: item for page in pages for item in page["Items"]}

    def _opened(self) -> str:
        """By the ledger's own code, in a process of its own."""
        environment = {**lambda_environment(self.functions["webhook"]), "AWS_ENDPOINT_URL": self.url}
        with contextlib.closing(Caller((sys.executable, "-m", "tests.bench.caller", "webhook"), environment)) as caller:
            [order_id] = caller.tell(open=1)["orders"]
        return order_id

    def _of_artifact(self, environment: Mapping[str, str]) -> dict[str, str]:
        there = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
        # As root even a folder that is read-only takes byte code.
        return there | {"AWS_ENDPOINT_URL": self.url, "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def running() -> Iterator[Cloud]:
    declared = template(Mode="live", **CONNECTORS)
    with contextlib.closing(Server(0)) as server:
        server.start(aws.application())
        with _moto_alone(server.url):
            aws.create_resources(declared, server.url)
            _fill(declared, server.url)
            yield Cloud(declared, server.url)


@contextlib.contextmanager
def _moto_alone(url: str) -> Iterator[None]:
    """Its state is one in all of this process: nobody's before, and nobody's after."""
    requests.post(f"{url}/moto-api/reset", timeout=15).raise_for_status()
    yield
    requests.post(f"{url}/moto-api/reset", timeout=15).raise_for_status()


def _fill(declared: Template, url: str) -> None:
    secrets, shopify = aws.client("secretsmanager", url), declared.stacks["ShopifyStack"]
    for stack, name, value in ((declared, "WebhookSecrets", SECRET), (shopify, "ConnectorSecret", CLIENT_SECRET)):
        secrets.put_secret_value(SecretId=stack.references[name]["Ref"], SecretString=value)
    aws.client("dynamodb", url).create_table(
        TableName=IDEMPOTENCY_TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
