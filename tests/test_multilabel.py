"""Several labels an image: MedMNIST's own numbers, scikit-learn's, and what a constant scores."""

from __future__ import annotations

import time

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from scipy.special import expit
from sklearn import metrics as sk

from beitmed.statistics import areas, bootstrap
from beitmed.tasks import multilabel
from beitmed.tasks.average_precision import AveragePrecision

TASK = "multi-label, binary-class"


def draw(n=300, labels=4, *, seed=0, ties=False):
    """Labels that go together, and logits that favour them."""
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=(n, 1))
    y = rng.normal(size=(n, labels)) + ill > 1.5
    logits = rng.normal(size=(n, labels)) + 1.5 * y - 1
    return y.astype(np.int64), np.round(logits) if ties else logits


def evaluate(y, logits, *, n_resamples=200, seed=0):
    names = tuple(f"label {i}" for i in range(y.shape[1]))
    return multilabel.evaluate(
        test_logits=logits, test_labels=y, class_names=names, seed=seed, n_resamples=n_resamples
    )


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_accuracy_are_medmnists(ties):
    y, logits = draw(ties=ties)
    probability = expit(logits)
    if ties:
        assert (logits == 0).sum() > 20  # a probability of one half is not called
    got = evaluate(y, logits)
    assert got["auc"].value == pytest.approx(getAUC(y, probability, TASK), abs=1e-12)
    assert got["accuracy"].value == pytest.approx(getACC(y, probability, TASK), abs=1e-12)
    assert multilabel.auc(y, logits) == got["auc"].value
    assert multilabel.accuracy(y, logits) == pytest.approx(got["accuracy"].value, abs=1e-15)
    none = np.full(y.shape, -1.0)
    assert got["accuracy_all_negative"].value == pytest.approx(getACC(y, none, TASK), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_values_agree_with_scikit_learn(ties):
    y, logits = draw(ties=ties)
    got = evaluate(y, logits)
    expected = {
        "average_precision": sk.average_precision_score(y, logits, average="macro"),
        "brier": np.mean([sk.brier_score_loss(y[:, i], expit(logits[:, i])) for i in range(4)]),
    }
    for i in range(4):
        expected[f"auc_label_{i}"] = sk.roc_auc_score(y[:, i], logits[:, i])
        expected[f"average_precision_label_{i}"] = sk.average_precision_score(y[:, i], logits[:, i])
    for name, value in expected.items():
        assert got[name].value == pytest.approx(value, abs=1e-12), name
        assert got[name].ci_low < value < got[name].ci_high, name
        assert got[name].n == 300
    assert list(got)[:2] == ["auc", "average_precision"]


@pytest.mark.parametrize("ties", [False, True])
def test_weights_count_like_repeated_cases(ties):
    rng = np.random.default_rng(4)
    y, logits = draw(60, 3, ties=ties)
    function = AveragePrecision(y == 1, logits)
    weights = rng.integers(0, 3, (60, 20))
    for got, w in zip(function(weights.astype(np.float32)), weights.T, strict=True):
        again = [np.repeat(a, w, axis=0) for a in (y, logits)]
        each = sk.average_precision_score(*again, average=None)
        assert got == pytest.approx([*each, each.mean()], abs=1e-12)


def test_a_label_that_no_test_image_has_is_undefined_and_named():
    y, logits = draw()
    y[:, 2] = 0
    got = evaluate(y, logits)
    for name in ("auc", "average_precision", "auc_label_2", "average_precision_label_2"):
        assert got[name].value is None and got[name].n == 0, name
    assert "label 2" in got["auc"].reason and "label 2" in got["average_precision"].reason
    assert multilabel.auc(y, logits) is None
    assert got["auc_label_1"].value is not None and got["accuracy"].ci_low is not None
    y[:2, 2] = 1  # some resamples lack both
    assert evaluate(y, logits)["average_precision"].ci_low is not None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), np.zeros(3, int), "logits"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), int), "2 rows are not finite"),
        (np.zeros((2, 2)), np.array([0, 1]), "labels: shape"),
        (np.zeros((2, 2)), np.array([[0, 2], [1, 1]]), r"found \[2\]"),
        (np.zeros((0, 2)), np.zeros((0, 2), int), "no rows"),
    ],
)
def test_refuses(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        multilabel.evaluate(test_logits=logits, test_labels=labels, class_names=("a", "b"), seed=0)


def test_the_interval_of_the_mean_auc_knows_that_labels_go_together():
    """Labels that are copies of each other are one. Independent ones have a third of its length."""
    y, logits = draw(400, 9)
    one = areas.auc_interval(y[:, 0] == 1, logits[:, 0])[:2]
    copies = areas.mean_auc_interval(np.repeat(y[:, :1], 9, 1) == 1, np.repeat(logits[:, :1], 9, 1))
    assert copies[:2] == pytest.approx(one, abs=0.004)
    low, high, _ = areas.mean_auc_interval(y == 1, logits)
    assert 0.25 < (high - low) / (one[1] - one[0]) < 0.6


@pytest.mark.slow
def test_intervals_cover():
    """Mean AUC and mean average precision of 150 images. A false alarm: below 1e-4 each."""
    trials, names = 120, ("auc", "average_precision")
    big = draw(300_000, seed=99)
    truth = [multilabel.auc(*big), sk.average_precision_score(*big, average="macro")]
    found = [evaluate(*draw(150, seed=seed), seed=seed) for seed in range(trials)]
    for name, value in zip(names, truth, strict=True):
        each = [got[name] for got in found]
        assert sum(e.ci_low <= value <= e.ci_high for e in each) >= 0.86 * trials, name
        length = np.mean([e.ci_high - e.ci_low for e in each])
        assert length == pytest.approx(3.92 * np.std([e.value for e in each]), rel=0.3), name


def test_as_many_images_as_chestmnist_take_seconds():
    rng = np.random.default_rng(0)
    y = (rng.random((22_433, 14)) < 0.05).astype(np.int64)
    logits = rng.normal(size=y.shape) + y
    start = time.process_time()
    got = evaluate(y, logits, n_resamples=2000)
    assert time.process_time() - start < 15  # about 4
    assert got["average_precision"].interval == "jackknife"
    assert bootstrap.resamples(10_000, 2000) == 2000 and bootstrap.resamples(10**6, 2000) == 500
