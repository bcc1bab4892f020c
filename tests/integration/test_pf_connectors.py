"""`pf connector`: what a person sees of a connector at night, and does."""

import io
import json
from typing import Any

import boto3
import botocore.client
import pytest

from sandbox import aws
from tests.conftest import Aws
from tests.pf import answer, deployed, done, failed, fails, run

EVENT = {"detail-type": "order.paid", "detail": {"id": "event-1", "order_id": "ord_test_1"}}


class Feed:
    """A connector's queues and table."""

    def __init__(self) -> None:
        self.sqs, self.dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
        self.queue = self.sqs.create_queue(QueueName="feed")["QueueUrl"]
        self.dead = self.sqs.create_queue(QueueName="feed-dead")["QueueUrl"]
        self.dynamodb.create_table(
            TableName="feed", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )  # fmt: skip

    def note(self, pk: str, **fields: str) -> None:
        item = {name: {"S": value} for name, value in {"pk": pk, **fields}.items()}
        self.dynamodb.put_item(TableName="feed", Item=item)

    def lay_aside(self, content: Any = EVENT) -> None:
        self.sqs.send_message(
            QueueUrl=self.dead, MessageBody=content if isinstance(content, str) else json.dumps(content)
        )

    def lies(self, url: str) -> list[Any]:
        messages = aws.sqs_backends[aws.ACCOUNT][aws.REGION].queues[url.rpartition("/")[2]]._messages
        return [message.body for message in messages]

    def item(self) -> dict[str, Any]:
        return dict(self.dynamodb.get_item(TableName="feed", Key={"pk": {"S": "connector"}}).get("Item", {}))


@pytest.fixture
def feed(cloud: Aws) -> Feed:
    made = Feed()
    secret = boto3.client("secretsmanager").create_secret(Name="feed")["ARN"]
    deployed(
        FeedConnector=f"{made.queue} {made.dead} feed FeedFunction {secret}",
        NoticesConnector=f"{made.queue} {made.dead} feed NoticesFunction -",
    )
    return made


def test_without_a_connector(cloud: Aws) -> None:
    """A stack that has none says so, and which parameter switches one on."""
    deployed()
    assert done("connector", "list") == []
    assert "docs/connectors/" in run("connector", "list").stderr
    for words in (("status", "shopify"), ("retry", "shopify", "--yes"), ("test", "shopify")):
        code, line = failed("connector", *words)
        assert (code, "ShopifyShop" in line) == (1, True)


def test_list(feed: Feed) -> None:
    """How many wait, how many were given up, what was last delivered and what last failed."""
    feed.note("connector", done_at="2026-11-28T10:00:00.000Z", failure="busy", failed_at="2026-11-28T10:01:00.000Z")
    feed.sqs.send_message(QueueUrl=feed.queue, MessageBody="{}")
    feed.lay_aside()
    told, _ = done("connector", "list")
    assert told == {
        "connector": "feed", "waiting": 1, "dead": 1, "done_at": "2026-11-28T10:00:00.000Z", "failure": "busy",
        "failed_at": "2026-11-28T10:01:00.000Z", "disabled": None, "disabled_at": None,
    }  # fmt: skip
    assert "busy at 2026-11-28T10:01:00.000Z" in run("connector", "list").stdout


def test_status_says_why(feed: Feed) -> None:
    """Each dead letter by its event, order and reason; what is no event of ours is one all the same."""
    feed.note("event#event-1", failure="unauthorized", failed_at="2026-11-28T10:00:00.000Z")
    feed.lay_aside()
    feed.lay_aside("no JSON")
    feed.lay_aside("[]")
    told = done("connector", "status", "feed")
    assert sorted(str(each["failure"]) for each in told["letters"]) == ["None", "None", "unauthorized"]
    shown = run("connector", "status", "feed")
    assert "ord_test_1" in shown.stdout
    assert "pf connector retry feed" in shown.stderr
    assert len(feed.lies(feed.dead)) == 3


