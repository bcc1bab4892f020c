"""payments.privacy: what of an item is about a person, and that nothing else goes with it."""

import base64
import copy
import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payments import events, ledger, orders, outbox, privacy, table
from payments.privacy import Person, Redaction
from tests import conftest
from tests.payloads import PRODUCT, paid, refunded, subscribed

EXAMPLES = settings(conftest.EXAMPLES, max_examples=60)
ADDRESS = "ann@example.com"
ANN = Person(ADDRESS)
AT = "2026-11-28T12:00:00.000Z"
EARLY, LATE = "2025-01-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z"
OURS = "ord_test_" + "01hzy7v3k4m5n6p7q8r9s0t1v2"
Item = dict[str, Any]


def raw(content: Item, address: str = ADDRESS) -> bytes:
    return json.dumps({**content, "customer": {"email": address, "firstName": "Ann", "lastName": "Person"}}).encode()


def payment(identity: str = "sale1", address: str | None = ADDRESS, at: str = EARLY, **more: Any) -> Item:
    found = {
        "kind": "payment", "payment_id": identity, "product_id": PRODUCT, "amount": "64.99", "currency": "usd",
        "at": at, "source": "webhook", "mode": "test", "customer_email": address,
        "raw": raw(paid(OURS, identity), address or "nobody"), **more,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def refund(identity: str = "sale1", at: str = EARLY, **more: Any) -> Item:
    return {
        "kind": "refund", "payment_id": identity, "refund_id": "ref1", "status": "succeeded", "amount": "5.00",
        "at": at, "source": "webhook", "mode": "test", "raw": b'{"order": {"id": "sale1"}, "name": "Ann"}', **more,
    }  # fmt: skip


def order(**more: Any) -> Item:
    return {
        "pk": f"order#{OURS}", "created_at": EARLY, "product_id": PRODUCT, "mode": "test", "rev": 1,
        "customer_email": ADDRESS, "untrusted_metadata": {"cart": "7"}, "metadata": {"member": "7"}, **more,
    }  # fmt: skip


def paid_order(**more: Any) -> Item:
    return order(**{"payments": ["pay#sale1"], "pay#sale1": payment(), "ref#sale1#ref1#succeeded": refund(), **more})


def subscription(**more: Any) -> Item:
    return {
        "pk": "subscription#sub1", "state": "active", "product_id": PRODUCT, "rev": 3, "at": EARLY, "order_id": OURS,
        "customer_email": ADDRESS, "untrusted_metadata": {"cart": "7"}, **more,
    }  # fmt: skip


def kept(body: bytes, at: str = EARLY) -> Item:
    arrival = {"at": at, "reason": "other_event", "event": "review.created", "sent_at": ""}
    return {"pk": "raw#1", "body": body, "arrivals": [arrival]}


def applied(item: Item, redactions: list[Redaction]) -> Item:
    """The item after those of its own."""
    image: Any = table.values(copy.deepcopy(item))
    for redaction in redactions:
        if redaction.pk == item["pk"]:
            redaction.on(image)
    return table.plain(image)


def erased(item: Item, person: Person = ANN) -> Item:
    return applied(item, person.redactions(item, AT))


# --- Who is named -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS,
        "ANN@Example.COM",
        f"mailto:{ADDRESS}",
        f"Ann <{ADDRESS}>, the first.",
        f"https://pay.example/?email={ADDRESS}&x=1",
        "https://pay.example/?email=ann%40example.com",
        f"{ADDRESS}.",
    ],
)
def test_an_address_is_found_wherever_it_stands(text: str) -> None:
    """In any case, alone or within other text, and as addresses of pages write it."""
    assert ANN.is_named(text)
    assert ANN.is_named({"deep": [{"er": text}]})
    assert ANN.is_named({text: 1})
    assert ADDRESS not in ANN.without(text).casefold()


@pytest.mark.parametrize(
    "text",
    [
        "joann@example.com",
        "jo.ann@example.com",
        "x+ann@example.com",
        "o'ann@example.com",
        f"{ADDRESS}.au",
        "ann@example.community",
    ],
)
def test_another_s_address_that_contains_it(text: str) -> None:
    """Is another person's."""
    assert not ANN.is_named(text)
    assert not ANN.is_named({"customer": {"email": text}})
    assert erased(order(customer_email=text, payments=[], untrusted_metadata={})) == order(
        customer_email=text, payments=[], untrusted_metadata={}
    )


