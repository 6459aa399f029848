"""Metrics of a classifier of several exclusive classes on a test set, with 95 % intervals.

"auc" and "accuracy" are MedMNIST's own definitions (`medmnist.evaluator`, tasks multi-class and
ordinal-regression): the mean over the classes of the AUC of each against all others, and the share
of cases where argmax is right, a tie being the first of the tied classes. Every class counts the
same in the former, every case in the latter.

Nothing is fitted, and the validation set is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from beitmed.statistics import bootstrap
from beitmed.statistics.estimates import ECE_REASON, REFERENCE, Estimate
from beitmed.statistics.level import Floats
from beitmed.tasks import confusion_tables, estimates, measures
from beitmed.tasks.metric import Metric
from beitmed.tasks.several_classes import Cases, accuracy, auc, checked, one_vs_rest
from beitmed.tasks.task import Curves, Labels, Task


def _log_loss(s: Cases) -> Floats:
    return -s.log_p[np.arange(len(s.labels)), s.labels]


def _brier(s: Cases) -> Floats:
    result: Floats = ((np.exp(s.log_p) - s.member) ** 2).sum(axis=1)
    return result


def _ece(s: Cases) -> float:
    confidence, right = s.confidence
    return float(measures.ece(confidence, right[None, :])[0])


def _calibrated_ece(s: Cases, rng: np.random.Generator, count: int) -> Floats:
    return measures.calibrated_ece(s.confidence[0], rng, count)


#: What is of every class together, in the order of `evaluate`. Kinds: "mean auc", the function
#: gives members and scores [n, classes]; "proportion", (hits, cases); "table", of confusion tables
#: [b, classes, classes] values [b]; "mean", values of the cases [n]; "plain", a number without
#: interval; "reference", f(s, generator, count) draws [count], given by their mean and range.
DECISIONS: dict[str, Metric] = {
    "auc": Metric(
        lambda s: (s.member, s.odds), "mean auc", "AUC", "higher",
        "area under the ROC curve of each class against the others, mean over the classes",
        every_class=True,
    ),
    "accuracy": Metric(
        lambda s: (s.table.trace(), len(s.labels)), "proportion", "Accuracy", "higher",
        "share of images whose likeliest class is right",
    ),
    "balanced_accuracy": Metric(
        confusion_tables.balanced_accuracy, "table", "Balanced accuracy", "higher",
        "mean of the classes' sensitivities", every_class=True,
    ),
    "f1_macro": Metric(
        confusion_tables.f1_macro, "table", "F1, mean over classes", "higher",
        "mean of the classes' harmonic means of sensitivity and PPV", every_class=True,
    ),
    "mcc": Metric(
        confusion_tables.mcc, "table", "MCC", "higher",
        "Matthews correlation of prediction and class, -1 to 1",
    ),
    "kappa": Metric(
        confusion_tables.kappa, "table", "Kappa", "higher",
        "Cohen's kappa, agreement beyond chance, at most 1",
    ),
}  # fmt: skip
PROBABILITIES: dict[str, Metric] = {
    "log_loss": Metric(
        _log_loss, "mean", "Log loss (nats)", "lower",
        "mean negative log probability of the actual class",
    ),
    "brier": Metric(
        _brier, "mean", "Brier (sum over classes)", "lower",
        "squared error of the probabilities, summed over the classes, 0 to 2",
    ),
    "ece": Metric(
        _ece, "plain", "ECE (15 bins)", "lower",
        "expected calibration error of the predicted class's probability",
    ),
    "ece_if_calibrated": Metric(
        _calibrated_ece, "reference", "ECE if calibrated", None,
        "what perfect calibration would show at this number of images, and its 95 % range",
    ),
}  # fmt: skip
METRICS = DECISIONS | PROBABILITIES
#: Of one class c: "proportion", f(s, c) is (hits, cases); "auc", f(s, c) is members and scores [n].
PARTS: dict[str, Metric] = {
    "sensitivity": Metric(
        lambda s, c: (s.table[c, c], s.table[c].sum()), "proportion", "Sensitivity", "higher",
        "share of the class's images that are called it",
    ),
    "auc": Metric(
        lambda s, c: (s.member[:, c], s.odds[:, c]), "auc", "AUC", "higher",
        "area under the ROC curve of the class against the others",
    ),
}  # fmt: skip


def evaluate(
    *,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    class_names: Sequence[str],
    seed: int,
    n_resamples: int = 2000,
    metrics: Mapping[str, Metric] = METRICS,
) -> dict[str, Estimate]:
    """Return every metric on the test set, each with a 95 % interval or a reason.

    test_logits floating point [n, classes], test_labels int [n]. "sensitivity_class_i" and
    "auc_class_i" are of class i against all others. "log_loss" is in nats; "brier" is the sum over
    the classes, 0 to 2 (Brier 1950). "ece" is of the predicted class's probability (Guo et al.
    2017, ICML).
    ValueError: malformed or non-finite input, or an empty test set.
    """
    s = Cases(*checked(test_logits, test_labels))
    if not s.labels.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    assert len(class_names) == s.logits.shape[1], class_names
    sizes = s.table.sum(axis=1)
    absent = [name for name, size in zip(class_names, sizes, strict=True) if not size]
    lack = f"the test set has no case of class {', '.join(absent)}" if absent else None
    resampled = _resampled(s, metrics, lack, seed, n_resamples)
    result = {
        name: resampled[name] if name in resampled else _estimate(s, m, lack, seed, n_resamples)
        for name, m in metrics.items()
    }
    for c in range(len(class_names)):
        for name, m in PARTS.items():
            make = estimates.one_auc if m.kind == "auc" else estimates.proportion
            result[f"{name}_class_{c}"] = make(*m.function(s, c))
    return result


def _resampled(
    s: Cases, metrics: Mapping[str, Metric], lack: str | None, seed: int, n_resamples: int
) -> dict[str, Estimate]:
    """The estimates that are bootstrapped; all of a kind share their resamples."""
    tables = {name: m for name, m in metrics.items() if m.kind == "table"}
    means = {name: m.function(s) for name, m in metrics.items() if m.kind == "mean"}
    values = {name: float(m.function(s.table[None])[0]) for name, m in tables.items()}
    values |= {name: float(of_cases.mean()) for name, of_cases in means.items()}
    functions, calls = [m.function for m in tables.values()], s.logits.argmax(axis=1)
    limits = bootstrap.of_tables(
        functions, s.labels, calls, s.logits.shape[1], seed=seed, n_resamples=n_resamples
    )
    limits += bootstrap.of_means(
        np.column_stack(list(means.values())), seed=seed, n_resamples=n_resamples
    )
    return {
        name: estimates.bootstrapped(
            value, limit, len(s.labels), lack if metrics[name].every_class else None
        )
        for (name, value), limit in zip(values.items(), limits, strict=True)
    }


def _estimate(s: Cases, metric: Metric, lack: str | None, seed: int, n_resamples: int) -> Estimate:
    n = len(s.labels)
    if metric.every_class and lack is not None:
        return Estimate.undefined(lack)
    if metric.kind == "mean auc":
        return estimates.mean_auc(*metric.function(s))
    if metric.kind == "proportion":
        return estimates.proportion(*metric.function(s))
    if metric.kind == "plain":
        return Estimate(metric.function(s), None, None, n, None, ECE_REASON)
    assert metric.kind == "reference", metric
    draws = metric.function(s, np.random.default_rng([seed, 1]), n_resamples)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    return Estimate(float(draws.mean()), low, high, n, REFERENCE, None)


class Multiclass(Task):
    """Several exclusive classes in no order."""

    name: ClassVar[str] = "multiclass"
    official_name: ClassVar[str] = "multi-class"
    fewest_classes = 3
    classes_needed = "a multiclass or ordinal task needs 3 or more"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    parts = PARTS
    headlines: ClassVar[tuple[str, ...]] = ("auc", "accuracy", "balanced_accuracy", "f1_macro")

    def log_odds(self, logits: Floats) -> Floats:
        return one_vs_rest(logits)

    def score(
        self, logits: Floats, labels: Labels, positive: int | None
    ) -> dict[str, float | None]:
        return {"auc": auc(labels, logits), "accuracy": accuracy(labels, logits)}

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
        return evaluate(
            test_logits=logits["test"],
            test_labels=labels["test"],
            class_names=class_names,
            seed=seed,
            n_resamples=n_resamples,
            metrics=self.metrics,
        )

    def title_of(self, class_name: str) -> str:
        """A class's name over its curve."""
        return class_name

    def curves(
        self, logits: Floats, labels: Labels, class_names: Sequence[str], positive: int | None
    ) -> Curves:
        return Curves(
            self.members(labels, len(class_names)),
            self.log_odds(logits),
            [self.title_of(name) for name in class_names],
            [self.part_name("auc", i) for i in range(len(class_names))],
            self.unit,
            "ROC curve of each class against all others",
        )

    def whose(self, class_names: Sequence[str], positive: int | None) -> str:
        return f"{len(class_names)} classes, AUC of each against all others, mean"


TASK = Multiclass()
