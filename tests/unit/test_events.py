"""payments.events: what a verified body says, whatever unsigned name it was delivered under."""

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from payments import events, orders
from payments.events import Claim, Payment, Refund, SubscriptionChanged, Unknown

FIXTURES = Path(__file__).parent.parent / "fixtures"
OURS = "ord_test_" + "01hzy7v3k4m5n6p7q8r9s0t1v2"
THEIRS = "6a43ce05fae6c4f0cb5a2193"
PRODUCT = "6949918ee8d99b0e628103e0"

COMPLETED: dict[str, Any] = {  # docs, in their words
    "webhookId": "6a43ca9f7e229e3568f9c9bb",
    "event": "order.completed",
    "product": {"id": PRODUCT, "variantId": None},
    "order": {"id": THEIRS},
    "currency": "usd",
    "customer": {"email": "buyer@example.com", "firstName": "Jane", "lastName": "Buyer"},
    "tax": {"amount": 4.99, "rate": 0.08, "ToCountry": "US", "ToZip": "94105", "ToState": "CA", "percentage": 8.0},
    "amount": 64.99,
    "amountBeforeTax": 60.0,
    "metadata": {"external_order_id": OURS},
}
OLDER = {  # the help centre's: no event, no metadata, no names
    **{name: value for name, value in COMPLETED.items() if name not in ("event", "metadata")},
    "customer": {"email": "buyer@example.com"},
    "tax": {"amount": 4.99, "rate": 0.08, "ToCountry": "DE", "ToState": None},
}
REFUNDED: dict[str, Any] = {
    "webhookId": "6a43ca9f7e229e3568f9c9bb",
    "event": "order.refunded",
    "order": {"id": THEIRS},
    "refund": {"id": "re_1", "amount": 64.99, "reason": "requested_by_customer", "status": "succeeded"},
    "customer": {"email": "buyer@example.com"},
}
SUBSCRIBED = "customer.subscription.created"
OTHER_EVENT, MISFIT, UNREADABLE = Unknown("other_event"), Unknown("misfit"), Unknown("unreadable")


def fixture(name: str, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return {**content, **changes}


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def parse(content: Any, header: str) -> events.Fact:
    return events.parse(json.dumps(content).encode(), header)


CREATED = fixture(SUBSCRIBED, metadata={"external_order_id": OURS})
DELETED = fixture("customer.subscription.deleted", metadata={"external_order_id": OURS})


# --- The table of contract section 3.2 --------------------------------------------------------------------------------


def test_a_body_with_its_name_under_that_name():
    """A signed name that equals the header confirms the payment; everything is as it came."""
    assert parse(COMPLETED, "order.completed") == Payment(
        kind="payment",
        id=THEIRS,
        order_id=OURS,
        product_id=PRODUCT,
        variant_id=None,
        amount=Decimal("64.99"),
        amount_before_tax=Decimal("60.0"),
        currency="usd",
        email="buyer@example.com",
        confirmed=True,
    )


def test_a_refund_with_its_name_under_that_name():
    """A signed refund is a confirmed refund fact."""
    assert parse(REFUNDED, "order.refunded") == Refund(
        payment_id=THEIRS,
        refund_id="re_1",
        order_id=None,
        status="succeeded",
        amount=Decimal("64.99"),
        confirmed=True,
    )


@pytest.mark.parametrize("content", [COMPLETED, REFUNDED, {**CREATED, "event": SUBSCRIBED}])
@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="missing"),
        pytest.param("order.updated", id="unknown"),
        pytest.param("invoice.paid", id="other"),
        pytest.param("Order.Completed", id="another_case"),
        pytest.param("order.completed ", id="trailing_space"),
        pytest.param("order.completed,order.completed", id="twice"),
    ],
)
def test_a_signed_name_that_differs_from_the_header(content: dict[str, Any], header: str):
    """Where the body names its event the header must be that name."""
    assert parse(content, header) == MISFIT


def test_replay_of_a_refund_as_a_payment():
    """A refund's body delivered as order.completed settles nothing, whether it is named inside or not."""
    assert parse(REFUNDED, "order.completed") == MISFIT
    assert parse(without(REFUNDED, "event"), "order.completed") == MISFIT
    assert parse(without({**COMPLETED, **REFUNDED}, "event"), "order.completed") == MISFIT


