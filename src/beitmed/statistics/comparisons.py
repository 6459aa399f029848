"""Variants of an experiment compared in pairs on the same test images, over one or more seeds.

A variant is named; its array has a row for each training seed. Every pair of variants gets the
difference first less second, in the order of the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from beitmed.statistics import areas, clusters
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import LEVEL, Bools, Floats
from beitmed.statistics.paired import Seeds, pair_variances
from beitmed.statistics.randomisation import sign_flip
from beitmed.statistics.seeds import TEST_AND_SEEDS, TEST_ONLY, accuracy_measure, one_class
from beitmed.statistics.spread import Measure, Spread

Pair = tuple[str, str]
#: A variance below this share of the two variants' own is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """First less second variant: the difference, its 95 % interval and a two-sided p.

    `covers` is the sources of variation in the interval, `p_covers` those in p. `interval` and
    `test` name the methods; p is below 0.05 where the interval excludes 0. Both come from `centre`
    (the difference, of accuracies a little nearer 0), `se` and `df`. Of accuracies, `p_models` is
    an exact p that takes the models as trained and the images as independent, and `only_first` and
    `only_second` count the images that one variant alone gets right (one seed each). What is
    undefined is None and `reason` says why; it also says why p is 1 where nothing varies.
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
    centre: float | None = None
    se: float | None = None
    df: float | None = None

    def __post_init__(self) -> None:
        known = [x for x in (self.value, self.low, self.high, self.p) if x is not None]
        assert all(map(math.isfinite, known)), self
        assert (self.low is None) == (self.high is None) == (self.interval is None), self
        assert (self.interval is None) == (self.covers is None), self
        assert (self.p is None) == (self.p_covers is None) == (self.test is None), self
        assert self.reason is not None or None not in (self.value, self.low, self.p), self

    @classmethod
    def undefined(cls, reason: str, value: float | None = None) -> Difference:
        """Return a difference that has no interval and no p."""
        return cls(value, None, None, None, None, None, None, None, reason)


def auc_differences(
    y: Bools, scores: Mapping[str, Floats], seeds: Seeds | None = None, groups: Groups = None
) -> dict[Pair, Difference]:
    """Return the difference of the mean AUCs over seeds of each pair of variants.

    y [n] is true for the positive class, of which the scores [S, n] are log odds; `seeds` names
    the rows of each, `groups` [n] the patients. The variance is DeLong's for paired curves (1988,
    Biometrics 44:837), of patients Obuchowski's (1997, Biometrics 53:567). The quantile is the
    normal one for patients as for images: with as few as 40, of AUC 0.9, the test is conservative
    as it is (simulated: 2 to 4 %).
    """
    reason = one_class(y)
    if reason:
        return dict.fromkeys(combinations(scores, 2), Difference.undefined(reason))
    columns = {name: s[:, :, None] for name, s in scores.items()}
    return mean_auc_differences(y[:, None], columns, seeds, groups)


def mean_auc_differences(
    member: Bools, scores: Mapping[str, Floats], seeds: Seeds | None = None, groups: Groups = None
) -> dict[Pair, Difference]:
    """Return what `auc_differences` does of the mean AUC over classes or labels.

    member [n, k] and scores [S, n, k] as in `areas.mean_auc`; a class or label may be absent.
    """
    if (member.all(axis=0) | ~member.any(axis=0)).any():
        reason = "a class lacks a positive or a negative test image"
        return dict.fromkeys(combinations(scores, 2), Difference.undefined(reason))
    measures = {name: areas.mean_auc(member, s, groups) for name, s in scores.items()}
    return differences(measures, seeds, "DeLong", bound=1.0)


