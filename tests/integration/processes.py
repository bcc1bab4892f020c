"""The whole stack in processes: functions, ledger, stream and bus, and the fake Pocketsflow with its state."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from payments.table import timestamp
from sandbox import aws
from sandbox import pocketsflow as fake
from sandbox.bus import Published
from sandbox.system import catalogue
from tests import world
from tests.environments import Kill
from tests.integration.conftest import Deployment, deployed
from tests.payloads import asking, delivery

BUS = "pocketsflow-sandbox"
TABLE = "sandbox-Ledger"
TOLD = ("order#", "sale#", "subscription#", "raw#")
MEMBERSHIP = catalogue()["membership"]["productId"]
RECENT, HOURS = {"walk": "recent"}, {"walk": "hours"}
ASKED = {"Records": [{"eventName": "MODIFY", "dynamodb": {"Keys": {"pk": {"S": "reconcile#asked"}}}}]}


class Account(world.Account):
    """Its deliveries are kept, and it takes as many requests as come: nothing here is about its limit."""

    def take_token(self) -> bool:
        return True


class Stack:
    """A deployment whose Pocketsflow sells, with what has come out of it."""

    def __init__(self, deployment: Deployment, pocketsflow: "Pocketsflow") -> None:
        self._deployment, self._pocketsflow = deployment, pocketsflow
        url = deployment.ledger.meta.endpoint_url
        self._bus = Published([BUS], aws.client("events", url), aws.client("sqs", url))
        self._s3 = aws.client("s3", url)
        self._before: list[dict[str, Any]] = []
        self.run, self.items, self.status = deployment.run, deployment.items, deployment.status
        self.clear()

    @property
    def account(self) -> Account:
        return self._pocketsflow.account

    def clear(self) -> None:
        """An empty ledger, and an account without a sale."""
        self._deployment.clear()
        self._pocketsflow.open_account()
        self._forget()

    def _forget(self) -> None:
        described = self._deployment.ledger.describe_table(TableName=TABLE)["Table"]
        self._stream_arn: str = described["LatestStreamArn"]
        _, self._position = aws.read_stream(self._stream_arn, 0)
        self._told = len(self._all_published())

    # --- The same beginning, as often as it is needed -----------------------------------------------------------------

    def remember(self) -> None:
        """The ledger as it is: what `again` goes back to. Ids are the same then, and so are those of the events."""
        self._before = list(self.items().values())

    def again(self) -> None:
        self._deployment.clear()
        for item in self._before:
            self._deployment.ledger.put_item(TableName=TABLE, Item=item)
        self._forget()

    # --- What happens -------------------------------------------------------------------------------------------------

    def checkout(self, sku: str = "course", **fields: Any) -> tuple[str, str]:
        """Our order id and Pocketsflow's session."""
        [run] = self.run("checkout", asking(sku=sku, customerEmail="buyer@example.com", **fields))
        return run.content["orderId"], run.content["sessionId"]

    def pay(self, session: str) -> tuple[str, dict[str, Any]]:
        """Pocketsflow's id, and the webhook as an event."""
        product = self.account.products[self.account.sessions[session]["productId"]]
        identity, _ = self.account.pay(session, product)
        return identity, self.hear()

    def hear(self) -> dict[str, Any]:
        """The last webhook, as an event."""
        last = self._pocketsflow.deliveries.pop()
        return delivery(last.body, last.event, secret=fake.WEBHOOK_SECRET)

    def read_stream(self) -> list[dict[str, Any]]:
        """New records that the relay's filter lets through."""
        records, self._position = aws.read_stream(self._stream_arn, self._position)
        return [record for record in records if record["dynamodb"]["Keys"]["pk"]["S"].startswith(TOLD)]

    def questions(self) -> int:
        """How many records of the stream, from its beginning, ask for a run."""
        records, _ = aws.read_stream(self._stream_arn, 0)
        return sum(record["dynamodb"]["Keys"]["pk"]["S"] == "reconcile#asked" for record in records)

    def relay(self, records: list[dict[str, Any]], kill: Kill | None = None) -> bool:
        """Whether it came to its end, which is that all is published."""
        [run] = self.run("relay", {"Records": records}, kill=kill)
        assert run.answer in (None, {"batchItemFailures": []})
        return run.answer is not None

    def flow(self) -> None:
        """The stream flows until it is empty."""
        while records := self.read_stream():
            self.relay(records)

    def reconcile(self, event: dict[str, Any], kill: Kill | None = None) -> Any:
        """Its answer, None when it died."""
        [run] = self.run("reconcile", event, kill=kill)
        return run.answer

    def is_leased(self) -> bool:
        return "lease_until" in self.items()["reconcile#state"]

    def let_the_lease_expire(self) -> None:
        """As if a run that has died had taken it long ago."""
        if self.is_leased():
            self.write("reconcile#state", "lease_until", ago(minutes=1))

    def grow_old(self, order_id: str) -> None:
        """As if an order had been opened a minute ago."""
        self.write(f"order#{order_id}", "created_at", ago(minutes=1))

    def write(self, pk: str, name: str, value: str) -> None:
        """Over what is there."""
        self._deployment.ledger.update_item(
            TableName=TABLE,
            Key={"pk": {"S": pk}},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": {"S": value}},
        )

    # --- What has come of it ------------------------------------------------------------------------------------------

    def published(self) -> list[dict[str, Any]]:
        """Each {"type", **detail}, as often as the bus took it."""
        return [{"type": event["detail-type"], **event["detail"]} for event in self._all_published()[self._told :]]

    def _all_published(self) -> list[dict[str, Any]]:
        seen = -1
        while seen < len(self._bus.shown()):
            seen = len(self._bus.shown())
            self._bus.poll()
        return self._bus.shown()

    def events(self) -> list[tuple[str, str, str]]:
        """What was published, each once: order, type and id. The id of an event that tells of a state, or of what was
        seen at a time, has the state's number or the time in it, and is left out."""
        return sorted(
            (str(event["order_id"]), event["type"], "" if _tells_of_a_moment(event) else event["id"])
            for event in {event["id"]: event for event in self.published()}.values()
        )

    def types(self) -> list[str]:
        """Of what was published, each once."""
        return [kind for _, kind, _ in self.events()]

    def objects(self) -> list[str]:
        """Keys of what was put aside."""
        listed = self._s3.list_objects_v2(Bucket="sandbox-unpublished")
        return [each["Key"] for each in listed.get("Contents", [])]

    def ledger(self) -> dict[str, Any]:
        """All that is known, without times, without how often the same was written, and without where reconciliation
        is: two ways to the same knowledge are equal."""
        times = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
        found = {}
        for pk, item in self.items().items():
            if pk.startswith("reconcile#"):
                continue
            if pk.startswith("subscription#") or any(name.startswith("flags#") for name in item):
                del item["rev"]  # a state, or what was seen at a time, is overwritten: also by the same
            item.get("arrivals", {"L": []})["L"][1:] = []
            text = json.dumps(item, sort_keys=True, default=lambda raw: base64.b64encode(bytes(raw)).decode())
            found[pk] = json.loads(times.sub("TIME", text))
        return found


