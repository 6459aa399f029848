"""Which patches are masked: BEiT's blocks, or each patch by itself; always as many as asked for.

Source of the blocks: H. Bao et al., BEiT, ICLR 2022, algorithm 1. Its code, and transformers' copy
in FLAVA, stops where no block fits and so masks fewer patches than it says; here the masked region
grows by its neighbours until it has the number.
"""

from __future__ import annotations

import math

import numpy as np

from beitmed.config.pretrain import Objective

SMALLEST, ASPECT, TRIES = 16, 0.3, 10  # patches of a block; its narrowest shape; draws of one


def draw(objective: Objective, rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Masks of n images of side x side patches, bool [n, side * side], true where masked."""
    masked = count(objective.mask_ratio, side)
    if objective.masking == "random":
        return random(rng, n, side, masked)
    return np.stack([blocks(rng, side, masked) for _ in range(n)]).reshape(n, -1)


def count(ratio: float, side: int) -> int:
    """How many of side x side patches a ratio masks: one at least, and never all."""
    return min(max(1, round(ratio * side * side)), side * side - 1)


def random(rng: np.random.Generator, n: int, side: int, masked: int) -> np.ndarray:
    """The patches with the smallest random numbers: bool [n, side * side]."""
    numbers = rng.random((n, side * side))
    last = np.partition(numbers, masked - 1, axis=1)[:, masked - 1 : masked]
    return numbers <= last


def blocks(rng: np.random.Generator, side: int, masked: int) -> np.ndarray:
    """Overlapping blocks of together `masked` patches: bool [side, side]."""
    found = np.zeros((side, side), bool)
    while (missing := masked - int(found.sum())) > 0:
        for _ in range(TRIES):
            top, left, height, width = block(rng, side, missing)
            part = found[top : top + height, left : left + width]
            if 0 < part.size - int(part.sum()) <= missing:
                part[:] = True
                break
        else:
            _grow(rng, found, missing)
    return found


def block(rng: np.random.Generator, side: int, most: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a block: 16 patches or more, aspect 0.3 to 1 / 0.3.

    most: how many patches it should have at most, where that is 16 or more. In a grid too small for
    16 patches of some such shape, a block is as large as fits.
    """
    smallest = min(SMALLEST, side * side // 2)
    while True:
        area = rng.uniform(smallest, max(smallest, most))
        aspect = math.exp(rng.uniform(math.log(ASPECT), -math.log(ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height <= side and 0 < width <= side) or height * width < smallest:
            continue
        if ASPECT <= height / width <= 1 / ASPECT:
            top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
            return int(top), int(left), height, width


def _grow(rng: np.random.Generator, found: np.ndarray, missing: int) -> None:
    """Mask neighbours of masked patches, any patch where there are none, until none is missing."""
    for _ in range(missing):
        around = np.zeros_like(found)
        around[1:] |= found[:-1]
        around[:-1] |= found[1:]
        around[:, 1:] |= found[:, :-1]
        around[:, :-1] |= found[:, 1:]
        free = np.flatnonzero(around & ~found) if found.any() else np.arange(found.size)
        found.flat[rng.choice(free)] = True
