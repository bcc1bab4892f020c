"""The architecture's invariants, as far as the ledger alone can show them."""

import io
import itertools
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

import webhook
from payments import addresses, deployment, events, ledger, orders, pocketsflow, secrets, table, telemetry
from payments.catalogue import Item
from sandbox.template import ROOT
from sandbox.worker import Context
from tests.conftest import Aws, holds
from tests.integration.conftest import open_order
from tests.integration.ledger_model import LEDGER, QUEUE, down, first_answer_is_lost
from tests.payloads import (
    API_KEY,
    LATER,
    NOW,
    OTHER_PRODUCT,
    PRODUCT,
    SECRET,
    answered,
    delivery,
    paid,
    refunded,
    sign,
    subscribed,
    unknown,
)


def deliver(content: Any, name: str = "order.completed", **headers: str) -> str:
    """The outcome of a delivery that must be answered 200."""
    status, body = answered(webhook.handler(delivery(content, name, **headers), Context(4)))
    assert status == 200
    assert body["received"] is True
    return str(body["outcome"])


def status(order_id: str) -> str:
    state = ledger.state(order_id)
    assert state is not None
    return state.status


def test_invariant_1_a_verified_body_is_stored_before_a_2xx_leaves(cloud: Aws, order_id: str) -> None:
    """Whatever the body is, once its signature verifies its very bytes are in the ledger."""
    bodies = {
        "payment": (json.dumps(paid(order_id)).encode(), "order.completed"),
        "unknown event": (b'{"event": "review.created", "stars": 5}', "review.created"),
        "not JSON": (b"\xff\xfe{", "order.completed"),
        "array": (b"[1, 2]", "order.completed"),
        "relabelled": (b'{"event": "order.completed"}', "order.refunded"),
        "large": (json.dumps(paid(None, "sale9", padding="x" * 10_000)).encode(), "order.completed"),
        "empty": (b"", "order.completed"),
    }
    for label, (body, name) in bodies.items():
        deliver(body, name)
        assert any(holds(item, body) for item in cloud.items().values()), label


def test_invariant_1_a_verified_body_is_kept_whatever_breaks_behind_it(
    cloud: Aws, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours after the signature costs no payment: the body is kept, and somebody is told."""
    monkeypatch.setattr(events, "parse", lambda *_: 1 / 0)
    assert deliver(paid(order_id)) == "recorded"
    [kept] = [item for pk, item in cloud.items().items() if pk.startswith("raw#")]
    assert json.loads(kept["body"]["B"]) == paid(order_id)
    assert kept["arrivals"]["L"][0]["M"]["reason"]["S"] == "error"


def test_invariant_1_a_body_that_the_ledger_does_not_take_waits_in_the_queue(cloud: Aws, order_id: str) -> None:
    """One bad write is tried again and costs nothing; two, and the very bytes lie in the queue before 200 leaves, and
    settle from there."""
    body = json.dumps(paid(order_id)).encode()
    with down(LEDGER, times=1):
        assert deliver(paid(open_order(), "sale0")) == "settled"
    before = cloud.items()
    with down(LEDGER, times=2):
        assert deliver(body) == "parked"
    assert (cloud.items(), cloud.parked()) == (before, [body])
    assert cloud.unpark(webhook.handler, Context(4)) == []
    assert holds(cloud.order(order_id), body)
    assert (status(order_id), cloud.parked()) == ("paid", [])


def test_invariant_1_no_2xx_while_ledger_and_queue_are_out_of_reach(cloud: Aws, order_id: str) -> None:
    """A body that can be stored nowhere is not acknowledged."""
    before = cloud.items()
    with down(LEDGER, QUEUE):
        code, problem = answered(webhook.handler(delivery(paid(order_id)), Context(4)))
    assert (code, problem["code"]) == (500, "ledger_unavailable")
    assert (cloud.items(), cloud.parked()) == (before, [])


@pytest.mark.parametrize("error", [ReadTimeoutError(endpoint_url="x"), ConnectTimeoutError(endpoint_url="x")])
def test_invariant_1_a_write_that_fails_for_good_costs_nothing(
    cloud: Aws, order_id: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever botocore raises in the end: the fact is not written, but the body is in the queue, acknowledged, and
    somebody is told."""

    def unreachable(**_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(table.client, "update_item", unreachable)
        assert deliver(paid(order_id)) == "parked"
    assert cloud.parked() == [json.dumps(paid(order_id)).encode()]


def test_invariant_1_the_same_fact_in_other_words_is_kept_too(cloud: Aws, order_id: str) -> None:
    """Whichever body came first under a fact's name, no signed body vanishes: nor the second of two claims."""
    for first, second, name in [
        (paid(order_id), paid(order_id, amount=77.77), "order.completed"),
        (refunded(order_id, amount=10.5), refunded(order_id, amount=54.5), "order.refunded"),
        (
            {**paid(order_id, "s", amount=10.01), "event": None},
            {**paid(order_id, "s", amount=20.02), "event": None},
            "order.refunded",
        ),
        (paid(None, "x"), paid(None, "x", amount=5), "order.completed"),
        (paid(order_id, "big"), paid(order_id, "big", padding="x" * 9_000), "order.completed"),
    ]:
        deliver(first, name)
        assert deliver(second, name) == "redelivered"
        for content in (first, second):
            assert any(holds(item, json.dumps(content).encode()) for item in cloud.items().values())


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (lambda ours: paid(ours), "settled"),
        (lambda ours: paid(ours, "sale2"), "second_payment"),
        (lambda ours: paid(ours, product=OTHER_PRODUCT), "mismatched"),
        (lambda ours: paid(unknown(ours)), "unmatched"),
        (lambda ours: refunded(ours), "recorded"),
    ],
    ids=["first", "second payment", "mismatch", "unmatched", "refund"],
)
def test_a_lost_answer_does_not_change_the_outcome(cloud: Aws, order_id: str, body: Any, outcome: str) -> None:
    """DynamoDB writes, its answer is lost, botocore sends again and meets its own fact: still told for what it is."""
    if outcome == "second_payment":
        deliver(paid(order_id))
    with first_answer_is_lost():
        assert deliver(body(order_id), body(order_id)["event"]) == outcome
        assert deliver(body(order_id), body(order_id)["event"]) == "redelivered"


