"""Metrics of two classes against other implementations and hand-made cases."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from scipy.special import expit, softmax
from sklearn import metrics as sk
from two_class_cases import draw, run, two_columns

from beitmed import tasks
from beitmed.statistics import areas
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.proportions import wilson
from beitmed.tasks import Use
from beitmed.tasks.binary import METRICS, evaluate
from beitmed.tasks.metric import Metric
from beitmed.tasks.scored import Scored
from beitmed.tasks.two_classes import accuracy, auc, margin

BOOTSTRAPPED = [name for name, metric in METRICS.items() if metric.kind == "bootstrap"]
NEEDS_VAL = [name for name, metric in METRICS.items() if metric.rule != "argmax"]


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


def test_the_calibration_error_of_a_calibrated_model_is_none_beyond_chance():
    rng = np.random.default_rng(6)
    for temperature, calibrated in ((1.0, True), (0.3, False)):
        result = run(test=draw(rng, 390, 234, temperature=temperature))
        error, slope = result["calibration_error"], result["calibration_slope"]
        assert (error.ci_low == 0) == calibrated and error.n == 624
        assert (slope.ci_low < 1 < slope.ci_high) == calibrated
        large = result["calibration_in_the_large"]
        assert large.ci_low < large.value < large.ci_high


def test_predictive_values_at_the_prevalence_of_the_test_set_are_its_own_but_for_half_a_case():
    test = draw(np.random.default_rng(8), 400, 1140)
    result = run(test=test, use=Use(prevalence=400 / 1540))
    for name in ("ppv", "npv"):
        stated = result[f"{name}_at_prevalence"]
        assert stated.value == pytest.approx(result[name].value, abs=0.002)
        assert stated.ci_low < result[name].value < stated.ci_high
    rare = run(test=test, use=Use(prevalence=0.01))
    assert rare["ppv_at_prevalence"].value < 0.1 < result["ppv"].value
    assert "evaluate.prevalence" in run(test=test)["ppv_at_prevalence"].reason


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
def test_an_operating_point_is_chosen_on_val_and_its_choice_is_counted(kind):
    rng = np.random.default_rng(9)
    val, test = draw(rng, 40, 60), draw(rng, 420, 1140)
    result = run(val=val, test=test, use=Use(operating_point=(kind, 0.9)))
    cut = result["operating_threshold"].value
    positive = kind == "sensitivity"
    reached = np.mean((val[1] >= cut)[val[0] == 1] if positive else (val[1] < cut)[val[0] == 0])
    assert 0.9 <= reached < 0.93
    e = result[f"{kind}_at_operating_point"]
    low, high = wilson(e.value * e.n, e.n)
    assert e.n == (420 if positive else 1140) and e.ci_low < low and e.ci_high > high
    assert "evaluate.operating_point" in run(test=test)["operating_threshold"].reason


def test_a_prediction_without_skill_is_what_scikit_learns_dummies_reach():
    y, _ = draw(np.random.default_rng(10), 42, 114)
    found = tasks.of("binary").no_skill(y, 2, 0)
    assert found["accuracy"] == sk.accuracy_score(y, np.zeros(156))
    assert found["f1"] == pytest.approx(sk.f1_score(y, np.zeros(156), pos_label=0))
    assert found["average_precision"] == sk.average_precision_score(y == 0, np.ones(156))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, np.full(156, 42 / 156)))
    assert {n for n in found if METRICS[n].better is None} == set()


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
    counted = [k for k in result if k not in NEEDS_VAL and not k.startswith("calibration")]
    assert {k for k in counted if result[k].value is None} == undefined
    for name in undefined:
        assert "the test set has no" in result[name].reason
        assert result[name].n == 0


def test_nothing_is_nan_or_collapsed_for_a_perfect_classifier():
    result = run(test=(np.repeat([1, 0], 20), np.repeat([7.0, -7.0], 20)))
    assert result["f1"].value == result["mcc"].value == result["average_precision"].value == 1
    for name in ("f1", "mcc", "brier"):
        assert result[name].ci_low is None and "do not vary" in result[name].reason
    assert "leaving out an image" in result["average_precision"].reason
    for name in ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"):
        e = result[name]
        assert e.value == e.ci_high == 1 and 0.8 < e.ci_low < 0.97, name


def test_resamples_without_a_value_are_drawn_again_unless_they_are_many():
    y = np.repeat([1, 0], 10)
    m = np.where(np.arange(20) % 10 == 0, 1.0, -1.0)  # two predicted positives
    e = run(test=(y, m))["mcc"]
    assert e.value == 0 and e.ci_low < -0.2 and e.ci_high > 0.2
    y = np.append([1], np.zeros(200, int))
    e = run(test=(y, np.where(y, 1.0, -1.0) * np.append([1], np.tile([1, -1], 100))))["f1"]
    assert e.value > 0 and "bootstrap resamples" in e.reason  # the positive is missing in 37 %


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
    assert e.value == value and e.interval == areas.METHOD
    assert e.ci_high - e.ci_low > 0.3
    assert e.ci_low <= value <= e.ci_high
    assert (e.ci_low == 0) == (value == 0) and (e.ci_high == 1) == (value == 1)


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


def test_same_seed_same_result_and_another_seed_moves_the_bootstrap_only():
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    assert first == again
    moved = {name for name in METRICS if first[name] != other[name]}
    assert moved == set(BOOTSTRAPPED)
    assert all(first[name].value == other[name].value for name in BOOTSTRAPPED)


def test_order_of_cases_does_not_matter():
    rng = np.random.default_rng(20)
    y, m = draw(rng, 42, 114, ties=True)
    order = rng.permutation(y.size)
    first, second = run(test=(y, m)), run(test=(y[order], m[order]))
    for name, metric in METRICS.items():
        if first[name].value is None:
            assert second[name] == first[name]
            continue
        tolerance = 1e-5 if metric.kind == "estimate" else 1e-12  # of an optimiser, or of the order
        assert second[name].value == pytest.approx(first[name].value, rel=tolerance), name
        if metric.kind in ("auc", "proportion", "two proportions"):
            assert second[name].ci_low == pytest.approx(first[name].ci_low, rel=1e-12), name


def test_swapping_the_positive_class_swaps_the_rates():
    y, m = draw(np.random.default_rng(21), 42, 114, ties=True)
    logits = {"val_logits": two_columns(m), "test_logits": two_columns(m)}
    labels = dict.fromkeys(("val_labels", "test_labels"), y)
    one, zero = (evaluate(**logits, **labels, positive=p, seed=0, n_resamples=50) for p in (1, 0))
    assert one["auc"].value == pytest.approx(zero["auc"].value, rel=1e-12)
    assert one["sensitivity"] == zero["specificity"] and one["ppv"] == zero["npv"]
    for name in ("accuracy", "accuracy_val_threshold", "accuracy_prior_corrected"):
        assert one[name] == zero[name], name


def test_one_entry_adds_a_metric(monkeypatch):
    errors = Metric(
        lambda s: (s.y != s.predicted, np.ones(s.y.size, bool)), "proportion", "Error", "lower", ""
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
