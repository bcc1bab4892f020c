"""`pf init`: what it stores and registers, what it keeps, and that it can break off anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import ops.webhooks
from ops import audit
from payments import secrets as cached
from payments.event_names import EVENTS
from sandbox import pocketsflow as fake
from tests.breaking import Calls, beginning
from tests.payloads import API_KEY, NOW, SECRET
from tests.pf import answer, done, failed, fails, run
from tests.public import ADDRESS, WEBHOOK, Site

LIVE_KEY = f"pk_live_{'x' * 16}"


@pytest.fixture
def new(site: Site) -> Site:
    """As after `make deploy`: neither secret has a value."""
    for name in ("ApiKey", "WebhookSecrets"):
        site.shop.stack.secrets.delete_secret(SecretId=f"sandbox-{name}", ForceDeleteWithoutRecovery=True)
        site.shop.stack.secrets.create_secret(Name=f"sandbox-{name}")
    cached._copies.clear()
    return site


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text(f"{API_KEY}\n")
    return str(path)


def by_hand(site: Site, secret: str = SECRET, **fields: Any) -> str:
    """An endpoint whose secret is stored, both by hand."""
    identity = site.add_endpoint(secret, **fields)
    site.shop.stack.put_secret("WebhookSecrets", secret)
    return identity


def settles(site: Site) -> bool:
    """Whether a purchase does, by its webhook alone."""
    order_id, _ = site.shop.buy()
    return site.shop.status(order_id) == "paid"


def entries(site: Site) -> list[dict[str, Any]]:
    return list(audit.between(site.stack, NOW, site.shop.clock.now))


def secrets_of(site: Site) -> set[str]:
    return {API_KEY, SECRET, *(each["secret"] for each in site.shop.account.endpoints.values()), *site.words}


# --- The first time ---------------------------------------------------------------------------------------------------


def test_all_there_is_to_do_after_the_deployment(new: Site) -> None:
    """A person types the key: it is stored, the endpoint registered with all events, its secret stored, the test sent;
    a purchase settles. The end says what to put into the shop's page, and what comes next."""
    result = run("init", answering=f"{API_KEY}\n")
    assert result.exit_code == 0, result.output
    [endpoint] = new.ours
    assert (endpoint["active"], endpoint["events"]) == (True, [*EVENTS])
    assert new.words == [endpoint["secret"]]
    assert settles(new)
    assert result.stdout == f'data-api="{ADDRESS}"\n'
    assert "/checkout" in result.stderr
    assert "doctor" in result.stderr
    assert [entry["action"] for entry in entries(new)] == [
        "init.store_api_key",
        "init.create_endpoint",
        "init.update_endpoint",
    ]


def test_the_events_are_pocketsflow_s() -> None:
    """Nine, by its own names: one that it does not know would have the endpoint refused. That each is taken is seen by
    tests/integration/test_trigger.py."""
    assert len({*EVENTS}) == 9
    assert {*EVENTS} <= fake.EVENTS


def test_neither_secret_is_shown_or_kept_anywhere_else(new: Site) -> None:
    """Neither printed nor in the audit nor in the item that says which endpoint has which; nor on the command line,
    which has no option for a key."""
    results = [run("init", answering=f"{API_KEY}\n"), run("init", "--json"), run("init", "--help")]
    kept = json.dumps(new.shop.stack.items(), default=str)
    for secret in secrets_of(new):
        assert all(secret not in result.output for result in results)
        assert secret not in kept
    assert "--key " not in results[-1].output


def test_a_key_from_a_file_and_from_a_pipe(new: Site, key_file: str) -> None:
    """For a script; the second one finds it stored."""
    assert done("init", "--key-file", key_file)["api_key"] == "stored"
    result = run("init", "--key-file", "-", "--json", answering=API_KEY)
    assert json.loads(result.stdout)["api_key"] == "kept"


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("", "no API key"),
        ("hunter2", "no API key"),
        ("pk_test_", "too short"),
        (LIVE_KEY, "a key of mode live, and the stack pocketsflow is of mode test"),
        ("pk_test_0123456789abcdeX", "does not take this API key"),
        ("pk_test_•••••••••••••••••", "shown in part"),
    ],
)
def test_a_key_that_does_not_fit(new: Site, tmp_path: Path, key: str, part: str) -> None:
    """Is not stored, nor shown; nothing is registered."""
    (tmp_path / "key").write_text(key)
    code, line = failed("init", "--key-file", str(tmp_path / "key"))
    assert (code, part in line) == (1, True), line
    assert not key or key not in line
    assert new.ours == []
    assert entries(new) == []