@pytest.mark.parametrize(
    "body",
    [
        raw({}),
        json.dumps({"email": ADDRESS}).replace("@", "\\u0040").encode(),
        json.dumps({"metadata": json.dumps({"email": ADDRESS}).replace("@", "\\u0040")}).encode(),
        b'{"not": "JSON", ' + ADDRESS.upper().encode(),
        ADDRESS.encode("utf-16"),
        b"\xff" + ADDRESS.encode(),
        json.dumps({"note": f"Ann\n{ADDRESS}\tthe first"}).encode(),
        json.dumps({"note": json.dumps(f"Ann\n{ADDRESS}")}).encode(),
    ],
)
def test_a_body_names_it_however_it_is_written(body: bytes) -> None:
    """Escaped as JSON allows, JSON within JSON, no JSON at all, another encoding."""
    assert ANN.is_named(body)
    assert erased(kept(body))["body"] == b""


# --- A person goes ----------------------------------------------------------------------------------------------------


def test_an_order_of_the_person() -> None:
    """Address, what the browser said and bodies go, also that of a refund which has the name alone; money, states and
    what the shop's server said stay."""
    found = erased(paid_order())
    assert {"customer_email", "untrusted_metadata"} & found.keys() == set()
    assert found["erased"] is None
    assert found["metadata"] == {"member": "7"}
    assert "Ann" not in repr(found)
    for name in ("pay#sale1", "ref#sale1#ref1#succeeded"):
        before = {key: value for key, value in paid_order()[name].items() if key not in ("raw", "customer_email")}
        assert found[name] == {**before, "redacted_at": AT}


def test_what_the_shop_s_server_said_of_the_address_goes() -> None:
    """And nothing else that it said."""
    found = erased(order(metadata={"member": "7", "mail": f"to {ADDRESS}"}))
    assert found["metadata"] == {"member": "7"}
    bobs = order(customer_email="bob@example.com", metadata={"present for": ADDRESS})
    found = erased(bobs)
    assert found == {**bobs, "metadata": {}}  # and what he pays later stays his: the order is not marked as erased


def test_a_checkout_s_address_goes_with_its_session() -> None:
    """Where it has the person's in it; any other stays."""
    url = "https://pay.example/?email=ann%40example.com"
    found = erased(order(session_id="cs_1", checkout_url=url, open_day=EARLY[:10]))
    assert {"session_id", "checkout_url"} & found.keys() == set()
    found = erased(paid_order(session_id="cs_1", checkout_url=f"https://pay.example/?email={ADDRESS}"))
    assert found["session_id"] == "cs_1"  # or who asks for the same checkout again gets another one, to pay again
    assert found["checkout_url"] == "https://pay.example/?email=(erased)"
    assert erased(order(session_id="cs_1", checkout_url="https://pay.example/1"))["session_id"] == "cs_1"


def test_somebody_else_s_payment_in_the_person_s_order() -> None:
    """Keeps its own address and body; and the other way round."""
    other = payment("sale2", "bob@example.com")
    found = erased(paid_order(**{"pay#sale2": other, "payments": ["pay#sale1", "pay#sale2"]}))
    assert found["pay#sale2"] == other
    found = erased(paid_order(customer_email="bob@example.com"))
    assert found["customer_email"] == "bob@example.com"
    assert found["untrusted_metadata"] == {"cart": "7"}
    assert "Ann" not in repr(found)


def test_a_subscription_of_the_person() -> None:
    """Its address becomes null, which `if_not_exists(erased, …)` leaves so."""
    found = erased(subscription(customer_reference=f"customer {ADDRESS}"))
    assert (found["customer_email"], found["erased"], found["untrusted_metadata"]) == (None, None, {})
    assert "customer_reference" not in found
    assert erased(subscription(customer_reference="member-7"))["customer_reference"] == "member-7"


def test_where_more_may_arrive() -> None:
    """The payment's item and the subscription of an order are the person's too, as far as they name nobody else; and a
    body that lies beside its fact."""
    facts = {
        "pay#sale1": payment(raw=None, raw_item="raw#large"),
        "sub#sub1": payment("sub1", kind="subscription"),
        "payments": ["pay#sale1", "sub#sub1"],
    }
    found = {each.pk: each for each in reversed(ANN.redactions(order(**facts), AT))}
    assert found["sale#sale1"].put == {("erased",): privacy.NULL}
    assert found.keys() == {f"order#{OURS}", "sale#sale1", "subscription#sub1", "raw#large"}
    assert found["subscription#sub1"].condition == "attribute_not_exists(customer_email)"
    assert found["raw#large"].put == {("body",): {"B": b""}, ("redacted_at",): {"S": AT}}