def test_replay_of_a_payment_as_a_refund():
    """A payment's body delivered as order.refunded gives no money back: at most a claim."""
    assert parse(COMPLETED, "order.refunded") == MISFIT
    assert parse(without(COMPLETED, "event"), "order.refunded") == Claim("refund", payment_id=THEIRS, order_id=OURS)


@pytest.mark.parametrize("signed", ["", "order.refunded", 1, True, [], ["order.completed"], {}], ids=repr)
def test_a_signed_name_of_another_shape(signed: Any):
    """An `event` that is not the header's text is not the header's event."""
    assert parse({**COMPLETED, "event": signed}, "order.completed") == MISFIT


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        pytest.param({"type": "order.completed"}, "confirmed", id="type_equals"),
        pytest.param({"type": "order.refunded"}, "misfit", id="type_differs"),
        pytest.param({"type": "one-time"}, "unconfirmed", id="type_is_a_kind_of_product"),
        pytest.param({"type": 1}, "unconfirmed", id="type_is_a_number"),
        pytest.param({"type": None}, "unconfirmed", id="type_is_null"),
        pytest.param({"event": "order.completed", "type": "order.completed"}, "confirmed", id="both_equal"),
        pytest.param({"event": "order.completed", "type": "order.refunded"}, "misfit", id="type_contradicts_event"),
        pytest.param({"event": "order.refunded", "type": "order.completed"}, "misfit", id="event_contradicts_type"),
        pytest.param({"event": "order.completed", "type": "one-time"}, "confirmed", id="event_and_kind_of_product"),
        pytest.param({"product": {"id": PRODUCT, "type": "one-time"}}, "unconfirmed", id="type_of_the_product"),
        pytest.param({"product": {"id": PRODUCT, "type": "order.refunded"}}, "unconfirmed", id="names_only_at_the_top"),
    ],
)
def test_type_is_an_event_name_when_it_looks_like_one(names: dict[str, Any], fact: str):
    """A top-level `type` with a dot is a signed name as `event` is; any other says nothing about the event."""
    found = parse({**without(COMPLETED, "event"), **names}, "order.completed")
    if fact == "misfit":
        assert found == MISFIT
    else:
        assert isinstance(found, Payment)
        assert found.confirmed == (fact == "confirmed")


def test_a_payment_without_a_name():
    """The signature covers a payment for that order, so it counts, unconfirmed."""
    found = parse(without(COMPLETED, "event"), "order.completed")
    assert isinstance(found, Payment)
    assert (found.id, found.order_id, found.confirmed) == (THEIRS, OURS, False)


def test_the_older_form():
    """Without event, metadata and names it is still a payment, of no order that we know."""
    assert parse(OLDER, "order.completed") == Payment(
        kind="payment",
        id=THEIRS,
        order_id=None,
        product_id=PRODUCT,
        variant_id=None,
        amount=Decimal("64.99"),
        amount_before_tax=Decimal("60.0"),
        currency="usd",
        email="buyer@example.com",
        confirmed=False,
    )
    assert parse(OLDER, "order.refunded") == Claim("refund", payment_id=THEIRS, order_id=None)


def test_a_refund_without_a_name():
    """A refund object makes a refund, unconfirmed."""
    found = parse(without(REFUNDED, "event"), "order.refunded")
    assert isinstance(found, Refund)
    assert (found.payment_id, found.refund_id, found.confirmed) == (THEIRS, "re_1", False)


@pytest.mark.parametrize("named", [True, False], ids=["signed_name", "no_name"])
def test_refunded_without_a_refund_object(named: bool):
    """It is kept as claimed: nothing tells how much went back, and whether it did."""
    content = {**OLDER, "metadata": {"external_order_id": OURS}, **({"event": "order.refunded"} if named else {})}
    assert parse(content, "order.refunded") == Claim("refund", payment_id=THEIRS, order_id=OURS)


def test_a_refund_in_the_shape_of_a_payment():
    """The help centre's refund carries metadata, and names the order."""
    content = {**COMPLETED, "event": "order.refunded", "refund": {"id": "re_1", "status": "Succeeded"}}
    assert parse(content, "order.refunded") == Refund(
        payment_id=THEIRS, refund_id="re_1", order_id=OURS, status="succeeded", amount=None, confirmed=True
    )


