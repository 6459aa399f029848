"""Any function of weighted cases as a measure: value, bias and contributions by the jackknife.

It serves where no formula is at hand: average precision, and every metric over several seeds and in
pairs, where a bootstrap of both would cost a network's predictions times thousands. It leaves out
one cluster of cases at a time (one case, where none are known), or one of many equal random groups.

Source: Efron and Stein 1981, Ann. Stat. 9:586; the bias is Quenouille's (1956, Biometrika 43:353).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from beitmed.statistics.bootstrap import OfSums, OfWeights
from beitmed.statistics.clusters import Groups, codes, sums
from beitmed.statistics.level import LEVEL, Floats
from beitmed.statistics.spread import Measure, Spread

#: How a measure is transformed for its interval: a share, a correlation, a positive number, or not.
Scale = Literal["share", "correlation", "positive", "plain"]
_PARTS = 500  # that are left out at a time, at most
_BLOCK = 500_000  # elements at a time, of which a measure makes some copies
_EDGE = 1e-3  # a share is kept so far off 0 and 1 before its logit is taken


def of_weights(
    function: OfWeights, n: int, *, groups: Groups = None, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Return values [m], their biases [m] and contributions [m, parts] of a function of weights.

    seed: of the random groups that more than `_PARTS` clusters are put into. A column that is
    undefined without a part takes its whole value there.
    """
    code = codes(groups, n)
    clusters = int(code.max()) + 1
    parts = min(clusters, _PARTS)
    part = code
    if parts < clusters:
        part = np.random.default_rng(seed).permutation(np.arange(clusters) % parts)[code]
    value = function(np.ones((n, 1), np.float32))[0]
    step = max(1, _BLOCK // n)
    less = []
    for start in range(0, parts, step):
        block = np.arange(start, min(start + step, parts))
        less.append(function((part[:, None] != block).astype(np.float32)))
    return _finish(value, np.concatenate(less))


def of_sums(
    function: OfSums, features: Floats, *, groups: Groups = None
) -> tuple[Floats, Floats, Floats]:
    """Return what `of_weights` does, of a function of the sums of features [n, d] over cases."""
    units = sums(features.T, codes(groups, len(features))).T
    total = units.sum(axis=0)
    return _finish(function(total[None])[0], function(total - units))


def _finish(value: Floats, less: Floats) -> tuple[Floats, Floats, Floats]:
    less = np.where(np.isnan(less), value, less).T
    parts, middle = less.shape[1], less.mean(axis=1)
    contributions = (middle[:, None] - less) * np.sqrt((parts - 1) / parts)
    return value, (parts - 1) * (middle - value), contributions


def measure(values: Floats, contributions: Floats, groups: Groups = None) -> Measure:
    """Return the `Measure` of S models from values [S] and contributions [S, parts]."""
    few = np.inf if groups is None else float(contributions.shape[1] - 1)
    return Measure(values, contributions, few)


def limits(
    value: float, contributions: Floats, scale: Scale, *, bias: float = 0.0,
    spread: Spread | None = None,
) -> tuple[float, float] | None:  # fmt: skip
    """Return the interval of a value from its contributions [parts], None where nothing varies.

    The centre is the value less its bias, on a scale that keeps the limits within the range. The t
    quantile has as many degrees of freedom as contributions that matter, (sum |c|)^2 / sum c^2 less
    one; with a `spread` over seeds, Satterthwaite's of both.
    """
    squares = float(np.square(contributions).sum())
    variance = squares if spread is None else spread.variance
    if not variance > 1e-20:
        return None
    df = max(float(np.abs(contributions).sum()) ** 2 / squares - 1, 1.0) if squares > 0 else np.inf
    doubt = squares**2 / df + (0.0 if spread is None else spread.doubt)
    q = float(t.isf((1 - LEVEL) / 2, variance**2 / doubt)) if doubt > 0 else 1.96
    return transformed(value - bias, q * math.sqrt(variance), scale)


def transformed(centre: float, half: float, scale: Scale) -> tuple[float, float]:
    """Return centre -+ half, taken on a scale that keeps the limits within the measure's range.

    A share by its logit, a correlation by Fisher's z, a positive number by its logarithm; half is
    divided by the slope of the scale (the delta method).
    """
    if scale == "plain":
        return centre - half, centre + half
    if scale == "positive":
        centre = max(centre, half * _EDGE)
        return centre * math.exp(-half / centre), centre * math.exp(half / centre)
    if scale == "correlation":
        low, high = transformed((centre + 1) / 2, half / 2, "share")
        return 2 * low - 1, 2 * high - 1
    centre = min(max(centre, _EDGE), 1 - _EDGE)
    stretched = half / (centre * (1 - centre))
    return float(expit(logit(centre) - stretched)), float(expit(logit(centre) + stretched))
