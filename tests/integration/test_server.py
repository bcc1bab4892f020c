"""The shop's own server: keys, references, trusted metadata, and orders whose sessions it makes by itself."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

import checkout
import server
import webhook
from payments import ledger, opening, orders, references, secrets, server_keys
from sandbox.worker import Context
from tests.payloads import answered, create_key, delivery, http_event, paid, refunded
from tests.world import ELSEWHERE, PRODUCTS, World

TOKEN = f"pfs_test_{'k' * 43}"
COURSE = PRODUCTS["course"]["productId"]
MEMBERSHIP = PRODUCTS["membership"]["productId"]


@pytest.fixture(autouse=True)
def _key(shop: World) -> None:
    create_key(shop.stack, TOKEN)


def ask(shop: World, **fields: Any) -> tuple[int, dict[str, Any]]:
    return shop.ask_as_server("POST /server/checkout", TOKEN, **{"sku": "course", **fields})


def register(shop: World, reference: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    return shop.ask_as_server(f"PUT /server/orders/{reference}", TOKEN, **{"sku": "course", **fields})


def sold_by_guide(shop: World, external_order_id: str, product: str = COURSE) -> str:
    """A payment of a session that another server made; Pocketsflow's id of it. Its webhook waits."""
    return shop.sell_elsewhere(product, {"external_order_id": external_order_id})


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN}\n",
        f"Bearer {TOKEN},Bearer {TOKEN}",
        f"Bearer pfs_test_{'x' * 43}",
        f"Bearer pfs_live_{'k' * 43}",
        f"Bearer {hashlib.sha256(TOKEN.encode()).hexdigest()}",
        "Bearer pk_test_0123456789abcdef",
        "Bearer \udcff",
    ],
)
@pytest.mark.parametrize("route", ["POST /server/checkout", "PUT /server/orders/1043"])
def test_without_a_key_nothing_happens(shop: World, route: str, authorization: str) -> None:
    """Every wrong, foreign or malformed key gets the same 401, which says how to ask; nothing is written or sold."""
    before = shop.stack.items()
    event = http_event(route, b'{"sku": "course"}', content_type="application/json", authorization=authorization)
    answer = server.handler(event, Context(9))
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (401, "unauthorized")
    assert answer["headers"]["www-authenticate"] == "Bearer"
    assert (shop.stack.items(), shop.requests) == (before, [])


def test_a_scheme_has_no_case(shop: World) -> None:
    """`bearer` is `Bearer` (RFC 9110, 11.1)."""
    event = http_event("POST /server/checkout", b"{}", content_type="application/json", authorization=f"bearer {TOKEN}")
    assert answered(server.handler(event, Context(9)))[1]["code"] == "invalid_request"


def test_a_revoked_key_is_refused_at_once(shop: World) -> None:
    """Nothing of it is kept in the function; another key goes on."""
    other = f"pfs_test_{'o' * 43}"
    create_key(shop.stack, other)
    assert ask(shop)[0] == 201
    shop.stack.dynamodb.update_item(
        TableName=shop.stack.table,
        Key={"pk": {"S": server_keys.PK}},
        UpdateExpression="REMOVE #key",
        ExpressionAttributeNames={"#key": f"key#{hashlib.sha256(TOKEN.encode()).hexdigest()}"},
    )
    assert ask(shop)[0] == 401
    assert shop.ask_as_server("POST /server/checkout", other, sku="course")[0] == 201


# --- POST /server/checkout --------------------------------------------------------------------------------------------


def test_a_server_is_trusted_with_its_metadata_and_its_addresses(shop: World) -> None:
    """Any https return address; what it says is `metadata` in the ledger and on the bus, and never untrusted; the
    reference is told, and is no public key."""
    status, made = ask(
        shop, reference="1043", metadata={"member": "42"}, successUrl="https://elsewhere.example/thanks?a=1"
    )
    assert (status, made["reference"]) == (201, "1043")
    assert orders.is_id(made["orderId"])
    session = shop.account.sessions[made["sessionId"]]
    assert session["successUrl"] == f"https://elsewhere.example/thanks?a=1&order_id={made['orderId']}"
    assert session["metadata"]["external_order_id"] == made["orderId"]
    assert session["metadata"]["member"] == "42"
    shop.pay(made["sessionId"])
    assert shop.deliver() == ["settled"]
    shop.flow()
    [event] = [each for each in shop.published if each["type"] == "order.paid"]
    assert (event["metadata"], event["untrusted_metadata"], event["reference"]) == ({"member": "42"}, {}, "1043")
    assert shop.status("1043") == "order_not_found"


