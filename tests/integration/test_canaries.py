"""Everything happens once with marked values; then all that left the functions, and all that `pf` says, is searched."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import click
import pytest
from botocore.exceptions import ClientError
from urllib3 import HTTPResponse
from urllib3.exceptions import ConnectTimeoutError, ProtocolError

import checkout
import preflight
import reconcile
import relay
import retain
import server
import webhook
from ops import __main__ as ops_main
from ops import queues
from payments import challenge, events, ledger, outbox, pocketsflow, secrets
from sandbox import pocketsflow as fake
from sandbox.template import ROOT
from sandbox.worker import Context
from tests import canaries, pf
from tests.canaries import EMAIL, KEPT, METADATA, PASSING, PERSONAL, Command, Witness, hits, witness
from tests.conftest import deployed_stack, template
from tests.integration.outages import Fate, Outages, Try, failing, outages_of
from tests.lambdas import Lambdas
from tests.payloads import NOW, create_key, delivery, http_event, paid, refunded, sign, subscribed
from tests.public import served
from tests.transport import Sent, Transport, response
from tests.world import PRODUCTS, URL, World, world
from tests.world import Context as WorldContext

COURSE, MEMBERSHIP = (PRODUCTS[sku]["productId"] for sku in ("course", "membership"))
ECHO = {"message": " ".join([PASSING["echo"], *PERSONAL.values(), *KEPT.values()])}
"""What an error of somebody else's may quote."""
ASKED = frozenset({"e-mail"})
"""Shown because it is what was asked about, or asked for."""
NOTED = frozenset({"metadata"})
"""What the shop noted with an order is on the order's own screen."""
FUNCTIONS = (checkout, server, webhook, relay, reconcile, retain, preflight)
WHY = ("--reason", "checked", "--yes")
PF = [
    Command(("key", "list")),
    Command(("key", "list", "--json")),
    Command(("key", "create", "laptop")),
    Command(("key", "create", "laptop"), code=1),
    Command(("key", "create", EMAIL), code=2),
    Command(("key", "revoke", "laptop")),
    Command(("key", "revoke", "laptop"), code=1),
    Command(("--stack", "nowhere", "key", "list"), code=1),
    Command(("kept",)),
    Command(("completion", "bash")),
    Command(("order", "{paid}"), NOTED),
    Command(("order", "{paid}", "--json"), NOTED),
    Command(("order", "{paid}", "--personal"), ASKED | NOTED),
    Command(("order", EMAIL), ASKED | NOTED),
    Command(("order", "nobody@buyer.example"), code=1),
    Command(("orders", "--status", "paid")),
    Command(("orders", "--status", "unmatched", "--json")),
    Command(("orders", "--status", "pending", "--since", "2026-11-01", "--personal"), ASKED),
    Command(("events", "{paid}")),
    Command(("events", "--since", "2026-11-01", "--json"), frozenset({"event name"})),
    Command(("events", "{paid}", "--raw"), frozenset(PERSONAL)),
    Command(("export", "--what", "orders", "--format", "csv")),
    Command(("export", "--what", "facts", "--format", "jsonl")),
    Command(("export", "--what", "orders", "--format", "csv", "--personal"), ASKED | NOTED),
    Command(("stats", "--since", "2026-11-01")),
    Command(("tail", "--for", "0.001")),
    Command(("listen", "--for", "0.001")),
    Command(("catalogue", "pull", "--file", "{file}", "--yes")),
    Command(("reconcile", "--dry-run")),
    Command(("reconcile", "--dry-run", "--json")),
    Command(("reconcile",), when="echoing", code=75),
    Command(("replay", "{paid}", "--dry-run")),
    Command(("replay", "{paid}", "--json")),
    Command(("replay", "--since", "2026-11-01", "--json")),
    Command(("replay", EMAIL), ASKED, code=1),
    Command(("republish", "{paid}", "--dry-run")),
    Command(("republish", "{paid}", "--yes", "--json")),
    Command(("republish", "--unpublished", "--yes")),
    Command(("redrive", "parkedtoolong", "--yes")),
    Command(("settle", "--order", "{waiting}", "--payment", "{unmatched}", *WHY)),
    Command(("settle", "--order", "{waiting}", "--payment", "{unmatched}", *WHY), code=1),
    Command(("settle", "--order", "{paid}", "--payment", EMAIL, *WHY), code=1),
    Command(("refund", "{found}", *WHY), when="echoing", code=1),
    Command(("refund", "{found}", *WHY), when="unreachable", code=75),
    Command(("refund", "{found}", *WHY)),
    Command(("refund", "{found}", *WHY), code=1),
    Command(("resolve", "sale2", "--reason", "checked")),
    Command(("resolve", "sale2", "--reason", "checked", "--undo", "--json")),
    Command(("resolve", EMAIL, "--reason", "checked"), ASKED, code=1),
    Command(("catalogue", "pull", "--file", "{file}", "--yes"), when="echoing", code=1),
    Command(("catalogue", "pull", "--file", "{file}", "--yes"), when="unreachable", code=75),
    Command(("init",)),
    Command(("init", "--json")),
    Command(("init",), when="echoing", code=1),
    Command(("doctor",), code=1),
    Command(("doctor", "--json"), code=1),
    Command(("doctor",), when="echoing", code=1),
    Command(("trigger", "order.completed", "--order", "{waiting}")),
    Command(("trigger", EMAIL), ASKED, code=2),
    Command(("rotate", "--reason", "checked"), code=75),
    Command(("rotate", "--finish"), code=75),
    Command(("rotate",), when="echoing", code=1),
    Command(("erase", "--email", EMAIL, "--yes"), ASKED),
    Command(("erase", "--email", EMAIL, "--yes", "--json"), ASKED),
    Command(("audit", "--json")),
    Command(("connector", "list")),
    Command(("connector", "status", "feed"), code=1),
    Command(("connector", "retry", "feed", "--yes"), code=1),
    Command(("connector", "discard", "feed", "--event", "1", "--yes", *WHY), code=1),
    Command(("connector", "test", "feed"), code=1),
    Command(("connector", "secret", "feed"), code=1),
]
"""Every command of `pf`, its failures, too; what is personal is shown to whoever asks for it, and named here."""


