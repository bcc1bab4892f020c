"""`pf key` against moto: what is stored, what is shown, and each way in which it is not done."""

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

import ops.keys
from ops.stack import Stack, configured_name
from payments import server_keys
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.pf import answer, done, failed, fails, run

LEDGER = "the-stack-s-own-table"
TEMPLATE: dict[str, Any] = {
    "Parameters": {"Stage": {"Type": "String"}},
    "Resources": {
        "Ledger": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": LEDGER,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            },
        }
    },
    "Outputs": {"LedgerTable": {"Value": {"Ref": "Ledger"}}},
}


@pytest.fixture
def stack(cloud: Aws) -> Aws:
    """A stack in CloudFormation by the name of samconfig.toml, stage prod."""
    deploy(configured_name(None), TEMPLATE)
    cloud.table = LEDGER
    return cloud


def deploy(name: str, content: dict[str, Any]) -> None:
    boto3.client("cloudformation").create_stack(
        StackName=name,
        TemplateBody=json.dumps(content),
        Parameters=[{"ParameterKey": each, "ParameterValue": "prod"} for each in content["Parameters"]],
    )


# --- What it does -----------------------------------------------------------------------------------------------------


def test_a_token_is_printed_once_and_only_its_hash_is_kept(stack: Aws) -> None:
    """Standard output has the token and nothing else, so that it can be piped; the table has its SHA-256, who made it
    and when."""
    result = run("key", "create", "shop")
    assert result.exit_code == 0
    token = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"pfs_prod_[A-Za-z0-9_-]{43}", token)
    assert token not in result.stderr
    assert "shop" in result.stderr
    item = stack.items()["server#keys"]
    fields = item[f"key#{hashlib.sha256(token.encode()).hexdigest()}"]["M"]
    assert fields.keys() == {"name", "created_at", "created_by"}
    assert fields["name"] == {"S": "shop"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["created_at"]["S"])
    assert fields["created_by"]["S"].startswith("arn:aws:")
    assert token not in json.dumps(item)
    assert token.rpartition("_")[2] not in json.dumps(item)


def test_tokens_differ() -> None:
    """32 random bytes each."""
    assert len({ops.keys.secrets.token_urlsafe(32) for _ in range(100)}) == 100
    assert "secrets.token_urlsafe(32)" in (ROOT / "ops/keys.py").read_text()


def test_what_pf_writes_the_functions_read(cloud: Aws) -> None:
    """A key of the sandbox's stage, made and revoked by `pf`, is valid for the function and then is not; the constants
    of both are the same."""
    assert (ops.keys.PK, ops.keys.PREFIX) == (server_keys.PK, "key#")
    deploy("mine", {**TEMPLATE, "Resources": {}, "Outputs": {"LedgerTable": {"Value": cloud.table}}})
    boto3.client("cloudformation").update_stack(
        StackName="mine",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "Stage", "ParameterValue": "test"}],
    )
    token = done("--stack", "mine", "key", "create", "shop")["token"]
    assert server_keys.is_valid(f"Bearer {token}")
    done("--stack", "mine", "key", "revoke", "shop")
    assert not server_keys.is_valid(f"Bearer {token}")


def test_keys_are_listed_oldest_first_without_their_tokens(stack: Aws) -> None:
    """Name, time and maker, and enough of the hash to tell whose token turned up."""
    made = [done("key", "create", name) for name in ("b", "a", "c")]
    listed = done("key", "list")
    assert listed == [{name: value for name, value in each.items() if name != "token"} for each in made]
    assert [each["sha256"] for each in listed] == [hashlib.sha256(each["token"].encode()).hexdigest() for each in made]
    lines = run("key", "list").stdout.splitlines()
    for line, each in zip(lines, made, strict=True):
        assert line.startswith(each["name"])
        assert each["sha256"][:12] in line
        assert each["token"] not in line


