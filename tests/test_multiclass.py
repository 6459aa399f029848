"""Several classes and grades: MedMNIST's own numbers, scikit-learn's, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from scipy.special import softmax
from sklearn import metrics as sk

from beitmed.statistics import areas, seeds
from beitmed.tasks import multiclass, several_classes, two_classes
from beitmed.tasks import ordinal as ordinal_task


def draw(n=300, classes=5, *, seed=0, ties=False):
    """Labels and logits that favour the true class, and its neighbours a little."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    logits = rng.normal(size=(n, classes)) - 0.5 * np.abs(labels[:, None] - np.arange(classes))
    if ties:  # whole rows that are equal, of cases of different classes
        logits = logits[rng.integers(0, 25, n)]
    return labels, logits


def evaluate(labels, logits, *, ordinal=True, n_resamples=200, seed=0):
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return multiclass.evaluate(
        test_logits=logits, test_labels=labels, class_names=names, seed=seed,
        n_resamples=n_resamples, metrics=(ordinal_task if ordinal else multiclass).TASK.metrics,
    )  # fmt: skip


@pytest.mark.parametrize("task", ["multi-class", "ordinal-regression"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [3, 5, 11])
def test_auc_and_accuracy_are_medmnists(task, ties, classes):
    labels, logits = draw(600, classes, ties=ties)
    probability = softmax(logits, axis=1)
    got = evaluate(labels, logits)
    official = labels[:, None]
    assert got["auc"].value == pytest.approx(getAUC(official, probability, task), abs=1e-12)
    assert got["accuracy"].value == pytest.approx(getACC(official, probability, task), abs=1e-12)
    assert several_classes.auc(labels, logits) == got["auc"].value
    assert several_classes.accuracy(labels, logits) == got["accuracy"].value


def test_what_a_rounded_softmax_ties_is_told_apart():
    # As medmnist's Evaluator would be given it in float32: all three probabilities are 1.
    labels = np.array([0, 0, 1, 2])
    logits = np.array([[60.0, 0, 0], [50, 0, 0], [40, 0, 0], [0, 0, 1]])
    rounded = softmax(logits.astype(np.float32), axis=1)
    assert sk.roc_auc_score(labels == 0, rounded[:, 0]) < 1
    assert evaluate(labels, logits)["auc_class_0"].value == 1


def test_auc_of_the_same_scores_is_medmnists_whatever_is_tied():
    labels, logits = draw(600, 5)
    odds = several_classes.one_vs_rest(np.round(logits))
    expected = getAUC(labels[:, None], odds, "multi-class")
    assert several_classes.auc(labels, np.round(logits)) == pytest.approx(expected, abs=1e-12)


def test_cases_that_differ_in_the_order_of_the_other_classes_are_tied():
    logits = np.array([[0.3, 0.1, 0.7, 0.2], [0.3, 0.7, 0.2, 0.1], [0.3, 0.2, 0.1, 0.7]])
    assert len(set(several_classes.one_vs_rest(logits)[:, 0])) == 1


def test_two_classes_give_the_binary_numbers():
    labels, logits = draw(120, 2)
    got = evaluate(labels, logits, ordinal=False)
    margin = two_classes.margin(logits, 1)
    assert np.array_equal(several_classes.one_vs_rest(logits), np.column_stack([-margin, margin]))
    assert got["auc"].value == pytest.approx(two_classes.auc(labels, margin), abs=1e-12)
    low, high, _ = areas.auc_interval(labels == 1, margin)
    assert (got["auc"].ci_low, got["auc"].ci_high) == pytest.approx((low, high), abs=0.004)


@pytest.mark.parametrize("ties", [False, True])
def test_values_agree_with_scikit_learn(ties):
    labels, logits = draw(ties=ties)
    predicted, p = logits.argmax(axis=1), softmax(logits, axis=1)
    expected = {
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "f1_macro": sk.f1_score(labels, predicted, average="macro"),
        "mcc": sk.matthews_corrcoef(labels, predicted),
        "kappa": sk.cohen_kappa_score(labels, predicted),
        "kappa_quadratic": sk.cohen_kappa_score(labels, predicted, weights="quadratic"),
        "mean_absolute_error": sk.mean_absolute_error(labels, predicted),
        "log_loss": sk.log_loss(labels, p),
        "brier": np.mean(((p - np.eye(5)[labels]) ** 2).sum(axis=1)),
    }
    for c, recall in enumerate(sk.recall_score(labels, predicted, average=None)):
        expected[f"sensitivity_class_{c}"] = recall
        expected[f"auc_class_{c}"] = sk.roc_auc_score(labels == c, p[:, c])
    got = evaluate(labels, logits)
    for name, value in expected.items():
        assert got[name].value == pytest.approx(value, abs=1e-12), name
        assert got[name].ci_low <= value <= got[name].ci_high, name
        assert got[name].n == ((labels == int(name[-1])).sum() if "sens" in name else 300)
    assert set(evaluate(labels, logits, ordinal=False)) == set(got) - set(ordinal_task.GRADES)


def test_a_class_without_a_test_case_is_undefined_and_named():
    labels, logits = draw()
    kept = labels != 3
    got = evaluate(labels[kept], logits[kept])
    for name in ("auc", "balanced_accuracy", "f1_macro", "sensitivity_class_3", "auc_class_3"):
        assert got[name].value is None and got[name].n == 0, name
    assert "class 3" in got["auc"].reason
    assert several_classes.auc(labels[kept], logits[kept]) is None
    assert got["accuracy"].value is not None and got["mcc"].ci_low is not None


def test_what_cannot_vary_has_a_reason():
    labels = np.repeat([0, 1, 2], 4)
    perfect = evaluate(labels, 9 * np.eye(3)[labels])
    assert perfect["auc"].value == 1 and 0.3 < perfect["auc"].ci_low < 0.95
    assert perfect["mcc"].value == 1 and "do not vary" in perfect["mcc"].reason
    constant = evaluate(labels, np.tile([1.0, 0, 0], (12, 1)))
    assert constant["mcc"].value is None and constant["kappa"].value == 0
    single = evaluate(np.append(labels, 3), 9 * np.eye(4)[np.append(labels, 2)])
    assert single["kappa"].ci_low is not None and single["auc"].ci_low is not None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 1)), [0, 0, 0], "logits"),
        (np.zeros((3, 2), int), [0, 0, 0], "logits"),
        (np.array([[0, np.inf]]), [0], "1 rows are not finite"),
        (np.zeros((2, 3)), [0, 3], r"found \[3\] of 3"),
        (np.zeros((2, 3)), [[0], [1]], "labels"),
        (np.zeros((0, 3)), [], "no rows"),
    ],
)
def test_refuses(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(labels), logits)


