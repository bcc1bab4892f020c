"""Answers of the running system against infra/openapi.yaml, and a client that is made from it."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from sandbox.pocketsflow import DISCOUNTS
from sandbox.system import catalogue
from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, http, shell, start
from tests.openapi import DOCUMENT, FORM, HTML, JSON, OPERATIONS, PROBLEM, deref, errors

FUZZ_SECONDS = 240
LEFT_OUT = {
    "unsupported_method": "API Gateway answers 404, and not 405, to a method that a path does not have",
}


# --- schemathesis -----------------------------------------------------------------------------------------------------


def test_schemathesis_finds_nothing(sandbox: Sandbox, key: str, tmp_path: Path) -> None:
    """Hundreds of right and wrong requests to every route: each answer is documented, every wrong request is refused,
    every right one is served. Always the same ones."""
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(of_this_shop(sandbox)))
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", str(tmp_path / "openapi.yaml")),
        *("--url", sandbox.api, "--header", f"Authorization: Bearer {key}"),
        *("--checks", "all", "--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "40", "--no-shrink"),
        *("--seed", "1", "--generation-deterministic"),
        *("--request-timeout", "20", "--output-sanitize", "false", "--no-color"),
    ]
    told = subprocess.run(
        command,
        cwd=tmp_path,
        env={**shell(), "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.e2e.fuzzing", "NO_PROXY": "*"},
        capture_output=True, text=True, timeout=FUZZ_SECONDS, check=False,
    )  # fmt: skip
    (Path(os.environ.get("FUZZ_LOG", os.devnull))).write_text(told.stdout)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Tested: 5" in told.stdout


def of_this_shop(sandbox: Sandbox) -> dict[str, Any]:
    """The document, narrowed to what only the shop knows: its skus, its origins, its discount codes, an order."""
    content: dict[str, Any] = copy.deepcopy(DOCUMENT)
    schemas = content["components"]["schemas"]
    schemas["Sku"] = {"enum": sorted(catalogue())}
    schemas["DiscountCode"] = {"enum": sorted(DISCOUNTS)}
    schemas["ReturnAddress"] = {"enum": [f"{sandbox.shop}/thank-you.html", f"{sandbox.shop}/cancel.html?a=1#b"]}
    for name in ("CheckoutRequest", "CheckoutForm", "ServerCheckoutRequest", "Registration"):
        for keyword in ("if", "then", "else"):
            del schemas[name][keyword]
        del schemas[name]["properties"]["productId"]
        schemas[name]["properties"]["sku"] = {"$ref": "#/components/schemas/Sku"}
        schemas[name]["required"] = ["sku"]
    del content["components"]["schemas"]["ProductId"]
    for path in ("/checkout", "/server/checkout"):
        shown = content["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"]
        shown.pop("product", None)
        for name in ("successUrl", "cancelUrl"):
            shown["everything"]["value"][name] = f"{sandbox.shop}/thank-you.html"
    order_id, _ = sandbox.order()
    [parameter] = content["paths"]["/orders/{orderId}"]["get"]["parameters"]
    parameter["example"] = order_id
    return content