def test_a_refund_that_waited_beside_its_payment() -> None:
    """Is taken out there as well, whether or not it has the address."""
    puts = [each.put for each in ANN.redactions(paid_order(), AT) if each.pk == "sale#sale1"]
    assert {("ref#sale1#ref1#succeeded", "redacted_at"): {"S": AT}} in puts


def test_a_reason_in_the_audit() -> None:
    """Loses the address alone, entry by entry."""
    item = {"pk": "audit#2026-11-28", "entries": [{"reason": "theft", "who": "x"}, {"reason": f"of {ADDRESS}"}]}
    [redaction] = ANN.redactions(item, AT)
    assert redaction.put == {("entries", 1, "reason"): {"S": "of (erased)"}}
    assert redaction.update()["UpdateExpression"] == "SET #n0[1].#n1 = :v0"
    assert redaction.update()["ConditionExpression"] == "attribute_exists(pk) AND attribute_exists(#n0[1])"


def test_a_write_names_single_fields_and_fits_an_expression() -> None:
    """A hundred and ten facts in as many writes as are needed, each below DynamoDB's 4 kB and 300 operators; no fact is
    written whole, and none is made that is not there."""
    facts = {f"pay#sale{number}": payment(f"sale{number}") for number in range(110)}
    own = [each for each in ANN.redactions(order(payments=list(facts), **facts), AT) if each.pk == f"order#{OURS}"]
    updates = [each.update() for each in own]
    for update in updates:
        for expression in ("UpdateExpression", "ConditionExpression"):
            assert len(update[expression]) < 4_000
            assert (
                update[expression].count("(") + update[expression].count(" AND ") + update[expression].count("=") < 300
            )
    conditions = " ".join(update["ConditionExpression"] for update in updates)
    assert conditions.count("attribute_exists(#") == 110
    assert not any(value.get("M") for update in updates for value in update["ExpressionAttributeValues"].values())


@st.composite
def items(draw: st.DrawFn) -> Item:
    """Any item that may be the person's, somebody else's, or both."""
    address = st.sampled_from([ADDRESS, "Ann@Example.com", "bob@example.com", None])
    who, at = draw(address), st.sampled_from([EARLY, LATE])
    facts: Item = {}
    for identity in draw(st.lists(st.sampled_from(["sale1", "sale2", "sale3"]), unique=True)):
        facts[f"pay#{identity}"] = payment(identity, draw(address), draw(at))
        if draw(st.booleans()):
            facts[f"ref#{identity}#ref1#succeeded"] = refund(identity, draw(at))
        if draw(st.booleans()):
            facts[f"flags#{identity}"] = {
                "kind": "flags", "payment_id": identity, "at": EARLY, "refunded": draw(st.booleans()), "disputed": True,
            }  # fmt: skip
    payments = [name for name in facts if name.startswith("pay#")]
    kind = draw(st.sampled_from(["order", "sale", "subscription", "raw"]))
    if kind == "order":
        return order(customer_email=who, payments=payments, **facts)
    if kind == "sale":
        verdict = {"kind": "unmatched", "candidates": [OURS], "at": EARLY}
        renewal = payment("sale1", draw(address), kind="renewal", subscription_id="sub1", raw=None)
        return {"pk": "sale#sale1", "rev": 2, "verdict": verdict, "renewal#sale1": renewal, **facts}
    if kind == "subscription":
        return subscription(customer_email=who)
    return kept(raw({}, who or "nobody"), draw(at))


@EXAMPLES
@given(items())
def test_a_redaction_tells_nothing_and_changes_no_status(item: Item) -> None:
    """Whatever the item: the person is not in it afterwards, there is nothing more to take out, no event comes of it,
    and an order is what it was; the same for what is taken out because of its age."""
    item = table.plain(table.values(item))
    after = erased(item)
    assert not ANN.is_named({name: value for name, value in after.items() if value is not None})
    assert ANN.redactions(after, AT) == []
    aged = applied(item, privacy.aged(item, LATE, AT))
    assert privacy.aged(aged, LATE, AT) == []
    for new in (after, aged):
        assert outbox.events(item, new) == []
        assert new.get("rev") == item.get("rev")
        assert new.keys() - {"erased", "redacted_at"} <= item.keys()
        assert {name: each["at"] for name, each in privacy.facts(new).items()} == {
            name: each["at"] for name, each in privacy.facts(item).items()
        }
        if item["pk"].startswith("order#"):
            assert _status(new) == _status(item)


def _status(item: Item) -> orders.Status:
    return orders.status(ledger.item_of(item), ledger.facts_of(item), item["payments"])


