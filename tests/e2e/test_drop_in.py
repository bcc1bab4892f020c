"""pocketsflow-checkout.js in a real browser: one order per intent and true words, whatever the network does.

Every page here is served with the strictest policy that the script promises to work under.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox
from tests.e2e.shop_stub import BUTTON, TAG, Stub, message, problem

SCRIPT = ROOT / "storefront/pocketsflow-checkout.js"
FORM = '<form method="post" action="{api}/checkout"><input type="hidden" name="sku" value="course">%s</form>'
STATUS = "<pf-order-status></pf-order-status>"
LOADED = "() => !!(window.Pocketsflow && Pocketsflow.checkout)"
FAST = "const slow = AbortSignal.timeout; AbortSignal.timeout = (ms) => slow.call(AbortSignal, ms / 40)"
NO_STORAGE = (
    "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('refused', 'SecurityError'); }})"
)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub().start()
    yield stub
    stub.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new visitor. Errors of the script and breaches of a policy fail the test; a network that fails does not."""
    context = browser.new_context()
    context.set_default_timeout(8_000)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console",
        lambda message: (
            complaints.append(message.text) if re.search("Content.Security|Trusted", message.text) else None
        ),
    )
    yield context
    context.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def visit(page: Page, stub: Stub, path: str = "/") -> None:
    page.goto(stub.site.url + path)
    page.wait_for_function(LOADED)


def expect_message(page: Page, text: str) -> None:
    expect(page.locator("[data-pf-message]")).to_contain_text(text)


def wait_for(page: Page, held: Callable[[], Any]) -> None:
    """Until something holds on this side; the browser's events are served meanwhile."""
    for _ in range(300):
        if held():
            return
        page.wait_for_timeout(20)
    raise AssertionError("did not come to hold")


def paying(page: Page, stub: Stub) -> str:
    """The order that is being paid."""
    page.wait_for_url(f"{stub.site.url}/paying?order=*")
    return page.url.rpartition("=")[2]


# --- A tag and a button -----------------------------------------------------------------------------------------------


def test_a_tag_and_a_button(stub: Stub, page: Page) -> None:
    """That is all: the click asks for the sku with a UUID as its key, without a cookie, and leads to where one pays."""
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    [asked] = stub.asked
    assert asked.content == {"sku": "course", "metadata": {}}
    assert str(uuid.UUID(asked.key)) == asked.key
    assert asked.headers["Content-Type"] == "application/json"
    assert "Cookie" not in asked.headers


def test_attributes(stub: Stub, page: Page) -> None:
    """A button alone can say all that a request may hold; other data attributes are not sent."""
    stub.body = (
        '<button data-pf-sku="course" data-pf-email="b@example.com" data-pf-discount="SAVE10" data-other="x"'
        ' data-pf-success-url="https://shop.example/thanks" data-pf-cancel-url="https://shop.example/cart"'
        """ data-pf-metadata='{"cart": "7"}'>Buy</button>"""
    )
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    assert stub.asked[0].content == {
        "sku": "course",
        "customerEmail": "b@example.com",
        "discountCode": "SAVE10",
        "successUrl": "https://shop.example/thanks",
        "cancelUrl": "https://shop.example/cart",
        "metadata": {"cart": "7"},
    }


def test_a_forms_fields(stub: Stub, page: Page) -> None:
    """A button in a form takes what the form would send: empty fields are absent, a widget's token is named as the API
    names it, and what the buyer typed counts more than an attribute."""
    stub.body = FORM % (
        '<input name="customerEmail" type="email"><input name="discountCode"><input name="metadata[size]" value="L">'
        '<input name="metadata[note]"><textarea name="g-recaptcha-response">token</textarea>'
        '<textarea name="h-captcha-response">token</textarea>'
        '<button data-pf-sku="course" data-pf-discount="LESS">Buy</button>'
    )
    visit(page, stub)
    page.locator("[name=discountCode]").fill("SAVE10")
    page.get_by_role("button").click()
    paying(page, stub)
    assert stub.asked[0].content == {
        "sku": "course",
        "discountCode": "SAVE10",
        "metadata": {"size": "L"},
        "challengeToken": "token",
    }


def test_a_choice_of_products(stub: Stub, page: Page) -> None:
    """With an empty attribute the form names the product, by sku or by Pocketsflow's id."""
    stub.body = (
        '<form><select name="sku"><option>course<option>print</select><button data-pf-sku>Buy</button></form>'
        '<form><input type="hidden" name="productId" value="000000000000000000c0ffee"><button data-pf-sku>2</button>'
    )
    visit(page, stub)
    page.get_by_role("combobox").select_option("print")
    page.get_by_role("button", name="Buy").click()
    paying(page, stub)
    assert stub.asked[0].content["sku"] == "print"
    visit(page, stub)
    page.get_by_role("button", name="2").click()
    paying(page, stub)
    assert stub.asked[1].content == {"productId": "000000000000000000c0ffee", "metadata": {}}


def test_a_page_may_refuse_a_click(stub: Stub, page: Page) -> None:
    """No purchase from a form that is not filled in, from a button that the page calls disabled, or from a click that
    the page has handled itself."""
    stub.files["page.js"] = "document.querySelector('#own').addEventListener('click', (e) => e.preventDefault())"
    stub.body = (
        FORM % '<input name="customerEmail" required><button data-pf-sku="course">Form</button>'
        + '<button data-pf-sku="course" aria-disabled="true">Sold out</button>'
        + '<button data-pf-sku="course" id="own">Own</button><script src="/page.js"></script>'
    )
    visit(page, stub)
    page.get_by_role("button", name="Form").click()
    expect(page.locator("[name=customerEmail]")).to_be_focused()
    for name in ("Sold out", "Own"):
        page.get_by_role("button", name=name).click(force=True)
    assert page.evaluate("new Promise((done) => setTimeout(() => done(location.pathname), 200))") == "/"
    assert stub.asked == []


def test_the_script_is_late(stub: Stub, page: Page) -> None:
    """Before the script has come the button is the form's own, and the form buys by a plain POST."""
    stub.body = FORM % BUTTON
    page.route("**/pocketsflow-checkout.js", lambda route: None)  # for ever on its way
    page.goto(stub.site.url, wait_until="commit")
    page.get_by_role("button").click()
    page.wait_for_url("**/paying?form")
    assert stub.asked[0].content == {"sku": "course"}


