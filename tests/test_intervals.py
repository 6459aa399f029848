"""Intervals against other implementations, published examples and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn import metrics as sk
from statsmodels.stats.proportion import confint_proportions_2indep
from two_class_cases import binomial_bounds, draw, run

from beitmed.statistics import intervals
from beitmed.tasks.binary import METRICS
from beitmed.tasks.scored import Scored


@pytest.mark.parametrize(
    ("k", "n"), [(0, 5), (5, 5), (1, 1), (0, 114), (624, 624), (41, 42), (100, 156), (612, 624)]
)
def test_wilson_agrees_with_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    low, high = intervals.wilson(k, n)
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)
    assert (low == 0) == (k == 0) and (high == 1) == (k == n)  # exactly


def test_wilson_at_another_level_and_over_arrays():
    low, high = intervals.wilson(np.array([3, 7]), 10, level=0.8)
    for i, k in enumerate((3, 7)):
        expected = stats.binomtest(k, 10).proportion_ci(0.8, method="wilson")
        assert (low[i], high[i]) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (10, 10, 0, 10), (42, 42, 114, 114)])
def test_hybrid_score_agrees_with_statsmodels(counts):
    """Balanced accuracy is (1 + difference of p1 and 1 - p2) / 2."""
    k1, n1, k2, n2 = counts
    expected = confint_proportions_2indep(k1, n1, n2 - k2, n2, method="newcomb", compare="diff")
    got = intervals.mean_of_two_proportions(*counts)
    assert got == pytest.approx([(1 + x) / 2 for x in expected], abs=1e-9)


def test_hybrid_score_gives_the_published_example():
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 has the limits 0.0524 and 0.3339."""
    low, high = intervals.mean_of_two_proportions(56, 70, 80 - 48, 80)
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def textbook_delong(y, score):
    """DeLong et al. 1988 pair by pair."""
    pos, neg = score[y == 1], score[y == 0]
    wins = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in neg] for a in pos]
    v_pos = [sum(row) / len(neg) for row in wins]
    v_neg = [sum(column) / len(pos) for column in zip(*wins, strict=True)]
    area = sum(v_pos) / len(pos)
    s_pos = sum((v - area) ** 2 for v in v_pos) / (len(pos) - 1)
    s_neg = sum((v - area) ** 2 for v in v_neg) / (len(neg) - 1)
    return area, s_pos / len(pos) + s_neg / len(neg)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_agrees_with_the_textbook(ties):
    y, m = draw(np.random.default_rng(7), 23, 41, separation=1.0, ties=ties)
    area, variance = textbook_delong(y, m)
    assert intervals.delong(y == 1, m) == pytest.approx((area, variance), rel=1e-12)
    low, high, method = intervals.auc_interval(y == 1, m)
    z = 1.959963984540054
    for limit, sign in ((low, -1), (high, 1)):
        shift = sign * z * math.sqrt(variance) / (area * (1 - area))
        assert logit(limit) == pytest.approx(logit(area) + shift, rel=1e-9)
    assert method == "logit DeLong"


@pytest.mark.parametrize(
    ("y", "m", "value"),
    [
        ([1, 1, 1, 0, 0, 0], [3, 4, 5, 0, 1, 2], 1.0),
        ([0, 0, 0, 1, 1, 1], [3, 4, 5, 0, 1, 2], 0.0),
        ([0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 2], 0.5),
        ([1, 0, 0, 0], [1, 0, 1, 2], 0.5),
    ],
)
def test_auc_without_delong_variance_still_has_an_interval(y, m, value):
    e = run(test=(y, m))["auc"]
    assert e.value == value and e.interval == "Newcombe score"
    assert e.ci_high - e.ci_low > 0.3
    assert e.ci_low <= value <= e.ci_high
    assert (e.ci_low == 0) == (value == 0) and (e.ci_high == 1) == (value == 1)


@pytest.mark.parametrize(("area", "m", "n"), [(1.0, 42, 114), (0.0, 3, 9), (0.83, 20, 50)])
def test_newcombe_limits_solve_their_equation(area, m, n):
    z, half = 1.959963984540054, (m + n) / 2 - 1
    for t in intervals.newcombe_auc(area, m, n):
        q1, q2 = t / (2 - t), 2 * t * t / (1 + t)  # Hanley and McNeil 1982
        variance = (t * (1 - t) + half * (q1 - t * t) + half * (q2 - t * t)) / (m * n)
        assert (area - t) ** 2 == pytest.approx(z * z * variance, rel=1e-6, abs=1e-12)
    low, high = intervals.newcombe_auc(area, m, n)
    assert low < high and low <= area <= high


def test_newcombe_limits_of_one_pair_in_closed_form():
    z2 = 1.959963984540054**2
    assert intervals.newcombe_auc(1.0, 1, 1) == pytest.approx((1 / (1 + z2), 1.0))


@pytest.mark.parametrize("discrete", [False, True])
def test_bca_limits_agree_with_scipy_given_the_same_resamples(discrete):
    rng = np.random.default_rng(8)
    a, b = rng.exponential(1, 15), rng.exponential(2, 25)
    if discrete:  # replicates that equal the value itself
        a, b = (a > 0.7) * 1.0, np.ones(25)

    def ratio(x, y, axis=-1):
        return np.mean(x, axis=axis) / np.mean(y, axis=axis)

    draws = ratio(rng.choice(a, (999, 15)), rng.choice(b, (999, 25)))
    jack = [
        np.array([ratio(np.delete(a, i), b) for i in range(15)]),
        np.array([ratio(a, np.delete(b, i)) for i in range(25)]),
    ]
    first = stats.bootstrap((a, b), ratio, n_resamples=2, method="percentile")
    first.bootstrap_distribution = draws
    expected = stats.bootstrap(
        (a, b), ratio, n_resamples=0, bootstrap_result=first, method="BCa"
    ).confidence_interval
    got = intervals.bca_limits(ratio(a, b), draws, jack)
    assert got == pytest.approx((expected.low, expected.high), rel=1e-9)
    if discrete:
        assert np.mean(draws == ratio(a, b)) > 0.1
    else:  # the corrections matter here
        assert abs(got[1] / np.quantile(draws, 0.975) - 1) > 0.01


