"""A measure against the severity of a corruption: a small plot a corruption, a line a variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beitmed.plots.curves import Panel
from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, LOOKS, WIDTH, Page, styled
from beitmed.plots.text import fitted, height_of

MOST_LINES = len(LOOKS)
_HIGH, _LEFT, _GAP = 1.05, 0.5, 0.14  # inches: a plot's height, room for its labels, between two


@styled()
def severity_curves(
    panels: Sequence[Panel], *, title: str, label: str, note: str, width: float = FULL_WIDTH
) -> Figure:
    """Draw a panel a corruption, all on one scale of the measure that `label` names.

    All panels have the same variants, at most `MOST_LINES`, in the same order.
    """
    assert panels and all(len(panel.curves) <= MOST_LINES for panel in panels)
    columns = min(len(panels), COLUMNS if width > WIDTH else 2)
    side = (width - _LEFT - EDGE - _GAP * (columns - 1)) / columns
    pitch = _HIGH + 0.42
    foot = -(-len(panels) // columns) * pitch
    names = [curve.name for curve in panels[0].curves]
    keys = [fitted(name, width - _LEFT - 0.45, lines=2, size=7) for name in names]
    legend = 0.26 + sum(height_of(key, 7) + 0.04 for key in keys)
    page = Page(width, foot + legend, title, [note])
    limits = _limits(panels)
    for i, panel in enumerate(panels):
        x, y = _LEFT + i % columns * (side + _GAP), i // columns * pitch
        page.text(x, y + 0.02, fitted(panel.name, side, size=7), fontsize=7)
        axes = page.axes(x, y + 0.17, side, _HIGH)
        _draw(axes, panel)
        axes.set(ylim=limits, xlim=(-0.25, 5.25), xticks=range(6))
        axes.tick_params(labelleft=i % columns == 0)
        if i % columns == 0:
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords(-0.36 / side, 0.5)
    middle = (_LEFT + width - EDGE) / 2
    page.text(middle, foot, "Severity (0: clean images)", ha="center")
    handles = [Line2D([], [], **_look(i)) for i in range(len(names))]
    page.key(_LEFT, foot + 0.2, handles, keys, handlelength=3)
    return page.figure


def _limits(panels: Sequence[Panel]) -> tuple[float, float]:
    found = [
        value
        for panel in panels
        for curve in panel.curves
        for of in (curve.values, curve.low, curve.high)
        for value in of
        if value is not None
    ]
    low, high = min(found, default=0.0), max(found, default=1.0)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin


def _look(i: int) -> dict[str, Any]:
    dash, marker, colour = LOOKS[i]
    return {"linestyle": dash, "marker": marker, "color": colour, "markersize": 3}


def _draw(axes: Axes, panel: Panel) -> None:
    for i, curve in enumerate(panel.curves):
        values, low, high = (
            np.array(of, np.float64) for of in (curve.values, curve.low, curve.high)
        )
        axes.plot(curve.at, values, linewidth=1.1, **_look(i))
        axes.fill_between(curve.at, low, high, color=LOOKS[i][2], alpha=0.16, linewidth=0)
