"""payments.orders: an order's id, what fits it, and the status that its facts add up to."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from payments import orders
from payments.catalogue import Item

NOW = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)
PRODUCT = "6949918ee8d99b0e628103e0"
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PREFIX = "ord_test_"


def number(order_id: str) -> int:
    """The 130 bits behind an id's 26 digits."""
    value = 0
    for digit in order_id.removeprefix(PREFIX):
        value = value * 32 + ALPHABET.index(digit)
    return value


# --- Ids --------------------------------------------------------------------------------------------------------------


def test_a_new_id_is_one():
    """An id is `ord_`, the stage, and 26 digits of Crockford's alphabet."""
    order_id = orders.new_id(NOW)
    assert orders.is_id(order_id)
    assert order_id.startswith(PREFIX)
    assert len(order_id) == len(PREFIX) + 26
    assert set(order_id.removeprefix(PREFIX)) <= set(ALPHABET)


def test_ids_sort_by_time():
    """A later millisecond makes a greater id, across digits, years and centuries."""
    times = [NOW + timedelta(milliseconds=n) for n in (0, 1, 2, 31, 32, 1_024, 10**6, 10**9, 10**11, 10**13)]
    ids = [orders.new_id(time) for time in times]
    assert ids == sorted(ids)
    assert number(ids[0]) >> 80 == int(NOW.timestamp() * 1000)
    assert number(orders.new_id(NOW.astimezone(timezone(timedelta(hours=9))))) >> 80 == number(ids[0]) >> 80


def test_80_bits_are_random():
    """Ids of one millisecond are distinct, and each of the 80 bits is now 0 and now 1."""
    parts = [number(orders.new_id(NOW)) & (1 << 80) - 1 for _ in range(2_000)]
    assert len(set(parts)) == len(parts)
    for bit in range(80):
        ones = sum(part >> bit & 1 for part in parts)
        assert 800 < ones < 1_200, f"bit {bit}: nine standard deviations off"


GOOD = PREFIX + "01hzy7v3k4m5n6p7q8r9s0t1v2"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(GOOD.replace("_test_", "_prod_"), id="other_stage"),
        pytest.param(GOOD.replace("_test_", "_test-2_"), id="stage_that_begins_alike"),
        pytest.param(GOOD.replace("_test_", "_tes_"), id="stage_cut_short"),
        pytest.param(GOOD.replace("_test_", "_"), id="no_stage"),
        pytest.param(GOOD.replace("_test_", "_TEST_"), id="stage_in_upper_case"),
        pytest.param(GOOD.upper(), id="upper_case"),
        pytest.param(GOOD + "\n", id="trailing_newline"),
        pytest.param("\n" + GOOD, id="leading_newline"),
        pytest.param(GOOD + " ", id="trailing_space"),
        pytest.param(GOOD[:-1], id="25_digits"),
        pytest.param(GOOD + "0", id="27_digits"),
        *(pytest.param(GOOD[:-1] + letter, id=f"letter_{letter}") for letter in "ilou-_#"),
        pytest.param(GOOD[:-1] + "\u0661", id="arabic_indic_digit"),
        pytest.param(GOOD[:-1] + "\u212a", id="kelvin_sign"),
        pytest.param(GOOD[:-1] + "\0", id="nul"),
        pytest.param(GOOD.removeprefix("ord_"), id="no_prefix"),
        pytest.param("x" + GOOD, id="something_before"),
        pytest.param("", id="empty"),
        pytest.param(None, id="none"),
        pytest.param(7, id="number"),
        pytest.param(GOOD.encode(), id="bytes"),
        pytest.param([GOOD], id="list"),
    ],
)
def test_no_id(value: Any):
    """What is not exactly of this stage's shape is no order id."""
    assert orders.is_id(GOOD)
    assert orders.is_id(value) is False


# --- What fits --------------------------------------------------------------------------------------------------------


def payment(**changes: Any) -> dict[str, Any]:
    """A payment as the ledger gives it back: amounts as text, what is not known absent."""
    fact = {"kind": "payment", "payment_id": "p1", "product_id": PRODUCT, "amount": "64.99", **changes}
    return {name: value for name, value in fact.items() if value is not None}


def untold(**changes: Any) -> dict[str, Any]:
    """A payment from a source that tells no variants."""
    return payment(**{"variant_unknown": True, **changes})


