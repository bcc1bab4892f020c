"""What the bench measures beside our functions does the job that it is said to do."""

import importlib
import json
from types import ModuleType

import pytest

from tests.bench import baselines
from tests.bench.deliveries import Context, payment, post
from tests.conftest import Aws, Provider, template
from tests.payloads import PRODUCT

ORDER = "ord_test_1"
RECEIVERS = [*baselines.PYTHON.values()]


@pytest.fixture
def told(cloud: Aws, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """A stack with an order, and an environment for baselines that leads to it."""
    [webhook] = [function for function in template().functions() if function.handler == "webhook.handler"]
    resources = {
        "TABLE_NAME": cloud.table,
        "WEBHOOK_SECRETS_ARN": "sandbox-WebhookSecrets",
        "POCKETSFLOW_API": provider.url,
    }
    for name, value in baselines.environment(webhook, resources).items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    cloud.dynamodb.create_table(
        TableName="idempotency",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    cloud.dynamodb.put_item(TableName=cloud.table, Item={"pk": {"S": f"order#{ORDER}"}})
    return cloud


def baseline(module: str) -> ModuleType:
    return importlib.import_module(f"tests.bench.baselines.{module}")


@pytest.mark.parametrize("module", RECEIVERS)
def test_a_payment_is_written_to_its_order(told: Aws, module: str) -> None:
    """Once it has come, and once more when it comes again."""
    for _ in range(2):
        assert baseline(module).handler(payment(ORDER), Context())["statusCode"] == 200
        assert told.order(ORDER)["paid_by"] == {"S": f"sale_{ORDER}"}


@pytest.mark.parametrize("module", [module for module in RECEIVERS if module != "bare"])
def test_a_bad_signature_writes_nothing(told: Aws, module: str) -> None:
    """Each but (a), which looks at none, refuses it with 401."""
    assert baseline(module).handler(payment(ORDER, signature="0" * 64), Context())["statusCode"] == 401
    assert "paid_by" not in told.order(ORDER)


def test_the_usual_checkout_opens_one(told: Aws, provider: Provider) -> None:
    """An order is in the table, Pocketsflow is asked for a session, and the buyer is told where to pay."""
    asked = {"productId": PRODUCT, "successUrl": "https://shop.example/", "cancelUrl": "https://shop.example/cart"}
    answer = baseline(baselines.CHECKOUT_MODULE).handler(
        post("POST /checkout", json.dumps(asked).encode(), {}), Context()
    )
    assert answer["statusCode"] == 201
    content = json.loads(answer["body"])
    assert content["url"] == provider.body["url"]
    assert told.order(content["orderId"])["product"] == {"S": PRODUCT}
    assert provider.received[0]["metadata"] == {"external_order_id": content["orderId"]}
