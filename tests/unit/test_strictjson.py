"""payments.strictjson: JSON that two readers could read differently is refused."""

import traceback
from decimal import Decimal
from typing import Any

import pytest

from payments import strictjson

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   \n", id="only_white_space"),
        pytest.param(b"\xef\xbb\xbf{}", id="bom"),
        pytest.param("{}".encode("utf-16"), id="utf_16_with_bom"),
        pytest.param("{}".encode("utf-16-le"), id="utf_16_le"),
        pytest.param("{}".encode("utf-16-be"), id="utf_16_be"),
        pytest.param("{}".encode("utf-32"), id="utf_32"),
        pytest.param(b'{"a": "\xff"}', id="invalid_utf8"),
        pytest.param(b'{"a": "\xe9"}', id="latin_1"),
        pytest.param(b'{"a": "\xc0\xaf"}', id="overlong_utf8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', id="surrogate_in_utf8"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b'{"amount": NaN}', id="nan_inside"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b"[-Infinity]", id="minus_infinity"),
        pytest.param(b'{"event": "a", "event": "b"}', id="duplicate_keys"),
        pytest.param(b'{"event": "a", "event": "a"}', id="duplicate_keys_of_equal_value"),
        pytest.param(b'{"event": "a", "\\u0065vent": "b"}', id="duplicate_keys_one_escaped"),
        pytest.param(b'{"order": {"id": "1", "id": "2"}}', id="duplicate_keys_nested"),
        pytest.param(b'[[{"a": [{"x": 1, "y": 2, "x": 3}]}]]', id="duplicate_keys_deep_down"),
        pytest.param(b"[" * 100_000, id="100_000_deep"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100_000_deep_and_closed"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100_000_objects_deep"),
        pytest.param(b'{"amount": 1e99999999999999999999}', id="exponent_out_of_range"),
        pytest.param(b'{"amount": 1e-99999999999999999999}', id="negative_exponent_out_of_range"),
        pytest.param(b'{"amount": 0e99999999999999999999}', id="zero_with_exponent_out_of_range"),
        pytest.param(b"{} {}", id="trailing_garbage"),
        pytest.param(b"{}x", id="trailing_letter"),
        pytest.param(b"{}\0", id="trailing_nul"),
        pytest.param(b'{"a": 1,}', id="trailing_comma"),
        pytest.param(b"{'a': 1}", id="single_quotes"),
        pytest.param(b"{a: 1}", id="bare_key"),
        pytest.param(b"{} // comment", id="comment"),
        pytest.param(b'{"a": "b\nc"}', id="newline_in_a_string"),
        pytest.param(b'{"a": 1', id="cut_off"),
        pytest.param(b"01", id="leading_zero"),
        pytest.param(b"+1", id="leading_plus"),
        pytest.param(b".5", id="no_digit_before_the_point"),
        pytest.param(b"5.", id="no_digit_after_the_point"),
        pytest.param(b"0x10", id="hexadecimal"),
        pytest.param("\u0661".encode(), id="arabic_indic_digit"),
    ],
)
def test_refused(body: bytes):
    """Each trap is Unreadable, never another exception and never a value."""
    with pytest.raises(strictjson.Unreadable):
        strictjson.parse(body)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0", id="zero"),
        pytest.param("64.99", id="dollars"),
        pytest.param("60.00", id="trailing_zeros"),
        pytest.param("1500", id="cents"),
        pytest.param("-0.10", id="negative"),
        pytest.param("0.1", id="tenth"),
        pytest.param("1e3", id="exponent"),
        pytest.param("1E-7", id="tiny"),
        pytest.param("12345678901234567890.123456789", id="beyond_float"),
        pytest.param("9" * 5_000, id="5_000_digits"),
        pytest.param("0." + "3" * 5_000, id="5_000_places"),
        pytest.param("1e999999", id="huge_exponent"),
        pytest.param("1e-999999", id="huge_negative_exponent"),
    ],
)
def test_numbers_are_exact_decimals(text: str):
    """A number is the Decimal that was written, digit by digit."""
    number = strictjson.parse(f'{{"amount": {text}}}'.encode())["amount"]
    assert isinstance(number, Decimal)
    assert number.as_tuple() == Decimal(text).as_tuple()


@pytest.mark.parametrize(
    ("body", "content"),
    [
        pytest.param(b'{"a": {"b": [true, false, null, "x"]}}', {"a": {"b": [True, False, None, "x"]}}, id="nested"),
        pytest.param(' {"é": "\U0001f600"} \n'.encode(), {"é": "\U0001f600"}, id="utf8"),
        pytest.param(b'{"a": {"id": "1"}, "b": {"id": "1"}}', {"a": {"id": "1"}, "b": {"id": "1"}}, id="key_in_two"),
        pytest.param(b'"\\u00e9\\ud83d\\ude00"', "é\U0001f600", id="escapes"),
        pytest.param(b"[]", [], id="array"),
        pytest.param(b"null", None, id="null"),
    ],
)
def test_plain_json_is_read(body: bytes, content: Any):
    """What everybody reads the same way is read that way."""
    assert strictjson.parse(body) == content


@pytest.mark.parametrize(
    "text",
    [f'"{CANARY}', f'{{"{CANARY}": 1, "{CANARY}": 2}}', f"{CANARY}", f'{{"{CANARY}": NaN}}', f'["{CANARY}"] {CANARY}'],
    ids=["cut_off", "duplicate", "no_json", "nan", "trailing"],
)
def test_errors_carry_no_input(text: str):
    """Neither the error's text nor the traceback that is printed for it quotes the body."""
    with pytest.raises(strictjson.Unreadable) as caught:
        strictjson.parse(text.encode())
    assert CANARY not in "".join(traceback.format_exception(caught.value))
