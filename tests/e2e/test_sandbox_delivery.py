"""What happens behind a request in the sandbox: stream, bus, queue and schedules, with the real functions."""

import contextlib
import json
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import requests

from tests.e2e.conftest import Sandbox, http, start


def aws_url(sandbox: Sandbox) -> str:
    found = re.search(r"AWS_ENDPOINT_URL=(\S+)", sandbox.environment_of_a_function())
    assert found is not None
    return found[1]


def persons(sandbox: Sandbox, service: str) -> Any:
    """A client as the AWS command line's."""
    key = {"aws_access_key_id": "mine", "aws_secret_access_key": "mine"}
    return boto3.client(service, endpoint_url=aws_url(sandbox), region_name="eu-west-1", **key)  # type: ignore[call-overload]


def wait_for(what: Callable[[], Any], seconds: float = 20) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def bus(sandbox: Sandbox, **query: str) -> list[Any]:
    events: list[Any] = http.get(f"{sandbox.api}/_sandbox/bus", params=query, timeout=15).json()
    return events


def logs(sandbox: Sandbox, function: str) -> str:
    return http.get(f"{sandbox.api}/_sandbox/logs/{function}", timeout=15).text


def test_a_payment_becomes_an_event(sandbox: Sandbox) -> None:
    """Once, on the sandbox's bus, about this order; the list of all events has it too."""
    order_id, session_id = sandbox.order()
    payment = sandbox.pay(session_id)
    [event] = wait_for(lambda: bus(sandbox, order=order_id))
    assert (event["detail-type"], event["source"]) == ("order.paid", "pocketsflow.sandbox")
    assert event["detail"]["order_id"] == order_id
    assert event["detail"]["payment"]["id"] == payment
    assert event in bus(sandbox)
    assert bus(sandbox, order="ord_sandbox_nobody") == []
    assert event["detail"]["id"] in logs(sandbox, "RelayFunction")


def test_a_change_is_on_the_bus_at_once(sandbox: Sandbox) -> None:
    """Within a fifth of a second from the webhook's answer, as a rule: this machine may be busy now and then."""
    took = []
    for _ in range(5):
        order_id, session_id = sandbox.order()
        sandbox.pay(session_id)
        started = time.monotonic()
        wait_for(lambda order_id=order_id: bus(sandbox, order=order_id))
        took.append(time.monotonic() - started)
    assert statistics.median(took) < 0.5


def test_a_persons_own_rule(sandbox: Sandbox) -> None:
    """At the AWS port a rule of one's own delivers to a queue of one's own: what a connector would get."""
    events, sqs = persons(sandbox, "events"), persons(sandbox, "sqs")
    url = sqs.create_queue(QueueName="mine")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    [name] = [each["Name"] for each in events.list_event_buses()["EventBuses"] if each["Name"] != "default"]
    pattern = '{"detail-type": ["order.paid"], "detail": {"sku": ["print"]}}'
    events.put_rule(Name="mine", EventBusName=name, EventPattern=pattern)
    events.put_targets(Rule="mine", EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
    for sku in ("course", "print"):
        sandbox.pay(sandbox.checkout({"sku": sku}).json()["sessionId"])
    [message] = wait_for(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    assert json.loads(message["Body"])["detail"]["sku"] == "print"
    events.remove_targets(Rule="mine", EventBusName=name, Ids=["1"])
    events.delete_rule(Name="mine", EventBusName=name)


def test_the_schedule_has_fired(sandbox: Sandbox) -> None:
    """The most frequent walk ran when the sandbox started, and its log is where the functions' logs are."""
    assert wait_for(lambda: '"reconciled' in logs(sandbox, "ReconcileFunction").replace("\\", ""))


def test_a_question_in_the_ledger_is_answered(sandbox: Sandbox) -> None:
    """The stream's second reader: a payment whose webhook was lost is found once somebody has asked."""
    order_id, session_id = sandbox.order()
    sandbox.faults(drop=True)
    assert sandbox.outcomes(sandbox.pay(session_id)) == ["dropped"]
    sandbox.faults()
    ledger = persons(sandbox, "dynamodb")

    def asked() -> bool:
        moment = {"asked_at": {"S": str(time.time())}}
        ledger.put_item(TableName="sandbox-Ledger", Item={"pk": {"S": "reconcile#asked"}, **moment})
        return sandbox.status(order_id) == "paid"

    def patiently() -> bool:
        time.sleep(0.5)
        return asked()

    wait_for(patiently)
    assert wait_for(lambda: [each for each in bus(sandbox, order=order_id) if each["detail-type"] == "order.paid"])


def test_the_functions_have_the_sandboxs_patience(sandbox: Sandbox) -> None:
    """A laptop is slow at times: their clients wait longer than the template says, so they have the time for it."""
    assert " PATIENCE=10 " in sandbox.environment_of_a_function()
    assert "SANDBOX_TIMEOUT=90" in sandbox.environment_of_a_function()  # the checkout's 9 s


def test_a_request_waits_for_no_queue(sandbox: Sandbox) -> None:
    """A delivery is answered while another environment of the webhook is busy with what was parked."""
    parking = persons(sandbox, "sqs").get_queue_url(QueueName="sandbox-Parking")["QueueUrl"]
    faults = f"{sandbox.api}/_sandbox/faults"
    order_id, session_id = sandbox.order()
    _, other_session = sandbox.order()
    http.post(faults, json={"dynamodb": {"kind": "down", "seconds": 60}}, timeout=15).raise_for_status()
    assert sandbox.outcomes(sandbox.pay(session_id)) == ["parked"]
    http.post(faults, json={"dynamodb": {"kind": "slow", "seconds": 60}}, timeout=15).raise_for_status()
    attributes = {"QueueUrl": parking, "AttributeNames": ["ApproximateNumberOfMessagesNotVisible"]}
    wait_for(lambda: persons(sandbox, "sqs").get_queue_attributes(**attributes)["Attributes"].popitem()[1] != "0")
    http.post(faults, json={}, timeout=15).raise_for_status()
    started = time.monotonic()
    assert sandbox.outcomes(sandbox.pay(other_session)) == ["settled"]
    assert time.monotonic() - started < 2
    wait_for(lambda: bus(sandbox, order=order_id))


def test_the_end_waits_for_nothing_that_runs() -> None:
    """Ctrl-C while a request, the relay and a parked body all hang at an AWS that is slow: exit code 0 in seconds,
    no process left."""
    running = start("--port", "0")
    _, session_id = running.order()
    slow = {service: {"kind": "slow", "seconds": 60} for service in ("dynamodb", "events", "secretsmanager", "sqs")}
    http.post(f"{running.api}/_sandbox/faults", json=slow, timeout=15).raise_for_status()
    caller = threading.Thread(target=_whatever_comes_of, args=(lambda: running.pay(session_id),))
    caller.start()
    time.sleep(0.5)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(running.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) >= 5  # four functions, and the webhook's second environment
    started = time.monotonic()
    assert running.end() == 0
    assert time.monotonic() - started < 8
    caller.join(15)
    alive = subprocess.run(["ps", "-o", "pid=", "-p", ",".join(children)], capture_output=True, text=True, check=False)
    assert alive.stdout.split() == []


def _whatever_comes_of(call: Callable[[], Any]) -> None:
    with contextlib.suppress(requests.RequestException):
        call()
