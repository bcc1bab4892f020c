"""The commands of `pf` that read, as a person uses them: at a terminal, and in a pipe."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, http, shell
from tests.e2e.terminal import said, terminal

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def piped(sandbox: Sandbox, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "ops", "--sandbox", "--aws-url", sandbox.aws, *words],
        cwd=ROOT, env=shell(), capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def bought(sandbox: Sandbox) -> tuple[str, str]:
    order_id, session = sandbox.order()
    return order_id, sandbox.pay(session)


def taps(sandbox: Sandbox) -> list[Any]:
    """Rules and queues of looks at the bus that are there."""
    session = boto3.Session("sandbox", "sandbox", region_name="eu-west-1")
    events, sqs = (session.client(service, endpoint_url=sandbox.aws) for service in ("events", "sqs"))
    buses = [bus["Name"] for bus in events.list_event_buses()["EventBuses"]]
    rules = [rule for bus in buses for rule in events.list_rules(EventBusName=bus, NamePrefix="pf-tail-")["Rules"]]
    return [*rules, *sqs.list_queues(QueueNamePrefix="pf-tail-").get("QueueUrls", [])]


def test_one_order_on_a_screen_and_in_a_pipe(sandbox: Sandbox) -> None:
    """At a terminal with colours, in a pipe the same words without; a narrow terminal breaks no id."""
    order_id, payment = bought(sandbox)
    plain = piped(sandbox, "order", payment)
    assert f"{order_id}  paid\n" in plain
    assert "\x1b" not in plain
    with terminal(sandbox, "order", order_id, columns=60) as child:
        shown = child.read()
    assert COLOUR.search(shown)
    words = COLOUR.sub("", shown)
    assert order_id in words
    assert f"paid: payment {payment}" in words
    code, screen = said(sandbox, "order", "nothing-by-this")
    assert (code, "none has it as its session, payment or refund" in screen) == (1, True), screen


def test_a_table_where_there_is_room_and_none_where_there_is_not(sandbox: Sandbox) -> None:
    """At sixty columns every field has its line, ids whole; in a pipe JSON Lines and nothing else."""
    order_id, session = sandbox.order()
    wide = said(sandbox, "orders", "--status", "pending", "--limit", "3", columns=140)[1]
    assert re.search(rf"^ *{order_id} .* course", wide, re.MULTILINE), wide
    narrow = said(sandbox, "orders", "--status", "pending", "--limit", "3", columns=60)[1]
    assert re.search(rf"order +{order_id}\n", narrow), narrow
    lines = piped(sandbox, "orders", "--status", "pending", "--limit", "3", "--json").splitlines()
    assert order_id in [json.loads(line)["order"] for line in lines]
    assert json.loads(piped(sandbox, "order", session, "--json"))["order"] == order_id


def test_following_the_bus_until_ctrl_c(sandbox: Sandbox) -> None:
    """A purchase appears as it happens; Ctrl-C is a good end, and leaves neither rule nor queue."""
    with terminal(sandbox, "tail", "--type", "order.paid") as child:
        child.expect("Listening to pf-tail-sandbox-")
        assert len(taps(sandbox)) == 2
        order_id, payment = bought(sandbox)
        child.expect(f"order.paid.*{order_id}.*{payment}")
        child.sendintr()
        child.expect("\r\n")
        child.read()
        child.wait()
        assert child.exitstatus == 0
    assert taps(sandbox) == []


def test_webhooks_sent_on_to_another_sandbox_s_way_in(sandbox: Sandbox) -> None:
    """Here to the very one that it came from: the signature is right, and the payment known."""
    with terminal(sandbox, "listen", "--forward", f"{sandbox.api}/webhooks/pocketsflow", columns=240) as child:
        child.expect("Listening to pf-tail-sandbox-")
        order_id, payment = bought(sandbox)
        child.expect(f"order.paid.*{order_id}.*order.completed → 200")
        child.sendintr()
        child.read()
        child.wait()
        assert child.exitstatus == 0
    log = http.get(f"{sandbox.api}/_sandbox/logs/WebhookFunction", timeout=15).json()
    assert any('"redelivered"' in line and payment in line for line in log)


def test_figures_and_the_journal_at_a_terminal(sandbox: Sandbox) -> None:
    """As on a stack; docs/pf.md has the others."""
    bought(sandbox)
    for words, expected in (("stats", "conversion"), ("events", "order.completed")):
        code, screen = said(sandbox, words)
        assert (code, expected in screen) == (0, True), screen


def test_files_lists_and_scripts_at_a_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    """An export into a file, once; what stays of a stack; who did what; the script for the shell."""
    order_id, _ = bought(sandbox)
    file = str(tmp_path / "orders.csv")
    code, screen = said(sandbox, "export", "--since", "1d", "--output", file)
    assert (code, "orders written" in screen) == (0, True), screen
    assert order_id in Path(file).read_text()
    code, screen = said(sandbox, "export", "--since", "1d", "--output", file)
    assert (code, "--force replaces it" in screen) == (1, True), screen
    assert said(sandbox, "resolve", order_id, "--reason", "a test")[0] == 0
    for words, expected in (
        (("audit", order_id), "a test"),
        (("kept",), "sandbox-Ledger"),
        (("completion", "bash"), "_pf_completion"),
    ):
        code, screen = said(sandbox, *words)
        assert (code, expected in screen) == (0, True), screen
