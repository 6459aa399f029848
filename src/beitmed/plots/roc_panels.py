"""ROC curves of many classes or labels: a small panel each, since fourteen in one cannot be told
apart."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from beitmed.plots.curves import FULL_WIDTH, STYLE, auc_short, roc_band, roc_points, wrapped, write
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.intervals import Bools, Floats

_COLUMNS = 4
_NAME = 26  # letters a line over a panel


def corners(labels: Bools, score: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (fpr, tpr, threshold) of `plots.roc_points` where the curve turns: the same curve."""
    fpr, tpr, threshold = roc_points(labels, score)
    before, after = np.diff(fpr), np.diff(tpr)
    turns = before[:-1] * after[1:] != before[1:] * after[:-1]
    kept = np.concatenate([[True], turns, [True]])
    return fpr[kept], tpr[kept], threshold[kept]


def draw(
    path_stem: Path,
    *,
    member: Bools,
    score: Floats,
    names: Sequence[str],
    aucs: Sequence[Estimate],
    title: str,
) -> tuple[Path, Path]:
    """Write a panel for each column as `<path_stem>.png` and `.svg`; return the two paths.

    member [n, k] is true for cases of the column's class, which a high score [n, k] (float64,
    finite) speaks for. A class without both kinds of cases gets a panel that says so.
    """
    assert len(names) == len(aucs) == member.shape[1] == score.shape[1]
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    heading = wrapped(title, 100)
    with matplotlib.style.context(["default", STYLE, {"axes.titlesize": 6.5, "font.size": 6.5}]):
        height = rows * 1.98 + 0.3 + 0.14 * len(heading.splitlines())
        figure = Figure(
            figsize=(FULL_WIDTH * columns / _COLUMNS, height),
            layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06),
        )
        figure.suptitle(heading, fontsize=7.5, parse_math=False)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for i, (axes, name, auc) in enumerate(zip(panels, names, aucs, strict=False)):
            _panel(axes, member[:, i], score[:, i], name, auc)
            axes.label_outer()
            if i + columns >= len(names):
                axes.tick_params(labelbottom=True)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.supxlabel("False positive rate (1 − specificity)", fontsize=7.5)
        figure.supylabel("True positive rate (sensitivity)", fontsize=7.5)
        return write(figure, path_stem)


def _panel(axes: Axes, y: Bools, score: Floats, name: str, auc: Estimate) -> None:
    plain = textwrap.wrap(wrapped(name, 200), _NAME, max_lines=2, placeholder=" …")
    axes.set_title("\n".join([*plain, auc_short(auc)]), parse_math=False, loc="left")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=0.7)
    sizes = f"{y.sum():,} of {y.size:,}"
    if auc.value is None:
        axes.text(0.97, 0.04, f"No curve:\n{sizes} cases", ha="right", va="bottom")
        return
    grid = np.linspace(0, 1, 201)
    low, high = roc_band(y, score, grid)
    axes.fill_between(grid, low, high, step="mid", color="0.85", linewidth=0)
    fpr, tpr, _ = corners(y, score)
    axes.plot(fpr, tpr, "k-", linewidth=1, clip_on=False, zorder=3)
    axes.text(0.97, 0.04, f"n = {sizes}", ha="right", va="bottom")
