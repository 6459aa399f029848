"""Intervals of one test set: proportions, areas, the bootstrap and the jackknife, patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.proportion import confint_proportions_2indep

from beitmed.statistics import areas, bootstrap, clusters, jackknife
from beitmed.statistics.proportions import mean_of_two_proportions, wilson

# --- Proportions


@pytest.mark.parametrize(
    ("k", "n"), [(0, 5), (5, 5), (1, 1), (0, 114), (624, 624), (41, 42), (100, 156), (612, 624)]
)
def test_wilson_agrees_with_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(k, n)
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)
    assert (low == 0) == (k == 0) and (high == 1) == (k == n)  # exactly


def test_wilson_at_another_level_and_over_arrays():
    low, high = wilson(np.array([3, 7]), 10, level=0.8)
    for i, k in enumerate((3, 7)):
        expected = stats.binomtest(k, 10).proportion_ci(0.8, method="wilson")
        assert (low[i], high[i]) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (10, 10, 0, 10), (42, 42, 114, 114)])
def test_hybrid_score_agrees_with_statsmodels(counts):
    """Balanced accuracy is (1 + difference of p1 and 1 - p2) / 2."""
    k1, n1, k2, n2 = counts
    expected = confint_proportions_2indep(k1, n1, n2 - k2, n2, method="newcomb", compare="diff")
    got = mean_of_two_proportions(*counts)
    assert got == pytest.approx([(1 + x) / 2 for x in expected], abs=1e-9)


def test_hybrid_score_gives_the_published_example():
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 has the limits 0.0524 and 0.3339."""
    low, high = mean_of_two_proportions(56, 70, 80 - 48, 80)
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
    rng, y = np.random.default_rng(7), np.repeat([1, 0], [23, 41])
    m = rng.normal(size=64) + y
    m = np.round(m) if ties else m
    area, variance = textbook_delong(y, m)
    assert areas.delong(y == 1, m) == pytest.approx((area, variance), rel=1e-12)


# --- The interval of an area


def hanley_mcneil(area, m, n):
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    half = (m + n) / 2 - 1
    return (area * (1 - area) + half * (q1 + q2 - 2 * area**2)) / (m * n)


@pytest.mark.parametrize(("m", "n"), [(42, 114), (4, 330), (1, 1)])
def test_a_perfect_ranking_has_a_score_interval_of_the_model(m, n):
    """Nothing is known of the variance, so the model of Hanley and McNeil stands alone."""
    y = np.repeat([True, False], [m, n])
    low, high, _ = areas.auc_interval(y, y * 1.0)
    assert high == 1
    q = stats.t.isf(0.025, 16)
    assert (1 - low) ** 2 < 1.3 * q**2 * hanley_mcneil(low, m, n)
    assert (1 - low) ** 2 > 0.5 * q**2 * hanley_mcneil(low, m, n)


@pytest.mark.parametrize(("m", "n"), [(42, 114), (4, 330), (100, 2000)])
def test_the_interval_does_not_leap_at_the_first_swapped_pairs(m, n):
    y = np.repeat([True, False], [m, n])
    score = np.where(y, 2.0, 1.0) + np.linspace(0, 0.5, m + n)
    lows, highs = [], []
    for swapped in range(4):
        s = score.copy()
        s[:swapped] = 1.5  # the lowest positives ...
        s[-1] = 1.6 if swapped else s[-1]  # ... below one negative
        low, high, _ = areas.auc_interval(y, s)
        lows.append(low)
        highs.append(high)
    # Errors that are few and small tell, little by little, that the variance is smaller than the
    # model's: so the interval may grow shorter, but by steps.
    steps = (1 - np.array(lows[1:])) / (1 - np.array(lows[:-1]))
    assert (steps > 0.75).all() and (steps < 1.5).all() and lows[0] - lows[1] < 0.05
    assert (np.diff(highs) <= 1e-5).all()


def test_the_interval_of_many_cases_is_wald():
    rng, y = np.random.default_rng(1), np.repeat([True, False], [3000, 4000])
    score = rng.normal(size=7000) + 0.8 * y
    area, variance = areas.delong(y, score)
    low, high, _ = areas.auc_interval(y, score)
    half = 1.959964 * np.sqrt(variance)
    assert (low, high) == pytest.approx((area - half, area + half), abs=0.02 * half)


def test_reversed_scores_reverse_the_interval():
    rng, y = np.random.default_rng(2), np.repeat([True, False], [12, 30])
    score = rng.normal(size=42) + y
    low, high, _ = areas.auc_interval(y, score)
    other = areas.auc_interval(~y, score)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=0.03)
    assert areas.auc_interval(~y, -score)[:2] == pytest.approx((low, high), abs=1e-12)


def test_copies_of_a_column_say_no_more_than_one():
    rng, y = np.random.default_rng(3), np.repeat([True, False], [40, 90])
    score = rng.normal(size=130) + 1.5 * y
    one = areas.auc_interval(y, score)[:2]
    three = areas.mean_auc_interval(np.repeat(y[:, None], 3, 1), np.repeat(score[:, None], 3, 1))
    assert three[:2] == pytest.approx(one, abs=0.06 * (one[1] - one[0]))


