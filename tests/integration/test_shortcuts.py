"""What tests/shortcuts.py puts in moto's place answers as moto does."""

import inspect
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.core.serialize import ResponseSerializer

from sandbox import aws
from tests import shortcuts
from tests.conftest import Aws
from tests.world import World


def test_fields_of_answers(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field of each answer to a purchase that a run finds is the one that moto's own way finds."""
    short, looked = ResponseSerializer.get_value, 0
    long_way = inspect.signature(shortcuts._get_value).parameters["long_way"].default
    assert short is shortcuts._get_value
    assert long_way is not short

    def both(serializer: Any, value: Any, key: str, shape: Any) -> Any:
        nonlocal looked
        looked += 1
        found = short(serializer, value, key, shape)
        assert found is long_way(serializer, value, key, shape)
        return found

    monkeypatch.setattr(ResponseSerializer, "get_value", both)
    order_id, _ = shop.buy_unheard()
    shop.later()
    assert shop.status(order_id) == "paid"
    assert looked > 500


def test_a_refused_transaction_leaves_nothing(cloud: Aws) -> None:
    """Neither in an item that was there, nor in one that was not, nor in the stream; what follows is written."""
    [stream] = [cloud.dynamodb.describe_table(TableName=cloud.table)["Table"]["LatestStreamArn"]]
    cloud.dynamodb.put_item(TableName=cloud.table, Item={"pk": {"S": "old"}, "n": {"N": "1"}})
    before, seen = cloud.items(), aws.read_stream(stream, 0)

    def write(condition: str) -> None:
        count = {"ExpressionAttributeValues": {":one": {"N": "1"}}, "UpdateExpression": "ADD n :one"}
        cloud.dynamodb.transact_write_items(
            TransactItems=[
                *({"Update": {"TableName": cloud.table, "Key": {"pk": {"S": pk}}, **count}} for pk in ("old", "new")),
                {
                    "ConditionCheck": {
                        "TableName": cloud.table, "Key": {"pk": {"S": "x"}}, "ConditionExpression": condition,
                    },
                },
            ]
        )  # fmt: skip

    with pytest.raises(ClientError, match="TransactionCanceled"):
        write("attribute_exists(pk)")
    assert cloud.items() == before
    assert aws.read_stream(stream, 0) == seen
    write("attribute_not_exists(pk)")
    assert {pk: item["n"] for pk, item in cloud.items().items()} == {"old": {"N": "2"}, "new": {"N": "1"}}
    assert len(aws.read_stream(stream, 0)[0]) == 3
