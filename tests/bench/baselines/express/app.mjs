// (d) The provider's guide (docs.pocketsflow.com/integrations/custom-platforms): Express, the raw body, HMAC. What the
// guide leaves to its reader is the AWS SDK's own conditional write; serverless-http makes a Lambda of an Express app.
import crypto from "node:crypto";
import { DynamoDBClient, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import express from "express";
import serverless from "serverless-http";

const { TABLE_NAME, WEBHOOK_SECRET } = process.env;

const dynamodb = new DynamoDBClient({});
const app = express();

app.post("/webhooks/pocketsflow", express.raw({ type: "application/json" }), async (req, res) => {
  const signature = Buffer.from(req.header("X-Pocketsflow-Signature") ?? "");
  const expected = Buffer.from(crypto.createHmac("sha256", WEBHOOK_SECRET).update(req.body).digest("hex"));
  if (signature.length !== expected.length || !crypto.timingSafeEqual(signature, expected)) {
    return res.status(401).send("Invalid signature");
  }
  const event = JSON.parse(req.body.toString("utf8"));
  if (req.header("X-Pocketsflow-Event") === "order.completed") {
    await dynamodb.send(
      new UpdateItemCommand({
        TableName: TABLE_NAME,
        Key: { pk: { S: `order#${event.metadata.external_order_id}` } },
        UpdateExpression: "SET paid_by = :payment",
        ConditionExpression: "attribute_exists(pk)",
        ExpressionAttributeValues: { ":payment": { S: event.order.id } },
      }),
    );
  }
  return res.status(200).send("OK");
});

export const handler = serverless(app);
