"""Who may see what: purchases, and the members whom they belong to, in the membership connector's own table.

    grant#<order id>          state    {revision, status}: the newest of the order
                              sale     {revision, sku, product_id, subscription, member, at}: its newest order.paid
                              exchanged  by whom the order id was exchanged for a session, once for ever
    renewal#<subscription>    state    {revision, state, product_id, at}: the newest
                              failed   {revision, at}: when it last became past due
    member#<id>               orders   ids of the orders that were bought with the member's address
    session#<sha256>          of       grant#… or member#…; expires
    link#<sha256>             of       member#…; expires
    limit#…                   counters (payments/limits.py)
    pepper                    value    32 random bytes of this table: what makes a member's id of an address

What an event says lies under its revision, and a lower one changes nothing: in whichever order they come, the item is
the same. Whether that is access is reckoned when somebody asks, by the catalogue and the clock of that moment; so a
grace period ends without an event, and a product that gets a level gives it to who has bought it before.

An address is nowhere here, only its hash by the pepper. And it is a name that the buyer typed: what it was bought with
counts for whoever opens its mailbox, and for nobody because of having typed it.
"""

import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from payments import catalogue
from payments.table import TABLE, client, key, plain, read_many, value

CATALOGUE = catalogue.load(Path(__file__).parent.parent / "catalogue.json")
PAID = {"paid", "partially_refunded"}
"""Statuses of an order that has been paid and whose money is here."""

_ADDRESS = re.compile(r"[A-Za-z0-9!#%&'*+/=?^_`{|}~.-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}")
"""What one mailbox is called in mail without quotes or comments (RFC 5321): no second recipient, no header fits in."""


@dataclass(frozen=True, slots=True)
class Access:
    """Levels, in order, and when the first of them ends if nothing more is heard; None for no such time."""

    levels: tuple[str, ...]
    until: datetime | None = None


# --- What events say --------------------------------------------------------------------------------------------------


def note_order(order_id: str, revision: int, status: str | None) -> bool:
    """False when something newer of the order is known."""
    return _note(f"grant#{order_id}", "state", revision, {"status": status})


def note_sale(order_id: str, revision: int, detail: Mapping[str, Any]) -> None:
    """An `order.paid`: the payment that settles it. Other payments of the order have other buyers."""
    member = member_id(detail["customer_email"])
    if member:  # before the grant: what a member's orders are asked for must not lack it
        _add_order(member, order_id)
    sale = {
        "sku": detail["sku"],
        "product_id": detail["product_id"],
        "subscription": detail["payment"]["subscription_id"],
        "member": member,
        "at": detail["occurred_at"],
    }
    _note(f"grant#{order_id}", "sale", revision, sale)


def note_subscription(subscription_id: str, revision: int, detail: Mapping[str, Any]) -> bool:
    """False when something newer of the subscription is known."""
    subscription, at = detail["subscription"], detail["occurred_at"]
    pk = f"renewal#{subscription_id}"
    if subscription["state"] == "past_due" != detail["change"]["from"]:
        _note(pk, "failed", revision, {"at": at})
    state = {"state": subscription["state"], "product_id": subscription["product_id"], "at": at}
    return _note(pk, "state", revision, state)


