"""A buyer in a real browser: the demo shop, Pocketsflow's page, and a thank-you page that tells the truth."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox
from tests.e2e.shop_stub import Stub

COURSE = {"name": "Buy the course"}
SHIFTS = """window.shifts = 0; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: "layout-shift", buffered: true});"""


def expect_status(page: Page, status: str, timeout: float = 15_000) -> None:
    expect(page.locator(f"pf-order-status[status={status}]")).to_be_visible(timeout=timeout)


def pay(page: Page) -> None:
    page.get_by_role("button", name="Pay", exact=True).click()


def test_buying(sandbox: Sandbox, page: Page) -> None:
    """Buy, pay, come back: the page says paid. A screenshot is kept in artifacts/."""
    page.goto(sandbox.shop)
    page.screenshot(path=ROOT / "artifacts" / "shop.png", full_page=True)
    page.get_by_role("button", **COURSE).click()
    page.wait_for_url(f"{sandbox.pocketsflow}/checkout?session=*")
    page.screenshot(path=ROOT / "artifacts" / "checkout.png", full_page=True)
    pay(page)
    page.wait_for_url(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_*")
    expect_status(page, "paid")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paid")
    expect(page.locator("[data-pf-order]")).to_have_text(page.url.rpartition("=")[2])
    page.screenshot(path=ROOT / "artifacts" / "paid.png", full_page=True)
    assert page.context.cookies() == []


@pytest.mark.parametrize(("button", "price"), [("Join the circle", "9.00"), ("Buy the print", "120.00")])
def test_buying_the_others(sandbox: Sandbox, page: Page, button: str, price: str) -> None:
    """The subscription and the variant, which is on hold for its amount, are paid as well."""
    page.goto(sandbox.shop)
    page.get_by_role("button", name=button).click()
    expect(page.get_by_text(f"{price} USD", exact=True)).to_be_visible()
    pay(page)
    expect_status(page, "paid")


def test_buying_with_a_discount(sandbox: Sandbox, page: Page) -> None:
    """The code that the buyer types reaches Pocketsflow, which takes a tenth off."""
    page.goto(sandbox.shop)
    page.get_by_label("Discount code").fill("SAVE10")
    page.keyboard.press("Enter")
    expect(page.get_by_text("44.10 USD")).to_be_visible()


def test_buying_without_script(sandbox: Sandbox, browser: Browser) -> None:
    """With JavaScript off the form itself leads to the checkout, and back to a page that claims nothing."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(sandbox.shop)
    page.get_by_role("button", **COURSE).click()
    page.wait_for_url(f"{sandbox.pocketsflow}/checkout?session=*")
    pay(page)
    page.wait_for_url(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_*")
    assert "Paid" not in page.content()
    assert "JavaScript, which is off" in page.content()
    context.close()


def test_the_forms_are_plain_forms(sandbox: Sandbox, browser: Browser) -> None:
    """Without script each form posts its fields to the API, and the policy lets the answer lead on."""
    stub = Stub().start()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.route(f"{sandbox.api}/checkout", lambda route: route.continue_(url=f"{stub.api}/checkout"))
    for button in ("Buy the course", "Join the circle", "Buy the print"):
        page.goto(sandbox.shop)
        with page.expect_request(f"{sandbox.api}/checkout"):
            page.get_by_role("button", name=button).click()
    assert [each.content for each in stub.asked] == [
        {"sku": "course", "discountCode": ""},
        {"sku": "membership"},
        {"sku": "print"},
    ]
    context.close()
    stub.close()


def test_pending_until_the_webhook_comes(sandbox: Sandbox, page: Page) -> None:
    """The return alone proves nothing: pending is said until the webhook has settled the order, then paid."""
    page.goto(sandbox.shop)
    page.get_by_role("button", **COURSE).click()
    page.wait_for_url(f"{sandbox.pocketsflow}/checkout?session=*")
    sandbox.faults(delay_seconds=3)
    pay(page)
    expect_status(page, "pending")
    page.screenshot(path=ROOT / "artifacts" / "pending.png", full_page=True)
    expect_status(page, "paid")


def test_cancelling(sandbox: Sandbox, page: Page) -> None:
    """Cancel leads to a page that says that leaving charged nothing; from the shop the same order goes on."""
    page.goto(sandbox.shop)
    page.get_by_role("button", **COURSE).click()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"{sandbox.shop}/cancel.html*")
    order = page.url.rpartition("=")[2]
    expect(page.locator("body")).to_contain_text("charged nothing")
    page.get_by_role("link", name="Back to the shop").click()
    page.get_by_role("button", **COURSE).click()
    expect(page.get_by_text(order)).to_be_visible()


