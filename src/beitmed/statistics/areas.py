"""The area under the ROC curve and means of several, with 95 % intervals.

One interval serves for every class size, every area, several classes or labels, patients and seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata, t

from beitmed.statistics.clusters import Groups, codes, sums, unbiased
from beitmed.statistics.level import LEVEL, Bools, Floats
from beitmed.statistics.spread import Measure

#: Cases of prior knowledge in a variance, and in its degrees of freedom (see `interval`).
_PRIOR, _PRIOR_DF = 4.0, 8.0
_ROUNDING = 1e-12  # of log odds
METHOD = "DeLong score"


def restore_ties(score: Floats) -> Floats:
    """Return score [n] with values within rounding of the next smaller one set to the least.

    Cases that only rounding keeps apart (of neighbours or trees that vote) are tied again.
    """
    order = np.argsort(score)
    ascending = score[order]
    first = np.concatenate([[True], np.diff(ascending) > _ROUNDING])[: len(score)]
    result = np.empty_like(score)
    result[order] = ascending[np.flatnonzero(first)[np.cumsum(first) - 1]]
    return result


def placements(y: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Return the share of the other class that each case is ranked right against, a tie one half.

    y [n] is true for the class that a high score [..., n] speaks for; both classes are present.
    Of the two results, [..., positives] and [..., negatives], each has the AUC as its mean: they
    are the structural components of DeLong et al. 1988, Biometrics 44:837, by the midranks of Sun
    and Xu 2014, IEEE Signal Process. Lett. 21:1389.
    """
    pos, neg = score[..., y], score[..., ~y]
    n_pos, n_neg = pos.shape[-1], neg.shape[-1]
    assert n_pos and n_neg
    rank = rankdata(np.concatenate([pos, neg], axis=-1), axis=-1)
    v_pos = (rank[..., :n_pos] - rankdata(pos, axis=-1)) / n_neg
    return v_pos, 1 - (rank[..., n_pos:] - rankdata(neg, axis=-1)) / n_pos


def delong_variance(v_pos: Floats, v_neg: Floats) -> Floats:
    """Return the variance of an AUC from its `placements`, NaN where a class has a single case."""
    n_pos, n_neg = v_pos.shape[-1], v_neg.shape[-1]
    if min(n_pos, n_neg) < 2:
        return np.full(v_pos.shape[:-1], np.nan)
    return np.asarray(v_pos.var(axis=-1, ddof=1) / n_pos + v_neg.var(axis=-1, ddof=1) / n_neg)


def delong(y: Bools, score: Floats) -> tuple[float, float]:
    """Return (AUC, its DeLong variance) of y [n] and score [n] as in `placements`.

    The variance is NaN where a class has a single case.
    """
    v_pos, v_neg = placements(y, score)
    return float(v_pos.mean()), float(delong_variance(v_pos, v_neg))


def mean_auc(member: Bools, scores: Floats, groups: Groups = None) -> Measure:
    """Return the mean over the columns of the AUC of each of S models, with its contributions.

    member [n, k] is true where a case is of the column's class, which a high score of scores
    [S, n, k] speaks for; every column has both. The AUCs are of the same cases and so correlated:
    each case's DeLong components are added up over columns, and over the cases of its cluster
    (Obuchowski 1997, Biometrics 53:567), before they are squared. For one column and clusters of
    one this is DeLong's variance. It is NaN where a class is in a single cluster.
    """
    return _measure(member, scores, groups)[0]


def auc_interval(y: Bools, score: Floats, groups: Groups = None) -> tuple[float, float, str]:
    """Return (low, high, method) for the AUC; y [n] and score [n] as in `placements`."""
    return mean_auc_interval(y[:, None], score[:, None], groups)


def mean_auc_interval(
    member: Bools, score: Floats, groups: Groups = None
) -> tuple[float, float, str]:
    """Return (low, high, method) for the mean AUC of the columns of score [n, k]."""
    return interval(member, score[None], groups)[1:]


