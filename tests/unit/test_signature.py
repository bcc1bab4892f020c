"""payments.signature: what is accepted is exactly the HMAC of the bytes that came."""

import ast
import hashlib
import hmac
import inspect
import json
import random

import pytest

from payments import signature
from tests.fuzz import timing

SECRET = "whsec_0123456789abcdef"
OTHER = "whsec_fedcba9876543210"
BODY = b'{"order": {"id": "6a43ce05"},  "amount": 64.90, "note": "caf\xc3\xa9"}'


def sign(body: bytes, secret: str) -> str:
    """HMAC-SHA256 as RFC 2104 writes it down, without the hmac module."""
    key = secret.encode().ljust(64, b"\0")
    assert len(key) == 64
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + body).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


GOOD = sign(BODY, SECRET)


def test_the_reference_is_the_standard_hmac():
    """The computation these tests compare with is the standard library's."""
    assert hmac.new(SECRET.encode(), BODY, "sha256").hexdigest() == GOOD


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", BODY, b"\x00\xff\xfe not text", "é".encode(), b"x" * 262_144],
    ids=["empty", "object", "json", "not_utf8", "utf8", "256_kB"],
)
def test_a_signature_of_the_raw_bytes_is_accepted(body: bytes):
    """Whatever the body is, its own HMAC verifies."""
    assert signature.verify(body, sign(body, SECRET), [SECRET])


def test_upper_and_mixed_case_are_accepted():
    """Hexadecimal digits mean the same in either case."""
    mixed = "".join(digit.upper() if index % 2 else digit for index, digit in enumerate(GOOD))
    assert signature.verify(BODY, GOOD.upper(), [SECRET])
    assert signature.verify(BODY, mixed, [SECRET])


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="absent_or_empty"),
        pytest.param(f"sha256={GOOD}", id="sha256_prefix"),
        pytest.param(f"v1={GOOD}", id="v1_prefix"),
        pytest.param(f"0x{GOOD}", id="0x_prefix"),
        pytest.param(GOOD[:-1], id="63_digits"),
        pytest.param(GOOD[1:], id="first_digit_missing"),
        pytest.param(GOOD + "0", id="65_digits"),
        pytest.param(GOOD[:32], id="half_of_it"),
        pytest.param(GOOD + "\n", id="trailing_newline"),
        pytest.param(GOOD + "\r\n", id="trailing_crlf"),
        pytest.param(GOOD[:-1] + "\n", id="newline_for_the_last_digit"),
        pytest.param(f" {GOOD}", id="leading_space"),
        pytest.param(f"{GOOD} ", id="trailing_space"),
        pytest.param(f"\t{GOOD}\t", id="tabs_around"),
        pytest.param(GOOD[:32] + " " + GOOD[32:], id="space_inside"),
        pytest.param(f"{GOOD},{GOOD}", id="two_joined_by_a_comma"),
        pytest.param(f"{GOOD}, {'0' * 64}", id="valid_and_invalid_joined"),
        pytest.param(f"{'0' * 64},{GOOD}", id="invalid_and_valid_joined"),
        pytest.param("\uff10" * 64, id="fullwidth_digits"),
        pytest.param("".join(chr(0xFEE0 + ord(digit)) for digit in GOOD), id="right_digits_in_fullwidth"),
        pytest.param("\u0661" * 64, id="arabic_indic_digits"),
        pytest.param("\u212a" * 64, id="kelvin_signs"),
        pytest.param(GOOD[:-1] + "\u212a", id="kelvin_sign_for_the_last_digit"),
        pytest.param("\udcff" * 64, id="lone_surrogates"),
        pytest.param(GOOD[:-1] + "\0", id="nul_for_the_last_digit"),
        pytest.param("g" * 64, id="no_hexadecimal_digits"),
        pytest.param("0" * 64, id="zeros"),
        pytest.param("f" * 8192, id="8_kB"),
        pytest.param(GOOD * 128, id="8_kB_of_the_right_one"),
        pytest.param("LRIDXnOLpI8xH5J4nHqJ0Xo1l5z2m9m8JrVfV0x0a1M=", id="base64"),
    ],
)
def test_what_is_not_the_signature_is_refused(given: str):
    """Everything but exactly 64 right hexadecimal digits is refused, and nothing raises."""
    assert signature.verify(BODY, given, [SECRET]) is False


def test_one_wrong_digit():
    """Every digit counts."""
    for place, digit in enumerate(GOOD):
        wrong = "0" if digit != "0" else "1"
        assert not signature.verify(BODY, GOOD[:place] + wrong + GOOD[place + 1 :], [SECRET])


