"""Seeds, families of comparisons, calibration, shifts, decisions, planning: oracles and hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
from scipy.special import expit, log_softmax, logit
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.power import TTestPower

from beitmed.statistics import (
    areas,
    clusters,
    comparisons,
    decisions,
    folds,
    jackknife,
    planning,
    reliability,
    seeds,
    shift,
)
from beitmed.statistics.spread import Measure

BREAST = np.repeat([True, False], [42, 114])


def models(rng, count=1, area=0.9, seed=0.0):
    apart = stats.norm.ppf(area) * np.sqrt(2) + seed * rng.normal(size=(count, 1))
    return 0.8 * rng.normal(size=156) + 0.6 * rng.normal(size=(count, 156)) + apart * BREAST


# --- Seeds


def test_the_seed_ratio_is_the_chi_square_interval_of_a_variance():
    """Measures whose test images move no model on its own: SD^2 is the seeds' alone."""
    values = np.array([0.80, 0.83, 0.86, 0.81])
    shared = np.full(100, 0.002)
    found = seeds.seed_ratio(Measure(values, np.tile(shared, (4, 1))))
    test = 100 * 0.002**2
    tails = stats.chi2.ppf([0.975, 0.025], 3)
    expected = 3 * values.var(ddof=1) / tails / test
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.value == pytest.approx(values.var(ddof=1) / test)
    assert found.heavier is None  # four seeds cannot tell
    heavy = seeds.seed_ratio(Measure(values * 10, np.tile(shared, (4, 1))))
    light = seeds.seed_ratio(Measure(values / 10, np.tile(shared, (4, 1))))
    assert (heavy.heavier, light.heavier) == ("seed", "test images")
    assert seeds.seed_ratio(Measure(values[:1], shared[None])) is None


def test_any_measure_over_seeds_is_summarised():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(3, 200))
    measure = jackknife.measure(x.mean(axis=1), clusters.mean_contributions(x))
    found = seeds.summary(measure, "positive")
    assert found.mean == pytest.approx(x.mean()) and 0 < found.low < found.mean < found.high
    assert found.covers == seeds.TEST_AND_SEEDS
    flat = seeds.summary(Measure(np.ones(2), np.zeros((2, 9))), "share")
    assert flat.low is None and "no variance" in flat.reason


# --- Pairs and families


def test_patients_count_once_in_a_pair():
    """Every image four times, as of one patient: as much is known as of the images once."""
    rng = np.random.default_rng(1)
    a, b = models(rng), models(rng, area=0.85)
    group = np.repeat(np.arange(156), 4)
    y = np.repeat(BREAST, 4)
    one = comparisons.auc_differences(BREAST, {"a": a, "b": b})["a", "b"]
    four = comparisons.auc_differences(
        y, {"a": a.repeat(4, axis=1), "b": b.repeat(4, axis=1)}, groups=group
    )["a", "b"]
    assert four.se == pytest.approx(one.se, rel=1e-9)
    right = {"a": (a > 1) == BREAST, "b": (b > 1) == BREAST}
    one = comparisons.accuracy_differences(right)["a", "b"]
    right = {name: c.repeat(4, axis=1) for name, c in right.items()}
    four = comparisons.accuracy_differences(right, groups=group)["a", "b"]
    apart = comparisons.accuracy_differences(right)["a", "b"]
    assert four.se == pytest.approx(one.se, rel=0.1) and apart.se < 0.6 * four.se


def test_p_and_interval_of_accuracies_agree():
    rng = np.random.default_rng(2)
    for _ in range(300):
        right = {k: rng.random((1, 60)) < 0.8 for k in "ab"}
        found = comparisons.accuracy_differences(right)["a", "b"]
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_the_mean_auc_of_one_column_is_compared_as_the_auc():
    rng = np.random.default_rng(3)
    a, b = models(rng, 3, seed=0.2), models(rng, 3, seed=0.2)
    names = {"a": [1, 2, 3], "b": [1, 2, 3]}
    plain = comparisons.auc_differences(BREAST, {"a": a, "b": b}, names)
    columns = {"a": a[:, :, None], "b": b[:, :, None]}
    assert comparisons.mean_auc_differences(BREAST[:, None], columns, names) == plain
    lacking = comparisons.mean_auc_differences(np.ones((156, 1), bool), columns)["a", "b"]
    assert lacking.p is None and "lacks" in lacking.reason


