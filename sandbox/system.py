"""Everything together: shop, API, provider and AWS, wired by template.yaml."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from sandbox import aws, pocketsflow, shop
from sandbox.gateway import Gateway
from sandbox.servers import Server
from sandbox.template import ROOT, Template
from sandbox.worker import Worker


@dataclass(frozen=True)
class Addresses:
    """Where the sandbox listens: three neighbouring ports from `--port` on."""

    shop: str
    api: str
    pocketsflow: str


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
def running(port: int) -> Iterator[Addresses]:
    """Starts the sandbox and ends it with the block; port 0 takes three free ports.

    Raises PortTaken, and RuntimeError for a function that does not start.
    """
    with ExitStack() as stack:

        def server(at: int, private: str | None = "/") -> Server:
            try:
                opened = Server(at, private)
            except OSError as error:
                raise PortTaken(f"port {at}: {error.strerror}") from None
            stack.callback(opened.close)
            return opened

        moto = server(0)
        shop_server = server(port, private=None)
        api_server = server(port and port + 1, private="/_sandbox/")  # its routes have CORS, by the template
        provider_server = server(port and port + 2)
        moto.start(aws.application())
        template = _template(shop_server)
        aws.create_resources(template, moto.url)
        aws.fill_secrets(template, moto.url)
        replaced = {"AWS_ENDPOINT_URL": moto.url, "POCKETSFLOW_URL": provider_server.url}
        workers = {}
        for function in template.functions():
            workers[function.logical_id] = Worker(function, replaced)
            stack.callback(workers[function.logical_id].close)
        for worker in workers.values():
            worker.wait_until_ready()
        api_server.start(Gateway(template, workers, _order_reader(template, moto.url)))
        products = catalogue() or {"sample": SAMPLE}
        webhook_url = f"{api_server.url}/webhooks/pocketsflow"
        provider_server.start(
            pocketsflow.create_app(provider_server.url, products, webhook_url, lambda: datetime.now(UTC))
        )
        shop_server.start(shop.create_app(api_server.url))
        yield Addresses(shop_server.url, api_server.url, provider_server.url)


def _template(shop_server: Server) -> Template:
    origins = [shop_server.url, f"http://localhost:{shop_server.port}"]
    parameters = {
        "Stage": "sandbox",
        "AllowedOrigins": ",".join(origins),
        "SuccessUrl": f"{origins[0]}/thank-you.html",
        "CancelUrl": f"{origins[0]}/cancel.html",
    }
    return Template((ROOT / "template.yaml").read_text(), parameters)


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