def test_invariant_2_a_payment_settles_once(cloud: Aws, order_id: str) -> None:
    """However often it is delivered, signed by whichever live secret, under whatever time: one fact, one settlement."""
    cloud.put_secret("WebhookSecrets", f"{SECRET} whsec_another_0123456789")
    outcomes = [deliver(paid(order_id), x_pocketsflow_timestamp=str(sent)) for sent in range(5)]
    assert outcomes == ["settled"] + ["redelivered"] * 4
    order = cloud.order(order_id)
    assert order["rev"]["N"] == "1"
    assert [name for name in order if name.startswith("pay#")] == ["pay#sale1"]


def test_invariant_2_it_settles_once_from_another_source_too(cloud: Aws, order_id: str) -> None:
    """The same payment found in a list of orders is the same fact."""
    deliver(paid(order_id))
    body = json.dumps(paid(order_id) | {"webhookId": "wh_2"}).encode()
    fact = events.parse(body, "order.completed")
    assert isinstance(fact, events.Payment)
    assert ledger.record(fact, body, LATER, source="api") == "redelivered"


def test_invariant_4_facts_commute(cloud: Aws) -> None:
    """One payment and its refunds leave one record, whatever their order and repetition."""
    records, statuses = [], set()
    for sequence in itertools.permutations(range(4)):
        order_id = open_order()
        facts = [
            (paid(order_id), "order.completed"),
            (refunded(order_id, refund="ref1", amount=10, status="pending"), "order.refunded"),
            (refunded(order_id, refund="ref1", amount=10), "order.refunded"),
            (refunded(order_id, refund="ref2", amount=5), "order.refunded"),
        ]
        for step in (*sequence, *sequence[:2]):
            body = json.dumps(facts[step][0] | {"metadata": {"external_order_id": order_id}}).encode()
            fact = events.parse(body, facts[step][1])
            assert isinstance(fact, events.Payment | events.Refund)
            ledger.record(fact, body, LATER, source="webhook")
        statuses.add(status(order_id))
        record = json.dumps(cloud.order(order_id), sort_keys=True, default=lambda raw: bytes(raw).hex())
        records.append(record.replace(order_id, "ORDER").replace(order_id.encode().hex(), "ORDER"))
    assert len(records) == 24
    assert len(set(records)) == 1
    assert statuses == {"partially_refunded"}


