"""What lies over an image: stains, bubbles, a black border, letters.

All: uint8 [h, w, c], a parameter, rng and `unit` (as in `blur`) -> uint8 [h, w, c]; letters have
colours, so theirs is [h, w, 3].
"""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Bytes = NDArray[np.uint8]
_MARGIN = 10  # px between the border and what is drawn
_STAIN, _LARGEST_STAIN = 24, 32  # px, across; the larger one at severity 5
_COVERED = {_STAIN: 0.62, _LARGEST_STAIN: 0.54}  # share of a stain's square, of the benchmark's
_FONT = 38.0  # points of our font whose letters are as wide as scale 1 of OpenCV's HERSHEY_DUPLEX


def stain(image: Bytes, most: float, rng: np.random.Generator, unit: float, severity: int) -> Bytes:
    """1 to `most` black stains with a wavy edge, drawn here; the benchmark's are pictures."""
    out = image.copy()
    size = _LARGEST_STAIN if severity == 5 else _STAIN
    side = max(2, round(size * unit))
    for _ in range(rng.integers(1, int(most) + 1)):
        y, x = _corner(image, side, rng, unit)
        out[y : y + side, x : x + side][_blot(side, _COVERED[size], rng)] = 0
    return out


def _blot(side: int, covered: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """An irregular disk [side, side] that covers about this share of it."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    angle, distance = np.arctan2(at[:, None], at), np.hypot(at[:, None], at)
    order = np.arange(2, 7)
    wave = np.cos(angle[..., None] * order + rng.uniform(0, 2 * np.pi, order.size))
    radius = np.sqrt(4 * covered / np.pi) * (1 + wave @ rng.normal(0, 0.07, order.size))
    return distance <= radius


def bubble(
    image: Bytes, parameter: tuple[float, float], rng: np.random.Generator, unit: float
) -> Bytes:
    """7 to `most` pale disks with a rim, of radius 3 to `largest` px: (largest, most)."""
    largest, most = parameter
    h, w, c = image.shape
    film = Image.new("L", (w, h), 0)  # how much white lies over each pixel
    draw = ImageDraw.Draw(film)
    for _ in range(rng.integers(7, int(most) + 1)):
        r = max(1.0, rng.integers(3, int(largest) + 1) * unit)
        r = round(r) if unit == 1 else r
        x, y = rng.integers(int(r), w - int(r) + 1), rng.integers(int(r), h - int(r) + 1)
        for reach, alpha in ((r + 2 * unit, 130), (r, 100)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=alpha)
    shown = Image.fromarray(np.repeat(image, 3, axis=2) if c == 1 else image)
    shown.paste((255, 255, 255), (0, 0), film)
    return np.asarray(shown)[:, :, :c]


def black_corner(image: Bytes, share: float, rng: np.random.Generator, unit: float) -> Bytes:
    """All black but a disk in the middle, its radius this share of half the side."""
    h, w, _ = image.shape
    cy, cx = h // 2, w // 2
    radius = int(min(cx, cy, w - cx, h - cy) * share)
    y, x = np.ogrid[:h, :w]
    return np.where(((y - cy) ** 2 + (x - cx) ** 2 <= radius**2)[:, :, None], image, np.uint8(0))


def characters(
    image: Bytes, parameter: tuple[float, float, float], rng: np.random.Generator, unit: float
) -> Bytes:
    """1 to `words` words of 3 to `letters` letters in any colour, of a scale from 0.14: the three
    numbers. Drawn in Pillow's font, the benchmark's in OpenCV's.
    """
    words, letters, scale = parameter
    h, w, _ = image.shape
    shown = Image.fromarray(image)
    draw = ImageDraw.Draw(shown)
    for _ in range(rng.integers(1, int(words) + 1)):
        count = int(rng.integers(3, int(letters) + 1))
        size = rng.integers(14, max(14, int(scale * 100)) + 1) / 100 * _FONT * unit
        word = "".join(rng.choice(list(string.ascii_lowercase), count))
        x = rng.uniform(_MARGIN * unit, w - 8 * count * unit)
        y = rng.uniform(_MARGIN * unit, h - _MARGIN * unit)
        ink = tuple(int(v) for v in rng.integers(0, 256, 3))
        font = ImageFont.load_default(max(size, 1.0))
        draw.text((x, y), word, fill=ink, font=font, anchor="ls")
    return np.asarray(shown)


def _corner(image: Bytes, side: int, rng: np.random.Generator, unit: float) -> tuple[int, int]:
    h, w, _ = image.shape
    margin = round(_MARGIN * unit)
    y = rng.integers(min(margin, h - side), max(h - side - margin, 0) + 1)
    x = rng.integers(min(margin, w - side), max(w - side - margin, 0) + 1)
    return int(y), int(x)
