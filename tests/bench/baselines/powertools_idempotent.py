"""(b) Powertools for AWS Lambda, as its documentation puts its parts together: event handler, parameters, idempotency,
logger and metrics (docs.aws.amazon.com/powertools/python: "Idempotency", `idempotent_function` with a payload subset).

The secret is cached for five minutes, as by default, and a payment is known by its own id.
"""

import hmac
import json
import os

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import UnauthorizedError
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)

TABLE_NAME = os.environ["TABLE_NAME"]
WEBHOOK_SECRETS_ARN = os.environ["WEBHOOK_SECRETS_ARN"]

logger = Logger()
metrics = Metrics()
app = APIGatewayHttpResolver()
dynamodb = boto3.client("dynamodb")
persistence_layer = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"])
config = IdempotencyConfig(event_key_jmespath="order.id")


@idempotent_function(data_keyword_argument="payment", config=config, persistence_store=persistence_layer)
def settle(payment):
    order_id = payment["metadata"]["external_order_id"]
    dynamodb.update_item(
        TableName=TABLE_NAME,
        Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET paid_by = :payment",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":payment": {"S": payment["order"]["id"]}},
    )
    metrics.add_metric(name="PaymentSettled", unit=MetricUnit.Count, value=1)
    logger.info("Payment settled", extra={"order_id": order_id})
    return {"received": True}


@app.post("/webhooks/pocketsflow")
def receive():
    body = app.current_event.decoded_body.encode()
    secret = parameters.get_secret(WEBHOOK_SECRETS_ARN)
    expected = hmac.new(secret.encode(), body, "sha256").hexdigest()
    if not hmac.compare_digest(expected, app.current_event.headers.get("x-pocketsflow-signature", "")):
        metrics.add_metric(name="InvalidSignature", unit=MetricUnit.Count, value=1)
        logger.warning("Invalid signature")
        raise UnauthorizedError("Invalid signature")
    metrics.add_metric(name="WebhookReceived", unit=MetricUnit.Count, value=1)
    return settle(payment=json.loads(body))


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
@metrics.log_metrics
def handler(event, context):
    config.register_lambda_context(context)
    return app.resolve(event, context)
