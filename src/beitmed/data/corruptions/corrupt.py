"""Images of a data set corrupted, each by random numbers of its own."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beitmed.data.corruptions.catalogue import Corruption

Bytes = NDArray[np.uint8]
WORKING_SIDE = 224  # px: what the published parameters are made for
#: Where a corruption acts: on images of 224 px, to which smaller ones are enlarged and from which
#: they are reduced again; or on the stored pixels, its lengths scaled to them.
AT = ("224", "stored")
_BACK_PROJECTIONS = 6


def corrupt(
    images: Bytes, indices: NDArray[np.intp], corruption: Corruption, severity: int, at: str = "224"
) -> Bytes:
    """Corrupted copies of images uint8 [n, h, w] or [n, h, w, 3], of the same shape.

    indices: which images of the split these are: an image's pixels depend on its index, the
    corruption's name and the severity, and on nothing else of the order that they come in.
    """
    out = np.empty_like(images)
    for i, (image, index) in enumerate(zip(images, indices, strict=True)):
        out[i] = _one(image, _rng(corruption.name, severity, int(index)), corruption, severity, at)
    return out


def _rng(name: str, severity: int, index: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{name} {severity} {index}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _one(
    image: Bytes, rng: np.random.Generator, corruption: Corruption, severity: int, at: str
) -> Bytes:
    side, grey = image.shape[0], image.ndim == 2
    enlarged = at == "224" and side != WORKING_SIDE
    if enlarged:
        image = enlarge(image, WORKING_SIDE)
    shown = image[:, :, None] if grey else image
    if grey and corruption.coloured:
        shown = np.repeat(shown, 3, axis=2)
    found = corruption.function(shown, severity, rng, shown.shape[0] / WORKING_SIDE)
    if grey:
        found = found[:, :, 0] if found.shape[2] == 1 else np.asarray(
            Image.fromarray(np.ascontiguousarray(found)).convert("L")
        )  # fmt: skip
    return reduce(found, side) if enlarged else found


def enlarge(image: Bytes, side: int) -> Bytes:
    """A smooth image of this side that `reduce` turns into the given one again, but for rounding.

    So a corruption that does nothing changes nothing. By back-projection: what a bicubic
    enlargement has lost once reduced is added beforehand (Irani and Peleg 1991, CVGIP 53:231).
    """
    planes = np.atleast_3d(image).astype(np.float32)
    out = np.empty((side, side, planes.shape[2]), np.uint8)
    for c in range(planes.shape[2]):
        wanted = aim = planes[:, :, c]
        for _ in range(_BACK_PROJECTIONS):
            large = _resized(aim, side, Image.Resampling.BICUBIC)
            np.clip(large, 0, 255, out=large)
            aim = aim + wanted - _resized(large, wanted.shape[0], Image.Resampling.BOX)
        out[:, :, c] = np.rint(large)
    return out[:, :, 0] if image.ndim == 2 else out


def reduce(image: Bytes, side: int) -> Bytes:
    """The area average of an image at this side."""
    small = Image.fromarray(np.ascontiguousarray(image)).resize((side,) * 2, Image.Resampling.BOX)
    return np.asarray(small)


def _resized(plane: NDArray[np.float32], side: int, how: Image.Resampling) -> NDArray[np.float32]:
    return np.array(Image.fromarray(plane).resize((side, side), how))
