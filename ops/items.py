"""Reading the ledger, as it lies in its table: items are plain, as functions/payments/table.py makes them."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from queue import Queue
from typing import Any

from ops.cli import Failed
from ops.stack import Stack

SEGMENTS = 4
"""Of a scan, at once."""
_PAGES_AHEAD = 8
"""Kept for a slow reader: a scan of any length takes the same memory."""

Item = dict[str, Any]
_COUNT = re.compile(r"-?[0-9]{1,38}")


def timestamp(now: datetime) -> str:
    """As functions/payments/table.py writes it: text that sorts as time does."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def get(stack: Stack, pk: str) -> Item | None:
    """An item as it is now; None when there is none. Raises Failed, and what AWS raises."""
    dynamodb = stack.client("dynamodb")
    try:
        answer = dynamodb.get_item(TableName=stack.table, Key={"pk": {"S": pk}}, ConsistentRead=True)
    except dynamodb.exceptions.ResourceNotFoundException:
        raise no_table(stack) from None
    return plain(answer["Item"]) if "Item" in answer else None


def scan(stack: Stack, prefixes: Sequence[str], seen: Callable[[int], None] | None = None) -> Iterator[Item]:
    """All items whose `pk` begins with one of `prefixes`, in no order, as they come; `seen` is told how many items
    were looked at. Raises Failed, and what AWS raises."""
    dynamodb = stack.client("dynamodb")
    pages: Queue[tuple[int, list[Any]] | Exception | None] = Queue(maxsize=_PAGES_AHEAD)
    stopped = False
    asked: dict[str, Any] = {
        "TableName": stack.table,
        "TotalSegments": SEGMENTS,
        "FilterExpression": " OR ".join(f"begins_with(pk, :p{number})" for number in range(len(prefixes))),
        "ExpressionAttributeValues": {f":p{number}": {"S": prefix} for number, prefix in enumerate(prefixes)},
    }

    def read(segment: int) -> None:
        more: dict[str, Any] = {}
        try:
            while not stopped:
                page = dynamodb.scan(**asked, Segment=segment, **more)
                pages.put((page["ScannedCount"], page["Items"]))
                if "LastEvaluatedKey" not in page:
                    break
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        except dynamodb.exceptions.ResourceNotFoundException:
            pages.put(no_table(stack))
        except Exception as error:  # noqa: BLE001  # raised again where the items are read
            pages.put(error)
        pages.put(None)

    with ThreadPoolExecutor(SEGMENTS) as pool:
        for segment in range(SEGMENTS):
            pool.submit(read, segment)
        running = SEGMENTS
        try:
            while running:
                page = pages.get()
                if page is None:
                    running -= 1
                    continue
                if isinstance(page, Exception):
                    raise page
                looked_at, items = page
                if seen:
                    seen(looked_at)
                yield from map(plain, items)
        finally:  # also when nobody reads on: whoever waits for room to put a page is let go
            stopped = True
            while running:
                running -= pages.get() is None


def plain(item: Any) -> Item:
    """{"S": "a"} becomes "a": as functions/payments/table.py does, whose import needs an environment."""
    return {name: _value(typed) for name, typed in item.items()}


def _value(typed: Any) -> Any:
    [(kind, content)] = typed.items()
    match kind:
        case "M":
            return plain(content)
        case "L":
            return [_value(each) for each in content]
        case "SS":
            return set(content)
        case "NULL":
            return None
        case "N" if _COUNT.fullmatch(content):
            return int(content)
    return content  # a number that is no count is none of the ledger's: as text it is at least shown


def no_table(stack: Stack) -> Failed:
    return Failed(f"there is no table {stack.table}")
