"""A table's stream reaches its function as Lambda's poller brings it: in order, again and again, never lost."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import moto
import pytest

from sandbox import aws
from sandbox.streams import LONGEST_WAIT, StreamPoller
from sandbox.template import Function, Stream
from tests.conftest import template

ORDERS = '{"eventName": ["INSERT", "MODIFY"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": "order#"}]}}}}'
ERROR = {"errorMessage": "boom", "errorType": "RuntimeError"}


@dataclass
class Worker:
    """A function that answers as `answer` says, given the keys it got, and remembers them."""

    answer: Callable[[list[str]], Any] = lambda keys: {"batchItemFailures": []}
    events: list[Any] = field(default_factory=list)

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        return self.answer(self.keys[-1])

    @property
    def keys(self) -> list[list[str]]:
        return [[_key(record) for record in event["Records"]] for event in self.events]


@dataclass
class Table:
    """The ledger in moto, and a poller's clock that stands still until a test moves it."""

    arn: str
    dynamodb: Any
    s3: Any
    bucket: str
    name: str = "sandbox-Ledger"
    now: float = 0.0

    def put(self, *keys: str, **more: Any) -> None:
        for key in keys:
            self.dynamodb.put_item(TableName=self.name, Item={"pk": {"S": key}, "v": {"S": "1"}, **more})

    def update(self, key: str, name: str, value: str) -> None:
        self.dynamodb.update_item(
            TableName=self.name,
            Key={"pk": {"S": key}},
            UpdateExpression="SET #n = :v",
            ExpressionAttributeNames={"#n": name},
            ExpressionAttributeValues={":v": {"S": value}},
        )

    def records(self) -> list[tuple[str, str]]:
        """Event names and keys, from the beginning."""
        return [(record["eventName"], _key(record)) for record in aws.read_stream(self.arn, 0)[0]]

    def poller(self, worker: Worker, **settings: Any) -> StreamPoller:
        stream = Stream("Changes", self.arn, (ORDERS,), False, 10, False, None, None, True, self.bucket)
        function = Function("Fake", "fake.handler", {}, 1, [])
        return StreamPoller(function, replace(stream, **settings), worker, self.s3, clock=lambda: self.now)

    def poll_long(self, poller: StreamPoller, times: int = 20) -> None:
        """As often, each time after the longest wait."""
        for _ in range(times):
            poller.poll()
            self.now += LONGEST_WAIT

    def given_up(self) -> list[Any]:
        """Objects in the bucket, by key."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [json.loads(self.s3.get_object(Bucket=self.bucket, Key=each["Key"])["Body"].read()) for each in listed]


@pytest.fixture
def table() -> Iterator[Table]:
    with moto.mock_aws():
        stage = template()
        aws.create_resources(stage)
        yield Table(
            stage.references["Ledger"]["StreamArn"],
            aws.client("dynamodb", None),
            aws.client("s3", None),
            stage.references["Unpublished"]["Ref"],
            now=time.time(),
        )


def _key(record: Any) -> str:
    key: str = record["dynamodb"]["Keys"]["pk"]["S"]
    return key


def test_a_record_has_awss_shape(table: Table) -> None:
    """The JSON of DynamoDB with bytes in base64 at any depth, both images, whole seconds, and where it comes from."""
    table.put("order#1", raw={"B": b"\xff\x00"}, fact={"M": {"raw": {"B": b"\xfe"}, "n": {"N": "1.50"}}})
    table.update("order#1", "v", "2")
    worker = Worker()
    table.poller(worker).poll()
    [created, changed] = worker.events[0]["Records"]
    image = created["dynamodb"]["NewImage"]
    assert image["raw"] == {"B": base64.b64encode(b"\xff\x00").decode()}
    assert image["fact"]["M"] == {"raw": {"B": base64.b64encode(b"\xfe").decode()}, "n": {"N": "1.50"}}
    assert "OldImage" not in created["dynamodb"]
    assert (changed["dynamodb"]["OldImage"]["v"], changed["dynamodb"]["NewImage"]["v"]) == ({"S": "1"}, {"S": "2"})
    assert changed["dynamodb"].keys() == {
        *("ApproximateCreationDateTime", "Keys", "NewImage", "OldImage", "SequenceNumber", "SizeBytes"),
        "StreamViewType",
    }
    fixed = {"eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1"}
    assert changed.items() >= {**fixed, "eventName": "MODIFY", "eventSourceARN": table.arn}.items()
    assert abs(changed["dynamodb"]["ApproximateCreationDateTime"] - time.time()) < 60
    assert isinstance(changed["dynamodb"]["ApproximateCreationDateTime"], int)
    assert int(created["dynamodb"]["SequenceNumber"]) < int(changed["dynamodb"]["SequenceNumber"])
    json.dumps(worker.events)


def test_a_write_that_changes_nothing_is_no_record(table: Table) -> None:
    """As on AWS; moto would have one."""
    table.put("order#1")
    table.put("order#1")
    table.update("order#1", "v", "1")
    assert table.records() == [("INSERT", "order#1")]


def test_an_update_that_creates_is_one_record(table: Table) -> None:
    """As on AWS; moto would have two, the first of an item of keys alone."""
    table.update("sale#1", "v", "1")
    table.update("sale#2", "v", "1")
    table.dynamodb.delete_item(TableName=table.name, Key={"pk": {"S": "sale#2"}})
    table.put("sale#2")
    assert table.records() == [("INSERT", "sale#1"), ("INSERT", "sale#2"), ("REMOVE", "sale#2"), ("INSERT", "sale#2")]


def test_the_stream_goes_on_after_a_failed_transaction(table: Table) -> None:
    """moto puts a copy in the place of the whole table then; what was undone was never a record."""
    worker = Worker()
    poller = table.poller(worker)
    table.put("order#1")
    poller.poll()
    put = {"TableName": table.name, "Item": {"pk": {"S": "order#2"}}}
    absent = {**put, "Item": {"pk": {"S": "order#1"}}, "ConditionExpression": "attribute_not_exists(pk)"}
    with pytest.raises(table.dynamodb.exceptions.TransactionCanceledException):
        table.dynamodb.transact_write_items(TransactItems=[{"Put": put}, {"Put": absent}])
    table.put("order#3")
    poller.poll()
    assert worker.keys == [["order#1"], ["order#3"]]


def test_what_was_read_is_not_read_again(table: Table) -> None:
    """A look costs what is new: the position goes on, and nothing new is nothing at all."""
    table.put("order#1", "order#2")
    records, position = aws.read_stream(table.arn, 0)
    assert len(records) == 2
    assert aws.read_stream(table.arn, position) == ([], position)
    table.put("order#3")
    assert [_key(record) for record in aws.read_stream(table.arn, position)[0]] == ["order#3"]


def test_filters(table: Table) -> None:
    """A record reaches a function when one of its filters matches; a function without filters gets all."""
    table.put("order#1", "idem#1", "order#2")
    table.dynamodb.delete_item(TableName=table.name, Key={"pk": {"S": "order#2"}})
    filtered, either, everything = Worker(), Worker(), Worker()
    table.poller(filtered).poll()
    table.poller(either, filters=('{"eventName": ["REMOVE"]}', ORDERS)).poll()
    table.poller(everything, filters=()).poll()
    assert filtered.keys == [["order#1", "order#2"]]
    assert either.keys == [["order#1", "order#2", "order#2"]]
    assert everything.keys == [["order#1", "idem#1", "order#2", "order#2"]]


def test_the_starting_position(table: Table) -> None:
    """TRIM_HORIZON begins with what was there, LATEST with what comes."""
    table.put("order#1")
    from_the_beginning, from_now_on = Worker(), Worker()
    pollers = [table.poller(from_the_beginning), table.poller(from_now_on, latest=True)]
    table.put("order#2")
    for poller in pollers:
        poller.poll()
    assert (from_the_beginning.keys, from_now_on.keys) == ([["order#1", "order#2"]], [["order#2"]])


def test_batches(table: Table) -> None:
    """As many records at once as the template says, in the order in which they were written."""
    keys = [f"order#{number}" for number in range(5)]
    table.put(*keys)
    worker = Worker()
    table.poll_long(table.poller(worker, batch_size=2))
    assert worker.keys == [keys[:2], keys[2:4], keys[4:]]


def test_an_error_is_tried_again_and_nothing_overtakes_it(table: Table) -> None:
    """The same batch comes again after a wait that doubles, and what was written after it waits behind it."""
    healthy = False
    worker = Worker(lambda keys: None if healthy else ERROR)
    poller = table.poller(worker)
    table.put("order#1")
    poller.poll()
    table.put("order#2")
    poller.poll()
    assert worker.keys == [["order#1"]]
    table.now += 0.11
    poller.poll()
    table.now += 0.11
    poller.poll()
    assert worker.keys == [["order#1"]] * 2
    healthy = True
    table.poll_long(poller)
    assert worker.keys == [["order#1"]] * 3 + [["order#2"]]


def test_the_wait_is_never_longer_than_the_longest(table: Table) -> None:
    """However long an outage lasts, recovery is noticed within seconds; and a success makes the next wait short."""
    table.put("order#1")
    worker = Worker(lambda keys: ERROR)
    poller = table.poller(worker)
    table.poll_long(poller, 15)
    assert len(worker.events) == 15
    worker.answer = lambda keys: None
    table.poll_long(poller, 1)
    worker.answer = lambda keys: ERROR
    table.put("order#2")
    poller.poll()
    table.now += 0.11
    poller.poll()
    assert worker.keys[-2:] == [["order#2"]] * 2


def test_a_report_is_tried_again_from_the_first_that_failed(table: Table) -> None:
    """Lambda's checkpoint is the lowest number named: what stands before it is done, and the rest comes again."""
    table.put("order#1", "order#2", "order#3")
    tries: list[list[str]] = []

    def answer(keys: list[str]) -> Any:
        tries.append(keys)
        records = worker.events[-1]["Records"]
        failed = [records[-1], records[1]] if len(tries) == 1 else []
        return {"batchItemFailures": [{"itemIdentifier": each["dynamodb"]["SequenceNumber"]} for each in failed]}

    worker = Worker(answer)
    table.poll_long(table.poller(worker))
    assert tries == [["order#1", "order#2", "order#3"], ["order#2", "order#3"]]


