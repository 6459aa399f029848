"""Which images of the train split a run trains on. Works on indices; images are never copied."""

from __future__ import annotations

import numpy as np


def undersample(labels: np.ndarray, majority_ratio: float, seed: int) -> np.ndarray:
    """Keep at most `majority_ratio` images of each class per image of the smallest class.

    labels: int [n]. Returns sorted indices int64 [m]. The count is rounded down, as in the paper:
    1.5 x 147 keeps 220 (Baietti and Carlesso, section 5). Which ones stay is drawn without
    replacement from `seed` alone.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    most = int(counts.min() * majority_ratio)
    kept = [
        members if len(members) <= most else rng.choice(members, size=most, replace=False)
        for members in (np.flatnonzero(labels == c) for c in classes)
    ]
    return np.sort(np.concatenate(kept))