def test_a_member(sandbox: Sandbox, browser: Browser) -> None:
    """Buys, is let in by the order id, and stays so for the tab, with a clock that is a day behind; later by a link
    that came by mail, once.
    The site keeps what the page shows from everybody else, and nothing that lets anybody in stays in an address."""
    page = browser.new_context().new_page()
    page.add_init_script("const now = Date.now; Date.now = () => now() - 864e5 + (window.passed ?? 0)")
    page.goto(sandbox.shop)
    page.wait_for_function("() => !!window.Pocketsflow")
    order = {"sku": "membership", "email": "member@browser.example", "successUrl": f"{sandbox.shop}/members.html"}
    page.evaluate("(order) => { Pocketsflow.checkout(order) }", order)
    page.wait_for_url(f"{sandbox.pocketsflow}/checkout?session=*")
    pay(page)
    room = page.get_by_role("heading", name="The workshop")
    expect(room).to_be_visible(timeout=15_000)
    assert page.url == f"{sandbox.shop}/members.html"
    expect(page.get_by_label("Your address")).to_be_hidden()
    page.reload()
    expect(room).to_be_visible()
    page.screenshot(path=ROOT / "artifacts" / "members.png", full_page=True)
    tokens = [page.evaluate("(passed) => Pocketsflow.memberToken((window.passed = passed))", each) for each in (0, 6e5)]
    assert len({*tokens}) == 2
    session = page.evaluate("JSON.parse(sessionStorage['pocketsflow-members']).session")
    with page.expect_response(f"{sandbox.api}/access") as left:
        page.get_by_role("button", name="Leave").click()
    expect(room).to_be_hidden()
    bearer = {"Authorization": f"Bearer {session}"}
    assert (left.value.status, page.request.get(f"{sandbox.api}/access", headers=bearer).status) == (200, 401)
    assert page.request.get(f"{sandbox.shop}/members/workshop.json").status == 401
    page.get_by_label("Your address").fill("member@browser.example")
    page.keyboard.press("Enter")
    expect(page.get_by_text("a link is on its way to it")).to_be_visible(timeout=15_000)
    page.goto(f"{sandbox.api}/_sandbox/mails/")
    link = page.get_by_role("link").first.get_attribute("href")
    page.get_by_role("link").first.click()
    expect(room).to_be_visible()
    assert page.url == f"{sandbox.shop}/members.html"
    again = browser.new_context().new_page()
    again.goto(str(link))
    expect(again.get_by_text("was used before")).to_be_visible()
    expect(again.get_by_role("heading", name="The workshop")).to_be_hidden()
    for each in (page, again):
        each.context.close()


