"""Confusion matrices, interval plots and class shares: counts and estimates side by side."""

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
from numpy.typing import NDArray

from beitmed.plots.curves import FULL_WIDTH, WIDTH, write
from beitmed.report.document import Interval
from beitmed.report.document import text as cell_text
from beitmed.report.layout import EDGE, Page, fitted, height_of, name_and_remark, styled, width_of


@dataclass(frozen=True)
class Confusion:
    """A variant's confusion matrix: counts [k, k] of cases, by actual (row), predicted class."""

    name: str
    counts: NDArray[np.int64]


def confusion(
    stem: Path, panels: Sequence[Confusion], *, title: str, class_names: Sequence[str]
) -> tuple[Path, Path]:
    """Write confusion matrices, a small plot a variant, of 2 to 11 classes.

    A cell holds its count and its share of the actual class, which is also its shade; a class
    without cases has no shares. ValueError: no panels, or counts that do not fit the class names.
    """
    k = len(class_names)
    if not panels or any(np.shape(panel.counts) != (k, k) for panel in panels):
        raise ValueError(f"panels: at least one, with counts [{k}, {k}] each, is needed")
    cell = 0.62 if k == 2 else 0.46
    side, gap, left = k * cell, 0.22, 1.1 if k <= 3 else 1.32
    columns = max(1, min(len(panels), int((FULL_WIDTH - left - EDGE + gap) / (side + gap))))
    page_width = WIDTH if columns == 1 and left + side + EDGE <= WIDTH else FULL_WIDTH
    headings = [
        name_and_remark(p.name, f"n = {int(np.sum(p.counts)):,}", side + 0.06) for p in panels
    ]
    above = max(height_of(heading, 7) for heading in headings) + 0.06
    below = _below(class_names, cell)
    upright = _upright(class_names, cell)
    under = 0.1 + max(
        height_of(name, 6.5) if upright else max(width_of(line, 6.5) for line in name.split("\n"))
        for name in below
    )
    rows = -(-len(panels) // columns)
    pitch = above + side + under
    notes = ["Each cell: cases, and their share of the actual class (also the shade)"]
    with styled():
        page = Page(page_width, rows * pitch + 0.2, title, notes)
        for i, panel in enumerate(panels):
            x, top = left + i % columns * (side + gap), i // columns * pitch
            page.text(x, top + above - 0.04, headings[i], va="bottom", fontsize=7)
            axes = page.axes(x, top + above, side, side)
            _draw_confusion(axes, np.asarray(panel.counts), 7 if k <= 3 else 6)
            _class_ticks(axes, class_names, cell, named=i % columns == 0)
            if i % columns == 0:
                axes.set_ylabel("Actual class")
                axes.yaxis.set_label_coords(-(left - 0.16) / side, 0.5)
        page.text(left, rows * pitch, "Predicted class")
        return write(page.figure, stem)


def _draw_confusion(axes: Axes, counts: NDArray[np.int64], size: float) -> None:
    k = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros((k, k)), where=totals > 0)
    grey = 1 - 0.8 * share
    axes.pcolormesh(grey, cmap="gray", vmin=0, vmax=1, edgecolors="0.5", linewidth=0.4)
    for (row, column), count in np.ndenumerate(counts):
        part = f"{share[row, column]:.1%}".replace("%", " %") if totals[row] else "–"
        # Black and white have the same contrast at a grey of 0.46 (of sRGB).
        colour = "black" if grey[row, column] > 0.46 else "white"
        axes.text(column + 0.5, row + 0.5, f"{count:,}\n{part}", ha="center", va="center",
                  color=colour, fontsize=size)  # fmt: skip
    axes.set(xlim=(0, k), ylim=(k, 0))
    axes.spines[:].set_visible(False)


def _below(names: Sequence[str], cell: float) -> list[str]:
    """Return the names as they stand below the columns: turned where many do not fit."""
    if _upright(names, cell):
        return [fitted(name, cell - 0.04, lines=3, size=6.5) for name in names]
    return [fitted(name, 0.97, lines=2, size=6.5) for name in names]