def test_a_person_may_type_it_again(new: Site) -> None:
    """Three times, and is told each time what was wrong."""
    assert run("init", answering=f"nonsense\n{LIVE_KEY}\n{API_KEY}\n").exit_code == 0
    new.shop.stack.put_secret("ApiKey", "changeme")
    result = run("init", answering="a\nb\nc\n")
    assert (result.exit_code, result.stderr.count("no API key")) == (1, 3)


def test_nobody_to_ask(new: Site) -> None:
    """Says how to give it."""
    code, line = failed("init")
    assert (code, "--key-file" in line) == (1, True)


def test_pocketsflow_is_not_there(new: Site, key_file: str) -> None:
    """That is no verdict on the key: try again."""
    new.shop.answers["GET /users/me"] = lambda _: (503, {})
    assert failed("init", "--key-file", key_file)[0] == 75
    new.shop.stack.put_secret("ApiKey", API_KEY)
    assert failed("init")[0] == 75


def test_a_key_whose_account_is_of_another_mode(new: Site, key_file: str) -> None:
    """Pocketsflow says so; its prefix alone does not decide."""
    new.shop.answers["GET /users/me"] = lambda _: (200, {"_id": "x", "testMode": False})
    code, line = failed("init", "--key-file", key_file)
    assert (code, "not of mode test" in line) == (1, True)


# --- Again ------------------------------------------------------------------------------------------------------------


def test_what_is_right_is_kept(new: Site, key_file: str) -> None:
    """The second run asks nothing and changes nothing, here or there, and sends no more than the test."""
    done("init", "--key-file", key_file)
    before, endpoints = new.shop.stack.items(), [dict(each) for each in new.ours]
    new.shop.requests.clear()
    told = done("init")
    assert (told["api_key"], told["endpoint"]["did"], told["self_test"]) == ("kept", "kept", "passed")
    assert new.ours == endpoints
    after = new.shop.stack.items()
    changed = {pk for pk in after if after[pk] != before.get(pk)}
    assert changed == {"webhook#self_test"}
    assert {each for each in new.shop.requests if not each.startswith("GET")} == {WEBHOOK}


@pytest.mark.parametrize("fields", [{"events": ["order.completed", "review.created"]}, {"active": False}])
def test_an_endpoint_that_lacks_something_gets_it(new: Site, key_file: str, fields: dict[str, Any]) -> None:
    """The rest of it stays: events that a person wants besides, too."""
    identity = done("init", "--key-file", key_file)["endpoint"]["id"]
    new.shop.account.endpoints[identity] |= fields
    assert done("init")["endpoint"] == {"id": identity, "did": "completed"}
    [endpoint] = new.ours
    assert {*EVENTS, *fields.get("events", [])} == {*endpoint["events"]}
    assert endpoint["active"]
    assert settles(new)


def test_an_endpoint_of_another_address_is_left_alone(new: Site, key_file: str) -> None:
    """It is another stack's, or another system's."""
    other = new.shop.account.add_endpoint({"url": "https://other.example/hook", "events": ["order.completed"]}, SECRET)
    done("init", "--key-file", key_file)
    assert new.shop.account.endpoints[other["_id"]] == other
    assert len(new.ours) == 1


def test_an_endpoint_made_by_hand_is_kept_when_its_secret_is_the_stored_one(site: Site) -> None:
    """Which only a delivery of Pocketsflow's own can prove; after that it is known."""
    identity = by_hand(site)
    assert done("init")["endpoint"] == {"id": identity, "did": "kept"}
    assert f"POST /webhooks/{identity}/test" in site.shop.requests
    site.shop.requests.clear()
    assert done("init")["endpoint"]["did"] == "kept"
    assert f"POST /webhooks/{identity}/test" not in site.shop.requests
    assert settles(site)


def test_an_endpoint_whose_secret_is_lost_is_replaced(site: Site) -> None:
    """The stack takes the stored secret, so the self-test passes: what proves it is that Pocketsflow's own delivery is
    refused. The old one goes when every function knows the new one's secret, and no payment is lost meanwhile."""
    lost = by_hand(site)
    site.shop.account.endpoints[lost]["secret"] = "whsec_of_a_time_long_ago"
    assert done("init")["endpoint"]["did"] == "replaced"
    [endpoint] = site.ours
    assert endpoint["_id"] != lost
    assert site.words == [endpoint["secret"]]
    assert settles(site)
    assert done("init")["endpoint"]["did"] == "kept"


