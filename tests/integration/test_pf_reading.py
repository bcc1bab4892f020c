"""The commands of `pf` that read, on orders that the real handlers have made."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from ops import audit, people
from ops.cli import pf
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.payloads import create_key, subscribed
from tests.pf import answer, deployed, done, failed, fails, run
from tests.world import ELSEWHERE, PRODUCTS, World, world

KEY = f"pfs_test_{'k' * 43}"
COURSE, MEMBERSHIP = (PRODUCTS[sku]["productId"] for sku in ("course", "membership"))
HOSTILE = "\x1b]0;gone\x07\x1b[2J[red]x[/red]\n\u202eevil\u2066 :smile: =1+1"


@pytest.fixture
def shop(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An hour ago, in a stack that CloudFormation knows."""
    deployed()
    with world(cloud, monkeypatch, datetime.now(UTC) - timedelta(hours=1)) as made:
        yield made


def bought(shop: World, sku: str = "course") -> tuple[str, str]:
    """A paid order, and its payment."""
    order_id, payment = shop.buy(sku)
    shop.deliver()
    shop.flow()
    return order_id, payment


def lines(*words: str) -> list[Any]:
    """What it prints, as JSON Lines."""
    result = run(*words)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def put(shop: World, pk: str, **fields: Any) -> None:
    """A name with two underscores stands for one with a #."""
    named = {name.replace("__", "#"): value for name, value in fields.items()}
    shop.stack.dynamodb.put_item(TableName=shop.stack.table, Item={"pk": {"S": pk}, **named})


def write(shop: World, pk: str, name: str, value: Any) -> None:
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table,
        Key={"pk": {"S": pk}},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )


# --- pf order ---------------------------------------------------------------------------------------------------------


def test_one_order_on_one_screen(shop: World) -> None:
    """What was ordered, its status, what happened and what waits, by its own id."""
    order_id, payment = bought(shop)
    told = done("order", order_id)
    assert (told["order"], told["status"], told["ordered"]["sku"]) == (order_id, "paid", "course")
    assert [step["what"] for step in told["timeline"]] == ["opened", "session", "pay"]
    assert told["payments"][0] | {"payment": payment, "verdict": "settled", "source": "webhook"} == told["payments"][0]
    assert told["payments"][0]["confirmed"] is False
    assert payment in told["waits"][0]
    screen = run("order", order_id).stdout
    for word in (order_id, "paid", "course", "49.00 usd", payment, told["pocketsflow"]["session"], "not confirmed yet"):
        assert word in screen
    shop.clock.passes(minutes=40)
    shop.reconcile("hours")
    told = done("order", order_id)
    assert (told["payments"][0]["confirmed"], told["waits"]) == (True, [])
    assert told["timeline"][-1]["text"] == f"Pocketsflow's API shows payment {payment}"


def test_an_order_is_found_by_whatever_one_has_of_it(shop: World) -> None:
    """Its id, Pocketsflow's order and session, the shop's reference, the id of a refund, and the buyer's address in
    any case of letters."""
    create_key(shop.stack, KEY)
    code, _ = shop.ask_as_server("PUT /server/orders/B-1043", KEY, sku="course")
    assert code == 201
    order_id, payment = bought(shop)
    shop.account.refund(payment, None, "requested_by_customer")
    shop.deliver()
    shop.flow()
    told = done("order", order_id)
    assert told["status"] == "refunded"
    [refund] = told["refunds"]
    for by in (payment, told["pocketsflow"]["session"], refund["refund"], "BUYER@example.com"):
        assert done("order", by)["order"] == order_id, by
    by_reference = done("order", "B-1043")
    assert by_reference["ordered"]["reference"] == "B-1043"
    assert by_reference["timeline"][0]["text"] == "opened by the shop's server, as its number B-1043"


def test_a_payment_is_found_before_it_is_known_whose_it_is(shop: World) -> None:
    """The relay has not linked it yet: the order that holds it is looked for."""
    order_id, payment = shop.buy()
    shop.deliver()
    assert done("order", payment)["order"] == order_id


def test_a_subscription_leads_to_its_order(shop: World) -> None:
    """And its state is on the screen; one that no order began stands for itself."""
    order_id, subscription = _subscribed(shop)
    told = done("order", subscription)
    assert (told["order"], told["status"], told["subscription"]["state"]) == (order_id, "paid", "active")
    assert f"subscription {subscription}" in run("order", subscription).stdout
    _signed(shop, subscribed(None, "sub_alone"), "customer.subscription.updated")
    assert done("order", "sub_alone") | {"order": None, "status": "active"} == done("order", "sub_alone")
    assert "sub_alone  active" in run("order", "sub_alone").stdout


