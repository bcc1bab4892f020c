"""`make fuzz`: the time a refusal takes, deliveries that nobody sends, and the HTTP interface by its document."""

import os
import random
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO

from hypothesis import given, settings

from sandbox.template import ROOT
from tests.conftest import EXAMPLES
from tests.fuzz import timing
from tests.fuzz.webhooks import SEQUENCES, Broken, Delivery, keep, stand

ROUND = settings(EXAMPLES, max_examples=1_000, derandomize=False)
SHRINKING_SECONDS = 120


class Over(KeyboardInterrupt):
    """Time is. Of this kind because hypothesis lets nothing else through."""


def main(seconds: float) -> int:
    found = [_comparison(), _webhook(seconds), _interface(seconds)]
    return int(not all(found))


def _comparison() -> bool:
    told = timing.verdict(random.Random())
    print(f"comparison of signatures: {told}")
    return told != "leaks"


def _webhook(seconds: float) -> bool:
    deadline, fired, failing = time.monotonic() + seconds, 0, list[Delivery]()

    with stand() as made:

        @ROUND
        @given(sequence=SEQUENCES)
        def fire(sequence: list[Delivery]) -> None:
            nonlocal fired, failing, deadline
            if time.monotonic() > deadline:
                raise Over
            fired += len(sequence)
            try:
                made.hold(sequence)
            except Broken:
                if not failing:
                    deadline = time.monotonic() + SHRINKING_SECONDS
                failing = sequence  # the last one that hypothesis tries is the smallest that it knows
                raise

        broken = _until_over(fire)
    print(f"webhook: {fired} deliveries, {f'{broken} by {keep(failing)}' if failing else 'every rule holds'}")
    return not failing


def _until_over(fire: object) -> str:
    """The rule that was broken, "" for none."""
    rule = ""
    try:
        while not rule:
            with redirect_stdout(StringIO()):  # metrics
                try:
                    fire()  # type: ignore[operator]
                except Broken as broken:
                    rule = str(broken.args[0])
    except Over:
        rule = rule or "a rule is broken"
    return rule


def _interface(seconds: float) -> bool:
    """The test of `make test`, with other requests each time."""
    environment = {**os.environ, "FUZZ_SECONDS": str(int(seconds))}
    test = "tests/e2e/test_contract.py::test_schemathesis_finds_nothing"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n0", test], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
