"""`pf catalogue pull`: functions/catalogue.json as Pocketsflow's products are, with the shop's own skus."""

import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from ops.cli import Failed, confirmed, json_option, print_json, printable, table, tell, yes_option
from ops.provider import Provider, Row
from ops.stack import Stack
from payments import strictjson
from payments.catalogue import Invalid, Item, is_of_an_order, is_sample, load
from sandbox.template import ROOT

FILE = ROOT / "functions/catalogue.json"
MAX_SKU, MAX_NAME = 64, 200
_PRODUCT_ID = re.compile(r"[0-9a-f]{24}")
_PRICE = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?")
_CURRENCY = re.compile(r"[a-z]{3}")

Entry = dict[str, str]


@dataclass
class Pulled:
    """`products` is the new catalogue; the rest is what differs from the old one, for a person."""

    products: dict[str, Entry] = field(default_factory=dict)
    added: dict[str, Entry] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: dict[str, Entry] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_news(self) -> bool:
        return bool(self.added or self.changed or self.dropped)


@click.group()
def catalogue() -> None:
    """What the shop sells."""


@catalogue.command()
@click.option(
    "--file", "path", type=click.Path(dir_okay=False, path_type=Path), default=FILE,
    help="Where it is written; by default functions/catalogue.json.",
)  # fmt: skip
@yes_option
@json_option
@click.pass_obj
def pull(stack: Callable[[], Stack], *, path: Path, yes: bool, as_json: bool) -> None:
    """Writes the products that Pocketsflow has into catalogue.json.

    Skus stay what they are, and so does `on_difference`; new products get a sku of their name. Products that were made
    for carts are left out. Deploy afterwards.
    """
    on = stack()
    content = _content(path)
    pulled = pull_into(content["products"], Provider(on).products())
    if not as_json:
        _show(pulled)
    if pulled.is_news:
        if not confirmed(f"Write {len(pulled.products)} products to {path}?", yes=yes):
            raise Failed("nothing was written")
        _write(path, {**content, "products": pulled.products})
    if as_json:
        news = {name: getattr(pulled, name) for name in ("added", "changed", "dropped", "notes")}
        print_json({**news, "written": pulled.is_news})
    else:
        tell(f"Written: {path}. Deploy it." if pulled.is_news else "The catalogue is as Pocketsflow's products are.")


def pull_into(held: dict[str, Entry], rows: Iterable[Row]) -> Pulled:
    """What the catalogue is with Pocketsflow's products."""
    listed = {str(row.get("_id")): row for row in rows}
    pulled = Pulled()
    for sku, entry in held.items():
        row = listed.get(entry["productId"])
        if row is None and is_sample({sku: Item(entry["productId"])}):
            pulled.dropped[sku] = entry
            continue
        pulled.products[sku] = entry if row is None else _renewed(sku, entry, row, pulled)
        if row is None:
            pulled.notes.append(
                f"{sku}: Pocketsflow has no product {entry['productId']} any more; it stays until you remove it"
            )
        elif not _is_sold(row):
            pulled.notes.append(f"{sku}: is not published at Pocketsflow; it stays until you remove it")
    known = {entry["productId"] for entry in held.values()}
    for identity, row in listed.items():
        if identity not in known and not is_of_an_order(row.get("slug")):
            _add(identity, row, pulled)
    return pulled


def _renewed(sku: str, entry: Entry, row: Row, pulled: Pulled) -> Entry:
    """An entry with what Pocketsflow says of its product now. What a variant costs it does not say."""
    told, wrong = _told(row)
    if "variantId" in entry:
        pulled.notes.append(f"{sku}: is a variant, which Pocketsflow's list does not have; name and price stay")
        return entry
    if wrong:
        pulled.notes.append(f"{sku}: {wrong}; it stays as it is")
        return entry
    same_price = Decimal(entry["price"]) == Decimal(told["price"])
    new = {**entry, **told, **({"price": entry["price"]} if same_price else {})}
    if new != entry:
        pulled.changed[sku] = {name: [entry[name], new[name]] for name in told if entry[name] != new[name]}
    return new


def _add(identity: str, row: Row, pulled: Pulled) -> None:
    name = printable(str(row.get("name") or identity))
    told, wrong = _told(row)
    if not _PRODUCT_ID.fullmatch(identity):
        wrong = "has an id that a catalogue cannot have"
    if not _is_sold(row):
        wrong = "is not published"
    if wrong:
        pulled.notes.append(f"{name}: {wrong}; left out")
        return
    sku = _sku(told["name"], identity, pulled.products.keys())
    pulled.products[sku] = pulled.added[sku] = {"productId": identity, **told}


def _told(row: Row) -> tuple[Entry, str]:
    """Name, price and currency as a catalogue has them; or what is wrong with them."""
    name, price, currency = row.get("name"), row.get("price"), row.get("currency")
    if not isinstance(name, str) or not name.strip():
        return {}, "has no name"
    text = f"{price:f}" if isinstance(price, Decimal) and price.is_finite() else ""
    if not _PRICE.fullmatch(text):
        return {}, "has no price that a catalogue can have"
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency.lower()):
        return {}, "has no currency"
    whole = name.encode("utf-8", "replace").decode()  # half a character has no place in a file
    return {"name": whole[:MAX_NAME], "price": text, "currency": currency.lower()}, ""


def _is_sold(row: Row) -> bool:
    return row.get("active") is not False and row.get("published") is not False


def _sku(name: str, identity: str, taken: Iterable[str]) -> str:
    """Of a name, as an address would have it; unlike all others."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    sku = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[: MAX_SKU - 4].strip("-") or f"product-{identity[-6:]}"
    names, number = set(taken), 1
    found = sku
    while found in names:
        number += 1
        found = f"{sku}-{number}"
    return found


def _show(pulled: Pulled) -> None:
    rows = [["+", sku, _words(entry)] for sku, entry in pulled.added.items()]
    rows += [
        ["~", sku, ", ".join(f"{name} {was} → {now}" for name, (was, now) in changes.items())]
        for sku, changes in pulled.changed.items()
    ]
    rows += [["-", sku, f"{_words(entry)} (of the sample)"] for sku, entry in pulled.dropped.items()]
    if rows:
        table(["", "sku", "product"], rows)
    for note in pulled.notes:
        tell(printable(note))


def _words(entry: Entry) -> str:
    return f"{entry['name']}, {entry['price']} {entry['currency']}"


def _content(path: Path) -> dict[str, Any]:
    """Of a catalogue that is valid, or of none. Raises Failed."""
    try:
        load(path)
        content: dict[str, Any] = strictjson.parse(path.read_bytes()) if path.exists() else {}
    except Invalid as invalid:
        raise Failed(f"{invalid}; mend it first") from None
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None
    return {"$schema": "./catalogue.schema.json", "products": {}} | content


def _write(path: Path, content: dict[str, Any]) -> None:
    """All of it or nothing, and nothing that the functions would not take. Raises Failed."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".catalogue", delete=False) as new:
            try:
                new.write(text.encode())
                new.close()
                load(Path(new.name))
                os.chmod(new.name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
                os.replace(new.name, path)
            except BaseException:
                os.unlink(new.name)
                raise
    except (Invalid, UnicodeEncodeError) as wrong:
        raise Failed(f"what Pocketsflow has makes no catalogue: {wrong}") from None
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from None
