"""payments.checkout_request: what a browser may ask for, and what goes on to Pocketsflow."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from payments import checkout_request
from payments.catalogue import Item
from payments.checkout_request import CheckoutRequest, Rules

PRODUCT = "6949918ee8d99b0e628103e0"
ORDER = "ord_test_01hzy7v3k4m5n6p7q8r9s0t1v2"
COURSE = Item(PRODUCT, sku="course", price=Decimal("49.00"), currency="usd")
CANARY = "canary-7f3a"


def rules(**items: Item) -> Rules:
    return Rules(
        catalogue=items,
        origins=["https://shop.example", "http://localhost:8000"],
        loopback=True,
        success_url="https://shop.example/thank-you",
        cancel_url="https://shop.example/cart",
    )


OPEN, SHOP = rules(), rules(course=COURSE)


def read(content: Any, given: Rules = SHOP) -> CheckoutRequest | checkout_request.Errors:
    return checkout_request.read(content if isinstance(content, bytes) else json.dumps(content).encode(), given)


def fields(result: CheckoutRequest | checkout_request.Errors) -> list[str]:
    """The fields that are wrong; [] when the request can be served."""
    return [] if isinstance(result, CheckoutRequest) else [error["field"] for error in result]


def served(content: Mapping[str, Any], given: Rules = SHOP) -> CheckoutRequest:
    result = read(content, given)
    assert isinstance(result, CheckoutRequest), result
    return result


def brief(value: Any) -> str:
    """A test's name for a value."""
    return ascii(value)[:40]


EVERYTHING: dict[str, Any] = {
    "sku": "course",
    "customerEmail": "buyer@example.com",
    "discountCode": "SPRING 10%",
    "successUrl": "https://shop.example/done?a=1",
    "cancelUrl": "http://localhost:8000/",
    "metadata": {"plan": "pro", "note": "é\U0001f600"},
}


# --- Fields -----------------------------------------------------------------------------------------------------------


def test_everything_given():
    """Each field arrives as it was given."""
    request = served(EVERYTHING)
    assert request.item == COURSE
    assert request.success_url == EVERYTHING["successUrl"]
    assert request.cancel_url == EVERYTHING["cancelUrl"]
    assert request.customer_email == EVERYTHING["customerEmail"]
    assert request.discount_code == EVERYTHING["discountCode"]
    assert request.metadata == EVERYTHING["metadata"]


def test_the_least():
    """A sku is enough: the stack knows where buyers return."""
    request = served({"sku": "course"})
    assert request.success_url == SHOP.success_url
    assert request.cancel_url == SHOP.cancel_url
    assert request.customer_email is None
    assert request.discount_code is None
    assert request.metadata == {}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"sku=course", id="form"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"course"', id="text"),
        pytest.param(b'\xef\xbb\xbf{"sku": "course"}', id="bom"),
        pytest.param('{"sku": "course"}'.encode("utf-16"), id="utf_16"),
        pytest.param(b'{"sku": "course\xff"}', id="not_utf8"),
        pytest.param(b'{"sku": "course", "sku": "course"}', id="duplicate_key"),
        pytest.param(b'{"sku": "course", "metadata": {"a": "1", "a": "2"}}', id="duplicate_key_in_metadata"),
        pytest.param(b'{"sku": NaN}', id="nan"),
        pytest.param(b'{"sku": ' + b"[" * 100_000, id="100_000_deep"),
    ],
)
def test_no_object(body: bytes):
    """What is no JSON object is wrong as a whole, and nothing else is said about it."""
    assert fields(read(body)) == [""]


@pytest.mark.parametrize(
    "name", ["product_id", "SKU", "price", "quantity", "external_order_id", "", "é", CANARY], ids=brief
)
def test_unknown_fields(name: str):
    """A field that nobody reads is refused: a typing error must not become another checkout."""
    result = read({"sku": "course", name: "x"})
    assert fields(result) == [""]
    assert CANARY not in str(result)


@pytest.mark.parametrize("name", [*EVERYTHING, "productId"])
def test_null_is_absent(name: str):
    """A field that is null is not there."""
    given = {"sku": "course", "metadata": {"a": "b"}}
    without = {key: value for key, value in given.items() if key != name}
    assert fields(read({**given, name: None})) == fields(read(without))
    if name != "sku":
        assert served({**given, name: None}) == served(without)


@pytest.mark.parametrize(
    "value", ["unknown", "", "Course", "course ", "course\n", 7, True, [], ["course"], {}, "\ud800"]
)
def test_a_sku_that_is_none(value: Any):
    """A sku must be in the catalogue, exactly."""
    assert fields(read({"sku": value})) == ["sku"]


