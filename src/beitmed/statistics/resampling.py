"""Names by which the tasks call the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import bootstrap
from beitmed.statistics.bootstrap import Limits, OfWeights, resamples
from beitmed.statistics.level import Floats

__all__ = ["Limits", "OfTable", "mean_limits", "resamples", "single_case", "table_limits",
           "weighted_limits"]  # fmt: skip

#: Confusion tables [b, k, k] (actual, predicted) -> values [b], NaN where undefined.
OfTable = Callable[[NDArray[np.int64]], Floats]


def table_limits(
    functions: Sequence[OfTable], table: NDArray[np.int64], *, seed: int, n_resamples: int
) -> list[Limits]:
    """Return the limits of each function of a confusion table [k, k]."""
    cells = np.repeat(np.eye(table.size), table.ravel(), axis=0)

    def function(sums: Floats) -> Floats:
        tables = np.rint(sums).astype(np.int64).reshape(-1, *table.shape)
        return np.column_stack([f(tables) for f in functions])

    return bootstrap.of_sums(function, cells, seed=seed, n_resamples=n_resamples)


def mean_limits(
    values: Floats, strata: NDArray[np.int64], *, seed: int, n_resamples: int
) -> list[Limits]:
    """Return the limits of the mean of each column of values [n, m]."""
    features = np.column_stack([values, np.ones(len(values))])
    return bootstrap.of_sums(
        lambda s: s[:, :-1] / s[:, -1:], features, seed=seed, n_resamples=n_resamples
    )


def weighted_limits(function: OfWeights, n: int, *, seed: int, n_resamples: int) -> list[Limits]:
    """Return the limits of each column of a function of weighted cases."""
    return bootstrap.of_weights(function, n, seed=seed, n_resamples=n_resamples)


def single_case(sizes: NDArray[np.int64]) -> str | None:
    """Return None: drawn with their class, cases of a class vary even where there is one."""
    return None