def _subscribed(shop: World) -> tuple[str, str]:
    order_id, _ = shop.checkout("membership")
    _signed(shop, subscribed(order_id, "sub_one", MEMBERSHIP), "customer.subscription.created")
    shop.flow()
    return order_id, "sub_one"


def _signed(shop: World, content: Any, name: str) -> None:
    import webhook
    from tests.payloads import delivery
    from tests.world import Context

    assert webhook.handler(delivery(content, name), Context(shop.clock, 4))["statusCode"] == 200


def test_a_renewal_leads_to_its_order(shop: World) -> None:
    """One payment of a subscription, which is no order's own."""
    order_id, subscription = _subscribed(shop)
    fact = {
        "at": {"S": "2026-11-28T00:00:00.000Z"}, "kind": {"S": "renewal"}, "source": {"S": "api"},
        "payment_id": {"S": "pay_2"}, "subscription_id": {"S": subscription}, "order_id": {"S": order_id},
        "amount": {"S": "9.00"}, "currency": {"S": "usd"}, "customer_email": {"S": "buyer@example.com"},
    }  # fmt: skip
    put(shop, "sale#pay_2", renewal__pay_2={"M": fact})
    told = done("order", "pay_2")
    assert (told["payment"], told["order"], told["status"]) == ("pay_2", order_id, "renewal")
    assert f"paid again: pay_2 of 9.00 usd for subscription {subscription}" in told["timeline"][0]["text"]
    assert told["next"] == [f"pf order {order_id}"]
    assert done("order", "buyer@example.com")["order"] == order_id


def test_a_refund_that_waits_beside_its_payment_is_told(shop: World) -> None:
    """Before the relay has copied it to the order."""
    order_id, payment = bought(shop)
    shop.account.refund(payment, None, "requested_by_customer")
    shop.deliver()
    assert any(f"of payment {payment} of 49.00" in step["text"] for step in done("order", order_id)["timeline"])


def test_several_orders_of_one_address_are_a_table(shop: World) -> None:
    """Newest first; their ids lead on."""
    first, _ = bought(shop)
    shop.clock.passes(minutes=1)
    second, _ = shop.checkout()
    told = done("order", "buyer@example.com")
    assert {each["order"] for each in told} == {first, second}
    shown = run("order", "buyer@example.com")
    assert shown.stdout.index(second) < shown.stdout.index(first)
    assert "pf order ID" in shown.stderr


def test_the_buyers_address_is_masked_unless_it_was_asked_for(shop: World) -> None:
    """By that address, or by --personal; wherever it stands, metadata included."""
    order_id, _ = shop.checkout(metadata={"note": "mail jane.doe@example.org, quick"})
    for shown in (run("order", order_id).stdout, run("order", order_id, "--json").stdout):
        assert "buyer@" not in shown
        assert "jane.doe" not in shown
    assert "b…@example.com" in run("order", order_id).stdout
    by_address = run("order", "buyer@example.com").stdout
    assert "buyer@example.com" in by_address
    assert "jane.doe" not in by_address
    assert "mail jane.doe@example.org" in run("order", order_id, "--personal").stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jane@example.com", "j…@example.com"),
        ("<jane@example.com>,bob@b.example", "<j…@example.com>,b…@b.example"),
        ("j@x", "j…@x"),
        ("@alone", "@alone"),
        ("Jäne@exämple.com", "J…@exämple.com"),
        ("mailto:a.b+c@d.example", "mailto:a…@d.example"),
        ("https://pay.example/?email=jane%40example.com&x=1", "https:/…%40example.com&x=1"),
    ],
)
def test_masks(text: str, shown: str) -> None:
    """One letter and the domain are enough to recognise an address."""
    assert people.hidden({"a": [text]}) == {"a": [shown]}
    assert people.hidden({text: 1}) == {shown: 1}  # a page names its metadata, too


