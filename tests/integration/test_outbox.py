"""payments.outbox: what each write to the ledger tells. The writes are real, the images those of the table's stream."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payments import events, ledger, orders, outbox, rows, sales, subscriptions, table
from payments.events import Payment, Refund, SubscriptionChanged
from payments.ledger import NO_FLAGS, Flags
from payments.outbox import Event
from payments.subscriptions import Renewal
from sandbox import aws
from tests import conftest
from tests.conftest import Aws
from tests.event_schemas import check
from tests.integration.conftest import open_order
from tests.payloads import NOW, OTHER_PRODUCT, PRODUCT, paid, refunded, subscribed, unknown

EXAMPLES = settings(conftest.EXAMPLES, max_examples=60)
Image = dict[str, Any]


class Shop:
    """A ledger, and what its writes tell: each event a well-formed one, told for the first and only time."""

    def __init__(self, stack: Aws) -> None:
        self._stream: str = stack.dynamodb.describe_table(TableName=stack.table)["Table"]["LatestStreamArn"]
        self._position = 0
        self._ids: set[str] = set()
        self.now = NOW
        self.writes: list[tuple[Image, Image]] = []
        """Images before and after, of the last thing that happened."""

    def told(self, write: Callable[[datetime], object], at: datetime | None = None) -> list[Event]:
        """What the stream tells of what `write` writes, a second after all that was before."""
        self.now += timedelta(seconds=1)
        write(at or self.now)
        records, self._position = aws.read_stream(self._stream, self._position)
        changes = [record["dynamodb"] for record in records]
        self.writes = [(table.plain(change.get("OldImage", {})), table.plain(change["NewImage"])) for change in changes]
        return [event for old, new in self.writes for event in self._events(old, new)]

    def _events(self, old: Image, new: Image) -> list[Event]:
        found = outbox.events(old, new)
        assert outbox.events(copy.deepcopy(old), copy.deepcopy(new)) == found
        assert outbox.events(new, new) == []
        for event in found:
            detail = check(event)
            assert detail["id"] not in self._ids, f"{event.type} of {event.fact} told twice"
            self._ids.add(detail["id"])
            text = json.dumps({**detail, "customer_email": None})
            assert not [word for word in ("Jane", "Buyer", "buyer@", "webhookId") if word in text]
        return found

    # --- What happens to an order -------------------------------------------------------------------------------------

    def hear(self, content: dict[str, Any], name: str = "", **changes: Any) -> list[Event]:
        """A webhook's fact."""
        body = json.dumps(content).encode()
        fact: Any = events.parse(body, name or content["event"])
        return self.told(lambda now: ledger.record(replace(fact, **changes), body, now, "webhook"))

    def find(self, fact: Payment | Refund, flags: Flags = NO_FLAGS) -> list[Event]:
        """A fact of the API's."""
        return self.told(lambda now: ledger.record(fact, None, now, "api", flags))

    def observe(self, order_id: str, payment: str = "sale1", **flags: bool) -> list[Event]:
        shown = Flags(**{"refunded": False, "disputed": False, **flags})
        return self.told(lambda now: ledger.observe(order_id, payment, shown, now))

    def disown(self, order_id: str, payment: str) -> list[Event]:
        """The payment belongs to another order."""
        return self.told(lambda now: ledger.disown(order_id, {"payment_id": payment}, now))

    def judge(self, payment: Payment | str, verdict: sales.Verdict, *candidates: str) -> list[Event]:
        return self.told(lambda now: sales.judge(payment, verdict, list(candidates), {}, now, item={}))

    # --- and to a subscription ----------------------------------------------------------------------------------------

    def change(self, state: events.State = "active", **changes: Any) -> list[Event]:
        fields: Any = {"order_id": None, "product_id": PRODUCT, "cancel_at_period_end": False, "period_start": None}
        fields |= {"period_end": None, "customer_reference": "user-1", "email": "buyer@example.com", **changes}
        return self.told(lambda now: subscriptions.record(SubscriptionChanged("sub1", state, **fields), now, "webhook"))

    def begin(self, order_id: str) -> list[Event]:
        """An order is paid by a subscription, and the two are linked."""
        found = self.hear(subscribed(order_id), "customer.subscription.created")
        order = ledger.read(order_id)
        assert order is not None
        return found + self.told(lambda now: subscriptions.link(order_id, order["sub#sub1"], order, now))

    def renew(self, payment: str, **subscription: Any) -> list[Event]:
        renewal = Renewal(payment, "sub1", Decimal("9.00"), "usd", "2026-12-23")
        return self.told(lambda now: subscriptions.record_renewal(renewal, subscription, now))

    def keep(self, reason: str, body: bytes = b"{}", sent_at: str = "1795463363515") -> list[Event]:
        return self.told(lambda now: ledger.keep(body, reason, "review.created", sent_at, now))


@pytest.fixture
def shop(cloud: Aws) -> Shop:
    return Shop(cloud)


def by_api(order_id: str | None, payment: str = "sale1", **changes: Any) -> Payment:
    row = {"_id": payment, "productId": PRODUCT, "grossAmount": Decimal("64.99"), "currency": "usd", **changes}
    sale = rows.sale({"buyerEmail": "buyer@example.com", **row})
    assert sale is not None
    return sale.of(order_id).payment