def _upright(names: Sequence[str], cell: float) -> bool:
    return len(names) <= 3 or all(width_of(name, 6.5) <= cell - 0.04 for name in names)


def _class_ticks(axes: Axes, names: Sequence[str], cell: float, *, named: bool) -> None:
    middle = np.arange(len(names)) + 0.5
    upright = _upright(names, cell)
    below = _below(names, cell)
    beside = (
        [fitted(n, 0.72 if len(names) <= 3 else 0.95, lines=3, size=6.5) for n in names]
        if named
        else [""] * len(names)
    )
    axes.set_xticks(middle, below, fontsize=6.5, parse_math=False, rotation=0 if upright else 90)
    axes.set_yticks(middle, beside, fontsize=6.5, parse_math=False)
    axes.tick_params(length=0, pad=3)


@dataclass(frozen=True)
class Row:
    """A variant in an interval plot: its mean with its limits, its single seeds' values, and
    optionally the value that was published."""

    name: str
    mean: Interval
    seeds: Sequence[float] = ()
    published: float | None = None


def intervals(stem: Path, rows: Sequence[Row], *, title: str, xlabel: str) -> tuple[Path, Path]:
    """Write a forest plot: a row a variant, in the order given and never ordered by value.

    Beside each row stands its mean with its interval; one that has none stands there with its
    reason. Where the axis holds 0 inside, it is marked: differences are read against it.
    ValueError: no rows.
    """
    if not rows:
        raise ValueError("rows: none, but at least one is needed")
    left, right, pitch = 2.1, 1.5, 0.3
    height = pitch * len(rows)
    with styled():
        page = Page(FULL_WIDTH, height + 0.8, title)
        axes = page.axes(left, 0.03, FULL_WIDTH - left - right, height)
        axes.set(xlim=_span(rows), ylim=(len(rows) - 0.5, -0.5), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(fitted(xlabel, 3.2, lines=2), parse_math=False)
        low, high = axes.get_xlim()
        if low < 0 < high:
            axes.axvline(0, color="0.45", linewidth=0.8, linestyle=(0, (1, 2)))
        for i, row in enumerate(rows):
            middle = 0.03 + (i + 0.5) * pitch
            if i % 2:
                axes.axhspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=0)
            _draw_row(axes, i, row)
            name = fitted(row.name, left - EDGE - 0.1, lines=2, size=7)
            page.text(left - 0.1, middle, name, ha="right", va="center", fontsize=7)
            value = fitted(cell_text(row.mean), right - 0.1 - EDGE, lines=2, size=7)
            page.text(FULL_WIDTH - right + 0.1, middle, value, va="center", fontsize=7)
        _interval_key(page, rows, height + 0.6, left)
        return write(page.figure, stem)


#: Looks of an interval plot, and how far above the row's middle each stands (in rows).
_MEAN: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4, "linestyle": "-"}
_SEED: dict[str, Any] = {"color": "0.3", "marker": "|", "markersize": 5, "linestyle": "none"}
_PUBLISHED: dict[str, Any] = {
    "color": "black", "marker": "D", "markersize": 4, "linestyle": "none", "mfc": "none",
}  # fmt: skip
_ABOVE = 0.27


def _draw_row(axes: Axes, i: int, row: Row) -> None:
    mean = row.mean
    if mean.low is not None and mean.high is not None:
        axes.plot([mean.low, mean.high], [i, i], color="black", marker="|", markersize=4)
    if mean.value is not None:
        axes.plot([mean.value], [i], **_MEAN)
    if row.seeds:
        axes.plot(row.seeds, np.full(len(row.seeds), i + _ABOVE), **_SEED)
    if row.published is not None:
        axes.plot([row.published], [i - _ABOVE], **_PUBLISHED)


def _interval_key(page: Page, rows: Sequence[Row], top: float, left: float) -> None:
    handles, names = [Line2D([], [], **_MEAN)], ["Value with 95 % interval"]
    if any(row.seeds for row in rows):
        handles.append(Line2D([], [], **_SEED))
        names[0] = "Mean with 95 % interval"
        names.append("One seed")
    if any(row.published is not None for row in rows):
        handles.append(Line2D([], [], **_PUBLISHED))
        names.append("Published")
    page.key(left, top, handles, names, ncols=3)


