"""Cases of two classes under a decision rule, and how their metrics become estimates.

The kinds of metric: "auc", the function gives the scores [n] that rank; "proportion", hits [n] and
the cases [n] that they are shares of; "two proportions", hits [n] of either class; "bootstrap" and
"jackknife", f(s, weights [b, n]) the values [b]; "fitted", a constant without interval;
"estimate", the estimate itself. s is a `Scored`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import areas, bootstrap, jackknife
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import estimates
from beitmed.tasks.metric import Metric


@dataclass(frozen=True)
class Scored:
    """Test cases under one decision rule.

    y [n] and predicted [n] are true for the positive class; score [n] is its log odds; groups [n]
    are the patients, where known. `fitted` is what the rule was fitted to have (a threshold, a
    temperature, what a module of `statistics` gives), on `fitted_n` cases of `fitted_groups`
    patients.
    """

    y: Bools
    score: Floats
    predicted: Bools
    groups: Groups = None
    fitted: Any = math.nan
    fitted_n: int = 0
    fitted_groups: int | None = None

    def count(self, *, actual: bool | None = None, predicted: bool | None = None) -> int:
        """Return the number of cases with this actual and predicted class; None is either."""
        chosen = np.ones(self.y.size, bool) if actual is None else self.y == actual
        return int((chosen & (True if predicted is None else self.predicted == predicted)).sum())

    @cached_property
    def clustered(self) -> Groups:
        return estimates.clustered(self.groups)

    @cached_property
    def ranked(self) -> Floats:
        """The scores, those tied that only rounding keeps apart."""
        return areas.restore_ties(self.score)

    @cached_property
    def ranking(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Cases by falling score [n], and the last position of each run of equal scores."""
        order = np.argsort(-self.ranked, kind="stable")
        return order, np.append(np.flatnonzero(np.diff(self.ranked[order])), self.y.size - 1)


def estimate_all(
    metrics: Mapping[str, Metric],
    rules: Mapping[str, Scored | str],
    y: Bools,
    groups: Groups = None,
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, Estimate]:
    """Return the estimate of each metric under its rule; a rule may be the reason for its lack.

    y [n] is true for the positive class, groups [n] are the patients. All bootstrapped metrics
    share their resamples.
    """
    boot = {
        name: partial(metric.function, scored)
        for name, metric in metrics.items()
        if metric.kind == "bootstrap" and isinstance(scored := rules[metric.rule], Scored)
    }
    limits = _limits(boot, y.size, estimates.clustered(groups), seed, n_resamples)
    result = {}
    for name, metric in metrics.items():
        scored = rules[metric.rule]
        if isinstance(scored, str):
            result[name] = Estimate.undefined(scored)
        elif metric.kind == "bootstrap":
            value = float(metric.function(scored, np.ones((1, scored.y.size)))[0])
            result[name] = estimates.bootstrapped(
                value, limits[name], scored.y.size, scored.groups, _empty(scored)
            )
        elif metric.kind == "jackknife":
            result[name] = _jackknifed(metric, scored, seed)
        else:
            result[name] = _analytic(metric, scored)
    return result


def _analytic(metric: Metric, s: Scored) -> Estimate:
    """Return the estimate of a metric whose interval, if any, is a formula."""
    result = metric.function(s)
    if metric.kind == "estimate":
        assert isinstance(result, Estimate), metric
        return result
    if metric.kind == "fitted":
        said = "a fitted constant"
        return Estimate(result, None, None, s.fitted_n, None, said, s.fitted_groups)
    if metric.kind == "auc":
        return estimates.one_auc(s.y, result, s.groups, _empty(s))
    if metric.kind == "two proportions":
        if s.y.all() or not s.y.any():
            return Estimate.undefined(_empty(s))
        return estimates.mean_of_proportions(result, s.y, s.groups)
    assert metric.kind == "proportion", metric
    hit, among = result
    return estimates.proportion(hit, among, s.groups, _empty(s))


def _limits(
    functions: Mapping[str, Callable[[Floats], Floats]],
    n: int,
    groups: Groups,
    seed: int,
    n_resamples: int,
) -> dict[str, bootstrap.Limits]:
    def function(weights: NDArray[np.float32]) -> Floats:
        rows = np.ascontiguousarray(weights.T, np.float64)
        return np.column_stack([f(rows) for f in functions.values()])

    if not functions:
        return {}
    found = bootstrap.of_weights(function, n, groups=groups, seed=seed, n_resamples=n_resamples)
    return dict(zip(functions, found, strict=True))


def _jackknifed(metric: Metric, s: Scored, seed: int) -> Estimate:
    def function(weights: NDArray[np.float32]) -> Floats:
        found: Floats = metric.function(s, np.ascontiguousarray(weights.T, np.float64))
        return found[:, None]

    n = s.y.size
    found = jackknife.of_weights(function, n, groups=s.clustered, seed=seed)
    (value,), (bias,), (parts,) = found
    return estimates.jackknifed(float(value), float(bias), parts, n, s.groups, _empty(s))


def _empty(s: Scored) -> str:
    """Return which of the margins of the confusion table are empty."""
    counts = {
        "no positive case": s.count(actual=True),
        "no negative case": s.count(actual=False),
        "no case predicted positive": s.count(predicted=True),
        "no case predicted negative": s.count(predicted=False),
    }
    return "the test set has " + " and ".join(name for name, n in counts.items() if not n)
