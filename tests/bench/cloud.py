"""AWS for execution environments that are measured: moto in this process, with the resources of a live stack that has
every connector, the secrets that it cannot answer without, and orders that wait for their payment."""

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import requests

from sandbox import aws
from sandbox.platforms.shopify import CLIENT_SECRET
from sandbox.template import ROOT, Template
from sandbox.worker import lambda_environment
from tests.bench import baselines, endpoint
from tests.conftest import CONNECTORS, template
from tests.payloads import SECRET

AT_ONCE = 25
"""Items of one BatchWriteItem."""
DYNAMODB, SECRETS = "DynamoDB_20120810", "secretsmanager"
"""As the header names them."""


class Wire:
    """A WSGI application in front of AWS's, which counts requests by service."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._seen: Counter[str] = Counter()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._seen[environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[0]] += 1
        return self._application(environ, start_response)

    def take(self) -> Counter[str]:
        """Those since the last look."""
        seen, self._seen = self._seen, Counter()
        return seen


class Caller:
    """A process that calls a handler (tests/bench/caller.py)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        reader, writer = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [*command, str(writer)],
            env=environment, cwd=ROOT, pass_fds=[writer], stdin=subprocess.PIPE, stdout=self._log, text=True,
        )  # fmt: skip
        os.close(writer)
        self._answers = os.fdopen(reader)

    def tell(self, **call: Any) -> dict[str, Any]:
        """Its answer, and how many bytes were `logged`."""
        assert self._process.stdin is not None
        logged = os.fstat(self._log.fileno()).st_size
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        if not (line := self._answers.readline()):
            raise RuntimeError(f"ended: {self._process.args}")
        return {**json.loads(line), "logged": os.fstat(self._log.fileno()).st_size - logged}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._answers.close()
        self._log.close()


class Cloud:
    """`functions` are those of the template, by module; `wire` is what their requests come over."""

    def __init__(self, declared: Template, url: str, wire: Wire) -> None:
        self.url, self.wire = url, wire
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
        return {**lambda_environment(self.functions[module]), "AWS_ENDPOINT_URL": self.url}

    def environment_of_baseline(self) -> dict[str, str]:
        webhook = self.functions["webhook"]
        told = {name: webhook.environment[name] for name in ("TABLE_NAME", "WEBHOOK_SECRETS_ARN")}
        return {**baselines.environment(webhook, told), "AWS_ENDPOINT_URL": self.url}

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

    def parked(self) -> list[str]:
        """Bodies that wait in the parking queue."""
        sqs, bodies = aws.client("sqs", self.url), []
        queue = self.functions["webhook"].environment["PARKING_URL"]
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            bodies += [base64.b64decode(json.loads(message["Body"])["body"]).decode() for message in messages]
        return bodies

    def _opened(self) -> str:
        """By the ledger's own code, in a process of its own."""
        command = (sys.executable, "-m", "tests.bench.caller", "webhook")
        with contextlib.closing(Caller(command, self.environment("webhook"))) as caller:
            [order_id] = caller.tell(open=1)["orders"]
        return order_id


@contextlib.contextmanager
def running() -> Iterator[Cloud]:
    declared = template(Mode="live", **CONNECTORS)
    wire = Wire(aws.application())
    with endpoint.serving(wire) as url, _moto_alone(url):
        aws.create_resources(declared, url)
        _fill(declared, url)
        yield Cloud(declared, url, wire)


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
        TableName=baselines.IDEMPOTENCY_TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
