"""`pf refund`: money goes back once, or nobody says that it did."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ops import audit, sending
from ops.stack import Stack
from payments import ledger
from payments.table import value
from tests.pf import answer, deployed, done, failed, fails, run
from tests.world import World


@pytest.fixture
def stack(shop: World, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr("ops.refund.datetime", shop.clock.datetime)
    return deployed()


@pytest.fixture
def sale(shop: World, stack: Stack) -> tuple[str, str]:
    """A paid order of 49.00 and its payment."""
    bought = shop.buy()
    shop.deliver()
    shop.flow()
    shop.requests.clear()
    return bought


def amounts(shop: World) -> list[str]:
    """Of the refunds that Pocketsflow has."""
    return [str(each["amount"]) for each in shop.account.refunds.values()]


def test_all_that_is_left_is_refunded(shop: World, stack: Stack, sale: tuple[str, str]) -> None:
    """With the reason; the ledger hears of it by the webhook, and is not written by the command."""
    order_id, payment_id = sale
    before = shop.stack.order(order_id)
    told = done("refund", order_id, "--reason", "broken", "--yes")
    assert (told["amount"], told["currency"], told["left"]) == ("49.00", "usd", "0.00")
    assert (told["payment"], told["order_id"], told["status"]) == (payment_id, order_id, "completed")
    [refund] = shop.account.refunds.values()
    assert (refund["_id"], refund["amount"], refund["reason"]) == (told["refund"], Decimal("49.00"), "broken")
    assert shop.stack.order(order_id) == before
    assert shop.deliver() == ["recorded"]
    shop.flow()
    assert shop.status(order_id) == "refunded"
    [entry] = audit.of(stack, order_id)
    assert {name: entry[name] for name in ("action", "reason", "payment", "amount", "currency")} == {
        "action": "refund", "reason": "broken", "payment": payment_id, "amount": "49.00", "currency": "usd",
    }  # fmt: skip
    assert failed("refund", order_id, "--reason", "x", "--yes") == (
        1, "nothing is left: 49.00 of 49.00 usd were refunded",
    )  # fmt: skip


def test_a_part_and_no_more_than_is_left(shop: World, sale: tuple[str, str]) -> None:
    """In the very digits that were given, as a number of JSON; a cent more than is left is refused."""
    sent: list[Any] = []
    post = shop.account.refund

    def refunding(*about: Any) -> Any:
        sent.append(about[1])
        return post(*about)

    shop.account.refund = refunding  # type: ignore[method-assign]
    assert done("refund", sale[1], "--amount", "10.10", "--reason", "x", "--yes")["left"] == "38.90"
    assert sent == [Decimal("10.10")]
    assert str(sent[0]) == "10.10"
    code, line = failed("refund", sale[1], "--amount", "38.91", "--reason", "x", "--yes")
    assert (code, line) == (1, "38.91 is more than is left: 38.90 usd")
    assert amounts(shop) == ["10.10"]


def test_what_will_happen_is_shown_first(shop: World, stack: Stack, sale: tuple[str, str]) -> None:
    """Order, payment, what was paid and given back; no changes nothing, and leaves no entry."""
    order_id, payment_id = sale
    shop.account.refund(payment_id, Decimal("9.00"), "x")
    result = run("refund", order_id, "--amount", "10.00", "--reason", "x", answering="n\n")
    assert (result.exit_code, "nothing was refunded" in result.stderr) == (1, True)
    for word in (order_id, payment_id, "settles it", "49.00 usd", "9.00 usd", "40.00 usd", "10.00 usd"):
        assert word in result.stdout
    assert "buyer@" not in result.output
    assert (amounts(shop), audit.of(stack, order_id)) == (["9.00"], [])
    result = run("refund", order_id, "--amount", "10.00", "--reason", "x", answering="y\n")
    assert (result.exit_code, "Refunded 10.00 usd (completed)" in result.stderr) == (0, True)


def test_of_two_payments_one_is_named(shop: World, sale: tuple[str, str]) -> None:
    """And what it is to the order is shown."""
    order_id, first = sale
    second = shop.pay(shop.stack.order(order_id)["session_id"]["S"])
    shop.deliver()
    shop.flow()
    code, line = failed("refund", order_id, "--reason", "paid twice", "--yes")
    assert (code, first in line, f"{second} (second payment)" in line) == (1, True, True)
    assert amounts(shop) == []
    result = run("refund", second, "--reason", "paid twice", "--yes")
    assert "second payment" in result.stdout
    assert [each["orderId"] for each in shop.account.refunds.values()] == [second]


def test_a_refund_that_only_the_ledger_has_heard_of_counts(shop: World, sale: tuple[str, str]) -> None:
    """A list may be late; a refund that failed is none."""
    shop.account.refund(sale[1], Decimal("40.00"), "x")
    shop.deliver()
    shop.answers["GET /refunds"] = lambda _: (200, [])
    code, line = failed("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    assert (code, line) == (1, "10.00 is more than is left: 9.00 usd")
    del shop.answers["GET /refunds"]
    shop.account.set_refund_status(next(iter(shop.account.refunds)), "failed")
    assert done("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")["left"] == "39.00"


def test_somebody_else_refunds_while_one_reads(shop: World, sale: tuple[str, str]) -> None:
    """What was refunded is read again after the answer; nothing is sent on what has changed."""
    order = shop.requests

    def meanwhile() -> None:
        if order.count("GET /refunds") == 2 and not shop.account.refunds:
            shop.account.refund(sale[1], Decimal("5.00"), "x")

    shop.on_request = meanwhile
    code, line = failed("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes", "--json")
    assert (code, "somebody has refunded some of it just now" in line) == (75, True)
    assert "POST /refunds" not in shop.requests


def test_a_lost_answer_to_what_has_happened(shop: World, sale: tuple[str, str]) -> None:
    """The list tells that it did: once, whatever the answer was."""
    for status, amount in ((429, "1.00"), (500, "2.00"), (503, "3.00"), (200, "4.00")):

        def losing(status: int = status) -> None:
            if shop.requests[-1] == "POST /refunds":
                shop.account.set_faults({"http_status": status, "http_times": 1, "http_body": "<html>"})

        shop.on_request = losing
        told = done("refund", sale[0], "--amount", amount, "--reason", "x", "--yes")
        assert str(shop.account.refunds[told["refund"]]["amount"]) == amount
    assert amounts(shop) == ["1.00", "2.00", "3.00", "4.00"]
    assert shop.requests.count("POST /refunds") == 4


def test_an_answer_that_is_lost_for_good(shop: World, stack: Stack, sale: tuple[str, str]) -> None:
    """Nobody knows: 75, nothing is sent again, also by who tries again, and the entry in the audit is there."""
    for status in (429, 500):
        shop.answers["POST /refunds"] = lambda _, status=status: (status, {})  # type: ignore[misc]
        result = run("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
        assert result.exit_code == 75
        assert "nobody knows whether 10.00 usd" in result.stderr
        assert "look there before you try again" in result.stderr
        del shop.answers["POST /refunds"]
        code, line = failed("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes", "--json")
        assert (code, "nobody knows yet whether it happened" in line, stack.who() in line) == (75, True, True)
        shop.clock.passes(hours=2)
    assert shop.requests.count("POST /refunds") == 2
    assert len(audit.of(stack, sale[0])) == 2
    assert done("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")["left"] == "39.00"


def test_a_lost_refund_that_the_list_shows_later_is_not_sent_again(shop: World, sale: tuple[str, str]) -> None:
    """Who tries again, as 75 says, is answered with the one that there is; another amount is another refund."""

    def losing() -> None:
        if shop.requests[-1] == "POST /refunds":
            shop.account.set_faults({"http_status": 500, "http_times": 1})

    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    shop.on_request = losing
    shop.answers["GET /refunds"] = lambda _: (200, [])
    assert [run(*words).exit_code for _ in range(3)] == [75, 75, 75]
    del shop.answers["GET /refunds"]
    [made] = shop.account.refunds
    told = done(*words)
    assert (told["refund"], told["amount"], told["left"], amounts(shop)) == (made, "10.00", "39.00", ["10.00"])
    shop.on_request = lambda: None
    assert done("refund", sale[0], "--amount", "9.00", "--reason", "x", "--yes")["left"] == "30.00"


def test_two_persons_at_once(shop: World, stack: Stack, sale: tuple[str, str]) -> None:
    """One sends it; the other one is told so, though no list shows it yet."""
    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    others: list[Any] = []

    def meanwhile() -> None:
        if shop.requests[-1] == "POST /refunds" and not others:
            others.append(None)
            others[0] = run(*words)

    shop.on_request = meanwhile
    shop.answers["GET /refunds"] = lambda _: (200, [])
    done(*words)
    [other] = others
    assert (other.exit_code, "nobody knows yet whether it happened" in other.stderr) == (75, True)
    assert amounts(shop) == ["10.00"]
    assert done(*words)["left"] == "29.00", "what pf has sent counts, though no list shows it"
    assert failed(*words[:2], "--amount", "29.01", *words[4:])[1] == "29.01 is more than is left: 29.00 usd"


def test_both_have_read_what_is_left(shop: World, sale: tuple[str, str]) -> None:
    """And the second one begins when the first is done: what was sent in between is seen, whatever the list says."""
    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    begin = sending.begin
    shop.answers["GET /refunds"] = lambda _: (200, [])

    def late(*about: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sending, "begin", begin)
            done(*words)
        return begin(*about)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "begin", late)
        assert run(*words).exit_code == 75
    assert amounts(shop) == ["10.00"]


def test_what_was_not_sent_holds_nobody_up(
    shop: World, stack: Stack, sale: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what Pocketsflow refused, nor what could not be audited."""
    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    with monkeypatch.context() as patch:
        fails(patch, "TransactWriteItems", answer("AccessDeniedException"))
        assert run(*words).exit_code == 1
    shop.answers["POST /refunds"] = lambda _: (400, {"message": "no"})
    assert run(*words).exit_code == 1
    del shop.answers["POST /refunds"]
    assert done(*words)["left"] == "39.00"


