"""`pf catalogue pull`: the shop's skus, and Pocketsflow's products."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ops.catalogue import _write, pull_into
from ops.cli import Failed
from ops.stack import Stack
from payments import catalogue
from sandbox.template import ROOT
from tests.pf import deployed, done, failed, run
from tests.world import PRODUCTS, World

COURSE, MEMBERSHIP, ELSEWHERE = (f"65a1b2c3d4e5f6a7b8c9d0e{number}" for number in (1, 2, 3))


@pytest.fixture
def stack(shop: World) -> Stack:
    return deployed()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalogue with the course, which waits for a person where the price differs, and one of the sample."""
    held: dict[str, Any] = {
        "kurs": {**PRODUCTS["course"], "on_difference": "hold", "price": "39"},
        "print": {**PRODUCTS["course"], "productId": "000000000000000000facade"},
    }
    found = tmp_path / "catalogue.json"
    found.write_text(json.dumps({"$schema": "./catalogue.schema.json", "products": held}))
    return found


def test_products_become_a_catalogue(shop: World, stack: Stack, path: Path) -> None:
    """An old sku stays with what the shop says of it; a new product has one of its name; the sample goes, and all of
    that is told."""
    told = done("catalogue", "pull", "--file", str(path), "--yes")
    assert told["changed"] == {"kurs": {"price": ["39", "49.00"]}}
    assert told["added"].keys() == {"membership", "sold-elsewhere"}
    assert told["dropped"].keys() == {"print"}
    assert told["written"] is True
    products = json.loads(path.read_text())["products"]
    assert products == {
        "kurs": {**PRODUCTS["course"], "on_difference": "hold"},
        "membership": PRODUCTS["membership"],
        "sold-elsewhere": {"productId": ELSEWHERE, "name": "Sold elsewhere", "price": "5.00", "currency": "usd"},
    }
    assert catalogue.load(path).keys() == products.keys()
    written = path.read_text()
    assert done("catalogue", "pull", "--file", str(path)) == {
        "added": {}, "changed": {}, "dropped": {}, "notes": [], "written": False,
    }  # fmt: skip
    assert path.read_text() == written
    assert [each.name for each in path.parent.iterdir()] == ["catalogue.json"]


def test_products_of_carts_are_left_out(shop: World, stack: Stack, path: Path) -> None:
    """Each was sold once, and nobody is to buy it again."""
    for slug in (catalogue.new_order_slug(), "order-1043"):
        shop.account.add_product({"name": slug, "price": Decimal(60), "slug": slug})
    added = done("catalogue", "pull", "--file", str(path), "--yes")["added"]
    assert added.keys() == {"membership", "sold-elsewhere", "order-1043"}


def test_half_a_character_in_a_name(shop: World, stack: Stack, path: Path) -> None:
    """Is JSON that can be read, and none that a file can have: the rest of the name is kept."""
    row = {"_id": "65a1b2c3d4e5f6a7b8c9d0e4", "name": "Half \ud83d", "price": 5, "currency": "usd"}
    shop.answers["GET /products"] = lambda _: (200, [row])
    assert done("catalogue", "pull", "--file", str(path), "--yes")["added"]["half"]["name"] == "Half ?"


