"""Cases that come in clusters, such as the images of one patient, are not independent.

A statistic is carried as what each cluster contributes to it: the squares of the contributions add
up to its variance, and their products to the covariance of two statistics of the same cases. Cases
without a known grouping are clusters of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from beitmed.statistics.level import LEVEL, Bools, Floats, Z
from beitmed.statistics.proportions import wilson

#: Of cases [n], the cluster that each belongs to (any sortable names), or None: each its own.
Groups = NDArray[Any] | None


def codes(groups: Groups, n: int) -> NDArray[np.intp]:
    """Return the clusters of n cases as numbers from 0."""
    if groups is None:
        return np.arange(n)
    assert len(groups) == n, (len(groups), n)
    return np.unique(groups, return_inverse=True)[1].reshape(n)


def sums(values: Floats, code: NDArray[np.intp]) -> Floats:
    """Return the sums [..., clusters] of values [..., n] over the cases of each cluster."""
    count = int(code.max(initial=-1)) + 1
    if count == code.size:  # clusters of one, which may be in another order
        result = np.empty_like(values)
        result[..., code] = values
        return result
    rows = values.reshape(-1, code.size)
    flat = (code + count * np.arange(len(rows))[:, None]).ravel()
    added = np.bincount(flat, weights=rows.ravel(), minlength=count * len(rows))
    return np.asarray(added, np.float64).reshape(*values.shape[:-1], count)


def unbiased(members: int) -> float:
    """Return sqrt(G / (G - 1)), by which contributions of G clusters are lengthened; NaN for 1."""
    return float(np.sqrt(members / (members - 1))) if members > 1 else float("nan")


def mean_contributions(values: Floats, groups: Groups = None) -> Floats:
    """Return what each cluster contributes to the means of values [..., n] over the cases.

    The variance is that of a ratio estimator, the mean over cases with clusters drawn at random
    (Cochran 1977, Sampling Techniques, section 9A). For clusters of one it is the variance of a
    mean with n - 1.
    """
    code = codes(groups, values.shape[-1])
    centred = (values - values.mean(axis=-1, keepdims=True)) / values.shape[-1]
    found = sums(centred, code)
    return found * unbiased(found.shape[-1])


def proportion_limits(hit: Bools, groups: Groups = None) -> tuple[float, float, str]:
    """Return (low, high, method) of the share of true cases in hit [n], clusters drawn at random.

    Wilson's interval at the effective sample size, the one at which independent cases would have
    the variance of a ratio estimator, with the factor for a t quantile of Korn and Graubard 1998,
    Surv. Methodol. 24:193. Two right and two wrong cases are added to the variances (Agresti
    and Coull 1998, Am. Stat. 52:119), or a right and a wrong cluster of average size if that is
    larger: so a share of 0 or 1, which says nothing of how alike a patient's cases are, counts its
    patients and not its cases.
    Without groups it is Wilson's interval itself.
    """
    effective = effective_size(hit[None], groups)
    low, high = wilson(hit.mean() * effective, effective)
    method = "Wilson" if groups is None else "Wilson at the effective sample size of patients"
    return float(low), float(high), method


def effective_size(
    shares: Floats | Bools, groups: Groups = None, extra: float = 0.0, doubt: float = 0.0
) -> float:
    """Return the number of independent cases that tell as much as these do about their mean.

    shares [S, n]: whether (or how much) each of S models is right; extra: a variance to be added to
    that of the cases, with the `doubt` of `spread.Spread`. The t quantile is paid for in cases.
    """
    each = shares.mean(axis=0)
    n, code = each.size, codes(groups, each.size)
    clusters = int(code.max()) + 1
    size = n / clusters
    added = max(2.0, size)
    whole = n + 2 * added
    middle = float((each.sum() + added) / whole)
    squares = float(np.square(sums(each - middle, code)).sum())
    if groups is not None and clusters > 1:
        squares *= clusters / (clusters - 1)
    squares += added * size * (middle**2 + (1 - middle) ** 2)
    variance = squares / whole**2
    doubts = doubt + (0 if groups is None else variance**2 / max(clusters - 1, 1))
    variance += extra
    factor = t.isf((1 - LEVEL) / 2, variance**2 / doubts) / Z if doubts else 1.0
    return float(n * middle * (1 - middle) / whole / variance / factor**2)
