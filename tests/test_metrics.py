"""Metrics and intervals against other implementations, hand-made cases and simulation."""

from __future__ import annotations

import json
import math
import time
from itertools import pairwise

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from scipy import optimize, stats
from scipy.special import expit, log_expit, logit, softmax
from sklearn import metrics as sk
from statsmodels.stats.proportion import confint_proportions_2indep

from beitmed.statistics import calibration, intervals
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import measures
from beitmed.tasks.binary import METRICS, accuracy, auc, evaluate, margin
from beitmed.tasks.metric import Metric
from beitmed.tasks.scored import Scored

BOOTSTRAPPED = [name for name, metric in METRICS.items() if metric.kind == "bootstrap"]
NEEDS_VAL = [name for name, metric in METRICS.items() if metric.rule != "argmax"]


def draw(rng, n_pos, n_neg, *, separation=2.0, temperature=1.0, prior=None, ties=False):
    """Labels and margins of the binormal model: calibrated for `prior` at temperature 1."""
    y = np.repeat([1, 0], [n_pos, n_neg])
    prior = n_pos / (n_pos + n_neg) if prior is None else prior
    x = rng.normal((y - 0.5) * separation)
    m = (separation * x + logit(prior)) / temperature
    return y, np.round(m) if ties else m


def two_columns(m, positive=1):
    """Logits [n, 2] with the margin m of the positive class."""
    logits = np.zeros((len(m), 2))
    logits[:, positive] = m
    return logits


def run(val=None, test=None, *, positive=1, seed=0, n_resamples=200, train=(0, 0, 1, 1)):
    """`evaluate` on (y, margin) pairs, y being 1 for the positive class."""
    rng = np.random.default_rng(42)
    val = draw(rng, 40, 60) if val is None else val
    test = draw(rng, 42, 114) if test is None else test

    def of_class(y):
        return np.asarray(y, int) if positive == 1 else 1 - np.asarray(y, int)

    return evaluate(
        val_logits=two_columns(np.asarray(val[1], float), positive),
        val_labels=of_class(val[0]),
        test_logits=two_columns(np.asarray(test[1], float), positive),
        test_labels=of_class(test[0]),
        train_labels=of_class(train),
        positive=positive,
        seed=seed,
        n_resamples=n_resamples,
    )


def binomial_bounds(trials, lowest, highest, alarm=1e-5):
    """Counts that a coverage between `lowest` and `highest` leaves with at most this chance."""
    return stats.binom.ppf(alarm / 2, trials, lowest), stats.binom.isf(alarm / 2, trials, highest)


# --- Input


def test_margin_is_the_positive_logit_less_the_other():
    logits = np.array([[1.0, 4.0], [2.5, 2.0]])
    assert margin(logits, 1).tolist() == [3.0, -0.5]
    assert margin(logits, 0).tolist() == [-3.0, 0.5]


def test_margin_widens_float32_before_it_subtracts():
    logits = np.array([[1.0, 2**24 + 2]], np.float32)
    assert margin(logits, 1).dtype == np.float64
    assert margin(logits, 1)[0] == 2**24 + 1  # not a float32


@pytest.mark.parametrize(
    ("logits", "positive", "message"),
    [
        (np.zeros(4), 1, r"shape \(4,\)"),
        (np.zeros((4, 3)), 1, r"shape \(4, 3\)"),
        (np.zeros((4, 2), int), 1, "type int64"),
        (np.zeros((4, 2), complex), 1, "type complex128"),
        (np.zeros((4, 2)), 2, "positive: 2"),
        (np.array([[0, np.nan], [np.inf, 0], [1, 2], [np.inf, np.inf]]), 1, "3 of 4 rows"),
        (np.array([[-1e308, 1e308]]), 1, "1 of 1 rows"),
    ],
)
def test_margin_refuses(logits, positive, message):
    with pytest.raises(ValueError, match=message):
        margin(logits, positive)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0], [1]]), r"shape \(2, 1\)"),
        (np.array([0.0, 1.0]), "type float64"),
        (np.array([0, 2]), r"found \[2\]"),
        (np.array([0, -1]), r"found \[-1\]"),
        (np.array([0, 1, 1]), r"shape \(3,\)"),
    ],
)
def test_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(labels, np.zeros((2, 2)))


