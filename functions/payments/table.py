"""The one DynamoDB table of the ledger: its name, its client, and DynamoDB's JSON."""

import base64
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from payments import aws

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import UniversalAttributeValueTypeDef as AnyValue

TABLE = os.environ["TABLE_NAME"]
MAX_KEYS = 100
"""Of one BatchGetItem."""

client = aws.client("dynamodb")


def key(pk: str) -> "dict[str, AnyValue]":
    return {"pk": {"S": pk}}


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: text that sorts as time does."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def values(fields: Mapping[str, Any]) -> "dict[str, AnyValue]":
    """Absent rather than null. Amounts become strings: kept as they came."""
    return {name: value(content) for name, content in fields.items() if content is not None}


def value(content: Any) -> "AnyValue":
    match content:
        case str():
            return {"S": content}
        case bool():
            return {"BOOL": content}
        case int():
            return {"N": str(content)}
        case bytes():
            return {"B": content}
        case Mapping():
            return {"M": values(content)}
        case list():
            return {"L": [value(element) for element in content]}
        case set():
            return {"SS": sorted(content)}
    return {"S": str(content)}


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain_value(content) for name, content in item.items()}


def plain_value(typed: Any) -> Any:
    [(kind, content)] = typed.items()
    match kind:
        case "M":
            return plain(content)
        case "L":
            return [plain_value(element) for element in content]
        case "SS":
            return set(content)
        case "N":
            return int(content)
        case "NULL":
            return None
        case "B" if isinstance(content, str):  # in a stream's record, which comes as JSON
            return base64.b64decode(content)
    return content


def old_item(failed: ClientError) -> dict[str, Any]:
    """The item that stood in the way of a conditional write, plain; {} when there was none."""
    response: dict[str, Any] = {**failed.response}
    return plain(response.get("Item", {}))


class LeftOver(Exception):
    """DynamoDB left items over, ten times or for as long as there was time. Go on later."""


def read_many(pks: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Items by pk, plain, perhaps a moment old. Raises LeftOver."""
    items: dict[str, dict[str, Any]] = {}
    different = list(dict.fromkeys(pks))
    for start in range(0, len(different), MAX_KEYS):
        items |= _read(different[start : start + MAX_KEYS])
    return items


def _read(pks: list[str]) -> dict[str, dict[str, Any]]:
    """What DynamoDB leaves over is asked for again."""
    items: dict[str, dict[str, Any]] = {}
    asked: Any = [key(pk) for pk in pks]
    for number in range(10):
        if not asked:
            return items
        if number:
            wait = 0.05 * 2**number
            if wait > aws.time_left():
                break
            time.sleep(wait)
        answer = client.batch_get_item(RequestItems={TABLE: {"Keys": asked}})
        items |= {item["pk"]: item for item in map(plain, answer["Responses"].get(TABLE, []))}
        left: Any = answer.get("UnprocessedKeys", {})
        asked = left.get(TABLE, {}).get("Keys", [])
    raise LeftOver
