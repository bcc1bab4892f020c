"""infra/events/: the schemas say exactly what the outbox tells."""

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from payments import outbox
from payments.sales import Verdict
from tests.event_schemas import FILES, TYPES, check, example, validator

ORDER_ID = "ord_prod_01m844ah4r4tff59tdwh9edd1r"
OTHER_ORDER_ID = "ord_prod_01m8439jer1head8x4a1jh69re"
PRODUCT, MEMBERSHIP = "6b042ac0d23f0824128b2f33", "6b042afc1818e811892f902b"
SALE, SECOND, REFUND = "6b042b389531985d5d9dc9f8", "6b042b74e8e25d940ed90475", "6b042bb036f675cc81e74ef5"
SUBSCRIPTION = "6b042bec1600a35a099950d8"
AT, LATER = "2026-11-23T12:00:00.000Z", "2026-11-23T12:05:00.000Z"

# --- The ledger's items before and after a write, one for each type ---------------------------------------------------

Image = dict[str, Any]


def payment(payment_id: str = SALE, **changes: Any) -> Image:
    return {
        "kind": "payment",
        "at": AT,
        "source": "webhook",
        "mode": "live",
        "raw": b'{"customer": {"firstName": "Jane"}}',
        "payment_id": payment_id,
        "product_id": PRODUCT,
        "amount": "64.99",
        "amount_before_tax": "60.00",
        "currency": "usd",
        "customer_email": "jane@example.com",
        "confirmed": True,
        **changes,
    }


def refund(amount: str, **changes: Any) -> Image:
    fact = {"kind": "refund", "at": LATER, "source": "api", "mode": "live", "payment_id": SALE, "refund_id": REFUND}
    return {**fact, "status": "completed", "amount": amount, "unit": "major", "confirmed": True, **changes}


def order(**facts: Image) -> Image:
    """With payments in the order of their names' writing."""
    return {
        "pk": f"order#{ORDER_ID}",
        "created_at": "2026-11-23T11:58:07.000Z",
        "mode": "live",
        "rev": len(facts),
        "product_id": PRODUCT,
        "sku": "course",
        "customer_email": "jane@example.com",
        "reference": None,
        "metadata": {},
        "untrusted_metadata": {"cart": "7"},
        **({"payments": paid} if (paid := [name for name in facts if name.startswith("pay#")]) else {}),
        **facts,
    }


def sale(payment_id: str = SALE, **facts: Any) -> Image:
    return {"pk": f"sale#{payment_id}", "mode": "live", "rev": len(facts), **facts}


def verdict(kind: str, *candidates: str) -> Image:
    return {"kind": kind, "candidates": list(candidates), "at": LATER}


def subscription(**changes: Any) -> Image:
    return {
        "pk": f"subscription#{SUBSCRIPTION}",
        "mode": "live",
        "rev": 1,
        "state": "active",
        "at": AT,
        "source": "api",
        "order_id": ORDER_ID,
        "sku": "membership",
        "product_id": MEMBERSHIP,
        "cancel_at_period_end": False,
        "period_start": "2026-11-23T12:00:00.000Z",
        "period_end": "2026-12-23T12:00:00.000Z",
        "customer_email": "jane@example.com",
        "customer_reference": "user-123",
        "reference": None,
        "metadata": {},
        "untrusted_metadata": {"cart": "7"},
        "payments": 1,
        **changes,
    }


RENEWAL = {
    "kind": "renewal",
    "at": LATER,
    "source": "api",
    "mode": "live",
    "payment_id": SECOND,
    "subscription_id": SUBSCRIPTION,
    "amount": "9.00",
    "unit": "major",
    "currency": "usd",
    "paid_at": "2026-12-23T12:00:00.000Z",
    "order_id": ORDER_ID,
    "sku": "membership",
    "product_id": MEMBERSHIP,
    "customer_email": "jane@example.com",
    "customer_reference": "user-123",
    "reference": None,
    "metadata": {},
    "untrusted_metadata": {"cart": "7"},
}
ARRIVAL = {"at": AT, "reason": "other_event", "event": "review.created", "sent_at": "1795435200000"}