def _span(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits of the axis with some room around all that is drawn."""
    found = [
        x for r in rows for x in (r.mean.value, r.mean.low, r.mean.high, r.published, *r.seeds)
    ]
    values = [x for x in found if x is not None]
    if not values:
        return 0.0, 1.0
    margin = 0.05 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin


@dataclass(frozen=True)
class ClassCounts:
    """The number of images of each class, by its name, in a split."""

    split: str
    counts: Mapping[str, int]


#: Looks of splits: (face, hatch), each at once told from the next without colour.
_BARS = (("0.3", ""), ("white", "/////"), ("0.75", ""), ("white", "....."), ("0.55", "xxxx"),
         ("white", "---"))  # fmt: skip


def class_counts(stem: Path, splits: Sequence[ClassCounts], *, title: str) -> tuple[Path, Path]:
    """Write the share of each class in each split, as bars with their counts.

    The bars of one class stand together, so that a shift between splits is seen at once. A class
    that a split does not name counts 0 there; a split without images has no shares.
    ValueError: no classes, or more than 6 splits.
    """
    classes = list(dict.fromkeys(name for split in splits for name in split.counts))
    if not classes or len(splits) > len(_BARS):
        raise ValueError(f"splits: {len(splits)} with {len(classes)} classes, but 1 to "
                         f"{len(_BARS)} splits with at least a class are needed")  # fmt: skip
    bar, left, room = 0.17, 1.55, 0.98
    group = len(splits) * bar + 0.12
    height, width = group * len(classes), FULL_WIDTH - left - EDGE
    totals = [sum(split.counts.values()) for split in splits]
    names = [f"{fitted(s.split, 1.4, size=7)} (n = {n:,})"
             for s, n in zip(splits, totals, strict=True)]  # fmt: skip
    wide = [0.4 + width_of(n, 7) for n in names]
    per_line = len(names) if sum(wide) < 5.2 else max(1, int(5.2 / max(wide)))
    with styled():
        page = Page(FULL_WIDTH, height + 0.55 + 0.16 * -(-len(names) // per_line), title)
        axes = page.axes(left, 0.03, width, height)
        most = max(s.counts.get(c, 0) / n for s, n in zip(splits, totals, strict=True) if n
                   for c in classes) if any(totals) else 1  # fmt: skip
        axes.set(
            ylim=(height, 0), yticks=[], xlim=(0, (100 * most or 100) * width / (width - room))
        )
        axes.set_xticks(
            [
                t
                for t in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(0, 100 * most)
                if 0 <= t <= 100
            ]
        )
        axes.set_xlabel("Share of the split's images (%)")
        for i, name in enumerate(classes):
            shown = fitted(name, left - EDGE - 0.12, lines=3)
            page.text(left - 0.1, 0.03 + (i + 0.5) * group, shown, ha="right", va="center")
            for j, (split, n, (face, hatch)) in enumerate(zip(splits, totals, _BARS, strict=False)):
                y, count = i * group + 0.06 + (j + 0.5) * bar, split.counts.get(name, 0)
                share = 100 * count / n if n else 0.0
                axes.barh([y], [share], bar * 0.85, facecolor=face, hatch=hatch, edgecolor="black",
                          linewidth=0.5)  # fmt: skip
                label = f"{count:,} ({share:.1f} %)" if n else "no images"
                axes.annotate(label, (share, y), (3, 0), textcoords="offset points", va="center",
                              fontsize=7)  # fmt: skip
        handles = [Patch(facecolor=face, hatch=hatch, edgecolor="black", linewidth=0.5)
                   for face, hatch in _BARS[: len(splits)]]  # fmt: skip
        page.key(left, height + 0.5, handles, names, ncols=per_line, handlelength=2,
                 columnspacing=1.2)  # fmt: skip
        return write(page.figure, stem)
