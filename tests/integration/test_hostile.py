"""The hostile corpus against the handlers."""

import io
from dataclasses import replace
from operator import attrgetter
from typing import Any
from urllib.parse import unquote

import pytest

import checkout
import webhook
from payments import ledger, opening, telemetry
from sandbox.worker import Context
from tests.conftest import Aws, Provider
from tests.payloads import API_KEY, SECRET, answered, http_event

pytest.register_assert_rewrite("tests.hostile")
from tests import hostile
from tests.hostile import Answer, Case, Request, Target


@pytest.fixture
def cloud(emptied: Aws) -> Aws:
    return emptied


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    lines = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", lines)
    return lines


@pytest.mark.parametrize("case", [case for case in hostile.CASES if not case.not_to_handler], ids=attrgetter("name"))
def test_a_hostile_request(
    cloud: Aws,
    provider: Provider,
    log: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
) -> None:
    """The answer, the ledger and the alarm are as the corpus says, nothing of it is in a log line, Pocketsflow is asked
    for a session or left alone, and an order that is not paid can still be paid."""
    _, created = answered(_call(hostile.asking({"sku": case.sku})))
    at = Target(created["orderId"], case.sku, SECRET, API_KEY, "https://shop.example")
    for request in case.earlier(at):
        assert _call(request)["statusCode"] < 300
    if not case.catalogue:
        monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue={}))
    request = case.build(at)
    before, asked = cloud.items(), len(provider.received)
    capsys.readouterr()
    answer = _call(request)
    found = Answer(answer["statusCode"], answer["headers"], answer["body"].encode())
    hostile.judge(case, at, request, found, before, cloud.items())
    assert _status(at) == case.order
    assert len(provider.received) - asked == (case.status == 201)
    metrics = capsys.readouterr().out
    attention = {"NeedsAttention", *telemetry.ATTENTION.values()}
    assert any(f'"{name}":' in metrics for name in attention) == case.alarms
    printed = (log.getvalue() + metrics).lower()
    assert not [word for word in hostile.hidden(at, request) if word in printed]
    if case.order in ("pending", "mismatched"):
        genuine = hostile.signed(at, hostile.payment(at, "genuine"))
        assert answered(_call(genuine)) == (200, {"received": True, "outcome": "settled"})
        assert _status(at) == "paid"


def test_the_corpus_is_a_corpus() -> None:
    """Cases are many and have names of their own; each carries the canary, goes somewhere, and fails nobody."""
    names = [case.name for case in hostile.CASES]
    assert len(set(names)) == len(names)
    for route in (hostile.WEBHOOK, hostile.CHECKOUT, hostile.STATUS):
        assert len(route) >= 40
    assert len(names) >= 110
    at = Target("ord_test_01hzy7v3k4m5n6p7q8r9s0t1v2", "course", SECRET, API_KEY, "https://shop.example")
    for case in hostile.CASES:
        request = case.build(replace(at, sku=case.sku))
        assert hostile.CANARY in str(request)
        assert not (case.not_over_http and case.not_to_handler)
        assert case.status < 500
        assert case.effect == {} or case.status < 300


def _call(request: Request) -> Any:
    """A handler's answer to a request as API Gateway hands it over: the path decoded, one value for each header."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    sent = request.path.partition("?")[0]
    path = unquote(sent)
    event = {
        **http_event(f"{request.method} {sent}", request.body),
        "rawPath": path,
        "headers": headers,
        "pathParameters": {"orderId": path.removeprefix("/orders/")},
    }
    function = webhook if path == "/webhooks/pocketsflow" else checkout
    return function.handler(event, Context(60))


def _status(at: Target) -> str:
    state = ledger.state(at.order_id)
    assert state is not None
    return state.status
