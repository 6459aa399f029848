"""Pictures of a report: images by class, and one image for a page.

An image is uint8 [h, w] (grey; 0 is black and 255 white, never stretched) or [h, w, 3] (RGB). It
is enlarged by whole factors, each pixel to a square of pixels, so that one of 28 px looks as coarse
as it is; only where there is no room for its pixels is it reduced, by averaging over areas.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from beitmed.plots.page import DPI, EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted

Pixels = NDArray[np.uint8]

_PAGE_PIXELS = 112  # about the side of an image in a page


@dataclass(frozen=True)
class ClassRow:
    """Example images of a class, [n, h, w] or [n, h, w, 3], and their indices [n] in the split."""

    name: str
    images: Pixels
    indices: Sequence[int]


@styled()
def samples(rows: Sequence[ClassRow], *, title: str, width: float = FULL_WIDTH) -> Figure:
    """Draw example images, a row a class, each above its index in the split.

    A class without images has an empty row, which says so.
    ValueError: no rows, malformed images, or not an index an image.
    """
    if not rows:
        raise ValueError("rows: none, but at least one is needed")
    for row in rows:
        if len(row.images) != len(row.indices):
            raise ValueError(f"{row.name}: {len(row.images)} images, {len(row.indices)} indices")
    left, gap = 1.15 if width > WIDTH else 0.8, 0.06
    columns = max(1, *(len(row.images) for row in rows))
    slot = min(1.12, (width - left - EDGE) / columns - gap)
    fits = [[_to_fit(image, slot) for image in row.images] for row in rows]
    notes = _scales([image for row in rows for image in row.images], slot)
    # As high as what is in it, but not below two lines of a class name.
    heights = [max([0.3, *(len(image) / DPI for image in row)]) for row in fits]
    page = Page(width, sum(heights) + 0.22 * len(rows) + 0.05, title, notes)
    top = 0.03
    for row, images, height in zip(rows, fits, heights, strict=True):
        name = fitted(row.name, left - EDGE - 0.1, lines=max(2, int(height / 0.14)))
        page.text(left - 0.1, top + height / 2, name, ha="right", va="center")
        if not images:
            page.text(left, top + height / 2, "no images", va="center", color="0.4")
        for i, (image, index) in enumerate(zip(images, row.indices, strict=True)):
            x = left + i * (slot + gap)
            _place(page, image, x + (slot - image.shape[1] / DPI) / 2, top)
            label = fitted(f"{index}", slot + gap - 0.02, size=6.5)
            page.text(x + slot / 2, top + height + 0.02, label, ha="center", fontsize=6.5)
        top += height + 0.22
    return page.figure


def png_bytes(image: Pixels) -> bytes:
    """Return a PNG of an image enlarged by a whole factor to about 112 px, or as it is if larger.

    The same image gives the same bytes with the same version of Pillow. ValueError: malformed.
    """
    checked = _checked(image)
    factor = max(1, round(_PAGE_PIXELS / max(checked.shape[:2])))
    file = io.BytesIO()
    Image.fromarray(_enlarged(checked, factor)).save(file, "PNG", optimize=True)
    return file.getvalue()


def _checked(image: Pixels) -> Pixels:
    array = np.asarray(image)
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not flat or 0 in array.shape:
        raise ValueError(
            f"image: {array.dtype} {array.shape}, but uint8 [h, w] or [h, w, 3] is needed"
        )
    return array


def _enlarged(image: Pixels, factor: int) -> Pixels:
    return np.asarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def _to_fit(image: Pixels, slot: float) -> Pixels:
    """Return RGB [h, w, 3] at the PNG's resolution that fits into a square slot (inches)."""
    checked, room = _checked(image), int(slot * DPI)
    side = max(checked.shape[:2])
    if side <= room:
        drawn = Image.fromarray(_enlarged(checked, room // side))
    else:
        h, w = (max(1, round(n * room / side)) for n in checked.shape[:2])
        drawn = Image.fromarray(checked).resize((w, h), Image.Resampling.BOX)
    return np.asarray(drawn.convert("RGB"))


def _scales(images: Sequence[Pixels], slot: float) -> list[str]:
    """Return a sentence on how images of each size are shown; one sentence, or none."""
    room, said = int(slot * DPI), {}
    for image in images:
        h, w = np.shape(image)[:2]
        factor = room // max(h, w)
        how = f"each pixel enlarged {factor} times" if factor > 1 else "at full resolution"
        said[h, w] = f"{w} × {h} px, {how if factor else 'reduced by averaging'}"
    return ["; ".join(said.values())] if said else []


def _place(page: Page, image: Pixels, left: float, top: float) -> None:
    """Put an image that has the PNG's resolution with its corner here, pixel on pixel."""
    h, w = image.shape[0] / DPI, image.shape[1] / DPI
    axes = page.axes(left, top, w, h)
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
