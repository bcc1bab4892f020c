"""The same job as others would have it written, small and fair: a webhook that verifies and writes one conditional
`update_item`, and a checkout. Each module follows the public documentation of what it uses, and has `handler`, which
takes a request of an HTTP API (payload 2.0) and is told everything by environment variables:

TABLE_NAME, the ledger's table; WEBHOOK_SECRETS_ARN; IDEMPOTENCY_TABLE, with a partition key `id`;
POWERTOOLS_SERVICE_NAME, POWERTOOLS_METRICS_NAMESPACE; POCKETSFLOW_API and POCKETSFLOW_API_KEY for the checkout;
WEBHOOK_SECRET for Express, whose guide has the secret in the environment.

What none of them does and the webhook here does: keep the raw body, tell a second payment or another product from the
one that was ordered, take what fails into a queue, know two secrets while one is replaced.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox.template import Function
from sandbox.worker import lambda_environment
from tests.payloads import API_KEY, SECRET

FOLDER = Path(__file__).parent
EXPRESS = FOLDER / "express"

BARE, POWERTOOLS, SAMPLE = "(a) bare boto3", "(b) Powertools", "(c) AWS's sample"
PYTHON = {BARE: "bare", POWERTOOLS: "powertools_idempotent", SAMPLE: "inbound_webhook"}
"""Modules that receive a webhook, by the name that reports give them."""
CHECKOUT, CHECKOUT_MODULE = "checkout as usual", "resolver_checkout"

WRITTEN, BUNDLED = "(d) Express", "(d) Express, bundled"
NODE = {WRITTEN: EXPRESS / "app.mjs", BUNDLED: EXPRESS / "node_modules/.bundle/app.cjs"}

IDEMPOTENCY_TABLE = "idempotency"
NODE_MISSING = "Node or its modules are not here: (d) is left out."


def node() -> str | None:
    """The path of Node, where it and all that (d) needs are installed."""
    return shutil.which("node") if NODE[BUNDLED].exists() else None


def environment(function: Function, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a baseline in the place of `function`; `variables` are what it is told beside the defaults, which lead to
    nothing."""
    told = {
        "TABLE_NAME": "orders",
        "IDEMPOTENCY_TABLE": IDEMPOTENCY_TABLE,
        "WEBHOOK_SECRETS_ARN": "webhook-secret",
        "WEBHOOK_SECRET": SECRET,
        "POCKETSFLOW_API": "http://127.0.0.1:9",
        "POCKETSFLOW_API_KEY": API_KEY,
        "POWERTOOLS_SERVICE_NAME": function.environment["POWERTOOLS_SERVICE_NAME"],
        "POWERTOOLS_METRICS_NAMESPACE": "baseline",
        **(variables or {}),
    }
    alone = dataclasses.replace(function, environment=told)
    return {
        **lambda_environment(alone),
        "PYTHONPATH": f"{FOLDER}{os.pathsep}{FOLDER.parents[2]}",
        # It says on every start that in 2027 it will no longer run on a Node as old as Debian's.
        "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED": "true",
    }