def test_buttons_and_elements_that_come_later(stub: Stub, page: Page) -> None:
    """What a framework adds after the script works as what was there before."""
    stub.body = ""
    visit(page, stub, "/?order_id=ord_none")
    page.evaluate(
        """() => {
          const button = Object.assign(document.createElement("button"), {textContent: "Late"});
          button.dataset.pfSku = "print";
          button.append(document.createElement("span"));
          button.lastChild.textContent = " inside";
          document.body.append(document.createElement("pf-order-status"), button);
        }"""
    )
    expect(page.locator("pf-order-status[status=not_found]")).to_contain_text("Order not found")
    page.get_by_text("inside").click()
    paying(page, stub)
    assert stub.asked[0].content["sku"] == "print"


def test_imported_as_a_module(stub: Stub, page: Page) -> None:
    """`import` gives the same functions, and the address may be set by the page."""
    stub.head = '<script type="module" src="/page.js"></script>'
    stub.files["page.js"] = (
        'import Pocketsflow, { checkout, status, texts } from "/pocketsflow-checkout.mjs";\n'
        'Pocketsflow.api = "{api}/";\n'
        'texts.opening = "One moment…";\n'
        "window.made = checkout({ sku: 'course', redirect: false });\n"
        "window.known = window.made.then((made) => status(made.orderId));\n"
    )
    visit(page, stub)
    page.wait_for_function("() => !!window.known")
    assert page.evaluate("known")["status"] == "pending"
    page.get_by_role("button").click()
    paying(page, stub)


def test_what_the_page_set_before_the_script(stub: Stub, page: Page) -> None:
    """`window.Pocketsflow` of a page that is earlier than the script is taken over: address and texts."""
    stub.head = '<script src="/page.js"></script><script src="/pocketsflow-checkout.js" defer></script>'
    stub.files["page.js"] = (
        'window.mine = window.Pocketsflow = { api: "{api}", texts: {'
        ' discount_code_refused: "Den Code kennen wir nicht.", safe: "Es wurde nichts bezahlt." } };'
    )
    stub.at_first = [problem(400, "discount_code_refused")]
    visit(page, stub)
    assert page.evaluate("mine === Pocketsflow")
    page.get_by_role("button").click()
    expect_message(page, "Den Code kennen wir nicht. Es wurde nichts bezahlt.")


def test_loaded_twice(stub: Stub, page: Page) -> None:
    """Two tags, or a tag and an import, are one script: a click is one request."""
    stub.head = TAG + TAG + '<script type="module" src="/pocketsflow-checkout.mjs"></script>'
    visit(page, stub)
    page.wait_for_load_state()
    page.get_by_role("button").click()
    paying(page, stub)
    assert len(stub.asked) == 1


def test_a_page_without_an_address_says_so(stub: Stub, page: Page) -> None:
    """A forgotten data-api is no riddle: the message has the reason, and nothing is sent anywhere."""
    stub.head = '<script src="/pocketsflow-checkout.js" async></script>'
    visit(page, stub)
    page.get_by_role("button").click()
    expect(page.locator("[data-pf-message][data-pf-kind=error]")).to_contain_text("(not_connected)", timeout=10_000)
    assert stub.asked == []


# --- One order per intent ---------------------------------------------------------------------------------------------


def test_a_double_click(stub: Stub, page: Page) -> None:
    """Any number of clicks while the checkout opens are one request."""
    stub.delay = 0.3
    visit(page, stub)
    page.get_by_role("button").dblclick()
    page.get_by_role("button").click(force=True)
    paying(page, stub)
    assert len(stub.asked) == 1


def test_two_calls_at_once(stub: Stub, page: Page) -> None:
    """Calls for the same, whatever the order of their fields, share a key; another wish has its own."""
    visit(page, stub)
    orders = page.evaluate(
        """() => Promise.all([
          {sku: "a", metadata: {x: "1", y: "2"}, email: "b@example.com"},
          {email: "b@example.com", metadata: {y: "2", x: "1"}, sku: "a"},
          {sku: "a", metadata: {x: "1", y: "3"}, email: "b@example.com"},
        ].map((wish) => Pocketsflow.checkout({...wish, redirect: false})))"""
    )
    assert orders[0]["orderId"] == orders[1]["orderId"] != orders[2]["orderId"]
    assert len(set(stub.keys)) == 2


def test_two_tabs_at_the_same_moment(stub: Stub, context: BrowserContext) -> None:
    """Two tabs that click at once make one order."""
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        visit(tab, stub)
    now = tabs[0].evaluate("Date.now()")
    for tab in tabs:
        tab.evaluate(f"setTimeout(() => document.querySelector('button').click(), {now} + 500 - Date.now())")
    assert len({paying(tab, stub) for tab in tabs}) == 1
    assert len(stub.orders) == 1
    assert len(set(stub.keys)) == 1


def test_back_and_again(stub: Stub, page: Page) -> None:
    """The back button, a reload and another click lead to the order that is waiting; its state is asked before."""
    visit(page, stub)
    page.get_by_role("button").click()
    order = paying(page, stub)
    page.go_back()
    page.reload()
    page.wait_for_function(LOADED)
    page.get_by_role("button").click()
    assert paying(page, stub) == order
    assert stub.looked == [order]
    assert len(set(stub.keys)) == 1


def test_after_the_payment_a_click_is_a_new_order(stub: Stub, page: Page) -> None:
    """A paid order is never opened again: who buys the same once more gets an order for it."""
    visit(page, stub)
    page.get_by_role("button").click()
    order = paying(page, stub)
    stub.states[order] = "paid"
    visit(page, stub)
    page.get_by_role("button").click()
    assert paying(page, stub) != order
    assert len(stub.orders) == 2


def test_a_thank_you_page_that_saw_the_payment(stub: Stub, page: Page) -> None:
    """Once the status element has seen an order paid, the next click is a new order even if no state can be had."""
    stub.body = BUTTON + STATUS
    visit(page, stub)
    page.get_by_role("button", name="Buy").click()
    order = paying(page, stub)
    stub.states[order] = "paid"
    visit(page, stub, f"/thanks?order_id={order}")
    expect(page.locator("[status=paid]")).to_be_visible()
    page.route("**/orders/*", lambda route: route.abort())
    page.get_by_role("button", name="Buy").click()
    assert paying(page, stub) != order