@pytest.mark.parametrize("change", ["n_resamples", "seed", "test", "nan"])
def test_evaluate_refuses(change):
    good = np.repeat([1, 0], 3), np.arange(6.0)
    with pytest.raises(ValueError, match={"test": "no rows", "nan": "1 of 6"}.get(change, change)):
        if change == "test":
            run(good, ([], []))
        elif change == "nan":
            run(good, (good[0], [0, 1, 2, 3, 4, np.nan]))
        else:
            run(good, good, **{change: -1})


# --- Point values


def test_auc_of_saturated_scores_comes_from_the_margin():
    y = np.array([1, 1, 0, 0])
    logits = np.array([[0, 60.0], [0, 50.0], [0, 40.0], [0, 30.0]])
    rounded = softmax(logits.astype(np.float32), axis=1)[:, 1]
    assert sk.roc_auc_score(y, rounded) == 0.5  # what the ties would give
    assert auc(y, margin(logits, 1)) == 1.0


def test_auc_counts_a_tied_pair_one_half():
    assert auc([1, 0, 1, 0], np.array([3.0, 3.0, 2.0, 1.0])) == (0.5 + 1 + 0 + 1) / 4
    assert auc([1, 1], np.array([0.0, 1.0])) is None
    assert auc([], np.array([])) is None


@pytest.mark.parametrize("score", [np.array([1.0, np.inf]), np.float32([0, 1]), [[0.0], [1.0]]])
def test_auc_refuses(score):
    with pytest.raises(ValueError, match="score"):
        auc([0, 1], score)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_accuracy_agree_with_medmnist(ties):
    y, m = draw(np.random.default_rng(1), 40, 110, separation=1.0, ties=ties)
    logits = two_columns(m)
    probability = softmax(logits, axis=1)
    if ties:
        assert np.sum(m == 0) > 5  # the tie rule is at work
    assert auc(y, m) == pytest.approx(getAUC(y[:, None], probability, "binary-class"), abs=1e-12)
    assert accuracy(y, logits) == getACC(y[:, None], probability, "binary-class")
    assert accuracy(y, logits) == getACC(y[:, None], probability, "multi-class")


def test_accuracy_of_a_tie_is_class_0():
    logits = np.zeros((3, 2))
    assert accuracy([0, 0, 1], logits) == pytest.approx(2 / 3)
    assert accuracy([], np.zeros((0, 2))) is None


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("ties", [False, True])
def test_values_agree_with_scikit_learn(positive, ties):
    y, m = draw(np.random.default_rng(2), 42, 114, separation=1.2, ties=ties)
    logits = two_columns(m, positive)
    called = np.argmax(logits, axis=1) == positive  # also where m is 0
    p = expit(m)
    got = {name: e.value for name, e in run(test=(y, m), positive=positive).items()}
    expected = {
        "auc": sk.roc_auc_score(y, m),
        "accuracy": sk.accuracy_score(y, called),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called),
        "sensitivity": sk.recall_score(y, called),
        "specificity": sk.recall_score(y, called, pos_label=0),
        "ppv": sk.precision_score(y, called),
        "npv": sk.precision_score(y, called, pos_label=0),
        "f1": sk.f1_score(y, called),
        "mcc": sk.matthews_corrcoef(y, called),
        "average_precision": sk.average_precision_score(y, m),
        "brier": sk.brier_score_loss(y, p),
        "brier_temperature": sk.brier_score_loss(y, expit(m / got["temperature"])),
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


def test_denominators():
    y, m = draw(np.random.default_rng(3), 42, 114, separation=1.2)
    n = {name: e.n for name, e in run(test=(y, m)).items()}
    called = int((m > 0).sum())
    assert (n["sensitivity"], n["specificity"]) == (42, 114)
    assert (n["ppv"], n["npv"]) == (called, 156 - called)
    assert n["auc"] == n["accuracy"] == n["f1"] == n["estimated_prior"] == 156
    assert n["temperature"] == n["val_threshold"] == 100