HOLD = Item(PRODUCT, price=Decimal("49.00"), currency="usd", hold_on_difference=True)
YEN = Item(PRODUCT, price=Decimal("6000"), currency="jpy", hold_on_difference=True)
DINAR = Item(PRODUCT, price=Decimal("6.500"), currency="kwd", hold_on_difference=True)
VARIANT = Item(PRODUCT, variant_id="a2", price=Decimal("49.00"), currency="usd")


@pytest.mark.parametrize(
    ("item", "paid", "fits"),
    [
        pytest.param(Item(PRODUCT), payment(), True, id="same_product"),
        pytest.param(Item(PRODUCT), payment(product_id="another"), False, id="other_product"),
        pytest.param(Item(PRODUCT), payment(variant_id="a2"), True, id="variant_not_asked_for"),
        pytest.param(Item(PRODUCT, variant_id="a2"), payment(variant_id="a2"), True, id="same_variant"),
        pytest.param(Item(PRODUCT, variant_id="a2"), payment(variant_id="a3"), False, id="other_variant"),
        pytest.param(Item(PRODUCT, variant_id="a2"), payment(), False, id="variant_missing"),
        pytest.param(
            Item(PRODUCT, price=Decimal("49.00"), currency="usd"),
            payment(amount_before_tax="1.00", currency="eur"),
            True,
            id="discounts_are_accepted",
        ),
        pytest.param(HOLD, payment(amount_before_tax="49.00", currency="usd"), True, id="hold_exact"),
        pytest.param(HOLD, payment(amount_before_tax="49", currency="usd"), True, id="hold_without_places"),
        pytest.param(HOLD, payment(amount_before_tax=Decimal("49.0"), currency="usd"), True, id="hold_as_decimal"),
        pytest.param(HOLD, payment(amount_before_tax="4900", currency="usd"), True, id="hold_in_minor_units"),
        pytest.param(HOLD, payment(amount_before_tax="48.99", currency="usd"), False, id="hold_a_cent_less"),
        pytest.param(HOLD, payment(amount_before_tax="49.01", currency="usd"), False, id="hold_a_cent_more"),
        pytest.param(HOLD, payment(amount_before_tax="0.49", currency="usd"), False, id="hold_a_hundredth"),
        pytest.param(HOLD, payment(amount_before_tax="0", currency="usd"), False, id="hold_nothing_paid"),
        pytest.param(HOLD, payment(amount_before_tax="490000", currency="usd"), False, id="hold_minor_of_minor"),
        pytest.param(HOLD, payment(amount_before_tax="49.00", currency="eur"), False, id="hold_other_currency"),
        pytest.param(YEN, payment(amount_before_tax="6000", currency="jpy"), True, id="hold_yen"),
        pytest.param(YEN, payment(amount_before_tax="60", currency="jpy"), False, id="hold_a_hundredth_of_yen"),
        pytest.param(YEN, payment(amount_before_tax="600000", currency="jpy"), False, id="hold_yen_have_no_cents"),
        pytest.param(DINAR, payment(amount_before_tax="6.500", currency="kwd"), True, id="hold_dinars"),
        pytest.param(DINAR, payment(amount_before_tax="6500", currency="kwd"), True, id="hold_fils"),
        pytest.param(DINAR, payment(amount_before_tax="650", currency="kwd"), False, id="hold_a_tenth_of_dinars"),
        pytest.param(HOLD, payment(amount_before_tax="49.00"), False, id="hold_currency_missing"),
        pytest.param(HOLD, payment(currency="usd", amount="49.00"), False, id="hold_amount_before_tax_missing"),
        pytest.param(HOLD, payment(product_id="x", amount_before_tax="49", currency="usd"), False, id="hold_product"),
        pytest.param(
            Item(PRODUCT, hold_on_difference=True), payment(amount_before_tax="1", currency="usd"), False, id="no_price"
        ),
        pytest.param(
            Item("", price=Decimal("49.00"), currency="usd", hold_on_difference=True),
            payment(amount_before_tax="49.00", currency="usd"),
            False,
            id="a_cart_before_its_product",
        ),
        pytest.param(HOLD, payment(kind="subscription", amount=None), True, id="subscription_has_no_amount"),
        pytest.param(HOLD, payment(kind="subscription", product_id="x"), False, id="subscription_to_another_offer"),
        pytest.param(
            VARIANT, untold(amount_before_tax="49.00", currency="usd"), True, id="untold_variant_of_this_price"
        ),
        pytest.param(
            VARIANT, untold(amount_before_tax="4900", currency="usd"), True, id="untold_variant_in_minor_units"
        ),
        pytest.param(VARIANT, untold(amount_before_tax="48.99", currency="usd"), False, id="untold_variant_cheaper"),
        pytest.param(VARIANT, untold(amount_before_tax="49.00", currency="eur"), False, id="untold_variant_in_euros"),
        pytest.param(VARIANT, untold(currency="usd"), False, id="untold_variant_of_no_price"),
        pytest.param(
            VARIANT, untold(product_id="x", amount_before_tax="49", currency="usd"), False, id="untold_product"
        ),
        pytest.param(
            Item(PRODUCT, variant_id="a2"), untold(amount_before_tax="49", currency="usd"), False, id="no_price_to_tell"
        ),
        pytest.param(
            VARIANT,
            untold(variant_id="a3", variant_unknown=None, amount_before_tax="49.00", currency="usd"),
            False,
            id="other_variant_of_this_price",
        ),
        pytest.param(Item(PRODUCT), untold(), True, id="untold_variant_not_asked_for"),
    ],
)
def test_fits(item: Item, paid: dict[str, Any], fits: bool):
    """Product and variant must be what was ordered, the amount only where the item says so, or where nothing but the
    variant's own price can tell it."""
    assert orders.fits(item, paid) is fits


