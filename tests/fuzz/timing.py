"""How long it takes to refuse a signature, by how much of it is right: for `signature.verify` it must not matter.

After dudect (eprint.iacr.org/2016/1123): two classes of input, each measurement of a class chosen at random, so that
whatever else the machine does meets both alike; then Welch's t of what is below a percentile, since what is above is
the machine's. A naive comparison is measured along with it, in the same minute and by the same means: while its leak
does not show, the machine is too busy for a verdict.
"""

import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from payments import signature
from tests.payloads import SECRET, sign

BODY = b"{}"
"""Short: what is hashed takes the same time in both classes, and hides the comparison's."""
SAMPLES = 5_000
LEAKS = 30.0
"""Of |t|: caches and chance give 6, the naive comparison a thousand."""
KEPT = 0.8
"""The fastest: what took longer was interrupted."""
TRIES = 5

Verify = Callable[[bytes, str, list[str]], bool]


@dataclass(frozen=True)
class Measured:
    t: float
    naive_t: float

    @property
    def is_conclusive(self) -> bool:
        return abs(self.naive_t) > LEAKS

    @property
    def leaks(self) -> bool:
        return abs(self.t) > LEAKS


def naive(body: bytes, given: str, secrets: list[str]) -> bool:
    """What `signature.verify` must not be: as HMAC is compared by whoever writes the loop himself."""
    for secret in secrets:
        expected = sign(body, secret)
        for one, other in zip(given, expected, strict=True):
            if one != other:
                return False
    return True


def measure(random_source: random.Random, verify: Verify = signature.verify, samples: int = SAMPLES) -> Measured:
    """A signature that is wrong from the first digit on, against one that is wrong in the last."""
    right = sign(BODY, SECRET)
    early, late = (
        "".join("1" if digit == "0" else "0" for digit in right),
        right[:-1] + ("1" if right[-1] == "0" else "0"),
    )
    times: dict[tuple[int, int], list[int]] = {(which, kind): [] for which in (0, 1) for kind in (0, 1)}
    plan = [(random_source.getrandbits(1), random_source.getrandbits(1)) for _ in range(samples * 2)]
    for which, kind in plan:
        function, given = (verify, naive)[which], (early, late)[kind]
        begun = time.perf_counter_ns()
        function(BODY, given, [SECRET])
        times[which, kind].append(time.perf_counter_ns() - begun)
    return Measured(*(_welch(_cut(times[which, 0]), _cut(times[which, 1])) for which in (0, 1)))


def verdict(random_source: random.Random, verify: Verify = signature.verify, samples: int = SAMPLES) -> str:
    """ "constant", "leaks", or "unknown" on a machine that is too busy. It leaks when every try that is conclusive says
    so: once is the machine's doing."""
    conclusive = 0
    for _ in range(TRIES):
        measured = measure(random_source, verify, samples)
        if measured.is_conclusive and not measured.leaks:
            return "constant"
        conclusive += measured.is_conclusive
    return "leaks" if conclusive else "unknown"


def _cut(times: list[int]) -> list[int]:
    return sorted(times)[: int(len(times) * KEPT)]


def _welch(one: list[int], other: list[int]) -> float:
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(other) - statistics.fmean(one)) / math.sqrt(spread) if spread else 0.0