def test_a_state_that_cannot_be_had(stub: Stub, page: Page) -> None:
    """While the state of the waiting order is out of reach, a click keeps to that order."""
    visit(page, stub)
    page.get_by_role("button").click()
    order = paying(page, stub)
    visit(page, stub)
    stub.status_at_first = [message(429, "Too Many Requests")]
    page.get_by_role("button").click()
    assert paying(page, stub) == order


def test_an_intent_ends_after_an_hour(stub: Stub, page: Page) -> None:
    """59 minutes later it is the same order, 61 minutes after that it is another."""
    page.clock.install()
    visit(page, stub)
    page.get_by_role("button").click()
    order = paying(page, stub)
    for minutes, same in ((59, True), (61, False)):
        visit(page, stub)
        page.clock.fast_forward(minutes * 60_000)
        page.get_by_role("button").click()
        assert (paying(page, stub) == order) is same


def test_storage_is_refused(stub: Stub, page: Page) -> None:
    """Without storage the page itself remembers: calls one after the other are one order."""
    page.add_init_script(NO_STORAGE)
    visit(page, stub)
    first, second = (
        page.evaluate("Pocketsflow.checkout({sku: 'course', redirect: false})")["orderId"] for _ in range(2)
    )
    assert first == second
    page.get_by_role("button").click()
    paying(page, stub)


@pytest.mark.parametrize(
    "content",
    [
        *("null", "[]", "no JSON", '{"x": 1}', '{"x": {"key": "k"}}'),
        *("5", '"x"', '{"x": null}', "true", '{"x": {"until": "y"}}'),
    ],
)
def test_storage_that_holds_something_else(stub: Stub, page: Page, content: str) -> None:
    """Whatever another script left under the same name, the button buys."""
    visit(page, stub)
    page.evaluate("(content) => localStorage.setItem('pocketsflow-checkout', content)", content)
    page.get_by_role("button").click()
    paying(page, stub)


def test_no_locks(stub: Stub, page: Page) -> None:
    """A browser without navigator.locks, or one that refuses them, buys all the same."""
    page.add_init_script("navigator.locks.request = () => Promise.reject(new DOMException('no', 'SecurityError'))")
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    page.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    assert len(stub.orders) == 1


def test_the_answer_is_lost(stub: Stub, page: Page) -> None:
    """The order was made and the connection broke: the next try has the same key, and there is one order."""
    lost: list[str] = []

    def lose(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(route.fetch().text())
        return route.abort("connectionreset")

    page.route("**/checkout", lose)
    visit(page, stub)
    page.get_by_role("button").click()
    expect_message(page, "Trying again")
    order = paying(page, stub)
    assert json.loads(lost[0])["orderId"] == order
    assert len(set(stub.keys)) == len(stub.orders) == 1


def test_a_key_that_was_used_for_something_else(stub: Stub, page: Page) -> None:
    """409 idempotency_key_reused: the key is given up for a new one."""
    stub.at_first = [problem(409, "idempotency_key_reused")]
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    assert len(set(stub.keys)) == 2


# --- Slow and failing APIs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        problem(409, "in_progress", Retry_After="1"),
        problem(429, "too_many_checkouts", Retry_After="1"),
        message(429, "Too Many Requests"),
        problem(503, "pocketsflow_busy", Retry_After="1"),
        message(500, "Internal Server Error"),
    ],
    ids=["in progress", "limited", "throttled", "busy", "failed"],
)
def test_what_passes_is_waited_for(stub: Stub, page: Page, answer: Any) -> None:
    """A busy API is asked again with the same key, after the time it names, and the buyer is told meanwhile."""
    stub.at_first = [answer]
    visit(page, stub)
    page.get_by_role("button").click()
    expect_message(page, "Trying again")
    paying(page, stub)
    assert len(stub.asked) == 2
    assert len(set(stub.keys)) == 1


def test_a_long_wait_is_told(stub: Stub, page: Page) -> None:
    """A Retry-After that nobody would wait for is said at once, and the button is the buyer's again."""
    stub.at_first = [problem(429, "too_many_checkouts", Retry_After="120")]
    visit(page, stub)
    page.get_by_role("button").click()
    expect_message(page, "The shop is busy. Please try again in 120 seconds. No payment was started.")
    page.get_by_role("button").click()
    paying(page, stub)
    assert len(set(stub.keys)) == 1


def test_busy_for_too_long(stub: Stub, page: Page) -> None:
    """Waiting has a bound: half a minute of 429s is told as such, not as a refusal."""
    stub.at_first = [message(429, "Too Many Requests")] * 20
    page.clock.install()
    visit(page, stub)
    page.get_by_role("button").click()
    for tries in range(1, 6):
        wait_for(page, lambda tries=tries: len(stub.asked) >= tries)
        page.wait_for_timeout(100)
        page.clock.run_for(2**tries * 1000)
    expect_message(page, "The checkout cannot be opened now (http_429). Please try again. No payment was started.")
    assert len(stub.asked) == 5
    assert len(set(stub.keys)) == 1


def test_an_api_that_fails(stub: Stub, page: Page) -> None:
    """Three tries, then the truth with its code: nothing was paid, and the focused button can be pressed again."""
    stub.at_first = [problem(502, "pocketsflow_failed")] * 3
    visit(page, stub)
    button = page.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-pf-kind=error]")).to_have_text(
        "The checkout cannot be opened now (pocketsflow_failed). Please try again. No payment was started.",
        timeout=10_000,
    )
    assert len(stub.asked) == 3
    expect(button).to_be_focused()
    expect(button).not_to_have_attribute("aria-busy", "true")
    page.keyboard.press("Enter")
    paying(page, stub)
    assert len(set(stub.keys)) == 1


def test_a_network_that_fails(stub: Stub, page: Page) -> None:
    """Nothing gets through: three tries, then a message that claims neither a payment nor an order."""
    tries: list[str] = []
    page.route("**/checkout", lambda route: (tries.append(route.request.headers["idempotency-key"]), route.abort()))
    visit(page, stub)
    page.get_by_role("button").click()
    expect(page.locator("[data-pf-kind=error]")).to_have_text(
        "The shop cannot be reached. Please try again. No payment was started.", timeout=10_000
    )
    assert len(tries) == 3
    assert len(set(tries)) == 1


def test_offline(stub: Stub, context: BrowserContext, page: Page) -> None:
    """A buyer without a network is told so at once, and buys when it is back."""
    visit(page, stub)
    context.set_offline(True)
    page.get_by_role("button").click()
    expect_message(page, "You seem to be offline. Please try again. No payment was started.")
    context.set_offline(False)
    page.get_by_role("button").click()
    paying(page, stub)
    assert len(stub.orders) == 1