ELSEWHERE = {"catalogue_missing", "return_address_not_allowed", "in_progress", "pocketsflow_not_found"} | {
    "access_pending", "access_unavailable", "exchange_over", "links_off", "member_page_not_allowed", "no_access",
    "no_session", "too_many_links",
}  # fmt: skip
"""Codes that no word of a request brings about, or nothing at all; those of members have a search of their own
(test_membership.py)."""
LOGGED = {
    "fact_not_recorded", "parked", "still_parked", "event_kept", "event_misfit", "event_unreadable", "published",
    "subscription_changed", "subscription_has_ended", "put_events_failed", "events_not_published", "order_registered",
    "record_not_relayed", "record_not_understood", "record_not_put_aside", "secret_unreachable", "webhook_refused",
    "reconcile_partial", "reconciled", "unreadable_row", "preflight", "checkout_replayed", "checkout_created",
}  # fmt: skip
PUBLISHED = {
    "order.paid", "order.refunded", "payment.second", "payment.mismatched", "payment.unmatched", "payment.foreign",
    "ledger.drift", "subscription.started", "subscription.changed", "subscription.ended", "webhook.other",
    "subscription.payment_succeeded",
}  # fmt: skip


class Happening:
    """A stack to which everything happens, and what it is called afterwards."""

    def __init__(self, shop: World, outages: Outages, seen: Witness, patch: pytest.MonkeyPatch) -> None:
        self.shop, self.outages, self.seen, self.patch = shop, outages, seen, patch
        self.codes: set[str] = set()
        """Of all answers: `code` of a problem, `outcome` of a webhook, else the status."""
        self.names: dict[str, str] = {}

    def all(self) -> None:
        self.checkouts()
        self.challenges()
        self.servers()
        self.carts()
        self.webhooks()
        self.parking()
        self.relays()
        self.reconciliations()
        self.retentions()
        self.deployments()
        self.looks()
        self.seen.note("items of the ledger", self.shop.stack.items())
        self.seen.note("keys of the ledger", _names(self.shop.stack.items()))

    def _call(self, function: Any, event: dict[str, Any], seconds: float = 9) -> dict[str, Any]:
        answer: dict[str, Any] = function.handler(event, Context(seconds))
        body = answer.get("body", "")
        content = json.loads(body) if body.startswith("{") else {}
        page = re.search(r"<small>(\w+)</small>", body)
        self.codes.add(page[1] if page else str(content.get("outcome") or content.get("code") or answer["statusCode"]))
        return content

    # --- A buyer's browser, and the shop's server -----------------------------------------------------------------

    def ask(self, body: bytes | None = None, kind: str = "application/json", **fields: Any) -> dict[str, Any]:
        headers = fields.pop("headers", {})
        content = json.dumps({"sku": "course", "customerEmail": EMAIL, "metadata": {"note": METADATA}, **fields})
        event = http_event(
            "POST /checkout", content.encode() if body is None else body, content_type=kind,
            cookie=KEPT["return address"], user_agent=PASSING["echo"], **headers,
        )  # fmt: skip
        event["requestContext"]["http"]["sourceIp"] = KEPT["address of the network"]
        return self._call(checkout, event)

    def checkouts(self) -> None:
        self.patch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 500)
        back = dict.fromkeys(("successUrl", "cancelUrl"), f"https://shop.example/?c={KEPT['return address']}")
        keyed = {"headers": {"idempotency_key": KEPT["idempotency key"]}}
        self.names["order"] = self.ask(**back, **keyed)["orderId"]
        self.ask(**back, **keyed)
        self.ask(**keyed)
        self.ask(headers={"idempotency_key": KEPT["idempotency key"] + "x"})
        self.ask(**{PERSONAL["street"]: EMAIL, "customerEmail": f"{EMAIL} {PERSONAL['first name']}"})
        self.ask(successUrl=f"https://{KEPT['return address']}.example/", metadata={METADATA: 1})
        self.ask(PERSONAL["body"].encode())
        self.ask(PERSONAL["body"].encode(), "text/plain")
        self.ask(PERSONAL["body"].encode() * 5_000)
        form = f"sku=course&customerEmail={EMAIL.replace('+', '%2B')}&metadata[note]={METADATA}"
        for content in (form, f"{form}&x={PERSONAL['body']}", PERSONAL["body"]):
            self.ask(content.encode(), "application/x-www-form-urlencoded")
        self.ask(form.encode(), "application/x-www-form-urlencoded", headers={"origin": f"https://{PASSING['path']}"})
        for status in (400, 401, 404, 409, 429, 500, 302, 201):
            self.shop.answers["POST /checkout/sessions"] = lambda _, status=status: (status, ECHO)
            self.ask()
        self.shop.answers["POST /checkout/sessions"] = lambda _: (400, ECHO)
        self.ask(discountCode=PASSING["discount code"])
        self.shop.answers.clear()
        self.ask(discountCode=PASSING["discount code"])
        with _unreachable(self.shop):
            self.ask()
        with self.aws_failing("dynamodb", echoing):
            self.ask()
        with self.aws_failing("secretsmanager", echoing):
            secrets._copies.clear()
            self.ask()
        self.patch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 1)
        self.ask()

    def challenges(self) -> None:
        said: list[tuple[int, Any]] = []
        self.patch.setattr(challenge, "_http", _answering(said, self.seen))
        arn = self.shop.stack.secrets.create_secret(Name="challenge", SecretString=KEPT["challenge secret"])["ARN"]
        self.patch.setattr(challenge, "URL", "https://verifier.test/siteverify")
        self.patch.setattr(challenge, "SECRET_ARN", arn)
        self.patch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 0)
        for answer in (
            (200, {"success": True}),
            (400, {"success": False, "error-codes": [ECHO["message"]]}),
            (200, {"success": False, "error-codes": ["invalid-input-secret", ECHO["message"]]}),
            (500, ECHO),
            (200, ECHO["message"]),
        ):
            said.append(answer)
            self.ask(challengeToken=KEPT["challenge token"])
        self.ask(challengeToken=KEPT["challenge token"], headers={"idempotency_key": KEPT["idempotency key"]})
        self.patch.setattr(challenge, "URL", "")

    def servers(self) -> None:
        create_key(self.shop.stack, canaries.SERVER_TOKEN)
        trusted = {"sku": "course", "customerEmail": EMAIL, "metadata": {"note": METADATA}}
        for token in (canaries.SERVER_TOKEN, canaries.SERVER_TOKEN[:-1] + "y", PASSING["path"]):
            for route, more in (
                ("POST /server/checkout", {"reference": "shop-1"}),
                ("POST /server/checkout", {"reference": "shop-1", "successUrl": "https://other.example/"}),
                ("POST /server/checkout", {"reference": PERSONAL["street"]}),
                ("PUT /server/orders/shop-2", {}),
                ("PUT /server/orders/shop-2", {PERSONAL["street"]: PERSONAL["body"]}),
                (f"PUT /server/orders/{PASSING['path']}!", {}),
            ):
                event = http_event(
                    route, json.dumps({**trusted, **more}).encode(), content_type="application/json",
                    authorization=f"Bearer {token}",
                )  # fmt: skip
                self._call(server, event)

    def carts(self) -> None:
        total = {"amount": "60.00", "currency": "usd"}
        body = {"name": KEPT["product name"], "customerEmail": EMAIL, "metadata": {"note": METADATA}, "total": total}
        event = http_event(
            "POST /server/checkout", json.dumps(body).encode(), content_type="application/json",
            authorization=f"Bearer {canaries.SERVER_TOKEN}",
        )  # fmt: skip
        self._call(server, event)
        for answer in ((400, ECHO), (500, ECHO), (201, {**ECHO, "_id": "65a1b2c3d4e5f6a7b8c9d0ee", "price": 1})):
            self.shop.answers["POST /products"] = lambda _, answer=answer: answer  # type: ignore[misc]
            self._call(server, event)
        del self.shop.answers["POST /products"]

    def looks(self) -> None:
        for path in (self.names["order"], PASSING["path"], f"{self.names['order']}{PASSING['path']}"):
            self._call(checkout, http_event(f"GET /orders/{path}", cookie=KEPT["return address"]))

    # --- Webhooks -------------------------------------------------------------------------------------------------

    def deliver(self, content: Any, name: str = "", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
        signature = headers.get("x_pocketsflow_signature") or sign(body, canaries.WEBHOOK_SECRET)
        if len(signature) > 16:
            self.seen.signatures[f"signature {len(self.seen.signatures)}"] = signature
        said = {"x_pocketsflow_signature": signature, "user_agent": PASSING["echo"], **headers}
        self._call(webhook, delivery(body, name or content["event"], **said), 4)

    def pending(self) -> str:
        return self.shop.checkout(customerEmail=EMAIL, metadata={"note": METADATA})[0]

    def webhooks(self) -> None:
        first, second = self.pending(), self.pending()
        self.names |= {"paid": first, "payment": "sale1"}
        for content in (
            person(paid(first, product=COURSE)),
            person(paid(first, product=COURSE)),
            person(paid(first, "sale2", product=COURSE)),
            person(paid(second, "sale3", product=MEMBERSHIP)),
            person(paid(second[:-6] + "000000", "sale4")),
            person(paid(None, "sale5")),
            person(refunded(first)),
            person(refunded(None, "sale6")),
            person(paid(second, "sale7", product=COURSE)),
            person({"event": "order.completed"}),
            person({"event": PASSING["event name"]}),
        ):
            self.deliver(content)
        third = self.pending()
        for name in ("created", "updated", "pause", "resumed", "deleted", "updated"):
            event = f"customer.subscription.{name}"
            state = {"status": "canceled", "active": False} if name == "deleted" else {}
            content = {**person(subscribed(third, product=COURSE, **state)), "customerReference": "shop-3"}
            self.deliver({**content, "event": event}, event)
        for name in ("invoice.payment_succeeded", "invoice.payment_failed"):
            self.deliver({**person(subscribed(None)), "event": name}, name)
        payment = person(paid(second, "sale8", product=COURSE))
        for body in (b"x" + PERSONAL["body"].encode(), b"\xff" + EMAIL.encode(), json.dumps([EMAIL]).encode(), b""):
            self.deliver(body, PASSING["event name"])
        self.deliver(payment, "order.refunded")
        self.deliver(payment, x_pocketsflow_signature="ab" * 32)
        self.deliver(payment, x_pocketsflow_signature=PASSING["path"])
        self.deliver(payment, x_pocketsflow_signature=canaries.WEBHOOK_SECRET)
        self.deliver(PERSONAL["body"].encode() * 20_000, "order.completed")
        for crash in (events, webhook.ledger):
            with pytest.MonkeyPatch.context() as patch:
                name = "parse" if crash is events else "record"
                patch.setattr(crash, name, _crashing)
                self.deliver(payment)
        with self.aws_failing("secretsmanager", echoing):
            secrets._copies.clear()
            self.deliver(payment)
        self.shop.stack.put_secret("WebhookSecrets", "whsec_short")
        secrets._copies.clear()
        self.deliver(payment)
        self.shop.stack.put_secret("WebhookSecrets", canaries.WEBHOOK_SECRET)
        secrets._copies.clear()

    def parking(self) -> None:
        payment = person(paid(self.pending(), "sale9", product=COURSE))
        for fate in (failing, echoing):
            with self.aws_failing("dynamodb", fate):
                for content in (payment, person({"event": PASSING["event name"]})):
                    self.deliver(content)
                self.shop.stack.unpark(webhook.handler, Context(4))
        with self.aws_failing("dynamodb", echoing), self.aws_failing("sqs", echoing):
            self.deliver(payment)
        broken = {"messageId": "1", "body": json.dumps({"body": EMAIL, "event": PASSING["event name"]})}
        webhook.handler({"Records": [broken, {"messageId": "2", "body": ECHO["message"]}]}, Context(4))
        self.shop.stack.unpark(webhook.handler, Context(4))

    # --- What runs by itself ----------------------------------------------------------------------------------------

    def relays(self) -> None:
        records = self.shop.read_stream()
        with self.aws_failing("events", echoing):
            self.shop.relay(records)
        with self.aws_failing("dynamodb", echoing):
            self.shop.relay(records)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox, "events", _crashing)
            self.shop.relay(records[:3])
            patch.setattr(relay, "UNPUBLISHED_BUCKET", "nowhere")
            self.shop.relay(records[:3])
        refused = [{"ErrorCode": "InternalFailure", "ErrorMessage": ECHO["message"]}] * 10
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(relay._bus, "put_events", lambda **put: {"Entries": refused[: len(put["Entries"])]})
            self.shop.relay(records)
        for start in range(0, len(records), 50):
            self.shop.relay(records[start : start + 50])
        self.shop.flow()

    def reconciliations(self) -> None:
        self.shop.clock.passes(minutes=15)
        order_id, session = self.shop.checkout(customerEmail=EMAIL, metadata={"note": METADATA})
        self.shop.pay(session)
        member, session = self.shop.checkout("membership", customerEmail=EMAIL, metadata={"note": METADATA})
        self.shop.pay(session)
        self.shop.lose_webhooks()
        self.names |= {"found": order_id, "member": member, "waiting": self.pending()}
        self.names["unmatched"] = self.shop.sell_elsewhere(COURSE)
        self.shop.sell_elsewhere(COURSE, {"note": METADATA})
        self.shop.lose_webhooks()
        for walk in ("recent", "hours", "days"):
            self.shop.clock.passes(minutes=20)
            self.shop.reconcile(walk)
        self.shop.reconcile("days", dry_run=True)
        row = {"buyerEmail": EMAIL, "customer": {"firstName": PERSONAL["first name"], "buyerEmail": EMAIL}}
        rows = [row, {**row, "_id": EMAIL}, {**row, "_id": "x", "productId": [EMAIL]}, EMAIL, [PERSONAL["body"]]]
        lists = {"orders": "/orders", "payments": "/payments", "refunds": "/refunds"}
        lists["subscribers"] = "/subscriptions/subscribers"
        for answer in [(200, None), (400, ECHO), (401, ECHO), (404, ECHO), (429, ECHO), (500, ECHO), (200, ECHO)]:
            for name, path in lists.items():
                content = {name: rows, "pagination": {"hasMore": False}} if answer[1] is None else answer[1]
                self.shop.answers[f"GET {path}"] = lambda _, found=(answer[0], content): found
            for walk in ("recent", "hours", "days") if answer[0] == 200 else ("days",):
                self.shop.clock.passes(minutes=20)
                self.shop.reconcile(walk)
        self.shop.answers.clear()
        with _unreachable(self.shop):
            self.shop.clock.passes(minutes=20)
            self.shop.reconcile("days")
        self.shop.clock.passes(minutes=20)
        with pytest.raises(ValueError, match="walk must be one of"):
            reconcile.handler({"walk": EMAIL}, Context(240))
        for key in (f"pk_live_{canaries.API_KEY}", ""):
            self.shop.stack.put_secret("ApiKey", key or "none")
            secrets._copies.clear()
            self.ask()
            self.shop.reconcile()
        self.shop.stack.put_secret("ApiKey", canaries.API_KEY)
        secrets._copies.clear()

    def retentions(self) -> None:
        """Nothing is that old; the ledger is looked through, and fails."""
        retain.handler({}, WorldContext(self.shop.clock, 240))
        with self.aws_failing("dynamodb", echoing), contextlib.suppress(ClientError):
            retain.handler({}, WorldContext(self.shop.clock, 240))
        self.shop.flow()

    def pass_on(self) -> None:
        """What the queue and the stream hold, while a command waits."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.shop.stack.unpark(webhook.handler, Context(9))
            self.shop.flow()

    def ran(self, command: Command) -> str:
        """A command of `pf`, in the weather it is for."""
        with contextlib.ExitStack() as weather:
            if command.words[0] in ("init", "doctor", "rotate", "trigger"):  # they go in by the public address
                patch = weather.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(self.shop.account, "hand_over", self.shop.account.hand_over)
                endpoints = {**self.shop.account.endpoints}
                weather.enter_context(served(self.shop, patch))
                self.shop.account.endpoints.update(endpoints)
            if command.when == "unreachable":
                weather.enter_context(_unreachable(self.shop))
            if command.when == "echoing":
                lists = ("refunds", "orders", "products", "payments", "webhooks", "users/me")
                requests = ("POST /refunds", "POST /webhooks", *(f"GET /{name}" for name in lists))
                answers = dict.fromkeys(requests, lambda _: (400, ECHO))
                weather.enter_context(pytest.MonkeyPatch.context()).setattr(self.shop, "answers", answers)
            return self.seen.ran(command, pf.run, self.names)

    def deployments(self) -> None:
        ids = {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
        for kind, answers in (
            ("Create", [(200, ECHO)]),
            ("Delete", [(200, ECHO)]),
            ("Update", [(403, ECHO)]),
            ("Update", []),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(preflight, "_http", _answering(answers))
                event = {"RequestType": kind, "ResponseURL": f"https://cfn.test/?s={KEPT['presigned address']}", **ids}
                with contextlib.suppress(preflight.NotTold):
                    preflight.handler(event, Context(9))

    @contextmanager
    def aws_failing(self, service: str, fate: Fate) -> Iterator[None]:
        self.outages.fates[service] = fate
        yield
        del self.outages.fates[service]


def person(content: dict[str, Any]) -> dict[str, Any]:
    """The body with all that Pocketsflow may tell of a buyer."""
    buyer = {
        "email": EMAIL,
        "firstName": PERSONAL["first name"],
        "lastName": PERSONAL["last name"],
        "address": {"line1": PERSONAL["street"], "postalCode": PERSONAL["postcode"]},
        "vatNumber": PERSONAL["VAT number"],
    }
    metadata = {**content.get("metadata", {}), "note": METADATA}
    return {**content, "customer": buyer, "metadata": metadata, "note": PERSONAL["body"]}


def echoing(tried: Try) -> Any:
    """AWS refuses, and quotes all that it was told."""
    return tried.answer(400, {"__type": "ValidationException", "message": ECHO["message"]})


def _crashing(*values: Any, **_: Any) -> Any:
    """As our own code may, with an error that quotes what it got."""
    raise ValueError(f"{values} {ECHO['message']}")


def _names(items: dict[str, dict[str, Any]]) -> list[Any]:
    """What is a key or the name of an attribute; those of a server's keys are hashes of 256 random bits."""
    keys = [
        {name: item.get(name) for name in ("pk", "open_day", "awaits", "since", "created_at")}
        for item in items.values()
    ]
    return keys + [list(item) for pk, item in items.items() if pk != "server#keys"]


