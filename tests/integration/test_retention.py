"""retain: what is too old and about a person goes, in a time that is the test's; money, states and dedupe stay."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

import retain
import webhook
from payments import ledger, privacy, retention, table
from tests.integration.outages import Told
from tests.payloads import answered, delivery, paid, subscribed
from tests.world import Context, World


@pytest.fixture(autouse=True)
def _time(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retain, "datetime", shop.clock.datetime)
    monkeypatch.setattr(retain, "time", shop.clock)


def run(shop: World, seconds: float = 240) -> dict[str, Any]:
    """A run, after which the stream flows."""
    answer: dict[str, Any] = retain.handler({}, Context(shop.clock, seconds))
    shop.flow()
    return answer


def hear(shop: World, body: bytes, event: str) -> str:
    _, answer = answered(webhook.handler(delivery(body, event), Context(shop.clock, 4)))
    return str(answer["outcome"])


def item(shop: World, pk: str) -> dict[str, Any]:
    return table.plain(shop.stack.items()[pk])


def order(shop: World, order_id: str) -> dict[str, Any]:
    return item(shop, f"order#{order_id}")


def fields(thing: dict[str, Any], *names: str) -> set[str]:
    return {*names} & thing.keys()


def test_the_address_of_an_unpaid_order_goes_after_45_days(shop: World) -> None:
    """And what the browser said with it. The order stays, pending, and may still be paid; one that was paid in time
    keeps both."""
    order_id, session = shop.checkout(metadata={"cart": "7"})
    paid_id, _ = shop.buy()
    shop.deliver()
    shop.flow()
    shop.clock.passes(days=44)
    run(shop)
    assert order(shop, order_id)["customer_email"] == "buyer@example.com"
    shop.clock.passes(days=1, hours=1)
    assert run(shop) == {"outcome": "done", "addresses": 1, "bodies": 0}
    found = order(shop, order_id)
    assert not fields(found, "customer_email", "untrusted_metadata")
    assert shop.status(order_id) == "pending"
    assert order(shop, paid_id)["customer_email"] == "buyer@example.com"
    before = len(shop.published)
    assert run(shop) == {"outcome": "done", "addresses": 0, "bodies": 0}
    assert len(shop.published) == before
    shop.pay(session)
    assert shop.deliver() == ["settled"]
    shop.flow()
    assert shop.types(order_id) == ["order.paid"]


def test_an_unpaid_order_that_is_older_than_retention_itself(shop: World) -> None:
    """Is found by the walk through the whole table."""
    order_id, _ = shop.checkout()
    shop.clock.passes(days=300)
    assert run(shop)["addresses"] == 1
    assert not fields(order(shop, order_id), "customer_email")


def test_an_order_that_is_paid_at_that_moment(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps its address: it is no pending one any more."""
    order_id, session = shop.checkout()
    shop.clock.passes(days=46)
    redact = retention.redact

    def paid_before(redaction: Any) -> bool:
        if not paid:
            paid.append(shop.pay(session))
            shop.deliver()
        return redact(redaction)

    paid: list[str] = []
    monkeypatch.setattr(retention, "redact", paid_before)
    assert run(shop)["addresses"] == 0
    assert order(shop, order_id)["customer_email"] == "buyer@example.com"


def test_raw_bodies_go_after_400_days(shop: World) -> None:
    """Beside their facts and alone; what they said of money stays, and so do addresses of who paid."""
    order_id, payment = shop.buy()
    shop.account.refund(payment, None, "wrong size")
    other = json.dumps({"event": "review.created", "text": "by Jane"}).encode()
    shop.deliver()
    hear(shop, other, "review.created")
    shop.flow()
    [raw] = [pk for pk in shop.stack.items() if pk.startswith("raw#")]
    before, events = order(shop, order_id), len(shop.published)
    shop.clock.passes(days=399)
    assert run(shop)["bodies"] == 0
    shop.clock.passes(days=8)
    assert run(shop)["bodies"] == 3  # a refund lies beside its payment, too
    assert not any("raw" in fact for each in shop.stack.items() for fact in privacy.facts(item(shop, each)).values())
    after = order(shop, order_id)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "raw" in (before[name] if isinstance(before[name], dict) else {})}
    for name in changed:
        assert after[name].pop("redacted_at")
        assert after[name] == {each: value for each, value in before[name].items() if each != "raw"}
    assert item(shop, raw)["body"] == b""
    assert len(item(shop, raw)["arrivals"]) == 1
    assert shop.status(order_id) == "refunded"
    assert len(shop.published) == events


def test_a_webhook_that_comes_again_brings_no_body_back(shop: World) -> None:
    """Neither the same one nor one in other words: known is known, and nothing is kept."""
    order_id, _ = shop.buy()
    [sent] = list(shop.undelivered)
    shop.deliver()
    shop.flow()
    shop.clock.passes(days=410)
    assert run(shop)["bodies"] == 1
    before = shop.stack.items()
    for body in (sent.body, sent.body.replace(b'"currency"', b' "currency"')):
        assert hear(shop, body, sent.event) == "redelivered"
    shop.flow()
    assert shop.stack.items() == before
    assert shop.status(order_id) == "paid"


