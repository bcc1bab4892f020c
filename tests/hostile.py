"""Hostile requests as data: what an attacker, a broken client or a confused provider may send, and what comes of it.

What is expected follows from README.md (its tables of codes and outcomes, its limits), the provider's contract and the
invariants, not from what the handlers happen to do. `judge` holds an answer and the ledger against a case, and against
the rules that hold for every request. The runners: integration/test_hostile.py, e2e/test_hostile_http.py.
"""

import base64
import gzip
import hashlib
import hmac
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from sandbox.template import ROOT
from tests.conftest import holds
from tests.payloads import paid, refunded, sign, subscribed

CANARY = "canary7f3a9"
"""In every request, and in its hostile part where there is room: in no answer and no log line."""
CATALOGUE = json.loads((ROOT / "functions" / "catalogue.json").read_text())["products"]
COURSE, PRINT = (str(CATALOGUE[sku]["productId"]) for sku in ("course", "print"))
VARIANT = CATALOGUE["print"]["variantId"]
MAX_INLINE = 2_500
MAX_WEBHOOK = 256 * 1024
MAX_CHECKOUT = 64 * 1024

NO_BLANKS = "HTTP strips blanks around a header's value"
NO_CONTROLS = "a header's line carries no newline and no NUL"
NO_CATALOGUE = "the sandbox's shop has a catalogue"
OWN_NAME = "the sandbox answers to its own name only"
NO_ROUTE = "no route leads to a handler"

Json = dict[str, Any]
Header = tuple[str, str]
Items = Mapping[str, Mapping[str, Any]]
"""A ledger: items by `pk`, in DynamoDB's JSON."""
Effect = Mapping[str, Any]
"""What a request does to the ledger; everything else stays as it was, byte for byte:

    {}                                      nothing
    {"order": {"pay#sale1": SAYS}}          the target's order has a fact more
    {"sale#sale1": {"pay#sale1": SAYS}}     so has the item of this key, which now waits for Pocketsflow's API
    {"subscription": {"sub1": SAYS}}        the subscription of this id is now in this state
    {"raw": "misfit"}                       the body lies under raw#<its sha256>, once more, for this reason
    {"opened": "course"}                    there is one order more, pending, for this sku
    {"key": True}                           there is one Idempotency-Key more

SAYS are attributes of the fact, or all of a subscription's that are not as documented; None for one that must be
absent. The body is in the fact, or under raw# when it has more than 2,500 bytes.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is aimed at: a stack and a fresh pending order of it."""

    order_id: str
    sku: str
    secret: str
    api_key: str
    shop: str
    """An allowed origin."""


