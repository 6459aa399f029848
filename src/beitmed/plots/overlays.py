"""Maps of values over an image, legible without colour, and the bars that say what they mean."""

from __future__ import annotations

from typing import Any

import matplotlib
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator

_ALPHA = 0.72  # of a map over its image: its brightness, not the image's, must tell
_STROKED: list[effects.AbstractPathEffect] = [
    effects.withStroke(linewidth=1.5, foreground="k")
]  # white, seen on white too
COLOURS = matplotlib.colormaps["magma"]
SIGNED = matplotlib.colormaps["PuOr_r"]  # of values below and above zero


def image(axes: Axes, pixels: np.ndarray) -> None:
    """An image uint8 [h, w(, 3)] as it is stored, on axes from 0 to 1, y downwards."""
    box = (0.0, 1.0, 1.0, 0.0)
    axes.imshow(pixels, "gray", vmin=0, vmax=255, interpolation="nearest", extent=box)
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="auto")
    axes.set_axis_off()


def values(
    axes: Axes,
    grid: np.ndarray,
    norm: Normalize,
    outlined: np.ndarray,
    covered: tuple[float, float],
    colours: Colormap = COLOURS,
) -> None:
    """Values [rows, columns] over an image, lines around those outlined, bool of the same shape.

    covered: the shares of the image's height and width that they are of, from its centre.
    """
    height, width = covered
    left, top = (1 - width) / 2, (1 - height) / 2
    axes.imshow(
        grid, colours, norm, alpha=_ALPHA, interpolation="nearest",
        extent=(left, left + width, top + height, top),
    )  # fmt: skip
    rows, columns = grid.shape
    edges = np.array(outline(outlined)).reshape(-1, 2, 2) / (columns, rows)
    lines = LineCollection(list(edges * (width, height) + (left, top)), colors="w")
    lines.set(linewidth=0.5, path_effects=_STROKED)
    axes.add_collection(lines)
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="auto")


def outline(inside: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Edges, as pairs of (x, y) in cells, between cells inside and not."""
    padded = np.pad(inside, 1).astype(np.int8)
    across = np.argwhere(np.diff(padded, axis=0)[:, 1:-1] != 0)
    along = np.argwhere(np.diff(padded, axis=1)[1:-1] != 0)
    return [((int(c), int(r)), (int(c) + 1, int(r))) for r, c in across] + [
        ((int(c), int(r)), (int(c), int(r) + 1)) for r, c in along
    ]


def tick(value: float, top: float) -> str:
    """A value beside others up to `top`: all of them in powers of ten where that is tiny."""
    if top < 1e-4 and value:
        return f"{value:.1e}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def bar(
    axes: Axes,
    norm: Normalize,
    colours: Colormap = COLOURS,
    *,
    extend: str = "neither",
    mark: float | None = None,
    size: float = 6.5,
) -> None:
    """The colours as they look over an image of medium grey, with their values and a mark."""
    seen = ListedColormap(_ALPHA * colours(np.linspace(0, 1, 256)) + (1 - _ALPHA) * 0.5)
    made: Any = axes.figure.colorbar(
        ScalarMappable(norm, seen), cax=axes, orientation="horizontal", extend=extend
    )
    top = max(abs(norm.vmin or 0.0), abs(norm.vmax or 0.0))
    made.locator = MaxNLocator(3)
    made.formatter = FuncFormatter(lambda value, _: tick(value, top))
    made.ax.tick_params(labelsize=size, length=2, pad=1)
    made.outline.set_linewidth(0.5)
    if mark is not None:
        (line,) = made.ax.plot([mark] * 2, [0, 1], "w-", linewidth=1, scalex=False)
        line.set_path_effects(_STROKED)