PAY, PAY_AGAIN, REF = f"pay#{SALE}", f"pay#{SECOND}", f"ref#{SALE}#{REFUND}#completed"
FLAGS = {"kind": "flags", "payment_id": SALE, "refunded": False, "disputed": True, "at": LATER}
DRIFT = {"kind": "drift", "payment_id": SALE, "what": "amount", "ours": "64.99", "theirs": "49.00", "at": LATER}
PAID = order(**{PAY: payment()})
REFUNDED = order(**{PAY: payment(), REF: refund("64.99")})
WRITES: dict[str, tuple[Image, Image]] = {
    "order.paid": (order(), PAID),
    "order.partially_refunded": (PAID, order(**{PAY: payment(), REF: refund("10.00")})),
    "order.refunded": (PAID, REFUNDED),
    "order.disputed": (PAID, order(**{PAY: payment(), f"flags#{SALE}": FLAGS})),
    "order.dispute_closed": (
        order(**{PAY: payment(), f"flags#{SALE}": {**FLAGS, "at": AT}}),
        order(**{PAY: payment(), f"flags#{SALE}": {**FLAGS, "disputed": False}}) | {"rev": 3},
    ),
    "order.refund_anomaly": (
        REFUNDED,
        order(
            **{PAY: payment(), REF: refund("64.99"), f"ref#{SALE}#{REFUND}#failed": refund("64.99", status="failed")}
        ),
    ),
    "payment.second": (PAID, order(**{PAY: payment(), PAY_AGAIN: payment(SECOND, at=LATER)})),
    "payment.mismatched": (order(), order(**{PAY: payment(product_id=MEMBERSHIP, amount="9.00")})),
    "payment.refunded": (
        order(**{PAY: payment(), PAY_AGAIN: payment(SECOND)}),
        order(
            **{
                PAY: payment(),
                PAY_AGAIN: payment(SECOND),
                f"ref#{SECOND}#{REFUND}#completed": refund("64.99", payment_id=SECOND),
            }
        ),
    ),
    "payment.unmatched": (
        sale(**{PAY: payment()}),
        sale(**{PAY: payment(), "verdict": verdict("unmatched", ORDER_ID, OTHER_ORDER_ID)}),
    ),
    "payment.foreign": (
        {},
        sale(**{PAY: payment(source="api", unit="major"), "verdict": verdict("foreign")}) | {"rev": 1},
    ),
    "ledger.drift": (PAID, order(**{PAY: payment(), f"drift#{SALE}#amount": DRIFT})),
    "subscription.started": ({}, subscription()),
    "subscription.changed": (subscription(), subscription(cancel_at_period_end=True, at=LATER, rev=2)),
    "subscription.ended": (subscription(), subscription(state="ended", at=LATER, ended_at=LATER, rev=2)),
    "subscription.payment_failed": (subscription(), subscription(state="past_due", at=LATER, rev=2)),
    "subscription.payment_succeeded": (
        {},
        {"pk": f"sale#{SECOND}", "rev": 1, "api": {}, f"renewal#{SECOND}": RENEWAL},
    ),
    "webhook.other": (
        {},
        {"pk": "raw#" + "5f" * 32, "mode": "live", "body": b'{"webhookId": "wh_1"}', "arrivals": [ARRIVAL]},
    ),
}


def told(event_type: str) -> outbox.Event:
    """By its write."""
    [event] = [event for event in outbox.events(*WRITES[event_type]) if event.type == event_type]
    return event


