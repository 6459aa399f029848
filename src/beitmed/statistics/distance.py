"""How far a case lies from others in feature space: the Mahalanobis distance, shrunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from beitmed.statistics.level import Floats

_LEAST_SPREAD = 0.01  # of the features' root mean square spread: a constant one has none
_LEAST_SHRINKAGE = 1e-3  # of two cases alone it would be none, and the covariance singular


@dataclass(frozen=True)
class Centre:
    """Where cases lie: mean and scale [d], and what makes standardised features white [d, d].

    shrinkage: the share of the covariance that is that of unrelated features, 0 to 1.
    """

    mean: Floats
    scale: Floats
    whitening: Floats
    shrinkage: float

    def distances(self, rows: NDArray) -> Floats:
        """Mahalanobis distances [n] of rows [n, d], float64."""
        standard = (rows.astype(np.float64) - self.mean) / self.scale
        result: Floats = np.linalg.norm(standard @ self.whitening, axis=1)
        return result


def fit(rows: NDArray) -> Centre:
    """Return the centre of rows [n, d], n >= 2: one for all classes.

    The covariance of the standardised features is shrunk towards that of unrelated ones, by the
    amount that is best for the squared error: so it exists for fewer cases than features as well.
    Source: Ledoit and Wolf 2004, J. Multivar. Anal. 88:365.
    """
    values = rows.astype(np.float64)
    n, d = values.shape
    mean, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(spread, _LEAST_SPREAD * float(np.sqrt(np.square(spread).mean())))
    scale = np.where(scale > 0, scale, 1.0)
    standard = (values - mean) / scale
    covariance = standard.T @ standard / n
    size = float(np.trace(covariance)) / d
    away = float(np.square(covariance).sum()) / d - size**2
    noise = (float((np.square(standard).sum(axis=1) ** 2).mean()) / d
             - float(np.square(covariance).sum()) / d) / n  # fmt: skip
    shrinkage = 1.0 if away <= 0 else min(1.0, max(_LEAST_SHRINKAGE, noise / away))
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices(d)] += shrinkage * size if size > 0 else 1.0
    lower = np.linalg.cholesky(shrunk)
    whitening = solve_triangular(lower, np.eye(d), lower=True).T
    return Centre(mean, scale, np.ascontiguousarray(whitening), shrinkage)
