"""Pictures of explanations: each method's map over each image, with what its tests came to.

A map's colours start at zero: what is nearly nothing looks so. Signed maps have one colour for what
spoke for the class and another for what spoke against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from beitmed.plots import overlays
from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted, height_of

_GAP = 0.06  # inches
_SMALL, _TINY = 6.5, 6.0  # points
_BAR = 0.09  # inches, of a colour bar
_TICKS = 0.14  # inches below it
OUTLINED = 0.1  # of the cells


@dataclass(frozen=True)
class MethodMaps:
    """A method's maps [n, rows, columns] of some images, and what is said of it.

    label, unit: of its values. verdict: what its tests came to.
    """

    label: str
    unit: str
    signed: bool
    values: np.ndarray
    verdict: str

    @property
    def colours(self) -> Colormap:
        return overlays.SIGNED if self.signed else overlays.COLOURS

    def norm(self, some: slice) -> Normalize:
        """From values to colours, shared by some of the images."""
        top = float(np.quantile(np.abs(self.values[some]), 0.995)) or 1.0
        return Normalize(-top if self.signed else 0, top)


@dataclass(frozen=True)
class Explained:
    """Images uint8 [n, h, w(, 3)], what each is in one line, and the maps of each method.

    covered: the shares of an image's height and width that the maps are of, from its centre.
    """

    title: str
    images: np.ndarray
    names: tuple[str, ...]
    methods: Sequence[MethodMaps]
    covered: tuple[float, float]
    caption: str


@styled()
def overview(explained: Explained, *, width: float = FULL_WIDTH) -> Figure:
    """Draw every image with the map of each method; the images of a method share a scale."""
    across = 1 + len(explained.methods)
    if width <= WIDTH and across > 4:
        across = 4
    side = min((width - 2 * EDGE - (across - 1) * _GAP) / across, 1.3)
    lines = -(-(1 + len(explained.methods)) // across)
    names = [fitted(name, width - 2 * EDGE, lines=3, size=_SMALL) for name in explained.names]
    heights = [height_of(name, _SMALL) + 0.03 for name in names]
    labels = [
        fitted(label, side, lines=2, size=_TINY)
        for label in (_of_image(explained), *(_capital(m.label) for m in explained.methods))
    ]
    step = side + max(height_of(label, _TINY) for label in labels) + 0.04
    row = lines * step + 0.05
    blocks = _Blocks(explained, width, 3 if width > WIDTH else 2)
    body = sum(heights) + len(names) * row
    page = Page(width, body + blocks.height, explained.title, caption=explained.caption)
    norms = [method.norm(slice(None)) for method in explained.methods]
    top = 0.0
    for i, (name, height) in enumerate(zip(names, heights, strict=True)):
        page.text(EDGE, top, name, fontsize=_SMALL)
        for k, label in enumerate(labels):
            x = EDGE + k % across * (side + _GAP)
            y = top + height + k // across * step
            _panel(page.axes(x, y, side, side), explained, i, k, norms)
            page.text(x, y + side + 0.02, label, fontsize=_TINY)
        top += height + row
    blocks.draw(page, body, norms)
    return page.figure


@styled()
def one_image(explained: Explained, i: int, *, width: float = FULL_WIDTH) -> Figure:
    """Draw image i with the map of each method, each on its own scale."""
    across = 4 if width > WIDTH else 2
    step = (width - 2 * EDGE + 2 * _GAP) / across
    side = step - 2 * _GAP
    said = [_said(method, side) for method in explained.methods]
    below = 0.05 + _BAR + _TICKS + max(height_of(text, _TINY) for text in said) + 0.08
    panels = 1 + len(explained.methods)
    body = -(-panels // across) * (side + below)
    page = Page(width, body, explained.title, [explained.names[i]], caption=explained.caption)
    norms = [method.norm(slice(i, i + 1)) for method in explained.methods]
    for k in range(panels):
        x, y = EDGE + k % across * step, k // across * (side + below)
        _panel(page.axes(x, y, side, side), explained, i, k, norms)
        if k == 0:
            page.text(x, y + side + 0.03, _of_image(explained), fontsize=_TINY)
            continue
        method = explained.methods[k - 1]
        axes = page.axes(x + 0.08, y + side + 0.05, side - 0.16, _BAR)
        overlays.bar(axes, norms[k - 1], method.colours, size=_TINY)
        page.text(x, y + side + 0.07 + _BAR + _TICKS, said[k - 1], fontsize=_TINY)
    return page.figure


class _Blocks:
    """Below the images, for each method: its colours, its unit, and what its tests came to."""

    def __init__(self, explained: Explained, width: float, across: int) -> None:
        self._explained = explained
        self._across = min(across, len(explained.methods))
        self._step = (width - 2 * EDGE) / self._across
        self._said = [_said(method, self._step - 0.2) for method in explained.methods]
        self._each = 0.1 + _BAR + _TICKS + max(height_of(t, _TINY) for t in self._said) + 0.04
        self.height = -(-len(explained.methods) // self._across) * self._each

    def draw(self, page: Page, top: float, norms: Sequence[Normalize]) -> None:
        for k, method in enumerate(self._explained.methods):
            x = EDGE + k % self._across * self._step
            y = top + 0.06 + k // self._across * self._each
            axes = page.axes(x + 0.12, y, min(self._step - 0.4, 1.6), _BAR)
            overlays.bar(axes, norms[k], method.colours, size=_TINY)
            page.text(x, y + _BAR + _TICKS + 0.02, self._said[k], fontsize=_TINY)


def _said(method: MethodMaps, width: float) -> str:
    label = fitted(f"{_capital(method.label)} ({method.unit})", width, lines=2, size=_TINY)
    return f"{label}\n{fitted(method.verdict, width, lines=9, size=_TINY)}"


def _panel(axes: Axes, explained: Explained, i: int, k: int, norms: Sequence[Normalize]) -> None:
    """Image i alone, or for k from 1 with the map of method k over it."""
    overlays.image(axes, explained.images[i])
    if k == 0:
        return
    method = explained.methods[k - 1]
    grid = method.values[i]
    count = max(1, round(OUTLINED * grid.size))
    highest = np.sort(grid, axis=None)[-count]
    outlined = (grid >= highest) & (grid > grid.min())
    overlays.values(axes, grid, norms[k - 1], outlined, explained.covered, method.colours)


def _of_image(explained: Explained) -> str:
    return f"Image, {explained.images.shape[1]} px"


def _capital(label: str) -> str:
    return label[0].upper() + label[1:]
