"""What a million webhooks and a million orders cost on AWS: a model, of list prices and of the CPU that other parts of
the bench have measured."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.report import Panel, Section, bars, table

MEMORY = (256, 512, 1024)
"""MB. DEFAULT is the template's."""
DEFAULT = 512
PROCESSOR_MB = 1769
"""Of a function that has one processor: docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html."""
COLD = 0.01
"""Of all webhooks; aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase: typically fewer."""
MILLION = 1_000_000
MONTH = 30 * 24 * 3600

# Milliseconds until an answer, assumed.
DYNAMODB_MS, SECRETS_MS, EVENTS_MS, CHECKOUT_MS, STATUS_MS = 5, 10, 10, 1_000, 20

# Dollars, of us-east-1 and arm64, without the free tier: as in README's Cost.
API, INVOCATION, GB_SECOND = 0.000001, 0.0000002, 0.0000133334
WRITE_UNIT, READ_UNIT, SECRET, EVENT = 0.000000625, 0.000000125, 0.000005, 0.000001
LOG_GB, STORED_GB = 0.50, 0.45
SNAPSHOT_GB_SECOND, RESTORED_GB = 0.0000015046, 0.0001397998  # aws.amazon.com/lambda/pricing

OUR_WRITE_UNITS, OUR_LOG_BYTES = 4, 1_400
"""Of a settlement: three for an order with its raw body of 1 to 2 kB, one for its place in the index of the pending;
README's bytes for each of an order's calls, access log and all."""
LAMBDA_LOG_BYTES = 350
"""START, END and REPORT, which Lambda writes around each invocation; what a webhook logs itself is measured."""

TEXT = """\
## Cost

**A model, not a measurement**: list prices of us-east-1 in US dollars, without the free tier, and CPU as measured
above. A function of M MB has [M / {processor:,} of a processor][memory], so that CPU takes {processor:,} / M times as
long; the init phase has a whole one, and a cold start is nearly all init phase. Assumed: DynamoDB answers after
{dynamodb} ms, Secrets Manager after {secrets} ms, and {cold:.0%} of the webhooks meet a cold start, [which is
billed][init]. What a month costs without an order, and what metrics cost, says the [README](../README.md#cost).

A million webhooks by {ours} at {default} MB, with {warm:.2f} ms of CPU warm and {start:.0f} ms cold:

{webhook}

The same by others and at other sizes:

{beside}

Idempotency by a table of its own is two writes more; a secret that no cache keeps would be a call for each webhook,
5.00 $. What {ours} pays more for is the raw body and the index: what nothing is lost by.

A million orders at {default} MB, all of them warm: for each a checkout (a second, of waiting for Pocketsflow), a
webhook, four looks at the status ({status} ms each) and three calls of `relay` ({relay:.2f} ms of CPU in all, as
measured in full batches, and {relay_waits} ms of waiting); checkout and status are assumed to take as long at any size:

{order}

That is {cents:.4f} cents an order. {sizes}

### SnapStart

A snapshot of {gb} GB is kept for {gb} × {month:,} s × {snapshot:.10f} = **{kept:.2f} $ a month**, for each version
that has not been deleted, and restored for {gb} × {restored:.10f} = {restore:.7f} $. A cold start without it, as above,
is {cold_ms:,} ms × {gb} GB × {gb_second:.10f} = {cold_start:.7f} $. A restore costs as much as {as_long:.1f} seconds of
the function, whatever its size: **it saves no money, it buys time**, where a cold start takes too much of the five
seconds that Pocketsflow gives.

[memory]: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
[init]: https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
"""


class Webhook(NamedTuple):
    """One way to receive a delivery, as measured: milliseconds of CPU of a warm process, and of one from its start to
    its first answer; requests, DynamoDB's write units and bytes logged for each."""

    name: str
    warm: float
    cold: float
    dynamodb: float = 1
    secrets: float = 0
    write_units: float = 1
    logged: float = 0


class Line(NamedTuple):
    """`how` is the arithmetic that comes to so many dollars."""

    what: str
    how: str
    dollars: float