@pytest.mark.parametrize(
    "wrong",
    [
        [{"itemIdentifier": "17"}],
        [{"itemIdentifier": None}],
        [{"itemIdentifier": ""}],
        [{"id": "1"}],
        ["1"],
        "all of them",
    ],
    ids=["unknown", "null", "empty", "misnamed", "bare", "no list"],
)
def test_a_report_that_is_wrong_fails_the_whole_batch(table: Table, wrong: Any) -> None:
    """Nothing is taken for done that the function did not clearly leave out of its report."""
    table.put("order#1", "order#2")
    answers = iter([{"batchItemFailures": wrong}, None])
    worker = Worker(lambda keys: next(answers))
    table.poll_long(table.poller(worker))
    assert worker.keys == [["order#1", "order#2"]] * 2


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}, [], "done"])
def test_an_answer_without_a_report_is_success(table: Table, answer: Any) -> None:
    """As documented: an empty or absent list, or no answer at all."""
    table.put("order#1")
    worker = Worker(lambda keys: answer)
    table.poll_long(table.poller(worker))
    assert worker.keys == [["order#1"]]


def test_a_report_counts_only_where_the_template_says_so(table: Table) -> None:
    """Without ReportBatchItemFailures an answer is an answer."""
    table.put("order#1")
    worker = Worker(lambda keys: {"batchItemFailures": [{"itemIdentifier": ""}]})
    table.poll_long(table.poller(worker, reports_failures=False))
    assert worker.keys == [["order#1"]]


