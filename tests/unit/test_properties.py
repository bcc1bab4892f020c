"""What holds for every input of the pure modules, whoever made it up."""

import base64
import contextlib
import hashlib
import ipaddress
import itertools
import json
import re
import string
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from payments import addresses, checkout_request, events, http, ledger, orders, signature, strictjson
from payments.catalogue import Item
from payments.checkout_request import CheckoutRequest
from tests import conftest
from tests.payloads import PRODUCT, paid, refunded, sign, subscribed
from tests.strategies import (
    ANY_CHARACTER,
    ANY_TEXT,
    ODD_NUMBERS,
    OUT_OF_RANGE,
    Number,
    encoded,
    json_values,
    mutated,
    near,
    numbers,
    places,
)

EXAMPLES = settings(conftest.EXAMPLES, max_examples=120)
ORDER = "ord_test_01hzy7v3k4m5n6p7q8r9s0t1v2"
ENCODABLE_TEXT = st.text(max_size=80)

# --- Signature --------------------------------------------------------------------------------------------------------


@settings(EXAMPLES, max_examples=200)
@given(
    body=st.binary(max_size=200), secrets=st.lists(ENCODABLE_TEXT | st.just(""), min_size=1, max_size=3), data=st.data()
)
def test_a_signature_verifies_exactly_when_it_is_the_hmac(body: bytes, secrets: list[str], data: st.DataObject) -> None:
    """verify() never raises, and is true for the HMAC under one of the secrets in either case, and for nothing else."""
    valid = [sign(body, secret) for secret in secrets if secret]
    signed = sign(body, data.draw(st.sampled_from(secrets), "secret"))
    spelled = st.sampled_from([signed, signed.upper(), signed.swapcase(), f"{signed}\n", f"{signed}\udfff"])
    candidate = data.draw(spelled | mutated(signed) | ANY_TEXT, "signature")
    expected = candidate.isascii() and candidate.lower() in valid
    assert signature.verify(body, candidate, secrets) is expected


@EXAMPLES
@given(
    body=st.binary(max_size=200), other=st.binary(max_size=200), secret=st.text(min_size=1), another=st.text(min_size=1)
)
def test_a_signature_is_of_one_body_and_one_secret(body: bytes, other: bytes, secret: str, another: str) -> None:
    """What signs a body signs no other body, and nobody without the secret signs it."""
    assert signature.verify(body, sign(body, secret), [another, secret])
    assert signature.verify(other, sign(body, secret), [secret]) is (other == body)
    # HMAC fills short keys up with NUL, so two such secrets are one key.
    assume(secret.rstrip("\0") != another.rstrip("\0") and max(len(secret), len(another)) < 16)
    assert not signature.verify(body, sign(body, secret), [another, ""])


# --- Events -----------------------------------------------------------------------------------------------------------

EVENT_NAMES = ["order.completed", "order.refunded", "customer.subscription.created", "review.created", ""]
STATE_NAMES = ["customer.subscription.updated", "customer.subscription.deleted", "customer.subscription.x.y"]
UNNAMED = [{name: value for name, value in paid(ORDER).items() if name != "event"}]
BOTH = {**refunded(ORDER), **paid(ORDER)}
STATES = [{"status": "canceled", "active": False}, {"status": "past_due"}, {"paused": True}, {"status": "Trialing"}]
SUBSCRIBED = [subscribed(ORDER), subscribed(None), *(subscribed(ORDER, **state) for state in STATES)]
BODIES = [paid(ORDER), paid(None), *UNNAMED, BOTH, refunded(ORDER), refunded(None), *SUBSCRIBED]
MORE_FIELDS = {"type", "pocketsflow_store", "clientReferenceId", "cancelAtPeriodEnd"}
FIELDS = sorted({str(key) for body in BODIES for _, key in places(body)} | MORE_FIELDS)
WORDS = ["active", "trial", "unpaid", "ended", "incomplete", *EVENT_NAMES, *STATE_NAMES]
ODD_TEXT = st.sampled_from([ORDER, f"{ORDER}\n", "ORDER-1043", "x" * 65, "sale#1", "é", "\ud800", "", *WORDS])
ODD_VALUES = json_values(ODD_TEXT | ANY_TEXT | st.sampled_from(FIELDS), numbers())
ID = "([A-Za-z0-9_-]{1,64}|sha256-[0-9a-f]{64})"
FACT_NAME = re.compile(f"(pay|sub)#{ID}|claim#{ID}#refund|ref#{ID}#{ID}#[a-z_]{{1,32}}")
LIVE, KNOWN_STATES = {"active", "trialing"}, {"active", "trialing", "paused", "past_due", "ended"}


