"""The distance to a set of cases, and what validation cases allow to rule out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.covariance import ledoit_wolf

from beitmed.statistics import coverage, distance


@pytest.mark.parametrize(("n", "d"), [(200, 5), (30, 60)])
def test_the_distance_is_that_of_ledoit_and_wolf(n, d):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    covariance, shrinkage = ledoit_wolf(standard, assume_centered=True)
    new = rng.normal(size=(9, d))
    away = (new - rows.mean(axis=0)) / rows.std(axis=0)
    expected = np.sqrt((away @ np.linalg.inv(covariance) * away).sum(axis=1))
    found = distance.fit(rows)
    assert found.shrinkage == pytest.approx(shrinkage)
    assert found.distances(new) == pytest.approx(expected)


def test_of_many_normal_cases_it_is_that_of_the_chi_distribution():
    rng = np.random.default_rng(1)
    found = distance.fit(rng.normal(size=(20_000, 8)) * np.arange(1, 9))
    new = found.distances(rng.normal(size=(20_000, 8)) * np.arange(1, 9))
    for share in (0.5, 0.99):
        assert (new**2 < chi2.ppf(share, 8)).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("rows", [np.zeros((4, 3)), np.eye(2, 3), np.tile([1.0, 2.0], (5, 1))])
def test_constant_features_have_a_distance_too(rows):
    found = distance.fit(rows)
    assert np.isfinite(found.distances(rows)).all()
    assert (found.distances(rows[:1] + 100) > found.distances(rows[:1])).all()


def test_the_range_that_the_paper_of_21_images_has():
    low, high = coverage.real_range(21, 0.1)
    assert (round(100 * low), round(100 * high)) == (79, 98)
    low, high = coverage.real_range(135, 0.1)
    assert (round(100 * low), round(100 * high)) == (86, 94)
    assert coverage.real_range(8, 0.1) == (1.0, 1.0) and coverage.fewest(0.1) == 9
    assert coverage.real_range(9, 0.1) != (1.0, 1.0)


def test_the_cut_by_hand():
    own = np.array([0.9, 0.2, 0.5, 0.7, 0.6, 0.3, 0.8, 0.4, 0.1])
    assert coverage.cut(own, 0.1).value == 0.1
    assert coverage.cut(own, 0.25).value == 0.2
    assert coverage.cut(own[:8], 0.1).value == 0.0  # too few: never ruled out
    assert coverage.cut(own[:0], 0.1) == coverage.Cut(0.0, 0, 1.0, 1.0)
    # Nine images of three patients tell what three do.
    known = coverage.cut(own, 0.1, np.arange(9) // 3)
    assert (known.value, known.n, known.low) == (0.1, 3, 1.0)


def test_the_real_coverage_is_the_stated_range_in_nine_of_ten_draws():
    rng = np.random.default_rng(2)
    real = np.array([1 - coverage.cut(rng.random(21), 0.1).value for _ in range(4000)])
    low, high = coverage.real_range(21, 0.1)
    assert ((real > low) & (real < high)).mean() == pytest.approx(0.9, abs=0.02)
    assert real.mean() == pytest.approx(20 / 22, abs=0.003)


@pytest.mark.parametrize("groups", [None, np.arange(40) // 2])
def test_each_validation_image_is_judged_by_the_others(groups):
    rng = np.random.default_rng(3)
    p, labels = rng.random((40, 3)), np.arange(40) % 3
    found = coverage.of_others(p, labels, 0.2, groups)
    patient = np.arange(40) if groups is None else groups
    for i in range(40):
        for c in range(3):
            others = p[(labels == c) & (patient != patient[i]), c]
            assert found[i, c] == (p[i, c] >= coverage.cut(others, 0.2).value)