def test_what_is_not_there(shop: World) -> None:
    """Exit code 1, and a sentence that says what was looked for where."""
    shop.checkout()
    unknown = {
        "ord_test_00000000000000000000000000": "there is no order",
        "ord_prod_00000000000000000000000000": "of stage prod, and this is test",
        "cs_nothing": "of 1 items none has it as its session, payment or refund",
        "B-7": "no reference",
        "nobody@example.com": "of that address among 1 items",
        "two words": "can be no id",
        "\x1b[2J\u202e": "can be no id",
        "x" * 201: "can be no id",
        "": "can be no id",
    }
    for asked, words in unknown.items():
        code, line = failed("order", asked)
        assert (code, words in line) == (1, True), (asked, line)
        assert "\x1b" not in line
        assert "\u202e" not in line


def test_a_second_payment_says_what_helps(shop: World) -> None:
    """Money is owed back: the command that gives it stands there, until the case is closed."""
    order_id, session = shop.checkout()
    first, second = shop.pay(session), shop.pay(session)
    shop.deliver()
    shop.flow()
    told = done("order", order_id)
    assert {each["payment"]: each["verdict"] for each in told["payments"]} == {first: "settled", second: "second"}
    assert f"pf refund {second} --reason …" in told["next"]
    assert "money is owed back" in run("order", order_id).stdout
    assert done("resolve", second, "--reason", "refunded by hand")["resolved"]
    told = done("order", order_id)
    assert told["next"] == ["pf reconcile", f"pf events {order_id}"]
    assert told["timeline"][-1]["text"].endswith("did resolve: refunded by hand")
    assert found("second-payment") == []


def test_what_helps_can_be_typed(shop: World) -> None:
    """Every command that is proposed is one, with these arguments and options."""
    from payments import ledger

    order_id, session = shop.checkout()
    shop.pay(session, product_id=ELSEWHERE["productId"])
    paid, payment = shop.buy()
    pending, _ = shop.checkout()
    stray = shop.sell_elsewhere(COURSE)
    shop.deliver()
    shop.flow()
    shop.later(minutes=10)
    ledger.note_drift(paid, payment, "amount", shop.clock.now, ours="49.00", theirs="40.00")
    proposed = [text for each in (order_id, paid, pending, stray) for text in done("order", each)["next"]]
    assert {text.split()[1] for text in proposed} == {"events", "order", "reconcile", "refund", "resolve", "settle"}
    assert f"pf settle --order {pending} --payment {stray} --reason …" in proposed
    for text in proposed:
        _, name, *words = shlex.split(text)
        pf.commands[name].make_context(name, words)


def test_the_whole_story_of_a_bad_day(shop: World) -> None:
    """Every kind of fact has its words, in order, and a person's decision is among them."""
    from payments import ledger

    order_id, session = shop.checkout()
    now = shop.clock.now
    wrong = shop.pay(session, product_id=ELSEWHERE["productId"])
    paid = shop.pay(session)
    shop.deliver()
    shop.flow()
    ledger.note_drift(order_id, paid, "amount", now + timedelta(minutes=1), ours="49.00", theirs="40.00")
    ledger.observe(order_id, paid, ledger.Flags(refunded=False, disputed=True), now + timedelta(minutes=2))
    ledger.disown(order_id, {"payment_id": wrong}, now + timedelta(minutes=3))
    stack = deployed("again")
    audit.write(stack, "settle", "the buyer called", now + timedelta(minutes=4), about=order_id)
    told = done("order", order_id)
    assert told["status"] == "disputed"
    assert {each["payment"]: each["verdict"] for each in told["payments"]} == {wrong: "other_order", paid: "settled"}
    assert [step["text"] for step in told["timeline"][-4:]] == [
        f"Pocketsflow tells of payment {paid} another amount: 40.00, not 49.00",
        f"Pocketsflow shows payment {paid} as disputed",
        f"payment {wrong} belongs to another order, and counts here no longer",
        f"{stack.who().rpartition('/')[2]} did settle: the buyer called",
    ]


def test_a_payment_of_no_order_stands_for_itself(shop: World) -> None:
    """With the orders it may have been meant for."""
    candidate, _ = shop.checkout()
    payment = shop.sell_elsewhere(COURSE)
    shop.deliver()
    shop.later(minutes=10)
    told = done("order", payment)
    assert (told["order"], told["payment"], told["status"]) == (None, payment, "unmatched")
    assert told["candidates"] == [candidate]
    assert f"pf order {candidate}" in run("order", payment).stdout


