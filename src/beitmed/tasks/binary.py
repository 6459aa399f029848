"""Metrics of a binary classifier on a test set, with 95 % intervals.

A score is the float64 margin `logit[positive] - logit[other]`, the log odds of the positive class.
A softmax in float32 ties saturated scores (logits 40 and 60 both give 1.0) and so moves the AUC.

What looks at what: `argmax` metrics read the test set alone. Thresholds and the temperature are
fitted on the validation set. The prior correction reads training labels and test scores, never
test labels. Every interval takes what was fitted as fixed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from beitmed.statistics import calibration, intervals
from beitmed.statistics.estimates import Estimate, Metric, Scored, estimate_all
from beitmed.statistics.intervals import Bools, Floats

__all__ = [
    "METRICS",
    "Estimate",
    "accuracy",
    "auc",
    "binary_labels",
    "evaluate",
    "finite_scores",
    "margin",
]

ECE_BINS = 15


def margin(logits: ArrayLike, positive: int) -> Floats:
    """Return logit[positive] - logit[other] [n] in float64, from floating-point logits [n, 2].

    float16 and float32 are widened, which is exact; every other type is refused.
    ValueError: wrong shape or type, `positive` not 0 or 1, or a row that is not finite.
    """
    rows = np.asarray(logits)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"logits: shape {rows.shape}, but [n, 2] is needed")
    if rows.dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(f"logits: type {rows.dtype}, but float64, float32 or float16 is needed")
    if positive not in (0, 1):
        raise ValueError(f"positive: {positive!r}, but the classes are 0 and 1")
    rows = rows.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        result: Floats = rows[:, positive] - rows[:, 1 - positive]
    bad = int((~np.isfinite(result)).sum())
    if bad:
        raise ValueError(f"logits: {bad} of {len(rows)} rows are not finite")
    return result


def binary_labels(labels: ArrayLike, n: int, name: str = "labels") -> NDArray[np.int64]:
    """Return labels [n] as int64; ValueError unless they are n integers (or booleans) 0 or 1."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"{name}: shape {array.shape}, but [{n}] is needed")
    if array.dtype.kind not in "biu" and n:
        raise ValueError(f"{name}: type {array.dtype}, but integers are needed")
    other = np.setdiff1d(array, [0, 1])
    if other.size:
        raise ValueError(f"{name}: found {other[:5].tolist()}, but only 0 and 1 are allowed")
    return array.astype(np.int64)


def finite_scores(score: ArrayLike) -> Floats:
    """Return score [n]; ValueError unless it is float64 and finite."""
    scores = np.asarray(score)
    if scores.ndim != 1 or scores.dtype != np.float64:
        raise ValueError(f"score: {scores.dtype} {scores.shape}, but float64 [n] is needed")
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ValueError(f"score: {bad} of {scores.size} are not finite")
    return scores


def auc(y: ArrayLike, score: ArrayLike) -> float | None:
    """Return the area under the ROC curve, or None if a class is absent.

    y [n] is 1 for the class that a high score [n] (float64, finite) speaks for. A tied pair counts
    one half (Mann-Whitney).
    """
    scores = finite_scores(score)
    positives = binary_labels(y, scores.size, "y") == 1
    if positives.all() or not positives.any():
        return None
    return intervals.delong(positives, scores)[0]


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of labels [n] that argmax of logits [n, 2] gives; a tie is class 0."""
    predicted = margin(logits, 1) > 0
    actual = binary_labels(labels, predicted.size)
    return float(np.mean(predicted == actual)) if actual.size else None


# --- Metrics. Proportions give (hits, cases); bootstrapped ones map weights [b, n] to values [b].


def _auc(s: Scored) -> float | None:
    return auc(s.y, s.score)


def _hits(s: Scored) -> tuple[int, int]:
    return int((s.y == s.predicted).sum()), s.y.size


def _sensitivity(s: Scored) -> tuple[int, int]:
    return s.count(actual=True, predicted=True), s.count(actual=True)


def _specificity(s: Scored) -> tuple[int, int]:
    return s.count(actual=False, predicted=False), s.count(actual=False)


def _ppv(s: Scored) -> tuple[int, int]:
    return s.count(actual=True, predicted=True), s.count(predicted=True)


def _npv(s: Scored) -> tuple[int, int]:
    return s.count(actual=False, predicted=False), s.count(predicted=False)


def _class_rates(s: Scored) -> tuple[int, int, int, int]:
    return *_sensitivity(s), *_specificity(s)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the elementwise ratio, NaN (undefined) where the denominator is 0."""
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _f1(s: Scored, weights: Floats) -> Floats:
    """2 TP / (actual + predicted positives); undefined without an actual positive."""
    actual, predicted = weights @ s.y, weights @ s.predicted
    hits = weights @ (s.y & s.predicted)
    return _ratio(2 * hits, np.where(actual > 0, actual + predicted, 0))


