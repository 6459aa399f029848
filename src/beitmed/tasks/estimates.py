"""Estimates that several tasks have: of areas, of proportions, and of what was resampled.

groups [n] are the patients of the cases as numbers, or None where no grouping is known. Patients of
one case each are as cases without groups, and only counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import areas, clusters, jackknife
from beitmed.statistics.bootstrap import Limits
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.proportions import mean_of_two_proportions, wilson

_DEGENERATE = "all cases are of one class, or are predicted to be"


def patients(groups: Groups) -> int | None:
    """How many there are."""
    return None if groups is None else int(np.unique(groups).size)


def clustered(groups: Groups) -> Groups:
    """The groups, or None where each case is the only one of its patient."""
    return None if groups is None or patients(groups) == len(groups) else groups


def mean_auc(member: Bools, score: Floats, groups: Groups = None) -> Estimate:
    """The mean AUC of the columns of score [n, k], each of which ranks its own member [n, k]."""
    found, low, high, method = areas.interval(member, score[None], clustered(groups))
    value = float(found.values[0])
    return Estimate(value, low, high, len(score), method, None, patients(groups))


def one_auc(y: Bools, score: Floats, groups: Groups = None, lack: str | None = None) -> Estimate:
    """The AUC of one class (y [n]) that a high score [n] speaks for; undefined without both."""
    if y.all() or not y.any():
        return Estimate.undefined(lack or f"{y.sum()} of {y.size} test cases are of this class")
    return mean_auc(y[:, None], score[:, None], groups)


def bootstrapped(
    value: float,
    limits: Limits,
    n: int,
    groups: Groups = None,
    lack: str | None = None,
    method: str = "BCa bootstrap",
) -> Estimate:
    """A bootstrapped value, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack or _DEGENERATE)
    if isinstance(limits, str):
        return Estimate(value, None, None, n, None, limits, patients(groups))
    return Estimate(value, *limits, n, method, None, patients(groups))


def jackknifed(
    value: float, bias: float, parts: Floats, n: int, groups: Groups, lack: str
) -> Estimate:
    """A share with its jackknife interval, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack)
    limits, count = jackknife.limits(value, parts, "share", bias=bias), patients(groups)
    if limits is None:
        said = "leaving out an image does not change it"
        return Estimate(value, None, None, n, None, said, count)
    # A value far off its interval's centre has a bias as large as that.
    low, high = min(limits[0], value), max(limits[1], value)
    return Estimate(value, low, high, n, "jackknife", None, count)


def proportion(
    hit: Bools, among: Bools, groups: Groups = None, lack: str | None = None
) -> Estimate:
    """The share of hit [n] among these cases [n]; `lack`: why it is undefined where there are none.

    Without several cases of a patient its interval is Wilson's.
    """
    found, own = hit[among], None if groups is None else groups[among]
    if not found.size:
        return Estimate.undefined(lack or "the test set has no case of this class")
    low, high, method = clusters.proportion_limits(found, clustered(own))
    if clustered(own) is None:
        low, high = map(float, wilson(found.sum(), found.size))
    return Estimate(float(found.mean()), low, high, found.size, method, None, patients(own))


def mean_of_proportions(hit: Bools, y: Bools, groups: Groups = None) -> Estimate:
    """The mean of the shares of hit [n] where y [n] is true and where it is false; both occur.

    For two classes without patients of several cases the interval is Newcombe's hybrid score. With
    them each class counts with its effective size, and the two are correlated where a patient has
    cases of both (Zou and Donner 2008, Stat. Med. 27:1693).
    """
    own = clustered(groups)
    counts, correlation = [float(y.sum()), float((~y).sum())], 0.0
    shares = [float(hit[cases].mean()) for cases in (y, ~y)]
    if own is not None:
        code, parts = clusters.codes(own, y.size), []
        for i, cases in enumerate((y, ~y)):
            parts.append(clusters.sums(np.where(cases, hit - shares[i], 0.0), code))
            counts[i] = clusters.effective_size(hit[cases][None], own[cases])
        size = float(np.sqrt((parts[0] @ parts[0]) * (parts[1] @ parts[1])))
        correlation = float(parts[0] @ parts[1]) / size if size > 0 else 0.0
    sides = [(share * n, n) for share, n in zip(shares, counts, strict=True)]
    low, high = mean_of_two_proportions(*sides[0], *sides[1], correlation)
    method = "Newcombe hybrid score" + ("" if own is None else " at effective sizes of patients")
    return Estimate(sum(shares) / 2, low, high, y.size, method, None, patients(groups))


def rate(found: tuple[float, ...], method: str, n: int, groups: Groups = None) -> Estimate:
    """A value and its limits, as they were found; undefined where one is no finite number."""
    value, low, high = found
    if not all(map(math.isfinite, (value, low, high))):
        return Estimate.undefined("it grows without limit on these cases")
    return Estimate(value, min(low, value), max(high, value), n, method, None, patients(groups))


def grouped(groups: NDArray[Any] | Sequence[str] | None, n: int, name: str) -> Groups:
    """Patients as numbers [n]; ValueError where they are not as many as the cases."""
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError(f"{name}: {len(groups)} patients, but {n} cases")
    return clusters.codes(np.asarray(groups), n)
