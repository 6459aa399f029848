"""How far apart two sets of points lie, and whether by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import Floats

PERMUTATIONS = 999
_AT_ONCE = 100  # permutations


@dataclass(frozen=True)
class Distance:
    """The energy coefficient of two samples, 0 (alike) to 1, and p of the hypothesis of one source.

    A coefficient is never quite 0 between two finite samples of one source; p tells whether it is
    more than that.
    """

    value: float
    p: float


def energy(first: Floats, second: Floats, groups: tuple[Groups, Groups], seed: int) -> Distance:
    """Return the distance of points [n, d] and [m, d]; groups: the patients of either, or None.

    Every column is divided by its standard deviation over both, then distances are Euclidean. The
    energy distance over twice the mean distance between the samples: Szekely and Rizzo 2013, J.
    Stat. Plan. Inference 143:1249. p is of a permutation test: sets are exchanged, patients as a
    whole.
    """
    points = np.concatenate([first, second]).astype(np.float64)
    spread = points.std(axis=0)
    points = points[:, spread > 0] / spread[spread > 0]
    apart = cdist(points, points)
    code = [codes(g, len(x)) for g, x in zip(groups, (first, second), strict=True)]
    unit = np.concatenate([code[0], code[1] + code[0].max() + 1])
    of_first = np.arange(unit.max() + 1) <= code[0].max()
    rng = np.random.default_rng(seed)
    found = float(_coefficients(apart, of_first[unit][None])[0])
    larger = 0
    for start in range(0, PERMUTATIONS, _AT_ONCE):
        count = min(_AT_ONCE, PERMUTATIONS - start)
        drawn = np.stack([rng.permutation(of_first) for _ in range(count)])
        larger += int((_coefficients(apart, drawn[:, unit]) >= found - 1e-12).sum())
    return Distance(found, (larger + 1) / (PERMUTATIONS + 1))


def _coefficients(apart: Floats, chosen: np.ndarray) -> Floats:
    """The coefficient for each row of `chosen` [b, n], true for the first sample."""
    inside = chosen.astype(np.float64)
    of_first = inside @ apart
    total = of_first.sum(axis=1)
    within = (of_first * inside).sum(axis=1)
    between = total - within
    n = inside.sum(axis=1)
    m = chosen.shape[1] - n
    rest = float(apart.sum()) - within - 2 * between
    mean = between / (n * m)
    distance = 2 * mean - within / n**2 - rest / m**2
    return np.asarray(np.divide(distance, 2 * mean, out=np.zeros_like(mean), where=mean > 0))
