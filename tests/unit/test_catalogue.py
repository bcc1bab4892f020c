"""payments.catalogue: what the shop sells, checked before anything is built with it."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from payments import catalogue
from payments.catalogue import Invalid, Item

FUNCTIONS = Path(catalogue.__file__).parent.parent
SHIPPED = FUNCTIONS / "catalogue.json"
PRODUCT = {"productId": "6949918ee8d99b0e628103e0", "name": "Course", "price": "49.00", "currency": "usd"}


def _pattern(_validator: Any, pattern: str, text: Any, _schema: Any) -> Any:
    """JSON Schema's patterns are ECMAScript's, where $ is the very end; Python's also stops before a newline."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield jsonschema.ValidationError(f"does not match {pattern}")


SCHEMA = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})(
    json.loads((FUNCTIONS / "catalogue.schema.json").read_text())
)


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "catalogue.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def one(sku: str = "course", **changes: Any) -> dict[str, Any]:
    """A catalogue of one product; a change to ... takes the field away."""
    product = {name: value for name, value in {**PRODUCT, **changes}.items() if value is not ...}
    return {"products": {sku: product}}


GOOD = [
    pytest.param(one(), id="plain"),
    pytest.param({"products": {}}, id="no_products"),
    pytest.param({"$schema": "./catalogue.schema.json", **one()}, id="with_schema"),
    pytest.param({"products": {**one("a")["products"], **one("b")["products"]}}, id="two"),
    pytest.param(one("a"), id="sku_of_one_letter"),
    pytest.param(one("0-_"), id="sku_with_digits_and_marks"),
    pytest.param(one("a" * 64), id="longest_sku"),
    pytest.param(one(name="x"), id="shortest_name"),
    pytest.param(one(name="x" * 200), id="longest_name"),
    pytest.param(one(name="\U0001f600" * 200), id="longest_name_in_emoji"),
    pytest.param(one(name="a\nb"), id="name_of_two_lines"),
    pytest.param(one(name=" "), id="name_is_a_space"),
    pytest.param(one(price="0"), id="free"),
    pytest.param(one(price="0.5"), id="one_place"),
    pytest.param(one(price="1.234"), id="three_places"),
    pytest.param(one(price="9" * 10 + ".999"), id="largest_price"),
    pytest.param(one(variantId="0000000000000000000000a2"), id="variant"),
    pytest.param(one(variantId="A-_" + "z" * 61), id="longest_variant"),
    pytest.param(one(on_difference="accept"), id="accept"),
    pytest.param(one(on_difference="hold"), id="hold"),
]

