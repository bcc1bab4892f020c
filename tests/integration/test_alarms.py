"""A rehearsal of the alarms: what each is there for happens, and the very figure that it watches reaches its threshold.
Between them, what must not set one off; and the lines that are read afterwards."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

import access
import checkout
import reconcile
import relay
import retain
import server
import shopify_checkout
import webhook
from payments import heard, metrics, secrets
from tests.integration.outages import Outages, failing
from tests.integration.test_relay import denied, disputed, of_no_order, paid_for_another_product, paid_twice
from tests.payloads import SECRET, answered, create_key, delivery, http_event, paid
from tests.unit.test_observability import OURS, Metric, nested, slug, watched
from tests.world import PRODUCTS, Context, World

COURSE = PRODUCTS["course"]["productId"]
KEY = f"pfs_test_{'k' * 43}"
ALARMED = {slug(alarm): alarm for alarm in nested("AWS::CloudWatch::Alarm", UnusualCheckouts="3").values()}
OUR_ALARMS = [name for name, alarm in ALARMED.items() if watched(alarm)[0][0] == OURS]
"""Those of metrics that the functions emit; the others watch what AWS measures."""


class Figures:
    """What the functions have printed for CloudWatch since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def look(self) -> dict[Metric, list[float]]:
        found: dict[Metric, list[float]] = defaultdict(list)
        for line in self._capsys.readouterr().out.splitlines():
            if '"_aws"' not in line:
                continue
            written = json.loads(line)
            for directive in written["_aws"]["CloudWatchMetrics"]:
                for names in directive["Dimensions"]:
                    dimensions = tuple((name, written[name]) for name in names)
                    for metric in directive["Metrics"]:
                        found[directive["Namespace"], metric["Name"], dimensions] += written[metric["Name"]]
        return found


@pytest.fixture
def figures(shop: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Figures]:
    """Each function counts under its own name, as its environment says it on AWS."""
    for module in (checkout, server, shopify_checkout, access, webhook, relay, reconcile, retain):
        monkeypatch.setattr(module, "handler", _as_itself(module, monkeypatch))
    made = Figures(capsys)
    made.look()
    return made


def _as_itself(module: ModuleType, patch: pytest.MonkeyPatch) -> Callable[..., Any]:
    handler = module.handler

    def named(event: Any, context: Any) -> Any:
        service = module.__name__.replace("_", "-")
        patch.setenv("POWERTOOLS_SERVICE_NAME", service)
        patch.setattr(metrics, "SERVICE", service)
        return handler(event, context)

    return named


def goes_off(alarm: dict[str, Any], found: dict[Metric, list[float]]) -> bool:
    """Whether CloudWatch would, were these all the figures of one period."""
    values = {each["Id"]: each for each in alarm.get("Metrics", []) if "MetricStat" in each}
    if values:
        sums = {name: sum(found[metric]) for name, metric in zip(values, watched(alarm), strict=True)}
        [expression] = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        functions = {"FILL": lambda value, _: value, "IF": lambda holds, yes, no: yes if holds else no}
        try:
            value = eval(expression, functions, sums)  # the template's own, which reads as Python does
        except ZeroDivisionError:  # CloudWatch has no value then
            return False
    else:
        [metric] = watched(alarm)
        if metric not in found and alarm["TreatMissingData"] == "notBreaching":
            return False
        value = sum(found[metric])
    threshold = float(alarm["Threshold"])
    return {
        "GreaterThanOrEqualToThreshold": value >= threshold,
        "GreaterThanThreshold": value > threshold,
        "LessThanThreshold": value < threshold,
    }[alarm["ComparisonOperator"]]


def going_off(figures: Figures) -> set[str]:
    """Of the alarms that watch the functions' metrics; the silence of reconciliation is no matter of a moment."""
    found = figures.look()
    return {name for name in OUR_ALARMS if goes_off(ALARMED[name], found)} - {"reconcile-silent"}


# --- What they are there for ------------------------------------------------------------------------------------------