@pytest.mark.parametrize("name", BOOTSTRAPPED)
def test_a_weight_counts_like_a_repeated_case(name):
    """Each bootstrapped metric of weighted cases is that of the cases written out."""
    rng = np.random.default_rng(4)
    y, m = draw(rng, 12, 20, separation=1.0, ties=True)
    weights = rng.integers(0, 3, (20, y.size)).astype(float)

    def value(y, m, w):
        return METRICS[name].function(Scored(y == 1, m, m > 0), w)

    got = value(y, m, weights)
    for row, w in zip(got, weights.astype(int), strict=True):
        again = value(np.repeat(y, w), np.repeat(m, w), np.ones((1, w.sum())))[0]
        assert row == pytest.approx(again, rel=1e-12)
    assert np.unique(got).size > 5


def test_ece_agrees_with_a_loop_over_bins():
    rng = np.random.default_rng(5)
    p = np.concatenate([rng.random(120), [0.0, 1.0, 0.2, 0.4]])
    y = rng.random(p.size) < p  # gaps of both signs, so that the bins matter
    expected = 0.0
    for k in range(15):
        inside = (p * 15 >= k) & ((p * 15 < k + 1) | (k == 14))
        if inside.any():
            expected += inside.mean() * abs(y[inside].mean() - p[inside].mean())
    assert measures.ece(p, y[None, :])[0] == pytest.approx(expected, rel=1e-12)
    assert expected > 0.1


def test_ece_has_a_reference_in_place_of_an_interval():
    rng = np.random.default_rng(6)
    for temperature, calibrated in ((1.0, True), (0.3, False)):
        result = run(test=draw(rng, 390, 234, temperature=temperature), n_resamples=1000)
        reference = result["ece_if_calibrated"]
        assert result["ece"].ci_low is None and "biased" in result["ece"].reason
        assert 0.01 < reference.value < 0.08  # far from 0 although calibrated
        assert (reference.ci_low <= result["ece"].value <= reference.ci_high) == calibrated


# --- Intervals


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


# --- What is fitted


def test_temperature_minimises_the_likelihood():
    y, m = draw(np.random.default_rng(13), 60, 90, temperature=0.4)

    def loss(log_t):
        return -np.mean(log_expit(np.where(y == 1, m, -m) / np.exp(log_t)))

    best = optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    got = calibration.fit_temperature(m, y == 1)
    assert math.log(got) == pytest.approx(best.x, abs=1e-5)
    assert got > 1.5
    for scale in (1e-150, 1e150):
        assert calibration.fit_temperature(m * scale, y == 1) == pytest.approx(got * scale)


@pytest.mark.parametrize(
    ("y", "m", "reason"),
    [
        ([1, 1, 0, 0], [2.0, 1, -1, -2], "misclassified"),
        ([1, 1, 0, 0], [0.0, 0, 0, 0], "misclassified"),
        ([1, 1, 0, 0], [-2.0, 1, 1, -1], "do not favour"),
        ([1, 1, 0, 0], [-2.0, -1, 1, 2], "do not favour"),
        ([1, 1, 1, 1], [-2.0, 1, 1, 2], "no negative"),
        ([0, 0], [-2.0, 1], "no positive"),
        ([], [], "no positive"),
    ],
)
def test_no_temperature_is_made_up(y, m, reason):
    result = run(val=(y, m))
    for name in ("temperature", "brier_temperature", "ece_temperature", "accuracy_prior_corrected"):
        e = result[name]
        assert (e.value, e.ci_low, e.n) == (None, None, 0)
        assert reason in e.reason