def test_what_strangers_wrote_commands_no_terminal(shop: World) -> None:
    """Escape codes, markup, line breaks and turned text in everything that a browser or Pocketsflow may have put
    there: all of it is shown, none of it acts, in every command."""
    order_id, _ = bought(shop)
    for name in ("sku", "reference", "session_id", "checkout_url", "customer_email", "mode"):
        write(shop, f"order#{order_id}", name, {"S": HOSTILE})
    write(shop, f"order#{order_id}", "untrusted_metadata", {"M": {HOSTILE: {"S": HOSTILE}}})
    [pay] = [name for name in shop.stack.order(order_id) if name.startswith("pay#")]
    fact = shop.stack.order(order_id)[pay]["M"] | {name: {"S": HOSTILE} for name in ("currency", "source")}
    write(shop, f"order#{order_id}", pay, {"M": fact})
    write(
        shop,
        f"order#{order_id}",
        f"ref#x#{HOSTILE}#x",
        {"M": fact | {"kind": {"S": "x"}, "status": {"S": HOSTILE}, "refund_id": {"S": HOSTILE}}},
    )
    commands = (["order", order_id, "--personal"], ["orders", "--status", "paid", "--personal"], ["events"])
    for words in (*commands, *([*each, "--json"] for each in commands)):
        result = run(*words)
        assert result.exit_code == 0, result.exception
        assert "[red]x[/red]" in result.stdout
        for sign in ("\x1b", "\x07", "\u202e", "\u2066"):
            assert sign not in result.stdout, words
        if "--json" not in words:
            assert not any(line.startswith("\N{REPLACEMENT CHARACTER}evil") for line in result.stdout.splitlines())
            assert ":smile:" in result.stdout


# --- pf orders --------------------------------------------------------------------------------------------------------


def found(status: str, *words: str) -> list[Any]:
    """Ids of orders, or of payments without one."""
    return [
        each["order"] or each["payments"][0]["payment"]
        for each in lines("orders", "--status", status, "--json", *words)
    ]


def test_orders_by_status(shop: World) -> None:
    """Each is in the list of its status, newest first, and cases are in theirs besides."""
    from payments import ledger

    paid, payment = bought(shop)
    shop.clock.passes(minutes=1)
    waiting = [shop.checkout()[0]]
    shop.clock.passes(minutes=1)
    waiting.insert(0, shop.checkout()[0])
    shop.clock.passes(minutes=1)
    twice, session = shop.checkout()
    shop.pay(session)
    second = shop.pay(session)
    wrong, other = shop.checkout()
    shop.pay(other, product_id=ELSEWHERE["productId"])
    stray = shop.sell_elsewhere(COURSE)
    shop.deliver()
    shop.flow()
    shop.later(minutes=10)
    ledger.note_drift(paid, payment, "amount", shop.clock.now, ours="49.00", theirs="40.00")
    assert found("pending") == waiting
    assert found("paid") == [twice, paid]
    assert found("mismatched") == [wrong]
    assert found("second-payment") == [twice]
    assert found("drift") == [paid]
    assert found("unmatched") == [stray]
    assert found("refunded") == []
    assert "There is nothing refunded." in run("orders", "--status", "refunded").stderr
    [case] = lines("orders", "--status", "second-payment", "--json")
    assert [each["payment"] for each in case["payments"]] == [second]
    [case] = lines("orders", "--status", "unmatched", "--json")
    assert set(case["candidates"]) == set(waiting)
    shown = run("orders", "--status", "unmatched").stdout
    assert stray in shown
    assert waiting[0] in shown


def test_closed_cases_are_left_out_unless_all_are_asked_for(shop: World) -> None:
    """By the payment that was closed: another one of the same order is still a case."""
    order_id, session = shop.checkout()
    payments = [shop.pay(session) for _ in range(3)]
    stray = shop.sell_elsewhere(COURSE)
    shop.deliver()
    shop.flow()
    shop.later(minutes=10)
    closed = {"M": {"at": {"S": "2026-11-28T00:00:00.000Z"}, "kind": {"S": "resolved"}}}
    write(shop, f"order#{order_id}", f"resolved#{payments[1]}", closed)
    [case] = lines("orders", "--status", "second-payment", "--json")
    assert [each["payment"] for each in case["payments"]] == [payments[2]]
    write(shop, f"order#{order_id}", f"resolved#{payments[2]}", closed)
    write(shop, f"sale#{stray}", f"resolved#{stray}", closed)
    assert (found("second-payment"), found("unmatched")) == ([], [])
    assert found("second-payment", "--all") == [order_id]
    assert found("unmatched", "--all") == [stray]


