"""How long what is about a person stays in the ledger, and where the search for what is older has got to.

retention#state
    since   of pending orders, by the time that they were opened at: up to here all is done
    began   when the walk through the whole table that is under way began, or the last one
    after   the item that it got to; absent when it is through
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from payments.privacy import Redaction
from payments.table import TABLE, client, key, plain, timestamp, values

STATE = "retention#state"
PENDING = timedelta(days=45)
"""An order that nobody has paid keeps its address for so long."""
RAW = timedelta(days=400)
"""A verified body is kept for so long: a year, and what is reclaimed after it."""
LOOK_BACK = timedelta(days=30)
"""Before the first one that is looked at: what is older the walk finds."""
PAGE = 2_000
"""Items of the walk at once, or a megabyte."""


@dataclass
class Place:
    since: datetime
    began: datetime | None
    after: str | None


def place(now: datetime) -> Place:
    """Where the last run stopped."""
    state = plain(client.get_item(TableName=TABLE, Key=key(STATE), ConsistentRead=True).get("Item", {}))
    return Place(
        datetime.fromisoformat(state["since"]) if "since" in state else now - PENDING - LOOK_BACK,
        datetime.fromisoformat(state["began"]) if "began" in state else None,
        state.get("after"),
    )


def save(place: Place) -> None:
    state = {"since": timestamp(place.since), "began": place.began and timestamp(place.began), "after": place.after}
    given = values(state)
    client.update_item(
        TableName=TABLE,
        Key=key(STATE),
        UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in given)}"
        + ("" if place.after else " REMOVE #after"),
        ExpressionAttributeNames={f"#{name}": name for name in ("after", *given)},
        ExpressionAttributeValues={f":{name}": content for name, content in given.items()},
    )


def pending(since: datetime, before: datetime) -> Iterator[tuple[list[str], datetime]]:
    """Orders that are not paid yet, by pk, the oldest first: some, and up to when these are all."""
    while since < before:
        next_day = datetime.combine(since.date() + timedelta(days=1), time.min, UTC)
        query: dict[str, Any] = {
            "TableName": TABLE,
            "IndexName": "pending",
            "KeyConditionExpression": "open_day = :day AND created_at BETWEEN :since AND :before",
            "ExpressionAttributeValues": {
                ":day": {"S": timestamp(since)[:10]},
                ":since": {"S": timestamp(since)},
                ":before": {"S": timestamp(before)},
            },
        }
        while True:
            found = client.query(**query)
            some = [plain(item) for item in found["Items"]]
            is_all = "LastEvaluatedKey" not in found
            until = min(next_day, before) if is_all else datetime.fromisoformat(some[-1]["created_at"])
            yield [item["pk"] for item in some], until
            if is_all:
                break
            query["ExclusiveStartKey"] = found["LastEvaluatedKey"]
        since = next_day


def page(after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Items of the table, in DynamoDB's JSON, and the last one of them; None when there are no more."""
    asked: dict[str, Any] = {"ExclusiveStartKey": key(after)} if after else {}
    found = client.scan(TableName=TABLE, Limit=PAGE, **asked)
    last: Any = found.get("LastEvaluatedKey")
    return found["Items"], last["pk"]["S"] if last else None


def redact(redaction: Redaction) -> bool:
    """False when there is nothing to take out, or not any more."""
    try:
        client.update_item(TableName=TABLE, **redaction.update())
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True
