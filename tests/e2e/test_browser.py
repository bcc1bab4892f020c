"""A buyer in a real browser: the demo shop, Pocketsflow's page, and a thank-you page that tells the truth."""

import subprocess
from collections.abc import Iterator

import pytest
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    driver = subprocess.run(
        (*compute_driver_executable()[:1], "--version"), capture_output=True, text=True, check=False
    )
    if driver.returncode != 0:
        pytest.skip(f"playwright's driver does not start: {driver.stderr.strip()}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
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


def test_buying(sandbox: Sandbox, page: Page) -> None:
    """Buy, pay, come back: the page says paid. A screenshot is kept in artifacts/."""
    page.goto(sandbox.shop)
    page.screenshot(path=ROOT / "artifacts" / "shop.png", full_page=True)
    page.get_by_role("button", name="Buy").click()
    page.wait_for_url(f"{sandbox.pocketsflow}/checkout?session=*")
    page.screenshot(path=ROOT / "artifacts" / "checkout.png", full_page=True)
    page.get_by_role("button", name="Pay", exact=True).click()
    page.wait_for_url(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_*")
    expect(page.locator("main[data-status=paid]")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paid")
    page.screenshot(path=ROOT / "artifacts" / "paid.png", full_page=True)


def test_pending_until_the_webhook_comes(sandbox: Sandbox, page: Page) -> None:
    """The return alone proves nothing: pending is said until the webhook has settled the order, then paid."""
    page.goto(sandbox.shop)
    page.get_by_role("button", name="Buy").click()
    sandbox.faults(delay_seconds=3)
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.locator("main[data-status=pending]")).to_be_visible()
    page.screenshot(path=ROOT / "artifacts" / "pending.png", full_page=True)
    expect(page.locator("main[data-status=paid]")).to_be_visible(timeout=15_000)


def test_cancelling(sandbox: Sandbox, page: Page) -> None:
    """Cancel leads to a page that says nothing was charged, and back to the shop."""
    page.goto(sandbox.shop)
    page.get_by_role("button", name="Buy").click()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"{sandbox.shop}/cancel.html*")
    expect(page.locator("body")).to_contain_text("charged")


def test_an_order_id_somebody_made_up(sandbox: Sandbox, browser: Browser) -> None:
    """An unknown order is not found, never paid."""
    page = browser.new_page()
    page.goto(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_{'0' * 26}")
    expect(page.locator("main[data-status=not_found]")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Thank you")
    page.close()
