"""How far predicted probabilities can be trusted: calibration error, slope, intercept, bins.

Two calibration errors have names of their own. That of the positive class bins its probability
(Naeini et al. 2015, AAAI, 2901); that of the top label bins the probability of the class that was
chosen against whether it is right (Guo et al. 2017, ICML). Both are given here as root mean
squares, of which the sampling error can be taken away; a mean of absolute gaps keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax, softmax
from scipy.stats import rankdata, t

from beitmed.statistics.clusters import Groups, codes, proportion_limits, sums, unbiased
from beitmed.statistics.level import LEVEL, Bools, Floats, Ints, Z

BINS = 15
_RIDGE = 1e-6
_ROUNDING = 1e-12  # of logits, relative


@dataclass(frozen=True)
class CalibrationError:
    """Root mean squared gap between probabilities and outcomes, free of sampling bias.

    `value` is 0 where the gaps are no larger than chance makes them; [low, high] covers 95 %.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recalibration:
    """Intercept and slope of the outcomes' log odds on the predicted ones, with 95 % limits.

    A calibrated model has slope 1 (below 1: too extreme), intercept 0 beside that slope, and
    calibration in the large 0 (`large`, the intercept at slope 1: above 0, cases are more often
    positive than predicted).
    """

    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    intercept_low: float
    intercept_high: float
    large: float
    large_low: float
    large_high: float


@dataclass(frozen=True)
class Bin:
    """Cases of similar probability: how many, mean probability, share that came true, limits."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


def top_label(logits: Floats, labels: Ints) -> tuple[Floats, Bools]:
    """Return each case's probability of the chosen class, and whether that is right."""
    return softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == labels


def calibration_error(
    probability: Floats, outcome: Bools, groups: Groups = None
) -> CalibrationError | str:
    """Return the debiased calibration error of probabilities [n] of outcomes [n], or a reason.

    Bins hold equally many cases. From each squared gap its sampling variance is taken away (Kumar
    et al. 2019, NeurIPS, section 4); of clusters it is that of their sums. The interval of the mean
    squared gap adds the variance of a noncentral quadratic form, 4 gap^2 v + 2 v^2 for each bin,
    and is that of all true values which a test at this level leaves: 0 belongs to it where a
    calibrated model would show as large an error.
    """
    n = probability.size
    code = codes(groups, n)
    bins = count_of_bins(n, int(code.max()) + 1)
    if bins < 2:
        return f"{n} cases are too few for bins of ten"
    parts = bins_of(probability, bins)
    gap, noise, weight = np.zeros((3, len(parts)))
    for i, members in enumerate(parts):
        difference = outcome[members] - probability[members]
        gap[i], weight[i] = difference.mean(), members.size / n
        own = codes(code[members], members.size)
        spread = np.square(sums(difference - gap[i], own)).sum() / members.size**2
        # A bin without an error has variance too: that of its own probabilities.
        expected = (probability[members] * (1 - probability[members])).sum() / members.size**2
        clusters = int(own.max()) + 1
        noise[i] = max(spread * unbiased(clusters) ** 2 if clusters > 1 else 0.0, expected)
    square = float(weight @ (gap**2 - noise))
    low, high = _limits(square, weight, gap, noise)
    return CalibrationError(*(float(np.sqrt(max(x, 0.0))) for x in (square, low, high)))