def refund_by_api(
    order_id: str | None,
    payment: str = "sale1",
    refund: str = "ref1",
    amount: str | None = "64.99",
    status: str = "completed",
) -> Refund:
    row = {"_id": refund, "orderId": payment, "amount": amount and Decimal(amount), "status": status}
    found = rows.refund(row)
    assert found is not None
    return replace(found, order_id=order_id)


def types(found: list[Event]) -> list[str]:
    return [event.type for event in found]


def only(found: list[Event], event_type: str) -> dict[str, Any]:
    """The detail of the single event."""
    assert types(found) == [event_type]
    return found[0].detail


# --- Nothing to tell --------------------------------------------------------------------------------------------------


def test_a_checkout_tells_nothing(shop: Shop) -> None:
    """Opening an order, with a key or without, attaching its session and failing at it are nobody's business."""
    order_id = open_order()
    key = ledger.Order(orders.new_id(NOW), ledger.Item(PRODUCT), None, {})
    for write in (
        lambda now: ledger.open_order(key, "key", "fingerprint", now),
        lambda now: ledger.mark_failed(order_id, "pocketsflow_busy"),
        lambda now: ledger.attach_session(order_id, "cs_1", "https://shop.pocketsflow.com/checkout?s=1"),
        lambda now: ledger.ask_to_reconcile(now),
    ):
        assert shop.told(write) == []
        assert shop.writes != []


def test_what_changes_nothing_tells_nothing(shop: Shop) -> None:
    """A redelivery, in these words or in others, a pending refund, a claim, and a failed refund that never counted."""
    order_id = open_order()
    assert types(shop.hear(paid(order_id))) == ["order.paid"]
    assert shop.hear(paid(order_id)) == []
    assert shop.writes == []
    assert shop.hear(paid(order_id, amount=1)) == []
    assert shop.hear(refunded(order_id, refund="ref2", status="pending")) == []
    assert shop.hear({**paid(order_id), "event": "order.refunded"}) == []
    assert "claim#sale1#refund" in shop.writes[-1][1]
    assert shop.find(refund_by_api(order_id, status="failed")) == []
    assert shop.observe(order_id) == []
    assert shop.writes != []
    payment = {"payment_id": "sale1", "source": "api", "kind": "payment"}
    assert shop.told(lambda now: sales.link(order_id, payment, now)) == []
    assert shop.told(lambda now: sales.mark_seen("sale1", {"amount": "64.99"}, ["ref1#completed"], now)) == []
    assert shop.told(lambda now: sales.await_confirmation("sale1", now, order_id)) == []


# --- Payments of an order ---------------------------------------------------------------------------------------------


def test_paid(shop: Shop) -> None:
    """The payment that settles an order is told with all that a shop needs in order to deliver."""
    order_id = open_order(sku="course")
    detail = only(shop.hear(paid(order_id)), "order.paid")
    assert detail["order_id"] == order_id
    assert detail["subject"] == f"order#{order_id}"
    assert (detail["revision"], detail["mode"], detail["occurred_at"]) == (1, "test", table.timestamp(shop.now))
    assert (detail["status"], detail["change"]) == ("paid", {"from": "pending", "to": "paid"})
    assert (detail["sku"], detail["product_id"], detail["untrusted_metadata"]) == ("course", PRODUCT, {"cart": "7"})
    assert detail["customer_email"] == "buyer@example.com"
    assert detail["payment"] == {
        "id": "sale1",
        "kind": "payment",
        "subscription_id": None,
        "product_id": PRODUCT,
        "variant_id": None,
        "amount": "64.99",
        "amount_before_tax": "60.0",
        "unit": None,
        "currency": "usd",
        "source": "webhook",
        "confirmed": True,
    }


def test_what_the_api_found_is_told_alike(shop: Shop) -> None:
    """A payment of the API's settles as a webhook's does, and says what its amounts count."""
    detail = only(shop.find(by_api(open_order())), "order.paid")
    payment = detail["payment"]
    assert (payment["source"], payment["unit"], payment["confirmed"]) == ("api", "major", True)


def test_the_payers_address_wins(shop: Shop) -> None:
    """Who paid is told, not who was typed in; and who was typed in where the payment does not say."""
    assert shop.hear(paid(open_order(), customer={"email": "payer@example.com"}))[0].detail["customer_email"] == (
        "payer@example.com"
    )
    assert shop.hear(paid(open_order(), customer={}))[0].detail["customer_email"] == "buyer@example.com"


def test_an_unsigned_name_is_told_as_unconfirmed(shop: Shop) -> None:
    """A body that does not name its own event says so in the event."""
    content = paid(open_order())
    del content["event"]
    assert only(shop.hear(content, "order.completed"), "order.paid")["payment"]["confirmed"] is False


@pytest.mark.parametrize(("wire", "told"), [("1e2", "100"), ("-0", "0"), ("1.50E+1", "15.0"), ("0.000001", "0.000001")])
def test_amounts_are_told_in_digits(shop: Shop, wire: str, told: str) -> None:
    """However a number is written on the wire, its event has plain digits."""
    order_id = open_order()
    body = json.dumps(paid(order_id)).replace("64.99", wire).encode()
    fact: Any = events.parse(body, "order.completed")
    found = shop.told(lambda now: ledger.record(fact, body, now, "webhook"))
    assert found[0].detail["payment"]["amount"] == told


