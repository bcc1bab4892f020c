"""Lambda's poller of a table's stream: batch by batch in order, tried again until it succeeds or is given up.

Faithful to docs.aws.amazon.com/lambda/latest/dg/with-ddb.html: services-ddb-batchfailurereporting.html and
services-dynamodb-errors.html, with one shard. Only how long Lambda waits between two tries is not documented.
"""

import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox import aws
from sandbox.aws import Record
from sandbox.invocation import Invocable, failed, reported_failures
from sandbox.template import PSEUDO_PARAMETERS, Function, Stream

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds before a batch is tried again; each wait is twice the one before it."""
SHARD = "shardId-00000000000000000001-sandbox1"

_ARN = f"arn:aws:lambda:{PSEUDO_PARAMETERS['AWS::Region']}:{PSEUDO_PARAMETERS['AWS::AccountId']}:function:"


@dataclass
class _Batch:
    """Records not done yet. A split is a try, and no retry."""

    records: list[Record]
    tries: int = 0
    retries: int = 0
    last_answer: Any = None


class StreamPoller:
    """Hands the changes of a table to a function that has them as an event source."""

    def __init__(
        self, function: Function, stream: Stream, worker: Invocable, s3: Any, clock: Callable[[], float] = time.time
    ) -> None:
        """`s3` is a client, for what is given up; `clock` is Unix time."""
        self._function = function
        self._stream = stream
        self._worker = worker
        self._s3 = s3
        self._clock = clock
        self._batches: deque[_Batch] = deque()
        self._position = aws.read_stream(stream.arn, 0)[1] if stream.latest else 0
        self._wait = FIRST_WAIT
        self._not_before = 0.0

    def poll(self) -> None:
        """At most one invocation: of the oldest batch, once its time has come."""
        if self._clock() < self._not_before:
            return
        if not self._batches:
            self._read()
        if self._batches:
            batch = self._batches[0]
            self._give_up_what_is_too_old(batch)
            if batch.records:
                self._try(batch)
            else:
                self._batches.popleft()

    def _read(self) -> None:
        records, position = aws.read_stream(self._stream.arn, self._position)
        wanted = [record for record in records if self._lets_through(record)]
        size = self._stream.batch_size
        self._batches.extend(_Batch(wanted[start : start + size]) for start in range(0, len(wanted), size))
        self._position = position

    def _lets_through(self, record: Record) -> bool:
        filters = self._stream.filters
        return not filters or any(aws.matches(pattern, record) for pattern in filters)

    def _give_up_what_is_too_old(self, batch: _Batch) -> None:
        if self._stream.max_age is None:
            return
        oldest = self._clock() - self._stream.max_age
        old = [record for record in batch.records if _written_at(record) < oldest]  # in order: the first ones
        if old:
            self._give_up(batch, old, "RecordAgeExceeded")
            batch.records = batch.records[len(old) :]

    def _try(self, batch: _Batch) -> None:
        batch.last_answer = answer = self._worker.invoke({"Records": batch.records})
        batch.tries += 1
        first_failed = self._first_failed(answer, batch.records)
        if first_failed is None:
            self._batches.popleft()
            self._wait, self._not_before = FIRST_WAIT, 0.0
            return
        if failed(answer) and self._stream.bisects and len(batch.records) > 1:
            self._split(batch)
        else:
            batch.records = batch.records[first_failed:]
            batch.retries += 1
            if self._stream.max_retries is not None and batch.retries > self._stream.max_retries:
                self._give_up(batch, batch.records, "RetryAttemptsExhausted")
                self._batches.popleft()
        self._not_before = self._clock() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    def _first_failed(self, answer: Any, records: list[Record]) -> int | None:
        """From which record on the batch is to be tried again; None when all of it is done."""
        if failed(answer):
            return 0
        named = reported_failures(answer) if self._stream.reports_failures else []
        if not named:
            return None
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        known = [numbers.index(name) for name in named if name in numbers]
        return min(known) if len(known) == len(named) else 0

    def _split(self, batch: _Batch) -> None:
        self._batches.popleft()
        middle = len(batch.records) // 2
        for half in (batch.records[middle:], batch.records[:middle]):
            self._batches.appendleft(_Batch(half, batch.tries, batch.retries, batch.last_answer))

    def _give_up(self, batch: _Batch, records: list[Record], condition: str) -> None:
        """Keeps the whole invocation in the bucket, in the shape and under the name that AWS gives it."""
        if self._stream.failure_bucket is None:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        kept = {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"{_ARN}{self._function.logical_id}",
                "condition": condition,
                "approximateInvokeCount": batch.tries,
            },
            **({"responseContext": _response(batch.last_answer)} if batch.tries else {}),
            "version": "1.0",
            "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z",
            "DDBStreamBatchInfo": {
                "shardId": SHARD,
                "startSequenceNumber": records[0]["dynamodb"]["SequenceNumber"],
                "endSequenceNumber": records[-1]["dynamodb"]["SequenceNumber"],
                "approximateArrivalOfFirstRecord": _arrival(records[0]),
                "approximateArrivalOfLastRecord": _arrival(records[-1]),
                "batchSize": len(records),
                "streamArn": self._stream.arn,
            },
            "payload": json.dumps({"Records": records}),
        }
        source = uuid.uuid5(uuid.NAMESPACE_URL, f"{self._function.logical_id}/{self._stream.name}")
        self._s3.put_object(
            Bucket=self._stream.failure_bucket,
            Key=f"aws/lambda/{source}/{SHARD}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}",
            Body=json.dumps(kept).encode(),
        )


def _response(answer: Any) -> dict[str, Any]:
    return {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        **({"functionError": "Unhandled"} if failed(answer) else {}),
    }


def _written_at(record: Record) -> int:
    written: int = record["dynamodb"]["ApproximateCreationDateTime"]
    return written


def _arrival(record: Record) -> str:
    return f"{datetime.fromtimestamp(_written_at(record), UTC):%Y-%m-%dT%H:%M:%SZ}"