@pytest.mark.parametrize(
    ("content", "header"),
    [
        pytest.param(without(COMPLETED, "product"), "order.completed", id="no_product"),
        pytest.param(without(COMPLETED, "order"), "order.completed", id="no_order"),
        pytest.param(without(COMPLETED, "amount"), "order.completed", id="no_amount"),
        pytest.param({**COMPLETED, "amount": "64.99"}, "order.completed", id="amount_is_text"),
        pytest.param({**COMPLETED, "amount": True}, "order.completed", id="amount_is_true"),
        pytest.param({**COMPLETED, "amount": None}, "order.completed", id="amount_is_null"),
        pytest.param({**COMPLETED, "product": PRODUCT}, "order.completed", id="product_is_text"),
        pytest.param({**COMPLETED, "product": {}}, "order.completed", id="product_without_id"),
        pytest.param({**COMPLETED, "product": {"id": ""}}, "order.completed", id="product_with_empty_id"),
        pytest.param({**COMPLETED, "order": {"id": ""}}, "order.completed", id="order_with_empty_id"),
        pytest.param({**COMPLETED, "order": {"id": 7}}, "order.completed", id="order_id_is_a_number"),
        pytest.param({**COMPLETED, "order": [THEIRS]}, "order.completed", id="order_is_a_list"),
        pytest.param({**COMPLETED, "refund": {"id": "re_1"}}, "order.completed", id="payment_with_refund"),
        pytest.param({**COMPLETED, "refund": {}}, "order.completed", id="payment_with_empty_refund"),
        pytest.param(without(REFUNDED, "order"), "order.refunded", id="refund_of_no_order"),
        pytest.param({**REFUNDED, "refund": {"amount": 1}}, "order.refunded", id="refund_without_id"),
        pytest.param({**REFUNDED, "refund": {"id": ""}}, "order.refunded", id="refund_with_empty_id"),
        pytest.param({**REFUNDED, "refund": "re_1"}, "order.refunded", id="refund_is_text"),
        pytest.param({}, "order.completed", id="empty_as_payment"),
        pytest.param({}, "order.refunded", id="empty_as_refund"),
        pytest.param(without(CREATED, "event"), "order.completed", id="subscription_as_payment"),
        pytest.param(without(CREATED, "event"), "order.refunded", id="subscription_as_refund"),
        pytest.param(fixture("invoice.payment_succeeded"), "order.completed", id="invoice_as_payment"),
    ],
)
def test_name_and_shape_do_not_fit(content: dict[str, Any], header: str):
    """Such a body changes nothing, and a person looks at it."""
    assert parse(content, header) == MISFIT


@pytest.mark.parametrize(
    "header",
    [
        *("", "order.created", "customer.created", "product.updated", "review.created", "payment_intent.succeeded"),
        *("invoice.paid", "invoice.created", "invoice.upcoming", "ünknown", "#", "a" * 64),
        *("order", "order.completed.", ".order.completed", "order.refunded.x", "customer.subscription"),
        *("customer.subscription.created.x", "Customer.subscription.created", "customer..created"),
    ],
)
def test_other_names(header: str):
    """A body without a name of its own, under a name that settles nothing, settles nothing."""
    assert parse(without(COMPLETED, "event"), header) == OTHER_EVENT
    assert parse(CREATED, header) == OTHER_EVENT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"order.completed"', id="text"),
        pytest.param(b"1", id="number"),
        pytest.param(b"\xff", id="not_utf8"),
        pytest.param(b"\xef\xbb\xbf{}", id="bom"),
        pytest.param(b'{"a": 1, "a": 2}', id="duplicate_keys"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"amount": 1e99999999999999999999}', id="exponent"),
    ],
)
@pytest.mark.parametrize("header", ["order.completed", "order.refunded", SUBSCRIBED, ""])
def test_no_object(body: bytes, header: str):
    """What is no JSON object that everybody reads the same way is kept, unread."""
    assert events.parse(body, header) == UNREADABLE


# --- Subscriptions ----------------------------------------------------------------------------------------------------


def test_a_subscription_for_our_order():
    """A subscription sale sends no order.completed: it begins with customer.subscription.created."""
    assert parse(CREATED, SUBSCRIBED) == Payment(
        kind="subscription",
        id=CREATED["subscriptionCustomerId"],
        order_id=OURS,
        product_id=CREATED["subscription"]["id"],
        variant_id=None,
        amount=None,
        amount_before_tax=None,
        currency=None,
        email="buyer@example.com",
        confirmed=False,
        state="active",
        customer_reference=CREATED.get("clientReferenceId"),
    )