def test_simultaneous_intervals_are_bonferronis():
    rng = np.random.default_rng(4)
    found = list(comparisons.auc_differences(BREAST, {k: models(rng) for k in "abc"}).values())
    for d, (low, high) in zip(found, comparisons.simultaneous(found), strict=True):
        half = stats.norm.isf(0.025 / 3) * d.se
        assert (low, high) == pytest.approx((d.value - half, d.value + half))
    nothing = comparisons.Difference.undefined("no reason")
    assert comparisons.simultaneous([nothing, found[0]])[0] is None


def test_planned_comparisons_are_of_the_others_less_the_reference():
    rng = np.random.default_rng(5)
    right = {k: rng.random((1, 80)) < 0.7 for k in "abc"}
    found = comparisons.accuracy_differences(right)
    against = comparisons.against(found, "b")
    assert list(against) == ["a", "c"]
    assert against["a"] == found["a", "b"]
    turned = against["c"]
    assert turned.value == -found["b", "c"].value and turned.low == -found["b", "c"].high
    assert turned.only_first == found["b", "c"].only_second and turned.p == found["b", "c"].p


# --- Calibration


def test_temperature_of_several_classes_is_the_best_one():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 4, 300)
    logits = 3 * (rng.normal(size=(300, 4)) + np.eye(4)[labels])

    def loss(t):
        return -log_softmax(logits / t, axis=1)[np.arange(300), labels].sum()

    expected = optimize.minimize_scalar(loss, bounds=(0.1, 20), method="bounded").x
    assert reliability.fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-4)
    assert "misclassified" in reliability.fit_temperature(9 * np.eye(4)[labels], labels)
    assert "the same for every class" in reliability.fit_temperature(
        np.full((5, 3), 0.1), labels[:5] % 3
    )
    tied = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert "misclassified" in reliability.fit_temperature(tied, np.array([0, 1]))


def test_recalibration_agrees_with_statsmodels():
    rng = np.random.default_rng(7)
    m = 2 * rng.normal(size=400)
    y = rng.random(400) < expit(0.6 * m + 0.3)
    found = reliability.recalibration(m, y)
    fit = sm.GLM(y * 1.0, sm.add_constant(m), family=sm.families.Binomial()).fit(cov_type="HC1")
    assert found.slope == pytest.approx(fit.params[1], rel=1e-3)
    assert found.slope_high - found.slope_low == pytest.approx(3.92 * fit.bse[1], rel=0.02)
    fit = sm.GLM(y * 1.0, np.ones(400), family=sm.families.Binomial(), offset=m).fit(cov_type="HC1")
    assert found.large == pytest.approx(fit.params[0], rel=1e-3)
    assert found.large_high - found.large_low == pytest.approx(3.92 * fit.bse[0], rel=0.02)
    assert "separated" in reliability.recalibration(np.array([-1.0, -2, 3]), np.arange(3) == 2)


def test_calibration_error_by_hand_and_of_too_few():
    """Two bins of 20 whose gaps are 0.2 and -0.1: their sampling variances are taken away."""
    p = np.repeat([0.3, 0.8], 20)
    y = np.concatenate([np.arange(20) < 10, np.arange(20) < 14])
    found = reliability.calibration_error(p, y)
    assert not isinstance(found, str)
    assert 0 <= found.low <= found.value <= found.high < 0.4
    many = reliability.calibration_error(p.repeat(500), y.repeat(500))
    assert many.value == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 2), abs=0.02)
    assert "too few" in reliability.calibration_error(p[:15], y[:15])


def test_reliability_bins_hold_every_case_once():
    rng = np.random.default_rng(8)
    p = rng.random(101)
    y = rng.random(101) < p
    bins = reliability.reliability_bins(p, y)
    assert sum(b.n for b in bins) == 101
    assert all(b.low <= b.observed <= b.high for b in bins)
    assert np.average([b.predicted for b in bins], weights=[b.n for b in bins]) == pytest.approx(
        p.mean()
    )


# --- Shift of the class mix


def test_scaling_is_a_logistic_regression_of_the_margin():
    rng = np.random.default_rng(9)
    y = rng.integers(0, 2, 300)
    m = 3 * (rng.normal(size=300) + y)
    found = shift.fit_scaling(np.column_stack([np.zeros(300), m]), y)
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(m[:, None], y)
    assert 1 / found.temperature == pytest.approx(fit.coef_[0, 0], rel=2e-3)
    assert found.shift[1] == pytest.approx(fit.intercept_[0], rel=5e-3)
    assert "class 1" in shift.fit_scaling(np.zeros((3, 2)), np.zeros(3, int))