def test_functions_that_run_are_given_the_time_to_notice(site: Site) -> None:
    """Where a secret is stored beside another one: a test that they refuse would be counted as a wrong signature."""
    site.shop.stack.put_secret("WebhookSecrets", SECRET)
    cached.read("sandbox-WebhookSecrets", "whsec_", site.shop.clock.now)
    assert done("init")["endpoint"]["did"] == "created"
    assert {status[:3] for status in site.statuses} == {"200"}


def test_a_stored_secret_that_somebody_has_overwritten(new: Site, key_file: str) -> None:
    """With a placeholder: the note says that the endpoint's is gone, and a new one takes its place."""
    first = done("init", "--key-file", key_file)["endpoint"]["id"]
    new.shop.stack.put_secret("WebhookSecrets", "whsec_xxx")
    assert done("init")["endpoint"]["did"] == "replaced"
    [endpoint] = new.ours
    assert endpoint["_id"] != first
    assert endpoint["secret"] in new.words
    assert settles(new)


def test_several_endpoints_that_lead_here(site: Site) -> None:
    """Those whose secret is stored stay, and `pf rotate` is named; one whose deliveries are refused goes."""
    kept = by_hand(site)
    done("init")
    refused = site.add_endpoint("whsec_never_seen_by_anybody")
    result = run("init")
    assert result.exit_code == 0
    assert [each["_id"] for each in site.ours] == [kept]
    assert f"{refused} deleted" in result.stderr
    second = site.add_endpoint("whsec_second_0123456789")
    site.shop.stack.put_secret("WebhookSecrets", f"{SECRET} whsec_second_0123456789")
    site.shop.clock.passes(minutes=6)
    result = run("init")
    assert result.exit_code == 0, result.output
    assert {each["_id"] for each in site.ours} == {kept, second}
    assert "pf rotate" in result.stderr


def test_a_stack_that_has_another_address_now(new: Site, key_file: str) -> None:
    """A domain of its own: it gets an endpoint, and what the old one still sends is taken until somebody deletes it."""
    first = done("init", "--key-file", key_file)["endpoint"]["id"]
    old = new.shop.account.endpoints[first]
    new.shop.account.endpoints[first] = {**old, "url": "https://abc.execute-api.example/webhooks/pocketsflow"}
    result = run("init")
    assert result.exit_code == 0
    assert f"{first} was made for this stack" in result.stderr
    [endpoint] = new.ours
    assert {*new.words} == {old["secret"], endpoint["secret"]}
    del new.shop.account.endpoints[first]
    done("init")
    assert new.words == [endpoint["secret"]]


def test_a_word_that_somebody_put_there_stays(new: Site, key_file: str) -> None:
    """It may be the secret of an endpoint that comes by another name of this address."""
    done("init", "--key-file", key_file)
    new.shop.stack.put_secret("WebhookSecrets", f"{new.words[0]} {SECRET}")
    done("init")
    assert SECRET in new.words


# --- The way in is not open -------------------------------------------------------------------------------------------


def test_functions_that_do_not_know_the_secret_yet(new: Site, key_file: str) -> None:
    """They look once a minute: the test is sent again until they have."""
    assert new.shop.deliver is not None
    cached.read("sandbox-WebhookSecrets", "whsec_", new.shop.clock.now)
    assert done("init", "--key-file", key_file)["self_test"] == "passed"
    assert new.shop.requests.count(WEBHOOK) > 1


@pytest.mark.parametrize(
    ("status", "content", "code", "part"),
    [
        (404, {"message": "Not Found"}, 1, "answers 404"),
        (200, {"received": True, "outcome": "recorded"}, 1, "older than this tool"),
        (200, {"received": True, "outcome": "self_test"}, 1, "another stack answers"),
        (401, {"code": "invalid_signature"}, 1, "does not take the stored secret"),
        (503, {"code": "webhook_secret_missing"}, 1, "finds no secret"),
        (500, {"message": "Internal Server Error"}, 1, "answers 500"),
        (200, {"received": True, "outcome": "parked"}, 1, "could not write"),
    ],
)
def test_a_self_test_that_does_not_pass(
    new: Site, key_file: str, status: int, content: Any, code: int, part: str
) -> None:
    """Says which it was. Pocketsflow sends nothing there before it has passed; then the same command completes it."""
    new.shop.answers[WEBHOOK] = lambda _: (status, content)
    result = run("init", "--key-file", key_file)
    assert result.exit_code == code, result.output
    assert part in result.stderr
    assert [each["active"] for each in new.ours] == [False]
    new.shop.answers.clear()
    assert done("init")["endpoint"]["did"] == "completed"
    assert len(new.ours) == 1
    assert settles(new)


