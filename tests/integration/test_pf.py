"""What all commands of `pf` rest on: the stack, reading the ledger, the audit, and words on a terminal."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import click
import pytest
from botocore.exceptions import ClientError, NoRegionError

from ops import audit, cli, items
from ops.cli import Failed, TryAgain
from ops.stack import Stack, Unfit, configured_name, find, sandbox
from tests.conftest import Aws
from tests.pf import answer, deployed, fails

NOW = datetime(2026, 11, 27, 23, 59, tzinfo=UTC)


@pytest.fixture
def stack(cloud: Aws) -> Stack:
    return deployed()


def put(cloud: Aws, pk: str, **fields: Any) -> None:
    cloud.dynamodb.put_item(TableName=cloud.table, Item={"pk": {"S": pk}, **fields})


def test_what_a_stack_is(stack: Stack) -> None:
    """Its parameters and outputs, as CloudFormation tells them."""
    assert (stack.stage, stack.mode, stack.table, stack.is_sandbox) == ("test", "test", "sandbox-Ledger", False)
    assert stack.pocketsflow_url == "https://api.pocketsflow.com"
    assert stack.who().startswith("arn:aws:sts::")
    with pytest.raises(Unfit, match="no output Nothing; deploy it anew"):
        stack.output("Nothing")


def test_a_stage_is_looked_for_where_it_was_deployed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make deploy` asks for the region once and keeps it; whoever names another means that one."""
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nstack_name = "pocketsflow"\n[test.deploy.parameters]\nregion = "eu-west-1"\n'
    )
    monkeypatch.setattr("ops.stack.ROOT", tmp_path)
    deployed("pocketsflow-test")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert find(configured_name("test"), "test").session.region_name == "eu-west-1"
    with pytest.raises(NoRegionError):
        find(configured_name("prod"), "prod")
    with pytest.raises(Unfit, match="no stack pocketsflow-test in eu-central-1"):
        find(configured_name("test"), "test", region="eu-central-1")


def test_no_sandbox() -> None:
    """Says how to start one."""
    with pytest.raises(Unfit, match=r"no sandbox at http://127.0.0.1:9; start one: make demo"):
        sandbox("http://127.0.0.1:9", None)


def test_the_functions_code_works_on_the_stack_that_was_chosen_or_not_at_all(stack: Stack) -> None:
    """A module that has read the name of another table would write there."""
    stack.enter()
    assert os.environ["TABLE_NAME"] == stack.table
    assert stack.table == sys.modules["payments.table"].TABLE
    other = Stack("other", stack.parameters, {**stack.outputs, "LedgerTable": "other"}, boto3.Session())
    with pytest.raises(RuntimeError, match="not on other"):
        other.enter()


def test_reading_one_item(cloud: Aws, stack: Stack) -> None:
    """Plain, with bodies as bytes; None for what is not there."""
    put(cloud, "order#1", n={"N": "7"}, m={"M": {"raw": {"B": b"x"}}}, l={"L": [{"S": "a"}]}, s={"SS": ["b"]})
    assert items.get(stack, "order#1") == {"pk": "order#1", "n": 7, "m": {"raw": b"x"}, "l": ["a"], "s": {"b"}}
    put(cloud, "subscription#1", erased={"NULL": True})
    assert items.get(stack, "subscription#1") == {"pk": "subscription#1", "erased": None}
    assert items.get(stack, "order#2") is None


def test_a_scan_finds_each_item_of_a_kind_once(cloud: Aws, stack: Stack) -> None:
    """Of any number, and says how many it looked at."""
    for number in range(60):
        put(cloud, f"order#{number}")
        put(cloud, f"idem#{number}")
    put(cloud, "sale#1")
    looked_at: list[int] = []
    found = [item["pk"] for item in items.scan(stack, ("order#", "sale#"), looked_at.append)]
    assert sorted(found) == sorted([*(f"order#{number}" for number in range(60)), "sale#1"])
    assert sum(looked_at) == 121


def test_a_scan_that_nobody_reads_on_ends(cloud: Aws, stack: Stack) -> None:
    """However many pages wait."""
    for number in range(5):
        put(cloud, f"order#{number}")
    scan = items.scan(stack, ("order#",))
    assert next(iter(scan))["pk"].startswith("order#")
    scan.close()  # type: ignore[attr-defined]  # a generator


