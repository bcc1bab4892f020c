"""The pages below `/_sandbox/`: files as they are, strict about what they may load.

Everything that the orders' page shows comes from shops and buyers, so it has no way to make markup of it: its policy
takes no script and no style but its own files, and Trusted Types refuse every string where a browser wants HTML.
"""

from html import escape
from importlib.util import find_spec
from pathlib import Path

from werkzeug.wrappers import Response

from sandbox.template import ROOT

_OWN = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
}
_STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
# React sets styles by script, which no policy forbids; the icons of Swagger UI's style sheet are data.
_VIEWER = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _swagger_ui() -> Path:
    """Of its package the files alone: importing it would import a web framework's blueprint."""
    found = find_spec("flask_swagger_ui")
    assert found is not None  # noqa: S101
    assert found.origin is not None  # noqa: S101
    return Path(found.origin).parent / "dist"


class Pages:
    def __init__(self, shop_url: str) -> None:
        self._shop_url = shop_url
        swagger_ui = _swagger_ui()
        self._files = {
            "": _OWN / "orders.html",
            "openapi": _OWN / "viewer.html",
            "openapi/": _OWN / "viewer.html",
            **{f"openapi/{name}": _OWN / name for name in ("viewer.css", "viewer.js")},
            "openapi.yaml": ROOT / "infra" / "openapi.yaml",
            **{name: _OWN / name for name in ("orders.css", "orders.js", "icon.svg")},
            **{f"openapi/{name}": swagger_ui / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")},
        }

    def page(self, name: str) -> Response | None:
        """What lies below `/_sandbox/` under a name; None for what does not."""
        path = self._files.get(name)
        if path is None or not path.exists():
            return None
        content = path.read_bytes()
        if path.suffix == ".html":
            content = content.replace(b"{{shop}}", escape(self._shop_url).encode())
        return Response(
            content,
            content_type=_TYPES[path.suffix],
            headers={
                "Content-Security-Policy": _VIEWER if name.startswith("openapi") else _STRICT,
                "Cache-Control": "no-cache",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            },
        )
