"""What each part of the bench tells: a section in Markdown, the targets that it measures, panels of the chart."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

OURS = "`webhook`"


class Scale(NamedTuple):
    """How much is measured: starts of each process, webhooks in a burst, orders to reconcile and to relay."""

    rounds: int = 30
    burst: int = 500
    orders: int = 10_000


class Target(NamedTuple):
    """A bound, and what was measured, once or in each round: its median counts. For people, never asserted."""

    what: str
    bound: float
    measured: Sequence[float]
    unit: str = "×"

    def row(self) -> tuple[str, ...]:
        median = statistics.median(self.measured)
        told = spread(self.measured, 3) if len(self.measured) > 1 else f"{median:.3g}"
        return (
            self.what,
            f"≤ {self.bound:g} {self.unit}".rstrip(),
            told,
            "holds" if median <= self.bound else "**missed**",
        )


class Panel(NamedTuple):
    """Bars beside each other: `bars` are values of one unit, by name, in their order."""

    title: str
    unit: str
    bars: Mapping[str, float]


class Section(NamedTuple):
    """`text` begins with its own `## ` heading."""

    text: str
    targets: Sequence[Target] = ()
    panels: Sequence[Panel] = ()


def spread(values: Sequence[float], digits: int) -> str:
    """Median, 10th and 90th percentile."""
    low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratios(values: Sequence[float], of: Sequence[float]) -> list[float]:
    """Round by round, so that what else the machine is doing cancels out."""
    return [value / base for value, base in zip(values, of, strict=True)]


def bars(values: Mapping[str, float]) -> dict[str, float]:
    """Of a panel, which knows nothing of Markdown: names without its marks."""
    return {name.replace("`", ""): value for name, value in values.items()}


def table(*rows: Sequence[object]) -> str:
    """Lines of Markdown; the first row is the head."""
    head, *body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
