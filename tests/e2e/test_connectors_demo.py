"""`make demo CONNECTOR=…`: each connector end to end on the sandbox, from a purchase to what its platform shows."""

import subprocess
import sys

from sandbox.platforms import NAMES
from sandbox.template import ROOT
from tests.e2e.conftest import shell

LAST = {
    "storefront": ("webhook-id", "503", "is paid, shipped 1 time", "is refunded"),
    "shopify": ("Shopify shows the order as PAID", "pocketsflow-paid, pocketsflow-partially-refunded", "10 usd"),
    "woocommerce": ("pending", "processing", "10.00 USD less in the shop's books"),
    "membership": ("levels ['workshop']", "The workshop: ", "It lets them in, once"),
    "feed": ('"type": "order.paid"', '"customer_email": "buyer@example.com"'),
    "notices": ("Subject: [pocketsflow-sandbox] An order was paid a second time", "pf --sandbox refund"),
}
"""What its story says on the way, and at the end."""


def test_these_are_all() -> None:
    """Every connector has a story."""
    assert LAST.keys() == {*NAMES}


def test_every_connector_s_demo() -> None:
    """All of them in one sandbox: each story comes to its end, and none gets in another's way."""
    words = [word for name in NAMES for word in ("--connector", name)]
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--once", "--port", "0", *words],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    for name, steps in LAST.items():
        for step in steps:
            assert step in told.stdout, (name, step)
    assert "platforms http://127.0.0.1:" in told.stdout


def test_a_connector_that_there_is_not() -> None:
    """Is a wrong word, not a demo of something else."""
    told = subprocess.run(
        [sys.executable, "-m", "sandbox", "--once", "--connector", "magento"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "shopify" in told.stderr


def test_make_passes_it_on() -> None:
    """`make demo CONNECTOR=shopify`, or several, is the same."""
    made = subprocess.run(
        ["make", "-n", "-o", ".venv/sandbox.ready", "demo", "CONNECTOR=shopify feed"],
        cwd=ROOT, env=shell(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "--connector shopify --connector feed" in made.stdout
