"""The connector to the shop's own server, held against Standard Webhooks' library and the example of such a server."""

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import standardwebhooks.webhooks
from standardwebhooks import Webhook

from connectors import deliveries, storefront
from connectors.consumer import Event
from payments import secrets
from sandbox.platforms.storefront import SECRET
from sandbox.template import ROOT
from tests.conftest import CONNECTORS, template
from tests.connected import Fault, Line, shuffled
from tests.integration.outages import Told
from tests.storefront import HISTORY, OTHER_SECRET, Shop, of_order
from tests.world import Context

TYPES = dict(template(**CONNECTORS).nested())["StorefrontStack"].parameters()["DetailTypes"].split(",")
PAGE = (ROOT / "docs/connectors/storefront.md").read_text()


@pytest.fixture
def server() -> Iterator[Shop]:
    with contextlib.closing(Shop(orders=3)) as made:
        yield made


@pytest.fixture
def line(connect: Callable[..., Line], server: Shop, monkeypatch: pytest.MonkeyPatch) -> Line:
    made = connect(storefront, server)
    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", made.clock.datetime)
    return made


def tell(line: Line, revision: int, number: int = 1) -> None:
    line.publish(HISTORY[revision][0], **of_order(revision, number))


def checked(line: Line) -> dict[str, Any]:
    """What `pf connector test` is answered."""
    return storefront.handler({"test": "order.paid"}, Context(line.clock, 120))


def put_secret(line: Line, value: str) -> None:
    line._stack.secrets.put_secret_value(SecretId=storefront.SECRET_ARN, SecretString=value)
    secrets._copies.clear()


def test_every_event_in_the_form_of_standard_webhooks(line: Line, server: Shop) -> None:
    """The library verifies it. The body has the type, the time of the event, and its detail as the bus had it; the id
    is the event's. The account's other sales, with their buyers' addresses, and what is the operator's are not sent."""
    told = {kind: line.publish(kind) for kind in TYPES}
    for kind in ("payment.foreign", "webhook.other", "ledger.drift"):
        line.publish(kind)
    line.work()
    assert len(told) == 15
    assert [identity for identity, _ in server.took] == [detail["id"] for detail in told.values()]
    assert [content for _, content in server.took] == [
        {"type": kind, "timestamp": detail["occurred_at"], "data": detail} for kind, detail in told.items()
    ]


def test_each_attempt_has_its_own_time_and_the_event_s_id(line: Line, server: Shop) -> None:
    """Half a day later the library would refuse the first attempt's time; the id stays, so that it is done once."""
    line.faults = [Fault(lost="answer"), Fault(lost="answer"), Fault(500), Fault(500), Fault(500)]
    tell(line, 1)
    line.work(hours=24)
    assert [identity for identity, _ in server.took] == ["1-1"] * 3
    assert server.order() == ("paid", 1)


def test_every_secret_signs(line: Line, server: Shop) -> None:
    """During a rotation a server with the new one and a server with the old one verify the same webhook, with or
    without base64's padding; what is no secret beside them signs nothing."""
    put_secret(line, f"whsec_{'a' * 24} {OTHER_SECRET.rstrip('=')}\nwhsec_{'!' * 40} {SECRET} shpat_{'x' * 40}")
    server.secrets = [OTHER_SECRET, SECRET]
    tell(line, 1)
    line.work()
    assert len(server.took) == 2
    assert checked(line) == {"outcome": "delivered", "status": 204, "signatures": 2}


def test_nothing_leaves_unsigned(line: Line, server: Shop) -> None:
    """Without a usable secret nothing is sent; what waits is sent when a person has put one in."""
    tell(line, 1)
    for value in (" ", "whsec_", f"whsec_{'A' * 28}", f"whsec_{'!' * 40}", OTHER_SECRET.removeprefix("whsec_")):
        put_secret(line, value)
        line.work(hours=1)
        assert checked(line) == {"outcome": "failed", "reason": "secret_missing"}
    assert line.items()["event#1-1"]["failure"] == "secret_missing"
    assert line.requests == []
    put_secret(line, SECRET)
    line.work(hours=6)
    assert server.order() == ("paid", 1)