@pytest.mark.parametrize(
    ("content", "given", "wrong"),
    [
        pytest.param({}, SHOP, ["sku"], id="shop_nothing"),
        pytest.param({"productId": PRODUCT}, SHOP, ["sku", "productId"], id="shop_product_id"),
        pytest.param({"sku": "course", "productId": PRODUCT}, SHOP, ["productId"], id="shop_both"),
        pytest.param({}, OPEN, ["productId"], id="open_nothing"),
        pytest.param({"sku": "course"}, OPEN, ["sku", "productId"], id="open_sku"),
        pytest.param({"sku": "course", "productId": PRODUCT}, OPEN, ["sku"], id="open_both"),
    ],
)
def test_with_and_without_a_catalogue(content: dict[str, Any], given: Rules, wrong: list[str]):
    """With a catalogue the server chooses the product, without one the request does: never both."""
    assert fields(read(content, given)) == wrong


@pytest.mark.parametrize("value", [PRODUCT, PRODUCT.upper()], ids=["lower_case", "upper_case"])
def test_a_product_id(value: str):
    """24 hexadecimal digits, which Pocketsflow writes in lower case."""
    assert served({"productId": value}, OPEN).item == Item(PRODUCT)


@pytest.mark.parametrize(
    "value",
    [
        "",
        PRODUCT[:-1],
        PRODUCT + "0",
        PRODUCT + "\n",
        " " + PRODUCT,
        "g" * 24,
        "\uff10" * 24,
        "\u212a" * 24,
        "\ud800" * 24,
        7,
        True,
        [PRODUCT],
        {"id": PRODUCT},
        10**23,
    ],
    ids=brief,
)
def test_a_product_id_that_is_none(value: Any):
    """What has another shape is refused here, not by Pocketsflow."""
    assert fields(read({"productId": value}, OPEN)) == ["productId"]


@pytest.mark.parametrize(
    "value", ["a@b", "Buyer+tag@example.com", "é@bücher.example", "a" * 64 + "@" + "b" * 189], ids=brief
)
def test_an_email(value: str):
    """An address of up to 254 characters is passed on as it came."""
    assert served({"sku": "course", "customerEmail": value}).customer_email == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "buyer",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b ",
        "a@b\n",
        "a\r\nBcc: x@y",
        "a\0@b",
        "a\u00a0@b",
        "a\x7f@b",
        "\ud800@b",
        "a" * 65 + "@b",
        "a@" + "b" * 190,
        7,
        True,
        [],
        ["a@b"],
        {},
    ],
    ids=brief,
)
def test_an_email_that_is_none(value: Any):
    """What cannot be an address is refused."""
    assert fields(read({"sku": "course", "customerEmail": value})) == ["customerEmail"]


@pytest.mark.parametrize("value", ["A", "SPRING10", "SPRING 10%", "x" * 64], ids=brief)
def test_a_discount_code(value: str):
    """1 to 64 printable characters are passed on as they came."""
    assert served({"sku": "course", "discountCode": value}).discount_code == value


@pytest.mark.parametrize(
    "value",
    ["", " ", " A", "A ", "A\n", "A\tB", "é", "\0", "\ud800", "x" * 65, 10, True, [], {}, ["A"]],
    ids=brief,
)
def test_a_discount_code_that_is_none(value: Any):
    """What nobody can have printed on a voucher is refused."""
    assert fields(read({"sku": "course", "discountCode": value})) == ["discountCode"]


@pytest.mark.parametrize("field", ["successUrl", "cancelUrl"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "/thank-you",
        "https://evil.com/",
        "https://shop.example.evil.com/",
        "https://shop.example@evil.com/",
        "javascript:alert(1)",
        "//shop.example/",
        "https://shop.example:444/",
        "http://shop.example/",
        "\thttps://shop.example/",
        "https://shop.example/" + "x" * 2_048,
        "https://shop.example/\ud800",
        7,
        True,
        [],
        {},
        ["https://shop.example/"],
    ],
    ids=brief,
)
def test_an_address_elsewhere(field: str, value: Any):
    """Buyers return to the shop's own origins; tests/unit/test_addresses.py has every trick."""
    assert fields(read({"sku": "course", field: value})) == [field]


def test_loopback_is_for_development():
    """A live stack sends nobody to a page on their own machine."""
    live = Rules(SHOP.catalogue, SHOP.origins, False, SHOP.success_url, SHOP.cancel_url)
    assert fields(read({"sku": "course", "successUrl": "http://localhost:8000/"}, live)) == ["successUrl"]


