"""What schemathesis has to know of this API beyond its document; it imports this module (SCHEMATHESIS_HOOKS)."""

import hmac
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from sandbox.pocketsflow import WEBHOOK_SECRET


def _signed(request: Any) -> Any:
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    request.headers["X-Pocketsflow-Signature"] = hmac.digest(WEBHOOK_SECRET.encode(), body, "sha256").hex()
    return request


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A body that comes with right headers is signed, as no document can say."""
    headers = case.meta.components.get(ParameterLocation.HEADER) if case.meta else None
    if case.operation.path == "/webhooks/pocketsflow" and not (headers and headers.mode.is_negative):
        kwargs["auth"] = _signed


@schemathesis.deserializer("text/html")
def page(context: Any, response: Any) -> str:
    text: str = response.content.decode()
    return text
