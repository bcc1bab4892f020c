"""The set-up commands as a person uses them at a terminal, on a sandbox of their own: they change its endpoints."""

import re
from collections.abc import Iterator

import boto3
import pexpect
import pytest

from payments.event_names import EVENTS
from tests.e2e.conftest import Sandbox, http, start
from tests.e2e.terminal import said, terminal

KEY = "pk_test_sandbox"


@pytest.fixture(scope="module")
def fresh() -> Iterator[Sandbox]:
    running = start("--port", "0")
    yield running
    assert running.end() == 0


def store_api_key(sandbox: Sandbox, value: str) -> None:
    account = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests", "region_name": "eu-west-1"}
    secrets = boto3.client("secretsmanager", endpoint_url=sandbox.aws, **account)
    secrets.put_secret_value(SecretId="sandbox-ApiKey", SecretString=value)


def endpoints(sandbox: Sandbox) -> list[str]:
    listed = http.get(f"{sandbox.pocketsflow}/webhooks", headers={"Authorization": f"Bearer {KEY}"}, timeout=15)
    return [each["_id"] for each in listed.json()]


def test_the_first_quarter_of_an_hour(fresh: Sandbox) -> None:
    """A person types the key, which is not shown; the endpoint that is there is proven and kept; the second run asks
    nothing, and everything is in order."""
    before = endpoints(fresh)
    store_api_key(fresh, "changeme")
    with terminal(fresh, "init") as child:
        child.expect("API key: ")
        shown = child.before
        child.sendline(KEY)
        child.expect(pexpect.EOF)
        child.wait()
        shown += child.before
        assert child.exitstatus == 0, shown
    assert KEY not in shown
    assert f'data-api="{fresh.api}"' in shown
    assert endpoints(fresh) == before
    code, screen = said(fresh, "init")
    assert (code, screen.count("kept")) == (0, 2), screen
    code, screen = said(fresh, "doctor", columns=200)
    assert code == 0, screen
    lines = re.findall(r"^.*\b(ok|skipped|warning|failed|unknown) {2,}(\S+)", screen, re.MULTILINE)
    complaints = {name for status, name in lines if status not in ("ok", "skipped")}
    assert complaints <= {"reconciliation"}, screen  # of which the first may not have finished yet
    assert len(lines) > 15, screen


def test_every_event(fresh: Sandbox) -> None:
    """Is taken, and the first one settles an order."""
    order_id, _ = fresh.order()
    code, screen = said(fresh, "trigger", "order.completed", "--order", order_id)
    assert (code, "200 settled" in screen) == (0, True), screen
    assert fresh.status(order_id) == "paid"
    for event in EVENTS[1:]:
        code, screen = said(fresh, "trigger", event)
        assert (code, f"{event}  200 " in screen) == (0, True), screen


def test_a_rotation_that_somebody_leaves(fresh: Sandbox) -> None:
    """Ctrl-C while it waits loses nothing: the doctor says that it is under way, and payments settle meanwhile."""
    store_api_key(fresh, KEY)
    before = endpoints(fresh)
    with terminal(fresh, "rotate", "--reason", "a laptop was lost") as child:
        child.expect("Waiting for the functions")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus not in (0, None)
    assert len(endpoints(fresh)) == len(before) + 1
    _, screen = said(fresh, "doctor", columns=200)  # which may find that the function has not noticed it yet
    assert "a rotation began" in screen
    order_id, session = fresh.order()
    fresh.pay(session)
    assert fresh.status(order_id) == "paid"
