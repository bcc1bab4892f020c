"""The developer's page of the sandbox: every order's way, live, whatever buyers write into it; and the API's viewer."""

import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from sandbox import aws
from sandbox.pocketsflow import API_KEY, WEBHOOK_SECRET
from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, http

COURSE = "000000000000000000c0ffee"
AXE = ROOT / "tests/e2e/node_modules/axe-core/axe.min.js"
CONTRACT = ROOT / "infra/openapi.yaml"
SIZES = [(width, scheme) for width in (320, 1280) for scheme in ("light", "dark")]
PROVOKED = ("net::ERR_FAILED", "a status of 502 (Bad Gateway)")
"""What the console says of requests that a test had fail."""
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
LONG = "w" * 400
RIGHT_TO_LEFT = "\u202eמרחבא שלום\u2066"


def get(sandbox: Sandbox, path: str, **headers: str) -> requests.Response:
    return http.get(f"{sandbox.api}/_sandbox/{path}", headers=headers, timeout=30)


def listed(sandbox: Sandbox) -> Any:
    return get(sandbox, "orders").json()


def way(sandbox: Sandbox, order_id: str) -> Any:
    return get(sandbox, f"ways/{order_id}").json()


def pocketsflow(sandbox: Sandbox, path: str, content: Any = None) -> Any:
    """A request of the merchant to Pocketsflow's API."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    method = "GET" if content is None else "POST"
    answer = http.request(method, f"{sandbox.pocketsflow}/{path}", json=content, headers=headers, timeout=30)
    answer.raise_for_status()
    return answer.json()


def send_unmatched(sandbox: Sandbox) -> str:
    """Pocketsflow delivers a payment of no order of ours; its order id there."""
    [endpoint, *_] = pocketsflow(sandbox, "webhooks")
    pocketsflow(sandbox, f"webhooks/{endpoint['_id']}/test", {})
    log = http.get(f"{sandbox.pocketsflow}/_sandbox/deliveries", timeout=15).json()
    identity: str = log[-1]["orderId"]
    return identity


def eventually(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 30
    while not wanted(seen := read()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen


def kinds(told: Any) -> list[str]:
    return [step["kind"] for step in told["steps"]]


# --- Without a browser ------------------------------------------------------------------------------------------------


def test_newest_first(sandbox: Sandbox) -> None:
    """A new order is the first of the list, with what was ordered."""
    older, _ = sandbox.order()
    created = sandbox.checkout({"sku": "print"}).json()
    first, second = listed(sandbox)["orders"][:2]
    assert (first["id"], second["id"]) == (created["orderId"], older)
    assert (first["sku"], first["price"], first["currency"], first["status"]) == ("print", "120.00", "usd", "pending")


def test_the_status_is_the_api_s(sandbox: Sandbox) -> None:
    """For every kind of order the list says what GET /orders says."""
    orders = {"pending": sandbox.order()[0]}
    for status, content in (("paid", None), ("mismatched", {"productId": "000000000000000000facade"})):
        orders[status], session_id = sandbox.order()
        sandbox.pay(session_id, content)
    orders["refunded"], session_id = sandbox.order()
    pocketsflow(sandbox, "refunds", {"orderId": sandbox.pay(session_id)})
    eventually(lambda: sandbox.status(orders["refunded"]), lambda status: status == "refunded")
    told = {order["id"]: order["status"] for order in listed(sandbox)["orders"]}
    assert {status: told[order_id] for status, order_id in orders.items()} == {status: status for status in orders}
    assert {status: sandbox.status(order_id) for status, order_id in orders.items()} == {each: each for each in orders}


def test_the_way_of_an_order(sandbox: Sandbox) -> None:
    """From the checkout to the bus, cause before effect, with the bodies as they came and the ledger's own record."""
    order_id, session_id = sandbox.order()
    payment = sandbox.pay(session_id)
    told = eventually(lambda: way(sandbox, order_id), lambda told: "event" in kinds(told))
    assert kinds(told) == ["opened", "session", "paid", "delivery", "fact", "event"]
    _, session, paid, delivery, fact, event = told["steps"]
    assert (session["id"], paid["id"], told["winner"]) == (session_id, payment, f"pay#{payment}")
    assert (delivery["event"], delivery["status"], delivery["outcome"]) == ("order.completed", 200, "settled")
    assert len(delivery["headers"]["X-Pocketsflow-Signature"]) < 20
    assert (fact["source"], fact["raw"]) == ("webhook", delivery["body"])
    assert (event["type"], event["revision"], event["detail"]["order_id"]) == ("order.paid", 1, order_id)
    assert told["records"][f"order#{order_id}"] == sandbox.record(order_id)


