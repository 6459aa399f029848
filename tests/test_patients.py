"""Several images of a patient: what is estimated of them, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_task_objects import EACH, cases

from beitmed import tasks
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import Task, Use


def estimated(task: Task, times: int = 1, groups=None, n: int = 90) -> dict[str, Estimate]:
    """Every metric of `cases`, each case being there so many times."""
    logits, labels, names, positive = cases(task, n)
    both = {
        split: (np.repeat(logits[rows], times, axis=0), np.repeat(labels[rows], times, axis=0))
        for split, rows in (("val", slice(n // 3)), ("test", slice(n // 3, None)))
    }
    return tasks.evaluate(
        task,
        logits={s: x for s, (x, _) in both.items()},
        labels={s: y for s, (_, y) in both.items()},
        groups=groups and {s: groups(len(y)) for s, (_, y) in both.items()},
        class_names=names,
        positive=positive,
        seed=0,
        n_resamples=300,
        use=Use(0.2, ("sensitivity", 0.9)) if task.has_positive else Use(),
        own={"own": lambda labels, logits: float(np.mean(logits[:, 0] * labels.reshape(-1)[0]))},
    )


@EACH
def test_patients_of_one_image_each_are_images_that_are_counted(task):
    plain = estimated(task)
    found = estimated(task, groups=lambda n: [f"p{(7 * i) % n}" for i in range(n)])
    for name, e in plain.items():
        assert found[name] == replace(e, groups=e.n if e.value is not None else None), name


@EACH
def test_copies_of_an_image_tell_no_more_than_the_image(task):
    """Four copies under one patient's name: the values and, nearly, the intervals of one."""
    plain = estimated(task)
    found = estimated(task, 4, groups=lambda n: np.arange(n) // 4)
    naive = estimated(task, 4)
    for name, e in plain.items():
        got = found[name]
        if e.value is None or e.ci_low is None or "calibration_error" in name:
            continue  # bins of a different number of cases
        assert (got.groups, got.n) == (e.n, 4 * e.n), name
        assert got.value == pytest.approx(e.value, abs=0.02), name
        width, alone = got.ci_high - got.ci_low, e.ci_high - e.ci_low
        assert 0.75 * alone < width < 1.5 * alone, (name, got, e)
        if name in ("accuracy", "auc"):
            assert naive[name].ci_high - naive[name].ci_low < 0.7 * width, name


def test_n_says_images_and_patients():
    e = estimated(tasks.of("binary"), 2, groups=lambda n: [str(i // 2) for i in range(n)])
    assert e["accuracy"].text().endswith("n = 120 of 60 patients)")
    assert e["accuracy"].as_dict()["groups"] == 60
    assert e["sensitivity"].groups < 60
    assert e["temperature"].groups == 30  # of the validation set


def test_as_many_patients_as_images_are_needed():
    with pytest.raises(ValueError, match="test groups: 3 patients, but 60 cases"):
        estimated(tasks.of("multiclass"), groups=lambda n: ["a"] * (n if n == 30 else 3))


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.5, 0.8])
@pytest.mark.parametrize("patients", [40, 100])
def test_intervals_cover_with_patients_of_four_images(patients, correlation):
    rng, times, tries = np.random.default_rng(1), 4, 600
    names = ("auc", "accuracy", "sensitivity", "balanced_accuracy", "brier")
    shift, threshold = 1.5, 0.75

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(rng.random(count) < 0.5, times)
        own = np.repeat(rng.normal(size=count), times) * correlation**0.5
        return y, own + rng.normal(size=y.size) * (1 - correlation) ** 0.5 + shift * y - threshold

    def logits(m: np.ndarray) -> np.ndarray:
        return np.column_stack([np.zeros(m.size), m])

    def ask(y: np.ndarray, m: np.ndarray, groups) -> dict[str, Estimate]:
        none = {"logits": np.zeros((0, 2)), "labels": np.zeros(0, int)}
        return tasks.evaluate(
            tasks.of("binary"), logits={"val": none["logits"], "test": logits(m)},
            labels={"val": none["labels"], "test": y.astype(int)},
            groups={"test": groups}, class_names=("a", "b"), positive=1, seed=0, n_resamples=400,
        )  # fmt: skip

    true = {name: e.value for name, e in ask(*draw(40_000), None).items() if name in names}
    hits = dict.fromkeys(names, 0)
    for _ in range(tries):
        found = ask(*draw(patients), np.arange(patients * times) // times)
        for name in names:
            hits[name] += found[name].ci_low <= true[name] <= found[name].ci_high
    shares = {name: count / tries for name, count in hits.items()}
    print(patients, correlation, shares)
    # Few patients of one class (a sensitivity of 20) are covered in more than 95 %.
    assert all(0.92 <= share <= 0.99 for share in shares.values()), shares
    assert shares["accuracy"] <= 0.98, shares
