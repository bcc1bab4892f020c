"""How long what is about a person stays in the ledger, and where the search for what is older has got to.

    retention#state
        day     the next day of pending orders to look at
        began   when the walk through the whole table that is under way began, or the last one
        after   the item that it got to; absent when it is through
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from payments.privacy import Redaction
from payments.table import TABLE, client, key, plain, timestamp

STATE = "retention#state"
PENDING = timedelta(days=45)
"""An order that nobody has paid keeps its address for so long."""
RAW = timedelta(days=400)
"""A verified body is kept for so long: a year, and what is reclaimed after it."""
LOOK_BACK = timedelta(days=30)
"""Before the first day that is looked at: what is older the walk finds."""
PAGE = 500
"""Items of the walk at once, or a megabyte."""


@dataclass
class Place:
    day: date
    began: datetime | None
    after: str | None


def place(now: datetime) -> Place:
    """Where the last run stopped."""
    state = plain(client.get_item(TableName=TABLE, Key=key(STATE), ConsistentRead=True).get("Item", {}))
    first = (now - PENDING - LOOK_BACK).date()
    return Place(
        date.fromisoformat(state["day"]) if "day" in state else first,
        datetime.fromisoformat(state["began"]) if "began" in state else None,
        state.get("after"),
    )


def save(place: Place) -> None:
    item: dict[str, Any] = {**key(STATE), "day": {"S": place.day.isoformat()}}
    if place.began:
        item["began"] = {"S": timestamp(place.began)}
    if place.after:
        item["after"] = {"S": place.after}
    sets = [f"#{name} = :{name}" for name in item if name != "pk"]
    client.update_item(
        TableName=TABLE,
        Key=key(STATE),
        UpdateExpression=f"SET {', '.join(sets)}" + ("" if place.after else " REMOVE #after"),
        ExpressionAttributeNames={f"#{name}": name for name in ("after", *item) if name != "pk"},
        ExpressionAttributeValues={f":{name}": content for name, content in item.items() if name != "pk"},
    )


def pending(day: date) -> Iterator[str]:
    """Orders that were opened on a day and are not paid yet, by pk, the oldest first."""
    query: dict[str, Any] = {
        "TableName": TABLE,
        "IndexName": "pending",
        "KeyConditionExpression": "open_day = :day",
        "ExpressionAttributeValues": {":day": {"S": day.isoformat()}},
    }
    while True:
        page = client.query(**query)
        yield from (item["pk"]["S"] for item in page["Items"])
        if "LastEvaluatedKey" not in page:
            return
        query["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def page(after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Items of the table, plain, and where the next ones begin; None for the end."""
    asked: dict[str, Any] = {"ExclusiveStartKey": key(after)} if after else {}
    found = client.scan(TableName=TABLE, Limit=PAGE, **asked)
    last: Any = found.get("LastEvaluatedKey")
    return [plain(item) for item in found["Items"]], last["pk"]["S"] if last else None


def redact(redaction: Redaction) -> bool:
    """False when there is nothing to take out, or not any more."""
    try:
        client.update_item(TableName=TABLE, **redaction.update())
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True