def test_no_webhook(sandbox: Sandbox) -> None:
    """A payment of which the webhook got lost is seen all the same, and its delivery as dropped."""
    order_id, session_id = sandbox.order()
    sandbox.faults(drop=True)
    sandbox.pay(session_id)
    told = way(sandbox, order_id)
    assert kinds(told)[:4] == ["opened", "session", "paid", "delivery"]
    assert told["steps"][3]["error"] == "dropped"


def test_a_refund_finds_its_order(sandbox: Sandbox) -> None:
    """A refund's webhook names no order of ours: it is joined by Pocketsflow's order."""
    order_id, session_id = sandbox.order()
    pocketsflow(sandbox, "refunds", {"orderId": sandbox.pay(session_id)})
    told = eventually(lambda: way(sandbox, order_id), lambda told: told["steps"][-1].get("type") == "order.refunded")
    assert [step["event"] for step in told["steps"] if step["kind"] == "delivery"] == [
        "order.completed",
        "order.refunded",
    ]
    assert {"refunded", "fact", "event"} <= {*kinds(told)}


def test_a_checkout_that_failed(sandbox: Sandbox) -> None:
    """Why there is no session."""
    sandbox.faults(http_status=400)
    sandbox.checkout()
    order = listed(sandbox)["orders"][0]
    assert order["error"] == "pocketsflow_refused"
    assert way(sandbox, order["id"])["steps"][1]["error"] == "pocketsflow_refused"


def test_what_belongs_to_no_order(sandbox: Sandbox) -> None:
    """An unmatched payment and what the ledger keeps of it are listed apart, newest first, and counted."""
    before = listed(sandbox)["without"]
    identity = send_unmatched(sandbox)
    steps = get(sandbox, "ways/").json()["steps"]
    mine = [step for step in steps if identity in json.dumps(step)]
    assert {step["kind"] for step in mine} >= {"delivery", "fact"}
    assert [step["at"] for step in steps] == sorted((step["at"] for step in steps), reverse=True)
    assert listed(sandbox)["without"] >= before + 2


def test_while_the_ledger_is_down(sandbox: Sandbox) -> None:
    """Faults are the functions': the page goes on showing what happens."""
    order_id, session_id = sandbox.order()
    faults = f"{sandbox.api}/_sandbox/faults"
    http.post(faults, json={"dynamodb": {"kind": "down", "seconds": 60}}, timeout=15).raise_for_status()
    try:
        sandbox.pay(session_id)
        told = way(sandbox, order_id)
        assert (told["status"], told["steps"][-1]["outcome"]) == ("pending", "parked")
    finally:
        http.post(faults, json={}, timeout=15)
    eventually(lambda: way(sandbox, order_id), lambda told: told["status"] == "paid" and "event" in kinds(told))


def test_nothing_new_costs_nothing(sandbox: Sandbox) -> None:
    """304 while nothing has changed, and a new version once an order is there."""
    version = ""

    def ask() -> requests.Response:
        nonlocal version
        answer = get(sandbox, "orders", **{"If-None-Match": version})
        version = answer.headers["ETag"]
        return answer

    unchanged = eventually(ask, lambda answer: answer.status_code == 304)
    assert unchanged.content == b""
    sandbox.order()
    changed = get(sandbox, "orders", **{"If-None-Match": version})
    assert (changed.status_code, changed.headers["ETag"] != version) == (200, True)