def test_a_second_payment(shop: Shop) -> None:
    """Paid twice: the second is told as such, and the order's status stays."""
    order_id = open_order()
    shop.hear(paid(order_id))
    detail = only(shop.hear(paid(order_id, "sale2")), "payment.second")
    assert (detail["payment"]["id"], detail["status"], detail["revision"]) == ("sale2", "paid", 2)


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        pytest.param({}, {"product": OTHER_PRODUCT}, id="product"),
        pytest.param({"variant_id": "a2"}, {"variant": "a3"}, id="variant"),
        pytest.param(
            {"price": Decimal("49.00"), "currency": "usd", "hold_on_difference": True}, {}, id="held amount"
        ),
    ],
)  # fmt: skip
def test_a_mismatched_payment(shop: Shop, item: dict[str, Any], changes: dict[str, Any]) -> None:
    """What was not ordered settles nothing and is told; the right payment still settles."""
    order_id = open_order(**item)
    detail = only(shop.hear(paid(order_id, **changes)), "payment.mismatched")
    assert (detail["reason"], detail["status"]) == ("not_what_was_ordered", "mismatched")
    right = paid(order_id, "sale2", variant=item.get("variant_id"), amountBeforeTax=49)
    assert only(shop.hear(right), "order.paid")["change"] == {"from": "mismatched", "to": "paid"}


def test_a_payment_of_another_order(shop: Shop) -> None:
    """A payment that turns out to be another order's is taken back, and the one after it settles: it is paid then."""
    order_id = open_order()
    shop.hear(paid(order_id))
    second = only(shop.hear(paid(order_id, "sale2")), "payment.second")
    found = shop.disown(order_id, "sale1")
    assert types(found) == ["order.paid", "payment.mismatched"]
    won, lost = (event.detail for event in found)
    assert (won["payment"]["id"], lost["payment"]["id"]) == ("sale2", "sale1")
    assert (lost["reason"], lost["status"]) == ("belongs_to_another_order", "paid")
    assert won["id"] != second["id"]
    assert lost["occurred_at"] == table.timestamp(shop.now)


def test_the_only_payment_of_another_order(shop: Shop) -> None:
    """With no other payment the order is paid no more; that is told, even of one that was told as mismatched before."""
    order_id = open_order()
    shop.hear(paid(order_id))
    detail = only(shop.disown(order_id, "sale1"), "payment.mismatched")
    assert detail["change"] == {"from": "paid", "to": "mismatched"}
    order_id = open_order()
    shop.hear(paid(order_id, product=OTHER_PRODUCT))
    assert only(shop.disown(order_id, "sale1"), "payment.mismatched")["reason"] == "belongs_to_another_order"


def test_what_waited_is_told_of_the_new_winner(shop: Shop) -> None:
    """A second payment that was given back, by refunds or by its flag, is a refunded order once it has won."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(paid(order_id, "sale2"))
    assert types(shop.hear(refunded(order_id, "sale2"))) == ["payment.refunded"]
    found = shop.disown(order_id, "sale1")
    assert types(found) == ["order.paid", "payment.mismatched", "order.refunded"]
    assert {event.detail["status"] for event in found} == {"refunded"}
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(paid(order_id, "sale2"))
    assert types(shop.observe(order_id, "sale2", refunded=True, disputed=True)) == [
        "order.disputed",
        "payment.refunded",
    ]
    assert types(shop.disown(order_id, "sale1")) == ["order.paid", "payment.mismatched", "order.refunded"]


# --- Refunds of an order's payments -----------------------------------------------------------------------------------


def test_a_full_refund(shop: Shop) -> None:
    """All of the money: the order is refunded."""
    order_id = open_order()
    shop.hear(paid(order_id))
    detail = only(shop.hear(refunded(order_id)), "order.refunded")
    assert detail["refund"] == {"id": "ref1", "amount": "64.99", "unit": None, "total": "64.99"}
    assert (detail["status"], detail["payment"]["id"]) == ("refunded", "sale1")
    assert detail["occurred_at"] == table.timestamp(shop.now)


def test_several_refunds(shop: Shop) -> None:
    """Each is told with its own amount and with the total so far; the last one makes the order refunded."""
    order_id = open_order()
    shop.hear(paid(order_id))
    first = only(shop.hear(refunded(order_id, refund="ref1", amount=10)), "order.partially_refunded")
    second = only(shop.find(refund_by_api(order_id, refund="ref2", amount="4.99")), "order.partially_refunded")
    last = only(shop.hear(refunded(order_id, refund="ref3", amount=50)), "order.refunded")
    assert [each["refund"]["amount"] for each in (first, second, last)] == ["10", "4.99", "50"]
    assert [each["refund"]["total"] for each in (first, second, last)] == ["10", "14.99", "64.99"]
    assert [each["refund"]["unit"] for each in (first, second, last)] == [None, "major", None]


def test_more_than_was_paid(shop: Shop) -> None:
    """More back than was paid is a refund, and an anomaly for a person; the refund of a second payment is none."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(paid(order_id, "sale2"))
    shop.hear(refunded(order_id))
    found = shop.hear(refunded(order_id, refund="ref2", amount=0.01))
    assert types(found) == ["order.refunded", "order.refund_anomaly"]
    assert found[1].detail["anomaly"] == "more_than_paid"
    assert found[1].detail["refund"] == {"id": "ref2", "amount": "0.01", "unit": None, "total": "65.00"}
    assert types(shop.hear(refunded(order_id, "sale2"))) == ["payment.refunded"]