def test_a_scan_that_fails_says_so(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is never taken for a ledger without orders."""
    fails(monkeypatch, "Scan", answer("ThrottlingException"))
    with pytest.raises(ClientError, match="Throttling"):
        list(items.scan(stack, ("order#",)))
    monkeypatch.undo()
    gone = Stack("gone", stack.parameters, {**stack.outputs, "LedgerTable": "gone"}, boto3.Session())
    with pytest.raises(Failed, match="there is no table gone"):
        list(items.scan(gone, ("order#",)))
    with pytest.raises(Failed, match="there is no table gone"):
        items.get(gone, "order#1")


def test_the_audit_is_by_day_and_by_what_it_is_about(stack: Stack) -> None:
    """Who, what, why and when, oldest first; the days run on over midnight."""
    audit.write(stack, "reconcile", "a bad night", NOW)
    audit.write(stack, "settle", "buyer called", NOW + timedelta(minutes=2), about="ord_1", payment="6b")
    [first, second] = audit.between(stack, NOW, NOW + timedelta(hours=1))
    assert first == {
        "at": "2026-11-27T23:59:00.000Z",
        "who": stack.who(),
        "action": "reconcile",
        "reason": "a bad night",
    }
    assert (second["about"], second["payment"], second["at"][:10]) == ("ord_1", "6b", "2026-11-28")
    assert audit.of(stack, "ord_1") == [second]
    assert list(audit.between(stack, NOW + timedelta(minutes=1), NOW + timedelta(hours=1))) == [second]


def test_the_functions_code_acts_for_the_profile_that_was_named(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keys, or profile, the environment has: who acts is who the audit says, and in the same account."""
    config = tmp_path / "credentials"
    keys = "aws_access_key_id = {0}\naws_secret_access_key = {0}\n"
    config.write_text("[default]\n" + keys.format("D") + "[prod]\n" + keys.format("P"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "prod")  # so that it is gone again afterwards
    for profile, environment, key in (("prod", None, "P"), ("default", "prod", "D"), (None, None, "E")):
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "E")
        if environment:
            monkeypatch.setenv("AWS_PROFILE", environment)
        here = Stack("x", stack.parameters, stack.outputs, boto3.Session(profile_name=profile, region_name="eu-west-1"))
        here.enter()
        found = botocore.session.get_session().get_credentials()
        assert (found.access_key, here.session.get_credentials().access_key) == (key, key)


def test_a_day_with_thousands_of_entries(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No item grows until DynamoDB takes no more of it, and all are listed in their order."""
    monkeypatch.setattr(audit, "MAX_ENTRIES", 3)
    for number in range(8):
        audit.write(stack, "resolve", str(number), NOW, about=f"sale{number % 2}")
    assert [entry["reason"] for entry in audit.between(stack, NOW, NOW)] == list("01234567")
    assert [entry["reason"] for entry in audit.of(stack, "sale1")] == list("1357")
    pages = [len(item["entries"]) for item in items.scan(stack, (f"audit#{NOW:%Y}",))]
    assert sorted(pages) == [2, 3, 3]


def test_a_full_item_is_below_what_dynamodb_takes(stack: Stack) -> None:
    """Of the longest reasons, and with room for whoever has a long name."""
    audit.write(stack, "refund", "\N{CLINKING BEER MUGS}" * 500, NOW, payment="6b042b389531985d5d9dc9f8")
    [item] = items.scan(stack, ("audit#",))
    assert len(json.dumps(item, ensure_ascii=False).encode()) * audit.MAX_ENTRIES < 300_000


def test_two_persons_write_into_the_audit_at_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB cancels one of two transactions on an item: that one comes again, and at last says so."""
    monkeypatch.setattr(audit.time, "sleep", lambda _: None)
    conflict = answer("TransactionCanceledException", operation="TransactWriteItems")
    conflict.response["CancellationReasons"] = [{"Code": "TransactionConflict"}, {"Code": "None"}]  # type: ignore[typeddict-unknown-key]
    error = stack.client("dynamodb").exceptions.TransactionCanceledException(conflict.response, "TransactWriteItems")
    with monkeypatch.context() as patch:
        fails(patch, "TransactWriteItems", error, times=3)
        audit.write(stack, "settle", "x", NOW)
    assert len(list(audit.between(stack, NOW, NOW))) == 1
    fails(monkeypatch, "TransactWriteItems", error)
    with pytest.raises(TryAgain, match="nothing was done: try again"):
        audit.write(stack, "settle", "x", NOW)


def test_what_cannot_be_audited_is_not_begun(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails, and whoever wanted to act with it."""
    fails(monkeypatch, "TransactWriteItems", answer("AccessDeniedException"))
    with pytest.raises(ClientError):
        audit.write(stack, "settle", "x", NOW)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_times_as_people_write_them(text: str, meant: datetime) -> None:
    """In UTC."""
    assert cli.moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "0h", "2y", "yesterday", "99999999d", "2026-13-01", "1h\n"])
def test_times_that_are_none(text: str) -> None:
    """Are wrong, and not now."""
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        cli.moment(text, NOW)


def test_a_stranger_s_text_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by escapes nor by markup, nor does it break a line or turn its direction."""
    cli.table(["id"], [["\x1b[2Jx"], ["[red]a[/red]"], ["a\nb"], ["\u202eevil"], [":smile:"]])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]a[/red]" in shown
    assert ":smile:" in shown
    assert "a\N{REPLACEMENT CHARACTER}b" in shown


def test_nobody_is_asked_where_nobody_sits() -> None:
    """A script says --yes, or nothing happens."""
    assert cli.confirmed("Really?", yes=True)
    with pytest.raises(click.UsageError, match="--yes"):
        cli.confirmed("Really?", yes=False)