def assert_storable(fact: events.Fact, header: str) -> None:
    """Whatever was read, its keys and amounts fit the ledger, and its kind is that of its event."""
    match fact:
        case events.Unknown():
            assert fact.reason in ("other_event", "misfit", "unreadable")
            return
        case events.SubscriptionChanged():
            assert re.fullmatch(r"customer\.subscription\.[^.]*", header, re.DOTALL)
            assert fact.state in KNOWN_STATES
            assert re.fullmatch(ID, fact.id)
            assert (fact.period_start, fact.period_end) == (None, None)
            amounts, texts = [], [fact.product_id]
        case events.Payment(kind="payment"):
            assert header == "order.completed"
            assert (fact.state, fact.customer_reference) == (None, None)
            amounts = [fact.amount, fact.amount_before_tax]
            texts = [fact.product_id, fact.variant_id, fact.currency]
        case events.Payment(kind="subscription"):
            assert header == "customer.subscription.created"
            assert fact.order_id is not None
            assert fact.state in LIVE
            amounts, texts = [fact.amount, fact.amount_before_tax], [fact.product_id]
        case events.Refund():
            assert header == "order.refunded"
            amounts, texts = [fact.amount], [fact.status]
        case events.Claim():
            assert header == "order.refunded"
            assert fact.of == "refund"
            amounts, texts = [], []
        case _:
            pytest.fail("no fact that is known")
    if isinstance(fact, events.Payment):
        assert (fact.unit, fact.variant_known) == (None, True)  # of the API's alone
    if not isinstance(fact, events.SubscriptionChanged):
        assert FACT_NAME.fullmatch(ledger.fact_name(fact))
    assert fact.order_id is None or orders.is_id(fact.order_id)
    for text in texts:
        assert text is None or re.fullmatch(ID, text)
    for amount in amounts:
        assert amount is None or (amount.is_finite() and 0 <= amount < 10**15 and Decimal(str(amount)) == amount)
        # Sums of a hundred such amounts are exact.
        assert amount is None or amount == amount.quantize(Decimal("0.000001"))
    for name, longest in (("email", 255), ("store_id", 200), ("customer_reference", 200)):
        text = getattr(fact, name, None)
        assert text is None or (0 < len(text) <= longest and text.isascii() and text.isprintable())


@EXAMPLES
@given(body=st.binary(max_size=200) | ODD_VALUES.map(lambda value: encoded(value).encode()), header=ANY_TEXT)
def test_any_body_under_any_name_is_a_fact(body: bytes, header: str) -> None:
    """parse() never raises: what it cannot read is Unknown."""
    assert_storable(events.parse(body, header), header)
    assert_storable(events.parse(body, "order.completed"), "order.completed")


@settings(EXAMPLES, max_examples=600)
@given(content=near(BODIES, FIELDS, ODD_VALUES), other_name=st.none() | st.sampled_from(EVENT_NAMES + STATE_NAMES))
def test_a_body_near_a_documented_one_is_a_fact(content: dict[str, Any], other_name: str | None) -> None:
    """Whatever is missing, added or of another type, parse() does not raise, and what it reads is what was signed:
    under its own name, no payment with a refund in it, and amounts and ids as they came or not at all."""
    usual = "order.completed" if "product" in content else "order.refunded"
    usual = "customer.subscription.created" if "subscription" in content else usual
    header = usual if other_name is None else other_name
    fact = events.parse(encoded(content).encode(), header)
    assert_storable(fact, header)
    if isinstance(fact, events.Unknown):
        return
    assert content.get("event") in (None, header)
    metadata = content.get("metadata")
    claimed = metadata.get("external_order_id") if isinstance(metadata, dict) else None
    assert fact.order_id == (claimed if orders.is_id(claimed) else None)
    if isinstance(fact, events.Payment):
        assert fact.confirmed is (content.get("event") is not None or _is_event_name(content.get("type")))
    if isinstance(fact, events.Payment) and fact.kind == "payment":
        assert content.get("refund") is None
        assert fact.amount is None or fact.amount == Decimal(str(content["amount"]))
        assert Decimal(str(content["amount"])) >= 0
    if isinstance(fact, events.SubscriptionChanged) or (isinstance(fact, events.Payment) and fact.state):
        assert fact.state in states_told(content["subscriptionCustomer"])
    if isinstance(fact, events.SubscriptionChanged):
        assert header != "customer.subscription.created" or fact.order_id is None or fact.state not in LIVE
    if isinstance(fact, events.Refund) and fact.amount is not None:
        assert fact.amount == Decimal(str(content["refund"]["amount"]))


