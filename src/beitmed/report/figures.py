"""Curves and bars of a report over many runs, from arrays to files.

Every function writes `<stem>.png` (200 dpi) and `<stem>.svg`, 3.3 or 6.9 inches wide, and returns
the two paths. Variants appear in the order given, and are told apart by dash, marker or hatch,
never by colour alone. All names are shown as they are, without markup, and cut where they are too
long. The same input gives the same bytes with the same version of matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from beitmed.plots.curves import (
    FPR_LABEL,
    FULL_WIDTH,
    HISTORY_LINES,
    TPR_LABEL,
    auc_label,
    auc_short,
    case_counts,
    draw_band,
    roc_points,
    write,
)
from beitmed.report.bars import ClassCounts, Confusion, Row, class_counts, confusion, intervals
from beitmed.report.layout import (
    COLUMNS,
    EDGE,
    LOOKS,
    Page,
    fitted,
    height_of,
    name_and_remark,
    styled,
    unit_square,
)
from beitmed.report.reliability import Reliability, reliability, reliability_bins
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.intervals import Bools, Floats

__all__ = [
    "ClassCounts",
    "Confusion",
    "Histories",
    "Reliability",
    "RocCurve",
    "Row",
    "class_counts",
    "confusion",
    "intervals",
    "learning_curves",
    "reliability",
    "reliability_bins",
    "roc_comparison",
]

_SMALL = 1.42  # inches: the side of a small ROC plot


@dataclass(frozen=True)
class RocCurve:
    """A variant's test cases: y [n] is true for the positive class, score [n] its log odds."""

    name: str
    y: Bools
    score: Floats
    auc: Estimate

    @property
    def drawable(self) -> bool:
        return bool(self.y.any() and not self.y.all())


