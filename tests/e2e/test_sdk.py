"""Pocketsflow's own SDK cannot tell the fake from the real thing."""

import subprocess

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, shell


def test_pocketsflows_npm_sdk(sandbox: Sandbox, node: str) -> None:
    """Users, products, checkout, orders, refunds and webhook endpoints work through `pocketsflow` from npm."""
    told = subprocess.run(
        [node, str(ROOT / "tests/e2e/pocketsflow_sdk.mjs")],
        env={**shell(), "POCKETSFLOW_URL": sandbox.pocketsflow},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    for step in ("users.me", "checkout.create", "orders.list", "refunds.create", "webhooks.create"):
        assert step in told.stdout