def brute_force_cut(y, m, positive, merit):
    """All cuts between, below and above the margins, and 0, compared one by one."""
    v = sorted(set(m))
    cuts = [0.0, v[0] - 1, v[-1] + 1, *((a + b) / 2 for a, b in pairwise(v))]

    def key(cut):
        called = [x > cut or (x == cut and positive == 0) for x in m]
        tp = sum(c and t for c, t in zip(called, y, strict=True))
        tn = sum(not c and not t for c, t in zip(called, y, strict=True))
        return (*merit(tp, tn), -abs(cut), -cut)

    return max(cuts, key=key)


@pytest.mark.parametrize("positive", [0, 1])
def test_thresholds_agree_with_brute_force(positive):
    rng = np.random.default_rng(14)
    for _ in range(60):
        y, m = draw(rng, rng.integers(1, 25), rng.integers(1, 25), separation=1.0, ties=True)
        m = m + rng.integers(-2, 3)
        pos, neg = y.sum(), (y == 0).sum()
        cases = {
            calibration.accuracy_threshold: lambda tp, tn: (tp + tn, 0),
            calibration.specificity_threshold: lambda tp, tn, n=neg: (
                (tp, tn) if 20 * tn >= 19 * n else (-1, tn)
            ),
            calibration.sensitivity_threshold: lambda tp, tn, n=pos: (
                (tn, tp) if 20 * tp >= 19 * n else (-1, tp)
            ),
        }
        for function, merit in cases.items():
            got = function(m, y == 1, positive)
            assert got == brute_force_cut((y == 1).tolist(), m.tolist(), positive, merit)


def test_threshold_stays_at_argmax_unless_validation_beats_it():
    y = np.array([1, 1, 0, 0]) == 1
    assert calibration.accuracy_threshold(np.array([2.0, 1, -1, -2]), y, 1) == 0.0
    assert calibration.accuracy_threshold(np.array([6.0, 5, 4, -2]), y, 1) == 4.5


def test_val_threshold_is_applied_to_the_test_set():
    val = [1, 1, 0, 0], [6.0, 5, 4, -2]
    test = [1, 1, 1, 0, 0], [9.0, 4.4, 4.6, 4.4, 7]
    result = run(val=val, test=test)
    assert result["val_threshold"].value == 4.5
    assert result["accuracy_val_threshold"].value == 3 / 5
    assert result["sensitivity_at_val_specificity_95"].value == 2 / 3
    assert result["specificity_at_val_specificity_95"].value == 1 / 2


def test_a_cut_reaches_its_level_on_the_validation_set():
    val = draw(np.random.default_rng(15), 60, 80)
    result = run(val=val, test=val)
    assert 0.95 <= result["specificity_at_val_specificity_95"].value < 0.97
    assert 0.95 <= result["sensitivity_at_val_sensitivity_95"].value < 0.97
    assert result["accuracy_val_threshold"].value >= result["accuracy"].value


def em_prior(m, train_prior, steps=5000):
    """Saerens et al. 2002, eq. 2.9, step by step."""
    p, prior = expit(m), train_prior
    for _ in range(steps):
        up, down = p * prior / train_prior, (1 - p) * (1 - prior) / (1 - train_prior)
        prior = np.mean(up / (up + down))
    return prior


@pytest.mark.parametrize("train_prior", [0.27, 0.74])
def test_prior_agrees_with_em(train_prior):
    rng = np.random.default_rng(16)
    for separation in (1.0, 3.0):
        _, m = draw(rng, 90, 60, separation=separation, prior=train_prior)
        got = calibration.estimate_prior(m, train_prior)
        assert got == pytest.approx(em_prior(m, train_prior), abs=1e-6)
        assert 0.3 < got < 0.9


def test_prior_is_recovered_and_corrects_the_accuracy():
    rng = np.random.default_rng(17)
    # Twice too confident, so that the margins are log odds only at temperature 2.
    val = draw(rng, 7400, 2600, temperature=0.5)
    test = draw(rng, 1000, 9000, temperature=0.5, prior=0.74)
    train = np.repeat([1, 0], [740, 260])
    result = run(val=val, test=test, train=train)
    assert result["estimated_prior"].value == pytest.approx(0.1, abs=0.02)
    fitted = result["temperature"].value, result["estimated_prior"].value
    got = result["accuracy_prior_corrected"].value
    for temperature, prior, tolerance in ((*fitted, 1e-12), (2.0, 0.1, 0.01)):
        called = test[1] / temperature + logit(prior) - logit(0.74) > 0
        assert got == pytest.approx(np.mean(called == test[0]), abs=tolerance)
    assert got > result["accuracy"].value + 0.05