@pytest.mark.parametrize(
    "address",
    ["http://elsewhere.example/", "https://u:p@elsewhere.example/", "javascript:alert(1)", "/thanks", "https:"],
)
def test_a_server_cannot_send_buyers_to_what_is_no_https(shop: World, address: str) -> None:
    """Trusted is who asks, not every mistake it makes."""
    status, problem = ask(shop, successUrl=address)
    assert (status, [error["field"] for error in problem["errors"]]) == (400, ["successUrl"])


def test_a_browser_s_page_may_say_none_of_it(shop: World) -> None:
    """On the browser's route a reference is an unknown field, metadata is untrusted, foreign addresses are refused."""
    for fields in ({"reference": "1043"}, {"successUrl": "https://elsewhere.example/"}):
        body = json.dumps({"sku": "course", **fields}).encode()
        event = http_event("POST /checkout", body, content_type="application/json", authorization=f"Bearer {TOKEN}")
        assert answered(checkout.handler(event, Context(9)))[0] == 400
    order_id, _ = shop.checkout(metadata={"member": "42"})
    order = ledger.read(order_id)
    assert order is not None
    assert (order.get("metadata"), order["untrusted_metadata"]) == (None, {"member": "42"})


def test_a_reference_has_one_order_for_ever(shop: World) -> None:
    """The same request again is the same order and session, days later too; another request under it is refused, by
    either route; another reference is another order."""
    _, first = ask(shop, reference="1043")
    assert ask(shop, reference="1043") == (201, first)
    assert ask(shop, reference="1043", sku="membership")[1]["code"] == "reference_reused"
    assert register(shop, "1043")[1]["code"] == "reference_reused"
    assert ask(shop, reference="1044")[1]["orderId"] != first["orderId"]
    shop.pay(first["sessionId"])
    shop.deliver()
    shop.clock.passes(days=400)
    assert ask(shop, reference="1043") == (201, first)
    assert sum(pk.startswith("order#") for pk in shop.stack.items()) == 2


def test_a_session_that_is_a_day_old_is_made_again_for_the_same_order(shop: World) -> None:
    """Pocketsflow's may not live for ever; the order does. Once paid, or before a day is over, it stays as it is."""
    _, first = ask(shop, reference="1043")
    shop.clock.passes(hours=23)
    assert ask(shop, reference="1043")[1]["sessionId"] == first["sessionId"]
    shop.clock.passes(hours=2)
    _, second = ask(shop, reference="1043")
    assert (second["orderId"], second["sessionId"] != first["sessionId"]) == (first["orderId"], True)
    assert ask(shop, reference="1043")[1] == second
    shop.pay(second["sessionId"])
    shop.pay(first["sessionId"])
    assert shop.deliver() == ["settled", "second_payment"]


def test_a_new_session_that_failed_is_made_later(shop: World) -> None:
    """Pocketsflow failed when the old session was to be replaced: the next request makes it, and is not answered with
    the old one."""
    _, first = ask(shop, reference="1043")
    shop.clock.passes(hours=25)
    shop.answers["POST /checkout/sessions"] = lambda _: (500, {})
    assert ask(shop, reference="1043")[1]["code"] == "pocketsflow_failed"
    shop.answers.clear()
    status, again = ask(shop, reference="1043")
    assert (status, again["orderId"], again["sessionId"] != first["sessionId"]) == (201, first["orderId"], True)


def test_a_failed_checkout_is_taken_over_by_its_reference(shop: World) -> None:
    """Pocketsflow failed: the same request makes the session for the same order."""
    shop.answers["POST /checkout/sessions"] = lambda _: (500, {})
    assert ask(shop, reference="1043")[1]["code"] == "pocketsflow_failed"
    shop.answers.clear()
    assert ask(shop, reference="1043")[0] == 201
    assert sum(pk.startswith("order#") for pk in shop.stack.items()) == 1