def test_invariant_4_of_two_payments_the_first_written_settles(cloud: Aws) -> None:
    """Two payments in any order: exactly one settles, and a refund of the other leaves the order paid."""
    for first, second in (("sale1", "sale2"), ("sale2", "sale1")):
        order_id = open_order()
        assert deliver(paid(order_id, first)) == "settled"
        assert deliver(paid(order_id, second)) == "second_payment"
        assert deliver(refunded(order_id, second), "order.refunded") == "recorded"
        assert status(order_id) == "paid"
        assert deliver(refunded(order_id, first, "ref2"), "order.refunded") == "recorded"
        assert status(order_id) == "refunded"


def test_invariant_4_a_refund_before_its_payment(cloud: Aws, order_id: str) -> None:
    """The refund waits with the order, which is still open; once the payment comes the order is refunded."""
    assert deliver(refunded(order_id), "order.refunded") == "recorded"
    assert status(order_id) == "pending"
    assert "open_day" in cloud.order(order_id)
    assert deliver(paid(order_id)) == "settled"
    assert status(order_id) == "refunded"
    assert "open_day" not in cloud.order(order_id)


def test_invariant_5_a_second_payment_is_kept(cloud: Aws, order_id: str) -> None:
    """Money that is owed back stands in the order beside the payment that settled it."""
    deliver(paid(order_id))
    assert deliver(paid(order_id, "sale2", amount=99.5)) == "second_payment"
    assert cloud.order(order_id)["pay#sale2"]["M"]["amount"]["S"] == "99.5"


def test_invariant_5_a_payment_of_no_order_is_kept(cloud: Aws) -> None:
    """An unknown order id, or none, makes no order: the payment lies beside, and the API is to be asked whose it is."""
    ours = open_order()
    assert deliver(paid(unknown(ours), "sale5")) == "unmatched"
    assert deliver(paid(unknown(ours), "sale5")) == "redelivered"
    assert f"order#{unknown(ours)}" not in cloud.items()
    sale = cloud.items()["sale#sale5"]
    assert sale["awaits"] == {"S": "api"}
    assert sale["since"] == sale["pay#sale5"]["M"]["at"]


def test_invariant_5_a_payment_for_another_product_does_not_settle(cloud: Aws, order_id: str) -> None:
    """The cheap product with the expensive order's id in its metadata pays for nothing; the right one still does."""
    assert deliver(paid(order_id, "cheap", product=OTHER_PRODUCT)) == "mismatched"
    assert status(order_id) == "mismatched"
    assert deliver(paid(order_id, "right")) == "settled"
    assert status(order_id) == "paid"


def test_invariant_5_a_payment_for_another_variant_does_not_settle(cloud: Aws) -> None:
    """Where a variant was ordered the hosted page lets the buyer choose another: that is not what was ordered."""
    order_id = open_order(variant_id="signed")
    assert deliver(paid(order_id, "cheap", variant="unsigned")) == "mismatched"
    assert deliver(paid(order_id, "none")) == "mismatched"
    assert deliver(paid(order_id, "right", variant="signed")) == "settled"


def test_a_held_item_waits_for_a_person_when_the_amount_differs(cloud: Aws) -> None:
    """`on_difference: hold` compares amount before tax and currency; `accept` does not."""
    held: dict[str, Any] = {"price": Decimal("60.00"), "currency": "usd", "hold_on_difference": True}
    assert deliver(paid(open_order(**held), "a", amountBeforeTax=54)) == "mismatched"
    assert deliver(paid(open_order(**held), "b", currency="eur")) == "mismatched"
    assert deliver(paid(open_order(**held), "c", amountBeforeTax=None)) == "mismatched"
    assert deliver(paid(open_order(**held), "d")) == "settled"
    assert deliver(paid(open_order(**held), "e", amountBeforeTax=6000)) == "settled"
    accepted = {**held, "hold_on_difference": False}
    assert deliver(paid(open_order(**accepted), "f", amountBeforeTax=54)) == "settled"


def test_invariant_7_no_unsigned_header_decides(cloud: Aws, order_id: str) -> None:
    """A valid body under another event's name changes no order."""
    payment, refund = paid(order_id), refunded(order_id)
    unnamed = {name: value for name, value in payment.items() if name != "event"}
    for content, name in [
        (payment, "order.refunded"),
        (refund, "order.completed"),
        ({**refund, "event": None}, "order.completed"),
        ({name: value for name, value in refund.items() if name != "event"}, "order.completed"),
        (unnamed, "order.refunded"),
        (unnamed, "customer.subscription.created"),
        (unnamed, ""),
        (subscribed(order_id, status="canceled", active=False), "customer.subscription.created"),
        (subscribed(order_id), "order.completed"),
        (subscribed(order_id, paused=True), "customer.subscription.created"),
        (paid(order_id, amount=-64.99), "order.completed"),
    ]:
        assert deliver(content, name) == "recorded"
        assert status(order_id) == "pending"
    assert "open_day" in cloud.order(order_id)