@dataclass(frozen=True, slots=True)
class Request:
    """As on the wire: two headers of one name are two lines, text outside of ASCII is UTF-8."""

    method: str
    path: str
    headers: tuple[Header, ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


Build = Callable[[Target], Request]


def nothing(_at: Target) -> list[Request]:
    return []


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what must come of it."""

    name: str
    build: Build
    status: int
    says: str = ""
    """The `code` of a problem, the `outcome` of a webhook, the `status` of an order."""
    effect: Effect = field(default_factory=dict)
    order: str = "pending"
    """The status of the target's order afterwards."""
    fields: frozenset[str] = frozenset()
    """Those that an `invalid_request` names; "" is the body as a whole."""
    earlier: Callable[[Target], list[Request]] = nothing
    """Requests that came before and succeeded."""
    sku: str = "course"
    """What the target's order is for."""
    catalogue: bool = True
    """Whether the shop has one."""
    by_gateway: bool = False
    """Over HTTP the gateway answers by itself: 404, in its own words."""
    not_over_http: str = ""
    """Why only the handler gets it."""
    not_to_handler: str = ""
    """Why only HTTP carries it."""
    names_ours: bool = False
    """It names an order of this stack that is not there, and no other stack says that it has sold it."""

    @property
    def alarms(self) -> bool:
        """Whether a person is told (README, "Receive webhooks")."""
        odd = self.says in ("second_payment", "mismatched") or self.effect.get("raw") in ("misfit", "unreadable")
        return odd or (self.says == "unmatched" and self.names_ours)


# --- Webhook: what it is made of --------------------------------------------------------------------------------------

CREATED = "customer.subscription.created"
REFUND = "ref#sale1#ref1#succeeded"


def raw(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def webhook(
    body: bytes,
    *headers: Header,
    event: str | tuple[str, ...] = "order.completed",
    kind: str | None = "application/json",
    sent_at: str | None = "1795463363515",
    path: str = "/webhooks/pocketsflow",
) -> Request:
    """A delivery that nobody has signed; several `event` are several lines."""
    events = (event,) if isinstance(event, str) else event
    usual = [
        ("User-Agent", CANARY),
        *((("Content-Type", kind),) if kind else ()),
        *(("X-Pocketsflow-Event", name) for name in events),
        *((("X-Pocketsflow-Timestamp", sent_at),) if sent_at else ()),
    ]
    return Request("POST", path, (*usual, *headers), body)


def signed(at: Target, content: Any, event: str | tuple[str, ...] = "order.completed", **more: Any) -> Request:
    """A delivery that Pocketsflow has signed; `content` is JSON, or bytes as they are."""
    body = raw(content)
    headers = more.pop("headers", ())
    return webhook(body, ("X-Pocketsflow-Signature", sign(body, at.secret)), *headers, event=event, **more)


def payment(at: Target, sale: str = "sale1", **changes: Any) -> Json:
    """`order.completed` for what was ordered. A change may be a function of the target."""
    product = CATALOGUE[at.sku]
    buyer = {"email": f"{CANARY}@example.com", "firstName": CANARY, "lastName": "Buyer"}
    right = paid(
        at.order_id,
        sale,
        product["productId"],
        variant=product.get("variantId"),
        amountBeforeTax=float(product["price"]),
        customer=buyer,
    )
    return {**right, **{name: value(at) if callable(value) else value for name, value in changes.items()}}


def nameless(at: Target) -> Json:
    return without(payment(at), "event")


def refund(at: Target, sale: str = "sale1", identity: Any = "ref1", **changes: Any) -> Json:
    """`order.refunded` for the order; `changes` are those of the refund inside."""
    content = refunded(at.order_id, sale)
    return {**content, "refund": {**content["refund"], "id": identity, "reason": CANARY, **changes}}


def nameless_refund(at: Target) -> Json:
    return without(refund(at), "event")


def subscription(at: Target, customer: str = "sub1", **state: Any) -> Json:
    """`customer.subscription.created` for what was ordered."""
    content = subscribed(at.order_id, customer, CATALOGUE[at.sku]["productId"], **state)
    return {**content, "portalUrl": f"https://{CANARY}.example/"}


def without(content: Json, *names: str) -> Json:
    return {name: value for name, value in content.items() if name not in names}


def literally(content: Json, **literals: str) -> bytes:
    """The content with fields in JSON that no Python value has, such as 1e999999999."""
    body = json.dumps({**content, **{name: f"@{name}" for name in literals}})
    for name, literal in literals.items():
        body = body.replace(f'"@{name}"', literal)
    return body.encode()


def padded(content: Json, size: int) -> bytes:
    """The content in exactly so many bytes."""
    bare = len(raw({**content, "padding": ""}))
    return raw({**content, "padding": "x" * (size - bare)})


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def digest(identity: str) -> str:
    """What stands in the ledger for an id that is not 1 to 64 letters, digits, dashes and underscores."""
    return f"sha256-{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()}"


def another_stage(at: Target) -> str:
    prefix, _, rest = at.order_id.split("_")
    return f"{prefix}_prod_{rest}"


def made_up(at: Target) -> str:
    """An order id of our shape that nobody made."""
    return at.order_id[:-6] + ("111111" if at.order_id.endswith("000000") else "000000")


# --- Webhook: builders and outcomes -----------------------------------------------------------------------------------


def changed(**changes: Any) -> Build:
    """A signed payment, something in it being different."""
    return lambda at: signed(at, payment(at, **changes))


def lacking(name: str) -> Build:
    return lambda at: signed(at, without(payment(at), name))


def changed_nameless(**changes: Any) -> Build:
    return lambda at: signed(at, {**nameless(at), **changes})


def claiming(order_id: Callable[[Target], Any]) -> Build:
    """A signed payment that names another order."""
    return changed(metadata=lambda at: {"external_order_id": order_id(at), "note": CANARY})


def noting(**metadata: Any) -> Build:
    """A signed payment with more metadata."""
    return changed(metadata=lambda at: {"external_order_id": at.order_id, **metadata})


def labelled(*headers: Header, **more: Any) -> Build:
    """A signed payment under other headers, which nobody signs."""
    return lambda at: signed(at, payment(at), headers=headers, **more)


def under(event: str | tuple[str, ...], content: Callable[[Target], Json] = payment) -> Build:
    """A signed body under an event's name."""
    return lambda at: signed(at, content(at), event)


def refunding(sale: str = "sale1", identity: Any = "ref1", **changes: Any) -> Build:
    return lambda at: signed(at, refund(at, sale, identity, **changes), "order.refunded")


def changed_refund(**changes: Any) -> Build:
    """A signed refund, something beside the refund inside being different."""
    return under("order.refunded", lambda at: {**refund(at), **changes})


def stray(order_id: Callable[[Target], str] | None = None, **changes: Any) -> Build:
    """A signed refund that names another order, or none."""

    def content(at: Target) -> Json:
        metadata = {"external_order_id": order_id(at)} if order_id else {}
        return {**refund(at), "metadata": metadata, **changes}

    return under("order.refunded", content)


def by_method(method: str, build: Build) -> Build:
    return lambda at: replace(build(at), method=method)


def paid_before(at: Target) -> list[Request]:
    return [signed(at, payment(at))]


def refused(name: str, build: Build, **more: Any) -> Case:
    """Not signed."""
    return Case(name, build, 401, "invalid_signature", **more)


def kept(name: str, reason: str, build: Build, **more: Any) -> Case:
    """Signed, and no fact: the body is kept."""
    return Case(name, build, 200, "recorded", {"raw": reason}, **more)


def misfit(name: str, build: Build, **more: Any) -> Case:
    return kept(name, "misfit", build, **more)


def other_event(name: str, build: Build, **more: Any) -> Case:
    return kept(name, "other_event", build, **more)


def noted(name: str, build: Build, fact: str, says: Json | None = None, **more: Any) -> Case:
    """Signed, and a fact of the order that settles nothing."""
    return Case(name, build, 200, "recorded", {"order": {fact: says or {}}}, **more)


def settled(name: str, build: Build, fact: str = "pay#sale1", says: Json | None = None, **more: Any) -> Case:
    """Odd, and yet a payment for what was ordered."""
    return Case(name, build, 200, "settled", {"order": {fact: says or {}}}, "paid", **more)


def mismatched(name: str, build: Build, fact: str = "pay#sale1", says: Json | None = None, **more: Any) -> Case:
    return Case(name, build, 200, "mismatched", {"order": {fact: says or {}}}, "mismatched", **more)


def unmatched(name: str, build: Build, sale: str = "sale1", says: Json | None = None, **more: Any) -> Case:
    return Case(name, build, 200, "unmatched", {f"sale#{sale}": {f"pay#{sale}": says or {}}}, **more)


def followed(
    name: str, build: Build, state: str, customer: str = "sub1", says: Json | None = None, **more: Any
) -> Case:
    """Signed, and what a subscription is now; it settles nothing."""
    effect = {"raw": "subscription", "subscription": {customer: {"state": state, **(says or {})}}}
    return Case(name, build, 200, "recorded", effect, **more)


def stray_refund(name: str, build: Build, sale: str = "sale1", **more: Any) -> Case:
    """It names no order of ours: kept beside the payment."""
    return Case(name, build, 200, "recorded", {f"sale#{sale}": {f"ref#{sale}#ref1#succeeded": {}}}, **more)


def gave_back(name: str, build: Build, order: str, fact: str = REFUND, says: Json | None = None) -> Case:
    """A refund after its payment."""
    return noted(name, build, fact, says, order=order, earlier=paid_before)


def later(name: str, build: Build, says: str, effect: Effect, order: str = "paid", **more: Any) -> Case:
    """What comes for an order that is paid."""
    return Case(name, build, 200, says, effect, order, **{"earlier": paid_before, **more})


# --- Webhook: the signature -------------------------------------------------------------------------------------------

Present = Callable[[bytes, Target], str]
"""What is presented as the signature of a body."""


def right(body: bytes, at: Target) -> str:
    return sign(body, at.secret)


def wrong(body: bytes, _at: Target) -> str:
    return sign(body, "whsec_of_another_stack_0123456789")


def text(value: str) -> Present:
    return lambda _body, _at: value


def around(form: str) -> Present:
    """The right signature with something around it."""
    return lambda body, at: form.format(right(body, at))


def spelled(digits: str) -> Present:
    """The right signature in other digits."""
    return lambda body, at: right(body, at).translate(str.maketrans("0123456789abcdef", digits))


def keyed_with(secret: Callable[[Target], str]) -> Present:
    return lambda body, at: sign(body, secret(at))


def over(change: Callable[[bytes], bytes]) -> Present:
    """The right key, but not over the raw body."""
    return lambda body, at: sign(change(body), at.secret)


def by_algorithm(name: str, digits: int | None = None) -> Present:
    return lambda body, at: hmac.new(at.secret.encode(), body, name).hexdigest()[:digits]


def in_base64(body: bytes, at: Target) -> str:
    return base64.b64encode(bytes.fromhex(right(body, at))).decode()


def in_query(at: Target) -> str:
    return f"/webhooks/pocketsflow?x-pocketsflow-signature={right(raw(payment(at)), at)}"


def presenting(*presented: Present, header: str = "X-Pocketsflow-Signature") -> Build:
    def build(at: Target) -> Request:
        body = raw(payment(at))
        return webhook(body, *((header, present(body, at)) for present in presented))

    return build


def forged(name: str, *presented: Present, header: str = "X-Pocketsflow-Signature", **more: Any) -> Case:
    return refused(f"signature {name}", presenting(*presented, header=header), **more)


SIGNATURES = [
    forged("absent"),
    forged("empty", text("")),
    forged("of zeros", text("0" * 64)),
    forged("after sha256=", around("sha256={}")),
    forged("after v1=", around("v1={}")),
    forged("after t= and v1=", around("t=1795463363515,v1={}")),
    forged("after 0x", around("0x{}")),
    forged("in quotes", around('"{}"')),
    forged("of 63 digits", lambda body, at: right(body, at)[:-1]),
    forged("of 65 digits", around("{}0")),
    forged("with a space in the middle", lambda body, at: f"{right(body, at)[:32]} {right(body, at)[32:]}"),
    forged("with a leading space", around(" {}"), not_over_http=NO_BLANKS),
    forged("with a trailing space", around("{} "), not_over_http=NO_BLANKS),
    forged("with a trailing newline", around("{}\n"), not_over_http=NO_CONTROLS),
    forged("with a leading newline", around("\n{}"), not_over_http=NO_CONTROLS),
    forged("with a trailing NUL", around("{}\0"), not_over_http=NO_CONTROLS),
    forged("with a header after it", around(f"{{}}\r\nX-Injected: {CANARY}"), not_over_http=NO_CONTROLS),
    forged("in Arabic-Indic digits", spelled("٠١٢٣٤٥٦٧٨٩abcdef")),
    forged("in full-width digits", spelled("０１２３４５６７８９ａｂｃｄｅｆ")),
    forged("in Cyrillic letters", spelled("0123456789аbсdеf")),
    forged("of 8 kB", lambda body, at: right(body, at) * 128),
    forged("twice, both right", right, right),
    forged("twice, the second wrong", right, wrong),
    forged("twice, the first wrong", wrong, right),
    forged("twice on one line", around("{0},{0}")),
    forged("by the empty secret", keyed_with(lambda _: "")),
    forged("by a placeholder", keyed_with(lambda _: "whsec_xxx")),
    forged("by another stack's secret", wrong),
    forged("by the secret without whsec_", keyed_with(lambda at: at.secret.removeprefix("whsec_"))),
    forged("by the secret and a newline", keyed_with(lambda at: at.secret + "\n")),
    forged("by the API key", keyed_with(lambda at: at.api_key)),
    forged("without a key", lambda body, _: hashlib.sha256(body).hexdigest()),
    forged("by SHA-1", by_algorithm("sha1")),
    forged("by SHA-512, cut to 64 digits", by_algorithm("sha512", 64)),
    forged("by SHA3-256", by_algorithm("sha3_256")),
    forged("of the re-serialised body", over(lambda body: json.dumps(json.loads(body), sort_keys=True).encode())),
    forged("of the body without blanks", over(lambda body: body.replace(b" ", b""))),
    forged("of the body and a newline", over(lambda body: body + b"\n")),
    forged("of the time and the body", over(lambda body: b"1795463363515." + body)),
    forged("of the event and the body", over(lambda body: b"order.completed" + body)),
    forged("of the body in base64", over(base64.b64encode)),
    forged("of nothing", over(lambda _: b"")),
    forged("in base64", in_base64),
    forged("in base64 without padding", lambda body, at: in_base64(body, at).rstrip("=")),
    forged("as a pattern", text("[0-9a-f]{64}")),
    forged("as SQL", text(f"' OR '1'='1' -- {CANARY}")),
    forged("as a JSON list", lambda body, at: json.dumps([right(body, at)])),
    forged("under X-Signature", right, header="X-Signature"),
    forged("under Authorization", right, header="Authorization"),
    forged("under a longer name", right, header="X-Pocketsflow-Signature-256"),
    forged("under underscores", right, header="X_Pocketsflow_Signature"),
    forged("in a cookie", around("x-pocketsflow-signature={}"), header="Cookie"),
    refused("signature in the query", lambda at: webhook(raw(payment(at)), path=in_query(at))),
    settled("signature in upper case", presenting(lambda body, at: right(body, at).upper())),
    settled("signature in both cases", presenting(spelled("0123456789aBcDeF"))),
    settled("signature under a name in upper case", presenting(right, header="X-POCKETSFLOW-SIGNATURE")),
]


# --- Webhook: a signed body, changed on the way -----------------------------------------------------------------------


def tampered(name: str, change: Callable[[bytes], bytes]) -> Case:
    """The signature is the right one, of the body as it was."""

    def build(at: Target) -> Request:
        body = raw(payment(at))
        return webhook(change(body), ("X-Pocketsflow-Signature", sign(body, at.secret)))

    return refused(f"tampered: {name}", build)


TAMPERED = [
    tampered("one bit flipped", lambda body: body[:-2] + bytes([body[-2] ^ 1]) + body[-1:]),
    tampered("re-serialised", lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode()),
    tampered("keys sorted", lambda body: json.dumps(json.loads(body), sort_keys=True).encode()),
    tampered("a newline behind it", lambda body: body + b"\n"),
    tampered("a BOM before it", lambda body: b"\xef\xbb\xbf" + body),
    tampered("cut short", lambda body: body[:-1]),
    tampered("empty", lambda _: b""),
    tampered("said twice", lambda body: body * 2),
    tampered("compressed", gzip.compress),
    tampered("in UTF-16", lambda body: body.decode().encode("utf-16")),
    tampered("another amount", lambda body: body.replace(b"64.99", b"00.01")),
    tampered("another product", lambda body: body.replace(COURSE.encode(), PRINT.encode())),
    tampered("another payment", lambda body: body.replace(b"sale1", b"sale2")),
    tampered("escaped", lambda body: body.replace(b"usd", b"\\u0075sd")),
]


# --- Webhook: signed, and no JSON that everybody reads the same way ---------------------------------------------------


def unreadable(name: str, body: Callable[[Target], bytes | str], **more: Any) -> Case:
    def build(at: Target) -> Request:
        content = body(at)
        return signed(at, content.encode() if isinstance(content, str) else content, **more)

    return kept(f"body {name}", "unreadable", build)


def twice(name: str, value: Any) -> Callable[[Target], bytes]:
    """A payment with a key twice."""
    return lambda at: raw(payment(at))[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}".encode()


def spoilt(old: bytes, new: bytes) -> Callable[[Target], bytes]:
    return lambda at: raw(payment(at)).replace(old, new, 1)


UNREADABLE = [
    unreadable("empty", lambda _: b""),
    unreadable("of blanks", lambda _: " \r\n\t"),
    unreadable("null", lambda _: "null"),
    unreadable("a number", lambda _: "64.99"),
    unreadable("a text that holds a payment", lambda at: json.dumps(json.dumps(payment(at)))),
    unreadable("an array of a payment", lambda at: raw([payment(at)])),
    unreadable("a payment after a BOM", lambda at: b"\xef\xbb\xbf" + raw(payment(at))),
    unreadable("two payments", lambda at: raw(payment(at)) + b"\n" + raw(payment(at, "sale2"))),
    unreadable("cut short", lambda at: raw(payment(at))[:-1]),
    unreadable("in gzip", lambda at: gzip.compress(raw(payment(at))), headers=[("Content-Encoding", "gzip")]),
    unreadable("in deflate", lambda at: zlib.compress(raw(payment(at))), headers=[("Content-Encoding", "deflate")]),
    unreadable("in base64", lambda at: base64.b64encode(raw(payment(at)))),
    unreadable("in UTF-16", lambda at: json.dumps(payment(at)).encode("utf-16")),
    unreadable("in UTF-16 without a BOM", lambda at: json.dumps(payment(at)).encode("utf-16-le")),
    unreadable("in UTF-32", lambda at: json.dumps(payment(at)).encode("utf-32")),
    unreadable("in Latin-1", spoilt(b"Buyer", b"B\xfcyer")),
    unreadable("with an overlong slash", spoilt(b"Buyer", b"\xc0\xaf")),
    unreadable("with a surrogate in UTF-8", spoilt(b"Buyer", b"\xed\xa0\x80")),
    unreadable("with a bare newline in a text", spoilt(b"Buyer", b"Bu\nyer")),
    unreadable("with a bare NUL in a text", spoilt(b"Buyer", b"Bu\0yer")),
    unreadable("with a trailing comma", spoilt(b"}}", b"},}")),
    unreadable("with a comment", lambda at: f"/* {CANARY} */ {json.dumps(payment(at))}"),
    unreadable("of 100,000 open arrays", lambda _: "[" * 100_000),
    unreadable("of 100,000 nested arrays", lambda _: nested(100_000)),
    unreadable("of 40,000 open objects", lambda _: '{"a":' * 40_000),
    unreadable("with metadata 100,000 deep", lambda at: literally(payment(at), metadata=nested(100_000))),
    unreadable("with the amount NaN", lambda at: raw(payment(at, amount=math.nan))),
    unreadable("with the amount Infinity", lambda at: raw(payment(at, amount=math.inf))),
    unreadable("with the amount -Infinity", lambda at: raw(payment(at, amount=-math.inf))),
    unreadable("with a leading zero", lambda at: literally(payment(at), amount="064.99")),
    unreadable("with an exponent beyond all numbers", lambda at: literally(payment(at), amount="1e" + "9" * 30)),
    unreadable("with two amounts", twice("amount", 0.01)),
    unreadable("with two equal amounts", twice("amount", 64.99)),
    unreadable("with two events", twice("event", "order.refunded")),
    unreadable("with two metadata", twice("metadata", {"external_order_id": CANARY})),
    unreadable("with two ids of the product", spoilt(b'"product": {', b'"product": {"id": "x", ')),
    unreadable("with a key twice, once escaped", spoilt(b'"amount"', b'"\\u0061mount": 1, "amount"')),
    unreadable("a form", lambda _: f"event=order.completed&note={CANARY}", kind="application/x-www-form-urlencoded"),
    unreadable("XML", lambda _: f"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e '{CANARY}'>]><x>&e;</x>"),
    unreadable("of 256 KiB of noise", lambda _: b"\xfe" * MAX_WEBHOOK, kind="application/octet-stream"),
]


# --- Webhook: sizes, and what unsigned headers say --------------------------------------------------------------------


def of_size(size: int, sale: str = "sale1") -> Build:
    return lambda at: signed(at, padded(payment(at, sale), size))


def too_large(name: str, build: Build) -> Case:
    return Case(name, build, 413, "body_too_large")


SIZES = [
    settled("body of 2,500 bytes", of_size(MAX_INLINE)),
    settled("body of 2,501 bytes", of_size(MAX_INLINE + 1)),
    settled("body of exactly 256 KiB", of_size(MAX_WEBHOOK)),
    too_large("body of 256 KiB and a byte", of_size(MAX_WEBHOOK + 1)),
    too_large("body of 1 MB", of_size(1_000_000)),
    too_large("body of 1 MB, unsigned", lambda at: webhook(padded(payment(at), 1_000_000))),
    later(
        "second body of 250 kB for one order",
        of_size(250_000, "sale2"),
        "second_payment",
        {"order": {"pay#sale2": {}}},
        earlier=lambda at: [of_size(250_000)(at)],
    ),
    settled("content type text/plain", labelled(kind="text/plain")),
    settled("content type of a form", labelled(kind="application/x-www-form-urlencoded")),
    settled("content type absent", labelled(kind=None)),
    settled("content type of 8 kB", labelled(kind=f"application/json; x={CANARY * 700}")),
    settled("content type that claims UTF-16", labelled(kind="application/json; charset=utf-16")),
    settled("encoding that claims gzip", labelled(("Content-Encoding", "gzip"))),
    settled("time absent", labelled(sent_at=None)),
    settled("time of 1970", labelled(sent_at="0")),
    settled("time of the year 5138", labelled(sent_at="99999999999999")),
    settled("time that is none", labelled(sent_at=f"{CANARY}'; DROP TABLE")),
    settled("time of 8 kB", labelled(sent_at="9" * 8_000)),
    settled("time twice", labelled(("X-Pocketsflow-Timestamp", "0"))),
    settled("method to be overridden", labelled(("X-HTTP-Method-Override", "DELETE"))),
    settled("query that says otherwise", labelled(path=f"/webhooks/pocketsflow?event=order.refunded&note={CANARY}")),
]


# --- Webhook: a field of another type ---------------------------------------------------------------------------------

NOT_OF_A_PAYMENT: dict[str, list[Any]] = {
    "amount": ["64.99", None, True, [64.99], {"value": 64.99}],
    "product": [COURSE, None, [{"id": COURSE}], {"id": ""}, {"id": 12}, {"id": [COURSE]}, {"id": {"$eq": COURSE}}],
    "order": ["sale1", None, ["sale1"], {"id": ""}, {"id": 1}, {"id": {"$ne": None}}],
    "event": ["", 3, ["order.completed"], {"name": "order.completed"}],
    "refund": [{}, [], CANARY, {"id": "ref1", "amount": 64.99, "status": "succeeded"}],
}
NOT_OF_A_REFUND: dict[str, list[Any]] = {
    "order": ["sale1", {"id": ""}],
    "refund": ["ref1", ["ref1"], {"id": ""}, {"id": 1, "status": "succeeded"}],
}
TYPES = [
    *(
        misfit(f"payment with {name} {json.dumps(value)}", changed(**{name: value}))
        for name, values in NOT_OF_A_PAYMENT.items()
        for value in values
    ),
    *(misfit(f"payment without {name}", lacking(name)) for name in ("amount", "product", "order")),
    *(
        misfit(f"refund with {name} {json.dumps(value)}", changed_refund(**{name: value}))
        for name, values in NOT_OF_A_REFUND.items()
        for value in values
    ),
    *(
        settled(f"customer {what}", changed(customer=customer), says={"customer_email": None})
        for what, customer in {
            "a number": 7,
            "a list": [CANARY],
            "with half a surrogate pair": {"email": f"{CANARY}\ud800@example.com", "firstName": "\udfff"},
            "with a header after it": {"email": f"{CANARY}@example.com\r\nBcc: a@b"},
            "with NUL": {"email": f"{CANARY}\0@example.com"},
            "of 10 kB": {"email": f"{CANARY * 900}@example.com"},
        }.items()
    ),
    *(
        settled(f"currency {what}", changed(currency=currency), says={"currency": None})
        for what, currency in {
            "of 40 letters": "u" * 40,
            "a number of 40 digits": 10**39,
            "a list": ["usd"],
            "and a newline": "usd\n",
        }.items()
    ),
    settled("tax as text", changed(tax=CANARY)),
    settled("tax 200 deep", lambda at: signed(at, literally(payment(at), tax=nested(200)))),
    settled("webhookId an object", changed(webhookId={"$gt": CANARY})),
    settled("webhookId of 5,000 digits", lambda at: signed(at, literally(payment(at), webhookId="7" * 5_000))),
    settled("a field called __proto__", changed(__proto__={"amount": 0, "isAdmin": CANARY})),
    settled("fields called like the ledger's", changed(pk=f"order#{CANARY}", rev=99, payments=[], created_at="1970")),
]


# --- Webhook: amounts, on which nothing settles -----------------------------------------------------------------------


def amounting(amount: str, before_tax: str = "49.00") -> Build:
    return lambda at: signed(at, literally(payment(at), amount=amount, amountBeforeTax=before_tax))


NO_AMOUNT = {"amount": None}
NO_NET = {"amount_before_tax": None}
AMOUNTS = [
    misfit("amount negative", amounting("-64.99")),
    misfit("amount a little below zero", amounting("-1E-999999")),
    settled("amount zero", amounting("0"), says={"amount": "0"}),
    settled("amount of a cent", amounting("0.01", "0.01"), says={"amount": "0.01"}),
    settled("amount of 40 digits", amounting("9" * 40), says=NO_AMOUNT),
    settled("amount of 60 decimals", amounting("64." + "9" * 60), says=NO_AMOUNT),
    settled("amount of 5,000 digits", amounting("9" * 5_000), says=NO_AMOUNT),
    settled("amount 1e999999999", amounting("1e999999999"), says=NO_AMOUNT),
    settled("amount 1E-999999999", amounting("1E-999999999"), says=NO_AMOUNT),
    settled("amount before tax negative", amounting("64.99", "-1"), says=NO_NET),
    settled("amount before tax 1e999999999", amounting("64.99", "1e999999999"), says=NO_NET),
    settled("amount before tax a list", amounting("64.99", "[49.00]"), says=NO_NET),
    settled("held price in cents", amounting("12000", "12000"), sku="print"),
    mismatched("held price of a cent", amounting("0.01", "0.01"), sku="print"),
    mismatched("held price a hundredth", amounting("1.20", "1.20"), sku="print"),
    mismatched("held price as text", amounting("120.00", '"120.00"'), sku="print"),
    mismatched("held price absent", lacking("amountBeforeTax"), sku="print"),
    mismatched("held price with a trace more", amounting("120.00", "120." + "0" * 59 + "1"), sku="print"),
    mismatched("held price with a trace less", amounting("120.00", "119.999999"), sku="print"),
    mismatched("held price 1e999999999", amounting("120.00", "1e999999999"), sku="print"),
    mismatched("held price in another currency", changed(currency="jpy"), sku="print"),
    mismatched("held price in no currency", changed(currency=None), sku="print"),
]


# --- Webhook: one event's body under another's name (contract, 3.2) ---------------------------------------------------


def typed(at: Target) -> Json:
    return {**nameless(at), "type": "order.completed"}


def unrefunded(at: Target) -> Json:
    """`order.refunded` in the shape of a payment."""
    return payment(at, event="order.refunded")


UNCONFIRMED = {"confirmed": False}
RELABELLED = [
    misfit("payment under order.refunded", under("order.refunded")),
    misfit("payment under a subscription's name", under(CREATED)),
    misfit("payment under an invoice's name", under("invoice.payment_succeeded")),
    misfit("payment under an unknown name", under("brand.new")),
    misfit("payment under no name", under(())),
    misfit("payment under the empty name", under("")),
    misfit("payment under its name in other case", under("Order.Completed")),
    misfit("payment under a name of 10 kB", under("order.completed" + CANARY * 900)),
    misfit("payment under its name twice", under(("order.completed", "order.completed"))),
    misfit("payment under two names", under(("order.completed", "order.refunded"))),
    misfit("payment under its name in full width", under("ｏｒｄｅｒ.completed")),
    misfit("payment under markup", under(f"<script>{CANARY}</script>")),
    misfit("payment under two names by a newline", under("order.completed\norder.refunded"), not_over_http=NO_CONTROLS),
    misfit("payment under its name and a space", under("order.completed "), not_over_http=NO_BLANKS),
    settled("nameless payment", under("order.completed", nameless), says=UNCONFIRMED),
    noted("nameless payment under order.refunded", under("order.refunded", nameless), "claim#sale1#refund"),
    misfit("nameless payment under a subscription's name", under(CREATED, nameless)),
    other_event("nameless payment under no name", under((), nameless)),
    other_event("nameless payment under its name in other case", under("ORDER.COMPLETED", nameless)),
    other_event("nameless payment under two names", under(("order.completed", "order.refunded"), nameless)),
    other_event("nameless payment under order.disputed", under("order.disputed", nameless)),
    other_event("nameless payment under an invoice's name", under("invoice.paid", nameless)),
    other_event("nameless payment under a name of 10 kB", under(CANARY * 900, nameless)),
    other_event("nameless payment under a fact's name", under("pay#sale1", nameless)),
    settled("payment with type for event", under("order.completed", typed), says={"confirmed": True}),
    misfit("payment with type for event, under order.refunded", under("order.refunded", typed)),
    misfit("payment that is a refund by type", changed_nameless(type="order.refunded")),
    misfit("event contradicted by type", changed(type="order.refunded")),
    misfit("type contradicted by event", changed(event="order.refunded", type="order.completed")),
    misfit("event and type of a refund, under order.completed", changed(event="order.refunded", type="order.refunded")),
    settled("event inside of another object", changed_nameless(data={"event": "order.refunded"})),
    misfit("refund under order.completed", under("order.completed", refund)),
    misfit("refund under its name in other case", under("order.Refunded", refund)),
    misfit("nameless refund under order.completed", under("order.completed", nameless_refund)),
    misfit("nameless refund under a subscription's name", under(CREATED, nameless_refund)),
    misfit("nameless payment with a refund inside", changed_nameless(refund={"id": "ref1", "amount": 64.99})),
    noted("refund before its payment", refunding(), REFUND, {"confirmed": True, "amount": "64.99"}),
    noted("nameless refund", under("order.refunded", nameless_refund), REFUND, UNCONFIRMED),
    noted("refund without a refund", under("order.refunded", unrefunded), "claim#sale1#refund"),
    other_event("nameless refund under order.created", under("order.created", nameless_refund)),
    other_event("unknown event", under("review.created", lambda _: {"event": "review.created", "text": CANARY})),
    other_event("empty object under an unknown name", under(CANARY, lambda _: {})),
    misfit("empty object as a payment", under("order.completed", lambda _: {})),
    misfit("empty object as a refund", under("order.refunded", lambda _: {})),
    misfit("empty object as a subscription", under(CREATED, lambda _: {})),
    misfit("invoice as a payment", lambda at: signed(at, {"event": "invoice.paid", "amount": 1500, "note": CANARY})),
]


# --- Webhook: subscriptions, whose state is in the signed body --------------------------------------------------------


def in_state(**state: Any) -> Build:
    return under(CREATED, lambda at: subscription(at, **state))


def subscribing(**changes: Any) -> Build:
    """A change may be a function of the target."""
    return under(
        CREATED,
        lambda at: {
            **subscription(at),
            **{name: value(at) if callable(value) else value for name, value in changes.items()},
        },
    )


NO_STATE: dict[str, Build] = {
    "inactive and said to be active": in_state(active=False),
    "with a status in a list": in_state(status=["active"]),
    "with a status and a newline": in_state(status="active\n"),
    "with a status nobody knows": in_state(status=CANARY),
    "incomplete": in_state(status="incomplete"),
    "without a status": in_state(status=None),
    "without a state": subscribing(subscriptionCustomer=None),
    "with a state beside the state": subscribing(subscriptionCustomer=None, status="active", active=True),
    "without an offer": subscribing(subscription={}),
    "without a customer": subscribing(subscriptionCustomerId=""),
    "named deleted": subscribing(event="customer.subscription.deleted"),
    "under order.completed": under("order.completed", subscription),
    "under order.refunded": under("order.refunded", subscription),
}
NO_BEGINNING: dict[str, tuple[Build, str]] = {
    "cancelled": (in_state(status="canceled", active=False), "ended"),
    "cancelled and said to be active": (in_state(status="canceled"), "ended"),
    "cancelled and said to be paused": (in_state(status="canceled", paused=True), "ended"),
    "inactive, without a status": (in_state(status=None, active=False), "ended"),
    "paused": (in_state(paused=True), "paused"),
    "past due": (in_state(status="past_due"), "past_due"),
    "unpaid": (in_state(status="unpaid"), "past_due"),
    "of no order of ours": (subscribing(metadata={"plan": CANARY}), "active"),
    "of another stage": (subscribing(metadata=lambda at: {"external_order_id": another_stage(at)}), "active"),
    "with metadata as JSON text": (
        subscribing(metadata=lambda at: json.dumps({"external_order_id": at.order_id})),
        "active",
    ),
}
SUBSCRIPTION: Any = {"sku": "membership"}
SUBSCRIPTIONS = [
    settled("subscription in trial", in_state(status="trialing"), "sub#sub1", {"state": "trialing"}, **SUBSCRIPTION),
    settled("subscription with its name inside", subscribing(event=CREATED), "sub#sub1", **SUBSCRIPTION),
    misfit("subscription active as text", in_state(active="true"), **SUBSCRIPTION),
    misfit("subscription active as 1", in_state(active=1), **SUBSCRIPTION),
    *(misfit(f"subscription {what}", build, **SUBSCRIPTION) for what, build in NO_STATE.items()),
    *(followed(f"subscription {what}", build, state, **SUBSCRIPTION) for what, (build, state) in NO_BEGINNING.items()),
    *(
        other_event(f"subscription under {event or 'no name'}", under(event, subscription), **SUBSCRIPTION)
        for event in ((), "invoice.paid", "a.b", "customer.subscription", "customer.subscription.created.x")
    ),
    *(
        followed(f"subscription under customer.subscription.{name}", build, "active", **SUBSCRIPTION)
        for name in ("updated", "deleted", "", CANARY)
        for build in [under(f"customer.subscription.{name}", subscription)]
    ),
    *(
        misfit(f"{what} under customer.subscription.updated", under("customer.subscription.updated", content))
        for what, content in {
            "payment": payment,
            "nameless payment": nameless,
            "nameless refund": nameless_refund,
        }.items()
    ),
    followed(
        "subscription that ends with its period as text",
        under("customer.subscription.updated", lambda at: subscription(at, cancelAtPeriodEnd="true")),
        "active",
        says={"cancel_at_period_end": False},
        **SUBSCRIPTION,
    ),
    *(
        followed(
            f"subscription with a reference {what}",
            subscribing(metadata={}, clientReferenceId=reference),
            "active",
            says={"customer_reference": kept_as},
            **SUBSCRIPTION,
        )
        for what, reference, kept_as in (
            ("of markup", f"<script>{CANARY}</script>", f"<script>{CANARY}</script>"),
            ("and a header after it", f"{CANARY}\r\nBcc: a@b", None),
            ("of 10 kB", CANARY * 900, None),
            ("in a list", [CANARY], None),
        )
    ),
    followed(
        "subscription with an address of 10 kB",
        subscribing(metadata={}, customer={"email": f"{CANARY * 900}@example.com"}),
        "active",
        says={"customer_email": None},
        **SUBSCRIPTION,
    ),
    kept(
        "subscription that has ended and is said to live",
        "subscription",
        under("customer.subscription.updated", subscription),
        earlier=lambda at: [signed(at, subscription(at, status="canceled"), "customer.subscription.deleted")],
        **SUBSCRIPTION,
    ),
    mismatched("subscription of another offer", subscribing(subscription={"id": COURSE}), "sub#sub1", **SUBSCRIPTION),
]


# --- Webhook: ids -----------------------------------------------------------------------------------------------------

UNFIT_IDS = {
    "with a hash sign": f"a#{CANARY}",
    "like a key of the ledger": "order#x",
    "and a newline": f"{CANARY}\n",
    "with NUL": f"{CANARY}\0",
    "of emoji": "\U0001f600" * 8,
    "with half a surrogate pair": f"{CANARY}\ud800",
    "of 65 characters": "x" * 65,
    "of 10 kB": CANARY * 900,
    "over the 2,048 bytes of a key": "é" * 1_100,
    "like a path": f"../../{CANARY}",
    "in full-width digits": "１２３",
}
FIT_IDS = ("__proto__", "created_at", "rev", "payments", "open_day")
ODD_IDS = {what: (identity, digest(identity)) for what, identity in UNFIT_IDS.items()} | {
    name: (name, name) for name in FIT_IDS
}
"""An id, and what stands for it in the ledger."""
SOME_IDS = {
    what: ODD_IDS[what]
    for what in ("with a hash sign", "and a newline", "with half a surrogate pair", "of 10 kB", "rev")
}
IDS = [
    *(
        settled(f"payment id {what}", changed(order={"id": identity}), f"pay#{name}", {"payment_id": name})
        for what, (identity, name) in ODD_IDS.items()
    ),
    *(
        unmatched(f"stray payment's id {what}", changed(order={"id": identity}, metadata={}), name)
        for what, (identity, name) in SOME_IDS.items()
    ),
    *(
        gave_back(f"refund id {what}", refunding(identity=identity), "refunded", f"ref#sale1#{name}#succeeded")
        for what, (identity, name) in SOME_IDS.items()
    ),
    *(
        stray_refund(f"stray refund's payment id {what}", stray(order={"id": identity}), name)
        for what, (identity, name) in SOME_IDS.items()
    ),
    *(
        mismatched(f"product id {what}", changed(product={"id": identity}), says={"product_id": name})
        for what, (identity, name) in SOME_IDS.items()
    ),
    *(
        settled(f"subscription id {what}", subscribing(subscriptionCustomerId=identity), f"sub#{name}", **SUBSCRIPTION)
        for what, (identity, name) in SOME_IDS.items()
    ),
    *(
        followed(
            f"stray subscription's id {what}",
            subscribing(subscriptionCustomerId=identity, metadata={}),
            "active",
            name,
            **SUBSCRIPTION,
        )
        for what, (identity, name) in ODD_IDS.items()
    ),
]


# --- Webhook: which order, which product ------------------------------------------------------------------------------

NO_ORDER_OF_OURS: dict[str, Callable[[Target], Any]] = {
    "and a newline": lambda at: at.order_id + "\n",
    "after a space": lambda at: " " + at.order_id,
    "and NUL": lambda at: at.order_id + "\0",
    "of another stage": another_stage,
    "in upper case": lambda at: at.order_id.upper(),
    "in full-width letters": lambda at: at.order_id.replace("o", "ｏ", 1),
    "with a letter too many": lambda at: at.order_id + "0",
    "with a letter too few": lambda at: at.order_id[:-1],
    "as a key of the ledger": lambda at: f"order#{at.order_id}",
    "of emoji": lambda _: "\U0001f600" * 9,
    "with half a surrogate pair": lambda at: at.order_id + "\ud83d",
    "of 10 kB": lambda at: at.order_id + CANARY * 900,
    "empty": lambda _: "",
    "null": lambda _: None,
    "in a list": lambda at: [at.order_id],
    "in an object": lambda at: {"S": at.order_id},
    "a number of 40 digits": lambda _: 10**39,
    "twice in one text": lambda at: f"{at.order_id},{at.order_id}",
}
OTHER_PLACES = ("orderId", "order_id", "External_Order_Id", "clientReferenceId")
ORDER_NAMES = [
    *(unmatched(f"our order id {what}", claiming(order_id)) for what, order_id in NO_ORDER_OF_OURS.items()),
    unmatched("our order id that nobody made", claiming(made_up), names_ours=True),
    unmatched(
        "our order id that nobody made, sold by another store",
        changed(metadata=lambda at: {"external_order_id": made_up(at), "pocketsflow_store": CANARY}),
        says={"store_id": CANARY},
    ),
    *(
        unmatched(
            f"our order id that nobody made, sold by a store {what}",
            changed(metadata=lambda at, store=store: {"external_order_id": made_up(at), "pocketsflow_store": store}),
            names_ours=True,
            says={"store_id": None},
        )
        for what, store in {
            "that is none": "",
            "in a list": [CANARY],
            "and a newline": f"{CANARY}\n",
            "of 10 kB": CANARY * 900,
        }.items()
    ),
    unmatched(
        "payment with metadata as JSON text",
        changed(metadata=lambda at: json.dumps({"external_order_id": at.order_id})),
    ),
    unmatched("payment with metadata in a list", changed(metadata=lambda at: [{"external_order_id": at.order_id}])),
    unmatched("payment with metadata null", changed(metadata=None)),
    unmatched("payment with metadata a number", changed(metadata=7)),
    unmatched("payment with metadata absent", lacking("metadata")),
    unmatched("our order id under other names", changed(metadata=lambda at: dict.fromkeys(OTHER_PLACES, at.order_id))),
    unmatched(
        "our order id outside of metadata",
        changed(metadata={}, external_order_id=lambda at: at.order_id, clientReferenceId=lambda at: at.order_id),
    ),
    settled("payment with metadata 200 deep", noting(deep=json.loads(nested(200)))),
    settled("payment with half a surrogate pair in metadata", noting(**{"\udfff": f"{CANARY}\ud800"})),
    settled("payment of another store", noting(pocketsflow_store=CANARY), says={"store_id": CANARY}),
    settled("payment with metadata that says otherwise", noting(product_id=PRINT, status="refunded", pk=CANARY)),
    settled("payment with metadata of 200 kB", noting(**{f"k{number}": CANARY * 20 for number in range(900)})),
]
PRODUCTS = [
    mismatched("cheaper product for another's dear order", changed(product={"id": COURSE}), sku="print"),
    mismatched("product id in upper case", changed(product={"id": COURSE.upper()})),
    mismatched("right product id and a newline", changed(product={"id": f"{COURSE}\n"})),
    mismatched("right product beside the product", changed(product={"id": PRINT}, productId=COURSE, items=[COURSE])),
    mismatched("another variant", changed(product={"id": PRINT, "variantId": "0000000000000000000000a1"}), sku="print"),
    mismatched("variant null", changed(product={"id": PRINT, "variantId": None}), sku="print"),
    mismatched("variant in a list", changed(product={"id": PRINT, "variantId": [VARIANT]}), sku="print"),
    mismatched("variant and a newline", changed(product={"id": PRINT, "variantId": f"{VARIANT}\n"}), sku="print"),
    mismatched("variant outside of the product", changed(product={"id": PRINT}, variantId=VARIANT), sku="print"),
    settled("variant where none was ordered", changed(product={"id": COURSE, "variantId": f"#{CANARY}"})),
    settled("variant a list where none was ordered", changed(product={"id": COURSE, "variantId": [CANARY]})),
]
REPLAYS = [
    later(
        "another product after the right one",
        lambda at: signed(at, payment(at, "sale2", product={"id": PRINT})),
        "mismatched",
        {"order": {"pay#sale2": {}}},
    ),
    later(
        "another payment after the right one",
        lambda at: signed(at, payment(at, "sale2")),
        "second_payment",
        {"order": {"pay#sale2": {}}},
    ),
    later("replay", changed(), "redelivered", {}),
    later("replay with another amount", changed(amount=0.01), "redelivered", {"raw": "other_words"}),
    later("replay for another product", changed(product={"id": PRINT}), "redelivered", {"raw": "other_words"}),
    later("replay as a refund", under("order.refunded"), "recorded", {"raw": "misfit"}),
    later("replay under an unknown name", under("brand.new"), "recorded", {"raw": "misfit"}),
    later(
        "nameless replay as a refund",
        under("order.refunded", nameless),
        "recorded",
        {"order": {"claim#sale1#refund": {}}},
        earlier=lambda at: [signed(at, nameless(at))],
    ),
    later(
        "replay of a stray payment",
        changed(metadata={}),
        "redelivered",
        {},
        order="pending",
        earlier=lambda at: [signed(at, payment(at, metadata={}))],
    ),
]


# --- Webhook: refunds -------------------------------------------------------------------------------------------------


def huge_refund(at: Target) -> Request:
    return signed(at, raw(refund(at, amount="@")).replace(b'"@"', b"1e999999999"), "order.refunded")


NO_STATUS = "ref#sale1#ref1#unknown"
REFUNDS = [
    gave_back("refund of more than was paid", refunding(amount=100_000), "refunded", says={"amount": "100000"}),
    gave_back("refund of a cent", refunding(amount=0.01), "partially_refunded"),
    gave_back("refund of nothing", refunding(amount=0), "partially_refunded"),
    gave_back("refund of a text", refunding(amount="64.99"), "partially_refunded", says=NO_AMOUNT),
    gave_back("refund below zero", refunding(amount=-64.99), "partially_refunded", says=NO_AMOUNT),
    gave_back("refund of 1e999999999", huge_refund, "partially_refunded", says=NO_AMOUNT),
    gave_back("refund of another payment", refunding("sale9"), "paid", "ref#sale9#ref1#succeeded"),
    gave_back("refund with an unknown status", refunding(status="bogus"), "paid", "ref#sale1#ref1#bogus"),
    gave_back("refund that is pending", refunding(status="pending"), "paid", "ref#sale1#ref1#pending"),
    gave_back("refund that failed", refunding(status="failed"), "paid", "ref#sale1#ref1#failed"),
    gave_back("refund with a status in a list", refunding(status=["succeeded"]), "paid", NO_STATUS),
    gave_back("refund with a hash sign in its status", refunding(status="succeeded#x"), "paid", NO_STATUS),
    gave_back("refund with a status and a newline", refunding(status="succeeded\n"), "paid", NO_STATUS),
    gave_back("refund with a status of 10 kB", refunding(status=CANARY * 900), "paid", NO_STATUS),
    later("refund replayed as a payment", under("order.completed", refund), "recorded", {"raw": "misfit"}),
    later(
        "refund twice, of more the second time",
        refunding(amount=1_000),
        "redelivered",
        {"raw": "other_words"},
        "partially_refunded",
        earlier=lambda at: [*paid_before(at), refunding(amount=1)(at)],
    ),
    stray_refund("refund that names no order", stray(), order="paid", earlier=paid_before),
    stray_refund("refund for an order of another stage", stray(another_stage)),
    Case(
        "refund for an order that nobody made",
        stray(made_up),
        200,
        "unmatched",
        {"sale#sale1": {REFUND: {}}},
        names_ours=True,
    ),
]


# --- Webhook: where it is not -----------------------------------------------------------------------------------------


def nowhere(name: str, build: Build) -> Case:
    return Case(name, build, 404, by_gateway=True, not_to_handler=NO_ROUTE)


NO_WEBHOOK = [
    *(
        nowhere(f"webhook by {method}", by_method(method, changed()))
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    ),
    *(
        nowhere(f"webhook at {path}", labelled(path=path))
        for path in (
            "/webhooks/pocketsflow/",
            "/webhooks//pocketsflow",
            "/WEBHOOKS/pocketsflow",
            "/webhooks/pocketsflow%00",
            "/webhooks/x/../pocketsflow",
            "/webhooks/pocketsflow;x=1",
        )
    ),
]

WEBHOOK = [
    *SIGNATURES,
    *TAMPERED,
    *UNREADABLE,
    *SIZES,
    *TYPES,
    *AMOUNTS,
    *RELABELLED,
    *SUBSCRIPTIONS,
    *IDS,
    *ORDER_NAMES,
    *PRODUCTS,
    *REPLAYS,
    *REFUNDS,
    *NO_WEBHOOK,
]


# --- Checkout: builders and outcomes ----------------------------------------------------------------------------------


def asking(content: Any, *headers: Header, kind: str | None = "application/json", path: str = "/checkout") -> Request:
    """`POST /checkout`; `content` is JSON, or bytes as they are."""
    types = (("Content-Type", kind),) if kind is not None else ()
    return Request("POST", path, (("User-Agent", CANARY), *types, *headers), raw(content))


def wanted(**fields: Any) -> Build:
    """A checkout with more fields, or others. A field may be a function of the target."""
    return lambda at: asking(
        {"sku": "course", **{name: value(at) if callable(value) else value for name, value in fields.items()}}
    )


def with_headers(*headers: Header, **more: Any) -> Build:
    """A good checkout under hostile headers."""
    return lambda _: asking({"sku": "course"}, *headers, **more)


def invalid(name: str, fields: str, build: Build, **more: Any) -> Case:
    """`fields` are those found wrong, with blanks between; "body" is the body as a whole."""
    wrong_fields = frozenset("" if part == "body" else part for part in fields.split())
    return Case(name, build, 400, "invalid_request", fields=wrong_fields, **more)


def no_json(name: str, body: bytes, *headers: Header, **more: Any) -> Case:
    return invalid(f"checkout body {name}", "body", lambda _: asking(body, *headers, **more))


def opened(name: str, build: Build, key: bool = False, **more: Any) -> Case:
    """Odd, and yet a checkout."""
    return Case(name, build, 201, effect={"opened": "course", **({"key": True} if key else {})}, **more)


# --- Checkout: the body -----------------------------------------------------------------------------------------------

GOOD = b'{"sku": "course", "discountCode": "%s"}' % CANARY.encode()
OTHER_TYPES = {
    "without a content type": None,
    "as an empty type": "",
    "as text/plain": "text/plain",
    "as text/plain that mentions JSON": "text/plain; application/json",
    "as a multipart form": f"multipart/form-data; boundary={CANARY}",
    "as text/json": "text/json",
    "as a JSON patch": "application/json-patch+json",
    "as two types": "application/json, text/plain",
    "as a parameter": ";application/json",
    "as a type of 10 kB": CANARY * 900,
}
CHECKOUT_BODIES = [
    *(
        Case(f"checkout {what}", with_headers(kind=kind), 415, "unsupported_media_type")
        for what, kind in OTHER_TYPES.items()
    ),
    opened("checkout with a content type in upper case", with_headers(kind="APPLICATION/JSON")),
    opened("checkout that claims UTF-16", with_headers(kind="application/json; charset=utf-16")),
    no_json("empty", b""),
    no_json("of blanks", b"  \n"),
    no_json("null", b"null"),
    no_json("an array", b"[" + GOOD + b"]"),
    no_json("a text", b'"course"'),
    no_json("a number", b"1"),
    no_json("after a BOM", b"\xef\xbb\xbf" + GOOD),
    no_json("in UTF-16", GOOD.decode().encode("utf-16"), kind="application/json; charset=utf-16"),
    no_json("in UTF-32", GOOD.decode().encode("utf-32")),
    no_json("with a byte that no text has", GOOD.replace(b"course", b"\xff")),
    no_json("with a surrogate in UTF-8", GOOD.replace(b"course", b"\xed\xa0\x80")),
    no_json("in gzip", gzip.compress(GOOD), ("Content-Encoding", "gzip")),
    no_json("as a form", b"sku=course&note=" + CANARY.encode()),
    no_json("of 60,000 open arrays", b"[" * 60_000),
    no_json("with metadata 30,000 deep", b'{"sku": "course", "metadata": ' + nested(30_000).encode() + b"}"),
    no_json("with NaN", b'{"sku": "course", "note": NaN}'),
    no_json("with Infinity", b'{"sku": "course", "note": -Infinity}'),
    no_json("with two skus", b'{"sku": "course", "sku": "print"}'),
    no_json("with a sku twice, once escaped", b'{"sku": "course", "\\u0073ku": "print"}'),
    no_json("with two keys in metadata", b'{"sku": "course", "metadata": {"a": "1", "a": "2"}}'),
    no_json("with an exponent beyond all numbers", b'{"sku": 1e99999999999999999999}'),
    no_json("cut short", GOOD[:-1]),
    no_json("twice", GOOD * 2),
    invalid("checkout body an empty object", "sku", lambda _: asking({})),
    invalid("checkout body with 5,000 digits", "sku", lambda _: asking(b'{"sku": ' + b"7" * 5_000 + b"}")),
    Case("checkout body of 100,000 open arrays", lambda _: asking(b"[" * 100_000), 413, "body_too_large"),
    Case("checkout body of 1 MB", lambda _: asking(GOOD.ljust(1_000_000)), 413, "body_too_large"),
    Case("checkout body of 64 KiB and a byte", lambda _: asking(GOOD.ljust(MAX_CHECKOUT + 1)), 413, "body_too_large"),
    opened("checkout body of exactly 64 KiB", lambda _: asking(GOOD.ljust(MAX_CHECKOUT))),
]


# --- Checkout: fields -------------------------------------------------------------------------------------------------

TEXT_FIELDS = ("sku", "customerEmail", "discountCode", "successUrl", "cancelUrl")
NO_TEXT: dict[str, Any] = {
    "numbers": 7,
    "true": True,
    "lists": ["course"],
    "objects": {"S": CANARY},
    "empty": "",
    "with NUL": f"{CANARY}\0",
    "half surrogate pairs": f"{CANARY}\ud800",
    "of 10 kB": CANARY * 900,
}
NO_SKU = {
    "unknown": CANARY,
    "and a newline": "course\n",
    "in upper case": "COURSE",
    "called __proto__": "__proto__",
    "null": None,
}
NO_PRODUCT_ID = {
    "of 23 digits": "0" * 23,
    "of 25 digits": "0" * 25,
    "in Arabic-Indic digits": "٠" * 24,
    "in full-width digits": "０" * 24,
    "and a newline": "0" * 24 + "\n",
    "not hexadecimal": "g" * 24,
    "a number": 10**23,
    "in a list": ["0" * 24],
    "an object": {"$ne": CANARY},
}
NO_EMAIL = {
    "and a newline": f"{CANARY}@example.com\n",
    "with a header after it": f"{CANARY}@example.com\r\nBcc: victim@example.com",
    "without an at": CANARY,
    "with two ats": f"a@{CANARY}@example.com",
    "with a tab": f"{CANARY}\t@example.com",
}
NO_CODE = {
    "and a newline": f"{CANARY}\n",
    "with a header after it": f"{CANARY}\r\nX-Injected: 1",
    "of 65 characters": CANARY.ljust(65, "x"),
    "in full-width letters": "ＳＡＶＥ１０",
}
UNKNOWN_FIELDS: dict[str, Any] = {
    CANARY: CANARY,
    "price": "0.01",
    "quantity": -1,
    "orderId": CANARY,
    "external_order_id": CANARY,
    "clientReferenceId": CANARY,
    "__proto__": {"sku": "print"},
    "SKU": "print",
    f"sku\0{CANARY}": "print",
    f"{CANARY}\ud800": "x",
}
NO_SHOP: Any = {"catalogue": False, "not_over_http": NO_CATALOGUE}
FIELDS = [
    *(
        invalid(f"every text {what}", " ".join(TEXT_FIELDS), wanted(**dict.fromkeys(TEXT_FIELDS, value)))
        for what, value in NO_TEXT.items()
    ),
    *(invalid(f"sku {what}", "sku", wanted(sku=value)) for what, value in NO_SKU.items()),
    invalid("product id beside a sku", "productId", wanted(productId=PRINT)),
    invalid("product id in place of a sku", "sku productId", wanted(sku=None, productId=PRINT)),
    *(
        invalid(f"product id to order {what}", "productId", wanted(sku=None, productId=value), **NO_SHOP)
        for what, value in NO_PRODUCT_ID.items()
    ),
    invalid("sku where there is no catalogue", "sku productId", wanted(), **NO_SHOP),
    *(invalid(f"customerEmail {what}", "customerEmail", wanted(customerEmail=v)) for what, v in NO_EMAIL.items()),
    *(invalid(f"discountCode {what}", "discountCode", wanted(discountCode=v)) for what, v in NO_CODE.items()),
    *(invalid(f"unknown field {name!a}", "body", wanted(**{name: value})) for name, value in UNKNOWN_FIELDS.items()),
    invalid(
        "every field wrong",
        f"body productId metadata {' '.join(TEXT_FIELDS)}",
        wanted(productId=CANARY, metadata={CANARY: [CANARY]}, **dict.fromkeys(TEXT_FIELDS, f"\n{CANARY}"), more=CANARY),
    ),
]


# --- Checkout: return addresses ---------------------------------------------------------------------------------------


def at_host(host: str, scheme: str | None = None, port: str | None = None) -> Callable[[Target], str]:
    """The shop's address at another host (`{}` is the shop's own), under another scheme, at another port."""

    def address(at: Target) -> str:
        parts = urlsplit(at.shop)
        own_port = f":{parts.port}" if parts.port else ""
        end = f"{host.format(parts.hostname)}{own_port if port is None else port}/{CANARY}"
        return f"{scheme or parts.scheme}://{end}"

    return address


def after_shop(end: str) -> Callable[[Target], str]:
    return lambda at: f"{at.shop}{end}"


def the_other_scheme(at: Target) -> str:
    return at_host("{}", "http" if at.shop.startswith("https:") else "https")(at)


ADDRESSES: dict[str, Callable[[Target], Any]] = {
    "the shop as userinfo": after_shop("@evil"),
    "the shop as userinfo of a name": after_shop(f"@evil.example/{CANARY}"),
    "userinfo before the shop": at_host(f"{CANARY}@{{}}"),
    "an encoded at after the shop": after_shop("%40evil.example/"),
    "without a scheme": lambda _: f"//evil.example/{CANARY}",
    "the shop without a scheme": lambda at: at.shop.partition(":")[2],
    "a path": lambda _: f"/{CANARY}",
    "a fragment": lambda _: f"#{CANARY}",
    "one slash": lambda at: at.shop.replace("//", "/"),
    "a leading tab": lambda at: f"\t{at.shop}/{CANARY}",
    "a leading space": lambda at: f" {at.shop}/{CANARY}",
    "a trailing newline": after_shop(f"/{CANARY}\n"),
    "a newline in the scheme": lambda at: f"ht\n{at.shop.removeprefix('ht')}/",
    "a newline in the host": lambda at: f"{at.shop[:-1]}\n{at.shop[-1]}/",
    "a header after it": after_shop(f"/\r\nSet-Cookie: {CANARY}=1"),
    "a backslash and an at": after_shop(f"\\@evil.example/{CANARY}"),
    "backslashes for slashes": lambda _: f"https:\\\\evil.example\\{CANARY}",
    "a backslash in the host": at_host("evil.example\\.{}"),
    "a backslash in the path": after_shop(f"/\\evil.example/{CANARY}"),
    "javascript": lambda _: f"javascript:alert('{CANARY}')",
    "javascript with the shop in a comment": lambda at: f"javascript:{at.shop.partition(':')[2]}/%0aalert(1)",
    "javascript with a tab": lambda _: f"java\tscript:alert('{CANARY}')",
    "data": lambda _: f"data:text/html,<script>{CANARY}</script>",
    "blob": lambda at: f"blob:{at.shop}/{CANARY}",
    "the other scheme": the_other_scheme,
    "another port": at_host("{}", port=":1"),
    "a port out of range": at_host("{}", port=":99999"),
    "a port in full-width digits": at_host("{}", port=":４４３"),
    "another host": at_host("evil.example"),
    "an IPv4 literal": at_host("192.0.2.7"),
    "an IPv6 literal": at_host("[2001:db8::1]"),
    "a decimal IP address": at_host("2130706433"),
    "a Cyrillic look-alike": at_host("sh\u043ep.example"),
    "a look-alike in Punycode": at_host("xn--shp-ula.example"),
    "ideographic full stops": lambda at: at.shop.replace(".", "\u3002") + "/",
    "a full-width slash": after_shop("\uff0fevil.example/"),
    "a sub-domain of evil": at_host("{}.evil.example"),
    "a name that ends alike": at_host("evil-{}"),
    "a sub-domain of the shop": at_host("www.{}"),
    "a trailing dot": at_host("{}."),
    "encoded dots": lambda at: at.shop.replace(".", "%2e") + "/",
    "an encoded NUL after the host": at_host("{}%00.evil.example"),
    "the shop in the path": lambda at: f"https://evil.example/{at.shop}/{CANARY}",
    "the shop in the query": lambda at: f"https://evil.example?{at.shop}/{CANARY}",
    "the shop in the fragment": lambda at: f"https://evil.example#{at.shop}/{CANARY}",
    "the shop after a fragment and an at": lambda at: f"https://evil.example#@{urlsplit(at.shop).netloc}/",
    "letters outside of ASCII": after_shop(f"/\u00fc{CANARY}"),
    "of 3 kB": after_shop("/" + CANARY * 300),
    "a list of the shop": lambda at: [f"{at.shop}/"],
}
OWN_PAGES = {
    "an at in the path": f"/@evil.example/{CANARY}",
    "two slashes": f"//evil.example/{CANARY}",
    "evil in the query": f"/?next=https://evil.example/{CANARY}&order_id=mine",
    "evil in the fragment": f"/#@evil.example/{CANARY}",
    "an encoded newline": f"/%0d%0aSet-Cookie:{CANARY}",
}
RETURNS = [
    *(
        invalid(f"return address: {what}", "successUrl cancelUrl", wanted(successUrl=address, cancelUrl=address))
        for what, address in ADDRESSES.items()
    ),
    *(opened(f"own return address: {what}", wanted(successUrl=after_shop(page))) for what, page in OWN_PAGES.items()),
]


# --- Checkout: metadata, Idempotency-Key, other headers ---------------------------------------------------------------

NO_METADATA: dict[str, Any] = {
    "with our order id": lambda at: {"external_order_id": at.order_id},
    "with our order id and more": {"external_order_id_2": CANARY},
    "with a reserved name": {"pocketsflow_x": CANARY},
    "of 21 keys": {f"k{number}": CANARY for number in range(21)},
    "with a key of 41 characters": {CANARY.ljust(41, "k"): "v"},
    "with an empty key": {"": CANARY},
    "with a value of 501 characters": {"k": CANARY.ljust(501, "v")},
    "with a number": {"k": 7, CANARY: "v"},
    "with a number of 40 digits": {"k": 10**39},
    "with null": {"k": None},
    "with a list": {"k": [CANARY]},
    "with an object": {"k": {"k": CANARY}},
    "200 deep": {"k": json.loads(nested(200))},
    "with NUL": {"k": f"{CANARY}\0"},
    "with NUL in a key": {f"{CANARY}\0": "v"},
    "with half a surrogate pair": {"k": f"{CANARY}\ud800"},
    "with half a surrogate pair in a key": {f"{CANARY}\udfff": "v"},
    "a list": [CANARY],
    "a text": CANARY,
    "false": False,
}
KEY = "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21"
OTHER_KEY = "7d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21"
WITH_KEY = ("Idempotency-Key", KEY)


def no_key(name: str, *keys: str, **more: Any) -> Case:
    build = with_headers(*(("Idempotency-Key", key) for key in keys))
    return Case(f"Idempotency-Key {name}", build, 400, "invalid_idempotency_key", **more)


def in_digits(digits: str) -> str:
    return KEY.translate(str.maketrans("0123456789", digits))


CHECKOUT_HEADERS = [
    *(invalid(f"metadata {what}", "metadata", wanted(metadata=value)) for what, value in NO_METADATA.items()),
    opened("metadata with keys called __proto__", wanted(metadata={"__proto__": CANARY, "constructor": "x"})),
    opened("metadata of markup", wanted(metadata={"k": f"<script>{CANARY}</script>", "a\nb": "c\r\nd"})),
    opened("metadata of 20 long keys", wanted(metadata={f"{n:k>40}": "\U0001f600" * 250 for n in range(20)})),
    opened("metadata like DynamoDB's JSON", wanted(metadata={"S": CANARY, "pk": "order#x", ":one": "2"})),
    no_key("a word", CANARY),
    no_key("of 10 kB", KEY * 280),
    no_key("twice", KEY, KEY),
    no_key("and another one", KEY, OTHER_KEY),
    no_key("without dashes", KEY.replace("-", "")),
    no_key("in braces", f"{{{KEY}}}"),
    no_key("as a URN", f"urn:uuid:{KEY}"),
    no_key("in full-width digits", in_digits("０１２３４５６７８９")),
    no_key("in Arabic-Indic digits", in_digits("٠١٢٣٤٥٦٧٨٩")),
    no_key("with a letter too many", f"{KEY}0"),
    no_key("as a key of the ledger", f"idem#{KEY}"),
    no_key("and a newline", f"{KEY}\n", not_over_http=NO_CONTROLS),
    no_key("and a space", f"{KEY} ", not_over_http=NO_BLANKS),
    Case(
        "Idempotency-Key of another request",
        lambda _: asking({"sku": "print"}, WITH_KEY),
        409,
        "idempotency_key_reused",
        earlier=lambda _: [asking({"sku": "course"}, WITH_KEY)],
    ),
    opened(
        "Idempotency-Key of a request from another site",
        with_headers(WITH_KEY, ("Origin", f"https://{CANARY}.example")),
        key=True,
        earlier=lambda at: [asking({"sku": "course"}, WITH_KEY, ("Origin", at.shop))],
    ),
    opened("Idempotency-Key in upper case", with_headers(("Idempotency-Key", KEY.upper())), key=True),
    opened("origin of 8 kB", with_headers(WITH_KEY, ("Origin", f"https://{CANARY * 700}.example")), key=True),
    opened("origin outside of ASCII", with_headers(WITH_KEY, ("Origin", f"https://ü{CANARY}.example")), key=True),
    opened("origin of another site", with_headers(("Origin", f"https://{CANARY}.example"))),
    opened("origin null", with_headers(("Origin", "null"))),
    opened("origin like the shop's", lambda at: asking({"sku": "course"}, ("Origin", f"{at.shop}.{CANARY}.example"))),
    opened("two origins", lambda at: asking({"sku": "course"}, ("Origin", at.shop), ("Origin", f"https://{CANARY}"))),
    opened("forwarded host of another site", with_headers(("X-Forwarded-Host", f"{CANARY}.example"))),
    opened("forwarded for another site", with_headers(("Forwarded", f"host={CANARY}.example;proto=http"))),
    opened("host of another site", with_headers(("Host", f"{CANARY}.example")), not_over_http=OWN_NAME),
    opened("API key of the caller's", with_headers(("Authorization", f"Bearer pk_live_{CANARY}"))),
]
NO_CHECKOUT = [
    *(
        nowhere(f"checkout by {method}", by_method(method, wanted()))
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
    ),
    *(
        nowhere(f"checkout at {path}", with_headers(path=path))
        for path in ("/checkout/", "/CHECKOUT", "/checkout/..", "/checkout%0a", "/./checkout", "/%2fcheckout")
    ),
]

CHECKOUT = [*CHECKOUT_BODIES, *FIELDS, *RETURNS, *CHECKOUT_HEADERS, *NO_CHECKOUT]


# --- Status -----------------------------------------------------------------------------------------------------------


def asking_for(path: Callable[[Target], str], *headers: Header, body: bytes = b"") -> Build:
    """`GET /orders/` and a path as it is sent."""
    return lambda at: Request("GET", f"/orders/{path(at)}", (("User-Agent", CANARY), *headers), body)


def of_order(*headers: Header, **more: Any) -> Build:
    return asking_for(lambda at: at.order_id, *headers, **more)


NO_ORDER: dict[str, Callable[[Target], str]] = {
    "an order that nobody made": made_up,
    "another stage": another_stage,
    "upper case": lambda at: at.order_id.upper(),
    "the key": lambda at: f"order%23{at.order_id}",
    "a newline after it": lambda at: f"{at.order_id}%0a",
    "a newline before it": lambda at: f"%0a{at.order_id}",
    "NUL after it": lambda at: f"{at.order_id}%00",
    "a space after it": lambda at: f"{at.order_id}%20",
    "a percent sign after it": lambda at: f"{at.order_id}%25",
    "an encoding cut short": lambda at: f"{at.order_id}%",
    "an encoding of nothing": lambda at: f"{at.order_id}%zz",
    "a byte that no text has": lambda at: f"{at.order_id}%ff",
    "an overlong slash": lambda at: f"%c0%af{at.order_id}",
    "emoji": lambda _: quote("\U0001f600" * 9),
    "full-width letters": lambda at: quote(at.order_id.replace("o", "ｏ", 1)),
    "10 kB": lambda _: CANARY * 900,
    "a header after it": lambda at: f"{at.order_id}%0d%0aX-Injected:{CANARY}",
    "markup": lambda _: quote(f"<script>{CANARY}"),
    "JSON": lambda at: quote(json.dumps({"S": at.order_id})),
    "SQL": lambda _: quote(f"' OR '1'='1' -- {CANARY}"),
    "a variable": lambda _: quote("{orderId}"),
    "a wildcard": lambda at: f"{at.order_id[:-1]}*",
    "two ids": lambda at: f"{at.order_id},{at.order_id}",
    "a raw body's key": lambda _: "raw%23" + "0" * 64,
    "a sale's key": lambda _: "sale%23sale1",
    "an Idempotency-Key's key": lambda _: "idem%23" + "0" * 64,
    "__proto__": lambda _: "__proto__",
    "two dots": lambda _: "..",
    "a file": lambda at: f"{at.order_id}.json",
    "a matrix parameter": lambda at: f"{at.order_id};note={CANARY}",
    "a word, the id in the query": lambda at: f"{CANARY}?orderId={at.order_id}",
    "an id encoded twice": lambda at: f"%256f{at.order_id[1:]}",
}
NO_SEGMENT: dict[str, Callable[[Target], str]] = {
    "a path upwards": lambda at: f"../orders/{at.order_id}",
    "an encoded path upwards": lambda at: f"%2e%2e%2f{at.order_id}",
    "a slash after it": lambda at: f"{at.order_id}/",
    "an encoded slash after it": lambda at: f"{at.order_id}%2f",
    "an empty segment": lambda _: "",
    "an empty segment before it": lambda at: f"/{at.order_id}",
    "an empty segment, the id in the query": lambda at: f"?orderId={at.order_id}",
}
REWRITES = (("X-HTTP-Method-Override", "DELETE"), ("X-Rewrite-URL", f"/{CANARY}"))
ANOTHER_SITE = (("Origin", f"https://{CANARY}.example"), ("Accept", "text/html"))
STATUS = [
    *(Case(f"status of {what}", asking_for(path), 404, "order_not_found") for what, path in NO_ORDER.items()),
    *(
        Case(f"status of {what}", asking_for(path), 404, "order_not_found", by_gateway=True)
        for what, path in NO_SEGMENT.items()
    ),
    Case("status, other ids in the query", asking_for(lambda at: f"{at.order_id}?orderId={CANARY}"), 200, "pending"),
    Case("status, a letter encoded", asking_for(lambda at: f"%6f{at.order_id[1:]}"), 200, "pending"),
    Case("status, with a body", of_order(body=raw({"status": "paid"})), 200, "pending"),
    Case("status, another method in a header", of_order(*REWRITES), 200, "pending"),
    Case("status, for another site", of_order(*ANOTHER_SITE), 200, "pending"),
    *(
        nowhere(f"status by {method}", by_method(method, of_order()))
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", CANARY.upper())
    ),
]

CASES = [*WEBHOOK, *CHECKOUT, *STATUS]


# --- What must come of them -------------------------------------------------------------------------------------------


def hidden(at: Target, request: Request) -> list[str]:
    """What is in no answer and no log line; in lower case."""
    presented = [value.strip().lower() for value in _presented(request) if len(value) >= 32]
    return [CANARY, at.secret, at.api_key, sign(request.body, at.secret), *presented]


def judge(case: Case, at: Target, request: Request, answer: Answer, before: Items, after: Items) -> None:
    """An answer, and the ledger around it, against the case and against what holds for every request."""
    _judge_secrecy(at, request, answer)
    assert answer.status == case.status
    if request.path.startswith("/webhooks/"):
        assert answer.status == (200 if _is_signed(at, request) else 401) or answer.status == 413
    kind, content = answer.headers["content-type"], json.loads(answer.body)
    if case.status >= 400:
        assert kind == "application/problem+json"
        assert (content["status"], content["code"]) == (case.status, case.says)
        assert {error["field"] for error in content.get("errors", [])} == case.fields
        assert before == after
        return
    assert kind == "application/json"
    if case.status == 201:
        assert content.keys() == {"orderId", "sessionId", "url", "statusUrl"}
        assert f"order#{content['orderId']}" in after.keys() - before.keys()
    elif request.method == "GET":
        assert content == {"orderId": at.order_id, "status": case.says, "updatedAt": content["updatedAt"]}
    else:
        assert content == {"received": True, "outcome": case.says}
        assert any(holds(dict(item), request.body) for item in after.values()), "a signed body is lost"
    _judge_ledger(case.effect, at, request.body, before, after)


def judge_gateway(at: Target, request: Request, answer: Answer, before: Items, after: Items) -> None:
    """The gateway's own answer where no route leads anywhere."""
    _judge_secrecy(at, request, answer)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert json.loads(answer.body) == {"message": "Not Found"}
    assert before == after


def _judge_secrecy(at: Target, request: Request, answer: Answer) -> None:
    shown = json.dumps([*answer.headers.items()]).lower() + answer.body.decode().lower()
    assert not [word for word in hidden(at, request) if word in shown]
    assert answer.headers.get("access-control-allow-origin", at.shop) == at.shop


def _presented(request: Request) -> list[str]:
    return [value for name, value in request.headers if name.lower() == "x-pocketsflow-signature"]


def _is_signed(at: Target, request: Request) -> bool:
    return [value.lower() for value in _presented(request)] == [sign(request.body, at.secret)]


def _judge_ledger(effect: Effect, at: Target, body: bytes, before: Items, after: Items) -> None:
    expected = {**before}
    for what, value in effect.items():
        if what == "raw":
            _expect_raw(expected, after, body, value)
        elif what == "subscription":
            [(identity, says)] = value.items()
            _expect_subscription(expected, after, at, identity, says)
        elif what in ("opened", "key"):
            prefix = "order#" if what == "opened" else "idem#"
            [new] = [pk for pk in after.keys() - before.keys() if pk.startswith(prefix)]
            expected[new] = after[new]
            if what == "opened":
                assert (after[new]["sku"], after[new]["rev"]) == ({"S": value}, {"N": "0"})
                assert {"open_day", "session_id"} <= after[new].keys()
        else:
            key = f"order#{at.order_id}" if what == "order" else what
            _expect_facts(expected, after, key, body, value)
    assert {**after} == expected


def _expect_facts(expected: dict[str, Any], after: Items, key: str, body: bytes, facts: Mapping[str, Json]) -> None:
    """The item as it was, with the facts: but for them, the counter and the list of payments nothing of it changes."""
    item = {"pk": {"S": key}, "rev": {"N": "0"}, **expected.get(key, {})}
    for name, says in facts.items():
        assert name not in item
        item[name] = after[key][name]
        found = item[name]["M"]
        for attribute, value in says.items():
            assert (next(iter(found[attribute].values())) if attribute in found else None) == value, attribute
        if len(body) <= MAX_INLINE:
            assert found["raw"] == {"B": body}
        else:
            assert found["raw_item"] == {"S": _raw_key(body)}
            _expect_raw(expected, after, body, "large")
        item["rev"] = {"N": str(int(item["rev"]["N"]) + 1)}
        if name.startswith(("pay#", "sub#")):
            item["payments"] = {"L": [*item.get("payments", {"L": []})["L"], {"S": name}]}
            item.pop("open_day", None)
        if key.startswith("sale#"):
            item |= {"awaits": {"S": "api"}, "since": found["at"]}
    expected[key] = item


def _expect_subscription(expected: dict[str, Any], after: Items, at: Target, identity: str, says: Json) -> None:
    """A new item of the subscription, with nothing in it but what it is now."""
    key = f"subscription#{identity}"
    assert key not in expected
    item = {**after[key]}
    told = {
        "product_id": CATALOGUE[at.sku]["productId"],
        "cancel_at_period_end": False,
        "customer_email": "buyer@example.com",
        "customer_reference": None,
        "mode": "test",
        "source": "webhook",
        "rev": "1",
        **says,
    }
    if says["state"] == "ended":
        assert item.pop("ended_at") == item["at"]
    for name, value in told.items():
        found = item.pop(name, None)
        assert (next(iter(found.values())) if found else None) == value, name
    assert item == {"pk": {"S": key}, "at": item["at"]}
    expected[key] = after[key]


def _expect_raw(expected: dict[str, Any], after: Items, body: bytes, reason: str) -> None:
    """The body under its own hash, and an arrival more."""
    key = _raw_key(body)
    earlier = expected.get(key, {"arrivals": {"L": []}})["arrivals"]["L"]
    *others, last = after[key]["arrivals"]["L"]
    assert (after[key]["body"], others) == ({"B": body}, earlier)
    assert last["M"]["reason"] == {"S": reason}
    expected[key] = after[key]


def _raw_key(body: bytes) -> str:
    return f"raw#{hashlib.sha256(body).hexdigest()}"