@contextmanager
def _unreachable(shop: World) -> Iterator[None]:
    """Pocketsflow is out of reach, and urllib3 quotes what was asked."""

    def fail() -> None:
        raise ConnectTimeoutError(ECHO["message"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop, "on_request", fail)
        yield


def _answering(answers: list[tuple[int, Any]], seen: Witness | None = None) -> Transport:
    """In a server's place: each answer once."""

    def send(sent: Sent) -> HTTPResponse:
        if seen:
            seen.sent(sent, "requests to the verifier")
        if not answers:
            raise ProtocolError(f"{sent.url} {ECHO['message']}")
        status, content = answers.pop()
        return response(status, {}, json.dumps(content).encode())

    return Transport(send)


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Happening]:
    """All of it, once."""
    with pytest.MonkeyPatch.context() as patch, deployed_stack() as stack, world(stack, patch, NOW) as shop:
        patch.setattr(fake, "API_KEY", canaries.API_KEY)
        stack.put_secret("ApiKey", canaries.API_KEY)
        stack.put_secret("WebhookSecrets", canaries.WEBHOOK_SECRET)
        for endpoint in shop.account.endpoints.values():
            endpoint["secret"] = canaries.WEBHOOK_SECRET
        with outages_of(shop, patch) as outages, witness() as seen:
            for function in FUNCTIONS:
                patch.setattr(function, "handler", seen.watching(function.handler))
            patch.setattr(retain, "datetime", shop.clock.datetime)
            patch.setattr(retain, "time", shop.clock)
            send = pocketsflow._http.send

            def sending(sent: Sent) -> HTTPResponse:
                seen.sent(sent, "requests to Pocketsflow")
                return send(sent)

            patch.setattr(pocketsflow._http, "send", sending)
            shop.reconcile()
            made = Happening(shop, outages, seen, patch)
            made.all()
        made.names["file"] = str(tmp_path_factory.mktemp("pf") / "catalogue.json")
        Lambdas(shop, patch)
        patch.setattr(queues.time, "sleep", lambda _: made.pass_on())
        pf.deployed(PocketsflowUrl=URL)
        yield made


