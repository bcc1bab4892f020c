"""Subscriptions of the fake Pocketsflow: what one is, what may happen to one, and the webhooks that tell of it.

Nothing here keeps state or knows HTTP. The shapes are those of Pocketsflow's public subscriptions example. Where it is
silent: a paused subscription still has the status `active`, and a payment that is late moves the period when it comes.
"""

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from secrets import token_hex
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Subscription:
    """One buyer's subscription to an offer. `id` is the subscriptionCustomerId, `amount` a month's, in major units."""

    id: str
    offer_id: str
    customer_id: str
    payment_method_id: str
    portal_url: str
    email: str
    amount: Decimal
    currency: str
    client_reference_id: str | None
    metadata: Json
    created: datetime
    updated: datetime
    renewals: int = 0
    status: str = "active"
    active: bool = True
    paused: bool = False
    cancel_at_period_end: bool = False

    def row(self) -> Json:
        """As the API lists it."""
        return {
            "_id": self.id, "subscriptionId": self.offer_id, "status": self.status, "active": self.active,
            "paused": self.paused, "cancelAtPeriodEnd": self.cancel_at_period_end,
            "currentPeriodStart": iso(_months_after(self.created, self.renewals)),
            "currentPeriodEnd": iso(_months_after(self.created, self.renewals + 1)),
            "customer": {"email": self.email}, "clientReferenceId": self.client_reference_id,
            "metadata": self.metadata, "testMode": True,
            "createdAt": iso(self.created), "updatedAt": iso(self.updated),
        }  # fmt: skip

    def payment(self) -> Json:
        """What a payment says of the subscription it is for."""
        return {
            "type": "subscription", "amount": self.amount, "currency": self.currency, "productId": self.offer_id,
            "customerEmail": self.email, "metadata": self.metadata, "subscriptionId": self.offer_id,
            "subscriptionCustomerId": self.id, "clientReferenceId": self.client_reference_id,
        }  # fmt: skip

    def body(self, event: str) -> Json:
        """The webhook's, without the webhookId. An invoice's has neither date nor id: each month the same bytes."""
        card: Json = {
            "id": self.payment_method_id, "type": "card", "brand": "visa", "last4": "4242",
            "expMonth": 11, "expYear": 2029,
        }  # fmt: skip
        cents = int((self.amount * 100).to_integral_value(ROUND_HALF_UP))
        return {
            "subscription": {"id": self.offer_id, "customerId": self.customer_id},
            "subscriptionCustomer": {
                "id": self.id, "status": self.status, "active": self.active,
                "cancelAtPeriodEnd": self.cancel_at_period_end, "paused": self.paused,
            },
            "customer": {"email": self.email, "firstName": "Jane", "lastName": "Buyer"},
            "status": self.status,
            **({"amount": cents, "currency": self.currency} if event.startswith("invoice.") else {}),
            "paymentMethod": card if self.status != "canceled" else None,
            "portalUrl": self.portal_url,
            "subscriptionCustomerId": self.id,
            "clientReferenceId": self.client_reference_id,
            "metadata": self.metadata,
        }  # fmt: skip


def begin(
    identity: str, product: Json, session: Json, *, email: str, amount: Decimal, portal_url: str, moment: datetime
) -> Subscription:
    """The subscription that a paid checkout session makes."""
    return Subscription(
        id=identity, offer_id=product["_id"], customer_id=f"cus_{token_hex(4)}", payment_method_id=f"pm_{token_hex(4)}",
        portal_url=portal_url, email=email, amount=amount, currency=product["currency"],
        client_reference_id=session.get("clientReferenceId"), metadata=session.get("metadata") or {},
        created=moment, updated=moment,
    )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One thing that may happen to a subscription, and the names of the webhooks that follow."""

    possible: Callable[[Subscription], bool]
    events: tuple[str, ...]
    changes: Json = field(default_factory=dict)
    paid: bool = False

    def after(self, before: Subscription, moment: datetime) -> Subscription:
        return replace(before, **self.changes, renewals=before.renewals + self.paid, updated=moment)


def _alive(subscription: Subscription) -> bool:
    return subscription.status != "canceled"


def _charged(subscription: Subscription) -> bool:
    """Whether the end of the period is another month's beginning."""
    return _alive(subscription) and not subscription.paused and not subscription.cancel_at_period_end


_UPDATED = "customer.subscription.updated"
STEPS = {
    "renew": Step(lambda s: _charged(s) and s.status == "active", ("invoice.payment_succeeded",), paid=True),
    "fail": Step(_charged, ("invoice.payment_failed", _UPDATED), {"status": "past_due"}),
    "recover": Step(
        lambda s: s.status == "past_due", ("invoice.payment_succeeded", _UPDATED), {"status": "active"}, paid=True
    ),
    "pause": Step(lambda s: _alive(s) and not s.paused, ("customer.subscription.pause",), {"paused": True}),
    "resume": Step(lambda s: _alive(s) and s.paused, ("customer.subscription.resumed",), {"paused": False}),
    "cancel": Step(_alive, ("customer.subscription.deleted",), {"status": "canceled", "active": False}),
    "cancel-at-period-end": Step(
        lambda s: _alive(s) and not s.cancel_at_period_end, (_UPDATED,), {"cancel_at_period_end": True}
    ),
    "trial-will-end": Step(_alive, ("customer.subscription.trial_will_end",)),
}


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as JavaScript writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _months_after(moment: datetime, months: int) -> datetime:
    """The same day of a later month, or its last day; the month after that has the day again."""
    years, month = divmod(moment.month - 1 + months, 12)
    year, month = moment.year + years, month + 1
    return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))
