"""GET /shopify/checkout: from a page of the Shopify shop to the checkout of the buyer's order, and of no other."""

import itertools
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

import shopify_checkout
from connectors import shopify, shopify_admin, shopify_proxy
from payments import forms
from sandbox.platforms import shopify as stand_in
from sandbox.platforms.shopify import CLIENT_SECRET, PREFIX, SHOP, Platform
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.connected import Fault, Line
from tests.integration.outages import Told
from tests.payloads import NOW, http_event
from tests.world import Context, World

NUMBER = "5551234567890"
ASKED = {"order": NUMBER, "number": "XPAV284CT"}


@pytest.fixture
def platform() -> Platform:
    made = Platform("https://shop-example.myshopify.com")
    made.order()
    return made


@pytest.fixture
def line(
    cloud: Aws, shop: World, connect: Callable[..., Line], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> Line:
    module = SimpleNamespace(handler=shopify.handler, SECRET_ARN="")
    made = connect(module, platform, shop.clock)
    monkeypatch.setattr(shopify_admin, "SECRET_ARN", module.SECRET_ARN)
    monkeypatch.setattr(shopify_admin, "_granted", None)
    monkeypatch.setattr(shopify_checkout, "SHOP", SHOP)
    monkeypatch.setattr(shopify_checkout, "PRODUCT_PER_ORDER", False)
    monkeypatch.setattr(shopify_checkout, "datetime", shop.clock.datetime)
    return made


def ask(shop: World, platform: Platform, query: str | None = None, **asked: str) -> tuple[int, str]:
    """The status, and where the answer leads or the code on its page."""
    if query is None:
        query = platform.signed({**ASKED, **asked}.items(), shop.clock.time())
    event = {**http_event("GET /shopify/checkout"), "rawQueryString": query}
    answer = shopify_checkout.handler(event, Context(shop.clock, 9))
    assert answer["headers"]["cache-control"] == "no-store"
    [code] = re.findall(r"<small>(\w+)</small>", answer.get("body", "")) or [answer["headers"].get("location", "")]
    return answer["statusCode"], code


def session_of(shop: World, answer: tuple[int, str]) -> tuple[str, dict[str, Any]]:
    status, url = answer
    assert status == 303, url
    identity = url.rpartition("=")[2]
    return identity, shop.account.sessions[identity]


def settle(shop: World, line: Line, session: str, **paid: Any) -> None:
    shop.pay(session, **paid)
    shop.deliver()
    shop.flow()
    line.work(hours=1)


# --- The way ----------------------------------------------------------------------------------------------------------


def test_from_the_pending_order_to_the_paid_one(shop: World, line: Line, platform: Platform):
    """The link leads to a checkout that is held to the order's total; its payment marks that order as paid."""
    session, content = session_of(shop, ask(shop, platform))
    assert content["metadata"]["shopify_order"] == NUMBER
    [order] = [item for pk, item in shop.stack.items().items() if pk.startswith("order#")]
    assert (order["reference"]["S"], order["price"]["S"], order["currency"]["S"]) == (f"shopify-{NUMBER}", "49", "usd")
    assert order["hold_on_difference"]["BOOL"]
    settle(shop, line, session)
    assert platform.orders[NUMBER].status == "PAID"
    assert platform.orders[NUMBER].tags == {"pocketsflow-paid"}


def test_the_same_order_again_is_the_same_session(shop: World, line: Line, platform: Platform):
    """However often the link is opened: one order, one session. Shopify is asked each time, since it may be paid."""
    answers = {ask(shop, platform) for _ in range(3)}
    session_of(shop, *answers)
    assert shop.requests.count("POST /checkout/sessions") == 1


@pytest.mark.parametrize("known", ["here", "there"])
def test_a_paid_order_is_not_sold_again(shop: World, line: Line, platform: Platform, known: str):
    """Neither once Shopify knows of the payment, nor while only the ledger does; nor is one that is mismatched."""
    session, _ = session_of(shop, ask(shop, platform))
    shop.pay(session)
    shop.deliver()
    if known == "there":
        shop.flow()
        line.work()
        assert platform.orders[NUMBER].status == "PAID"
    assert ask(shop, platform) == (409, "shopify_order_paid")
    assert shop.requests.count("POST /checkout/sessions") == 1


def test_a_cart_is_sold_as_a_product_of_its_own(
    shop: World, line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    """With ProductPerOrder a product is made whose price is the order's total, whatever is in it."""
    monkeypatch.setattr(shopify_checkout, "PRODUCT_PER_ORDER", True)
    platform.order(total=Decimal("60.50"), skus=["course", "mug", "mug"])
    session, content = session_of(shop, ask(shop, platform))
    product = shop.account.products[content["productId"]]
    assert (product["name"], product["price"], product["currency"]) == ("Order #7890", Decimal("60.5"), "usd")
    settle(shop, line, session)
    assert platform.orders[NUMBER].status == "PAID"


def test_what_cannot_be_sold_is_not_offered(shop: World, line: Line, platform: Platform, told: Told):
    """Without ProductPerOrder only one unit of a product of the catalogue, at its price: what would be paid would not
    be what the order costs. The merchant is told."""
    for changes in (
        {"skus": ["course", "course"]},
        {"skus": ["mug"]},
        {"skus": []},
        {"total": Decimal("54.00")},
        {"currency": "eur"},
    ):
        platform.order(**changes)
        assert ask(shop, platform) == (409, "shopify_order_not_offered"), changes
    assert told.text().count('"shopify_order_not_offered"') >= 5
    assert "POST /checkout/sessions" not in shop.requests


def test_a_sku_has_no_case(shop: World, line: Line, platform: Platform):
    """Shopify's merchants write them in capitals, the catalogue does not."""
    platform.order(skus=["COURSE"])
    session_of(shop, ask(shop, platform))


def test_what_is_put_into_a_paid_order_is_not_sold(shop: World, line: Line, platform: Platform):
    """It was marked as paid here: nobody would mark the rest, too."""
    order = platform.orders[NUMBER]
    order.pay("manual")
    order.tags, order.total = {shopify_admin.MARKED}, Decimal("60.00")
    assert ask(shop, platform) == (409, "shopify_order_paid")


def test_an_order_that_cannot_be_paid(shop: World, line: Line, platform: Platform):
    """Cancelled, or nothing is owed: no checkout is opened."""
    for changes in ({"is_cancelled": True}, {"total": Decimal(0)}):
        platform.order(**changes)
        assert ask(shop, platform) == (409, "shopify_order_not_payable"), changes


# --- Attacks ----------------------------------------------------------------------------------------------------------


def test_the_signature_of_the_documentation():
    """Shopify's own example, made with the secret `hush`, `extra` twice; shown for shop-name.myshopify.com."""
    query = (
        "extra=1&extra=2&shop=shop-name.myshopify.com&logged_in_customer_id=1&path_prefix=%2Fapps%2Fawesome_reviews"
        "&timestamp=1317327555&signature=4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddb"
    )
    then = NOW.fromtimestamp(1317327555, NOW.tzinfo)
    read = shopify_proxy.read(query, "shop-name.myshopify.com", ["hush"], then)
    assert read is not None
    assert read["path_prefix"] == "/apps/awesome_reviews"
    assert "extra" not in read
    assert shopify_proxy.read(query, "shop-name.myshopify.com", ["rush", "hush"], then)
    assert shopify_proxy.read(query, "shop-name.myshopify.com", ["rush"], then) is None
    assert shopify_proxy.read(query, "shop-name.myshopify.com", [], then) is None


def signed(world: World, *pairs: tuple[str, str], secret: str = CLIENT_SECRET, **own: str) -> str:
    """Signed like Shopify's, whatever it says."""
    now = f"{world.clock.time():.0f}"
    given = {"shop": SHOP, "logged_in_customer_id": "", "path_prefix": PREFIX, "timestamp": now, **own}
    everything = [*ASKED.items(), *pairs, *given.items()]
    return urlencode([*everything, ("signature", stand_in.signature(everything, secret))])


def forged(shop: World) -> dict[str, str]:
    good = signed(shop)
    values = dict(parse_qsl(good, keep_blank_values=True))
    now = shop.clock.time()
    return {
        "no query": "",
        "no signature": good.partition("&signature=")[0],
        "an empty signature": f"{good.partition('&signature=')[0]}&signature=",
        "two signatures": f"{good}&signature={values['signature']}",
        "signature in capitals": good.replace(values["signature"], values["signature"].upper()),
        "another secret": signed(shop, secret="shpss_of-somebody-else-entirely"),
        "an empty secret": signed(shop, secret=""),
        "replayed, old": signed(shop, timestamp=f"{now - 301:.0f}"),
        "from the future": signed(shop, timestamp=f"{now + 61:.0f}"),
        "no time": signed(shop, timestamp=""),
        "time in words": signed(shop, timestamp="now"),
        "negative time": signed(shop, timestamp="-1"),
        "another shop": signed(shop, shop="other.myshopify.com"),
        "two shops": signed(shop, ("shop", "other.myshopify.com")),
        "tampered order": good.replace(NUMBER, "5551234567891"),
        "tampered number": good.replace("XPAV284CT", "XPAV284CU"),
        "one parameter more": f"{good}&more=1",
        "one less": good.replace("logged_in_customer_id=&", ""),
        "a list in one": urlencode({**values, "order": f"{NUMBER},1"}),
        "half a percent": f"{good}%",
        "no UTF-8": f"{good}&x=%ff",
        "too long": f"{good}&x={'x' * 5_000}",
        "too many": f"{good}{''.join(f'&x{number}=' for number in range(99))}",
    }


def test_attack_every_forged_call_is_refused(shop: World, line: Line, platform: Platform):
    """No signature, no entry: nothing is asked of Shopify, nothing is written, nothing is opened."""
    before = shop.stack.items()
    for name, query in forged(shop).items():
        assert ask(shop, platform, query) == (401, "not_from_shopify"), name
    assert (line.requests, shop.requests, shop.stack.items()) == ([], [], before)
    assert ask(shop, platform, signed(shop))[0] == 303


def test_attack_a_repeated_parameter(shop: World, line: Line, platform: Platform):
    """Of an order that is named twice neither is taken: what is signed as a list is no order."""
    platform.order("5551234567891")
    for pair in (("order", "5551234567891"), ("number", "XPAV284CT")):
        assert ask(shop, platform, signed(shop, pair))[1] in ("shopify_order_not_found", "not_from_shopify")
    joined = urlencode({**dict(parse_qsl(signed(shop, ("order", "5551234567891")))), "logged_in_customer_id": ""})
    assert ask(shop, platform, joined)[0] != 303
    assert "POST /checkout/sessions" not in shop.requests


def test_attack_a_name_that_swallows_the_time(shop: World, line: Line, platform: Platform):
    """Nothing stands between what is signed, and anybody may have something signed: read anew, `u=xtimestamp=…` would
    be a time of the attacker's, were a name allowed to hold what stood before it."""
    now = shop.clock.time()
    old, later = f"{now:.0f}", f"{now + 86_400:.0f}"
    query = dict(parse_qsl(signed(shop, ("u", f"xtimestamp={later}")), keep_blank_values=True))
    del query["u"]
    query = {**query, "timestamp": later, f"timestamp={old}u": "x"}
    pairs = [(name, value) for name, value in query.items() if name != "signature"]
    assert stand_in.signature(pairs, CLIENT_SECRET) == query["signature"], "the attack is none any more"
    shop.clock.passes(days=1)
    assert ask(shop, platform, urlencode(query)) == (401, "not_from_shopify")


def test_attack_a_value_that_swallows_the_time(shop: World, line: Line, platform: Platform):
    """The same by a value: who has `order=…shop=…timestamp=…uu=` signed could read it anew as a call of any time, with
    all that Shopify has put behind it as the value of `uu`."""
    old, later = f"{shop.clock.time():.0f}", f"{shop.clock.time() + 86_400:.0f}"
    given = [("number", ASKED["number"]), ("order", f"{NUMBER}shop={SHOP}timestamp={later}uu=")]
    own = [("path_prefix", PREFIX), ("shop", SHOP), ("timestamp", old)]
    signature = stand_in.signature([*given, *own], CLIENT_SECRET)
    rest = "".join(f"{name}={value}" for name, value in own)
    anew = [("number", ASKED["number"]), ("order", NUMBER), ("shop", SHOP), ("timestamp", later), ("uu", rest)]
    assert stand_in.signature(anew, CLIENT_SECRET) == signature, "the attack is none any more"
    shop.clock.passes(days=1)
    assert ask(shop, platform, urlencode([*anew, ("signature", signature)])) == (401, "not_from_shopify")


ANOTHERS = [
    {"number": ""},
    {"number": "XPAV284CU"},
    {"number": "xpav284ct"},
    {"number": "XPAV284CT "},
    {"order": "5551234567891"},
    {"order": ""},
    {"order": "0"},
    {"order": f"{NUMBER}\n"},
    {"order": f"gid://shopify/Order/{NUMBER}"},
    {"order": "9" * 30},
    {"order": "\u0665"},
]


def test_attack_anothers_order(shop: World, line: Line, platform: Platform):
    """Who has not been told an order's confirmation number learns nothing of it: as little as of one that is not."""
    for asked in ANOTHERS:
        assert ask(shop, platform, **asked) == (404, "shopify_order_not_found"), asked
    assert "POST /checkout/sessions" not in shop.requests


def test_attack_an_order_without_a_confirmation_number(shop: World, line: Line, platform: Platform):
    """Shopify's older orders have none: "" is not the key to them."""
    platform.order(confirmation_number="")
    assert ask(shop, platform, number="")[1] == "shopify_order_not_found"


def test_attack_amount_and_product_in_the_link(shop: World, line: Line, platform: Platform):
    """Nothing else that the link says is read: what is paid, and for what, Shopify says."""
    more = {"total": "0.01", "sku": "membership", "metadata[shopify_order]": "1", "reference": "x", "successUrl": "x"}
    _, content = session_of(shop, ask(shop, platform, **more))
    assert content["productId"] == opened_product(shop)
    assert content["metadata"]["shopify_order"] == NUMBER


def opened_product(shop: World) -> str:
    return next(product for product, each in shop.account.products.items() if each["name"] == "Course")


def test_attack_an_order_edited_after_its_checkout(
    shop: World, line: Line, platform: Platform, told: Told, monkeypatch: pytest.MonkeyPatch
):
    """The old checkout pays what the order cost then, which marks nothing; until that is paid, the link leads to one
    over what it costs now, and after that to none."""
    monkeypatch.setattr(shopify_checkout, "PRODUCT_PER_ORDER", True)
    old, _ = session_of(shop, ask(shop, platform))
    platform.orders[NUMBER].total = Decimal("98.00")
    new, content = session_of(shop, ask(shop, platform))
    assert shop.account.products[content["productId"]]["price"] == 98
    assert session_of(shop, ask(shop, platform))[0] == new != old
    settle(shop, line, old)
    assert platform.orders[NUMBER].status == "PENDING"
    assert "shopify_mismatched" in told.text()
    assert ask(shop, platform) == (409, "shopify_order_paid")


def test_attack_another_currency(shop: World, line: Line, platform: Platform):
    """Opened in dollars, in euros by now: it is not marked as paid."""
    session, _ = session_of(shop, ask(shop, platform))
    platform.orders[NUMBER].currency = "eur"
    settle(shop, line, session)
    assert platform.orders[NUMBER].status == "PENDING"


def test_attack_a_cheaper_payment(shop: World, line: Line, platform: Platform):
    """Another amount than the total is held in the ledger, and Shopify's order untouched."""
    session, _ = session_of(shop, ask(shop, platform))
    settle(shop, line, session, amount="1.00")
    assert [each["type"] for each in shop.published] == ["payment.mismatched"]
    assert (platform.orders[NUMBER].status, platform.orders[NUMBER].tags) == ("PENDING", set())


def test_attack_browser_metadata_names_anothers_order(shop: World, line: Line, platform: Platform):
    """Who buys the course and writes another's Shopify order, and its total, into the checkout's metadata, has paid for
    the course, and for nothing else."""
    metadata = {"shopify_order": NUMBER, "shopify_total": "49 usd", "reference": f"shopify-{NUMBER}"}
    _, session = shop.checkout(metadata=metadata)
    settle(shop, line, session)
    assert [each["type"] for each in shop.published] == ["order.paid"]
    assert (platform.orders[NUMBER].status, platform.requests) == ("PENDING", [])
    assert [*line.outcomes().values()] == ["not_ours"]


# --- What fails -------------------------------------------------------------------------------------------------------


def test_shopify_does_not_answer(shop: World, line: Line, platform: Platform, told: Told, monkeypatch: Any):
    """The buyer is asked to come again, a person is told, and the next time it works."""
    for nth, fault in itertools.product([0, 1], [Fault(429), Fault(500), Fault(401), Fault(lost="request")]):
        monkeypatch.setattr(shopify_admin, "_granted", None)
        line.faults = [None] * nth + [fault]
        assert ask(shop, platform) == (503, "shopify_unavailable"), (nth, fault)
        assert '"NeedsAttention"' in told.text()
        assert ask(shop, platform)[0] == 303


def test_without_its_secret_nothing_opens(shop: World, line: Line, platform: Platform, monkeypatch: Any):
    """A stack whose secret nobody has filled takes no call for Shopify's; the merchant is told."""
    query = signed(shop, secret="")
    for value in ("none", stand_in.TOKEN, "shpss_"):
        line._stack.secrets.put_secret_value(SecretId=shopify_admin.SECRET_ARN, SecretString=value)
        shop.clock.passes(minutes=6)
        assert ask(shop, platform, query) == (503, "shopify_secret_missing")


def test_a_failed_session_is_made_the_next_time(shop: World, line: Line, platform: Platform):
    """Pocketsflow refuses once: the same order is opened again, under the same reference."""
    shop.answers["POST /checkout/sessions"] = lambda _query: (500, {})
    assert ask(shop, platform) == (502, "pocketsflow_failed")
    shop.answers.clear()
    session_of(shop, ask(shop, platform))
    assert sum(pk.startswith("order#") for pk in shop.stack.items()) == 1


def test_pages_quote_nothing_of_the_input(shop: World, line: Line, platform: Platform, told: Told):
    """A page has a way back to the shop; neither it nor a log line has anything of the query."""
    for asked in ({"number": "<b>hello</b>"}, {"order": "<b>hello</b>"}):
        query = platform.signed({**ASKED, **asked}.items(), shop.clock.time())
        for each in (query, f"{query}&more=1"):
            answer = shopify_checkout.handler(
                {**http_event("GET /shopify/checkout"), "rawQueryString": each}, Context(shop.clock, 9)
            )
            assert 'href="https://shop-example.myshopify.com"' in answer["body"]
            assert "hello" not in answer["body"]
    text = told.text()
    assert "checkout_refused" in text
    for word in ("XPAV284CT", "signature=", CLIENT_SECRET, "hello"):
        assert word not in text


def test_every_code_is_explained():
    """On the connector's page; and those that a buyer can do something about have words of their own."""
    codes = {*re.findall(r'"((?:shopify|not_from)_[a-z_]+)"', Path(shopify_checkout.__file__).read_text())}
    codes -= {"shopify_order", "shopify_total", "shopify_shop"}
    page = (ROOT / "docs/connectors/shopify.md").read_text()
    assert len(codes) == 8
    assert [code for code in codes if f"`{code}`" not in page] == []
    assert {code for code in codes if code not in forms._TEXTS} == {
        "shopify_unavailable", "shopify_secret_missing", "shopify_secret_unreachable",
    }  # fmt: skip
