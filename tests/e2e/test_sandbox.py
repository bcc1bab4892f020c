"""The whole way of an order over HTTP: real handlers, moto, a fake Pocketsflow."""

import fcntl
import os
import pty
import re
import socket
import subprocess
import sys
import termios
import time
import uuid

import pytest

from sandbox import purchase
from sandbox.purchase import PurchaseFailed, buy
from sandbox.system import Addresses
from sandbox.template import PSEUDO_PARAMETERS, ROOT
from tests.e2e.conftest import Sandbox, http, shell, start

STORE = PSEUDO_PARAMETERS["AWS::StackId"].rpartition("/")[2]
"""Names the stack in Pocketsflow's metadata: the template's STORE_ID."""


def test_a_purchase(sandbox: Sandbox) -> None:
    """Checkout, payment, webhook: pending, then paid."""
    order_id, session_id = sandbox.order()
    assert sandbox.status(order_id) == "pending"
    payment = sandbox.pay(session_id)
    assert sandbox.outcomes(payment) == ["settled"]
    assert sandbox.status(order_id) == "paid"


def test_a_status_address_that_works(sandbox: Sandbox) -> None:
    """`statusUrl` of the answer is where the status is."""
    created = sandbox.checkout().json()
    assert http.get(created["statusUrl"], timeout=15).json()["orderId"] == created["orderId"]


def test_the_six_fields_reach_pocketsflow(sandbox: Sandbox) -> None:
    """What the page gave is what Pocketsflow got, and what it did not give is absent."""
    full = {
        "sku": "course",
        "successUrl": f"{sandbox.shop}/thank-you.html?from=mail#top",
        "cancelUrl": f"{sandbox.shop}/cancel.html",
        "customerEmail": "jane@example.com",
        "discountCode": "SAVE10",
        "metadata": {"cart": "7"},
    }
    for given in (full, {"sku": "course"}):
        created = sandbox.checkout(given).json()
        order_id = created["orderId"]
        session = http.get(f"{sandbox.pocketsflow}/_sandbox/sessions/{created['sessionId']}", timeout=15).json()
        page = f"{sandbox.shop}/thank-you.html"
        expected = {
            "productId": "000000000000000000c0ffee",
            "successUrl": f"{page}?from=mail&order_id={order_id}#top"
            if given is full
            else f"{page}?order_id={order_id}",
            "cancelUrl": f"{sandbox.shop}/cancel.html?order_id={order_id}",
            "metadata": {**given.get("metadata", {}), "external_order_id": order_id, "pocketsflow_store": STORE},
        }
        expected |= {name: given[name] for name in ("customerEmail", "discountCode") if name in given}
        assert session["request"] == expected


def test_a_duplicate_delivery(sandbox: Sandbox) -> None:
    """Delivered twice, settled once."""
    order_id, session_id = sandbox.order()
    sandbox.faults(duplicate=True)
    payment = sandbox.pay(session_id)
    assert sorted(sandbox.outcomes(payment)) == ["redelivered", "settled"]
    assert sandbox.record(order_id)["payments"] == [f"pay#{payment}"]


def test_a_lost_delivery(sandbox: Sandbox) -> None:
    """A webhook that never came leaves the order pending: nothing but Pocketsflow's word settles it."""
    order_id, session_id = sandbox.order()
    sandbox.faults(drop=True)
    assert sandbox.outcomes(sandbox.pay(session_id)) == ["dropped"]
    assert sandbox.status(order_id) == "pending"


def test_reordered_deliveries(sandbox: Sandbox) -> None:
    """Two payments of one order that overtake each other: the first to be written settles."""
    order_id, session_id = sandbox.order()
    sandbox.faults(reorder=True)
    first, second = sandbox.pay(session_id), sandbox.pay(session_id)
    sandbox.faults()
    assert (sandbox.outcomes(second), sandbox.outcomes(first)) == (["settled"], ["second_payment"])
    assert sandbox.status(order_id) == "paid"


