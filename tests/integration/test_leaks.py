"""The search of tests/canaries.py can fail: what is planted is found, and where it was planted."""

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

import relay
import webhook
from payments import metrics, secrets, table, telemetry
from tests import canaries, pf
from tests.canaries import EMAIL, KEPT, PASSING, PERSONAL, Command, Witness, hits, witness
from tests.conftest import Aws


@pytest.mark.parametrize("form", range(len(list(canaries.forms(EMAIL)))))
def test_a_canary_is_found_in_each_form(form: int) -> None:
    """Also in the middle of a word, and of what is encoded."""
    name, hidden = list(canaries.forms(EMAIL))[form]
    assert hits(f"xx{hidden}xx", PERSONAL) >= {("e-mail", name)}


def test_what_is_encoded_with_its_neighbours_is_found() -> None:
    """base64 has no place where a word begins."""
    for before in range(4):
        encoded = base64.b64encode(b"x" * before + EMAIL.encode() + b'", "and": "more"}').decode()
        assert ("e-mail", "base64") in hits(encoded, PERSONAL)
    assert hits(base64.b64encode(b"nobody's address at all").decode(), {**PERSONAL, **KEPT, **PASSING}) == set()


def leaking(place: str) -> Callable[[Any, Any], Any]:
    """A handler that puts an address where it does not belong."""

    def handler(_event: Any, _context: Any) -> Any:
        where: dict[str, Callable[[], Any]] = {
            "log": lambda: telemetry.logger.info("settled", extra={"order_id": EMAIL}),
            "standard output and error": lambda: telemetry.count(EMAIL) or metrics.write(),
            "exceptions": lambda: {}[EMAIL],
            "names of events": lambda: _put_event(DetailType=EMAIL),
            "events": lambda: _put_event(Detail=json.dumps({"order_id": EMAIL})),
            "attributes of the queue": lambda: webhook._queue.send_message(
                QueueUrl=webhook.PARKING_URL,
                MessageBody="x",
                MessageAttributes={"who": {"DataType": "String", "StringValue": EMAIL}},
            ),
            "keys of the ledger": lambda: table.client.get_item(TableName=table.TABLE, Key=table.key(f"order#{EMAIL}")),
            "requests to the ledger": lambda: table.client.get_item(
                TableName=table.TABLE, Key=table.key("order#x"), ProjectionExpression="#a",
                ExpressionAttributeNames={"#a": canaries.API_KEY},
            ),
            "requests for secrets": lambda: secrets._client.get_secret_value(SecretId=EMAIL),
        }  # fmt: skip
        where.get(place, lambda: None)()
        return {"statusCode": 200, "body": EMAIL if place == "answers" else ""}

    return handler


def _put_event(**entry: str) -> Any:
    return relay._bus.put_events(Entries=[{"Source": "x", "DetailType": "x", "Detail": "{}", **entry}])


@pytest.mark.parametrize(
    "place",
    [
        "log", "standard output and error", "exceptions", "answers", "names of events", "events",
        "attributes of the queue", "keys of the ledger", "requests to the ledger", "requests for secrets",
    ],
)  # fmt: skip
def test_a_leak_is_found(cloud: Aws, place: str) -> None:
    """One word in the wrong place, and in no other."""
    with witness() as seen, contextlib.suppress(KeyError, ClientError):
        seen.watching(leaking(place))({}, None)
    found = {name for name in seen.places if seen.misplaced(name)}
    assert found == {place}


def test_a_leak_of_pf_is_found(cloud: Aws) -> None:
    """A command that shows an address for which nobody asked."""
    pf.deployed()
    seen, words = Witness(), ("--stack", EMAIL, "key", "list")
    assert seen.misplaced(seen.ran(Command(words, code=1), pf.run, {})) != []
    assert seen.misplaced(seen.ran(Command(words, frozenset({"e-mail"}), code=1), pf.run, {})) == []