def test_a_refund_before_its_payment(shop: Shop) -> None:
    """A refund of no known payment tells nothing yet; the payment tells both, and that the money is gone."""
    order_id = open_order()
    assert shop.hear(refunded(order_id, status="pending")) == []
    assert shop.hear(refunded(order_id)) == []
    waited = table.timestamp(shop.now)
    found = shop.hear(paid(order_id))
    assert types(found) == ["order.paid", "order.refunded"]
    assert {event.detail["status"] for event in found} == {"refunded"}
    assert found[1].fact == "ref#sale1#ref1#succeeded"
    assert found[1].detail["occurred_at"] == waited


@pytest.mark.parametrize("changes", [{"product": PRODUCT}, {"product": OTHER_PRODUCT}], ids=["second", "mismatched"])
def test_a_payment_that_settled_nothing_is_given_back(shop: Shop, changes: dict[str, Any]) -> None:
    """What was paid in vain is told as refunded; the order stays as it is."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(paid(order_id, "sale2", **changes))
    detail = only(shop.hear(refunded(order_id, "sale2")), "payment.refunded")
    assert (detail["status"], detail["payment"]["id"]) == ("paid", "sale2")
    assert detail["change"] == {"from": "paid", "to": "paid"}


def test_a_refund_of_another_orders_payment_is_told_there(shop: Shop) -> None:
    """Once a payment is another order's, its refunds and flags are that order's to tell."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.disown(order_id, "sale1")
    assert shop.hear(refunded(order_id)) == []
    assert shop.observe(order_id, disputed=True) == []


@pytest.mark.parametrize("by_webhook_first", [True, False])
def test_one_refund_under_two_words(shop: Shop, by_webhook_first: bool) -> None:
    """succeeded and completed are one refund and one event."""
    order_id = open_order()
    shop.hear(paid(order_id))
    said = [lambda: shop.hear(refunded(order_id)), lambda: shop.find(refund_by_api(order_id))]
    first, second = said if by_webhook_first else reversed(said)
    assert types(first()) == ["order.refunded"]
    assert second() == []
    assert shop.writes != []


def test_a_refund_that_fails_after_all(shop: Shop) -> None:
    """A refund told as gone through that fails is an anomaly: the money is still here, and the order paid again."""
    order_id = open_order()
    shop.find(by_api(order_id))
    shop.find(refund_by_api(order_id))
    detail = only(shop.find(refund_by_api(order_id, amount=None, status="failed")), "order.refund_anomaly")
    assert detail["anomaly"] == "refund_failed"
    assert detail["change"] == {"from": "refunded", "to": "paid"}
    assert detail["refund"] == {"id": "ref1", "amount": "64.99", "unit": "major", "total": "0"}
    assert detail["occurred_at"] == table.timestamp(shop.now)
    assert shop.hear(refunded(order_id)) == []


def test_a_refund_that_grows(shop: Shop) -> None:
    """A larger amount for the same refund is told, by the fact that says so; a smaller one is not."""
    order_id = open_order()
    shop.hear(paid(order_id))
    first = only(shop.hear(refunded(order_id, amount=10)), "order.partially_refunded")
    second = only(shop.find(refund_by_api(order_id, amount="20.00")), "order.partially_refunded")
    assert first["id"] != second["id"]
    assert second["refund"] == {"id": "ref1", "amount": "20.00", "unit": "major", "total": "20.00"}
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(refunded(order_id, amount=20))
    assert shop.find(refund_by_api(order_id, amount="10.00")) == []


def test_the_unit_is_that_of_the_amount(shop: Shop) -> None:
    """Of two amounts for a refund that waited, the one told is told in its own unit."""
    order_id = open_order()
    shop.find(refund_by_api(order_id, amount="64.99"))
    shop.hear(refunded(order_id, amount=6499))
    refund = shop.hear(paid(order_id))[1].detail["refund"]
    assert (refund["amount"], refund["unit"]) == ("6499", None)


def test_a_refund_without_an_amount(shop: Shop) -> None:
    """It counts as partial, and no amount is made up for it; the amount is told once it is known."""
    order_id = open_order()
    shop.hear(paid(order_id))
    first = only(shop.hear(refunded(order_id), amount=None), "order.partially_refunded")
    assert first["refund"] == {"id": "ref1", "amount": None, "unit": None, "total": "0"}
    assert only(shop.find(refund_by_api(order_id)), "order.refunded")["refund"]["amount"] == "64.99"


# --- What the API shows as flags --------------------------------------------------------------------------------------


def test_a_dispute_and_its_end(shop: Shop) -> None:
    """Both are told, each time; what was observed before and is the same is not."""
    order_id = open_order()
    shop.hear(paid(order_id))
    opened = only(shop.observe(order_id, disputed=True), "order.disputed")
    assert (opened["status"], opened["payment"]["id"]) == ("disputed", "sale1")
    assert opened["occurred_at"] == table.timestamp(shop.now)
    assert shop.observe(order_id, disputed=True) == []
    assert only(shop.observe(order_id), "order.dispute_closed")["change"] == {"from": "disputed", "to": "paid"}
    assert only(shop.observe(order_id, disputed=True), "order.disputed")["id"] != opened["id"]