def _tells_of_a_moment(event: dict[str, Any]) -> bool:
    of_a_state = ("subscription.started", "subscription.changed", "subscription.ended", "subscription.payment_failed")
    seen_as_a_flag = event["type"].startswith("order.dispute") or event.get("refund", {"id": ""})["id"] is None
    return event["type"] in of_a_state or seen_as_a_flag


class Pocketsflow:
    """The application that the functions reach; behind it an account, which a test can replace."""

    def __init__(self) -> None:
        self.deliveries: list[fake.Delivery] = []
        self.open_account()

    def open_account(self) -> None:
        self.deliveries.clear()
        self.account = Account("http://127.0.0.1:1", catalogue(), "https://api.shop.example", lambda: datetime.now(UTC))
        self.account.hand_over = self.deliveries.append
        self._application = fake.application(self.account)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return self._application(environ, start_response)


@contextmanager
def stack_in_processes() -> Iterator[Stack]:
    pocketsflow = Pocketsflow()
    with deployed(api=pocketsflow) as deployment:
        yield Stack(deployment, pocketsflow)


def parked(*webhooks: dict[str, Any]) -> dict[str, Any]:
    """The same webhooks, as the parking queue hands them over."""
    messages = [
        {"body": event["body"], "event": event["headers"]["x-pocketsflow-event"], "sent_at": "1795463363515"}
        for event in webhooks
    ]
    return {"Records": [{"messageId": str(number), "body": json.dumps(each)} for number, each in enumerate(messages)]}


def ago(**span: float) -> str:
    return timestamp(datetime.now(UTC) - timedelta(**span))