def states_told(customer: dict[str, Any]) -> set[str]:
    """The states that a signed subscriptionCustomer can be said to be in: at most one."""
    status, active, paused = (customer.get(name) for name in ("status", "active", "paused"))
    word = status.lower() if isinstance(status, str) and not isinstance(status, Number) else None
    told = {
        "ended": word in ("canceled", "cancelled", "ended", "expired", "incomplete_expired"),
        "past_due": word in ("past_due", "unpaid"),
        "active": word == "active" and active is not False,
        "trialing": word in ("trial", "trialing") and active is not False,
    }
    known = word in ("active", "trial", "trialing", "past_due", "unpaid")
    if told["ended"] or (active is False and not known):
        return {"ended"}
    if paused is True and known:
        return {"paused"}
    return {state for state, is_told in told.items() if is_told}


def _is_event_name(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number) and "." in value


HASHES = [prefix + hashlib.sha256(b"a#b").hexdigest() for prefix in ("", "sha256-")]


@EXAMPLES
@given(st.sets(st.sampled_from(["a#b", *HASHES]) | st.text(ANY_CHARACTER, min_size=1, max_size=70), max_size=3))
def test_facts_share_a_name_only_when_they_are_the_same(ids: set[str]) -> None:
    """A fact's name is made of its ids and a refund's status, and of nothing else: no two refunds are merged, and
    another webhookId or amount makes none new."""
    named: dict[str, tuple[str, ...]] = {}
    known = list(itertools.product(ids, ids, ["succeeded", "failed"]))
    for number, (payment, refund, status) in enumerate([*known, *known]):
        body = {**refunded(ORDER, payment, refund, number, status), "webhookId": f"wh_{number}"}
        fact = events.parse(encoded(body).encode(), "order.refunded")
        assert isinstance(fact, events.Refund)
        assert named.setdefault(ledger.fact_name(fact), (payment, refund, status)) == (payment, refund, status)
    assert len(named) == len(known)


@settings(EXAMPLES, max_examples=300)
@given(numbers())
def test_an_amount_is_kept_as_it_came_or_not_at_all(number: str) -> None:
    """No digit of an amount changes, what nobody pays is no amount, and less than nothing is no payment."""
    payment = {**paid(ORDER), "amount": number, "amountBeforeTax": number}
    refund = {**refunded(ORDER), "refund": {"id": "ref1", "status": "succeeded", "amount": number}}
    sold = events.parse(encoded(payment).encode(), "order.completed")
    returned = events.parse(encoded(refund).encode(), "order.refunded")
    assert_storable(sold, "order.completed")
    assert_storable(returned, "order.refunded")
    value = Decimal(number)
    assert isinstance(returned, events.Refund)
    assert isinstance(sold, events.Payment) is (value >= 0)
    assert returned.amount is None or value >= 0
    amounts = [returned.amount, sold.amount, sold.amount_before_tax] if isinstance(sold, events.Payment) else []
    for amount in amounts:
        assert amount is None or amount.as_tuple() == value.as_tuple()
        assert amount is not None or not (value < 10**9 and value == round(value, 3))


# --- JSON -------------------------------------------------------------------------------------------------------------

TOKENS = [
    *'{}[],:"\\ ',
    "null",
    "true",
    "nul",
    '"a"',
    '"a": 1',
    '"\\ud800"',
    "\ufeff",
    "01",
    *ODD_NUMBERS,
    *OUT_OF_RANGE,
]


