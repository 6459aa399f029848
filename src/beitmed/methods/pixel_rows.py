"""Pixels as the rows of a matrix, for models that know no images."""

from __future__ import annotations

import os

import numpy as np

from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.storage.rows import Rows

_COPIES = 5  # the matrix, and its standardised copy in float64 while that is made
_AT_ONCE = 512  # images


def of_splits(data: Data, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Every split as float32 [n, pixels] in 0 to 1 (grey, or R, G and B of each pixel).

    Of "train" the rows `indices`, in their order. Raises UserError where main memory is too small.
    """
    count = len(indices) + len(data.val.labels) + len(data.test.labels)
    needed = 4 * int(np.prod(data.train.images.shape[1:])) * count * _COPIES
    free = _free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"method: all pixels in one matrix need about {needed / 1e9:.1f} GB of main memory, "
            f"and {free / 1e9:.1f} GB are free. Use a smaller size, balanced=true, or data.limit."
        )
    rows = {"train": indices, "val": None, "test": None}
    return {name: of_images(split.images, rows[name]) for name, split in data.splits.items()}


def of_images(images: np.ndarray | Rows, rows: np.ndarray | None = None) -> np.ndarray:
    """The same of some images, uint8 [n, h, w] or [n, h, w, 3]; `rows` chooses among them."""
    chosen = np.arange(len(images)) if rows is None else rows
    matrix = np.empty((len(chosen), int(np.prod(images.shape[1:]))), np.float32)
    for start in range(0, len(chosen), _AT_ONCE):
        part = images[chosen[start : start + _AT_ONCE]]
        np.divide(
            part.reshape(len(part), -1), np.float32(255), out=matrix[start : start + len(part)]
        )
    return matrix


def _free_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as f:  # noqa: PTH123  # counts caches as free
            fields = dict(line.split(":") for line in f)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None  # not told here
