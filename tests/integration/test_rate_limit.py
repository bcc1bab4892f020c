"""A hundred requests a minute are all that Pocketsflow takes: what a checkout does when they are spent."""

import json
from collections.abc import Iterator

import pytest

import checkout
from tests.conftest import Aws
from tests.payloads import NOW, answered, http_event
from tests.world import Context, World, world


@pytest.fixture
def shop(cloud: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(cloud, monkeypatch, NOW) as made:
        yield made


def ask(shop: World) -> tuple[int, str | None, float]:
    """Status, Retry-After and the seconds that it took."""
    body = json.dumps({"sku": "course"}).encode()
    before = shop.clock.now
    answer = checkout.handler(
        http_event("POST /checkout", body, content_type="application/json"), Context(shop.clock, 9)
    )
    status, _ = answered(answer)
    return status, answer["headers"].get("retry-after"), (shop.clock.now - before).total_seconds()


def test_one_429_is_tried_once_more(shop: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The buyer waits less than a second and sees nothing of it; both requests are counted."""
    shop.account.set_faults({"http_status": 429, "http_times": 1})
    status, _, seconds = ask(shop)
    assert (status, shop.requests) == (201, ["POST /checkout/sessions"] * 2)
    assert 0.3 <= seconds <= 0.8
    assert '"PocketsflowRequests":[1,1]' in capsys.readouterr().out


def test_a_second_429_is_told_to_the_buyer(shop: World) -> None:
    """503 with the time to wait, and no third request."""
    shop.account.set_faults({"http_status": 429, "http_times": 2})
    status, retry_after, _ = ask(shop)
    assert (status, retry_after, len(shop.requests)) == (503, "5", 2)
    assert ask(shop)[0] == 201


@pytest.mark.parametrize(("asked", "requests"), [(1, 2), (2, 2), (3, 1), (50, 1)])
def test_retry_after_is_waited_for_within_the_three_seconds(shop: World, asked: int, requests: int) -> None:
    """What fits is waited for; what does not is handed on to the buyer, at once."""
    shop.account.set_faults({"http_status": 429, "http_times": 1, "http_retry_after": asked})
    status, retry_after, seconds = ask(shop)
    assert len(shop.requests) == requests
    assert seconds == (asked if requests == 2 else 0)
    assert (status, retry_after) == ((201, None) if requests == 2 else (503, str(asked)))
