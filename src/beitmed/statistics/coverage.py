"""What can be ruled out at a risk, from validation cases: split conformal prediction by class.

A class is ruled out of a case where its probability is lower than nearly all that the class's own
validation cases have. For new cases that are drawn as those were, a case's own class is then ruled
out with at most the stated risk, on average over draws of the validation set. For the validation
set at hand that rate differs, by a Beta distribution that the number of its cases decides.
Source: Vovk 2012, Conditional validity of inductive conformal predictors, ACML, PMLR 25:475.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import Bools, Floats

_WITHIN = 0.90  # of the draws of a validation set lie in the range that is stated


@dataclass(frozen=True)
class Cut:
    """Below which probability a class is ruled out, from n cases of it (patients if known).

    value: 0 where n cases are too few for the risk, so that the class is never ruled out.
    low, high: of how many new cases of the class it really stays possible, in 90 % of the draws of
    a validation set.
    """

    value: float
    n: int
    low: float
    high: float


def cut(own: Floats, risk: float, groups: Groups = None) -> Cut:
    """Return the cut of a class at a risk; own [n]: its probability in its own validation cases.

    groups: their patients [n], of whom the range counts each once.
    """
    count = len(np.unique(codes(groups, own.size)))
    low, high = real_range(count, risk)
    return Cut(_value(own, risk), count, low, high)


def _value(own: Floats, risk: float) -> float:
    rank = _rank(own.size, risk)
    return float(np.partition(own, rank - 1)[rank - 1]) if rank else 0.0


def _rank(n: int, risk: float) -> int:
    """Which of n ascending probabilities is the cut; 0 for none."""
    return int(np.floor((n + 1) * risk + 1e-9))


def real_range(n: int, risk: float) -> tuple[float, float]:
    """Return the share of new cases that stays within the cut of n cases, in 90 % of their draws.

    That is Beta(n + 1 - k, k), where k = floor((n + 1) risk); all of them where k is 0.
    """
    rank = _rank(n, risk)
    if not rank:
        return 1.0, 1.0
    ends = ((1 - _WITHIN) / 2, (1 + _WITHIN) / 2)
    low, high = (float(beta.ppf(end, n + 1 - rank, rank)) for end in ends)
    return low, high


def fewest(risk: float) -> int:
    """Return how many cases a class needs for a cut at this risk."""
    return int(np.ceil(1 / risk - 1e-9)) - 1


def possible(probability: Floats, cuts: Floats) -> Bools:
    """Return which classes [n, classes] are not ruled out, from probabilities [n, classes]."""
    result: Bools = probability >= cuts
    return result


def of_others(probability: Floats, labels: np.ndarray, risk: float, groups: Groups = None) -> Bools:
    """Return which classes [n, classes] stay possible for validation cases, each by the others.

    So a case does not take part in what rules its own classes out; nor does its patient.
    """
    result = np.empty(probability.shape, bool)
    code = codes(groups, len(labels))
    for c in range(probability.shape[1]):
        mine = labels == c
        own, of = probability[mine, c], code[mine]
        whole = _value(own, risk)
        result[:, c] = probability[:, c] >= whole
        for patient in np.unique(of):
            rows = code == patient
            result[rows, c] = probability[rows, c] >= _value(own[of != patient], risk)
    return result
