"""What reconciliation costs: requests and time after an outage, memory, and how many orders a day it can list."""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from urllib3 import HTTPResponse

import reconcile
from payments import ledger, orders, pocketsflow
from payments.provider import PER_MINUTE
from sandbox.template import ROOT
from tests.conftest import template
from tests.simulation import motospeed
from tests.simulation.day import COURSE, START, Day, Plan, prepared
from tests.transport import Answering, Sent, response
from tests.world import CATALOGUE

REFUNDED = 0.05
"""Refunds for each order, in the sum of what is listed."""


# --- Orders that webhooks missed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missed:
    """Runs until all of `orders` missed ones were settled, each five minutes after the one before."""

    orders: int
    minutes: float
    """Of virtual time: Pocketsflow's pace."""
    requests: int
    own_seconds: float
    """CPU of the functions, without moto's and the fake Pocketsflow's part."""


def missed(number: int, *, metadata: bool) -> Missed:
    """With `metadata` the list says which order was paid; without, each one is asked for."""
    with prepared(Plan(seed=1, payments=0, loss=1, hostile=False)) as day:
        order_ids = [_paid_unheard(day) for _ in range(number)]
        if not metadata:
            day.world.account.set_faults({"hide_metadata": "list"})
        day.engine.clock.passes(minutes=5)
        begun, own = day.engine.clock.now, 0.0
        day.api.requests.clear()
        while True:
            started, before = day.engine.clock.now, time.process_time() - day.weather.cpu_elsewhere
            day.platform.invoke("reconcile", {"walk": "recent"})
            own += time.process_time() - day.weather.cpu_elsewhere - before
            if not _is_any_pending(day, order_ids):
                break
            day.engine.clock.now = max(day.engine.clock.now, started + timedelta(minutes=5))
        minutes = (day.engine.clock.now - begun).total_seconds() / 60
        return Missed(number, minutes, len(day.api.requests), own)


def _paid_unheard(day: Day) -> str:
    """Our id of an order that is paid, and whose webhook never came."""
    now, account = day.engine.clock.now, day.world.account
    order = ledger.Order(orders.new_id(now), CATALOGUE["course"], "buyer@example.com", {})
    ledger.open_order(order, None, "", now)
    metadata = {"external_order_id": order.id}
    account.pay(
        account.open_session({"productId": COURSE["productId"], "metadata": metadata}),
        account.products[COURSE["productId"]],
    )
    return order.id


def _is_any_pending(day: Day, order_ids: list[str]) -> bool:
    items = {key.value: item for key, item in motospeed.table_of(day.world.stack.table).items.items()}
    return any("open_day" in items[f"order#{order_id}"].attrs for order_id in order_ids)


# --- Memory -----------------------------------------------------------------------------------------------------------


def peak_memory(number: int) -> float:
    """MB that a process of its own takes at most while it settles so many missed orders."""
    settle = f"import tests.conftest; from tests.simulation import figures; print(figures.settle({number}))"
    command = [sys.executable, "-c", settle]
    path = {"PYTHONPATH": f"{ROOT}/functions"}
    return float(subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=True).stdout)


def settle(number: int) -> float:
    """With an AWS and a Pocketsflow that keep nothing: what grows is the function's. The peak so far, in MB."""
    with prepared(Plan(seed=1, payments=0, loss=1, hostile=False)) as day:
        keeping = motospeed.answer
        order = {"pk": {"S": ""}, "created_at": {"S": ""}, "product_id": {"S": COURSE["productId"]}, "rev": {"N": "0"}}

        def forgetting(event_name: str, request: Any) -> Any:
            asked = json.loads(request.body)
            if event_name.endswith("BatchGetItem"):
                return motospeed.made(request, 200, {"Responses": {}, "UnprocessedKeys": {}})
            if event_name.endswith("UpdateItem") and not asked["Key"]["pk"]["S"].startswith("reconcile#"):
                return motospeed.made(request, 200, {"Attributes": order})
            shard.items.clear()
            return keeping(event_name, request)

        shard = motospeed.table_of(day.world.stack.table).stream_shard
        assert shard is not None
        motospeed.answer, day.api.fake = forgetting, _pages(number)
        settled = 0
        while settled < number:
            settled += day.platform.invoke("reconcile", {"walk": "recent"})["found"]["settled"]
            day.engine.clock.passes(minutes=5)
        motospeed.answer = keeping
    return _peak()


def _peak() -> float:
    """MB. Linux counts a process's beginning, as a copy of its parent, into ru_maxrss, and not into VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        [peak] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peak.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _pages(number: int) -> Answering:
    """A Pocketsflow that makes its list of orders up, page by page."""

    def answer(sent: Sent) -> HTTPResponse:
        path, _, query = sent.target.partition("?")
        page = int(query.rpartition("page=")[2].partition("&")[0] or 1) if "page=" in query else 1
        first, last = (page - 1) * 100, min(page * 100, number) if path == "/orders" else 0
        rows = [
            {
                "_id": f"{each:024x}", "productId": COURSE["productId"], "grossAmount": 49, "currency": "usd",
                "createdAt": START.isoformat(), "isRefunded": False, "isDisputed": False, "testMode": True,
                "metadata": {"external_order_id": orders.new_id(START)},
            }
            for each in range(first, last)
        ]  # fmt: skip
        content = {path.rpartition("/")[2]: rows, "pagination": {"hasMore": path == "/orders" and last < number}}
        return response(200, {}, json.dumps(content).encode())

    return answer


# --- The rate limit ---------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """A walk of the schedule."""

    name: str
    runs: int
    """A day."""
    rows: float
    """For each order that the list goes back over."""
    back: timedelta


def listed() -> Iterator[Listed]:
    """What is asked for on a day."""
    [function] = [each for each in template().functions() if each.handler == "reconcile.handler"]
    for schedule in function.schedules:
        for name in reconcile.SCHEDULED[schedule.input["walk"]]:
            listing = reconcile.LISTINGS[name]
            back = listing.back if listing.back is not None else timedelta(seconds=schedule.seconds) + reconcile.OVERLAP
            rows = {"/orders": 1.0, "/refunds": REFUNDED}.get(listing.path, 0.0)
            yield Listed(name, 86_400 // schedule.seconds, rows, back + listing.widened)


def requests_a_day(orders_a_day: int) -> dict[str, int]:
    """To list what is sold, by walk, with so many orders a day for half a year."""
    days = timedelta(days=1)
    return {
        each.name: each.runs * max(1, math.ceil(each.rows * orders_a_day * (each.back / days) / pocketsflow.PAGE_SIZE))
        for each in listed()
    }


def days_a_day() -> str:
    """The days' orders that are listed on a day, as a sum."""
    return " + ".join(
        (f"{each.runs} x " if each.runs > 1 else "")
        + (f"{each.rows:.0%} x " if each.rows < 1 else "")
        + _in_words(each.back)
        for each in listed()
        if each.rows
    )


def _in_words(span: timedelta) -> str:
    minutes = span // timedelta(minutes=1)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" if minutes < 48 * 60 else f"{span.days} days"


def orders_a_day() -> int:
    """The most whose listing fits into reconciliation's share of the rate limit."""
    share = PER_MINUTE * 60 * 24
    least, most = 0, 10_000_000
    while most - least > 1:
        middle = (least + most) // 2
        if sum(requests_a_day(middle).values()) <= share:
            least = middle
        else:
            most = middle
    return least