def fails_at_checkout(shop: World) -> None:
    shop.account.set_faults({"http_status": 500})
    body = json.dumps({"sku": "course"}).encode()
    event = http_event("POST /checkout", body, content_type="application/json")
    assert answered(checkout.handler(event, Context(shop.clock, 9)))[0] == 502


def fails_for_the_server(shop: World) -> None:
    create_key(shop.stack, KEY)
    shop.account.set_faults({"http_status": 500})
    assert shop.ask_as_server("POST /server/checkout", KEY, sku="course", reference="7")[0] == 502


def fails_for_members(shop: World) -> None:
    asked = http_event("GET /.well-known/jwks.json")  # this stack has no key for them
    assert answered(access.handler(asked, Context(shop.clock, 6)))[0] == 503


def opened_by_the_dozen(shop: World) -> None:
    for _ in range(3):
        shop.checkout()


def no_proper_event(shop: World) -> None:
    assert answered(webhook.handler(delivery(b"hello"), Context(shop.clock, 4)))[0] == 200


def signed_with_another_secret(shop: World) -> None:
    event = delivery(paid(None), secret=f"{SECRET}-old")
    assert answered(webhook.handler(event, Context(shop.clock, 4)))[0] == 401


def not_heard_of(shop: World) -> None:
    shop.buy_unheard()
    shop.flow()
    for _ in range(3):
        shop.later()


def one_in_five_not_told(shop: World) -> None:
    for number in range(10):
        (shop.buy_unheard if number < 2 else shop.buy)()
    shop.deliver()
    shop.flow()
    shop.later()


def cut_short(shop: World) -> None:
    shop.account.set_faults({"http_status": 500})
    assert shop.reconcile()["outcome"] == "partial"


def opened_without_its_secret(shop: World) -> None:
    event = {**http_event("GET /shopify/checkout"), "rawQueryString": "order=1"}
    assert shopify_checkout.handler(event, Context(shop.clock, 9))["statusCode"] == 503


REHEARSED: dict[str, Callable[[World], None]] = {
    "second-payment": paid_twice,
    "mismatched": paid_for_another_product,
    "unmatched": of_no_order,
    "drift": denied,
    "checkout-attention": fails_at_checkout,
    "server-attention": fails_for_the_server,
    "shopify-checkout-attention": opened_without_its_secret,
    "access-attention": fails_for_members,
    "unusual-checkouts": opened_by_the_dozen,
    "webhook-attention": no_proper_event,
    "webhook-signature": signed_with_another_secret,
    "relay-attention": disputed,
    "webhook-missed": not_heard_of,
    "found-by-reconcile": one_in_five_not_told,
    "reconcile-partial": cut_short,
}
WITH_OUTAGES = {"parked", "reconcile-attention", "retain-attention"}
"""Below."""


def test_every_alarm_is_rehearsed() -> None:
    """All that watch what the functions emit; what AWS measures is AWS's."""
    assert {*REHEARSED, *WITH_OUTAGES, "reconcile-silent"} == set(OUR_ALARMS)


@pytest.mark.parametrize("name", REHEARSED)
def test_it_goes_off(shop: World, figures: Figures, name: str) -> None:
    """It, and no other that would call the same person for the same thing."""
    REHEARSED[name](shop)
    shop.flow()
    beside = {"unusual-checkouts"} if name == "found-by-reconcile" else set()  # ten of them
    assert going_off(figures) - beside == {name}


def test_a_delivery_that_is_parked(shop: World, figures: Figures, outages: Outages) -> None:
    shop.buy()
    outages.fates["dynamodb"] = failing
    assert shop.deliver() == ["parked"]
    assert going_off(figures) == {"parked"}


def test_a_secret_that_reconciliation_cannot_read(shop: World, figures: Figures, outages: Outages) -> None:
    outages.fates["secretsmanager"] = failing
    secrets._copies.clear()
    assert shop.reconcile()["outcome"] == "no_api_key"
    assert going_off(figures) == {"reconcile-attention"}


