"""`pf rotate`: both secrets count for a while, every step can be the last one, and no payment is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from ops import audit, items
from ops.webhooks import STATE
from tests.breaking import Calls, beginning
from tests.payloads import API_KEY, NOW, SECRET
from tests.pf import answer, done, failed, fails, run
from tests.public import WEBHOOK, Site


@pytest.fixture
def running(site: Site) -> Site:
    """After `pf init`."""
    site.shop.stack.put_secret("WebhookSecrets", "changeme")
    done("init")
    return site


def waits(site: Site, *words: str) -> str:
    """The line that says until when; nothing has failed."""
    result = run("rotate", *words)
    assert result.exit_code == 75, result.output
    return result.stderr.splitlines()[-1]


def settles(site: Site) -> bool:
    order_id, _ = site.shop.buy()
    return site.shop.status(order_id) == "paid"


def test_both_secrets_count_until_the_old_one_ends(running: Site) -> None:
    """The new endpoint gets all events when its secret is taken; the old one goes after the grace, then its secret. In
    between each event comes twice and settles once."""
    [old] = running.ours
    line = waits(running)
    assert "run the same command again after" in line
    assert [each["active"] for each in running.ours] == [True, True]
    assert set(running.words) == {each["secret"] for each in running.ours}
    running.shop.account.deliveries.clear()
    assert settles(running)
    [paid] = [each for each in running.shop.published if each["type"].startswith(("order.paid", "payment."))]
    assert paid["type"] == "order.paid"
    running.shop.clock.passes(minutes=14)
    waits(running)
    assert len(running.ours) == 2
    running.shop.clock.passes(minutes=2)
    told = done("rotate")
    [new] = running.ours
    assert told == {"rotated": "webhook_secret", "endpoint": new["_id"], "ended": [old["_id"]]}
    assert running.words == [new["secret"]]
    assert new["secret"] != old["secret"]
    assert settles(running)
    state = items.get(running.stack, STATE) or {}
    assert "rotation" not in state
    assert [name for name in state if name.startswith("endpoint#")] == [f"endpoint#{new['_id']}"]
    assert done("init")["endpoint"]["did"] == "kept"


def test_a_person_at_a_terminal_waits(running: Site) -> None:
    """And it is done in one go."""
    [old] = running.ours
    result = run("rotate", answering="")
    assert result.exit_code == 0, result.output
    [new] = running.ours
    assert new["_id"] != old["_id"]
    assert settles(running)
    assert running.shop.clock.now > NOW.replace(minute=15)


def test_the_grace_is_at_least_until_every_function_knows(running: Site) -> None:
    """Also when none is wanted, and it can be changed while it lasts."""
    waits(running, "--grace", "600")
    running.shop.clock.passes(minutes=20)
    waits(running)
    assert done("rotate", "--grace", "0")["rotated"] == "webhook_secret"
    began = running.shop.clock.now
    assert run("rotate", "--grace", "0", answering="").exit_code == 0
    assert (running.shop.clock.now - began).total_seconds() >= 90


def test_functions_that_run_are_given_the_time_to_notice(running: Site) -> None:
    """A test that they refuse would be counted as a wrong signature, and alarmed."""
    assert settles(running)
    running.statuses.clear()
    waits(running)
    assert {status[:3] for status in running.statuses} == {"200"}


def test_finish_begins_none(running: Site) -> None:
    """For a schedule: it ends what is under way when its time has come."""
    before = [dict(each) for each in running.ours]
    assert done("rotate", "--finish") == {"rotated": None}
    assert running.ours == before
    waits(running)
    waits(running, "--finish")
    running.shop.clock.passes(minutes=16)
    assert done("rotate", "--finish")["rotated"] == "webhook_secret"


def test_endpoints_made_by_hand(site: Site) -> None:
    """Several, and words that nobody knows the endpoint of: one endpoint and one word are left."""
    site.add_endpoint(SECRET)
    site.add_endpoint("whsec_second_0123456789")
    site.shop.stack.put_secret("WebhookSecrets", f"{SECRET} whsec_second_0123456789")
    assert run("rotate", answering="").exit_code == 0
    [new] = site.ours
    assert site.words == [new["secret"]]
    assert settles(site)


def test_nothing_to_rotate(site: Site) -> None:
    """Says what to do."""
    code, line = failed("rotate")
    assert (code, "pf init" in line) == (1, True)


def test_init_leaves_a_rotation_alone(running: Site) -> None:
    """And says that one is under way."""
    waits(running)
    before = [dict(each) for each in running.ours], running.words
    result = run("init")
    assert "`pf rotate` goes on with it" in result.stderr
    assert ([dict(each) for each in running.ours], running.words) == before


@pytest.mark.parametrize("harm", ["deleted", "inactive", "secret_lost"])
def test_the_old_one_stays_while_the_new_one_does_not_serve(running: Site, harm: str) -> None:
    """Whatever somebody does to the new endpoint meanwhile, it is made good first, and counts anew."""
    [old] = running.ours
    waits(running)
    [new] = [each for each in running.ours if each["_id"] != old["_id"]]
    if harm == "deleted":
        del running.shop.account.endpoints[new["_id"]]
    elif harm == "inactive":
        running.shop.account.endpoints[new["_id"]] = {**new, "active": False}
    else:
        running.shop.stack.put_secret("WebhookSecrets", old["secret"])
    running.shop.clock.passes(minutes=30)
    waits(running)
    assert old["_id"] in [each["_id"] for each in running.ours]
    assert running.refused() == []
    running.shop.clock.passes(minutes=30)
    done("rotate")
    [left] = running.ours
    assert (left["active"], running.words) == (True, [left["secret"]])
    assert settles(running)


def test_a_self_test_that_does_not_pass_at_the_end(running: Site) -> None:
    """Nothing is deleted then."""
    waits(running)
    running.shop.clock.passes(minutes=30)
    running.shop.answers[WEBHOOK] = lambda _: (404, {})
    result = run("rotate")
    assert (result.exit_code, len(running.ours), len(running.words)) == (1, 2, 2)


def test_a_secret_that_cannot_be_stored(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new endpoint is deleted again; the old one counts as before."""
    before = [dict(each) for each in running.ours]
    fails(monkeypatch, "PutSecretValue", answer("InternalServiceError", 500))
    result = run("rotate")
    assert (result.exit_code, "deleted again" in result.stderr) == (1, True)
    assert running.ours == before
    monkeypatch.undo()


