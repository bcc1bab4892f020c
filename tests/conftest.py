"""The environment that the template gives the functions, set before any of them is imported, and AWS by moto."""

import base64
import contextlib
import copy
import functools
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import botocore.session
import moto  # before any client is made: only then are clients of modules intercepted
import pytest
from hypothesis import HealthCheck, settings
from moto.core.models import botocore_stubber
from moto.sqs.models import sqs_backends
from werkzeug.wrappers import Request

from sandbox import aws
from sandbox.servers import Server
from sandbox.template import ROOT, Template
from tests import shortcuts
from tests.payloads import API_KEY, SECRET

PARAMETERS = {
    "Stage": "test",
    "Mode": "test",
    "AllowedOrigins": "https://shop.example,http://localhost:8000",
    "SuccessUrl": "https://shop.example/thank-you",
    "CancelUrl": "https://shop.example/cart",
    "ServerRoutes": "on",
    "ProductPerOrder": "on",
    "CheckoutsPerAddress": "0",
}


# The same examples in CI every time; a busy machine is slow, and that is no failure.
EXAMPLES = settings(
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# What AWS's services are is read once for all sessions, of which each test and each command of `pf` has some.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
shortcuts.take()


def template(**parameters: str) -> Template:
    read = copy.copy(_template(**parameters))
    read.stacks = {}
    read.references = {name: {"Ref": f"sandbox-{name}"} for name in ("Ledger", "ApiKey", "WebhookSecrets")}
    read.references["Parking"] = {"Ref": f"https://sqs.{aws.REGION}.amazonaws.com/{aws.ACCOUNT}/sandbox-Parking"}
    read.references["Unpublished"] = {"Ref": "sandbox-unpublished"}
    read.references["Bus"] = {"Ref": "pocketsflow-test"}
    return read


@functools.cache
def _template(**parameters: str) -> Template:
    return Template((ROOT / "template.yaml").read_text(), {**PARAMETERS, **parameters})


CONNECTORS = {
    "StorefrontUrl": "https://storefront.example/webhooks",
    "ShopifyShop": "shop-example.myshopify.com",
    "WooCommerceUrl": "https://woocommerce.example",
    "Membership": "on",
    "MemberMailFrom": "members@shop.example",
    "Feed": "on",
    "NoticesTo": "merchant@shop.example",
    "NoticesFrom": "pay@shop.example",
}
"""Parameters with which every connector is on."""


def _environment_of_all() -> dict[str, str]:
    """One process has all functions: what connectors are told differently, a test that connects one says."""
    found: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for function in [
        *template(**CONNECTORS).functions(),
        *template(Mode="live").functions(),
        *template().functions(),
    ]:
        found |= function.environment
        settings |= json.loads(function.environment.get("SETTINGS", "{}"))
    return found | {"SETTINGS": json.dumps(settings)}


os.environ |= _environment_of_all()
os.environ |= {
    "PATIENCE": "1",  # of the functions that somebody waits for
    "AWS_DEFAULT_REGION": aws.REGION,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def pytest_configure(config: pytest.Config) -> None:
    (ROOT / "artifacts").mkdir(exist_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """In CI everything is there: what would skip elsewhere fails."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@dataclass
class Aws:
    """moto with the template's resources, and a queue of the tests' own behind the bus."""

    dynamodb: Any
    secrets: Any
    sqs: Any
    events: Any
    s3: Any
    table: str = "sandbox-Ledger"
    parking_url: str = ""
    bus: str = ""
    bucket: str = ""

    def put_secret(self, name: str, value: str) -> None:
        self.secrets.put_secret_value(SecretId=f"sandbox-{name}", SecretString=value)

    def items(self) -> dict[str, dict[str, Any]]:
        return {item["pk"]["S"]: item for item in self.dynamodb.scan(TableName=self.table)["Items"]}

    def order(self, order_id: str) -> dict[str, Any]:
        return self.items()[f"order#{order_id}"]

    def parked_messages(self) -> list[dict[str, str]]:
        """What lies in the Parking queue, oldest first, as Lambda hands it to the webhook; it stays there."""
        return [{"messageId": message.id, "body": message.body} for message in _messages(self.parking_url)]

    def parked(self) -> list[bytes]:
        """The bodies of webhooks in the Parking queue, oldest first."""
        return [base64.b64decode(json.loads(message["body"])["body"]) for message in self.parked_messages()]

    def unpark(self, handler: Any, context: Any) -> list[str]:
        """Hands all of the Parking queue to the webhook at once, as Lambda does, and deletes what it does not name as
        failed; the ids of those that failed."""
        messages = self.parked_messages()
        if not messages:
            return []
        answer = handler({"Records": messages}, context)
        failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        assert answer == {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}
        assert {*failed} <= {message["messageId"] for message in messages}
        queue = _queue(self.parking_url)
        queue._messages = [message for message in queue._messages if message.id in failed]
        return failed

    def published(self) -> list[dict[str, Any]]:
        """Envelopes of all events that the bus has taken, oldest first; `detail` is parsed."""
        return [json.loads(message.body) for message in _messages(_PUBLISHED)]

    def clear(self) -> None:
        """An empty ledger, and nothing parked or published."""
        for pk in self.items():
            self.dynamodb.delete_item(TableName=self.table, Key={"pk": {"S": pk}})
        for url in (self.parking_url, _PUBLISHED):
            _queue(url)._messages.clear()


_PUBLISHED = "tests-published"
_CATCH_ALL = json.dumps({"source": [{"prefix": ""}]})


def _queue(url: str) -> Any:
    """moto's own: receiving would hide what lies in it."""
    return sqs_backends[aws.ACCOUNT][aws.REGION].queues[url.rpartition("/")[2]]


def _messages(url: str) -> list[Any]:
    return list(_queue(url)._messages)


def _keep_published(stack: Aws) -> None:
    """A rule that has everything that the bus takes put into a queue."""
    url = stack.sqs.create_queue(QueueName=_PUBLISHED)["QueueUrl"]
    arn = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    stack.events.put_rule(Name=_PUBLISHED, EventBusName=stack.bus, EventPattern=_CATCH_ALL)
    # Without a template moto makes the event anew, and not as it is.
    as_it_is = {"InputPathsMap": {"id": "$.id"}, "InputTemplate": "<aws.events.event.json>"}
    target = {"Id": "queue", "Arn": arn, "InputTransformer": as_it_is}
    stack.events.put_targets(Rule=_PUBLISHED, EventBusName=stack.bus, Targets=[target])


def holds(item: dict[str, Any], body: bytes) -> bool:
    """Whether an item of the ledger has these very bytes: beside a fact of its own, or as the whole of it."""
    inline = [value["M"]["raw"]["B"] for value in item.values() if "raw" in value.get("M", {})]
    return body in [*inline, item.get("body", {}).get("B")]


@contextlib.contextmanager
def deployed_stack() -> Iterator[Aws]:
    """As it is after set-up: resources of the template, both secrets filled, nothing cached, nobody has asked."""
    import checkout
    from payments import secrets

    with moto.mock_aws(), one_at_a_time():
        declared = template()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aws, "client", lambda service, _: _client(service))
            aws.create_resources(declared)
        named = {name: resource.get("Ref", "") for name, resource in declared.references.items()}
        stack = Aws(
            *(_client(service) for service in ("dynamodb", "secretsmanager", "sqs", "events", "s3")),
            parking_url=named["Parking"],
            bus=named["Bus"],
            bucket=named["Unpublished"],
        )
        _keep_published(stack)
        stack.put_secret("ApiKey", API_KEY)
        stack.put_secret("WebhookSecrets", SECRET)
        secrets._copies.clear()
        checkout._asked_at = datetime.min.replace(tzinfo=UTC)
        yield stack
        secrets._copies.clear()


_make_client = aws.client


@functools.cache
def _client(service: str) -> Any:
    return _make_client(service, None)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """moto's conditional writes are atomic in one thread only: requests of several threads wait for each other."""
    alone, answer = threading.RLock(), type(botocore_stubber).__call__

    def answer_alone(*request: Any, **more: Any) -> Any:
        with alone:
            return answer(*request, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(botocore_stubber), "__call__", answer_alone)
        yield


def use_dynamodb(patch: pytest.MonkeyPatch, client: Any) -> None:
    """Puts another client in the place of the ledger's, in every module that has it."""
    from payments import table

    having = [module for name, module in sys.modules.items() if name.startswith("payments.")]
    for module in [module for module in having if getattr(module, "client", None) is table.client]:
        patch.setattr(module, "client", client)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a test sets is not set for the next one, nor what `pf` has set in a fixture of a whole module."""
    for name in ("POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_INITIALIZATION_TYPE"):
        os.environ.pop(name, None)
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
    if "payments.metrics" in sys.modules:  # figures that nobody has written, as those of `pf`
        sys.modules["payments.metrics"].clear()


@pytest.fixture
def cloud() -> Iterator[Aws]:
    """A stack of the test's own."""
    with deployed_stack() as stack:
        yield stack


@dataclass
class Provider:
    """Pocketsflow's `POST /checkout/sessions`, saying whatever a test wants it to say."""

    url: str = ""
    status: int = 201
    body: Any = field(default_factory=lambda: {"id": "cs_1", "url": "https://shop.pocketsflow.com/checkout?s=1"})
    headers: dict[str, str] = field(default_factory=dict)
    at_first: list[int] = field(default_factory=list)
    """Statuses of the next answers, before `status`."""
    delay_seconds: float = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    """Before second tries, in seconds; nobody waits for them here."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.received.append(request.get_json())
        self.authorizations.append(request.headers["Authorization"])
        time.sleep(self.delay_seconds)
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        status = self.at_first.pop(0) if self.at_first else self.status
        start_response(f"{status} .", [("Content-Type", "application/json"), *self.headers.items()])
        return [body.encode()]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    from payments import pocketsflow

    served = Provider()
    server = Server(0)
    server.start(served)
    served.url = server.url
    monkeypatch.setattr(pocketsflow, "URL", server.url)
    monkeypatch.setattr(pocketsflow, "time", served)
    yield served
    server.close()


@pytest.fixture(scope="session")
def node() -> str:
    modules = ROOT / "tests/e2e/node_modules"
    if (path := shutil.which("node")) and all((modules / name).is_dir() for name in ("dynalite", "pocketsflow")):
        return path
    pytest.skip("needs node and `npm ci` in tests/e2e (make test does it where npm is)")