@pytest.mark.parametrize("named", [True, False], ids=["signed_name", "no_name"])
def test_a_trial_begins_too(named: bool):
    """A trial is a subscription that has begun; a signed name confirms it."""
    content = in_state(status="trialing")
    found = parse({**content, "event": SUBSCRIBED} if named else content, SUBSCRIBED)
    assert isinstance(found, Payment)
    assert (found.confirmed, found.state) == (named, "trialing")


def in_state(content: dict[str, Any] = CREATED, **state: Any) -> dict[str, Any]:
    """The beginning of our subscription, with another state; what is None is absent."""
    customer = {**CREATED["subscriptionCustomer"], **state}
    return {**content, "subscriptionCustomer": {name: value for name, value in customer.items() if value is not None}}


STATES = [  # status, active, paused; what the subscription is
    ("active", True, False, "active"),
    ("ACTIVE", True, False, "active"),
    ("active", None, None, "active"),
    ("trialing", True, False, "trialing"),
    ("trial", True, False, "trialing"),
    ("active", True, True, "paused"),
    ("active", False, True, "paused"),
    ("paused", False, True, "paused"),
    ("paused", True, False, "paused"),
    ("past_due", True, False, "past_due"),
    ("past_due", False, False, "past_due"),
    ("unpaid", False, False, "past_due"),
    ("past_due", True, True, "paused"),
    ("canceled", False, False, "ended"),
    ("canceled", True, False, "ended"),
    ("canceled", True, True, "ended"),
    ("cancelled", None, None, "ended"),
    ("ended", False, False, "ended"),
    ("expired", False, False, "ended"),
    ("incomplete_expired", False, False, "ended"),
    ("incomplete", False, False, "ended"),
    (None, False, None, "ended"),
    (None, False, True, "ended"),
    # A contradiction, and what says nothing.
    ("active", False, False, None),
    ("trialing", False, None, None),
    ("incomplete", True, False, None),
    (None, True, False, None),
    (None, None, True, None),
    (["active"], True, False, None),
    ("active\n", True, False, None),
    ("", True, False, None),
    (1, True, False, None),
]


@pytest.mark.parametrize(("status", "active", "paused", "state"), STATES, ids=repr)
def test_the_state_of_a_subscription(status: Any, active: Any, paused: Any, state: str | None):
    """Three signed fields tell it. What contradicts itself, or says nothing that is known, is nobody's state; who has
    paused, or pays late, has not left."""
    assert events.state(status, active, paused) == state


@pytest.mark.parametrize(("status", "active", "paused", "state"), STATES, ids=repr)
def test_only_a_live_subscription_begins(status: Any, active: Any, paused: Any, state: str | None):
    """Under the name of its beginning only what is active or in trial is a payment; every other state is kept as what
    the subscription is now, and none at all is for a person."""
    content = in_state(status=status, active=active, paused=paused)
    found = parse(content, SUBSCRIBED)
    if state is None:
        assert found == MISFIT
    elif state in ("active", "trialing"):
        assert isinstance(found, Payment)
        assert found.state == state
    else:
        assert isinstance(found, SubscriptionChanged)
        assert (found.state, found.order_id) == (state, OURS)


@pytest.mark.parametrize("name", ["updated", "deleted", "paused", "", "Created"])
@pytest.mark.parametrize(("status", "active", "paused", "state"), STATES, ids=repr)
def test_no_other_name_begins_a_subscription(name: str, status: Any, active: Any, paused: Any, state: str | None):
    """Whatever its name says, what is signed is the state; and a live one under another name than `created` settles
    nothing, whichever order it names."""
    content = in_state(status=status, active=active, paused=paused)
    found = parse(content, f"customer.subscription.{name}")
    if state is None:
        assert found == MISFIT
    else:
        assert isinstance(found, SubscriptionChanged)
        assert (found.state, found.order_id) == (state, OURS)


def test_a_change_of_a_subscription():
    """Its ids and the buyer are read, each where it is signed; the period is not: no source shows it in a webhook."""
    content = in_state(status="canceled", active=False, cancelAtPeriodEnd=True)
    assert parse({**content, "clientReferenceId": "member-7"}, "customer.subscription.deleted") == SubscriptionChanged(
        id=CREATED["subscriptionCustomerId"],
        state="ended",
        order_id=OURS,
        product_id=CREATED["subscription"]["id"],
        cancel_at_period_end=True,
        period_start=None,
        period_end=None,
        customer_reference="member-7",
        email="buyer@example.com",
    )


