"""`pf reconcile`: what the webhooks missed is looked for now, by the function that does so on a schedule."""

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from ops import audit, functions
from ops.cli import (
    Failed,
    TryAgain,
    for_option,
    json_option,
    print_json,
    progress,
    reason_option,
    said,
    since_option,
    table,
    tell,
)
from ops.stack import Stack

HISTORY = timedelta(days=180)
PAUSE_SECONDS = 5
"""Between two looks whether another run is over."""
_MEANS = {
    "settled": "paid, and no webhook had said so",
    "second_payment": "an order was paid again: money is owed back",
    "mismatched": "paid for something else than was ordered",
    "unmatched": "a payment of no order of yours",
    "foreign": "another sale of the same account",
    "refund": "refunds of a payment",
    "confirmed": "told by webhook, and Pocketsflow lists it, too",
    "redelivered": "known already",
    "known": "nothing new",
    "too_new": "of no order yet; judged by the next runs",
    "before_start": "made before this stack's first run; ReconcileFrom names an earlier moment",
    "other_mode": "of the other mode, test or live",
    "denied": "told by webhook, and Pocketsflow does not know it",
    "payment_counted": "a payment of a subscription",
    "followed": "a subscription whose state was another",
    "has_ended": "a subscription that ended before",
    "unreadable": "rows that nobody understands; see the log",
    "would_settle": "would settle an order",
    "would_refund": "refunds of a payment would be written",
    "would_count": "a payment of a subscription would be counted",
    "would_follow": "a subscription's state would change",
}


@click.command()
@since_option
@click.option("--dry-run", is_flag=True, help="Say what would be found, and write nothing.")
@for_option(900)
@reason_option(required=False)
@json_option
@click.pass_obj
def reconcile(
    stack: Callable[[], Stack], *, since: datetime | None, dry_run: bool, seconds: int, reason: str, as_json: bool
) -> None:
    """Looks for what the webhooks missed, now.

    By default two days, and half a year for refunds and disputes, as every day. With --since: all payments and refunds
    from then on, in as many runs as that takes.
    """
    on, now = stack(), datetime.now(UTC)
    if since is not None and not now - HISTORY - timedelta(minutes=1) <= since <= now:
        raise click.BadParameter(f"must be within the last {HISTORY.days} days", param_hint="--since")
    event: dict[str, Any] = {"walk": "days"}
    if since is not None:
        event = {"walk": "since", "since": since.isoformat()}
    if dry_run:
        event["dry_run"] = True
    else:
        audit.write(on, "reconcile", reason, now, **event)
    found = _run(on, event, time.monotonic() + seconds)
    if as_json:
        print_json(found)
    else:
        rows = [[name, str(number), _MEANS.get(name, "")] for name, number in sorted(found["found"].items())]
        if rows:
            table(["outcome", "how many", "what it is"], rows)
        tell(f"{found['requests']} requests to Pocketsflow in {found['runs']} {_runs(found['runs'])}.")
    _conclude(found, since)


def _run(stack: Stack, event: dict[str, Any], end: float) -> dict[str, Any]:
    """Invokes the function, and again while its walk is not done. What was found in all."""
    counts: Counter[str] = Counter()
    requests = runs = 0
    last: dict[str, Any] = {}
    with progress("requests to Pocketsflow") as advance:
        while True:
            try:
                answer = functions.invoke(stack, stack.output("ReconcileFunctionName"), json.dumps(event).encode())
            except (BotoCoreError, ClientError, Failed) as error:
                if not runs:
                    raise
                tell((error if isinstance(error, Failed) else said(error)).message)
                last = {**last, "outcome": "partial"}
                break
            if answer["outcome"] == "already_running" and runs and time.monotonic() < end:
                time.sleep(PAUSE_SECONDS)  # the schedule's own run goes on with the same walk
                continue
            if answer["outcome"] == "no_api_key":
                raise Failed(f"the stack has no API key of mode {stack.mode} that can be read; run `pf init`")
            if answer["outcome"] == "already_running":
                if not runs:
                    raise TryAgain("reconciliation is at work at this moment; try again in a few minutes")
                break
            runs += 1
            counts.update(answer["found"])
            requests += answer["requests"]
            last = answer
            advance(answer["requests"])
            goes_on = event["walk"] == "since" and any(name.endswith(".since") for name in answer["unfinished"])
            if event.get("dry_run") or last["outcome"] != "done" or not goes_on or time.monotonic() >= end:
                break
            event = {"walk": "since"}
    return {
        "outcome": last["outcome"],
        "found": dict(counts),
        "requests": requests,
        "runs": runs,
        "unfinished": last["unfinished"],
        "dry_run": last["dry_run"],
    }


def _conclude(found: dict[str, Any], since: datetime | None) -> None:
    """Raises TryAgain unless all that was asked for was looked at."""
    left = ", ".join(found["unfinished"])
    if found["outcome"] != "done":
        raise TryAgain(
            "Pocketsflow or AWS failed in between; what was found is settled, and the next run goes on"
            + (f" with {left}" if left else "")
        )
    if not left:
        return
    if found["dry_run"]:
        raise TryAgain(f"a dry run looks for four minutes only, and has not come to the end of {left}")
    if since is not None and ".since" in left:
        raise TryAgain(f"not done in time: the schedule's runs go on with {left}; or give --for more seconds")
    tell(f"The schedule's runs go on with {left}.")


def _runs(number: int) -> str:
    return "run" if number == 1 else "runs"