def test_invariant_7_a_body_without_a_name_settles_unconfirmed(cloud: Aws, order_id: str) -> None:
    """The shape of a payment under the payment's name: settled, and marked for the API to confirm."""
    body = {name: value for name, value in paid(order_id).items() if name != "event"}
    assert deliver(body) == "settled"
    assert cloud.order(order_id)["pay#sale1"]["M"]["confirmed"] == {"BOOL": False}


def test_invariant_7_a_refund_without_a_refund_is_a_claim(cloud: Aws, order_id: str) -> None:
    """`order.refunded` in the shape of a payment is kept with the order and does not refund it."""
    deliver(paid(order_id))
    body = {name: value for name, value in paid(order_id).items() if name != "event"}
    assert deliver(body, "order.refunded") == "recorded"
    assert deliver(body, "order.refunded") == "redelivered"
    claim = cloud.order(order_id)["claim#sale1#refund"]["M"]
    assert (claim["kind"], claim["of"], claim["payment_id"]) == ({"S": "claim"}, {"S": "refund"}, {"S": "sale1"})
    assert status(order_id) == "paid"


def test_a_refund_without_metadata_waits_beside_its_payment(cloud: Aws, order_id: str) -> None:
    """Nothing says whose it is: kept under Pocketsflow's order id, once, and the API is to be asked."""
    deliver(paid(order_id))
    assert deliver(refunded(None), "order.refunded") == "recorded"
    waiting = cloud.items()["sale#sale1"]
    assert deliver(refunded(None), "order.refunded") == "redelivered"
    assert cloud.items()["sale#sale1"] == waiting
    assert waiting["awaits"] == {"S": "api"}
    assert waiting["since"] == waiting["ref#sale1#ref1#succeeded"]["M"]["at"]
    index = cloud.dynamodb.scan(TableName=cloud.table, IndexName="unconfirmed")["Items"]
    assert [entry["pk"]["S"] for entry in index] == ["sale#sale1"]


def test_a_subscription_sale_settles_by_its_first_event(cloud: Aws, order_id: str) -> None:
    """A subscription sends no order.completed: customer.subscription.created with our order id is its payment. Of no
    order of ours it is known as what it is, and settles nothing."""
    assert deliver(subscribed(order_id), "customer.subscription.created") == "settled"
    assert deliver(subscribed(order_id), "customer.subscription.created") == "redelivered"
    assert status(order_id) == "paid"
    assert deliver(subscribed(None, "sub2"), "customer.subscription.created") == "recorded"
    assert cloud.items().keys() >= {f"order#{order_id}", "subscription#sub2"}
    assert "subscription#sub1" not in cloud.items()  # its order has it


def test_a_subscription_is_what_was_last_said_of_it(cloud: Aws) -> None:
    """Each change is kept word for word and changes what is known; what has ended stays ended, whatever comes after."""
    bodies = []
    for name, state, known in [
        ("updated", {}, "active"),
        ("updated", {"paused": True}, "paused"),
        ("updated", {"status": "past_due", "cancelAtPeriodEnd": True}, "past_due"),
        ("created", {}, "active"),
        ("updated", {"status": "unheard of"}, "active"),
        ("deleted", {"status": "canceled", "active": False}, "ended"),
        ("updated", {"note": "too late"}, "ended"),
    ]:
        bodies.append(json.dumps(subscribed(None, **state)).encode())
        assert deliver(bodies[-1], f"customer.subscription.{name}") == "recorded"
        item = cloud.items()["subscription#sub1"]
        assert item["state"] == {"S": known}
        assert item["cancel_at_period_end"] == {"BOOL": known == "past_due"}
    assert item["rev"] == {"N": "5"}
    assert item["ended_at"] == item["at"]
    assert item["product_id"] == {"S": PRODUCT}
    for body in bodies:
        assert any(holds(kept, body) for kept in cloud.items().values())


