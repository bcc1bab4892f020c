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

from payments import aws, catalogue, heard, progress, sales, secrets
from payments.deployment import MODE
from payments.findings import Findings, Shop
from payments.pocketsflow import RequestFailed
from payments.progress import Run, Walk
from payments.provider import PER_MINUTE, TOOLS_PER_MINUTE, NoTimeLeft, Provider
from payments.table import LeftOver, timestamp
from payments.telemetry import count, logger, measure, needs_attention, observed, where

API_KEY_ARN = os.environ["API_KEY_ARN"]
RECONCILE_FROM = os.environ["RECONCILE_FROM"]
STORE_ID = os.environ["STORE_ID"]
CATALOGUE = catalogue.load(Path(__file__).parent / "catalogue.json")

LEASE = timedelta(seconds=270)
"""Longer than the function may run, shorter than the time to the run after a crash."""
OVERLAP = timedelta(minutes=30)
"""How late a sale may appear in a list and still be found by the next runs."""
TAKES_LONG = timedelta(minutes=20)
"""Of a recent walk; shorter than OVERLAP by two runs, so that no moment is between it and the shortest walk."""
ASK_AFTER = timedelta(minutes=10)
"""What a webhook told is asked for by its id when no list has shown it for so long."""
MOST_ASKED = 50
HEARD_WITHIN = timedelta(minutes=10)
"""After which a payment that was found here should have had its webhook."""
MOST_UNHEARD = 200
MAX_PAGES = 2_000
MAX_PAGES_OF_HISTORY = PER_MINUTE * 60 * 24
"""A day of requests: a list that takes longer has no end."""
HISTORY = timedelta(days=180)
WIDENED = timedelta(days=1)
"""No source says whether a list's dates are inclusive, nor in which zone they are read."""


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
    "orders.since": Listing("/orders", HISTORY),
    "payments.since": Listing("/payments", HISTORY, {"type": "subscription"}),
    "refunds.since": Listing("/refunds", HISTORY),
    "orders.history": Listing("/orders", HISTORY),
    "refunds.history": Listing("/refunds", HISTORY),
}
URGENT = [name for name in LISTINGS if not name.endswith((".since", ".history"))]
SINCE = [name for name in LISTINGS if name.endswith(".since")]
"""No schedule's: from a moment on that a person names."""
SCHEDULED = {
    "asked": ["orders.asked", "payments.asked"],
    "recent": ["orders.recent", "payments.recent"],
    "hours": ["orders.hours", "payments.hours", "subscribers.hours"],
    "days": ["orders.days", "payments.days", "orders.history", "refunds.history"],
}


