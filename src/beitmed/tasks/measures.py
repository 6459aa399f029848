"""What is computed of two classes: see `scored` for what the function of each kind gives."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from beitmed.statistics.level import Bools, Floats
from beitmed.tasks.scored import Scored

ECE_BINS = 15


def hits(s: Scored) -> tuple[int, int]:
    return int((s.y == s.predicted).sum()), s.y.size


def sensitivity(s: Scored) -> tuple[int, int]:
    return s.count(actual=True, predicted=True), s.count(actual=True)


def specificity(s: Scored) -> tuple[int, int]:
    return s.count(actual=False, predicted=False), s.count(actual=False)


def ppv(s: Scored) -> tuple[int, int]:
    return s.count(actual=True, predicted=True), s.count(predicted=True)


def npv(s: Scored) -> tuple[int, int]:
    return s.count(actual=False, predicted=False), s.count(predicted=False)


def class_rates(s: Scored) -> tuple[int, int, int, int]:
    return *sensitivity(s), *specificity(s)


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


def ece(probability: Floats, outcomes: Bools) -> Floats:
    """Return the expected calibration error [b] of outcomes [b, n] against probability [n].

    Sum over bins of |outcomes - probabilities| / n, with 15 bins of equal width, closed below, of
    the probability of the positive class: Naeini et al. 2015, AAAI, 2901. (The bins of Guo et al.
    2017 hold the larger probability, which with two classes leaves half of them empty.)
    """
    bins = np.minimum((probability * ECE_BINS).astype(int), ECE_BINS - 1)
    member = np.eye(ECE_BINS)[bins]
    gaps = np.abs((outcomes - probability) @ member)
    return np.asarray(gaps.sum(axis=1) / probability.size, np.float64)


def ece_of(s: Scored) -> float:
    return float(ece(expit(s.score), s.y[None, :])[0])


def calibrated_ece(p: Floats, rng: np.random.Generator, count: int) -> Floats:
    """ECE [count] of outcomes drawn from probabilities p [n]: what perfect calibration gives."""
    step = max(1, 2_000_000 // p.size)
    blocks = [min(step, count - start) for start in range(0, count, step)]
    return np.concatenate([ece(p, rng.random((b, p.size)) < p) for b in blocks])


def calibrated_ece_of(s: Scored, rng: np.random.Generator, count: int) -> Floats:
    return calibrated_ece(expit(s.score), rng, count)


def fitted(s: Scored) -> float:
    return s.fitted
