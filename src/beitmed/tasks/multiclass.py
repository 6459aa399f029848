"""Metrics of a classifier of several exclusive classes on a test set, with 95 % intervals.

"auc" and "accuracy" are MedMNIST's own definitions (`medmnist.evaluator`, tasks multi-class and
ordinal-regression): the mean over the classes of the AUC of each against all others, and the share
of cases where argmax is right, a tie being the first of the tied classes. Every class counts the
same in the former, every case in the latter.

The temperature, and what stands behind a shift of the class mix, are fitted on the validation set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beitmed.statistics import bootstrap, decisions, reliability, shift
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Floats
from beitmed.tasks import confusion_tables, estimates, measures
from beitmed.tasks.metric import Metric
from beitmed.tasks.several_classes import Cases, accuracy, auc, checked, one_vs_rest
from beitmed.tasks.task import Curves, Inputs, Labels, Task


def _log_loss(s: Cases) -> Floats:
    return -s.log_p[np.arange(len(s.labels)), s.labels]


def _brier(s: Cases) -> Floats:
    result: Floats = ((np.exp(s.log_p) - s.member) ** 2).sum(axis=1)
    return result


def _calibration_error(s: Cases) -> Estimate:
    found = reliability.calibration_error(*reliability.top_label(s.logits, s.labels), s.clustered)
    return measures.debiased(found, len(s.labels), s.groups)


def _p_of_shift(s: Cases) -> Estimate:
    count = estimates.patients(s.groups)
    return Estimate(s.fitted.p, None, None, len(s.labels), None, measures.P_VALUE, count)


def _hits(s: Cases) -> measures.Share:
    return s.right, np.ones(len(s.labels), bool)


#: What is of every class together, in the order of `evaluate`. Kinds: "mean auc", the function
#: gives members and scores [n, classes]; "proportion", hits [n] and among which cases [n]; "table",
#: of confusion tables [b, classes, classes] values [b]; "mean", values of the cases [n]; "fitted",
#: a constant without interval; "estimate", the estimate itself.
DECISIONS: dict[str, Metric] = {
    "auc": Metric(
        lambda s: (s.member, s.odds), "mean auc", "AUC", "higher",
        "area under the ROC curve of each class against the others, mean over the classes",
        every_class=True,
    ),
    "accuracy": Metric(
        _hits, "proportion", "Accuracy", "higher",
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
    "calibration_error_top_label": Metric(
        _calibration_error, "estimate", "Calibration error, top label", "lower",
        "root mean squared gap of the predicted class's probability and the share that is right in "
        "bins of equally many images, its sampling error taken away",
    ),
    "temperature": Metric(
        lambda s: s.fitted, "fitted", "Temperature from val", None,
        "what the logits are divided by", "temperature",
    ),
    "log_loss_temperature": Metric(
        _log_loss, "mean", "Log loss, with temperature", "lower",
        "log loss of the scaled logits", "temperature",
    ),
    "brier_temperature": Metric(
        _brier, "mean", "Brier, with temperature", "lower",
        "Brier score of the scaled logits", "temperature",
    ),
    "calibration_error_top_label_temperature": Metric(
        _calibration_error, "estimate", "Calibration error, top label, with temperature", "lower",
        "calibration error of the scaled logits", "temperature",
    ),
    "prior_shift_p": Metric(
        _p_of_shift, "estimate", "p of no prior shift", None,
        "p of the hypothesis that classes are as frequent as in the validation set, from scores "
        "without test labels", "prior corrected",
    ),
    "accuracy_prior_corrected": Metric(
        _hits, "proportion", "Accuracy, prior corrected", "higher",
        "share of right images, corrected for a shift of the classes' shares as far as that is "
        "beyond noise; without one (p of 0.05 or more) it is the accuracy", "prior corrected",
    ),
}  # fmt: skip
METRICS = DECISIONS | PROBABILITIES
#: Of one class c: "proportion", f(s, c) is hits and cases [n]; "auc", members and scores [n].
PARTS: dict[str, Metric] = {
    "sensitivity": Metric(
        lambda s, c: (s.right, s.member[:, c]), "proportion", "Sensitivity", "higher",
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
    val_logits: ArrayLike | None = None,
    val_labels: ArrayLike | None = None,
    val_groups: NDArray[Any] | None = None,
    test_groups: NDArray[Any] | None = None,
) -> dict[str, Estimate]:
    """Return every metric on the test set, each with a 95 % interval or a reason.

    Logits floating point [n, classes], labels int [n], groups the patients [n] where they are
    known. "sensitivity_class_i" and "auc_class_i" are of class i against all others. "log_loss" is
    in nats; "brier" is the sum over the classes, 0 to 2 (Brier 1950).
    ValueError: malformed or non-finite input, or an empty test set.
    """
    groups = estimates.grouped(test_groups, len(np.asarray(test_labels)), "test_groups")
    s = Cases(*checked(test_logits, test_labels), groups)
    if not s.labels.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    assert len(class_names) == s.logits.shape[1], class_names
    rules = {"argmax": s, **_fitted(s, val_logits, val_labels, val_groups)}
    sizes = s.table.sum(axis=1)
    absent = [name for name, size in zip(class_names, sizes, strict=True) if not size]
    lack = f"the test set has no case of class {', '.join(absent)}" if absent else None
    result = _resampled(rules, metrics, lack, seed, n_resamples)
    result = {
        name: result[name] if name in result else _estimate(rules[m.rule], m, lack)
        for name, m in metrics.items()
    }
    for c in range(len(class_names)):
        for name, m in PARTS.items():
            make = estimates.one_auc if m.kind == "auc" else estimates.proportion
            first, second = m.function(s, c)
            result[f"{name}_class_{c}"] = make(first, second, s.groups)
    return result


def _fitted(
    s: Cases,
    val_logits: ArrayLike | None,
    val_labels: ArrayLike | None,
    val_groups: NDArray[Any] | None,
) -> dict[str, Cases | str]:
    """The test cases as the validation set corrects them, or the reason for which it cannot."""
    if val_logits is None or val_labels is None or not len(np.asarray(val_labels)):
        return dict.fromkeys(("temperature", "prior corrected"), "the validation set is empty")
    val, actual = checked(val_logits, val_labels)
    known = estimates.grouped(val_groups, len(actual), "val_groups")
    on = len(actual), estimates.patients(known)
    temperature = reliability.fit_temperature(val, actual)
    found = shift.detect(val, actual, s.logits, estimates.clustered(known), s.clustered)
    return {
        "temperature": temperature if isinstance(temperature, str) else (
            Cases(s.logits / temperature, s.labels, s.groups, temperature, *on)
        ),
        "prior corrected": found if isinstance(found, str) else (
            Cases(found.corrected, s.labels, s.groups, found, *on)
        ),
    }  # fmt: skip


def _resampled(
    rules: Mapping[str, Cases | str],
    metrics: Mapping[str, Metric],
    lack: str | None,
    seed: int,
    n_resamples: int,
) -> dict[str, Estimate]:
    """The estimates that are bootstrapped; all of a kind share their resamples."""
    s = rules["argmax"]
    assert isinstance(s, Cases)
    tables = {name: m for name, m in metrics.items() if m.kind == "table"}
    means = {
        name: m.function(of)
        for name, m in metrics.items()
        if m.kind == "mean" and isinstance(of := rules[m.rule], Cases)
    }
    values = {name: float(m.function(s.table[None])[0]) for name, m in tables.items()}
    values |= {name: float(of_cases.mean()) for name, of_cases in means.items()}
    options: dict[str, Any] = {"groups": s.clustered, "seed": seed, "n_resamples": n_resamples}
    functions, calls = [m.function for m in tables.values()], s.logits.argmax(axis=1)
    limits = bootstrap.of_tables(functions, s.labels, calls, s.logits.shape[1], **options)
    limits += bootstrap.of_means(np.column_stack(list(means.values())), **options)
    return {
        name: estimates.bootstrapped(
            value, limit, len(s.labels), s.groups, lack if metrics[name].every_class else None
        )
        for (name, value), limit in zip(values.items(), limits, strict=True)
    }


def _estimate(s: Cases | str, metric: Metric, lack: str | None) -> Estimate:
    if isinstance(s, str):
        return Estimate.undefined(s)
    if metric.every_class and lack is not None:
        return Estimate.undefined(lack)
    found = metric.function(s)
    if metric.kind == "mean auc":
        member, score = found
        return estimates.mean_auc(member, score, s.groups)
    if metric.kind == "proportion":
        hit, among = found
        return estimates.proportion(hit, among, s.groups)
    if metric.kind == "fitted":
        said = "a fitted constant"
        return Estimate(found, None, None, s.fitted_n, None, said, s.fitted_groups)
    assert metric.kind == "estimate", metric
    assert isinstance(found, Estimate), metric
    return found


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

    def evaluate(self, inputs: Inputs) -> dict[str, Estimate]:
        return evaluate(
            val_logits=inputs.logits["val"],
            val_labels=inputs.labels["val"],
            val_groups=inputs.groups["val"],
            test_logits=inputs.logits["test"],
            test_labels=inputs.labels["test"],
            test_groups=inputs.groups["test"],
            class_names=inputs.class_names,
            seed=inputs.seed,
            n_resamples=inputs.n_resamples,
            metrics=self.metrics,
        )

    def no_skill(self, labels: Labels, classes: int, positive: int | None) -> dict[str, float]:
        counts = np.bincount(labels, minlength=classes)
        chance = {"auc": 0.5, "balanced_accuracy": 1 / classes, "mcc": 0.0, "kappa": 0.0}
        grade = np.abs(np.arange(classes)[:, None] - np.arange(classes)) @ counts / counts.sum()
        ordered = {"kappa_quadratic": 0.0, "mean_absolute_error": float(grade.min())}
        return chance | ordered | decisions.no_skill(counts, counts)

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
