"""Cases of two classes under a decision rule, and how their metrics become estimates.

The kinds of metric: "auc", the function gives the area or None; "proportion", (hits, cases); "two
proportions", (hits, cases, hits, cases); "bootstrap" and "jackknife", f(s, weights [b, n]) the
values [b]; "plain", a number without interval; "reference", f(s, generator, count) draws [count],
given by their mean and range; "fitted", a constant without interval. s is a `Scored`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics import areas, bootstrap, jackknife
from beitmed.statistics.estimates import ECE_REASON, REFERENCE, Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.proportions import mean_of_two_proportions, wilson
from beitmed.tasks import estimates
from beitmed.tasks.metric import Metric


@dataclass(frozen=True)
class Scored:
    """Test cases under one decision rule.

    y [n] and predicted [n] are true for the positive class; score [n] is its log odds. `fitted` is
    what the rule was fitted to have (a threshold, a temperature, a prior), on `fitted_n` cases.
    """

    y: Bools
    score: Floats
    predicted: Bools
    fitted: float = math.nan
    fitted_n: int = 0

    def count(self, *, actual: bool | None = None, predicted: bool | None = None) -> int:
        """Return the number of cases with this actual and predicted class; None is either."""
        chosen = np.ones(self.y.size, bool) if actual is None else self.y == actual
        return int((chosen & (True if predicted is None else self.predicted == predicted)).sum())

    @cached_property
    def ranking(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Cases by falling score [n], and the last position of each run of equal scores."""
        order = np.argsort(-self.score, kind="stable")
        return order, np.append(np.flatnonzero(np.diff(self.score[order])), self.y.size - 1)


def estimate_all(
    metrics: Mapping[str, Metric],
    rules: Mapping[str, Scored | str],
    y: Bools,
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, Estimate]:
    """Return the estimate of each metric under its rule; a rule may be the reason for its lack.

    y [n] is true for the positive class. All bootstrapped metrics share their resamples.
    """
    boot = {
        name: partial(metric.function, scored)
        for name, metric in metrics.items()
        if metric.kind == "bootstrap" and isinstance(scored := rules[metric.rule], Scored)
    }
    limits = _limits(boot, y.size, seed, n_resamples)
    result = {}
    for name, metric in metrics.items():
        scored = rules[metric.rule]
        if isinstance(scored, str):
            result[name] = Estimate.undefined(scored)
        elif metric.kind == "bootstrap":
            result[name] = _bootstrapped(metric, scored, limits[name])
        elif metric.kind == "jackknife":
            result[name] = _jackknifed(metric, scored, seed)
        elif metric.kind == "reference":
            draws = metric.function(scored, np.random.default_rng([seed, 1]), n_resamples)
            low, high = np.quantile(draws, [0.025, 0.975]).tolist()
            result[name] = Estimate(float(draws.mean()), low, high, y.size, REFERENCE, None)
        else:
            result[name] = _analytic(metric, scored)
    return result


def _analytic(metric: Metric, s: Scored) -> Estimate:
    """Return the estimate of a metric whose interval, if any, is a formula."""
    result = metric.function(s)
    if metric.kind == "fitted":
        return Estimate(result, None, None, s.fitted_n, None, "a fitted constant")
    if metric.kind == "plain":
        return Estimate(result, None, None, s.y.size, None, ECE_REASON)
    if metric.kind == "auc":
        if result is None:
            return Estimate.undefined(_empty(s))
        low, high, method = areas.auc_interval(s.y, s.score)
        return Estimate(result, low, high, s.y.size, method, None)
    if 0 in result[1::2]:
        return Estimate.undefined(_empty(s))
    if metric.kind == "two proportions":
        low, high = mean_of_two_proportions(*result)
        value = (result[0] / result[1] + result[2] / result[3]) / 2
        return Estimate(value, low, high, s.y.size, "Newcombe hybrid score", None)
    assert metric.kind == "proportion", metric
    hits, cases = result
    low, high = map(float, wilson(hits, cases))
    return Estimate(hits / cases, low, high, cases, "Wilson", None)


def _limits(
    functions: Mapping[str, Callable[[Floats], Floats]], n: int, seed: int, n_resamples: int
) -> dict[str, bootstrap.Limits]:
    def function(weights: NDArray[np.float32]) -> Floats:
        rows = np.ascontiguousarray(weights.T, np.float64)
        return np.column_stack([f(rows) for f in functions.values()])

    if not functions:
        return {}
    found = bootstrap.of_weights(function, n, seed=seed, n_resamples=n_resamples)
    return dict(zip(functions, found, strict=True))


def _jackknifed(metric: Metric, s: Scored, seed: int) -> Estimate:
    def function(weights: NDArray[np.float32]) -> Floats:
        found: Floats = metric.function(s, np.ascontiguousarray(weights.T, np.float64))
        return found[:, None]

    (value,), (bias,), (parts,) = jackknife.of_weights(function, s.y.size, seed=seed)
    return estimates.jackknifed(float(value), float(bias), parts, s.y.size, _empty(s))


def _bootstrapped(metric: Metric, s: Scored, limits: tuple[float, float] | str) -> Estimate:
    value = float(metric.function(s, np.ones((1, s.y.size)))[0])
    if math.isnan(value):
        return Estimate.undefined(_empty(s))
    if isinstance(limits, str):
        return Estimate(value, None, None, s.y.size, None, limits)
    return Estimate(value, *limits, s.y.size, "BCa bootstrap", None)


def _empty(s: Scored) -> str:
    """Return which of the margins of the confusion table are empty."""
    counts = {
        "no positive case": s.count(actual=True),
        "no negative case": s.count(actual=False),
        "no case predicted positive": s.count(predicted=True),
        "no case predicted negative": s.count(predicted=False),
    }
    return "the test set has " + " and ".join(name for name, n in counts.items() if not n)
