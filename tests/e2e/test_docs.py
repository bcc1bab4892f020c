"""What the documents say is run: every command that needs no AWS account, every sum, every outcome."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from cryptography.exceptions import InvalidSignature

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, http, shell

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
DEPLOY = BLOCK.findall(README.partition("## Deploy")[2].partition("\n## ")[0])
MAKE = BLOCK.findall(README.partition("## Try it")[2].partition("\n## ")[0])
PAGES = ("README.md", "docs/sandbox.md", "docs/api.md", "docs/pf.md", "docs/connectors/feed.md")
RUNNABLE = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in map(ROOT.joinpath, PAGES)
    for number, block in enumerate(BLOCK.findall(path.read_text()))
    if block not in DEPLOY + MAKE
]


def run(block: str, sandbox: Sandbox) -> str:
    """What it prints."""
    return told(block, sandbox).stdout


def told(block: str, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    for name in ("curl", "openssl"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
    for written, here in (("http://localhost:8001", sandbox.api), ("http://localhost:8002", sandbox.pocketsflow)):
        block = block.replace(written, here)
    block = block.replace(".venv/bin/pf --sandbox", f"{sys.executable} -m ops --sandbox --aws-url {sandbox.aws}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("curl ", "curl --noproxy '*' --fail-with-body ")],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("block", RUNNABLE)
def test_commands_run(sandbox: Sandbox, block: str) -> None:
    """Copied from the page into a shell, every command succeeds."""
    done = told(block, sandbox)
    assert done.stdout + done.stderr


def test_the_checkout_call_answers_as_shown(sandbox: Sandbox) -> None:
    """The answer has the fields of the one that is printed below the call."""
    section = README.partition("## Ask for a checkout")[2]
    shown = json.loads(section.partition("```json\n")[2].partition("```")[0])
    answer = json.loads(run(BLOCK.findall(section)[0], sandbox))
    assert answer.keys() == shown.keys()
    for name, value in shown.items():
        assert (
            re.sub(r"[0-9a-z]{24,}", "", value).rpartition("/")[2]
            == re.sub(r"[0-9a-z]{24,}", "", answer[name]).rpartition("/")[2]
        )


def test_the_form_of_a_page_without_script_opens_a_checkout(sandbox: Sandbox) -> None:
    """The form that a page builder takes, sent as a browser sends it, leads to Pocketsflow's page."""
    form = (ROOT / "docs/connectors/feed.md").read_text().partition("```html\n")[2].partition("```")[0]
    [target] = re.findall(r'<form method="post" action="http://localhost:8001(/\S+)"', form)
    fields = dict(re.findall(r'<input type="hidden" name="(\S+)" value="(\S+)">', form))
    assert len(fields) == form.count("<input")
    sent = http.post(f"{sandbox.api}{target}", data=fields, headers={"Origin": sandbox.shop}, allow_redirects=False)
    assert (sent.status_code, sent.headers["Location"].partition("?")[0]) == (303, f"{sandbox.pocketsflow}/checkout")


