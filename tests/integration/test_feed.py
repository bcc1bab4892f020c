"""The no-code feed: flat events with stable names, posted to an address that nobody sees."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from connectors import feed, outgoing
from sandbox.platforms.feed import Platform
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.connected import HIDDEN, TRIES, Fault, Line
from tests.event_schemas import TYPES, example
from tests.integration.outages import Told
from tests.payloads import NOW
from tests.world import Context, World, world

ORDER = ("order.paid", "order.partially_refunded", "order.refunded", "order.disputed", "order.dispute_closed")
EXAMPLES = {kind: example(kind) for kind in TYPES}
PAGE = (ROOT / "docs/connectors/feed.md").read_text()
SAMPLE = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])


@pytest.fixture
def hook() -> Platform:
    return Platform("https://hooks.example")


@pytest.fixture
def line(connect: Callable[..., Line], hook: Platform) -> Line:
    return connect(feed, hook)


@pytest.fixture
def shop(emptied: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A shop on the stack of this module."""
    with world(emptied, monkeypatch, NOW) as made:
        yield made


def ids(hook: Platform) -> list[str]:
    """Of what the tool has caught."""
    return [content["id"] for content in hook.caught]


def of_server(metadata: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """The flat `order.paid` of an order that the shop's server opened."""
    return feed.flat("order.paid", {**EXAMPLES["order.paid"], "metadata": metadata, **more})


# --- One form for every event -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_type_has_the_same_fields(kind: str) -> None:
    """In one order, and nothing in them that a no-code tool would have to unfold."""
    content = feed.flat(kind, EXAMPLES[kind])
    assert list(content) == ["type", "test", *feed.FIELDS]
    assert all(value is None or isinstance(value, str | int) for value in content.values())
    assert (content["type"], content["id"], content["test"]) == (kind, EXAMPLES[kind]["id"], False)


def test_the_page_shows_it_as_it_is() -> None:
    """Every field is explained, none that there is not, and the sample is what the example of the event becomes."""
    table = PAGE.partition("\n| field | |\n")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(["type", "test", *feed.FIELDS])
    assert of_server({"customer": "4711"}, reference="A-1001") == SAMPLE


def test_money_is_text_and_exact() -> None:
    """Amounts are the event's own digits: a tool that reads numbers as floats loses nothing."""
    paid = EXAMPLES["subscription.payment_succeeded"]
    assert feed.flat("subscription.payment_succeeded", paid)["amount"] == "9.00"


def test_a_subscription_is_found_wherever_it_stands() -> None:
    """Its own event, its payment and its first payment name it in one field."""
    kinds = ("subscription.started", "subscription.payment_succeeded")
    assert {feed.flat(kind, EXAMPLES[kind])["subscription_id"] for kind in kinds} == {"6b042bec1600a35a099950d8"}


# --- Attacks ----------------------------------------------------------------------------------------------------------


def test_browser_metadata_names_no_one_s_order() -> None:
    """What a page sent along is not told at all: no tool can take it for an order, a member or an amount."""
    forged = {"order_id": "ord_test_forged", "reference": "A-1", "amount": "0.01", "customer_email": "x@forged.example"}
    content = of_server({}, untrusted_metadata=forged)
    assert content == of_server({}, untrusted_metadata={})


@pytest.mark.parametrize("name", ["id", "email", "customer_email", "order_id", "amount", "type", "test", "metadata_id"])
def test_metadata_overwrites_no_field(name: str) -> None:
    """A key that is called as a field is becomes another one, whatever its case."""
    for key in (name, name.upper(), f" {name} ", f"__{name}"):
        content = of_server({key: "forged"})
        assert {field: content[field] for field in ("type", "test", *feed.FIELDS)} == of_server({})
        assert content[f"metadata_{name}"] == "forged"


def test_metadata_names_are_plain() -> None:
    """Quotes, line breaks, dots, braces and other scripts make no name that a tool's template could stumble on; keys
    that are written alike then are kept apart, and none is lost."""
    keys = ["Customer ID", "customer-id", "customer.id", '"]}}{{', "é", "名", "\r\nx: y", "a" * 100, ""]
    names = of_server({key: str(number) for number, key in enumerate(keys)}).keys() - of_server({}).keys()
    assert len(names) == len(keys)
    assert all(re.fullmatch(r"metadata_[a-z0-9_]{0,48}", name) for name in names)
    assert {"metadata_customer_id", "metadata_customer_id_", "metadata_customer_id__", "metadata_x_y"} <= names


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3+cmd|x", "\t=1", " =1", '"=1', "＝1", "\u200b=1"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    """A buyer's address or a note that a spreadsheet would run has an apostrophe before it."""
    content = of_server({"note": text}, customer_email=text)
    assert (content["customer_email"], content["metadata_note"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", ["+49 (30) 1234-56", "-5", "jane@example.com", "a=b", "2026-11-28", ""])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    """A telephone number goes to the tool that calls it as it was written."""
    assert of_server({"note": text})["metadata_note"] == text


# --- Delivered --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Fault(429, {"Retry-After": "600"}), 1),
        (Fault(500), 1),
        (Fault(401), 1),
        (Fault(404), 1),  # n8n, not active
        (Fault(410), 1),  # a hook that is gone
        (Fault(302, {"Location": "https://elsewhere.example/"}), 1),
        (Fault(lost="request"), 1),
        (Fault(lost="answer"), 2),
        (None, 1),
    ],
    ids=["429", "500", "401", "404", "410", "redirect", "no-answer", "lost-answer", "well"],
)
def test_whatever_fails_and_however_often_it_comes(line: Line, hook: Platform, fault: Fault | None, times: int) -> None:
    """Each event is caught once, in whatever order all of an order's events come, twice each; only where an answer got
    lost it is caught again, with the same id."""
    sent = [line.publish(kind) for kind in ORDER]
    line.arrive()
    line.repeat()
    line.waiting.reverse()
    line.faults = [fault] * len(sent)
    line.work(hours=80)
    assert Counter(ids(hook)) == Counter({content["id"]: times for content in sent})
    assert line.waiting == line.dead == []
    assert {*line.outcomes().values()} == {"delivered"}


def test_no_order_loses_or_changes_anything(line: Line, hook: Platform) -> None:
    """Paid, refunded in part, refunded, disputed, closed, each of them first, last and in between: the tool has all
    five, as they are."""
    for number in range(len(ORDER)):
        kinds = (ORDER[number:] + ORDER[:number])[::-1]
        sent = [line.publish(kind, id=f"{number}-{kind}", subject=f"order#{number}") for kind in kinds]
        line.work()
        assert hook.caught == [feed.flat(kind, content) for kind, content in zip(kinds, sent, strict=True)]
        hook.caught.clear()


def test_a_crash_tells_it_again_by_the_same_id(line: Line, hook: Platform) -> None:
    """Between the tool's answer and the note of it an event can only be told twice: the tool drops what it has had."""
    told = line.publish("order.paid")
    line.crashes = 1
    line.work(hours=2 * HIDDEN.total_seconds() / 3600)
    assert hook.caught == [feed.flat("order.paid", told)] * 2


def test_a_hook_that_is_gone(line: Line, hook: Platform, told: Told) -> None:
    """Somebody is told at once, it is tried for three days, and what was laid aside then comes by a redrive."""
    sent = line.publish("order.paid")
    line.faults = [Fault(410)] * TRIES
    line.work(hours=1)
    assert "connector_gone" in told.text()
    line.work(hours=80)
    assert (len(line.dead), len(line.requests), hook.caught) == (1, TRIES, [])
    line.redrive()
    line.work()
    assert ids(hook) == [sent["id"]]


def test_what_is_told_unless_said_otherwise(line: Line, hook: Platform) -> None:
    """What concerns people and their orders; not what is for who keeps the stack."""
    for kind in TYPES:
        line.publish(kind, id=kind)
    line.work()
    untold = {"ledger.drift", "order.refund_anomaly", "payment.foreign", "payment.refunded", "webhook.other"}
    assert {*ids(hook)} == {*TYPES} - untold


def test_a_filter_by_event_and_product(connect: Callable[..., Line], hook: Platform) -> None:
    """Only the events and skus that were named reach the queue, and nothing that names no sku."""
    hook.parameters = {"Feed": "on", "FeedEvents": "order.paid,payment.unmatched", "FeedProducts": "course,print"}
    line = connect(feed, hook)
    for sku in ("course", "print", "membership", None):
        for kind in ("order.paid", "order.refunded"):
            line.publish(kind, id=f"{kind} {sku}", sku=sku)
    line.publish("payment.unmatched")
    line.work()
    assert ids(hook) == ["order.paid course", "order.paid print"]


# --- The sample -------------------------------------------------------------------------------------------------------


def test_a_sample_on_demand(line: Line, hook: Platform) -> None:
    """It has a value in every field, so that a tool can map each, says that it is a test, and what a filter would look
    for is as in a real event of its type."""
    for kind in (*ORDER, *(kind for kind in TYPES if kind.startswith("subscription."))):
        answer = feed.handler({"test": kind}, Context(line.clock, 120))
        sample = hook.caught.pop()
        assert answer == {"outcome": "delivered", "type": kind}
        assert (sample["type"], sample["test"], sample["mode"]) == (kind, True, "test")
        assert [name for name, value in sample.items() if value is None] == []
        real = feed.flat(kind, EXAMPLES[kind])
        told = ("status", "changed_from", "subscription_state", "subscription_access")
        filtered = {name: real[name] for name in told if real[name] is not None}
        assert sample.items() >= filtered.items(), kind
        assert sample.keys() - real.keys() == {"metadata_customer"}


def test_two_samples_are_two(line: Line, hook: Platform) -> None:
    """A tool that drops known ids takes the next sample, too; no sample is noted as an event."""
    for _ in range(2):
        feed.handler({"test": "order.paid"}, Context(line.clock, 120))
        line.clock.passes(minutes=1)
    assert len({*ids(hook)}) == 2
    assert line.items() == {}


def test_a_sample_that_is_refused(line: Line) -> None:
    """Who asked for it is told why."""
    line.faults = [Fault(404)]
    assert feed.handler({"test": "order.paid"}, Context(line.clock, 120)) == {
        "outcome": "failed",
        "reason": "not_found",
    }


# --- The address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("http://hooks.example/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("https://hooks.example:8443/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("https://me:abcdef@hooks.example/hooks/catch/1234567/", "forbidden_address"),
        ("https://127.0.0.1/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("https://localhost/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("https://[::ffff:127.0.0.1]/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("gopher://hooks.example/hooks/catch/1234567/abcdef/", "forbidden_address"),
        ("https://hooks.example/hooks/abcdef https://hooks.example/hooks/abcdee", "forbidden_address"),
        ("changeme", "secret_missing"),
        (" ", "secret_missing"),
    ],
)
def test_an_address_that_is_none(
    connect: Callable[..., Line], hook: Platform, monkeypatch: pytest.MonkeyPatch, told: Told, secret: str, reason: str
) -> None:
    """Nothing is sent anywhere, a person is told once, without the address; with the right one all comes."""
    right, hook.secret = hook.secret, secret
    line = connect(feed, hook)
    sent = line.publish("order.paid")
    with monkeypatch.context() as patch:
        patch.setattr(outgoing, "_http", outgoing._session())  # as on AWS, where the internet is
        line.work(hours=0.5)
    printed = told.text()
    assert printed.count(f"connector_{reason}") == 1
    assert "abcdef" not in printed + str(line.items())
    line._stack.secrets.put_secret_value(SecretId=feed.SECRET_ARN, SecretString=right)
    line.work(hours=10)
    assert ids(hook) == [sent["id"]]


