"""Orders in the ledger, and functions in processes of their own against AWS over HTTP."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from urllib3.util import parse_url

from payments import secrets
from sandbox import aws, pocketsflow
from sandbox.servers import Server
from sandbox.worker import lambda_environment
from tests.conftest import Aws, Provider, deployed_stack, template
from tests.connected import Line, connected
from tests.dynalite import dynalite
from tests.environments import Environments, Kill, Run, operation
from tests.integration.outages import Outages, Told, outages_of
from tests.payloads import NOW, PRODUCT, delivery, http_event
from tests.public import Site, served
from tests.world import Clock as WorldClock
from tests.world import World, world

COURSE = "000000000000000000c0ffee"
"""What the sample catalogue's course is at Pocketsflow."""

pytest.register_assert_rewrite("tests.integration.ledger_model")
from tests.integration.ledger_model import SECONDS, Clock


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
    assert opened == ledger.Opened(order.id, order.item.product_id)
    return order.id


@pytest.fixture
def wire(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Requests that leave for AWS and Pocketsflow, tries included, in order."""
    import relay
    import webhook
    from payments import pocketsflow, secrets, table

    sent: list[str] = []
    urlopen = pocketsflow._http.urlopen

    def note(request: Any, **_: Any) -> None:
        sent.append(operation(request))

    def note_and_send(method: str, url: str, **options: Any) -> Any:
        sent.append(f"{method} {parse_url(url).request_uri}")
        return urlopen(method, url, **options)

    clients: list[Any] = [table.client, secrets._client, webhook._queue, relay._bus]
    for client in clients:
        client.meta.events.register_first("before-send", note)
    monkeypatch.setattr(pocketsflow._http, "urlopen", note_and_send)
    yield sent
    for client in clients:
        client.meta.events.unregister("before-send", note)


@dataclass
class Deployment:
    """Functions that run in processes of their own, as on Lambda, against AWS and Pocketsflow over HTTP."""

    ledger: Any
    provider: Provider
    _functions: dict[str, Environments]
    _create_tables: Callable[[], None]

    def run(self, module: str, *events: Any, kill: Kill | None = None) -> list[Run]:
        """All events at once, each in an environment of its own."""
        return self._functions[module].run(events, kill)

    def status(self, order_id: str) -> str:
        [run] = self.run("checkout", http_event(f"GET /orders/{order_id}"))
        return str(run.content["status"])

    def orders(self) -> list[str]:
        """Their ids."""
        return [pk.removeprefix("order#") for pk in self.items() if pk.startswith("order#")]

    def clear(self) -> None:
        """An empty ledger: moto copies all of it, and all of its stream, for each transaction."""
        self.ledger.delete_table(TableName="sandbox-Ledger")
        self.ledger.get_waiter("table_not_exists").wait(TableName="sandbox-Ledger", WaiterConfig={"Delay": 0.01})
        self._create_tables()

    def items(self) -> dict[str, dict[str, Any]]:
        return {item["pk"]["S"]: item for item in self.ledger.scan(TableName="sandbox-Ledger")["Items"]}


def signed(content: dict[str, Any], name: str = "") -> dict[str, Any]:
    """A webhook for a Deployment; the body's own name unless another is given."""
    return delivery(content, name or content["event"], secret=pocketsflow.WEBHOOK_SECRET)


def outcomes(runs: Sequence[Run]) -> Counter[str]:
    """How often each was answered."""
    return Counter(run.outcome for run in runs)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """On moto, one request at a time; where a test says so on dynalite, which is atomic by itself."""
    with ExitStack() as stack:
        on_dynalite = getattr(request, "param", "moto") == "dynalite"
        url = stack.enter_context(dynalite(request.getfixturevalue("node"))) if on_dynalite else None
        yield stack.enter_context(deployed(url))


@pytest.fixture
def deployment(running: Deployment) -> Deployment:
    """With an empty ledger."""
    running.clear()
    return running


@contextmanager
def deployed(dynamodb_url: str | None = None, api: Any = None) -> Iterator[Deployment]:
    """The sandbox's stage, with patience: nothing here is about time. `api` is a WSGI application in the provider's
    place."""
    with ExitStack() as stack:

        def serve(application: Any) -> str:
            server = Server(0)
            server.start(application)
            stack.callback(server.close)
            return server.url

        provider, moto_url = Provider(), serve(aws.application())
        requests.post(f"{moto_url}/moto-api/reset", timeout=15).raise_for_status()  # one state in all of this process
        stage = template(Stage="sandbox")
        aws.create_resources(stage, moto_url)
        aws.fill_secrets(stage, moto_url)
        if dynamodb_url:
            aws.create_tables(stage, dynamodb_url)
        environment = {
            "PATIENCE": "20",
            "AWS_ENDPOINT_URL": moto_url,
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url or moto_url,
            "POCKETSFLOW_URL": serve(api or provider),
        }
        functions = {}
        for function in template(Stage="sandbox", Mode="live").functions()[-1:] + stage.functions():  # with preflight
            module = function.handler.partition(".")[0]
            functions[module] = Environments(module, {**lambda_environment(function), **environment})
            stack.callback(functions[module].close)
        ledger_url = dynamodb_url or moto_url
        ledger = aws.client("dynamodb", ledger_url)
        yield Deployment(ledger, provider, functions, lambda: aws.create_tables(stage, ledger_url))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The functions' time, which stands still until a test lets it pass. No ledger is given up for a busy machine."""
    import checkout
    import webhook

    clock = Clock()
    for module in (webhook, checkout):
        monkeypatch.setattr(module, "datetime", clock)
    monkeypatch.setattr(webhook, "LEDGER_SECONDS", SECONDS)
    return clock


@pytest.fixture
def shop(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A shop whose first reconciliation has been; five minutes later."""
    with world(cloud, monkeypatch, NOW) as made:
        made.reconcile()
        made.requests.clear()
        made.clock.passes(minutes=5)
        yield made


@pytest.fixture
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Line]]:
    """Connects a connector to its platform: tests/connected.py. `clock` is a world's, where there is one; its stack is
    the test's own then, and else one for the module."""
    cloud = request.getfixturevalue("cloud" if "cloud" in request.fixturenames else "emptied")
    with ExitStack() as opened:

        def make(module: Any, platform: Any, clock: Any = None, **constants: Any) -> Line:
            clock = clock or WorldClock(NOW)
            named = platform.stack, dict(platform.parameters)
            return opened.enter_context(connected(cloud, monkeypatch, clock, module, platform, *named, **constants))

        yield make


@pytest.fixture
def outages(shop: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outages]:
    """The shop's AWS, which does as the test says."""
    with outages_of(shop, monkeypatch) as made:
        yield made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """What the functions print."""
    return Told(monkeypatch, capsys)


@pytest.fixture(scope="module")
def made_once() -> Iterator[Aws]:
    """For a module of hundreds of tests: with a stack for each most of the time would be spent on making stacks."""
    with deployed_stack() as made:
        yield made


@pytest.fixture
def emptied(made_once: Aws) -> Iterator[Aws]:
    """The stack with an empty ledger, and no secret known."""
    secrets._copies.clear()
    yield made_once
    made_once.clear()


@pytest.fixture(scope="module")
def running_stack() -> Iterator[Any]:
    from tests.integration.processes import stack_in_processes  # here, because it imports this module

    with stack_in_processes() as stack:
        yield stack


@pytest.fixture
def stack(running_stack: Any) -> Any:
    """In processes (tests/integration/processes.py): an empty ledger and an account without a sale, after its first
    reconciliation. Not for a module whose tests use `cloud`, which empties moto for all of this process."""
    running_stack.clear()
    assert running_stack.reconcile({"walk": "recent"})["outcome"] == "done"
    return running_stack


@pytest.fixture
def site(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A shop behind its public address; no endpoint at Pocketsflow leads here."""
    with world(cloud, monkeypatch, NOW) as shop, served(shop, monkeypatch) as made:
        yield made