def interval(
    member: Bools, scores: Floats, groups: Groups = None
) -> tuple[Measure, float, float, str]:
    """Return the measure of `mean_auc` and (low, high, method) for its mean over the S models.

    The limits solve |AUC - a| = q sqrt(V(a)), a score interval: as in Newcombe 2006 (Stat. Med.
    25:559, method 5) the variance V changes with the area a along the model of Hanley and McNeil
    (1982, Radiology 143:29), so that no limit collapses or leaps where few pairs, or none, are
    ranked wrong. The model is scaled to DeLong's variance at the AUC found, as far as there are
    cases to estimate that from: each class counts with the effective number of cases ranked below
    the best, (sum d)^2 / sum d^2 for d = 1 - placement, less one, beside `_PRIOR` cases that obey
    the model. q is of a t distribution with these numbers, and `_PRIOR_DF`, by Satterthwaite. So a
    rare class, whose few placements give a variance poorly, is covered as a common one.
    Clusters and seeds enlarge V by as much as they enlarge DeLong's variance.
    """
    measure, columns = _measure(member, scores, groups)
    # A class in a single cluster says nothing of its variance; the model does.
    contributions = np.nan_to_num(measure.contributions)
    spread, k = replace(measure, contributions=contributions).spread(), len(columns)
    value, own = float(measure.values.mean()), sum(c.variance(c.middle) for c in columns) / k**2
    alone = sum(c.delong for c in columns) / k**2
    # Of several columns, and of clusters: how much more than independent cases they vary.
    size = member.shape[0] / measure.contributions.shape[1]
    expected = min(k, 2) * (1 + size) / 2
    known = max(_effective(np.abs(contributions.mean(axis=0))) - 1, 0.0)
    ratio = spread.test / alone if alone > 0 and spread.test > 0 else expected
    together = (known * ratio + _PRIOR * expected) / (known + _PRIOR) if expected > 1 else 1.0
    scale = together + spread.seed / own
    total = scale * own
    # Columns that go together do not give the variance better than one of them does.
    doubt = spread.doubt + together**2 * min(together, k) * sum(c.doubt for c in columns) / k**4
    q2 = float(t.isf((1 - LEVEL) / 2, total**2 / doubt)) ** 2
    middle = sum(c.middle for c in columns) / k

    def excess(area: float) -> float:
        stretch = (1 - area) / (1 - middle)
        variance = sum(c.variance(max(1 - (1 - c.middle) * stretch, 0.0)) for c in columns)
        return (value - area) ** 2 - q2 * scale * variance / k**2

    inside = min(max(value, 1e-9), 1 - 1e-9)
    low = float(brentq(excess, 0.0, inside)) if value > 0 and excess(0.0) > 0 else 0.0
    high = float(brentq(excess, inside, 1.0)) if value < 1 else 1.0
    return measure, low, high, METHOD


@dataclass(frozen=True)
class _Column:
    """One class against the others: how its variance changes with the area."""

    n_pos: int
    n_neg: int
    middle: float  # the AUC, a little off 0 and 1
    ratios: tuple[float, float]  # of DeLong's variance to the model's, positives and negatives
    delong: float
    df: tuple[float, float]

    def sides(self, area: float) -> tuple[float, float, float]:
        """The variance from drawing positives, from negatives, and what both hold."""
        m, n = self.n_pos, self.n_neg
        single = area * (1 - area)
        paired = (area / (2 - area) + 2 * area**2 / (1 + area)) / 2 - area**2
        (a, b), both = self.ratios, single / (m * n)
        return (
            a * (both + (n - 1) * paired / (m * n)),
            b * (both + (m - 1) * paired / (m * n)),
            float(np.sqrt(a * b)) * both,
        )

    def variance(self, area: float) -> float:
        pos, neg, both = self.sides(area)
        return pos + neg - both

    @property
    def doubt(self) -> float:
        pos, neg, _ = self.sides(self.middle)
        whole = self.variance(self.middle) / (pos + neg)
        return float((pos * whole) ** 2 / self.df[0] + (neg * whole) ** 2 / self.df[1])


def _measure(member: Bools, scores: Floats, groups: Groups) -> tuple[Measure, list[_Column]]:
    count, n, k = scores.shape
    assert member.shape == (n, k) and count and member.dtype == bool, (member.shape, scores.shape)
    code = codes(groups, n)
    values, parts, columns = np.zeros(count), np.zeros((count, n)), []
    for y, column in zip(member.T, np.moveaxis(scores, 2, 0), strict=True):
        v_pos, v_neg = placements(y, column)
        area = v_pos.mean(axis=1)
        values += area / k
        for cases, v in ((y, v_pos), (~y, v_neg)):
            lengthened = unbiased(np.unique(code[cases]).size) / (v.shape[1] * k)
            parts[:, cases] += (v - area[:, None]) * lengthened
        columns.append(_column(y, v_pos.mean(axis=0), v_neg.mean(axis=0), code))
    return Measure(values, sums(parts, code)), columns


def _column(y: Bools, v_pos: Floats, v_neg: Floats, code: NDArray[np.intp]) -> _Column:
    m, n, area = v_pos.size, v_neg.size, float(v_pos.mean())
    middle = (area * m * n + 0.5) / (m * n + 1)
    model = _Column(m, n, middle, (1.0, 1.0), 0.0, (1.0, 1.0)).sides(middle)[:2]
    ratios, df, found = [], [], 0.0
    for v, cases, expected in ((v_pos, y, model[0]), (v_neg, ~y, model[1])):
        known = max(_effective(sums(1 - v, codes(code[cases], v.size))) - 1, 0.0)
        own = float(v.var(ddof=1)) / v.size if v.size > 1 else 0.0
        ratios.append((known * own / expected + _PRIOR) / (known + _PRIOR))
        df.append(known + _PRIOR_DF)
        found += own
    return _Column(m, n, middle, (ratios[0], ratios[1]), found, (df[0], df[1]))


def _effective(sizes: Floats) -> float:
    """How many equal parts a sum of parts [n], none negative, has in effect; 0 for no sum."""
    squares = float(np.square(sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares > 0 else 0.0
