"""Runs inside `sam deploy` of a live stack: what would fail for the first buyer fails the deployment instead.

A CloudFormation custom resource, because only code that is deployed knows the catalogue that is deployed with it.
"""

import json
import os
from pathlib import Path
from typing import Any

from payments import addresses, catalogue, outbound
from payments.telemetry import logger, where

ORIGINS = os.environ["ALLOWED_ORIGINS"].split(",")
RETURN_ADDRESSES = [os.environ["SUCCESS_URL"], os.environ["CANCEL_URL"]]
PRODUCT_PER_ORDER = os.environ["PRODUCT_PER_ORDER"] == "on"
CATALOGUE = Path(__file__).parent / "catalogue.json"
SECONDS = 5.0
_MAX_ANSWER = 1024

_http = outbound.session()


class NotTold(Exception):
    """CloudFormation did not take the answer. In no word of the address, which is presigned: Lambda logs this."""


def handler(event: dict[str, Any], _context: object) -> None:
    """Answers CloudFormation with SUCCESS, or with FAILED and what to mend. Raises NotTold."""
    obstacle = None if event["RequestType"] == "Delete" else _obstacle()
    logger.info("preflight", extra={"obstacle": obstacle})
    answer = {
        "Status": "FAILED" if obstacle else "SUCCESS",
        "Reason": obstacle or "ready to take payments",
        "PhysicalResourceId": "preflight",
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    try:  # no content type: the address is presigned without one
        said = outbound.send(_http, "PUT", event["ResponseURL"], SECONDS, _MAX_ANSWER, body=json.dumps(answer).encode())
    except (outbound.NoAnswer, outbound.NotHttp) as error:
        raise NotTold(where(error)) from None
    if not 200 <= said.status < 300:
        raise NotTold(f"status {said.status}")


def _obstacle() -> str | None:
    try:
        items = catalogue.load(CATALOGUE)
    except catalogue.Invalid as error:
        return str(error)
    if not items and not PRODUCT_PER_ORDER:  # a shop of carts has nothing that it must name
        return "Mode=live needs products in functions/catalogue.json"
    if catalogue.is_sample(items):
        return "Mode=live: functions/catalogue.json still holds sample products"
    if any(addresses.origin(origin, loopback=False) is None for origin in ORIGINS):
        return "Mode=live: AllowedOrigins must be https addresses"
    if not all(addresses.allowed(address, ORIGINS, loopback=False) for address in RETURN_ADDRESSES):
        return "Mode=live: SuccessUrl and CancelUrl must be on one of AllowedOrigins"
    return None
