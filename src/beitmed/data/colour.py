"""Images of another mode than a model was trained on: grey as colour, and colour as grey."""

from __future__ import annotations

import numpy as np

from beitmed.storage.rows import Rows

_WEIGHTS = np.array([19595, 38470, 7471], np.uint32)  # of 65,536: ITU-R 601-2, as Pillow's "L"


def is_colour(images: np.ndarray | Rows) -> bool:
    """Whether images [n, h, w] or [n, h, w, 3] have three channels."""
    return len(images.shape) == 4


def to_grey(images: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> the luminance, as Pillow rounds it; of equal channels it is theirs."""
    return ((images.astype(np.uint32) @ _WEIGHTS + 0x8000) >> 16).astype(np.uint8)


def really_coloured(images: np.ndarray | Rows) -> int:
    """How many of the images [n, h, w, 3] have channels that differ."""
    return sum(bool((image[..., :1] != image[..., 1:]).any()) for image in images)


class Converted(Rows):
    """Images in the other mode: grey ones [n, h, w] three times over, or colour's luminance."""

    def __init__(self, images: np.ndarray | Rows) -> None:
        self._grey = not is_colour(images)
        self.shape = (*images.shape, 3) if self._grey else images.shape[:3]
        self.dtype, self._images = np.dtype(np.uint8), images

    def read(self, row: int, out: np.ndarray) -> None:
        parts = out.reshape(-1, *self.shape[1:])
        block = np.asarray(self._images[row : row + len(parts)])
        parts[...] = block[..., None] if self._grey else to_grey(block)
