"""Slow and failing DynamoDB, Secrets Manager, SQS and Pocketsflow against the time a function has.

By a clock of the tests' own: each try takes as long as its client lets it, and then succeeds or does not. Every
sequence of the fates that a test names is lived through. That the clients give up when they should is tried on sockets.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import botocore.endpoint
import botocore.retryhandler
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

import checkout
import server
import webhook
from payments import aws, challenge, outbound, pocketsflow, secrets, table
from payments.warm_up import warm_up
from sandbox import challenge as challenge_stand_in
from sandbox.worker import Context
from tests.conftest import Aws, holds, template, use_dynamodb
from tests.environments import operation
from tests.integration.conftest import open_order
from tests.integration.ledger_model import LEDGER, down
from tests.payloads import answered, asking, create_key, delivery, http_event, new_key, paid, subscribed, unknown

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
    asked: list[str] = field(default_factory=list)
    """Services, for each try."""
    now: float = 0

    def of(self, service: str) -> list[str]:
        """What became of the tries of a service."""
        return [fate for asked, fate in zip(self.asked, self.met, strict=True) if asked == service]

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return int((self.timeout - self.now) * 1000)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self, event_name: str, request: Any, **_: Any) -> Any:
        """What becomes of a try that has left; in place of moto's own hook."""
        fate = self.fates[len(self.met)] if len(self.met) < len(self.fates) else "slow"
        service = operation(request).split()[0]
        self.met.append(fate)
        self.asked.append(service)
        self.sleep(aws.longest_try(service))
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
    clients: list[Any] = [table.client, secrets._client, webhook._queue]
    secrets._copies.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "time", weather)
        patch.setattr(botocore.endpoint, "time", weather)
        patch.setattr(botocore.retryhandler.random, "random", lambda: 1.0)  # its longest pause
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
    "change of a subscription": lambda ours: {
        **subscribed(ours, f"of-{ours}", status="past_due"),
        "event": "customer.subscription.updated",
    },
    "other event": lambda ours: {"event": "review.created", "of": ours},
}


@pytest.mark.parametrize("kind", DELIVERIES)
def test_the_webhook_answers_in_time_in_every_weather(cloud: Aws, kind: str) -> None:
    """Within four seconds, whatever AWS does. 200 only with the body stored, in the ledger or in the queue; 500 only
    when all tries of the secret were bad, or all of the queue, behind a ledger that did not take it, so that one bad
    try loses nothing, slow as the others are; and whatever was left half done, the queue or the next delivery makes it
    good."""
    bad = ("lost", "unheard", "failed") if kind == "payment" else ("lost", "unheard")

    def live(weather: Weather) -> None:
        order_id = open_order()
        if kind == "in other words":
            webhook.handler(delivery(paid(order_id, f"of-{order_id}")), Context(4))
        content = DELIVERIES[kind](order_id)
        event, body = delivery(content, content["event"]), json.dumps(content).encode()
        with under(weather):
            status, told = answered(webhook.handler(event, weather))
        assert weather.now <= 4 - 0.1  # which the answer and the log may take
        secret, ledger, queue = (weather.of(service) for service in ("secretsmanager", "dynamodb", "sqs"))
        parked = cloud.parked()
        stored = any(holds(item, body) for item in cloud.items().values())
        assert {*parked} <= {body}
        match status, told.get("code") or told["outcome"]:
            case 500, "webhook_secret_unreachable":
                assert "slow" not in secret
                assert not stored
                assert (ledger, queue) == ([], [])
            case 500, "ledger_unavailable":
                assert ledger
                assert queue
                assert "slow" not in queue
            case 200, "parked":
                assert parked
                assert queue[-1] == "slow"
            case 200, _:
                assert stored
                assert queue == []
            case unexpected:
                pytest.fail(f"answered {unexpected}")
        assert len(ledger) <= 4
        if len(weather.met) - weather.met.count("slow") <= 1:
            assert stored or parked
            assert status == 200 or kind.startswith("large")  # two writes and the queue later its time is over
        assert cloud.unpark(webhook.handler, Context(4)) == []
        if status == 200:
            assert any(holds(item, body) for item in cloud.items().values())
        assert answered(webhook.handler(event, Context(4)))[0] == 200
        assert any(holds(item, body) for item in cloud.items().values())
        facts = [name for item in cloud.items().values() for name in item if name == f"pay#of-{order_id}"]
        assert len(facts) == (kind not in ("other event", "change of a subscription"))
        assert (f"subscription#of-{order_id}" in cloud.items()) is (kind == "change of a subscription")
        cloud.clear()

    assert every_weather(TIMEOUT["webhook.handler"], live, bad) > 30