BAD = [  # content, and what the message must say
    pytest.param([], '"products"', id="list"),
    pytest.param(None, '"products"', id="null"),
    pytest.param(7, '"products"', id="number"),
    pytest.param({}, '"products"', id="empty_object"),
    pytest.param({"products": []}, '"products"', id="products_is_a_list"),
    pytest.param({"products": None}, '"products"', id="products_is_null"),
    pytest.param({**one(), "version": 1}, '"products"', id="field_beside_products"),
    pytest.param({**one(), "$schema": 1}, '"products"', id="schema_is_a_number"),
    pytest.param({**one(), "$schema": None}, '"products"', id="schema_is_null"),
    pytest.param(one(""), "sku", id="sku_empty"),
    pytest.param(one("Course"), "Course", id="sku_in_upper_case"),
    pytest.param(one("-a"), "-a", id="sku_begins_with_a_dash"),
    pytest.param(one("a b"), "a b", id="sku_with_space"),
    pytest.param(one("a\n"), "sku", id="sku_with_newline"),
    pytest.param(one("é"), "sku", id="sku_with_accent"),
    pytest.param(one("a" * 65), "a" * 65, id="sku_too_long"),
    pytest.param({"products": {"course": []}}, "course", id="product_is_a_list"),
    pytest.param({"products": {"course": None}}, "course", id="product_is_null"),
    pytest.param({"products": {"course": PRODUCT["productId"]}}, "course", id="product_is_text"),
    pytest.param(one(colour="red"), "course", id="unknown_field"),
    pytest.param(one(productid=PRODUCT["productId"]), "course", id="field_in_another_case"),
    *(pytest.param(one(**{field: ...}), field, id=f"{field}_missing") for field in PRODUCT),
    *(pytest.param(one(**{field: None}), f"course: {field}", id=f"{field}_null") for field in PRODUCT),
    *(pytest.param(one(**{field: 7}), f"course: {field}", id=f"{field}_number") for field in PRODUCT),
    *(
        pytest.param(one(**{field: [value]}), f"course: {field}", id=f"{field}_list")
        for field, value in PRODUCT.items()
    ),
    *(pytest.param(one(**{field: ""}), f"course: {field}", id=f"{field}_empty") for field in PRODUCT),
    pytest.param(one(productId="6949918EE8D99B0E628103E0"), "productId", id="product_id_in_upper_case"),
    pytest.param(one(productId="6949918ee8d99b0e628103e"), "productId", id="product_id_too_short"),
    pytest.param(one(productId="6949918ee8d99b0e628103e00"), "productId", id="product_id_too_long"),
    pytest.param(one(productId="6949918ee8d99b0e628103e0\n"), "productId", id="product_id_with_newline"),
    pytest.param(one(productId="\u0661" * 24), "productId", id="product_id_in_arabic_indic_digits"),
    pytest.param(one(variantId=""), "variantId", id="variant_empty"),
    pytest.param(one(variantId=None), "variantId", id="variant_null"),
    pytest.param(one(variantId="a#b"), "variantId", id="variant_with_hash_sign"),
    pytest.param(one(variantId="a" * 65), "variantId", id="variant_too_long"),
    pytest.param(one(name="x" * 201), "name", id="name_too_long"),
    pytest.param(one(price=49.0), "price", id="price_is_a_float"),
    pytest.param(one(price="49,00"), "price", id="price_with_comma"),
    pytest.param(one(price="-1"), "price", id="price_negative"),
    pytest.param(one(price="+1"), "price", id="price_with_sign"),
    pytest.param(one(price="1e3"), "price", id="price_with_exponent"),
    pytest.param(one(price="049"), "price", id="price_with_leading_zero"),
    pytest.param(one(price=".5"), "price", id="price_without_units"),
    pytest.param(one(price="5."), "price", id="price_without_places"),
    pytest.param(one(price="1.2345"), "price", id="price_with_four_places"),
    pytest.param(one(price="1" * 11), "price", id="price_too_large"),
    pytest.param(one(price="NaN"), "price", id="price_nan"),
    pytest.param(one(price="49.00\n"), "price", id="price_with_newline"),
    pytest.param(one(price="$49"), "price", id="price_with_symbol"),
    pytest.param(one(currency="USD"), "currency", id="currency_in_upper_case"),
    pytest.param(one(currency="us"), "currency", id="currency_too_short"),
    pytest.param(one(currency="usdt"), "currency", id="currency_too_long"),
    pytest.param(one(currency="usd\n"), "currency", id="currency_with_newline"),
    pytest.param(one(on_difference="refuse"), "on_difference", id="on_difference_unknown"),
    pytest.param(one(on_difference="holdx"), "on_difference", id="on_difference_longer"),
    pytest.param(one(on_difference=True), "on_difference", id="on_difference_is_true"),
    pytest.param(one(on_difference=None), "on_difference", id="on_difference_null"),
]


def test_the_shipped_file():
    """The catalogue that comes with the project is one, and is known for a sample."""
    items = catalogue.load(SHIPPED)
    assert items["print"] == Item(
        product_id="000000000000000000facade",
        sku="print",
        variant_id="0000000000000000000000a2",
        price=Decimal("120.00"),
        currency="usd",
        hold_on_difference=True,
    )
    assert items.keys() == {"course", "membership", "print"}
    assert not items["course"].hold_on_difference
    assert catalogue.is_sample(items)


