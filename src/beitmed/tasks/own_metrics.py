"""Metrics from outside the package, with 95 % intervals: any function of labels and logits.

The value of a resample is the function called on the resampled rows, so nothing is asked of the
function but a number. The interval is BCa as elsewhere, of cases drawn with their class; a resample
that lacks a class is drawn again. Only the function costs time: scikit-learn's take 1 to 1.6 ms of
a CPU on 156 rows, so 2,000 resamples and the jackknife behind the acceleration take about 3 s. The
jackknife leaves out one of `_GROUPS` random groups instead of one case, where there are more: so it
is at most an eighth of the calls, and a percentile interval would save no more than that. Of many
cases fewer resamples are drawn (`bootstrap.resamples`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beitmed import extension
from beitmed.errors import UserError
from beitmed.statistics import bootstrap
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Floats
from beitmed.tasks import estimates

log = logging.getLogger(__name__)

#: Labels int64 [n], or [n, labels] of 0 and 1 where an image has several, and logits float64
#: [n, classes] -> a finite number, or None where it is undefined. Both arrays are the function's
#: own. It is called on the whole test set and on rows drawn from it, in any number.
OwnMetric = Callable[[NDArray[np.int64], Floats], Any]
_GROUPS = 250  # of the jackknife
_SLOW = 20  # seconds that are told before


def check(functions: Mapping[str, OwnMetric], classes: int, several: bool) -> None:
    """Call each on made-up cases, four of each class. Raises UserError as `estimate` does.

    So a function that does not work is found before anything is trained.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(4 * classes) % classes
    if several:
        labels = (rng.permuted(labels[:, None] == np.arange(classes), axis=0)).astype(np.int64)
    for name, function in functions.items():
        _value(name, function, labels, rng.normal(size=(4 * classes, classes)))


def estimate(
    functions: Mapping[str, OwnMetric],
    labels: NDArray[np.int64],
    logits: Floats,
    groups: Groups = None,
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, Estimate]:
    """Return each metric of the test set by name, with a 95 % interval or a reason.

    Raises UserError that names the metric where its function raises, or returns anything else
    than a finite number or None.
    """
    n, drawn = len(labels), bootstrap.resamples(len(labels), n_resamples)
    values = {name: _value(name, f, labels.copy(), logits.copy()) for name, f in functions.items()}
    defined = {name: functions[name] for name, value in values.items() if not math.isnan(value)}
    limits: dict[str, bootstrap.Limits] = {}
    if defined:
        _tell_time(functions, labels, logits, drawn + min(n, _GROUPS))
        found = bootstrap.of_weights(
            _of_weights(defined, labels, logits), n, groups=estimates.clustered(groups), seed=seed,
            n_resamples=drawn, jackknife=_GROUPS,
        )  # fmt: skip
        limits = dict(zip(defined, found, strict=True))
    method = "BCa bootstrap" + (f", {drawn} resamples" if drawn < n_resamples else "")
    return {
        name: estimates.bootstrapped(
            value,
            limits.get(name, ""),
            n,
            groups,
            "its function gives None for this test set",
            method,
        )
        for name, value in values.items()
    }


def _of_weights(
    functions: Mapping[str, OwnMetric], labels: NDArray[np.int64], logits: Floats
) -> bootstrap.OfWeights:
    classes = np.unique(labels).size

    def of_rows(rows: NDArray[np.intp]) -> list[float]:
        # Few functions are made for a class that is absent: such a resample is undefined.
        if labels.ndim == 1 and np.unique(labels[rows]).size < classes:
            return [math.nan] * len(functions)
        return [_value(name, f, labels[rows], logits[rows]) for name, f in functions.items()]

    def of_weights(weights: NDArray[np.float32]) -> Floats:
        drawn = (np.repeat(np.arange(len(labels)), w) for w in weights.T.astype(np.int64))
        return np.array([of_rows(rows) for rows in drawn])

    return of_weights


def _value(name: str, function: OwnMetric, labels: NDArray[np.int64], logits: Floats) -> float:
    """The function's number, NaN for None."""
    key = f"evaluate.metrics.{name}"
    found = extension.call(key, function, labels, logits)
    if found is None:
        return math.nan
    if not isinstance(found, Real) or isinstance(found, bool | np.bool_):
        raise UserError(
            f"{key}: the function returned {found!r:.60} ({type(found).__name__}); allowed: a "
            "number, or None where it is undefined."
        )
    if not math.isfinite(found):
        raise UserError(
            f"{key}: the function returned {found} for {len(labels)} cases; allowed: a finite "
            "number, or None where it is undefined."
        )
    return float(found)


def _tell_time(
    functions: Mapping[str, OwnMetric], labels: NDArray[np.int64], logits: Floats, calls: int
) -> None:
    for name, function in functions.items():
        started = time.perf_counter()
        _value(name, function, labels.copy(), logits.copy())
        seconds = (time.perf_counter() - started) * calls
        if seconds > _SLOW:
            log.info(
                "%s: its interval takes %d calls of its function, about %.0f s "
                "(evaluate.n_resamples=100 takes less, and is less exact).",
                name, calls, seconds,
            )  # fmt: skip
