"""The same job as others would have it written, small and fair: a webhook that verifies and writes one conditional
`update_item`, and a checkout. Each module follows the public documentation of what it uses, and has `handler`, which
takes a request of an HTTP API (payload 2.0) and is told everything by environment variables:

TABLE_NAME, the ledger's table; WEBHOOK_SECRETS_ARN; IDEMPOTENCY_TABLE, with a partition key `id`;
POWERTOOLS_SERVICE_NAME, POWERTOOLS_METRICS_NAMESPACE; POCKETSFLOW_API and POCKETSFLOW_API_KEY for the checkout;
WEBHOOK_SECRET for Express, whose guide has the secret in the environment.

What none of them does and the webhook here does: keep the raw body, tell a second payment or another product from the
one that was ordered, take what fails into a queue, know two secrets while one is replaced.
"""
