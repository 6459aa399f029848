"""Pictures of a report: images by class, the most confident errors, and one image for a page.

An image is uint8 [h, w] (grey; 0 is black and 255 white, never stretched) or [h, w, 3] (RGB). It
is enlarged by whole factors, each pixel to a square of pixels, so that one of 28 px looks as coarse
as it is; only where there is no room for its pixels is it reduced, by averaging over areas.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beitmed.plots.curves import FULL_WIDTH, write
from beitmed.report.layout import EDGE, Page, fitted, styled

Pixels = NDArray[np.uint8]

_DPI = 200  # of the PNG
_PAGE_PIXELS = 112  # about the side of an image in a page


@dataclass(frozen=True)
class ClassRow:
    """Example images of a class, [n, h, w] or [n, h, w, 3], and their indices [n] in the split."""

    name: str
    images: Pixels
    indices: Sequence[int]


def samples(stem: Path, rows: Sequence[ClassRow], *, title: str) -> tuple[Path, Path]:
    """Write example images, a row a class, each above its index in the split.

    A class without images has an empty row, which says so.
    ValueError: no rows, malformed images, or not an index an image.
    """
    if not rows:
        raise ValueError("rows: none, but at least one is needed")
    for row in rows:
        if len(row.images) != len(row.indices):
            raise ValueError(f"{row.name}: {len(row.images)} images, {len(row.indices)} indices")
    left, gap = 1.15, 0.06
    columns = max(1, *(len(row.images) for row in rows))
    slot = min(1.12, (FULL_WIDTH - left - EDGE) / columns - gap)
    fits = [[_to_fit(image, slot) for image in row.images] for row in rows]
    notes = _scales([image for row in rows for image in row.images], slot)
    # As high as what is in it, but not below two lines of a class name.
    heights = [max([0.3, *(len(image) / _DPI for image in row)]) for row in fits]
    with styled():
        page = Page(FULL_WIDTH, sum(heights) + 0.22 * len(rows) + 0.05, title, notes)
        top = 0.03
        for row, images, height in zip(rows, fits, heights, strict=True):
            name = fitted(row.name, left - EDGE - 0.1, lines=max(2, int(height / 0.14)))
            page.text(left - 0.1, top + height / 2, name, ha="right", va="center")
            if not images:
                page.text(left, top + height / 2, "no images", va="center", color="0.4")
            for i, (image, index) in enumerate(zip(images, row.indices, strict=True)):
                x = left + i * (slot + gap)
                _place(page, image, x + (slot - image.shape[1] / _DPI) / 2, top)
                label = fitted(f"{index}", slot + gap - 0.02, size=6.5)
                page.text(x + slot / 2, top + height + 0.02, label, ha="center", fontsize=6.5)
            top += height + 0.22
        return write(page.figure, stem)


@dataclass(frozen=True)
class Mistake:
    """A test image called wrongly; confidence (0 to 1) is the probability of the wrong class."""

    index: int
    actual: str
    predicted: str
    confidence: float
    image: Pixels


def confident_errors(stem: Path, errors: Sequence[Mistake], *, title: str) -> tuple[Path, Path]:
    """Write a grid of wrongly called images in the order given, five a row; none says so."""
    columns, gap = 5, 0.14
    slot = (FULL_WIDTH - 2 * EDGE - gap * (columns - 1)) / columns
    fits = [_to_fit(error.image, slot) for error in errors]
    lines = [_told(error, slot) for error in errors]
    body, tops = 0.03, []
    for start in range(0, len(errors), columns):
        tops.append(body)
        part = slice(start, start + columns)
        picture = max(len(image) for image in fits[part]) / _DPI
        body += picture + 0.13 * max(text.count("\n") + 1 for text in lines[part]) + 0.14
    notes = _scales([error.image for error in errors], slot)
    with styled():
        page = Page(FULL_WIDTH, body if errors else 0.3, title, notes)
        if not errors:
            page.text(EDGE, 0.05, "No test image was called wrongly.", color="0.3")
        for i, (image, text) in enumerate(zip(fits, lines, strict=True)):
            x, top = EDGE + i % columns * (slot + gap), tops[i // columns]
            row = fits[i // columns * columns : (i // columns + 1) * columns]
            _place(page, image, x, top)
            below = top + max(len(other) for other in row) / _DPI + 0.04
            page.text(x, below, text, fontsize=7, linespacing=1.25)
        return write(page.figure, stem)


def _told(error: Mistake, width: float) -> str:
    # Rounded, 0.9999 would read as certainty.
    sure = "> 99.9" if error.confidence >= 0.9995 else f"{100 * error.confidence:.1f}"
    parts = [
        fitted(f"Index {error.index}", width, size=7),
        fitted(f"actual: {error.actual}", width, lines=2, size=7),
        fitted(f"predicted: {error.predicted}", width, lines=2, size=7),
        f"confidence: {sure} %",
    ]
    return "\n".join(parts)


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
    checked, room = _checked(image), int(slot * _DPI)
    side = max(checked.shape[:2])
    if side <= room:
        drawn = Image.fromarray(_enlarged(checked, room // side))
    else:
        h, w = (max(1, round(n * room / side)) for n in checked.shape[:2])
        drawn = Image.fromarray(checked).resize((w, h), Image.Resampling.BOX)
    return np.asarray(drawn.convert("RGB"))


def _scales(images: Sequence[Pixels], slot: float) -> list[str]:
    """Return a sentence on how images of each size are shown; one sentence, or none."""
    room, said = int(slot * _DPI), {}
    for image in images:
        h, w = np.shape(image)[:2]
        factor = room // max(h, w)
        how = f"each pixel enlarged {factor} times" if factor > 1 else "at full resolution"
        said[h, w] = f"{w} × {h} px, {how if factor else 'reduced by averaging'}"
    return ["; ".join(said.values())] if said else []


def _place(page: Page, image: Pixels, left: float, top: float) -> None:
    """Put an image that has the PNG's resolution with its corner here, pixel on pixel."""
    h, w = image.shape[0] / _DPI, image.shape[1] / _DPI
    axes = page.axes(left, top, w, h)
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
