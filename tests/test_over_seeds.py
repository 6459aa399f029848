"""Metrics over several seeds: contributions of confusion tables, and summaries of intervals."""

from __future__ import annotations

import numpy as np
import pytest

from beitmed.statistics import comparisons, seeds
from beitmed.statistics.proportions import wilson
from beitmed.tasks import TASKS, over_seeds

METRICS = TASKS["ordinal"].metrics


def calls(rng: np.random.Generator, labels: np.ndarray, right: float) -> np.ndarray:
    other = rng.integers(0, 3, labels.size)
    return np.where(rng.random(labels.size) < right, labels, other)


@pytest.mark.parametrize("name", ["kappa_quadratic", "mean_absolute_error"])
@pytest.mark.parametrize("grouped", [False, True])
def test_contributions_are_those_of_leaving_each_image_or_patient_out(name: str, grouped: bool):
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    called = np.stack([calls(rng, labels, 0.6) for _ in range(2)])
    groups = np.arange(30) // 3 if grouped else None
    found = over_seeds.of_tables(METRICS[name], called, labels, groups)
    parts = 10 if grouped else 30
    assert found.contributions.shape == (2, parts)
    code = np.arange(30) if groups is None else groups
    for row, value, own in zip(called, found.values, found.contributions, strict=True):

        def of(kept: np.ndarray, row: np.ndarray = row) -> float:
            table = np.zeros((1, 3, 3), np.int64)
            np.add.at(table[0], (labels[kept], row[kept]), 1)
            return float(METRICS[name].function(table)[0])

        less = np.array([of(code != part) for part in range(parts)])
        assert value == pytest.approx(of(np.ones(30, bool)))
        expected = (less.mean() - less) * np.sqrt((parts - 1) / parts)
        assert own == pytest.approx(expected, abs=1e-12)


def test_a_true_difference_of_kappa_is_found_and_none_is_not():
    rng = np.random.default_rng(1)
    labels, found = np.arange(300) % 3, []
    for right in (0.6, 0.6, 0.9):
        called = calls(rng, labels, right)[None]
        found.append(over_seeds.of_tables(METRICS["kappa_quadratic"], called, labels, None))
    same, other, _ = comparisons.differences(
        dict(zip("abc", found, strict=True)), None, "jackknife"
    ).values()
    assert same.p > 0.05 > other.p and other.value < 0


def test_one_seed_keeps_its_own_interval():
    found = seeds.summary_of_intervals(np.array([0.7]), np.array([0.5]), np.array([0.8]))
    assert (found.mean, found.low, found.high) == pytest.approx((0.7, 0.5, 0.8))
    assert found.sd is None and found.covers == seeds.TEST_ONLY


def test_the_interval_over_seeds_covers_and_stays_a_share():
    """Sensitivity of 3 seeds on 60 images, which the seeds move as much as the images do."""
    rng, covered, repeats = np.random.default_rng(2), 0, 1000
    for _ in range(repeats):
        hard = rng.random(60)  # the seeds share their images
        hits = [(hard < p).sum() for p in 0.8 + 0.05 * rng.standard_normal(3)]
        low, high = np.array([wilson(int(h), 60) for h in hits], float).T
        found = seeds.summary_of_intervals(np.array(hits) / 60, low, high)
        assert 0 <= found.low <= found.mean <= found.high <= 1
        covered += found.low <= 0.8 <= found.high
    assert 0.94 <= covered / repeats <= 1