@observed
def handler(event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    """`{"walk": "recent" | "hours" | "days"}` from the schedule, or the stream's record of a question; from a person
    also `{"walk": "since", "since": "<UTC>"}`, and then, to go on while `unfinished` names it, `{"walk": "since"}`.
    With `"dry_run": true` nothing is written. Answers what was found, by outcome, whether something failed, and the
    walks that there was no time for."""
    count("ReconcileStarted")
    now = datetime.now(UTC)
    walk = "asked" if "Records" in event else event.get("walk", "")
    if walk not in (*SCHEDULED, "since"):
        raise ValueError(f"walk must be one of {', '.join(SCHEDULED)}, since")
    due = SCHEDULED.get(walk, [])
    since = _since(event["since"], now) if walk == "since" and "since" in event else None
    dry = bool(event.get("dry_run"))
    with aws.finishing_in_time(context):
        api_key = _api_key(now)
        run = progress.look(due, now) if dry else progress.begin(due, uuid.uuid4().hex, now, LEASE)
        if run is None:
            logger.info("already_running")
            return {"outcome": "already_running"}
        if api_key is None:  # a stack that nobody has set up yet; the checkout says so to whoever wants to buy
            if not dry:
                progress.save(run, now, outcome="no_api_key")
            return {"outcome": "no_api_key"}
        return _reconcile(run, api_key, context, since=since, dry=dry)


def _reconcile(run: Run, api_key: str, context: aws.Context, *, since: datetime | None, dry: bool) -> dict[str, Any]:
    provider = Provider(
        api_key,
        [] if dry else run.spent,
        time.time,
        lambda: context.get_remaining_time_in_millis() / 1000,
        per_minute=TOOLS_PER_MINUTE if dry else PER_MINUTE,
    )
    shop = Shop(CATALOGUE, STORE_ID, datetime.fromisoformat(RECONCILE_FROM or run.start))
    save = _nothing if dry else _saving(run, provider)

    def want_refunds() -> None:
        run.walks.setdefault("refunds.asked", _beginning("refunds.asked", run, datetime.now(UTC)))
        save()

    findings = Findings(shop, provider, lambda: datetime.now(UTC), want_refunds, dry=dry)
    if not dry:
        _look_back(run, datetime.now(UTC))
    _begin_walks(run, datetime.now(UTC))
    if since is not None:
        _begin_since(run, since, datetime.now(UTC))
    save()  # what becomes due from now on is due again
    walks = _Walks(run, provider, findings, save)
    try:
        walks.go(URGENT)
        if "/orders" in walks.up - walks.down and not dry:
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
    count("PocketsflowRequests", provider.requests)
    _note_found(run, findings)
    if walks.trouble:
        needs_attention("reconcile_partial", trouble="; ".join(walks.trouble))
    is_partial, found = bool(walks.trouble), dict(findings.counts)
    outcome = "partial" if is_partial else "done"
    save(outcome=outcome)
    logger.info("reconciled", extra={"found": found, "requests": provider.requests, "partial": is_partial})
    return {
        "outcome": outcome,
        "found": found,
        "requests": provider.requests,
        "unfinished": sorted(run.walks),
        "dry_run": dry,
    }


def _note_found(run: Run, findings: Findings) -> None:
    """Page by page, so that a run of ten thousand payments takes no more memory than one of a hundred, and that one
    which is killed has noted what it found, but for a page at most."""
    for payment_id, made_at in findings.found.items():
        run.unheard[payment_id] = timestamp(made_at)
        measure("PaymentToSettlement", datetime.now(UTC) - made_at)
    findings.found.clear()
    run.unheard = dict(list(run.unheard.items())[-MOST_UNHEARD:])


def _look_back(run: Run, now: datetime) -> None:
    """How long no webhook has come, and which payments that earlier runs found have had none since. For figures: a run
    does not fail for them."""
    try:
        if (last := heard.last()) is not None:
            measure("WebhookAge", now - last)
        due = [payment_id for payment_id, made_at in run.unheard.items() if made_at < timestamp(now - HEARD_WITHIN)]
        known = sales.read(due)
    except (BotoCoreError, ClientError, LeftOver) as error:
        logger.warning("not_looked_back", extra={"error": where(error)})
        return
    for payment_id in due:
        del run.unheard[payment_id]
        item = known.get(payment_id, {})
        if not heard.has_come(item):
            needs_attention("webhook_missed", order_id=item.get("order_id"), payment=payment_id)


class _Walks:
    """Goes through what a run has in hand, each walk once. `trouble` says what failed; `up` are the paths that
    Pocketsflow has answered for, `down` those that it does not."""

    def __init__(self, run: Run, provider: Provider, findings: Findings, save: Callable[..., None]) -> None:
        self._run, self._provider, self._findings, self._save = run, provider, findings, save
        self._tried: set[str] = set()
        self._answered: set[str] = set()
        self.trouble: list[str] = []
        self.up: set[str] = set()
        self.down: set[str] = set()

    def go(self, names: Iterable[str]) -> None:
        """In this order; a walk that another one asks for has its place in it."""
        while name := next((each for each in names if each in self._run.walks.keys() - self._tried), None):
            self._tried.add(name)
            if LISTINGS[name].path in self.down:
                continue
            try:
                self._walk(name)
            except RequestFailed as failure:
                self.trouble.append(f"{name} {failure.reason}")
                got_none = name not in self._answered or failure.reason == "endless"
                self._note_failure(name, failure, got_none=got_none)

    def _walk(self, name: str) -> None:
        """Through all pages of a list. Rows may shift while it is walked: what shifts to a later page is met twice, and
        what shifts to an earlier one is met by the next walk, which overlaps."""
        walk, listing = self._run.walks[name], LISTINGS[name]
        kind = _kind(name)
        since, until = datetime.fromisoformat(walk.since), datetime.fromisoformat(walk.until)
        asked = {"startDate": timestamp(since - listing.widened), "endDate": timestamp(until + WIDENED)}
        query = {**listing.query, **asked} if kind != "subscribers" else {}
        take: Callable[..., None] = getattr(self._findings, kind)  # which looks at the dates itself
        met: set[str] = set()
        while True:
            try:
                page = self._provider.page(listing.path, query, walk.page)
            except RequestFailed as failure:
                if failure.reason == "not_found" and walk.page > 1:
                    break
                raise
            self._answered.add(name)
            self.up.add(listing.path)
            ids = {_id(row) for row in page.rows}
            is_again = bool(ids) and ids <= met
            if walk.page > (MAX_PAGES if name in URGENT else MAX_PAGES_OF_HISTORY) or (is_again and page.has_more):
                raise RequestFailed("endless")
            take(page.rows, since, until)
            _note_found(self._run, self._findings)
            met = ids
            if not ids or is_again or page.has_more is False:
                break
            walk.page += 1
            self._save()
        del self._run.walks[name]
        if listing.back is None:
            self._run.cursors[name] = walk.until
        if name == "orders.recent" and self._save is not _nothing:
            count("ReconcileCompleted")
        self._save()

    def _note_failure(self, name: str, failure: RequestFailed, *, got_none: bool) -> None:
        """What fails must hold up neither the other lists nor what is new: the shortest walk of a kind is tried, and
        only where that fails, too, is the path down. A walk that got no page begins anew, at once or, where it is long
        and an outage must not cost it its pages, when it is due again."""
        kind, path, now = _kind(name), LISTINGS[name].path, datetime.now(UTC)
        shortest = f"{kind}.asked"
        if failure.is_of_all:
            self.down.update(listing.path for listing in LISTINGS.values())
        elif name != shortest and shortest in LISTINGS:
            if shortest not in self._tried:
                self._run.walks.setdefault(shortest, _beginning(shortest, self._run, now))
        elif got_none:
            self.down.add(path)
        if got_none and name in URGENT:
            walk = self._run.walks[name] = _beginning(name, self._run, now)
            if f"{kind}.history" in LISTINGS:  # which finds what is older than a row that stands in the way
                walk.since = max(walk.since, timestamp(now - timedelta(days=2)))
        else:
            self._run.walks[name].stuck = got_none


def _begin_walks(run: Run, now: datetime) -> None:
    """Of all that is due. One that is under way goes on instead, unless it is stuck; when it takes long, the shortest
    one looks for what is new."""
    for name in sorted(run.due | (run.walks.keys() & SCHEDULED["asked"])):
        walk = run.walks.get(name)
        if walk is None or walk.stuck or name in SCHEDULED["asked"]:
            run.walks[name] = _beginning(name, run, now)
        elif LISTINGS[name].back is None and now - datetime.fromisoformat(walk.until) > TAKES_LONG:
            shortest = f"{_kind(name)}.asked"
            run.walks[shortest] = _beginning(shortest, run, now)


def _begin_since(run: Run, since: datetime, now: datetime) -> None:
    """One that is under way from that moment, or from before it, goes on instead, unless it is stuck."""
    for name in SINCE:
        walk = run.walks.get(name)
        if walk is None or walk.stuck or datetime.fromisoformat(walk.since) > since:
            run.walks[name] = Walk(timestamp(since), timestamp(now))


def _since(text: object, now: datetime) -> datetime:
    """Raises ValueError."""
    since = datetime.fromisoformat(text) if isinstance(text, str) else None
    if since is None or since.tzinfo is None or not now - HISTORY - WIDENED <= since <= now:
        raise ValueError(f"since must be a time with its zone, at most {HISTORY.days} days ago")
    return since


def _beginning(name: str, run: Run, now: datetime) -> Walk:
    back = LISTINGS[name].back
    if back is None:
        back = now - datetime.fromisoformat(run.cursors.get(name, run.start)) + OVERLAP
    return _from(now, back)


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _id(row: Any) -> str:
    named = row if isinstance(row, dict) else {}
    return str(named.get("_id") or named.get("subscriptionCustomerId") or row)


def _from(now: datetime, back: timedelta) -> Walk:
    return Walk(timestamp(now - back), timestamp(now))


def _saving(run: Run, provider: Provider) -> Callable[..., None]:
    begun = set(run.due)

    def save(*, outcome: str | None = None) -> None:
        nonlocal begun
        run.spent = list(provider.spent)
        progress.save(run, datetime.now(UTC), begun, outcome=outcome)
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