def test_a_dispute_of_the_second_payment(shop: Shop) -> None:
    """It is told, for a person; the order itself is not disputed."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(paid(order_id, "sale2"))
    detail = only(shop.observe(order_id, "sale2", disputed=True), "order.disputed")
    assert (detail["payment"]["id"], detail["status"]) == ("sale2", "paid")


def test_a_payment_that_comes_with_its_flags(shop: Shop) -> None:
    """Found late, disputed and refunded already: all of it is told at once, with one status."""
    found = shop.find(by_api(open_order()), Flags(refunded=True, disputed=True))
    assert types(found) == ["order.paid", "order.disputed", "order.refunded"]
    assert {event.detail["status"] for event in found} == {"refunded"}


def test_flags_that_were_written_first(shop: Shop) -> None:
    """Flags of a payment that the order does not know yet are told with the payment."""
    order_id = open_order()
    assert shop.observe(order_id, disputed=True) == []
    assert types(shop.hear(paid(order_id))) == ["order.paid", "order.disputed"]


def test_refunded_by_its_flag_then_by_the_refund(shop: Shop) -> None:
    """The flag alone makes the order refunded, with nothing known of the refund; the refund is told when it comes."""
    order_id = open_order()
    shop.hear(paid(order_id))
    flagged = only(shop.observe(order_id, refunded=True), "order.refunded")
    assert flagged["refund"] == {"id": None, "amount": None, "unit": None, "total": None}
    assert shop.observe(order_id, refunded=True) == []
    partial = only(shop.find(refund_by_api(order_id, amount="10.00")), "order.partially_refunded")
    assert partial["change"] == {"from": "refunded", "to": "partially_refunded"}
    whole = only(shop.find(refund_by_api(order_id, refund="ref2", amount="54.99")), "order.refunded")
    assert whole["refund"]["total"] == "64.99"
    assert shop.observe(order_id, refunded=False) == []


def test_the_flag_after_the_refund(shop: Shop) -> None:
    """A refund that is known makes its flag no news."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.hear(refunded(order_id))
    assert shop.observe(order_id, refunded=True) == []
    assert shop.writes != []


def test_a_flag_that_is_withdrawn(shop: Shop) -> None:
    """Refunded by a flag that the API takes back: the order is paid again, and a person is told."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.observe(order_id, refunded=True)
    detail = only(shop.observe(order_id, refunded=False), "order.refund_anomaly")
    assert (detail["anomaly"], detail["change"]) == ("refund_withdrawn", {"from": "refunded", "to": "paid"})


def test_drift(shop: Shop) -> None:
    """What Pocketsflow denies is told once, with the payment as the ledger holds it; the status stays."""
    order_id = open_order()
    shop.hear(paid(order_id, customer={"email": "payer@example.com"}))
    sides = {"ours": "64.99", "theirs": "49.00"}
    detail = only(shop.told(lambda now: ledger.note_drift(order_id, "sale1", "amount", now, **sides)), "ledger.drift")
    assert detail["drift"] == {"what": "amount", **sides}
    assert (detail["payment"]["amount"], detail["payment"]["id"], detail["status"]) == ("64.99", "sale1", "paid")
    assert detail["customer_email"] == "payer@example.com"
    assert shop.told(lambda now: ledger.note_drift(order_id, "sale1", "amount", now, **sides)) == []
    other = only(shop.told(lambda now: ledger.note_drift(order_id, "sale1", "payment", now)), "ledger.drift")
    assert other["id"] != detail["id"]


def test_drift_of_a_payment_that_is_not_here(shop: Shop) -> None:
    """Its id is all that is told of it, and nothing of it is confirmed."""
    order_id = open_order()
    detail = only(shop.told(lambda now: ledger.note_drift(order_id, "sale9", "refund", now)), "ledger.drift")
    payment = {name: value for name, value in detail["payment"].items() if value is not None}
    assert payment == {"id": "sale9", "confirmed": False}


# --- Payments of no order ---------------------------------------------------------------------------------------------


def test_an_unmatched_payment(shop: Shop) -> None:
    """Nothing is told before the verdict; then once, with the orders that it may have been meant for."""
    order_id = open_order()
    assert shop.hear(paid(unknown(order_id))) == []
    likely = sales.candidates(PRODUCT, "Buyer@example.com", NOW + timedelta(minutes=1))
    assert likely == [order_id]
    detail = only(shop.judge(by_api(None), "unmatched", *likely), "payment.unmatched")
    assert (detail["order_id"], detail["candidates"]) == (None, [order_id])
    assert (detail["subject"], detail["mode"]) == ("sale#sale1", "test")
    assert (detail["payment"]["id"], detail["customer_email"]) == ("sale1", "buyer@example.com")
    assert shop.judge(by_api(None), "foreign") == []


def test_an_unmatched_payment_that_the_api_denies(shop: Shop) -> None:
    """What its webhook said is all there is, and is told."""
    shop.hear(paid(unknown(open_order())))
    detail = only(shop.judge("sale1", "unmatched"), "payment.unmatched")
    assert (detail["payment"]["amount"], detail["payment"]["source"]) == ("64.99", "webhook")


def test_a_foreign_payment_and_its_refund(shop: Shop) -> None:
    """Told once, for information; what becomes of it is not this shop's business."""
    detail = only(shop.judge(by_api(None), "foreign"), "payment.foreign")
    assert (detail["candidates"], detail["payment"]["unit"]) == ([], "major")
    assert shop.find(refund_by_api(None)) == []
    assert shop.find(refund_by_api(None, status="failed")) == []
    assert shop.writes != []


