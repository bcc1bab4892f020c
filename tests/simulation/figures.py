"""What a run over many missed orders costs, and how many orders a day the rate limit allows."""

import time
import tracemalloc
from dataclasses import dataclass
from datetime import timedelta

import reconcile
from payments import ledger, orders, pocketsflow
from payments.provider import PER_MINUTE
from tests.simulation import motospeed
from tests.simulation.day import COURSE, Plan, prepared
from tests.world import CATALOGUE


@dataclass(frozen=True)
class Missed:
    """Runs until all of `orders` missed ones were settled, each five minutes after the one before."""

    orders: int
    minutes: float
    """Of virtual time: Pocketsflow's pace."""
    requests: int
    cpu_seconds: float
    """Of this machine, moto's part included."""
    peak_kilobytes: int
    """Of memory, within one run."""


def missed(number: int, *, metadata: bool, traced: bool = False) -> Missed:
    with prepared(Plan(seed=1, payments=0, loss=1, hostile=False)) as day:
        day.platform.invoke("reconcile", {"walk": "recent"})
        day.world.account.hand_over = lambda _: None
        opened = []
        for _ in range(number):
            now = day.engine.clock.now
            order = ledger.Order(orders.new_id(now), CATALOGUE["course"], "buyer@example.com", {})
            ledger.open_order(order, None, "", now)
            opened.append(order.id)
            session = day.world.account.open_session(
                {"productId": COURSE["productId"], "metadata": {"external_order_id": order.id}}
            )
            day.world.pay(session)
        if not metadata:
            day.world.account.set_faults({"hide_metadata": "list"})
        day.engine.clock.passes(minutes=5)
        day.api.requests.clear()
        begun, cpu, peak = day.engine.clock.now, 0.0, 0
        while _is_any_pending(day.world.stack.table, opened):
            started = day.engine.clock.now
            if traced:
                tracemalloc.start()
            before = time.process_time()
            day.platform.invoke("reconcile", {"walk": "recent"})
            cpu += time.process_time() - before
            if traced:
                peak = max(peak, tracemalloc.get_traced_memory()[1] // 1000)
                tracemalloc.stop()
            ended = day.engine.clock.now
            day.engine.clock.now = max(ended, started + timedelta(minutes=5))
        return Missed(number, (ended - begun).total_seconds() / 60, len(day.api.requests), cpu, peak)


def _is_any_pending(table: str, order_ids: list[str]) -> bool:
    items = motospeed.table_of(table).items
    held = {key.value: item for key, item in items.items()}
    return any("open_day" in held[f"order#{order_id}"].attrs for order_id in order_ids)


def orders_a_day() -> int:
    """At which all of reconciliation's share of the rate limit is spent on listing what is sold."""
    pages = 0.0
    for name, runs in (("recent", 288), ("hours", 24), ("days", 1), ("history", 1)):
        back = reconcile.LISTINGS[f"orders.{name}"].back or reconcile.OVERLAP + timedelta(minutes=5)
        pages += runs * (back / timedelta(days=1)) / pocketsflow.PAGE_SIZE
    return int(PER_MINUTE * 60 * 24 / pages)