def test_money_that_went_back_is_said_though_the_ledger_fails_then(
    shop: World, sale: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told of a failure refunds again."""
    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    post = shop.account.refund

    def refunding(*about: Any) -> Any:
        fails(monkeypatch, "UpdateItem", answer("InternalServerError", 500))
        return post(*about)

    monkeypatch.setattr(shop.account, "refund", refunding)
    assert done(*words)["left"] == "39.00"


def test_the_refunds_of_years_are_not_listed(shop: World, sale: tuple[str, str]) -> None:
    """A payment has none from before it was made."""
    asked: list[dict[str, str]] = []
    shop.answers["GET /refunds"] = lambda query: asked.append(query) or (200, [])  # type: ignore[func-returns-value]
    done("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes")
    made_at = datetime.fromisoformat(str(shop.account.orders[sale[1]]["createdAt"]))
    assert [datetime.fromisoformat(query["startDate"]) for query in asked] == [made_at - timedelta(days=1)] * 2


def test_what_pocketsflow_refuses(shop: World, sale: tuple[str, str]) -> None:
    """Is not done, and said."""
    shop.answers["POST /refunds"] = lambda _: (400, {"message": "no"})
    result = run("refund", sale[0], "--reason", "x", "--yes")
    assert (result.exit_code, "Pocketsflow refuses POST /refunds" in result.stderr) == (1, True)


def test_pocketsflow_is_down_before(
    shop: World, stack: Stack, sale: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, nothing is audited."""
    monkeypatch.setattr("ops.provider.time.sleep", lambda _: None)
    for status, code in ((500, 75), (429, 75), (401, 1), (404, 1)):
        shop.answers[f"GET /orders/{sale[1]}"] = lambda _, status=status: (status, {})  # type: ignore[misc]
        assert failed("refund", sale[0], "--reason", "x", "--yes")[0] == code
    assert "POST /refunds" not in shop.requests
    assert audit.of(stack, sale[0]) == []


def test_without_an_audit_no_refund(shop: World, sale: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done that would be unwritten."""
    fails(monkeypatch, "TransactWriteItems", answer("AccessDeniedException"))
    assert run("refund", sale[0], "--reason", "x", "--yes").exit_code == 1
    assert amounts(shop) == []


def test_a_subscription_s_payment(shop: World, stack: Stack) -> None:
    """Is refunded in the dashboard: the API knows no such refund."""
    order_id, _ = shop.buy("membership")
    shop.deliver()
    code, line = failed("refund", order_id, "--reason", "x", "--yes")
    assert (code, "dashboard" in line) == (1, True)


def test_amounts_that_are_none(shop: World) -> None:
    """Are wrong, before anything is asked; and so is no reason."""
    for amount in ("0", "0.00", "-1", "1e2", "1.2345", "NaN", "ten", "1,00"):
        assert run("refund", "ord_x", "--amount", amount, "--reason", "x").exit_code == 2
    assert run("refund", "ord_x").exit_code == 2


def test_a_row_without_an_amount(shop: World, sale: tuple[str, str]) -> None:
    """Nobody reckons with what nobody knows."""
    shop.answers["GET /refunds"] = lambda _: (200, [{"_id": "r", "orderId": sale[1], "status": "completed"}])
    assert failed("refund", sale[0], "--reason", "x", "--yes") == (
        1, "a refund in Pocketsflow's list has no amount; refund this one in the dashboard",
    )  # fmt: skip
    assert "POST /refunds" not in json.dumps(shop.requests)


def test_the_money_of_another_order_stays_where_it_is(shop: World, stack: Stack, sale: tuple[str, str]) -> None:
    """An order that was given a payment of another one has none to give back."""
    order_id, _ = shop.checkout()
    fact = ledger.read(sale[0])
    assert fact is not None
    given = {**fact[f"pay#{sale[1]}"]}
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table, Key={"pk": {"S": f"order#{order_id}"}},
        UpdateExpression="SET #pay = :fact, payments = :names, #void = :void",
        ExpressionAttributeNames={"#pay": f"pay#{sale[1]}", "#void": f"void#{sale[1]}"},
        ExpressionAttributeValues={
            ":fact": value(given), ":names": value([f"pay#{sale[1]}"]),
            ":void": value({"kind": "void", "payment_id": sale[1], "at": given["at"]}),
        },
    )  # fmt: skip
    code, line = failed("refund", order_id, "--reason", "x", "--yes")
    assert (code, "belongs to another order, whose money it is" in line) == (1, True)
    assert amounts(shop) == []
    assert done("refund", sale[1], "--reason", "x", "--yes")["order_id"] == sale[0]


def test_a_refund_that_is_heard_of_while_one_reads(shop: World, sale: tuple[str, str]) -> None:
    """In the ledger, though no list shows it yet."""
    shop.answers["GET /refunds"] = lambda _: (200, [])

    def meanwhile() -> None:
        if shop.requests.count("GET /refunds") == 2 and not shop.account.refunds:
            shop.account.refund(sale[1], Decimal("5.00"), "x")
            shop.deliver()

    shop.on_request = meanwhile
    words = ("refund", sale[0], "--amount", "10.00", "--reason", "x", "--yes", "--json")
    assert run(*words).exit_code == 75
    assert "POST /refunds" not in shop.requests


def test_what_a_list_has_for_ids_commands_no_terminal(shop: World, sale: tuple[str, str]) -> None:
    """It is shown, and nothing more."""
    row = {"_id": "r\x1b[2J\n", "orderId": sale[1], "status": "completed", "amount": 1}
    shop.answers["GET /refunds"] = lambda _: (200, [row])
    result = run("refund", sale[0], "--reason", "x", answering="n\n")
    assert "r\N{REPLACEMENT CHARACTER}[2J" in result.stdout
    assert "\x1b" not in result.output
