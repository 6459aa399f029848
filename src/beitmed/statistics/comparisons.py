"""Variants of an experiment compared in pairs on the same test images, over one or more seeds.

A variant is named; its array has a row for each training seed. Every pair of variants gets the
difference first less second, in the order of the names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from beitmed.statistics.intervals import LEVEL, Bools, Floats
from beitmed.statistics.seeds import (
    TEST_AND_SEEDS,
    TEST_ONLY,
    Spread,
    accuracy_spread,
    auc_spread,
    degrees,
    one_class,
)

Pair = tuple[str, str]
Seeds = Mapping[str, Sequence[int]]
Indices = NDArray[np.intp]
Ints = NDArray[np.integer]
#: A variance below this share of the two variants' own is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """First less second variant: the difference, its 95 % interval and a two-sided p.

    `covers` is the sources of variation in the interval, `p_covers` those in p. `interval` and
    `test` name the methods. Of accuracies, `p_models` is an exact p that takes the models as
    trained, and `only_first` and `only_second` count the images that one variant alone gets right
    (one seed each). What is undefined is None and `reason` says why; it also says why p is 1 where
    nothing varies.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    covers: str | None
    p_covers: str | None
    interval: str | None
    test: str | None
    reason: str | None
    only_first: int | None = None
    only_second: int | None = None
    p_models: float | None = None

    def __post_init__(self) -> None:
        known = [x for x in (self.value, self.low, self.high, self.p) if x is not None]
        assert all(map(math.isfinite, known)), self
        assert (self.low is None) == (self.high is None) == (self.interval is None), self
        assert (self.interval is None) == (self.covers is None), self
        assert (self.p is None) == (self.p_covers is None) == (self.test is None), self
        assert self.reason is not None or None not in (self.value, self.low, self.p), self


def auc_differences(
    y: Bools, scores: Mapping[str, Floats], seeds: Seeds | None = None
) -> dict[Pair, Difference]:
    """Return the difference of the mean AUCs of each pair of variants.

    y [n] is true for the positive class, of which the scores [S, n] are log odds; `seeds` names
    the rows of each. The variance is DeLong's for paired curves (1988, Biometrics 44:837), of the
    placements averaged over seeds, plus what training adds (`_from_seeds`). Interval and p are
    Wald's with a t quantile, which is the normal one for single seeds.
    """
    names = list(combinations(scores, 2))
    reason = one_class(y)
    if reason:
        lacking = Difference(None, None, None, None, None, None, None, None, reason)
        return dict.fromkeys(names, lacking)
    if not names:
        return {}
    spreads, pos, neg = zip(*(auc_spread(y, s) for s in scores.values()), strict=True)
    first, second = np.triu_indices(len(spreads), 1)
    mean = np.array([spread.values.mean() for spread in spreads])
    value = mean[first] - mean[second]
    variance, df = np.full(first.size, np.nan), np.full(first.size, np.inf)
    if min(y.sum(), (~y).sum()) > 1:
        covariance = _covariance(np.stack([v.mean(axis=0) for v in pos]))
        covariance += _covariance(np.stack([v.mean(axis=0) for v in neg]))
        own = np.diag(covariance)[first] + np.diag(covariance)[second]
        test = _difference(covariance, first, second)
        test = np.where(test > _ROUNDING * own, test, 0)

        def of_seed(members: Sequence[int], row: int) -> Floats:
            parts = ([v[m][row] for m in members] for v in (pos, neg))
            return np.asarray(sum(_covariance(np.stack(part)) for part in parts))

        variance, df = _from_seeds(spreads, test, list(seeds.values()) if seeds else None, of_seed)
    half = t.isf((1 - LEVEL) / 2, df) * np.sqrt(variance)
    # Without variance the ratio is not used (see `_auc_difference`).
    ratio = np.abs(value) / np.sqrt(np.where(variance > 0, variance, 1))
    columns = [x.tolist() for x in (value, half, 2 * t.sf(ratio, df))]
    covers = _covers(spreads, first, second)
    rows = zip(names, *columns, covers, strict=True)
    return {pair: _auc_difference(*row) for pair, *row in rows}