def count_of_bins(n: int, clusters: int) -> int:
    """How many bins n cases of that many clusters are put into for a calibration error."""
    return min(BINS, n // 10, clusters // 4)


def _limits(square: float, weight: Floats, gap: Floats, noise: Floats) -> tuple[float, float]:
    """The true mean squared gaps at which the found one is within z standard errors."""
    shape = np.maximum(gap**2 - noise, 0)
    total = float(weight @ shape)
    base = float(2 * weight**2 @ noise**2)
    # Each unit of true squared gap adds this much variance; spread evenly where none is found.
    each = (
        float(4 * weight**2 @ (shape * noise)) / total
        if total > 0
        else float(4 * weight**2 @ noise)
    )
    half = Z * np.sqrt(Z**2 * each**2 / 4 + base + each * max(square, -(base**0.5)))
    middle = square + Z**2 * each / 2
    return middle - half, middle + half


def recalibration(margins: Floats, y: Bools, groups: Groups = None) -> Recalibration | str:
    """Return slope, intercept and calibration in the large of log odds [n], or a reason.

    They are of logistic regressions, the last with the slope held at 1 (Cox 1958, Biometrika
    45:562; Van Calster et al. 2019, BMC Med. 17:230). The variance is the sandwich over clusters,
    with a t quantile.
    """
    if y.all() or not y.any():
        return "the test set lacks a class"
    if not (y.any() and margins[y].min() < margins[~y].max()):
        return "the classes are separated, so no finite slope is best"
    # The median size of a margin as unit: the slope is found on any scale of the logits.
    unit = float(np.median(np.abs(margins))) or 1.0
    (large,), (large_se,), df = _logistic(np.ones((y.size, 1)), margins, y, groups)
    design = np.column_stack([np.ones(y.size), margins / unit])
    (middle, slope), (middle_se, se), df = _logistic(design, np.zeros(y.size), y, groups)
    q = float(t.isf((1 - LEVEL) / 2, df))
    slope, se = slope / unit, se / unit
    return Recalibration(
        *map(float, (slope, slope - q * se, slope + q * se)),
        *map(float, (middle, middle - q * middle_se, middle + q * middle_se)),
        *map(float, (large, large - q * large_se, large + q * large_se)),
    )


def _logistic(
    design: Floats, offset: Floats, y: Bools, groups: Groups
) -> tuple[Floats, Floats, float]:
    def loss(x: Floats) -> tuple[float, Floats]:
        z = design @ x + offset
        value = float(np.logaddexp(0, np.where(y, -z, z)).sum())
        return value + _RIDGE * float(x @ x), design.T @ (expit(z) - y) + 2 * _RIDGE * x

    found = minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS").x
    p = expit(design @ found + offset)
    bread = np.linalg.pinv((design.T * (p * (1 - p))) @ design)
    parts = sums((design.T * (y - p)), codes(groups, y.size))
    meat = parts @ parts.T * unbiased(parts.shape[1]) ** 2
    df = float(np.inf if groups is None else parts.shape[1] - 1)
    return found, np.sqrt(np.diag(bread @ meat @ bread)), df


def reliability_bins(
    probability: Floats, outcome: Bools, groups: Groups = None, bins: int = 10
) -> list[Bin]:
    """Return bins of equally many cases by rising probability, for a reliability diagram."""
    result = []
    for members in bins_of(probability, bins):
        own = None if groups is None else groups[members]
        low, high, _ = proportion_limits(outcome[members], own)
        result.append(
            Bin(members.size, float(probability[members].mean()), float(outcome[members].mean()),
                low, high)
        )  # fmt: skip
    return result


def bins_of(probability: Floats, count: int) -> list[Ints]:
    """The cases of bins of nearly equal size, in rising order; equal ones are never parted."""
    which = ((rankdata(probability) - 0.5) / probability.size * count).astype(np.int64)
    return [np.flatnonzero(which == b) for b in np.unique(which)]


def fit_temperature(logits: Floats, labels: Ints) -> float | str:
    """Return the T > 0 for which softmax(logits / T) is most likely, of any number of classes.

    The likelihood is convex in 1/T. It has no best T where every case is right, or where the
    logits do not speak for the labels on the whole.
    """
    rows = np.arange(len(labels))
    spread = np.abs(logits - logits.mean(axis=1, keepdims=True)).max(initial=0)
    if spread <= _ROUNDING * max(1.0, float(np.abs(logits).max(initial=0))):
        return "the validation logits are the same for every class, so no temperature changes them"
    # A tie is no error: its likelihood does not fall as the temperature goes to 0.
    if not (logits[rows, labels] < logits.max(axis=1)).any():
        return "no validation case is misclassified, so the likelihood grows until temperature 0"
    unit = float(spread)
    scaled = logits / unit

    def slope(inverse: float) -> float:
        p = np.exp(log_softmax(inverse * scaled, axis=1))
        return float((p * scaled).sum() - scaled[rows, labels].sum())

    if slope(0.0) >= 0:
        return "validation logits do not favour the true class: no finite temperature is best"
    high = 1.0
    while slope(high) <= 0:
        high *= 2
    return unit / float(brentq(slope, 0.0, high, xtol=1e-15 * high))
