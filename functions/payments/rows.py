"""What Pocketsflow's API lists becomes facts: the same ones that webhooks bring, so that both settle alike.

No source shows every field, so each is read where it may stand, and absent is not wrong: see
docs.pocketsflow.com and the SDK `pocketsflow` 1.2.1. Amounts are in major units here.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from payments import events, fields, strictjson
from payments.events import Payment, Refund, SubscriptionChanged
from payments.ledger import Flags
from payments.subscriptions import Renewal


@dataclass(frozen=True, slots=True)
class Sale:
    """A paid order. `labelled`: its metadata says whose it is, be it ours or somebody else's; `reference`: that is the
    shop's own number of an order, perhaps. Here and below."""

    payment: Payment
    flags: Flags
    made_at: datetime | None
    test_mode: bool | None
    labelled: bool
    reference: str | None

    def of(self, order_id: str | None) -> "Sale":
        return replace(self, payment=replace(self.payment, order_id=order_id))

    @property
    def api(self) -> dict[str, Any]:
        """What is kept of the row: while it is the same there is nothing to do. The order's id is what it claims."""
        payment = self.payment
        told: dict[str, Any] = {
            "product_id": payment.product_id,
            "amount": None if payment.amount is None else str(payment.amount),
            "currency": payment.currency,
            "refunded": self.flags.refunded,
            "disputed": self.flags.disputed,
            "order_id": payment.order_id,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Paid:
    """One payment of a subscription, and the order that it began with where the row says so."""

    renewal: Renewal
    order_id: str | None
    product_id: str
    email: str | None
    customer_reference: str | None
    made_at: datetime | None
    test_mode: bool | None
    labelled: bool
    reference: str | None

    def as_sale(self, order_id: str | None) -> Payment:
        """That the subscription was paid settles its order, as its first webhook would have."""
        return _subscription_sale(self.renewal.subscription_id, order_id, self)


@dataclass(frozen=True, slots=True)
class Subscriber:
    change: SubscriptionChanged
    made_at: datetime | None
    test_mode: bool | None
    labelled: bool
    reference: str | None

    def as_sale(self, order_id: str | None) -> Payment:
        return replace(_subscription_sale(self.change.id, order_id, self.change), state=self.change.state)


def sale(row: Any) -> Sale | None:
    """A row of `/orders`; None for what is none."""
    if not isinstance(row, dict) or not fields.is_text(row.get("_id")):
        return None
    product = fields.obj(row, "productId").get("_id") or row.get("productId") or fields.obj(row, "product").get("_id")
    if not fields.is_text(product):
        return None
    metadata = _metadata(row)
    payment = Payment(
        kind="payment",
        id=fields.identifier(row["_id"]),
        order_id=_order_id(row, metadata),
        product_id=fields.identifier(product),
        variant_id=fields.identifier(row["variantId"]) if fields.is_text(row.get("variantId")) else None,
        amount=fields.amount(row.get("grossAmount")),
        amount_before_tax=_before_tax(row),
        currency=fields.word(row.get("currency")),
        email=fields.email(row.get("buyerEmail")) or fields.email(fields.obj(row, "customer").get("buyerEmail")),
        confirmed=True,
        unit="major",
        variant_known="variantId" in row,
        store_id=fields.reference(metadata.get("pocketsflow_store")),
    )
    flags = Flags(row.get("isRefunded") is True, row.get("isDisputed") is True)
    return Sale(
        payment,
        flags,
        _time(row.get("createdAt")),
        _test_mode(row),
        labelled=bool(metadata),
        reference=_reference(metadata),
    )


def is_subscription(row: Any) -> bool:
    """A subscription's row among the orders: its payments and its state have lists of their own."""
    return isinstance(row, dict) and row.get("isSubscription") is True


def is_one_time(row: Any) -> bool:
    """A payment of no subscription among `/payments`: the orders show it."""
    return isinstance(row, dict) and row.get("type") not in (None, "subscription")


def refund(row: Any) -> Refund | None:
    """A row of `/refunds`; None for what is none."""
    if not isinstance(row, dict) or not fields.is_text(row.get("_id")) or not fields.is_text(row.get("orderId")):
        return None
    return Refund(
        payment_id=fields.identifier(row["orderId"]),
        refund_id=fields.identifier(row["_id"]),
        order_id=None,
        status=fields.word(row.get("status")) or "unknown",
        amount=fields.amount(row.get("amount")),
        confirmed=True,
        unit="major",
    )


def paid(row: Any) -> Paid | None:
    """A row of `/payments?type=subscription`; None for what is none."""
    if not isinstance(row, dict) or not fields.is_text(row.get("_id")):
        return None
    customer_id = row.get("subscriptionCustomerId")
    product = row.get("subscriptionId") or row.get("productId") or fields.obj(row, "subscription").get("id")
    if not fields.is_text(customer_id) or not fields.is_text(product):
        return None
    renewal = Renewal(
        id=fields.identifier(row["_id"]),
        subscription_id=fields.identifier(customer_id),
        amount=fields.amount(row.get("amount")),
        currency=fields.word(row.get("currency")),
        paid_at=fields.reference(row.get("createdAt")),
    )
    metadata = _metadata(row)
    return Paid(
        renewal,
        order_id=_order_id(row, metadata),
        product_id=fields.identifier(product),
        email=fields.email(row.get("customerEmail") or row.get("buyerEmail")),
        customer_reference=fields.reference(row.get("clientReferenceId")),
        made_at=_time(row.get("createdAt")),
        test_mode=_test_mode(row),
        labelled=bool(metadata),
        reference=_reference(metadata),
    )


def subscriber(row: Any) -> Subscriber | None:
    """A row of `/subscriptions/subscribers`; None for what is none, or says no state."""
    if not isinstance(row, dict):
        return None
    customer_id = row.get("subscriptionCustomerId") or row.get("_id")
    product = row.get("subscriptionId") or fields.obj(row, "subscription").get("id")
    state = events.state(row.get("status"), row.get("active"), row.get("paused"))
    if state is None or not fields.is_text(customer_id) or not fields.is_text(product):
        return None
    metadata = _metadata(row)
    change = SubscriptionChanged(
        id=fields.identifier(customer_id),
        state=state,
        order_id=_order_id(row, metadata),
        product_id=fields.identifier(product),
        cancel_at_period_end=row.get("cancelAtPeriodEnd") is True,
        period_start=fields.reference(row.get("currentPeriodStart")),
        period_end=fields.reference(row.get("currentPeriodEnd")),
        customer_reference=fields.reference(row.get("clientReferenceId")),
        email=fields.email(fields.obj(row, "customer").get("email")) or fields.email(row.get("buyerEmail")),
    )
    return Subscriber(
        change, _time(row.get("createdAt")), _test_mode(row), labelled=bool(metadata), reference=_reference(metadata)
    )


def _subscription_sale(subscription_id: str, order_id: str | None, told: Paid | SubscriptionChanged) -> Payment:
    return Payment(
        kind="subscription",
        id=subscription_id,
        order_id=order_id,
        product_id=told.product_id,
        variant_id=None,
        amount=None,
        amount_before_tax=None,
        currency=None,
        email=told.email,
        confirmed=True,
        customer_reference=told.customer_reference,
    )


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """An object, or one written as a JSON string; {} for everything else."""
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = strictjson.parse(metadata.encode("utf-8", "surrogatepass"))
        except strictjson.Unreadable:
            return {}
    return metadata if isinstance(metadata, dict) else {}


def _order_id(row: dict[str, Any], metadata: dict[str, Any]) -> str | None:
    return fields.our_order_id(metadata.get("external_order_id")) or fields.our_order_id(row.get("clientReferenceId"))


def _reference(metadata: dict[str, Any]) -> str | None:
    return fields.order_reference(fields.external_order_id(metadata))


def _test_mode(row: dict[str, Any]) -> bool | None:
    return row["testMode"] if isinstance(row.get("testMode"), bool) else None


def _before_tax(row: dict[str, Any]) -> Decimal | None:
    """Not every source has the field: gross less tax is the same."""
    stated, gross = fields.amount(row.get("amountBeforeTax")), fields.amount(row.get("grossAmount"))
    if stated is not None or gross is None:
        return stated
    return fields.amount(gross - (fields.amount(row.get("taxAmount")) or 0))


def _time(value: object) -> datetime | None:
    """Aware, in UTC where no zone is stated; None for what is no time, or none of this age."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if not 2000 <= moment.year < 3000:  # reckoning at the ends of the calendar overflows
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