def test_a_poisoned_record_is_isolated(table: Table) -> None:
    """A batch that fails is split until the record that makes it fail stands alone; only that one is given up."""
    keys = [f"order#{number}" for number in range(5)]
    table.put(*keys)
    worker = Worker(lambda keys: ERROR if "order#2" in keys else None)
    table.poll_long(table.poller(worker, bisects=True, max_retries=2))
    done = [key for batch in worker.keys if "order#2" not in batch for key in batch]
    assert done == ["order#0", "order#1", "order#3", "order#4"]
    alone = [batch for batch in worker.keys if batch == ["order#2"]]
    assert len(alone) == 3  # once and twice again: a split is no retry
    [kept] = table.given_up()
    assert [_key(record) for record in json.loads(kept["payload"])["Records"]] == ["order#2"]


def test_what_is_given_up_is_kept_whole(table: Table) -> None:
    """The object has the shape and the name that AWS documents, and its payload is the event that failed."""
    table.put("order#1", "order#2")
    worker = Worker(lambda keys: ERROR)
    poller = table.poller(worker, max_retries=1)
    table.poll_long(poller)
    [kept] = table.given_up()
    first, last = worker.events[0]["Records"]
    assert kept.keys() == {
        *("requestContext", "responseContext", "version", "timestamp", "DDBStreamBatchInfo", "payload")
    }
    assert json.loads(kept["payload"]) == worker.events[-1] == {"Records": [first, last]}
    assert (
        kept["requestContext"].items() >= {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 2}.items()
    )
    assert kept["requestContext"]["functionArn"].endswith(":function:Fake")
    assert kept["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert kept["version"] == "1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", kept["timestamp"])
    batch = kept["DDBStreamBatchInfo"]
    assert batch.items() >= {"batchSize": 2, "streamArn": table.arn}.items()
    assert batch["startSequenceNumber"] == first["dynamodb"]["SequenceNumber"]
    assert batch["endSequenceNumber"] == last["dynamodb"]["SequenceNumber"]
    arrival = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(arrival, batch["approximateArrivalOfFirstRecord"])
    assert re.fullmatch(arrival, batch["approximateArrivalOfLastRecord"])
    [key] = [each["Key"] for each in table.s3.list_objects_v2(Bucket=table.bucket)["Contents"]]
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    moment = r"\d{4}/\d\d/\d\d/\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d"
    assert re.fullmatch(rf"aws/lambda/{uuid}/{batch['shardId']}/{moment}-{uuid}", key)


def test_after_what_is_given_up_the_stream_goes_on(table: Table) -> None:
    """One change that nobody can tell does not hold up those behind it for ever."""
    worker = Worker(lambda keys: ERROR if "order#1" in keys else None)
    poller = table.poller(worker, max_retries=0)
    table.put("order#1")
    table.poll_long(poller)
    table.put("order#2")
    table.poll_long(poller)
    assert worker.keys == [["order#1"], ["order#2"]]


def test_a_report_that_never_ends_is_given_up_without_an_error(table: Table) -> None:
    """The function answered each time, so the kept invocation tells of no error; what was done is not in it."""
    table.put("order#1", "order#2")

    def answer(keys: list[str]) -> Any:
        number = worker.events[-1]["Records"][-1]["dynamodb"]["SequenceNumber"]
        return {"batchItemFailures": [{"itemIdentifier": number}]}

    worker = Worker(answer)
    table.poll_long(table.poller(worker, max_retries=3))
    [kept] = table.given_up()
    assert kept["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert [_key(record) for record in json.loads(kept["payload"])["Records"]] == ["order#2"]
    assert worker.keys == [["order#1", "order#2"]] + [["order#2"]] * 3


def test_what_is_too_old_is_given_up(table: Table) -> None:
    """However often it may be tried, and also before its first try."""
    table.put("order#1")
    worker = Worker(lambda keys: ERROR)
    poller = table.poller(worker, max_age=60)
    poller.poll()
    table.now += 62
    poller.poll()
    assert worker.keys == [["order#1"]]
    [tried] = table.given_up()
    assert tried["requestContext"].items() >= {"condition": "RecordAgeExceeded", "approximateInvokeCount": 1}.items()
    table.put("order#2")
    poller.poll()
    assert worker.keys == [["order#1"]]
    [never_tried] = [each for each in table.given_up() if each != tried]
    assert "responseContext" not in never_tried


def test_what_is_young_enough_still_comes(table: Table) -> None:
    """Of a batch only the records that are too old are given up."""
    table.put("order#1")
    time.sleep(1.1)
    table.put("order#2")
    first, _ = aws.read_stream(table.arn, 0)[0]
    table.now = first["dynamodb"]["ApproximateCreationDateTime"] + 60.5  # whole seconds, as on AWS
    worker = Worker()
    table.poller(worker, max_age=60).poll()
    assert worker.keys == [["order#2"]]
    [kept] = table.given_up()
    assert [_key(record) for record in json.loads(kept["payload"])["Records"]] == ["order#1"]


def test_without_a_bucket_what_is_given_up_is_gone(table: Table) -> None:
    """As on AWS, where a failure destination is a choice."""
    table.put("order#1")
    worker = Worker(lambda keys: ERROR)
    table.poll_long(table.poller(worker, max_retries=0, failure_bucket=None))
    assert (len(worker.events), table.given_up()) == (1, [])