def test_an_api_that_hangs(stub: Stub, page: Page) -> None:
    """Each try has an end; when all have passed the buyer is told."""
    page.add_init_script(FAST)  # ten seconds are a quarter of one
    page.route("**/checkout", lambda route: None)
    visit(page, stub)
    page.get_by_role("button").click()
    expect(page.locator("[data-pf-kind=error]")).to_contain_text("The shop cannot be reached.", timeout=10_000)


def test_refusals_are_told_by_their_code(stub: Stub, page: Page) -> None:
    """A 4xx is not tried again: known codes have words of their own, others are named."""
    visit(page, stub)
    for answer, words in (
        (problem(400, "discount_code_refused"), "The discount code was not accepted."),
        (problem(403, "challenge_failed"), "The check against robots failed."),
        (problem(400, "invalid_request"), "The shop did not accept this order (invalid_request)."),
        (problem(400, "constructor"), "The shop did not accept this order (constructor)."),
        (message(404, "Not Found"), "The shop did not accept this order (http_404)."),
    ):
        stub.at_first = [answer]
        page.get_by_role("button").click()
        expect_message(page, f"{words.removesuffix('.')}")
        expect_message(page, "No payment was started.")
    assert len(stub.asked) == 5


def test_text_from_outside_stays_text(stub: Stub, page: Page) -> None:
    """A code that is markup is shown, not obeyed."""
    stub.at_first = [problem(400, "<img src=x onerror=alert(1)>")]
    visit(page, stub)
    page.get_by_role("button").click()
    expect_message(page, "<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http://shop.example/pay",
        "data:text/html,x",
        "//shop.example",
        "",
        "http://127.0.0.1.shop.example/",
    ],
)
def test_an_address_that_is_not_safe(stub: Stub, page: Page, url: str) -> None:
    """Only https, or http on this machine, is opened."""
    stub.url = url or " "
    page.add_init_script(FAST)
    visit(page, stub)
    page.get_by_role("button").click()
    expect(page.locator("[data-pf-kind=error]")).to_contain_text("cannot be opened now", timeout=10_000)
    assert page.url == f"{stub.site.url}/"


def test_the_error_of_a_call(stub: Stub, page: Page) -> None:
    """A page that calls the function gets all that is known, and words for its buyer."""
    stub.at_first = [problem(429, "too_many_checkouts", Retry_After="90")]
    visit(page, stub)
    error = page.evaluate(
        """() => Pocketsflow.checkout({sku: "course"}).catch((error) => ({
          ours: error instanceof Pocketsflow.PocketsflowError && error instanceof Error, code: error.code,
          status: error.status, retryAfter: error.retryAfter, message: error.message}))"""
    )
    assert error == {
        "ours": True,
        "code": "too_many_checkouts",
        "status": 429,
        "retryAfter": 90,
        "message": "The shop is busy. Please try again in 90 seconds. No payment was started.",
    }


def test_an_event_tells_the_page(stub: Stub, page: Page) -> None:
    """pf-error comes from the button and bubbles, so that a page can renew its challenge."""
    stub.at_first = [problem(403, "challenge_failed")]
    visit(page, stub)
    page.evaluate("document.addEventListener('pf-error', (e) => { window.told = e.target.localName + e.detail.code; })")
    page.get_by_role("button").click()
    page.wait_for_function("() => window.told === 'buttonchallenge_failed'")


# --- What the buyer notices -------------------------------------------------------------------------------------------


def test_while_it_works(stub: Stub, page: Page) -> None:
    """The button is busy, not disabled, keeps its label, its size and the focus; a live region says what happens."""
    stub.body = BUTTON + "<p id='below'>Below</p>"
    stub.delay = 0.5
    visit(page, stub)
    button = page.get_by_role("button", name="Buy")
    before = button.bounding_box()
    button.click()
    expect(button).to_have_attribute("aria-busy", "true")
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    assert button.bounding_box() == before
    region = page.get_by_role("status")
    expect(region).to_have_text("Opening the checkout...")
    assert page.evaluate("document.querySelector('button').nextElementSibling.dataset.pfMessage") == "own"
    for name, value in (("aria-live", "polite"), ("aria-atomic", "true"), ("dir", "auto")):
        expect(region).to_have_attribute(name, value)
    paying(page, stub)


def test_the_nearest_message_is_used(stub: Stub, page: Page) -> None:
    """A message goes to the region of the button's own form or card, else to the page's; no other is made."""
    stub.body = (
        "<p data-pf-message id=page></p>"
        + FORM % f"{BUTTON}<p data-pf-message id=own></p>"
        + "<section><button data-pf-sku=a>Lone</button></section>"
    )
    stub.at_first = [problem(400, "one"), problem(400, "two")]
    visit(page, stub)
    page.get_by_role("button", name="Buy").click()
    expect(page.locator("#own")).to_contain_text("one")
    page.get_by_role("button", name="Lone").click()
    expect(page.locator("#page")).to_contain_text("two")
    assert page.locator("[data-pf-message]").count() == 2


def test_another_button_meanwhile(stub: Stub, page: Page) -> None:
    """Who presses another button wants that: the first is free again, and its answer leads nowhere."""
    stub.body = BUTTON + "<button data-pf-sku=print>Print</button>"
    held: list[Route] = []
    page.route(
        "**/checkout",
        lambda route: held.append(route) if "course" in (route.request.post_data or "") else route.continue_(),
    )
    visit(page, stub)
    first = page.get_by_role("button", name="Buy")
    first.click()
    wait_for(page, lambda: held)
    page.evaluate("addEventListener('pagehide', () => { window.gone = true; })")
    page.get_by_role("button", name="Print").click()
    paying(page, stub)
    assert [each.content["sku"] for each in stub.asked] == ["print"]


def test_out_of_the_back_forward_cache(stub: Stub, page: Page) -> None:
    """A page that comes back as it was left is ready: no busy button, no old message, and no late navigation."""
    held: list[Route] = []
    page.route("**/checkout", lambda route: held.append(route))
    visit(page, stub)
    button = page.get_by_role("button")
    button.click()
    wait_for(page, lambda: held)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    expect(button).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("[data-pf-message]")).to_be_empty()
    held[0].continue_()
    wait_for(page, lambda: stub.orders)
    page.wait_for_timeout(200)
    assert page.url == f"{stub.site.url}/"
    page.unroute("**/checkout")
    button.click()
    assert paying(page, stub) in stub.orders.values()
    assert len(stub.orders) == 1


