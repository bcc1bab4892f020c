"""What the membership connector keeps of a person: found by their address and the pepper of its table alone."""

import contextlib
from typing import Any

from ops import items
from ops.stack import Stack


class Member:
    """Whoever has an e-mail address; nobody where there is no such connector, or the address is no plain one."""

    def __init__(self, stack: Stack, email: str) -> None:
        from connectors import entitlements

        self._dynamodb = stack.client("dynamodb")
        self._table = stack.outputs.get("MembershipConnector", "").split()[2:3]
        pepper = self._item("pepper").get("value")
        identity = entitlements.member_id(email, pepper) if pepper else None
        self._pk = f"member#{identity}" if identity else None

    def is_known(self) -> bool:
        return bool(self._pk and self._item(self._pk))

    def forget(self) -> bool:
        """Whether there was anything to forget. The orders stay, and are nobody's, unless another's payment has settled
        them since; the member's own item goes last, so that a second run finds what a first one left."""
        if not self._pk or not (found := self._item(self._pk)):
            return False
        [table] = self._table
        for order_id in sorted(found.get("orders", [])):
            with contextlib.suppress(self._dynamodb.exceptions.ConditionalCheckFailedException):
                self._dynamodb.update_item(
                    TableName=table,
                    Key={"pk": {"S": f"grant#{order_id}"}},
                    UpdateExpression="REMOVE sale.#member",
                    ConditionExpression="sale.#member = :member",
                    ExpressionAttributeNames={"#member": "member"},
                    ExpressionAttributeValues={":member": {"S": self._pk.removeprefix("member#")}},
                )
        self._dynamodb.delete_item(TableName=table, Key={"pk": {"S": self._pk}})
        return True

    def _item(self, pk: str) -> dict[str, Any]:
        if not self._table:
            return {}
        answer = self._dynamodb.get_item(TableName=self._table[0], Key={"pk": {"S": pk}}, ConsistentRead=True)
        return items.plain(answer.get("Item", {}))
