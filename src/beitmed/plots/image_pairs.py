"""The pairs of images that an audit found, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beitmed.audit import split_checks
from beitmed.audit.duplicates import Place
from beitmed.plots import curves
from beitmed.storage.rows import Rows

SHOWN = 24  # pairs that a figure holds at most
_COLUMNS = 4  # pairs side by side
_ROW = 1.32  # inches that a row of pairs takes
_LINE = 0.14  # inches that a line of the heading takes


@dataclass(frozen=True)
class Pictured:
    """Two places of a data set, and what connects them ("exact", "near, r = 0.991")."""

    first: Place
    second: Place
    heading: str


def pairs(
    path_stem: Path,
    shown: Sequence[Pictured],
    *,
    total: int,
    title: str,
    images: Mapping[str, np.ndarray | Rows],
    labels: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> tuple[Path, Path]:
    """Write at most `SHOWN` pairs as `<path_stem>.png` and `.svg`; return the two paths.

    images and labels by split, as in `data.Split`; `total` pairs were found. Grey values are
    shown from 0 to 255 as stored, pixel by pixel. Under each picture: its split, its index in it
    and its label.
    """
    assert shown and len(shown) <= SHOWN
    names = "; ".join(f"{i}: {name}" for i, name in enumerate(class_names))
    count = f"{len(shown)} of {total:,} pairs" if len(shown) < total else f"{total:,} pairs"
    count = "1 pair" if total == 1 else count
    heading = (
        f"{curves.wrapped(f'{title}: {count}', 105)}\n{curves.wrapped(f'Labels: {names}', 105)}"
    )
    rows = -(-len(shown) // _COLUMNS)
    height = rows * _ROW + _LINE * (1 + len(heading.splitlines()))
    with matplotlib.style.context(["default", curves.STYLE]):
        figure = Figure(figsize=(curves.FULL_WIDTH, height))
        figure.suptitle(
            heading, fontsize=7.5, y=1 - 0.06 / height, verticalalignment="top", parse_math=False
        )
        for k, pair in enumerate(shown):
            row, column = divmod(k, _COLUMNS)
            for side, place in enumerate((pair.first, pair.second)):
                axes = figure.add_axes(_box(row, column, side, rows, height))
                _draw(axes, images[place.split][place.index])
                label = split_checks.label_of(labels[place.split][place.index])
                axes.set_xlabel(f"{place.split} {place.index}\nlabel {label}", labelpad=2)
                if side == 0:
                    # Over the gap between the two pictures.
                    axes.text(
                        1.06, 1.05, pair.heading, transform=axes.transAxes,
                        horizontalalignment="center", verticalalignment="bottom",
                    )  # fmt: skip
        return curves.write(figure, path_stem)


def _box(
    row: int, column: int, side: int, rows: int, height: float
) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a picture, as shares of the figure."""
    side_length, cell = 0.74, curves.FULL_WIDTH / _COLUMNS
    left = column * cell + (cell - 2.12 * side_length) / 2 + side * 1.12 * side_length
    bottom = (rows - row - 1) * _ROW + 0.36
    return (
        left / curves.FULL_WIDTH,
        bottom / height,
        side_length / curves.FULL_WIDTH,
        side_length / height,
    )


def _draw(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():  # else the black rim of an X-ray has no end
        spine.set(visible=True, color="0.6", linewidth=0.5)
