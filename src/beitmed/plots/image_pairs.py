"""The pairs of images that an audit found, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beitmed.audit import split_checks
from beitmed.audit.duplicates import Place
from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.storage.rows import Rows

SHOWN = 24  # pairs that a figure holds at most
_ROW, _SIDE, _GAP = 1.32, 0.74, 0.09  # inches: a row of pairs, a picture, and between two


@dataclass(frozen=True)
class Pictured:
    """Two places of a data set, and what connects them ("exact", "near, r = 0.991")."""

    first: Place
    second: Place
    heading: str


@styled()
def image_pairs(
    shown: Sequence[Pictured],
    *,
    total: int,
    title: str,
    images: Mapping[str, np.ndarray | Rows],
    labels: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw at most `SHOWN` pairs.

    images and labels by split, as in `data.Split`; `total` pairs were found. Grey values are
    shown from 0 to 255 as stored, pixel by pixel. Under each picture: its split, its index in it
    and its label.
    """
    assert shown and len(shown) <= SHOWN
    names = "; ".join(f"{i}: {name}" for i, name in enumerate(class_names))
    count = f"{len(shown)} of {total:,} pairs" if len(shown) < total else f"{total:,} pairs"
    count = "1 pair" if total == 1 else count
    columns = COLUMNS if width > WIDTH else 2
    cell = (width - EDGE) / columns
    page = Page(width, -(-len(shown) // columns) * _ROW, f"{title}: {count}", [f"Labels: {names}"])
    for k, pair in enumerate(shown):
        row, column = divmod(k, columns)
        left, top = column * cell + (cell - 2 * _SIDE - _GAP) / 2, row * _ROW + 0.2
        page.text(left + _SIDE + _GAP / 2, top - 0.04, pair.heading, ha="center", va="bottom")
        for side, place in enumerate((pair.first, pair.second)):
            axes = page.axes(left + side * (_SIDE + _GAP), top, _SIDE, _SIDE)
            _draw(axes, images[place.split][place.index])
            label = split_checks.label_of(labels[place.split][place.index])
            axes.set_xlabel(f"{place.split} {place.index}\nlabel {label}", labelpad=2)
    return page.figure


def _draw(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():  # else the black rim of an X-ray has no end
        spine.set(visible=True, color="0.6", linewidth=0.5)
