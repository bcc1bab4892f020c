"""On a schedule: what the webhooks missed is found in Pocketsflow's lists, and settles as if it had been delivered.

Payments are listed and joined with the orders here: what is asked for depends on Pocketsflow's sales, not on how many
orders are pending. A run is paced to a quarter of Pocketsflow's rate limit, stops before its own time is over, and the
next one goes on where it stopped.
"""

import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, catalogue, progress, sales, secrets
from payments.deployment import MODE
from payments.findings import Findings, Shop
from payments.pocketsflow import RequestFailed
from payments.progress import Run, Walk
from payments.provider import NoTimeLeft, Provider
from payments.table import LeftOver, timestamp
from payments.telemetry import count, logger, metrics, needs_attention, where

API_KEY_ARN = os.environ["API_KEY_ARN"]
RECONCILE_FROM = os.environ["RECONCILE_FROM"]
STORE_ID = os.environ["STORE_ID"]
CATALOGUE = catalogue.load(Path(__file__).parent / "catalogue.json")

LEASE = timedelta(seconds=270)
"""Longer than the function may run, shorter than the time to the run after a crash."""
OVERLAP = timedelta(minutes=30)
"""How late a sale may appear in a list and still be found by the next runs."""
ASK_AFTER = timedelta(minutes=10)
"""What a webhook told is asked for by its id when no list has shown it for so long."""
MOST_ASKED = 50
MAX_PAGES = 2_000


class Listing(NamedTuple):
    """A list of Pocketsflow's, and how far back it is walked; None: from where the last walk began."""

    path: str
    back: timedelta | None
    query: dict[str, str] = {}  # noqa: RUF012  # of a NamedTuple, never written to


LISTINGS = {  # in the order of their urgency
    "orders.asked": Listing("/orders", OVERLAP),
    "payments.asked": Listing("/payments", OVERLAP, {"type": "subscription"}),
    "orders.recent": Listing("/orders", None),
    "payments.recent": Listing("/payments", None, {"type": "subscription"}),
    "refunds.asked": Listing("/refunds", timedelta(days=2)),
    "orders.hours": Listing("/orders", timedelta(hours=6)),
    "payments.hours": Listing("/payments", timedelta(hours=6), {"type": "subscription"}),
    "subscribers.hours": Listing("/subscriptions/subscribers", timedelta(0)),
    "orders.days": Listing("/orders", timedelta(days=2)),
    "payments.days": Listing("/payments", timedelta(days=2), {"type": "subscription"}),
    "orders.history": Listing("/orders", timedelta(days=180)),
    "refunds.history": Listing("/refunds", timedelta(days=180)),
}
SCHEDULED = {
    "asked": ["orders.asked", "payments.asked"],
    "recent": ["orders.recent", "payments.recent"],
    "hours": ["orders.hours", "payments.hours", "subscribers.hours"],
    "days": ["orders.days", "payments.days", "orders.history", "refunds.history"],
}


@metrics.log_metrics
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    """`{"walk": "recent" | "hours" | "days"}` from the schedule, or the stream's record of a question; with
    `"dry_run": true` nothing is written. Answers what was found, by outcome, and whether it was cut short."""
    count("ReconcileStarted")
    now = datetime.now(UTC)
    due = SCHEDULED.get("asked" if "Records" in event else event.get("walk", ""))
    if due is None:
        raise ValueError(f"walk must be one of {', '.join(SCHEDULED)}")
    with aws.finishing_in_time(context):
        api_key = _api_key(now)
        if event.get("dry_run"):
            run: Run | None = progress.look(due, now)
        else:
            run = progress.begin(due, uuid.uuid4().hex, now, LEASE)
        if run is None:
            logger.info("already_running")
            return {"outcome": "already_running"}
        if api_key is None:  # a stack that nobody has set up yet; the checkout says so to whoever wants to buy
            progress.save(run, end=True)
            return {"outcome": "no_api_key"}
        return _reconcile(run, api_key, context, dry=event.get("dry_run") is True)


