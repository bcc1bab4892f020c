"""Warm deliveries: what one call of the webhook costs a process that has answered others before, and what it asks of
AWS."""

import contextlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.bench import baselines, cloud
from tests.bench.cloud import DYNAMODB, SECRETS, Caller, Wire
from tests.bench.cold import in_turns
from tests.bench.deliveries import payment
from tests.bench.report import OURS, Panel, Scale, Section, Target, bars, ratios, spread, table

ROUNDS = 10
"""For each cold one: a call takes a fraction of a start."""

UPDATE = "bare `update_item`"
FIRST, DUPLICATE, FORGED = "first delivery", "duplicate", "bad signature"
CALLS = (UPDATE, FIRST, DUPLICATE, FORGED)
ANSWERS = {
    FIRST: '"outcome": "settled"',
    DUPLICATE: '"outcome": "redelivered"',
    FORGED: '"code": "invalid_signature"',
}
"""What the webhook says: another way through it would be another figure."""

TEXT = """\
## Warm webhook

A process that has answered others calls its handler once. The order is in the table, the secret is known, log lines and
metrics are written; a duplicate is the delivery before, once more. The bare `update_item` sets one attribute of such an
order, under a condition, by a boto3 client in the same process. AWS is moto in another process, which
keeps connections as AWS does: its CPU is not counted, its time on the clock is, which is most of it. Requests are
counted in front of it, for all calls. Every process has its
turn in every round, of which there are {rounds}, after {warm_up} that are not counted. A signature that fails has the
webhook look for a new secret, once a minute. (a) verifies nothing and writes whatever comes.{node}

{table}
"""


class Call(NamedTuple):
    """Milliseconds of the processor and on the clock, and the requests to AWS."""

    cpu: float
    wall: float
    dynamodb: int
    secrets: int
    others: int
    logged: int
    """Bytes."""


Figures = Mapping[str, Mapping[str, Sequence[Call]]]
"""By process, then by call."""


def measure(scale: Scale) -> Figures:
    rounds, warm_up = scale.rounds * ROUNDS, scale.rounds
    with contextlib.ExitStack() as stack:
        wire, callers = _start(stack)
        orders = _orders(callers, rounds + warm_up + 1)
        for name, caller in callers.items():
            _call(name, caller, FIRST, orders[name][0])
        # By call, not by process: none finds the processor's caches as the same process has left them.
        calls = [(name, call) for call in CALLS for name in callers if call in _calls(name)]
        figures: dict[str, dict[str, list[Call]]] = {name: {call: [] for call in _calls(name)} for name in callers}
        for number, turn in enumerate(in_turns(calls, warm_up + rounds)):
            for name, call in turn:
                known, new = orders[name][number : number + 2]
                wire.take()
                told = _call(name, callers[name], call, new if call == FIRST else known)
                if number >= warm_up:
                    sent = wire.take()
                    by_service = sent[DYNAMODB], sent[SECRETS], sent.total() - sent[DYNAMODB] - sent[SECRETS]
                    figures[name][call].append(Call(told["cpu"], told["wall"], *by_service, told["logged"]))
    return figures


