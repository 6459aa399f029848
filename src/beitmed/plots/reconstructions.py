"""Held-out images, what of them was masked, and what a pre-trained network made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beitmed.plots.page import DPI, EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted

Pixels = NDArray[np.uint8]


@styled()
def reconstructions(
    rows: Sequence[tuple[str, Sequence[Pixels]]], *, title: str, notes: Sequence[str] = (),
    width: float = FULL_WIDTH,
) -> Figure:  # fmt: skip
    """Draw rows of pictures of the same images: each a name, and uint8 [h, w, 3] an image.

    In a column fewer images are drawn, not smaller ones.
    ValueError: no rows, or of different lengths.
    """
    if not rows or len({len(images) for _, images in rows}) != 1:
        raise ValueError("rows: at least one, all of as many pictures, is needed")
    left, gap = 0.85 if width > WIDTH else 0.72, 0.05
    columns = min(len(rows[0][1]), 8 if width > WIDTH else 4)
    side = min(1.0, (width - left - EDGE) / columns - gap)
    page = Page(width, len(rows) * (side + gap) + 0.05, title, notes)
    for r, (name, images) in enumerate(rows):
        top = 0.03 + r * (side + gap)
        label = fitted(name, left - EDGE - 0.08, lines=3, size=7)
        page.text(left - 0.08, top + side / 2, label, ha="right", va="center", fontsize=7)
        for i, image in enumerate(images[:columns]):
            axes = page.axes(left + i * (side + gap), top, side, side)
            pixels = max(1, round(side * DPI / image.shape[0]))
            shown = image.repeat(pixels, 0).repeat(pixels, 1)
            axes.imshow(shown, vmin=0, vmax=255, interpolation="antialiased")
            axes.set_axis_off()
    return page.figure
