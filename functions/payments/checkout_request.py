"""The body of a request for a checkout: every field checked, every wrong one named, none echoed."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from payments import addresses, forms, orders, strictjson
from payments.catalogue import Item

MAX_BODY = 64 * 1024
MAX_METADATA_KEYS = 20
MAX_METADATA_KEY = 40
MAX_METADATA_VALUE = 500
RESERVED_METADATA = ("external_order_id", "pocketsflow_")
"""Names, and beginnings of names, that are ours."""

_ORDERED = {"sku", "productId", "customerEmail", "metadata"}
_FIELDS = _ORDERED | {"discountCode", "successUrl", "cancelUrl"}
_TRUSTED = _FIELDS | {"reference", "total", "name"}
_REGISTERED = _ORDERED | {"reference", "total"}
_PRODUCT_ID = re.compile(r"[0-9a-fA-F]{24}")
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f-\x9f]{1,64}@[^\s@\x00-\x1f\x7f-\x9f]{1,189}")
_DISCOUNT_CODE = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")
_AMOUNT = re.compile(r"(?=.*[1-9])(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?")
_CURRENCY = re.compile(r"[a-z]{3}")
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")
_CHALLENGE_TOKEN = re.compile(r"[!-~]{1,8192}")  # hCaptcha's have thousands

Errors = list[dict[str, str]]


class DefaultNotAllowed(Exception):
    """The stack's own return address is on none of its allowed origins: for the merchant to mend, not the caller."""


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    item: Item
    success_url: str
    cancel_url: str
    customer_email: str | None
    discount_code: str | None
    metadata: Mapping[str, str]
    fingerprint: str
    """The same for two bodies that say the same, whatever challenge was solved for them."""
    challenge_token: str | None = None
    reference: str | None = None
    """The shop's own number of the order, which only its server may give."""
    product_name: str | None = None
    """Of a cart: its product is yet to be made at Pocketsflow, and `item` has its price alone."""

    def of(self, product_id: str) -> "CheckoutRequest":
        """The same for the product that the order in the ledger has."""
        return replace(self, item=replace(self.item, product_id=product_id))

    def for_pocketsflow(self, order_id: str, store_id: str) -> dict[str, Any]:
        """The body of `POST /checkout/sessions`: what is not given is absent. `store_id` is this stack's: an
        account may have several."""
        optional = {"customerEmail": self.customer_email, "discountCode": self.discount_code}
        return {
            "productId": self.item.product_id,
            "successUrl": addresses.with_order_id(self.success_url, order_id),
            "cancelUrl": addresses.with_order_id(self.cancel_url, order_id),
            "metadata": {**self.metadata, "external_order_id": order_id, "pocketsflow_store": store_id},
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """What this stack sells and where it sends buyers."""

    catalogue: Mapping[str, Item]
    origins: Iterable[str] | None
    """None for return addresses anywhere."""
    loopback: bool
    success_url: str
    cancel_url: str

    def is_origin(self, origin: str) -> bool:
        """Whether it is one of the shop's own. `null` is none."""
        return addresses.allowed(origin, self.origins, self.loopback)


def read(body: bytes, rules: Rules) -> CheckoutRequest | Errors:
    """A request that can be served, or what is wrong with it: a list of {field, detail}, "" for the whole body."""
    content = _parsed(body)
    return content if isinstance(content, list) else _request(content, rules, _FIELDS | {"challengeToken"})


def read_form(body: bytes, rules: Rules) -> CheckoutRequest | Errors:
    """The same of a form's fields."""
    try:
        content = forms.read(body)
    except forms.Unreadable:
        return [_error("", "must be the fields of a form in UTF-8, none of them twice")]
    return _request(content, rules, _FIELDS | {"challengeToken"})


def read_trusted(body: bytes, rules: Rules, *, carts: bool) -> CheckoutRequest | Errors:
    """The same from the shop's own server, which may name any https return address, its number of the order, and what
    must be paid. With `carts` it may also name a product that is yet to be made, in the place of one of the shop's."""
    content = _parsed(body)
    if isinstance(content, list):
        return content
    return _request(content, replace(rules, origins=None), _TRUSTED, carts=carts)


def read_registration(body: bytes, rules: Rules, *, reference: str) -> CheckoutRequest | Errors:
    """What was ordered under a reference, from the shop's own server. Its return addresses are nobody's business."""
    content = _parsed(body)
    if isinstance(content, list):
        return content
    if "reference" in content:
        return [_error("reference", "belongs into the path alone")]
    return _request({**content, "reference": reference}, rules, _REGISTERED, returns=False)


def _parsed(body: bytes) -> dict[str, Any] | Errors:
    try:
        content = strictjson.parse(body)
    except strictjson.Unreadable:
        return [_error("", "must be a JSON object in UTF-8, without duplicate keys")]
    return content if isinstance(content, dict) else [_error("", "must be a JSON object")]


def _request(
    content: Mapping[str, Any], rules: Rules, known: set[str], *, returns: bool = True, carts: bool = False
) -> CheckoutRequest | Errors:
    given = {name: value for name, value in content.items() if value is not None}
    errors: Errors = []
    if given.keys() - known:
        errors.append(_error("", f"has unknown fields; known are {', '.join(sorted(known))}"))
    name = given.get("name") if "name" in known else None
    item = _item(given, rules.catalogue, errors) if name is None else _cart(given, carts, errors)
    if "total" in known:
        if "name" in known and not {"sku", "productId", "name"} & given.keys() and "total" in given:
            rule = "is required for a total of no sku, and with it the stack's parameter ProductPerOrder=on"
            errors.append(_error("name", rule))
        item = _held(item, given, errors)
    success_url = _address(given, "successUrl", rules.success_url, rules, errors) if returns else ""
    cancel_url = _address(given, "cancelUrl", rules.cancel_url, rules, errors) if returns else ""
    customer_email = _text(given, "customerEmail", _EMAIL, "must be an e-mail address", errors)
    discount_code = _text(given, "discountCode", _DISCOUNT_CODE, "must be 1 to 64 printable ASCII characters", errors)
    challenge_token = _text(given, "challengeToken", _CHALLENGE_TOKEN, "must be what the challenge gave", errors)
    reference = _text(given, "reference", orders.REFERENCE, f"must be {orders.REFERENCE_RULE}", errors)
    metadata = _metadata(given.get("metadata", {}), errors)
    if errors or item is None:
        return errors
    same = {name: value for name, value in given.items() if name != "challengeToken"}
    fingerprint = _fingerprint(same if returns else {**same, "": "registered"})
    return CheckoutRequest(
        item,
        success_url,
        cancel_url,
        customer_email,
        discount_code,
        metadata,
        fingerprint,
        challenge_token,
        reference,
        name,
    )


def _item(given: Mapping[str, Any], catalogue: Mapping[str, Item], errors: Errors) -> Item | None:
    if catalogue:
        sku = given.get("sku")
        item = catalogue.get(sku) if isinstance(sku, str) else None
        if item is None:
            errors.append(_error("sku", "must be a sku of the catalogue"))
        if "productId" in given:
            errors.append(_error("productId", "is not accepted by a shop with a catalogue: send sku"))
        return item
    if "sku" in given:
        errors.append(_error("sku", "is not accepted by a shop without a catalogue: send productId"))
    product_id = _text(given, "productId", _PRODUCT_ID, "must be 24 hexadecimal digits", errors)
    if product_id is None and "productId" not in given:
        errors.append(_error("productId", "is required"))
    return None if product_id is None else Item(product_id.lower())


def _cart(given: Mapping[str, Any], carts: bool, errors: Errors) -> Item | None:
    """What is bought in the place of a product of the shop's; its price is the total."""
    before = len(errors)
    if not carts:
        errors.append(_error("name", "is accepted with the stack's parameter ProductPerOrder=on only"))
    _text(given, "name", _NAME, "must be 1 to 200 characters without control characters", errors)
    if "total" not in given:
        errors.append(_error("total", "is required with name"))
    for field in sorted({"sku", "productId", "discountCode"} & given.keys()):
        errors.append(_error(field, "is not accepted with name: what is sold is made for its total"))
    return Item("") if len(errors) == before else None


def _held(item: Item | None, given: Mapping[str, Any], errors: Errors) -> Item | None:
    """An item that settles by this total alone, where one is given."""
    total = given.get("total")
    if total is None:
        return item
    is_total = isinstance(total, dict) and total.keys() == {"amount", "currency"}
    if not is_total or not _is(total["amount"], _AMOUNT) or not _is(total["currency"], _CURRENCY):
        rule = "must have amount, text like 49.00 and more than nothing, and currency, three lower-case letters"
        errors.append(_error("total", rule))
        return None
    price, currency = Decimal(total["amount"]), total["currency"]
    if price != round(price, orders.DECIMALS.get(currency, 2)):  # nobody can pay it
        errors.append(_error("total", "must have no smaller unit than its currency"))
        return None
    return item and replace(item, price=price, currency=currency, hold_on_difference=True)


def _is(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _text(given: Mapping[str, Any], field: str, pattern: re.Pattern[str], rule: str, errors: Errors) -> str | None:
    value = given.get(field)
    if value is None or (isinstance(value, str) and pattern.fullmatch(value) and _encodable(value)):
        return value
    errors.append(_error(field, rule))
    return None


def _address(given: Mapping[str, Any], field: str, default: str, rules: Rules, errors: Errors) -> str:
    address = given.get(field, default)
    if addresses.allowed(address, rules.origins, rules.loopback):
        return str(address)
    if field not in given:
        raise DefaultNotAllowed
    where = "" if rules.origins is None else " on one of the shop's allowed origins"
    errors.append(_error(field, f"must be an absolute https address{where}"))
    return default


def _metadata(metadata: object, errors: Errors) -> Mapping[str, str]:
    if (
        isinstance(metadata, dict)
        and len(metadata) <= MAX_METADATA_KEYS
        and all(0 < len(key) <= MAX_METADATA_KEY and _encodable(key) for key in metadata)
        and all(isinstance(value, str) and len(value) <= MAX_METADATA_VALUE for value in metadata.values())
        and all(_encodable(value) for value in metadata.values())
        and not any(key.startswith(RESERVED_METADATA) for key in metadata)
    ):
        return metadata
    rule = (
        f"must be an object of at most {MAX_METADATA_KEYS} keys of 1 to {MAX_METADATA_KEY} characters, none beginning "
        f"with {' or '.join(RESERVED_METADATA)}, each a string of at most {MAX_METADATA_VALUE} characters"
    )
    errors.append(_error("metadata", rule))
    return {}


def _encodable(text: str) -> bool:
    """JSON can smuggle in half of a surrogate pair, which is no text, and NUL, which is not text for long."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _fingerprint(given: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _error(field: str, detail: str) -> dict[str, str]:
    return {"field": field, "detail": detail}
