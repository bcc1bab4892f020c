"""What of the ledger is about a person, and the writes that take it out. Money, states and names of facts stay.

Pure: from an item, plain, to the arguments of an UpdateItem, which names single attributes and single fields of facts,
so that no fact that comes meanwhile is overwritten. Nothing of it is an event (outbox.py), or counts as a revision.

    fact.redacted_at     when its raw body went; the same webhook, in these or other words, brings no body back
    raw#….body           empty, with `redacted_at`: the same body, delivered again, is not written again (ledger.keep);
                         of one that is all there is of its fact (UNSETTLED), what it says of money, to be replayed
    erased               an item of an erased person: what comes to it later is taken out as well. Its value is null,
                         because `if_not_exists(erased, :address)` then leaves the address null in one request
"""

import base64
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from payments import strictjson

Item = Mapping[str, Any]
"""Plain."""
Path = tuple[str | int, ...]
Typed = dict[str, Any]
"""A value in DynamoDB's JSON."""

MAX_FACTS = 40
"""Of one write: an expression has 4 kB."""
NULL: Typed = {"NULL": True}
NO_METADATA: Typed = {"M": {}}
SUBJECTS = ("order#", "sale#", "subscription#", "raw#", "audit#")
"""Items that can have anything of a person in them."""
UNSETTLED = {"error", "item_full", "misfit"}
"""Reasons for which a body is kept that no fact was made of (ledger.keep): it may be a payment."""