def roc_comparison(
    stem: Path, curves: Sequence[RocCurve], *, title: str, positive_name: str
) -> tuple[Path, Path]:
    """Write the ROC curves of several variants in one plot; each has its AUC in the legend.

    Bands are `plots.roc_band`. One or two curves have theirs in that plot; from three on, where
    bands would cover one another, each has it in a small plot of its own, before the other curves
    in grey. The first 8 curves are shown, and the figure says so where there are more: which those
    are is the caller's choice. A test set that lacks a class gives a legend entry without a curve.
    ValueError: no curves, or malformed scores.
    """
    if not curves:
        raise ValueError("curves: none, but at least one is needed")
    shown = curves[: len(LOOKS)]
    sizes = {(int(c.y.sum()), c.y.size) for c in shown}
    one_size = len(sizes) == 1
    notes = [case_counts(shown[0].y, positive_name) if one_size else f"Positive: {positive_name}"]
    if len(curves) > len(shown):
        notes.append(f"The first {len(shown)} of {len(curves)} curves are shown.")
    alone = len(shown) <= 2
    side = 2.9
    panels = [] if alone else [_panel_heading(c) for c in shown]
    above = max((height_of(heading, 6.5) for heading in panels), default=0) + 0.08
    pitch, rows = above + _SMALL + 0.24, -(-len(panels) // COLUMNS)
    with styled():
        body = side + 0.42 + (rows * pitch + 0.24 if rows else 0)
        page = Page(FULL_WIDTH, body, title, notes)
        axes = page.axes(0.5, 0.03, side, side)
        lines = _overlay(axes, shown, bands=alone)
        names = [_roc_entry(c, counts=not one_size) for c in shown]
        handles: list[Any] = [*lines, Line2D([], [], color="0.45", linestyle=(0, (1, 2)))]
        names.append("Chance")
        if alone:
            handles.append(Patch(facecolor="0.85", edgecolor="0.4", linewidth=0.5))
            names.append("95 % band, pointwise")
        page.key(0.5 + side + 0.2, 0.05, handles, names, handlelength=4, labelspacing=0.7)
        if rows:
            top = side + 0.5
            page.text(0.5, top, "Each curve with its 95 % band, pointwise; the others in grey")
            for i, heading in enumerate(panels):
                x = 0.5 + i % COLUMNS * (_SMALL + 0.19)
                y = top + 0.16 + i // COLUMNS * pitch + above
                page.text(x, y - 0.04, heading, va="bottom", fontsize=6.5)
                small = page.axes(x, y, _SMALL, _SMALL)
                _draw_panel(small, shown, i)
                small.tick_params(labelleft=i % COLUMNS == 0,
                                  labelbottom=i + COLUMNS >= len(shown))  # fmt: skip
        return write(page.figure, stem)


def _roc_entry(curve: RocCurve, *, counts: bool) -> str:
    room, positives = 2.75, int(curve.y.sum())
    parts = [fitted(curve.name, room, lines=2, size=7), fitted(auc_label(curve.auc), room, size=7)]
    if counts:
        parts.append(f"n = {positives} positive, {curve.y.size - positives} negative")
    if not curve.drawable:
        parts.append("no curve: the test set has one class")
    return "\n".join(part for part in parts if part)


def _overlay(axes: Axes, curves: Sequence[RocCurve], *, bands: bool) -> list[Line2D]:
    """Draw the curves over one another; return a legend handle for each, drawn or not."""
    handles = []
    axes.plot([0, 1], [0, 1], color="0.45", linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    for i, (curve, (dash, marker, colour)) in enumerate(zip(curves, LOOKS, strict=False)):
        look = {"linestyle": dash, "color": colour, "marker": marker, "markerfacecolor": "white"}
        look |= {"markeredgewidth": 0.8, "markersize": 3.6}
        handles.append(Line2D([], [], **look))
        if not curve.drawable:
            continue
        fpr, tpr, _ = roc_points(curve.y, curve.score)
        # By distance along the curve, each starting elsewhere, so that no two lie on one another.
        every = (0.04 + 0.16 * i / len(curves), 0.16)
        axes.plot(fpr, tpr, markevery=every, clip_on=False, zorder=4 + i, **look)
        if bands:
            edge = {"edgecolor": colour, "linestyle": dash, "linewidth": 0.5}
            hatch = ("", "/////")[i]
            draw_band(axes, curve.y, curve.score, facecolor="none", hatch=hatch, alpha=0.5, **edge)
            draw_band(axes, curve.y, curve.score, color=colour, alpha=0.13, linewidth=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=FPR_LABEL, ylabel=TPR_LABEL)
    return handles


def _panel_heading(curve: RocCurve) -> str:
    name = fitted(curve.name, _SMALL + 0.1, lines=2, size=6.5)
    return f"{name}\n{auc_short(curve.auc)}".strip("\n")


def _draw_panel(axes: Axes, curves: Sequence[RocCurve], chosen: int) -> None:
    """Draw one curve with its band, in its look, before the others in grey."""
    for i, curve in enumerate(curves):
        if not curve.drawable:
            continue
        fpr, tpr, _ = roc_points(curve.y, curve.score)
        if i != chosen:
            axes.plot(fpr, tpr, color="0.65", linewidth=0.5)
            continue
        dash, _, colour = LOOKS[i]
        draw_band(axes, curve.y, curve.score, color="0.86", linewidth=0, zorder=0)
        axes.plot(fpr, tpr, color=colour, linestyle=dash, clip_on=False, zorder=4)
    axes.plot([0, 1], [0, 1], color="0.45", linestyle=(0, (1, 2)), linewidth=0.8)
    unit_square(axes)


@dataclass(frozen=True)
class Histories:
    """A variant's learning curves: for each seed the rows of `plots.history`, one an epoch."""

    name: str
    seeds: Sequence[Sequence[Mapping[str, Any]]]


def learning_curves(stem: Path, groups: Sequence[Histories], *, title: str) -> tuple[Path, Path]:
    """Write loss and validation metrics by epoch, a column of two plots a variant, on equal axes.

    A seed is a thin line, the mean thick. The mean stands only at epochs of which every seed has
    the value, as it would otherwise jump where a seed comes or goes; None leaves a gap.
    ValueError: no groups, or one without any epoch.
    """
    if not groups or not all(any(map(len, g.seeds)) for g in groups):
        raise ValueError("groups: at least one, each with an epoch, is needed")
    columns = min(len(groups), COLUMNS)
    high, left, gap = 1.05, 0.55, 0.16
    width = (FULL_WIDTH - left - EDGE - gap * (columns - 1)) / columns
    names = [name_and_remark(g.name, f"{len(g.seeds)} seed{'s' * (len(g.seeds) > 1)}", width + 0.06)
             for g in groups]  # fmt: skip
    above = max(height_of(name, 7) for name in names) + 0.06
    pitch = above + 2 * high + 0.36
    blocks = -(-len(groups) // columns)
    limits = [_limits(groups, panel) for panel in (0, 1)]
    epochs = [row["epoch"] for g in groups for rows in g.seeds for row in rows]
    with styled():
        page = Page(FULL_WIDTH, blocks * pitch + 0.5, title)
        for i, group in enumerate(groups):
            x, y = left + i % columns * (width + gap), i // columns * pitch
            page.text(x, y + above - 0.04, names[i], va="bottom", fontsize=7)
            for panel in (0, 1):
                axes = page.axes(x, y + above + panel * (high + 0.1), width, high)
                _draw_histories(axes, group, panel)
                axes.set_ylim(*limits[panel])
                axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
                axes.yaxis.set_major_locator(MaxNLocator(4))
                axes.tick_params(labelleft=i % columns == 0, labelbottom=panel == 1)
                if i % columns == 0:
                    axes.set_ylabel(("Loss", "Validation metric")[panel])
                    axes.yaxis.set_label_coords(-0.38 / width, 0.5)
        page.text((left + FULL_WIDTH - EDGE) / 2, blocks * pitch, "Epoch", ha="center")
        handles = [Line2D([], [], **look) for _, _, look in HISTORY_LINES.values()]
        handles += [Line2D([], [], color="0.3", linewidth=0.5)]
        labels = ["Training loss", "Validation loss", "AUC", "Accuracy", "One seed (thick: mean)"]
        page.key(left, blocks * pitch + 0.24, handles, labels, ncols=5, handlelength=2.6,
                 columnspacing=1.2)  # fmt: skip
        return write(page.figure, stem)


def _values(group: Histories, key: str) -> tuple[Floats, Floats]:
    """Return the epochs [e] of a group's seeds, and their values [seeds, e], NaN where none."""
    found = [{row["epoch"]: row[key] for row in rows if row[key] is not None}
             for rows in group.seeds]  # fmt: skip
    epochs = sorted({row["epoch"] for rows in group.seeds for row in rows})
    table = [[of.get(epoch, np.nan) for epoch in epochs] for of in found]
    return np.array(epochs, np.float64), np.array(table, np.float64)


def _limits(groups: Sequence[Histories], panel: int) -> tuple[float, float]:
    """Return limits of a panel that hold every finite value of all groups."""
    keys = [key for key, (where, _, _) in HISTORY_LINES.items() if where == panel]
    values = np.concatenate([_values(g, key)[1].ravel() for g in groups for key in keys])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _draw_histories(axes: Axes, group: Histories, panel: int) -> None:
    for key, (where, name, look) in HISTORY_LINES.items():
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
