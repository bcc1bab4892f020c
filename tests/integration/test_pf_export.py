"""`pf export`: the ledger for other programs, and for spreadsheets that take text for commands."""

import csv
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops import export
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.pf import answer, deployed, fails, run
from tests.world import World, world

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.fixture
def shop(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    deployed()
    with world(cloud, monkeypatch, datetime.now(UTC) - timedelta(hours=1)) as made:
        yield made


def exported(*words: str) -> list[dict[str, str]]:
    """Rows of a CSV on standard output."""
    result = run("export", *words)
    assert result.exit_code == 0, result.exception
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_orders_with_their_money_as_text(shop: World) -> None:
    """One row for each order, under the documented columns; nothing personal unless it is asked for."""
    order_id, payment = shop.buy()
    shop.deliver()
    shop.flow()
    shop.account.refund(payment, None, "requested_by_customer")
    shop.deliver()
    shop.flow()
    shop.clock.passes(minutes=30)
    pending, _ = shop.checkout(metadata={"cart": "7"})
    rows = {row["order_id"]: row for row in exported()}
    assert rows.keys() == {order_id, pending}
    assert tuple(rows[pending]) == export.ORDERS
    paid = rows[order_id]
    assert (paid["status"], paid["amount"], paid["refunded"], paid["currency"]) == ("refunded", "49.00", "49.00", "usd")
    assert (rows[pending]["status"], rows[pending]["amount"], rows[pending]["price"]) == ("pending", "", "49.00")
    assert not any(row[name] for row in rows.values() for name in export.PERSONAL)
    [pending_row] = exported("--since", "40m", "--personal")
    assert (pending_row["customer_email"], pending_row["untrusted_metadata"]) == ("buyer@example.com", '{"cart": "7"}')
    assert [row["order_id"] for row in exported("--until", "40m")] == [order_id]


def test_facts(shop: World) -> None:
    """One row for each, also of payments of no order; as JSON Lines under the same names."""
    order_id, payment = shop.buy()
    shop.deliver()
    shop.flow()
    stray = shop.sell_elsewhere("65a1b2c3d4e5f6a7b8c9d0e1")
    shop.deliver()
    result = run("export", "--what", "facts", "--format", "jsonl")
    rows = {row["fact"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert tuple(rows[f"pay#{payment}"]) == export.FACTS
    assert (rows[f"pay#{payment}"]["order_id"], rows[f"pay#{stray}"]["order_id"]) == (order_id, None)
    assert rows[f"pay#{payment}"]["amount"] == "49.00"
    assert len(rows[f"pay#{payment}"]["sha256"]) == 64
    assert "buyer@" not in result.stdout
    as_json = run("export", "--what", "facts", "--json").stdout
    assert {*as_json.splitlines()} == {*result.stdout.splitlines()}  # parts of the ledger are read side by side


def test_the_columns_are_documented() -> None:
    """Each, in its order."""
    page = (ROOT / "docs/pf.md").read_text()
    for what, columns in export.COLUMNS.items():
        assert f"| `{what}` | {', '.join(f'`{name}`' for name in columns)} |" in page


def test_the_columns_stay() -> None:
    """Whoever reads a file next year finds them where they were."""
    assert ",".join(export.ORDERS) == (
        "order_id,reference,status,opened_at,updated_at,paid_at,mode,sku,product_id,variant_id,price,price_currency,"
        "payment_id,kind,amount,amount_before_tax,unit,currency,source,refunded,second_payments,drift,subscription_id,"
        "customer_email,metadata,untrusted_metadata"
    )
    assert ",".join(export.FACTS) == (
        "at,order_id,item,fact,kind,source,mode,payment_id,refund_id,status,product_id,variant_id,amount,"
        "amount_before_tax,unit,currency,sha256,customer_email"
    )


FORMULAS = (
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", '"=1', "'=1", "\u00a0=1", "\ufeff=1", "\u200b=1",
    "\x00=1", "\uff1d1", "\uff0b1", "  ''\"\u202e@x", "=cmd|' /C calc'!A0", "\t", "\r",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_starts_no_formula(text: str) -> None:
    """Whatever hides in front of it; the apostrophe is what spreadsheets take for text."""
    assert export.cell(text).startswith("'")
    assert export.cell(text)[1:] == text.replace("\0", "")


@pytest.mark.parametrize("text", ["49.00", "a=b", "ord_test_1", "it's", "", "2026-11-28T00:00:00.000Z", '{"a": "=1"}'])
def test_harmless_cells_stay_as_they_are(text: str) -> None:
    """Money above all."""
    assert export.cell(text) == text


def test_a_stranger_s_formulas_and_quotes_in_a_file(shop: World) -> None:
    """A buyer's page wrote them; each stays in its cell, and starts none."""
    order_id, _ = shop.checkout(metadata={'=HYPERLINK("http://x")': 'a","b\r\n=1'})
    put = {"sku": "=1+1", "reference": '","=2\r\n=3', "session_id": "x"}
    for name, text in put.items():
        shop.stack.dynamodb.update_item(
            TableName=shop.stack.table,
            Key={"pk": {"S": f"order#{order_id}"}},
            UpdateExpression="SET #name = :text",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":text": {"S": text}},
        )
    result = run("export", "--personal")
    [row] = csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline=""))
    assert row["sku"] == "'=1+1"
    assert row["reference"] == '","=2\r\n=3'
    assert json.loads(row["untrusted_metadata"]) == {'=HYPERLINK("http://x")': 'a","b\r\n=1'}
    assert not any(cell[:1] in set("=+-@\t\r") for cell in row.values())


def test_a_file_is_there_whole_or_not_at_all(shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its owner alone; one that is there is kept without --force; a ledger that fails half-way leaves the old one,
    and nothing beside it."""
    shop.checkout()
    file = tmp_path / "orders.csv"
    assert run("export", "--output", str(file)).stderr.endswith("1 orders written.\n")
    assert file.stat().st_mode & 0o077 == 0
    first = file.read_bytes()
    assert first.startswith(b'"order_id","reference"')
    shop.checkout()
    result = run("export", "--output", str(file))
    assert (result.exit_code, "--force replaces it" in result.stderr, file.read_bytes()) == (1, True, first)
    with monkeypatch.context() as patch:
        fails(patch, "Scan", answer("ThrottlingException", operation="Scan"))
        assert run("export", "--output", str(file), "--force").exit_code == 75
    assert (file.read_bytes(), os.listdir(tmp_path)) == (first, ["orders.csv"])
    assert run("export", "--output", str(file), "--force").exit_code == 0
    assert file.read_bytes().count(b"\r\n") == 3
    nowhere = run("export", "--output", str(tmp_path / "none" / "orders.csv"))
    assert (nowhere.exit_code, "No such file" in nowhere.stderr) == (1, True)
    assert run("export", "--output", str(tmp_path)).exit_code == 2


def test_a_full_disk_is_no_file(shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "fsync", full)
    result = run("export", "--output", str(tmp_path / "orders.csv"))
    assert (result.exit_code, "No space left on device" in result.stderr) == (1, True)
    assert os.listdir(tmp_path) == []


def test_a_ledger_of_any_length_takes_the_same_memory(cloud: Aws) -> None:
    """Three thousand orders, and the most that is held at once is less than a tenth of them. No item is read before
    the one before it is written."""
    deployed().enter()
    written: list[str] = []

    class File(io.StringIO):
        def write(self, text: str) -> int:
            written[:] = [text]
            return len(text)

    def items(many: int) -> Iterator[dict[str, Any]]:
        for number in range(many):
            if number > 1:
                assert f"order-{number - 1}" in written[0]
            order = {"created_at": "2026-11-28T00:00:00.000Z", "product_id": "p", "padding": "x" * 1000}
            yield {"pk": f"order#order-{number}", **order}

    def export_many(many: int) -> int:
        tracemalloc.start()
        rows = export.rows(items(many), "orders", FIRST, LAST, personal=True)
        assert export.write(rows, export.ORDERS, File(), "csv") == many
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    export_many(10)
    assert export_many(3_000) < 300_000
