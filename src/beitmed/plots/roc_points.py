"""The points of a ROC curve and its band: numbers, not yet drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.proportions import wilson
from beitmed.tasks.two_classes import binary_labels, finite_scores


def roc_points(labels: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return (fpr, tpr, threshold) at every distinct score, from (0, 0) at infinity to (1, 1).

    labels [n] is 1 for the class that a high score [n] (finite float64) speaks for; a case is
    called positive if its score is at least the threshold.
    ValueError: malformed input, or a class is absent.
    """
    scores = finite_scores(score)
    y = binary_labels(labels, scores.size) == 1
    if y.all() or not y.any():
        raise ValueError(f"labels: {y.sum()} of {y.size} positive, but a curve needs both classes")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    tp, fp = np.cumsum(y[order])[ends], np.cumsum(~y[order])[ends]
    threshold = np.concatenate([[np.inf], scores[order][ends]])
    return np.append(0, fp) / fp[-1], np.append(0, tp) / tp[-1], threshold


def roc_band(labels: ArrayLike, score: ArrayLike, grid: Floats) -> tuple[Floats, Floats]:
    """Return (low, high) [g], a 95 % band of the true positive rate at each false positive rate.

    At each threshold, the Wilson intervals of the two rates span a rectangle; the band is the union
    of these. Pointwise, and conservative: it covered 95 to 100 % in simulations of 156 and 624
    cases with AUCs of 0.8 to 0.99. Unlike a bootstrap band (below 50 % there near the corners) it
    does not shrink to the curve where the curve meets an edge.
    """
    fpr, tpr, _ = roc_points(labels, score)
    y = np.asarray(labels) == 1
    n_pos, n_neg = int(y.sum()), int((~y).sum())
    # Back to whole counts, as a rate times its number of cases is off by rounding.
    tpr_low, tpr_high = wilson(np.rint(tpr * n_pos), n_pos)
    fpr_low, fpr_high = wilson(np.rint(fpr * n_neg), n_neg)
    # All limits rise along the curve: over a point of the grid, the lowest rectangle is the first
    # that reaches as far right, the highest the last that reaches as far left. In a run of tied
    # scores there may be none; the curve's neighbouring corners keep the band around the curve.
    first = np.searchsorted(fpr_high, grid, "left")
    last = np.searchsorted(fpr_low, grid, "right") - 1
    left, right = np.searchsorted(fpr, grid, "right") - 1, np.searchsorted(fpr, grid, "left")
    return tpr_low[np.minimum(first, left)], tpr_high[np.maximum(last, right)]


def corners(labels: Bools, score: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (fpr, tpr, threshold) of `roc_points` where the curve turns: the same curve."""
    fpr, tpr, threshold = roc_points(labels, score)
    before, after = np.diff(fpr), np.diff(tpr)
    turns = before[:-1] * after[1:] != before[1:] * after[:-1]
    kept = np.concatenate([[True], turns, [True]])
    return fpr[kept], tpr[kept], threshold[kept]
