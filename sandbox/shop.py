"""The demo shop: storefront/ as a static host would serve it, strict about what its pages may load."""

from flask import Flask, Response, send_from_directory

from sandbox.template import ROOT


def create_app(api_url: str) -> Flask:
    app = Flask(__name__, static_folder=None)

    @app.get("/config.js")
    def config() -> Response:
        return Response(f'window.POCKETSFLOW_API = "{api_url}";\n', content_type="text/javascript")

    @app.get("/", defaults={"name": "index.html"})
    @app.get("/<path:name>")
    def page(name: str) -> Response:
        return send_from_directory(ROOT / "storefront", name)

    @app.after_request
    def protect(response: Response) -> Response:
        policy = f"default-src 'self'; connect-src 'self' {api_url}; frame-ancestors 'none'; base-uri 'none'"
        response.headers["Content-Security-Policy"] = policy
        response.headers["Cache-Control"] = "no-store"
        return response

    return app