@pytest.mark.parametrize("flag", [None, False, "true", 1, [True]], ids=repr)
def test_a_subscription_that_goes_on(flag: Any):
    """That it ends with its period must be said by `true`, and by nothing like it."""
    found = parse(in_state(cancelAtPeriodEnd=flag), "customer.subscription.updated")
    assert isinstance(found, SubscriptionChanged)
    assert found.cancel_at_period_end is False


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(fixture(SUBSCRIBED), id="fixture_of_another_shop"),
        pytest.param({**CREATED, "metadata": {"external_order_id": "ORDER-1043"}}, id="order_of_another_shop"),
        pytest.param({**CREATED, "metadata": {"external_order_id": OURS.replace("test", "prod")}}, id="other_stage"),
        pytest.param(without(CREATED, "metadata"), id="no_metadata"),
        pytest.param({**CREATED, "metadata": None}, id="metadata_is_null"),
        pytest.param({**CREATED, "metadata": json.dumps({"external_order_id": OURS})}, id="metadata_is_text"),
        pytest.param({**without(CREATED, "metadata"), "clientReferenceId": OURS}, id="only_a_client_reference"),
    ],
)
def test_a_subscription_of_no_order_of_ours(content: dict[str, Any]):
    """It pays for nothing here, and is followed: it may be one that was sold without a checkout of ours."""
    found = parse(content, SUBSCRIBED)
    assert isinstance(found, SubscriptionChanged)
    assert (found.id, found.state, found.order_id) == (CREATED["subscriptionCustomerId"], "active", None)


@pytest.mark.parametrize("header", [SUBSCRIBED, "customer.subscription.updated", "customer.subscription.deleted"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(without(CREATED, "subscriptionCustomer"), id="no_state"),
        pytest.param({**CREATED, "subscriptionCustomer": "active"}, id="state_is_text"),
        pytest.param({**CREATED, "subscriptionCustomer": {}}, id="empty_state"),
        pytest.param({**CREATED, "status": "active", "subscriptionCustomer": None}, id="state_in_another_place"),
        pytest.param(without(CREATED, "subscriptionCustomerId"), id="no_customer_id"),
        pytest.param({**CREATED, "subscriptionCustomerId": ""}, id="empty_customer_id"),
        pytest.param({**CREATED, "subscriptionCustomerId": 7}, id="customer_id_is_a_number"),
        pytest.param(without(CREATED, "subscription"), id="no_offer"),
        pytest.param({**CREATED, "subscription": {"id": ""}}, id="empty_offer"),
        pytest.param(without(COMPLETED, "event"), id="a_one_time_payment"),
        pytest.param(without(REFUNDED, "event"), id="a_refund"),
        pytest.param({}, id="empty"),
    ],
)
def test_no_subscription(content: dict[str, Any], header: str):
    """Under a subscription's name, without what makes one: a person looks at it."""
    assert parse(content, header) == MISFIT


def test_a_subscription_under_another_name_of_its_own():
    """A body that calls itself otherwise is neither a beginning nor a change."""
    for signed in ("customer.subscription.deleted", "order.completed"):
        assert parse({**CREATED, "event": signed}, SUBSCRIBED) == MISFIT


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_the_fixtures_under_their_own_names(name: str):
    """Only a subscription that begins counts; its changes are what it is now; an invoice tells nothing signed."""
    found = parse(fixture(name, metadata={"external_order_id": OURS}), name)
    states = {"customer.subscription.updated": "active", "customer.subscription.deleted": "ended"}
    if name == SUBSCRIBED:
        assert isinstance(found, Payment)
    elif name in states:
        assert isinstance(found, SubscriptionChanged)
        assert found.state == states[name]
    else:
        assert found == OTHER_EVENT