@EXAMPLES
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from(TOKENS) | st.text(max_size=2), max_size=30).map(lambda tokens: "".join(tokens).encode())
    | st.sampled_from(["utf-16", "utf-8-sig", "utf-32"]).map('{"a": 1}'.encode)
    | st.integers(1, 100_000).map(lambda depth: b"[" * depth + b"]" * depth)
    | st.integers(1, 100_000).map(lambda depth: b'{"a":' * depth)
)
def test_json_of_strangers_raises_only_unreadable(body: bytes) -> None:
    """Whatever the bytes are they are parsed or Unreadable, and the reason repeats no word of them."""
    reason = "none"
    try:
        strictjson.parse(body)
    except strictjson.Unreadable as error:
        reason = str(error)
    assert re.fullmatch(r"line \d+, column \d+|a key twice in one object|no number|[A-Za-z]+", reason)


@EXAMPLES
@given(json_values(ANY_TEXT, numbers() | numbers(*OUT_OF_RANGE)))
def test_json_is_read_exactly(value: Any) -> None:
    """A value comes back with every digit that it was written with, or, where a number is none, not at all."""

    def exact(value: Any) -> Any:
        match value:
            case Number():
                return Decimal(value).as_tuple()
            case Decimal():
                return value.as_tuple()
            case dict():
                return {name: exact(inner) for name, inner in value.items()}
            case list():
                return [exact(inner) for inner in value]
        return value

    written = encoded(value)
    found = [value, *(holder[key] for holder, key in places(value))]
    if any(isinstance(inner, Number) and inner in OUT_OF_RANGE for inner in found):
        with pytest.raises(strictjson.Unreadable):
            strictjson.parse(written.encode())
    else:
        assert exact(strictjson.parse(written.encode())) == exact(value)


@EXAMPLES
@given(
    key=ANY_TEXT,
    first=ODD_VALUES,
    second=ODD_VALUES,
    between=st.dictionaries(ANY_TEXT, ODD_VALUES, max_size=2),
    around=st.lists(st.sampled_from(["[%s]", '{"a": %s}', "[1, %s]"]), max_size=4),
)
def test_a_key_twice_is_refused_at_any_depth(
    key: str, first: Any, second: Any, between: dict[str, Any], around: list[str]
) -> None:
    """Two parsers may take either value: who signs one must not have the other read."""
    pairs = [(key, first), *between.items(), (key, second)]
    written = "{" + ", ".join(f"{json.dumps(name)}: {encoded(value)}" for name, value in pairs) + "}"
    for outer in around:
        written = outer.replace("%s", written)
    with pytest.raises(strictjson.Unreadable):
        strictjson.parse(written.encode())


# --- Return addresses -------------------------------------------------------------------------------------------------

ORIGINS = ["https://shop.example", "https://shop.example:8443", "http://localhost:8000", "https://192.0.2.7"]
_FORBIDDEN_IN_HOSTS = {*"\0\t\n\r #/:<>?@[\\]^|%\x7f", *map(chr, range(32))}


