"""`pf settle`: what a person decides settles as a webhook would have, once, and is told."""

import json
from typing import Any

import pytest

from ops import audit
from ops.stack import Stack
from payments import ledger, outbox, sales, table
from payments.table import values
from tests.conftest import Aws
from tests.event_schemas import validator
from tests.payloads import unknown
from tests.pf import answer, deployed, done, failed, fails, run
from tests.world import ELSEWHERE, PRODUCTS, World

WHY = ("--reason", "the buyer called")
MEMBERSHIP = PRODUCTS["membership"]["productId"]


@pytest.fixture
def stack(shop: World) -> Stack:
    return deployed()


def settled(order_id: str, payment: str) -> Any:
    return done("settle", "--order", order_id, "--payment", payment, *WHY, "--yes")


def refused(order_id: str, payment: str) -> tuple[int, str]:
    """What it says at last; it shows what it is about before it asks."""
    result = run("settle", "--order", order_id, "--payment", payment, *WHY, "--yes")
    assert result.exit_code not in (0, 2), result.output
    assert result.stdout == ""
    return result.exit_code, result.stderr.splitlines()[-1].removeprefix("pf: ")


def paid_for_something_else(shop: World) -> tuple[str, str]:
    """An order whose buyer was let pay another product: mismatched."""
    order_id, session = shop.checkout()
    payment = shop.pay(session, product_id=ELSEWHERE["productId"])
    shop.deliver()
    shop.flow()
    assert shop.status(order_id) == "mismatched"
    return order_id, payment


def sold_elsewhere(shop: World) -> str:
    """A sale that names no order, of the product that the shop sells: unmatched."""
    payment = shop.sell_elsewhere(PRODUCTS["course"]["productId"])
    shop.lose_webhooks()
    shop.later(minutes=20)
    return payment


def test_an_unmatched_payment_settles_the_order_that_a_person_names(shop: World, stack: Stack) -> None:
    """As a webhook would have: paid, told once, the payment the order's for ever; who decided and why is written."""
    order_id, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    assert "payment.unmatched" in shop.types()
    assert settled(order_id, payment) == {"order_id": order_id, "payment_id": payment, "status": "paid"}
    shop.flow()
    assert shop.types(order_id) == ["order.paid"]
    assert sales.read([payment])[payment]["order_id"] == order_id
    [entry] = audit.of(stack, order_id)
    assert (entry["action"], entry["reason"], entry["payment"]) == ("settle", "the buyer called", payment)
    assert entry["who"].startswith("arn:aws:")
    shop.later(hours=1)
    shop.flow()
    assert shop.types(order_id) == ["order.paid"]
    assert shop.status(order_id) == "paid"


def test_a_payment_for_something_else_settles_when_a_person_accepts_it(shop: World, stack: Stack) -> None:
    """The order is paid from then on, and its refund is the order's."""
    order_id, payment = paid_for_something_else(shop)
    assert settled(order_id, payment)["status"] == "paid"
    shop.flow()
    assert shop.types(order_id) == ["payment.mismatched", "order.paid"]
    shop.account.refund(payment, None, None)
    shop.deliver()
    shop.flow()
    assert shop.types(order_id) == ["payment.mismatched", "order.paid", "order.refunded"]
    assert shop.status(order_id) == "refunded"


def test_what_fits_and_comes_after_an_accepted_payment_is_a_second_one(shop: World, stack: Stack) -> None:
    """Money is owed back; the order stays settled by the first."""
    order_id, session = shop.checkout()
    first = shop.pay(session, product_id=ELSEWHERE["productId"])
    shop.deliver()
    settled(order_id, first)
    shop.pay(session)
    assert shop.deliver() == ["second_payment"]
    shop.flow()
    assert shop.types(order_id) == ["payment.mismatched", "order.paid", "payment.second"]


def test_an_order_that_is_settled_takes_no_other_payment(shop: World, stack: Stack) -> None:
    """Whatever a person says."""
    order_id, payment = shop.buy()
    shop.deliver()
    shop.flow()
    other = sold_elsewhere(shop)
    assert refused(order_id, other) == (1, f"the order is settled by payment {payment}; see `pf order`")
    assert refused(order_id, payment)[1].startswith("the order is settled by")
    assert audit.of(stack, order_id) == []


def test_a_payment_of_another_order_settles_none(shop: World, stack: Stack) -> None:
    """A payment belongs to at most one order, for ever."""
    owner, payment = shop.buy()
    shop.deliver()
    shop.flow()
    order_id, _ = shop.checkout()
    assert refused(order_id, payment) == (1, f"the payment belongs to order {owner}, for ever")
    assert shop.status(order_id) == "pending"


