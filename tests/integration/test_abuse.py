"""Card testing and scripted checkouts: one address may open so many, and a challenge must have been solved."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

import checkout
from payments import challenge, limits, secrets, telemetry
from sandbox.challenge import SECRET, Verifier
from sandbox.servers import Server
from sandbox.worker import Context
from tests.payloads import API_KEY, answered, http_event
from tests.world import World

KEY = "6d0a1f5e-8c1d-4d39-9f3b-0c8f0a5b7e21"


def ask(address: str = "192.0.2.1", key: str = "", **fields: Any) -> dict[str, Any]:
    body = json.dumps({"sku": "course", **fields}).encode()
    event = http_event("POST /checkout", body, content_type="application/json", idempotency_key=key)
    event["requestContext"]["http"]["sourceIp"] = address
    answer: dict[str, Any] = checkout.handler(event, Context(9))
    return answer


def status(**request: Any) -> int:
    return answered(ask(**request))[0]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    lines = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", lines)
    return lines


# --- So many for one address ------------------------------------------------------------------------------------------


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 3)


@pytest.mark.usefixtures("three")
def test_an_address_that_opens_too_many(shop: World) -> None:
    """429 with the seconds to the end of the window, and neither an order nor a session; another address goes on, and
    so does this one afterwards."""
    assert [status() for _ in range(5)] == [201, 201, 201, 429, 429]
    answer = ask()
    assert json.loads(answer["body"])["code"] == "too_many_checkouts"
    wait = int(answer["headers"]["retry-after"])
    assert 0 < wait <= limits.WINDOW.total_seconds()
    assert len(shop.account.sessions) == sum(pk.startswith("order#") for pk in shop.stack.items()) == 3
    assert status(address="192.0.2.2") == 201
    shop.clock.passes(seconds=wait - 1)
    assert status() == 429
    shop.clock.passes(seconds=1)
    assert status() == 201


@pytest.mark.usefixtures("three")
def test_a_whole_network_of_ipv6_is_one_address(shop: World) -> None:
    """Who has one has all of its /64; an address of IPv4 in the clothes of IPv6 is itself."""
    addresses = ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::3", "2001:db8:0:1::4", "2001:db8:0:2::1"]
    assert [status(address=address) for address in addresses] == [201, 201, 201, 429, 201]
    same = ["192.0.2.9", "::ffff:192.0.2.9", "192.0.2.9", "::ffff:192.0.2.9"]
    assert [status(address=address) for address in same] == [201, 201, 201, 429]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("address", ["", "unknown", "192.0.2.1:80", "fe80::1%eth0", "::"])
def test_an_address_that_is_none(shop: World, address: str) -> None:
    """It counts as one, and breaks nothing."""
    assert [status(address=address) for _ in range(4)] == [201, 201, 201, 429]


@pytest.mark.usefixtures("three")
def test_what_forges_an_address(shop: World) -> None:
    """Only what the gateway saw counts, no header."""
    for number in range(5):
        body = b'{"sku": "course"}'
        event = http_event(
            "POST /checkout", body, content_type="application/json", x_forwarded_for=f"198.51.100.{number}", via="x"
        )
        found = answered(checkout.handler(event, Context(9)))[0]
    assert found == 429


@pytest.mark.usefixtures("three")
def test_an_address_is_never_kept(shop: World, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """The counter's name is a hash by a key that is not in the table, another one in each window; it goes by itself,
    and no log line has the address."""
    import hashlib

    for _ in range(4):
        ask(address="203.0.113.77")
    shop.clock.passes(seconds=limits.WINDOW.total_seconds())
    ask(address="203.0.113.77")
    counters = {pk: item for pk, item in shop.stack.items().items() if pk.startswith("limit#")}
    assert len(counters) == 2
    for item in counters.values():
        assert item.keys() == {"pk", "checkouts", "expires"}
        assert 0 < int(item["expires"]["N"]) - shop.clock.time() <= 2 * limits.WINDOW.total_seconds()
    everything = json.dumps(shop.stack.items(), default=str) + log.getvalue() + capsys.readouterr().out
    assert "203.0.113.77" not in everything
    assert hashlib.sha256(b"203.0.113.77").hexdigest() not in everything
    assert API_KEY not in everything


def test_one_request_counts(shop: World, wire: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit costs one request, and nothing when it is off."""
    ask()
    wire.clear()
    ask()
    without = list(wire)
    monkeypatch.setattr(checkout, "CHECKOUTS_PER_ADDRESS", 3)
    wire.clear()
    ask()
    assert len(wire) == len(without) + 1