def differences(
    measures: Mapping[str, Measure], seeds: Seeds | None, method: str, bound: float = math.inf
) -> dict[Pair, Difference]:
    """Return the difference of the means over seeds of each pair of measures of the same images.

    The variance is that of the differences of the contributions, averaged over seeds, plus what
    training adds (`pair_variances`). Interval and p are Wald's with a t quantile, which is the
    normal one for single seeds of independent images. bound: the largest possible difference.
    """
    names = list(combinations(measures, 2))
    if not names:
        return {}
    spreads = [m.spread() for m in measures.values()]
    first, second = np.triu_indices(len(spreads), 1)
    mean = np.array([spread.values.mean() for spread in spreads])
    value = mean[first] - mean[second]
    rows = np.stack([m.contributions.mean(axis=0) for m in measures.values()])
    gram = rows @ rows.T
    own = np.diag(gram)[first] + np.diag(gram)[second]
    test = own - 2 * gram[first, second]
    test = np.where(test > _ROUNDING * own, test, np.where(np.isnan(test), np.nan, 0))
    variance, df = pair_variances(list(measures.values()), spreads, test, seeds)
    se = np.sqrt(variance)
    half = t.isf((1 - LEVEL) / 2, df) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(value) / se, df)
    columns = (value, se, df, np.maximum(value - half, -bound), np.minimum(value + half, bound), p)
    found = zip(names, *(x.tolist() for x in columns), _covers(spreads, first, second), strict=True)
    return {pair: _wald(*numbers, method=method) for pair, *numbers in found}


def _wald(
    value: float, se: float, df: float, low: float, high: float, p: float, covers: str, *,
    method: str,
) -> Difference:  # fmt: skip
    if se > 0:
        return Difference(
            value, low, high, p, covers, covers, method, method, None, centre=value, se=se, df=df
        )
    if math.isnan(se):
        return Difference.undefined("its variance needs two images (patients) of each class", value)
    if abs(value) < _ROUNDING:
        reason = "the two are alike on every test image, so nothing varies"
        return Difference(0.0, None, None, 1.0, None, TEST_ONLY, None, method, reason)
    reason = "the difference is the same for every test image, so it has no variance"
    return Difference.undefined(reason, value)


def accuracy_differences(
    correct: Mapping[str, Bools], seeds: Seeds | None = None, groups: Groups = None
) -> dict[Pair, Difference]:
    """Return the difference of the mean accuracies of each pair of variants.

    correct [S, n] is true where a seed's model is right; `seeds` names the rows of each, `groups`
    [n] the patients. Interval and p are the adjusted Wald ones of Bonett and Price 2012, J. Educ.
    Behav. Stat. 37:479: two images are added, one that only the first variant gets right and one
    that only the second does. For several seeds an image counts with its difference of mean
    correctness, and what training adds (`pair_variances`) joins the variance, with a t quantile;
    the images of a patient are added up before they are squared.
    `p_models` is `sign_flip` at any number of seeds (at the least common multiple of two different
    ones, so these should be small), which is McNemar's exact test for single seeds: of variants
    that differ by nothing but their seeds it calls far more than 5 % different where training moves
    accuracy as much as the test images do (simulated at 156 images and 3 seeds: 20 %), so it says
    nothing about what another training would give.
    """
    names = list(combinations(correct, 2))
    if not names:
        return {}
    measures = [accuracy_measure(c, groups) for c in correct.values()]
    spreads = [m.spread() for m in measures]
    first, second = np.triu_indices(len(spreads), 1)
    counts = np.array([len(c) for c in correct.values()])
    hits = np.stack([c.sum(axis=0) for c in correct.values()])
    n, share = hits.shape[1], hits / counts[:, None]
    value = (share.sum(axis=1)[first] - share.sum(axis=1)[second]) / n
    centre = value * n / (n + 2)
    test = _bonett_price(share, centre, first, second, groups)
    variance, df = pair_variances(measures, spreads, test, seeds)
    se = np.sqrt(variance)
    half = t.isf((1 - LEVEL) / 2, df) * se
    columns = (value, np.maximum(centre - half, -1), np.minimum(centre + half, 1),
               2 * t.sf(np.abs(centre) / se, df), centre, se, df)  # fmt: skip
    rows = zip(names, *(x.tolist() for x in columns), _covers(spreads, first, second), strict=True)
    exact = _exact(hits, counts, first, second)
    result = {}
    for (pair, v, low, high, p, c, s, d, said), one in zip(rows, exact, strict=True):
        single = one.only_first is not None
        method = "Bonett-Price" if single else "Bonett-Price over seeds"
        result[pair] = Difference(
            v, low, high, p, said, said, method, method,
            None if one.told else "no test image tells the two apart, so p is 1 untested",
            one.only_first, one.only_second, one.p, c, s, d,
        )  # fmt: skip
    return result