# --- Values from outside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("0", "0", id="free"),
        pytest.param("-0", "-0", id="minus_zero"),
        pytest.param("64.90", "64.90", id="dollars"),
        pytest.param("6490", "6490", id="cents"),
        pytest.param("0.000001", "0.000001", id="six_places"),
        pytest.param("999999999999999.999999", "999999999999999.999999", id="largest"),
        pytest.param("1e3", "1e3", id="exponent"),
        pytest.param("0.0000001", None, id="seven_places"),
        pytest.param("1e-7", None, id="seven_places_by_exponent"),
        pytest.param("1e15", None, id="too_large"),
        pytest.param("1e999999", None, id="astronomical"),
        pytest.param("1e-999999", None, id="infinitesimal"),
        pytest.param("9" * 5_000, None, id="5_000_digits"),
        pytest.param("0." + "3" * 5_000, None, id="5_000_places"),
    ],
)
def test_amounts(text: str, amount: str | None):
    """An amount is exact or, when absurd, left to the raw body; the payment counts either way."""
    body = json.dumps({**COMPLETED, "amount": "@", "amountBeforeTax": "@"}).replace('"@"', text).encode()
    expected = None if amount is None else Decimal(amount)
    found = events.parse(body, "order.completed")
    assert isinstance(found, Payment)
    assert (found.amount, found.amount_before_tax) == (expected, expected)
    refund = events.parse(
        json.dumps({**REFUNDED, "refund": {"id": "r", "amount": "@"}}).replace('"@"', text).encode(), "order.refunded"
    )
    assert isinstance(refund, Refund)
    assert (refund.amount, refund.status) == (expected, "unknown")


HOSTILE_IDS = [
    pytest.param("a#b", id="hash_sign"),
    pytest.param("a\nb", id="newline"),
    pytest.param(THEIRS + "\n", id="trailing_newline"),
    pytest.param(" ", id="space"),
    pytest.param("\0", id="nul"),
    pytest.param("../../x", id="path"),
    pytest.param("\U0001f600", id="emoji"),
    pytest.param("é", id="accent"),
    pytest.param("\uff11", id="fullwidth_digit"),
    pytest.param("x" * 65, id="65_characters"),
    pytest.param("x" * 10_000, id="10_kB"),
    pytest.param("\ud800", id="lone_surrogate"),
    pytest.param("\udfff\ud800", id="surrogates_in_wrong_order"),
]


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
def test_hostile_ids_become_their_sha256(hostile: str):
    """An id that is unfit for a key is replaced by its sha256, so that keys stay short, plain and distinct."""
    digest = f"sha256-{hashlib.sha256(hostile.encode('utf-8', 'surrogatepass')).hexdigest()}"
    thing = {"id": hostile, "variantId": hostile}
    payment = parse({**COMPLETED, "order": thing, "product": thing}, "order.completed")
    assert isinstance(payment, Payment)
    assert (payment.id, payment.product_id, payment.variant_id) == (digest, digest, digest)
    refund = parse({**REFUNDED, "order": thing, "refund": thing}, "order.refunded")
    assert isinstance(refund, Refund)
    assert (refund.payment_id, refund.refund_id) == (digest, digest)
    claim = parse({**OLDER, "order": thing}, "order.refunded")
    assert isinstance(claim, Claim)
    assert (claim.of, claim.payment_id) == ("refund", digest)
    content = {**CREATED, "subscriptionCustomerId": hostile, "subscription": thing}
    begun, changed = (parse(content, header) for header in (SUBSCRIBED, "customer.subscription.updated"))
    assert isinstance(begun, Payment)
    assert isinstance(changed, SubscriptionChanged)
    assert [(fact.id, fact.product_id) for fact in (begun, changed)] == [(digest, digest)] * 2


def test_an_id_that_is_another_s_hash():
    """Whoever knows an unfit id cannot take its place."""
    names = set()
    for payment in ("a#b", hashlib.sha256(b"a#b").hexdigest(), f"sha256-{hashlib.sha256(b'a#b').hexdigest()}"):
        fact = parse({**COMPLETED, "order": {"id": payment}}, "order.completed")
        assert isinstance(fact, Payment)
        names.add(fact.id)
    assert len(names) == 3


@pytest.mark.parametrize("plain", ["1", THEIRS, "x" * 64, "re_1-A"])
def test_plain_ids_stay(plain: str):
    """An id of up to 64 letters, digits, dashes and underscores is kept as it came."""
    found = parse(
        {**COMPLETED, "order": {"id": plain}, "product": {"id": plain, "variantId": plain}}, "order.completed"
    )
    assert isinstance(found, Payment)
    assert (found.id, found.product_id, found.variant_id) == (plain, plain, plain)


