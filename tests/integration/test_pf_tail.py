"""`pf tail` and `pf listen`: a look at the bus that leaves nothing behind, and webhooks that are sent on."""

import base64
import hmac
import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.client
import pytest
import requests
from botocore.exceptions import EndpointConnectionError
from werkzeug.wrappers import Request

from ops import tap
from ops.stack import Stack
from sandbox.servers import Server
from tests.conftest import Aws
from tests.payloads import SECRET, delivery, paid, refunded, subscribed
from tests.pf import answer, deployed, fails, run
from tests.world import ELSEWHERE, PRODUCTS, Context, World, world

MEMBERSHIP = PRODUCTS["membership"]["productId"]


@pytest.fixture
def stack(cloud: Aws) -> Stack:
    return deployed()


@pytest.fixture
def shop(cloud: Aws, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(cloud, monkeypatch, datetime.now(UTC)) as made:
        yield made


Watching = Callable[..., Any]


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    """Runs a command that looks at the bus; `act` happens once it looks, and a signal ends it when there is nothing
    more to see."""

    def watch(*words: str, act: Callable[[], object] = lambda: None, ended_by: int = signal.SIGINT) -> Any:
        call, opened = botocore.client.BaseClient._make_api_call, tap.Tap.open  # type: ignore[attr-defined]

        def calling(self: Any, name: str, arguments: Any) -> Any:
            answered = call(self, name, arguments)
            if name == "ReceiveMessage" and not answered.get("Messages"):
                os.kill(os.getpid(), ended_by)
            return answered

        def opening(self: tap.Tap) -> None:
            opened(self)
            act()

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
        try:
            with monkeypatch.context() as patch:
                patch.setattr(tap, "WAIT", 0)
                patch.setattr(tap.Tap, "open", opening)
                patch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
                return run(*words)
        finally:
            signal.signal(signal.SIGINT, before)

    return watch


def left(cloud: Aws) -> list[str]:
    """Rules and queues that are there."""
    rules = cloud.events.list_rules(EventBusName=cloud.bus, NamePrefix="pf-")["Rules"]
    urls = cloud.sqs.list_queues(QueueNamePrefix="pf-").get("QueueUrls", [])
    return [*(rule["Name"] for rule in rules), *(url.rpartition("/")[2] for url in urls)]


def buy(shop: World) -> str:
    order_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    return order_id


# --- The tap ----------------------------------------------------------------------------------------------------------


def test_the_queue_takes_events_of_its_rule_alone(cloud: Aws, stack: Stack) -> None:
    """The rule is of this stage's source; the policy lets EventBridge send for that very rule, and nobody else."""
    with tap.opened(stack, {"detail-type": ["order.paid"]}, datetime.now(UTC)) as opened:
        [rule] = cloud.events.list_rules(EventBusName=cloud.bus, NamePrefix="pf-tail-test-")["Rules"]
        assert json.loads(rule["EventPattern"]) == {"source": ["pocketsflow.test"], "detail-type": ["order.paid"]}
        url = cloud.sqs.get_queue_url(QueueName=opened.name)["QueueUrl"]
        attributes = cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        [statement] = json.loads(attributes["Policy"])["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": attributes["QueueArn"],
            "Condition": {"ArnEquals": {"aws:SourceArn": rule["Arn"]}},
        }
        assert attributes["MessageRetentionPeriod"] == "3600"
        assert len(opened.name) <= 64
    assert left(cloud) == []


@pytest.mark.parametrize(
    "operation", ["CreateQueue", "GetQueueAttributes", "PutRule", "SetQueueAttributes", "PutTargets"]
)
def test_what_was_made_is_removed_when_the_rest_cannot_be(
    cloud: Aws, stack: Stack, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Before the step and after it, when its answer is lost."""
    for after in (False, True):
        with monkeypatch.context() as patch:
            fails(patch, operation, answer("AccessDeniedException", operation=operation), times=1, after=after)
            result = run("tail")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"may not do {operation}" in result.stderr
        assert left(cloud) == []


def test_what_cannot_be_removed_is_named(cloud: Aws, watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 75: a look tomorrow removes it."""
    deployed()
    fails(monkeypatch, "DeleteRule", EndpointConnectionError(endpoint_url="x"))
    result = watching("tail")
    [rule, queue] = left(cloud)
    assert rule == queue
    assert (result.exit_code, rule in result.stderr) == (75, True)


def test_leftovers_of_dead_looks_are_removed(cloud: Aws, stack: Stack) -> None:
    """Those of this stage, and older than a day: neither another stage's, nor a look of this morning, nor a queue of
    somebody else's with a similar name."""
    now = datetime.now(UTC)
    dead = tap.Tap(stack, {}, now - timedelta(hours=25))
    alive = tap.Tap(stack, {}, now - timedelta(hours=23))
    half = tap.Tap(stack, {}, now - timedelta(days=9))
    for each in (dead, alive, half):
        each.open()
    cloud.sqs.delete_queue(QueueUrl=half._url)
    others = [f"pf-tail-test-2-{dead.name.removeprefix('pf-tail-test-')}", "pf-tail-test-mine", dead.name + "-x"]
    for name in others:
        cloud.sqs.create_queue(QueueName=name)
    assert tap.Tap(stack, {}, now).sweep(now) == sorted([dead.name, half.name])
    assert sorted(left(cloud)) == sorted([alive.name, alive.name, *others])


# --- pf tail ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_events_as_they_happen(cloud: Aws, shop: World, watching: Watching, number: int) -> None:
    """A line for each; whatever ends it, the exit code is 0 and nothing is left; the signals mean afterwards what they
    meant before."""
    bought: list[str] = []
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    result = watching("tail", act=lambda: bought.append(buy(shop)), ended_by=number)
    [line] = [line for line in result.stdout.splitlines() if "order.paid" in line]
    assert all(word in line for word in (*bought, "paid", "49.00 usd"))
    assert "buyer@" not in result.stdout
    assert (result.exit_code, left(cloud)) == (0, [])
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_only_what_is_asked_for(shop: World, watching: Watching) -> None:
    """By type and by order, which the rule sees to; as JSON Lines, with addresses masked or, if asked for, whole."""
    orders: list[str] = []

    def act() -> None:
        orders.append(buy(shop))
        order_id, session = shop.checkout()
        shop.pay(session, product_id=ELSEWHERE["productId"])
        shop.deliver()
        shop.flow()
        orders.append(order_id)

    result = watching("tail", "--type", "order.paid", "--json", act=act)
    [event] = [json.loads(line) for line in result.stdout.splitlines() if '"detail-type"' in line]
    assert (event["detail-type"], event["detail"]["order_id"]) == ("order.paid", orders[0])
    assert event["detail"]["customer_email"] == "b…@example.com"
    another, session = shop.checkout()

    def pay() -> None:
        buy(shop)
        shop.pay(session)
        shop.deliver()
        shop.flow()

    result = watching("tail", "--order", another, "--json", "--personal", act=pay)
    [event] = [json.loads(line) for line in result.stdout.splitlines() if '"detail-type"' in line]
    assert (event["detail"]["order_id"], event["detail"]["customer_email"]) == (another, "buyer@example.com")


def test_it_ends_by_itself_when_asked_to(cloud: Aws, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """--for seconds."""
    monkeypatch.setattr(tap, "WAIT", 0)
    result = run("tail", "--for", "0.01")
    assert (result.exit_code, result.stdout, left(cloud)) == (0, "", [])
    assert run("tail", "--for", "0").exit_code == 2
    assert run("tail", "--type", "order.payed").exit_code == 2


def test_hostile_events_command_no_terminal(cloud: Aws, stack: Stack, watching: Watching) -> None:
    """Whatever lies on the bus under the stack's source."""
    hostile = "\x1b[2J[red]x[/red]\n\u202e"
    details: list[Any] = [
        {"order_id": hostile, "payment": {"id": hostile, "amount": hostile}, "refund": 7},
        {},
        {"id": [], "subject": 7},
    ]

    def act() -> None:
        for detail in details:
            entry = {"Source": "pocketsflow.test", "DetailType": "[red]x", "Detail": json.dumps(detail)}
            cloud.events.put_events(Entries=[{**entry, "EventBusName": cloud.bus}])

    for words in (("tail",), ("tail", "--json"), ("listen",)):
        result = watching(*words, act=act)
        assert result.exit_code == 0, result.exception
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout
    assert len(watching("tail", act=act).stdout.splitlines()) == 3


# --- pf listen --------------------------------------------------------------------------------------------------------


class Shop:
    """A developer's server on this machine."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.answer = "200 OK"
        self.headers: list[tuple[str, str]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        request = Request(environ)
        self.received.append((request.get_data(), dict(request.headers)))
        start_response(self.answer, self.headers)
        return [b"."]


@pytest.fixture
def local() -> Iterator[tuple[Shop, str]]:
    served, server = Shop(), Server(0)
    server.start(served)
    yield served, f"{server.url}/hook"
    server.close()


def signed(shop: World, content: Any, name: str) -> bytes:
    """The body of a webhook that the stack received."""
    import webhook

    event = delivery(content, name)
    assert webhook.handler(event, Context(shop.clock, 4))["statusCode"] == 200
    shop.flow()
    return base64.b64decode(event["body"])


def test_webhooks_are_sent_on_as_they_came(shop: World, watching: Watching, local: tuple[Shop, str]) -> None:
    """The very bytes, signed with the stack's secret, under the event's name and with a fresh time: payments, large
    ones, refunds, subscriptions, payments of nobody, and what changes nothing."""
    served, url = local
    sent: list[tuple[bytes, str]] = []

    def act() -> None:
        def arrives(content: Any, name: str) -> None:
            sent.append((signed(shop, content, name), name))
            shop.clock.passes(seconds=1)

        order_id, _ = shop.checkout()
        product = PRODUCTS["course"]["productId"]
        arrives(paid(order_id, "pay_1", product), "order.completed")
        arrives(refunded(order_id, "pay_1"), "order.refunded")
        large, _ = shop.checkout()
        arrives(paid(large, "pay_2", product, note="x" * 3000), "order.completed")
        member, _ = shop.checkout("membership")
        arrives(subscribed(member, "sub_1", MEMBERSHIP), "customer.subscription.created")
        arrives(subscribed(None, "sub_1", MEMBERSHIP, cancelAtPeriodEnd=True), "customer.subscription.updated")
        arrives({"event": "review.created", "stars": 5}, "review.created")

    result = watching("listen", "--forward", url, act=act)
    assert result.exit_code == 0, result.exception
    assert {body for body, _ in served.received} == {body for body, _ in sent}
    names = dict(sent)
    for body, headers in served.received:
        assert headers["X-Pocketsflow-Event"] == names[body]
        assert headers["X-Pocketsflow-Signature"] == hmac.new(SECRET.encode(), body, "sha256").hexdigest()
        age = datetime.now(UTC).timestamp() - int(headers["X-Pocketsflow-Timestamp"]) / 1000
        assert 0 <= age < 60
    assert "order.completed → 200" in result.stdout
    for secret in (SECRET, "buyer@example.com"):
        assert secret not in result.stdout + result.stderr


def test_without_an_address_they_are_only_told(shop: World, watching: Watching) -> None:
    """Also those that no webhook brought."""

    def act() -> None:
        buy(shop)
        shop.buy_unheard()
        shop.later(minutes=10)

    shop.reconcile()  # what was sold before the first run is nobody's business
    result = watching("listen", act=act)
    told = [line for line in result.stdout.splitlines() if "  order.paid  " in line]
    assert [line.endswith("no webhook: the API told it") for line in told] == [False, True]
    result = watching("listen", "--json", act=lambda: buy(shop))
    [told] = [json.loads(line) for line in result.stdout.splitlines() if '"forwarded"' in line]
    assert (told["event"]["detail-type"], told["webhook"], told["forwarded"]) == ("order.paid", "order.completed", None)


@pytest.mark.parametrize(
    ("answering", "word"), [("500 Oh", "→ 500"), ("302 Found", "→ 302")], ids=["an error", "a redirect"]
)
def test_what_the_local_server_answers_is_told(
    shop: World, watching: Watching, local: tuple[Shop, str], answering: str, word: str
) -> None:
    """And nobody is led anywhere else."""
    served, url = local
    served.answer, served.headers = answering, [("Location", url + "/elsewhere")]
    result = watching("listen", "--forward", url, act=lambda: buy(shop))
    assert word in result.stdout
    assert len(served.received) == 1


def test_a_local_server_that_is_not_there_or_slow(
    shop: World, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told, and the next webhook is tried all the same. No proxy of the environment is asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")
    result = watching("listen", "--forward", "http://127.0.0.1:9", act=lambda: (buy(shop), buy(shop)))
    assert result.stdout.count("→ not delivered (ConnectionError)") == 2

    def wait(*_: Any, timeout: float, **__: Any) -> Any:
        assert timeout == 5
        raise requests.ReadTimeout

    monkeypatch.setattr(requests.Session, "post", wait)
    assert (
        "→ no answer within 5 s" in watching("listen", "--forward", "http://127.0.0.1:9", act=lambda: buy(shop)).stdout
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/", "https://127.0.0.1.shop.example/", "http://127.0.0.1@shop.example/",
        "http://192.0.2.1/", "localhost:8001", "ftp://127.0.0.1/", "http://localhost:0/", "http://localhost:99999/",
        "http://user@localhost/",
        "http://0.0.0.0/", "http://[::ffff:127.0.0.1]/", "http://localhost\\@shop.example/", "http://localhost/\n", "",
        "http://127.1/", "http://2130706433/",
    ],
)  # fmt: skip
def test_webhooks_go_to_this_machine_alone(url: str) -> None:
    """Any other address is a wrong command, before anything is asked of AWS."""
    result = run("listen", "--forward", url)
    assert (result.exit_code, "an address of this machine" in result.stderr) == (2, True)


def test_a_live_stack_is_not_listened_to(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buyers' data does not leave it; nothing is made."""
    deployed()
    monkeypatch.setattr(Stack, "mode", "live")
    result = run("listen")
    assert (result.exit_code, "is a live stack" in result.stderr, left(cloud)) == (1, True, [])


def test_without_a_secret_nothing_can_be_signed(cloud: Aws, stack: Stack) -> None:
    """Is said at once."""
    cloud.put_secret("WebhookSecrets", "later")
    result = run("listen", "--forward", "http://localhost:1")
    assert (result.exit_code, "no webhook secret" in result.stderr, left(cloud)) == (1, True, [])