def _note(pk: str, name: str, revision: int, content: Mapping[str, Any]) -> bool:
    """Writes it under its revision, unless a higher one stands there; in one request."""
    try:
        client.update_item(
            TableName=TABLE,
            Key=key(pk),
            UpdateExpression="SET #name = :content",
            ConditionExpression="attribute_not_exists(#name) OR #name.revision <= :revision",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={
                ":content": value({**content, "revision": revision}),
                ":revision": value(revision),
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _add_order(member: str, order_id: str) -> None:
    client.update_item(
        TableName=TABLE,
        Key=key(f"member#{member}"),
        UpdateExpression="ADD orders :one",
        ExpressionAttributeValues={":one": value({order_id})},
    )


# --- What it comes to -------------------------------------------------------------------------------------------------


def paid_at(order_id: str) -> datetime | None:
    """When the ledger heard of the payment that settled the order; None while this connector has not."""
    sale = _read(f"grant#{order_id}").get("sale")
    return datetime.fromisoformat(sale["at"]) if sale else None


def access(of: str, now: datetime, grace: timedelta) -> Access:
    """Of `grant#<order id>`, that one purchase; or of `member#<id>`, all of them, perhaps a moment old. Raises
    LeftOver."""
    kind, _, identity = of.partition("#")
    found = _read(of)  # an order as it is now: `paid_at` has just seen that it was paid
    orders = sorted(found.get("orders", []))
    grants = [found] if kind == "grant" else read_many(f"grant#{order}" for order in orders).values()
    sales = [
        grant["sale"]
        for grant in grants
        if "sale" in grant
        and grant.get("state", {}).get("status") in PAID
        # An order that another payment has settled meanwhile is another member's.
        and (kind == "grant" or grant["sale"].get("member") == identity)
    ]
    renewals = read_many(f"renewal#{sale['subscription']}" for sale in sales if "subscription" in sale)
    given: dict[str, list[datetime | None]] = {}
    for sale in sales:
        renewal = renewals.get(f"renewal#{sale.get('subscription')}", {})
        level, until = _level(sale, renewal), _end(renewal, grace)
        if level and (until is None or until > now):
            given.setdefault(level, []).append(until)
    ends = [max(filter(None, each)) for each in given.values() if None not in each]
    return Access(tuple(sorted(given)), min(ends, default=None))


def levels() -> set[str]:
    """All that the catalogue has."""
    return {item.level for item in CATALOGUE.values() if item.level}


def _level(sale: Mapping[str, Any], renewal: Mapping[str, Any]) -> str | None:
    """Of what was ordered; of a subscription, of the offer that it has now. Where only the product is known, and its
    variants have different levels, none: nobody gets the better one for the price of the other."""
    product_id = renewal.get("state", {}).get("product_id", sale["product_id"])
    item = CATALOGUE.get(sale.get("sku", ""))
    if item and item.product_id == product_id:
        return item.level
    found = {each.level for each in CATALOGUE.values() if each.product_id == product_id}
    return found.pop() if len(found) == 1 else None


_OVER = datetime.min.replace(tzinfo=UTC)


def _end(renewal: Mapping[str, Any], grace: timedelta) -> datetime | None:
    """Of what a sale gives; None where no end is known."""
    state = renewal.get("state", {})
    match state.get("state"):
        case "ended":
            return _OVER
        case "past_due":
            return datetime.fromisoformat(renewal.get("failed", state)["at"]) + grace
    return None


# --- Members ----------------------------------------------------------------------------------------------------------


def address(text: object) -> str | None:
    """A mailbox by the one name that it has here, to which mail for it goes; None for what is none.

    Small letters for capitals, of ASCII alone: to Unicode some letters of other alphabets are the same as ours, and who
    has a mailbox by such a name would be let in as somebody else.
    """
    return text.lower() if isinstance(text, str) and len(text) <= 254 and _ADDRESS.fullmatch(text) else None


def member_id(email: str | None, secret: bytes | None = None) -> str | None:
    """The same for the same mailbox; tells nothing of it to who does not have the pepper, this table's unless another
    is given."""
    found = address(email)
    return found and _peppered("member", found, secret or pepper())


def subject(of: str) -> str:
    """What `grant#…` and `member#…` are called in a token. A purchase is nobody else's name: who pays with another's
    address does not come to be called as they are."""
    kind, _, identity = of.partition("#")
    return f"member_{identity}" if kind == "member" else f"purchase_{_peppered('purchase', identity, pepper())}"


def _peppered(kind: str, name: str, secret: bytes) -> str:
    return hmac.digest(secret, f"{kind}\n{name}".encode(), "sha256").hex()[:32]


@functools.cache
def pepper() -> bytes:
    """Made by whoever needs it first, once for this table."""
    item = client.update_item(
        TableName=TABLE,
        Key=key("pepper"),
        UpdateExpression="SET #value = if_not_exists(#value, :new)",
        ExpressionAttributeNames={"#value": "value"},
        ExpressionAttributeValues={":new": value(secrets.token_bytes(32))},
        ReturnValues="ALL_NEW",
    )
    made: bytes = plain(item["Attributes"])["value"]
    return made


# --- What can be shown once, and what can be shown again --------------------------------------------------------------


class Spent(Exception):
    """It was shown before, is over, or never was. Answer so, without saying which."""


class Busy(Exception):
    """Something else is written at this moment, and nothing was taken. Try again."""


def make_link(member: str, code: str, until: datetime) -> None:
    item = {"pk": f"link#{_hash(code)}", "of": f"member#{member}", "expires": int(until.timestamp())}
    client.put_item(TableName=TABLE, Item={name: value(content) for name, content in item.items()})


def link_of(code: str, now: datetime) -> str:
    """`member#<id>`; it can still be taken. Raises Spent."""
    found = _read(f"link#{_hash(code)}")
    if found.get("expires", 0) <= now.timestamp():
        raise Spent
    return str(found["of"])


def take_link(code: str, session: str, of: str, until: datetime) -> None:
    """Makes a session of it, once. Raises Spent or Busy."""
    gone: Any = {"TableName": TABLE, "Key": key(f"link#{_hash(code)}"), "ConditionExpression": "attribute_exists(pk)"}
    _begin({"Delete": gone}, session, of, until)


def take_order(order_id: str, by: str, session: str, until: datetime) -> None:
    """Makes a session of an order id, once; again `by` the same who did, and did not hear the answer. Raises Spent or
    Busy."""
    mark: Any = {
        "TableName": TABLE,
        "Key": key(f"grant#{order_id}"),
        "UpdateExpression": "SET exchanged = :by",
        "ConditionExpression": "attribute_exists(sale) AND (attribute_not_exists(exchanged) OR exchanged = :by)",
        "ExpressionAttributeValues": {":by": value(_hash(by))},
    }
    _begin({"Update": mark}, session, f"grant#{order_id}", until)


def session_of(session: str, now: datetime) -> tuple[str, datetime] | None:
    """What it is of, and until when it can be shown; None for one that is over, or never was."""
    found = _read(f"session#{_hash(session)}")
    if found.get("expires", 0) <= now.timestamp():
        return None
    return str(found["of"]), datetime.fromtimestamp(found["expires"], now.tzinfo)


def end_session(session: str) -> None:
    """Whoever else has it has nothing any more; the tokens that it gave end by themselves."""
    client.delete_item(TableName=TABLE, Key=key(f"session#{_hash(session)}"))


def _begin(taking: Any, session: str, of: str, until: datetime) -> None:
    item = {"pk": f"session#{_hash(session)}", "of": of, "expires": int(until.timestamp())}
    put: Any = {"TableName": TABLE, "Item": {name: value(content) for name, content in item.items()}}
    try:
        client.transact_write_items(TransactItems=[taking, {"Put": put}])
    except client.exceptions.TransactionCanceledException as cancelled:
        codes = [reason.get("Code") for reason in cancelled.response["CancellationReasons"]]
        if "ConditionalCheckFailed" in codes:
            raise Spent from None
        if "TransactionConflict" in codes:  # with who takes it too, or with an event that is being noted
            raise Busy from None
        raise


def _hash(secret: str) -> str:
    """Of 32 random bytes: nothing to guess, so a plain hash hides it, and to look it up tells nothing by its time."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(pk: str) -> dict[str, Any]:
    """As it is now; {} when it is not there."""
    return plain(client.get_item(TableName=TABLE, Key=key(pk), ConsistentRead=True).get("Item", {}))