@pytest.mark.usefixtures("three")
def test_what_is_wrong_counts_nothing(shop: World) -> None:
    """A request that could not be served anyway uses nothing up."""
    for _ in range(5):
        assert status(sku="nothing") == 400
    assert status() == 201


# --- A challenge ------------------------------------------------------------------------------------------------------


@dataclass
class Door:
    """The verifier behind an address, and what is asked of it."""

    answer: Callable[[Request], Response] = field(default_factory=Verifier)
    asked: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.asked.append(request.form.to_dict())
        return self.answer(request)(environ, start_response)


@pytest.fixture
def door(shop: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = Door()
    server = Server(0)
    server.start(made)
    arn = shop.stack.secrets.create_secret(Name="challenge", SecretString=SECRET)["ARN"]
    monkeypatch.setattr(challenge, "URL", f"{server.url}/siteverify")
    monkeypatch.setattr(challenge, "SECRET_ARN", arn)
    yield made
    server.close()


def says(status: int, content: Any) -> Callable[[Request], Response]:
    body = content if isinstance(content, str) else json.dumps(content)
    return lambda _: Response(body, status=status, content_type="application/json")


def test_a_solved_challenge_opens_one_checkout(shop: World, door: Door) -> None:
    """The verifier gets the secret and the token, and no address of a buyer; the same token again opens nothing."""
    assert status(challengeToken="solved-1") == 201
    assert door.asked == [{"secret": SECRET, "response": "solved-1"}]
    assert answered(ask(challengeToken="solved-1"))[1]["code"] == "challenge_failed"
    assert len(shop.account.sessions) == 1


def test_the_same_request_again_needs_no_new_challenge(shop: World, door: Door) -> None:
    """An answer was lost: the retry has the token that is spent, and the key by which the verifier knows it; with a
    fresh token it is the same request, too."""
    first = answered(ask(key=KEY, challengeToken="solved-1"))
    assert first[0] == 201
    assert answered(ask(key=KEY, challengeToken="solved-1")) == first
    assert answered(ask(key=KEY, challengeToken="solved-2")) == first
    assert len(shop.account.sessions) == 1


def test_one_token_and_one_key_under_many_origins(shop: World, door: Door) -> None:
    """The key by which the verifier knows a request again is of one order: other origins' orders need other tokens."""
    body = json.dumps({"sku": "course", "challengeToken": "solved-1"}).encode()
    found = [
        checkout.handler(
            http_event(
                "POST /checkout", body, content_type="application/json", idempotency_key=KEY,
                origin=f"https://{name}.example",
            ),
            Context(9),
        )["statusCode"]
        for name in ("a", "b", "a", "c")
    ]  # fmt: skip
    assert found == [201, 403, 201, 403]
    assert len(shop.account.sessions) == 1


def test_a_token_of_another_widget(shop: World, door: Door) -> None:
    """A stranger may bring one, and sets off no alarm by it."""
    door.answer = says(200, {"success": False, "error-codes": ["sitekey-secret-mismatch"]})
    assert answered(ask(challengeToken="solved-1"))[1]["code"] == "challenge_failed"


@pytest.mark.parametrize("token", [None, "made-up", "x" * 8_192])
def test_without_a_solved_challenge_nothing_happens(shop: World, door: Door, token: str | None) -> None:
    """403, no order, no session; where there is no token nobody is asked."""
    before = {pk for pk in shop.stack.items() if not pk.startswith("limit#")}
    found, problem = answered(ask(challengeToken=token))
    assert (found, problem["code"]) == (403, "challenge_failed")
    assert {pk for pk in shop.stack.items() if not pk.startswith("limit#")} == before
    assert len(door.asked) == (0 if token is None else 1)


@pytest.mark.parametrize("token", ["", " ", "a b", "x" * 8_193, "ä", 7, {"a": 1}])
def test_what_is_no_token(shop: World, door: Door, token: Any) -> None:
    """It is refused as a field, and goes nowhere."""
    found, problem = answered(ask(challengeToken=token))
    assert (found, [error["field"] for error in problem["errors"]]) == (400, ["challengeToken"])
    assert door.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        says(500, {"success": True}),
        says(503, "busy"),
        says(200, "<html>"),
        says(200, []),
        says(200, {"success": "true"}),
        says(200, {"success": 1}),
        says(200, {}),
        says(302, ""),
        says(200, '{"success": true, "success": false}'),
        says(200, {"success": True, "padding": "x" * 20_000}),
    ],
)
def test_a_verifier_that_says_nothing_usable(
    shop: World, door: Door, log: io.StringIO, answer: Callable[[Request], Response]
) -> None:
    """Nobody passes: 503 with Retry-After, and somebody is told."""
    door.answer = answer
    refused = ask(challengeToken="solved-1")
    assert (refused["statusCode"], refused["headers"]["retry-after"]) == (503, "5")
    assert json.loads(refused["body"])["code"] == "challenge_unreachable"
    assert '"challenge_unreachable"' in log.getvalue()
    assert shop.account.sessions == {}