def test_what_cannot_be_written_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another catalogue, nor a part of one beside it."""
    before = path.read_text()
    for entry in ({"name": "\ud83d"}, {"name": ""}):
        with pytest.raises(Failed, match="makes no catalogue"):
            _write(path, {"products": {"course": {**PRODUCTS["course"], **entry}}})
    assert (path.read_text(), [each.name for each in path.parent.iterdir()]) == (before, ["catalogue.json"])


def test_the_difference_is_shown_and_no_writes_nothing(shop: World, stack: Stack, path: Path) -> None:
    """Neither does a script without --yes."""
    before = path.read_text()
    result = run("catalogue", "pull", "--file", str(path), answering="n\n")
    assert (result.exit_code, "nothing was written" in result.stderr) == (1, True)
    for word in ("price 39 → 49.00", "membership", "Sold elsewhere, 5.00 usd", "(of the sample)"):
        assert word in result.stdout
    assert run("catalogue", "pull", "--file", str(path)).exit_code == 2
    assert path.read_text() == before
    assert run("catalogue", "pull", "--file", str(path), answering="y\n").exit_code == 0


def test_without_a_file_there_is_one(shop: World, stack: Stack, tmp_path: Path) -> None:
    """Of a shop that begins."""
    done("catalogue", "pull", "--file", str(tmp_path / "new.json"), "--yes")
    assert len(catalogue.load(tmp_path / "new.json")) == 3


def test_nothing_is_dropped_silently() -> None:
    """What is gone or not published stays and is named; a variant keeps its price; what makes no entry is left out
    and named."""
    held = {
        "gone": {"productId": "a" * 24, "name": "Gone", "price": "1.00", "currency": "usd"},
        "hidden": {"productId": "b" * 24, "name": "Hidden", "price": "1.00", "currency": "usd"},
        "big": {"productId": "c" * 24, "variantId": "v1", "name": "Big", "price": "9.00", "currency": "usd"},
    }
    rows: list[Any] = [
        row("b" * 24, "Hidden", published=False),
        row("c" * 24, "Poster", price=Decimal("5.00")),
        row("d" * 24, "Draft", active=False),
        row("e" * 24, "", price=Decimal(1)),
        row("f" * 24, "Too fine", price=Decimal("1.2345")),
        row("1" * 24, "No price", price=None),
        row("2" * 24, "No currency", currency="dollars"),
        row("no id", "Odd"),
    ]
    pulled = pull_into(held, rows)
    assert pulled.products == held
    assert not pulled.is_news
    assert [note.partition(":")[0] for note in pulled.notes] == [
        "gone", "hidden", "big", "Draft", "e" * 24, "Too fine", "No price", "No currency", "Odd",
    ]  # fmt: skip


def row(identity: str, name: str, **more: Any) -> dict[str, Any]:
    return {"_id": identity, "name": name, "price": Decimal("1.00"), "currency": "usd", **more}


def test_skus_are_valid_and_unlike_each_other(tmp_path: Path) -> None:
    """Whatever a product is called; and no old one is taken."""
    names = ["Größe & Café!", "grosse cafe", "A", "a", "日本", "-", "x" * 200, "x" * 199]
    rows = [row(f"{number:024x}"[::-1], name) for number, name in enumerate(names, 1)]
    held = {"a": {"productId": "f" * 24, "name": "Other", "price": "1.00", "currency": "usd"}}
    pulled = pull_into(held, rows)
    found = tmp_path / "catalogue.json"
    found.write_text(json.dumps({"products": pulled.products}))
    assert len(catalogue.load(found)) == len(names) + 1
    assert [*pulled.added][:4] == ["groe-cafe", "grosse-cafe", "a-2", "a-3"]
    assert pulled.products["a"] == held["a"]


def test_the_provider_s_digits() -> None:
    """A price is text, as it came; the same amount in other digits is no news."""
    assert pull_into({}, [row("a" * 24, "x", price=Decimal("10.50"))]).products["x"]["price"] == "10.50"
    assert pull_into({}, [row("a" * 24, "x", price=Decimal("1E+2"))]).products["x"]["price"] == "100"
    held = {"x": {"productId": "a" * 24, "name": "x", "price": "10.5", "currency": "usd"}}
    assert not pull_into(held, [row("a" * 24, "x", price=Decimal("10.50"))]).is_news


def test_a_catalogue_that_is_none(shop: World, stack: Stack, path: Path) -> None:
    """Is not written over: a person mends it first. Nor is one written that cannot be."""
    path.write_text('{"products": []}')
    code, line = failed("catalogue", "pull", "--file", str(path), "--yes")
    assert (code, "mend it first" in line) == (1, True)
    code, line = failed("catalogue", "pull", "--file", str(path.parent / "no/such.json"), "--yes", "--json")
    assert (code, "cannot be written" in line) == (1, True)


def test_pocketsflow_is_down(shop: World, stack: Stack, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is never taken for "there are none"."""
    monkeypatch.setattr("ops.provider.time.sleep", lambda _: None)
    before = path.read_text()
    for status, code in ((500, 75), (429, 75), (401, 1)):
        shop.answers["GET /products"] = lambda _, status=status: (status, {})  # type: ignore[misc]
        assert failed("catalogue", "pull", "--file", str(path), "--yes")[0] == code
    assert path.read_text() == before


def test_the_sample_is_what_the_sandbox_sells() -> None:
    """There nothing is dropped."""
    content = json.loads((ROOT / "functions/catalogue.json").read_text())["products"]
    rows = [row(each["productId"], each["name"], price=Decimal(each["price"])) for each in content.values()]
    assert not pull_into(content, rows).is_news