def test_it_breaks_off_anywhere(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind any request that leaves: run again, and again after the grace, it is done. At no moment was an endpoint
    active whose secret is refused, and one was active at each."""
    calls = Calls(running, monkeypatch)
    calls.also = lambda: any(each["active"] for each in running.ours)
    [old] = running.ours
    steps = 0
    for steps in calls.everywhere(beginning(running), "rotate"):  # noqa: B007
        waits(running)
        running.shop.clock.passes(minutes=16)
        done("rotate")
        [new] = running.ours
        assert (new["active"], running.words) == (True, [new["secret"]])
        assert new["_id"] != old["_id"]
    assert steps > 8


def test_its_end_breaks_off_anywhere(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, when the old endpoint is deleted and its secret removed."""
    waits(running)
    running.shop.clock.passes(minutes=16)
    calls = Calls(running, monkeypatch)
    calls.also = lambda: any(each["active"] for each in running.ours)
    steps = 0
    for steps in calls.everywhere(beginning(running), "rotate"):  # noqa: B007
        done("rotate", "--finish")
        [new] = running.ours
        assert (new["active"], running.words) == (True, [new["secret"]])
    assert steps > 6


def test_secrets_are_nowhere(running: Site) -> None:
    """Neither printed nor in the audit nor in the state; who rotated, and when, is."""
    secrets = {*running.words}
    results = [run("rotate", "--reason", "a laptop was lost")]
    secrets |= {*running.words}
    running.shop.clock.passes(minutes=16)
    results.append(run("rotate", "--json"))
    kept = json.dumps(running.shop.stack.items(), default=str)
    assert len(secrets) == 2
    for secret in secrets:
        assert all(secret not in result.output for result in results)
        assert secret not in kept
    entries = [each for each in audit.between(running.stack, NOW, running.shop.clock.now) if "rotate" in each["action"]]
    assert [each["action"].partition(".")[2] for each in entries] == [
        "begin",
        "create_endpoint",
        "update_endpoint",
        "delete_endpoint",
        "remove_secrets",
        "end",
    ]
    assert entries[0]["reason"] == "a laptop was lost"


def test_another_api_key(running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is checked, then stored; the one before stays as AWSPREVIOUS. One that does not fit changes nothing."""
    (tmp_path / "key").write_text("pk_test_fedcba9876543210")
    code, line = failed("rotate", "--api-key", "--key-file", str(tmp_path / "key"))
    assert (code, "does not take" in line) == (1, True)
    monkeypatch.setattr("sandbox.pocketsflow.API_KEY", "pk_test_fedcba9876543210")
    result = run("rotate", "--api-key", answering="pk_test_fedcba9876543210\n")
    assert result.exit_code == 0, result.output
    assert "pk_test_f" not in result.output
    secrets = running.shop.stack.secrets

    def value(stage: str) -> Any:
        return secrets.get_secret_value(SecretId="sandbox-ApiKey", VersionStage=stage)["SecretString"]

    assert (value("AWSCURRENT"), value("AWSPREVIOUS")) == ("pk_test_fedcba9876543210", API_KEY)


@pytest.mark.parametrize(
    "words", [("--api-key", "--finish"), ("--api-key", "--grace", "1"), ("--key-file", "-"), ("--grace", "-1")]
)
def test_options_that_do_not_go_together(words: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert run("rotate", *words).exit_code == 2
