"""What is computed of two classes: see `scored` for what the function of each kind gives."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import expit

from beitmed.statistics import decisions, reliability
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.reliability import CalibrationError
from beitmed.tasks import estimates
from beitmed.tasks.scored import Scored

P_VALUE = "a p value has no interval"
Share = tuple[Bools, Bools]  # which cases [n] are hits, and among which cases [n]


def hits(s: Scored) -> Share:
    return s.y == s.predicted, np.ones(s.y.size, bool)


def sensitivity(s: Scored) -> Share:
    return s.predicted, s.y


def specificity(s: Scored) -> Share:
    return ~s.predicted, ~s.y


def ppv(s: Scored) -> Share:
    return s.y, s.predicted


def npv(s: Scored) -> Share:
    return ~s.y, ~s.predicted


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the elementwise ratio, NaN (undefined) where the denominator is 0."""
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def f1(s: Scored, weights: Floats) -> Floats:
    """2 TP / (actual + predicted positives); undefined without an actual positive."""
    actual, predicted = weights @ s.y, weights @ s.predicted
    hits = weights @ (s.y & s.predicted)
    return _ratio(2 * hits, np.where(actual > 0, actual + predicted, 0))


def mcc(s: Scored, weights: Floats) -> Floats:
    """Matthews correlation; undefined, not 0, where a class is absent or never predicted."""
    total, actual, predicted = weights.sum(axis=1), weights @ s.y, weights @ s.predicted
    covariance = total * (weights @ (s.y & s.predicted)) - actual * predicted
    spread = np.sqrt(actual * (total - actual)) * np.sqrt(predicted * (total - predicted))
    return _ratio(covariance, spread)


def average_precision(s: Scored, weights: Floats) -> Floats:
    """Sum of precision x rise in recall over distinct scores, as scikit-learn: no interpolation."""
    order, ends = s.ranking
    ranked = weights[:, order]
    called = np.cumsum(ranked, axis=1)[:, ends]
    hits = np.cumsum(ranked * s.y[order], axis=1)[:, ends]
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    area, positives = np.sum(precision * np.diff(hits, axis=1, prepend=0), axis=1), hits[:, -1]
    return _ratio(area, positives)


def brier(s: Scored, weights: Floats) -> Floats:
    """Mean of (probability of the positive class - outcome) squared, from 0 to 1."""
    return _ratio(weights @ (expit(s.score) - s.y) ** 2, weights.sum(axis=1))


def calibration_error(s: Scored) -> Estimate:
    """That of the positive class's probability; see `reliability.calibration_error`."""
    return debiased(reliability.calibration_error(expit(s.score), s.y, s.clustered), s.y.size,
                    s.groups)  # fmt: skip


def debiased(found: CalibrationError | str, n: int, groups: Groups) -> Estimate:
    """The estimate of a calibration error, or the reason for having none."""
    if isinstance(found, str):
        return Estimate.undefined(found)
    method = "test inversion, bins of equal size"
    return estimates.rate((found.value, found.low, found.high), method, n, groups)


def recalibrated(s: Scored, what: Literal["slope", "large"]) -> Estimate:
    """Calibration slope, or calibration in the large; see `reliability.recalibration`."""
    found = reliability.recalibration(s.score, s.y, s.clustered)
    if isinstance(found, str):
        return Estimate.undefined(found)
    of = tuple(float(getattr(found, f"{what}{part}")) for part in ("", "_low", "_high"))
    return estimates.rate(of, "logistic regression, sandwich variance", s.y.size, s.groups)


def at_prevalence(s: Scored, which: Literal[0, 1]) -> Estimate:
    """PPV (0) or NPV (1) at the prevalence that `s.fitted` states."""
    if s.y.all() or not s.y.any():
        return Estimate.undefined("the test set lacks a class")
    found = decisions.predictive_values(s.y, s.predicted, s.fitted, s.clustered)[which]
    return estimates.rate(found, "Bayes' rule, Wilson limits combined", s.y.size, s.groups)


def at_operating_point(s: Scored, what: Literal["sensitivity", "specificity"]) -> Estimate:
    """A rate at the operating point that `s.fitted` is, whose choice its interval counts."""
    among = s.y if what == "sensitivity" else ~s.y
    own = None if s.groups is None else s.groups[among]
    method = "Wilson, the threshold's choice counted"
    return estimates.rate(getattr(s.fitted, what), method, int(among.sum()), own)


def prior(s: Scored) -> Estimate:
    """The share of the positive class in the `shift.Shift` that `s.fitted` is."""
    of = tuple(float(getattr(s.fitted, part)[1]) for part in ("prior", "low", "high"))
    return estimates.rate(of, "likelihood, the validation set's noise counted", s.y.size, s.groups)


def p_of_shift(s: Scored) -> Estimate:
    count = estimates.patients(s.groups)
    return Estimate(s.fitted.p, None, None, s.y.size, None, P_VALUE, count)


def fitted(s: Scored) -> float:
    return float(s.fitted)
