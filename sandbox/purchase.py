"""One purchase, over HTTP, told line by line."""

import json
import time
from typing import Any

import requests

from sandbox.system import Addresses

_TIMEOUT = 10
_BUS_SECONDS = 10.0
_ACTED_ON = ("order_id", "revision", "sku", "product_id", "customer_email", "payment")


class PurchaseFailed(Exception):
    """A step did not do what it should; the message says which."""


def buy(at: Addresses, item: dict[str, str]) -> None:
    """Buys `item`, {"sku": …} or {"productId": …}: request, session, payment, signed delivery, settlement, status,
    event. Raises PurchaseFailed."""
    started = time.monotonic()
    with requests.Session() as http:
        http.trust_env = False
        _say("1 The shop's page asks for a checkout", f"POST {at.api}/checkout", json.dumps(item))
        checkout = _expect(http.post(f"{at.api}/checkout", json=item, timeout=_TIMEOUT), 201)
        order_id, session_id = checkout["orderId"], checkout["sessionId"]
        _say("2 The order is pending in the ledger, Pocketsflow has made a session", order_id, checkout["url"])

        paid = _expect(http.post(f"{at.pocketsflow}/_sandbox/sessions/{session_id}/pay", timeout=_TIMEOUT), 200)
        _say("3 The buyer pays there", f"Pocketsflow's order {paid['orderId']}")

        deliveries = _expect(http.get(f"{at.pocketsflow}/_sandbox/deliveries", timeout=_TIMEOUT), 200)
        delivery = next(entry for entry in deliveries if entry["orderId"] == paid["orderId"])
        _say(
            "4 Pocketsflow delivers its webhook, once, signed over the raw body",
            f"POST {delivery['url']}",
            f"{delivery['event']}, {len(delivery['body'])} bytes, signature {delivery['signature'][:16]}…",
            f"{delivery['status']} {json.dumps(delivery['response'])} in {delivery['durationMs']} ms",
        )
        if delivery["status"] != 200 or delivery["response"].get("outcome") != "settled":
            raise PurchaseFailed(f"the webhook was answered {delivery['status']} {delivery['response']}")

        record = _expect(http.get(f"{at.api}/_sandbox/orders/{order_id}", timeout=_TIMEOUT), 200)
        _say("5 One conditional write has settled the order", f"revision {record['rev']}: {record.get('payments')}")
        if record.get("payments") != [f"pay#{paid['orderId']}"]:
            raise PurchaseFailed("the ledger does not hold this payment")

        status = _expect(http.get(f"{at.api}/orders/{order_id}", timeout=_TIMEOUT), 200)
        _say("6 The thank-you page asks", f"GET {at.api}/orders/{order_id}", json.dumps(status))
        if status["status"] != "paid":
            raise PurchaseFailed(f"the order is {status['status']}, not paid")

        event = _event(http, f"{at.api}/_sandbox/bus", order_id)
        detail = event["detail"]
        _say(
            "7 The ledger's stream has become an event on the bus, for every connector to act on",
            f"{event['detail-type']} from {event['source']}",
            f"id {detail['id']}",
            json.dumps({name: detail.get(name) for name in _ACTED_ON}),
        )
    print(f"\nPaid and settled, and told to the bus, in {time.monotonic() - started:.2f} s.", flush=True)


def _event(http: requests.Session, bus: str, order_id: str) -> Any:
    """The order's `order.paid`, which is on its way."""
    until = time.monotonic() + _BUS_SECONDS
    while time.monotonic() < until:
        for event in _expect(http.get(bus, params={"order": order_id}, timeout=_TIMEOUT), 200):
            if event["detail-type"] == "order.paid":
                return event
        time.sleep(0.05)
    raise PurchaseFailed(f"no order.paid came on the bus within {_BUS_SECONDS:g} seconds")


def _expect(response: requests.Response, status: int) -> Any:
    if response.status_code != status:
        raise PurchaseFailed(f"{response.request.method} {response.url} gave {response.status_code} {response.text}")
    return response.json()


def _say(step: str, *details: str) -> None:
    print("\n".join([step, *(f"    {detail}" for detail in details)]), flush=True)
