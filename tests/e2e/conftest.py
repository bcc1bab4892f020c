"""The sandbox as its user starts it, and a browser to visit it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, Page, sync_playwright

from sandbox.template import ROOT
from tests.browser import chromium_path, launched


@dataclass
class Sandbox:
    """A running `python -m sandbox`."""

    shop: str
    api: str
    pocketsflow: str
    aws: str
    process: subprocess.Popen[str]

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=15)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def checkout(self, content: Any = None, **headers: str) -> requests.Response:
        return http.post(f"{self.api}/checkout", json=content or {"sku": "course"}, headers=headers, timeout=15)

    def pay(self, session_id: str, content: Any = None) -> str:
        """Pays a session; returns once the webhook has been delivered. Pocketsflow's order id."""
        paid = http.post(f"{self.pocketsflow}/_sandbox/sessions/{session_id}/pay", json=content or {}, timeout=15)
        paid.raise_for_status()
        order_id: str = paid.json()["orderId"]
        return order_id

    def order(self) -> tuple[str, str]:
        """A new order: our id and its session."""
        created = self.checkout()
        assert created.status_code == 201
        return created.json()["orderId"], created.json()["sessionId"]

    def status(self, order_id: str) -> str:
        status: str = http.get(f"{self.api}/orders/{order_id}", timeout=15).json()["status"]
        return status

    def record(self, order_id: str) -> Any:
        return http.get(f"{self.api}/_sandbox/orders/{order_id}", timeout=15).json()

    def faults(self, **faults: Any) -> None:
        http.post(f"{self.pocketsflow}/_sandbox/faults", json=faults, timeout=15).raise_for_status()

    def environment_of_a_function(self) -> str:
        """The checkout's variables, as the system shows them behind its command."""
        shown = subprocess.run(
            ["ps", "eww", "-o", "command=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        return next(line for line in shown.stdout.splitlines() if " checkout.handler " in line)

    def outcomes(self, payment: str) -> list[Any]:
        """What its deliveries were answered, in order."""
        log = http.get(f"{self.pocketsflow}/_sandbox/deliveries", timeout=15).json()
        return [
            entry["response"]["outcome"] if entry["status"] == 200 else entry["status"] or entry["error"]
            for entry in log
            if entry["orderId"] == payment
        ]


http = requests.Session()
http.trust_env = False


def start(*arguments: str) -> Sandbox:
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=shell()
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    addresses = re.fullmatch(r"shop (\S+)  api (\S+)  pocketsflow (\S+)  aws (\S+)\n", first)
    assert addresses is not None, first
    return Sandbox(*addresses.groups(), process)


def shell() -> dict[str, str]:
    """A person's environment, without what the tests' own configuration put there."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


MEMBERS = [
    f"--parameter={switch}"
    for switch in ("Membership=on", "AccountConcurrency=1000", "MemberMailFrom=door@shop.example")
]
"""Every route is there."""


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    running = start("--port", "0", *MEMBERS)
    yield running
    assert running.end() == 0


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """A sandbox without faults."""
    shared_sandbox.faults()
    yield shared_sandbox
    shared_sandbox.faults()


@pytest.fixture(scope="session")
def chromium() -> str:
    if path := chromium_path():
        return path
    pytest.skip("needs chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Not for the whole session: playwright's loop runs in this thread, and tests of other files have their own."""
    driver = subprocess.run(
        (*compute_driver_executable()[:1], "--version"), capture_output=True, text=True, check=False
    )
    if driver.returncode != 0:
        pytest.skip(f"playwright's driver does not start: {driver.stderr.strip()}")
    with sync_playwright() as playwright:
        browser = launched(playwright, chromium)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new visitor; whatever the console says against the page fails the test."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def key(shared_sandbox: Sandbox) -> str:
    """Of the shop's server, made as a person makes one."""
    return make_key(shared_sandbox, "tests")


def make_key(sandbox: Sandbox, name: str) -> str:
    return pf(sandbox, "key", "create", name).stdout.strip()


def pf(sandbox: Sandbox, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, on a sandbox."""
    return subprocess.run(
        [sys.executable, "-m", "ops", "--sandbox", "--aws-url", sandbox.aws, *words],
        cwd=ROOT, env=shell(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