def browser_origin(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port that a browser would go to, by the URL Standard; None where it would not go over HTTP.

    Read independently of urllib: https://url.spec.whatwg.org/#concept-basic-url-parser
    """
    address = re.sub(r"[\t\n\r]", "", re.sub(r"\A[\0- ]+|[\0- ]+\Z", "", address))
    found = re.match(r"(?is)(https?):[/\\]*([^/\\?#]*)", address)
    if not found:
        return None
    scheme, place = found[1].lower(), found[2].rpartition("@")[2]
    host, _, port = place.partition("]") if place.startswith("[") else place.partition(":")
    if place.startswith("["):
        if "]" not in place or (port and not port.startswith(":")):
            return None
        host, port = _ipv6(host[1:]), port.removeprefix(":")
    else:
        host = _domain(host)
    if not host or not re.fullmatch("[0-9]*", port) or int(port or 0) > 65_535:
        return None
    return scheme, host, int(port or {"https": 443, "http": 80}[scheme])


def _ipv6(text: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(text)}]" if "%" not in text else ""
    except ValueError:
        return ""


def _domain(text: str) -> str:
    name = unicodedata.normalize("NFKC", unquote_to_bytes(text).decode("utf-8", "replace"))
    name = re.sub("[\u3002\uff0e\uff61]", ".", re.sub("[\u00ad\u200b\u2060\ufeff]", "", name)).lower()
    if _FORBIDDEN_IN_HOSTS & {*name}:
        return ""
    labels = name.removesuffix(".").split(".")
    return _ipv4(labels) if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) else name


def _ipv4(labels: list[str]) -> str:
    if len(labels) > 4:
        return ""
    numbers = []
    for label in labels:
        if re.fullmatch("0x[0-9a-f]*", label):
            numbers.append(int(label[2:] or "0", 16))
        elif re.fullmatch("0[0-7]+", label):
            numbers.append(int(label, 8))
        elif re.fullmatch("0|[1-9][0-9]*", label):
            numbers.append(int(label))
        else:
            return ""
    *begin, last = numbers
    if any(number > 255 for number in begin) or last >= 256 ** (5 - len(numbers)):
        return ""
    return str(ipaddress.IPv4Address(last + sum(number << 8 * (3 - place) for place, number in enumerate(begin))))


# Of an address, piece by piece: what is usual, and what is odd there.
PIECES: list[tuple[list[str], list[str]]] = [
    ([""], ["\t", " ", "x", "\0"]),
    (["https"], ["http", "HTTPS", "ht\ntps", "javascript", "ftp", "blob:https", ""]),
    (["://"], [":", ":/", ":///", ":\\\\", ":/\\", "//"]),
    ([""], ["shop.example@", "evil.example@", "@", "a:b@", "shop.example\\@", "evil.example%40", "evil.example#"]),
    (
        ["shop.example", "shop.example:8443", "SHOP.example", "192.0.2.7:443"],
        [
            *[
                "localhost:8000",
                "evil.example",
                "shop.example.evil.example",
                "evilshop.example",
                "shop.example.",
                "shop%2Eexample",
            ],
            *["shop\uff0eexample", "\u017fhop.example", "192.0.519", "0xc0.0.2.7", "3221225991", "127.1"],
            *["[::1]", "[::ffff:192.0.2.7]", "[shop.example]", ""],
        ],
    ),
    ([""], [":443", ":80", ":", ":0443", ":+443", ":65536", ":443:443", ":\uff14\uff14\uff13"]),
    (
        ["", "/", "/a?b=c#d"],
        ["?q", "#f", "/\\evil", "\\@evil.example", "@evil.example", "/..//evil", ".evil.example", ";@a"],
    ),
]


@st.composite
def odd_addresses(draw: st.DrawFn) -> str:
    """An address of the shop, with up to two pieces of another kind and perhaps a character where none should be."""
    odd = [draw(st.integers(0, len(PIECES) - 1)) for _ in range(draw(st.sampled_from([0, 0, 1, 2])))]
    address = "".join(draw(st.sampled_from(PIECES[place][place in odd])) for place in range(len(PIECES)))
    if draw(st.sampled_from([False, False, True])):
        position = draw(st.integers(0, len(address)))
        inserted = draw(st.sampled_from("\\/@:#?.%\t\n\0 [];\u3002\u00ad") | ANY_CHARACTER)
        address = address[:position] + inserted + address[position:]
    return address


PLAIN = st.text(st.sampled_from(sorted({*map(chr, range(33, 127))} - {"\\"})), max_size=30)
PATHS = PLAIN.map(lambda text: "/" + re.sub("[?#]", "", text)) | st.just("")
QUERY_PAIRS = st.sampled_from(
    ["order_id=1", "order_id", "order%5Fid=x", "%6frder_id=", "order_id%3D=1", "ORDER_ID=1", "a", "", "="]
) | PLAIN.map(lambda text: re.sub("[&#]", "", text))
QUERIES = st.lists(QUERY_PAIRS, max_size=5).map("&".join)


@settings(EXAMPLES, max_examples=400)
@given(address=odd_addresses() | st.sampled_from(ORIGINS), loopback=st.booleans())
def test_an_allowed_address_is_on_an_allowed_origin_for_a_browser(address: str, loopback: bool) -> None:
    """However an address is written, a buyer who is sent there arrives at one of the shop's origins, over https or on
    their own machine, and no program between here and there can read it in another way."""
    if addresses.allowed(address, [*ORIGINS, "http://shop.example"], loopback):
        assert address.isascii()
        assert address.isprintable()
        assert not {" ", "\\"} & {*address}
        origins = {browser_origin(origin) for origin in ORIGINS if loopback or origin.startswith("https:")}
        assert browser_origin(address) in origins


@EXAMPLES
@given(
    origin=st.sampled_from([*ORIGINS, "https://shop.example:443", "HTTPS://SHOP.example"]), path=PATHS, query=QUERIES
)
def test_every_page_of_an_allowed_origin_is_allowed(origin: str, path: str, query: str) -> None:
    """What a browser may be sent to on the shop's own origins is not refused."""
    assert addresses.allowed(f"{origin}{path}?{query}", ORIGINS, loopback=True)


@EXAMPLES
@given(origin=st.sampled_from(ORIGINS), path=PATHS, query=st.none() | QUERIES, fragment=st.none() | PLAIN)
def test_the_order_id_is_added_and_nothing_else_changes(
    origin: str, path: str, query: str | None, fragment: str | None
) -> None:
    """A page finds one order_id in its query, ours, and everything else where it was; adding another replaces it."""
    address = origin + path + ("" if query is None else f"?{query}") + ("" if fragment is None else f"#{fragment}")
    with_id = addresses.with_order_id(address, ORDER)
    begin, _, end = with_id.partition("#")
    page, _, rest = begin.partition("?")
    assert (page, end) == (origin + path, fragment or "")
    *others, own = rest.split("&")
    assert own == f"order_id={ORDER}"
    before = query.split("&") if query else []
    assert others == [pair for pair in before if _name(pair) != "order_id"]
    assert addresses.with_order_id(with_id, f"{ORDER[:-1]}z") == f"{page}?{rest[:-1]}z" + (f"#{end}" if end else "")
    assert addresses.allowed(with_id, ORIGINS, loopback=True)


def _name(pair: str) -> str:
    """A parameter's name as URLSearchParams reads it."""
    return unquote_to_bytes(pair.partition("=")[0].replace("+", " ")).decode("utf-8", "replace")


# --- The checkout's body ----------------------------------------------------------------------------------------------

CANARY = "c4n4ry"
DEFAULT_URL = "https://shop.example/thank-you"
CATALOGUE = {"course": Item(PRODUCT, "course"), "print": Item(PRODUCT, "print", "a2", Decimal("120.00"), "usd", True)}
OPTIONAL: dict[str, Any] = {
    "customerEmail": f"{CANARY}@example.com",
    "discountCode": f"{CANARY} 10%",
    "successUrl": f"https://shop.example/{CANARY}?a=b#c",
    "cancelUrl": f"http://localhost:8000/{CANARY}",
    "metadata": {"cart": CANARY, CANARY: "7"},
}
REQUESTS: list[dict[str, Any]] = [{"sku": "course", **OPTIONAL}, {"sku": "print"}]
REQUESTS_WITHOUT_CATALOGUE: list[dict[str, Any]] = [{"productId": PRODUCT, **OPTIONAL}, {"productId": PRODUCT.upper()}]
REQUEST_FIELDS = ["sku", "productId", "customerEmail", "discountCode", "successUrl", "cancelUrl", "metadata"]
STRANGE_TEXT = (
    ANY_TEXT.map(lambda text: CANARY + text)
    | odd_addresses().map(lambda address: f"{address}/{CANARY}")
    | st.sampled_from(["course", "external_order_id", "pocketsflow_x", "a@b", "\0", "\ud800", CANARY * 100, ""])
)
STRANGE_VALUES = json_values(STRANGE_TEXT, numbers())


def rules(catalogue: dict[str, Item], default: str = DEFAULT_URL) -> checkout_request.Rules:
    return checkout_request.Rules(catalogue, ORIGINS, loopback=True, success_url=default, cancel_url=default)


@settings(EXAMPLES, max_examples=400)
@given(
    content=near(REQUESTS, [*REQUEST_FIELDS, CANARY], STRANGE_VALUES)
    | near(REQUESTS_WITHOUT_CATALOGUE, [*REQUEST_FIELDS, CANARY], STRANGE_VALUES)
    | STRANGE_VALUES
    | st.binary(max_size=100),
    other_shop=st.sampled_from([False, False, True]),
)
def test_a_request_is_served_or_its_fields_are_named(content: Any, other_shop: bool) -> None:
    """read() never raises; an error names a field and repeats nothing; what is served keeps every limit of ours and
    sends the buyer back to the shop."""
    body = content if isinstance(content, bytes) else encoded(content).encode()
    has_catalogue = (isinstance(content, dict) and "productId" not in content) is not other_shop
    request = checkout_request.read(body, rules(CATALOGUE if has_catalogue else {}))
    if not isinstance(request, CheckoutRequest):
        assert request
        assert {error["field"] for error in request} <= {"", *REQUEST_FIELDS}
        assert CANARY not in str(request)
        return
    sent = request.for_pocketsflow(ORDER, "store-1")
    json.dumps(sent, ensure_ascii=False).encode()  # no half of a surrogate pair reaches Pocketsflow or DynamoDB
    assert sent["productId"] == PRODUCT
    assert sent["metadata"].pop("external_order_id") == ORDER
    assert sent["metadata"].pop("pocketsflow_store") == "store-1"
    assert sent["metadata"] == request.metadata
    assert len(request.metadata) <= 20
    for name, value in request.metadata.items():
        assert 0 < len(name) <= 40
        assert len(value) <= 500
        assert not name.startswith(("external_order_id", "pocketsflow_"))
    for url in (sent["successUrl"], sent["cancelUrl"]):
        assert browser_origin(url) in map(browser_origin, ORIGINS)


@EXAMPLES
@given(
    metadata=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).filter(
            lambda name: not name.startswith(checkout_request.RESERVED_METADATA)
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=500),
        max_size=20,
    ),
    optional=st.sets(st.sampled_from(["customerEmail", "discountCode", "successUrl", "cancelUrl"])),
    order=st.randoms(use_true_random=False),
)
def test_every_request_within_the_limits_is_served(metadata: dict[str, str], optional: set[str], order: Any) -> None:
    """What the README allows is accepted, and told the same by any spelling of it: order, spaces, escapes, nulls."""
    content = {name: value for name, value in OPTIONAL.items() if name in optional}
    content |= {"sku": "course", "metadata": metadata}
    respelled = list(content.items()) + [(name, None) for name in REQUEST_FIELDS if name not in content]
    order.shuffle(respelled)
    spellings = [
        json.dumps(content, separators=(",", ":")).encode(),
        json.dumps(dict(respelled), indent=3, ensure_ascii=False).encode(),
    ]
    first, second = (checkout_request.read(body, rules(CATALOGUE)) for body in spellings)
    assert isinstance(first, CheckoutRequest)
    assert first == second
    assert (first.item, first.metadata) == (CATALOGUE["course"], metadata)
    assert first.success_url == content.get("successUrl", DEFAULT_URL)
    assert (first.customer_email, first.discount_code) == (content.get("customerEmail"), content.get("discountCode"))
    changed = checkout_request.read(
        json.dumps({**content, "metadata": {**metadata, "cart": f"{metadata.get('cart')}!"[-500:]}}).encode(),
        rules(CATALOGUE),
    )
    assert not isinstance(changed, CheckoutRequest) or changed.fingerprint != first.fingerprint