@pytest.mark.parametrize("variant", [None, "", 7, [], {}], ids=repr)
def test_no_variant(variant: Any):
    """A variant is text or there is none."""
    found = parse({**COMPLETED, "product": {"id": PRODUCT, "variantId": variant}}, "order.completed")
    assert isinstance(found, Payment)
    assert found.variant_id is None


@pytest.mark.parametrize(
    ("email", "kept"),
    [
        pytest.param("buyer@example.com", True, id="plain"),
        pytest.param("Buyer+tag@Example.com", True, id="as_it_came"),
        pytest.param("a" * 64 + "@" + "b" * 190, True, id="longest"),
        pytest.param("a" * 65 + "@b", False, id="65_before_the_at"),
        pytest.param("a@" + "b" * 191, False, id="191_after_the_at"),
        pytest.param("a@b@c", False, id="two_ats"),
        pytest.param("@b", False, id="nothing_before"),
        pytest.param("a@", False, id="nothing_after"),
        pytest.param("buyer", False, id="no_at"),
        pytest.param("", False, id="empty"),
        pytest.param("a b@c", False, id="space"),
        pytest.param("a@b\n", False, id="trailing_newline"),
        pytest.param("a\0@b", False, id="nul"),
        pytest.param("ä@b", False, id="accent"),
        pytest.param("\ud800@b", False, id="lone_surrogate"),
        pytest.param("a" * 100_000 + "@b", False, id="100_kB"),
        pytest.param(7, False, id="number"),
        pytest.param(None, False, id="null"),
        pytest.param(["a@b"], False, id="list"),
    ],
)
def test_emails(email: Any, kept: bool):
    """An address is kept when it is one, and of bounded length; the payment counts either way."""
    for content, header in ((COMPLETED, "order.completed"), (CREATED, SUBSCRIBED)):
        found = parse({**content, "customer": {"email": email}}, header)
        assert isinstance(found, Payment)
        assert found.email == (email if kept else None)


@pytest.mark.parametrize(
    ("currency", "kept"),
    [
        *(("usd", "usd"), ("USD", "usd"), ("", None), ("us d", None), ("usd\n", None), ("€", None), ("x" * 33, None)),
        *((None, None), (840, None), (["usd"], None), ("\u212arw", None)),
    ],
)
def test_currencies(currency: Any, kept: str | None):
    """A currency is a word of ASCII letters, in lower case."""
    found = parse({**COMPLETED, "currency": currency}, "order.completed")
    assert isinstance(found, Payment)
    assert found.currency == kept


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        *(("succeeded", "succeeded"), ("COMPLETED", "completed"), ("failed", "failed"), ("", "unknown")),
        *(("a#b", "unknown"), ("done\n", "unknown"), ("x" * 33, "unknown"), (1, "unknown"), (None, "unknown")),
        ([], "unknown"),
    ],
)
def test_refund_statuses(status: Any, kept: str):
    """A refund's status is part of its key: a plain word, in lower case."""
    found = parse({**REFUNDED, "refund": {"id": "re_1", "status": status}}, "order.refunded")
    assert isinstance(found, Refund)
    assert found.status == kept