@pytest.mark.parametrize("path", ["", "orders", "ways/", "orders.js", "openapi/", "openapi/viewer.js"])
def test_not_for_other_machines(sandbox: Sandbox, path: str) -> None:
    """A page of the internet that the developer has open reads nothing here: neither by its origin nor by a name that
    resolves to this machine."""
    assert get(sandbox, path).status_code == 200
    assert get(sandbox, path, Origin="https://evil.example").status_code == 403
    assert get(sandbox, path, Origin="null").status_code == 403
    assert get(sandbox, path, Host="evil.example").status_code == 421
    assert "access-control-allow-origin" not in get(sandbox, path, Origin=sandbox.shop).headers


@pytest.mark.parametrize("path", ["ways/ord_sandbox_x", "ways/..%2fbus", "openapi/index.css", "openapi/..%2forders.js"])
def test_nothing_else_is_there(sandbox: Sandbox, path: str) -> None:
    """No order that is none, and no file but those of the pages."""
    assert get(sandbox, path).status_code == 404


@pytest.mark.parametrize("path", ["", "openapi/"])
def test_policy(sandbox: Sandbox, path: str) -> None:
    """Neither page may run or load what is not the sandbox's own, nor be framed."""
    headers = get(sandbox, path).headers
    policy = headers["Content-Security-Policy"]
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= {*policy.split("; ")}
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A new window at a width, in a scheme; whatever the console says against the page fails the test."""
    complaints: list[str] = []
    contexts = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.endswith(PROVOKED):
            complaints.append(message.text)

    def opened(width: int = 1280, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def step(page: Page, kind: str) -> Any:
    return page.locator(f".step[data-kind={kind}]")


def row(page: Page, order_id: str) -> Any:
    return page.locator(f"#list a[href='#{order_id}']")


def overflow(page: Page) -> int:
    """Pixels that the page, or a pane of it, is wider than it should be."""
    widest: int = page.evaluate(
        "Math.max(...[document.documentElement, ...document.querySelectorAll('#list, #detail, pre, details')]"
        ".map((each) => each.scrollWidth - each.clientWidth))"
    )
    return widest


def violations(page: Page) -> list[Any]:
    if not AXE.exists():
        pytest.skip("needs npm's axe-core")
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]


def test_an_order_appears_and_completes(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """Live: the order, then its payment's delivery, fact and event, on the page that was open all the time."""
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/")
    page.evaluate("window.sameDocument = true")
    order_id, session_id = sandbox.order()
    row(page, order_id).click()
    expect(page.locator("#detail .pill")).to_have_text("pending")
    expect(step(page, "waiting")).to_have_text("…Waiting for the buyer to pay")
    sandbox.pay(session_id)
    expect(step(page, "event")).to_contain_text("order.paid")
    expect(step(page, "event")).to_contain_text("revision 1")
    expect(step(page, "delivery")).to_contain_text("HTTP 200")
    expect(step(page, "delivery")).to_contain_text("settled")
    expect(step(page, "fact")).to_contain_text("by webhook")
    expect(step(page, "waiting")).to_have_count(0)
    expect(page.locator("#detail .pill")).to_have_text("paid")
    expect(row(page, order_id)).to_contain_text("paid")
    expect(page.locator(".rail [data-tone=ok]")).to_have_count(6)
    expect(page).to_have_title("paid · course · Sandbox orders")
    assert page.evaluate("window.sameDocument")