def test_a_relabelled_delivery(sandbox: Sandbox) -> None:
    """A payment under a refund's name is kept and changes nothing."""
    order_id, session_id = sandbox.order()
    sandbox.faults(relabel="order.refunded")
    assert sandbox.outcomes(sandbox.pay(session_id)) == ["recorded"]
    assert sandbox.status(order_id) == "pending"


def test_a_payment_for_another_product(sandbox: Sandbox) -> None:
    """What was paid is not what was ordered: not settled."""
    order_id, session_id = sandbox.order()
    other = "000000000000000000facade"
    assert sandbox.outcomes(sandbox.pay(session_id, {"productId": other})) == ["mismatched"]
    assert sandbox.status(order_id) == "mismatched"


def test_a_held_price(sandbox: Sandbox) -> None:
    """The catalogue's `hold`: another amount waits for a person, the price settles."""
    created = sandbox.checkout({"sku": "print"}).json()
    assert sandbox.outcomes(sandbox.pay(created["sessionId"], {"amount": "12.00"})) == ["mismatched"]
    assert sandbox.outcomes(sandbox.pay(created["sessionId"])) == ["settled"]


def test_a_subscription(sandbox: Sandbox) -> None:
    """A subscription sale sends no order.completed, and settles all the same."""
    created = sandbox.checkout({"sku": "membership"}).json()
    payment = sandbox.pay(created["sessionId"])
    assert sandbox.outcomes(payment) == ["settled"]
    assert sandbox.status(created["orderId"]) == "paid"


def test_refunds(sandbox: Sandbox) -> None:
    """Refunds made at Pocketsflow arrive without metadata: kept beside the payment, and the relay, which knows whose it
    is, gives them to the order."""
    order_id, session_id = sandbox.order()
    payment = sandbox.pay(session_id)
    answer = http.post(
        f"{sandbox.pocketsflow}/refunds",
        json={"orderId": payment, "reason": "requested_by_customer"},
        headers={"Authorization": "Bearer pk_test_sandbox"},
        timeout=15,
    )
    assert answer.status_code in (200, 201)
    log = http.get(f"{sandbox.pocketsflow}/_sandbox/deliveries", timeout=15).json()
    [refund] = [entry for entry in log if entry["orderId"] == payment and entry["event"] == "order.refunded"]
    assert refund["response"]["outcome"] == "recorded"
    deadline = time.monotonic() + 30
    while sandbox.status(order_id) == "paid" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sandbox.status(order_id) == "refunded"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"http_status": 500}, 502, "pocketsflow_failed"),
        ({"http_status": 429}, 503, "pocketsflow_busy"),
        ({"http_status": 401}, 502, "pocketsflow_unauthorized"),
        ({"http_body": "<html>maintenance</html>"}, 502, "pocketsflow_unexpected"),
        ({"http_delay_seconds": 5}, 503, "pocketsflow_unreachable"),
    ],
)
def test_pocketsflow_fails(sandbox: Sandbox, fault: dict[str, object], status: int, code: str) -> None:
    """The buyer gets a clear answer, and a retry with the same key succeeds with the order of the first try."""
    key = str(uuid.uuid4())
    sandbox.faults(**fault)
    failed = sandbox.checkout(**{"Idempotency-Key": key})
    assert (failed.status_code, failed.json()["code"]) == (status, code)
    sandbox.faults()
    assert sandbox.checkout(**{"Idempotency-Key": key}).status_code == 201


def test_a_foreign_host_header_is_refused(sandbox: Sandbox) -> None:
    """No page that resolves its own name to 127.0.0.1 reads the sandbox; localhost may."""
    for url in (sandbox.shop, sandbox.api, sandbox.pocketsflow, _aws_url(sandbox)):
        port = url.rpartition(":")[2]
        assert http.get(url, headers={"Host": f"evil.example:{port}"}, timeout=15).status_code == 421
        assert http.get(f"http://localhost:{port}", timeout=15).status_code != 421


