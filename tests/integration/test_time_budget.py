"""Slow and failing DynamoDB, Secrets Manager and Pocketsflow against the time a function has.

By a clock of the tests' own: each try takes as long as its client lets it, and then succeeds or does not. Every
sequence of the fates that a test names is lived through. That the clients give up when they should is tried on sockets.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

import checkout
import webhook
from payments import aws, ledger, pocketsflow, secrets
from sandbox.worker import Context
from tests.conftest import Aws, holds, template
from tests.environments import operation
from tests.integration.conftest import open_order
from tests.payloads import answered, asking, delivery, new_key, paid, unknown

TIMEOUT = {function.handler: function.timeout for function in template().functions()}
Fates = tuple[str, ...]
"""Of each try: "slow" succeeds in the end, "lost" never arrives, "unheard" is done but nobody hears of it, "failed" is
answered 500."""


@dataclass
class Weather:
    """AWS during one invocation: what becomes of each try, and what time it is. Also the invocation's context."""

    timeout: int
    fates: Fates
    """Of the first tries; all others are slow."""
    met: list[str] = field(default_factory=list)
    now: float = 0

    def get_remaining_time_in_millis(self) -> int:
        return int((self.timeout - self.now) * 1000)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self, event_name: str, request: Any, **_: Any) -> Any:
        """What becomes of a try that has left; in place of moto's own hook."""
        fate = self.fates[len(self.met)] if len(self.met) < len(self.fates) else "slow"
        self.met.append(fate)
        self.sleep(aws.longest_try(operation(request).split()[0]))
        if fate == "lost":
            raise ReadTimeoutError(endpoint_url=request.url)
        botocore_stubber.enabled = True
        answer = botocore_stubber(event_name, request) if fate != "failed" else None
        botocore_stubber.enabled = False
        if fate == "unheard":
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer if fate == "slow" else AWSResponse(request.url, 500, {}, MockRawResponse(b"{}"))


@contextlib.contextmanager
def under(weather: Weather) -> Iterator[None]:
    """A cold function in this weather."""
    clients = [ledger._client, secrets._client]
    secrets._copies.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "time", weather)
        patch.setattr(botocore.endpoint, "time", weather)
        patch.setattr(botocore_stubber, "enabled", False)
        for client in clients:
            client.meta.events.register("before-send", weather.send)
        try:
            yield
        finally:
            for client in clients:
                client.meta.events.unregister("before-send", weather.send)


def every_weather(timeout: int, live: Callable[[Weather], None], bad: Fates) -> int:
    """Lives through every sequence of fates that the tries can meet; how many there are."""
    lived, ahead = 0, [Weather(timeout, ())]
    while ahead:
        weather = ahead.pop()
        live(weather)
        lived += 1
        for number in range(len(weather.fates), len(weather.met)):
            ahead += [Weather(timeout, (*weather.met[:number], fate)) for fate in bad]
    return lived


DELIVERIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "payment": lambda ours: paid(ours, f"of-{ours}"),
    "in other words": lambda ours: paid(ours, f"of-{ours}", amount=1),
    "unknown order": lambda ours: paid(unknown(ours), f"of-{ours}"),
    "large, unknown order": lambda ours: paid(unknown(ours), f"of-{ours}", padding="x" * 3_000),
    "other event": lambda ours: {"event": "review.created", "of": ours},
}


@pytest.mark.parametrize("kind", DELIVERIES)
def test_the_webhook_answers_in_time_in_every_weather(cloud: Aws, kind: str) -> None:
    """Within four seconds, whatever AWS does. 200 only with the body stored; one bad try loses nothing, slow as the
    others are; and whatever was left half done, the next delivery makes it good."""
    bad = ("lost", "unheard", "failed") if kind == "payment" else ("lost", "unheard")

    def live(weather: Weather) -> None:
        order_id = open_order()
        if kind == "in other words":
            webhook.handler(delivery(paid(order_id, f"of-{order_id}")), Context(4))
        content = DELIVERIES[kind](order_id)
        event = delivery(content, content["event"])
        with under(weather):
            status, told = answered(webhook.handler(event, weather))
        assert weather.now <= 4 - 0.1  # which the answer and the log may take
        assert status == 200 or told["code"] in ("webhook_secret_unreachable", "ledger_unavailable")
        stored = any(holds(item, json.dumps(content).encode()) for item in cloud.items().values())
        assert stored or status == 503
        if len(weather.met) - weather.met.count("slow") <= 1:
            assert stored
            assert status == 200 or kind.startswith("large")  # two writes later its time is over
        assert answered(webhook.handler(event, Context(4)))[0] == 200
        assert any(holds(item, json.dumps(content).encode()) for item in cloud.items().values())
        facts = [name for item in cloud.items().values() for name in item if name == f"pay#of-{order_id}"]
        assert len(facts) == (kind != "other event")
        cloud.clear()

    assert every_weather(TIMEOUT["webhook.handler"], live, bad) > 30