def test_a_retention_that_cannot_read(shop: World, figures: Figures, outages: Outages) -> None:
    outages.fates["dynamodb"] = failing
    assert retain.handler({}, Context(shop.clock, 240))["outcome"] == "partial"
    assert going_off(figures) == {"retain-attention"}


def test_reconciliation_that_does_not_run(shop: World, figures: Figures) -> None:
    """Whether there is no run, or none that comes to its end; one that does is enough."""
    silent = ALARMED["reconcile-silent"]
    assert goes_off(silent, figures.look())
    cut_short(shop)
    assert goes_off(silent, figures.look())
    shop.account.set_faults({})
    shop.later()
    assert not goes_off(silent, figures.look())


# --- What must not set one off ----------------------------------------------------------------------------------------


def test_a_purchase_alarms_nobody(shop: World, figures: Figures) -> None:
    """Nor does its refund, the next run, or a delivery that comes twice."""
    order_id, payment_id = shop.buy()
    [waiting] = shop.undelivered
    assert shop.deliver(waiting, waiting) == ["settled", "redelivered"]
    shop.flow()
    shop.account.refund(payment_id, Decimal(49), "requested_by_customer")
    shop.deliver()
    shop.flow()
    shop.later()
    assert shop.status(order_id) == "refunded"
    assert going_off(figures) == set()


def test_strangers_alarm_nobody(shop: World, figures: Figures) -> None:
    """What does not have the form of a signature is counted, and no more; the same with a buyer's mistakes."""
    for signature in ("", "x", "0" * 63):
        event = delivery(paid(None), x_pocketsflow_signature=signature)
        assert answered(webhook.handler(event, Context(shop.clock, 4)))[0] == 401
    event = http_event("POST /checkout", b"{}", content_type="application/json")
    assert answered(checkout.handler(event, Context(shop.clock, 9)))[0] == 400
    found = figures.look()
    assert found[OURS, "SignatureMalformed", (("service", "webhook"),)] == [1, 1, 1]
    assert not [name for name in REHEARSED if goes_off(ALARMED[name], found)]


def test_a_few_orders_are_no_share(shop: World, figures: Figures) -> None:
    """Of nine orders all may be found by reconciliation, before the share is alarmed; each is missed, though."""
    for _ in range(9):
        shop.buy_unheard()
    shop.later()
    assert "found-by-reconcile" not in going_off(figures)


def test_a_webhook_that_comes_late_is_not_missed(shop: World, figures: Figures) -> None:
    """Reconciliation found its payment first; within ten minutes it came all the same."""
    order_id, payment_id = shop.buy()
    [late] = shop.undelivered
    shop.lose_webhooks()
    assert shop.later()["settled"] == 1
    assert shop.deliver(late) == ["redelivered"]
    shop.flow()
    for _ in range(3):
        shop.later()
    assert going_off(figures) == set()
    assert shop.types(order_id) == ["order.paid"]
    assert "heard_at" in shop.stack.items()[f"sale#{payment_id}"]


@pytest.mark.parametrize("comes_first", [True, False])
def test_a_webhook_that_does_not_say_whose_it_is_is_not_missed(
    shop: World, figures: Figures, comes_first: bool
) -> None:
    """Whether it comes before reconciliation finds the payment, or afterwards."""
    order_id, payment_id = shop.buy()
    shop.lose_webhooks()

    def comes() -> None:
        event = delivery(paid(None, payment_id, product=COURSE))
        assert answered(webhook.handler(event, Context(shop.clock, 4)))[1]["outcome"] == "unmatched"
        shop.flow()

    if comes_first:
        comes()
    assert shop.later()["settled"] == 1
    if not comes_first:
        comes()
    for _ in range(3):
        shop.later()
    assert shop.types(order_id) == ["order.paid"]
    assert going_off(figures) == set()


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_deliveries_by_event_and_outcome(shop: World, figures: Figures) -> None:
    """An event that nobody registered for is `other`, whatever its header says."""
    shop.buy()
    shop.deliver()
    for name in ("review.created", "x" * 64, "a.b"):
        webhook.handler(delivery({"event": name}, name), Context(shop.clock, 4))
    found = figures.look()
    deliveries = {dict(at)["event"]: sum(times) for (_, name, at), times in found.items() if name == "Deliveries"}
    assert deliveries == {"order.completed": 1, "other": 3}
    assert {dict(at)["outcome"] for _, name, at in found if name == "Deliveries"} == {"settled", "recorded"}