def test_pages_of_other_machines_are_refused(sandbox: Sandbox) -> None:
    """A browser lets any page send simple requests to 127.0.0.1: none reaches a control, a payment page or AWS."""
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    moto = _aws_url(sandbox)
    for method, url in (
        ("POST", f"{sandbox.pocketsflow}/_sandbox/faults"),
        ("GET", f"{sandbox.pocketsflow}/_sandbox/deliveries"),
        ("POST", f"{sandbox.api}/_sandbox/invoke/WebhookFunction"),
        ("GET", f"{sandbox.api}/_sandbox/logs/WebhookFunction"),
        ("OPTIONS", moto),
        ("POST", f"{moto}/moto-api/reset"),
    ):
        assert http.request(method, url, headers=foreign, data='{"drop": true}', timeout=15).status_code == 403
    assert sandbox.checkout(Origin="https://evil.example").status_code == 201  # the API itself leaves that to CORS


def test_an_event_that_is_no_json(sandbox: Sandbox) -> None:
    """400 and a word, no traceback."""
    answer = http.post(f"{sandbox.api}/_sandbox/invoke/WebhookFunction", data="{", timeout=15)
    assert (answer.status_code, answer.json()) == (400, {"message": "The event must be JSON"})


def test_invoke_a_function(sandbox: Sandbox) -> None:
    """Any function of the template takes the event it is given; an unknown one is 404."""
    event = {"routeKey": "GET /orders/{orderId}", "pathParameters": {"orderId": "x"}, "headers": {}}
    answer = http.post(f"{sandbox.api}/_sandbox/invoke/CheckoutFunction", json=event, timeout=15)
    assert answer.json()["statusCode"] == 404
    assert http.post(f"{sandbox.api}/_sandbox/invoke/Ledger", json=event, timeout=15).status_code == 404
    failed = http.post(f"{sandbox.api}/_sandbox/invoke/WebhookFunction", json=[], timeout=15).json()
    assert failed["errorType"] == "AttributeError"


def test_the_functions_see_only_the_environment_of_the_template(sandbox: Sandbox) -> None:
    """No variable of the person's shell reaches a function."""
    environment = sandbox.environment_of_a_function()
    assert "STAGE=sandbox" in environment
    assert shell()
    for name in shell():
        assert f" {name}=" not in environment


def test_the_logs_of_the_functions(sandbox: Sandbox) -> None:
    """Nothing of a buyer reaches a function's log."""
    sandbox.checkout({"sku": "course", "customerEmail": "canary@example.com"})
    log = http.get(f"{sandbox.api}/_sandbox/logs/CheckoutFunction", timeout=15).text
    assert "checkout_created" in log
    assert "canary" not in log
    assert "pk_test_sandbox" not in log


def test_ctrl_c_ends_everything() -> None:
    """Exit code 0, every port free again, no process left."""
    running = start("--port", "0")
    urls = (running.shop, running.api, running.pocketsflow, _aws_url(running))
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(running.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) >= 2
    assert running.end() == 0
    for url in urls:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0
    alive = subprocess.run(["ps", "-o", "pid=", "-p", ",".join(children)], capture_output=True, text=True, check=False)
    assert alive.stdout.split() == []


def test_once(sandbox: Sandbox) -> None:
    """`--once` buys, tells it line by line to the event on the bus, and exits 0; --port moves all four."""
    port = _four_free_ports()
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--once", "--port", str(port)],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    for step in (
        f"POST http://127.0.0.1:{port + 1}/checkout",
        f"http://127.0.0.1:{port + 2}/checkout?session=cs_",
        "The buyer pays",
        "signed over the raw body",
        '"outcome": "settled"',
        '"status": "paid"',
        "order.paid from pocketsflow.sandbox",
        '"sku": "course"',
        f"aws http://127.0.0.1:{port + 3}\n",
    ):
        assert step in told.stdout


def test_the_demo_without_a_terminal() -> None:
    """`--demo` in a pipe ends after its purchase, with 0."""
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--demo", "--port", "0"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (told.returncode, "Open http" in told.stdout) == (0, False)
    assert "Paid and settled" in told.stdout


