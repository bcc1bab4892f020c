"""Requests as API Gateway hands them over, and the bodies that Pocketsflow sends."""

import base64
import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

API_KEY = "pk_test_0123456789abcdef"
SECRET = "whsec_0123456789abcdef"
PRODUCT = "65a1b2c3d4e5f6a7b8c9d0e1"
OTHER_PRODUCT = "65a1b2c3d4e5f6a7b8c9d0e2"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


def http_event(route: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """A request as API Gateway hands it over; header names with underscores for dashes."""
    method, path = route.split(" ", 1)
    folders = {"/orders/": "orderId", "/server/orders/": "reference"}
    folder = next((folder for folder in folders if path.startswith(folder)), "")
    return {
        "routeKey": f"{method} {folder}{{{folders[folder]}}}" if folder else route,
        "rawPath": path,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "requestContext": {"domainName": "api.shop.example", "http": {"sourceIp": "192.0.2.1"}},
        **({"pathParameters": {folders[folder]: path.removeprefix(folder)}} if folder else {}),
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def new_key() -> str:
    """An Idempotency-Key."""
    return str(uuid.uuid4())


def create_key(stack: Any, token: str) -> None:
    """A key of the shop's server, as `pf key create` keeps it; `stack` is a tests.conftest.Aws."""
    stack.dynamodb.update_item(
        TableName=stack.table,
        Key={"pk": {"S": "server#keys"}},
        UpdateExpression="SET #key = :about",
        ExpressionAttributeNames={"#key": f"key#{hashlib.sha256(token.encode()).hexdigest()}"},
        ExpressionAttributeValues={":about": {"M": {"name": {"S": "shop"}}}},
    )


def sign(body: bytes, secret: str = SECRET) -> str:
    return hmac.digest(secret.encode(), body, "sha256").hex()


def unknown(order_id: str) -> str:
    """An id of the same shape that no order has."""
    return f"{order_id[:-6]}000000"


def asking(key: str = "", **fields: Any) -> dict[str, Any]:
    """A checkout of the catalogue's course."""
    body = json.dumps({"sku": "course", **fields}).encode()
    return http_event("POST /checkout", body, content_type="application/json", idempotency_key=key)


def delivery(content: Any, name: str = "order.completed", secret: str = SECRET, **headers: str) -> dict[str, Any]:
    """A webhook as Pocketsflow sends it, validly signed; `content` is JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    signed = {
        "x_pocketsflow_signature": sign(body, secret),
        "x_pocketsflow_event": name,
        "x_pocketsflow_timestamp": "1795463363515",
    }
    return http_event("POST /webhooks/pocketsflow", body, content_type="application/json", **{**signed, **headers})


def answered(answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and content of an answer."""
    return answer["statusCode"], json.loads(answer["body"])


def paid(order_id: str | None, payment: str = "sale1", product: str = PRODUCT, **changes: Any) -> dict[str, Any]:
    """`order.completed` as documented."""
    return {
        "webhookId": "wh_1",
        "event": "order.completed",
        "product": {"id": product, "variantId": changes.pop("variant", None)},
        "order": {"id": payment},
        "currency": "usd",
        "customer": {"email": "buyer@example.com", "firstName": "Jane", "lastName": "Buyer"},
        "tax": {"amount": 4.99, "rate": 0.08, "ToState": None},
        "amount": 64.99,
        "amountBeforeTax": 60.00,
        **({"metadata": {"external_order_id": order_id}} if order_id else {}),
        **changes,
    }


def refunded(
    order_id: str | None, payment: str = "sale1", refund: str = "ref1", amount: float = 64.99, status: str = "succeeded"
) -> dict[str, Any]:
    """`order.refunded` as documented."""
    return {
        "webhookId": "wh_1",
        "event": "order.refunded",
        "order": {"id": payment},
        "refund": {"id": refund, "amount": amount, "reason": "requested_by_customer", "status": status},
        "customer": {"email": "buyer@example.com"},
        **({"metadata": {"external_order_id": order_id}} if order_id else {}),
    }


def subscribed(order_id: str | None, customer: str = "sub1", product: str = PRODUCT, **state: Any) -> dict[str, Any]:
    """`customer.subscription.created` as in the public example."""
    return {
        "subscription": {"id": product, "customerId": "cus_1"},
        "subscriptionCustomer": {"id": customer, "status": "active", "active": True, "paused": False, **state},
        "customer": {"email": "buyer@example.com"},
        "subscriptionCustomerId": customer,
        "metadata": {"external_order_id": order_id} if order_id else {"plan": "pro"},
        "webhookId": "wh_1",
    }