def _mcc(s: Scored, weights: Floats) -> Floats:
    """Matthews correlation; undefined, not 0, where a class is absent or never predicted."""
    total, actual, predicted = weights.sum(axis=1), weights @ s.y, weights @ s.predicted
    covariance = total * (weights @ (s.y & s.predicted)) - actual * predicted
    spread = np.sqrt(actual * (total - actual)) * np.sqrt(predicted * (total - predicted))
    return _ratio(covariance, spread)


def _average_precision(s: Scored, weights: Floats) -> Floats:
    """Sum of precision x rise in recall over distinct scores, as scikit-learn: no interpolation."""
    order, ends = s.ranking
    ranked = weights[:, order]
    called = np.cumsum(ranked, axis=1)[:, ends]
    hits = np.cumsum(ranked * s.y[order], axis=1)[:, ends]
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    area, positives = np.sum(precision * np.diff(hits, axis=1, prepend=0), axis=1), hits[:, -1]
    return _ratio(area, positives)


def _brier(s: Scored, weights: Floats) -> Floats:
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


def _ece(s: Scored) -> float:
    return float(ece(expit(s.score), s.y[None, :])[0])


def calibrated_ece(p: Floats, rng: np.random.Generator, count: int) -> Floats:
    """ECE [count] of outcomes drawn from probabilities p [n]: what perfect calibration gives."""
    step = max(1, 2_000_000 // p.size)
    blocks = [min(step, count - start) for start in range(0, count, step)]
    return np.concatenate([ece(p, rng.random((b, p.size)) < p) for b in blocks])


def _calibrated_ece(s: Scored, rng: np.random.Generator, count: int) -> Floats:
    return calibrated_ece(expit(s.score), rng, count)


def _fitted(s: Scored) -> float:
    return s.fitted


#: All that `evaluate` returns, in this order. A rule "val ..." has its threshold from the
#: validation set, so the test set reaches the named level only roughly: hence both rates of each.
METRICS: dict[str, Metric] = {
    "auc": Metric(_auc, "auc"),
    "accuracy": Metric(_hits, "proportion"),
    "balanced_accuracy": Metric(_class_rates, "two proportions"),
    "sensitivity": Metric(_sensitivity, "proportion"),
    "specificity": Metric(_specificity, "proportion"),
    "ppv": Metric(_ppv, "proportion"),
    "npv": Metric(_npv, "proportion"),
    "f1": Metric(_f1, "bootstrap"),
    "mcc": Metric(_mcc, "bootstrap"),
    "average_precision": Metric(_average_precision, "bootstrap"),
    "brier": Metric(_brier, "bootstrap"),
    "ece": Metric(_ece, "plain"),
    "ece_if_calibrated": Metric(_calibrated_ece, "reference"),
    "temperature": Metric(_fitted, "fitted", "temperature"),
    "brier_temperature": Metric(_brier, "bootstrap", "temperature"),
    "ece_temperature": Metric(_ece, "plain", "temperature"),
    "ece_temperature_if_calibrated": Metric(_calibrated_ece, "reference", "temperature"),
    "val_threshold": Metric(_fitted, "fitted", "val accuracy"),
    "accuracy_val_threshold": Metric(_hits, "proportion", "val accuracy"),
    "threshold_at_val_specificity_95": Metric(_fitted, "fitted", "val specificity"),
    "sensitivity_at_val_specificity_95": Metric(_sensitivity, "proportion", "val specificity"),
    "specificity_at_val_specificity_95": Metric(_specificity, "proportion", "val specificity"),
    "threshold_at_val_sensitivity_95": Metric(_fitted, "fitted", "val sensitivity"),
    "sensitivity_at_val_sensitivity_95": Metric(_sensitivity, "proportion", "val sensitivity"),
    "specificity_at_val_sensitivity_95": Metric(_specificity, "proportion", "val sensitivity"),
    "estimated_prior": Metric(_fitted, "fitted", "prior corrected"),
    "accuracy_prior_corrected": Metric(_hits, "proportion", "prior corrected"),
}


def evaluate(
    *,
    val_logits: ArrayLike,
    val_labels: ArrayLike,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    train_labels: ArrayLike,
    positive: int,
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Estimate]:
    """Return every metric of `METRICS` on the test set, each with a 95 % interval or a reason.

    Logits are floating point [n, 2], labels are 0 or 1 [n]; `positive` is the class that
    sensitivity, scores and probabilities belong to. `train_labels` are the labels in the
    proportions that the classifier was trained on. The validation set may lack a class or be empty.
    A tie at a threshold, 0 for argmax, is called class 0, whichever class is positive.
    The result depends on the data, `seed` (from 0) and `n_resamples` only.
    ValueError: malformed or non-finite input, or an empty test set.
    """
    if n_resamples < 1 or seed < 0:
        raise ValueError(f"n_resamples: {n_resamples}, seed: {seed}, but at least 1 and 0 needed")
    val, test = margin(val_logits, positive), margin(test_logits, positive)
    if not test.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    val_y = binary_labels(val_labels, val.size, "val_labels") == positive
    y = binary_labels(test_labels, test.size, "test_labels") == positive
    train = np.asarray(train_labels)
    train_y = binary_labels(train, train.size, "train_labels") == positive
    rules = _rules(val, val_y, test, y, train_y, positive)
    return estimate_all(METRICS, rules, y, seed=seed, n_resamples=n_resamples)


def _rules(
    val: Floats, val_y: Bools, test: Floats, y: Bools, train_y: Bools, positive: int
) -> dict[str, Scored | str]:
    """Return the test cases under each decision rule, or the reason for which it does not exist."""

    def at(cut: float | str) -> Scored | str:
        if isinstance(cut, str):
            return cut
        return Scored(y, test, calibration.decide(test, cut, positive), cut, val.size)

    argmax = calibration.decide(test, 0.0, positive)
    rules: dict[str, Scored | str] = {
        "argmax": Scored(y, test, argmax),
        "val accuracy": at(calibration.accuracy_threshold(val, val_y, positive)),
        "val specificity": at(calibration.specificity_threshold(val, val_y, positive)),
        "val sensitivity": at(calibration.sensitivity_threshold(val, val_y, positive)),
    }
    temperature = calibration.fit_temperature(val, val_y)
    if isinstance(temperature, str):
        return {**rules, "temperature": temperature, "prior corrected": temperature}
    cool = test / temperature
    rules["temperature"] = Scored(y, cool, argmax, temperature, val.size)
    if train_y.all() or not train_y.any():
        return {**rules, "prior corrected": "the training labels lack a class"}
    # The estimate of the prior supposes calibrated probabilities, hence the temperature first:
    # Alexandari et al. 2020, ICML.
    train_prior = float(train_y.mean())
    prior = calibration.estimate_prior(cool, train_prior)
    shifted = cool + logit(prior) - logit(train_prior)
    decided = calibration.decide(shifted, 0.0, positive)
    return {**rules, "prior corrected": Scored(y, shifted, decided, prior, y.size)}
