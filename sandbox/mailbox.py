"""Every mail that SES has taken, as a page: nothing is sent from a laptop, and links in mails are to be followed."""

import re
from collections.abc import Iterable
from html import escape

from werkzeug.wrappers import Response

_LINK = re.compile(r"https?://\S+")
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(mails: Iterable[dict[str, str]]) -> Response:
    shown = "".join(map(_article, reversed(list(mails)))) or "<p>No mail was sent yet.</p>"
    html = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Mails</title><h1>Mails</h1>{shown}</html>'
    return Response(html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})


def _article(mail: dict[str, str]) -> str:
    text = _LINK.sub(lambda link: f'<a href="{link[0]}">{link[0]}</a>', escape(mail["text"]))
    between = f"{escape(mail['from'])} to {escape(mail['to'])}"
    return f"<article><h2>{escape(mail['subject'])}</h2><p>{between}</p><pre>{text}</pre></article>"