def test_a_navigation_that_was_stopped(stub: Stub, page: Page) -> None:
    """Where nothing follows the answer (a download, Escape), the button can be pressed again soon."""
    stub.url = f"{stub.site.url}/nothing"  # 204
    page.add_init_script("const later = setTimeout; setTimeout = (work, ms, ...more) => later(work, ms / 20, ...more)")
    visit(page, stub)
    page.get_by_role("button").click()
    wait_for(page, lambda: stub.orders)
    expect(page.get_by_role("button")).not_to_have_attribute("aria-busy", "true")
    page.get_by_role("button").click()
    wait_for(page, lambda: len(stub.asked) == 2)
    assert len(stub.orders) == 1


def test_by_keyboard_alone(stub: Stub, page: Page) -> None:
    """Tab, Space; Tab, Enter; Enter in a field: each buys."""
    stub.body = FORM % f'<input name="discountCode">{BUTTON}'
    for keys in (["Tab", "Tab", "Space"], ["Tab", "Tab", "Enter"], ["Tab", "Enter"]):
        visit(page, stub)
        for key in keys:
            page.keyboard.press(key)
        paying(page, stub)
    assert len(stub.orders) == 1


def test_right_to_left(stub: Stub, page: Page) -> None:
    """In a page that runs the other way, words in its language do, words in English do not, and ids stay whole."""
    stub.html = '<html lang="ar" dir="rtl">'
    stub.body = BUTTON + STATUS
    stub.files["page.js"] = (
        'window.Pocketsflow = { texts: { refused: "لم يقبل المتجر هذا الطلب ({}).", safe: "", order: "رقم الطلب: ",'
        ' paid: ["تم الدفع", "شكرا لك."] } };'
    )
    stub.head = '<meta charset="utf-8"><script src="/page.js"></script>' + TAG
    stub.states = {"ord_1": "paid"}
    stub.at_first = [problem(400, "invalid_request")]
    visit(page, stub, "/?order_id=ord_1")
    heading = page.get_by_role("heading", name="تم الدفع")
    direction = "(element) => getComputedStyle(element).direction"
    assert heading.evaluate(direction) == "rtl"
    assert page.locator("[data-pf-order]").evaluate(direction) == "ltr"
    assert page.locator("[data-pf-order]").evaluate("(e) => e.tagName") == "BDI"
    page.get_by_role("button", name="Buy").click()
    expect_message(page, "لم يقبل المتجر هذا الطلب")
    assert page.locator("[data-pf-message]").evaluate(direction) == "rtl"


# --- The status element -----------------------------------------------------------------------------------------------

SAID = {
    "paid": "The payment for this order is confirmed.",
    "partially_refunded": "A part of the payment for this order was refunded.",
    "refunded": "The payment for this order was refunded.",
    "disputed": "The payment for this order was disputed.",
    "mismatched": "does not count as paid",
    "settling": "This page has no words for its state.",
}


@pytest.mark.parametrize("state", SAID)
def test_what_is_final_is_said_and_asked_once(stub: Stub, page: Page, state: str) -> None:
    """A final state, or one that is not known, is said in a buyer's words, and the asking ends."""
    stub.body, stub.states = STATUS, {"ord_1": state}
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    element = page.locator("pf-order-status")
    expect(element).to_have_attribute("status", "unknown" if state == "settling" else state)
    expect(element).to_contain_text(SAID[state])
    expect(element).to_contain_text("Order number: ord_1")
    expect(element).to_contain_text("Last change: ")
    page.clock.run_for(60_000)
    assert stub.looked == ["ord_1"]
    if state != "paid":
        expect(element).not_to_contain_text("Thank you")


def test_pending_then_paid(stub: Stub, page: Page) -> None:
    """The element waits, and says paid when the API does, not before."""
    stub.body, stub.states = STATUS, {"ord_1": "pending"}
    visit(page, stub, "/?order_id=ord_1")
    element = page.locator("pf-order-status")
    expect(element).to_contain_text("Waiting for the payment")
    expect(element).not_to_contain_text("Paid")
    stub.states["ord_1"] = "paid"
    expect(element).to_contain_text("Paid", timeout=10_000)


def test_it_is_announced(stub: Stub, page: Page) -> None:
    """The element is a polite live region as a whole, or has the page's own in it; unchanged words stay untouched."""
    stub.body, stub.states = STATUS + "<pf-order-status><p role=status></p></pf-order-status>", {"ord_1": "pending"}
    visit(page, stub, "/?order_id=ord_1")
    expect(page.locator("pf-order-status").first).to_contain_text("Waiting")
    assert page.evaluate(
        """() => [...document.querySelectorAll("[role=status]")].map((e) => [e.localName, e.ariaLive, e.ariaAtomic])"""
    ) == [["pf-order-status", "polite", "true"], ["p", "polite", "true"]]
    page.evaluate(
        """() => { window.changes = 0; new MutationObserver((all) => { window.changes += all.length; }).observe(
             document.querySelector("pf-order-status"), {childList: true, characterData: true, subtree: true}); }"""
    )
    seen = len(stub.looked)
    wait_for(page, lambda: len(stub.looked) > seen + 1)
    assert page.evaluate("changes") == 0


def test_the_pages_own_parts(stub: Stub, page: Page) -> None:
    """Parts that the page has are filled, wherever they are inside, and none is made besides; the id may be given."""
    parts = "".join(f"<p data-pf-{name}></p>" for name in ("text", "order", "changed"))
    stub.body = (
        f'<pf-order-status order-id="ord_1"><section><h1 data-pf-heading></h1>{parts}'
        "<button data-pf-retry hidden>Again</button></section></pf-order-status>"
    )
    stub.states = {"ord_1": "refunded"}
    visit(page, stub, "/?order_id=ord_other")
    expect(page.get_by_role("heading", level=1)).to_have_text("Refunded")
    expect(page.locator("[data-pf-order]")).to_have_text("ord_1")
    expect(page.locator("[data-pf-changed]")).to_contain_text("2026")
    assert page.locator("pf-order-status > *").count() == 1


