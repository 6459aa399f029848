"""Noise of single pixels. All: uint8 [h, w, c] and a level -> uint8 [h, w, c].

Grey levels are cut off after the point, not rounded, as in MedMNIST-C.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def gaussian_noise(image: Bytes, sd: float, rng: np.random.Generator) -> Bytes:
    """Noise of this standard deviation, where 1 is white."""
    return _bytes(image / 255 + rng.normal(scale=sd, size=image.shape))


def speckle_noise(image: Bytes, sd: float, rng: np.random.Generator) -> Bytes:
    """Noise in proportion to the grey level, of this standard deviation."""
    return _bytes(image / 255 * (1 + rng.normal(scale=sd, size=image.shape)))


def shot_noise(image: Bytes, photons: float, rng: np.random.Generator) -> Bytes:
    """Poisson noise, where white is this many photons."""
    return _bytes(rng.poisson(image / 255 * photons) / photons)


def impulse_noise(image: Bytes, share: float, rng: np.random.Generator) -> Bytes:
    """This share of the values is set to black or white, each with the same chance."""
    hit = rng.random(image.shape) <= share
    white = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(white, np.uint8(255), np.uint8(0)), image)


def _bytes(levels: NDArray[np.float64]) -> Bytes:
    return (np.clip(levels, 0, 1) * 255).astype(np.uint8)