def test_the_demo_in_a_terminal() -> None:
    """`--demo` at a terminal serves on, says which addresses to open, and ends with Ctrl-C typed there."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--demo", "--port", "0"],
        cwd=ROOT, env=shell(), stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # one system call
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while b"Ctrl-C ends everything" not in shown:
        shown += os.read(main, 4096)
    [address] = re.findall(rb"Open (http://\S+) and buy", shown)
    pages = re.findall(rb"http://\S+/_sandbox/(?:openapi/)?(?=[,.])", shown)
    assert [http.get(each.decode(), timeout=15).status_code for each in (address, *pages)] == [200, 200, 200]
    os.write(main, b"\x03")
    assert process.wait(timeout=15) == 0
    os.close(main)


def test_a_port_in_use() -> None:
    """A clear word and a non-zero exit, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = subprocess.run(
            [sys.executable, "-m", "sandbox", "--once", "--port", str(taken.getsockname()[1])],
            cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert told.returncode == 1
    assert "another may be free" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_demo_that_fails_says_why() -> None:
    """When a step of the purchase goes wrong the exit is non-zero and the reason is said: here a sku nobody sells."""
    fault = (
        "from sandbox import __main__ as demo; demo.catalogue = lambda: {'nothing': {}}; raise SystemExit(demo.main())"
    )
    told = subprocess.run(
        [sys.executable, "-c", fault, "--once", "--port", "0"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 1
    assert "gave 400" in told.stderr
    assert "must be a sku of the catalogue" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_purchase_whose_webhook_is_lost_fails(sandbox: Sandbox) -> None:
    """The narrated purchase does not claim what the delivery log denies."""
    sandbox.faults(drop=True)
    with pytest.raises(PurchaseFailed, match="the webhook was answered None"):
        buy(Addresses(sandbox.shop, sandbox.api, sandbox.pocketsflow, "nowhere"), {"sku": "course"})


def test_a_purchase_without_its_event_fails(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is paid and told to nobody is no success."""
    monkeypatch.setattr(purchase, "_BUS_SECONDS", 0.5)
    faults = f"{sandbox.api}/_sandbox/faults"
    http.post(faults, json={"events": {"kind": "down", "seconds": 60}}, timeout=15).raise_for_status()
    try:
        with pytest.raises(PurchaseFailed, match=r"no order\.paid came on the bus"):
            buy(Addresses(sandbox.shop, sandbox.api, sandbox.pocketsflow, "nowhere"), {"sku": "course"})
    finally:
        http.post(faults, json={}, timeout=15).raise_for_status()


@pytest.mark.parametrize("port", ["65533", "-1", "x", "8000.0"])
def test_a_port_that_is_none(port: str) -> None:
    """A clear word, no traceback; three more must have room behind it."""
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", port],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "--port" in told.stderr
    assert "Traceback" not in told.stderr


def _aws_url(sandbox: Sandbox) -> str:
    return re.search(r"AWS_ENDPOINT_URL=(\S+)", sandbox.environment_of_a_function())[1]  # type: ignore[index]


def _four_free_ports() -> int:
    """A port that is free together with its three neighbours."""
    for base in range(20_000, 60_000, 7):
        sockets = [socket.socket() for _ in range(4)]
        try:
            for offset, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        else:
            return base
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no four free ports in a row")


def test_parameters_of_the_template() -> None:
    """A limit and a challenge by parameter, end to end: the stand-in's token opens a checkout once, and the fourth from
    one address is too many; one that the template does not have ends the start."""
    running = start("--port", "0", "--parameter", "CheckoutsPerAddress=3", "--parameter", "Challenge=turnstile")
    try:
        codes = [
            running.checkout({"sku": "course", **token}).json().get("code", "created")
            for token in (
                {},
                {"challengeToken": "solved-1"},
                {"challengeToken": "solved-1"},
                {"challengeToken": "solved-2"},
            )
        ]
        assert codes == ["challenge_failed", "created", "challenge_failed", "too_many_checkouts"]
    finally:
        assert running.end() == 0
    for wrong, says in (("Nothing=1", "the template has no parameter Nothing"), ("Nothing", "must be NAME=VALUE")):
        told = subprocess.run(
            [sys.executable, "-m", "sandbox", "--port", "0", "--parameter", wrong],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=shell(),
        )  # fmt: skip
        assert told.returncode in (1, 2)
        assert says in told.stderr
        assert "Traceback" not in told.stderr