def objects(detail: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of a detail and of the objects inside it, but of those whose keys a page chose."""
    yield path
    for name, value in detail.items():
        if isinstance(value, dict) and name not in ("metadata", "untrusted_metadata"):
            yield from objects(value, (*path, name))


def changed(detail: dict[str, Any], path: tuple[str, ...], name: str, value: Any) -> dict[str, Any]:
    """A copy with another value; `...` takes the field away."""
    other = copy.deepcopy(detail)
    inner = other
    for step in path:
        inner = inner[step]
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    return other


def fields(schema: Any) -> Iterator[tuple[str, Any]]:
    """Name and schema of every property, however deep."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "properties":
                yield from value.items()
            if key != "examples":
                yield from fields(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from fields(value)


# ----------------------------------------------------------------------------------------------------------------------


def test_every_type_has_a_schema() -> None:
    """What the outbox's source can name as a type is what there are schemas for, and nothing else."""
    source = ast.parse(Path(outbox.__file__).read_text())
    texts = [node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = {text for text in texts if re.fullmatch(r"(order|payment|ledger|subscription|webhook)\.[a-z_]+", text)}
    named |= {f"payment.{kind}" for kind in get_args(Verdict)}
    assert sorted(named) == TYPES
    assert sorted(WRITES) == TYPES
    assert set(TYPES) > outbox.NEEDS_ATTENTION


@pytest.mark.parametrize("name", FILES)
def test_a_schema_is_one(name: str) -> None:
    """Each file is JSON Schema 2020-12, says what it is about, and so does each of its fields."""
    schema = FILES[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["description"].endswith(".")
    if name != "common.json":
        assert schema["title"] == name.removesuffix(".json")
        assert schema["unevaluatedProperties"] is False
        assert len(schema["examples"]) == 1
    silent = [field for field, about in fields(schema) if not _says_something(about)]
    assert silent == []


def _says_something(about: dict[str, Any]) -> bool:
    """Itself, or by what it refers to; a closer look at what is described elsewhere need not."""
    reference = about.get("$ref", "")
    shared = FILES["common.json"]["$defs"].get(reference.rpartition("/")[2], {})
    return bool(about.get("description") or shared.get("description") or about.keys() <= {"type", "enum", "const"})


@pytest.mark.parametrize("event_type", TYPES)
def test_the_example_is_what_the_outbox_tells(event_type: str) -> None:
    """The example of each schema is, to the letter, the event of one write, and the schema takes it."""
    assert check(told(event_type)) == example(event_type)


@pytest.mark.parametrize("event_type", TYPES)
def test_what_is_not_in_the_schema_is_refused(event_type: str) -> None:
    """A field more is refused wherever it stands, and so is each field that is missing or a number with a fraction."""
    takes, detail = validator(event_type).is_valid, example(event_type)
    assert takes(detail)
    for path in objects(detail):
        assert not takes(changed(detail, path, "raw", "{}")), path
        inner = detail
        for step in path:
            inner = inner[step]
        for name in inner:
            assert not takes(changed(detail, path, name, ...)), (*path, name)
            assert not takes(changed(detail, path, name, 64.99)), (*path, name)


@pytest.mark.parametrize("amount", ["1E+2", "-0", "-1.00", "", ".5", "5.", "64,99", "NaN", "64.99\n", "1" * 18])
def test_amounts_are_digits(amount: str) -> None:
    """What is not decimal digits is no amount."""
    detail = example("order.refunded")
    for path, name in ((("payment",), "amount"), (("refund",), "amount"), (("refund",), "total")):
        assert validator("order.refunded").is_valid(changed(detail, path, name, "0.000001"))
        assert not validator("order.refunded").is_valid(changed(detail, path, name, amount))


def test_nothing_carries_a_body() -> None:
    """No schema has a field for a body as it came, or for a name, and only what the page sent has keys of its own."""
    names = {name for schema in FILES.values() for name, _ in fields(schema)}
    assert len(names) > 40
    assert not names & {"raw", "body", "raw_item", "payload", "content", "firstName", "lastName", "name", "customer"}
    for schema in FILES.values():
        free = [name for name, about in fields(schema) if isinstance(about.get("additionalProperties"), dict)]
        assert set(free) <= {"metadata", "untrusted_metadata"}


def test_every_definition_is_used() -> None:
    """common.json defines nothing that no schema refers to, and every reference is relative."""
    references = set(re.findall(r"'\$ref': '([^']+)'", str(FILES)))
    assert {reference.partition("#")[0] for reference in references} == {"", "common.json"}
    assert {reference.rpartition("/")[2] for reference in references} == FILES["common.json"]["$defs"].keys()
