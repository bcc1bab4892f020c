"""The no-code feed: flat events with stable names, posted to an address that nobody sees."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from connectors import feed
from sandbox.template import ROOT
from tests.event_schemas import TYPES, example

EXAMPLES = {kind: example(kind) for kind in TYPES}
PAGE = (ROOT / "docs/connectors/feed.md").read_text()
SAMPLE = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])


def of_server(metadata: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """The flat `order.paid` of an order that the shop's server opened."""
    return feed.flat("order.paid", {**EXAMPLES["order.paid"], "metadata": metadata, **more})


# --- One form for every event -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_type_has_the_same_fields(kind: str) -> None:
    """In one order, and nothing in them that a no-code tool would have to unfold."""
    content = feed.flat(kind, EXAMPLES[kind])
    assert list(content) == ["type", "test", *feed.FIELDS]
    assert all(value is None or isinstance(value, str | int) for value in content.values())
    assert (content["type"], content["id"], content["test"]) == (kind, EXAMPLES[kind]["id"], False)


def test_the_page_shows_it_as_it_is() -> None:
    """Every field is explained, none that there is not, and the sample is what the example of the event becomes."""
    table = PAGE.partition("\n| field | |\n")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(["type", "test", *feed.FIELDS])
    assert of_server({"customer": "4711"}, reference="A-1001") == SAMPLE


def test_money_is_text_and_exact() -> None:
    """Amounts are the event's own digits: a tool that reads numbers as floats loses nothing."""
    paid = EXAMPLES["subscription.payment_succeeded"]
    assert feed.flat("subscription.payment_succeeded", paid)["amount"] == "9.00"


def test_a_subscription_is_found_wherever_it_stands() -> None:
    """Its own event, its payment and its first payment name it in one field."""
    kinds = ("subscription.started", "subscription.payment_succeeded")
    assert {feed.flat(kind, EXAMPLES[kind])["subscription_id"] for kind in kinds} == {"6b042bec1600a35a099950d8"}


# --- Attacks ----------------------------------------------------------------------------------------------------------


def test_browser_metadata_names_no_one_s_order() -> None:
    """What a page sent along is not told at all: no tool can take it for an order, a member or an amount."""
    forged = {"order_id": "ord_test_forged", "reference": "A-1", "amount": "0.01", "customer_email": "x@forged.example"}
    content = of_server({}, untrusted_metadata=forged)
    assert content == of_server({}, untrusted_metadata={})


@pytest.mark.parametrize("name", ["id", "email", "customer_email", "order_id", "amount", "type", "test", "metadata_id"])
def test_metadata_overwrites_no_field(name: str) -> None:
    """A key that is called as a field is becomes another one, whatever its case."""
    for key in (name, name.upper(), f" {name} ", f"__{name}"):
        content = of_server({key: "forged"})
        assert {field: content[field] for field in ("type", "test", *feed.FIELDS)} == of_server({})
        assert content[f"metadata_{name}"] == "forged"


def test_metadata_names_are_plain() -> None:
    """Quotes, line breaks, dots, braces and other scripts make no name that a tool's template could stumble on; keys
    that are written alike then are kept apart, and none is lost."""
    keys = ["Customer ID", "customer-id", "customer.id", '"]}}{{', "é", "名", "\r\nx: y", "a" * 100, ""]
    names = of_server({key: str(number) for number, key in enumerate(keys)}).keys() - of_server({}).keys()
    assert len(names) == len(keys)
    assert all(re.fullmatch(r"metadata_[a-z0-9_]{0,48}", name) for name in names)
    assert {"metadata_customer_id", "metadata_customer_id_", "metadata_customer_id__", "metadata_x_y"} <= names


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3+cmd|x", "\t=1", " =1", '"=1', "＝1", "\u200b=1"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    """A buyer's address or a note that a spreadsheet would run has an apostrophe before it."""
    content = of_server({"note": text}, customer_email=text)
    assert (content["customer_email"], content["metadata_note"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", ["+49 (30) 1234-56", "-5", "jane@example.com", "a=b", "2026-11-28", ""])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    """A telephone number goes to the tool that calls it as it was written."""
    assert of_server({"note": text})["metadata_note"] == text