def test_a_refund_of_an_unmatched_payment(shop: Shop) -> None:
    """It is told: larger when it grows, once for two words, and when it fails after all."""
    shop.judge(by_api(None), "unmatched")
    detail = only(shop.hear(refunded(None, amount=10)), "payment.refunded")
    assert (detail["order_id"], detail["status"], detail["change"]) == (None, None, {"from": None, "to": None})
    assert detail["refund"] == {"id": "ref1", "amount": "10", "unit": None, "total": "10"}
    assert (detail["payment"]["id"], detail["mode"]) == ("sale1", "test")
    grown = only(shop.find(refund_by_api(None, amount="64.99")), "payment.refunded")
    assert (grown["refund"]["amount"], grown["refund"]["unit"]) == ("64.99", "major")
    assert shop.hear(refunded(None, refund="ref2", status="pending")) == []
    failed = only(shop.find(refund_by_api(None, status="failed")), "order.refund_anomaly")
    assert (failed["anomaly"], failed["order_id"], failed["refund"]["total"]) == ("refund_failed", None, "0")


def test_a_refund_that_waits_for_the_verdict(shop: Shop) -> None:
    """A refund of a payment that nobody has judged is told with the verdict, not before."""
    assert shop.hear(refunded(None)) == []
    assert shop.hear(paid(None)) == []
    assert types(shop.judge(by_api(None), "unmatched")) == ["payment.unmatched", "payment.refunded"]


def test_a_sale_that_has_its_order_is_silent(shop: Shop) -> None:
    """What lies beside a payment of an order is told by the order."""
    order_id = open_order()
    shop.hear(paid(order_id))
    shop.told(lambda now: sales.link(order_id, {"payment_id": "sale1", "source": "webhook", "kind": "payment"}, now))
    assert shop.hear(refunded(None)) == []
    [(_, sale)] = shop.writes
    assert sale["pk"] == "sale#sale1"
    name = "ref#sale1#ref1#succeeded"
    assert types(shop.told(lambda now: ledger.copy_to_order(order_id, name, sale[name], now))) == ["order.refunded"]


def test_an_unmatched_payment_that_finds_its_order(shop: Shop) -> None:
    """From then on its refunds are the order's to tell."""
    order_id = open_order()
    shop.judge(by_api(None), "unmatched", order_id)
    shop.find(by_api(order_id))
    payment = {"payment_id": "sale1", "source": "api", "kind": "payment"}
    assert shop.told(lambda now: sales.link(order_id, payment, now)) == []
    assert shop.hear(refunded(None)) == []
    assert shop.writes[-1][1]["pk"] == "sale#sale1"


# --- Subscriptions ----------------------------------------------------------------------------------------------------


def test_a_subscription_that_an_order_began(shop: Shop) -> None:
    """The order is paid by it, and the subscription starts with the order's id and with what the page had sent."""
    order_id = open_order(sku="membership")
    found = shop.begin(order_id)
    assert types(found) == ["order.paid", "subscription.started"]
    order, subscription = (event.detail for event in found)
    payment = order["payment"]
    assert (payment["kind"], payment["subscription_id"], payment["amount"]) == ("subscription", "sub1", None)
    assert (subscription["order_id"], subscription["subject"]) == (order_id, "subscription#sub1")
    assert (subscription["sku"], subscription["untrusted_metadata"]) == ("membership", {"cart": "7"})
    assert subscription["change"] == {"from": None, "to": "active"}
    assert subscription["subscription"] == {
        "id": "sub1",
        "state": "active",
        "access": True,
        "product_id": PRODUCT,
        "cancel_at_period_end": False,
        "period_start": None,
        "period_end": None,
        "payments": 0,
        "customer_reference": None,
    }


def test_a_subscription_that_finds_its_order_later(shop: Shop) -> None:
    """Sold elsewhere, as far as is known; when its order appears the link is a change."""
    assert only(shop.change("trialing"), "subscription.started")["order_id"] is None
    order_id = open_order()
    found = shop.begin(order_id)
    assert types(found) == ["order.paid", "subscription.changed"]
    detail = found[1].detail
    assert (detail["order_id"], detail["change"]) == (order_id, {"from": "trialing", "to": "trialing"})
    assert detail["customer_email"] == "buyer@example.com"


def test_the_life_of_a_subscription(shop: Shop) -> None:
    """Each change of what matters is told, each with an id of its own; the same state again is not."""
    assert types(shop.change()) == ["subscription.started"]
    assert shop.change() == []
    assert shop.writes != []
    renewed = only(shop.change(period_end="2026-12-23"), "subscription.changed")
    assert renewed["subscription"]["period_end"] == "2026-12-23"
    late = shop.change("past_due")
    assert types(late) == ["subscription.changed", "subscription.payment_failed"]
    assert {event.detail["subscription"]["access"] for event in late} == {True}
    assert shop.change("past_due") == []
    assert types(shop.change("past_due", period_end="2027-01-23")) == ["subscription.changed"]
    assert types(shop.change("active")) == ["subscription.changed"]
    assert types(shop.change("past_due")) == ["subscription.changed", "subscription.payment_failed"]
    assert only(shop.change("paused"), "subscription.changed")["subscription"]["access"] is True
    assert types(shop.change(cancel_at_period_end=True)) == ["subscription.changed"]
    assert types(shop.change(product_id=OTHER_PRODUCT, cancel_at_period_end=True)) == ["subscription.changed"]
    ended = only(shop.change("ended"), "subscription.ended")
    assert (ended["subscription"]["access"], ended["change"]["to"]) == (False, "ended")
    assert shop.change("active") == []


