"""`pf export`: the ledger as a table for other programs, of any length in the same memory."""

import csv
import hashlib
import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import click

from ops import items, story
from ops.cli import Failed, printable, progress, since_option, tell, time_option
from ops.items import Item
from ops.people import personal_option
from ops.stack import Stack
from ops.story import Json, Unreadable

ORDERS = (
    *("order_id", "reference", "status", "opened_at", "updated_at", "paid_at", "mode"),
    *("sku", "product_id", "variant_id", "price", "price_currency"),
    *("payment_id", "kind", "amount", "amount_before_tax", "unit", "currency", "source"),
    *("refunded", "second_payments", "drift", "subscription_id", "customer_email", "metadata", "untrusted_metadata"),
)
FACTS = (
    *("at", "order_id", "item", "fact", "kind", "source", "mode", "payment_id", "refund_id", "status"),
    *("product_id", "variant_id", "amount", "amount_before_tax", "unit", "currency", "sha256", "customer_email"),
)
COLUMNS = {"orders": ORDERS, "facts": FACTS}
"""For ever in this order: a new one comes last."""
PERSONAL = ("customer_email", "metadata", "untrusted_metadata")
"""Empty unless they are asked for: what a page or a server writes into metadata may be anything."""
_FORMULA = set("=+-@＝＋－＠")


def orders_of(item: Item) -> Iterator[Json]:
    """The row of an order. Raises Unreadable."""
    from payments import ledger, orders

    judged = story.judge(item)
    with story.reading(item):
        paid: Item = item[judged.winner] if judged.winner else {}
        back = orders.refunds(ledger.facts_of(item), paid["payment_id"]) if paid else {}
        yield {
            "order_id": item["pk"].removeprefix("order#"),
            "status": judged.status,
            "opened_at": item["created_at"],
            "updated_at": judged.updated_at,
            "paid_at": paid.get("at"),
            **{name: item.get(name) for name in ("reference", "mode", "sku", "product_id", "variant_id", "price")},
            "price_currency": item.get("currency"),
            "payment_id": paid.get("payment_id"),
            **{name: paid.get(name) for name in ("kind", "amount", "amount_before_tax", "unit", "currency", "source")},
            "refunded": f"{sum(back.values(), Decimal(0)):f}" if back else None,
            "second_payments": str(sum(verdict == "second" for verdict in judged.verdicts.values())),
            "drift": str(sum(name.startswith("drift#") for name in item)),
            "subscription_id": paid["payment_id"] if paid.get("kind") == "subscription" else None,
            "customer_email": paid.get("customer_email") or item.get("customer_email"),
            **{name: _json(item.get(name)) for name in ("metadata", "untrusted_metadata")},
        }


def facts_of(item: Item) -> Iterator[Json]:
    """A row for each fact. Raises Unreadable."""
    kind, _, identity = item["pk"].partition("#")
    with story.reading(item):
        for name, fact in sorted(story.facts(item).items()):
            raw = fact.get("raw")
            row = {column: fact.get(column) for column in FACTS}
            row |= {
                "order_id": identity if kind == "order" else item.get("order_id"),
                "item": item["pk"],
                "fact": name,
                "kind": fact.get("kind") or name.partition("#")[0],
                "sha256": hashlib.sha256(raw).hexdigest() if raw is not None else _hash(fact.get("raw_item")),
            }
            yield row


def _hash(raw_item: str | None) -> str | None:
    return raw_item.removeprefix("raw#") if raw_item else None


def _json(content: object) -> str | None:
    return json.dumps(content, sort_keys=True) if content else None


OF = {"orders": orders_of, "facts": facts_of}
_PREFIXES = {"orders": ("order#",), "facts": ("order#", "sale#")}
_MOMENT = {"orders": "opened_at", "facts": "at"}


def rows(found: Iterable[Item], what: str, since: datetime, until: datetime, *, personal: bool) -> Iterator[Json]:
    """One at a time. What cannot be read is told on standard error."""
    hidden = () if personal else PERSONAL
    for item in found:
        try:
            with story.reading(item):
                for row in OF[what](item):
                    if since <= datetime.fromisoformat(row[_MOMENT[what]]) <= until:
                        yield {name: None if name in hidden else row[name] for name in COLUMNS[what]}
        except Unreadable as odd:
            tell(f"pf: {odd}")


# --- Files ------------------------------------------------------------------------------------------------------------


def cell(value: object) -> str:
    """Text of a cell that no spreadsheet takes for a formula (owasp.org/www-community/attacks/CSV_Injection), also
    behind white space, quotes, and what cannot be seen."""
    text = "" if value is None else str(value).replace("\0", "")
    first = next((each for each in text if each not in "\"'`" and unicodedata.category(each)[0] not in "ZC"), "")
    return f"'{text}" if first in _FORMULA or text[:1] in ("\t", "\r", "\n") else text


def write(found: Iterable[Mapping[str, Any]], columns: tuple[str, ...], to: TextIO, form: str) -> int:
    """How many rows were written."""
    many = 0
    table = csv.writer(to, quoting=csv.QUOTE_ALL, lineterminator="\r\n")  # RFC 4180
    if form == "csv":
        table.writerow(columns)
    for row in found:
        if form == "csv":
            table.writerow([cell(row[name]) for name in columns])
        else:
            to.write(json.dumps(row) + "\n")
        many += 1
    return many


@contextmanager
def _whole(path: Path, *, force: bool) -> Iterator[TextIO]:
    """A file that is there when all of it is, and readable for its owner alone."""
    if not force and path.exists():
        raise Failed(f"there is a file {printable(str(path))} already; --force replaces it")
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise Failed(f"no file can be made in {printable(str(path.parent))}: {error.strerror}") from None
    try:
        with open(number, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(number)
        os.replace(name, path)
    except OSError as error:
        raise Failed(f"{printable(str(path))} was not written: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


# --- The command ------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--what", type=click.Choice(("orders", "facts")), default="orders", help="One line for each of them.")
@click.option("--format", "form", type=click.Choice(("csv", "jsonl")), default="csv", help="CSV, or JSON Lines.")
@since_option
@time_option("--until", "Until when")
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="A file instead.")
@click.option("--force", is_flag=True, help="Replace the file.")
@personal_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@click.pass_obj
def export(
    stack: Callable[[], Stack],
    *,
    what: str,
    form: str,
    since: datetime | None,
    until: datetime | None,
    output: Path | None,
    force: bool,
    personal: bool,
    as_json: bool,
) -> None:
    """Writes all orders, or all facts, as CSV or JSON Lines.

    In no order. Money is text. Without --personal there is no address and no metadata.
    """
    form = "jsonl" if as_json else form
    if output is not None and not force and output.exists():
        raise Failed(f"there is a file {printable(str(output))} already; --force replaces it")
    here = stack()
    here.enter()
    first, last = since or datetime.min.replace(tzinfo=UTC), until or datetime.max.replace(tzinfo=UTC)
    with progress("Looking through the ledger") as advance:
        found = rows(items.scan(here, _PREFIXES[what], advance), what, first, last, personal=personal)
        if output is None:
            many = write(found, COLUMNS[what], sys.stdout, form)
        else:
            with _whole(output, force=force) as file:
                many = write(found, COLUMNS[what], file, form)
    tell(f"{many} {what} written.")
