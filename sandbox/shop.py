"""The demo shop: storefront/ as a static host would serve it, strict about what its pages may load.

Its pages name `http://localhost:8001` as the API; here it is where the API really is. And its footers get a link behind
the scenes, which storefront/ itself knows nothing of. What members see, an edge function keeps from everybody else.
"""

from flask import Flask, Response, jsonify, request, send_from_directory

from sandbox.edge import ROOMS, Gate
from sandbox.template import ROOT

WRITTEN_API = "http://localhost:8001"


def create_app(api_url: str, pocketsflow_url: str, own_url: str) -> Flask:
    app = Flask(__name__, static_folder=None)
    link = f'<p><a href="{api_url}/_sandbox/">See what happens behind the shop</a></p>\n  </footer>'
    policy = "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' {api_url}",
            f"form-action 'self' {api_url} {pocketsflow_url}",  # browsers apply it to the redirect after a form too
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )

    gate = Gate(api_url, own_url)

    @app.get("/members/<level>.json")
    def room(level: str) -> tuple[Response, int]:
        if level not in ROOMS or level not in gate.levels(request.headers.get("Authorization", "")):
            return jsonify({"message": "for members"}), 401
        return jsonify(ROOMS[level]), 200

    @app.get("/", defaults={"name": "index.html"})
    @app.get("/<path:name>")
    def page(name: str) -> Response:
        response = send_from_directory(ROOT / "storefront", name)
        if response.mimetype == "text/html":
            response.direct_passthrough = False  # a file's own stream cannot be read otherwise
            html = response.get_data(as_text=True).replace(WRITTEN_API, api_url)
            response.set_data(html.replace("</footer>", link))
            del response.headers["ETag"], response.headers["Last-Modified"]  # of another text
        return response

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    return app
