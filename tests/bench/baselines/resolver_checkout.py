"""A checkout as it is usually written: Powertools' event handler, requests, and a boto3 client."""

import os
import uuid

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

TABLE_NAME = os.environ["TABLE_NAME"]
POCKETSFLOW_API = os.environ["POCKETSFLOW_API"]
POCKETSFLOW_API_KEY = os.environ["POCKETSFLOW_API_KEY"]

logger = Logger()
metrics = Metrics()
app = APIGatewayHttpResolver()
dynamodb = boto3.client("dynamodb")


@app.post("/checkout")
def open_checkout():
    asked = app.current_event.json_body
    order_id = str(uuid.uuid4())
    dynamodb.put_item(
        TableName=TABLE_NAME,
        Item={
            "pk": {"S": f"order#{order_id}"},
            "status": {"S": "pending"},
            "product": {"S": asked["productId"]},
        },
        ConditionExpression="attribute_not_exists(pk)",
    )
    response = requests.post(
        f"{POCKETSFLOW_API}/checkout/sessions",
        json={
            "productId": asked["productId"],
            "successUrl": asked["successUrl"],
            "cancelUrl": asked["cancelUrl"],
            "metadata": {"external_order_id": order_id},
        },
        headers={"Authorization": f"Bearer {POCKETSFLOW_API_KEY}"},
        timeout=5,
    )
    response.raise_for_status()
    session = response.json()
    metrics.add_metric(name="CheckoutOpened", unit=MetricUnit.Count, value=1)
    logger.info("Checkout opened", extra={"order_id": order_id})
    return {"orderId": order_id, "sessionId": session["id"], "url": session["url"]}, 201


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
@metrics.log_metrics
def handler(event, context):
    return app.resolve(event, context)
