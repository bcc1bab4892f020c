"""The environment that the template gives the functions, set before any of them is imported, and AWS by moto."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import moto  # before any client is made: only then are clients of modules intercepted
import pytest
from hypothesis import HealthCheck, settings
from werkzeug.wrappers import Request

from sandbox import aws
from sandbox.servers import Server
from sandbox.template import ROOT, Template
from tests.payloads import API_KEY, SECRET

PARAMETERS = {
    "Stage": "test",
    "Mode": "test",
    "AllowedOrigins": "https://shop.example,http://localhost:8000",
    "SuccessUrl": "https://shop.example/thank-you",
    "CancelUrl": "https://shop.example/cart",
}


# The same examples in CI every time; a busy machine is slow, and that is no failure.
EXAMPLES = settings(
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def template(**parameters: str) -> Template:
    read = Template((ROOT / "template.yaml").read_text(), {**PARAMETERS, **parameters})
    read.references = {name: {"Ref": f"sandbox-{name}"} for name in ("Ledger", "ApiKey", "WebhookSecrets")}
    return read


for _function in template(Mode="live").functions() + template().functions():
    os.environ.update(_function.environment)
os.environ |= {
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
    """moto's DynamoDB and Secrets Manager with the template's resources."""

    dynamodb: Any
    secrets: Any
    table: str = "sandbox-Ledger"

    def put_secret(self, name: str, value: str) -> None:
        self.secrets.put_secret_value(SecretId=f"sandbox-{name}", SecretString=value)

    def items(self) -> dict[str, dict[str, Any]]:
        return {item["pk"]["S"]: item for item in self.dynamodb.scan(TableName=self.table)["Items"]}

    def order(self, order_id: str) -> dict[str, Any]:
        return self.items()[f"order#{order_id}"]

    def clear(self) -> None:
        for pk in self.items():
            self.dynamodb.delete_item(TableName=self.table, Key={"pk": {"S": pk}})


def holds(item: dict[str, Any], body: bytes) -> bool:
    """Whether an item of the ledger has these very bytes: beside a fact of its own, or as the whole of it."""
    inline = [value["M"]["raw"]["B"] for value in item.values() if "raw" in value.get("M", {})]
    return body in [*inline, item.get("body", {}).get("B")]


@contextlib.contextmanager
def deployed_stack() -> Iterator[Aws]:
    """As it is after set-up: resources of the template, both secrets filled, nothing cached."""
    from payments import secrets

    with moto.mock_aws():
        aws.create_resources(template())
        stack = Aws(aws.client("dynamodb", None), aws.client("secretsmanager", None))
        stack.put_secret("ApiKey", API_KEY)
        stack.put_secret("WebhookSecrets", SECRET)
        secrets._copies.clear()
        yield stack
        secrets._copies.clear()


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
    delay_seconds: float = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.received.append(request.get_json())
        self.authorizations.append(request.headers["Authorization"])
        time.sleep(self.delay_seconds)
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        start_response(f"{self.status} .", [("Content-Type", "application/json"), *self.headers.items()])
        return [body.encode()]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    from payments import pocketsflow

    served = Provider()
    server = Server(0)
    server.start(served)
    served.url = server.url
    monkeypatch.setattr(pocketsflow, "URL", server.url)
    yield served
    server.close()


@pytest.fixture(scope="session")
def node() -> str:
    modules = ROOT / "tests/e2e/node_modules"
    if (path := shutil.which("node")) and all((modules / name).is_dir() for name in ("dynalite", "pocketsflow")):
        return path
    pytest.skip("needs node and `npm ci` in tests/e2e (make test does it where npm is)")
