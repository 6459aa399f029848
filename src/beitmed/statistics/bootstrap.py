"""BCa bootstrap intervals: one target and one rule for every metric without a formula.

The target is another test set of as many cases from the same source: cases are drawn at random with
their class, so the class mix varies as it does for the intervals that have a formula. Where cases
come in clusters (the images of a patient), as many clusters are drawn, each with all its cases.

A resample may lack what a value needs, such as a positive case. Such a replicate is drawn again
from the defined ones of its column. A column that is undefined in more than a quarter has no
interval: those that are left are no longer a sample of all.

Source: Efron 1987, J. Am. Stat. Assoc. 82:171; acceleration by the jackknife. The quantiles are
expanded for few cases or clusters as a t quantile is (Hesterberg 2015, Am. Stat. 69:371).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from beitmed.statistics.clusters import Groups, codes, sums
from beitmed.statistics.level import LEVEL, Floats, Ints, Z

Limits = tuple[float, float] | str
#: Sums [b, d] of the cases' features -> values [b, m], NaN where undefined.
OfSums = Callable[[Floats], Floats]
#: Weights [n, b] of cases -> values [b, m], NaN where undefined.
OfWeights = Callable[[NDArray[np.float32]], Floats]
#: Confusion tables [b, k, k] (actual, predicted) -> values [b], NaN where undefined.
OfTable = Callable[[Ints], Floats]
_BLOCK = 2_000_000  # elements at a time
_DRAWS, _FEWEST = 20_000_000, 500
_GROUPS = 250  # of the jackknife of `of_weights`
_ONE = "only one case or patient: resampling cannot vary it"


def of_sums(
    function: OfSums, features: Floats, *, groups: Groups = None, seed: int, n_resamples: int
) -> list[Limits]:
    """Return the limits of each column of a function of the sums of features [n, d] over cases.

    Equal rows are drawn together, as a multinomial sample of the different ones: a confusion table
    of any number of cases costs as little as its cells.
    """
    units = sums(features.T, codes(groups, len(features))).T
    rows, times = np.unique(units, axis=0, return_counts=True)
    n = int(times.sum())
    if n < 2:
        return [_ONE] * function(units).shape[1]
    rng, share, count = np.random.default_rng(seed), times / n, resamples(n, n_resamples)
    if len(rows) * 8 < n:
        boot = rng.multinomial(n, share, n_resamples) @ rows
    else:
        step = max(1, _BLOCK // n)
        rows, times = units, np.ones(n, np.int64)
        blocks = [min(step, count - start) for start in range(0, count, step)]
        boot = np.concatenate([_weights(rng, n, b).T.astype(np.float64) @ rows for b in blocks])
    total = times @ rows
    values = function(total[None])[0], function(boot), function(total - rows), times
    return _columns(*values, _expanded(n), rng)


def of_means(values: Floats, *, groups: Groups = None, seed: int, n_resamples: int) -> list[Limits]:
    """Return the limits of the mean over cases of each column of values [n, m]."""
    features = np.column_stack([values, np.ones(len(values))])
    return of_sums(lambda s: s[:, :-1] / s[:, -1:], features, groups=groups, seed=seed,
                   n_resamples=n_resamples)  # fmt: skip


def of_tables(
    functions: Sequence[OfTable], actual: Ints, predicted: Ints, classes: int, *,
    groups: Groups = None, seed: int, n_resamples: int,
) -> list[Limits]:  # fmt: skip
    """Return the limits of each function of the confusion table of classes [n] and calls [n]."""
    cells = np.eye(classes**2)[actual * classes + predicted]

    def function(sums: Floats) -> Floats:
        tables = np.rint(sums).astype(np.int64).reshape(-1, classes, classes)
        return np.column_stack([f(tables) for f in functions])

    return of_sums(function, cells, groups=groups, seed=seed, n_resamples=n_resamples)


def of_weights(
    function: OfWeights,
    n: int,
    *,
    groups: Groups = None,
    mean: bool = False,
    seed: int,
    n_resamples: int,
    jackknife: int = _GROUPS,
) -> list[Limits]:
    """Return the limits of each column of a function of weighted cases; mean: of their mean too.

    Of many cases fewer resamples are drawn, `resamples(n, n_resamples)`. The jackknife leaves out
    one cluster at a time, or one of that many random equal groups of them. A column that is not
    defined does not count for the mean.
    """
    code = codes(groups, n)
    clusters = int(code.max()) + 1
    value = function(np.ones((n, 1), np.float32))[0]
    if clusters < 2:
        return [_ONE] * (value.size + mean)
    rng, step = np.random.default_rng(seed), max(1, _BLOCK // n)
    count, parts = resamples(n, n_resamples), min(clusters, jackknife)
    part = rng.permutation(np.arange(clusters) % parts)
    boot, less = [], []
    for start in range(0, count, step):
        boot.append(function(_weights(rng, clusters, min(step, count - start))[code]))
    for start in range(0, parts, step):
        block = np.arange(start, min(start + step, parts))
        less.append(function((part[:, None] != block).astype(np.float32)[code]))
    once = np.ones(parts, np.int64)
    values = value, np.concatenate(boot), np.concatenate(less), once
    return _columns(*values, _expanded(clusters), rng, mean)


def resamples(n: int, wanted: int) -> int:
    """Return how many resamples are drawn of n cases: 20 million cases in all, but 500 times.

    So 2,000 of up to 10,000 cases, and 891 of ChestMNIST's 22,433.
    """
    return min(wanted, max(_FEWEST, _DRAWS // n))


def limits(
    value: float, replicates: Floats, jackknife: Floats, times: Ints, quantile: float = Z
) -> Limits:
    """Return the BCa limits, or a reason, from defined replicates [b] and values without a part.

    jackknife [u]: the value without one of the parts of the sample, `times` [u] parts being alike.
    quantile: of the distance to either limit, on the normal scale.
    """
    # Relative, as equal cases in another order sum up to a slightly different value.
    if np.ptp(replicates) <= 1e-12 * abs(value):
        return "the bootstrap resamples do not vary"
    # Ties count one half, as a discrete statistic often equals its own value; and the share is kept
    # off 0 and 1, where a finite number of resamples cannot place it.
    below = (np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    below = np.clip(below, 1 / (2 * replicates.size), 1 - 1 / (2 * replicates.size))
    known = ~np.isnan(jackknife)
    left, weight = jackknife[known], times[known]
    influence = np.average(left, weights=weight) - left if left.size else np.zeros(1)
    squares = float(weight @ influence**2) if left.size else 0.0
    if not squares > 0:
        return "the jackknife gives no acceleration"
    acceleration = float(weight @ influence**3) / (6 * squares**1.5)
    bias = norm.ppf(below)
    tail = bias + np.array([-quantile, quantile])
    stretch = 1 - acceleration * tail
    if stretch.min() <= 0:
        return "the statistic is too skewed for a BCa interval"
    low, high = np.quantile(replicates, norm.cdf(bias + tail / stretch))
    return float(low), float(high)


def _columns(
    value: Floats, boot: Floats, less: Floats, times: Ints, quantile: float,
    rng: np.random.Generator, mean: bool = False,
) -> list[Limits]:  # fmt: skip
    found: list[Limits] = []
    filled = boot.copy()
    for column, own in enumerate(value):
        lacking = np.isnan(boot[:, column])
        defined = boot[~lacking, column]
        if np.isnan(own):
            found.append("undefined")
        elif 4 * lacking.sum() > len(boot):
            found.append(f"undefined in {lacking.sum()} of {len(boot)} bootstrap resamples")
        else:
            found.append(limits(float(own), defined, less[:, column], times, quantile))
        if defined.size:
            filled[lacking, column] = rng.choice(defined, int(lacking.sum()))
    if not mean:
        return found
    there = ~np.isnan(value) & ~np.isnan(filled).any(axis=0)
    if not there.any():
        return [*found, "no column is defined"]
    jackknife = np.where(np.isnan(less), value, less)[:, there].mean(axis=1)
    average = filled[:, there].mean(axis=1)
    return [*found, limits(float(value[there].mean()), average, jackknife, times, quantile)]


def _expanded(n: int) -> float:
    return float(t.isf((1 - LEVEL) / 2, n - 1)) * float(np.sqrt(n / (n - 1)))


def _weights(rng: np.random.Generator, n: int, count: int) -> NDArray[np.float32]:
    """How often each of n units [n, count] was drawn in n draws."""
    drawn = rng.integers(0, n, (count, n)) * count + np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * count).reshape(n, count).astype(np.float32)