def test_time_from_payment_to_settlement(shop: World, figures: Figures) -> None:
    """By the delivery's own time, which nobody signed: never less than nothing, nor more than a week; and what is no
    time is no figure, and keeps nothing from being settled."""

    def settles(sent_at: str) -> list[float] | None:
        order_id, _ = shop.checkout()
        content = paid(order_id, order_id[-8:], product=COURSE)
        event = delivery(content, x_pocketsflow_timestamp=sent_at)
        assert answered(webhook.handler(event, Context(shop.clock, 4)))[1]["outcome"] == "settled"
        return figures.look().get((OURS, "PaymentToSettlement", (("service", "webhook"),)))

    def ago(**span: int) -> str:
        return str(int((shop.clock.now - timedelta(**span)).timestamp() * 1000))

    assert settles(ago(seconds=3)) == [3]
    assert settles(ago(days=-1)) == [0]
    assert settles(ago(days=99)) == [7 * 86_400]
    for sent_at in ("", "now", "-1", "9" * 14, "1e9", "\u0663"):
        assert settles(sent_at) is None


def test_how_long_no_webhook_came(shop: World, figures: Figures) -> None:
    """No figure before the first one; then its age, whatever reconciliation finds by itself."""
    age = (OURS, "WebhookAge", (("service", "reconcile"),))
    shop.buy_unheard()
    shop.later()
    assert (age in figures.look(), heard.last()) == (False, None)
    shop.buy()
    came_at = shop.clock.now
    shop.deliver()
    shop.flow()
    shop.buy_unheard()
    shop.later()
    assert (figures.look()[age], heard.last()) == ([300], came_at)
    heard.note("2020-01-01T00:00:00.000Z")  # of a record that comes again
    assert heard.last() == came_at


def test_what_a_run_leaves_behind(shop: World, figures: Figures) -> None:
    """When the last one ended and how, for whoever asks whether they run at all."""
    for fault, outcome in (({}, "done"), ({"http_status": 500}, "partial")):
        shop.account.set_faults(fault)
        shop.clock.passes(minutes=5)
        shop.reconcile()
        state = shop.stack.items()["reconcile#state"]
        assert state["outcome"] == {"S": outcome}
        assert state["finished_at"]["S"] >= shop.clock.now.isoformat()[:16]


# --- Lines ------------------------------------------------------------------------------------------------------------


def test_lines_name_their_request_and_their_order(shop: World, told: Any) -> None:
    """An order's way through all functions is found by its id, a request by Lambda's or the gateway's; none has the
    ids of the one before it."""
    order_id, _ = shop.buy()
    [waiting] = shop.undelivered
    entry = shop.account.entry(waiting)
    event = delivery(waiting.body, x_pocketsflow_timestamp=str(entry["timestamp"]))
    event["requestContext"]["requestId"] = "of-the-gateway"
    webhook.handler(event, Context(shop.clock, 4))
    shop.flow()
    lines, _ = told.look()
    way = [(line["service"] and line["message"]) for line in lines if line.get("order_id") == order_id]
    assert way == ["checkout_created", "settled", "published"]
    assert all(line["request_id"] == Context.aws_request_id for line in lines)
    assert [line["message"] for line in lines if line.get("api_request_id") == "of-the-gateway"] == ["settled"]
    webhook.handler(delivery({"event": "review.created"}, "review.created"), Context(shop.clock, 4))
    [line], _ = told.look()
    assert line["message"] == "event_kept"
    assert not {"order_id", "api_request_id"} & line.keys()