FAULTS = {
    "none": None,
    "429": Fault(429, {"Retry-After": "60"}),
    "500": Fault(500),
    "redirect": Fault(308, {"Location": "https://elsewhere.example/webhooks"}),
    "401": Fault(401),
    "404": Fault(404),
    "no answer": Fault(lost="request"),
    "answer lost": Fault(lost="answer"),
    "crash": None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails(line: Line, server: Shop, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Told once, twice, or to two environments at once, in any order: each event arrives, the shop's order is as the
    newest says, and nothing is shipped twice or lies about."""
    for number, repetition in enumerate(("once", "twice", "at once"), 1):
        line.faults = [FAULTS[fault], None, FAULTS[fault], FAULTS[fault]]
        line.crashes = int(fault == "crash")
        with monkeypatch.context() as patch:
            if repetition == "at once":
                deliver_at_once(line, patch)
            for revision in (1, 2, 5):
                tell(line, revision, number)
            line.arrive()
            line.waiting = shuffled(line.waiting, seed=number + 10 * [*FAULTS].index(fault))
            line.work(hours=3)
        if repetition == "twice":
            sent = len(line.requests)
            line.repeat()
            line.work()
            assert len(line.requests) == sent
        ids = {f"{number}-{revision}" for revision in (1, 2, 5)}
        assert ids == {identity for identity, _ in server.took if identity.startswith(f"{number}-")}
        assert {line.outcomes()[identity] for identity in ids} == {"delivered"}
        assert (line.waiting, line.dead) == ([], [])
        status, shipments = server.order(number)
        assert (status, shipments <= 1) == ("refunded", True)


def deliver_at_once(line: Line, patch: pytest.MonkeyPatch) -> None:
    """While one environment delivers an event, another is given the same."""
    deliver, met = storefront.deliver, set()

    def overtaken(event: Event, now: datetime) -> str:
        if event.id not in met:
            met.add(event.id)
            body = next(each.body for each in line.waiting if f'"{event.id}"' in each.body)
            again = line._message(body)
            line.waiting.append(again)
            line._invoke([again])
        return deliver(event, now)

    patch.setattr(storefront, "deliver", overtaken)


def test_dead_letters_after_three_days_and_a_redrive_heals(line: Line, server: Shop) -> None:
    """The server fails for twelve attempts: the payment lies among the dead letters, its refund arrives; a redrive
    brings the payment, too, which is older by then, and changes nothing."""
    line.faults = [Fault(503)] * 12
    tell(line, 1)
    line.work(hours=90)
    assert (len(line.requests), len(line.dead), server.order()) == (12, 1, ("pending", 0))
    tell(line, 2)
    line.work()
    assert server.order() == ("partially_refunded", 1)
    line.redrive()
    line.work()
    assert (server.order(), line.dead) == (("partially_refunded", 1), [])
    assert line.outcomes() == {"1-1": "delivered", "1-2": "delivered"}


def test_410_disables_until_a_person_enables(line: Line, server: Shop, told: Told) -> None:
    """A server that wants no more gets no more, and somebody is told; what happens meanwhile is not lost."""
    line.faults = [Fault(410)]
    tell(line, 1)
    tell(line, 2)
    line.work(hours=10)
    assert line.requests == ["POST /webhooks"]
    assert line.items()["connector"]["disabled"] == "gone"
    assert "connector_disabled" in told.text()
    line._stack.dynamodb.update_item(  # as `pf connector retry` does
        TableName=deliveries.TABLE, Key=deliveries.key("connector"), UpdateExpression="REMOVE disabled, disabled_at"
    )
    line.work(hours=12)
    assert server.order() == ("partially_refunded", 1)
    assert line.outcomes() == {"1-1": "delivered", "1-2": "delivered"}


def test_a_test_is_no_event(line: Line, server: Shop) -> None:
    """It is signed like an event, has an id of its own, changes nothing, and says what it met; a 410 to it disables
    nothing."""
    assert [checked(line) for _ in range(2)] == [{"outcome": "delivered", "status": 204, "signatures": 1}] * 2
    assert [content["type"] for _, content in server.took] == ["pf.test"] * 2
    assert len({identity for identity, _ in server.took}) == 2
    for status, reason in ((401, "unauthorized"), (410, "gone"), (302, "refused"), (500, "failed")):
        line.faults = [Fault(status)]
        assert checked(line) == {"outcome": "failed", "reason": reason}
    assert line.items() == {}
    assert server.order() == ("pending", 0)


def test_a_log_without_secrets(line: Line, told: Told) -> None:
    """Neither the secret nor a signature, an address, a reference or the server's words, whether it works or fails."""
    line.faults = [None, Fault(500, body=b"canary of the answer"), Fault(401, {"X-Canary": "canary of a header"})]
    for revision in (1, 2, 3):
        tell(line, revision)
    line.work(hours=1)
    printed = told.text()
    assert "delivered" in printed
    for word in (SECRET, SECRET.removeprefix("whsec_"), "v1,", "jane@example.com", "canary", "web-1"):
        assert word not in printed


def test_the_page_has_every_event_and_every_reason() -> None:
    """Each type that is sent, and each reason for which one is not."""
    sources = [ROOT / f"functions/connectors/{name}.py" for name in ("consumer", "outgoing", "storefront")]
    code = "".join(path.read_text() for path in sources)
    reasons = {*re.findall(r'Undelivered\(\s*"(\w+)"', code), *re.findall(r'reason, retry_after = "(\w+)"', code)}
    reasons |= {*re.findall(r'\d: "(\w+)"', code), "refused", "failed", "forbidden_address"}
    assert len(reasons) > 13
    assert [word for word in (*TYPES, *sorted(reasons)) if f"`{word}`" not in PAGE] == []


def test_the_secret_that_the_page_makes(line: Line, server: Shop) -> None:
    """Its command makes one that both sides take."""
    [command] = re.findall(r"`(echo \"whsec_[^`]+)`", PAGE)
    made = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    put_secret(line, made)
    server.secrets = [made.strip()]
    server.shop.webhook = Webhook(made.strip())
    assert checked(line)["outcome"] == "delivered"