def test_since_until_and_limit(shop: World) -> None:
    """The newest so many of a time; how many more there are is said beside them. Orders of the index, too."""
    shop.clock.now -= timedelta(days=3)
    old, _ = shop.checkout()
    shop.clock.passes(days=3)
    new = [shop.checkout()[0]]
    shop.clock.passes(minutes=20)
    new.insert(0, shop.checkout()[0])
    assert found("pending") == new
    assert found("pending", "--since", "4d") == [*new, old]
    assert found("pending", "--since", "4d", "--until", "2d") == [old]
    assert found("pending", "--since", "2020-01-01") == [*new, old]
    assert found("pending", "--limit", "1") == new[:1]
    assert (
        run("orders", "--status", "pending", "--limit", "1").stderr
        == "1 older ones are not shown; --limit 2 shows all.\n"
    )
    assert "b…@example.com" in run("orders", "--status", "pending").stdout


# --- pf events --------------------------------------------------------------------------------------------------------


def test_the_journal_of_an_order(shop: World) -> None:
    """Its facts, and what else was signed and names it, oldest first, with the hash of each body, and no body."""
    order_id, payment = bought(shop)
    shop.clock.passes(minutes=1)
    _signed(shop, {"event": "review.created", "order": {"id": payment}}, "review.created")
    _signed(shop, {"event": "review.created", "order": {"id": "another"}}, "review.created")
    bought(shop)
    [pay, other] = lines("events", order_id, "--json")
    raw = shop.stack.order(order_id)[f"pay#{payment}"]["M"]["raw"]["B"]
    assert pay | {
        "fact": f"pay#{payment}", "source": "webhook", "event": "order.completed", "outcome": "settled",
        "sha256": hashlib.sha256(raw).hexdigest(),
    } == pay  # fmt: skip
    assert (other["event"], other["outcome"], other["fact"]) == ("review.created", "other_event", None)
    shown = run("events", order_id)
    assert "buyer@" not in shown.stdout + shown.stderr
    assert len(lines("events", "--json")) == 4
    assert lines("events", "--since", "1m", "--json") == []


def test_bodies_only_where_they_are_asked_for(shop: World) -> None:
    """The very bytes, with a word that they are personal data on the other channel; a large one is read where it
    lies."""
    order_id, payment = shop.buy()
    [waiting] = shop.undelivered
    large = json.loads(waiting.body) | {"note": "x" * 3000}
    shop.lose_webhooks()
    _signed(shop, large, "order.completed")
    shop.flow()
    result = run("events", order_id, "--raw")
    assert "personal data" in result.stderr
    bodies = [json.loads(line) for line in result.stdout.splitlines()]
    assert {json.loads(each["body"])["note"] for each in bodies} == {"x" * 3000}
    assert {each["fact"] for each in bodies} == {f"pay#{payment}", None}


def test_what_was_taken_out_of_the_ledger_is_not_there(shop: World) -> None:
    """A person was erased, or a body grew old: null instead of the address and the body, and no command stumbles."""
    order_id, payment = bought(shop)
    fact = shop.stack.order(order_id)[f"pay#{payment}"]["M"] | {"customer_email": {"NULL": True}}
    raw = hashlib.sha256(fact.pop("raw")["B"]).hexdigest()
    write(shop, f"order#{order_id}", f"pay#{payment}", {"M": fact | {"raw_item": {"S": f"raw#{raw}"}}})
    write(shop, f"order#{order_id}", "customer_email", {"NULL": True})
    write(shop, f"order#{order_id}", "erased", {"NULL": True})
    put(shop, f"raw#{raw}", body={"B": b""}, redacted_at={"S": "2026-11-28T00:00:00.000Z"})
    told = done("order", order_id)
    assert (told["status"], told["ordered"]["customer_email"]) == ("paid", None)
    assert "buyer" not in run("order", order_id).stdout
    [entry] = lines("events", order_id, "--raw")
    assert (entry["sha256"], entry["body"]) == (raw, None)
    assert run("orders", "--status", "paid").exit_code == 0
    assert [row.split(",")[-3] for row in run("export", "--personal").stdout.splitlines()[1:]] == ['""']


# --- pf audit, pf completion ------------------------------------------------------------------------------------------


