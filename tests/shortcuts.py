"""moto and botocore in the tests' own process: what they reckon anew for each request is reckoned once.

Most of what a test costs is moto looking for the names a field may have, parsing the same expressions, and copying a
table with its stream before each transaction. None of this changes an answer.
"""

import copy
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.useragent
import jsonpath_ng.ext
import moto.core.responses
import moto.dynamodb.parsing.validators
from moto.core.serialize import AttributePickerContext, ResponseSerializer, XFormedAttributePicker
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing.ast_nodes import DepthFirstTraverser, Node
from moto.dynamodb.parsing.expressions import UpdateExpressionParser

_NAMES: dict[tuple[Any, Any, str], tuple[str, ...]] = {}
"""Under which a field, known by its shape, what that is a part of and its key, is looked for in a plain dict."""


def _get_value(serializer: Any, value: Any, key: str, shape: Any, long_way: Any = ResponseSerializer.get_value) -> Any:
    """ResponseSerializer's. Of other objects the class and its aliases count as well; those go the long way."""
    picker = serializer._value_picker
    if type(value) is not dict or type(picker) is not XFormedAttributePicker or picker.response_transformers:
        return long_way(serializer, value, key, shape)
    field = (shape, getattr(shape, "parent", None), key)
    if field not in _NAMES:
        _NAMES[field] = tuple(dict.fromkeys(picker.get_possible_keys(AttributePickerContext(value, key, shape))))
    names = _NAMES[field]
    if any("." in name for name in names):  # a path
        return long_way(serializer, value, key, shape)
    return next((value[name] for name in names if name in value), None)


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


@cache
def _is_node(kind: type) -> bool:
    return issubclass(kind, Node)


_WORK: dict[tuple[type, type], bool] = {}


def _is_work(traverser: type, kind: type, kinds: Callable[[], tuple[type, ...]]) -> bool:
    if (traverser, kind) not in _WORK:
        _WORK[traverser, kind] = issubclass(kind, kinds())
    return _WORK[traverser, kind]


_PARSED: dict[int, tuple[Any, bytes]] = {}
"""The trees that updates were parsed to, and their pickles, by the id that nothing else has while they are here."""


@cache
def _parse(expression: str, long_way: Any = UpdateExpressionParser.make) -> Any:
    tree = long_way(expression)
    _PARSED[id(tree)] = tree, pickle.dumps(tree)
    return tree


def copied(value: Any) -> Any:
    """As copy.deepcopy, of a tree faster."""
    parsed = _PARSED.get(id(value))
    return pickle.loads(parsed[1]) if parsed else copy.deepcopy(value)


def _transact(
    backend: DynamoDBBackend, transact_items: list[dict[str, Any]], long_way: Any = DynamoDBBackend.transact_write_items
) -> None:
    """DynamoDBBackend's, which would copy all of each table, and its stream, to go back to. Undone is what it is
    about."""
    operations = [operation for each in transact_items for operation in each.values()]
    tables = {name: backend.tables[name] for each in operations if (name := each.get("TableName")) in backend.tables}
    before: list[tuple[Table, DynamoType, Any]] = []
    for each in operations:
        if table := tables.get(each.get("TableName")):
            key = DynamoType((each.get("Key") or each["Item"])[table.hash_key_attr])
            before.append((table, key, copy.deepcopy(table.items.get(key))))
    written = {name: len(table.stream_shard.items) for name, table in tables.items() if table.stream_shard}
    Table.__deepcopy__ = lambda table, _: table  # type: ignore[attr-defined]  # the copy that moto goes back to
    try:
        long_way(backend, transact_items)
    except Exception:
        for table, key, item in before:
            if item is None:
                table.items.pop(key, None)
            else:
                table.items[key] = item
        for name, length in written.items():
            del tables[name].stream_shard.items[length:]  # type: ignore[union-attr]
        raise
    finally:
        del Table.__deepcopy__  # type: ignore[attr-defined]


def take() -> None:
    """From now on, in all of this process."""
    ResponseSerializer.get_value = _get_value  # type: ignore[method-assign]
    DepthFirstTraverser.traverse_node_recursively = _traverse
    DynamoDBBackend.transact_write_items = _transact  # type: ignore[method-assign]
    UpdateExpressionParser.make = _parse  # whoever changes one copies it
    moto.dynamodb.parsing.validators.deepcopy = copied  # type: ignore[attr-defined]
    jsonpath_ng.ext.parse = cache(jsonpath_ng.ext.parse)
    moto.core.responses.method_names_from_class = cache(moto.core.responses.method_names_from_class)
    moto.core.responses.camelcase_to_underscores = cache(moto.core.responses.camelcase_to_underscores)
    sanitize = cache(botocore.useragent.sanitize_user_agent_string_component)
    botocore.useragent.sanitize_user_agent_string_component = sanitize
