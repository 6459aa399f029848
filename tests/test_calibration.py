"""Temperature, thresholds and prior against brute force and textbook algorithms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit, log_expit, logit
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
        assert (first[name] == second[name]) == (METRICS[name].rule == "argmax"), name
