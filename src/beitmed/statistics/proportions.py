"""95 % intervals of proportions of cases."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from beitmed.statistics.level import LEVEL, Floats


def wilson(successes: object, trials: object, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return the Wilson score limits (low, high) of a proportion, elementwise.

    `successes` and `trials` broadcast; every trial count is positive.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209; without continuity correction.
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    assert np.all(n > 0) and np.all((k >= 0) & (k <= n))
    z2 = norm.isf((1 - level) / 2) ** 2
    centre = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    # With n successes, rounding would leave 1 - 1e-16; with none, the lower limit comes out as 0.
    return centre - half, np.where(k == n, 1.0, centre + half)


def mean_of_two_proportions(
    k1: float, n1: float, k2: float, n2: float, correlation: float = 0.0
) -> tuple[float, float]:
    """Return the limits of (k1/n1 + k2/n2) / 2; the two samples are independent, or correlated.

    This is the hybrid score interval for a difference of proportions, with the second one
    counted as failures: Newcombe 1998, Stat. Med. 17:873, method 10 (of correlated ones: Zou and
    Donner 2008, Stat. Med. 27:1693).
    """
    centre = (k1 / n1 + k2 / n2) / 2
    (l1, u1), (l2, u2) = wilson(k1, n1), wilson(k2, n2)

    def half(a: Floats, b: Floats) -> float:
        return float(np.sqrt(np.maximum(a**2 + b**2 + 2 * correlation * a * b, 0.0))) / 2

    low, high = half(k1 / n1 - l1, k2 / n2 - l2), half(u1 - k1 / n1, u2 - k2 / n2)
    return max(0.0, centre - low), min(1.0, centre + high)