@pytest.mark.parametrize(
    ("store", "kept"),
    [
        *(("store-1", True), ("00000000-0000-4000-8000-000000000000", True), ("x" * 200, True), ("x y", True)),
        *(("", False), ("x" * 201, False), ("a\nb", False), ("store\n", False), ("\0", False), ("é", False)),
        *(("\ud800", False), (None, False), (7, False), (["store-1"], False), ({"id": "store-1"}, False)),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_the_store_that_sold_it(store: Any, kept: bool):
    """Which stack's checkout made the sale is read from the metadata, as short printable text, and decides nothing."""
    metadata = {"external_order_id": OURS, "pocketsflow_store": store}
    for content, header in ((COMPLETED, "order.completed"), (CREATED, SUBSCRIBED)):
        found = parse({**content, "metadata": metadata}, header)
        assert isinstance(found, Payment)
        assert (found.order_id, found.store_id) == (OURS, store if kept else None)


@pytest.mark.parametrize(
    "reference", ["", "x" * 201, "a\nb", "é", "\ud800", 7, None, [], {}], ids=lambda value: ascii(value)[:30]
)
def test_a_customer_reference_that_is_none(reference: Any):
    """What is no short printable text is not handed on; the subscription counts either way."""
    for header in (SUBSCRIBED, "customer.subscription.updated"):
        found = parse({**CREATED, "clientReferenceId": reference}, header)
        assert isinstance(found, Payment | SubscriptionChanged)
        assert found.customer_reference is None


@pytest.mark.parametrize(
    "claimed",
    [
        pytest.param("ORDER-1043", id="another_shop"),
        pytest.param(OURS.replace("_test_", "_prod_"), id="other_stage"),
        pytest.param(OURS.replace("_test_", "_test-2_"), id="stage_that_begins_alike"),
        pytest.param(OURS.upper(), id="upper_case"),
        pytest.param(OURS + "\n", id="trailing_newline"),
        pytest.param(" " + OURS, id="leading_space"),
        pytest.param(OURS[:-1], id="too_short"),
        pytest.param(OURS + "0", id="too_long"),
        pytest.param(OURS[:-1] + "u", id="letter_outside_the_alphabet"),
        pytest.param(OURS[:-1] + "\u0661", id="arabic_indic_digit"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(7, id="number"),
        pytest.param([OURS], id="list"),
        pytest.param({"id": OURS}, id="object"),
    ],
)
def test_order_ids_that_are_not_ours(claimed: Any):
    """What is not of this stage's shape names no order; the sale itself is kept."""
    payment = parse({**COMPLETED, "metadata": {"external_order_id": claimed}}, "order.completed")
    refund = parse({**REFUNDED, "metadata": {"external_order_id": claimed}}, "order.refunded")
    assert isinstance(payment, Payment)
    assert isinstance(refund, Refund)
    assert payment.order_id is None
    assert refund.order_id is None


@pytest.mark.parametrize("place", ["orderId", "order_id", "clientReferenceId", "external_order_id"])
def test_only_external_order_id_names_our_order(place: str):
    """Of the metadata, and of the rest of the body, nothing else can name an order."""
    assert orders.is_id(OURS)
    found = parse({**without(COMPLETED, "metadata"), place: OURS, "metadata": {"orderId": OURS}}, "order.completed")
    assert isinstance(found, Payment)
    assert found.order_id is None


# --- Never raises -----------------------------------------------------------------------------------------------------

HOSTILE_JSON = [
    *("null", "true", "false", "0", "-1", "1e999999", "1e-999999", "9" * 5_000, '""', '"x"', '"#"', '"\\u0000"'),
    *('"\\ud800"', '"\\ud83d\\ude00"', f'"{"x" * 10_000}"', "[]", "[[]]", "{}", '[{"id": "x"}]', '{"id": {"id": []}}'),
    *(
        '{"": ""}',
        '"order.completed"',
        '"active"',
        f'"{OURS}"',
        "NaN",
        "1e99999999999999999999",
        "[" * 5_000 + "]" * 5_000,
    ),
]
BODIES = {
    "payment": COMPLETED,
    "refund": {**REFUNDED, "metadata": {"external_order_id": OURS}},
    "subscription": CREATED,
}


def paths(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield (*path, name)
            yield from paths(value, (*path, name))


def replaced(content: Any, path: tuple[str, ...], value: Any) -> Any:
    return {**content, path[0]: replaced(content[path[0]], path[1:], value)} if path else value


@pytest.mark.parametrize(
    ("content", "path"),
    [pytest.param(body, path, id=f"{name}:{'.'.join(path)}") for name, body in BODIES.items() for path in paths(body)],
)
def test_never_raises(content: dict[str, Any], path: tuple[str, ...]):
    """Whatever stands in a field, the body becomes one of the five facts."""
    for header in (
        "order.completed",
        "order.refunded",
        SUBSCRIBED,
        "customer.subscription.deleted",
        "invoice.paid",
        "",
    ):
        for hostile in HOSTILE_JSON:
            for base in (content, without(content, "event")):
                if path[0] in base:
                    body = json.dumps(replaced(base, path, "@@")).replace('"@@"', hostile).encode()
                    assert isinstance(events.parse(body, header), events.Fact)


# --- null is no object ------------------------------------------------------------------------------------------------


def test_a_payment_whose_refund_is_null():
    """`refund: null` is no refund object: a payment in a form that writes every field settles its order."""
    assert isinstance(parse({**COMPLETED, "refund": None}, "order.completed"), Payment)


def test_a_refund_whose_refund_is_null():
    """`refund: null` is no refund object: order.refunded stays a claim, which the API can confirm."""
    assert isinstance(parse({**OLDER, "refund": None}, "order.refunded"), Claim)
