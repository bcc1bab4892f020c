"""Once a day: what is about a person and too old is taken out of the ledger. Money, states and dedupe stay.

The addresses of orders that nobody has paid are found by the index `pending`, from the oldest on; raw bodies by a walk
through the whole table, which begins once a week and goes on the next day where it stopped.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, privacy, retention
from payments.table import timestamp
from payments.telemetry import count, logger, metrics, needs_attention, where

WALK_EVERY = timedelta(days=7)
PAUSE_SECONDS = 0.2
"""After each page, which costs 128 units of reading at most: whoever buys meanwhile does not notice."""
MAX_PAGES = 2_000
"""Of one run: two gigabytes, and three cents."""
SPARE_SECONDS = 15
"""For one page and what is taken out of it."""


@metrics.log_metrics
def handler(_event: object, context: aws.Context) -> dict[str, Any]:
    """Answers how many orders and items something was taken out of, and whether the walk is through."""
    now = datetime.now(UTC)
    with aws.finishing_in_time(context):
        run = _Run(now, context)
        try:
            run.go()
        except (BotoCoreError, ClientError) as error:  # the next run goes on
            run.outcome = "partial"
            needs_attention("retention_partial", error=where(error))
    count("PendingForgotten", run.pending)
    count("RawBodiesForgotten", run.raw)
    answer = {"outcome": run.outcome, "pending": run.pending, "raw": run.raw}
    logger.info("retained", extra=answer)
    return answer


class _Run:
    """`outcome` is `done`, or `goes_on` where time or pages did not suffice."""

    def __init__(self, now: datetime, context: aws.Context) -> None:
        self._now, self._context = now, context
        self._at = timestamp(now)
        self._unpaid_before, self._raw_before = (timestamp(now - span) for span in (retention.PENDING, retention.RAW))
        self.outcome = "done"
        self.pending = self.raw = 0

    def go(self) -> None:
        place = retention.place(self._now)
        self._forget_pending(place)
        self._walk(place)

    def _forget_pending(self, place: retention.Place) -> None:
        """Day by day; the last one, of which a part is too young, is looked at again."""
        last = (self._now - retention.PENDING).date()
        while place.day <= last:
            for pk in retention.pending(place.day):
                if self._has_no_time():
                    return
                self.pending += retention.redact(privacy.pending(pk, self._unpaid_before))
            if place.day == last:
                break
            place.day += timedelta(days=1)
            retention.save(place)

    def _walk(self, place: retention.Place) -> None:
        if place.after is None:
            if place.began and self._now - place.began < WALK_EVERY:
                return
            place.began = self._now
        for _ in range(MAX_PAGES):
            if self._has_no_time():
                break
            items, place.after = retention.page(place.after)
            for item in items:
                self._look_at(item)
            retention.save(place)
            if place.after is None:
                return
            time.sleep(PAUSE_SECONDS)
        self.outcome = "goes_on"

    def _look_at(self, item: dict[str, Any]) -> None:
        if privacy.is_pending(item, self._unpaid_before):  # older than what the days above have seen
            self.pending += retention.redact(privacy.pending(item["pk"], self._unpaid_before))
        for redaction in privacy.aged(item, self._raw_before, self._at):
            self.raw += retention.redact(redaction)

    def _has_no_time(self) -> bool:
        if self._context.get_remaining_time_in_millis() / 1000 > SPARE_SECONDS:
            return False
        self.outcome = "goes_on"
        return True