def test_an_address_where_nobody_answers(new: Site, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """May be there soon: try again."""
    from payments import outbound

    send = outbound.send

    def no_answer(http: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        if url.startswith(ADDRESS):
            raise outbound.NoAnswer
        return send(http, method, url, *arguments, **options)

    monkeypatch.setattr(outbound, "send", no_answer)
    result = run("init", "--key-file", key_file)
    assert (result.exit_code, "does not answer" in result.stderr) == (75, True)


# --- Breaking off -----------------------------------------------------------------------------------------------------


def test_a_secret_that_cannot_be_stored(new: Site, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its endpoint is deleted again; where that fails too, it is inactive and the line says what to do."""
    done("init", "--key-file", key_file)
    for endpoint in new.ours:
        del new.shop.account.endpoints[endpoint["_id"]]
    fails(monkeypatch, "PutSecretValue", answer("AccessDeniedException"))
    code, line = last_line(run("init"))
    assert (code, "deleted again" in line) == (1, True), line
    assert new.ours == []
    delete_fails(new, monkeypatch)
    code, line = last_line(run("init"))
    [endpoint] = new.ours
    assert (code, endpoint["active"], endpoint["_id"] in line) == (1, False, True), line
    assert endpoint["secret"] not in line
    monkeypatch.undo()


def last_line(result: Result) -> tuple[int, str]:
    return result.exit_code, result.stderr.splitlines()[-1]


def delete_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.cli import Failed
    from ops.provider import Provider

    def refuse(*_: Any) -> None:
        raise Failed("Pocketsflow refuses DELETE")

    monkeypatch.setattr(Provider, "delete_endpoint", refuse)


def test_an_answer_without_a_secret(new: Site, key_file: str) -> None:
    """Nothing can be done with such an endpoint."""
    made: list[Any] = []

    def create(_query: Any) -> tuple[int, Any]:
        made.append(new.shop.account.add_endpoint({"url": "https://x.example", "events": []}, "whsec_x"))
        return 201, {"_id": made[0]["_id"]}

    new.shop.answers["POST /webhooks"] = create
    code, line = last_line(run("init", "--key-file", key_file))
    assert (code, "no webhook secret" in line) == (1, True), line
    assert new.shop.account.endpoints == {}


def test_two_people_at_once(new: Site, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the storing of a secret and the look at it somebody stores another one: nothing is sent to an endpoint
    whose secret is gone, and the next run makes it good."""
    make = ops.webhooks.Webhook.make

    def making(webhook: Any) -> str:
        made = make(webhook)
        new.shop.stack.put_secret("WebhookSecrets", SECRET)
        return made

    monkeypatch.setattr(ops.webhooks.Webhook, "make", making)
    result = run("init", "--key-file", key_file)
    assert (result.exit_code, "somebody else" in result.stderr) == (75, True)
    assert [each["active"] for each in new.ours] == [False]
    monkeypatch.setattr(ops.webhooks.Webhook, "make", make)
    done("init")
    [endpoint] = new.ours
    assert endpoint["active"]
    assert endpoint["secret"] in new.words


@pytest.mark.parametrize("start", ["nothing", "lost", "by_hand"])
def test_it_breaks_off_anywhere(site: Site, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """Behind any request that leaves: the same command completes it. One endpoint is left, whose secret is the only one
    that is stored, and at no moment was an endpoint active whose secret is refused, but for one that was so from the
    beginning."""
    monkeypatch.setattr(ops.webhooks, "PROOF_SECONDS", 1)
    calls = Calls(site, monkeypatch)
    if start == "nothing":
        site.shop.stack.put_secret("WebhookSecrets", "changeme-changeme")
    elif start == "by_hand":
        by_hand(site)
    else:
        calls.known_bad = [site.add_endpoint("whsec_of_a_time_long_ago")]
    steps = 0
    for steps in calls.everywhere(beginning(site), "init"):  # noqa: B007
        assert done("init")["self_test"] == "passed"
        [endpoint] = site.ours
        assert site.words == [endpoint["secret"]]
        assert endpoint["active"]
        assert {*EVENTS} <= {*endpoint["events"]}
    assert steps > {"nothing": 6, "lost": 10, "by_hand": 2}[start]
