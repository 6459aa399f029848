"""What every task's object says: nothing left out, nothing said twice, nothing named elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from medmnist import INFO
from sklearn import metrics as sk
from transformers import PretrainedConfig
from transformers.loss.loss_utils import ForSequenceClassificationLoss

import beitmed
from beitmed import tasks
from beitmed.config import dataset
from beitmed.tasks import Task

SOURCE = Path(beitmed.__file__).parent
EACH = pytest.mark.parametrize("task", tasks.TASKS.values(), ids=list(tasks.TASKS))
#: Metrics of which neither higher nor lower values are better.
NEITHER = {"calibration_slope", "calibration_in_the_large", "estimated_prior", "prior_shift_p"}
# AutoGluon's own words for its problems, which its worker says in another environment.
OTHER_WORDS = {"methods/autogluon_worker.py"}


def cases(task: Task, n: int = 90) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], int | None]:
    """Logits, labels, class names and the positive class of a made-up test set."""
    k = max(task.fewest_classes, min(4, task.most_classes or 4))
    rng = np.random.default_rng(0)
    of_each = (
        [np.flatnonzero(row).tolist() for row in rng.random((n, k)) < 0.4]
        if task.several_labels
        else [[i % k] for i in range(n)]
    )
    labels = task.encoded(of_each, k)
    logits = rng.normal(size=(n, k)) + task.members(labels, k) - 0.5
    return logits, labels, tuple("abcd"[:k]), 0 if task.has_positive else None


def evaluate(task: Task, **more):
    logits, labels, names, positive = cases(task)
    return tasks.evaluate(
        task, logits={"val": logits, "test": logits},
        labels=dict.fromkeys(("train", "val", "test"), labels), class_names=names,
        positive=positive, seed=0, n_resamples=50, **more,
    )  # fmt: skip


def test_a_tasks_name_stands_in_its_module_only():
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in tasks.TASKS
    }
    assert found - OTHER_WORDS == {f"tasks/{name}.py" for name in tasks.TASKS}


def test_the_configuration_and_the_medmnist_package_know_the_same_tasks():
    assert get_args(dataset.TaskName) == (*tasks.TASKS, "auto")
    official = {entry["task"] for entry in INFO.values()}
    assert {tasks.by_official_name(name).official_name for name in official} == official
    assert len(official) == len(tasks.TASKS)


def test_a_task_is_read_off_labels_that_say_nothing_of_an_order():
    for several, classes, name in (
        (False, 2, "binary"), (False, 3, "multiclass"), (True, 2, "multilabel"),
        (True, 14, "multilabel"),
    ):  # fmt: skip
        found = tasks.inferred(several, classes)
        assert found is not None and found.name == name
    assert tasks.inferred(False, 1) is None and tasks.inferred(True, 1) is None


@EACH
def test_what_is_evaluated_is_what_is_registered(task):
    classes = len(cases(task)[2])
    parts = [task.part_name(name, i) for i in range(classes) for name in task.parts]
    assert list(evaluate(task)) == [*task.metrics, *parts]
    assert all(tasks.taken(name) and task.metric(name) for name in (*task.metrics, *parts))
    assert task.metric("another") is None and not tasks.taken("another")
    assert task.metric(task.part_name("another", 0)) is None


@EACH
def test_every_metric_has_a_label_of_its_own_and_says_what_it_is(task):
    for metrics in (task.metrics, task.parts):
        labels = [metric.label for metric in metrics.values()]
        assert len({*labels, ""}) == len(labels) + 1
        assert all(metric.meaning for metric in metrics.values())
    for name, metric in task.metrics.items():
        # What is fitted, or is what something else would show, is neither good nor bad.
        neither = metric.kind == "fitted" or name == task.floor or name in NEITHER
        assert (metric.better is None) == neither, name
    assert {*task.headlines, *task.compared, *task.tested} <= {*task.metrics}
    assert task.floor is None or task.floor in task.metrics


@EACH
def test_a_users_own_metric_stands_last(task):
    *_, last = evaluate(task, own={"mine": lambda labels, logits: float(logits.mean())})
    assert last == "mine"


@EACH
def test_the_scores_are_those_of_the_evaluation(task):
    logits, labels, _, positive = cases(task)
    found = evaluate(task)
    for name, value in task.score(logits, labels, positive).items():
        assert value == pytest.approx(found[name].value, abs=1e-12)


@EACH
def test_labels_go_to_columns_and_back(task):
    _, labels, names, _ = cases(task)
    columns = labels.reshape(len(labels), task.columns(len(names)))
    assert {*np.unique(columns)} == {*task.values(len(names))}
    assert np.array_equal(task.from_columns(columns.astype(np.uint8)), labels)
    assert task.from_columns(columns).dtype == labels.dtype == np.int64


@EACH
def test_the_confusion_counts_every_image(task):
    logits, labels, names, _ = cases(task)
    called = task.called(logits)
    assert called.shape == labels.shape
    expected = (
        sk.multilabel_confusion_matrix(labels, called)
        if task.several_labels
        else sk.confusion_matrix(labels, called, labels=range(len(names)))
    )
    assert np.array_equal(task.confusion(labels, logits), expected)


@EACH
def test_the_curves_areas_are_the_named_estimates(task):
    logits, labels, names, positive = cases(task)
    found, of = evaluate(task), task.curves(logits, labels, names, positive)
    assert len(of.names) == len(of.metrics) == of.member.shape[1] == of.score.shape[1]
    for name, member, score in zip(of.metrics, of.member.T, of.score.T, strict=True):
        assert sk.roc_auc_score(member, score) == pytest.approx(found[name].value, abs=1e-12)
    assert (of.column is None) == (len(of.names) == 1)


@EACH
def test_the_loss_is_that_of_an_exported_model(task):
    logits, labels, names, _ = cases(task)
    config = PretrainedConfig(num_labels=len(names), problem_type=task.problem_type)
    scores, targets = torch.tensor(logits), torch.tensor(labels)
    targets = targets.double() if task.several_labels else targets
    expected = ForSequenceClassificationLoss(targets, scores, config)
    assert float(task.loss(scores, targets)) == pytest.approx(float(expected), rel=1e-12)
