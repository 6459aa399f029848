"""Estimates that several tasks have: of areas, of proportions, and of what was resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import areas, jackknife
from beitmed.statistics.bootstrap import Limits
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Floats
from beitmed.statistics.proportions import wilson

_DEGENERATE = "all cases are of one class, or are predicted to be"


def mean_auc(member: NDArray[np.bool_], score: Floats) -> Estimate:
    """The mean AUC of the columns of score [n, k], each of which ranks its own member [n, k]."""
    found, low, high, method = areas.interval(member, score[None])
    return Estimate(float(found.values[0]), low, high, len(score), method, None)


def one_auc(y: NDArray[np.bool_], score: Floats) -> Estimate:
    """The AUC of one class (y [n]) that a high score [n] speaks for; undefined without both."""
    if y.all() or not y.any():
        return Estimate.undefined(f"{y.sum()} of {y.size} test cases are of this class")
    return mean_auc(y[:, None], score[:, None])


def bootstrapped(
    value: float, limits: Limits, n: int, lack: str | None = None, method: str = "BCa bootstrap"
) -> Estimate:
    """A bootstrapped value, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack or _DEGENERATE)
    if isinstance(limits, str):
        return Estimate(value, None, None, n, None, limits)
    return Estimate(value, *limits, n, method, None)


def jackknifed(value: float, bias: float, parts: Floats, n: int, lack: str) -> Estimate:
    """A share with its jackknife interval, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack)
    limits = jackknife.limits(value, parts, "share", bias=bias)
    if limits is None:
        return Estimate(value, None, None, n, None, "leaving out an image does not change it")
    # A value far off its interval's centre has a bias as large as that.
    return Estimate(value, min(limits[0], value), max(limits[1], value), n, "jackknife", None)


def proportion(hits: int, cases: int) -> Estimate:
    if not cases:
        return Estimate.undefined("the test set has no case of this class")
    low, high = map(float, wilson(hits, cases))
    return Estimate(float(hits / cases), low, high, int(cases), "Wilson", None)
