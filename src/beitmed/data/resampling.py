"""An image processor as arithmetic on any device, to the bit what it gives.

Pillow resizes 8-bit images in two passes, along rows and then along columns: each is a sum of
products of integers, a weight having 22 bits behind the point, rounded to 8 bits (its
src/libImaging/Resample.c). In float64 such products and sums are exact in any order, on any device.
What follows is a function of a level and its channel alone: a table of 256 numbers, which the
processor itself fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

_BITS = 22
_LEVELS = 256
Filter = Callable[[np.ndarray], np.ndarray]


def _bilinear(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1, 1 - x, 0)


def _bicubic(x: np.ndarray) -> np.ndarray:
    inner, outer = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


_FILTERS: dict[int, tuple[Filter, float]] = {2: (_bilinear, 1.0), 3: (_bicubic, 2.0)}  # by PIL


class Arithmetic:
    """What one processor makes of images of one size: uint8 in, pixel values out."""

    def __init__(self, weights: list[np.ndarray | None], crop: Any, table: torch.Tensor) -> None:
        self._weights = [w if w is None else torch.from_numpy(w) for w in weights]
        self._crop, self._table = crop, table

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [n, h, w] (grey) or [n, h, w, 3] -> float32 [n, 3, h', w'], where the images are.

        h' and w' are the sides that the processor gives.
        """
        planes = images[:, None] if images.ndim == 3 else images.movedim(3, 1)
        rows, columns = (w if w is None else w.to(images.device) for w in self._weights)
        levels: torch.Tensor = planes
        if columns is not None:
            levels = _rounded(levels.double() @ columns.T)
        if rows is not None:
            levels = _rounded(rows @ levels.double())
        levels = levels[..., self._crop[0], self._crop[1]].long()
        table = self._table.to(images.device)
        return torch.stack(
            [table[c][levels[:, min(c, levels.shape[1] - 1)]] for c in range(len(table))], dim=1
        )


_FOUND: WeakKeyDictionary[Any, dict[tuple[int, ...], Arithmetic | None]] = WeakKeyDictionary()


def of(processor: Any, height: int, width: int) -> Arithmetic | None:
    """The arithmetic of a processor for images of this size; None where it is not known.

    Tried on an image of noise, of which it must give every number as the processor does.
    """
    known = _FOUND.setdefault(processor, {})
    if (height, width) not in known:
        known[height, width] = _found(processor, height, width)
    return known[height, width]


def _found(processor: Any, height: int, width: int) -> Arithmetic | None:
    if processor.do_resize and int(processor.resample) not in _FILTERS:
        return None
    noise = np.random.default_rng(0).integers(0, _LEVELS, (height, width, 3), np.uint8)

    def processed(image: np.ndarray, **changes: Any) -> torch.Tensor:
        found: torch.Tensor = processor([image], return_tensors="pt", **changes)["pixel_values"][0]
        return found

    expected, resized = processed(noise), processed(noise, do_center_crop=False).shape[1:]
    levels = np.arange(_LEVELS, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    table = processed(levels, do_resize=False, do_center_crop=False).reshape(3, _LEVELS)
    weights = [
        None if stored == wanted else _weights(stored, wanted, int(processor.resample))
        for stored, wanted in zip((height, width), resized, strict=True)
    ]
    crop = [_centre(n, kept) for n, kept in zip(resized, expected.shape[1:], strict=True)]
    found = Arithmetic(weights, crop, table)
    given = found(torch.from_numpy(noise[None]))[0]
    return found if torch.equal(given, expected) else None


def _centre(n: int, kept: int) -> slice:
    start = max(0, n - kept) // 2
    return slice(start, start + kept)


def _weights(stored: int, wanted: int, resample: int) -> np.ndarray:
    """What each of `wanted` levels takes of each of `stored` ones: integers as float64."""
    function, reach = _FILTERS[resample]
    scale = stored / wanted
    wide = max(scale, 1.0)
    weights = np.zeros((wanted, stored))
    for i, row in enumerate(weights):
        centre = (i + 0.5) * scale
        first = max(0, int(centre - reach * wide + 0.5))
        last = min(stored, int(centre + reach * wide + 0.5))
        taken = function(np.abs((np.arange(first, last) - centre + 0.5) * (1 / wide)))
        row[first:last] = taken / taken.sum()
    scaled = weights * (1 << _BITS)
    return np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5))


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    return ((sums + (1 << _BITS - 1)) / (1 << _BITS)).floor_().clamp_(0, _LEVELS - 1)