METADATA = [
    pytest.param({}, True, id="empty"),
    pytest.param({"k": ""}, True, id="empty_value"),
    pytest.param({f"k{n}": "v" for n in range(20)}, True, id="20_keys"),
    pytest.param({f"k{n}": "v" for n in range(21)}, False, id="21_keys"),
    pytest.param({"k" * 40: "v"}, True, id="key_of_40"),
    pytest.param({"k" * 41: "v"}, False, id="key_of_41"),
    pytest.param({"": "v"}, False, id="empty_key"),
    pytest.param({"k": "v" * 500}, True, id="value_of_500"),
    pytest.param({"k": "v" * 501}, False, id="value_of_501"),
    pytest.param({"k": "\U0001f600" * 500}, True, id="value_of_500_emoji"),
    pytest.param({f"{n:k>40}": "v" * 500 for n in range(20)}, True, id="all_of_the_longest"),
    pytest.param({"external_order_id": ORDER}, False, id="our_order_id_planted"),
    pytest.param({"pocketsflow_store": "store-2"}, False, id="another_store_planted"),
    pytest.param({"external_order_id_2": "v"}, False, id="begins_with_our_order_id"),
    pytest.param({"pocketsflow_": "v"}, False, id="reserved_beginning"),
    pytest.param({"pocketsflow_x": "v"}, False, id="reserved"),
    pytest.param({"pocketsflow": "v"}, True, id="not_quite_reserved"),
    pytest.param({"my_external_order_id": "v"}, True, id="reserved_at_the_end"),
    pytest.param({"k": 7}, False, id="number"),
    pytest.param({"k": True}, False, id="boolean"),
    pytest.param({"k": None}, False, id="null_value"),
    pytest.param({"k": ["v"]}, False, id="list_value"),
    pytest.param({"k": {"k": "v"}}, False, id="nested"),
    pytest.param({"k": "\ud800"}, False, id="lone_surrogate"),
    pytest.param({"\ud800": "v"}, False, id="lone_surrogate_in_a_key"),
    pytest.param({"k": "a\0b"}, False, id="nul"),
    pytest.param({"k\0": "v"}, False, id="nul_in_a_key"),
    pytest.param({"__proto__": "v", "a\nb": "c\nd"}, True, id="odd_but_text"),
    pytest.param([], False, id="list"),
    pytest.param("k=v", False, id="text"),
    pytest.param(7, False, id="number_itself"),
    pytest.param(False, False, id="false_itself"),
]


@pytest.mark.parametrize(("value", "good"), METADATA)
def test_metadata(value: Any, good: bool):
    """Few and short strings under keys that are not ours."""
    result = read({"sku": "course", "metadata": value})
    assert fields(result) == ([] if good else ["metadata"])
    if isinstance(result, CheckoutRequest):
        assert result.metadata == value


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [SHOP, OPEN], ids=["catalogue", "no_catalogue"])
def test_every_wrong_field_is_named_and_none_is_echoed(given: Rules):
    """One answer names all that is wrong, in constant words: no value and no unknown name comes back."""
    content = {
        "sku": CANARY,
        "productId": CANARY,
        "customerEmail": CANARY,
        "discountCode": f"\n{CANARY}",
        "successUrl": f"https://{CANARY}.example/",
        "cancelUrl": f"https://shop.example@{CANARY}/",
        "metadata": {f"pocketsflow_{CANARY}": CANARY},
        CANARY: CANARY,
    }
    result = read(content, given)
    assert not isinstance(result, CheckoutRequest)
    assert {error["field"] for error in result} == {"", *content} - {CANARY}
    assert all(error.keys() == {"field", "detail"} and error["detail"] for error in result)
    assert CANARY not in json.dumps(result)


def test_errors_are_the_same_for_every_value():
    """What is said about a field depends on the field alone."""
    for field in EVERYTHING:
        answers = [read({**EVERYTHING, field: wrong}) for wrong in (7, [CANARY], f"\n{CANARY}\0")]
        assert answers[0] == answers[1] == answers[2]
        assert fields(answers[0]) == [field]


# --- To Pocketsflow ---------------------------------------------------------------------------------------------------


def test_all_six_fields_go_to_pocketsflow():
    """The guide's six fields go on unchanged, with our order id in the addresses and in the metadata, and this stack's
    own id beside it there."""
    assert served(EVERYTHING).for_pocketsflow(ORDER, "store-1") == {
        "productId": PRODUCT,
        "successUrl": f"https://shop.example/done?a=1&order_id={ORDER}",
        "cancelUrl": f"http://localhost:8000/?order_id={ORDER}",
        "customerEmail": "buyer@example.com",
        "discountCode": "SPRING 10%",
        "metadata": {"plan": "pro", "note": "é\U0001f600", "external_order_id": ORDER, "pocketsflow_store": "store-1"},
    }


def test_what_is_not_given_does_not_go_to_pocketsflow():
    """An optional field that was not given, or null, is absent: Pocketsflow never sees null."""
    for content in (
        {"sku": "course"},
        {"sku": "course", "customerEmail": None, "discountCode": None, "metadata": None},
    ):
        assert served(content).for_pocketsflow(ORDER, "store-1") == {
            "productId": PRODUCT,
            "successUrl": f"https://shop.example/thank-you?order_id={ORDER}",
            "cancelUrl": f"https://shop.example/cart?order_id={ORDER}",
            "metadata": {"external_order_id": ORDER, "pocketsflow_store": "store-1"},
        }