# --- Status -----------------------------------------------------------------------------------------------------------


def refund(
    status: str = "succeeded", amount: str | None = "64.99", of: str = "p1", refund_id: str = "r1"
) -> dict[str, Any]:
    fact = {"kind": "refund", "payment_id": of, "refund_id": refund_id, "status": status, "amount": amount}
    return {name: value for name, value in fact.items() if value is not None}


PAID = {"pay#p1": payment()}
SECOND = {"pay#p2": payment(payment_id="p2")}
OTHER = {"pay#p3": payment(payment_id="p3", product_id="another")}


def refunds(*facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"ref#{fact['payment_id']}#{fact['refund_id']}#{fact['status']}": fact for fact in facts}


def claim(of: str) -> dict[str, dict[str, Any]]:
    return {f"claim#p1#{of}": {"kind": "claim", "of": of, "payment_id": "p1"}}


def flags(payment_id: str = "p1", refunded: bool = False, disputed: bool = False) -> dict[str, dict[str, Any]]:
    shown = {"kind": "flags", "payment_id": payment_id, "refunded": refunded, "disputed": disputed}
    return {f"flags#{payment_id}": shown}


def void(payment_id: str) -> dict[str, dict[str, Any]]:
    return {f"void#{payment_id}": {"kind": "void", "payment_id": payment_id}}


