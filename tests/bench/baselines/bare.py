"""(a) boto3 and one conditional write. It verifies no signature, so it is a floor and not a webhook."""

import base64
import json
import os

import boto3

TABLE_NAME = os.environ["TABLE_NAME"]

dynamodb = boto3.client("dynamodb")


def handler(event, context):
    body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"]
    payment = json.loads(body)
    dynamodb.update_item(
        TableName=TABLE_NAME,
        Key={"pk": {"S": f"order#{payment['metadata']['external_order_id']}"}},
        UpdateExpression="SET paid_by = :payment",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":payment": {"S": payment["order"]["id"]}},
    )
    return {"statusCode": 200, "body": json.dumps({"received": True})}