def section(figures: Figures) -> Section:
    rows = [_row(UPDATE, "", figures[OURS][UPDATE], figures[OURS][UPDATE])]
    for name, calls in figures.items():
        rows += [_row(name, call, each, _base(figures, name)) for call, each in calls.items() if call != UPDATE]
    ours = figures[OURS]
    base = [call.cpu for call in ours[UPDATE]]
    first, forged = (ratios([c.cpu for c in ours[call]], base) for call in (FIRST, FORGED))
    return Section(
        TEXT.format(
            rounds=len(base),
            warm_up=len(base) // ROUNDS,
            node="" if baselines.WRITTEN in figures else f" {baselines.NODE_MISSING}",
            table=table(
                (
                    "by",
                    "call",
                    "CPU, ms",
                    "CPU / `update_item`",
                    "clock, p50, ms",
                    "p99, ms",
                    "requests to DynamoDB",
                    "to Secrets Manager",
                ),
                *rows,
            ),
        ),
        targets=(
            Target(f"{OURS}, warm, CPU of a first delivery / `update_item`", 1.25, first),
            *(
                target
                for call, bound in ((FIRST, 1), (DUPLICATE, 1), (FORGED, 0))
                for target in (
                    Target(f"{OURS}, warm, {call}, to DynamoDB", bound, [_sent(ours[call], "dynamodb")], "requests"),
                    Target(f"{OURS}, warm, {call}, to others", 0, [_sent(ours[call], "secrets", "others")], "requests"),
                )
            ),
            Target(f"{OURS}, warm, CPU of a {FORGED} / `update_item`", 0.3, forged),
        ),
        panels=(
            Panel(
                "First delivery, warm, CPU",
                "ms",
                bars(
                    {
                        UPDATE: statistics.median(base),
                        **{n: statistics.median(call.cpu for call in calls[FIRST]) for n, calls in figures.items()},
                    }
                ),
            ),
        ),
    )


def _start(stack: contextlib.ExitStack) -> tuple[Wire, dict[str, Caller]]:
    """AWS, and a process for each that is measured; all end with `stack`."""
    here = stack.enter_context(cloud.running())
    return here.wire, {
        name: stack.enter_context(contextlib.closing(Caller(command, environment)))
        for name, command, environment in _processes(here)
    }


def _processes(here: cloud.Cloud) -> Iterator[tuple[str, Sequence[str], Mapping[str, str]]]:
    python = (sys.executable, "-m", "tests.bench.caller")
    yield OURS, (*python, "webhook"), {**here.environment("webhook"), "PATIENCE": "20"}  # of a busy machine
    for name, module in baselines.PYTHON.items():
        yield name, (*python, module), here.environment_of_baseline()
    if node := baselines.node():
        for name, module in baselines.NODE.items():
            command = (node, str(baselines.EXPRESS / "caller.mjs"), str(module))
            yield name, command, here.environment_of_baseline()


def _orders(callers: Mapping[str, Caller], each: int) -> dict[str, list[str]]:
    """Orders of each process's own, opened as checkouts open them."""
    return {name: callers[OURS].tell(open=each)["orders"] for name in callers}


def _calls(name: str) -> Sequence[str]:
    """What a process is told to do in every round."""
    if name == baselines.BARE:  # verifies nothing, and writes again what it knows
        return (UPDATE, FIRST)
    return [call for call in CALLS if call != UPDATE or name not in baselines.NODE]  # boto3's is no client of Node's


def _call(name: str, caller: Caller, call: str, order: str) -> dict[str, Any]:
    if call == UPDATE:
        return caller.tell(update=order)
    told = caller.tell(event=payment(order, signature="0" * 64 if call == FORGED else None))
    answer = told["answer"]
    assert answer["statusCode"] == (401 if call == FORGED else 200), answer
    assert name != OURS or ANSWERS[call] in answer["body"], answer
    return told


def _base(figures: Figures, name: str) -> Sequence[Call]:
    """The bare `update_item` of the same process; for Node that of the webhook's."""
    return figures[name].get(UPDATE, figures[OURS][UPDATE])


def _row(name: str, call: str, every: Sequence[Call], base: Sequence[Call]) -> tuple[str, ...]:
    cpu, walls = [each.cpu for each in every], [each.wall for each in every]
    return (
        name,
        call,
        spread(cpu, 2),
        spread(ratios(cpu, [each.cpu for each in base]), 2),
        f"{statistics.median(walls):.1f}",
        f"{statistics.quantiles(walls, n=100, method='inclusive')[-1]:.1f}",
        f"{statistics.fmean(each.dynamodb for each in every):.3g}",
        f"{statistics.fmean(each.secrets for each in every):.3g}",
    )


def _sent(calls: Sequence[Call], *services: str) -> int:
    """Requests of a call, at most, in 95 of a hundred: the look for a new secret, once a minute, is not of them."""
    most = sorted(sum(getattr(call, service) for service in services) for call in calls)
    return most[len(most) * 95 // 100 - 1]