def test_a_body_that_is_no_fact_and_comes_again(shop: World) -> None:
    """Is noted, and stays empty."""
    body = json.dumps(subscribed(None)).encode()
    hear(shop, body, "customer.subscription.updated")
    [pk] = [each for each in shop.stack.items() if each.startswith("raw#")]
    shop.clock.passes(days=410)
    run(shop)
    hear(shop, body, "customer.subscription.updated")
    assert item(shop, pk)["body"] == b""
    assert len(item(shop, pk)["arrivals"]) == 2


def test_a_body_that_no_fact_was_made_of(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """May be a payment: what it says of money stays for whoever replays it, and who paid goes. Once is enough."""
    order_id, _ = shop.checkout()
    body = json.dumps({**paid(order_id), "customer": {"email": "jane@example.com", "firstName": "Jane"}}).encode()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_, **__: {}["defect"])
        assert hear(shop, body, "order.completed") == "recorded"
    [pk] = [each for each in shop.stack.items() if each.startswith("raw#")]
    shop.clock.passes(days=410)
    assert run(shop)["bodies"] == 1
    left = item(shop, pk)["body"]
    assert b"jane" not in left.lower()
    shop.clock.passes(days=8)
    assert run(shop)["bodies"] == 0
    assert hear(shop, left, "order.completed") == "settled"


def test_a_body_that_came_again_lately_is_young(shop: World) -> None:
    """Two months' renewals may have one body: the last of them counts."""
    body = json.dumps(subscribed(None)).encode()
    hear(shop, body, "customer.subscription.updated")
    shop.clock.passes(days=300)
    hear(shop, body, "customer.subscription.updated")
    shop.clock.passes(days=200)
    assert run(shop)["bodies"] == 0
    [pk] = [each for each in shop.stack.items() if each.startswith("raw#")]
    assert item(shop, pk)["body"] == body


def test_a_run_that_has_no_time_goes_on_the_next_day(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stopped, page by page, until all of the table was looked at; then it rests for a week."""
    monkeypatch.setattr(retention, "PAGE", 3)
    for number in range(5):
        hear(shop, json.dumps({"event": "review.created", "number": number}).encode(), "review.created")
    shop.clock.passes(days=410)
    pages: list[str | None] = []
    page = retention.page

    def slow(after: str | None) -> Any:
        pages.append(after)
        shop.clock.passes(seconds=3)
        return page(after)

    monkeypatch.setattr(retention, "page", slow)
    answers = []
    while not answers or answers[-1]["outcome"] == "goes_on":
        answers.append(run(shop, seconds=retain.SPARE_SECONDS + 5))
    assert len(answers) > 1
    assert sum(answer["bodies"] for answer in answers) == 5
    assert pages.count(None) == 1
    assert all(not item(shop, pk)["body"] for pk in shop.stack.items() if pk.startswith("raw#"))
    shop.clock.passes(days=1)
    assert run(shop)["outcome"] == "done"
    assert pages.count(None) == 1
    shop.clock.passes(days=7)
    run(shop)
    assert pages.count(None) == 2


def test_a_day_of_unpaid_orders_that_takes_longer_than_a_run(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run gets further, however many were opened in one day."""
    orders = []
    for _ in range(6):
        orders.append(shop.checkout()[0])
        shop.clock.passes(seconds=1)
    shop.clock.passes(days=46)
    query = retention.client.query
    monkeypatch.setattr(retention.client, "query", lambda **asked: query(**asked, Limit=2))
    redact = retention.redact

    def slow(redaction: Any) -> bool:
        shop.clock.passes(seconds=4)
        return redact(redaction)

    monkeypatch.setattr(retention, "redact", slow)
    counts: list[int] = []
    while sum(counts) < 6:
        counts.append(run(shop, seconds=retain.SPARE_SECONDS + 11)["addresses"])
        assert counts[-1]
    assert len(counts) > 1
    assert not any(fields(order(shop, each), "customer_email") for each in orders)


def test_aws_fails(shop: World, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    """A person is told, without a word of anybody's; the next run does what is left."""
    order_id, _ = shop.checkout()
    shop.clock.passes(days=46)
    error: Any = {"Error": {"Code": "Throttling", "Message": "buyer@example.com"}}

    def throttled(**_: Any) -> Any:
        raise ClientError(error, "Scan")

    with monkeypatch.context() as patch:
        patch.setattr(retention.client, "scan", throttled)
        assert run(shop) == {"outcome": "partial", "addresses": 1, "bodies": 0}
    text = told.text()
    assert "buyer@" not in text
    assert ("retention_partial" in text, "NeedsAttention" in text) == (True, True)
    assert run(shop)["outcome"] == "done"
    assert not fields(order(shop, order_id), "customer_email")


def test_an_item_that_is_not_understood(shop: World, told: Told) -> None:
    """That somebody wrote by hand: it holds up no other, and a person is told, in no word of it."""
    shop.buy()
    shop.deliver()
    shop.flow()
    odd = {"pk": "order#odd", "pay#1": {"raw": b"{}", "customer_email": "jane@example.com"}}
    shop.stack.dynamodb.put_item(TableName=table.TABLE, Item=table.values(odd))
    shop.clock.passes(days=410)
    told.text()
    assert run(shop) == {"outcome": "done", "addresses": 0, "bodies": 1}
    text = told.text()
    assert ("item_not_understood" in text, "jane" in text) == (True, False)


def test_how_long() -> None:
    """As the documents say."""
    assert (timedelta(days=45), timedelta(days=400)) == (retention.PENDING, retention.RAW)