@pytest.mark.parametrize(
    ("facts", "payments", "status"),
    [
        pytest.param({}, [], "pending", id="nothing"),
        pytest.param(PAID, ["pay#p1"], "paid", id="paid"),
        pytest.param({"sub#s1": payment(kind="subscription", amount=None)}, ["sub#s1"], "paid", id="subscribed"),
        pytest.param(OTHER, ["pay#p3"], "mismatched", id="other_product"),
        pytest.param({**OTHER, **PAID}, ["pay#p3", "pay#p1"], "paid", id="other_product_then_the_right_one"),
        pytest.param({**OTHER, **PAID}, ["pay#p1", "pay#p3"], "paid", id="the_right_one_then_other_product"),
        pytest.param({**PAID, **SECOND}, ["pay#p1", "pay#p2"], "paid", id="paid_twice"),
        pytest.param({**PAID, **refunds(refund())}, ["pay#p1"], "refunded", id="refunded"),
        pytest.param({**PAID, **refunds(refund("completed"))}, ["pay#p1"], "refunded", id="refunded_in_the_api's_word"),
        pytest.param({**PAID, **refunds(refund(amount="70"))}, ["pay#p1"], "refunded", id="refunded_more_than_paid"),
        pytest.param({**PAID, **refunds(refund(amount="64.98"))}, ["pay#p1"], "partially_refunded", id="a_cent_kept"),
        pytest.param({**PAID, **refunds(refund(amount=None))}, ["pay#p1"], "partially_refunded", id="amount_not_known"),
        pytest.param(
            {"pay#p1": payment(amount=None), **refunds(refund())}, ["pay#p1"], "partially_refunded", id="paid_not_known"
        ),
        pytest.param(
            {**PAID, **refunds(refund(amount="60"), refund(amount="4.99", refund_id="r2"))},
            ["pay#p1"],
            "refunded",
            id="two_refunds_that_make_it_whole",
        ),
        pytest.param(
            {**PAID, **refunds(refund(amount="30"), refund(amount="30", refund_id="r2"))},
            ["pay#p1"],
            "partially_refunded",
            id="two_refunds_that_do_not",
        ),
        pytest.param(
            {**PAID, **refunds(refund("succeeded", "40"), refund("completed", "40"))},
            ["pay#p1"],
            "partially_refunded",
            id="one_refund_seen_under_two_words",
        ),
        pytest.param(
            {**PAID, **refunds(refund("pending"), refund("succeeded"))}, ["pay#p1"], "refunded", id="pending_then_done"
        ),
        pytest.param({**PAID, **refunds(refund("pending"))}, ["pay#p1"], "paid", id="only_pending"),
        pytest.param({**PAID, **refunds(refund("failed"))}, ["pay#p1"], "paid", id="failed"),
        pytest.param(
            {**PAID, **refunds(refund("succeeded"), refund("failed"))}, ["pay#p1"], "paid", id="failed_in_the_end"
        ),
        pytest.param(
            {**PAID, **refunds(refund("failed"), refund(refund_id="r2"))},
            ["pay#p1"],
            "refunded",
            id="failed_then_another",
        ),
        pytest.param({**PAID, **refunds(refund("unknown"))}, ["pay#p1"], "paid", id="status_not_known"),
        pytest.param({**PAID, **refunds(refund("reversed"))}, ["pay#p1"], "paid", id="status_of_another_vocabulary"),
        pytest.param(
            {**PAID, **SECOND, **refunds(refund(of="p2"))},
            ["pay#p1", "pay#p2"],
            "paid",
            id="the_second_payment_refunded",
        ),
        pytest.param(
            {**PAID, **OTHER, **refunds(refund(of="p3"))}, ["pay#p3", "pay#p1"], "paid", id="the_mismatch_refunded"
        ),
        pytest.param(refunds(refund()), [], "pending", id="refund_before_its_payment"),
        pytest.param({**OTHER, **refunds(refund(of="p3"))}, ["pay#p3"], "mismatched", id="mismatch_refunded"),
        pytest.param({**PAID, **claim("refund")}, ["pay#p1"], "paid", id="refund_only_claimed"),
        pytest.param(claim("payment"), [], "pending", id="payment_only_claimed"),
        pytest.param({**PAID, **claim("payment")}, ["pay#p1"], "paid", id="payment_claimed_and_confirmed"),
        pytest.param({**PAID, **flags()}, ["pay#p1"], "paid", id="no_flag"),
        pytest.param({**PAID, **flags(disputed=True)}, ["pay#p1"], "disputed", id="disputed"),
        pytest.param({**PAID, **flags(refunded=True)}, ["pay#p1"], "refunded", id="refunded_by_its_flag_alone"),
        pytest.param(
            {**PAID, **flags(refunded=True, disputed=True)}, ["pay#p1"], "refunded", id="refunded_by_flag_and_disputed"
        ),
        pytest.param(
            {**PAID, **flags(disputed=True), **refunds(refund())}, ["pay#p1"], "refunded", id="disputed_then_refunded"
        ),
        pytest.param(
            {**PAID, **flags(disputed=True), **refunds(refund(amount="10"))},
            ["pay#p1"],
            "disputed",
            id="disputed_and_partially_refunded",
        ),
        pytest.param(
            {**PAID, **flags(refunded=True), **refunds(refund(amount="10"))},
            ["pay#p1"],
            "partially_refunded",
            id="the_refunds_are_known_better_than_the_flag",
        ),
        pytest.param(
            {**PAID, **flags(refunded=True), **refunds(refund("failed"))},
            ["pay#p1"],
            "refunded",
            id="a_failed_refund_is_none_beside_the_flag",
        ),
        pytest.param(
            {**PAID, **SECOND, **flags("p2", disputed=True)},
            ["pay#p1", "pay#p2"],
            "paid",
            id="the_second_payment_disputed",
        ),
        pytest.param(flags(refunded=True, disputed=True), [], "pending", id="flags_before_their_payment"),
        pytest.param({**OTHER, **flags("p3", disputed=True)}, ["pay#p3"], "mismatched", id="mismatch_disputed"),
        pytest.param({**PAID, **void("p1")}, ["pay#p1"], "mismatched", id="belongs_to_another_order"),
        pytest.param(
            {**PAID, **SECOND, **void("p1")}, ["pay#p1", "pay#p2"], "paid", id="the_second_is_the_first_of_its_own"
        ),
        pytest.param(
            {**PAID, **SECOND, **void("p1"), **refunds(refund())},
            ["pay#p1", "pay#p2"],
            "paid",
            id="refund_of_what_belongs_to_another_order",
        ),
        pytest.param(
            {**PAID, "drift#p1#amount": {"kind": "drift", "payment_id": "p1", "what": "amount"}},
            ["pay#p1"],
            "paid",
            id="a_contradiction_takes_nothing_back",
        ),
    ],
)
def test_status(facts: dict[str, dict[str, Any]], payments: list[str], status: str):
    """The status follows from the facts, whatever order they are read in."""
    for order in itertools.permutations(facts.items()):
        assert orders.status(Item(PRODUCT), dict(order), payments) == status