def test_a_subscription_that_is_seen_late(shop: Shop) -> None:
    """Heard of for the first time when it is over, or unpaid, it is told as that."""
    assert only(shop.change("ended"), "subscription.ended")["change"] == {"from": None, "to": "ended"}
    order_id = open_order()
    found = shop.begin(order_id)
    assert types(found) == ["order.paid", "subscription.changed"]
    assert found[1].detail["subscription"]["access"] is False


def test_a_subscription_that_begins_past_due(shop: Shop) -> None:
    """Both are told, with ids of their own."""
    assert types(shop.change("past_due")) == ["subscription.started", "subscription.payment_failed"]


def test_renewals(shop: Shop) -> None:
    """Each payment of a subscription is told once, with the order and the buyer; the count alone is no event."""
    order_id = open_order()
    shop.begin(order_id)
    subscription = subscriptions.read(["sub1"])["sub1"]
    detail = only(shop.renew("pay1", **subscription), "subscription.payment_succeeded")
    assert (detail["order_id"], detail["subscription_id"], detail["mode"]) == (order_id, "sub1", "test")
    payment = detail["payment"]
    assert (payment["id"], payment["kind"], payment["confirmed"]) == ("pay1", "renewal", True)
    assert (payment["amount"], payment["unit"]) == ("9.00", "major")
    assert (detail["customer_email"], detail["untrusted_metadata"]) == ("buyer@example.com", {"cart": "7"})
    assert shop.renew("pay1", **subscription) == []
    assert only(shop.renew("pay2", **subscription), "subscription.payment_succeeded")["id"] != detail["id"]
    assert shop.change(period_end="2027")[0].detail["subscription"]["payments"] == 2


def test_a_payment_of_a_subscription_before_the_subscription(shop: Shop) -> None:
    """It is told with what is known; the subscription starts when it is heard of."""
    detail = only(shop.renew("pay1"), "subscription.payment_succeeded")
    assert (detail["order_id"], detail["product_id"]) == (None, None)
    assert types(shop.change()) == ["subscription.started"]


def test_a_refund_of_a_renewal(shop: Shop) -> None:
    """It is told as a payment's, and says whose subscription it was."""
    order_id = open_order()
    shop.begin(order_id)
    shop.renew("pay1", **subscriptions.read(["sub1"])["sub1"])
    detail = only(shop.find(refund_by_api(None, "pay1", amount="9.00")), "payment.refunded")
    assert (detail["order_id"], detail["mode"]) == (order_id, "test")
    assert (detail["payment"]["id"], detail["payment"]["subscription_id"]) == ("pay1", "sub1")
    failed = only(shop.find(refund_by_api(None, "pay1", status="failed")), "order.refund_anomaly")
    assert failed["order_id"] == order_id


# --- Everything else that was signed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["other_event", "misfit", "unreadable", "item_full", "error"])
def test_other_webhooks(shop: Shop, reason: str) -> None:
    """Each delivery of a body that is no fact is told, though the body is the same; what was written twice is one."""
    body = b'{"customer": {"firstName": "Jane"}}'
    found = [only(shop.keep(reason, body, sent_at), "webhook.other") for sent_at in "123"]
    assert shop.keep(reason, body, "2") == []
    assert len([shop.keep(reason, body, "") for _ in range(2)]) == 2
    assert len({each["id"] for each in found}) == 3
    assert [each["revision"] for each in found] == [1, 2, 3]
    assert (found[0]["webhook"]["reason"], found[0]["webhook"]["event"]) == (reason, "review.created")
    assert f"raw#{found[0]['webhook']['sha256']}" == found[0]["subject"]


@pytest.mark.parametrize("reason", ["large", "other_words", "subscription"])
def test_bodies_that_are_told_elsewhere(shop: Shop, reason: str) -> None:
    """A body that only lies apart from its fact is no event; the next arrival of it may be one."""
    assert shop.keep(reason) == []
    assert shop.writes != []
    assert only(shop.keep("misfit"), "webhook.other")["webhook"]["reason"] == "misfit"


# --- Ids --------------------------------------------------------------------------------------------------------------


def test_an_id_knows_nobody(shop: Shop) -> None:
    """Whoever bought, in whatever words: the id is that of the item, the fact and the type, and a hash."""
    order_id = open_order()
    shop.hear(paid(order_id))
    old, new = shop.writes[-1]
    [event] = outbox.events(old, new)
    text = repr(new).replace("buyer@example.com", "other@example.com").replace("64.99", "1.00")
    [other] = outbox.events(old, eval(text))
    assert other.detail["customer_email"] == "other@example.com"
    assert other.detail["id"] == event.detail["id"]


def test_another_orders_fact_has_another_id(shop: Shop) -> None:
    """The same payment under two orders makes two ids (which the shop of these tests would refuse otherwise)."""
    found = [only(shop.hear(paid(open_order())), "order.paid") for _ in range(2)]
    assert found[0]["id"] != found[1]["id"]


# --- Any sequence of facts --------------------------------------------------------------------------------------------