# --- Time goes --------------------------------------------------------------------------------------------------------


def test_old_bodies_go_and_young_ones_stay() -> None:
    """Beside their facts, whose addresses stay, and alone; one that came again lately is young."""
    item = paid_order(**{"ref#sale1#ref1#succeeded": refund(at=LATE)})
    found = applied(item, privacy.aged(item, LATE, AT))
    assert "raw" not in found["pay#sale1"]
    assert found["pay#sale1"]["customer_email"] == ADDRESS
    assert "raw" in found["ref#sale1#ref1#succeeded"]
    assert applied(kept(b"{}"), privacy.aged(kept(b"{}"), LATE, AT))["body"] == b""
    assert privacy.aged(kept(b"{}", LATE), LATE, AT) == []


def test_what_is_pending_and_old() -> None:
    """Unpaid, opened before, and with anything of a person."""
    old = order(open_day=EARLY[:10])
    assert privacy.is_pending(old, LATE)
    assert not privacy.is_pending(order(), LATE)
    assert not privacy.is_pending(old, EARLY)
    assert not privacy.is_pending(
        {name: value for name, value in old.items() if name not in ("customer_email", "untrusted_metadata")}, LATE
    )


def test_what_comes_late_to_an_erased_order() -> None:
    """A new fact is taken out as well; what was there before is as it was left."""
    before = erased(paid_order())
    new = {**before, "ref#sale1#ref2#succeeded": refund(refund_id="ref2")}
    [redaction] = privacy.late(before, new, AT)
    assert redaction.gone == [("ref#sale1#ref2#succeeded", "raw")]
    assert privacy.late(before, {**before, "flags#sale1": {"kind": "flags"}}, AT) == []
    assert privacy.late(paid_order(), {**paid_order(), "ref#x": refund()}, AT) == []


# --- A body that is parked --------------------------------------------------------------------------------------------

BODIES = [
    (paid(OURS, amount=Decimal("64.990"), variant="v1"), "order.completed"),
    ({**paid(None), "metadata": {"external_order_id": OURS, "pocketsflow_store": "s", "mail": ADDRESS}}, ""),
    (refunded(OURS), ""),
    ({**paid(OURS), "event": None}, "order.refunded"),
    (subscribed(OURS), "customer.subscription.created"),
    ({**subscribed(None), "clientReferenceId": "member-7"}, "customer.subscription.updated"),
    ({**paid(OURS), "amount": {"of": ADDRESS}}, "order.completed"),
    ({**paid(OURS), "refund": [ADDRESS]}, "order.completed"),
    ({**paid(OURS), "refund": ADDRESS}, "order.completed"),
    ({"event": "review.created", "text": ADDRESS}, "review.created"),
]


@pytest.mark.parametrize(("content", "name"), BODIES)
def test_a_body_without_the_person_says_the_same(content: Item, name: str) -> None:
    """Of money: the very fact that it was, but for whose it is. Nobody is in it any more."""
    body = json.dumps({**content, "customer": {"email": ADDRESS, "firstName": "Ann"}}, default=str).encode()
    body = body.replace(b'"64.990"', b"64.990")
    name = name or content["event"]
    copied = privacy.without_person(body, ANN)
    told: Any = events.parse(body, name)
    assert events.parse(copied, name) == _without_email(told)
    assert not ANN.is_named(copied)
    assert b"Ann" not in copied


def _without_email(fact: Any) -> Any:
    return dataclasses.replace(fact, email=None) if hasattr(fact, "email") else fact


def test_numbers_and_signs_of_a_copy_are_as_they_came() -> None:
    """To the last zero; a lone half of a sign is no reason to fail."""
    body = (
        b'{"amount": 64.990, "currency": "u\\u00e9\\ud83d\\ude00\\ud800\\"\\\\", "tax": {"rate": 1E+2}, "status": null}'
    )
    copied = privacy.without_person(body, ANN)
    assert json.loads(copied) == json.loads(body)
    assert b"64.990" in copied
    assert privacy.without_person(b"no JSON", ANN) == privacy.without_person(b"[]", ANN) == b""


def test_an_image_of_the_stream() -> None:
    """Bytes are base64 there, and what is empty is so there, too."""
    image: Any = json.loads(
        json.dumps(table.values(kept(raw({}))), default=lambda body: base64.b64encode(body).decode())
    )
    [redaction] = ANN.redactions(table.plain(image), AT)
    redaction.on(image)
    assert image["body"] == {"B": ""}
    assert table.plain(image)["body"] == b""