def test_the_audit_is_listed(shop: World) -> None:
    """All of the last days, or all about one order."""
    stack, now = deployed("again"), datetime.now(UTC)
    assert "Nothing was done by hand." in run("audit").stderr
    audit.write(stack, "reconcile", "a bad night", now - timedelta(days=2))
    audit.write(stack, "settle", HOSTILE, now, about="ord_1")
    assert [entry["action"] for entry in lines("audit", "--json")] == ["reconcile", "settle"]
    assert [entry["action"] for entry in lines("audit", "ord_1", "--json")] == ["settle"]
    assert [entry["action"] for entry in lines("audit", "--since", "1d", "--json")] == ["settle"]
    shown = run("audit").stdout
    assert "a bad night" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef pf"), ("fish", "complete ")]
)
def test_completion_is_printed(shell: str, word: str) -> None:
    """For each shell its script, and nothing else."""
    result = run("completion", shell)
    assert (result.exit_code, word in result.stdout, result.stderr) == (0, True, "")


def test_completion_completes() -> None:
    """By the protocol that the script speaks, without any AWS."""
    asked = {"COMP_WORDS": "pf or", "COMP_CWORD": "1", "_PF_COMPLETE": "bash_complete", "PATH": os.environ["PATH"]}
    told = subprocess.run(
        [sys.executable, "-m", "ops"], cwd=ROOT, env=asked, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.split() == ["plain,order", "plain,orders"]


# --- What fails -------------------------------------------------------------------------------------------------------


def test_a_scan_that_is_throttled_is_not_done_now(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 75, and no word of what was found by then: a part is not the whole."""
    deployed()
    fails(monkeypatch, "Scan", answer("ProvisionedThroughputExceededException", operation="Scan"))
    scans = ("order cs_1", "orders --status paid", "orders --status unmatched", "events", "stats", "export")
    for words in scans:
        result = run(*words.split())
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (75, "pf: AWS throttles Scan; try again"), words
        assert "ord_" not in result.stdout
    monkeypatch.undo()
    fails(monkeypatch, "Query", answer("ThrottlingException", operation="Query"))
    assert failed("orders", "--status", "pending") == (75, "AWS throttles Query; try again")


def test_a_table_that_is_gone(cloud: Aws) -> None:
    """Is named by whatever reads it."""
    stack = deployed()
    cloud.dynamodb.delete_table(TableName=stack.table)
    for words in ("order B-1", "orders --status paid", "orders --status pending", "events", "stats", "export", "audit"):
        result = run(*words.split())
        line = result.stderr.splitlines()[-1]
        assert (result.exit_code, line) == (1, f"pf: there is no table {stack.table}"), words


def test_no_credentials_and_a_wrong_stage(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one line that says what to do."""
    deployed()
    code, line = failed("--stack", "pocketsflow", "--stage", "prod", "orders", "--status", "paid")
    assert (code, line) == (1, "the stage is test, not prod")
    fails(monkeypatch, "DescribeStacks", NoCredentialsError())
    assert failed("order", "x") == (1, "no AWS credentials; set AWS_PROFILE, or run `aws configure`")


def test_an_odd_item_is_shown_as_such_and_the_rest_goes_on(shop: World) -> None:
    """Somebody has written by hand: each list names it and has all others."""
    order_id, _ = bought(shop)
    put(shop, "order#odd-1", created_at={"N": "1.5"}, pay__x={"S": "paid"}, payments={"L": [{"S": "pay#x"}]})
    put(shop, "order#odd-2")
    put(shop, "order#odd-3", created_at={"S": "then"}, product_id={"S": "p"}, price={"S": "much"})
    put(shop, "sale#odd-4", verdict={"S": "unmatched"})
    put(shop, "raw#odd-5", arrivals={"S": "x"})
    for words in (["orders", "--status", "paid", "--json"], ["events", "--json"], ["export"]):
        result = run(*words)
        assert result.exit_code == 0, result.exception
        assert order_id in result.stdout
        for number in (1, 2):
            assert f"pf: unreadable item order#odd-{number}" in result.stderr, words
    assert "unreadable item sale#odd-4" in run("orders", "--status", "unmatched").stderr
    assert "unreadable item raw#odd-5" in run("events").stderr
    assert {"order#odd-1", "order#odd-2", "order#odd-3", "sale#odd-4"} == {*done("stats")["unreadable"]}
    write(shop, f"order#{order_id}", "payments", {"S": "all"})
    code, line = failed("order", order_id)
    assert code == 1
    assert f"unreadable item order#{order_id}" in line