def test_body_flipped_by_one_bit():
    """Every bit of the body counts."""
    for bit in range(len(BODY) * 8):
        flipped = bytearray(BODY)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not signature.verify(bytes(flipped), GOOD, [SECRET])


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(json.loads(BODY)).encode(),
        json.dumps(json.loads(BODY), ensure_ascii=False, separators=(",", ":")).encode(),
        BODY + b"\n",
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        b"",
    ],
    ids=["reserialised", "compact", "newline_added", "bom_added", "utf_16", "emptied"],
)
def test_the_same_json_in_other_bytes(body: bytes):
    """The signature is of the bytes, not of what they mean."""
    assert not signature.verify(body, GOOD, [SECRET])


@pytest.mark.parametrize(
    "secrets",
    [[SECRET], [OTHER, SECRET], [SECRET, OTHER], ["", SECRET], [SECRET, ""], [SECRET, SECRET]],
    ids=["only", "second_of_two", "first_of_two", "after_an_empty_one", "before_an_empty_one", "twice"],
)
def test_any_of_the_secrets_signs(secrets: list[str]):
    """While a secret is being rotated both are good."""
    assert signature.verify(BODY, GOOD, secrets)
    assert signature.verify(BODY, GOOD, iter(secrets))


@pytest.mark.parametrize(
    "secrets",
    [
        [],
        [OTHER],
        [""],
        [SECRET.upper()],
        [SECRET.removeprefix("whsec_")],
        [SECRET + "\n"],
        [f"{SECRET} {OTHER}"],
        [SECRET + "\ud800"],
    ],
    ids=["none", "another", "empty", "upper_case", "without_whsec", "with_newline", "two_in_one", "half_a_character"],
)
def test_no_other_secret_signs(secrets: list[str]):
    """The key is the whole secret, exactly; without one everything is refused."""
    assert signature.verify(BODY, GOOD, secrets) is False


@pytest.mark.parametrize("secrets", [[""], ["", ""], [OTHER, ""], ["", OTHER]])
def test_signed_with_the_empty_secret(secrets: list[str]):
    """An empty secret, which everybody knows, signs nothing."""
    assert not signature.verify(BODY, sign(BODY, ""), secrets)


def test_well_formed_is_64_hexadecimal_digits():
    """What is not well-formed needs no look at the secret."""
    assert signature.well_formed("0" * 64)
    assert signature.well_formed("aF" * 32)
    assert not any(map(signature.well_formed, ["", "0" * 63, "0" * 65, "0" * 64 + "\n", "\uff10" * 64, "g" * 64]))


# --- Time tells nothing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [GOOD, GOOD[:-1] + "x", "0" * 64, GOOD[:32] + "0" * 32, "", "x" * 8_192])
@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, OTHER], [OTHER, SECRET], [OTHER, OTHER, ""]])
def test_every_secret_is_compared_once_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, given: str, secrets: list[str]
) -> None:
    """Whatever is right, and wherever: one comparison for each secret, of whole digests, by the one function that takes
    the same time for all. How long it takes is measured by `make fuzz` (tests/fuzz/timing.py)."""
    compare, compared = hmac.compare_digest, list[tuple[bytes, bytes]]()

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(signature.hmac, "compare_digest", noting)
    signature.verify(BODY, given, secrets)
    sent = given.encode() if signature.well_formed(given) else b""
    assert compared == [(sent, sign(BODY, secret).encode()) for secret in secrets]


def test_nothing_else_looks_at_a_digest() -> None:
    """No `==`, no `in` and no way out of the loop: the one other comparison is of the secret with none."""
    [verify] = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(signature)))
        if isinstance(node, ast.FunctionDef) and node.name == "verify"
    ]
    compared = [ast.unparse(node) for node in ast.walk(verify) if isinstance(node, ast.Compare)]
    assert compared == ["secret != ''"]
    [loop] = [node for node in ast.walk(verify) if isinstance(node, ast.For)]
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Return | ast.Break | ast.Continue | ast.If)]


def test_the_measurement_tells_a_leak() -> None:
    """The comparison that `make fuzz` measures as its control is never taken for a constant one; what is the same for
    both classes is."""
    assert timing.verdict(random.Random(1), timing.naive, samples=1_000) != "constant"
    assert abs(timing._welch([10, 11, 12] * 500, [10, 11, 12] * 500)) < 1
    assert timing._welch([10, 11, 12] * 500, [11, 12, 13] * 500) > timing.LEAKS
