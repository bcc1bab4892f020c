"""Faults of AWS in the sandbox: what a function meets, and that nobody else does."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from sandbox import aws, faults, schedules
from sandbox.faults import Faults, WrongFault, failing, from_option
from sandbox.servers import Server
from sandbox.system import running
from sandbox.template import ROOT
from sandbox.worker import ACCESS_KEY
from tests.e2e.conftest import Sandbox, http, shell

ALL = ("dynamodb", "events", "secretsmanager", "sqs")
ASK: dict[str, Callable[[Any], Any]] = {
    "dynamodb": lambda client: client.list_tables(),
    "events": lambda client: client.list_rules(),
    "secretsmanager": lambda client: client.list_secrets(),
    "sqs": lambda client: client.list_queues(),
}


@dataclass
class Aws:
    """moto behind its faults."""

    url: str
    faults: Faults

    def client(self, service: str, key: str = ACCESS_KEY) -> Any:
        """As a function's: it waits for half a second and asks once."""
        config = Config(read_timeout=0.5, retries={"total_max_attempts": 1})
        return boto3.client(
            service, endpoint_url=self.url, region_name=aws.REGION, config=config,
            aws_access_key_id=key, aws_secret_access_key=key,
        )  # type: ignore[call-overload]  # fmt: skip


@pytest.fixture(scope="module")
def moto_server() -> Iterator[Aws]:
    served = Aws("", Faults())
    server = Server(0)
    server.start(failing(aws.application(), served.faults))
    served.url = server.url
    requests.post(f"{server.url}/moto-api/reset", timeout=15).raise_for_status()  # one state in all of this process
    yield served
    server.close()


@pytest.fixture
def cloud(moto_server: Aws) -> Iterator[Aws]:
    yield moto_server
    moto_server.faults.replace({})


def fault(kind: str, seconds: Any = 60) -> dict[str, Any]:
    return {"kind": kind, "seconds": seconds}


@pytest.mark.parametrize("service", ALL)
def test_down(cloud: Aws, service: str) -> None:
    """No answer that could be used, and nothing has happened; the other services answer."""
    cloud.faults.replace({service: fault("down")})
    with pytest.raises(ClientError) as raised:
        ASK[service](cloud.client(service))
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    for other in set(ALL) - {service}:
        ASK[other](cloud.client(other))


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("dynamodb", "ProvisionedThroughputExceededException"),
        ("events", "ThrottlingException"),
        ("secretsmanager", "ThrottlingException"),
        ("sqs", "RequestThrottled"),
    ],
)
def test_throttled(cloud: Aws, service: str, code: str) -> None:
    """The service's own error, as botocore reads it."""
    cloud.faults.replace({service: fault("throttled")})
    with pytest.raises(ClientError) as raised:
        ASK[service](cloud.client(service))
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize("kind", ["down", "throttled"])
def test_what_was_refused_has_not_happened(cloud: Aws, kind: str) -> None:
    """So trying again does it once."""
    cloud.faults.replace({"sqs": fault(kind)})
    with pytest.raises(ClientError):
        cloud.client("sqs").create_queue(QueueName=f"never-{kind}")
    cloud.faults.replace({})
    assert f"never-{kind}" not in str(cloud.client("sqs").list_queues().get("QueueUrls"))


