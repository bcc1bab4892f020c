"""Members: what their purchases grant, in any order and however often it is told, and who is let in with what."""

import base64
import itertools
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

import access
from connectors import deliveries, entitlements, membership
from ops.members import Member
from payments import limits, orders, table, tokens
from sandbox import aws
from tests.connected import TRIES, Line
from tests.integration.outages import Told
from tests.payloads import http_event
from tests.world import Clock, Context

EMAIL = "jane@example.com"
COURSE, WORKSHOP = "000000000000000000c0ffee", "000000000000000000decade"
"""Products of the sample catalogue that have a level."""
SUBSCRIPTION = "6b042bec1600a35a099950d8"
SHOP = "https://shop.example"


class Platform:
    """There is none: members are let in by this stack itself."""

    stack = "MembershipStack"
    parameters: ClassVar = {"Membership": "on", "MemberMailFrom": "members@shop.example"}

    def __call__(self, *_: Any) -> Any:
        raise AssertionError("nothing is sent anywhere")


class Members:
    """A line from the bus, and what is behind the routes of members, in one time."""

    def __init__(self, line: Line) -> None:
        self.line, self.clock = line, line.clock
        self._number, self._sent = 0, len(aws.mails())

    # --- Events -------------------------------------------------------------------------------------------------------

    def event(self, kind: str, order_id: str, revision: int, status: str, **detail: Any) -> None:
        """About an order; of the course, unless it says otherwise."""
        self._number += 1
        fields = {
            "id": f"{self._number:064x}",
            "subject": f"order#{order_id}",
            "revision": revision,
            "occurred_at": table.timestamp(self.clock.now),
            "order_id": order_id,
            "status": status,
            "sku": "course",
            "product_id": COURSE,
        }
        self.line.publish(kind, **{**fields, **detail})

    def subscription(self, kind: str, revision: int, state: str, was: str | None, **its: Any) -> None:
        self._number += 1
        about = {"id": SUBSCRIPTION, "state": state, "access": state != "ended", "product_id": WORKSHOP, **its}
        self.line.publish(
            kind,
            id=f"{self._number:064x}",
            subject=f"subscription#{SUBSCRIPTION}",
            revision=revision,
            occurred_at=table.timestamp(self.clock.now),
            subscription=about,
            change={"from": was, "to": state},
        )

    def buy(self, **detail: Any) -> str:
        """An order that is paid, and heard of."""
        order_id = orders.new_id(self.clock.now)
        self.event("order.paid", order_id, 1, "paid", **detail)
        self.line.work()
        return order_id

    def subscribe(self) -> str:
        payment = {"id": SUBSCRIPTION, "subscription_id": SUBSCRIPTION}
        order_id = self.buy(sku="membership", product_id=WORKSHOP, payment=payment)
        self.subscription("subscription.started", 1, "active", None)
        self.line.work()
        return order_id

    # --- Routes -------------------------------------------------------------------------------------------------------

    def ask(self, route: str, body: Any = None, source_ip: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        event = http_event(route, raw, **{"content-type": "application/json", **headers})
        if source_ip:
            event["requestContext"]["http"]["sourceIp"] = source_ip
        answer = access.handler(event, Context(self.clock, 6))
        return answer["statusCode"], json.loads(answer["body"])

    def exchange(self, order_id: str, **headers: str) -> tuple[int, dict[str, Any]]:
        return self.ask("POST /access", {"orderId": order_id}, **headers)

    def renew(self, session: str) -> tuple[int, dict[str, Any]]:
        return self.ask("GET /access", authorization=f"Bearer {session}")

    def ask_for_link(self, email: Any, source_ip: str = "") -> tuple[int, dict[str, Any]]:
        return self.ask("POST /access/link", {"email": email}, source_ip)

    def mails(self) -> list[dict[str, str]]:
        return aws.mails()[self._sent :]

    def code(self) -> str:
        """Of the last mail."""
        [line] = [line for line in self.mails()[-1]["text"].splitlines() if line.startswith("https:")]
        page, _, code = line.partition("#access=")
        assert page == f"{SHOP}/members"
        return code

    def by_link(self, email: str = EMAIL) -> dict[str, Any]:
        """What a member gets who asks for a link and follows it."""
        assert self.ask_for_link(email)[0] == 202
        status, content = self.ask("POST /access", {"code": self.code()})
        assert status == 201
        return content

    def levels(self, email: str = EMAIL) -> tuple[str, ...]:
        """Of all that was bought with an address."""
        member = entitlements.member_id(email)
        return entitlements.access(f"member#{member}", self.clock.now, access.GRACE).levels


def claims(token: str, keys: list[dict[str, str]]) -> dict[str, Any]:
    """Of a token, checked by a library as a server would: signature, algorithm and key. Raises InvalidSignature."""
    head, body, signature = token.split(".")
    header = json.loads(_bytes(head))
    [key] = [each for each in keys if each["kid"] == header["kid"]]
    assert (header["alg"], key["alg"], key["use"], key["kty"], key["crv"]) == ("ES256", "ES256", "sig", "EC", "P-256")
    x, y = (int.from_bytes(_bytes(key[name]), "big") for name in "xy")
    raw = _bytes(signature)
    assert len(raw) == 64
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    content: dict[str, Any] = json.loads(_bytes(body))
    return content


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def members(connect: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> Iterator[Members]:
    line = connect(membership, Platform())
    clock: Clock = line.clock
    for module in (entitlements, limits, table):
        monkeypatch.setattr(module, "TABLE", deliveries.TABLE)
    monkeypatch.setattr(access, "datetime", clock.datetime)
    monkeypatch.setattr(access, "time", clock)
    monkeypatch.setattr(access, "MEMBER_PAGE", f"{SHOP}/members")
    monkeypatch.setattr(tokens, "KEY_ARN", aws.make_key("ECC_NIST_P256", "SIGN_VERIFY"))
    aws.client("sesv2", None).create_email_identity(EmailIdentity=access.MAIL_FROM)
    for cached in (entitlements.pepper, tokens.public_key):
        cached.cache_clear()
    yield Members(line)
    for cached in (entitlements.pepper, tokens.public_key):
        cached.cache_clear()


# --- What events come to ----------------------------------------------------------------------------------------------

HISTORY = [
    ("order.paid", "paid", ("course",)),
    ("order.partially_refunded", "partially_refunded", ("course",)),
    ("order.disputed", "disputed", ()),
    ("order.dispute_closed", "partially_refunded", ("course",)),
    ("order.refunded", "refunded", ()),
    ("order.refund_anomaly", "partially_refunded", ("course",)),
]
"""Of an order, revision by revision, and the levels that its buyer has then."""


@pytest.mark.parametrize("length", [3, len(HISTORY)])
def test_any_order_and_any_repetition_come_to_the_same(members: Members, length: int) -> None:
    """After any prefix of an order's events the levels are its last one's, in whichever order they came, twice or once,
    and whatever crashed after its write and before its note."""
    every = list(itertools.permutations(range(length)))
    for number, order in enumerate(random.Random(7).sample(every, min(len(every), 10))):
        email, order_id = f"buyer{number}@example.com", orders.new_id(members.clock.now)
        members.line.crashes = number % 3
        for revision in order:
            kind, status, _ = HISTORY[revision]
            members.event(kind, order_id, revision + 1, status, customer_email=email)
        members.line.work(hours=1)
        assert members.levels(email) == HISTORY[length - 1][2], order
    members.line.repeat()
    members.line.work()
    assert members.levels("buyer0@example.com") == HISTORY[length - 1][2]
    assert members.line.dead == []


def test_a_table_that_is_down_loses_nothing(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is tried for three days, then lies among the dead letters; a redrive heals."""
    note = entitlements.note_order

    def fail(*_: Any) -> bool:
        raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    monkeypatch.setattr(entitlements, "note_order", fail)
    members.buy()
    members.line.work(hours=80)
    assert len(members.line.dead) == 1
    assert members.line.dead[0].tries == TRIES
    assert members.levels() == ()
    monkeypatch.setattr(entitlements, "note_order", note)
    members.line.redrive()
    members.line.work()
    assert members.levels() == ("course",)


@pytest.mark.parametrize("state", ["active", "trialing", "paused", "ended"])
def test_a_subscription_s_state_decides(members: Members, state: str) -> None:
    """Access stays while a subscription is paused, and goes when it is over."""
    order_id = members.subscribe()
    kind = "subscription.ended" if state == "ended" else "subscription.changed"
    members.subscription(kind, 2, state, "active")
    members.line.work()
    assert members.levels() == (() if state == "ended" else ("workshop",))
    assert members.exchange(order_id)[0] == (403 if state == "ended" else 201)


def test_an_end_that_was_heard_of_first_stays_one(members: Members) -> None:
    """The bus has no order: a subscription that ended before anything else of it came was over all the same."""
    members.subscription("subscription.ended", 3, "ended", "active")
    members.subscription("subscription.started", 1, "active", None)
    members.subscribe()
    assert members.levels() == ()


def test_a_failed_renewal_has_a_grace_period(members: Members) -> None:
    """Access stays for the days of the parameter after the payment failed, ends then without an event, and comes back
    when the renewal is paid. What changes meanwhile begins no new period, nor does a late event."""
    members.subscribe()
    members.subscription("subscription.payment_failed", 2, "past_due", "active")
    members.line.work(hours=24 * 6)
    members.subscription("subscription.changed", 3, "past_due", "past_due", cancel_at_period_end=True)
    members.line.work(hours=23)
    assert members.levels() == ("workshop",)
    members.clock.passes(hours=1, seconds=1)
    assert members.levels() == ()
    members.subscription("subscription.changed", 4, "active", "past_due")
    members.line.work()
    assert members.levels() == ("workshop",)


def test_no_token_outlives_the_grace_period(members: Members) -> None:
    """One that is made in its last minutes ends with it."""
    members.subscribe()
    session = members.by_link()["session"]
    members.subscription("subscription.payment_failed", 2, "past_due", "active")
    end = members.clock.now + access.GRACE
    members.line.work(hours=24 * 7 - 0.05)
    status, content = members.renew(session)
    assert (status, datetime.fromisoformat(content["expiresAt"])) == (200, end.replace(microsecond=0))
    members.clock.passes(minutes=4)
    assert members.renew(session)[0] == 403


def test_several_products_have_one_level(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member who has it by two of them keeps it while one of them is paid, and is told of it once."""
    course = entitlements.CATALOGUE["course"]
    print_ = entitlements.catalogue.Item("000000000000000000facade", "print", level=course.level)
    monkeypatch.setattr(entitlements, "CATALOGUE", {"course": course, "print": print_})
    first = members.buy()
    second = members.buy(sku="print", product_id=print_.product_id)
    assert members.levels() == ("course",)
    for revision, (order_id, levels) in enumerate([(first, ("course",)), (second, ())], start=2):
        members.event("order.refunded", order_id, revision, "refunded")
        members.line.work()
        assert members.levels() == levels


def test_two_purchases_of_one_product_are_two(members: Members) -> None:
    """Of two payments for one level one is refunded: the other still grants it."""
    first, _ = members.buy(), members.buy()
    members.event("order.refunded", first, 2, "refunded")
    members.line.work()
    assert members.levels() == ("course",)


def test_another_offer_is_another_level(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription grants what its offer of today has, and nothing once that has no level."""
    members.subscribe()
    members.subscription("subscription.changed", 2, "active", "active", product_id=COURSE)
    members.line.work()
    assert members.levels() == ("course",)
    members.subscription("subscription.changed", 3, "active", "active", product_id="6b042afc1818e811892f902b")
    members.line.work()
    assert members.levels() == ()


def test_attack_the_better_variant_s_level(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who bought a variant whose sku is gone from the catalogue does not get another variant's level; where all of the
    product's are one, that."""
    item = entitlements.catalogue.Item
    better = item(COURSE, "gold", variant_id="v2", level="gold")
    members.buy()
    monkeypatch.setattr(entitlements, "CATALOGUE", {"gold": better, "plain": item(COURSE, "plain", level="course")})
    assert members.levels() == ()
    monkeypatch.setattr(entitlements, "CATALOGUE", {"gold": better})
    assert members.levels() == ("gold",)


def test_a_product_without_a_level_grants_nothing(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the catalogue gives it one: then it counts for who has bought it before."""
    order_id = members.buy(sku="print", product_id="000000000000000000facade")
    assert (members.levels(), members.exchange(order_id)[1]["code"]) == ((), "no_access")
    print_ = entitlements.catalogue.Item("000000000000000000facade", "print", level="art")
    monkeypatch.setattr(entitlements, "CATALOGUE", {"print": print_})
    assert members.levels() == ("art",)


@pytest.mark.parametrize(("kind", "status"), [("payment.mismatched", "mismatched"), ("payment.second", "paid")])
def test_what_settles_nothing_grants_nothing(members: Members, kind: str, status: str) -> None:
    """Neither a payment for something else nor a second one makes a member of who paid it."""
    order_id = orders.new_id(members.clock.now)
    members.event(kind, order_id, 1, status)
    members.line.work()
    assert members.levels() == ()
    assert members.exchange(order_id)[1]["code"] == "access_pending"


def test_a_payment_that_was_another_order_s_is_taken_back(members: Members) -> None:
    """No refund tells that, only the order's status."""
    order_id = members.buy()
    members.event("payment.mismatched", order_id, 2, "mismatched")
    members.line.work()
    assert members.levels() == ()


# --- Attacks on whose it is -------------------------------------------------------------------------------------------


def test_attack_metadata_that_names_another_member(members: Members) -> None:
    """Whatever a page or a server sent along, nobody becomes a member by it, or gets another level."""
    named = {"member": "victim@example.com", "customer_email": "victim@example.com", "level": "workshop"}
    members.buy(untrusted_metadata=named, metadata=named, customer_email="attacker@example.com")
    assert members.levels("victim@example.com") == ()
    assert members.levels("attacker@example.com") == ("course",)


def test_attack_paying_with_another_s_address(members: Members) -> None:
    """Who types a member's address at a checkout, or at Pocketsflow, gets by the order id what was bought and no more:
    neither the member's levels nor their name. The member gets it, too, and it goes with its payment."""
    members.subscribe()
    order_id = members.buy(customer_email=EMAIL)
    _, attacker = members.exchange(order_id)
    keys = members.ask("GET /.well-known/jwks.json")[1]["keys"]
    assert claims(attacker["token"], keys)["levels"] == ["course"]
    member = members.by_link()
    assert member["levels"] == ["course", "workshop"]
    assert claims(attacker["token"], keys)["sub"] != claims(member["token"], keys)["sub"]
    members.event("order.refunded", order_id, 2, "refunded")
    members.line.work()
    assert members.renew(attacker["session"])[0] == 403
    assert members.renew(member["session"])[1]["levels"] == ["workshop"]


def test_attack_disputing_a_second_payment_of_another_s_order(members: Members) -> None:
    """An event about a payment that does not settle the order has its payer's address, and makes nobody a member."""
    order_id = members.buy()
    for revision, kind in enumerate(("payment.second", "order.disputed", "order.dispute_closed"), start=2):
        members.event(kind, order_id, revision, "paid", customer_email="attacker@example.com")
    members.line.work()
    assert (members.levels("attacker@example.com"), members.levels()) == ((), ("course",))


def test_capitals_are_the_same_mailbox(members: Members) -> None:
    """A member who writes the address otherwise than at the purchase is let in, and the mail goes to the same one."""
    members.buy()
    assert members.by_link("Jane@EXAMPLE.com")["levels"] == ["course"]
    assert members.mails()[-1]["to"] == EMAIL


def test_attack_an_address_that_folds_into_another_s(members: Members) -> None:
    """Letters that Unicode makes ASCII of are no way to the mailbox of a member, nor to what was bought with it."""
    for other in ("\u212aate@example.com", "kate@stra\u00dfe.example", "kate@\u0131.example"):
        members.buy(customer_email=other)
        for folded in {other.lower(), other.casefold(), other.upper().lower()} - {other}:
            assert members.levels(folded) == ()
        assert members.ask_for_link(other)[1]["code"] == "invalid_request"


# --- An order id ------------------------------------------------------------------------------------------------------


def test_an_order_id_is_exchanged(members: Members) -> None:
    """The buyer who comes back waits until the payment is heard of, then gets a session and a token that any server can
    check; a renewal gives another one."""
    order_id = orders.new_id(members.clock.now)
    status, problem = members.exchange(order_id)
    assert (status, problem["code"]) == (409, "access_pending")
    members.event("order.paid", order_id, 1, "paid")
    members.line.work()
    status, content = members.exchange(order_id)
    assert (status, content["levels"]) == (201, ["course"])
    keys = members.ask("GET /.well-known/jwks.json")[1]["keys"]
    told = claims(content["token"], keys)
    now = int(members.clock.now.timestamp())
    assert told.pop("sub").startswith("purchase_")
    assert len(told.pop("jti")) > 20
    assert told == {
        "iss": "https://api.shop.example",
        "aud": ["https://shop.example", "http://localhost:8000"],
        "levels": ["course"],
        "iat": now,
        "exp": now + 600,
    }
    assert EMAIL not in json.dumps(content)
    members.clock.passes(minutes=9)
    status, renewed = members.renew(content["session"])
    assert (status, "session" in renewed) == (200, False)
    assert claims(renewed["token"], keys)["exp"] == now + 600 + 540


def test_attack_an_order_id_twice(members: Members) -> None:
    """Whoever finds it in a history or a log afterwards comes too late, also within the time."""
    order_id = members.buy()
    assert members.exchange(order_id)[0] == 201
    status, problem = members.exchange(order_id)
    assert (status, problem["code"]) == (403, "exchange_over")


def test_attack_an_order_id_twice_at_once(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who have read it before either wrote get one session between them."""
    order_id, answers, sign = members.buy(), [], tokens.sign

    def sign_while_another_exchanges(content: Any) -> str:
        monkeypatch.setattr(tokens, "sign", sign)
        answers.append(members.exchange(order_id)[0])
        return sign(content)

    monkeypatch.setattr(tokens, "sign", sign_while_another_exchanges)
    answers.append(members.exchange(order_id)[0])
    assert answers == [201, 403]
    assert len([pk for pk in members.line.items() if pk.startswith("session#")]) == 1


def test_attack_an_order_id_after_fifteen_minutes(members: Members) -> None:
    """It is good for fifteen minutes after the payment, to the second."""
    first, second = members.buy(), members.buy()
    members.clock.passes(minutes=15)
    assert members.exchange(first)[0] == 201
    members.clock.passes(seconds=1)
    status, problem = members.exchange(second)
    assert (status, problem["code"]) == (403, "exchange_over")


def test_whoever_sees_the_payment_is_let_in(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks all the time is told to wait until everything is noted, whatever crashes meanwhile, and never
    that its purchase gives nothing."""
    order_id, answers = orders.new_id(members.clock.now), []

    def then_exchange(note: Any) -> Any:
        def noting(*its: Any) -> Any:
            noted = note(*its)
            answers.append(members.exchange(order_id)[0])
            return noted

        return noting

    for name in ("note_order", "note_sale"):
        monkeypatch.setattr(entitlements, name, then_exchange(getattr(entitlements, name)))
    members.event("order.paid", order_id, 1, "paid")
    members.line.work()
    assert answers == [409, 201]


def test_an_event_at_that_moment_spends_nothing(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the order is being written by somebody else, the page asks again, and nobody is woken."""
    order_id = members.buy()
    reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
    conflict = entitlements.client.exceptions.TransactionCanceledException(
        {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}, "TransactWriteItems"
    )
    with monkeypatch.context() as patch:
        patch.setattr(entitlements.client, "transact_write_items", Mock(side_effect=conflict))
        patch.setattr(access, "needs_attention", Mock(side_effect=AssertionError))
        status, problem = members.exchange(order_id)
    assert (status, problem["code"]) == (503, "access_unavailable")
    assert members.exchange(order_id)[0] == 201


def test_an_answer_that_was_lost_is_given_again(members: Members) -> None:
    """To the same page, by the key that it made; not to another key, and not for ever."""
    order_id, key = members.buy(), {"idempotency-key": "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21"}
    assert [members.exchange(order_id, **key)[0] for _ in range(2)] == [201, 201]
    assert members.exchange(order_id, **{"idempotency-key": "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e22"})[0] == 403
    members.clock.passes(minutes=16)
    assert members.exchange(order_id, **key)[0] == 403


def test_nothing_is_spent_by_a_failure(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """While KMS does not answer nobody is let in, and the order id is still good afterwards."""
    order_id, sign = members.buy(), tokens.sign

    def fail(_: Any) -> str:
        raise ClientError({"Error": {"Code": "KMSInternalException"}}, "Sign")

    monkeypatch.setattr(tokens, "sign", fail)
    status, problem = members.exchange(order_id)
    assert (status, problem["code"]) == (503, "access_unavailable")
    monkeypatch.setattr(tokens, "sign", sign)
    assert members.exchange(order_id)[0] == 201


def test_revocation_counts_at_the_next_renewal(members: Members) -> None:
    """So within the ten minutes that a token lives: after a refund the session gives none, and after a dispute until it
    is closed."""
    order_id = members.buy()
    session = members.exchange(order_id)[1]["session"]
    answers = {"disputed": 403, "dispute_closed": 200, "refunded": 403}
    for revision, (kind, answer) in enumerate(answers.items(), start=2):
        members.event(f"order.{kind}", order_id, revision, "paid" if answer == 200 else kind)
        members.line.work()
        assert members.renew(session)[0] == answer, kind
    assert timedelta(minutes=15) >= access.TOKEN


# --- Sessions and tokens ----------------------------------------------------------------------------------------------


def test_attack_a_session_somebody_made_up(members: Members) -> None:
    """Another stage's, a guessed one, the name of an item: 401, and no word on which it was."""
    guessed = "A" * 43
    for session in (
        "",
        "pfm_test_",
        f"pfm_test_{guessed}",
        f"pfm_prod_{guessed}",
        f"pfm_test_{guessed}\n",
        "session#x",
    ):
        status, problem = members.renew(session)
        assert (status, problem["code"]) == (401, "no_session"), session


def test_attack_a_session_out_of_the_table(members: Members) -> None:
    """The table has hashes: who reads it is let in with none of them, nor with a token in a session's place."""
    content = members.exchange(members.buy())[1]
    [item] = [pk for pk in members.line.items() if pk.startswith("session#")]
    for shown in (item, item.partition("#")[2], f"pfm_test_{item[-43:]}", content["token"]):
        assert members.renew(shown)[0] == 401
    assert content["session"] not in json.dumps(members.line.items(), default=str)


def test_a_session_ends(members: Members) -> None:
    """After thirty days, whether DynamoDB has deleted it by then or not."""
    session = members.exchange(members.buy())[1]["session"]
    members.clock.passes(days=30, seconds=-1)
    assert members.renew(session)[0] == 200
    members.clock.passes(seconds=1)
    assert members.renew(session)[0] == 401


def test_attack_a_session_that_was_taken(members: Members) -> None:
    """Who leaves ends the session itself, not only the page's copy; others of the same member go on. Nobody is told
    whether there was one."""
    members.buy()
    taken, other = members.by_link()["session"], members.by_link()["session"]
    answers = [members.ask("POST /access", {"leave": each}) for each in (taken, taken, f"pfm_test_{'A' * 43}")]
    assert answers == [(200, {"message": "This session is over."})] * 3
    assert [members.renew(each)[0] for each in (taken, other)] == [401, 200]
    for wrong in ("", f"session#{taken}", taken.replace("test", "prod"), [taken]):
        assert members.ask("POST /access", {"leave": wrong})[0] == 400


def test_attack_a_changed_token(members: Members) -> None:
    """Other levels under the same signature, and another key's signature: no server takes them."""
    token = members.exchange(members.buy())[1]["token"]
    keys = members.ask("GET /.well-known/jwks.json")[1]["keys"]
    head, _, signature = token.split(".")
    more = {**claims(token, keys), "levels": ["course", "workshop"]}
    forged = base64.urlsafe_b64encode(json.dumps(more).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidSignature):
        claims(f"{head}.{forged}.{signature}", keys)


def test_attack_a_token_of_another_stage(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another stack has another key, whose `kid` no JWKS of this one has; and the token names that stack's address."""
    keys = members.ask("GET /.well-known/jwks.json")[1]["keys"]
    monkeypatch.setattr(tokens, "KEY_ARN", aws.make_key("ECC_NIST_P256", "SIGN_VERIFY"))
    tokens.public_key.cache_clear()
    token = tokens.sign({"iss": "https://other.example"})
    with pytest.raises(ValueError, match="not enough values"):
        claims(token, keys)
    with pytest.raises(InvalidSignature):
        claims(token, [{**keys[0], "kid": tokens.public_key()["kid"]}])


def test_every_signature_has_sixty_four_bytes(members: Members) -> None:
    """Also those whose halves are short or begin with a one: a server that checks them takes each."""
    keys = [tokens.public_key()]
    for number in range(100):
        assert claims(tokens.sign({"number": number}), keys) == {"number": number}
    for der in (b"", b"\x30", b"\x30\x00", b"\x30\x03\x02\x05\x01", b"\x30\x06\x02\x01\x01\x02\x01", b"\x31\x00"):
        with pytest.raises(tokens.UnknownEncoding):
            tokens._both_halves(der)
    short = b"\x30\x06\x02\x01\x01\x02\x01\x02"
    assert tokens._both_halves(short) == b"\0" * 31 + b"\x01" + b"\0" * 31 + b"\x02"


def test_a_key_of_another_curve_is_none(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is let in with what no server could check."""
    monkeypatch.setattr(tokens, "KEY_ARN", aws.make_key("ECC_NIST_P384", "SIGN_VERIFY"))
    tokens.public_key.cache_clear()
    assert members.ask("GET /.well-known/jwks.json")[0] == 503


# --- Links ------------------------------------------------------------------------------------------------------------


def test_a_link_lets_a_member_in(members: Members) -> None:
    """By mail to the address that bought: with everything that was bought with it, under one name each time."""
    members.buy()
    members.subscribe()
    first, second = members.by_link(), members.by_link()
    assert first["levels"] == second["levels"] == ["course", "workshop"]
    keys = members.ask("GET /.well-known/jwks.json")[1]["keys"]
    assert claims(first["token"], keys)["sub"] == claims(second["token"], keys)["sub"]
    [mail, _] = members.mails()
    assert (mail["from"], mail["to"]) == (access.MAIL_FROM, EMAIL)


def test_attack_a_link_twice(members: Members) -> None:
    """It works once."""
    members.buy()
    members.by_link()
    assert members.ask("POST /access", {"code": members.code()})[1]["code"] == "exchange_over"


def test_attack_an_old_link(members: Members) -> None:
    """For fifteen minutes, and what never was a link is told the same."""
    members.buy()
    members.ask_for_link(EMAIL)
    members.clock.passes(minutes=15)
    assert members.ask("POST /access", {"code": members.code()})[1]["code"] == "exchange_over"
    assert members.ask("POST /access", {"code": "A" * 43})[1]["code"] == "exchange_over"


def test_attack_a_link_to_another_origin(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request names the page; and a stack whose own is not the shop's sends none at all."""
    members.buy()
    for page in ("https://evil.example/", "https://shop.example.evil.example/", "https://shop.example@evil.example/"):
        assert members.ask("POST /access/link", {"email": EMAIL, "page": page})[0] == 400
        monkeypatch.setattr(access, "MEMBER_PAGE", page)
        assert members.ask_for_link(EMAIL)[1]["code"] == "member_page_not_allowed"
    assert members.mails() == []


def test_attack_finding_out_who_is_a_member(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member, a stranger, one whose access is over, one who has asked too often, and one whose mail fails: the same
    answer after the same time."""
    members.buy()
    members.event("order.refunded", members.buy(customer_email="former@example.com"), 2, "refunded")
    members.line.work()
    told = []
    for email in (EMAIL, "stranger@example.com", "former@example.com", EMAIL, EMAIL, EMAIL):
        before = members.clock.now
        told.append((members.ask_for_link(email), members.clock.now - before))
    monkeypatch.setattr(access, "MAIL_FROM", "nobody@unverified.example")
    members.clock.passes(hours=2)
    before = members.clock.now
    told.append((members.ask_for_link(EMAIL), members.clock.now - before))
    assert told == told[:1] * len(told)
    assert told[0][0][0] == 202
    assert told[0][1] == timedelta(seconds=access.LINK_SECONDS)
    assert [mail["to"] for mail in members.mails()] == [EMAIL] * 3


def test_a_table_that_leaves_items_over_tells_nothing(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a member's purchases are read at all: where that comes to nothing, the answer and its time are the same, and
    a session can be shown again."""
    session = members.exchange(members.buy())[1]["session"]
    linked = members.by_link()["session"]
    monkeypatch.setattr(entitlements, "read_many", Mock(side_effect=table.LeftOver))
    before = members.clock.now
    assert members.ask_for_link(EMAIL) == members.ask_for_link("stranger@example.com")
    assert members.clock.now - before == timedelta(seconds=2 * access.LINK_SECONDS)
    assert [members.renew(each)[0] for each in (session, linked)] == [503, 503]


def test_attack_filling_a_member_s_mailbox(members: Members) -> None:
    """Three mails an hour, from however many addresses they are asked for."""
    members.buy()
    for number in range(9):
        assert members.ask_for_link(EMAIL, source_ip=f"203.0.113.{number}")[0] == 202
    assert len(members.mails()) == 3
    members.clock.passes(hours=1)
    members.ask_for_link(EMAIL)
    assert len(members.mails()) == 4


def test_attack_asking_for_many_links(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """One internet address may ask so often in ten minutes, whomever it names."""
    monkeypatch.setattr(access, "LINKS_PER_ADDRESS", 2)
    answers = [members.ask_for_link(f"{name}@example.com") for name in "abc"]
    assert [status for status, _ in answers] == [202, 202, 429]
    assert answers[2][1]["code"] == "too_many_links"


ODD_ADDRESSES: list[Any] = [
    "jane@example.com\r\nBcc: all@example.com",
    "jane@example.com,evil@example.com",
    "jane@example.com;evil@example.com",
    "Jane <jane@example.com>",
    '"jane@example.com"@evil.example',
    "jane@example.com\n",
    "jane@example.com ",
    "jane@example.com\0",
    "jane@localhost",
    "jane@[127.0.0.1]",
    "@example.com",
    f"{'a' * 65}@example.com",
    f"a@{'a.' * 130}example",
    ["jane@example.com"],
    {"S": "jane@example.com"},
    None,
    "",
]


def test_attack_more_than_one_mailbox_in_an_address(members: Members) -> None:
    """Neither a second recipient nor a header: what is no plain address is refused."""
    members.buy()
    for email in ODD_ADDRESSES:
        assert members.ask_for_link(email)[1]["code"] == "invalid_request", email
    assert members.mails() == []


def test_no_sender_no_links(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack without an address to send from says so."""
    monkeypatch.setattr(access, "MAIL_FROM", "")
    status, problem = members.ask_for_link(EMAIL)
    assert (status, problem["code"]) == (404, "links_off")


# --- Requests ---------------------------------------------------------------------------------------------------------


WRONG_BODIES = [
    (b"", 400),
    (b"[]", 400),
    (b"null", 400),
    (b'{"orderId": "ord_prod_01m844ah4r4tff59tdwh9edd1r"}', 400),
    (b'{"orderId": ["ord_test_01m844ah4r4tff59tdwh9edd1r"]}', 400),
    (b'{"orderId": "ord_test_01m844ah4r4tff59tdwh9edd1r", "code": "x"}', 400),
    (b'{"code": "short"}', 400),
    (b'{"code": "A", "code": "A"}', 400),
    (b'{"code": "%s"}' % (b"A" * 5000), 413),
    (b"\xff", 400),
]


def test_a_body_that_is_wrong(members: Members) -> None:
    """Is the caller's to mend, and never a failure."""
    for body, status in WRONG_BODIES:
        assert members.ask("POST /access", body)[0] == status, body


def test_a_script_of_another_site(members: Members) -> None:
    """May send text without asking; so only JSON is taken, for which the browser asks first."""
    for route in ("POST /access", "POST /access/link"):
        headers = {"content-type": "text/plain"}
        assert members.ask(route, {"email": EMAIL}, **headers)[1]["code"] == "unsupported_media_type"


def test_nothing_personal_is_told_or_kept(members: Members, told: Told) -> None:
    """No line of a log and no item has an address, a session, a token or a link's code."""
    content = members.by_link() if members.buy() else {}
    members.ask_for_link("stranger@example.com")
    secrets = [EMAIL, "stranger@example.com", "example.com", content["session"], content["token"], members.code()]
    found = told.text() + json.dumps(members.line.items(), default=str)
    assert "access_opened" in found
    assert [each for each in secrets if each in found] == []


def test_a_person_who_is_erased_is_no_member(members: Members) -> None:
    """`pf erase` finds a member by the address alone, and takes it from what was bought; run again it finds nothing,
    and what comes later of the same order brings nothing back. Another member stays."""
    order_id = members.buy()
    members.buy(customer_email="other@example.com")
    outputs = {"MembershipConnector": f"queue dead {deliveries.TABLE} function -"}
    stack: Any = SimpleNamespace(outputs=outputs, client=lambda service: aws.client(service, None))
    assert not Member(stack, "stranger@example.com").is_known()
    assert Member(stack, "JANE@example.com").forget()
    assert not Member(stack, EMAIL).is_known()
    assert not Member(stack, EMAIL).forget()
    members.event("order.paid", order_id, 1, "paid", customer_email=None)
    members.event("order.dispute_closed", order_id, 2, "paid", customer_email=None)
    members.line.work()
    assert (members.levels(), members.levels("other@example.com")) == ((), ("course",))
    assert str(entitlements.member_id(EMAIL)) not in json.dumps(members.line.items(), default=str)
    nobody: Any = SimpleNamespace(outputs={}, client=stack.client)
    assert not Member(nobody, EMAIL).is_known()


def test_a_purchase_that_another_settled_is_not_erased_with_who_paid_first(members: Members) -> None:
    """What has become another member's stays theirs; and an order whose sale was never noted is no hindrance."""
    order_id = members.buy()
    members.event("order.paid", order_id, 2, "paid", customer_email="other@example.com")
    members.line.work()
    entitlements._add_order(str(entitlements.member_id(EMAIL)), orders.new_id(members.clock.now))
    outputs = {"MembershipConnector": f"queue dead {deliveries.TABLE} function -"}
    stack: Any = SimpleNamespace(outputs=outputs, client=lambda service: aws.client(service, None))
    assert Member(stack, EMAIL).forget()
    assert (members.levels(), members.levels("other@example.com")) == ((), ("course",))


def test_a_check_says_whether_there_are_levels(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pf connector test` finds the catalogue that nobody has given a level."""
    asked: Any = {"test": "connection"}
    context = Context(members.clock, 120)
    assert membership.handler(asked, context) == {"outcome": "ok", "levels": ["course", "workshop"]}
    monkeypatch.setattr(entitlements, "CATALOGUE", {})
    assert membership.handler(asked, context)["outcome"] == "no_level_in_the_catalogue"
