"""A shop with a server and order numbers of its own, whole: it sends its buyers to pay, and believes signed webhooks.

    pip install standardwebhooks
    SHOP=https://shop.example SKU=course API=https://….amazonaws.com KEY=pfs_… WEBHOOK_SECRET=whsec_… python server.py

It listens on 127.0.0.1:8080, behind what gives your host its https. StorefrontUrl is https://shop.example/webhooks.
"""

import json
import os
import sqlite3
from urllib.parse import parse_qs
from urllib.request import Request, urlopen
from wsgiref.simple_server import make_server

from standardwebhooks import Webhook, WebhookVerificationError

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, order_id TEXT, status TEXT DEFAULT 'pending', revision INTEGER DEFAULT -1,
    shipments INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS seen (webhook_id TEXT PRIMARY KEY);
"""
PAGE = '<!doctype html><html lang="en"><title>A shop</title><h1>A shop</h1>'


class Shop:
    """A WSGI application."""

    def __init__(self, url, sku, api, key, secret, *, database="shop.sqlite"):
        self.url, self.sku, self.api, self.key = url, sku, api, key
        self.webhook = Webhook(secret)
        self.db = sqlite3.connect(database, check_same_thread=False)
        self.db.executescript(TABLES)

    def __call__(self, environ, start_response):
        routes = {"GET /": home, "POST /buy": self.buy, "GET /thanks": self.thanks, "POST /webhooks": self.receive}
        respond = routes.get(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", not_found)
        status, text, *headers = respond(environ)
        start_response(status, [("Content-Type", "text/html; charset=utf-8"), *headers])
        return [text.encode()]

    def buy(self, _):
        """An order of this shop, and its checkout. Asked again with one reference the API gives the same checkout."""
        with self.db:
            number = self.db.execute("INSERT INTO orders DEFAULT VALUES").lastrowid
        wanted = {"sku": self.sku, "reference": f"web-{number}", "successUrl": f"{self.url}/thanks"}
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            request = Request(f"{self.api}/server/checkout", json.dumps(wanted).encode(), headers)
            with urlopen(request, timeout=10) as answer:
                checkout = json.load(answer)
        except OSError:
            return "503 Service Unavailable", f"{PAGE}<p>That did not work. Please try again in a minute."
        with self.db:
            self.db.execute("UPDATE orders SET order_id = ? WHERE number = ?", [checkout["orderId"], number])
        return "303 See Other", "", ("Location", checkout["url"])

    def thanks(self, environ):
        """Where buyers come back to. Coming back proves nothing; what the webhooks have said does."""
        order_id = parse_qs(environ["QUERY_STRING"]).get("order_id", [""])[0]
        found = self.db.execute("SELECT number, status FROM orders WHERE order_id = ?", [order_id]).fetchone()
        if found is None:
            return not_found(environ)
        return "200 OK", f"{PAGE}<p>Order web-{found[0]} is {found[1]}."

    def receive(self, environ):
        """Whatever is answered but 2xx, it comes again, for three days."""
        headers = {name[5:].replace("_", "-"): text for name, text in environ.items() if name.startswith("HTTP_")}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            event = self.webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):  # ValueError: a header or a body that is nonsense
            return "401 Unauthorized", ""
        with self.db:  # one transaction: what is seen has been done, and what failed has not been seen
            seen = self.db.execute("INSERT OR IGNORE INTO seen VALUES (?)", [headers["WEBHOOK-ID"]])
            if seen.rowcount and event["data"].get("subject", "").startswith("order#"):
                self.note(event["data"])
        return "204 No Content", ""

    def note(self, order):
        """It is known by the reference that this server gave it. `untrusted_metadata` may be anybody's words."""
        # Webhooks keep no order: what is older than what is known here does nothing.
        self.db.execute(
            "UPDATE orders SET status = ?, revision = ? WHERE 'web-' || number = ? AND revision <= ?",
            [order["status"], order["revision"], order["reference"], order["revision"]],
        )
        # By the status, not by the type: the refund of a part may be heard of before its payment.
        self.db.execute(
            "UPDATE orders SET shipments = 1"
            " WHERE 'web-' || number = ? AND shipments = 0 AND status IN ('paid', 'partially_refunded')",
            [order["reference"]],
        )


def home(_):
    return "200 OK", f'{PAGE}<form method="post" action="buy"><button>Buy</button></form>'


def not_found(_):
    return "404 Not Found", f"{PAGE}<p>There is nothing here."


if __name__ == "__main__":
    shop = Shop(*(os.environ[name] for name in ("SHOP", "SKU", "API", "KEY", "WEBHOOK_SECRET")))
    make_server("127.0.0.1", 8080, shop).serve_forever()
