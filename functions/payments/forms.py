"""A plain HTML form in the place of JSON: its fields, and an answer that a buyer's browser shows or follows.

docs: developer.mozilla.org/docs/Web/HTTP/Methods/POST (application/x-www-form-urlencoded)
"""

import json
import re
from html import escape
from typing import Any
from urllib.parse import parse_qsl

from payments import http

_METADATA = re.compile(r"metadata\[([^\[\]]+)\]")
_TOKENS = ("cf-turnstile-response", "h-captcha-response", "g-recaptcha-response")
"""Fields that the widgets add by themselves; hCaptcha's adds two of them."""
_MAX_FIELDS = 60
_TYPED = {"customerEmail", "discountCode"}
_LATER = "The checkout cannot be opened at the moment. Please go back and try again later."
_MISTYPED = "Please go back and check what you typed."
_TEXTS = {
    "challenge_failed": "Please go back and confirm once more that you are not a robot.",
    "discount_code_refused": "The discount code was not accepted. Please go back and check it.",
    "too_many_checkouts": "There were too many checkouts from your connection. Please wait ten minutes and try again.",
    "invalid_request": "The shop's page sent something that cannot be used. Please tell the shop.",
    "origin_not_allowed": "The page that sent you here is not one of the shop's.",
    "not_from_shopify": "This link leads nowhere, or is too old. Please open it again on the page of your order.",
    "shopify_order_not_found": "There is no such order. Please open the link on the page of your order.",
    "shopify_order_paid": "This order is paid already, or its payment is being looked at.",
    "shopify_order_not_payable": "This order cannot be paid any more. Please ask the shop.",
    "shopify_order_not_offered": "This order cannot be paid here. Please ask the shop for another way to pay.",
}


class Unreadable(Exception):
    """Not a form in UTF-8, or a field came twice."""


def is_form(event: http.Event) -> bool:
    return http.media_type(event) == "application/x-www-form-urlencoded"


def read(body: bytes) -> dict[str, Any]:
    """The fields by the names that JSON has, `metadata[name]` as one object. An empty field is no field. Raises
    Unreadable."""
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:  # of which UnicodeDecodeError is one
        raise Unreadable from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise Unreadable
    content: dict[str, Any] = {}
    for name, value in pairs:
        entry = _METADATA.fullmatch(name)
        if not value:
            continue
        if entry:
            content.setdefault("metadata", {})[entry[1]] = value
        elif name == "metadata":  # as a field of its own it would be text, and no object
            raise Unreadable
        elif name in _TOKENS:
            content.setdefault("challengeToken", value)
        else:
            content[name] = value
    return content


def as_page(answer: http.Answer, back: str) -> http.Answer:
    """The answer to JSON as one to a form: 303 to the checkout, or a page for the buyer, with a way `back`."""
    content = json.loads(answer["body"])
    headers = {name: value for name, value in answer["headers"].items() if name != "content-type"}
    if answer["statusCode"] == 201:
        return {"statusCode": 303, "headers": {**headers, "location": content["url"]}}
    wrong = {error["field"] for error in content.get("errors", [])}
    text = _MISTYPED if wrong and wrong <= _TYPED else _TEXTS.get(content["code"], _LATER)
    headers |= {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "referrer-policy": "no-referrer",
    }
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>The checkout was not opened</title>
<main>
<h1>The checkout was not opened</h1>
<p>{escape(text)} Nothing was charged.</p>
<p><a href="{escape(back)}">Back to the shop</a></p>
<p><small>{escape(content["code"])}</small></p>
</main>
"""
    return {"statusCode": answer["statusCode"], "headers": headers, "body": page}