# --- The search -------------------------------------------------------------------------------------------------------


def test_nothing_is_where_it_does_not_belong(happened: Happening) -> None:
    """No canary, in no form, where it is not needed; and there was something to search."""
    seen = happened.seen
    assert {place: found for place in seen.places if (found := seen.misplaced(place))} == {}
    assert [place for place, there in seen.places.items() if not any(there.texts)] == []


def test_what_pf_says(happened: Happening) -> None:
    """No command shows what it was not asked for, nor does its failure."""
    places = [happened.ran(command) for command in PF]
    assert {place: found for place in places if (found := happened.seen.misplaced(place))} == {}


def test_every_function_is_watched() -> None:
    """Those of the template."""
    declared = template(Mode="live").functions()
    assert {each.handler for each in declared} == {f"{function.__name__}.handler" for function in FUNCTIONS}


def test_every_command_of_pf_is_searched() -> None:
    """A new one has a line in PF."""
    leaves, groups = set[str](), [((), ops_main.pf)]
    while groups:
        words, group = groups.pop()
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                groups.append(((*words, name), command))
            else:
                leaves.add(" ".join((*words, name)))
    run = {" ".join(word for word in command.words if not word.startswith("-")) for command in PF}
    assert {leaf for leaf in leaves if not any(f"{words} ".startswith(f"{leaf} ") for words in run)} == set()


def test_it_all_happened(happened: Happening) -> None:
    """Each outcome and code that is searched for did come up, each line of the log did, and each event was published;
    each canary was handed in, and lies where it belongs."""
    documented = {*re.findall(r"^\| `(\w+)`", (ROOT / "docs/problems.md").read_text(), re.MULTILINE)} - ELSEWHERE
    assert {*documented, *get_args(ledger.Outcome), "parked", "201", "303", "200"} - happened.codes == set()
    assert LOGGED - {*re.findall(r'"message":"([\w.]+)"', happened.seen.logged)} == set()
    assert PUBLISHED - {each["type"] for each in happened.shop.published} == set()
    seen = happened.seen
    assert len(seen.signatures) > 30
    assert {name for name, _ in hits("\n".join(seen.given), seen.canaries)} == seen.canaries.keys()
    assert seen.authorizations == {f"Bearer {canaries.API_KEY}"}
    for place in (
        "items of the ledger",
        "messages of the queue",
        "requests to Pocketsflow",
        "requests to the verifier",
    ):
        allowed = {name: seen.canaries[name] for name in seen.places[place].allowed}
        assert {name for name, _ in hits("\n".join(seen.places[place].texts), allowed)} == allowed.keys()
