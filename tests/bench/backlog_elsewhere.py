"""AWS and Pocketsflow for a function that works off a backlog: what is not the function's is in a process of its own.

Started by tests/bench/backlog.py. Makes so many orders of one that was bought by the real handlers, serves moto and the
fake Pocketsflow, starts tests/bench/backlog_function.py, which writes the file `results`, and ends with it.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from threading import Lock
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from payments import orders
from sandbox import aws
from sandbox import pocketsflow as fake
from sandbox.servers import Server
from sandbox.template import ROOT, Function
from sandbox.worker import lambda_environment
from tests.bench import endpoint
from tests.conftest import deployed_stack, template
from tests.simulation import motospeed
from tests.world import PRODUCTS, World, world

AGO = timedelta(minutes=5)
"""When all was paid: before the first run, and within what the shortest walk goes back."""


def main(what: str, number: int, results: str) -> None:
    start = datetime.now(UTC) - AGO
    [function] = [each for each in template().functions() if each.handler == f"{what}.handler"]
    with (
        deployed_stack() as stack,
        pytest.MonkeyPatch.context() as patch,
        world(stack, patch, start) as shop,
        contextlib.closing(Server(0)) as pocketsflow_server,
        tempfile.TemporaryDirectory() as folder,
    ):
        if what == "reconcile":
            pay_unheard(shop, number)
        else:
            with open(f"{folder}/batches", "w") as batches:
                batches.writelines(f"{json.dumps(batch)}\n" for batch in stream(shop, number, function))
        motospeed.speed_up(patch, motospeed.table_of(stack.table), written=lambda: None)
        pocketsflow_server.start(fake.application(shop.account))
        with endpoint.serving(application()) as aws_url:
            subprocess.run(
                [sys.executable, "-m", "tests.bench.backlog_function", what, str(number), f"{folder}/batches", results],
                cwd=ROOT,
                env={
                    **lambda_environment(function),
                    "AWS_ENDPOINT_URL": aws_url,
                    "POCKETSFLOW_URL": pocketsflow_server.url,
                    "EVERY_SECONDS": str(min([schedule.seconds for schedule in function.schedules], default=0)),
                    "RECONCILE_FROM": (start - AGO).isoformat(),
                },
                stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip


def pay_unheard(shop: World, number: int) -> None:
    """So many orders that are pending here and paid at Pocketsflow."""
    first, session = shop.checkout()
    table, opened = motospeed.table_of(shop.stack.table), json.dumps(shop.stack.order(first))
    fields, product = json.dumps(shop.account.sessions[session]), shop.account.products[PRODUCTS["course"]["productId"]]
    for _ in range(number):
        order_id = orders.new_id(shop.clock.now)
        table.put_item(json.loads(opened.replace(first, order_id)))
        shop.account.pay(shop.account.open_session(json.loads(fields.replace(first, order_id))), product)
    shop.lose_webhooks()
    # Its minute is on the wall, and the function's is not; the function is held to its pace by itself.
    shop.account.take_token = lambda: True  # type: ignore[method-assign]


def stream(shop: World, number: int, function: Function) -> Iterator[list[dict[str, Any]]]:
    """All that so many paid orders leave in the table's stream, as Lambda hands it over."""
    first, payment = shop.buy()
    shop.deliver()
    records = shop.read_stream()
    shop.relay(records)
    text = json.dumps(records + shop.read_stream())  # and what the relay writes, which comes by as well
    copies = (text.replace(first, orders.new_id(shop.clock.now)).replace(payment, fake.new_id()) for _ in range(number))
    flow = enumerate(record for copy in copies for record in json.loads(copy))
    [changes] = function.streams
    while batch := list(islice(flow, changes.batch_size)):
        for position, record in batch:
            record["dynamodb"]["SequenceNumber"] = str(position)
        yield [record for _, record in batch]


def application() -> WSGIApplication:
    """moto's, one request at a time, by the shortest way; a bus that takes all."""
    moto, alone = aws.application(), Lock()

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        _, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        with alone:
            text = _taken(body) if operation == "PutEvents" else motospeed.shortest(operation, body)
            if text is None:
                return moto({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
        content = text.encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(content)))]
        start_response("200 OK", headers)
        return [content]

    return serve


def _taken(body: bytes) -> str:
    entries = [{"EventId": str(number)} for number, _ in enumerate(json.loads(body)["Entries"])]
    return json.dumps({"FailedEntryCount": 0, "Entries": entries})
