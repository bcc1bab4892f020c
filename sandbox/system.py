"""Everything together: shop, API, provider and AWS, wired by template.yaml."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from sandbox import aws, faults, platforms, pocketsflow, schedules, shop
from sandbox.background import Background
from sandbox.bus import Published, RulePump
from sandbox.challenge import Verifier
from sandbox.control import Control
from sandbox.deployed import Deployed
from sandbox.figures import Figures
from sandbox.gateway import Gateway
from sandbox.orders_view import Judge, Ledger, OrdersView
from sandbox.pages import Pages
from sandbox.platforms import Platform
from sandbox.queues import QueuePoller
from sandbox.servers import Server
from sandbox.streams import StreamPoller
from sandbox.template import ROOT, Function, Template
from sandbox.worker import Worker

PATIENCE = 10
"""Instead of the template's: a busy laptop pauses for longer than an AWS endpoint does. What waits for those who have
patience now (a function's Timeout, Pocketsflow for its webhook) grows with it, or a ledger that is down would no longer
be noticed in time to park a body."""

FIGURES_SECONDS = 1.0
"""From one look at what the functions counted to the next."""

STATUS_ROUTE = ("GET", "/orders/{orderId}")
"""Its function has the environment that the functions' code wants to say what an order is."""


@dataclass(frozen=True)
class Addresses:
    """Where the sandbox listens: neighbouring ports from `--port` on."""

    shop: str
    api: str
    pocketsflow: str
    aws: str
    platforms: str = ""
    """What the connectors speak to; empty where none is on."""
    connected: Mapping[str, Platform] = field(default_factory=dict)
    """By the connector's name."""


SAMPLE: pocketsflow.Product = {
    "productId": "000000000000000000c0ffee",
    "name": "Serverless in an Afternoon",
    "price": "49.00",
    "currency": "usd",
}
"""What the fake Pocketsflow sells to a shop without a catalogue."""


def catalogue() -> dict[str, pocketsflow.Product]:
    """The shop's products by sku, as the functions read them; none when there is no file."""
    path = ROOT / "functions" / "catalogue.json"
    products: dict[str, pocketsflow.Product] = json.loads(path.read_text())["products"] if path.exists() else {}
    return products


class PortTaken(Exception):
    """Something else listens on a port of the sandbox; choose another."""


@contextmanager
def running(
    port: int,
    failing: Mapping[str, Mapping[str, Any]] | None = None,
    parameters: Mapping[str, str] | None = None,
    connectors: Iterable[str] = (),
) -> Iterator[Addresses]:
    """Starts the sandbox and ends it with the block; port 0 takes free ones. `failing` has the first faults by service,
    as in sandbox/faults.py; Pocketsflow is one of them. `parameters` are the template's. `connectors` are on, and what
    they speak to is there, by their names.

    Raises PortTaken, ValueError for a parameter that the template does not have or a connector that there is not, and
    RuntimeError for a function that does not start.
    """
    with ExitStack() as stack:

        def server(at: int, private: str | None = "/") -> Server:
            try:
                opened = Server(at, private)
            except OSError as error:
                raise PortTaken(f"port {at}: {error.strerror}") from None
            stack.callback(opened.close)
            return opened

        shop_server = server(port, private=None)
        api_server = server(port and port + 1, private="/_sandbox/")  # its routes have CORS, by the template
        provider_server = server(port and port + 2)
        aws_server = server(port and port + 3)
        at, connected = _platforms(connectors, lambda: server(port and port + 4))

        aws_faults = faults.Faults()
        template = _template(shop_server, {**platforms.switches(connected), **(parameters or {})})
        workers, background = _Workers(), Background()
        deployed = Deployed(template.parameters())
        aws_server.start(faults.failing(deployed.beside(aws.application()), aws_faults))
        aws.create_resources(template, aws_server.url)
        aws.fill_secrets(template, aws_server.url, platforms.secrets(connected))
        clients = {name: aws.client(name, aws_server.url) for name in ("events", "s3", "sqs", "cloudwatch")}
        published, figures = (
            Published(_buses(template), clients["events"], clients["sqs"]),
            Figures(clients["cloudwatch"]),
        )

        functions = [_patient(platforms.connected(function, connected)) for function in template.functions()]
        environment = {"AWS_ENDPOINT_URL": aws_server.url, "POCKETSFLOW_URL": provider_server.url}
        if any(function.environment.get("CHALLENGE_URL") for function in functions):
            environment["CHALLENGE_URL"] = f"{api_server.url}/_sandbox/siteverify"
        judge = Judge(next(each for each in functions if STATUS_ROUTE in each.routes), environment)

        def end() -> None:
            background.stop()
            workers.close()  # and what the background waits for is over
            judge.close()
            background.join()

        stack.callback(end)
        workers.start(functions, environment, figures.hear)
        aws.create_alarms(template, aws_server.url)
        deployed.invoke = {name: worker.invoke for name, worker in workers.of_sources.items()}
        deployed.outputs = {**template.outputs(), **_own_outputs(api_server.url, provider_server.url)}

        account = pocketsflow.Account(
            provider_server.url,
            catalogue() or {"sample": SAMPLE},
            f"{api_server.url}/webhooks/pocketsflow",
            lambda: datetime.now(UTC),
            delivery_timeout=pocketsflow.DELIVERY_TIMEOUT * PATIENCE,
        )
        view = OrdersView(Ledger(template.references["Ledger"]["StreamArn"], judge), account, published)
        read_order = _order_reader(template, aws_server.url)
        pages = Pages(shop_server.url)
        control = Control(workers.of_requests, read_order, published, aws_faults, view, pages, Verifier())
        api_server.start(Gateway(template, workers.of_requests, control))
        provider_server.start(pocketsflow.application(account))
        shop_server.start(shop.create_app(api_server.url, provider_server.url, shop_server.url))

        _begin_faults(failing or {}, account, aws_faults)
        background.repeat(published.poll)
        background.repeat(figures.poll, FIGURES_SECONDS)
        _feed(functions, workers, background, clients)

        yield Addresses(shop_server.url, api_server.url, provider_server.url, aws_server.url, at, connected)


def _platforms(names: Iterable[str], server: Callable[[], Server]) -> tuple[str, dict[str, Platform]]:
    """Their address, and they by name; "" for none."""
    wanted = list(names)
    if not wanted:
        return "", {}
    at = server()
    made = platforms.make(wanted, at.url)
    at.start(platforms.application(made))
    return at.url, made


def _buses(template: Template) -> list[str]:
    return [template.references[name]["Ref"] for name, _ in template.resources("AWS::Events::EventBus")]


def _begin_faults(
    failing: Mapping[str, Mapping[str, Any]], account: pocketsflow.Account, of_aws: faults.Faults
) -> None:
    wanted = dict(failing)
    if fault := wanted.pop("pocketsflow", None):
        account.set_faults({**faults.POCKETSFLOW[fault["kind"]], "seconds": fault["seconds"]})
    of_aws.replace(wanted)


def _feed(functions: list[Function], workers: "_Workers", background: Background, clients: Mapping[str, Any]) -> None:
    """What comes to functions by itself: streams, queues, rules and schedules."""
    for function in functions:
        worker = workers.of_sources[function.logical_id]
        for stream in function.streams:
            background.repeat(StreamPoller(function, stream, worker, clients["s3"]).poll)
        for queue in function.queues:
            background.repeat(QueuePoller(queue, worker, clients["sqs"]).poll)
        for rule in function.rules:
            background.repeat(RulePump(function, rule, worker, clients["events"], clients["sqs"]).poll)
        schedules.start(function, worker, background)


class _Workers:
    """The functions, running: {logical id: worker}. One with routes has a second environment for its other sources, so
    that no request waits for a queue or a stream: on AWS it would not."""

    def __init__(self) -> None:
        self.of_requests: dict[str, Worker] = {}
        self.of_sources: dict[str, Worker] = {}

    def start(self, functions: list[Function], environment: Mapping[str, str], hear: Callable[[str], None]) -> None:
        """`hear` is told every line that they print. Raises RuntimeError for a function that does not start."""
        for function in functions:
            first = second = Worker(function, environment, hear=hear)
            self.of_requests[function.logical_id] = first
            if function.routes and (function.streams or function.queues or function.schedules or function.rules):
                second = Worker(function, environment, first.logs, hear)
            self.of_sources[function.logical_id] = second
        for worker in self._all():
            worker.wait_until_ready()

    def close(self) -> None:
        for worker in self._all():
            worker.close()

    def _all(self) -> list[Worker]:
        return list(dict.fromkeys([*self.of_requests.values(), *self.of_sources.values()]))


def _patient(function: Function) -> Function:
    """With the sandbox's patience, and time for it."""
    own = int(function.environment.get("PATIENCE", PATIENCE))
    return replace(
        function,
        environment={**function.environment, "PATIENCE": str(PATIENCE)},
        timeout=function.timeout * max(PATIENCE, own) // own,
    )


def _template(shop_server: Server, given: Mapping[str, str]) -> Template:
    origins = [shop_server.url, f"http://localhost:{shop_server.port}"]
    parameters = {
        "Stage": "sandbox",
        "AllowedOrigins": ",".join(origins),
        "SuccessUrl": f"{origins[0]}/thank-you.html",
        "CancelUrl": f"{origins[0]}/cancel.html",
        "MemberPage": f"{origins[0]}/members.html",
        "ServerRoutes": "on",
        "ProductPerOrder": "on",
        "CheckoutsPerAddress": "0",  # all buyers of a laptop have one address
        **given,
    }
    return Template((ROOT / "template.yaml").read_text(), parameters)


def _own_outputs(api: str, provider: str) -> dict[str, str]:
    """Where everything is here, and a name more: on AWS Pocketsflow's address is everybody's."""
    return {"ApiUrl": api, "WebhookUrl": f"{api}/webhooks/pocketsflow", "PocketsflowUrl": provider}


def _order_reader(template: Template, endpoint: str) -> Any:
    dynamodb, plain = aws.client("dynamodb", endpoint), TypeDeserializer()
    table = template.references["Ledger"]["Ref"]

    def read(order_id: str) -> dict[str, Any] | None:
        item = dynamodb.get_item(TableName=table, Key={"pk": {"S": f"order#{order_id}"}}).get("Item")
        if item is None:
            return None
        record: dict[str, Any] = json.loads(
            json.dumps({name: plain.deserialize(value) for name, value in item.items()}, default=_readable)
        )
        return record

    return read


def _readable(value: Any) -> Any:
    """Numbers of the ledger are counts; bodies are bytes."""
    return bytes(value).decode(errors="replace") if hasattr(value, "value") else int(value)