def test_rounding_does_not_break_ties():
    rng = np.random.default_rng(4)
    votes = rng.integers(0, 5, 60) / 4
    shaken = votes + rng.integers(-2, 3, 60) * 1e-16
    assert len(np.unique(areas.restore_ties(shaken))) == len(np.unique(votes))
    y = rng.random(60) < 0.4
    expected = sk.roc_auc_score(y, votes)
    assert areas.delong(y, areas.restore_ties(shaken))[0] == pytest.approx(expected, abs=1e-12)


# --- Patients


def obuchowski(y, score, group):
    """Obuchowski 1997, Biometrics 53:567, as printed."""
    v = np.zeros(y.size)
    v[y], v[~y] = areas.placements(y, score)
    area, m, n = v[y].mean(), y.sum(), (~y).sum()
    names = np.unique(group)
    pos = np.array([(v - area)[(group == g) & y].sum() for g in names])
    neg = np.array([(v - area)[(group == g) & ~y].sum() for g in names])
    i10 = sum(((group == g) & y).any() for g in names)
    i01 = sum(((group == g) & ~y).any() for g in names)
    s10, s01 = (pos @ pos) * i10 / ((i10 - 1) * m), (neg @ neg) * i01 / ((i01 - 1) * n)
    s11 = (pos @ neg) * names.size / (names.size - 1)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("mixed", [False, True])
def test_clustered_auc_variance_is_obuchowskis(mixed):
    rng, group = np.random.default_rng(5), rng_groups(60, 4)
    y = rng.random(240) < 0.4 if mixed else np.repeat(rng.random(60) < 0.4, 4)[group.argsort()]
    y = y if mixed else (group % 5 < 2)
    score = rng.normal(size=60)[group] + rng.normal(size=240) + y
    found = areas.mean_auc(y[:, None], score[None, :, None], group).spread().test
    # The factor of the covariance is the geometric mean of the other two, not a third one.
    assert found == pytest.approx(obuchowski(y, score, group), rel=2e-2 if mixed else 1e-12)


def rng_groups(number, size):
    return np.random.default_rng(9).permutation(np.repeat(np.arange(number), size))


def test_clusters_of_one_are_no_clusters():
    rng, y = np.random.default_rng(6), np.repeat([True, False], [30, 50])
    score, names = rng.normal(size=80) + y, rng.permutation(80).astype(str)
    plain, grouped = areas.mean_auc(y[:, None], score[None, :, None]), None
    grouped = areas.mean_auc(y[:, None], score[None, :, None], names)
    assert grouped.spread().test == pytest.approx(plain.spread().test, rel=1e-12)
    hit = rng.random(80) < 0.8
    variance = np.square(clusters.mean_contributions(hit * 1.0, names)).sum()
    assert variance == pytest.approx(hit.var(ddof=1) / 80, rel=1e-12)
    assert clusters.proportion_limits(hit)[:2] == pytest.approx(
        tuple(map(float, wilson(hit.sum(), 80)))
    )


def test_images_repeated_for_each_patient_say_no_more_than_patients():
    rng = np.random.default_rng(7)
    hit = rng.random(60) < 0.7
    group = np.repeat(np.arange(60), 5)
    low, high, method = clusters.proportion_limits(np.repeat(hit, 5), group)
    alone = [float(x) for x in wilson(hit.sum(), 60)]
    assert (low, high) == pytest.approx(alone, abs=0.012) and "patients" in method


# --- The bootstrap


def test_bca_agrees_with_scipy_given_the_same_resamples():
    rng = np.random.default_rng(8)
    a = rng.exponential(1, 25)
    draws = rng.choice(a, (999, 25)).mean(axis=1)
    jack = np.array([np.delete(a, i).mean() for i in range(25)])
    first = stats.bootstrap((a,), np.mean, n_resamples=2, method="percentile")
    first.bootstrap_distribution = draws
    expected = stats.bootstrap(
        (a,), np.mean, n_resamples=0, bootstrap_result=first, method="BCa"
    ).confidence_interval
    got = bootstrap.limits(a.mean(), draws, jack, np.ones(25, int))
    assert got == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert abs(got[1] / np.quantile(draws, 0.975) - 1) > 0.01  # the corrections matter here


