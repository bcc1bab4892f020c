"""moto at the scale of a day: where its work grows with the table, the same is done with what the work is about.

A query of an index sorts and searches all items, a transaction copies the whole table in case it fails, a request is
signed, and passes through layers that know all of AWS. None of this changes an answer.
"""

import base64
import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.signers import RequestSigner
from botocore.useragent import UserAgentString
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import StreamShard, Table
from moto.dynamodb.parsing.ast_nodes import DepthFirstTraverser, Node
from moto.dynamodb.parsing.expressions import UpdateExpressionParser
from moto.dynamodb.parsing.validators import Validator
from moto.dynamodb.responses import DynamoHandler

from sandbox.aws import ACCOUNT, REGION

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
    """moto's answer to a request. Where DynamoDB does it, by the shortest way; what fails has done nothing, and goes
    the long way, which says why."""
    _, service, operation = event_name.split(".")
    if service == "dynamodb" and operation in _OPERATIONS:
        handler = DynamoHandler()
        handler.current_account, handler.region = ACCOUNT, REGION
        handler.body = json.loads(request.body, object_hook=_with_bytes)
        try:
            result = _OPERATIONS[operation](handler).result
        except Exception:  # noqa: BLE001  # whatever it is, the long way meets it again
            pass
        else:
            return made(request, 200, result)
    botocore_stubber.enabled = True
    try:
        long_way: AWSResponse | None = botocore_stubber(event_name, request)
    finally:
        botocore_stubber.enabled = False
    assert long_way is not None
    return long_way


def made(request: Any, status: int, content: Any) -> AWSResponse:
    """An answer in AWS's JSON."""
    text = json.dumps(content, default=lambda data: base64.b64encode(data).decode())
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, MockRawResponse(text))  # type: ignore[arg-type]


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    text = value.get("B")
    return {"B": base64.b64decode(text)} if isinstance(text, str) else value


def _traverse(traverser: Any, node: Any, child_id: int = -1) -> Any:
    """DepthFirstTraverser's, with what it asks of each node's type asked once."""
    if not _is_node(type(node)):
        return node
    parent = node.parent
    for number, child in enumerate(node.children or []):
        traverser.pre_processing_of_child(node, number)
        _traverse(traverser, child, number)
    if _is_work(type(traverser), type(node), traverser.nodes_to_be_processed):
        node = traverser.process(node)
        node.parent = parent
        if parent:
            parent.children[child_id] = node
    return node


def _copied(node: Any, parent: Any = None) -> Any:
    """A node, and all below it, as deepcopy does it for anything."""
    if not _is_node(type(node)):
        return node
    copied = object.__new__(type(node))
    copied.__dict__.update(node.__dict__, parent=parent)
    copied.children = node.children and [_copied(child, copied) for child in node.children]
    return copied


@cache
def _is_node(kind: type) -> bool:
    return issubclass(kind, Node)


_WORK: dict[tuple[type, type], bool] = {}


def _is_work(traverser: type, kind: type, kinds: Callable[[], tuple[type, ...]]) -> bool:
    if (traverser, kind) not in _WORK:
        _WORK[traverser, kind] = issubclass(kind, kinds())
    return _WORK[traverser, kind]


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

    def transact_and_undo(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        operations = [operation for each in transact_items for operation in each.values()]
        keys = [DynamoType((each.get("Key") or each["Item"])["pk"]) for each in operations]
        before = {key: copy.deepcopy(table.items.get(key)) for key in keys}
        shard = table.stream_shard
        assert shard is not None
        length = len(shard.items)
        try:
            transact(backend, transact_items)
        except Exception:
            for key, item in before.items():
                if item is None:
                    table.items.pop(key, None)
                else:
                    table.items[key] = item
                index(key)
            del shard.items[length:]
            raise

    patch.setattr(botocore_stubber, "enabled", False)  # it is asked by `answer` alone: botocore calls all that listen
    patch.setattr(UpdateExpressionParser, "make", cache(UpdateExpressionParser.make))  # whoever changes one copies it
    _validate_once(patch)
    patch.setattr(DepthFirstTraverser, "traverse_node_recursively", _traverse)
    patch.setattr(RequestSigner, "sign", lambda *_, **__: None)  # nobody checks it
    patch.setattr(UserAgentString, "to_string", lambda *_: "")  # nor reads it
    patch.setattr(StreamShard, "add", add_and_index)
    patch.setattr(Table, "query", query_indexed)
    patch.setattr(Table, "__deepcopy__", lambda of, _: of, raising=False)  # the copy that moto would go back to
    patch.setattr(DynamoDBBackend, "transact_write_items", transact_and_undo)


def _validate_once(patch: Any) -> None:
    """What an expression says by itself, moto's first three processors look at: once."""
    sound: set[tuple[int, int, frozenset[tuple[str, str]]]] = set()

    def begin(validator: Validator, expression: Node, *, table: Table, **given: Any) -> None:
        validator.table, validator.node_to_validate = table, _copied(expression)
        for name, value in given.items():
            setattr(validator, name, value)
        by_itself, validator.processors = (steps := validator.get_ast_processors())[:3], steps[3:]
        told = id(expression), id(table), frozenset((validator.expression_attribute_names or {}).items())
        if told not in sound:
            for step in by_itself:
                step.traverse(validator.node_to_validate)
            sound.add(told)

    patch.setattr(Validator, "__init__", begin)