def shifted(rng, n, share, k=2):
    y = rng.choice(k, n, p=share)
    return y, 2 * (rng.normal(size=(n, k)) + 2 * np.eye(k)[y]) + 2 * np.log([0.3, 0.7])


def test_a_shift_is_found_and_corrected_and_none_is_left_alone():
    rng = np.random.default_rng(10)
    y_val, val = shifted(rng, 400, [0.3, 0.7])
    y, test = shifted(rng, 600, [0.8, 0.2])
    found = shift.detect(val, y_val, test)
    assert found.shifted and found.low[0] < 0.8 < found.high[0]
    assert found.prior.sum() == pytest.approx(1)
    assert (found.corrected.argmax(1) == y).mean() > (test.argmax(1) == y).mean()
    _, same = shifted(rng, 600, [0.3, 0.7])
    found = shift.detect(val, y_val, same)
    assert not found.shifted and found.corrected is same


# --- Decisions


def test_net_benefit_by_hand():
    y = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.1, 0.8, 0.2, 0.1])
    (found,) = decisions.decision_curve(p, y, np.array([0.25]))
    assert found.value == pytest.approx(1 / 5 - 1 / 5 / 3)
    assert found.treat_all == pytest.approx(2 / 5 - 3 / 5 / 3)
    assert found.gain == pytest.approx(found.value - found.treat_all)
    assert found.low <= found.value <= found.high


def test_predictive_values_at_the_test_sets_own_prevalence_are_its_own():
    rng = np.random.default_rng(11)
    y = rng.random(4000) < 0.3
    called = rng.random(4000) < np.where(y, 0.8, 0.1)
    ppv, npv = decisions.predictive_values(y, called, float(y.mean()))
    assert ppv[0] == pytest.approx(y[called].mean(), abs=1e-3)
    assert npv[0] == pytest.approx((~y)[~called].mean(), abs=1e-3)
    low, high = clusters.proportion_limits(y[called])[:2]
    assert (ppv[1], ppv[2]) == pytest.approx((low, high), abs=0.01)
    rare, _ = decisions.predictive_values(y, called, 0.01)
    assert logit(rare[0]) == pytest.approx(
        logit(0.01) + math.log(called[y].mean() / called[~y].mean()), abs=0.01
    )
    perfect, _ = decisions.predictive_values(y, y, 0.1)
    assert 0.9 < perfect[1] < perfect[0] <= perfect[2] <= 1


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
def test_an_operating_point_reaches_its_level_on_validation_cases(kind):
    rng = np.random.default_rng(12)
    y = rng.random(200) < 0.3
    score = rng.normal(size=200) + 1.5 * y
    test_y = rng.random(300) < 0.3
    test = rng.normal(size=300) + 1.5 * test_y, test_y, None
    found = decisions.operating_point(kind, 0.95, (score, y, None), test, seed=0, n_resamples=200)
    called = score >= found.threshold
    reached = called[y].mean() if kind == "sensitivity" else (~called)[~y].mean()
    cases = y.sum() if kind == "sensitivity" else (~y).sum()
    assert 0.95 <= reached < 0.95 + 1 / cases
    for name in ("sensitivity", "specificity"):
        wide, narrow = getattr(found, name), getattr(found, f"{name}_fixed")
        assert wide[0] == narrow[0] and wide[1] < narrow[1] < narrow[2] < wide[2]
    none = decisions.operating_point(kind, 0.95, (score, y & False, None), test, seed=0)
    assert none == "the validation set lacks a class"


def test_no_skill_by_hand():
    found = decisions.no_skill(np.array([30, 10]), np.array([60, 40]))
    assert found["accuracy"] == 0.75 and found["average_precision"] == 0.25
    assert found["f1"] == pytest.approx(0.4)
    assert found["brier"] == pytest.approx(2 * (0.75 * 0.4**2 + 0.25 * 0.6**2))
    assert "f1" not in decisions.no_skill(np.ones(3, int), np.ones(3, int))


# --- Planning


