"""The shop's own server as tests have it: the example, and Standard Webhooks' library, which verifies each request."""

import base64
import io
import json
from datetime import datetime
from typing import Any

from standardwebhooks import Webhook
from werkzeug.test import Client
from werkzeug.wrappers import Request

from sandbox.platforms.storefront import SECRET, Platform

OTHER_SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
HISTORY = {
    1: ("order.paid", "paid"),
    2: ("order.partially_refunded", "partially_refunded"),
    3: ("order.disputed", "disputed"),
    4: ("order.dispute_closed", "partially_refunded"),
    5: ("order.refunded", "refunded"),
}
"""Of one order: events by revision, and the status that each leaves."""


class Shop(Platform):
    """Has so many orders waiting to be paid: web-1, web-2 and so on."""

    def __init__(self, orders: int = 1) -> None:
        super().__init__("https://storefront.example")
        self.secrets = [SECRET]
        """One by one: with each the library must find a signature."""
        self.took: list[tuple[str, dict[str, Any]]] = []
        """Ids of webhooks, and what they said."""
        self.shop.db.executemany(
            "INSERT INTO orders (order_id) VALUES (?)", [[f"ord_{each}"] for each in range(orders)]
        )
        self.shop.db.commit()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        body, headers = request.get_data(), dict(request.headers)
        for secret in self.secrets:
            self.took.append((headers["Webhook-Id"], Webhook(secret).verify(body, headers)))
        environ["wsgi.input"] = io.BytesIO(body)
        return super().__call__(environ, start_response)

    def close(self) -> None:
        self.shop.db.close()

    def order(self, number: int = 1) -> tuple[str, int]:
        """Its status, and how often it was shipped."""
        order = self.state()["orders"][number - 1]
        return order["status"], order["shipments"]

    # --- From somebody who is not the connector -----------------------------------------------------------------------

    def told(self, detail: Any, identity: str, at: datetime, *, kind: str = "order.paid", secret: str = SECRET) -> int:
        """Well signed, by the library."""
        body = json.dumps({"type": kind, "data": detail}).encode()
        return self.posted(body, signed(body, identity, at, secret))

    def posted(self, body: bytes, headers: dict[str, str]) -> int:
        return Client(self.shop).post("/webhooks", data=body, headers=headers).status_code


def signed(body: bytes, identity: str, at: datetime, secret: str = SECRET) -> dict[str, str]:
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, at, body.decode()),
    }


def of_order(revision: int, number: int = 1) -> dict[str, Any]:
    """What an event of HISTORY says, in place of its example's words."""
    _, status = HISTORY[revision]
    of = {"reference": f"web-{number}", "subject": f"order#ord_{number}", "order_id": f"ord_{number}"}
    return {**of, "id": f"{number}-{revision}", "revision": revision, "status": status}