def test_retry(feed: Feed) -> None:
    """All dead letters go back into the queue, as they are, and the audit has it."""
    feed.lay_aside()
    feed.lay_aside({**EVENT, "detail": {"id": "event-2"}})
    assert run("connector", "retry", "feed", answering="n\n").exit_code == 1
    assert len(feed.lies(feed.dead)) == 2
    assert done("connector", "retry", "feed", "--yes", "--reason", "mended")["moved"] == 2
    assert feed.lies(feed.dead) == []
    assert [json.loads(body)["detail"]["id"] for body in feed.lies(feed.queue)] == ["event-1", "event-2"]
    assert '"connector retry"' in run("audit", "--json").stdout
    assert "no dead letters" in run("connector", "retry", "feed").stderr


def test_retry_of_one_event(feed: Feed) -> None:
    """The others stay where they are; one that is not there is said to be none."""
    feed.lay_aside()
    feed.lay_aside({**EVENT, "detail": {"id": "event-2"}})
    code, line = failed("connector", "retry", "feed", "--event", "event-3", "--yes")
    assert (code, "event-3" in line) == (1, True)


def test_discard(feed: Feed) -> None:
    """What can never be delivered is given up by its event, alone and with a reason: dead letters that stay keep the
    alarm from ringing for the next."""
    feed.lay_aside()
    feed.lay_aside({**EVENT, "detail": {"id": "event-2"}})
    assert run("connector", "discard", "feed", "--event", "event-1", "--yes").exit_code == 2
    why = ("--reason", "the shop has deleted its order")
    assert run("connector", "discard", "feed", "--event", "event-1", *why, answering="n\n").exit_code == 1
    assert len(feed.lies(feed.dead)) == 2
    told = done("connector", "discard", "feed", "--event", "event-1", "--yes", *why)
    assert told == {"connector": "feed", "discarded": 1}
    assert [json.loads(body)["detail"]["id"] for body in feed.lies(feed.dead)] == ["event-2"]
    assert feed.lies(feed.queue) == []
    assert '"connector discard"' in run("audit", "--json").stdout
    code, line = failed("connector", "discard", "feed", "--event", "event-1", "--yes", *why)
    assert (code, "event-1" in line) == (1, True)


def test_retry_enables(feed: Feed) -> None:
    """What the other side has ended goes on."""
    feed.note("connector", disabled="gone", disabled_at="2026-11-28T10:00:00.000Z")
    assert "DISABLED (gone)" in run("connector", "list").stdout
    assert done("connector", "retry", "feed", "--yes") == {"connector": "feed", "moved": 0, "enabled": True}
    assert "disabled" not in feed.item()
    feed.note("connector", disabled="gone", disabled_at="2026-11-28T10:00:00.000Z")
    feed.sqs.send_message(QueueUrl=feed.queue, MessageBody="{}")
    told = run("connector", "retry", "feed", answering="y\n").stderr
    assert "0 events" not in told
    assert "waits in its queue (1)" in told


def test_kept(feed: Feed) -> None:
    """What a connector leaves behind is named: also the queue of what was not delivered yet."""
    kept = done("kept")["kept"]
    named = {name: kept[name] for name in kept if name.startswith("feed ")}
    assert named == {"feed deliveries": "feed", "feed queue": feed.queue, "feed dead letters": feed.dead}


def test_retry_that_is_broken_off(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is in the queue before it leaves the dead letters: it may come twice, and is lost never."""
    feed.lay_aside()
    with monkeypatch.context() as patch:
        fails(patch, "DeleteMessage", answer("ServiceUnavailable", 503))
        assert run("connector", "retry", "feed", "--yes").exit_code == 75
    assert len(feed.lies(feed.queue)) == 1
    assert len(feed.lies(feed.dead)) == 1


@pytest.mark.parametrize(
    ("said", "code"), [({"outcome": "delivered"}, 0), ({"outcome": "failed", "reason": "gone"}, 1)]
)
def test_test(feed: Feed, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], code: int) -> None:
    """The connector's own function speaks to the other side; what came of it is shown, and is the exit code."""
    invoked: list[Any] = []
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def calling(client: Any, name: str, arguments: Any) -> Any:
        if name != "Invoke":
            return call(client, name, arguments)
        invoked.append((arguments["FunctionName"], json.loads(arguments["Payload"])))
        return {"Payload": io.BytesIO(json.dumps(said).encode())}

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
    result = run("connector", "test", "feed", "--type", "order.refunded")
    assert result.exit_code == code
    assert invoked == [("FeedFunction", {"test": "order.refunded"})]
    assert ("gone" in result.stderr) == (code == 1)
