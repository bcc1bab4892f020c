"""docs/performance.svg: the panels of all sections, each with our own bars in colour."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from tests.bench.report import Panel

mpl.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

COLUMNS = 2
OURS = {"checkout", "reconcile", "relay", "webhook"}
"""Bars that are called so, or so and something behind a comma."""
OWN, OTHER, INK = "#0a7d55", "#b4bac2", "#1f2328"


def draw(panels: Sequence[Panel], path: Path) -> None:
    """An SVG, the same for the same panels. White behind all, so that it can be read on a dark page, too."""
    style = {"svg.hashsalt": "performance", "font.size": 9, "text.color": INK, "ytick.labelcolor": INK}
    rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    places = [max(len(panel.bars) for panel in row) for row in rows]
    heights = [0.26 * bars + 0.5 for bars in places]
    with mpl.rc_context(style):
        figure = pyplot.figure(figsize=(10, sum(heights)), facecolor="white", layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches
        parts = figure.subfigures(len(rows), COLUMNS, squeeze=False, height_ratios=heights)
        for row, of_row, bars in zip(parts, rows, places, strict=True):
            for part, panel in zip(row, of_row, strict=False):
                part.suptitle(f"{panel.title}, {panel.unit}", x=0.02, ha="left", fontsize=10, fontweight="bold")
                _fill(part.subplots(), panel, bars)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def _fill(axes: Axes, panel: Panel, places: int) -> None:
    """All bars of a row of panels are of one thickness: each panel has as many places as the fullest one."""
    names, values = list(panel.bars), list(panel.bars.values())
    ours = [name.partition(",")[0] in OURS for name in names]
    bars = axes.barh(range(len(names)), values, height=0.72, color=[OWN if own else OTHER for own in ours])
    labels = axes.bar_label(bars, [f" {_short(value)}" for value in values])
    axes.set_yticks(range(len(names)), names)
    for own, *texts in zip(ours, labels, axes.get_yticklabels(), strict=True):
        for text in texts:
            text.set_fontweight("bold" if own else "normal")
    axes.set_ylim(places - 0.5, -0.5)
    axes.set_xlim(0, max(values) * 1.15 or 1)  # with room for what stands behind the longest bar
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _short(value: float) -> str:
    """Three digits, where it has them."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
