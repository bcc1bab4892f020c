"""The gateway plugin: its PHP by itself, and what it sends by the real handlers up to the shop's paid order."""

import json
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from werkzeug.test import Client

import server
from connectors import woocommerce
from sandbox.platforms.woocommerce import Platform
from sandbox.template import ROOT
from tests.connected import Line
from tests.payloads import create_key
from tests.world import World

CODE = ROOT / "integrations/woocommerce"
TOKEN = f"pfs_test_{'w' * 43}"


def php(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("php") is None:
        pytest.skip("needs php: apt-get install php-cli")
    return subprocess.run(["php", *arguments], capture_output=True, text=True, timeout=60, check=False)


def request_of_the_plugin() -> dict[str, Any]:
    """For an order of 53.90."""
    content: dict[str, Any] = json.loads(php(str(CODE / "tests/run.php"), "request").stdout)
    return content


def test_php_is_php() -> None:
    """Every file is read by PHP without a complaint."""
    files = sorted(CODE.glob("**/*.php"))
    assert len(files) == 6
    for file in files:
        done = php("-d", "display_errors=1", "-d", "error_reporting=-1", "-l", str(file))
        assert (done.returncode, done.stderr) == (0, ""), file
        assert done.stdout.startswith("No syntax errors"), done.stdout


def test_the_plugin_s_own_tests() -> None:
    """They run by PHP alone, against stand-ins of what the plugin uses of WordPress."""
    done = php("-d", "error_reporting=-1", str(CODE / "tests/run.php"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") > 15


def test_the_stand_in_sends_what_the_plugin_sends() -> None:
    """Field by field for the same order; only the hash in the reference is each one's own."""
    platform = Platform("https://shop.example")
    sent, wanted = request_of_the_plugin(), platform.wanted(platform.open(Decimal("53.90"), key="wc_order_k"))
    assert sent.pop("reference").rpartition("-")[0] == wanted.pop("reference").rpartition("-")[0]
    assert sent == wanted


BLOCK = """
const told = { title: "Pay &amp; go", description: "Soon", supports: ["products"] };
const methods = [];
global.window = {
  wc: {
    wcSettings: { getSetting: (name) => ({ pocketsflow_data: told })[name] },
    wcBlocksRegistry: { registerPaymentMethod: (method) => methods.push(method) },
  },
  wp: {
    htmlEntities: { decodeEntities: (text) => text.replace("&amp;", "&") },
    element: { createElement: (...all) => all },
  },
};
require(process.argv[1]);
console.log(JSON.stringify(methods.map((method) => ({ ...method, canMakePayment: method.canMakePayment() }))));
"""


def test_the_checkout_block_has_the_method(node: str) -> None:
    """Its script registers one method, by the gateway's id, with title and description as text."""
    script = str(CODE / "pocketsflow-gateway/blocks.js")
    done = subprocess.run([node, "-e", BLOCK, script], capture_output=True, text=True, timeout=60, check=True)
    [method] = json.loads(done.stdout)
    assert method == {
        "name": "pocketsflow",
        "label": ["span", None, "Pay & go"],
        "ariaLabel": "Pay & go",
        "content": ["span", None, "Soon"],
        "edit": ["span", None, "Soon"],
        "canMakePayment": True,
        "supports": {"features": ["products"]},
    }


def test_attack_no_key_in_what_a_browser_gets() -> None:
    """The script of the checkout block and what it is told know nothing of the key, nor of the stack."""
    for file in ("blocks.js", "class-pocketsflow-blocks.php"):
        text = (CODE / "pocketsflow-gateway" / file).read_text()
        assert not any(word in text for word in ("POCKETSFLOW_KEY", "'key'", "'api'", "Bearer")), file


def test_the_stand_in_s_pages() -> None:
    """A shop to buy in, and for who has the order's key a page that says no more than it knows."""
    platform = Platform("https://shop.example")
    order, browser = platform.open(Decimal("53.90")), Client(platform)
    assert 'action="https://shop.example/checkout"' in browser.get("/").text
    mine = f"/checkout/order-received/{order.number}?key={order.key}"
    assert "being confirmed" in browser.get(mine).text
    order.complete_payment("sale1")
    assert "processing. Thank you." in browser.get(mine).text
    assert "not yours" in browser.get(f"/checkout/order-pay/{order.number}?key=guessed").text
    assert browser.get("/state").get_json()["orders"][0]["transaction_id"] == "sale1"
    assert browser.get("/wp-json/wc/v4/orders").get_json()["code"] == "rest_no_route"


@pytest.fixture
def trusted(shop: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A shop with a key of the plugin's, which sells carts."""
    monkeypatch.setattr(server, "PRODUCT_PER_ORDER", True)
    create_key(shop.stack, TOKEN)
    return shop


def test_from_the_plugin_to_the_paid_order(connect: Callable[..., Line], trusted: World) -> None:
    """A cart of 53.90 is asked for as the plugin asks, paid at Pocketsflow, and paid in the shop."""
    platform = Platform("https://woocommerce.example")
    line = connect(woocommerce, platform, trusted.clock)
    order = platform.open(Decimal("53.90"))
    status, answer = trusted.ask_as_server("POST /server/checkout", TOKEN, **request_of_the_plugin())
    assert (status, answer["reference"][:7]) == (201, "wc-101-")
    assert trusted.ask_as_server("POST /server/checkout", TOKEN, **request_of_the_plugin())[1]["url"] == answer["url"]
    paid = trusted.pay(answer["sessionId"])
    assert trusted.deliver() == ["settled"]
    trusted.flow()
    line.work()
    assert (order.status, order.transaction_id) == ("processing", paid)
    assert trusted.types(answer["orderId"]) == ["order.paid"]


def test_attack_a_browser_pays_for_another_s_order(connect: Callable[..., Line], shop: World) -> None:
    """A browser's checkout with the plugin's metadata is paid, at the very amount: the shop is not even asked."""
    platform = Platform("https://woocommerce.example")
    line = connect(woocommerce, platform, shop.clock)
    order = platform.open(Decimal("49.00"))
    ours, session = shop.checkout(metadata=platform.wanted(order)["metadata"])
    shop.pay(session)
    assert shop.deliver() == ["settled"]
    shop.flow()
    line.work(hours=1)
    assert shop.types(ours) == ["order.paid"]
    assert list(line.outcomes().values()) == ["not_ours"]
    assert (line.requests, order.status) == ([], "pending")