Deed = tuple[str, str, Any]
PAYMENTS = {"sale1": PRODUCT, "sale2": PRODUCT, "sale3": OTHER_PRODUCT}
REFUND = st.tuples(
    st.sampled_from(["ref1", "ref1", "ref2"]),
    st.sampled_from(["succeeded", "completed", "failed", "pending"]),
    st.sampled_from([Decimal("64.99"), Decimal("10.00"), Decimal(6499), None]),
)
FLAGS = st.builds(Flags, st.booleans(), st.booleans())


def deeds(*payments: str) -> st.SearchStrategy[Deed]:
    of = st.sampled_from(payments)
    return st.one_of(
        st.tuples(st.just("pay"), of, st.none()),
        st.tuples(st.just("refund"), of, REFUND),
        st.tuples(st.just("observe"), of, FLAGS),
        st.tuples(st.just("drift"), of, st.sampled_from(["payment", "amount"])),
    )


def do(deed: Deed, order_id: str, now: datetime) -> None:
    kind, payment, more = deed
    match kind:
        case "pay":
            ledger.record(by_api(order_id, payment, productId=PAYMENTS[payment]), None, now, "api")
        case "refund":
            refund, status, amount = more
            fact = refund_by_api(order_id, payment, refund, status=status)
            ledger.record(replace(fact, amount=amount), None, now, "api")
        case "observe":
            ledger.observe(order_id, payment, more, now)
        case "drift":
            ledger.note_drift(order_id, payment, more, now)
        case "void":
            ledger.disown(order_id, {"payment_id": payment}, now)


def _fact(deed: Deed) -> Any:
    """What makes two deeds one fact; each observation is another."""
    kind, _, more = deed
    return object() if kind == "observe" else (kind, more[:2] if kind == "refund" else more)


def status_of(image: Image) -> str:
    return orders.status(ledger.item_of(image), ledger.facts_of(image), image.get("payments", []))


def winner_of(image: Image) -> str | None:
    return orders.winner(ledger.item_of(image), ledger.facts_of(image), image.get("payments", []))


def test_any_sequence_is_told_completely(cloud: Aws) -> None:
    """Whatever comes in whatever order: each write's events have the status that the facts add up to, no change of it
    is silent, each payment that wins is told as paid once, and each other one as second or mismatched once."""
    shop = Shop(cloud)
    voids = st.tuples(st.just("void"), st.sampled_from(list(PAYMENTS)), st.none())

    @EXAMPLES
    @given(st.lists(st.one_of(deeds(*PAYMENTS), deeds(*PAYMENTS), voids), min_size=1, max_size=12))
    def holds(done: list[Deed]) -> None:
        order_id = open_order()
        shop.told(lambda now: None)
        expected: Counter[tuple[str, str]] = Counter()
        found: list[Event] = []
        for deed in done:
            told = shop.told(partial(do, deed, order_id))
            found += told
            for old, new in shop.writes:
                before, after = status_of(old), status_of(new)
                changes = [(each.detail["status"], each.detail["change"]) for each in told]
                assert all(change == (after, {"from": before, "to": after}) for change in changes)
                assert told or before == after
                assert {each.detail["revision"] for each in told} <= {new["rev"]}
                expected.update(_must_be_told(old, new))
        counted = Counter((each.type, each.detail["payment"]["id"]) for each in found)
        singles = {"order.paid", "payment.second", "payment.mismatched"}
        assert {key: times for key, times in counted.items() if key[0] in singles} == expected
        order = ledger.read(order_id)
        assert order is not None
        assert (found[-1].detail["status"] if found else "pending") == status_of(order)
        paid_last = [each.detail["payment"]["id"] for each in found if each.type == "order.paid"][-1:]
        winner = winner_of(order)
        assert winner is None or paid_last == [winner.removeprefix("pay#")]

    holds()


def _must_be_told(old: Image, new: Image) -> list[tuple[str, str]]:
    """By the rules of README and architecture, of one write."""
    must, void = [], {name.removeprefix("void#") for name in new if name.startswith("void#")}
    winner = winner_of(new)
    if winner is not None and winner != winner_of(old):
        must.append(("order.paid", winner.removeprefix("pay#")))
    for name in new.get("payments", []):
        payment = name.removeprefix("pay#")
        if payment in void:
            if name not in old or f"void#{payment}" not in old:
                must.append(("payment.mismatched", payment))
        elif name not in old and PAYMENTS[payment] != PRODUCT:
            must.append(("payment.mismatched", payment))
        elif name not in old and name != winner:
            must.append(("payment.second", payment))
    return must


def test_the_last_word_does_not_depend_on_the_order(cloud: Aws) -> None:
    """One payment and any facts about it, in two orders: paid is told once, and the status told last is the same."""
    shop = Shop(cloud)

    @EXAMPLES
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        facts = [("pay", "sale1", None), *data.draw(st.lists(deeds("sale1"), max_size=7, unique_by=_fact))]
        timed = [(deed, NOW + timedelta(minutes=number)) for number, deed in enumerate(facts)]
        last = []
        for way in (timed, data.draw(st.permutations(timed))):
            found, order_id = [], open_order()
            for deed, at in way:
                found += shop.told(partial(do, deed, order_id), at)
            assert types(found).count("order.paid") == 1
            last.append(found[-1].detail["status"])
        assert last[0] == last[1]

    holds()
