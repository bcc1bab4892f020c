"""`pf orders`: the orders, or payments, of one status: above all those that a person has to see to."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ops import items, story
from ops.cli import TryAgain, json_option, print_lines, progress, since_option, table, tell, time_option
from ops.items import Item
from ops.people import hidden, personal_option
from ops.stack import Stack
from ops.story import Json, Judged, Unreadable

DERIVED = ("pending", "paid", "partially_refunded", "refunded", "disputed", "mismatched")
STATUSES = (*DERIVED, "unmatched", "second-payment", "drift")
"""All but the first four are cases, which a person closes: `pf resolve` leaves `resolved#<payment>` there."""
_PENDING_SINCE = timedelta(days=2)
_BY_INDEX = timedelta(days=400)
"""The index has a request for each day: of a longer time a scan is the shorter way."""
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def rows(stack: Stack, status: str, since: datetime | None, until: datetime, *, every: bool) -> Iterator[Json]:
    """In no order; `every` brings closed cases, too. What cannot be read is told on standard error. The stack is
    entered."""
    if status == "pending" and since is None:
        since = datetime.now(UTC) - _PENDING_SINCE
    if status == "pending" and since and datetime.now(UTC) - since < _BY_INDEX:
        found = _pending(stack, since, until)
    else:
        found = _scan(stack, ("sale#",) if status == "unmatched" else ("order#",))
    span = (since or _FIRST, until)
    for item in found:
        try:
            with story.reading(item):
                row = _unmatched(item, every) if status == "unmatched" else _order(item, status, every)
                if row and span[0] <= datetime.fromisoformat(row["at"]) <= span[1]:
                    yield row
        except Unreadable as odd:
            tell(f"pf: {odd}")


def _scan(stack: Stack, prefixes: tuple[str, ...]) -> Iterator[Item]:
    with progress("Looking through the ledger") as advance:
        yield from items.scan(stack, prefixes, advance)


def _pending(stack: Stack, since: datetime, until: datetime) -> Iterator[Item]:
    """By the index, day by day, the newest first."""
    from payments import table as ledger_table

    dynamodb = stack.client("dynamodb")
    day, last = min(until, datetime.now(UTC)).astimezone(UTC).date(), since.astimezone(UTC).date()
    while day >= last:
        asked: dict[str, Any] = {
            "TableName": stack.table,
            "IndexName": "pending",
            "KeyConditionExpression": "open_day = :day",
            "ExpressionAttributeValues": {":day": {"S": day.isoformat()}},
            "ScanIndexForward": False,
        }
        while True:
            try:
                page = dynamodb.query(**asked)
            except dynamodb.exceptions.ResourceNotFoundException:
                raise items.no_table(stack) from None
            try:
                yield from ledger_table.read_many(item["pk"]["S"] for item in page["Items"]).values()
            except ledger_table.LeftOver:
                raise TryAgain("AWS throttles BatchGetItem; try again") from None
            if "LastEvaluatedKey" not in page:
                break
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        day -= timedelta(days=1)


# --- One row ----------------------------------------------------------------------------------------------------------


def _order(item: Item, status: str, every: bool) -> Json | None:
    judged = story.judge(item)
    if status == "second-payment":
        return _case(item, judged, _of_verdict(item, judged, "second"), status, every)
    if status == "drift":
        drifts = [fact for name, fact in item.items() if name.startswith("drift#")]
        return _case(item, judged, drifts, status, every)
    if judged.status != status:
        return None
    if status == "mismatched":
        wrong = [*_of_verdict(item, judged, "mismatched"), *_of_verdict(item, judged, "other_order")]
        return _case(item, judged, wrong, status, every)
    if status == "disputed" and judged.winner:
        return _case(item, judged, [item[judged.winner]], status, every)
    return _row(item, judged, item["created_at"], [item[judged.winner]] if judged.winner else [])


def _of_verdict(item: Item, judged: Judged, verdict: str) -> list[Item]:
    return [item[name] for name, each in judged.verdicts.items() if each == verdict]


def _case(item: Item, judged: Judged, facts: list[Item], case: str, every: bool) -> Json | None:
    """Of those facts whose payments nobody has closed the case of."""
    left = [fact for fact in facts if every or f"resolved#{fact['payment_id']}" not in item]
    if not left:
        return None
    row = _row(item, judged, max(fact["at"] for fact in left), left)
    if case == "drift":
        row["drift"] = [
            f"{each['what']}: {each.get('ours', '-')} here, {each.get('theirs', '-')} there" for each in left
        ]
    return row


def _row(item: Item, judged: Judged, at: str, payments: list[Item]) -> Json:
    return {
        "order": item["pk"].removeprefix("order#"),
        "status": judged.status,
        "at": at,
        "opened_at": item["created_at"],
        "ordered": item.get("sku") or item["product_id"],
        "reference": item.get("reference"),
        "customer_email": item.get("customer_email"),
        "payments": [_payment(fact) for fact in payments],
    }


def _payment(fact: Item) -> Json:
    return {"payment": fact["payment_id"], **{name: fact.get(name) for name in ("amount", "currency", "source")}}


def _unmatched(sale: Item, every: bool) -> Json | None:
    verdict, payment_id = sale.get("verdict", {}), sale["pk"].removeprefix("sale#")
    if verdict.get("kind") != "unmatched" or "order_id" in sale:
        return None
    if f"resolved#{payment_id}" in sale and not every:
        return None
    paid: Item = next((fact for name, fact in sale.items() if name.startswith(("pay#", "sub#", "renewal#"))), {})
    return {
        "order": None,
        "status": "unmatched",
        "at": verdict["at"],
        "ordered": paid.get("product_id"),
        "customer_email": paid.get("customer_email"),
        "payments": [_payment({**paid, "payment_id": payment_id})],
        "candidates": list(verdict["candidates"]),
    }


# --- The command ------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--status", type=click.Choice(STATUSES), required=True, help="Which orders; unmatched are payments.")
@since_option
@time_option("--until", "Until when")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The newest so many.")
@click.option("--unresolved/--all", "unresolved", default=True, help="Leave closed cases out (the default), or not.")
@personal_option
@json_option
@click.pass_obj
def orders(
    stack: Callable[[], Stack],
    *,
    status: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    unresolved: bool,
    personal: bool,
    as_json: bool,
) -> None:
    """Lists the orders of a status, newest first.

    Pending ones are those of the last two days, unless --since says otherwise; all others are looked for in the whole
    ledger. --json prints JSON Lines.
    """
    here = stack()
    here.enter()
    many = 0

    def counted(found: Iterable[Json]) -> Iterator[Json]:
        nonlocal many
        for row in found:
            many += 1
            yield row

    found = rows(here, status, since, until or _LAST, every=not unresolved)
    newest = heapq.nlargest(limit, counted(found), key=lambda row: row["at"])
    shown = newest if personal else [hidden(row) for row in newest]
    if as_json:
        print_lines(shown)
    elif shown:
        _show(status, shown)
    else:
        tell(f"There is nothing {status}.")
    if many > limit:
        tell(f"{many - limit} older ones are not shown; --limit {many} shows all.")


def _show(status: str, shown: list[Json]) -> None:
    last = {"unmatched": "may be meant for", "drift": "differs"}.get(status, "buyer")
    lines = []
    for row in shown:
        more = row.get("candidates") if status == "unmatched" else row.get("drift")
        told = ", ".join(more or []) if last != "buyer" else row.get("customer_email")
        paid = ", ".join(f"{each['payment']} {story.amount(each)}".strip() for each in row["payments"])
        lines.append([row["order"], row["at"][:19].replace("T", " "), row["ordered"], paid, told])
    columns = ["order", "at", "ordered", "payment", last]
    wanted = [number for number in range(5) if any(line[number] for line in lines)]
    table(
        [columns[number] for number in wanted],
        [[str(line[number] or "-") for number in wanted] for line in lines],
    )
