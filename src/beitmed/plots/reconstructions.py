"""Held-out images, what of them was masked, and what a pre-trained network made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
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
        axes = page.axes(left, top, columns * (side + gap) - gap, side)
        axes.imshow(_beside(images[:columns], gap / side), interpolation="antialiased")
        axes.set_axis_off()
    return page.figure


def _beside(images: Sequence[Pixels], gap: float) -> Pixels:
    """Pictures in a row on white; gap: between two of them, in their sides. One picture of them all
    is drawn many times faster.
    """
    times = max(1, -(-224 // images[0].shape[0]))  # so that a gap is whole pixels, nearly
    white = np.full(
        (times * images[0].shape[0], round(times * len(images[0]) * gap), 3), 255, np.uint8
    )
    parts = [part for image in images for part in (image.repeat(times, 0).repeat(times, 1), white)]
    return np.concatenate(parts[:-1], axis=1)