def test_a_mean_of_cases_agrees_with_scipy():
    rng = np.random.default_rng(9)
    loss = rng.exponential(1, 80)
    expected = stats.bootstrap(
        (loss,), np.mean, n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    length = expected.high - expected.low
    features = np.column_stack([loss, np.ones(80)])
    [got] = bootstrap.of_sums(lambda s: s[:, :1] / s[:, 1:], features, seed=2, n_resamples=20_000)
    assert got == pytest.approx(tuple(expected), abs=0.05 * length)
    [weighted] = bootstrap.of_weights(
        lambda w: (loss @ w)[:, None] / 80, 80, seed=2, n_resamples=20_000
    )
    assert weighted == pytest.approx(tuple(expected), abs=0.05 * length)


def kappa(sums):
    t = sums.reshape(-1, 3, 3)
    n = t.sum(axis=(1, 2))
    chance = (t.sum(axis=1) * t.sum(axis=2)).sum(axis=1) / n**2
    return ((np.trace(t, axis1=1, axis2=2) / n - chance) / (1 - chance))[:, None]


def test_a_table_is_resampled_as_its_cases_are():
    rng = np.random.default_rng(10)
    actual = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    called = np.where(rng.random(300) < 0.7, actual, rng.integers(0, 3, 300))
    cells = np.eye(9)[actual * 3 + called]
    assert kappa(cells.sum(axis=0))[0, 0] == pytest.approx(sk.cohen_kappa_score(actual, called))
    [got] = bootstrap.of_sums(kappa, cells, seed=0, n_resamples=20_000)
    [cases] = bootstrap.of_weights(
        lambda w: kappa(w.T @ cells), 300, seed=1, n_resamples=20_000, jackknife=300
    )
    assert got == pytest.approx(cases, abs=0.04 * (got[1] - got[0]))


def test_patients_are_drawn_with_all_their_images():
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(50), 4)
    loss = np.repeat(rng.exponential(size=50), 4)
    features = np.column_stack([loss, np.ones(200)])
    args = {"seed": 0, "n_resamples": 5000}
    [grouped] = bootstrap.of_sums(lambda s: s[:, :1] / s[:, 1:], features, groups=group, **args)
    [patients] = bootstrap.of_sums(lambda s: s[:, :1] / s[:, 1:], features[::4], **args)
    assert grouped == pytest.approx(patients, rel=1e-9)


def test_a_resample_that_lacks_a_label_takes_the_value_of_another():
    y, column = np.zeros(100, bool), np.arange(100.0)
    y[:2] = True

    def lacking(weights):
        positives = weights[y].sum(axis=0)
        share = np.where(positives > 0, (weights[y] * [[1.0], [3.0]]).sum(axis=0), np.nan)
        return np.column_stack([share / np.maximum(positives, 1), (column @ weights) / 100])

    one, other, mean = bootstrap.of_weights(lacking, 100, mean=True, seed=0, n_resamples=500)
    assert one == (1, 3) and not isinstance(other, str) and not isinstance(mean, str)
    rare = bootstrap.of_weights(
        lambda w: np.where(w[:1].T > 1, 1.0, np.nan) * w[1:2].T, 100, seed=0, n_resamples=500
    )
    assert rare == ["undefined"]


@pytest.mark.parametrize(
    ("value", "draws", "jack", "reason"),
    [
        (0.5, np.full(9, 0.5), np.arange(9.0), "do not vary"),
        (0.5, np.linspace(0, 1, 99), np.zeros(9), "no acceleration"),
        (1 - 1e-6, np.linspace(0, 1, 2_000_000), np.append(np.zeros(50), -1.0), "too skewed"),
    ],
)
def test_bca_refuses_what_its_formula_cannot_do(value, draws, jack, reason):
    assert reason in bootstrap.limits(value, draws, jack, np.ones(jack.size, int))


# --- The jackknife


def test_the_jackknife_of_a_mean_is_its_variance():
    rng = np.random.default_rng(12)
    x = rng.exponential(size=70)
    value, bias, parts = jackknife.of_weights(lambda w: (x @ w / w.sum(axis=0))[:, None], 70)
    assert value[0] == pytest.approx(x.mean(), rel=1e-6)
    assert abs(bias[0]) < 1e-5
    assert np.square(parts).sum() == pytest.approx(x.var(ddof=1) / 70, rel=1e-4)
    features = np.column_stack([x, np.ones(70)])
    of_sums = jackknife.of_sums(lambda s: s[:, :1] / s[:, 1:], features)
    assert np.square(of_sums[2]).sum() == pytest.approx(x.var(ddof=1) / 70, rel=1e-12)


def test_the_jackknife_takes_the_bias_away():
    """The plug-in variance is biased by -1/n; the jackknife finds just that."""
    x = np.random.default_rng(13).normal(size=40)

    def variance(weights):
        total = weights.sum(axis=0)
        return ((x**2 @ weights) / total - ((x @ weights) / total) ** 2)[:, None]

    value, bias, _ = jackknife.of_weights(lambda w: variance(w.astype(float)), 40)
    assert value[0] - bias[0] == pytest.approx(x.var(ddof=1), rel=1e-9)


@pytest.mark.parametrize("scale", ["share", "correlation", "positive", "plain"])
def test_limits_keep_to_the_range(scale):
    low, high = jackknife.transformed(0.9, 0.3, scale)
    assert low < 0.9 < high
    least, most = {"share": (0, 1), "correlation": (-1, 1), "positive": (0, np.inf)}.get(
        scale, (0.6, 1.2)
    )
    assert least - 1e-12 <= low and high <= most + 1e-12
    small = jackknife.transformed(0.4, 1e-4, scale)
    assert small == pytest.approx((0.4 - 1e-4, 0.4 + 1e-4), abs=1e-7)