def test_the_first_payment_written_settles():
    """Of two that fit, the first settles: refunding it refunds the order."""
    facts = {**PAID, **SECOND, **refunds(refund(of="p1"))}
    assert orders.status(Item(PRODUCT), facts, ["pay#p1", "pay#p2"]) == "refunded"
    assert orders.status(Item(PRODUCT), facts, ["pay#p2", "pay#p1"]) == "paid"


def test_refunds_are_added_up_by_payment():
    """The most that was seen of each refund, of those that went through and never failed, and of that payment alone."""
    facts = {
        **PAID,
        **refunds(refund("pending", "1"), refund("succeeded", "10"), refund("completed", "10.50")),
        **refunds(refund("succeeded", "5", refund_id="r2"), refund("failed", "5", refund_id="r2")),
        **refunds(refund("completed", None, refund_id="r3"), refund("completed", "7", of="p2")),
    }
    assert orders.refunds(facts, "p1") == {"r1": Decimal("10.50"), "r3": Decimal(0)}
    assert orders.refunds(facts, "p2") == {"r1": Decimal("7")}
    assert orders.refunds(facts, "p3") == {}


def test_a_held_amount():
    """A payment that differs from the price of an item on hold leaves the order mismatched."""
    differing = {"pay#p1": payment(amount_before_tax="1.00", currency="usd")}
    assert orders.status(HOLD, differing, ["pay#p1"]) == "mismatched"
    exact = {"pay#p2": payment(payment_id="p2", amount_before_tax="49.00", currency="usd")}
    assert orders.status(HOLD, {**differing, **exact}, ["pay#p1", "pay#p2"]) == "paid"


@pytest.mark.parametrize(
    ("payments", "after", "void", "winner"),
    [
        (["pay#other"], 1, (), "pay#other"),
        (["pay#other"], 1, ("other",), None),
        (["pay#other", "pay#right"], 1, (), "pay#other"),
        (["pay#right", "pay#other"], 2, (), "pay#right"),
        (["pay#other", "pay#right"], 2, (), "pay#right"),
        (["pay#other", "pay#right"], 1, ("other",), "pay#right"),
        (["pay#right", "pay#other"], 2, ("right",), "pay#other"),
    ],
)
def test_a_payment_that_a_person_accepted_counts_from_then_on(
    payments: list[str], after: int, void: tuple[str, ...], winner: str | None
):
    """What fitted before it was accepted has settled the order, what fits later is a second payment; one that belongs
    to another order settles nothing, whoever accepts it."""
    products = {"pay#other": "another", "pay#right": PRODUCT}
    facts = {
        name: {"kind": "payment", "payment_id": name[4:], "product_id": products[name], "at": "x"} for name in payments
    }
    facts |= {f"void#{each}": {"kind": "void", "payment_id": each} for each in void}
    facts["accepted"] = {"kind": "accepted", "payment_id": "other", "payment": "pay#other", "after": after}
    assert orders.winner(Item(PRODUCT), facts, payments) == winner