def test_slow(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives up waiting, and what it asked for has happened all the same."""
    monkeypatch.setattr(faults, "SLOW_SECONDS", 1)
    cloud.faults.replace({"sqs": fault("slow")})
    with pytest.raises(ReadTimeoutError):
        cloud.client("sqs").create_queue(QueueName="late")
    cloud.faults.replace({})
    assert "late" in str(cloud.client("sqs").list_queues()["QueueUrls"])


def test_slow_is_slower_than_every_client_of_the_functions() -> None:
    """With the sandbox's patience: otherwise nobody would give up."""
    from payments import aws as functions_aws
    from payments import pocketsflow
    from sandbox.system import PATIENCE

    longest = max(functions_aws.READ_SECONDS.values()) / functions_aws.PATIENCE * PATIENCE
    assert longest < faults.SLOW_SECONDS
    longest = max(value for name, value in vars(pocketsflow).items() if name.endswith("_SECONDS"))
    assert longest < faults.POCKETSFLOW["slow"]["http_delay_seconds"]


@pytest.mark.parametrize("kind", faults.KINDS)
def test_only_the_functions_meet_them(cloud: Aws, kind: str) -> None:
    """The sandbox's own clients do not, nor those of a person at the AWS port, nor who signs nothing."""
    cloud.faults.replace({service: fault(kind) for service in ALL})
    for service in ALL:
        ASK[service](aws.client(service, cloud.url))
        ASK[service](cloud.client(service, key="a-persons-own"))
    assert requests.get(f"{cloud.url}/moto-api/data.json", timeout=5).status_code == 200


def test_each_ends_by_itself() -> None:
    """After its own seconds, which are counted down where one looks."""
    now = 100.0
    on = Faults(clock=lambda: now)
    on.replace({"dynamodb": fault("down", 2), "sqs": fault("slow", 10)})
    assert on.shown() == {"dynamodb": fault("down", 2), "sqs": fault("slow", 10)}
    now = 101.5
    assert (on.of("dynamodb"), on.shown()["dynamodb"]) == ("down", fault("down", 1))
    now = 102.0
    assert (on.of("dynamodb"), on.of("sqs"), on.shown()) == (None, "slow", {"sqs": fault("slow", 8)})
    now = 110.0
    assert (on.of("sqs"), on.shown()) == (None, {})


def test_the_new_ones_replace_the_old() -> None:
    """{} ends all; what is wrong changes nothing."""
    on = Faults()
    on.replace({"dynamodb": fault("down")})
    on.replace({"sqs": fault("slow")})
    assert on.shown().keys() == {"sqs"}
    with pytest.raises(WrongFault):
        on.replace({"dynamodb": fault("down"), "sqs": fault("?")})
    assert on.shown().keys() == {"sqs"}
    on.replace({})
    assert on.shown() == {}


WRONG: list[tuple[Any, str]] = [
    ([], "must be an object"),
    (None, "must be an object"),
    ("down", "must be an object"),
    ({"s3": fault("down")}, "s3 is none of dynamodb, events, secretsmanager, sqs"),
    ({"pocketsflow": fault("down")}, "pocketsflow is none of dynamodb"),
    ({"sqs": "down"}, 'sqs must have "kind" and "seconds"'),
    ({"sqs": {"kind": "down"}}, 'sqs must have "kind" and "seconds"'),
    ({"sqs": {**fault("down"), "more": 1}}, 'sqs must have "kind" and "seconds"'),
    ({"sqs": fault("broken")}, "kind of sqs must be one of down, slow, throttled"),
    ({"sqs": {"kind": ["down"], "seconds": 1}}, "kind of sqs must be one of"),
    *(
        ({"sqs": fault("down", seconds)}, "seconds of sqs must be a whole number from 1 to 3600")
        for seconds in (0, 3601, -1, 1.5, "30", True, None)
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_faults(wrong: Any, message: str) -> None:
    """Each is named in words that say what would be right."""
    with pytest.raises(WrongFault, match=message):
        Faults().replace(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dynamodb=down:60", ("dynamodb", fault("down"))),
        ("pocketsflow=throttled:3600", ("pocketsflow", fault("throttled", 3600))),
    ],
)
def test_a_fault_of_the_command_line(text: str, expected: Any) -> None:
    """Service, kind, seconds; Pocketsflow is a service too."""
    assert from_option(text) == expected


@pytest.mark.parametrize(
    "text", ["", "down", "dynamodb=down", "dynamodb=down:", "dynamodb:down:1", "s3=down:1", "sqs=up:1", "sqs=down:0"]
)
def test_a_wrong_fault_of_the_command_line(text: str) -> None:
    """A clear word and exit code 2 before anything starts, no traceback."""
    with pytest.raises(WrongFault):
        from_option(text)
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", "0", "--fault", text],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "argument --fault: " in told.stderr
    assert "Traceback" not in told.stderr


# --- In the sandbox, with the real functions ------------------------------------------------------------------------


@pytest.fixture
def in_sandbox(sandbox: Sandbox) -> Iterator[Callable[..., requests.Response]]:
    """Sets faults of AWS; none is left for the next test."""
    url = f"{sandbox.api}/_sandbox/faults"
    yield lambda **wanted: http.post(url, json=wanted, timeout=15)
    http.post(url, json={}, timeout=15).raise_for_status()


def events_of(sandbox: Sandbox, order_id: str, kind: str = "order.paid", seconds: float = 40) -> list[Any]:
    """The order's events of a kind, once there is one; none after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        shown = http.get(f"{sandbox.api}/_sandbox/bus", params={"order": order_id}, timeout=15).json()
        if found := [event for event in shown if event["detail-type"] == kind]:
            return found
        time.sleep(0.05)
    return []


def test_faults_are_set_and_shown(sandbox: Sandbox, in_sandbox: Callable[..., requests.Response]) -> None:
    """POST answers what is on, GET shows it, and what is wrong is 400 with a reason."""
    assert in_sandbox(sqs=fault("slow", 100)).json() == {"sqs": fault("slow", 100)}
    url = f"{sandbox.api}/_sandbox/faults"
    shown = http.get(url, timeout=15).json()
    assert shown["sqs"]["kind"] == "slow"
    assert 90 < shown["sqs"]["seconds"] <= 100
    wrong = in_sandbox(sqs=fault("slow", 0))
    assert (wrong.status_code, wrong.json()["message"]) == (
        400, "seconds of sqs must be a whole number from 1 to 3600"
    )  # fmt: skip
    for body in (b"{", b"", b"[" * 100_000, b"\xff"):
        wrong = http.post(url, data=body, timeout=15)
        assert (wrong.status_code, wrong.json()) == (400, {"message": "The faults must be JSON"})
    assert http.get(url, timeout=15).json().keys() == {"sqs"}
    assert in_sandbox().json() == {}


@pytest.mark.parametrize("kind", ["down", "throttled"])
def test_a_ledger_that_fails_loses_no_payment(
    sandbox: Sandbox, in_sandbox: Callable[..., requests.Response], kind: str
) -> None:
    """The body is parked while Pocketsflow waits; the queue brings it back until the ledger takes it, and the event
    follows. What the sandbox shows of the ledger works all the while."""
    order_id, session_id = sandbox.order()
    in_sandbox(dynamodb=fault(kind, 4))
    payment = sandbox.pay(session_id)
    assert sandbox.outcomes(payment) == ["parked"]
    assert "payments" not in sandbox.record(order_id)
    assert events_of(sandbox, order_id)
    assert sandbox.record(order_id)["payments"] == [f"pay#{payment}"]


def test_a_slow_ledger_loses_no_payment(sandbox: Sandbox, in_sandbox: Callable[..., requests.Response]) -> None:
    """Noticed in time to park the body, though the write nobody heard of has happened: settled once."""
    order_id, session_id = sandbox.order()
    in_sandbox(dynamodb=fault("slow", 5))
    payment = sandbox.pay(session_id)
    assert sandbox.outcomes(payment) == ["parked"]
    assert events_of(sandbox, order_id)
    assert sandbox.record(order_id)["payments"] == [f"pay#{payment}"]


@pytest.mark.parametrize("kind", ["down", "throttled"])
def test_a_bus_that_fails_loses_no_event(
    sandbox: Sandbox, in_sandbox: Callable[..., requests.Response], kind: str
) -> None:
    """The order is paid at once; its event comes when the bus does."""
    order_id, session_id = sandbox.order()
    in_sandbox(events=fault(kind, 2))
    assert sandbox.outcomes(sandbox.pay(session_id)) == ["settled"]
    assert events_of(sandbox, order_id, seconds=1) == []
    assert events_of(sandbox, order_id)


def test_a_fault_of_the_start_meets_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule's first run, which fires at once, finds no secret, however long the rest takes to start."""
    start = schedules.start

    def slowly(function: Any, *others: Any) -> None:
        start(function, *others)
        time.sleep(2 if function.schedules else 0)

    monkeypatch.setattr(schedules, "start", slowly)
    with running(0, {"secretsmanager": {"kind": "down", "seconds": 60}}) as addresses:
        lines: list[str] = []
        deadline = time.monotonic() + 30
        while not any("ReconcileStarted" in line for line in lines) and time.monotonic() < deadline:
            time.sleep(0.2)
            lines = http.get(f"{addresses.api}/_sandbox/logs/ReconcileFunction", timeout=15).json()
    printed = "\n".join(lines)
    assert "secret_unreachable" in printed
    assert '"reconciled"' not in printed


def test_faults_from_the_start() -> None:
    """`--fault` is repeatable: here the demo's purchase meets an AWS and a Pocketsflow that fail, and says so."""
    for option, reason in (
        ("dynamodb=down:60", "ledger_unavailable"),
        ("pocketsflow=down:60", "pocketsflow_failed"),
        ("pocketsflow=throttled:60", "pocketsflow_busy"),
    ):
        told = subprocess.run(
            [sys.executable, "-m", "sandbox", "--once", "--port", "0", "--fault", "sqs=slow:60", "--fault", option],
            cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert told.returncode == 1
        assert reason in told.stderr
        assert "Traceback" not in told.stderr
