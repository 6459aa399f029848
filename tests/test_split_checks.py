"""Class shares, shifts between splits, and images without content."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2
from statsmodels.stats.proportion import proportion_confint

from beitmed.audit import split_checks
from beitmed.data import Data, Split


def data_of(*counts: list[int]) -> Data:
    """Splits train, val and test with so many images of each class."""
    parts = [
        Split(np.zeros((sum(n), 28, 28), np.uint8), np.repeat(np.arange(len(n)), n)) for n in counts
    ]
    names = tuple(f"class {i}" for i in range(len(counts[0])))
    return Data(*parts, class_names=names, provenance={})


def test_shares_have_wilson_limits():
    shares = split_checks.class_shares(data_of([147, 399], [21, 57], [42, 114]))
    assert [(s.label, s.name, s.n) for s in shares["val"]] == [
        (0, "class 0", 21),
        (1, "class 1", 57),
    ]
    for share in shares["train"]:
        expected = proportion_confint(share.n, 546, method="wilson")
        assert np.allclose((share.ci_low, share.ci_high), expected)
        assert share.share == share.n / 546


def test_fishers_test_as_he_published_it():
    # The lady tasting tea, Fisher 1935: 3 of 4 right on either side, two-sided p = 34/70.
    [shift, _] = split_checks.class_shifts(data_of([3, 1], [9, 9], [1, 3]))
    assert (shift.splits, shift.test) == (("train", "test"), "Fisher's exact")
    assert shift.p_value == pytest.approx(34 / 70)
    assert not shift.found


def test_more_classes_have_pearsons_test():
    train, test = np.array([30, 50, 20]), np.array([60, 20, 20])
    [shift, same] = split_checks.class_shifts(data_of(list(train), [60, 20, 20], list(test)))
    expected = (train + test) / 2
    statistic = ((train - expected) ** 2 / expected + (test - expected) ** 2 / expected).sum()
    assert shift.p_value == pytest.approx(chi2.sf(statistic, 2))
    assert shift.found
    assert (same.p_value, same.found) == (pytest.approx(1.0), False)


def test_few_cases_in_more_classes_are_permuted():
    [shift, _] = split_checks.class_shifts(data_of([4, 0, 1], [5, 5, 5], [0, 4, 1]))
    assert "9,999 permutations" in shift.test
    # Every way to put five of the ten cases into the first split is equally likely.
    labels = np.array([0] * 4 + [1] * 4 + [2] * 2)

    def statistic(chosen: tuple[int, ...]) -> float:
        counts = np.bincount(labels[list(chosen)], minlength=3)
        expected = np.array([2, 2, 1])
        return float((2 * (counts - expected) ** 2 / expected).sum())

    every = np.array([statistic(c) for c in combinations(range(10), 5)])
    exact = np.mean(every >= statistic((0, 1, 2, 3, 8)) - 1e-9)
    assert shift.p_value == pytest.approx(exact, abs=0.005)


def test_a_shift_is_found_in_both_directions_and_a_lacking_class_is_none():
    assert split_checks.class_shifts(data_of([3494, 1214], [10, 10], [390, 234]))[0].found
    [shift, _] = split_checks.class_shifts(data_of([9, 0], [9, 0], [9, 0]))
    assert (shift.test, shift.p_value) == ("one class only", 1.0)


def test_sizes_that_are_not_the_official_ones():
    data = data_of([5, 5], [2, 2], [3, 3])
    assert split_checks.size_differences(data, {"train": 10, "val": 5, "test": 6}) == {
        "val": (4, 5)
    }


@pytest.mark.parametrize("colour", [(), (3,)])
def test_constant_and_saturated_images(colour):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 28, 28, *colour)).astype(np.uint8)
    images[1], images[3], images[4] = 0, 255, 77
    images[4, 5, 5] = 78  # a speck is content
    images[6] = np.where(images[6] > 99, 255, 0)
    if colour:
        images[7] = (10, 20, 30)
    split = Split(images, np.zeros(8, np.int64))
    assert split_checks.constant_images(split).tolist() == ([1, 3, 7] if colour else [1, 3])
    assert split_checks.saturated_images(split).tolist() == [6]
    empty = Split(images[:0], np.zeros(0, np.int64))
    assert split_checks.constant_images(empty).tolist() == []
    assert split_checks.saturated_images(empty).tolist() == []