def test_no_key_is_an_empty_list(stack: Aws) -> None:
    """And no failure."""
    assert done("key", "list") == []
    assert run("key", "list").stderr == "There is no key.\n"


def test_a_revoked_key_is_gone_and_its_name_free(stack: Aws) -> None:
    """The others stay."""
    [first, second] = [done("key", "create", name) for name in ("shop", "other")]
    assert done("key", "revoke", "shop")["sha256"] == first["sha256"]
    assert [each["sha256"] for each in done("key", "list")] == [second["sha256"]]
    assert done("key", "create", "shop")["token"] != first["token"]


def test_twenty_keys_are_the_most(stack: Aws) -> None:
    """The twenty-first is refused until one is revoked."""
    for number in range(20):
        done("key", "create", f"key-{number}")
    code, line = failed("key", "create", "one-more")
    assert (code, "20" in line) == (1, True)
    done("key", "revoke", "key-7")
    done("key", "create", "one-more")


def test_two_people_at_once(stack: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the read and the write of one the other writes: names stay unique, no key is lost."""
    read = ops.keys.Keys._read
    between = [("key", "create", "shop"), ("key", "create", "other")]

    def reading(self: Any) -> Any:
        seen = read(self)
        if between:
            words = between.pop()
            done(*words)
        return seen

    monkeypatch.setattr(ops.keys.Keys, "_read", reading)
    code, line = failed("key", "create", "shop")
    assert code == 1
    assert "there is a key shop already" in line
    assert sorted(each["name"] for each in done("key", "list")) == ["other", "shop"]


def test_somebody_who_never_stops_writing(stack: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries it says so, and that it may be tried again."""
    monkeypatch.setattr(ops.keys.Keys, "_read", lambda _: ([], 7))
    code, line = failed("key", "create", "shop")
    assert (code, "somebody else" in line) == (75, True)


@pytest.mark.parametrize("command", ["create", "revoke"])
def test_a_write_whose_answer_was_lost(stack: Aws, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """The client's second try meets what its first has written: done, once."""
    if command == "revoke":
        done("key", "create", "shop")
    update = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def twice(self: Any, name: str, arguments: Any) -> Any:
        if name == "UpdateItem":
            update(self, name, arguments)
        return update(self, name, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", twice)
    told = done("key", command, "shop")
    monkeypatch.undo()
    listed = done("key", "list")
    assert [each["sha256"] for each in listed] == ([told["sha256"]] if command == "create" else [])


# --- What it works on -------------------------------------------------------------------------------------------------


def test_the_stack_is_that_of_samconfig_or_the_one_that_is_named(stack: Aws) -> None:
    """By its outputs and parameters, in CloudFormation."""
    deploy("another", {**TEMPLATE, "Resources": {}, "Outputs": {"LedgerTable": {"Value": "sandbox-Ledger"}}})
    done("key", "create", "shop")
    assert done("--stack", configured_name(None), "--stage", "prod", "key", "list")
    assert done("--stack", "another", "key", "list") == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--stack", "pocketsflow", "--stage", "live"), "the stage is prod, not live"),
        (("--stage", "prod"), "there is no stack pocketsflow-prod"),
        (("--stack", "nothing"), "there is no stack nothing"),
        (("--stack", "foreign"), "has no ledger"),
        (("--stack", "without"), "there is no table"),
    ],
)
def test_a_stack_that_does_not_fit(stack: Aws, words: tuple[str, ...], part: str) -> None:
    """Says in a line what is wrong; nothing is written."""
    deploy("foreign", {**TEMPLATE, "Resources": {}, "Outputs": {"Other": {"Value": "x"}}})
    deploy("without", {**TEMPLATE, "Resources": {}, "Outputs": {"LedgerTable": {"Value": "gone"}}})
    code, line = failed(*words, "key", "create", "shop")
    assert (code, part in line) == (1, True)
    assert "server#keys" not in stack.items()


def test_a_samconfig_that_names_no_stack(stack: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Is told; `--stack` helps."""
    monkeypatch.setattr("ops.stack.ROOT", tmp_path)
    assert failed("key", "list") == (1, "samconfig.toml names no stack; give --stack")
    assert done("--stack", "pocketsflow", "key", "list") == []


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["create", "revoke"])
@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "a" * 41, "a b", "ä", "a\n"])
def test_names(command: str, name: str) -> None:
    """Lower-case letters, digits and dashes, at most forty; the command is wrong, exit code 2."""
    result = run("key", command, "--", name)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("--aws-url", "http://127.0.0.1:9"),
        ("--sandbox", "--stack", "mine"),
        *(("--sandbox", "--aws-url", url) for url in ("foo", "http://", "http://127.0.0.1:99999", "ftp://127.0.0.1")),
    ],
)
def test_options_that_are_wrong_or_do_not_go_together(words: tuple[str, ...]) -> None:
    """Exit code 2, and no traceback."""
    result = run(*words, "key", "list")
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)


def test_a_name_that_is_taken_and_one_that_is_not_there(stack: Aws) -> None:
    """Neither changes anything."""
    done("key", "create", "shop")
    before = stack.items()
    assert failed("key", "create", "shop")[0] == 1
    assert failed("key", "revoke", "other") == (1, "there is no key other; `pf key list` shows those there are")
    assert stack.items() == before


@pytest.mark.parametrize(
    ("operation", "error", "code", "part"),
    [
        ("UpdateItem", answer("ThrottlingException"), 75, "AWS throttles UpdateItem; try again"),
        ("GetItem", answer("ProvisionedThroughputExceededException"), 75, "throttles"),
        ("DescribeStacks", answer("Throttling"), 75, "throttles"),
        ("UpdateItem", answer("InternalServerError", 500), 75, "see whether it was done"),
        ("UpdateItem", ReadTimeoutError(endpoint_url="https://aws"), 75, "see whether it was done"),
        ("GetItem", EndpointConnectionError(endpoint_url="https://aws"), 75, "AWS is not there"),
        ("UpdateItem", answer("AccessDeniedException"), 1, "may not do UpdateItem"),
        ("DescribeStacks", answer("ExpiredToken"), 1, "does not take these credentials"),
        ("DescribeStacks", NoCredentialsError(), 1, "no AWS credentials"),
        ("UpdateItem", answer("ValidationException"), 1, "ValidationException"),
    ],
    ids=lambda value: getattr(value, "__class__", type).__name__ if isinstance(value, Exception) else str(value),
)
def test_aws_fails(
    stack: Aws, monkeypatch: pytest.MonkeyPatch, operation: str, error: Exception, code: int, part: str
) -> None:
    """One line, no traceback, no token; what may be tried again has an exit code of its own."""
    fails(monkeypatch, operation, error)
    told = failed("key", "create", "shop")
    assert (told[0], part in told[1]) == (code, True), told
    assert "pfs_" not in told[1]


def test_who_made_it_is_no_condition(stack: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where STS says nothing the key is made all the same."""
    fails(monkeypatch, "GetCallerIdentity", answer("AccessDenied", 403))
    assert done("key", "create", "shop")["created_by"] is None


def test_every_request_ends() -> None:
    """Seconds, for connecting and for the answer, and few tries."""
    config = Stack("any", {}, {}, boto3.Session()).client("dynamodb").meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 5)
    assert config.retries["total_max_attempts"] == 3


def test_from_any_folder(tmp_path: Path) -> None:
    """The set-up leaves a link to ops/pf beside Python; what lies in the folder where it runs is not imported."""
    assert "\n\tln -sf ../../ops/pf $(VENV)/bin/pf" in (ROOT / "Makefile").read_text()
    (tmp_path / "pf").symlink_to(ROOT / "ops/pf")
    (tmp_path / "click.py").write_text("raise SystemExit(9)")
    told = subprocess.run(
        ["./pf", "key", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    assert "create" in told.stdout