@pytest.mark.parametrize("answer", [says(400, {"success": True}), says(200, {"success": False})])
def test_a_verifier_that_says_no(shop: World, door: Door, answer: Callable[[Request], Response]) -> None:
    """A yes counts only as what it is documented to be."""
    door.answer = answer
    assert answered(ask(challengeToken="solved-1"))[1]["code"] == "challenge_failed"


def test_a_verifier_that_is_slow(shop: World, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up in time."""
    import time

    monkeypatch.setattr(challenge, "SECONDS", 0.2)
    door.answer = lambda _: time.sleep(1) or Response("{}")  # type: ignore[func-returns-value]
    assert answered(ask(challengeToken="solved-1"))[1]["code"] == "challenge_unreachable"


def test_a_verifier_that_is_not_there(shop: World, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused connections are no yes either."""
    monkeypatch.setattr(challenge, "URL", "http://127.0.0.1:1/siteverify")
    assert answered(ask(challengeToken="solved-1"))[1]["code"] == "challenge_unreachable"


@pytest.mark.parametrize("value", ["changeme", "not-the-secret-of-this-widget"])
def test_a_secret_that_is_none(shop: World, door: Door, log: io.StringIO, value: str) -> None:
    """A placeholder, or one that the verifier does not know: the merchant is told, and nobody passes."""
    shop.stack.secrets.put_secret_value(SecretId="challenge", SecretString=value)
    secrets._copies.clear()
    found, problem = answered(ask(challengeToken="solved-1"))
    assert (found, problem["code"]) == (503, "challenge_secret_missing")
    assert "challenge_secret_missing" in log.getvalue()


def test_no_token_and_no_secret_is_logged(
    shop: World, door: Door, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever happens to it."""
    ask(challengeToken="solved-in-a-log")
    ask(challengeToken="made-up-in-a-log")
    door.answer = says(500, {})
    ask(challengeToken="solved-in-a-log")
    printed = log.getvalue() + capsys.readouterr().out
    assert not any(word in printed for word in (SECRET, "in-a-log"))


def test_a_form_brings_what_the_widget_added(shop: World, door: Door) -> None:
    """Turnstile's field, and hCaptcha's two."""
    for fields in ("cf-turnstile-response=solved-1", "g-recaptcha-response=solved-2&h-captcha-response=solved-2"):
        event = http_event(
            "POST /checkout", f"sku=course&{fields}".encode(), content_type="application/x-www-form-urlencoded"
        )
        assert checkout.handler(event, Context(9))["statusCode"] == 303
    event = http_event("POST /checkout", b"sku=course", content_type="application/x-www-form-urlencoded")
    assert checkout.handler(event, Context(9))["statusCode"] == 403


def test_a_shop_without_a_challenge_asks_nobody(shop: World) -> None:
    """A token that a page sends all the same is no reason to refuse it."""
    assert status(challengeToken="anything") == 201