def test_two_orders_that_are_given_one_payment_at_once(
    shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has it; the second is not told that it is paid, not for a moment longer than the command runs, nor by
    an event."""
    first, _ = shop.checkout()
    second, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    write = audit.write

    def meanwhile(*about: Any, **more: Any) -> None:
        monkeypatch.setattr(audit, "write", write)
        settled(first, payment)
        write(*about, **more)

    monkeypatch.setattr(audit, "write", meanwhile)
    told = refused(second, payment)
    assert told == (1, "the payment was made another order's at this moment; see `pf order` with its id")
    assert (shop.status(first), shop.status(second)) == ("paid", "mismatched")
    shop.flow()
    assert (shop.status(first), shop.status(second)) == ("paid", "mismatched")
    assert shop.types(first) == ["order.paid"]
    assert shop.types(second) == ["payment.mismatched"]
    assert refused(second, payment)[1].startswith("the payment belongs to another order")


def test_a_decision_whose_answer_was_lost(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that was sent again finds its own, and that is done."""
    order_id, payment = paid_for_something_else(shop)
    accept = ledger.accept
    monkeypatch.setattr(ledger, "accept", lambda *about: accept(*about) and False)
    assert settled(order_id, payment)["status"] == "paid"


def test_a_subscription_of_no_order(shop: World, stack: Stack) -> None:
    """Is known by what the ledger holds of it."""
    order_id, _ = shop.checkout("membership")
    subscription = shop.sell_elsewhere(MEMBERSHIP)
    shop.deliver()
    shop.flow()
    assert settled(order_id, subscription)["status"] == "paid"
    shop.flow()
    assert shop.types(order_id) == ["order.paid", "subscription.changed"]


def test_what_is_told_of_it_fits_the_schemas(shop: World, stack: Stack) -> None:
    """Its source, too: nobody but a person has said so."""
    order_id, _ = shop.checkout()
    settled(order_id, sold_elsewhere(shop))
    shop.flow()
    [told] = [each for each in shop.published if each["order_id"] == order_id]
    assert told["payment"]["source"] == "person"
    validator(told["type"]).validate({name: value for name, value in told.items() if name != "type"})


@pytest.mark.parametrize("flag", ["refunded", "disputed"])
def test_a_mismatched_payment_whose_money_went_back_settles_nothing(shop: World, stack: Stack, flag: str) -> None:
    """What is done with a mismatched payment is to refund it, and the ledger may not have heard of that."""
    order_id, payment = paid_for_something_else(shop)
    if flag == "refunded":
        shop.account.refund(payment, None, None)
    else:
        shop.account.set_disputed(payment, disputed=True)
    assert refused(order_id, payment) == (1, f"the payment is {flag}: it settles nothing")
    assert shop.status(order_id) == "mismatched"
    assert audit.of(stack, order_id) == []


def test_a_mismatched_payment_that_pocketsflow_denies(shop: World, stack: Stack) -> None:
    """Settles nothing: a webhook's word is no money."""
    order_id, payment = paid_for_something_else(shop)
    shop.answers[f"GET /orders/{payment}"] = lambda _: (404, {"message": "no"})
    assert refused(order_id, payment)[1].startswith("Pocketsflow knows no payment")


@pytest.mark.parametrize("state", ["ended", "past_due"])
def test_a_subscription_that_nobody_paid_settles_nothing(shop: World, stack: Stack, cloud: Aws, state: str) -> None:
    """As from its list; once one month of it was paid it may."""
    order_id, _ = shop.checkout("membership")
    subscription = {"pk": "subscription#s1", "state": state, "product_id": MEMBERSHIP, "rev": 1}
    cloud.dynamodb.put_item(TableName=cloud.table, Item=values(subscription))
    assert refused(order_id, "s1") == (1, f"nobody has paid the subscription, which is {state}: it settles nothing")
    assert shop.status(order_id) == "pending"
    cloud.dynamodb.put_item(TableName=cloud.table, Item=values({**subscription, "payments": 1}))
    assert settled(order_id, "s1")["status"] == "paid"


def test_a_subscription_of_which_only_a_claim_is_known(shop: World, stack: Stack, cloud: Aws) -> None:
    """Is none that the ledger knows; that is said in a line."""
    order_id, _ = shop.checkout("membership")
    cloud.dynamodb.put_item(TableName=cloud.table, Item=values({"pk": "subscription#s1", "claimed_by": order_id}))
    assert refused(order_id, "s1")[1].startswith("Pocketsflow knows no payment")


def test_a_month_of_a_subscription_settles_no_order(shop: World, stack: Stack) -> None:
    """It counts for its subscription, and Pocketsflow lists it among the orders, too."""
    order_id, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    row = {**shop.account.orders[payment], "isSubscription": True, "createdAt": "2026-11-27T10:00:00Z"}
    shop.answers[f"GET /orders/{payment}"] = lambda _: (200, json.loads(json.dumps(row, default=str)))
    assert refused(order_id, payment) == (1, "the payment is a subscription's; give the id of the subscription")


def test_dynamodb_leaves_items_over(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of a batch is needed: what a person decides on is read by itself, and as it is now."""
    order_id, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    fails(monkeypatch, "BatchGetItem", table.LeftOver())
    assert settled(order_id, payment)["status"] == "paid"


@pytest.mark.parametrize("flag", ["refunded", "disputed"])
def test_money_that_went_back_settles_nothing(shop: World, stack: Stack, flag: str) -> None:
    """Pocketsflow is asked before."""
    order_id, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    if flag == "refunded":
        shop.account.refund(payment, None, None)
    else:
        shop.account.set_disputed(payment, disputed=True)
    assert refused(order_id, payment) == (1, f"the payment is {flag}: it settles nothing")
    assert shop.status(order_id) == "pending"


def test_what_is_not_there(shop: World, stack: Stack) -> None:
    """Neither an order, nor a payment, nor an id."""
    order_id, _ = shop.checkout()
    assert failed("settle", "--order", unknown(order_id), "--payment", "x", *WHY)[1].startswith("there is no order")
    assert refused(order_id, "6b042b389531985d5d9dc9f8")[1].startswith("Pocketsflow knows no payment")
    assert refused(order_id, "a b\x1b[2J") == (1, "that is no id of a payment")


@pytest.mark.parametrize(
    ("status", "code", "part"),
    [(503, 75, "did not answer"), (401, 1, "does not take this API key"), (429, 75, "too many")],
)
def test_pocketsflow_fails(
    shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, status: int, code: int, part: str
) -> None:
    """Nothing is settled, nothing is audited."""
    monkeypatch.setattr("ops.provider.time", shop.clock)
    order_id, _ = shop.checkout()
    payment = sold_elsewhere(shop)
    shop.answers[f"GET /orders/{payment}"] = lambda _: (status, {"message": "no"})
    told = refused(order_id, payment)
    assert (told[0], part in told[1]) == (code, True), told
    assert shop.status(order_id) == "pending"
    assert audit.of(stack, order_id) == []


def test_without_an_audit_nothing_is_settled(shop: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot be named decides nothing."""
    order_id, payment = paid_for_something_else(shop)
    fails(monkeypatch, "GetCallerIdentity", answer("AccessDenied", 403, "GetCallerIdentity"))
    assert refused(order_id, payment) == (1, "these credentials may not do GetCallerIdentity")
    assert shop.status(order_id) == "mismatched"


def test_a_person_is_asked_and_may_say_no(shop: World, stack: Stack) -> None:
    """And sees first what was ordered and what was paid; where nobody can be asked, nothing happens."""
    order_id, payment = paid_for_something_else(shop)
    said_no = run("settle", "--order", order_id, "--payment", payment, *WHY, answering="n\n")
    assert said_no.exit_code == 1
    assert PRODUCTS["course"]["productId"] in said_no.stderr
    assert ELSEWHERE["productId"] in said_no.stderr
    nobody = run("settle", "--order", order_id, "--payment", payment, *WHY)
    assert (nobody.exit_code, "--yes" in nobody.stderr) == (2, True)
    assert shop.status(order_id) == "mismatched"
    assert audit.of(stack, order_id) == []


def test_a_payment_that_comes_between_the_look_and_the_decision(shop: World, stack: Stack, cloud: Aws) -> None:
    """The decision was about another order: it is made anew."""
    order_id, payment = paid_for_something_else(shop)
    assert ledger.accept(order_id, f"pay#{payment}", 2, shop.clock.now) is False
    assert ledger.accept(order_id, f"pay#{payment}", 1, shop.clock.now) is True
    assert ledger.accept(order_id, f"pay#{payment}", 1, shop.clock.now) is False
    assert ledger.accept(unknown(order_id), f"pay#{payment}", 1, shop.clock.now) is False


def test_a_decision_tells_its_order_once_and_in_its_own_time(shop: World, stack: Stack) -> None:
    """The event says when it was decided, and has the id that it always will."""
    order_id, payment = paid_for_something_else(shop)
    before = ledger.read(order_id)
    shop.clock.passes(hours=1)
    assert before is not None
    assert ledger.accept(order_id, f"pay#{payment}", 1, shop.clock.now)
    after = ledger.read(order_id)
    assert after is not None
    [told] = outbox.events(before, after)
    assert (told.type, told.detail["occurred_at"]) == ("order.paid", after["accepted"]["at"])
    assert told.detail["change"] == {"from": "mismatched", "to": "paid"}
    assert json.dumps(outbox.events(before, after)[0].detail) == json.dumps(told.detail)
