"""Changes of one model's results: values and variances against other engines, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from beitmed import tasks
from beitmed.statistics import changes, reliability, seeds
from beitmed.tasks import changes as of_tasks
from beitmed.tasks import over_seeds


def cases(n: int, classes: int, seed: int = 0, models: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    logits = rng.normal(size=(models, n, classes)) + 1.2 * (labels[:, None] == np.arange(classes))
    return labels, logits


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_balanced_accuracy_is_that_of_the_task_and_its_jackknife(name: str, grouped: bool):
    labels, logits = cases(90, 2 if name == "binary" else 3)
    groups = np.arange(90) // 3 if grouped else None
    positive = 1 if name == "binary" else None
    task = tasks.of(name)
    found = of_tasks.measures(task, labels, logits, positive, groups)["balanced_accuracy"]
    calls = logits.argmax(axis=2)
    metric = tasks.of("multiclass").metrics["balanced_accuracy"]
    expected = over_seeds.of_tables(metric, calls, labels, groups)
    np.testing.assert_allclose(found.values, expected.values)
    np.testing.assert_allclose(found.spread().test, expected.spread().test, rtol=0.05)
    assert found.few == expected.few


def test_balanced_accuracy_of_several_labels_is_the_mean_over_labels():
    rng = np.random.default_rng(1)
    labels = (rng.random((80, 3)) < 0.3).astype(np.int64)
    logits = rng.normal(size=(1, 80, 3)) + labels
    found = of_tasks.measures(tasks.of("multilabel"), labels, logits, None)
    called = logits[0] > 0
    sides = (called, labels == 1), (~called, labels == 0)
    rates = [right[:, i][among[:, i]].mean() for right, among in sides for i in range(3)]
    assert found["balanced_accuracy"].values[0] == pytest.approx(np.mean(rates))
    error = reliability.calibration_error(
        expit(logits[0]).ravel(), labels.ravel() == 1, np.repeat(np.arange(80), 3)
    )
    assert found["calibration_error"].values[0] == pytest.approx(error.value)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_calibration_error_is_that_of_the_reliability_module(grouped: bool):
    labels, logits = cases(160, 2, seed=3)
    groups = np.arange(160) // 2 if grouped else None
    found = of_tasks.measures(tasks.of("binary"), labels, logits * 3, 1, groups)
    for value, one in zip(found["calibration_error"].values, logits * 3, strict=True):
        p = expit(one[:, 1] - one[:, 0])
        assert value == pytest.approx(reliability.calibration_error(p, labels == 1, groups).value)
    top = of_tasks.measures(tasks.of("multiclass"), *cases(160, 3, seed=4), None)
    labels, logits = cases(160, 3, seed=4)
    expected = reliability.calibration_error(*reliability.top_label(logits[1], labels))
    assert top["calibration_error"].values[1] == pytest.approx(expected.value)


def test_what_is_undefined_has_a_reason():
    _, logits = cases(12, 2)
    found = of_tasks.measures(tasks.of("binary"), np.ones(12, np.int64), logits, 1)
    assert "lack" in found["auc"] and "lack" in found["balanced_accuracy"]
    assert "too few" in found["calibration_error"]


def test_a_change_is_paired_on_images_and_seeds():
    labels, logits = cases(200, 2, models=3)
    moved = logits + 0.1 * np.random.default_rng(8).normal(size=logits.shape)
    task = tasks.of("binary")
    before, after = (of_tasks.measures(task, labels, x, 1)["auc"] for x in (logits, moved))
    change = changes.less(after, before)
    np.testing.assert_allclose(change.values, after.values - before.values)
    assert change.spread().test < 0.2 * before.spread().test  # the same images in both
    same = changes.less(before, before)
    assert seeds.summary(same, "plain").low is None and not same.values.any()
    mean = changes.mean([before, after])
    np.testing.assert_allclose(mean.values, (before.values + after.values) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("n", [156, 624])
@pytest.mark.parametrize(("shift", "noise"), [(0.0, 0.1), (0.0, 1.0), (1.5, 0.3)])
def test_the_interval_of_a_change_covers_it(n: int, shift: float, noise: float):
    """95 % intervals cover in 90 % and more; more where hardly an image changes."""
    rng = np.random.default_rng(n)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y = (rng.random(count) < 0.73).astype(np.int64)
        z = 1.5 * (2 * y - 1) + 1.35 * rng.normal(size=count) + 0.5
        after = z - shift + noise * rng.normal(size=count)
        return y, *(np.column_stack([np.zeros(count), m])[None] for m in (z, after))

    def change(y: np.ndarray, *logits: np.ndarray) -> dict:
        before, after = (of_tasks.measures(tasks.of("binary"), y, x, 1) for x in logits)
        return {name: changes.less(after[name], before[name]) for name in of_tasks.MEASURES}

    truth = {name: found.values[0] for name, found in change(*draw(100_000)).items()}
    hits: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(400):
        for name, found in change(*draw(n)).items():
            told = seeds.summary(found, "plain")
            if told.low is not None:
                hits[name].append(told.low <= truth[name] <= told.high)
    assert all(np.mean(of_one) > 0.9 for of_one in hits.values()), hits
