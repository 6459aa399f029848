"""Statistics of maps: against SciPy and scikit-learn, and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr, t
from sklearn.metrics import roc_auc_score

from beitmed.statistics import maps

rng = np.random.default_rng(0)


def test_rank_correlation_is_spearmans():
    a, b = rng.integers(0, 9, (5, 49)), rng.integers(0, 9, (5, 49))  # with ties
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    assert maps.rank_correlation(a.astype(float), b.astype(float)) == pytest.approx(expected)
    assert maps.rank_correlation(1.0 * a, np.exp(1.0 * a)) == pytest.approx(1)
    assert maps.rank_correlation(1.0 * a, -1.0 * a) == pytest.approx(-1)


def test_a_constant_map_is_like_constant_ones_alone():
    flat, other = np.ones((1, 9)), np.arange(9.0)[None]
    assert maps.rank_correlation(flat, 5 * flat).tolist() == [1]
    assert maps.rank_correlation(flat, other).tolist() == [0]


def test_the_area_inside_is_an_roc_area():
    values, inside = rng.integers(0, 5, (4, 30)).astype(float), rng.random((4, 30)) < 0.3
    inside[3] = False
    found = maps.area_inside(values, inside)
    expected = [roc_auc_score(i, v) for i, v in zip(inside[:3], values[:3], strict=True)]
    assert found[:3] == pytest.approx(expected) and np.isnan(found[3])


def test_pointing_shares_a_tie():
    inside = np.array([[True, True, False, False]])
    for values, expected in (([3, 1, 2, 0], 1), ([1, 0, 2, 0], 0), ([2, 0, 2, 0], 0.5)):
        assert maps.points_inside(np.array([values], float), inside).tolist() == [expected]


def test_the_area_under_a_curve():
    assert maps.area(np.array([1.0, 1, 1])) == 1
    assert maps.area(np.array([[1.0, 0.5, 0], [0, 0, 1]])).tolist() == [0.5, 0.25]


def test_a_mean_has_the_interval_of_its_images_or_patients():
    values = rng.normal(0.3, 1, 20)
    wide = (-9.0, 9.0)
    found = maps.mean(np.append(values, np.nan), None, wide)
    half = t.isf(0.025, 19) * values.std(ddof=1) / np.sqrt(20)
    assert (found.n, found.groups) == (20, None)
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )
    # Every image twice is no news, where both are known to be of one patient.
    twice = maps.mean(np.repeat(values, 2), np.repeat(np.arange(20), 2), wide)
    assert (twice.ci_low, twice.ci_high, twice.groups) == pytest.approx(
        (found.ci_low, found.ci_high, 20)
    )
    assert maps.mean(np.array([0.5])).ci_low is None
    assert maps.mean(np.array([np.nan])).value is None
    assert maps.mean(np.array([1.0, 1, 0.5])).ci_high == 1
