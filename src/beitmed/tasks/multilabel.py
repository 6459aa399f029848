"""Metrics of a classifier of several labels an image on a test set, with 95 % intervals.

"auc" and "accuracy" are MedMNIST's own definitions (`medmnist.evaluator`, task multi-label): the
mean over the labels of their AUCs, and of the shares of images that each label is right for, which
is called where its probability is above one half. Findings are rare, so that a network which never
calls any is right in most cells: "accuracy_all_negative" is what that scores on the same images.

A label's score is its float64 logit, its log odds. Nothing is fitted; the validation set is not
read. Intervals are of the draw of images, whose labels are not independent: images are resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from beitmed.statistics import areas, bootstrap, jackknife
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import estimates
from beitmed.tasks.average_precision import AveragePrecision
from beitmed.tasks.metric import Metric
from beitmed.tasks.task import Curves, Inputs, Labels, Task

if TYPE_CHECKING:
    import torch


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """Return logits [n, labels] in float64 and labels [n, labels] as true and false.

    ValueError: wrong shape or type, a number that is not finite, or a label other than 0 and 1.
    """
    rows, actual = np.asarray(logits), np.asarray(labels)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise ValueError(f"logits: {rows.dtype} {rows.shape}, but floats [n, labels] are needed")
    if not np.isfinite(rows).all():
        raise ValueError(f"logits: {(~np.isfinite(rows)).any(axis=1).sum()} rows are not finite")
    if actual.shape != rows.shape:
        raise ValueError(f"labels: shape {actual.shape}, but {rows.shape} is needed")
    other = np.setdiff1d(actual, [0, 1])
    if other.size:
        raise ValueError(f"labels: found {other[:5].tolist()}, but only 0 and 1 are allowed")
    return rows.astype(np.float64), actual.astype(bool)


def auc(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the mean of the labels' AUCs; None where a label has no positive or no negative."""
    rows, y = checked(logits, labels)
    if _one_sided(y).any() or not y.size:
        return None
    return float(areas.mean_auc(y, rows[None]).values[0])


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of right cells of labels [n, labels]; called where the logit is above 0."""
    rows, y = checked(logits, labels)
    return float(np.mean((rows > 0) == y)) if y.size else None


def _one_sided(y: Bools) -> Bools:
    return np.logical_or(y.all(axis=0), ~y.any(axis=0))


#: All that is of every label together, in the order of `evaluate`; the functions read logits and
#: labels y [n, labels]. Kinds: "mean auc", members and scores [n, labels]; "weighted", a function
#: of weights [n, b] that gives values [b, labels + 1], the mean last; "mean", values [n] of images.
METRICS: dict[str, Metric] = {
    "auc": Metric(
        lambda logits, y: (y, logits), "mean auc", "AUC", "higher",
        "area under the ROC curve of each label, mean over the labels", every_class=True,
    ),
    "average_precision": Metric(
        lambda logits, y: AveragePrecision(y, logits), "weighted", "Average precision", "higher",
        "of each label, the mean PPV over the thresholds, weighted by its gain in sensitivity; "
        "mean over the labels", every_class=True,
    ),
    "accuracy": Metric(
        lambda logits, y: ((logits > 0) == y).mean(axis=1), "mean", "Accuracy (labels)", "higher",
        "share of right labels of all images; where labels are rare, never calling any scores high",
    ),
    "accuracy_all_negative": Metric(
        lambda logits, y: (~y).mean(axis=1), "mean", "Accuracy of never calling any", None,
        "what a prediction of no label for any image scores on the same images",
    ),
    "brier": Metric(
        lambda logits, y: ((expit(logits) - y) ** 2).mean(axis=1), "mean", "Brier", "lower",
        "mean squared error of the labels' probabilities, 0 to 1",
    ),
}  # fmt: skip
#: Of one label i: "auc", f(logits, y, i) is members and scores [n]; "weighted", the column i of the
#: metric of that name.
PARTS: dict[str, Metric] = {
    "auc": Metric(
        lambda logits, y, i: (y[:, i], logits[:, i]), "auc", "AUC", "higher",
        "area under the ROC curve of the label",
    ),
    "average_precision": Metric(
        METRICS["average_precision"].function, "weighted", "Average precision", "higher",
        "the mean PPV over the thresholds, weighted by its gain in sensitivity",
    ),
}  # fmt: skip


def evaluate(
    *,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    class_names: Sequence[str],
    seed: int,
    n_resamples: int = 2000,
    test_groups: NDArray[Any] | None = None,
) -> dict[str, Estimate]:
    """Return every metric on the test set, each with a 95 % interval or a reason.

    test_logits floating point [n, labels], test_labels 0 and 1 [n, labels], test_groups the
    patients [n] where they are known. "auc_label_i" and
    "average_precision_label_i" are of label i; "average_precision" and "brier" are means over the
    labels. A label without a positive or without a negative image makes the means undefined.
    ValueError: malformed or non-finite input, or an empty test set.
    """
    logits, y = checked(test_logits, test_labels)
    if not len(y):
        raise ValueError("test_logits: no rows, but a test set is needed")
    assert len(class_names) == y.shape[1], class_names
    groups = estimates.grouped(test_groups, len(y), "test_groups")
    lacking = [name for name, lacks in zip(class_names, _one_sided(y), strict=True) if lacks]
    lack = f"the test set has no positive or no negative image of {', '.join(lacking)}"
    means = {name: m.function(logits, y) for name, m in METRICS.items() if m.kind == "mean"}
    found = _means(means, groups, seed=seed, n_resamples=n_resamples)
    columns = {
        name: _weighted(m.function(logits, y), lack, len(y), groups, seed)
        for name, m in METRICS.items()
        if m.kind == "weighted"
    }
    result = {}
    for name, m in METRICS.items():
        if m.kind == "mean auc":
            member, score = m.function(logits, y)
            undefined = Estimate.undefined(lack)
            result[name] = undefined if lacking else estimates.mean_auc(member, score, groups)
        else:
            result[name] = columns[name][-1] if m.kind == "weighted" else found[name]
    for i in range(y.shape[1]):
        for name, m in PARTS.items():
            result[f"{name}_label_{i}"] = (
                columns[name][i]
                if m.kind == "weighted"
                else estimates.one_auc(y[:, i], logits[:, i], groups)
            )
    return result


def _weighted(
    function: AveragePrecision, lack: str, n: int, groups: Groups, seed: int
) -> list[Estimate]:
    """The estimate of each label, and last that of their mean."""
    lacks = ["the test set has no positive image of this label"] * len(function.labels) + [lack]
    own = estimates.clustered(groups)
    found = zip(*jackknife.of_weights(function, n, groups=own, seed=seed), lacks, strict=True)
    return [
        estimates.jackknifed(float(value), float(bias), parts, n, groups, why)
        for value, bias, parts, why in found
    ]


def _means(
    of_image: Mapping[str, Floats], groups: Groups, *, seed: int, n_resamples: int
) -> dict[str, Estimate]:
    """Means over images of what is a mean over labels; the interval is that of the former."""
    values = np.column_stack(list(of_image.values()))
    own = estimates.clustered(groups)
    found = bootstrap.of_means(values, groups=own, seed=seed, n_resamples=n_resamples)
    return {
        name: estimates.bootstrapped(float(each.mean()), limit, len(values), groups)
        for (name, each), limit in zip(of_image.items(), found, strict=True)
    }


class Multilabel(Task):
    """Several labels an image, each present or absent."""

    name = "multilabel"
    official_name = "multi-label, binary-class"
    several_labels = True
    unit = "label"
    classes_needed = "a multilabel task needs 2 or more"
    metrics = METRICS
    parts = PARTS
    headlines = ("auc", "average_precision", "brier")
    compared = ("auc", "average_precision")
    tested = ("auc",)
    floor = "accuracy_all_negative"
    balance_refusal = "an image has several labels and undersampling one class undersamples others"
    problem_type = "multi_label_classification"  # a sigmoid each
    limit_caveat = "of each split the first {} images of each label and of none"
    several_note = "; an image may have several of these labels, or none"

    def columns(self, classes: int) -> int:
        return classes

    def values(self, classes: int) -> range:
        return range(2)

    def from_columns(self, columns: NDArray[Any]) -> Labels:
        return columns.astype(np.int64)

    def encoded(self, of_each: Sequence[Sequence[int]], classes: int) -> Labels:
        out = np.zeros((len(of_each), classes), np.int64)
        for row, chosen in zip(out, of_each, strict=True):
            row[list(chosen)] = 1
        return out

    def members(self, labels: Labels, classes: int) -> Bools:
        return labels.astype(bool)

    def strata(self, labels: Labels) -> Labels:
        """An image's rarest label, or that it has none; what fewer than two have is one stratum."""
        rarity = np.where(labels == 1, labels.sum(axis=0), len(labels) + 1)
        strata = np.where(labels.any(axis=1), rarity.argmin(axis=1), labels.shape[1])
        single = np.bincount(strata)[strata] < 2
        return np.where(single, np.bincount(strata).argmax(), strata)

    def called(self, logits: Floats) -> Labels:
        """The labels whose probability is above one half."""
        return (logits > 0).astype(np.int64)

    def confusion(self, labels: Labels, logits: Floats) -> Labels:
        """Counts [labels, 2, 2] by whether a label is there and whether it is called."""
        cells = 2 * labels + self.called(logits)
        return np.stack([(cells == i).sum(axis=0) for i in range(4)], axis=1).reshape(-1, 2, 2)

    def log_odds(self, logits: Floats) -> Floats:
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean binary cross entropy, a sigmoid each; labels float [n, labels] of 0 and 1."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(logits, labels)

    def score(
        self, logits: Floats, labels: Labels, positive: int | None
    ) -> dict[str, float | None]:
        return {"auc": auc(labels, logits), "accuracy": accuracy(labels, logits)}

    def evaluate(self, inputs: Inputs) -> dict[str, Estimate]:
        return evaluate(
            test_logits=inputs.logits["test"],
            test_labels=inputs.labels["test"],
            test_groups=inputs.groups["test"],
            class_names=inputs.class_names,
            seed=inputs.seed,
            n_resamples=inputs.n_resamples,
        )

    def no_skill(self, labels: Labels, classes: int, positive: int | None) -> dict[str, float]:
        share = labels.mean(axis=0)
        found = {
            "auc": 0.5,
            "average_precision": float(share.mean()),
            "accuracy": float(np.maximum(share, 1 - share).mean()),
            "brier": float((share * (1 - share)).mean()),
        }
        for i, own in enumerate(share.tolist()):
            found |= {self.part_name("auc", i): 0.5, self.part_name("average_precision", i): own}
        return found

    def curves(
        self, logits: Floats, labels: Labels, class_names: Sequence[str], positive: int | None
    ) -> Curves:
        names = [self.part_name("auc", i) for i in range(len(class_names))]
        member = self.members(labels, len(class_names))
        return Curves(member, logits, class_names, names, self.unit, "ROC curve of each label")

    def whose(self, class_names: Sequence[str], positive: int | None) -> str:
        return f"mean over {len(class_names)} labels"


TASK = Multilabel()