def test_power_agrees_with_statsmodels():
    """Of a paired t test of 25 differences of standard deviation 1."""
    expected = TTestPower().power(0.6, 25, 0.05)
    assert planning.power(0.6, 1 / 5, 24) == pytest.approx(expected, abs=1e-4)
    effect = TTestPower().solve_power(None, 25, 0.05, 0.8)
    assert planning.detectable(1 / 5, 24) == pytest.approx(effect, rel=1e-4)
    assert planning.power(0.0, 1.0) == pytest.approx(0.05)
    assert planning.detectable(1.0) == pytest.approx(2.8016, abs=1e-3)  # 1.43 x 1.96
    assert planning.detectable(1.0, 4) > 3.5  # which is too little for few seeds
    assert 5 < planning.detectable(1.0, 2) < 9


def test_images_needed_is_the_first_number_that_is_enough():
    design = planning.Design(planning.accuracy_variance(0.9, 0.85, 0.1), 0.0004)
    needed = planning.images_needed(0.05, design, seeds=5)
    se, df = design.standard_error(needed, 5)
    assert planning.power(0.05, se, df) >= 0.8
    assert planning.power(0.05, *design.standard_error(needed - 1, 5)) < 0.8
    assert planning.images_needed(0.005, design, seeds=3) is None  # the seeds alone hide it
    assert planning.images_needed(0.05, design, seeds=1) < needed


def test_planned_variance_of_an_auc_is_hanley_and_mcneils():
    variance = planning.auc_variance(0.9, 0.9, 0.5, 0.0) / 2 / 10_000
    q1, q2 = 0.9 / 1.1, 2 * 0.81 / 1.9
    exact = (0.09 + 4999 * (q1 - 0.81) + 4999 * (q2 - 0.81)) / 5000**2
    assert variance == pytest.approx(exact, rel=0.001)


@pytest.mark.parametrize(
    ("value", "se", "verdict"),
    [
        (0.0, 0.005, "equivalent"),
        (0.03, 0.005, "non-inferior"),
        (-0.05, 0.005, "inferior"),
        (0.0, 0.05, "cannot be told"),
    ],
)
def test_equivalence_is_two_one_sided_tests(value, se, verdict):
    d = comparisons.Difference(
        value, value - 2 * se, value + 2 * se, 0.5, "x", "x", "x", "x", None,
        centre=value, se=se, df=50.0,
    )  # fmt: skip
    found = planning.equivalence(d, 0.02)
    assert found.verdict == verdict
    assert found.p_noninferior == pytest.approx(stats.t.sf((value + 0.02) / se, 50))
    assert (found.p_equivalent < 0.05) == (verdict == "equivalent")
    assert planning.equivalence(comparisons.Difference.undefined("why"), 0.02) is None


def test_one_variant_has_no_luck_to_take_away():
    measure = areas.mean_auc(BREAST[:, None], models(np.random.default_rng(13))[:, :, None])
    found = planning.best_of([measure], seed=0)
    assert found.corrected == pytest.approx(found.value, abs=0.003)
    assert found.high - found.low == pytest.approx(3.92 * math.sqrt(measure.spread().test), rel=0.1)


def test_a_published_value_lies_where_one_more_seed_would():
    values = np.array([0.90, 0.91, 0.92])
    found = planning.beside_published(values, 0.905, rounding=0.0)
    half = stats.t.isf(0.025, 2) * 0.01 * math.sqrt(4 / 3)
    assert (found.low, found.high) == pytest.approx((0.005 - half, 0.005 + half))
    assert not found.assumed and planning.beside_published(values[:1], 0.9) is None
    assumed = planning.beside_published(values[:1], 0.9, assumed_sd=0.01, rounding=0.0)
    assert assumed.assumed and assumed.high == pytest.approx(1.959964 * 0.01 * math.sqrt(2))


def test_folds_are_a_mean_within_a_wider_interval_than_their_cases_alone():
    rng = np.random.default_rng(14)
    parts = [areas.interval(BREAST[:, None], models(rng)[:, :, None]) for _ in range(5)]
    mean, low, high = folds.area(parts)
    assert mean == pytest.approx(np.mean([p[0].values[0] for p in parts]))
    alone = np.sqrt(sum(((p[2] - p[1]) / 2) ** 2 for p in parts)) / 5
    assert low < mean < high and (high - low) / 2 > 1.15 * alone


def test_perfect_folds_are_not_certain():
    y = np.repeat([True, False], [4, 6])
    perfect = areas.interval(y[:, None], y[None, :, None].astype(float))
    assert folds.area([perfect] * 5)[0] == 1 and folds.area([perfect] * 5)[1] < 0.95
    value, low, high = folds.accuracy(np.ones(50), np.arange(50) % 5)
    assert (value, high) == (1, 1) and 0.85 < low < 0.95