@settings(EXAMPLES, max_examples=300)
@given(
    odd=st.dictionaries(
        st.text(ANY_CHARACTER, max_size=2)
        | st.sampled_from(
            ["external_order_id", "external_order_id2", "pocketsflow_x", "pocketsflow", "x" * 40, "x" * 41]
        ),
        st.text(ANY_CHARACTER, max_size=3) | st.sampled_from(["😀" * 500, "x" * 501, Number("7"), None, ["x"]]),
        max_size=2,
    ),
    more=st.sampled_from([0, 0, 0, 17, 18, 19, 20]),
)
def test_metadata_is_taken_within_its_limits_and_refused_beyond(odd: dict[str, Any], more: int) -> None:
    """Twenty keys of 40 characters that are not ours, values of 500, in text that every program can carry."""
    metadata = {**odd, **{f"key{number}": "x" for number in range(more)}}
    texts = [*metadata, *metadata.values()]
    fine = (
        len(metadata) <= 20
        and all(isinstance(text, str) and not isinstance(text, Number) for text in texts)
        and not any(character == "\0" or unicodedata.category(character) == "Cs" for character in "".join(texts))
        and all(0 < len(name) <= 40 for name in metadata)
        and all(len(value) <= 500 for value in metadata.values())
        and not any(name.startswith(("external_order_id", "pocketsflow_")) for name in metadata)
    )
    request = checkout_request.read(encoded({"sku": "course", "metadata": metadata}).encode(), rules(CATALOGUE))
    assert isinstance(request, CheckoutRequest) is fine


