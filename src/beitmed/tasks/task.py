"""What a task decides, as one object: everything else asks it and compares no names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks.metric import Metric

if TYPE_CHECKING:
    import torch

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Use:
    """How a binary classifier is to be used, stated beforehand; None where nothing is stated.

    prevalence: the share of positive images there, which PPV and NPV are of. operating_point: the
    rate that the threshold shall reach on the validation set, and its level.
    """

    prevalence: float | None = None
    operating_point: tuple[Literal["sensitivity", "specificity"], float] | None = None


UNSTATED = Use()


@dataclass(frozen=True)
class Curves:
    """The ROC curves of a test set, one a column of member and score [n, k].

    member is true for the cases that a high score (float64) speaks for. metrics name the estimates
    of the areas. column is the heading of the curve's number in a file; None of a single curve.
    """

    member: Bools
    score: Floats
    names: Sequence[str]
    metrics: Sequence[str]
    column: str | None
    caption: str


@dataclass(frozen=True)
class Inputs:
    """What an evaluation reads.

    logits, labels and groups (the patient of each image, where known) have "val" and "test".
    n_resamples: of each bootstrap. use: what is asked of the model in use.
    """

    logits: Mapping[str, Floats]
    labels: Mapping[str, Labels]
    groups: Mapping[str, Groups]
    class_names: Sequence[str]
    positive: int | None
    seed: int
    n_resamples: int
    use: Use


class Task(ABC):
    """A task, its attributes as those of one label an image unless a task says otherwise.

    Shapes throughout: labels int64 [n], of several labels an image [n, labels] of 0 and 1; logits
    float64 [n, classes]; `positive` is the positive class, or None where the task has none.

    unit: what a column of the logits stands for; `metrics` are of all of them together, `parts` of
        each, under the name `part_name` gives.
    headlines: the metrics that a run prints; the first is the one that the task is compared by.
    compared: the metrics in the table of variants. tested: those of which pairs are tested.
    floor: the metric that says what accuracy a constant prediction has, where accuracy misleads.
    balance_refusal: why images cannot be chosen by class, or None where they can.
    problem_type: transformers' word for it, for an exported model.
    """

    name: ClassVar[str]
    official_name: ClassVar[str]  # of the `medmnist` package
    several_labels: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    has_positive: ClassVar[bool] = False
    unit: ClassVar[str] = "class"
    fewest_classes: ClassVar[int] = 2
    most_classes: ClassVar[int | None] = None
    classes_needed: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    parts: ClassVar[Mapping[str, Metric]] = {}
    headlines: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]] = ("auc", "accuracy")
    tested: ClassVar[tuple[str, ...]] = ("auc", "accuracy")
    floor: ClassVar[str | None] = None
    balance_refusal: ClassVar[str | None] = None
    problem_type: ClassVar[str] = "single_label_classification"
    limit_caveat: ClassVar[str] = "at most {} images of each class and split"
    several_note: ClassVar[str] = ""  # after a count of images by class

    # --- Labels

    def allows(self, classes: int) -> bool:
        """Whether there is such a task with this number of classes or labels."""
        return self.fewest_classes <= classes <= (self.most_classes or classes)

    def columns(self, classes: int) -> int:
        """How many columns the labels take in a file."""
        return 1

    def values(self, classes: int) -> range:
        """What may stand in such a column."""
        return range(classes)

    def from_columns(self, columns: NDArray[Any]) -> Labels:
        """Integers [n, columns] as labels."""
        return columns[:, 0].astype(np.int64)

    def encoded(self, of_each: Sequence[Sequence[int]], classes: int) -> Labels:
        """Labels from the classes that each image is of."""
        return np.array(of_each, np.int64).reshape(-1, 1)[:, 0]

    def members(self, labels: Labels, classes: int) -> Bools:
        """Which images are of which class or have which label, [n, classes]."""
        result: Bools = labels[:, None] == np.arange(classes)
        return result

    def strata(self, labels: Labels) -> Labels:
        """What is to be shared out evenly among splits: the class of each image, int [n]."""
        return labels

    # --- Predictions

    def called(self, logits: Floats) -> Labels:
        """The labels that are predicted; of equal logits the first class."""
        return logits.argmax(axis=1)

    def right(self, logits: Floats, labels: Labels) -> Floats:
        """How much of what is called is right, of each image: 0, 1, or a share of its labels."""
        return np.atleast_2d((self.called(logits) == labels).T).mean(axis=0)

    def confusion(self, labels: Labels, logits: Floats) -> Labels:
        """Counts [classes, classes] by actual and predicted class."""
        k = logits.shape[1]
        counted = np.bincount(labels * k + self.called(logits), minlength=k * k)
        return counted.reshape(k, k).astype(np.int64)

    @abstractmethod
    def log_odds(self, logits: Floats) -> Floats:
        """The log odds of each class against all others, or of each label, [n, classes]."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss that a network is trained by: cross entropy, labels int [n]."""
        from torch.nn import functional

        return functional.cross_entropy(logits, labels)

    # --- Evaluation

    @abstractmethod
    def score(
        self, logits: Floats, labels: Labels, positive: int | None
    ) -> dict[str, float | None]:
        """Return "auc" and "accuracy" (MedMNIST's definitions); None where undefined."""

    @abstractmethod
    def evaluate(self, inputs: Inputs) -> dict[str, Estimate]:
        """Return every metric on the test set, each with a 95 % interval or a reason.

        ValueError: malformed or non-finite input, or an empty test set.
        """

    @abstractmethod
    def no_skill(self, labels: Labels, classes: int, positive: int | None) -> dict[str, float]:
        """What the best constant prediction reaches on test labels, by metric.

        The constant knows the test set's class shares, which flatters no model; of areas and rank
        correlations it is the expectation of a random order.
        """

    def part_name(self, metric: str, i: int) -> str:
        """The name of a metric of one class or label."""
        return f"{metric}_{self.unit}_{i}"

    def part_of(self, name: str) -> tuple[str, int] | None:
        """The metric and the class or label of a name that `part_name` gives, else None."""
        metric, _, number = name.rpartition(f"_{self.unit}_")
        return (metric, int(number)) if metric and number.isdecimal() else None

    def metric(self, name: str) -> Metric | None:
        """The metric of this name, be it of all classes or of one; None if it is not the task's."""
        part = self.part_of(name)
        return self.metrics.get(name) if part is None else self.parts.get(part[0])

    # --- Figures and sentences

    @abstractmethod
    def curves(
        self, logits: Floats, labels: Labels, class_names: Sequence[str], positive: int | None
    ) -> Curves:
        """The ROC curves of a test set."""

    def title(self, name: str, class_names: Sequence[str], positive: int | None) -> str:
        """The title of one of the task's metrics, the classes by their names."""
        return self.metrics[name].label

    @abstractmethod
    def whose(self, class_names: Sequence[str], positive: int | None) -> str:
        """Which class, or what of all classes, the headlines belong to."""