def test_the_check_of_a_token(sandbox: Sandbox) -> None:
    """As the page on members has it: it takes a member's token, and neither another's words nor another site's."""
    page = (ROOT / "docs/connectors/membership.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("http://localhost:8001", sandbox.api).replace("http://localhost:8000", sandbox.shop)
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    until = time.monotonic() + 20
    while (answer := http.post(f"{sandbox.api}/access", json={"orderId": order_id}, timeout=15)).status_code == 409:
        assert time.monotonic() < until
        time.sleep(0.1)
    head, body, signature = answer.json()["token"].split(".")
    here: dict[str, Any] = {}
    exec(code, here)
    assert here["levels"](f"{head}.{body}.{signature}") == {"course"}
    claims = json.loads(here["data"](body))
    more = base64.urlsafe_b64encode(json.dumps({**claims, "levels": ["workshop"]}).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg": "none"}').decode().rstrip("=")
    for token in (f"{head}.{more}.{signature}", f"{none}.{body}.", f"{none}.{body}.{signature}"):
        with pytest.raises((ValueError, InvalidSignature)):
            here["levels"](token)
    for name in ("AUDIENCE", "ISSUER"):
        here[name], right = "https://other.example", here[name]
        with pytest.raises(ValueError, match="not for here"):
            here["levels"](f"{head}.{body}.{signature}")
        here[name] = right


def test_the_delivery_by_hand_is_recorded(sandbox: Sandbox) -> None:
    """The signature made with openssl verifies, and the answer carries an outcome of the table."""
    section = README.partition("## Receive webhooks")[2]
    assert json.loads(run(BLOCK.findall(section)[0], sandbox)) == {"received": True, "outcome": "recorded"}


def test_two_commands_and_ci() -> None:
    """The two commands are targets of the Makefile, and CI runs the tests by the same one."""
    makefile = (ROOT / "Makefile").read_text()
    assert MAKE == ["make demo\nmake test\n"]
    for target in ("demo", "test", "lint", "build"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in README
    commands = {"make lint", "make build", "make build PY=3.12 ARCH=x86_64", "make demo", "make test"}
    assert commands <= set((ROOT / ".ci/run").read_text().splitlines())
    assert "`make build PY=3.12 ARCH=x86_64`" in README


def test_two_commands_deploy() -> None:
    """The commands that need an account are two: a target of the Makefile, and pf, which is told the same stage."""
    assert DEPLOY == ["make deploy STAGE=test\n.venv/bin/pf --stage test init\n"]
    assert re.search(r"^deploy: stage build$", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_uv_has_one_version() -> None:
    """The build's own uv, for machines that have none, is the one that the lock file names."""
    written = re.search(r"uv==([\d.]+)", (ROOT / "functions/Makefile").read_text())
    locked = re.search(r"^uv==([\d.]+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    assert written is not None
    assert locked is not None
    assert written[1] == locked[1]


def test_the_metrics_that_are_paid_for(sandbox: Sandbox) -> None:
    """The cost table counts the metrics that one purchase touches."""

    def emitted() -> Counter[str]:
        lines = [
            line
            for function in ("CheckoutFunction", "WebhookFunction", "RelayFunction", "ReconcileFunction")
            for line in http.get(f"{sandbox.api}/_sandbox/logs/{function}", timeout=15).json()
        ]
        written = [json.loads(line) for line in lines if '"_aws"' in line]
        return Counter(
            (each["service"], metric["Name"])
            for each in written
            for metric in each["_aws"]["CloudWatchMetrics"][0]["Metrics"]
        )

    of_runs = ("ReconcileStarted", "ReconcileCompleted", "PocketsflowRequests", "WebhookAge")
    idle = {("reconcile", name) for name in of_runs}
    assert f"Metrics of reconciliation | {len(idle)} ×" in README
    before = emitted()
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    sandbox.status(order_id)
    deadline = time.monotonic() + 30
    while ("relay", "EventPublished") not in emitted() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    for _ in range(2):  # confirmed, then known
        http.post(f"{sandbox.api}/_sandbox/invoke/ReconcileFunction", json={"walk": "recent"}, timeout=60)
    touched = (emitted() - before).keys() - idle
    assert f"Metrics: {len(touched)} that every order touches" in README


COMMAND = re.compile(r"\baws (?!s3 )([a-z0-9]+) ([a-z-]+)((?: (?:--[a-z-]+|\"[^\"]*\"|'[^']*'|[^-`|\s]\S*))*)")


def test_the_commands_of_aws_exist() -> None:
    """Each service, operation and option is AWS's, and each output that is named is the template's."""
    session, seen = botocore.session.get_session(), 0
    outputs = (ROOT / "template.yaml").read_text().partition("\nOutputs:\n")[2]
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for service, operation, words in COMMAND.findall(path.read_text()):
            model = session.get_service_model(service)
            operations = {xform_name(name, "-"): name for name in model.operation_names}
            shape = model.operation_model(operations[operation]).input_shape
            options = {xform_name(name, "-") for name in shape.members} if shape else set()
            given = set(re.findall(r"--([a-z-]+)", re.sub(r"\"[^\"]*\"|'[^']*'", "", words)))
            assert given <= options | {"query", "output", "cli-read-timeout", "cli-binary-format"}, (path.name, words)
            for name in re.findall(r'"\$([A-Z][A-Za-z]*[a-z][A-Za-z]*)"', words):
                assert f"\n  {name}:\n" in f"\n{outputs}", name
            seen += 1
    assert seen > 15


def test_every_outcome_is_documented() -> None:
    """Each outcome that the webhook can answer stands in the README; of codes see tests/unit/test_api_docs.py."""
    source = (ROOT / "functions/payments/ledger.py").read_text()
    outcomes = set(re.findall(r'"(\w+)"', re.search(r"Outcome = Literal\[(.*?)\]", source)[1]))  # type: ignore[index]
    assert len(outcomes) > 5
    assert [outcome for outcome in sorted(outcomes | {"parked"}) if f"`{outcome}`" not in README] == []


def test_links_lead_somewhere() -> None:
    """Every relative link and picture is a file."""
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", path.read_text()):
            assert (Path(path.parent) / target).exists(), f"{path.name}: {target}"


SECURITY = (ROOT / "docs/security.md").read_text()


def test_every_threat_names_its_test() -> None:
    """Each line of the threat model says what shows it, and that test is there."""
    tables = re.findall(r"^\|[- |]+\|\n((?:\|.*\|\n)+)", SECURITY, re.MULTILINE)
    threats = [row.strip("|").rpartition("|")[2] for table in tables for row in table.splitlines()]
    assert len(tables) >= 9
    assert len(threats) > 100
    for cell in threats:
        named = re.findall(r"`(\w+\.py)::(\w+)`", cell)
        assert named, cell
        for file, test in named:
            [path] = ROOT.glob(f"tests/*/{file}")
            assert f"\ndef {test}(" in path.read_text(), f"{file}::{test}"


def test_every_entry_is_in_the_threat_model() -> None:
    """Each route, and each queue, bus, table, bucket, secret, topic and role of people's or of the workflow's that the
    templates declare."""
    entries = SECURITY.partition("\n## Entries\n")[2].partition("\n## ")[0]
    ways = r"SQS::Queue|Events::EventBus|Events::Archive|DynamoDB::Table|S3::Bucket|SecretsManager::Secret|SNS::Topic"
    declared = [
        *(
            name
            for path in ("template.yaml", "infra/connector.yaml")
            for name in re.findall(
                rf"^  (\w+):.*\n    Type: AWS::(?:{ways})\n", (ROOT / path).read_text(), re.MULTILINE
            )
        ),
        *re.findall(r"^  (\w+):.*\n    Type: AWS::IAM::Role\n", (ROOT / "infra/ci.yaml").read_text(), re.MULTILINE),
    ]
    described = re.findall(r"^  (/\S+):\n    (\w+):", (ROOT / "infra/openapi.yaml").read_text(), re.MULTILINE)
    routes = [f"{method.upper()} {path}" for path, method in described]
    assert len(declared) >= 12
    assert len(routes) == 8
    assert [name for name in (*declared, *routes) if f"`{name}`" not in entries] == []


def test_the_sums_are_right() -> None:
    """Each line of the cost tables is the product it shows, and each sum the sum of its lines."""
    for table in README.partition("## Cost")[2].partition("\n## ")[0].split("| | | $ |")[1:]:
        total = Decimal(0)
        for line in re.findall(r"^\| (?!-).*\|$", table, re.MULTILINE):
            name, product, price = (cell.strip(" *") for cell in line.strip("|").split("|"))
            if name == "sum":
                assert Decimal(price) == total
                break
            exact = Decimal(1)
            for factor in product.split(" × "):
                exact *= Decimal(re.match(r"[\d.,]+", factor)[0].replace(",", ""))  # type: ignore[index]
            assert abs(exact - Decimal(price)) <= Decimal("0.005"), name
            total += Decimal(price)
        else:
            raise AssertionError("no sum")
