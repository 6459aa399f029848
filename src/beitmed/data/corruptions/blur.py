"""Blur. All: uint8 [h, w, c], a parameter, rng and `unit` -> uint8 [h, w, c].

unit: how many pixels of this image are as long as one of an image of 224, of which the lengths are.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
_DISK = 8  # px on either side of the kernel's centre


def gaussian_blur(image: Bytes, size: float, rng: np.random.Generator, unit: float) -> Bytes:
    """A Gaussian kernel of this many pixels, its standard deviation 0.15 of that and 0.35 more."""
    half = max(1, math.ceil(size // 2 * unit))
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / ((0.15 * size + 0.35) * unit)) ** 2)
    weights /= weights.sum()
    out = image.astype(np.float64)
    for axis in (0, 1):
        out = ndimage.correlate1d(out, weights, axis=axis, mode="mirror")
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def motion_blur(
    image: Bytes, parameter: tuple[float, float], rng: np.random.Generator, unit: float
) -> Bytes:
    """A one-sided Gaussian trail of (radius, standard deviation) at -45 to 45 degrees."""
    return trail(image, parameter, rng.uniform(-45, 45), unit)


def trail(image: Bytes, parameter: tuple[float, float], degrees: float, unit: float) -> Bytes:
    """The same at this angle: 2 radius + 1 steps, whole pixels, the border repeated."""
    radius, sd = (x * unit for x in parameter)
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sd**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    down = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    across = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    reach = steps.size
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge").astype(np.float64)
    h, w, _ = image.shape
    out = np.zeros(image.shape)
    for weight, y, x in zip(weights, down + reach, across + reach, strict=True):
        out += weight * padded[y : y + h, x : x + w]
    return np.clip(out + 1e-9, 0, 255).astype(np.uint8)


def defocus_blur(
    image: Bytes, parameter: tuple[float, float], rng: np.random.Generator, unit: float
) -> Bytes:
    """A disk of (radius, blur of its edge)."""
    kernel = _disk(*parameter, unit)
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "reflect") / 255
    out = fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1))
    # A level is cut off after the point: what only the transform's rounding lowers is restored.
    return (np.clip(out + 1e-9, 0, 1) * 255).astype(np.uint8)


@cache
def _disk(radius: float, edge: float, unit: float) -> Floats:
    at = np.arange(-_DISK, _DISK + 1)
    distance = np.hypot(at[:, None], at)
    if unit == 1:
        disk = (distance <= radius).astype(np.float64)
    else:  # too few pixels for a disk of whole ones
        disk = np.clip(radius * unit + 0.5 - distance, 0, 1)
    disk /= disk.sum()
    around = np.exp(-0.5 * (np.array([1, 0, 1]) / edge) ** 2)
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, around / around.sum(), axis, mode="mirror")
    return disk


def zoom_blur(
    image: Bytes, parameter: tuple[float, float, int], rng: np.random.Generator, unit: float
) -> Bytes:
    """The mean of the image and of enlargements of its middle by (first factor, step, number)."""
    first, step, number = parameter
    levels = image / 255
    out = levels.copy()
    for i in range(int(number)):
        enlarge = _enlarging(image.shape[0], round(first + i * step, 9))
        out += np.einsum("yi,ijc,xj->yxc", enlarge, levels, enlarge, optimize=True)
    return (np.clip(out / (number + 1) + 1e-9, 0, 1) * 255).astype(np.uint8)


@cache
def _enlarging(side: int, factor: float) -> Floats:
    """What makes `side` px of the middle of a line of `side` px, [side, side]: linear."""
    kept = math.ceil(side / factor)
    before = (side - kept) // 2
    found = ndimage.zoom(np.eye(kept), (factor, 1), order=1)
    trim = (found.shape[0] - side) // 2
    out = np.zeros((side, side))
    out[:, before : before + kept] = found[trim : trim + side]
    return out