def _auc_difference(value: float, half: float, p: float, covers: str) -> Difference:
    if half > 0:
        low, high = max(value - half, -1.0), min(value + half, 1.0)
        return Difference(value, low, high, p, covers, covers, "DeLong", "DeLong", None)
    if math.isnan(half):
        reason = "DeLong's variance needs two images of each class"
    elif abs(value) < _ROUNDING:
        reason = "the two rank the test images alike, so nothing varies"
        return Difference(0.0, None, None, 1.0, None, TEST_ONLY, None, "DeLong", reason)
    else:
        reason = "the difference is the same for every test image, so it has no variance"
    return Difference(value, None, None, None, None, None, None, None, reason)


def accuracy_differences(
    correct: Mapping[str, Bools], seeds: Seeds | None = None
) -> dict[Pair, Difference]:
    """Return the difference of the mean accuracies of each pair of variants.

    correct [S, n] is true where a seed's model is right; `seeds` names the rows of each. The
    interval is the adjusted Wald one of Bonett and Price 2012, J. Educ. Behav. Stat. 37:479: two
    images are added, one that only the first variant gets right and one that only the second does.
    For several seeds an image counts with its difference of mean correctness, and what training
    adds (`_from_seeds`) joins the variance, with a t quantile.
    p is McNemar's exact one for single seeds, else that of the interval. `p_models` is `sign_flip`
    at any number of seeds (at the least common multiple of two different ones, so these should be
    small): of variants that differ by nothing but their seeds it calls far more than 5 % different
    where training moves accuracy as much as the test images do (simulated at 156 images and 3
    seeds: 20 %), so it says nothing about what another training would give.
    """
    names = list(combinations(correct, 2))
    if not names:
        return {}
    spreads = [accuracy_spread(c) for c in correct.values()]
    first, second = np.triu_indices(len(spreads), 1)
    counts = np.array([len(c) for c in correct.values()])
    hits = np.stack([c.sum(axis=0) for c in correct.values()])
    share, total = hits / counts[:, None], hits.sum(axis=1) / counts
    n, summed, gram = hits.shape[1], total[first] - total[second], share @ share.T
    squares = np.diag(gram)[first] + np.diag(gram)[second] - 2 * gram[first, second] + 2
    centre = summed / (n + 2)
    test = (squares / (n + 2) - centre**2) / (n + 2)
    rows_of = list(correct.values())

    def of_seed(members: Sequence[int], row: int) -> Floats:
        return np.cov(np.stack([rows_of[m][row] for m in members]), bias=True) / n

    variance, df = _from_seeds(spreads, test, list(seeds.values()) if seeds else None, of_seed)
    half = t.isf((1 - LEVEL) / 2, df) * np.sqrt(variance)
    limits = np.maximum(centre - half, -1).tolist(), np.minimum(centre + half, 1).tolist()
    wald = 2 * t.sf(np.abs(centre) / np.sqrt(variance), df)
    covers = _covers(spreads, first, second)
    columns = [(summed / n).tolist(), *limits, wald.tolist(), covers]
    rows = zip(names, *columns, first, second, strict=True)
    result = {}
    for pair, value, low, high, p, covered, a, b in rows:
        common = math.lcm(counts[a], counts[b])
        d = hits[a] * (common // counts[a]) - hits[b] * (common // counts[b])
        single, p_models = common == 1, sign_flip(d)
        result[pair] = Difference(
            value, low, high, p_models if single else p, covered, covered,
            interval="Bonett-Price" if single else "Bonett-Price over seeds",
            test="exact McNemar" if single else "Bonett-Price over seeds",
            reason=None if d.any() else "no test image tells the two apart, so p is 1 untested",
            only_first=int((d > 0).sum()) if single else None,
            only_second=int((d < 0).sum()) if single else None,
            p_models=p_models,
        )  # fmt: skip
    return result


def sign_flip(d: Ints) -> float:
    """Return the exact two-sided p of sum(d) if each integer difference d [n] may change its sign.

    The 2^n assignments of signs are equally likely where neither variant is better on the drawn
    images (Fisher's randomisation test); with every |d| equal it is McNemar's exact test. It
    covers the draw of test images, the models as trained. The distribution comes from its
    characteristic function, a product of cosines, by one inverse FFT (Pagano and Tritchler 1983,
    J. Am. Stat. Assoc. 78:435); p is exact to about 1e-14 absolutely, not relatively.
    """
    observed = abs(int(d.sum()))
    if not observed:
        return 1.0
    divisor = int(np.gcd.reduce(d))
    times = np.bincount(np.abs(d) // divisor)
    times[0] = 0
    # The flipped sizes add up to 0..total; as or more extreme than observed are two equal tails.
    total = int(times @ np.arange(times.size))
    length, tail = total + 1, (total - observed // divisor) // 2
    k = np.arange(length // 2 + 1)
    angle = np.pi * k / length
    # exp(-i angle total) without the large argument, which would cost digits.
    spectrum = np.where(k % 2, -1.0, 1.0) * np.exp(1j * angle)
    for size in np.flatnonzero(times).tolist():
        spectrum *= np.cos(size * angle) ** times[size]
    p = 2 * float(np.fft.irfft(spectrum, length)[: tail + 1].sum())
    # At the least the observed signs and their mirror image; rounding may leave less.
    return min(1.0, max(p, 2.0 ** (1 - int(times.sum()))))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p values adjusted for their number (Holm 1979, Scand. J. Stat. 6:65).

    An undefined one stays None and does not count.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, (len(order) - rank) * p)
        adjusted[i] = min(1.0, largest)
    return adjusted


def resolution(differences: Iterable[Difference]) -> float | None:
    """Return the half width of the median interval, None where no difference has one.

    A smaller difference would not have been told from none. A true one of just this size is found
    (p < 0.05) about half the time; 1.43 times it is needed to find it in 80 %.
    """
    pairs = [(x.low, x.high) for x in differences]
    halves = [(high - low) / 2 for low, high in pairs if low is not None and high is not None]
    return float(np.median(halves)) if halves else None


def _covariance(v: Floats) -> Floats:
    """Return the covariance of the means of the rows of v [variants, n]."""
    centred = v - v.mean(axis=1, keepdims=True)
    n = v.shape[1]
    return np.asarray(centred @ centred.T / ((n - 1) * n))


def _difference(covariance: Floats, i: Indices, j: Indices) -> Floats:
    own = np.diag(covariance)
    return np.asarray(own[i] + own[j] - 2 * covariance[i, j])


def _from_seeds(
    spreads: Sequence[Spread],
    test: Floats,
    seeds: Sequence[Sequence[int]] | None,
    of_seed: Callable[[Sequence[int], int], Floats],
) -> tuple[Floats, Floats]:
    """Return, for each pair, the whole variance and its degrees of freedom.

    test [pairs]: the variance over test images. of_seed: the covariance over test images between
    some variants' models of one seed. Variants of the same seeds share what a seed fixes (first
    weights, order of the images), so their differences by seed are taken as one sample
    (`Spread.of`); others count as drawn independently. At least the fewest seeds less one degrees
    of freedom, as in Hillis 2007.
    """
    first, second = np.triu_indices(len(spreads), 1)
    seed = np.array([spread.seed for spread in spreads])
    doubt = np.array([spread.doubt for spread in spreads])
    extra, doubts = seed[first] + seed[second], doubt[first] + doubt[second]
    size = np.array([spread.values.size for spread in spreads], np.float64)
    size[size == 1] = np.inf
    least = np.minimum(size[first], size[second]) - 1
    place = np.zeros((len(spreads),) * 2, np.intp)
    place[first, second] = np.arange(first.size)
    for members in _of_the_same_seeds(seeds or []):
        values = np.stack([spreads[m].values for m in members])
        each = np.stack([of_seed(members, row) for row in range(values.shape[1])])
        i, j = np.triu_indices(len(members), 1)
        pairs = place[np.asarray(members)[i], np.asarray(members)[j]]
        for pair, a, b in zip(pairs.tolist(), i.tolist(), j.tolist(), strict=True):
            alone = each[:, a, a] + each[:, b, b] - 2 * each[:, a, b]
            spread = Spread.of(values[a] - values[b], alone, float(test[pair]))
            extra[pair], doubts[pair] = spread.seed, spread.doubt
    variance = test + extra
    return variance, np.maximum(degrees(variance, doubts), least)


def _of_the_same_seeds(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, names in enumerate(seeds):
        if len(names) > 1:
            groups.setdefault(tuple(names), []).append(i)
    return [members for members in groups.values() if len(members) > 1]


def _covers(
    spreads: Sequence[Spread], first: NDArray[np.intp], second: NDArray[np.intp]
) -> list[str]:
    several = np.array([spread.values.size > 1 for spread in spreads])
    text = {
        (True, True): TEST_AND_SEEDS,
        (True, False): f"{TEST_AND_SEEDS} of the first only",
        (False, True): f"{TEST_AND_SEEDS} of the second only",
        (False, False): TEST_ONLY,
    }
    return [
        text[pair] for pair in zip(several[first].tolist(), several[second].tolist(), strict=True)
    ]