@pytest.mark.parametrize(
    "fault",
    [None, Fault(404, body=b"abcdef"), Fault(301, {"Location": "https://x.example/abcdef"}), Fault(lost="request")],
)
def test_the_address_and_the_buyer_are_in_no_log(line: Line, hook: Platform, told: Told, fault: Fault | None) -> None:
    """Neither what was told nor where to, whatever was answered; nor in what the connector keeps."""
    line.publish("order.paid", metadata={"note": "abcdef"})
    line.faults = [fault]
    line.work(hours=1)
    feed.handler({"test": "order.paid"}, Context(line.clock, 120))
    assert len(hook.caught) == 2
    left = told.text() + str(line.items())
    assert [word for word in ("abcdef", "hooks.example", "jane@", "64.99") if word in left] == []


# --- From a browser to the tool ---------------------------------------------------------------------------------------


def test_a_buyer_can_not_name_another_order(shop: World, connect: Callable[..., Line], hook: Platform) -> None:
    """What a page says of order, reference, member or amount reaches no tool: only the order that was paid."""
    line = connect(feed, hook, shop.clock)
    victim, _ = shop.checkout()
    forged = {"order_id": victim, "reference": "A-1001", "amount": "0.01", "customer_email": "victim@example.com"}
    order_id, session = shop.checkout(metadata=forged)
    shop.pay(session)
    shop.deliver()
    shop.flow()
    line.work()
    [content] = hook.caught
    assert (content["type"], content["order_id"], content["reference"]) == ("order.paid", order_id, None)
    assert [value for value in forged.values() if value in json.dumps(content)] == []
