"""ROC curves of many classes or labels: a small plot each, since fourteen in one cannot be told
apart."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, WIDTH, Page, styled, unit_square
from beitmed.plots.roc import CHANCE, FPR_LABEL, TPR_LABEL, auc_short, draw_band
from beitmed.plots.roc_points import corners
from beitmed.plots.text import height_of, name_and_remark
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks.task import Curves


@styled()
def roc_panels(
    curves: Curves, *, aucs: Sequence[Estimate], title: str, width: float = FULL_WIDTH
) -> Figure:
    """Draw a small plot for each column; a class without both kinds of cases says so in its own."""
    names, member, score = curves.names, curves.member, curves.score
    assert len(names) == len(aucs) == member.shape[1] == score.shape[1]
    columns, left, gap = COLUMNS if width > WIDTH else 2, 0.5, 0.16
    side = (width - left - EDGE - gap * (columns - 1)) / columns
    headings = [
        name_and_remark(name, auc_short(auc), side + 0.1, size=6.5)
        for name, auc in zip(names, aucs, strict=True)
    ]
    above = max(height_of(heading, 6.5) for heading in headings) + 0.08
    pitch, rows = above + side + 0.22, -(-len(names) // columns)
    page = Page(width, rows * pitch + 0.2, title)
    for i, heading in enumerate(headings):
        x, y = left + i % columns * (side + gap), i // columns * pitch + above
        page.text(x, y - 0.04, heading, va="bottom", fontsize=6.5)
        axes = page.axes(x, y, side, side)
        _panel(axes, member[:, i], score[:, i], aucs[i])
        axes.tick_params(
            labelleft=i % columns == 0, labelbottom=i + columns >= len(names), labelsize=6.5
        )
    middle = left + (min(columns, len(names)) * (side + gap) - gap) / 2
    page.text(max(middle, 1.1), rows * pitch, FPR_LABEL, ha="center")
    page.text(0.1, (rows * pitch + above) / 2, TPR_LABEL, rotation=90, va="center")
    return page.figure


def _panel(axes: Axes, y: Bools, score: Floats, auc: Estimate) -> None:
    unit_square(axes)
    axes.plot([0, 1], [0, 1], **CHANCE)
    sizes = f"{y.sum():,} of {y.size:,}"
    said = f"n = {sizes}" if auc.value is not None else f"No curve:\n{sizes} cases"
    axes.text(0.97, 0.04, said, ha="right", va="bottom", fontsize=6.5)
    if auc.value is None:
        return
    draw_band(axes, y, score, color="0.85", linewidth=0)
    fpr, tpr, _ = corners(y, score)
    axes.plot(fpr, tpr, "k-", linewidth=1, clip_on=False, zorder=3)
