"""moto at the scale of a day: where its work grows with the table, the same is done with what the work is about.

A query of an index sorts and searches all items, a request is signed, and passes through layers that know all of AWS.
None of this changes an answer. What any test gains by is in tests/shortcuts.py.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.signers import RequestSigner
from botocore.useragent import UserAgentString
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import StreamShard, Table
from moto.dynamodb.parsing.ast_nodes import Node
from moto.dynamodb.parsing.validators import Validator
from moto.dynamodb.responses import DynamoHandler

from sandbox.aws import ACCOUNT, REGION
from tests import shortcuts

_INDEXED = ("open_day", "awaits")
"""Attributes that only items of a sparse index have."""


def table_of(name: str) -> Table:
    table: Table = dynamodb_backends[ACCOUNT][REGION].tables[name]
    return table


_OPERATIONS = {
    "BatchGetItem": DynamoHandler.batch_get_item,
    "GetItem": DynamoHandler.get_item,
    "PutItem": DynamoHandler.put_item,
    "Query": DynamoHandler.query,
    "TransactWriteItems": DynamoHandler.transact_write_items,
    "UpdateItem": DynamoHandler.update_item,
}


def answer(event_name: str, request: Any) -> AWSResponse:
    """moto's answer to a request, where DynamoDB does it by the shortest way."""
    _, service, operation = event_name.split(".")
    if service == "dynamodb" and (text := shortest(operation, request.body)) is not None:
        return _response(request, 200, text)
    botocore_stubber.enabled = True
    try:
        long_way: AWSResponse | None = botocore_stubber(event_name, request)
    finally:
        botocore_stubber.enabled = False
    assert long_way is not None
    return long_way


def shortest(operation: str, body: bytes) -> str | None:
    """DynamoDB's answer, in JSON. None for what is not done here and for what fails: that has done nothing, and goes
    the long way, which says why."""
    if operation not in _OPERATIONS:
        return None
    handler = DynamoHandler()
    handler.current_account, handler.region = ACCOUNT, REGION
    handler.body = json.loads(body, object_hook=_with_bytes)
    try:
        return _in_json(_OPERATIONS[operation](handler).result)
    except Exception:  # noqa: BLE001  # whatever it is, the long way meets it again
        return None


def made(request: Any, status: int, content: Any) -> AWSResponse:
    """An answer in AWS's JSON."""
    return _response(request, status, _in_json(content))


def _response(request: Any, status: int, text: str) -> AWSResponse:
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, MockRawResponse(text))  # type: ignore[arg-type]


def _in_json(content: Any) -> str:
    return json.dumps(content, default=lambda data: base64.b64encode(data).decode())


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    text = value.get("B")
    return {"B": base64.b64decode(text)} if isinstance(text, str) else value


def speed_up(patch: Any, table: Table, written: Callable[[], None]) -> None:
    """From now on, for this table; `written` is called after each write."""
    indexed: dict[DynamoType, Any] = {}
    add, transact, query = StreamShard.add, DynamoDBBackend.transact_write_items, Table.query

    def index(key: DynamoType) -> None:
        item = table.items.get(key)
        if item is not None and any(name in item.attrs for name in _INDEXED):
            indexed[key] = item
        else:
            indexed.pop(key, None)

    def add_and_index(shard: StreamShard, old: Any, new: Any) -> None:
        add(shard, old, new)
        index((new or old).hash_key)
        written()

    def query_indexed(of: Table, *arguments: Any, **options: Any) -> Any:
        of.all_items = lambda: list(indexed.values())  # type: ignore[method-assign]
        try:
            return query(of, *arguments, **options)
        finally:
            del of.all_items

    def transact_and_index(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        try:
            transact(backend, transact_items)
        except Exception:  # all of it is undone
            for operation in [operation for each in transact_items for operation in each.values()]:
                index(DynamoType((operation.get("Key") or operation["Item"])["pk"]))
            raise

    patch.setattr(botocore_stubber, "enabled", False)  # it is asked by `answer` alone: botocore calls all that listen
    _validate_once(patch)
    patch.setattr(RequestSigner, "sign", lambda *_, **__: None)  # nobody checks it
    patch.setattr(UserAgentString, "to_string", lambda *_: "")  # nor reads it
    patch.setattr(StreamShard, "add", add_and_index)
    patch.setattr(Table, "query", query_indexed)
    patch.setattr(DynamoDBBackend, "transact_write_items", transact_and_index)


def _validate_once(patch: Any) -> None:
    """What an expression says by itself, moto's first three processors look at: once."""
    sound: set[tuple[int, int, frozenset[tuple[str, str]]]] = set()

    def begin(validator: Validator, expression: Node, *, table: Table, **given: Any) -> None:
        validator.table, validator.node_to_validate = table, shortcuts.copied(expression)
        for name, value in given.items():
            setattr(validator, name, value)
        by_itself, validator.processors = (steps := validator.get_ast_processors())[:3], steps[3:]
        told = id(expression), id(table), frozenset((validator.expression_attribute_names or {}).items())
        if told not in sound:
            for step in by_itself:
                step.traverse(validator.node_to_validate)
            sound.add(told)

    patch.setattr(Validator, "__init__", begin)