@EXAMPLES
@given(body=near(REQUESTS, REQUEST_FIELDS, STRANGE_VALUES), default=odd_addresses())
def test_only_the_stacks_own_return_address_raises(body: dict[str, Any], default: str) -> None:
    """DefaultNotAllowed comes only where the stack's own address is refused, and then for nothing that needs none."""
    allowed = addresses.allowed(default, ORIGINS, loopback=True)
    try:
        checkout_request.read(encoded(body).encode(), rules(CATALOGUE, default))
    except checkout_request.DefaultNotAllowed:
        assert not allowed
        assert body.get("successUrl") is None or body.get("cancelUrl") is None


# --- Order ids --------------------------------------------------------------------------------------------------------

ULID = "0123456789abcdefghjkmnpqrstvwxyz"


@EXAMPLES
@given(
    now=st.timedeltas(timedelta(0), timedelta(days=2_500_000)).map(datetime(1970, 1, 1, tzinfo=UTC).__add__),
    later=st.timedeltas(timedelta(milliseconds=2), timedelta(days=36_500)),
)
def test_an_order_id_is_one_tells_its_time_and_sorts(now: datetime, later: timedelta) -> None:
    """A new id is an id of this stage, no two are the same, and they sort as they were made."""
    first, twin, second = orders.new_id(now), orders.new_id(now), orders.new_id(now + later)
    assert all(map(orders.is_id, (first, twin, second)))
    assert first != twin
    assert max(first, twin) < second
    number = 0
    for digit in first.removeprefix("ord_test_"):
        number = number * 32 + ULID.index(digit)
    assert abs((number >> 80) - now.timestamp() * 1000) <= 1