def test_by_link(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """An order's address shows it, and its body as it was signed: not a number of it is rewritten."""
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/#{order_id}")
    expect(page.locator("#detail .under code")).to_have_text(order_id)
    expect(row(page, order_id)).to_have_attribute("aria-current", "true")
    page.get_by_text("Body, ").click()
    shown = page.locator("details[open] pre").inner_text()
    [delivery] = [each for each in way(sandbox, order_id)["steps"] if each["kind"] == "delivery"]
    assert '\n  "amount": 49.00,\n' in shown
    assert json.loads(shown) == json.loads(delivery["body"])
    page.goto(f"{sandbox.api}/_sandbox/#ord_sandbox_%3Cb%3E")
    page.reload()
    expect(page.locator("#detail")).to_contain_text("There is no order ord_sandbox_<b> here")


def test_where_there_is_room(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """Who has chosen no order sees the newest beside the list, and goes on seeing that one; on a telephone the list."""
    order_id, _ = sandbox.order()
    wide, narrow = visit(1280), visit(320)
    for page in (wide, narrow):
        page.goto(f"{sandbox.api}/_sandbox/")
    expect(wide.locator("#detail .under code")).to_have_text(order_id)
    newer, _ = sandbox.order()
    expect(row(wide, newer)).to_be_visible()
    expect(wide.locator("#detail .under code")).to_have_text(order_id)
    expect(row(narrow, newer)).to_be_visible()
    expect(narrow.locator("#detail")).to_be_hidden()


def test_money_that_needs_a_person(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """A second payment shows at its order, an unmatched one in the list of what has none."""
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/#{order_id}")
    expect(step(page, "event")).to_have_count(1)
    sandbox.pay(session_id)
    expect(step(page, "delivery").nth(1)).to_contain_text("second payment")
    expect(step(page, "event").nth(1)).to_contain_text("payment.second")
    expect(step(page, "event").nth(1)).to_contain_text("a person is told")
    expect(page.locator(".rail")).to_contain_text("second payment")
    page.get_by_role("link", name="Without an order").click()
    identity = send_unmatched(sandbox)
    expect(step(page, "delivery").first).to_contain_text("unmatched")
    expect(step(page, "fact").filter(has_text=identity)).to_contain_text("Payment stored")


def test_what_cannot_be_drawn_hides_nothing(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """A signed body without end, and an event whose id is a number: both are there, and so is everything else."""
    body = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    signature = hmac.digest(WEBHOOK_SECRET.encode(), body, "sha256").hex()
    headers = {"Content-Type": "application/json", "X-Pocketsflow-Signature": signature}
    http.post(f"{sandbox.api}/webhooks/pocketsflow", data=body, headers=headers, timeout=30).raise_for_status()
    order_id, _ = sandbox.order()
    events = aws.client("events", sandbox.aws)
    entry = {"Source": "x", "DetailType": "odd", "EventBusName": "pocketsflow-sandbox"}
    detail = json.dumps({"order_id": order_id, "id": 5, "revision": {"a": 1}})
    events.put_events(Entries=[{**entry, "Detail": detail}])
    eventually(lambda: kinds(way(sandbox, order_id)), lambda found: "event" in found)
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/#without-order")
    expect(step(page, "fact").filter(has_text="unreadable").first).to_be_visible()
    page.goto(f"{sandbox.api}/_sandbox/#{order_id}")
    expect(page.locator("#detail .under code")).to_have_text(order_id)  # until then it shows what has no order
    expect(step(page, "event")).to_contain_text("odd")
    expect(step(page, "opened")).to_be_visible()


@pytest.mark.parametrize("width", [320, 1280])
def test_hostile_text(sandbox: Sandbox, visit: Callable[..., Page], width: int) -> None:
    """What buyers and products are called is text: it runs nothing, turns nothing round and widens nothing."""
    content = {
        "sku": "course",
        "customerEmail": f"{'m' * 60}@{'d' * 60}.example.com",
        "metadata": {"<script>": HOSTILE, "long": LONG, "rtl": RIGHT_TO_LEFT},
    }
    [product] = [each for each in pocketsflow(sandbox, "products") if each["_id"] == COURSE]
    try:
        pocketsflow(sandbox, f"products/update/{COURSE}", {"name": f"{HOSTILE} {LONG} {RIGHT_TO_LEFT}"})
        created = sandbox.checkout(content).json()
        sandbox.pay(created["sessionId"])
        page = visit(width)
        page.goto(f"{sandbox.api}/_sandbox/#{created['orderId']}")
        expect(step(page, "event")).to_have_count(1)
        for block in page.locator("details > summary").all():
            block.click()
        expect(page.locator("h2")).to_contain_text(HOSTILE)
        shown = page.locator("#detail").inner_text()
        assert json.dumps(HOSTILE)[1:-1] in shown
        assert "\\u202eמרחבא" in page.locator(".step[data-kind=opened] pre").inner_text()
        assert page.locator("#detail img, #detail script").count() == 0
        assert "owned" not in page.title()
        assert overflow(page) <= 0
        page.screenshot(path=ROOT / f"artifacts/orders-hostile-{width}.png", full_page=True)
    finally:
        pocketsflow(sandbox, f"products/update/{COURSE}", {"name": product["name"]})


def test_what_a_reader_opened_stays(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """Updates leave open what is open, focus where it is and the page where it was scrolled to; so does a new order in
    the list."""
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/#{order_id}")
    expect(step(page, "event")).to_have_count(1)
    opened = step(page, "delivery").locator("details").first
    opened.locator("summary").click()
    record = page.locator(".records details").first
    record.locator("summary").focus()
    page.keyboard.press("Enter")
    page.locator("#detail").evaluate("(pane) => pane.scrollTo(0, 300)")
    before = step(page, "delivery").first.bounding_box()
    second = sandbox.pay(session_id)
    expect(step(page, "event")).to_have_count(2)
    expect(record.locator("pre")).to_contain_text(f'"pay#{second}"')
    expect(opened).to_have_attribute("open", "")
    expect(record).to_have_attribute("open", "")
    expect(record.locator("summary")).to_be_focused()
    assert step(page, "delivery").first.bounding_box() == before

    row(page, order_id).focus()
    newer, _ = sandbox.order()
    expect(row(page, newer)).to_be_visible()
    expect(row(page, order_id)).to_be_focused()


def test_keyboard(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """The list is walked with arrows and chosen from with Enter; on a telephone focus goes to the order, and back."""
    older, _ = sandbox.order()
    newer, _ = sandbox.order()
    page = visit(320)
    page.goto(f"{sandbox.api}/_sandbox/")
    row(page, newer).focus()
    page.keyboard.press("ArrowDown")
    expect(row(page, older)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h2")).to_be_focused()
    expect(page.locator("#list")).to_be_hidden()
    page.get_by_role("link", name="All orders").click()
    expect(row(page, older)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(row(page, newer)).to_be_focused()


def test_a_sandbox_that_is_gone(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """The page says that what it shows is old, keeps it, and goes on when the sandbox is back."""
    order_id, session_id = sandbox.order()
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/#{order_id}")
    expect(page.locator("#live")).to_have_text("Live")
    expect(step(page, "session")).to_be_visible()
    for answer, said in (
        (lambda route: route.abort(), "Sandbox gone since"),
        (lambda route: route.fulfill(status=502), "answers 502"),
    ):
        page.route("**/_sandbox/orders", answer)
        expect(page.locator("#live")).to_contain_text(said)
        expect(step(page, "session")).to_be_visible()
        page.unroute("**/_sandbox/orders")
    sandbox.pay(session_id)
    expect(page.locator("#live")).to_have_text("Live")
    expect(step(page, "event")).to_have_count(1)


def test_a_hidden_tab_asks_nothing(sandbox: Sandbox, visit: Callable[..., Page]) -> None:
    """Nobody looks, nobody asks; who looks again sees at once what has happened."""
    page = visit()
    page.goto(f"{sandbox.api}/_sandbox/")
    expect(page.locator("#live")).to_have_text("Live")
    with page.expect_request("**/_sandbox/orders"):  # it does ask
        pass
    show = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.evaluate(show, True)
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    order_id, _ = sandbox.order()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate(show, False)
    expect(row(page, order_id)).to_be_visible(timeout=2000)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_for_everybody(sandbox: Sandbox, visit: Callable[..., Page], width: int, scheme: str) -> None:
    """axe finds nothing wrong with the list, an order with everything open, and what has none; nothing is wider than
    the window. Screenshots are kept in artifacts/."""
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    sandbox.pay(session_id)
    pending, _ = sandbox.order()
    send_unmatched(sandbox)
    page = visit(width, scheme)
    for name, address in (("list", ""), ("way", order_id), ("pending", pending), ("without", "without-order")):
        page.goto(f"{sandbox.api}/_sandbox/#{address}")
        page.reload()
        expect(page.locator("#live")).to_have_text("Live")
        if name == "way":
            expect(step(page, "event")).to_have_count(2)
        elif address:
            expect(page.locator("h2")).to_be_visible()
        page.screenshot(path=ROOT / f"artifacts/orders-{name}-{width}-{scheme}.png", full_page=True)
        for block in page.locator("details > summary").all():
            block.click()
        assert violations(page) == []
        assert overflow(page) <= 0


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("chosen", [True, False])
def test_light_and_still(sandbox: Sandbox, visit: Callable[..., Page], width: int, chosen: bool) -> None:
    """The whole page weighs less than 50 kB, comes from the sandbox alone, and nothing moves while it loads."""
    order_id, session_id = sandbox.order()
    sandbox.pay(session_id)
    eventually(lambda: way(sandbox, order_id), lambda told: "event" in kinds(told))
    page = visit(width)
    loaded: list[Any] = []
    page.on("response", lambda response: loaded.append(response))
    page.add_init_script(
        "window.moved = []; new PerformanceObserver((list) => { for (const each of list.getEntries())"
        " for (const source of each.sources) window.moved.push(source.node?.outerHTML ?? source.node?.textContent);"
        " }).observe({ type: 'layout-shift', buffered: true });"
    )
    page.route(  # nothing new comes meanwhile
        "**/_sandbox/orders",
        lambda route: route.fulfill(status=304) if "if-none-match" in route.request.headers else route.continue_(),
    )
    page.goto(f"{sandbox.api}/_sandbox/{'#' + order_id if chosen else ''}", wait_until="networkidle")
    expect(step(page, "event") if chosen else page.locator("#live")).to_be_visible()
    page.wait_for_timeout(500)
    assert page.evaluate("window.moved") == []
    assert all(response.url.startswith(f"{sandbox.api}/_sandbox/") for response in loaded)
    files = {each.url: len(each.body()) for each in loaded if "json" not in each.headers.get("content-type", "json")}
    assert len(files) == 4
    assert sum(files.values()) < 50_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_viewer(sandbox: Sandbox, visit: Callable[..., Page], scheme: str) -> None:
    """Every operation of the contract is shown, without a word of the console, and tried here against this sandbox."""
    if not CONTRACT.exists():
        pytest.skip("needs infra/openapi.yaml")
    contract = yaml.safe_load(CONTRACT.read_text())
    methods = ("get", "put", "post", "delete", "options", "head", "patch")
    operations = {(method, path) for path, item in contract["paths"].items() for method in methods if method in item}
    order_id, _ = sandbox.order()
    page = visit(1280, scheme)
    page.goto(f"{sandbox.api}/_sandbox/openapi/")
    expect(page.locator(".opblock")).to_have_count(len(operations))
    shown = {
        (
            each.locator(".opblock-summary-method").inner_text().lower(),
            each.locator("[data-path]").get_attribute("data-path"),
        )
        for each in page.locator(".opblock").all()
    }
    page.screenshot(path=ROOT / f"artifacts/viewer-{scheme}.png")
    assert shown == operations
    status = page.locator(".opblock-get", has=page.locator("[data-path='/orders/{orderId}']"))
    status.locator(".opblock-summary-control").click()
    status.locator("input").first.fill(order_id)
    with page.expect_response(f"{sandbox.api}/orders/{order_id}") as answer:
        status.get_by_role("button", name="Execute").click()
    assert answer.value.status == 200
    expect(status.locator(".live-responses-table")).to_contain_text('"status": "pending"')


def test_the_contract_is_served_as_it_is(sandbox: Sandbox) -> None:
    """What the viewer and every other tool reads is the file itself."""
    if not CONTRACT.exists():
        pytest.skip("needs infra/openapi.yaml")
    answer = get(sandbox, "openapi.yaml")
    assert (answer.content, answer.headers["Content-Type"]) == (CONTRACT.read_bytes(), "application/yaml")