def _reconcile(run: Run, api_key: str, context: aws.Context, *, dry: bool) -> dict[str, Any]:
    provider = Provider(api_key, run.spent, time.time, lambda: context.get_remaining_time_in_millis() / 1000)
    shop = Shop(CATALOGUE, STORE_ID, datetime.fromisoformat(RECONCILE_FROM or run.start))
    findings = Findings(shop, provider, lambda: datetime.now(UTC), dry=dry)
    save = _nothing if dry else _saving(run, provider)

    def want_refunds() -> None:
        run.walks.setdefault("refunds.asked", _from(datetime.now(UTC), timedelta(days=2)))
        save()

    findings.want_refunds = want_refunds
    _begin_walks(run, datetime.now(UTC))
    trouble: list[str] = []
    try:
        tried: set[str] = set()
        while name := next((name for name in LISTINGS if name in run.walks.keys() - tried), None):
            tried.add(name)
            try:
                _walk(name, run, provider, findings, save)
            except RequestFailed as failure:
                trouble.append(f"{name} {failure.reason}")
                if failure.is_of_all:
                    break
        if not trouble and not dry:
            findings.unconfirmed(sales.unconfirmed(datetime.now(UTC) - ASK_AFTER, MOST_ASKED))
    except NoTimeLeft:
        logger.info("goes_on_later", extra={"walks": sorted(run.walks)})
    except RequestFailed as failure:
        trouble.append(f"single {failure.reason}")
    except (BotoCoreError, ClientError, LeftOver) as error:
        trouble.append(where(error))
    if findings.counts["unreadable"]:
        trouble.append("unreadable rows")
    for outcome, times in {"PocketsflowRequests": provider.requests, **findings.counts}.items():
        count(outcome, times)
    if trouble:
        needs_attention("reconcile_partial", trouble="; ".join(trouble))
    save(end=True)
    found = dict(findings.counts)
    logger.info("reconciled", extra={"found": found, "requests": provider.requests, "partial": bool(trouble)})
    return {"outcome": "partial" if trouble else "done", "found": found, "requests": provider.requests, "dry_run": dry}


def _walk(name: str, run: Run, provider: Provider, findings: Findings, save: Callable[..., None]) -> None:
    """Through all pages of a list. Rows may shift while it is walked: what shifts to a later page is met twice, and
    what shifts to an earlier one is met by the next walk, which overlaps."""
    walk, listing = run.walks[name], LISTINGS[name]
    kind = name.partition(".")[0]
    since, until = datetime.fromisoformat(walk.since), datetime.fromisoformat(walk.until)
    # No source says whether the dates are inclusive, or in which zone: asked for widely, and filtered here.
    query = {**listing.query, "startDate": walk.since, "endDate": timestamp(until + timedelta(days=1))}
    take: Callable[..., None] = getattr(findings, kind)
    while True:
        page = provider.page(listing.path, query if kind != "subscribers" else {}, walk.page)
        take(page.rows, since, until)
        if not page.has_more:
            break
        walk.page += 1
        if walk.page > MAX_PAGES:
            raise RequestFailed("unexpected")
        save()
    del run.walks[name]
    if listing.back is None:
        run.cursors[name] = walk.until
    if name == "orders.recent":
        count("ReconcileCompleted")
    save()


def _begin_walks(run: Run, now: datetime) -> None:
    """Of all that is due; one that is still under way goes on instead."""
    for name in run.due:
        back = LISTINGS[name].back
        if back is None:
            back = now - datetime.fromisoformat(run.cursors.get(name, run.start)) + OVERLAP
        run.walks.setdefault(name, _from(now, back))


def _from(now: datetime, back: timedelta) -> Walk:
    return Walk(timestamp(now - back), timestamp(now))


def _saving(run: Run, provider: Provider) -> Callable[..., None]:
    begun = set(run.due)

    def save(*, end: bool = False) -> None:
        nonlocal begun
        run.spent = list(provider.spent)
        progress.save(run, begun, end=end)
        begun = set()

    return save


def _nothing(**_: object) -> None:
    """In place of saving, where nothing is to be written."""


def _api_key(now: datetime) -> str | None:
    try:
        keys = secrets.read(API_KEY_ARN, "pk_", now)
    except secrets.Unavailable:
        return None
    return keys[0] if keys and keys[0].startswith(f"pk_{MODE}_") else None
