"""The harness of `make fuzz`, for seconds: the webhook holds, what was found stays mended, a defect is found."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from payments import events, ledger, orders, signature
from tests.conftest import EXAMPLES
from tests.fuzz.webhooks import SEQUENCES, Broken, Delivery, Stand, kept, stand

UNSHRUNK = settings(EXAMPLES, phases=[Phase.generate], database=None)
"""To make a failing delivery small takes minutes: `make fuzz` has them."""


@pytest.fixture(scope="module")
def made() -> Iterator[Stand]:
    with stand() as stood:
        yield stood


@settings(UNSHRUNK, max_examples=30)
@given(sequence=SEQUENCES)
def test_the_webhook_holds(made: Stand, sequence: list[Delivery]) -> None:
    """Never an exception or a 5xx; 200 for what is signed and for nothing else; kept, counted once, and settled by
    nothing but a body that names the order and its product."""
    made.hold(sequence)


def test_what_was_found_stays_mended(made: Stand) -> None:
    """Each finding of `make fuzz`, again."""
    for sequence in kept().values():
        made.hold(sequence)


_numbers = itertools.count()


@pytest.mark.parametrize(
    ("module", "name", "defect", "rule"),
    [
        (signature, "verify", lambda *_: True, "signed or not"),
        (orders, "fits", lambda *_: True, "settled by what does not pay for it"),
        (events, "_signed_names", lambda _: [], "settled by what does not pay for it"),
        (ledger, "keep", lambda *_: None, "acknowledged, and not kept"),
        (ledger, "fact_name", lambda _: f"pay#{next(_numbers)}", "counted twice"),
    ],
    ids=["any signature", "any product", "any event's name", "forgotten", "every time anew"],
)
def test_a_defect_is_found(
    made: Stand, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, defect: Any, rule: str
) -> None:
    """Within some hundred deliveries: so many kinds of them are made."""
    monkeypatch.setattr(module, name, defect)

    @settings(UNSHRUNK, max_examples=300, derandomize=True)
    @given(sequence=SEQUENCES)
    def fire(sequence: list[Delivery]) -> None:
        made.hold(sequence)

    with pytest.raises(Broken, match=rule):
        fire()