def test_an_order_id_somebody_made_up(sandbox: Sandbox, browser: Browser) -> None:
    """An unknown order is not found, never paid."""
    page = browser.new_page()
    page.goto(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_{'0' * 26}")
    expect_status(page, "not_found")
    expect(page.locator("body")).not_to_contain_text("Thank you")
    page.close()


def test_the_policy_and_the_way_behind(sandbox: Sandbox, page: Page) -> None:
    """The shop is served under a policy without a default, and each page leads behind the scenes."""
    for name in ("index.html", "thank-you.html", "cancel.html"):
        response = page.goto(f"{sandbox.shop}/{name}")
        assert response is not None
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "require-trusted-types-for 'script'" in policy
        assert f"form-action 'self' {sandbox.api} {sandbox.pocketsflow};" in policy
        link = page.get_by_role("link", name="See what happens behind the shop")
        assert link.get_attribute("href") == f"{sandbox.api}/_sandbox/"
        assert "localhost:8001" not in page.content()


# --- How it looks -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[320, 1280])
def seen(browser: Browser, scheme: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose layout shifts are counted, narrow and wide, light and dark."""
    viewport = {"width": int(request.param), "height": 800}
    context: BrowserContext = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    context.add_init_script(SHIFTS)
    yield context.new_page()
    context.close()


def look(page: Page, name: str, scheme: str) -> None:
    """Nothing for axe to find, nothing that moved by itself, nothing wider than the window; a picture to look at."""
    page.evaluate("document.fonts.ready")
    width = page.viewport_size["width"]  # type: ignore[index]
    page.screenshot(path=ROOT / "artifacts" / f"{name}-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("shifts") == 0, name
    assert page.evaluate("document.documentElement.scrollWidth") == width, name
    page.evaluate((ROOT / "tests/e2e/node_modules/axe-core/axe.min.js").read_text())
    found: Any = page.evaluate("axe.run().then((all) => all.violations)")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == [], name


def answer_status(page: Page, status: str) -> None:
    body = {"orderId": "ord_sandbox_1", "status": status, "updatedAt": "2026-11-28T10:00:00Z"}
    page.route("**/orders/*", lambda route: route.fulfill(json=body, headers={"Access-Control-Allow-Origin": "*"}))


def test_every_page_in_every_state(node: str, sandbox: Sandbox, seen: Page, scheme: str) -> None:
    """The shop at first and with an error, and the pages one comes back to: accessible, still, and never too wide."""
    seen.goto(sandbox.shop)
    seen.wait_for_function("() => !!window.Pocketsflow")
    look(seen, "shop", scheme)
    seen.route("**/checkout", lambda route: route.abort())
    seen.get_by_role("button", **COURSE).click()
    expect(seen.locator("[data-pf-kind=error]")).to_be_visible(timeout=10_000)
    look(seen, "error", scheme)
    seen.goto(f"{sandbox.shop}/cancel.html?order_id=ord_sandbox_1")
    look(seen, "cancel", scheme)
    seen.goto(f"{sandbox.shop}/members.html")
    look(seen, "members", scheme)
    for status in ("pending", "paid", "mismatched", "disputed"):
        answer_status(seen, status)
        seen.goto(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_{'7' * 26}")
        expect_status(seen, status)
        look(seen, status, scheme)
    seen.unroute("**/orders/*")
    seen.goto(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_{'0' * 26}")
    expect_status(seen, "not_found")
    look(seen, "not-found", scheme)


def test_nothing_turns_where_motion_is_unwanted(sandbox: Sandbox, browser: Browser) -> None:
    """With reduced motion no animation runs, neither on a busy button nor while a payment is awaited."""
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.route("**/checkout", lambda route: None)
    page.goto(sandbox.shop)
    page.wait_for_function("() => !!window.Pocketsflow")
    page.get_by_role("button", **COURSE).click()
    expect(page.locator("[aria-busy]")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    answer_status(page, "pending")
    page.goto(f"{sandbox.shop}/thank-you.html?order_id=ord_sandbox_1")
    expect_status(page, "pending")
    assert page.evaluate("document.getAnimations().length") == 0
    context.close()


def test_the_shop_is_light(sandbox: Sandbox, page: Page) -> None:
    """All that a visitor loads is under 50 kB before any compression, from the shop alone, with nothing inline."""
    loaded: dict[str, int] = {}
    page.on("response", lambda response: loaded.update({response.url: len(response.body())}))
    page.goto(sandbox.shop, wait_until="networkidle")
    assert all(url.startswith(sandbox.shop) for url in loaded)
    assert {url.rpartition("/")[2] for url in loaded} == {"", "style.css", "pocketsflow-checkout.js", "icon.svg"}
    assert sum(loaded.values()) < 50_000
    for path in (ROOT / "storefront").glob("*.html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src)", path.read_text())
