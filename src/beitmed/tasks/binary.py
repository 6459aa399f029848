"""Metrics of a binary classifier on a test set, with 95 % intervals.

What looks at what: `argmax` metrics read the test set alone. Thresholds and the temperature are
fitted on the validation set. The prior correction reads training labels and test scores, never
test labels. Every interval takes what was fitted as fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from beitmed.statistics import calibration
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import measures
from beitmed.tasks.metric import Metric
from beitmed.tasks.scored import Scored, estimate_all
from beitmed.tasks.task import Curves, Labels, Task
from beitmed.tasks.two_classes import accuracy, auc, binary_labels, margin


def _auc(s: Scored) -> float | None:
    return auc(s.y, s.score)


_THERE = "of the test set there, which reaches that level only roughly"
#: All that `evaluate` returns, in this order. A rule "val ..." has its threshold from the
#: validation set, so the test set reaches the named level only roughly: hence both rates of each.
METRICS: dict[str, Metric] = {
    "auc": Metric(
        _auc, "auc", "AUC", "higher", "area under the ROC curve, 0 to 1; 0.5 is chance"
    ),
    "accuracy": Metric(
        measures.hits, "proportion", "Accuracy", "higher",
        "share of images whose more likely class is right",
    ),
    "balanced_accuracy": Metric(
        measures.class_rates, "two proportions", "Balanced accuracy", "higher",
        "mean of sensitivity and specificity",
    ),
    "sensitivity": Metric(
        measures.sensitivity, "proportion", "Sensitivity", "higher",
        "share of the positive images that are called positive",
    ),
    "specificity": Metric(
        measures.specificity, "proportion", "Specificity", "higher",
        "share of the negative images that are called negative",
    ),
    "ppv": Metric(
        measures.ppv, "proportion", "PPV", "higher",
        "share of the images called positive that are; depends on how many are",
    ),
    "npv": Metric(
        measures.npv, "proportion", "NPV", "higher",
        "share of the images called negative that are; depends on how many are",
    ),
    "f1": Metric(
        measures.f1, "bootstrap", "F1", "higher", "harmonic mean of sensitivity and PPV"
    ),
    "mcc": Metric(
        measures.mcc, "bootstrap", "MCC", "higher",
        "Matthews correlation of prediction and class, -1 to 1",
    ),
    "average_precision": Metric(
        measures.average_precision, "jackknife", "Average precision", "higher",
        "mean PPV over the thresholds, each weighted by its gain in sensitivity",
    ),
    "brier": Metric(
        measures.brier, "bootstrap", "Brier", "lower",
        "mean squared error of the positive class's probability, 0 to 1",
    ),
    "ece": Metric(
        measures.ece_of, "plain", "ECE (15 bins)", "lower",
        "expected calibration error of the positive class's probability",
    ),
    "ece_if_calibrated": Metric(
        measures.calibrated_ece_of, "reference", "ECE if calibrated", None,
        "what perfect calibration would show at this number of images, and its 95 % range",
    ),
    "temperature": Metric(
        measures.fitted, "fitted", "Temperature from val", None,
        "what the log odds are divided by", "temperature",
    ),
    "brier_temperature": Metric(
        measures.brier, "bootstrap", "Brier, with temperature", "lower",
        "Brier score of the scaled log odds", "temperature",
    ),
    "ece_temperature": Metric(
        measures.ece_of, "plain", "ECE, with temperature", "lower",
        "expected calibration error of the scaled log odds", "temperature",
    ),
    "ece_temperature_if_calibrated": Metric(
        measures.calibrated_ece_of, "reference", "ECE if calibrated, with temperature", None,
        "what perfect calibration would show with the scaled log odds, and its 95 % range",
        "temperature",
    ),
    "val_threshold": Metric(
        measures.fitted, "fitted", "Threshold from val (log odds)", None,
        "threshold of the highest validation accuracy", "val accuracy",
    ),
    "accuracy_val_threshold": Metric(
        measures.hits, "proportion", "Accuracy, threshold from val", "higher",
        "share of right images at that threshold", "val accuracy",
    ),
    "threshold_at_val_specificity_95": Metric(
        measures.fitted, "fitted", "Threshold, 95 % specificity on val (log odds)", None,
        "threshold of 95 % validation specificity", "val specificity",
    ),
    "sensitivity_at_val_specificity_95": Metric(
        measures.sensitivity, "proportion", "Sensitivity, 95 % specificity on val", "higher",
        f"sensitivity {_THERE}", "val specificity",
    ),
    "specificity_at_val_specificity_95": Metric(
        measures.specificity, "proportion", "Specificity, 95 % specificity on val", "higher",
        f"specificity {_THERE}", "val specificity",
    ),
    "threshold_at_val_sensitivity_95": Metric(
        measures.fitted, "fitted", "Threshold, 95 % sensitivity on val (log odds)", None,
        "threshold of 95 % validation sensitivity", "val sensitivity",
    ),
    "sensitivity_at_val_sensitivity_95": Metric(
        measures.sensitivity, "proportion", "Sensitivity, 95 % sensitivity on val", "higher",
        f"sensitivity {_THERE}", "val sensitivity",
    ),
    "specificity_at_val_sensitivity_95": Metric(
        measures.specificity, "proportion", "Specificity, 95 % sensitivity on val", "higher",
        f"specificity {_THERE}", "val sensitivity",
    ),
    "estimated_prior": Metric(
        measures.fitted, "fitted", "Prior estimated on test", None,
        "share of positive images, estimated from the test scores without their labels",
        "prior corrected",
    ),
    "accuracy_prior_corrected": Metric(
        measures.hits, "proportion", "Accuracy, prior corrected", "higher",
        "share of right images with the log odds moved to that prior", "prior corrected",
    ),
}  # fmt: skip


def evaluate(
    *,
    val_logits: ArrayLike,
    val_labels: ArrayLike,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    train_labels: ArrayLike,
    positive: int,
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Estimate]:
    """Return every metric of `METRICS` on the test set, each with a 95 % interval or a reason.

    Logits are floating point [n, 2], labels are 0 or 1 [n]; `positive` is the class that
    sensitivity, scores and probabilities belong to. `train_labels` are the labels in the
    proportions that the classifier was trained on. The validation set may lack a class or be empty.
    A tie at a threshold, 0 for argmax, is called class 0, whichever class is positive.
    The result depends on the data, `seed` (from 0) and `n_resamples` only.
    ValueError: malformed or non-finite input, or an empty test set.
    """
    if n_resamples < 1 or seed < 0:
        raise ValueError(f"n_resamples: {n_resamples}, seed: {seed}, but at least 1 and 0 needed")
    val, test = margin(val_logits, positive), margin(test_logits, positive)
    if not test.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    val_y = binary_labels(val_labels, val.size, "val_labels") == positive
    y = binary_labels(test_labels, test.size, "test_labels") == positive
    train = np.asarray(train_labels)
    train_y = binary_labels(train, train.size, "train_labels") == positive
    rules = _rules(val, val_y, test, y, train_y, positive)
    return estimate_all(METRICS, rules, y, seed=seed, n_resamples=n_resamples)


def _rules(
    val: Floats, val_y: Bools, test: Floats, y: Bools, train_y: Bools, positive: int
) -> dict[str, Scored | str]:
    """Return the test cases under each decision rule, or the reason for which it does not exist."""

    def at(cut: float | str) -> Scored | str:
        if isinstance(cut, str):
            return cut
        return Scored(y, test, calibration.decide(test, cut, positive), cut, val.size)

    argmax = calibration.decide(test, 0.0, positive)
    rules: dict[str, Scored | str] = {
        "argmax": Scored(y, test, argmax),
        "val accuracy": at(calibration.accuracy_threshold(val, val_y, positive)),
        "val specificity": at(calibration.specificity_threshold(val, val_y, positive)),
        "val sensitivity": at(calibration.sensitivity_threshold(val, val_y, positive)),
    }
    temperature = calibration.fit_temperature(val, val_y)
    if isinstance(temperature, str):
        return {**rules, "temperature": temperature, "prior corrected": temperature}
    cool = test / temperature
    rules["temperature"] = Scored(y, cool, argmax, temperature, val.size)
    if train_y.all() or not train_y.any():
        return {**rules, "prior corrected": "the training labels lack a class"}
    # The estimate of the prior supposes calibrated probabilities, hence the temperature first:
    # Alexandari et al. 2020, ICML.
    train_prior = float(train_y.mean())
    prior = calibration.estimate_prior(cool, train_prior)
    shifted = cool + logit(prior) - logit(train_prior)
    decided = calibration.decide(shifted, 0.0, positive)
    return {**rules, "prior corrected": Scored(y, shifted, decided, prior, y.size)}


class Binary(Task):
    """Two exclusive classes, one of which is the positive one."""

    name = "binary"
    official_name = "binary-class"
    has_positive = True
    most_classes = 2
    classes_needed = "a binary task needs 2"
    metrics = METRICS
    headlines = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
    tested = ("auc", "accuracy")

    def log_odds(self, logits: Floats) -> Floats:
        return np.column_stack([margin(logits, 0), margin(logits, 1)])

    def score(
        self, logits: Floats, labels: Labels, positive: int | None
    ) -> dict[str, float | None]:
        assert positive is not None
        return {
            "auc": auc(labels == positive, margin(logits, positive)),
            "accuracy": accuracy(labels, logits),
        }

    def evaluate(
        self,
        *,
        logits: Mapping[str, Floats],
        labels: Mapping[str, Labels],
        class_names: Sequence[str],
        positive: int | None,
        seed: int,
        n_resamples: int,
    ) -> dict[str, Estimate]:
        assert positive is not None
        return evaluate(
            val_logits=logits["val"],
            val_labels=labels["val"],
            test_logits=logits["test"],
            test_labels=labels["test"],
            train_labels=labels["train"],
            positive=positive,
            seed=seed,
            n_resamples=n_resamples,
        )

    def curves(
        self, logits: Floats, labels: Labels, class_names: Sequence[str], positive: int | None
    ) -> Curves:
        assert positive is not None
        member, score = labels == positive, margin(logits, positive)
        names = [class_names[positive]]
        return Curves(member[:, None], score[:, None], names, ["auc"], None, "ROC curve")

    def whose(self, class_names: Sequence[str], positive: int | None) -> str:
        assert positive is not None
        return f'positive class "{class_names[positive]}"'


TASK = Binary()
