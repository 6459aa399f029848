"""Learning curves: loss and validation metrics by epoch, of one run or of several variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import height_of, name_and_remark
from beitmed.statistics.level import Floats

_SOLID = {"color": "black", "marker": "o", "markersize": 2.5}
_BROKEN = {"color": "0.45", "marker": "s", "markersize": 2.5, "linestyle": "--"}
#: Field of a row: panel, name in the legend, look (told apart by dash and marker, not by colour).
LINES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "train_loss": (0, "Training loss", _BROKEN),
    "val_loss": (0, "Validation loss", _SOLID),
    "val_auc": (1, "AUC", _SOLID),
    "val_accuracy": (1, "Accuracy", _BROKEN),
}


@dataclass(frozen=True)
class Histories:
    """A variant's learning curves: for each seed its rows, one an epoch.

    Each row holds epoch, train_loss, val_loss, val_auc and val_accuracy; None leaves a gap.
    """

    name: str
    seeds: Sequence[Sequence[Mapping[str, Any]]]


@styled()
def learning_curves(
    groups: Sequence[Histories], *, title: str, width: float = FULL_WIDTH
) -> Figure:
    """Draw two plots a variant: losses above, validation metrics below, on shared scales.

    Epochs have a scale for each variant, or a short training would be a dot beside a long one.
    Each seed is a thin line and their mean a thick one, which is drawn only at epochs of which
    every seed has the value, as it would otherwise jump where a seed comes or goes.
    ValueError: no groups, or one without any epoch.
    """
    if not groups or not all(any(map(len, g.seeds)) for g in groups):
        raise ValueError("groups: at least one, each with an epoch, is needed")
    columns = min(len(groups), COLUMNS if width > WIDTH else 2)
    high, left, gap = 1.05, 0.55, 0.16
    side = (width - left - EDGE - gap * (columns - 1)) / columns
    names = [_heading(group, side + 0.06) for group in groups]
    above = max(height_of(name, 7) for name in names) + 0.06
    pitch = above + 2 * high + 0.36
    foot = -(-len(groups) // columns) * pitch
    limits = [_limits(groups, panel) for panel in (0, 1)]
    page = Page(width, foot + (0.5 if width > WIDTH else 0.72), title)
    for i, group in enumerate(groups):
        x, y = left + i % columns * (side + gap), i // columns * pitch
        page.text(x, y + above - 0.04, names[i], va="bottom", fontsize=7)
        epochs = [row["epoch"] for rows in group.seeds for row in rows]
        for panel in (0, 1):
            axes = page.axes(x, y + above + panel * (high + 0.1), side, high)
            _draw(axes, group, panel)
            axes.set_ylim(*limits[panel])
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelleft=i % columns == 0, labelbottom=panel == 1)
            if i % columns == 0:
                axes.set_ylabel(("Loss", "Validation metric")[panel])
                axes.yaxis.set_label_coords(-0.38 / side, 0.5)
    page.text((left + width - EDGE) / 2, foot, "Epoch", ha="center")
    handles = [Line2D([], [], **look) for _, _, look in LINES.values()]
    labels = [name for _, name, _ in LINES.values()]
    if any(len(group.seeds) > 1 for group in groups):
        handles.append(Line2D([], [], color="0.3", linewidth=0.5))
        labels.append("One seed (thick: mean)")
    page.key(left if width > WIDTH else EDGE, foot + 0.24, handles, labels,
             ncols=5 if width > WIDTH else 2, handlelength=2.6, columnspacing=1)  # fmt: skip
    return page.figure


def _heading(group: Histories, width: float) -> str:
    n = len(group.seeds)
    return name_and_remark(group.name, f"{n} seed{'s' * (n > 1)}" if group.name else "", width)


def _values(group: Histories, key: str) -> tuple[Floats, Floats]:
    """Return the epochs [e] of a group's seeds, and their values [seeds, e], NaN where none."""
    found = [{row["epoch"]: row[key] for row in rows if row[key] is not None}
             for rows in group.seeds]  # fmt: skip
    epochs = sorted({row["epoch"] for rows in group.seeds for row in rows})
    table = [[of.get(epoch, np.nan) for epoch in epochs] for of in found]
    return np.array(epochs, np.float64), np.array(table, np.float64)


def _limits(groups: Sequence[Histories], panel: int) -> tuple[float, float]:
    """Return limits of a panel that hold every finite value of all groups."""
    keys = [key for key, (where, _, _) in LINES.items() if where == panel]
    values = np.concatenate([_values(g, key)[1].ravel() for g in groups for key in keys])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _draw(axes: Axes, group: Histories, panel: int) -> None:
    for key, (where, name, look) in LINES.items():
        if where != panel:
            continue
        epochs, values = _values(group, key)
        thin = {**look, "marker": "", "linewidth": 0.5, "alpha": 0.7}
        if len(values) > 1:
            for row in values:
                axes.plot(epochs, row, **thin)
        every = 1 + len(epochs) // 15
        axes.plot(epochs, values.mean(axis=0), label=name, markevery=every, linewidth=1.5,
                  **look)  # fmt: skip
