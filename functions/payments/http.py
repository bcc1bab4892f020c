"""Requests and answers of API Gateway's HTTP API, payload 2.0."""

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

Event = dict[str, Any]
Answer = dict[str, Any]


class TooLarge(Exception):
    """The body is over the route's limit. Answer 413."""


class Malformed(Exception):
    """The body is not what the gateway says it is. Answer as for any other bad body."""


def raw_body(event: Event, limit: int) -> bytes:
    """The body's bytes, exactly as they came: what a signature signs. At most `limit` of them."""
    body = event.get("body") or ""
    encoded = event.get("isBase64Encoded", False)
    if len(body) > (limit * 4 // 3 + 4 if encoded else limit):
        raise TooLarge
    try:
        raw = base64.b64decode(body, validate=True) if encoded else body.encode()
    except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
        raise Malformed from None
    if len(raw) > limit:
        raise TooLarge
    return raw


def header(event: Event, name: str) -> str:
    """A header by its lower-case name, "" when it is absent. Several of one name come joined by commas."""
    value: str = event.get("headers", {}).get(name, "")
    return value


def media_type(event: Event) -> str:
    """Of the body, in lower case and without parameters; "" when none is stated."""
    return header(event, "content-type").partition(";")[0].strip().lower()


def answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    return {
        "statusCode": status,
        "headers": {
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **(headers or {}),
        },
        "body": json.dumps(content),
    }


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An RFC 9457 problem. `code` is stable, for programs; `detail` is for people and never quotes input."""
    content: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    if errors:
        content["errors"] = errors
    more = {"content-type": "application/problem+json", **(headers or {})}
    if retry_after is not None:
        more["retry-after"] = str(retry_after)
    return answer(status, content, more)
