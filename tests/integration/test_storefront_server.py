"""The example of a shop's server: what it believes, and a purchase from its page to its order, through everything."""

import contextlib
import itertools
import json
import re
import runpy
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import standardwebhooks.webhooks
from werkzeug.test import Client

from connectors import storefront
from sandbox.servers import Server
from sandbox.template import ROOT
from tests.connected import Line
from tests.payloads import NOW, SECRET, create_key
from tests.public import Site
from tests.storefront import HISTORY, OTHER_SECRET, Shop, of_order, signed
from tests.world import PRODUCTS, Clock

EXAMPLE = ROOT / "examples/storefront-server/server.py"
PAID = of_order(1)
BODY = json.dumps({"type": "order.paid", "data": PAID}).encode()


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Whose clock stands still at NOW. Its parameter is how many orders wait."""
    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Clock(NOW).datetime)
    with contextlib.closing(Shop(getattr(request, "param", 1))) as made:
        yield made


def test_a_signed_webhook_marks_the_order_paid_once(server: Shop) -> None:
    """However often it comes, the order is shipped once."""
    assert [server.told(PAID, "evt_1", NOW) for _ in range(3)] == [204] * 3
    assert server.order() == ("paid", 1)


def test_a_forged_webhook(server: Shop) -> None:
    """Another secret, another body, another id or time, a header that is missing: 401, and nothing is believed."""
    good = signed(BODY, "evt_1", NOW)
    assert server.told(PAID, "evt_1", NOW, secret=OTHER_SECRET) == 401
    assert server.posted(BODY.replace(b"web-1", b"web-2"), good) == 401
    assert server.posted(BODY, {**good, "webhook-id": "evt_2"}) == 401
    assert server.posted(BODY, {**good, "webhook-timestamp": str(int(NOW.timestamp()) + 1)}) == 401
    for name in good:
        assert server.posted(BODY, {other: text for other, text in good.items() if other != name}) == 401
    assert server.order() == ("pending", 0)
    assert server.posted(BODY, good) == 204


@pytest.mark.parametrize("nonsense", ["v1", "v1,", "v1,ä", "v1,=", "v2,AAAA", ",,", " ", "v1,AAAA v1", "v1a,AAAA"])
def test_a_signature_that_is_nonsense(server: Shop, nonsense: str) -> None:
    """It is refused like any wrong one, and brings nothing down; nor does a body that is no text."""
    headers = {**signed(BODY, "evt_1", NOW), "webhook-signature": nonsense}
    assert server.posted(BODY, headers) == 401
    assert server.posted(b"\xff", headers) == 401


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_webhook_of_another_time(server: Shop, minutes: int) -> None:
    """Recorded by somebody, and sent again when it suits them: validly signed, and too old; or too new."""
    assert server.told(PAID, "evt_1", NOW + timedelta(minutes=minutes)) == 401
    assert server.order() == ("pending", 0)


def test_a_replayed_webhook(server: Shop) -> None:
    """Within five minutes its id is known: what it says does not take the place of what came since."""
    assert server.told({**PAID, "revision": 2}, "evt_1", NOW) == 204
    assert server.told({**of_order(5), "revision": 2}, "evt_2", NOW) == 204
    assert server.told({**PAID, "revision": 2}, "evt_1", NOW) == 204
    assert server.order() == ("refunded", 1)


def test_what_failed_was_not_seen(server: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server breaks after it has noted the id, and before the order is marked: the next attempt does both."""
    note = server.shop.note
    monkeypatch.setattr(server.shop, "note", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        server.told(PAID, "evt_1", NOW)
    monkeypatch.setattr(server.shop, "note", note)
    assert server.told(PAID, "evt_1", NOW) == 204
    assert server.order() == ("paid", 1)


def test_untrusted_metadata_that_names_another_s_order(server: Shop) -> None:
    """A cheap order of a browser's own says that it is web-1; some other server's own number is none of this one's."""
    words = {"reference": "web-1", "number": "1", "order_id": PAID["order_id"]}
    for number, reference in enumerate((None, "1", "web-01", "web-1 ", "WEB-1")):
        detail = {**PAID, "reference": reference, "untrusted_metadata": words}
        assert server.told(detail, f"evt_{number}", NOW) == 204
    assert server.order() == ("pending", 0)


def test_what_is_no_order_is_taken(server: Shop) -> None:
    """A test, a subscription, and what nobody knows are answered 2xx, or they would come for three days."""
    for number, detail in enumerate(({}, {"subject": "subscription#1", "reference": "web-1"}, {"new": "web-1"})):
        assert server.told(detail, f"evt_{number}", NOW, kind="pf.test") == 204
    assert server.order() == ("pending", 0)


@pytest.mark.parametrize("server", [120], indirect=True)
def test_in_every_order(server: Shop) -> None:
    """Payment, refund of a part, dispute, its end and refund of the rest, in all 120 orders: the shop ends where the
    ledger does, and has shipped, once, what it ever knew as paid."""
    for number, revisions in enumerate(itertools.permutations(HISTORY), 1):
        for revision in revisions:
            assert server.told(of_order(revision, number), f"{number}-{revision}", NOW) == 204
        known = {HISTORY[revision][1] for revision in itertools.accumulate(revisions, max)}
        shipped = bool(known & {"paid", "partially_refunded"})
        assert server.order(number) == ("refunded", int(shipped)), revisions


def test_it_starts_as_its_first_lines_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that they name is all that it needs; it listens to this machine alone."""
    started: list[tuple[str, int, Any]] = []

    def make_server(host: str, port: int, shop: Any) -> Any:
        started.append((host, port, shop))
        return SimpleNamespace(serve_forever=shop.db.close)

    monkeypatch.setattr(wsgiref.simple_server, "make_server", make_server)
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"([A-Z_]+)=", EXAMPLE.read_text().partition("python server.py")[0]):
        monkeypatch.setenv(name, OTHER_SECRET)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    [(host, port, _)] = started
    assert (host, port) == ("127.0.0.1", 8080)


# --- The whole way ----------------------------------------------------------------------------------------------------


@dataclass
class Custom:
    """A custom shop, all of it: its server, the stack, Pocketsflow, and the connector."""

    site: Site
    server: Shop
    line: Line

    def buys(self) -> str:
        """Somebody buys on the shop's page: the session that they are sent to."""
        answer = Client(self.server.shop).post("/buy")
        assert answer.status_code == 303
        return answer.headers["Location"].rpartition("session=")[2]

    def comes_back(self, number: int) -> str:
        order_id = self.server.state()["orders"][number - 1]["order_id"]
        return Client(self.server.shop).get(f"/thanks?order_id={order_id}").text


@pytest.fixture
def custom(site: Site, connect: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> Iterator[Custom]:
    """The server asks the stack's public address, by a key of its own and over a socket."""
    server = Shop(orders=0)
    line = connect(storefront, server, site.shop.clock)
    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", site.shop.clock.datetime)
    site.add_endpoint(SECRET)
    key = f"pfs_test_{'k' * 43}"
    create_key(site.shop.stack, key)
    api = Server(0)
    api.start(site)
    server.shop.url, server.shop.sku, server.shop.api, server.shop.key = "https://shop.example", "course", api.url, key
    with contextlib.closing(api), contextlib.closing(server):
        yield Custom(site, server, line)


def test_a_shop_with_its_own_order_numbers_works_whole(custom: Custom) -> None:
    """Its page, the server's route, Pocketsflow, the webhook, the ledger, the bus, and back to the server, which knows
    the order by its own number; the refund, too."""
    shop = custom.site.shop
    first, second = custom.buys(), custom.buys()
    assert "web-1 is pending" in custom.comes_back(1)
    payment = shop.pay(second)
    custom.line.work()
    assert [custom.server.order(number) for number in (1, 2)] == [("pending", 0), ("paid", 1)]
    assert "web-2 is paid" in custom.comes_back(2)
    shop.account.refund(payment, None, None)
    shop.pay(first)
    custom.line.work()
    assert [custom.server.order(number) for number in (1, 2)] == [("paid", 1), ("refunded", 1)]


def test_a_browser_s_order_that_names_another_s(custom: Custom) -> None:
    """A buyer opens a checkout of their own, whose metadata says that it is the shop's dear order, and pays it: the
    webhook hands that on as untrusted, and the dear order stays unpaid."""
    shop = custom.site.shop
    custom.buys()
    words = {"reference": "web-1", "order_id": "web-1"}
    _, session = shop.checkout(metadata=words)
    shop.pay(session)
    custom.line.work()
    [(_, content)] = custom.server.took
    assert (content["data"]["reference"], content["data"]["metadata"]) == (None, {})
    assert content["data"]["untrusted_metadata"] == words
    assert custom.server.order() == ("pending", 0)


def test_another_product_paid_under_the_shop_s_number(custom: Custom) -> None:
    """Its session is paid with something cheaper: the server hears of it, and ships nothing."""
    custom.site.shop.pay(custom.buys(), product_id=PRODUCTS["membership"]["productId"])
    custom.line.work()
    assert custom.server.order() == ("mismatched", 0)


def test_a_checkout_that_fails_is_told_to_the_buyer(custom: Custom) -> None:
    """Pocketsflow is down, or the key is no longer one: a page that says so, and no order that anybody waits for."""
    custom.server.shop.key = f"pfs_test_{'x' * 43}"
    answer: Any = Client(custom.server.shop).post("/buy")
    assert (answer.status_code, "try again" in answer.text) == (503, True)
    assert custom.server.order() == ("pending", 0)
