"""Forest plots: a value with its interval a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted


@dataclass(frozen=True)
class Row:
    """A variant in a forest plot: its value with its limits, and how they are written beside it.

    Optionally the values of its single seeds, and the value that was published.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    written: str
    seeds: Sequence[float] = ()
    published: float | None = None


@styled()
def forest(
    rows: Sequence[Row],
    *,
    title: str,
    xlabel: str,
    no_skill: float | None = None,
    differences: bool = False,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw a forest plot: a row a variant, in the order given and never ordered by value.

    no_skill: what a constant prediction reaches, as a line across all rows. differences: whether
    the values are, so that the axis has to hold 0.

    Beside each row stands its value with its interval; one that has none stands there with its
    reason. Where the axis holds 0 inside, it is marked: differences are read against it.
    ValueError: no rows.
    """
    if not rows:
        raise ValueError("rows: none, but at least one is needed")
    left, right, pitch, size = (2.1, 1.5, 0.3, 7.0) if width > WIDTH else (1.2, 0.85, 0.34, 6.0)
    height = pitch * len(rows)
    handles, names = _key(rows, no_skill)
    page = Page(width, height + 0.65 + 0.15 * (len(names) if width <= WIDTH else 1), title)
    axes = page.axes(left, 0.03, width - left - right, height)
    axes.set(
        xlim=_span(rows, 0.0 if differences else no_skill), ylim=(len(rows) - 0.5, -0.5), yticks=[]
    )
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6 if width > WIDTH else 3))
    axes.set_xlabel(fitted(xlabel, 3.2 if width > WIDTH else 1.4, lines=2), parse_math=False)
    low, high = axes.get_xlim()
    if low < 0 < high:
        axes.axvline(0, color="0.45", linewidth=0.8, linestyle=(0, (1, 2)))
    if no_skill is not None:
        axes.axvline(no_skill, **_NO_SKILL)
    for i, row in enumerate(rows):
        middle = 0.03 + (i + 0.5) * pitch
        if i % 2:
            axes.axhspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=0)
        _draw_row(axes, i, row)
        lines = 2 if width > WIDTH else 3
        name = fitted(row.name, left - EDGE - 0.1, lines=lines, size=size)
        page.text(left - 0.1, middle, name, ha="right", va="center", fontsize=size)
        written = fitted(row.written, right - 0.1 - EDGE, lines=2, size=size)
        page.text(width - right + 0.1, middle, written, va="center", fontsize=size)
    page.key(left, height + 0.6, handles, names, ncols=1 if width <= WIDTH else 4)
    return page.figure


#: Looks of what a row shows, and how far above the row's middle each stands (in rows).
_MEAN: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4, "linestyle": "-"}
_SEED: dict[str, Any] = {"color": "0.3", "marker": "|", "markersize": 5, "linestyle": "none"}
_PUBLISHED: dict[str, Any] = {
    "color": "black", "marker": "D", "markersize": 4, "linestyle": "none", "mfc": "none",
}  # fmt: skip
_ABOVE = 0.27
_NO_SKILL: dict[str, Any] = {"color": "0.35", "linewidth": 0.9, "linestyle": (0, (4, 2))}


def _draw_row(axes: Axes, i: int, row: Row) -> None:
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [i, i], color="black", marker="|", markersize=4)
    if row.value is not None:
        axes.plot([row.value], [i], **_MEAN)
    if row.seeds:
        axes.plot(row.seeds, np.full(len(row.seeds), i + _ABOVE), **_SEED)
    if row.published is not None:
        axes.plot([row.published], [i - _ABOVE], **_PUBLISHED)


def _key(rows: Sequence[Row], no_skill: float | None) -> tuple[list[Line2D], list[str]]:
    handles, names = [Line2D([], [], **_MEAN)], ["Value with 95 % interval"]
    if any(row.seeds for row in rows):
        handles.append(Line2D([], [], **_SEED))
        names[0] = "Mean with 95 % interval"
        names.append("One seed")
    if any(row.published is not None for row in rows):
        handles.append(Line2D([], [], **_PUBLISHED))
        names.append("The paper's")
    if no_skill is not None:
        handles.append(Line2D([], [], **_NO_SKILL))
        names.append("Constant prediction")
    return handles, names


def _span(rows: Sequence[Row], line: float | None) -> tuple[float, float]:
    """Return limits of the axis with some room around all that is drawn."""
    found = [line]
    found += [x for r in rows for x in (r.value, r.low, r.high, r.published, *r.seeds)]
    values = [x for x in found if x is not None]
    if not values:
        return 0.0, 1.0
    margin = 0.05 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin
