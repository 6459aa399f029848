"""What is fitted on validation cases after training: a temperature and thresholds.

Margins are float64 log odds of the positive class; y is true for that class. Nothing here sees a
test label. A fit that does not exist comes back as a sentence that says why, never as a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from beitmed.statistics.level import Bools, Floats


def decide(score: Floats, threshold: float, positive: int) -> Bools:
    """Return whether each score [n] is called positive; a score at the threshold is called class 0.

    At threshold 0 this is argmax over the logits, whichever class is the positive one.
    """
    return score > threshold if positive == 1 else score >= threshold


def fit_temperature(margins: Floats, y: Bools) -> float | str:
    """Return the T > 0 for which sigmoid(margin / T) has the least negative log-likelihood.

    The likelihood is convex in 1/T and its slope is bracketed exactly, so there is no iteration
    limit and no starting value. It has no least point if no case is on the wrong side of 0 (T would
    go to 0), or if the margins do not speak for the labels on the whole (T would go to infinity).
    Source: Guo et al. 2017, ICML, section 4.2.
    """
    missing = _lacks_class(y)
    if missing:
        return missing
    if not np.any(np.where(y, margins < 0, margins > 0)):
        return "no validation case is misclassified, so the likelihood grows until temperature 0"
    # In units of the largest margin, so that no scale of the logits over- or underflows.
    unit = float(np.abs(margins).max())
    m = margins / unit

    def slope(inverse: float) -> float:
        return float(m @ (expit(inverse * m) - y))

    if slope(0.0) >= 0:
        return "validation margins do not favour the true class: no finite temperature is best"
    high = 1.0
    while slope(high) <= 0:
        high *= 2
    return unit / float(brentq(slope, 0.0, high, xtol=1e-15 * high))


def accuracy_threshold(margins: Floats, y: Bools, positive: int) -> float | str:
    """Return the cut with the highest validation accuracy; of equal cuts, the one nearest 0.

    So argmax stays in force unless another cut is strictly better. Cuts: 0, the midpoints between
    neighbouring distinct margins, and one below and one above all margins.
    """
    return _best_cut(margins, y, positive, lambda tp, tn: (tp + tn, 0 * tp))


def specificity_threshold(margins: Floats, y: Bools, positive: int) -> float | str:
    """Return the cut of highest sensitivity with a validation specificity of at least 95 %.

    Of equally sensitive cuts the most specific one, then the one nearest 0; cuts as above.
    """
    n = int((~y).sum())
    return _best_cut(margins, y, positive, lambda tp, tn: (np.where(20 * tn >= 19 * n, tp, -1), tn))


def sensitivity_threshold(margins: Floats, y: Bools, positive: int) -> float | str:
    """Return the cut of highest specificity with a validation sensitivity of at least 95 %.

    Of equally specific cuts the most sensitive one, then the one nearest 0; cuts as above.
    """
    n = int(y.sum())
    return _best_cut(margins, y, positive, lambda tp, tn: (np.where(20 * tp >= 19 * n, tn, -1), tp))


def _lacks_class(y: Bools) -> str | None:
    for name, present in (("positive", y.any()), ("negative", (~y).any())):
        if not present:
            return f"the validation set has no {name} case"
    return None


def _best_cut(
    margins: Floats, y: Bools, positive: int, merit: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> float | str:
    """Return the cut with the largest merit(true positives, true negatives), compared in order."""
    missing = _lacks_class(y)
    if missing:
        return missing
    values = np.unique(margins)
    middles = values[:-1] / 2 + values[1:] / 2
    cuts = np.concatenate([[0.0, values[0] - 1, values[-1] + 1], middles])
    # At a cut that equals a margin `decide` calls class 0, hence the side.
    side: Literal["left", "right"] = "right" if positive == 1 else "left"
    negatives, positives = np.sort(margins[~y]), np.sort(margins[y])
    tn = np.searchsorted(negatives, cuts, side)
    tp = positives.size - np.searchsorted(positives, cuts, side)
    first, second = merit(tp, tn)
    return float(cuts[np.lexsort((cuts, np.abs(cuts), -second, -first))[0]])
