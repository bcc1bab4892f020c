"""The hostile corpus over HTTP: the same answers through the gateway, from real handlers in processes of their own."""

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox import aws, pocketsflow
from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, shell

pytest.register_assert_rewrite("tests.hostile")
from tests import hostile
from tests.hostile import Answer, Case, Items, Request, Target

NOTHING_BY_ITSELF = """
from sandbox import __main__, background
background.Background.repeat = lambda *_, **__: None
__main__.main()
"""


@dataclass
class Ledger:
    """The sandbox's table, seen past all of its code; without the questions to reconciliation, which come with time."""

    client: Any
    table: str = "sandbox-Ledger"

    def items(self) -> Items:
        pages = self.client.get_paginator("scan").paginate(TableName=self.table)
        found = {item["pk"]["S"]: item for page in pages for item in page["Items"]}
        return {pk: item for pk, item in found.items() if not pk.startswith("reconcile#")}

    def put_back(self, before: Items) -> None:
        """The items of `before`, and no others."""
        now = self.items()
        for pk in now.keys() - before.keys():
            self.client.delete_item(TableName=self.table, Key={"pk": {"S": pk}})
        for pk, item in before.items():
            if now.get(pk) != item:
                self.client.put_item(TableName=self.table, Item=item)


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """One in which nothing happens but what is asked for: no relay and no reconciliation write between two looks."""
    process = subprocess.Popen(
        [sys.executable, "-c", NOTHING_BY_ITSELF, "--port", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=shell(),
    )  # fmt: skip
    assert process.stdout is not None
    running = Sandbox(*re.findall(r"http\S+", process.stdout.readline()), process)
    yield running
    assert running.end() == 0


@pytest.fixture(scope="session")
def client(shared_sandbox: Sandbox) -> Any:
    """DynamoDB where the sandbox's functions find it."""
    address = re.search(r"AWS_ENDPOINT_URL=(\S+)", shared_sandbox.environment_of_a_function())
    assert address is not None
    return aws.client("dynamodb", address[1])


@pytest.fixture(scope="session")
def pending_orders(shared_sandbox: Sandbox) -> dict[str, str]:
    """An order for each sku: made once, since Pocketsflow takes a hundred requests a minute; as good as new for each
    case, since the ledger is put back."""
    return {sku: shared_sandbox.checkout({"sku": sku}).json()["orderId"] for sku in hostile.CATALOGUE}


@pytest.fixture
def ledger(client: Any, pending_orders: dict[str, str]) -> Iterator[Ledger]:
    """The ledger, which is put back afterwards."""
    table = Ledger(client)
    before = table.items()
    yield table
    table.put_back(before)


@pytest.mark.parametrize("case", [case for case in hostile.CASES if not case.not_over_http], ids=attrgetter("name"))
def test_a_hostile_request_over_http(
    sandbox: Sandbox, ledger: Ledger, pending_orders: dict[str, str], case: Case
) -> None:
    """The answer and the ledger are as the corpus says; where no route leads anywhere the gateway says so."""
    at = Target(pending_orders[case.sku], case.sku, pocketsflow.WEBHOOK_SECRET, pocketsflow.API_KEY, sandbox.shop)
    for request in case.earlier(at):
        assert _send(sandbox, request).status < 300
    request = case.build(at)
    before = ledger.items()
    answer = _send(sandbox, request)
    after = ledger.items()
    if case.by_gateway:
        hostile.judge_gateway(at, request, answer, before, after)
    else:
        hostile.judge(case, at, request, answer, before, after)
    assert sandbox.status(at.order_id) == case.order


def _send(sandbox: Sandbox, request: Request) -> Answer:
    """As it is: no client that tidies paths, joins headers or adds its own."""
    address = urlsplit(sandbox.api)
    connection = http.client.HTTPConnection(f"{address.hostname}", address.port, timeout=30)
    connection.putrequest(request.method, request.path, skip_accept_encoding=True)
    for name, value in request.headers:
        connection.putheader(name, value.encode())
    if request.body or request.method == "POST":
        connection.putheader("Content-Length", str(len(request.body)))
    connection.putheader("Connection", "close")
    connection.endheaders(request.body)
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    found = Answer(answer.status, headers, answer.read())
    connection.close()
    return found
