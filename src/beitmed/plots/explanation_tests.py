"""Curves of the tests of explanations: cells removed and put in, and a network re-drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beitmed.plots.page import EDGE, FULL_WIDTH, LOOKS, WIDTH, Page, styled
from beitmed.plots.text import fitted

RANDOM, CENTRE = "random order", "from the centre"


@dataclass(frozen=True)
class TestCurves:
    """Means over the tested images.

    deletion, insertion: probability of the class by method, and of the names `RANDOM` and `CENTRE`,
    at equal steps from none to all of the cells. similarity: by method, of the map to that of the
    network with each of the parts and all before it re-drawn; the first part is nothing.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    deletion: Mapping[str, Sequence[float]]
    insertion: Mapping[str, Sequence[float]]
    parts: Sequence[str]
    similarity: Mapping[str, Sequence[float]]


@styled()
def test_curves(
    found: TestCurves, *, title: str, notes: Sequence[str], width: float = FULL_WIDTH
) -> Figure:
    """Draw the three tests beside one another, on a column one below the other."""
    across = 3 if width > WIDTH else 1
    left, below, gap = 0.58, 0.85, 0.3
    wide = (width - across * left - EDGE - (across - 1) * 0.08) / across
    high = min(wide, 1.9)
    columns = 4 if width > WIDTH else 2
    names = [fitted(name, width / columns - 0.5, size=7) for name in found.deletion]
    key = -(-len(names) // columns) * 0.15 + 0.05
    lines = 3 // across
    page = Page(width, lines * (gap + high + below) + key, title, notes)
    panels = (
        ("Deletion: lower is better", found.deletion),
        ("Insertion: higher is better", found.insertion),
        ("Randomisation: lower is better", found.similarity),
    )
    for k, (heading, curves) in enumerate(panels):
        x = left + k % across * (left + wide + 0.08)
        y = gap + k // across * (gap + high + below)
        axes = page.axes(x, y, wide, high)
        page.text(x, y - 0.06, heading, va="bottom", fontsize=7)
        end = 1 if k < 2 else len(found.parts) - 1
        _draw(axes, curves, list(found.deletion), end)
        if k < 2:
            axes.set(ylim=(0, 1), xlabel=f"Share of cells {('removed', 'put in')[k]}")
            axes.set_ylabel("Probability of the class", labelpad=1)
        else:
            lowest = min(map(min, curves.values()))
            axes.set_ylim(min(-0.1, lowest) - 0.1, 1.05)
            axes.axhline(0, color="0.6", linewidth=0.6, zorder=0)
            labels = [fitted(part, 0.7, size=6) for part in found.parts]
            axes.set_xticks(range(len(labels)), labels, fontsize=6, rotation=90)
            axes.set_ylabel("Rank correlation", labelpad=1)
    handles = [
        Line2D([], [], linestyle=LOOKS[i][0], marker=LOOKS[i][1], color=LOOKS[i][2])
        for i in range(len(names))
    ]
    page.key(
        left, lines * (gap + high + below), handles, names, ncols=columns, columnspacing=1,
        handlelength=3,
    )  # fmt: skip
    return page.figure


def _draw(
    axes: Axes, curves: Mapping[str, Sequence[float]], order: Sequence[str], end: float
) -> None:
    """Curves at equal steps from 0 to `end`, each with the look of its name's place."""
    for name, values in curves.items():
        dash, marker, colour = LOOKS[order.index(name)]
        at = np.linspace(0, end, len(values))
        axes.plot(at, values, linestyle=dash, marker=marker, color=colour, markersize=2.6)