@dataclass(frozen=True)
class _Exact:
    """`sign_flip` of a pair; told: whether an image tells the two apart. The counts: see there."""

    p: float
    told: bool
    only_first: int | None = None
    only_second: int | None = None


def _exact(
    hits: NDArray[np.intp], counts: NDArray[np.intp], first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> Iterator[_Exact]:  # fmt: skip
    """Yield the exact test of each pair, from right models by image hits [variants, n] of counts.

    That of single seeds depends on two numbers alone, which many pairs have in common.
    """
    right = (hits > 0).astype(np.float64)
    alone = np.rint(right @ (1 - right).T).astype(np.int64)
    known: dict[tuple[int, int], _Exact] = {}
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        common = math.lcm(int(counts[a]), int(counts[b]))
        if common > 1:
            each = hits[a] * (common // counts[a]) - hits[b] * (common // counts[b])
            yield _Exact(sign_flip(each), bool(each.any()))
            continue
        only = int(alone[a, b]), int(alone[b, a])
        if only not in known:
            known[only] = _Exact(sign_flip(np.repeat([1, -1], only)), sum(only) > 0, *only)
        yield known[only]


def _bonett_price(
    share: Floats, centre: Floats, i: NDArray[np.intp], j: NDArray[np.intp], groups: Groups
) -> Floats:
    """The variance over test images of each pair's difference of shares [variants, n]."""
    n = share.shape[1]
    code = clusters.codes(groups, n)
    rows, sizes = clusters.sums(share, code), np.bincount(code).astype(np.float64)
    gram, along = rows @ rows.T, rows @ sizes
    squares = np.diag(gram)[i] + np.diag(gram)[j] - 2 * gram[i, j]
    squares += centre**2 * (sizes @ sizes) - 2 * centre * (along[i] - along[j])
    total = sizes.size
    factor = 1.0 if groups is None or total < 2 else total / (total - 1)
    return np.asarray((np.maximum(squares, 0) * factor + 2 * (1 + centre**2)) / (n + 2) ** 2)


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


def simultaneous(found: Sequence[Difference]) -> list[tuple[float, float] | None]:
    """Return intervals of all differences at once, beside `holm`'s p; None where there is none.

    Bonferroni's, the one simple family of intervals that holds all truths together in 95 %. They
    are a little wider than Holm's p: one may hold 0 where the adjusted p is below 0.05.
    """
    count = max(sum(d.p is not None for d in found), 1)
    known = [d for d in found if None not in (d.centre, d.se, d.df)]
    centre, se, df = np.array([(d.centre, d.se, d.df) for d in known], np.float64).reshape(-1, 3).T
    half = t.isf((1 - LEVEL) / 2 / count, df) * se
    low, high = np.maximum(centre - half, -1).tolist(), np.minimum(centre + half, 1).tolist()
    limits = iter(zip(low, high, strict=True))
    return [None if None in (d.centre, d.se, d.df) else next(limits) for d in found]


def against(found: Mapping[Pair, Difference], reference: str) -> dict[str, Difference]:
    """Return the differences of every other variant less the reference, planned comparisons.

    They are adjusted (`holm`, `simultaneous`) for their own number alone.
    """
    return {
        (b if a == reference else a): _turned(d) if a == reference else d
        for (a, b), d in found.items()
        if reference in (a, b)
    }


def _turned(d: Difference) -> Difference:
    def minus(x: float | None) -> float | None:
        return None if x is None else -x

    covers = [
        c and c.replace("first", "-").replace("second", "first").replace("-", "second")
        for c in (d.covers, d.p_covers)
    ]
    return replace(
        d, value=minus(d.value), low=minus(d.high), high=minus(d.low), centre=minus(d.centre),
        covers=covers[0], p_covers=covers[1],
        only_first=d.only_second, only_second=d.only_first,
    )  # fmt: skip


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
