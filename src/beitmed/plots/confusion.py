"""Confusion matrices, a small plot a variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted, height_of, name_and_remark, width_of

_GAP = 0.22
_COUNTED = 0.4  # inches: a cell that has room for a count and a share


@dataclass(frozen=True)
class Confusion:
    """A variant's confusion matrix: counts [k, k] of cases, by actual (row), predicted class."""

    name: str
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class _Cells:
    """How wide a cell is, and what stands below and beside the cells."""

    names: Sequence[str]
    width: float
    left: float

    @property
    def size(self) -> float:
        """Of the letters in a cell."""
        return 7 if len(self.names) <= 3 and self.width > _COUNTED else 6

    @property
    def upright(self) -> bool:
        few = len(self.names) <= 3
        return few or all(width_of(name, 6.5) <= self.width - 0.04 for name in self.names)

    @property
    def below(self) -> list[str]:
        """The names as they stand below the columns: turned where many do not fit."""
        if self.upright:
            return [fitted(name, self.width - 0.04, lines=3, size=6.5) for name in self.names]
        lines = 2 if self.width > _COUNTED else 1
        return [fitted(name, 0.97, lines=lines, size=6.5) for name in self.names]

    @property
    def beside(self) -> list[str]:
        lines = 3 if self.width > _COUNTED else 1
        return [fitted(name, self.left - 0.37, lines=lines, size=6.5) for name in self.names]

    @property
    def under(self) -> float:
        """Inches that the names below take."""
        if self.upright:
            return 0.1 + max(height_of(name, 6.5) for name in self.below)
        return 0.1 + max(width_of(line, 6.5) for name in self.below for line in name.split("\n"))


@styled()
def confusion(
    panels: Sequence[Confusion], *, title: str, class_names: Sequence[str],
    width: float = FULL_WIDTH,
) -> Figure:  # fmt: skip
    """Draw confusion matrices, a small plot a variant, of 2 to 11 classes.

    A cell holds its count and its share of the actual class, which is also its shade; where many
    classes share a column's width, it holds the share alone. A class without cases has no shares.
    ValueError: no panels, or counts that do not fit the class names.
    """
    k = len(class_names)
    if not panels or any(np.shape(panel.counts) != (k, k) for panel in panels):
        raise ValueError(f"panels: at least one, with counts [{k}, {k}] each, is needed")
    left = 1.1 if k <= 3 or width <= WIDTH else 1.32
    widest = (width - left - EDGE) / k
    cells = _Cells(class_names, min(0.62 if k == 2 else 0.46, widest), left)
    side = k * cells.width
    columns = max(1, min(len(panels), int((width - left - EDGE + _GAP) / (side + _GAP) + 1e-9)))
    headings = [
        name_and_remark(p.name, f"n = {int(np.sum(p.counts)):,}", side + 0.06) for p in panels
    ]
    above = max(height_of(heading, 7) for heading in headings) + 0.06
    rows, pitch = -(-len(panels) // columns), above + side + cells.under
    what = "cases, and their share" if cells.width > _COUNTED else "the share in %"
    page = Page(
        WIDTH if left + columns * (side + _GAP) - _GAP + EDGE <= WIDTH else width,
        rows * pitch + 0.2,
        title,
        [f"Each cell: {what} of the actual class (also the shade)"],
    )
    for i, panel in enumerate(panels):
        x, top = left + i % columns * (side + _GAP), i // columns * pitch
        page.text(x, top + above - 0.04, headings[i], va="bottom", fontsize=7)
        axes = page.axes(x, top + above, side, side)
        _draw(axes, np.asarray(panel.counts), cells)
        _ticks(axes, cells, named=i % columns == 0)
        if i % columns == 0:
            axes.set_ylabel("Actual class")
            axes.yaxis.set_label_coords(-(left - 0.16) / side, 0.5)
    page.text(left, rows * pitch, "Predicted class")
    return page.figure


def _draw(axes: Axes, counts: NDArray[np.int64], cells: _Cells) -> None:
    k = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros((k, k)), where=totals > 0)
    grey = 1 - 0.8 * share
    axes.pcolormesh(grey, cmap="gray", vmin=0, vmax=1, edgecolors="0.5", linewidth=0.4)
    for (row, column), count in np.ndenumerate(counts):
        part = f"{share[row, column]:.1%}".replace("%", " %") if totals[row] else "–"
        if cells.width > _COUNTED:
            said = f"{count:,}\n{part}"
        else:
            said = f"{100 * share[row, column]:.0f}" if totals[row] else "–"
        # Black and white have the same contrast at a grey of 0.46 (of sRGB).
        colour = "black" if grey[row, column] > 0.46 else "white"
        axes.text(column + 0.5, row + 0.5, said, ha="center", va="center", color=colour,
                  fontsize=cells.size)  # fmt: skip
    axes.set(xlim=(0, k), ylim=(k, 0))
    axes.spines[:].set_visible(False)


def _ticks(axes: Axes, cells: _Cells, *, named: bool) -> None:
    middle = np.arange(len(cells.names)) + 0.5
    turned = 0 if cells.upright else 90
    beside = cells.beside if named else [""] * len(cells.names)
    axes.set_xticks(middle, cells.below, fontsize=6.5, parse_math=False, rotation=turned)
    axes.set_yticks(middle, beside, fontsize=6.5, parse_math=False)
    axes.tick_params(length=0, pad=3)
