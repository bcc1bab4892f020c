"""On a schedule: what the webhooks missed is found in Pocketsflow's lists, and settles as if it had been delivered.

Payments are listed and joined with the orders here: what is asked for depends on Pocketsflow's sales, not on how many
orders are pending. A run is paced to a quarter of Pocketsflow's rate limit, stops before its own time is over, and the
next one goes on where it stopped.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, catalogue, progress, sales, secrets
from payments.deployment import MODE
from payments.findings import Findings, Shop
from payments.pocketsflow import RequestFailed
from payments.progress import Run, Walk
from payments.provider import PER_MINUTE, NoTimeLeft, Provider
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
WIDENED = timedelta(days=1)
"""No source says whether a list's dates are inclusive, nor in which zone they are read."""
MAX_PAGES = PER_MINUTE * 60 * 24
"""A day of requests: a list that takes longer has no end."""
MAX_STUCK = 3
"""Runs in a row that got no page of a walk, until it starts over."""


class Listing(NamedTuple):
    """A list of Pocketsflow's, and how far back it is walked; None: from where the last walk began."""

    path: str
    back: timedelta | None
    query: dict[str, str] = {}  # noqa: RUF012  # of a NamedTuple, never written to

    @property
    def widened(self) -> timedelta:
        """How much earlier than needed it is asked for. The frequent walks are not: they would list a day each time,
        and what another zone hides from them the hourly walk finds."""
        return WIDENED if self.back is not None and self.back > OVERLAP else timedelta(0)


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
URGENT = [name for name in LISTINGS if not name.endswith(".history")]
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
    dry = bool(event.get("dry_run"))
    with aws.finishing_in_time(context):
        api_key = _api_key(now)
        run = progress.look(due, now) if dry else progress.begin(due, uuid.uuid4().hex, now, LEASE)
        if run is None:
            logger.info("already_running")
            return {"outcome": "already_running"}
        if api_key is None:  # a stack that nobody has set up yet; the checkout says so to whoever wants to buy
            if not dry:
                progress.save(run, end=True)
            return {"outcome": "no_api_key"}
        return _reconcile(run, api_key, context, dry=dry)


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
    save()  # what becomes due from now on is due again
    walks = _Walks(run, provider, findings, save, dry=dry)
    try:
        walks.go(URGENT)
        if "/orders" not in walks.down and not dry:
            findings.unconfirmed(sales.unconfirmed(datetime.now(UTC) - ASK_AFTER, MOST_ASKED))
        walks.go(LISTINGS)
    except NoTimeLeft:
        logger.info("goes_on_later", extra={"walks": sorted(run.walks)})
    except RequestFailed as failure:
        walks.trouble.append(f"single {failure.reason}")
    except (BotoCoreError, ClientError, LeftOver) as error:
        walks.trouble.append(where(error))
    if findings.counts["unreadable"]:
        walks.trouble.append("unreadable rows")
    for outcome, times in {"PocketsflowRequests": provider.requests, **findings.counts}.items():
        count(outcome, times)
    if walks.trouble:
        needs_attention("reconcile_partial", trouble="; ".join(walks.trouble))
    save(end=True)
    is_partial, found = bool(walks.trouble), dict(findings.counts)
    logger.info("reconciled", extra={"found": found, "requests": provider.requests, "partial": is_partial})
    outcome = "partial" if is_partial else "done"
    return {"outcome": outcome, "found": found, "requests": provider.requests, "dry_run": dry}


class _Walks:
    """Goes through what a run has in hand, each walk once. `trouble` says what failed, `down` the paths that
    Pocketsflow does not answer for: neither holds up the others."""

    def __init__(
        self, run: Run, provider: Provider, findings: Findings, save: Callable[..., None], *, dry: bool
    ) -> None:
        self._run, self._provider, self._findings, self._save, self._dry = run, provider, findings, save, dry
        self._tried: set[str] = set()
        self.trouble: list[str] = []
        self.down: set[str] = set()

    def go(self, names: Iterable[str]) -> None:
        """In this order; a walk that another one asks for has its place in it."""
        while name := next((each for each in names if each in self._run.walks.keys() - self._tried), None):
            self._tried.add(name)
            path, page = LISTINGS[name].path, self._run.walks[name].page
            if path in self.down:
                continue
            try:
                self._walk(name)
            except RequestFailed as failure:
                self.trouble.append(f"{name} {failure.reason}")
                if failure.is_of_all:
                    self.down.update(listing.path for listing in LISTINGS.values())
                elif failure.is_of_path:
                    self.down.add(path)
                self._note_stuck(name, is_stuck=self._run.walks[name].page == page)
            else:
                if name == "orders.recent" and not self._dry:
                    count("ReconcileCompleted")

    def _walk(self, name: str) -> None:
        """Through all pages of a list. Rows may shift while it is walked: what shifts to a later page is met twice, and
        what shifts to an earlier one is met by the next walk, which overlaps."""
        walk, listing = self._run.walks[name], LISTINGS[name]
        kind = name.partition(".")[0]
        since, until = datetime.fromisoformat(walk.since), datetime.fromisoformat(walk.until)
        asked = {"startDate": timestamp(since - listing.widened), "endDate": timestamp(until + WIDENED)}
        query = {**listing.query, **asked} if kind != "subscribers" else {}
        take: Callable[..., None] = getattr(self._findings, kind)  # which looks at the dates itself
        last: list[Any] | None = None
        while True:
            page = self._provider.page(listing.path, query, walk.page)
            if page.rows == last or walk.page > MAX_PAGES:
                self._start_over(name)
                raise RequestFailed("endless")
            take(page.rows, since, until)
            last = page.rows
            if not page.has_more:
                break
            walk.page += 1
            self._save()
        del self._run.walks[name]
        if listing.back is None:
            self._run.cursors[name] = walk.until
        self._save()

    def _note_stuck(self, name: str, *, is_stuck: bool) -> None:
        """A page that never comes must not keep what is new waiting, nor an outage cost a long walk all its pages."""
        walk = self._run.walks[name]
        walk.stuck = walk.stuck + 1 if is_stuck else 0
        if walk.stuck == MAX_STUCK:
            self._start_over(name)

    def _start_over(self, name: str) -> None:
        """From the first page on, of what has been made until now."""
        self._run.walks[name] = Walk(self._run.walks[name].since, timestamp(datetime.now(UTC)))


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