def of_mean(member, score):
    found = areas.mean_auc(member, score[None])
    return found.values[0], found.spread().test


def test_mean_delong_of_one_column_is_delong():
    labels, logits = draw(90, 3, ties=True)
    y, score = labels == 1, logits[:, 1]
    assert of_mean(y[:, None], score[:, None]) == pytest.approx(areas.delong(y, score), rel=1e-12)


@pytest.mark.slow
def test_the_interval_of_the_mean_auc_covers():
    """Three classes, 120 cases. Chance of a false alarm: below 1e-4."""
    rng, trials, shift = np.random.default_rng(6), 500, 1.5

    def sample(n):
        labels = rng.choice(3, n, p=[0.2, 0.3, 0.5])
        return labels[:, None] == np.arange(3), rng.normal(size=(n, 3)) + shift * np.eye(3)[labels]

    truth = of_mean(*sample(400_000))[0]
    found = [areas.mean_auc_interval(*sample(120)) for _ in range(trials)]
    hits = sum(low <= truth <= high for low, high, _ in found)
    assert 0.91 * trials <= hits <= 0.985 * trials


def test_votes_that_are_equal_are_tied_whatever_the_others_got():
    votes = np.array([[2, 3, 0, 0], [2, 1, 1, 1], [2, 2, 1, 0], [1, 2, 1, 1], [3, 0, 1, 1]])
    odds = several_classes.one_vs_rest(np.log((votes + 1) / 9))
    for c in range(4):
        assert len(set(odds[:, c])) == len(set(votes[:, c]))
    assert odds == pytest.approx(np.log((votes + 1) / (8 - votes)))


@pytest.mark.parametrize("count", [1, 3])
def test_the_mean_auc_of_one_column_over_seeds_is_the_auc_of_two_classes(count):
    rng = np.random.default_rng(3)
    y = rng.random(80) < 0.3
    scores = rng.normal(size=(count, 80)) + y
    got, expected = (
        seeds.mean_auc_summary(y[:, None], scores[:, :, None]),
        seeds.auc_summary(y, scores),
    )
    for name in ("values", "mean", "sd", "test_se", "low", "high"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), abs=1e-12), name
    assert (got.covers, got.interval) == (expected.covers, areas.METHOD)


def test_the_mean_auc_of_one_seed_has_the_interval_of_its_run():
    labels, logits = draw()
    member, odds = labels[:, None] == np.arange(5), several_classes.one_vs_rest(logits)
    got, run = seeds.mean_auc_summary(member, odds[None]), evaluate(labels, logits)["auc"]
    assert (got.mean, got.low, got.high) == pytest.approx((run.value, run.ci_low, run.ci_high))
    tied = seeds.mean_auc_summary(member, np.zeros((2, *odds.shape)))
    assert tied.mean == 0.5 and 0.3 < tied.low < tied.high < 0.7
    absent = seeds.mean_auc_summary(member[:, [0, 0]] & False, odds[None, :, :2])
    assert absent.mean is None and absent.reason.startswith("2 of 2 classes")
