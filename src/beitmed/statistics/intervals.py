"""Names by which the tasks call the intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import bootstrap
from beitmed.statistics.areas import auc_interval, delong, mean_auc, mean_auc_interval, placements
from beitmed.statistics.level import LEVEL, Bools, Floats, Z
from beitmed.statistics.proportions import mean_of_two_proportions, wilson

__all__ = [
    "LEVEL",
    "Bools",
    "Floats",
    "Z",
    "auc_interval",
    "bca",
    "delong",
    "mean_auc_interval",
    "mean_delong",
    "mean_of_two_proportions",
    "placements",
    "stratified_bca",
    "wilson",
]  # fmt: skip

#: Statistic of weighted cases: weights [b, n] -> values [b], NaN where it is undefined.
Statistic = Callable[[Floats], Floats]


def mean_delong(member: Bools, score: Floats) -> tuple[float, float]:
    """Return (mean of the AUCs of the columns, its variance); member and score [n, k]."""
    found = mean_auc(member, score[None])
    return float(found.values[0]), found.spread().test


def bca(
    statistics: Mapping[str, Statistic], y: Bools, *, seed: int, n_resamples: int
) -> dict[str, bootstrap.Limits]:
    """Return the limits of each statistic, cases being drawn at random."""
    return stratified_bca(statistics, y, seed=seed, n_resamples=n_resamples)


def stratified_bca(
    statistics: Mapping[str, Statistic],
    strata: NDArray[Any],
    *,
    seed: int,
    n_resamples: int,
    groups: int | None = None,
) -> dict[str, bootstrap.Limits]:
    """Return the limits of each statistic, cases being drawn at random."""
    if not statistics:
        return {}

    def function(weights: NDArray[np.float32]) -> Floats:
        rows = np.ascontiguousarray(weights.T, np.float64)
        return np.column_stack([f(rows) for f in statistics.values()])

    found = bootstrap.of_weights(
        function, strata.size, seed=seed, n_resamples=n_resamples, jackknife=groups or 1000
    )
    return dict(zip(statistics, found, strict=True))
