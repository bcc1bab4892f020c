"""What the functions' own code says of orders as they lie in the ledger. A handler that no template knows: the sandbox
runs it with a function's environment, which that code wants, and asks it without a request to AWS, so that no fault and
no look at an order that has waited too long is in the way."""

from typing import Any

from payments import ledger, orders


def handler(records: list[dict[str, Any]], _context: object) -> list[dict[str, Any]]:
    """For each record its status, and the name of the payment that settled it."""
    return [_told(record) for record in records]


def _told(record: dict[str, Any]) -> dict[str, Any]:
    item, facts, payments = ledger.item_of(record), ledger.facts_of(record), record.get("payments", [])
    return {"status": orders.status(item, facts, payments), "winner": orders.winner(item, facts, payments)}