_ESCAPED = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|([/\"])|[bfnrt])")
"""Within JSON, and within JSON in a text of JSON."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """One write: what goes, what is put in its place, and what the item must have for it to be done at all."""

    pk: str
    gone: Sequence[Path] = ()
    put: Mapping[Path, Typed] = field(default_factory=dict)
    condition: str = "attribute_exists(pk)"
    values: Mapping[str, Typed] = field(default_factory=dict)
    """Of the condition."""

    def update(self) -> dict[str, Any]:
        """Arguments of UpdateItem, all but the table."""
        names: dict[str, str] = {}

        def written(path: Path) -> str:
            text = ""
            for part in path:
                if isinstance(part, int):
                    text += f"[{part}]"
                    continue
                placeholder = next((each for each, name in names.items() if name == part), f"#n{len(names)}")
                names[placeholder] = part
                text += f".{placeholder}" if text else placeholder
            return text

        sets = [f"{written(path)} = :v{number}" for number, path in enumerate(self.put)]
        removes = [written(path) for path in self.gone]
        # A field can be set in a fact that is there only. None of them ever goes, but nothing rests on that.
        parents = dict.fromkeys(written(path[:-1]) for path in (*self.put, *self.gone) if len(path) > 1)
        expressions = [f"{word} {', '.join(some)}" for word, some in (("SET", sets), ("REMOVE", removes)) if some]
        update: dict[str, Any] = {
            "Key": {"pk": {"S": self.pk}},
            "UpdateExpression": " ".join(expressions),
            "ConditionExpression": " AND ".join([self.condition, *(f"attribute_exists({each})" for each in parents)]),
        }
        values = {**{f":v{number}": value for number, value in enumerate(self.put.values())}, **self.values}
        if names:
            update["ExpressionAttributeNames"] = names
        if values:
            update["ExpressionAttributeValues"] = values
        return update

    def on(self, image: Typed) -> None:
        """The same on an image of the item that lies elsewhere, in DynamoDB's JSON."""
        for path in self.gone:
            _holder(image, path).pop(path[-1], None)
        for path, value in self.put.items():
            image_value = {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value
            _holder(image, path)[path[-1]] = image_value


def _holder(image: Typed, path: Path) -> Any:
    holder: Any = image
    for part in path[:-1]:
        holder = holder[part]["M"]
    return holder


# --- Because of its age -----------------------------------------------------------------------------------------------


def pending(pk: str, before: str) -> Redaction:
    """Who wanted to buy and did not: the address, and what the browser said. Nothing when it was paid meanwhile."""
    return Redaction(
        pk,
        gone=(("customer_email",), ("untrusted_metadata",)),
        condition="attribute_exists(open_day) AND created_at < :before"
        " AND (attribute_exists(customer_email) OR attribute_exists(untrusted_metadata))",
        values={":before": {"S": before}},
    )


def is_pending(item: Item, before: str) -> bool:
    """Whether `pending` has something to do."""
    has_any = "customer_email" in item or "untrusted_metadata" in item
    return "open_day" in item and item.get("created_at", before) < before and has_any


def aged(item: Item, before: str, at: str) -> list[Redaction]:
    """Raw bodies that came before a time; those that came again since stay."""
    pk = item["pk"]
    if pk.startswith("raw#"):
        arrivals, left = item.get("arrivals", []), _left(item)
        if item.get("body", b"") == left or any(arrival["at"] >= before for arrival in arrivals):
            return []
        condition = "size(arrivals) = :arrivals"
        return [_emptied(pk, at, condition, {":arrivals": {"N": str(len(arrivals))}}, left)]
    old = [name for name, fact in facts(item).items() if "raw" in fact and fact["at"] < before]
    return _chunked(pk, {name: [(name, "raw")] for name in old}, at)


def facts(item: Item) -> dict[str, Item]:
    """All of an order, of a payment, or of a payment of a subscription."""
    return {name: fact for name, fact in item.items() if "#" in name and isinstance(fact, Mapping)}


def _chunked(pk: str, fields: Mapping[str, Sequence[Path]], at: str) -> list[Redaction]:
    """Takes these fields out of facts, and marks the facts."""
    names, found = list(fields), []
    for start in range(0, len(names), MAX_FACTS):
        some = names[start : start + MAX_FACTS]
        gone = [path for name in some for path in fields[name]]
        found.append(Redaction(pk, gone, {(name, "redacted_at"): {"S": at} for name in some}))
    return found


# --- Because it came to an item of an erased person -------------------------------------------------------------------


def late(old: Item, new: Item, at: str) -> list[Redaction]:
    """Of the facts that a write has added to an item that is `erased`, and of what it calls the buyer."""
    if "erased" not in new:
        return []
    added = {name: fact for name, fact in facts(new).items() if name not in old and "redacted_at" not in fact}
    fields = {name: [*_personal(name, fact), *_address_as_reference(fact, name)] for name, fact in added.items()}
    reference = _address_as_reference(new)
    return [
        *([Redaction(new["pk"], reference)] if reference else []),
        *_chunked(new["pk"], {name: found for name, found in fields.items() if found or "raw_item" in added[name]}, at),
        *_raw_items(added.values(), at),
    ]


def _address_as_reference(thing: Item, *within: str) -> list[Path]:
    """An id of the shop's stays, and some shops' is the address; whose, is known no more."""
    return [(*within, "customer_reference")] if "@" in (thing.get("customer_reference") or "") else []


def _is_personal(fact: Item) -> bool:
    return "redacted_at" not in fact and any(name in fact for name in (*_PERSONAL, "raw_item"))


_PERSONAL = ("raw", "customer_email", "untrusted_metadata")


def _personal(name: str, fact: Item) -> list[Path]:
    return [(name, each) for each in _PERSONAL if each in fact]


def _raw_items(found: Iterable[Item], at: str) -> list[Redaction]:
    """Bodies too large to lie beside their facts."""
    return [_emptied(fact["raw_item"], at) for fact in found if "raw_item" in fact]


def _emptied(
    pk: str,
    at: str,
    condition: str = "attribute_exists(body)",
    values: Mapping[str, Typed] | None = None,
    left: bytes = b"",
) -> Redaction:
    put: dict[Path, Typed] = {("body",): {"B": left}, **({} if left else {("redacted_at",): {"S": at}})}
    return Redaction(pk, (), put, condition, values or {})


def _left(item: Item, person: "Person | None" = None) -> bytes:
    """What stays of a kept body: what it says of money, where nothing else in the ledger does."""
    is_all = any(arrival.get("reason") in UNSETTLED for arrival in item.get("arrivals", []))
    return without_person(item.get("body", b""), person) if is_all else b""


# --- Because the person asks for it -----------------------------------------------------------------------------------


class Person:
    """Whoever has an e-mail address, and nothing else is known of them."""

    def __init__(self, address: str) -> None:
        self._address = address.casefold()
        # Within other text another's address may end or begin with this one.
        self._pattern = re.compile(rf"(?<![\w.+-])(?<!\w'){re.escape(address)}(?![\w-]|\.\w)", re.IGNORECASE)

    def is_named(self, content: Any) -> bool:
        """Whether any text in it is the address, or contains it: as JSON escapes it, and as addresses of pages do."""
        match content:
            case str():
                return any(self._pattern.search(text) for text in (content, unquote(content)))
            case bytes():
                return any(map(self.is_named, _texts(content)))
            case Mapping():
                return any(self.is_named(name) or self.is_named(value) for name, value in content.items())
            case list() | set() | tuple():
                return any(map(self.is_named, content))
        return False

    def without(self, text: str) -> str:
        left = self._pattern.sub("(erased)", text)
        return "(erased)" if self.is_named(left) else left  # as addresses of pages write it

    def redactions(self, item: Item, at: str) -> list[Redaction]:
        """What takes the person out of an item, and out of those that belong to it; none when they are not in it."""
        kind, _, _ = item["pk"].partition("#")
        of = {"raw": self._of_raw, "audit": self._of_audit, "subscription": self._of_subscription}
        return of.get(kind, self._of_facts)(item, at)

    def _has(self, thing: Item) -> bool:
        return str(thing.get("customer_email", "")).casefold() == self._address

    def _of_raw(self, item: Item, at: str) -> list[Redaction]:
        return [_emptied(item["pk"], at, left=_left(item, self))] if self.is_named(item.get("body")) else []

    def _of_audit(self, item: Item, _at: str) -> list[Redaction]:
        """Words of whoever gave a reason. Who acted stays: nobody takes themselves out of what they did."""
        words: dict[Path, Typed] = {
            ("entries", number, name): {"S": self.without(text)}
            for number, entry in enumerate(item.get("entries", []))
            for name, text in entry.items()
            if name != "who" and self.is_named(text)
        }
        return [Redaction(item["pk"], put=words)] if words else []

    def _of_subscription(self, item: Item, _at: str) -> list[Redaction]:
        put: dict[Path, Typed] = {}
        if self._has(item):
            put = {("customer_email",): NULL, ("erased",): NULL, ("untrusted_metadata",): NO_METADATA}
        elif self.is_named(item.get("untrusted_metadata")):
            put = {("untrusted_metadata",): NO_METADATA}
        gone: list[Path] = [*self._named_metadata(item)]
        if self.is_named(item.get("customer_reference")):
            gone.append(("customer_reference",))
        return [Redaction(item["pk"], gone, put)] if put or gone else []

    def _of_facts(self, item: Item, at: str) -> list[Redaction]:
        """An order or a payment."""
        own = self._own_facts(item)
        put: dict[Path, Typed] = {("erased",): NULL} if own or self._has(item) else {}
        put |= self._words(item)
        gone: list[Path] = [*self._named_metadata(item)]
        if self._has(item):
            gone.append(("customer_email",))
        if "untrusted_metadata" in item and (self._has(item) or self.is_named(item["untrusted_metadata"])):
            gone.append(("untrusted_metadata",))
        if self.is_named(item.get("checkout_url")):
            if "open_day" in item:  # its session goes with it: the next checkout gets another one
                gone += [("session_id",), ("checkout_url",)]
            else:  # and nobody is to get another one to pay again
                put["checkout_url",] = {"S": self.without(item["checkout_url"])}
        if not gone and not put:
            return []
        fields = {name: self._personal_fields(name, fact) for name, fact in own.items()}
        return [
            Redaction(item["pk"], gone, put),
            *_chunked(item["pk"], fields, at),
            *_raw_items(own.values(), at),
            *_kin(item, own, {path[-1] for path in self._named_metadata(item)}, at),
        ]

    def _words(self, item: Item) -> dict[Path, Typed]:
        """Of whoever has closed a case (ops/resolve.py)."""
        notes = {name: str(note.get("why")) for name, note in facts(item).items() if name.startswith(_NOTE)}
        return {(name, "why"): {"S": self.without(why)} for name, why in notes.items() if self.is_named(why)}

    def _own_facts(self, item: Item) -> dict[str, Item]:
        """Those that name the address; and those of the same payments, or of the person's order, that name nobody
        else's."""
        found = {name: fact for name, fact in facts(item).items() if not name.startswith(_NOTE)}
        own = {name: fact for name, fact in found.items() if self._has(fact) or self.is_named(fact)}
        payments = {fact.get("payment_id") for fact in own.values()}
        for name, fact in found.items():
            is_related = self._has(item) or fact.get("payment_id") in payments
            if is_related and "customer_email" not in fact and _is_personal(fact):
                own[name] = fact
        return own

    def _personal_fields(self, name: str, fact: Item) -> list[Path]:
        named = [each for each, value in fact.items() if isinstance(value, str) and self.is_named(value)]
        own = dict.fromkeys([*_personal(name, fact), *((name, each) for each in named)])
        return [*own, *((name, *path) for path in self._named_metadata(fact))]

    def _named_metadata(self, thing: Item) -> Iterator[Path]:
        """What the shop's server said stays, but for the address."""
        for name, value in thing.get("metadata", {}).items():
            if self.is_named(name) or self.is_named(value):
                yield "metadata", name


_NOTE = "resolved#"


def _kin(item: Item, own: Mapping[str, Item], named: Container[str | int], at: str) -> Iterator[Redaction]:
    """Where more of an order's payments lies or may arrive: refunds without metadata, states of a subscription. Marked
    before it is there, too: the relay may be late, and know the metadata that were `named` here."""
    if not item["pk"].startswith("order#"):
        return
    said = {name: {"S": value} for name, value in item.get("metadata", {}).items() if name not in named}
    metadata: dict[Path, Typed] = {("metadata",): {"M": said}} if "metadata" in item else {}
    for name, fact in own.items():
        identity, kind = fact.get("payment_id"), fact.get("of") or fact.get("kind")
        if identity is None:
            continue
        if kind == "subscription":
            yield Redaction(
                f"subscription#{identity}",
                put={("customer_email",): NULL, ("erased",): NULL, ("untrusted_metadata",): NO_METADATA, **metadata},
                condition="attribute_not_exists(customer_email)",
            )
            continue
        yield Redaction(f"sale#{identity}", put={("erased",): NULL}, condition="attribute_not_exists(erased)")
        yield from _chunked(f"sale#{identity}", {name: _personal(name, fact)}, at)  # where it waited for its order


def _texts(body: bytes) -> Iterator[str]:
    """A body as it may be meant: whatever it is, escaped or not."""
    text = body.decode("utf-8", "replace")
    yield text
    yield text.replace("\0", "")  # UTF-16
    yield _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2] or " ", text)