def test_an_absent_file(tmp_path: Path):
    """A shop without a catalogue sells by product id."""
    assert catalogue.load(tmp_path / "catalogue.json") == {}


@pytest.mark.parametrize("content", GOOD)
def test_a_good_catalogue(tmp_path: Path, content: dict[str, Any]):
    """The loader and the schema both accept it."""
    SCHEMA.validate(content)
    items = catalogue.load(written(tmp_path, content))
    assert items.keys() == content["products"].keys()
    for sku, product in content["products"].items():
        assert items[sku].sku == sku
        assert items[sku].price == Decimal(product["price"])
        assert items[sku].hold_on_difference == (product.get("on_difference") == "hold")


@pytest.mark.parametrize(("content", "where"), BAD)
def test_a_bad_catalogue(tmp_path: Path, content: Any, where: str):
    """The loader and the schema both refuse it, and the loader says where."""
    assert not SCHEMA.is_valid(content)
    with pytest.raises(Invalid, match=re.escape(where)):
        catalogue.load(written(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut_off"),
        pytest.param(b'{"products": {}} x', id="trailing_garbage"),
        pytest.param(b'{"products": "\xff"}', id="not_utf8"),
        pytest.param(b"\xef\xbb\xbf{}", id="bom"),
        pytest.param("{}".encode("utf-16"), id="utf_16"),
        pytest.param(b'{"products":' + b"[" * 100_000, id="100_000_deep"),
    ],
)
def test_no_json(tmp_path: Path, content: bytes):
    """A file that is no JSON is Invalid, and named."""
    path = tmp_path / "catalogue.json"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=r"catalogue\.json is not JSON"):
        catalogue.load(path)


def test_a_sku_twice(tmp_path: Path):
    """The second of two products of one name must not silently win: a price would be another than the one read."""
    twice = json.dumps(one(price="49.00"))[:-2] + ", " + json.dumps(one(price="4.90")["products"])[1:] + "}"
    assert list(json.loads(twice)["products"]) == ["course"]
    with pytest.raises(Invalid):
        catalogue.load(written(tmp_path, twice))


@pytest.mark.parametrize(
    ("products", "sample"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"a": "6949918ee8d99b0e628103e0"}, False, id="real"),
        pytest.param({"a": "000000000000000000c0ffee"}, True, id="sample"),
        pytest.param({"a": "6949918ee8d99b0e628103e0", "b": "000000000000000000decade"}, True, id="one_of_two"),
        pytest.param({"a": "00000000e8d99b0e628103e0"}, False, id="only_eight_zeros"),
        pytest.param({"a": "6949918e0000000000000000"}, False, id="zeros_at_the_end"),
    ],
)
def test_is_sample(products: dict[str, str], sample: bool):
    """One product that nobody sells makes the catalogue a sample."""
    assert catalogue.is_sample({sku: Item(product_id) for sku, product_id in products.items()}) is sample


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        pytest.param(one(), 0, "catalogue: 1 products", id="good"),
        pytest.param(..., 0, "catalogue: 0 products", id="absent"),
        pytest.param(one(price="49,00"), 1, "catalogue: course: price", id="bad"),
        pytest.param("{", 1, "catalogue: catalogue.json is not JSON", id="no_json"),
    ],
)
def test_the_command(tmp_path: Path, content: Any, status: int, said: str):
    """`python -m payments.catalogue FILE` needs nothing of the functions' environment: the build runs it."""
    path = tmp_path / "catalogue.json" if content is ... else written(tmp_path, content)
    run = subprocess.run(
        [sys.executable, "-B", "-m", "payments.catalogue", str(path)],
        cwd=FUNCTIONS,
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == status
    assert (run.stderr if status else run.stdout).startswith(said)
    assert "Traceback" not in run.stderr