@EXAMPLES
@given(
    ANY_TEXT
    | mutated(ORDER)
    | st.text(ULID, min_size=25, max_size=27).map("ord_test_".__add__)
    | st.text(ULID + "iloA\n", min_size=26, max_size=26).map("ord_test_".__add__)
    | st.text(ULID, min_size=26, max_size=26).map("ord_prod_".__add__)
    | st.none()
    | st.integers()
    | st.binary()
)
def test_an_id_is_of_our_shape_or_none(value: object) -> None:
    """is_id() never raises and knows exactly 26 digits of this stage, in lower case, with nothing around them."""
    ours = isinstance(value, str) and value[:9] == "ord_test_" and len(value) == 35 and {*value[9:]} <= {*ULID}
    assert orders.is_id(value) is ours


# --- The raw body -----------------------------------------------------------------------------------------------------


@EXAMPLES
@given(
    text=ANY_TEXT | st.text(string.ascii_letters + string.digits + "+/=\n "),
    is_base64=st.booleans(),
    limit=st.integers(0, 60),
)
def test_a_raw_body_is_bytes_or_one_of_two_exceptions(text: str, is_base64: bool, limit: int) -> None:
    """Whatever the gateway hands over is at most `limit` bytes, TooLarge or Malformed."""
    try:
        raw = http.raw_body({"body": text, "isBase64Encoded": is_base64}, limit)
    except (http.TooLarge, http.Malformed):
        return
    assert len(raw) <= limit
    assert {*text} <= {*string.ascii_letters, *string.digits, *"+/="} if is_base64 else raw == text.encode()


@EXAMPLES
@given(body=st.binary(max_size=70), room=st.integers(-2, 2))
def test_a_raw_body_comes_as_it_was_sent(body: bytes, room: int) -> None:
    """Up to the limit every byte arrives, encoded or not; one byte more does not."""
    limit = max(0, len(body) + room)
    carried: list[http.Event] = [{"body": base64.b64encode(body).decode(), "isBase64Encoded": True}]
    with contextlib.suppress(UnicodeDecodeError):  # what is no text the gateway encodes
        carried += [{"body": body.decode(), "isBase64Encoded": False}, {"body": body.decode()}]
    for event in carried:
        if len(body) <= limit:
            assert http.raw_body(event, limit) == body
        else:
            with pytest.raises(http.TooLarge):
                http.raw_body(event, limit)
    assert http.raw_body({}, limit) == http.raw_body({"body": None}, limit) == b""
