"""npm's dynalite: a DynamoDB by other people, atomic by itself, as a second opinion on every race.

It knows neither streams nor transactions nor the old item on a failed condition. The latter two are put together here
from its single requests, so that each condition is still its own to judge.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import requests
from werkzeug.wrappers import Request, Response

from sandbox.servers import Server
from sandbox.template import ROOT

MODULES = ROOT / "tests/e2e/node_modules"
_START = """
const server = require("dynalite")({createTableMs: 0, deleteTableMs: 0})
server.listen(0, "127.0.0.1", () => console.log(server.address().port))
process.stdin.resume().on("end", () => process.exit()) // with whoever started it
"""


@contextmanager
def dynalite(node: str) -> Iterator[str]:
    """Its address, completed."""
    process = subprocess.Popen(
        [node, "-e", _START], env={**os.environ, "NODE_PATH": str(MODULES)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    server = Server(0)
    try:
        assert process.stdout is not None
        server.start(_Completed(f"http://127.0.0.1:{process.stdout.readline().strip()}"))
        yield server.url
    finally:
        server.close()
        process.communicate(timeout=15)


class _Completed:
    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        version, _, operation = request.headers["X-Amz-Target"].rpartition(".")
        headers = {"Authorization": request.headers["Authorization"], "X-Amz-Date": request.headers["X-Amz-Date"]}

        def call(operation: str, **content: Any) -> tuple[int, Any]:
            target = {**headers, "X-Amz-Target": f"{version}.{operation}", "Content-Type": "application/x-amz-json-1.0"}
            answer = requests.post(self._url, data=json.dumps(content), headers=target, timeout=30)
            return answer.status_code, answer.json()

        content = json.loads(request.get_data())
        if operation == "TransactWriteItems":
            key, order = (write["Put"] for write in content["TransactItems"])
            status, answer = _put_both(call, key, order)
        elif operation == "UpdateTimeToLive":  # unknown to it, and nothing expires within a test
            status, answer = 200, {}
        else:
            status, answer = _with_old_item(call, operation, content)
        if operation == "CreateTable":
            answer["TableDescription"]["LatestStreamArn"] = f"{answer['TableDescription']['TableArn']}/stream/none"
        return Response(json.dumps(answer), status, content_type="application/x-amz-json-1.0")(environ, start_response)


def _with_old_item(call: Any, operation: str, content: dict[str, Any]) -> tuple[int, Any]:
    """The item is read after the failure: whatever made the condition fail is never taken away again."""
    wanted = content.pop("ReturnValuesOnConditionCheckFailure", None)
    status, answer = call(operation, **content)
    if wanted and str(answer.get("__type")).endswith("#ConditionalCheckFailedException"):
        key = content.get("Key") or {"pk": content["Item"]["pk"]}
        _, found = call("GetItem", TableName=content["TableName"], Key=key, ConsistentRead=True)
        answer["Item"] = found.get("Item", {})
    return status, answer


def _put_both(call: Any, key: dict[str, Any], order: dict[str, Any]) -> tuple[int, Any]:
    """The order, which has no condition, first: whoever meets the key finds its order. The loser's is taken back."""
    status, answer = call("PutItem", **order)
    assert status == 200, answer
    status, answer = _with_old_item(call, "PutItem", key)
    if status == 200:
        return 200, {}
    call("DeleteItem", TableName=order["TableName"], Key={"pk": order["Item"]["pk"]})
    return 400, {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": [{"Code": "ConditionalCheckFailed", "Item": answer["Item"]}, {"Code": "None"}],
    }