@pytest.mark.parametrize("name", ["customer.subscription", "invoice.payment_succeeded", "brand.new"])
def test_every_other_event_is_kept_with_each_arrival(cloud: Aws, name: str) -> None:
    """Two renewals may have the same body: one item, an arrival for each."""
    for sent in ("1", "2"):
        assert deliver({"subscriptionCustomerId": "sub1"}, name, x_pocketsflow_timestamp=sent) == "recorded"
    [kept] = cloud.items().values()
    assert [arrival["M"]["sent_at"]["S"] for arrival in kept["arrivals"]["L"]] == ["1", "2"]


def test_arrivals_are_bounded(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hundredth copy of one body is still answered 200, and the item does not grow with the hundred and first."""
    monkeypatch.setattr(ledger, "MAX_ARRIVALS", 3)
    for _ in range(5):
        assert deliver({"a": 1}, "other.event") == "recorded"
    [kept] = cloud.items().values()
    assert len(kept["arrivals"]["L"]) == 3


def test_an_order_is_never_too_large_to_settle(cloud: Aws) -> None:
    """The largest order with all facts it can have, each of the largest inline size, fits DynamoDB's item; what comes
    then is kept beside, and none is lost."""
    order_id = _largest_order()  # and ids of 65 characters, whose hashes are longer than any id
    for number in range(ledger.MAX_FACTS):
        body = _padded(refunded(order_id, f"{number:065}", f"{number:065}"))
        assert deliver(body, "order.refunded") == "recorded"
    for number in range(ledger.MAX_MORE_PAYMENTS):  # no number of refunds shuts a payment out
        body = _padded(paid(order_id, f"{number:065}", variant="v" * 64))
        assert deliver(body) == ("second_payment" if number else "settled")
    order = cloud.order(order_id)
    assert sum(name.startswith("ref#") for name in order) == ledger.MAX_FACTS
    assert _item_size(order) < 400_000
    assert status(order_id) == "refunded"
    over = refunded(order_id, refund="over")
    assert deliver(over, "order.refunded") == "recorded"
    assert any(holds(item, json.dumps(over).encode()) for item in cloud.items().values())
    assert deliver(_padded(refunded(order_id, f"{0:065}", f"{0:065}")), "order.refunded") == "redelivered"


def test_two_large_bodies_for_one_order(cloud: Aws, order_id: str) -> None:
    """Bodies of 250 kB lie beside the order, which settles as ever."""
    first, second = (paid(order_id, sale, padding="x" * 250_000) for sale in ("sale1", "sale2"))
    assert (deliver(first), deliver(second)) == ("settled", "second_payment")
    order = cloud.order(order_id)
    raw = cloud.items()[order["pay#sale1"]["M"]["raw_item"]["S"]]
    assert raw["body"]["B"] == json.dumps(first).encode()


def test_invariant_8_a_business_reason_never_gives_a_4xx(cloud: Aws, order_id: str) -> None:
    """Signed and odd is answered 200: a 4xx would tell Pocketsflow to forget it."""
    for content in ({}, [], 1, "x", None, {"event": 3}, paid(order_id, product=""), paid(order_id, amount="64.99")):
        assert deliver(content) == "recorded"


def test_invariant_9_no_secret_and_no_person_in_the_logs(
    cloud: Aws, order_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log lines and metrics carry ids and outcomes, whatever happened."""
    lines = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", lines)
    deliver(paid(order_id))
    deliver(paid(order_id, "sale2"))
    deliver(paid(None, "sale3"))
    deliver(b"buyer@example.com", "x")
    webhook.handler(delivery(paid(order_id), x_pocketsflow_signature="0" * 64), Context(4))
    monkeypatch.setattr(events, "parse", lambda body, name, order_of: {}[body])
    deliver(paid(order_id, "sale4"))
    printed = lines.getvalue() + capsys.readouterr().out
    for expected in (order_id, "pay#sale1", '"outcome":"settled"', "KeyError at test_invariants.py"):
        assert expected in printed
    for hidden in (
        SECRET,
        API_KEY,
        "buyer@example.com",
        "Jane",
        "64.99",
        "wh_1",
        sign(json.dumps(paid(order_id)).encode()),
    ):
        assert hidden not in printed


def test_invariant_10_no_usable_secret_refuses_every_webhook(cloud: Aws, order_id: str) -> None:
    """Empty, missing or placeholder: 503 for what is signed with it, and nothing is stored."""
    before = cloud.items()
    for value in (" ", "whsec_", "whsec_xxx", "whsec_sandbox", "changeme", "0123456789012345678901234567890"):
        cloud.put_secret("WebhookSecrets", value)
        secrets._copies.clear()
        body = json.dumps(paid(order_id)).encode()
        signed = delivery(body, x_pocketsflow_signature=sign(body, value))
        code, problem = answered(webhook.handler(signed, Context(4)))
        assert (code, problem["code"]) == (503, "webhook_secret_missing")
    assert cloud.items() == before


def test_invariant_11_amounts_are_kept_as_they_came(cloud: Aws, order_id: str) -> None:
    """64.990 stays 64.990: no float comes near."""
    deliver(json.dumps(paid(order_id)).replace("64.99", "64.990").replace("60.0", "0.1000").encode())
    fact = cloud.order(order_id)["pay#sale1"]["M"]
    assert (fact["amount"]["S"], fact["amount_before_tax"]["S"]) == ("64.990", "0.1000")


def test_invariant_12_time_is_passed_in(cloud: Aws, order_id: str) -> None:
    """Every time in the ledger is one that the caller gave."""
    body = json.dumps(paid(order_id)).encode()
    fact = events.parse(body, "order.completed")
    assert isinstance(fact, events.Payment)
    ledger.record(fact, body, LATER, source="webhook")
    assert cloud.order(order_id)["created_at"]["S"] == table.timestamp(NOW) == "2026-11-23T12:00:00.000Z"
    state = ledger.state(order_id)
    assert state is not None
    assert state.updated_at == "2026-11-23T12:00:30.000Z"


def test_invariant_14_only_our_order_id_is_read_from_metadata(cloud: Aws, order_id: str) -> None:
    """What else a browser put there changes nothing; the ledger keeps what it stored itself, as untrusted."""
    hostile = {"external_order_id": order_id, "product": OTHER_PRODUCT, "status": "paid", "cart": "8", "pk": "order#x"}
    assert deliver(paid(order_id) | {"metadata": hostile}) == "settled"
    order = cloud.order(order_id)
    assert order["untrusted_metadata"]["M"] == {"cart": {"S": "7"}}
    assert order["product_id"]["S"] != OTHER_PRODUCT


def test_invariant_15_no_setting_weakens_a_check() -> None:
    """The provider's address is a literal of the template, the stage that accepts http and short keys cannot be
    deployed, and outside of it both are refused."""
    text = (ROOT / "template.yaml").read_text()
    assert "POCKETSFLOW_URL: https://api.pocketsflow.com\n" in text
    pattern = re.search(r"  Stage:\n.*\n.*\n    AllowedPattern: (\S+)\n", text)
    assert pattern is not None
    assert re.fullmatch(pattern[1], "prod")
    assert not re.fullmatch(pattern[1], "sandbox")
    assert not deployment.SANDBOX
    assert not pocketsflow._is_payable("http://127.0.0.1:8002/checkout")
    assert not secrets._usable("whsec_sandbox")
    assert addresses.origin("http://localhost:8000", loopback=False) is None


def _largest_order() -> str:
    """Every field as long as a checkout may make it, in characters of four bytes where it may choose them."""
    metadata = {f"{number:02}{'😀' * 38}": "😀" * 500 for number in range(20)}
    order = ledger.Order(orders.new_id(NOW), Item(PRODUCT, "s" * 64, "v" * 64), f"{'😀' * 64}@{'😀' * 189}", metadata)
    ledger.open_order(order, None, "f", NOW)
    ledger.attach_session(order.id, "c" * 256, "https://" + "u" * 2_040)
    return order.id


def _padded(content: dict[str, Any]) -> dict[str, Any]:
    """Of the largest size that is kept inline."""
    padded = {**content, "padding": ""}
    return {**padded, "padding": "x" * (ledger.MAX_INLINE_BODY - len(json.dumps(padded)))}


def _item_size(item: dict[str, Any]) -> int:
    """Bytes as DynamoDB counts them, rounded up: names, values, and a few for each nested value."""
    total = 0
    for name, value in item.items():
        [(kind, content)] = value.items()
        nested = content if kind == "M" else dict(enumerate(content)) if kind == "L" else None
        size = (
            _item_size({str(key): inner for key, inner in nested.items()})
            if nested is not None
            else len(content)
            if kind in "SNB"
            else 1
        )
        total += len(name.encode()) + size + 4
    return total