def section(webhooks: Sequence[Webhook], relay: float) -> Section:
    """The first of the webhooks is ours. `relay`: milliseconds of CPU an order."""
    ours, gb, cold_ms = webhooks[0], DEFAULT / 1024, billed(webhooks[0].cold, _waits(webhooks[0]), PROCESSOR_MB)
    others = [f"{total(orders(ours, relay, memory)):.2f} $ at {memory:,} MB" for memory in MEMORY if memory != DEFAULT]
    text = TEXT.format(
        processor=PROCESSOR_MB,
        dynamodb=DYNAMODB_MS,
        secrets=SECRETS_MS,
        cold=COLD,
        ours=ours.name,
        default=DEFAULT,
        warm=ours.warm,
        start=ours.cold,
        webhook=_summed(deliveries(ours, DEFAULT)),
        beside=table(
            ("a million webhooks, $", *(f"{memory:,} MB" for memory in MEMORY), "of it DynamoDB", "Secrets Manager"),
            *(_row(webhook) for webhook in webhooks),
        ),
        status=STATUS_MS,
        relay=relay,
        relay_waits=_RELAY_WAITS,
        order=_summed(orders(ours, relay, DEFAULT)),
        cents=total(orders(ours, relay, DEFAULT)) / MILLION * 100,
        sizes=f"A million are {' and '.join(others)}.",
        gb=gb,
        month=MONTH,
        snapshot=SNAPSHOT_GB_SECOND,
        kept=gb * MONTH * SNAPSHOT_GB_SECOND,
        restored=RESTORED_GB,
        restore=gb * RESTORED_GB,
        gb_second=GB_SECOND,
        cold_ms=cold_ms,
        cold_start=cold_ms / 1000 * gb * GB_SECOND,
        as_long=RESTORED_GB / GB_SECOND,
    )
    sums = bars({webhook.name: total(deliveries(webhook, DEFAULT)) for webhook in webhooks})
    return Section(text, panels=[Panel(f"A million webhooks at {DEFAULT} MB", "$", sums)])


def unknown(why: Sequence[str]) -> Section:
    """Without what the emulator measures there is nothing to reckon with."""
    return Section("## Cost\n\n" + "\n".join(why) + "\n")


def billed(cpu: float, waits: float, memory: int) -> int:
    """Milliseconds of an invocation, as Lambda bills them."""
    return math.ceil(cpu * max(1, PROCESSOR_MB / memory) + waits)


def deliveries(webhook: Webhook, memory: int) -> list[Line]:
    """A million, received by that webhook."""
    warm = billed(webhook.warm, _waits(webhook), memory)
    cold = billed(webhook.cold, _waits(webhook), PROCESSOR_MB)
    return [
        _times("HTTP API", MILLION, API),
        _times("Lambda, requests", MILLION, INVOCATION),
        _lambda("Lambda, warm", MILLION * (1 - COLD), warm, memory),
        _lambda("Lambda, cold", MILLION * COLD, cold, memory),
        _times("DynamoDB, writes", MILLION * webhook.write_units, WRITE_UNIT),
        _times("Secrets Manager", MILLION * webhook.secrets, SECRET),
        _logged(webhook.logged),
    ]


def orders(ours: Webhook, relay: float, memory: int) -> list[Line]:
    """A million, with all that comes of one; the units are README's."""
    delivery = billed(ours.warm, _waits(ours), memory)
    return [
        _times("HTTP API", 6 * MILLION, API),
        _times("Lambda, requests", 9 * MILLION, INVOCATION),
        _lambda("Lambda, checkout", MILLION, CHECKOUT_MS, memory),
        _lambda("Lambda, webhook", MILLION, delivery, memory),
        _lambda("Lambda, status", 4 * MILLION, STATUS_MS, memory),
        _lambda("Lambda, relay", MILLION, billed(relay, _RELAY_WAITS, memory), memory),
        _times("DynamoDB, writes", 16 * MILLION, WRITE_UNIT),
        _times("DynamoDB, reads", 104 * MILLION, READ_UNIT),
        _times("DynamoDB, GB for a month", 2, STORED_GB),
        _times("EventBridge", MILLION, EVENT),
        _logged(6 * OUR_LOG_BYTES),
    ]


def total(lines: Sequence[Line]) -> float:
    return sum(line.dollars for line in lines)


_RELAY_WAITS = 2 * DYNAMODB_MS + EVENTS_MS
"""The payment linked, the webhook's time noted, the event published."""


def _waits(webhook: Webhook) -> float:
    return webhook.dynamodb * DYNAMODB_MS + webhook.secrets * SECRETS_MS


def _times(what: str, number: float, price: float) -> Line:
    return Line(what, f"{number:,.{0 if number == int(number) else 1}f} × {_dollars(price)}", number * price)


def _lambda(what: str, number: float, milliseconds: int, memory: int) -> Line:
    gb = memory / 1024
    how = f"{number:,.0f} × {milliseconds / 1000:.3f} s × {gb} GB × {_dollars(GB_SECOND)}"
    return Line(what, how, number * milliseconds / 1000 * gb * GB_SECOND)


def _logged(size: float) -> Line:
    return _times("Logs, GB", size * MILLION / 1e9, LOG_GB)


def _dollars(price: float) -> str:
    """Without an exponent."""
    return f"{price:.10f}".rstrip("0")


def _summed(lines: Sequence[Line]) -> str:
    rows = [(line.what, line.how, f"{line.dollars:.2f}") for line in lines if line.dollars]
    return table(("", "", "$"), *rows, ("**sum**", "", f"**{total(lines):.2f}**"))


def _row(webhook: Webhook) -> tuple[str, ...]:
    parts = {line.what: line.dollars for line in deliveries(webhook, DEFAULT)}
    sums = [f"{total(deliveries(webhook, memory)):.2f}" for memory in MEMORY]
    return webhook.name, *sums, f"{parts['DynamoDB, writes']:.2f}", f"{parts['Secrets Manager']:.2f}"