@pytest.mark.parametrize(
    ("fates", "asked"),
    [
        (("slow", "slow"), ["secretsmanager", "dynamodb"]),
        *(((bad,), ["secretsmanager", "dynamodb"]) for bad in ("lost", "failed")),
        *((("slow", bad), ["secretsmanager", "dynamodb"]) for bad in ("lost", "unheard")),
    ],
)
def test_the_init_phase_leaves_time_for_the_webhook(
    cloud: Aws, monkeypatch: pytest.MonkeyPatch, fates: Fates, asked: list[str]
) -> None:
    """The secret once and the ledger once, whatever becomes of it; the webhook that waits for both settles within the
    five seconds that Pocketsflow does."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
    order_id, weather = open_order(), Weather(TIMEOUT["webhook.handler"], fates)
    with under(weather):
        warm_up(webhook.WEBHOOK_SECRETS_ARN, datetime.now(UTC))
        assert weather.asked == asked
        _, told = answered(webhook.handler(delivery(paid(order_id)), Context(4)))
    assert told["outcome"] == "settled"
    assert weather.now <= 5 - 1  # for importing, and for the way


@pytest.mark.parametrize("fate", ["lost", "unheard", "failed"])
def test_the_queue_s_messages_are_answered_in_time(cloud: Aws, fate: str) -> None:
    """Five at once, with a ledger that does not come back: each is reported while the function still can, none is
    parked again, and all settle when they come again."""
    orders = [open_order() for _ in range(5)]
    with down(LEDGER):
        for order_id in orders:
            assert answered(webhook.handler(delivery(paid(order_id, f"of-{order_id}")), Context(4)))[0] == 200
    messages = cloud.parked_messages()
    weather = Weather(TIMEOUT["webhook.handler"], (fate,) * 20)
    with under(weather):
        answer = webhook.handler({"Records": messages}, weather)
    assert weather.now <= 4 - 0.1
    assert answer == {"batchItemFailures": [{"itemIdentifier": message["messageId"]} for message in messages]}
    assert weather.of("sqs") == []
    assert cloud.parked_messages() == messages
    assert cloud.unpark(webhook.handler, Context(4)) == []
    for order_id in orders:
        assert f"pay#of-{order_id}" in cloud.order(order_id)


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
                raise pocketsflow.RequestFailed("unreachable")
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


@pytest.mark.parametrize("bad", ["lost", "unheard", "failed"])
@pytest.mark.parametrize("route", ["POST /checkout", "POST /server/checkout"])
def test_a_checkout_with_all_that_can_be_switched_on_answers_in_time(
    cloud: Aws, monkeypatch: pytest.MonkeyPatch, route: str, bad: str
) -> None:
    """A limit, a challenge that takes all of its time, a key, a reference: 201 only with the session stored; where the
    time would not suffice for Pocketsflow and for writing down what it answers, it is not even asked."""
    function, token = (checkout, "") if route == "POST /checkout" else (server, f"pfs_test_{'k' * 43}")
    timeout, asked = TIMEOUT[f"{function.__name__}.handler"], []
    cloud.put_secret("WebhookSecrets", challenge_stand_in.SECRET)
    monkeypatch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 30)
    monkeypatch.setattr(challenge, "URL", "https://verifier.example/")
    monkeypatch.setattr(challenge, "SECRET_ARN", webhook.WEBHOOK_SECRETS_ARN)

    def live(weather: Weather) -> None:
        if token:
            create_key(cloud, token)

        def verify(*_: object, **__: object) -> outbound.Answer:
            weather.sleep(challenge.SECONDS)
            return outbound.Answer(200, {}, b'{"success": true}')

        def create_session(*_: object) -> pocketsflow.Session:
            asked.append(weather.now)
            weather.sleep(pocketsflow.WAIT_SECONDS)
            return pocketsflow.Session("cs_1", "https://pay.example")

        monkeypatch.setattr(outbound, "send", verify)
        monkeypatch.setattr(pocketsflow, "create_session", create_session)
        more = {"reference": "1043"} if token else {"challengeToken": "solved-1"}
        body = json.dumps({"sku": "course", **more}).encode()
        headers = {"content_type": "application/json", "authorization": f"Bearer {token}"}
        with under(weather):
            status, told = answered(function.handler(http_event(route, body, **headers), weather))
        assert weather.now <= timeout - 0.1
        if status == 201:
            assert cloud.order(told["orderId"])["session_id"] == {"S": "cs_1"}
        else:
            assert told["code"] in {
                "api_key_unreachable", "ledger_unavailable", "challenge_unreachable", "in_progress",
            }  # fmt: skip
        cloud.clear()

    assert every_weather(timeout, live, (bad,)) > 10
    assert asked
    assert max(asked) + pocketsflow.WAIT_SECONDS + aws.longest_try("dynamodb") < timeout


@pytest.mark.parametrize("bad", ["lost", "unheard", "failed"])
def test_a_cart_answers_in_time(cloud: Aws, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    """With Pocketsflow taking all of its time for the product and for the session: neither is asked for where the time
    would not suffice to hear it and to write it down, and 201 comes only with both in the ledger."""
    timeout, token = TIMEOUT["server.handler"], f"pfs_test_{'k' * 43}"
    body = json.dumps({"name": "Cart", "reference": "1043", "total": {"amount": "60.00", "currency": "usd"}}).encode()
    event = http_event("POST /server/checkout", body, content_type="application/json", authorization=f"Bearer {token}")
    last: list[float] = []

    def live(weather: Weather) -> None:
        create_key(cloud, token)

        def create_product(*_: object) -> str:
            weather.sleep(pocketsflow.CART_SECONDS)
            return "65a1b2c3d4e5f6a7b8c9d0ee"

        def create_session(*_: object) -> pocketsflow.Session:
            last.append(weather.now)
            weather.sleep(pocketsflow.CART_SECONDS)
            return pocketsflow.Session("cs_1", "https://pay.example")

        monkeypatch.setattr(pocketsflow, "create_product", create_product)
        monkeypatch.setattr(pocketsflow, "create_session", create_session)
        with under(weather):
            status, told = answered(server.handler(event, weather))
        assert weather.now <= timeout - 0.1
        if status == 201:
            order = cloud.order(told["orderId"])
            assert (order["session_id"], order["product_id"]) == ({"S": "cs_1"}, {"S": "65a1b2c3d4e5f6a7b8c9d0ee"})
        else:
            assert told["code"] in {"api_key_unreachable", "ledger_unavailable", "in_progress"}
        if "slow" in weather.met and len(set(weather.met)) == 1:
            assert status == 201
        cloud.clear()

    assert every_weather(timeout, live, (bad,)) >= 10
    assert max(last) + pocketsflow.CART_SECONDS + aws.longest_try("dynamodb") < timeout


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
    ("services", "status", "says"),
    [
        (("DYNAMODB",), 200, "parked"),
        (("DYNAMODB", "SQS"), 500, "ledger_unavailable"),
        (("SECRETS_MANAGER",), 500, "webhook_secret_unreachable"),
        (("SQS",), 200, "settled"),
    ],
    ids=["ledger", "ledger and queue", "secret", "queue"],
)
def test_the_limits_hold_on_a_socket(
    cloud: Aws,
    order_id: str,
    monkeypatch: pytest.MonkeyPatch,
    services: tuple[str, ...],
    status: int,
    says: str,
    outage: Any,
) -> None:
    """The clients really give up when reckoned: a webhook whose AWS is silent or gone is answered within its four
    seconds; what was parked is in the queue alone, and what was answered 500 is nowhere."""
    before = cloud.items()
    with outage() as url:
        for service in services:
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        if "DYNAMODB" in services:
            use_dynamodb(monkeypatch, aws.client("dynamodb"))
        if "SECRETS_MANAGER" in services:
            monkeypatch.setattr(secrets, "_client", aws.client("secretsmanager"))
        if "SQS" in services:
            monkeypatch.setattr(webhook, "_queue", aws.client("sqs"))
        started = time.monotonic()
        found, told = answered(webhook.handler(delivery(paid(order_id)), Context(4)))
        assert time.monotonic() - started < 4
    assert (found, told.get("code") or told["outcome"]) == (status, says)
    assert (cloud.items() == before) is (says != "settled")
    assert cloud.parked() == ([json.dumps(paid(order_id)).encode()] if says == "parked" else [])
