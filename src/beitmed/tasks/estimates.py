"""Estimates that several tasks have: of areas, of proportions, and of what was resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import intervals
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.intervals import Floats
from beitmed.statistics.resampling import Limits

_DEGENERATE = "all cases are of one class, or are predicted to be"


def mean_auc(member: NDArray[np.bool_], score: Floats) -> Estimate:
    """The mean AUC of the columns of score [n, k], each of which ranks its own member [n, k]."""
    value, found = (
        intervals.mean_delong(member, score)[0],
        intervals.mean_auc_interval(member, score),
    )
    if isinstance(found, str):
        return Estimate(value, None, None, len(score), None, found)
    return Estimate(value, *found[:2], len(score), found[2], None)


def one_auc(y: NDArray[np.bool_], score: Floats) -> Estimate:
    """The AUC of one class (y [n]) that a high score [n] speaks for; undefined without both."""
    if y.all() or not y.any():
        return Estimate.undefined(f"{y.sum()} of {y.size} test cases are of this class")
    low, high, method = intervals.auc_interval(y, score)
    return Estimate(intervals.delong(y, score)[0], low, high, y.size, method, None)


def bootstrapped(
    value: float, limits: Limits, n: int, lack: str | None = None, method: str = "BCa bootstrap"
) -> Estimate:
    """A bootstrapped value, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack or _DEGENERATE)
    if isinstance(limits, str):
        return Estimate(value, None, None, n, None, limits)
    return Estimate(value, *limits, n, method, None)


def proportion(hits: int, cases: int) -> Estimate:
    if not cases:
        return Estimate.undefined("the test set has no case of this class")
    low, high = map(float, intervals.wilson(hits, cases))
    return Estimate(float(hits / cases), low, high, int(cases), "Wilson", None)
