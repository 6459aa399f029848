"""ROC curves of a test set: one with its operating point, or several beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, LOOKS, WIDTH, Page, styled, unit_square
from beitmed.plots.roc_points import roc_band, roc_points
from beitmed.plots.text import fitted, height_of, name_and_remark
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats

FPR_LABEL = "False positive rate (1 − specificity)"
TPR_LABEL = "True positive rate (sensitivity)"
CHANCE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (1, 2)), "linewidth": 0.8}


@dataclass(frozen=True)
class RocCurve:
    """A model's test cases: y [n] is true for the positive class, score [n] its log odds.

    `operating_point` is the (fpr, tpr) of argmax; it is marked where the curve is the only one.
    """

    name: str
    y: Bools
    score: Floats
    auc: Estimate
    operating_point: tuple[float, float] | None = None

    @property
    def drawable(self) -> bool:
        return bool(self.y.any() and not self.y.all())


@styled()
def roc(
    curves: Sequence[RocCurve], *, title: str, positive_name: str, width: float = FULL_WIDTH
) -> Figure:
    """Draw the ROC curves of one or several models in one plot; each has its AUC in the legend.

    Bands are `roc_band`. One or two curves have theirs in that plot; from three on, where bands
    would cover one another, each has it in a small plot of its own, before the other curves in
    grey. The first 8 curves are shown, and the figure says so where there are more: which those
    are is the caller's choice. A test set that lacks a class gives a legend entry without a curve.
    ValueError: no curves, or malformed scores.
    """
    if not curves:
        raise ValueError("curves: none, but at least one is needed")
    shown = curves[: len(LOOKS)]
    one_size = len({(int(c.y.sum()), c.y.size) for c in shown}) == 1
    notes = [case_counts(shown[0].y, positive_name) if one_size else f"Positive: {positive_name}"]
    if len(curves) > len(shown):
        notes.append(f"The first {len(shown)} of {len(curves)} curves are shown.")
    alone, column = len(shown) <= 2, width <= WIDTH
    side = min(2.9, width - 0.65)  # half of the axis' last number stands beside it
    key = (EDGE, side + 0.5) if column else (0.5 + side + 0.2, 0.05)
    handles, names = _key(shown, counts=not one_size, bands=alone, room=width - key[0] - 0.55)
    top = side + 0.5 + (_height(names) if column else 0)  # of the small plots
    small = _Panels(shown, width) if not alone else None
    page = Page(width, top - 0.08 + (small.height if small else 0), title, notes)
    _overlay(page.axes(0.5, 0.03, side, side), shown, bands=alone)
    page.key(*key, handles, names, handlelength=4, labelspacing=0.7)
    if small:
        small.draw(page, top)
    return page.figure


def _key(
    curves: Sequence[RocCurve], *, counts: bool, bands: bool, room: float
) -> tuple[list[Line2D | Patch], list[str]]:
    handles: list[Line2D | Patch] = [Line2D([], [], **_look(i, curves)) for i in range(len(curves))]
    names = [_entry(curve, room, counts=counts) for curve in curves]
    if len(curves) == 1 and (point := curves[0].operating_point) is not None:
        handles.append(Line2D([], [], **_POINT))
        names.append(f"Argmax: sensitivity {point[1]:.3f}, specificity {1 - point[0]:.3f}")
    handles.append(Line2D([], [], **CHANCE))
    names.append("Chance")
    if bands:
        handles.append(Patch(facecolor="0.85", edgecolor="0.4", linewidth=0.5))
        names.append("95 % band, pointwise")
    return handles, names


def _height(names: Sequence[str]) -> float:
    return sum(height_of(name, 7) + 0.7 * 7 / 72 for name in names) + 0.05


_POINT: dict[str, Any] = {
    "color": "black", "marker": "o", "markersize": 5, "markerfacecolor": "white",
    "linestyle": "none",
}  # fmt: skip


def _look(i: int, curves: Sequence[RocCurve]) -> dict[str, Any]:
    dash, marker, colour = LOOKS[i]
    look = {"linestyle": dash, "color": colour, "markerfacecolor": "white"}
    return look | {"marker": marker if len(curves) > 1 else "", "markeredgewidth": 0.8,
                   "markersize": 3.6}  # fmt: skip


def _entry(curve: RocCurve, room: float, *, counts: bool) -> str:
    positives = int(curve.y.sum())
    parts = [fitted(curve.name, room, lines=2, size=7)]
    parts.append(fitted(auc_label(curve.auc), room, lines=2, size=7))
    if counts:
        parts.append(f"n = {positives} positive, {curve.y.size - positives} negative")
    if not curve.drawable:
        parts.append("no curve: the test set has one class")
    return "\n".join(part for part in parts if part)


def _overlay(axes: Axes, curves: Sequence[RocCurve], *, bands: bool) -> None:
    axes.plot([0, 1], [0, 1], zorder=1, **CHANCE)
    for i, curve in enumerate(curves):
        if not curve.drawable:
            continue
        fpr, tpr, _ = roc_points(curve.y, curve.score)
        dash, _, colour = LOOKS[i]
        # By distance along the curve, each starting elsewhere, so that no two lie on one another.
        every = (0.04 + 0.16 * i / len(curves), 0.16)
        axes.plot(fpr, tpr, markevery=every, clip_on=False, zorder=4 + i, **_look(i, curves))
        if bands:
            edge = {"edgecolor": colour, "linestyle": dash, "linewidth": 0.5}
            hatch = ("", "/////")[i]
            draw_band(axes, curve.y, curve.score, facecolor="none", hatch=hatch, alpha=0.5, **edge)
            draw_band(axes, curve.y, curve.score, color=colour, alpha=0.13, linewidth=0)
    if len(curves) == 1 and curves[0].operating_point is not None:
        x, y = curves[0].operating_point
        axes.plot([x], [y], clip_on=False, zorder=5, **_POINT)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=FPR_LABEL, ylabel=TPR_LABEL)


class _Panels:
    """Small plots, one a curve: with its band, in its look, before the others in grey."""

    def __init__(self, curves: Sequence[RocCurve], width: float) -> None:
        self.curves, self.columns = curves, COLUMNS if width > WIDTH else 2
        self.side = (width - 0.5 - EDGE - 0.19 * (self.columns - 1)) / self.columns
        self.headings = [
            name_and_remark(c.name, auc_short(c.auc), self.side + 0.1, size=6.5) for c in curves
        ]
        self.above = max(height_of(heading, 6.5) for heading in self.headings) + 0.08
        self.pitch = self.above + self.side + 0.24
        self.height = 0.32 + -(-len(curves) // self.columns) * self.pitch

    def draw(self, page: Page, top: float) -> None:
        said = "Each curve with its 95 % band, pointwise; the others in grey"
        page.text(0.5, top, fitted(said, page.width - 0.5 - EDGE, lines=2))
        for i, heading in enumerate(self.headings):
            x = 0.5 + i % self.columns * (self.side + 0.19)
            y = top + 0.26 + i // self.columns * self.pitch + self.above
            page.text(x, y - 0.04, heading, va="bottom", fontsize=6.5)
            axes = page.axes(x, y, self.side, self.side)
            self._panel(axes, i)
            axes.tick_params(labelleft=i % self.columns == 0,
                             labelbottom=i + self.columns >= len(self.curves))  # fmt: skip

    def _panel(self, axes: Axes, chosen: int) -> None:
        for i, curve in enumerate(self.curves):
            if not curve.drawable:
                continue
            fpr, tpr, _ = roc_points(curve.y, curve.score)
            if i != chosen:
                axes.plot(fpr, tpr, color="0.65", linewidth=0.5)
                continue
            dash, _, colour = LOOKS[i]
            draw_band(axes, curve.y, curve.score, color="0.86", linewidth=0, zorder=0)
            axes.plot(fpr, tpr, color=colour, linestyle=dash, clip_on=False, zorder=4)
        axes.plot([0, 1], [0, 1], **CHANCE)
        unit_square(axes)


def draw_band(axes: Axes, labels: ArrayLike, score: ArrayLike, **look: Any) -> None:
    """Shade the band of `roc_band` over the whole width of a ROC plot."""
    grid = np.linspace(0, 1, 401)
    low, high = roc_band(labels, score, grid)
    axes.fill_between(grid, low, high, step="mid", **look)


def case_counts(labels: ArrayLike, positive_name: str) -> str:
    """Return which class is positive, and how many cases each class has, as a caption says it."""
    positives = int(np.sum(np.asarray(labels) == 1))
    sizes = [f"n\u00a0=\u00a0{count}" for count in (positives, np.size(labels) - positives)]
    return f"Positive: {positive_name} ({sizes[0]}); negative: {sizes[1]}"


def auc_label(auc: Estimate) -> str:
    """Return an AUC with its interval and method, as a legend shows it."""
    if auc.value is None:
        return "AUC undefined"
    if auc.ci_low is None or auc.ci_high is None:
        return f"AUC {auc.value:.3f} (no interval)"
    return f"AUC {auc.value:.3f}, 95 % CI {auc.ci_low:.3f}–{auc.ci_high:.3f} ({auc.interval})"


def auc_short(auc: Estimate) -> str:
    """Return an AUC with its interval, as the heading of a small plot has room for it."""
    if auc.value is None:
        return "AUC undefined"
    if auc.ci_low is None or auc.ci_high is None:
        return f"AUC {auc.value:.3f}"
    return f"AUC {auc.value:.3f} [{auc.ci_low:.3f}, {auc.ci_high:.3f}]"