def test_prior_at_an_edge_and_of_saturated_margins():
    assert calibration.estimate_prior(np.array([-5.0, -4, -6]), 0.5) == 0.0
    assert calibration.estimate_prior(np.array([5.0, 4, 6]), 0.5) == 1.0
    assert calibration.estimate_prior(np.array([9e3, 9e3, 9e3, -9e3]), 0.5) == pytest.approx(0.75)
    one_sided = run(test=([1, 0], [-90.0, -91.0]))  # prior 0: a shift of minus infinity
    assert one_sided["estimated_prior"].value == 0.0
    assert one_sided["accuracy_prior_corrected"].value == 0.5


def test_no_fit_sees_a_test_label():
    rng = np.random.default_rng(18)
    y, m = draw(rng, 42, 114)
    first, second = run(test=(y, m)), run(test=(rng.permutation(y), m))
    assert first["auc"] != second["auc"]
    fitted = [name for name, metric in METRICS.items() if metric.kind == "fitted"]
    assert len(fitted) == 5
    for name in fitted:
        assert first[name] == second[name], name


def test_argmax_metrics_do_not_read_the_validation_set():
    test = draw(np.random.default_rng(23), 42, 114)
    first, second = run(test=test), run(val=([], []), test=test)
    for name in METRICS:
        assert (first[name] == second[name]) == (name not in NEEDS_VAL), name


# --- What is undefined


@pytest.mark.parametrize(
    ("y", "m", "undefined"),
    [
        (
            [1, 1, 1],
            [1.0, 2, -1],
            {"auc", "balanced_accuracy", "specificity", "mcc"},
        ),
        (
            [0, 0, 0],
            [1.0, 2, -1],
            {"auc", "balanced_accuracy", "sensitivity", "f1", "mcc", "average_precision"},
        ),
        ([1, 1, 0], [-1.0, -2, -1], {"ppv", "mcc"}),
        ([1, 0, 0], [1.0, 2, 1], {"npv", "mcc"}),
        ([1], [1.0], {"auc", "balanced_accuracy", "specificity", "npv", "mcc"}),
    ],
)
def test_undefined_is_none_with_a_reason(y, m, undefined):
    result = run(test=(y, m))
    assert {k for k in result if k not in NEEDS_VAL and result[k].value is None} == undefined
    for name in undefined:
        assert "the test set has no" in result[name].reason
        assert result[name].n == 0


def test_nothing_is_nan_or_collapsed_for_a_perfect_classifier():
    result = run(test=(np.repeat([1, 0], 20), np.repeat([7.0, -7.0], 20)))
    assert result["f1"].value == result["mcc"].value == result["average_precision"].value == 1
    for name in ("f1", "mcc", "average_precision", "brier"):
        assert result[name].ci_low is None and "do not vary" in result[name].reason
    for name in ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"):
        e = result[name]
        assert e.value == e.ci_high == 1 and 0.8 < e.ci_low < 0.97, name


def test_a_resample_without_a_value_takes_the_interval_away():
    y = np.repeat([1, 0], 10)
    m = np.where(np.arange(20) % 10 == 0, 1.0, -1.0)  # two predicted positives
    e = run(test=(y, m))["mcc"]
    assert e.value == 0 and e.ci_low is None
    assert "of 200 bootstrap resamples" in e.reason


def test_a_class_of_one_case_has_no_bootstrap_interval():
    e = run(test=([1, 0, 0, 0], [1.0, 0.5, -1, -2]))["brier"]
    assert e.value > 0 and e.ci_low is None and "only one positive case" in e.reason