def test_a_session_is_for_the_product_that_the_order_has(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the catalogue has another one by the time that a failed checkout is taken over: what is sold is what
    settles."""
    shop.answers["POST /checkout/sessions"] = lambda _: (500, {})
    ask(shop, reference="1043")
    shop.answers.clear()
    course = replace(opening.RULES.catalogue["course"], product_id=ELSEWHERE["productId"])
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue={"course": course}))
    _, made = ask(shop, reference="1043")
    shop.pay(made["sessionId"])
    assert shop.deliver() == ["settled"]


def test_a_server_s_key_is_no_browser_s(shop: World) -> None:
    """Without a reference the Idempotency-Key counts, and one that a browser sent is another one."""
    key, body = "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21", b'{"sku": "course"}'
    headers = {"content_type": "application/json", "idempotency_key": key}
    event = http_event("POST /server/checkout", body, authorization=f"Bearer {TOKEN}", **headers)
    made = [answered(server.handler(event, Context(9)))[1]["orderId"] for _ in range(2)]
    made += [
        answered(checkout.handler(http_event("POST /checkout", body, origin=origin, **headers), Context(9)))[1][
            "orderId"
        ]
        for origin in ("", "server", "server\n")
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 3  # a header holds no line feed: the gateway gives none, and two origins are two browsers


@pytest.mark.parametrize(
    "reference", ["", ".", "..", "-1", "a/b", "a b", "ä", "x" * 65, "ord_test_1", "ORD_1", "1043\n", 7, ["1043"]]
)
def test_what_is_no_reference(shop: World, reference: Any) -> None:
    """What is unfit for an address or a key, or could be an id of ours, is refused on both routes."""
    assert [error["field"] for error in ask(shop, reference=reference)[1]["errors"]] == ["reference"]
    if isinstance(reference, str):
        assert [error["field"] for error in register(shop, reference)[1]["errors"]] == ["reference"]


# --- PUT /server/orders/{reference} -----------------------------------------------------------------------------------


def test_an_order_of_another_server_s_session_settles(shop: World) -> None:
    """Registered before the payment: its webhook settles it, and its refund is its own; asked again it is 200 and the
    same; no session of it is made here."""
    status, made = register(shop, "1043", metadata={"cart": "7"})
    assert (status, made.keys()) == (201, {"orderId", "reference", "statusUrl"})
    assert register(shop, "1043", metadata={"cart": "7"}) == (200, made)
    assert register(shop, "1043", metadata={"cart": "8"})[1]["code"] == "reference_reused"
    assert shop.requests == []
    payment = sold_by_guide(shop, "1043")
    assert shop.deliver() == ["settled"]
    shop.flow()
    assert shop.status(made["orderId"]) == "paid"
    assert webhook_says(refunded("1043", payment, amount=49.00)) == "recorded"
    assert shop.status(made["orderId"]) == "refunded"
    assert shop.later() == {"confirmed": 1}


def test_a_number_may_be_written_as_one(shop: World) -> None:
    """`1043` in a session's metadata is the order `1043`, as text or as a number; what is no whole number is none."""
    _, made = register(shop, "1043")
    for number in (10.43, True, -1043, 1e300, [1043]):
        assert webhook_says({**paid(None, "other", COURSE), "metadata": {"external_order_id": number}}) != "settled"
    assert webhook_says({**paid(None, "sale1", COURSE), "metadata": {"external_order_id": 1043}}) == "settled"
    assert shop.status(made["orderId"]) == "paid"


def test_a_sale_of_another_stack_under_the_same_number(shop: World) -> None:
    """Beside another stack's store a number is no number of this shop: neither by webhook nor by the API."""
    _, made = register(shop, "1043")
    shop.sell_elsewhere(COURSE, {"external_order_id": "1043", "pocketsflow_store": "another stack's"})
    assert shop.deliver() == ["unmatched"]
    shop.flow()
    assert shop.later() == {"foreign": 1}
    assert shop.status(made["orderId"]) == "pending"


def test_a_lookup_that_meets_the_registration(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB refuses a write to what a transaction is writing: it is tried again, and the payment settles at once."""
    register(shop, "1043")
    update, conflicts = references.client.update_item, [1, 1]

    def meets(**write: Any) -> Any:
        if conflicts:
            conflicts.pop()
            refused: Any = {"Error": {"Code": "TransactionConflictException"}, "ResponseMetadata": {"RetryAttempts": 0}}
            raise references.client.exceptions.TransactionConflictException(refused, "UpdateItem")
        return update(**write)

    monkeypatch.setattr(references.client, "update_item", meets)
    assert webhook_says(paid("1043", "sale1", COURSE)) == "settled"
    assert conflicts == []


def test_another_product_under_a_reference_is_mismatched(shop: World) -> None:
    """The product that was registered is what must be paid."""
    _, made = register(shop, "1043")
    sold_by_guide(shop, "1043", ELSEWHERE["productId"])
    assert shop.deliver() == ["mismatched"]
    assert shop.status(made["orderId"]) == "mismatched"


def test_a_payment_that_comes_before_its_order(shop: World) -> None:
    """The webhook finds no order, reconciliation judges the payment foreign; then the order is registered, and the next
    run gives it its payment, from the API."""
    payment = sold_by_guide(shop, "1043")
    assert shop.deliver() == ["unmatched"]
    shop.flow()
    assert shop.later() == {"foreign": 1}
    _, made = register(shop, "1043")
    shop.flow()
    assert shop.status(made["orderId"]) == "pending"
    assert shop.later()["settled"] == 1
    assert shop.status(made["orderId"]) == "paid"
    assert shop.types(made["orderId"]) == ["order.paid"]
    assert ledger.read(made["orderId"])["payments"] == [f"pay#{payment}"]  # type: ignore[index]
    assert shop.later() == {"known": 1}


@pytest.mark.parametrize("hidden", [None, "all"])
def test_a_webhook_that_came_before_its_order_with_no_list_to_show_it(shop: World, hidden: str | None) -> None:
    """No run in between, and perhaps an API that tells no metadata: what the signed webhook said is enough."""
    sold_by_guide(shop, "1043")
    assert shop.deliver() == ["unmatched"]
    if hidden:
        shop.account.set_faults({"hide_metadata": hidden})
    _, made = register(shop, "1043")
    shop.flow()
    for _ in range(3):
        shop.later()
    assert shop.status(made["orderId"]) == "paid"


def test_a_lost_webhook_of_a_reference_is_found(shop: World) -> None:
    """Reconciliation looks a reference up as the webhook does, and asks for it once."""
    _, made = register(shop, "1043")
    sold_by_guide(shop, "1043")
    shop.lose_webhooks()
    assert shop.later()["settled"] == 1
    assert shop.status(made["orderId"]) == "paid"
    assert shop.later() == {"known": 1}


def test_a_dry_run_writes_no_reference(shop: World) -> None:
    """It says what it would settle, and leaves no note that somebody waits."""
    register(shop, "1043")
    sold_by_guide(shop, "1043")
    sold_by_guide(shop, "1044")
    shop.lose_webhooks()
    shop.later(minutes=1)
    before = shop.stack.items()
    shop.clock.passes(minutes=5)
    shop.reconcile("days", dry_run=True)
    assert shop.stack.items() == before


def test_a_subscription_under_a_reference_settles(shop: World) -> None:
    """By its first webhook; registered late, by the hourly list of subscribers."""
    _, made = register(shop, "1043", sku="membership")
    sold_by_guide(shop, "1043", MEMBERSHIP)
    assert shop.deliver() == ["settled"]
    shop.flow()
    assert shop.status(made["orderId"]) == "paid"
    sold_by_guide(shop, "1044", MEMBERSHIP)
    assert shop.deliver() == ["recorded"]
    shop.flow()
    _, late = register(shop, "1044", sku="membership")
    shop.flow()
    shop.clock.passes(hours=1)
    shop.reconcile("hours")
    assert shop.status(late["orderId"]) == "paid"
    started = [
        each for each in shop.published if each["type"] == "subscription.changed" and each["reference"] == "1044"
    ]
    assert [each["order_id"] for each in started] == [late["orderId"]]


@pytest.mark.parametrize("paid_before", [True, False])
def test_a_subscription_that_ended_before_it_was_registered(shop: World, paid_before: bool) -> None:
    """It was paid, as the list of payments has shown: its order is paid. Where no payment was ever seen, it is not."""
    subscription = sold_by_guide(shop, "1043", MEMBERSHIP)
    shop.deliver()
    shop.flow()
    if paid_before:
        shop.later()
    else:
        shop.account.payments.clear()
    shop.account.advance(subscription, "cancel")
    shop.deliver()
    shop.flow()
    _, late = register(shop, "1043", sku="membership")
    shop.flow()
    shop.clock.passes(hours=1)
    shop.reconcile("hours")
    assert shop.status(late["orderId"]) == ("paid" if paid_before else "pending")


def test_two_orders_never_share_a_reference(shop: World) -> None:
    """However many servers register it at once, with whatever body: one order."""
    answers = [register(shop, "1043", metadata={"n": str(number % 2)}) for number in range(6)]
    assert [status for status, _ in answers] == [201, 409, 200, 409, 200, 409]
    assert sum(pk.startswith("order#") for pk in shop.stack.items()) == 1


def test_sales_of_another_system_do_not_pile_up(shop: World) -> None:
    """A number that every sale of another system names is noted so many times and no more."""
    for number in range(references.MAX_WAITING + 5):
        assert webhook_says(paid("theirs", f"sale{number}", COURSE)) == "unmatched"
    waiting = shop.stack.items()["reference#theirs"]["waiting"]["SS"]
    assert len(waiting) == references.MAX_WAITING
    assert webhook_says(paid("theirs", "sale0", COURSE)) == "redelivered"


def test_registering_needs_no_api_key(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pocketsflow is not asked; a live shop without a catalogue registers nothing all the same."""
    shop.stack.put_secret("ApiKey", "none")
    secrets._copies.clear()
    assert register(shop, "1043")[0] == 201
    assert ask(shop)[1]["code"] == "api_key_missing"
    monkeypatch.setattr(opening, "MODE", "live")
    monkeypatch.setattr(opening, "RULES", replace(opening.RULES, catalogue={}))
    assert register(shop, "1044")[1]["code"] == "catalogue_missing"


def webhook_says(content: dict[str, Any]) -> str:
    return str(answered(webhook.handler(delivery(content, content["event"]), Context(4)))[1]["outcome"])
