"""Once a day: what is about a person and too old is taken out of the ledger. Money, states and dedupe stay.

The addresses of orders that nobody has paid are found by the index `pending`, from the oldest on; raw bodies by a walk
through the whole table, which begins once a week and goes on the next day where it stopped.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from payments import aws, privacy, retention
from payments.table import plain, timestamp
from payments.telemetry import logger, needs_attention, observed, where

WALK_EVERY = timedelta(days=7)
PAUSE_SECONDS = 0.2
"""After each page, which costs 128 units of reading at most: whoever buys meanwhile does not notice, and a run reads
half a gigabyte, for a cent."""
SPARE_SECONDS = 30
"""For a page, one write and the note of how far it got, each as slow as it may be."""


@observed
def handler(_event: dict[str, Any], context: aws.Context) -> dict[str, Any]:
    """Answers how many orders forgot their address and how many items their raw bodies; `goes_on` when time was over
    before all was looked at."""
    with aws.finishing_in_time(context):
        run = _Run(datetime.now(UTC), context)
        try:
            run.go()
        except (BotoCoreError, ClientError) as error:  # the next run goes on
            run.outcome = "partial"
            needs_attention("retention_partial", error=where(error))
    answer = {"outcome": run.outcome, "addresses": run.addresses, "bodies": run.bodies}
    logger.info("retained", extra=answer)
    return answer


class _Run:
    """`outcome` is `done` or `goes_on`. `addresses` counts orders, `bodies` writes."""

    def __init__(self, now: datetime, context: aws.Context) -> None:
        self._now, self._context = now, context
        self._unpaid_before, self._raw_before = (timestamp(now - span) for span in (retention.PENDING, retention.RAW))
        self.outcome = "done"
        self.addresses = self.bodies = 0

    def go(self) -> None:
        place = retention.place(self._now)
        self._forget_pending(place)
        self._walk(place)

    def _forget_pending(self, place: retention.Place) -> None:
        for orders, until in retention.pending(place.since, self._now - retention.PENDING):
            for pk in orders:
                if not self._has_time():
                    return
                self.addresses += retention.redact(privacy.pending(pk, self._unpaid_before))
            place.since = until
            retention.save(place)

    def _walk(self, place: retention.Place) -> None:
        if place.after is None:
            if place.began and self._now - place.began < WALK_EVERY:
                return
            place.began = self._now
        while self._has_time():
            items, after = retention.page(place.after)
            if not all(map(self._look_at, items)):
                return
            place.after = after
            retention.save(place)
            if after is None:
                return
            time.sleep(PAUSE_SECONDS)

    def _look_at(self, item: dict[str, Any]) -> bool:
        """False when time was over; what is done is done, and no work the next time."""
        try:
            known = plain(item)
            is_pending = privacy.is_pending(known, self._unpaid_before)  # older than those that were looked for
            aged = privacy.aged(known, self._raw_before, timestamp(self._now))
        except Exception as error:  # noqa: BLE001  # written by hand: it holds up no other
            needs_attention("item_not_understood", error=where(error))
            return True
        if is_pending:
            self.addresses += self._has_time() and retention.redact(privacy.pending(known["pk"], self._unpaid_before))
        for redaction in aged:
            self.bodies += self._has_time() and retention.redact(redaction)
        return self.outcome == "done"

    def _has_time(self) -> bool:
        if self._context.get_remaining_time_in_millis() / 1000 > SPARE_SECONDS:
            return True
        self.outcome = "goes_on"
        return False