def test_training_labels_of_one_class():
    e = run(train=(1, 1))["accuracy_prior_corrected"]
    assert e.value is None and "training labels" in e.reason


@pytest.mark.parametrize("positive", [0, 1])
def test_every_result_is_json_and_consistent(positive):
    rng = np.random.default_rng(19)
    for n_pos, n_neg, scale in ((0, 3, 1), (1, 1, 0), (5, 2, 1e-300), (30, 50, 1e300), (9, 9, 40)):
        y, m = draw(rng, n_pos, n_neg, prior=0.5)
        val = draw(rng, n_neg, n_pos, prior=0.5)
        result = run(val=val, test=(y, m * scale), positive=positive)
        assert list(result) == list(METRICS)
        text = json.dumps({name: e.as_dict() for name, e in result.items()}, allow_nan=False)
        assert json.loads(text)["accuracy"]["n"] == y.size
        for name, e in result.items():
            if e.ci_low is not None:
                assert e.ci_low <= e.ci_high and e.interval and e.n > 0, name
            else:
                assert e.reason and e.interval is None, name


@pytest.mark.parametrize(
    "fields",
    [
        (math.nan, None, None, 3, None, "x"),
        (None, None, None, 0, None, None),
        (0.5, 0.4, None, 3, "Wilson", None),
        (0.5, 0.4, 0.6, 3, None, "x"),
        (None, 0.4, 0.6, 3, "Wilson", None),
    ],
)
def test_an_inconsistent_estimate_cannot_be_made(fields):
    with pytest.raises(AssertionError):
        Estimate(*fields)


# --- The whole


def test_same_seed_same_result_and_another_seed_moves_the_bootstrap_only():
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    assert first == again
    moved = {name for name in METRICS if first[name] != other[name]}
    assert moved == {*BOOTSTRAPPED, "ece_if_calibrated", "ece_temperature_if_calibrated"}
    assert all(first[name].value == other[name].value for name in BOOTSTRAPPED)


def test_order_of_cases_does_not_matter():
    rng = np.random.default_rng(20)
    y, m = draw(rng, 42, 114, ties=True)
    order = rng.permutation(y.size)
    first, second = run(test=(y, m)), run(test=(y[order], m[order]))
    for name, metric in METRICS.items():
        if metric.kind == "reference":
            continue
        assert second[name].value == pytest.approx(first[name].value, rel=1e-12), name
        if metric.kind in ("auc", "proportion", "two proportions"):
            assert second[name].ci_low == pytest.approx(first[name].ci_low, rel=1e-12), name


def test_swapping_the_positive_class_swaps_the_rates():
    y, m = draw(np.random.default_rng(21), 42, 114, ties=True)
    logits = {"val_logits": two_columns(m), "test_logits": two_columns(m)}
    labels = dict.fromkeys(("val_labels", "test_labels", "train_labels"), y)
    one, zero = (evaluate(**logits, **labels, positive=p, seed=0, n_resamples=50) for p in (1, 0))
    assert one["auc"].value == pytest.approx(zero["auc"].value, rel=1e-12)
    assert one["sensitivity"] == zero["specificity"] and one["ppv"] == zero["npv"]
    for name in ("accuracy", "accuracy_val_threshold", "accuracy_prior_corrected"):
        assert one[name] == zero[name], name


def test_one_entry_adds_a_metric(monkeypatch):
    errors = Metric(
        lambda s: (int((s.y != s.predicted).sum()), s.y.size), "proportion", "Error", "lower", ""
    )
    monkeypatch.setitem(METRICS, "error", errors)
    result = run()
    assert result["error"].value == pytest.approx(1 - result["accuracy"].value)
    assert result["error"].ci_high == pytest.approx(1 - result["accuracy"].ci_low)


def test_pneumonia_sized_evaluation_is_fast():
    rng = np.random.default_rng(22)
    test, val = draw(rng, 390, 234), draw(rng, 389, 135)
    start = time.process_time()
    run(val=val, test=test, n_resamples=2000)
    assert time.process_time() - start < 1.5