def test_the_parts_of_a_page_that_comes_slowly(stub: Stub, page: Page) -> None:
    """A script that is there before its element has been read to the end waits for the end."""
    stub.head = '<script src="/pocketsflow-checkout.js" data-api="{api}"></script>'
    stub.body = '<pf-order-status><script src="/slow.js"></script><h1 data-pf-heading></h1></pf-order-status>'
    stub.files["slow.js"] = ""
    stub.states = {"ord_1": "paid"}
    visit(page, stub, "/?order_id=ord_1")
    expect(page.get_by_role("heading", level=1)).to_have_text("Paid")
    assert page.get_by_role("heading").count() == 1


def test_no_order_and_one_that_is_not_there(stub: Stub, page: Page) -> None:
    """Without an id nothing is asked; an id that somebody made up is not found, whatever characters it has."""
    stub.body = STATUS
    visit(page, stub)
    expect(page.locator("pf-order-status")).to_have_attribute("status", "no_order")
    assert stub.looked == []
    visit(page, stub, "/?order_id=%3Cimg%20src%3Dx%3E%2F..%2Fx")
    expect(page.locator("pf-order-status")).to_have_attribute("status", "not_found")
    expect(page.locator("[data-pf-order]")).to_have_text("<img src=x>/../x")
    expect(page.get_by_role("button", name="Check again")).to_be_visible()


def test_a_wrong_address_is_not_a_missing_order(stub: Stub, page: Page) -> None:
    """A 404 that is not the API's word about an order says nothing about the order."""
    stub.body, stub.status_at_first = STATUS, [message(404, "Not Found")]
    stub.states = {"ord_1": "paid"}
    visit(page, stub, "/?order_id=ord_1")
    element = page.locator("pf-order-status")
    expect(element).to_contain_text("Asking the shop. The shop is slow to answer. Trying again...")
    expect(element).to_have_attribute("status", "paid")


def test_polling_slows_down_and_has_a_bound(stub: Stub, page: Page) -> None:
    """Two minutes of an unpaid order: some 27 questions, then what to do next, and no more until the buyer asks again;
    then the focus is on the heading."""
    stub.body, stub.states = STATUS, {"ord_1": "pending"}
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    element = page.locator("pf-order-status")
    expect(element).to_have_attribute("status", "pending")
    for _ in range(120):
        page.clock.run_for(1000)
        page.wait_for_timeout(10)
    expect(element).to_contain_text("Not confirmed yet")
    expect(element).to_contain_text("do not pay again")
    asked = len(stub.looked)
    assert 20 < asked < 32
    page.clock.run_for(60_000)
    assert len(stub.looked) == asked
    stub.states["ord_1"] = "paid"
    page.get_by_role("button", name="Check again").press("Enter")
    expect(element).to_have_attribute("status", "paid")
    expect(page.get_by_role("heading")).to_be_focused()
    expect(page.locator("[data-pf-retry]")).to_be_hidden()


def test_no_answer_at_all(stub: Stub, page: Page) -> None:
    """A shop that cannot be reached for two minutes: said meanwhile and afterwards, without a claim about the order."""
    stub.body = STATUS
    page.route("**/orders/*", lambda route: route.abort())
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    element = page.locator("pf-order-status")
    expect(element).to_contain_text("Trying again")
    page.clock.run_for(121_000)
    expect(element).to_have_attribute("status", "unreachable")
    expect(element).to_contain_text("do not pay again")


HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {configurable: true, value: hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_page_asks_nothing(stub: Stub, page: Page) -> None:
    """In the background there are no questions, and time there does not count; back in front, they go on."""
    stub.body, stub.states = STATUS, {"ord_1": "pending"}
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    expect(page.locator("[status=pending]")).to_be_visible()
    page.evaluate(HIDE, True)
    page.clock.run_for(600_000)
    assert len(stub.looked) == 1
    page.evaluate(HIDE, False)
    stub.states["ord_1"] = "paid"
    page.clock.run_for(1000)
    expect(page.locator("pf-order-status")).to_have_attribute("status", "paid")


def test_a_status_that_is_throttled(stub: Stub, page: Page) -> None:
    """Retry-After is kept, to the second."""
    stub.body, stub.states = STATUS, {"ord_1": "paid"}
    stub.status_at_first = [problem(503, "ledger_unavailable", Retry_After="20")]
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    expect(page.locator("pf-order-status")).to_contain_text("Trying again")
    page.clock.run_for(19_000)
    assert len(stub.looked) == 1
    page.clock.run_for(2_000)
    expect(page.locator("pf-order-status")).to_have_attribute("status", "paid")


def test_an_element_that_is_taken_away(stub: Stub, page: Page) -> None:
    """Its questions end with it."""
    stub.body, stub.states = STATUS, {"ord_1": "pending"}
    page.clock.install()
    visit(page, stub, "/?order_id=ord_1")
    expect(page.locator("[status=pending]")).to_be_visible()
    page.evaluate("document.querySelector('pf-order-status').remove()")
    page.clock.run_for(30_000)
    assert len(stub.looked) == 1


def test_functions_for_pages_that_draw_themselves(stub: Stub, page: Page) -> None:
    """status() answers once, onStatus() until it is final or stopped, and the element tells the same as an event."""
    stub.body, stub.states = STATUS, {"ord_1": "paid", "ord_2": "pending"}
    visit(page, stub, "/?order_id=ord_none")
    assert page.evaluate("Pocketsflow.status('ord_1')") == {
        "orderId": "ord_1",
        "status": "paid",
        "updatedAt": "2026-11-28T10:00:00Z",
    }
    assert page.evaluate("Pocketsflow.status('ord_none')")["status"] == "not_found"
    stub.status_at_first = [message(500, "Internal Server Error")]
    assert page.evaluate("Pocketsflow.status('ord_1').catch((e) => [e.code, e.status])") == ["http_500", 500]
    news = page.evaluate("new Promise((done) => Pocketsflow.onStatus('ord_1', done))")
    assert (news["orderId"], news["status"], news["failing"]) == ("ord_1", "paid", False)
    page.evaluate(
        "window.calls = 0; window.stop = Pocketsflow.onStatus('ord_2', () => { window.calls += 1; window.stop(); }); 0"
    )
    page.wait_for_function("() => calls > 0")
    page.wait_for_timeout(1500)
    assert page.evaluate("calls") == 1
    told = """new Promise((done) => {
      document.addEventListener("pf-status", (event) => done(event.detail.status));
      document.querySelector("pf-order-status").replaceWith(document.createElement("pf-order-status"));
    })"""
    assert page.evaluate(told) == "checking"


# --- Where it comes from and where it may go --------------------------------------------------------------------------


def test_a_foreign_origin(sandbox: Sandbox, stub: Stub, page: Page) -> None:
    """The real API does not serve a page of an origin that is not allowed, and the page says what is true of it."""
    stub.head = f'<script src="/pocketsflow-checkout.js" data-api="{sandbox.api}"></script>'
    page.route(f"{stub.site.url}/", lambda route: _without_policy(route))
    page.add_init_script(FAST)
    visit(page, stub)
    page.get_by_role("button").click()
    expect(page.locator("[data-pf-kind=error]")).to_have_text(
        "The shop cannot be reached. Please try again. No payment was started.", timeout=10_000
    )


def _without_policy(route: Route) -> None:
    answer = route.fetch()
    kept = {name: value for name, value in answer.headers.items() if name != "content-security-policy"}
    route.fulfill(response=answer, headers=kept)


def test_no_cookies(stub: Stub, context: BrowserContext, page: Page) -> None:
    """None is set, none is kept, even where the API sends one; what is stored is a key, an id and a time."""
    stub.body = BUTTON + STATUS
    visit(page, stub, "/?order_id=ord_1")
    page.get_by_role("button", name="Buy").click()
    order = paying(page, stub)
    assert context.cookies() == []
    visit(page, stub)
    stored = page.evaluate("JSON.parse(localStorage['pocketsflow-checkout'])")
    [intent] = stored.values()
    assert page.evaluate("Object.keys(localStorage)") == ["pocketsflow-checkout"]
    assert intent.keys() == {"key", "orderId", "until"}
    assert intent["orderId"] == order


def test_it_is_small() -> None:
    """Under 4,000 bytes as it travels, unminified."""
    assert len(gzip.compress(SCRIPT.read_bytes(), 9)) < 4000


def test_it_is_plain() -> None:
    """Nothing that a strict policy refuses: no eval, no markup from strings, no inline style; ASCII, so that a page or
    host that names no charset shows the words as they are."""
    assert SCRIPT.read_text().isascii()
    found = re.findall(
        r"eval|Function\(|innerHTML|outerHTML|insertAdjacent|document\.write|\.style|cookie", SCRIPT.read_text()
    )
    assert found == []


def test_types(tmp_path: Path) -> None:
    """A page in TypeScript that is right compiles, by the global and by import; each wrong line is refused."""
    compiler = ROOT / "tests/e2e/node_modules/typescript/bin/tsc"
    node = shutil.which("node")
    if node is None or not compiler.exists():
        pytest.skip("needs node and `npm ci` in tests/e2e (make test does it where npm is)")
    for name in SCRIPT.parent.glob("pocketsflow-checkout.d.*ts"):
        shutil.copy(name, tmp_path)
    shutil.copy(SCRIPT.parent / "pocketsflow-checkout.mjs", tmp_path)

    def errors(source: str) -> list[str]:
        (tmp_path / "page.mts").write_text(source)
        options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"]
        files = ["page.mts", "pocketsflow-checkout.d.ts"]
        told = subprocess.run(
            [node, compiler, *options, *files], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        return re.findall(r"page\.mts\((\d+),", told.stdout) if told.returncode else []

    right = """import pocketsflow, { checkout, onStatus, PocketsflowError } from "./pocketsflow-checkout.mjs";
pocketsflow.api = "https://api.example";
Pocketsflow.texts.paid = ["Bezahlt", "Danke."];
const { orderId, url } = await checkout({ sku: "course", email: "b@b.example", metadata: { a: "7" }, redirect: false });
const stop: () => void = onStatus(orderId, ({ status, failing }) => { if (status === "paid" && !failing) open(url); });
try { await Pocketsflow.checkout({ productId: "000000000000000000c0ffee" }); } catch (error) {
  if (error instanceof PocketsflowError) console.log(error.code, error.retryAfter);
}
document.querySelector("button")!.addEventListener("pf-error", (event) => { if (event.detail.message) stop(); });
"""
    assert errors(right) == []
    wrong = """import { checkout, status } from "./pocketsflow-checkout.mjs";
await checkout({});
await checkout({ sku: "a", price: "1.00" });
await checkout({ sku: "a", metadata: { cart: 7 } });
if ((await status("x")).status === "payed") console.log();
Pocketsflow.texts.paid = "Paid";
"""
    assert errors(wrong) == ["2", "3", "4", "5", "6"]


def test_the_snippets_of_the_docs(sandbox: Sandbox, stub: Stub, page: Page) -> None:
    """The tags of docs/browser.md, copied into a page as they are, buy and say what became of it."""
    html = re.findall(r"```html\n(.*?)```", (ROOT / "docs/browser.md").read_text(), re.DOTALL)
    [texts] = re.findall(r"```js\n(.*?)```", (ROOT / "docs/browser.md").read_text(), re.DOTALL)
    assert len(html) == 3
    stub.files["page.js"] = texts
    stub.states = {"ord_1": "paid"}
    stub.head = '<meta charset="utf-8"><script src="/page.js"></script>'
    for button in (html[0], html[0].splitlines()[0] + html[2]):
        stub.body = (button + html[1]).replace("http://localhost:8001", "{api}")
        visit(page, stub, "/?order_id=ord_1")
        expect(page.get_by_role("heading")).to_have_text("Bezahlt")
        page.get_by_role("button", name="Buy").click()
        paying(page, stub)
    assert stub.asked[1].content["sku"] == "course"


def test_what_the_docs_name() -> None:
    """Every attribute, part, text and state that docs/browser.md names is the script's, and none is missing."""
    script, docs = SCRIPT.read_text(), (ROOT / "docs/browser.md").read_text()
    parts = {f"data-pf-{name}" for name in re.findall(r'put\("(\w+)"', script)}
    read = {"data-pf-sku", "data-pf-message", "data-pf-kind", "data-pf-metadata", *parts}
    passed = {"data-pf-email", "data-pf-discount", "data-pf-success-url", "data-pf-cancel-url"}
    assert set(re.findall(r"data-pf-[a-z-]+", docs)) == read | passed
    states = re.findall(r"^    (\w+): \[", script, re.MULTILINE)
    table = docs.partition("| `status` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(states)


def test_the_integrity_that_the_build_prints(page: Page, stub: Stub) -> None:
    """A tag with the attribute that `make build` prints is accepted by the browser; with another it is not."""
    [recipe] = re.findall(r"^\t@(python -c .*integrity.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = subprocess.run(
        ["bash", "-c", recipe], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    ).stdout  # fmt: skip
    [integrity] = re.findall(r'integrity="sha384-[A-Za-z0-9+/=]{64}"', told)
    stub.head = TAG.replace("async", f"async {integrity}")
    visit(page, stub)
    stub.head = TAG.replace("async", f"async {integrity.replace('sha384-', 'sha384-AAAA')}")
    page.goto(stub.site.url)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.Pocketsflow?.checkout ?? null") is None


# --- What a reader's attack showed ------------------------------------------------------------------------------------


def test_each_lone_button_has_a_message_of_its_own(stub: Stub, page: Page) -> None:
    """The paragraph that is made for one button is not the other's, and is found again by its own."""
    stub.body = "".join(
        f'<section id="{name.lower()}"><button data-pf-sku="{name}">{name}</button></section>' for name in "AB"
    )
    stub.at_first = [problem(400, "one"), problem(400, "two"), problem(400, "three")]
    visit(page, stub)
    for name, code in (("A", "one"), ("B", "two"), ("A", "three")):
        page.get_by_role("button", name=name).click()
        expect(page.locator(f"#{name.lower()}")).to_contain_text(code)
    assert page.locator("p[role=status]").count() == 2
    expect(page.locator("#a")).not_to_contain_text("one")


def test_a_form_without_validation_and_an_empty_file(stub: Stub, page: Page) -> None:
    """`novalidate` is the page's choice, and a file is no field of an order."""
    fields = '<input name="customerEmail" required><input type="file" name="upload">'
    stub.body = (FORM % (fields + BUTTON)).replace("<form", "<form novalidate")
    visit(page, stub)
    page.get_by_role("button", name="Buy").click()
    paying(page, stub)
    assert stub.asked[0].content.keys() == {"sku", "metadata"}


def test_an_address_that_no_browser_takes(stub: Stub, page: Page) -> None:
    """The buyer is told in words of the page's, not of the browser's."""
    stub.url = "https://["
    visit(page, stub)
    page.get_by_role("button").click()
    expect_message(page, "The checkout cannot be opened now (SyntaxError). Please try again.")


def test_the_words_of_a_status_claim_nothing(stub: Stub, page: Page) -> None:
    """What could not be asked is no statement about money."""
    visit(page, stub)
    stub.status_at_first = [message(500, "x")]
    told = page.evaluate("Pocketsflow.status('ord_paid').catch((error) => error.message)")
    assert told.strip() == "The shop cannot be reached. Please try again."


def test_a_retry_is_of_the_same_order_whatever_another_tab_forgets(stub: Stub, context: BrowserContext) -> None:
    """A's answer is lost, B pays the same order and forgets its key; A's own retry makes no second order."""
    a, b = context.new_page(), context.new_page()
    held: list[Route] = []

    def lose_the_first(route: Route) -> None:
        if held:
            return route.continue_()
        route.fetch()
        held.append(route)
        return None

    a.route("**/checkout", lose_the_first)
    visit(a, stub)
    visit(b, stub)
    a.get_by_role("button").click()
    wait_for(a, lambda: held)
    b.get_by_role("button").click()
    stub.states[paying(b, stub)] = "paid"
    stub.body = BUTTON + STATUS
    visit(b, stub, f"/?order_id={next(iter(stub.states))}")
    expect(b.locator("[status=paid]")).to_be_visible()
    held[0].abort("connectionreset")
    paying(a, stub)
    assert len(stub.orders) == 1


def test_a_full_storage(stub: Stub, page: Page) -> None:
    """With a record of another intent in it: nothing stale is read again, and a lost answer makes no second order."""
    visit(page, stub)
    page.evaluate("Pocketsflow.checkout({sku: 'print', redirect: false})")
    page.evaluate(
        """() => {
          for (let text = "x".repeat(1 << 20), n = 0; text; n++) {
            try { localStorage["fill" + n] = text; } catch { text = text.slice(text.length / 2 + 1 | 0); }
          }
        }"""
    )
    first, again = (page.evaluate("Pocketsflow.checkout({sku: 'course', redirect: false})") for _ in range(2))
    assert first["orderId"] == again["orderId"]


def test_the_button_and_the_function_mean_the_same(stub: Stub, page: Page) -> None:
    """One intent, by whichever way it was said."""
    visit(page, stub)
    made = page.evaluate("Pocketsflow.checkout({sku: 'course', redirect: false})")
    page.get_by_role("button").click()
    assert paying(page, stub) == made["orderId"]


def test_a_button_outside_of_its_form(stub: Stub, page: Page) -> None:
    """`form=` names it, and what the buyer typed there is sent."""
    stub.body = FORM.replace("<form", '<form id="f"') % '<input name="discountCode" value="SAVE10">'
    stub.body += '<button form="f" data-pf-sku="course" aria-disabled="false">Buy</button>'
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)
    assert stub.asked[0].content["discountCode"] == "SAVE10"


def test_an_unsolved_challenge_is_no_token(stub: Stub, page: Page) -> None:
    """The widget's empty field is left out, as in a plain form."""
    stub.body = FORM % ('<input name="cf-turnstile-response" value="">' + BUTTON)
    visit(page, stub)
    page.get_by_role("button", name="Buy").click()
    paying(page, stub)
    assert "challengeToken" not in stub.asked[0].content


def test_a_retry_after_that_is_negative(stub: Stub, page: Page) -> None:
    """It hurries nothing."""
    stub.at_first = [problem(429, "too_many_checkouts", Retry_After="-5")] * 100
    visit(page, stub)
    page.get_by_role("button").click()
    page.wait_for_timeout(2500)
    assert 1 <= len(stub.asked) < 5


def test_a_tag_with_the_address_after_one_without(stub: Stub, page: Page) -> None:
    """Whichever comes first."""
    stub.head = '<script src="/pocketsflow-checkout.js"></script>' + TAG
    visit(page, stub)
    page.get_by_role("button").click()
    paying(page, stub)


def test_a_disabled_button(stub: Stub, page: Page) -> None:
    """Whatever is clicked inside of it, by whom."""
    stub.body = FORM % '<fieldset disabled><button data-pf-sku="course">Buy <span>now</span></button></fieldset>'
    visit(page, stub)
    page.evaluate("document.querySelector('span').click()")
    page.wait_for_timeout(500)
    assert stub.asked == []
