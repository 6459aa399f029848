"""The metrics of each task, under one name: which module computes them, and which come first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from beitmed.config.dataset import DatasetConfig, Task
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import binary, multiclass, multilabel, own_metrics
from beitmed.tasks.own_metrics import OwnMetric

#: What a run says on the console; the first is the one that the task is compared by. The accuracy
#: of several labels is none of them: never calling anything scores 95 % on ChestMNIST.
HEADLINES: dict[Task, tuple[str, ...]] = {
    "binary": ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"),
    "multiclass": ("auc", "accuracy", "balanced_accuracy", "f1_macro"),
    "ordinal": ("auc", "accuracy", "kappa_quadratic", "mean_absolute_error"),
    "multilabel": ("auc", "average_precision", "brier"),
}


_NAMES = {*binary.METRICS, *multiclass.OF_TABLE, *multiclass.OF_GRADES, "log_loss",
          "accuracy_all_negative"}  # fmt: skip


def taken(name: str) -> bool:
    """Whether `evaluate` gives a metric of this name for any task."""
    return name in _NAMES or re.fullmatch(r"\w+_(class|label)_\d+", name) is not None


def score(
    dataset: DatasetConfig, logits: np.ndarray, labels: np.ndarray
) -> dict[str, float | None]:
    """Return "auc" and "accuracy" (MedMNIST's definitions); None where undefined.

    logits float64 [n, classes]; labels int [n], or [n, labels] of 0 and 1.
    """
    if dataset.task == "binary":
        positive = dataset.positive_label
        assert positive is not None
        return {
            "auc": binary.auc(labels == positive, binary.margin(logits, positive)),
            "accuracy": binary.accuracy(labels, logits),
        }
    module = multilabel if dataset.task == "multilabel" else multiclass
    return {"auc": module.auc(labels, logits), "accuracy": module.accuracy(labels, logits)}


def evaluate(
    dataset: DatasetConfig,
    *,
    logits: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    class_names: tuple[str, ...],
    seed: int,
    n_resamples: int,
    own: Mapping[str, OwnMetric] | None = None,
) -> dict[str, Estimate]:
    """Return every metric of the task on the test set; see `evaluate` of its module.

    logits has "val" and "test", labels also "train" (of the images that were trained on). own:
    metrics from outside the package, which stand last.
    """
    common: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    return _of_task(dataset, logits, labels, class_names, common) | own_metrics.estimate(
        own or {}, labels["test"], logits["test"], **common
    )


def _of_task(
    dataset: DatasetConfig,
    logits: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    class_names: tuple[str, ...],
    common: Mapping[str, Any],
) -> dict[str, Estimate]:
    if dataset.task == "binary":
        assert dataset.positive_label is not None
        return binary.evaluate(
            val_logits=logits["val"],
            val_labels=labels["val"],
            test_logits=logits["test"],
            test_labels=labels["test"],
            train_labels=labels["train"],
            positive=dataset.positive_label,
            **common,
        )
    test: dict[str, Any] = {"test_logits": logits["test"], "test_labels": labels["test"]}
    if dataset.task == "multilabel":
        return multilabel.evaluate(**test, class_names=class_names, **common)
    ordinal = dataset.task == "ordinal"
    return multiclass.evaluate(**test, class_names=class_names, ordinal=ordinal, **common)
