"""What the functions make something of, by Pocketsflow's names: what an endpoint is registered for, and what a metric
names."""

EVENTS = (
    "order.completed",
    "order.refunded",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.pause",
    "customer.subscription.resumed",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
)