# --- Fingerprint ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(dict(reversed(EVERYTHING.items()))).encode(),
        json.dumps({**EVERYTHING, "metadata": dict(reversed(EVERYTHING["metadata"].items()))}).encode(),
        json.dumps(EVERYTHING, indent=4, ensure_ascii=False).encode(),
        json.dumps({**EVERYTHING, "productId": None}).encode(),
    ],
    ids=["reordered", "metadata_reordered", "reformatted", "with_a_null"],
)
def test_the_same_fingerprint(body: bytes):
    """Two bodies that say the same have the same fingerprint."""
    result = read(body)
    assert isinstance(result, CheckoutRequest)
    assert result.fingerprint == served(EVERYTHING).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": "print"},
        {"customerEmail": "other@example.com"},
        {"customerEmail": None},
        {"discountCode": "SPRING 11%"},
        {"successUrl": "https://shop.example/done?a=2"},
        {"cancelUrl": "http://localhost:8000/x"},
        {"cancelUrl": EVERYTHING["successUrl"], "successUrl": EVERYTHING["cancelUrl"]},
        {"metadata": {"plan": "pro"}},
        {"metadata": {"plan": "é\U0001f600", "note": "pro"}},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_another_fingerprint(changes: dict[str, Any]):
    """A body that says something else has another fingerprint."""
    shop = rules(course=COURSE, print=Item(PRODUCT, sku="print"))
    assert served({**EVERYTHING, **changes}, shop).fingerprint != served(EVERYTHING, shop).fingerprint


# --- A total, and a cart ----------------------------------------------------------------------------------------------

TOTAL = {"amount": "60.00", "currency": "usd"}


def trusted(content: Any, given: Rules = SHOP, *, carts: bool = True) -> CheckoutRequest | checkout_request.Errors:
    return checkout_request.read_trusted(json.dumps(content).encode(), given, carts=carts)


def test_a_total_holds_an_item():
    """To this amount in this currency, whatever the catalogue says; variant and product stay."""
    request = trusted({"sku": "course", "total": {"amount": "6000", "currency": "jpy"}}, carts=False)
    assert isinstance(request, CheckoutRequest)
    assert request.item == Item(PRODUCT, "course", price=Decimal("6000"), currency="jpy", hold_on_difference=True)
    assert request.product_name is None
    request = trusted({"productId": PRODUCT, "total": TOTAL}, OPEN)
    assert isinstance(request, CheckoutRequest)
    assert request.item == Item(PRODUCT, price=Decimal("60.00"), currency="usd", hold_on_difference=True)


def test_a_cart_is_a_name_and_a_total():
    """Of no product yet; another total or name is another request."""
    requests = [
        trusted({"name": name, "total": {**TOTAL, "amount": amount}})
        for name, amount in (("Order 1043", "60.00"), ("Order 1043", "60.01"), ("Order 1044", "60.00"))
    ]
    assert isinstance(requests[0], CheckoutRequest)
    assert requests[0].item == Item("", price=Decimal("60.00"), currency="usd", hold_on_difference=True)
    assert requests[0].of(PRODUCT).for_pocketsflow(ORDER, "store-1")["productId"] == PRODUCT
    assert len({request.fingerprint for request in requests if isinstance(request, CheckoutRequest)}) == 3


@pytest.mark.parametrize(
    "total",
    [
        *({**TOTAL, "amount": amount} for amount in ("0", "0.00", "-1", "1e3", "60,00", "60\n", "", "NaN", 60, None)),
        *({**TOTAL, "currency": currency} for currency in ("USD", "us", "usdt", "usd\n", "", 7, None)),
        *({"amount": amount, "currency": of} for amount, of in (("60.005", "usd"), ("60.5", "jpy"), ("0.0005", "kwd"))),
        *({}, {"amount": "60.00"}, {**TOTAL, "tax": "0"}, [], "60.00 usd", 60, {**TOTAL, "amount": CANARY}),
    ],
    ids=brief,
)
def test_what_is_no_total(total: Any):
    """Is named, beside a product and beside a name, and not echoed."""
    for content in ({"sku": "course", "total": total}, {"name": "Cart", "total": total}):
        result = trusted(content)
        assert fields(result) == ["total"]
        assert CANARY not in str(result)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\0", "a\x85", "\ud800", 7, [CANARY]], ids=brief)
def test_what_is_no_name(name: Any):
    """Is named, and not echoed."""
    result = trusted({"name": name, "total": TOTAL})
    assert fields(result) == ["name"]
    assert CANARY not in str(result)
