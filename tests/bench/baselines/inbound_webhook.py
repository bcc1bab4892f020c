"""(c) AWS's inbound webhook (EventBridge quick start "Inbound webhooks using Lambda fURLs", whose code is public in
aws-samples/serverless-patterns, eventbridge-webhooks): clients at the top, the secret asked for in the handler, by way
of AWS's own cache of secrets. The sample's one call of EventBridge is the conditional write here.
"""

import base64
import hashlib
import hmac
import json
import os

import boto3
import botocore.session
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

client = botocore.session.get_session().create_client("secretsmanager")
cache = SecretCache(config=SecretCacheConfig(), client=client)

webhook_secret_arn = os.environ["WEBHOOK_SECRETS_ARN"]
table_name = os.environ["TABLE_NAME"]

dynamodb = boto3.client("dynamodb")


def handler(event, _context):
    payload = get_payload_bytes(event["body"], event["isBase64Encoded"])
    if not contains_valid_signature(payload, event["headers"].get("x-pocketsflow-signature", "")):
        print("ERROR: 401 Unauthorized - Invalid Signature")
        return {"statusCode": 401, "body": "Invalid Signature"}

    settle(json.loads(payload))
    return {"statusCode": 200, "body": "Payment settled"}


def get_payload_bytes(raw_payload, is_base64_encoded):
    if is_base64_encoded:
        return base64.b64decode(raw_payload)
    return raw_payload.encode()


def contains_valid_signature(payload, signature):
    secret = cache.get_secret_string(webhook_secret_arn)
    computed_signature = hmac.new(key=secret.encode(), msg=payload, digestmod=hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature, computed_signature)


def settle(payment):
    dynamodb.update_item(
        TableName=table_name,
        Key={"pk": {"S": f"order#{payment['metadata']['external_order_id']}"}},
        UpdateExpression="SET paid_by = :payment",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":payment": {"S": payment["order"]["id"]}},
    )
