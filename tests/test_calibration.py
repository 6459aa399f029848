"""Temperature, thresholds and prior against brute force and textbook algorithms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize
from scipy.special import log_expit
from two_class_cases import draw, run

from beitmed.statistics import calibration
from beitmed.tasks.binary import METRICS


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
    for name in ("temperature", "brier_temperature", "calibration_error_temperature"):
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


def test_accuracy_is_corrected_for_a_prior_that_differs():
    rng = np.random.default_rng(17)
    # Twice too confident, so that the margins are log odds only at temperature 2.
    val = draw(rng, 740, 260, temperature=0.5)
    test = draw(rng, 100, 900, temperature=0.5, prior=0.74)
    result = run(val=val, test=test)
    prior = result["estimated_prior"]
    assert prior.ci_low < 0.1 < prior.ci_high and prior.n == 1000
    assert result["prior_shift_p"].value < 1e-6
    assert result["accuracy_prior_corrected"].value > result["accuracy"].value + 0.05


def test_accuracy_is_left_alone_where_the_prior_does_not_differ_beyond_noise():
    left = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        result = run(val=draw(rng, 57, 21), test=draw(rng, 114, 42), n_resamples=10)
        if result["prior_shift_p"].value >= 0.05:
            assert result["accuracy_prior_corrected"] == result["accuracy"]
            left += 1
        else:
            corrected = result["accuracy_prior_corrected"].value
            assert corrected > result["accuracy"].value - 0.06
    assert left >= 34  # 95 % of 40, and some luck


def test_no_fit_sees_a_test_label():
    rng = np.random.default_rng(18)
    y, m = draw(rng, 42, 114)
    first, second = run(test=(y, m)), run(test=(rng.permutation(y), m))
    assert first["auc"] != second["auc"]
    fitted = [name for name, metric in METRICS.items() if metric.kind == "fitted"]
    assert len(fitted) == 5
    fitted += ["estimated_prior", "prior_shift_p"]
    for name in fitted:
        assert first[name] == second[name], name


OF_TEST = ("argmax", "prevalence", "operating point")  # the last was not asked for


def test_argmax_metrics_do_not_read_the_validation_set():
    test = draw(np.random.default_rng(23), 42, 114)
    first, second = run(test=test), run(val=([], []), test=test)
    for name in METRICS:
        assert (first[name] == second[name]) == (METRICS[name].rule in OF_TEST), name
