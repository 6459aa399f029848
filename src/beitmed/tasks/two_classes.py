"""Scores and labels of two classes, checked; the area under the ROC curve, and the accuracy.

A score is the float64 margin `logit[positive] - logit[other]`, the log odds of the positive class.
A softmax in float32 ties saturated scores (logits 40 and 60 both give 1.0) and so moves the AUC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beitmed.statistics import areas
from beitmed.statistics.level import Floats


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
    one half (Mann-Whitney), and so does one that only rounding keeps apart.
    """
    scores = finite_scores(score)
    positives = binary_labels(y, scores.size, "y") == 1
    if positives.all() or not positives.any():
        return None
    return areas.delong(positives, areas.restore_ties(scores))[0]


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of labels [n] that argmax of logits [n, 2] gives; a tie is class 0."""
    predicted = margin(logits, 1) > 0
    actual = binary_labels(labels, predicted.size)
    return float(np.mean(predicted == actual)) if actual.size else None