def test_bca_refuses_what_its_formula_cannot_do():
    many = np.linspace(0, 1, 2_000_000)
    skewed = [np.append(np.zeros(50), -1.0)]
    assert "too skewed" in intervals.bca_limits(1 - 1e-6, many, skewed)
    assert "one side" in intervals.bca_limits(2.0, many, skewed)
    assert "no acceleration" in intervals.bca_limits(0.5, many, [np.zeros(9)])
    assert "do not vary" in intervals.bca_limits(0.5, np.full(9, 0.5), skewed)
    assert isinstance(intervals.bca_limits(0.5, many, skewed), tuple)


def test_bca_of_the_brier_score_agrees_with_scipy():
    y, m = draw(np.random.default_rng(9), 30, 50)
    loss = (expit(m) - y) ** 2

    def brier(pos, neg, axis=-1):
        return (pos.sum(axis=axis) + neg.sum(axis=axis)) / 80

    expected = stats.bootstrap(
        (loss[y == 1], loss[y == 0]), brier, n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    got = run(test=(y, m), n_resamples=20_000)["brier"]
    # Each limit has a Monte Carlo error of about 1.5 % of the interval's length.
    length = expected.high - expected.low
    assert (got.ci_low, got.ci_high) == pytest.approx(tuple(expected), abs=0.08 * length)


def test_resamples_keep_class_sizes_and_cross_blocks(monkeypatch):
    y = np.repeat([True, False], [4, 9])
    classes = [np.flatnonzero(~y), np.flatnonzero(y)]

    def all_weights():
        return np.vstack(list(intervals._resamples(classes, 13, 50, np.random.default_rng(1))))

    weights = all_weights()
    assert weights.shape == (50, 13)
    assert (weights[:, y].sum(axis=1) == 4).all() and (weights[:, ~y].sum(axis=1) == 9).all()
    assert np.unique(weights, axis=0).shape[0] > 40
    monkeypatch.setattr(intervals, "_BLOCK", 13 * 7)
    assert len(list(intervals._resamples(classes, 13, 50, np.random.default_rng(1)))) == 8
    assert all_weights().shape == (50, 13)


def test_jackknife_leaves_out_each_case_once(monkeypatch):
    monkeypatch.setattr(intervals, "JACKKNIFE_GROUPS", 10)
    members = np.arange(5, 40)
    weights = np.vstack(list(intervals._left_out(members, 50, np.random.default_rng(0))))
    assert weights.shape == (10, 50)
    left_out = (weights == 0).sum(axis=0)
    assert (left_out[5:40] == 1).all() and left_out.sum() == 35
    assert set((weights == 0).sum(axis=1)) == {3, 4}


def test_grouped_jackknife_gives_nearly_the_same_interval(monkeypatch):
    test = draw(np.random.default_rng(10), 1500, 1500)
    single = run(test=test, n_resamples=500)
    monkeypatch.setattr(intervals, "JACKKNIFE_GROUPS", 100)
    grouped = run(test=test, n_resamples=500)
    for name in ("brier", "average_precision"):
        a, b = single[name], grouped[name]
        assert a != b
        length = a.ci_high - a.ci_low
        assert (b.ci_low, b.ci_high) == pytest.approx((a.ci_low, a.ci_high), abs=0.05 * length)


def test_auc_interval_covers_where_plain_delong_does_not():
    """42 against 114 cases at a true AUC of 0.95. Chance of a false alarm: below 1e-5."""
    rng, trials, truth = np.random.default_rng(11), 1500, 0.95
    shift = stats.norm.ppf(truth) * math.sqrt(2)
    y = np.repeat([True, False], [42, 114])
    hits, plain_hits = 0, 0
    for _ in range(trials):
        score = rng.normal(y * shift)
        low, high, _ = intervals.auc_interval(y, score)
        hits += low <= truth <= high
        area, variance = intervals.delong(y, score)
        plain_hits += abs(area - truth) <= 1.959964 * math.sqrt(variance)
    least, most = binomial_bounds(trials, 0.935, 0.965)
    assert least <= hits <= most
    assert plain_hits < 0.92 * trials < least + 30


def test_bootstrap_intervals_cover():
    """MCC and Brier score of 42 against 114 cases. Chance of a false alarm: below 1e-4 each."""
    rng, trials = np.random.default_rng(12), 600
    y, big = draw(rng, 420_000, 1_140_000, temperature=0.5)
    truth = {"mcc": sk.matthews_corrcoef(y, big > 0), "brier": np.mean((expit(big) - y) ** 2)}
    hits = dict.fromkeys(truth, 0)
    for i in range(trials):
        y, m = draw(rng, 42, 114, temperature=0.5)
        s = Scored(y == 1, m, m > 0)
        functions = {k: lambda w, k=k, s=s: METRICS[k].function(s, w) for k in truth}
        limits = intervals.bca(functions, s.y, seed=i, n_resamples=500)
        for name, (low, high) in limits.items():
            hits[name] += low <= truth[name] <= high
    least, most = binomial_bounds(trials, 0.93, 0.97, alarm=1e-4)
    assert 0.87 * trials < least and most < trials
    assert all(least <= count <= most for count in hits.values()), hits
