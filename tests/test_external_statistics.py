"""The statistics of external testing, against other people's implementations.

What simulation shows of them: tables unpaired_pairs and chosen_rules of `scripts/simulate.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from PIL import Image
from scipy import ndimage, stats
from scipy.special import expit
from statsmodels.stats.proportion import confint_proportions_2indep

from beitmed.data import colour
from beitmed.external import image_statistics
from beitmed.statistics import (
    areas,
    calibration,
    decisions,
    optimism,
    platt,
    reliability,
    shift,
    two_samples,
    unpaired,
)
from beitmed.statistics.proportions import wilson


@pytest.mark.parametrize("counts", [(50, 60, 300, 400), (0, 20, 3, 40), (156, 156, 500, 624)])
def test_of_proportions_it_is_newcombes(counts):
    k1, n1, k2, n2 = counts
    sides = [(k / n, *map(float, wilson(k, n))) for k, n in ((k1, n1), (k2, n2))]
    value, low, high = unpaired.difference(*sides)
    expected = confint_proportions_2indep(k1, n1, k2, n2, compare="diff", method="newcomb")
    assert value == pytest.approx(k1 / n1 - k2 / n2, abs=1e-12)
    assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_of_two_areas_of_many_cases_it_is_that_of_the_sum_of_delongs_variances():
    rng, found, variance = np.random.default_rng(3), [], 0.0
    for n, apart in ((3000, 1.5), (4000, 1.2)):
        y = np.arange(n) % 3 == 0
        score = rng.normal(size=n) + apart * y
        area, own = areas.delong(y, score)
        found.append((area, *areas.auc_interval(y, score)[:2]))
        variance += own
    value, low, high = unpaired.difference(*found)
    half = 1.959964 * variance**0.5
    assert (low, high) == pytest.approx((value - half, value + half), abs=5e-4)


def test_a_difference_of_symmetrical_intervals_adds_their_squares():
    assert unpaired.difference((3.0, 0.0, 6.0), (1.0, -3.0, 5.0)) == (2.0, -3.0, 7.0)


# --- Rules that were fitted to the cases they are judged on


def test_optimism_is_that_of_a_loop_by_hand():
    rng = np.random.default_rng(0)
    y = rng.random(60) < 0.4
    score = rng.normal(size=60) + y

    def fit(cases):
        return calibration.accuracy_threshold(score[cases], y[cases], 1)

    def rates(cut, cases):
        return np.array([((score > cut) == y)[cases].mean()])

    [found] = optimism.corrected(fit, rates, 60, [None], seed=5, n_resamples=50)
    again, gaps = np.random.default_rng(5), []
    for _ in range(50):
        drawn = again.integers(0, 60, 60)
        cut = fit(drawn)
        gaps.append(((score > cut) == y)[drawn].mean() - ((score > cut) == y).mean())
    apparent = ((score > fit(np.arange(60))) == y).mean()
    assert found.apparent == apparent
    assert found.value == pytest.approx(apparent - np.mean(gaps), abs=1e-12)
    half = stats.t.isf(0.025, 59) * np.std(gaps, ddof=1)
    expected = found.value - half, found.value + half
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.value < found.apparent


def test_whole_patients_are_drawn_and_widen_the_interval():
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(30) % 2 == 0, 6)
    score = np.repeat(rng.normal(size=30), 6) + y
    groups = np.repeat(np.arange(30), 6)
    drawn = []

    def rates(cut, cases):
        drawn.append(cases)
        return np.array([(score[cases] > cut)[y[cases]].mean()])

    def width(groups):
        drawn.clear()
        [found] = optimism.corrected(
            lambda c: 0.3, rates, y.size, [90], groups=groups, seed=2, n_resamples=200
        )
        return found.high - found.low

    assert width(groups) > 1.5 * width(None)
    width(groups)
    assert all((np.bincount(c, minlength=180).reshape(30, 6).std(axis=1) == 0).all() for c in drawn)


def test_a_rule_that_few_resamples_have_is_a_reason():
    def fit(cases):
        return "none" if 0 not in cases else 1.0

    found = optimism.corrected(
        fit, lambda rule, cases: np.array([rule]), 20, [90], seed=0, n_resamples=100
    )
    assert isinstance(found, str) and "of 100 bootstrap resamples only" in found
    assert (
        optimism.corrected(lambda c: "no class", fit, 20, [], seed=0, n_resamples=9) == "no class"
    )


# --- Recalibration


def _cases(n=400):
    rng = np.random.default_rng(2)
    x = 2 * rng.normal(size=n)
    return x, rng.random(n) < expit(0.5 * x - 0.7)


def test_slope_intercept_and_calibration_in_the_large_are_statsmodels():
    x, y = _cases()
    found = reliability.recalibration(x, y)
    free = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(cov_type="HC1")
    fixed = sm.GLM(y, np.ones(y.size), family=sm.families.Binomial(), offset=x).fit()
    assert (found.intercept, found.slope) == pytest.approx(free.params, abs=1e-4)
    assert found.large == pytest.approx(fixed.params[0], abs=1e-4)
    limits = free.conf_int()
    assert (found.intercept_low, found.intercept_high) == pytest.approx(limits[0], abs=5e-3)
    assert (found.slope_low, found.slope_high) == pytest.approx(limits[1], abs=5e-3)


def test_a_scaling_fits_what_is_free_as_statsmodels_does():
    x, y = _cases()
    logits, labels = np.column_stack([np.zeros(x.size), x]), y.astype(int)
    binomial = {"family": sm.families.Binomial()}
    both = shift.fit_scaling(logits, labels)
    free = sm.GLM(y, sm.add_constant(x), **binomial).fit().params
    assert (both.shift[1], 1 / both.temperature) == pytest.approx(tuple(free), abs=1e-3)
    moved = shift.fit_scaling(logits, labels, free="shift")
    fixed = sm.GLM(y, np.ones(y.size), **binomial, offset=x).fit().params[0]
    assert (moved.temperature, moved.shift[1]) == pytest.approx((1.0, fixed), abs=1e-3)
    cooled = shift.fit_scaling(logits, labels, free="temperature")
    slope = sm.GLM(y, x, **binomial).fit().params[0]
    assert cooled.shift.tolist() == [0, 0]
    assert 1 / cooled.temperature == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_line_is_statsmodels_on_any_scale_of_the_scores(scale):
    x, y = _cases()
    binomial = {"family": sm.families.Binomial()}
    slope, moved = platt.fit(scale * x, y, "both")
    middle, free = sm.GLM(y, sm.add_constant(x), **binomial).fit().params
    assert (scale * slope, moved) == pytest.approx((free, middle), rel=1e-3)
    [cooled] = sm.GLM(y, x, **binomial).fit().params
    assert platt.fit(scale * x, y, "temperature") == (pytest.approx(cooled / scale, rel=1e-3), 0)
    assert platt.fit(x, x > -99, "both") == "the cases are all of one class"
    separable = platt.fit(scale * x, x > 0, "both")
    assert np.isfinite(separable).all() and scale * separable[0] > 5


def test_a_line_with_its_slope_held_is_recalibration_in_the_large():
    x, y = _cases()
    fixed = sm.GLM(y, np.ones(y.size), family=sm.families.Binomial(), offset=x).fit().params[0]
    assert platt.fit(x, y, "shift") == pytest.approx((1.0, fixed), rel=1e-3)


def test_a_threshold_at_a_level_reaches_it():
    x, y = _cases()
    cut = decisions.threshold_at("sensitivity", 0.9, x, y)
    assert (x >= cut)[y].mean() >= 0.9 > (x > cut)[y].mean()
    cut = decisions.threshold_at("specificity", 0.9, x, y)
    assert (x < cut)[~y].mean() >= 0.9
    assert decisions.threshold_at("sensitivity", 0.9, x, x < 99) == "the set lacks a class"


# --- Two samples


def test_the_energy_distance_is_scipys_and_free_of_scale():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 1)), rng.normal(1, 2, size=(60, 1))
    spread = np.concatenate([a, b]).std()
    found = two_samples.energy(a, b, (None, None), 0)
    apart = stats.energy_distance(a[:, 0] / spread, b[:, 0] / spread) ** 2
    between = np.abs(a - b.T).mean() / spread
    assert found.value == pytest.approx(apart / (2 * between), abs=1e-12)
    assert two_samples.energy(1000 * a, 1000 * b, (None, None), 0) == found
    assert found.p < 0.05


def test_alike_samples_are_told_apart_in_one_of_twenty_and_patients_move_together():
    rng = np.random.default_rng(1)
    p = [
        two_samples.energy(*rng.normal(size=(2, 25, 3)), (None, None), 0).p for _ in range(60)
    ]  # fmt: skip
    assert np.mean(np.array(p) < 0.05) < 0.15 and 0.35 < np.mean(p) < 0.65
    # Of ten patients with eight images each, images that were exchanged one by one would differ.
    patients = np.repeat(np.arange(10), 8)
    a, b = (np.repeat(rng.normal(size=(10, 3)), 8, axis=0) for _ in range(2))
    alone = two_samples.energy(a, b, (None, None), 0)
    together = two_samples.energy(a, b, (patients, patients), 0)
    assert alone.value == together.value and alone.p < 0.01 < together.p


# --- Images


def test_properties_of_images_are_what_their_names_say():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(5, 9, 9), dtype=np.uint8)
    images[0, 0] = 0
    found = image_statistics.measure(images)
    for image, row in zip(images.astype(float), found, strict=True):
        edges = np.abs(ndimage.laplace(image))[1:-1, 1:-1]
        expected = [image.mean(), image.std(), edges.mean(), (image == 0).mean(),
                    (image == 255).mean()]  # fmt: skip
        assert row == pytest.approx(expected, abs=1e-9)
    assert image_statistics.measure(images[..., None].repeat(3, -1)) == pytest.approx(found)


def test_a_brighter_set_is_told_and_an_equal_one_is_not():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 200, size=(2, 40, 8, 8), dtype=np.uint8)
    measured = [image_statistics.measure(x) for x in (a, b, b // 2)]
    same = image_statistics.compare(measured[0], measured[1], (None, None))
    darker = image_statistics.compare(measured[0], measured[2], (None, None))
    assert [p.name for p in same] == list(image_statistics.TITLES)
    assert same[0].ci_low < 0.5 < same[0].ci_high
    assert darker[0].higher == 0.0 and darker[0].ci_high < 0.1
    assert darker[0].external[1] == pytest.approx(np.median(measured[2][:, 0]))


def test_luminance_is_pillows():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(3, 20, 20, 3), dtype=np.uint8)
    expected = np.stack([np.asarray(Image.fromarray(i).convert("L")) for i in images])
    np.testing.assert_array_equal(colour.to_grey(images), expected)
    np.testing.assert_array_equal(colour.Converted(images)[:], expected)
    grey = colour.Converted(expected)
    assert grey.shape == (3, 20, 20, 3) and (grey[1] == expected[1][..., None]).all()
    assert colour.really_coloured(grey) == 0 and colour.really_coloured(images) == 3
    np.testing.assert_array_equal(colour.to_grey(grey[:]), expected)


def test_shares_near_the_edge_stay_inside():
    [found] = optimism.corrected(
        lambda cases: 0.0, lambda rule, cases: np.array([1.0]), 20, [20], seed=0, n_resamples=100
    )
    assert (found.apparent, found.value) == (1, 1) and 0.8 < found.low < found.high <= 1
