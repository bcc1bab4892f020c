"""`make screenshots`: docs/screenshots/, by a browser that buys in a sandbox of its own, and a terminal beside it."""

import io
import os
import re
import shlex
import sys
from typing import Any

import pexpect
import requests
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from sandbox.pocketsflow import API_KEY
from sandbox.system import Addresses, running
from sandbox.template import ROOT
from tests.browser import chromium_path, launched

FOLDER = ROOT / "docs" / "screenshots"
MOST = 150_000
"""Bytes of one picture."""
COLOURS = 256
TERMINALS = {"order": ["order", "{twice}"], "doctor": ["doctor"], "stats": ["stats"]}
"""Pictures of `pf`, by name."""
COLUMNS = 110
_SCREEN = """<!DOCTYPE html><style>{stylesheet}
pre {{ color: {foreground}; background: {background}; font: 13px/1.35 monospace; }}
pre {{ display: inline-block; padding: 16px; }}
</style><pre>{code}</pre>"""


def main() -> None:
    path = chromium_path()
    if path is None:
        sys.exit("needs chromium")
    FOLDER.mkdir(exist_ok=True)
    with running(0) as at, sync_playwright() as playwright:
        bought = _have_sold(at)
        browser = launched(playwright, path)
        _visit(browser, at, "", width=1280, height=800, scheme="light")
        _visit(browser, at, "-dark-320", width=320, height=690, scheme="dark")
        for name, words in TERMINALS.items():
            _terminal(browser, at, name, [word.format(**bought) for word in words])
        browser.close()


def _have_sold(at: Addresses) -> dict[str, str]:
    """What the orders' page has to show beside a purchase: other statuses, and what belongs to no order. Ids for
    TERMINALS."""
    with requests.Session() as http:
        http.trust_env = False

        def post(url: str, content: Any) -> Any:
            merchant = {"Authorization": f"Bearer {API_KEY}"} if url.startswith(at.pocketsflow) else {}
            answer = http.post(url, json=content, headers=merchant, timeout=30)
            answer.raise_for_status()
            return answer.json()

        def sell(sku: str, *payments: dict[str, str]) -> tuple[str, str]:
            """Our order id, and Pocketsflow's of the last payment."""
            opened = post(f"{at.api}/checkout", {"sku": sku, "customerEmail": "jane@example.com"})
            for paid in payments or [{}]:
                identity: str = post(f"{at.pocketsflow}/_sandbox/sessions/{opened['sessionId']}/pay", paid)["orderId"]
            return opened["orderId"], identity

        sell("membership")
        sell("print", {"amount": "12.00"})
        twice, _ = sell("course", {}, {})
        post(f"{at.pocketsflow}/refunds", {"orderId": sell("course")[1], "amount": 10})
        post(f"{at.api}/checkout", {"sku": "print"})
        merchant = {"Authorization": f"Bearer {API_KEY}"}
        [endpoint] = http.get(f"{at.pocketsflow}/webhooks", headers=merchant, timeout=30).json()
        post(f"{at.pocketsflow}/webhooks/{endpoint['_id']}/test", {})
        return {"twice": twice}


def _visit(browser: Browser, at: Addresses, suffix: str, *, width: int, height: int, scheme: Any) -> None:
    """Buys what the shop offers first, and looks at it from both sides."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(at.shop, wait_until="networkidle")
    _picture(page, f"shop{suffix}")
    page.get_by_role("button", name=re.compile("buy", re.IGNORECASE)).locator("visible=true").first.click()
    page.wait_for_url(f"{at.pocketsflow}/checkout?session=*")
    page.get_by_role("button", name="Pay", exact=True).click()
    page.wait_for_url(re.compile(r"\?(.*&)?order_id=ord_"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paid", ignore_case=True, timeout=30_000)
    _picture(page, f"paid{suffix}")
    [order_id] = re.findall(r"order_id=(\w+)", page.url)
    page.goto(f"{at.api}/_sandbox/#{order_id}")
    expect(page.locator(".step[data-kind=event]")).to_be_visible()
    page.mouse.move(0, 0)
    _picture(page, f"orders{suffix}")
    context.close()


def _terminal(browser: Browser, at: Addresses, name: str, words: list[str]) -> None:
    """What `pf` shows at a terminal, with its colours."""
    command = [sys.executable, "-m", "ops", "--sandbox", "--aws-url", at.aws, *words]
    environment = {**os.environ, "TERM": "xterm-256color"}
    quietly = shlex.join(["sh", "-c", f"{shlex.join(command)} 2> /dev/null"])  # without the bars of progress
    told, _ = pexpect.run(
        quietly, cwd=str(ROOT), env=environment, timeout=120, withexitstatus=True, dimensions=(80, COLUMNS)
    )
    screen = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    screen.print(Text(f"$ pf --sandbox {shlex.join(words)}", style="bold"))
    screen.print(Text.from_ansi(told.decode().replace("\r\n", "\n").rstrip()))
    page = browser.new_page(device_scale_factor=2)
    page.set_content(screen.export_html(theme=MONOKAI, code_format=_SCREEN))
    _picture(page, f"pf-{name}", page.locator("pre"))
    page.close()


def _picture(page: Page, name: str, part: Locator | None = None) -> None:
    """With a palette: three times smaller, and nobody sees it."""
    page.evaluate("document.fonts.ready")
    shown = Image.open(io.BytesIO((part or page).screenshot())).convert("RGB")
    path = FOLDER / f"{name}.png"
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    if path.stat().st_size > MOST:
        sys.exit(f"{path.name} is larger than {MOST:,} bytes")


if __name__ == "__main__":
    main()