@pytest.mark.parametrize("bad", ["lost", "unheard", "failed"])
@pytest.mark.parametrize("pocketsflow_answers", [True, False])
@pytest.mark.parametrize("taking_over", [False, True], ids=["first try", "taking over a failed one"])
def test_a_checkout_answers_in_time_in_every_weather(
    cloud: Aws, monkeypatch: pytest.MonkeyPatch, taking_over: bool, pocketsflow_answers: bool, bad: str
) -> None:
    """Before Lambda cuts it off, with Pocketsflow taking all of its time too; 201 only with the session stored."""
    timeout, really = TIMEOUT["checkout.handler"], pocketsflow.create_session

    def live(weather: Weather) -> None:
        event = asking(new_key())
        if taking_over:
            monkeypatch.setattr(pocketsflow, "URL", "http://127.0.0.1:9")
            monkeypatch.setattr(pocketsflow, "create_session", really)
            assert answered(checkout.handler(event, Context(timeout)))[1]["code"] == "pocketsflow_unreachable"

        def create_session(*_: object) -> pocketsflow.Session:
            weather.sleep(pocketsflow.WAIT_SECONDS)
            if not pocketsflow_answers:
                raise pocketsflow.CheckoutFailed("unreachable")
            return pocketsflow.Session("cs_1", "https://pay.example")

        monkeypatch.setattr(pocketsflow, "create_session", create_session)
        with under(weather):
            status, told = answered(checkout.handler(event, weather))
        assert weather.now <= timeout - 0.1
        assert (told.get("code") or "created") in (
            *(["created", "in_progress"] if pocketsflow_answers else ["pocketsflow_unreachable", "in_progress"]),
            "api_key_unreachable",
            "ledger_unavailable",
        )
        if status == 201:
            assert cloud.order(told["orderId"])["session_id"] == {"S": "cs_1"}
        if "slow" in weather.met and len(set(weather.met)) == 1:
            assert status == (201 if pocketsflow_answers else 503)
        cloud.clear()

    assert every_weather(timeout, live, (bad,)) > 10


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """An address that takes every connection, reads, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def silent_tls() -> Iterator[str]:
    """The same, which leaves a TLS handshake unanswered."""
    with silent() as url:
        yield url.replace("http:", "https:")


@contextlib.contextmanager
def full() -> Iterator[str]:
    """An address that takes no connection, and does not say so."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def closed() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("outage", [silent, silent_tls, full, closed])
@pytest.mark.parametrize(
    ("service", "code"), [("dynamodb", "ledger_unavailable"), ("secretsmanager", "webhook_secret_unreachable")]
)
def test_the_limits_hold_on_a_socket(
    cloud: Aws, order_id: str, monkeypatch: pytest.MonkeyPatch, service: Any, code: str, outage: Any
) -> None:
    """The clients really give up when reckoned: a webhook whose AWS is silent or gone is answered within its four
    seconds, and what was answered 503 is not in the ledger."""
    before = cloud.items()
    with outage() as url:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{'DYNAMODB' if service == 'dynamodb' else 'SECRETS_MANAGER'}", url)
        monkeypatch.setattr(ledger if service == "dynamodb" else secrets, "_client", aws.client(service))
        started = time.monotonic()
        status, told = answered(webhook.handler(delivery(paid(order_id)), Context(4)))
        assert time.monotonic() - started < 4
    assert (status, told["code"]) == (503, code)
    assert cloud.items() == before
