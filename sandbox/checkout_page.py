"""The hosted checkout page of the fake Pocketsflow: HTML and the headers it is served with.

Everything shown comes from a shop or a browser, so every value passes through `html.escape`. There is no script on the
page, so the policy allows none.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from html import escape
from typing import NamedTuple

STYLE = """
:root{color-scheme:light dark;--page:#eef1f6;--card:#fff;--text:#172033;--quiet:#566079;--line:#d5dbe7;
--strong:#3046c5;--on:#fff}
@media (prefers-color-scheme:dark){
:root{--page:#0e131f;--card:#182032;--text:#eaeefb;--quiet:#a4aec7;--line:#36415a;--strong:#9fb1ff;--on:#0e131f}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;background:var(--page);color:var(--text);
font:1rem/1.5 system-ui,sans-serif}
main{width:100%;max-width:26rem;min-width:0;padding:1.5rem;background:var(--card);
border:1px solid var(--line);border-radius:1rem}
h1{margin:.25rem 0 0;font-size:1.375rem;line-height:1.25;overflow-wrap:anywhere}
p{margin:.5rem 0;overflow-wrap:anywhere}
.quiet,dt{color:var(--quiet);font-size:.875rem}
.price{margin:.75rem 0 1rem;font-size:2rem;font-weight:700;line-height:1.2;font-variant-numeric:tabular-nums}
dl{margin:1rem 0;padding-top:.5rem;border-top:1px solid var(--line)}
dd{margin:0 0 .5rem;overflow-wrap:anywhere}
label{display:block;margin-bottom:.25rem;font-weight:600}
select,button{width:100%;min-height:2.75rem;margin-bottom:.625rem;padding:.5rem .75rem;font:inherit;color:inherit;
background:transparent;border:1px solid var(--line);border-radius:.625rem}
option{color:#172033;background:#fff}
button{font-weight:600;cursor:pointer}
button.first{background:var(--strong);border-color:var(--strong);color:var(--on)}
:focus-visible{outline:3px solid var(--strong);outline-offset:2px}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


class Choice(NamedTuple):
    """One thing the buyer may pay for; `price` in major units, after any discount."""

    variant_id: str | None
    name: str
    price: Decimal


def headers(form_targets: Iterable[str]) -> dict[str, str]:
    """Response headers of a page. `form_targets` are the origins (scheme://host:port) the shop's return addresses have:
    browsers apply form-action to the redirect after a form too."""
    targets = " ".join(["'self'", *form_targets])
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action {targets}"
    )
    return {
        "Content-Security-Policy": policy,
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def checkout(
    session_id: str, name: str, currency: str, choices: list[Choice], *, email: str, metadata: Mapping[str, object]
) -> str:
    """The page on which the buyer pays. `choices` starts with the one selected at first."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in metadata.items())
    action = f"/checkout/{escape(session_id)}"
    unit = escape(currency.upper())
    picker = ""
    if len(choices) > 1:
        options = "".join(
            f'<option value="{escape(choice.variant_id or "")}">{escape(choice.name)}: {choice.price} {unit}</option>'
            for choice in choices
        )
        picker = f'<label for="variant">Variant</label><select id="variant" name="variantId">{options}</select>'
    return _document(
        f"Pay for {name}",
        f"""<p class="quiet">Sandbox checkout, no money moves</p>
<h1>{escape(name)}</h1>
<p class="price">{choices[0].price} {unit}</p>
<form method="post" action="{action}/pay">
{picker}
<button class="first">Pay</button>
<button formaction="{action}/pay-twice">Pay twice</button>
<button formaction="{action}/cancel">Cancel</button>
</form>
<dl><dt>Buyer</dt><dd>{escape(email)}</dd>{rows}</dl>""",
    )


def notice(title: str, text: str) -> str:
    """A page that only says something: no such session, or paid with nowhere to go back to."""
    return _document(title, f'<h1>{escape(title)}</h1><p class="quiet">{escape(text)}</p>')


def _document(title: str, main: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
{main}
</main>
</body>
</html>
"""