# --- A body that is not in the ledger yet -----------------------------------------------------------------------------

_KEPT: Mapping[str, Any] = {
    **dict.fromkeys(("event", "type", "webhookId", "amount", "amountBeforeTax", "currency", "status"), True),
    **dict.fromkeys(("subscriptionCustomerId", "clientReferenceId"), True),
    "product": {"id": True, "variantId": True},
    "order": {"id": True},
    "refund": {"id": True, "amount": True, "status": True},
    "subscription": {"id": True},
    "subscriptionCustomer": dict.fromkeys(("id", "status", "active", "paused", "cancelAtPeriodEnd"), True),
    "metadata": {"external_order_id": True, "pocketsflow_store": True},
    "tax": {"amount": True, "rate": True, "percentage": True, "ToCountry": True},
}
"""Of a webhook's body: what is read of it (events.py), and what else is about money. All else may be about a person."""


def without_person(body: bytes, person: Person | None) -> bytes:
    """A webhook's body with nothing but its money facts, and in these no address: of this person, or of anybody. Empty
    where it is no JSON, and says nothing."""
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        return b""
    return _json(_kept(content, _KEPT, person)).encode() if isinstance(content, dict) else b""


def _kept(content: Any, wanted: Any, person: Person | None) -> Any:
    """What is not of the kind that it should be is emptied, and not of that kind still."""
    if isinstance(content, dict):
        inner = wanted if isinstance(wanted, Mapping) else {}
        return {name: _kept(value, inner[name], person) for name, value in content.items() if name in inner}
    if isinstance(content, list):
        return []
    if not isinstance(content, str):
        return content
    is_personal = person.is_named(content) if person else "@" in content
    return "" if is_personal or wanted is not True else content


def _json(content: Any) -> str:
    """With numbers as they came."""
    match content:
        case dict():
            return "{" + ", ".join(f"{_json(name)}: {_json(value)}" for name, value in content.items()) + "}"
        case list():
            return "[]"
        case str():
            return f'"{"".join(map(_escaped, content))}"'
        case bool():
            return "true" if content else "false"
        case None:
            return "null"
    return str(content)


def _escaped(character: str) -> str:
    is_plain = character not in '"\\' and " " <= character <= "~"
    # Beyond 16 bits as two halves; a half that stood alone stays alone.
    halves = character.encode("utf-16-be", "surrogatepass")
    return character if is_plain else "".join(f"\\u{halves[at : at + 2].hex()}" for at in range(0, len(halves), 2))
