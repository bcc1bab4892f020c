"""Whatever strangers write, a line of the log is a line of ours: as many as without it, and none of them theirs."""

import io
import json
from typing import Any

import pytest

import checkout
import server
import webhook
from payments import telemetry
from sandbox.worker import Context
from tests.conftest import Aws, Provider
from tests.payloads import asking, create_key, delivery, http_event, paid, refunded, subscribed
from tests.world import PRODUCTS, World

FORGED = '{"level":"ERROR","message":"forged","order_id":"ord_test_00000000000000000000000000"}'
HOSTILE = [
    f"x\n{FORGED}\n",
    f"x\r\n{FORGED}\r\n",
    f"x\u2028{FORGED}\u2029",
    f"x\x85{FORGED}",
    f'x","message":"forged","y":"{FORGED}',
    f"x\\n{FORGED}",
    f'x"}}\n{FORGED}',
    "x\x1b[2J\x1b[31mforged\x1b[0m",
    "x\x9b31mforged",
    "x\x00forged",
    "x\u202egnorwforged",
    "x%0aforged%1b[0m",
    "x\ud800forged",
    "${jndi:ldap://forged.example/x} {{forged}} %s %(message)s {0.__class__}",
]
TOKEN = "pfs_test_" + "k" * 43
COURSE = PRODUCTS["course"]["productId"]


@pytest.fixture
def cloud(emptied: Aws) -> Aws:
    return emptied


class Log:
    """What the functions have printed since the last look."""

    def __init__(self, stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
        self._stream, self._capsys = stream, capsys

    def look(self) -> list[tuple[str, str]]:
        """Level and message of each line, metrics left out. Fails for what is no line of ours."""
        text, printed = self._stream.getvalue(), self._capsys.readouterr()
        self._stream.truncate(0)
        self._stream.seek(0)
        for written in (text, printed.out, printed.err):
            assert "forged" not in written
            assert all(character == "\n" or character.isprintable() for character in written)
        assert printed.err == ""
        for line in printed.out.splitlines():
            assert "_aws" in json.loads(line)
        lines = [json.loads(line, object_pairs_hook=_once) for line in text.splitlines()]
        assert text.count("\n") == len(lines)
        return [(line["level"], line["message"]) for line in lines]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Log:
    stream = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", stream)
    capsys.readouterr()
    return Log(stream, capsys)


def everywhere(event: dict[str, Any], text: str, *names: str) -> dict[str, Any]:
    """The request with the text in each of these headers, in one of its own, and where the gateway says who asks."""
    headers = event["headers"] | dict.fromkeys(names, text) | {"user-agent": text, "referer": text, text: text}
    context = event["requestContext"] | {"http": {"sourceIp": text, "userAgent": text}}
    return {**event, "headers": headers, "requestContext": context}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_webhook_has_one_line(cloud: Aws, order_id: str, log: Log, text: str) -> None:
    """Signed or not, whichever field is hostile, name and time of the event included."""
    event, sent_at, signature = (f"x-pocketsflow-{name}" for name in ("event", "timestamp", "signature"))
    body = {**paid(order_id), "webhookId": text, "currency": text, "customer": {text: text}}
    for content, name, hostile, messages in [
        (body, "order.completed", [signature], {"webhook_refused"}),
        (body, "order.completed", [event], {"event_misfit"}),
        ({"a": text}, "order.completed", [event, sent_at], {"event_kept", "event_misfit"}),
        (text.encode("utf-8", "surrogatepass"), text, [], {"event_unreadable"}),
        ({**body, "event": text}, text, [], {"event_kept", "event_misfit"}),
        (body, "order.completed", [sent_at], {"settled"}),
        (paid(order_id, text), "order.completed", [], {"second_payment"}),
        (paid(order_id, f"{text}2", product=text), "order.completed", [], {"mismatched"}),
        (paid(text, "sale2"), "order.completed", [], {"unmatched"}),
        (refunded(order_id, text, text), "order.refunded", [], {"recorded"}),
        (refunded(order_id, status=text), "order.refunded", [], {"recorded", "event_misfit"}),
        (subscribed(None, text), "customer.subscription.updated", [], {"subscription_changed"}),
    ]:
        webhook.handler(everywhere(delivery(content, name), text, *hostile), Context(9))
        [(_, message)] = log.look()
        assert message in messages


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_request_of_a_browser_or_a_server_has_one_line(cloud: Aws, provider: Provider, log: Log, text: str) -> None:
    """In paths, keys, tokens, origins and fields; and where Pocketsflow's answer is hostile."""
    create_key(cloud, TOKEN)
    key = {"authorization": f"Bearer {TOKEN}"}
    noted = {"sku": "course", "metadata": {"note": text}}
    for route, content, hostile, headers in [
        ("POST /checkout", noted, ["origin", "cookie"], {}),
        ("POST /checkout", noted, ["idempotency-key"], {}),
        ("POST /checkout", noted, ["content-type"], {}),
        ("POST /checkout", {"sku": text, text: text, "successUrl": text, "customerEmail": text}, [], {}),
        ("POST /server/checkout", noted, ["authorization"], {}),
        ("POST /server/checkout", {**noted, "reference": text}, [], key),
        (f"PUT /server/orders/{text}", {"sku": "course"}, [], key),
    ]:
        event = http_event(route, json.dumps(content).encode(), **{"content_type": "application/json", **headers})
        (server if "server" in route else checkout).handler(everywhere(event, text, *hostile), Context(9))
        [(level, message)] = log.look()
        assert (level, message) in (("INFO", "checkout_refused"), ("INFO", "checkout_created"))
    checkout.handler(everywhere(http_event(f"GET /orders/{text}"), text), Context(9))
    assert log.look() == []  # an order that is not there is nothing to tell
    for status, said in [(201, {"id": "cs_1", "url": f"http://{text}"}), (400, {"message": text}), (500, text)]:
        provider.status, provider.body = status, said
        checkout.handler(asking(), Context(9))
        [(level, message)] = log.look()
        assert (level, message.partition("_")[0]) == ("ERROR", "pocketsflow")


def test_a_session_s_name_is_no_line(cloud: Aws, provider: Provider, log: Log) -> None:
    """It is logged as Pocketsflow says it, as a field of a line of ours."""
    provider.body = {"id": '","level":"ERROR","message":"x"}\\n{"', "url": "https://shop.pocketsflow.com/"}
    checkout.handler(asking(), Context(9))
    assert log.look() == [("INFO", "checkout_created")]


def test_what_runs_by_itself_has_its_own_lines(shop: World, log: Log) -> None:
    """The relay's lines for hostile facts, and reconciliation's for hostile rows."""
    for text in HOSTILE:
        order_id, _ = shop.checkout()
        for content, name in [
            (paid(order_id, f"{text} of its own", product=COURSE), "order.completed"),
            ({"event": text}, text),
            (subscribed(None, text), "customer.subscription.updated"),
        ]:
            webhook.handler(delivery(content, name), Context(9))
    log.look()
    shop.flow()
    assert {*log.look()} == {("INFO", "published")}
    rows = [{"_id": text, "productId": COURSE, "grossAmount": 1, "metadata": {text: text}} for text in HOSTILE]
    shop.answers["GET /orders"] = lambda _: (200, {"orders": [*rows, *HOSTILE, {HOSTILE[0]: HOSTILE[1]}]})
    shop.clock.passes(minutes=20)
    shop.reconcile()
    ours = {"reconciled", "reconcile_partial", "unreadable_row", "payment.unmatched", "published", "ledger.drift"}
    assert {message for _, message in log.look()} <= ours
