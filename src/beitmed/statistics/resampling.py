"""BCa bootstrap of statistics that need no weights of cases: sums, confusion tables, rankings.

The same intervals as `intervals.bca` gives, for test sets of tens of thousands of cases and many
columns, in seconds and without a matrix of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics.intervals import Floats, bca_limits

Limits = tuple[float, float] | str
#: Confusion tables [b, k, k] (actual, predicted) -> values [b], NaN where undefined.
OfTable = Callable[[NDArray[np.int64]], Floats]
#: Weights [n, b] of cases -> values [b, m], NaN where undefined.
OfWeights = Callable[[NDArray[np.float32]], Floats]
_BLOCK = 2_000_000  # elements at a time
_DRAWS, _FEWEST, _GROUPS = 20_000_000, 500, 250  # of `weighted_limits`


def table_limits(
    functions: Sequence[OfTable], table: NDArray[np.int64], *, seed: int, n_resamples: int
) -> list[Limits]:
    """Return BCa limits of each function of a confusion table [k, k], resampled within classes.

    Drawing n cases of a class with replacement makes their predictions a multinomial draw, so a
    table is resampled without its cases; and leaving out a case changes one of its cells.
    """
    if (reason := single_case(table.sum(axis=1))) is not None:
        return [reason] * len(functions)
    rng, present = np.random.default_rng(seed), np.flatnonzero(table.sum(axis=1))
    boot = np.zeros((n_resamples, *table.shape), np.int64)
    less: list[NDArray[np.int64]] = []  # by class, the tables without one case
    times: list[NDArray[np.int64]] = []  # how many cases each of them stands for
    for c in present:
        size = int(table[c].sum())
        boot[:, c] = rng.multinomial(size, table[c] / size, n_resamples)
        hit = np.flatnonzero(table[c])
        without = np.repeat(table[None], hit.size, axis=0)
        without[np.arange(hit.size), c, hit] -= 1
        less.append(without)
        times.append(table[c, hit])
    return [
        bca_limits(
            float(f(table[None])[0]),
            f(boot),
            [np.repeat(f(one), count) for one, count in zip(less, times, strict=True)],
        )
        for f in functions
    ]


def mean_limits(
    values: Floats, strata: NDArray[np.int64], *, seed: int, n_resamples: int
) -> list[Limits]:
    """Return BCa limits of the mean of each column of values [n, m], resampled within strata [n].

    The jackknife leaves out one case at a time, of however many.
    """
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    if (reason := single_case(np.array([len(g) for g in groups]))) is not None:
        return [reason] * values.shape[1]
    rngs = np.random.default_rng(seed).spawn(len(groups))
    sums = np.zeros((n_resamples, values.shape[1]))
    for members, rng in zip(groups, rngs, strict=True):
        own, step = values[members], max(1, _BLOCK // members.size)
        for start in range(0, n_resamples, step):
            stop = min(start + step, n_resamples)
            drawn = rng.integers(0, members.size, (stop - start, members.size))
            for column in range(values.shape[1]):
                sums[start:stop, column] += own[:, column][drawn].sum(axis=1)
    n, total = len(values), values.sum(axis=0)
    return [
        bca_limits(
            float(total[column] / n),
            sums[:, column] / n,
            [(total[column] - values[members, column]) / (n - 1) for members in groups],
        )
        for column in range(values.shape[1])
    ]


def weighted_limits(function: OfWeights, n: int, *, seed: int, n_resamples: int) -> list[Limits]:
    """Return BCa limits of each column of a function of weighted cases, any n cases being drawn.

    Of many cases fewer resamples are drawn, `resamples(n, n_resamples)`. The jackknife leaves out
    one case at a time, or one of `_GROUPS` random equal groups.
    """
    if n < 2:
        return ["only one case: resampling cannot vary it"] * function(np.ones((n, 1), "f4")).shape[
            1
        ]
    boot_rng, group_rng = np.random.default_rng(seed).spawn(2)
    step = max(1, _BLOCK // n)
    replicates, jackknife, n_resamples = [], [], resamples(n, n_resamples)
    for start in range(0, n_resamples, step):
        count = min(step, n_resamples - start)
        drawn = boot_rng.integers(0, n, (count, n)) * count + np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=n * count).reshape(n, count)
        replicates.append(function(weights.astype(np.float32)))
    groups = min(n, _GROUPS)
    group = group_rng.permutation(np.arange(n) % groups)
    for start in range(0, groups, step):
        block = np.arange(start, min(start + step, groups))
        jackknife.append(function((group[:, None] != block).astype(np.float32)))
    value = function(np.ones((n, 1), np.float32))[0]
    boot, jack = np.concatenate(replicates), np.concatenate(jackknife)
    return [bca_limits(float(v), boot[:, i], [jack[:, i]]) for i, v in enumerate(value)]


def resamples(n: int, wanted: int) -> int:
    """Return how many resamples `weighted_limits` draws: 20 million cases in all, but 500 times.

    So 2,000 of up to 10,000 cases, and 891 of ChestMNIST's 22,433.
    """
    return min(wanted, max(_FEWEST, _DRAWS // n))


def single_case(sizes: NDArray[np.int64]) -> str | None:
    """Return why nothing can be resampled within classes, one of which has a single case."""
    if not (sizes == 1).any():
        return None
    return "a class has a single case: resampling within its class cannot vary it"
