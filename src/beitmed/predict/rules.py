"""From logits to what is said of an image: probabilities, the predicted class, or none.

All of it is fitted on the validation images of the runs, and needs neither images nor weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logit

from beitmed.errors import UserError
from beitmed.predict.choice import Choice
from beitmed.statistics import calibration, clusters, coverage, decisions
from beitmed.statistics.clusters import Groups
from beitmed.statistics.coverage import Cut
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import Task, probabilities
from beitmed.tasks.probabilities import Mean, Temperatures
from beitmed.trained import Trained

Rate = tuple[int, int, float, float]  # how many of how many, and the limits of the share


@dataclass(frozen=True)
class Decided:
    """What is said of images, [n, classes]: probabilities, what is called, and what is possible.

    possible, abstains: None where nothing is ruled out.
    """

    mean: Mean
    called: Bools
    possible: Bools | None
    abstains: Bools | None


@dataclass(frozen=True)
class Abstention:
    """Below which probability each class is ruled out, and what that does on validation images.

    answered: of the validation images, each judged by the others; wrong: of those answered;
    wrong_by_class: of all validation images of a class.
    """

    cuts: tuple[Cut, ...]
    answered: Rate
    wrong: Rate | None
    wrong_by_class: tuple[Rate | None, ...]


@dataclass(frozen=True)
class Rules:
    """Of runs with the same classes, given in their order."""

    runs: Sequence[Trained]
    choice: Choice

    @property
    def task(self) -> Task:
        return self.runs[0].task

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runs[0].class_names

    @property
    def positive(self) -> int | None:
        return self.runs[0].run.config.dataset.positive_label

    @cached_property
    def temperatures(self) -> tuple[Temperatures, ...]:
        return tuple(
            probabilities.temperatures(
                run.task, run.run.val.logits, run.run.val.labels, self.positive
            )
            for run in self.runs
        )

    def mean(self, logits: Sequence[Floats]) -> Mean:
        """Logits of each run [n, classes] -> their calibrated mean."""
        each = [t.log_odds(own) for t, own in zip(self.temperatures, logits, strict=True)]
        return probabilities.mean(np.stack(each))

    @cached_property
    def val(self) -> tuple[Mean, np.ndarray, Groups] | str:
        """The validation images as these runs see them, or why they cannot be seen together."""
        first = self.runs[0].run
        if len({run.run.data["digests"]["val"] for run in self.runs}) > 1:
            return "the runs have different validation images"
        if not len(first.val.labels):
            return "the runs have no validation images"
        groups = None if first.val.groups is None else np.array(first.val.groups)
        return self.mean([run.run.val.logits for run in self.runs]), first.val.labels, groups

    @cached_property
    def threshold(self) -> float:
        """In log odds, of the positive class or of each label.

        Raises UserError where the runs have none of this kind.
        """
        cut = self.choice.cut
        if self.task.has_positive:
            return self._operating_point() if cut is None else float(logit(cut))
        if cut is None or (cut != 0.5 and not self.task.several_labels):
            allowed = "a probability" if self.task.several_labels else "0.5"
            raise UserError(
                f"threshold: found {self.choice.threshold}, but these runs are of task "
                f"{self.task.name}; allowed: {allowed}"
                + ("" if self.task.several_labels else ", the most probable class is predicted")
            )
        return float(logit(cut))

    def _operating_point(self) -> float:
        points = {run.run.config.evaluate.operating_point for run in self.runs}
        point = self.runs[0].run.config.evaluate.point
        if len(points) > 1 or point is None:
            found = ", ".join(sorted(map(str, points)))
            raise UserError(
                f"threshold: found operating_point, but the runs have {found}; give each one by "
                "`beitmed evaluate RUN evaluate.operating_point=sensitivity:0.95`, or give "
                "threshold=0.5, or another probability."
            )
        if isinstance(self.val, str):
            raise UserError(f"threshold: found operating_point, but {self.val}; give threshold=0.5")
        mean, labels, _ = self.val
        score, y = mean.log_odds[:, self.positive], labels == self.positive
        cut = decisions.threshold_at(*point, score, y)
        if isinstance(cut, str):
            raise UserError(f"threshold: of the validation images {cut}; give threshold=0.5")
        return cut

    def called(self, mean: Mean) -> Bools:
        """What is predicted, [n, classes]: one class an image, or any number of labels."""
        if self.task.several_labels:
            result: Bools = mean.log_odds > self.threshold
            return result
        classes = np.arange(len(self.class_names))
        if not self.task.has_positive:
            return mean.p.argmax(axis=1)[:, None] == classes
        assert self.positive is not None
        score = mean.log_odds[:, self.positive]
        if self.choice.cut == 0.5:  # of equals the first class, as argmax has it
            hit = calibration.decide(score, 0.0, self.positive)
        else:
            hit = score >= self.threshold
        return np.where(hit, self.positive, 1 - self.positive)[:, None] == classes

    @cached_property
    def abstention(self) -> Abstention | str:
        """What is ruled out, or why nothing is."""
        if self.choice.level is None:
            return "it was not asked for (risk=off)"
        if self.task.several_labels:
            return "it is not defined for images with several labels"
        if isinstance(self.val, str):
            return self.val
        mean, labels, groups = self.val
        cuts = tuple(
            coverage.cut(mean.p[own, c], self.choice.level, None if groups is None else groups[own])
            for c in range(len(self.class_names))
            for own in [labels == c]
        )
        possible = coverage.of_others(mean.p, labels, self.choice.level, groups)
        called = self.called(mean)
        answered = (possible == called).all(axis=1)
        wrong = answered & ~called[np.arange(len(labels)), labels]
        rate = _Rates(groups)
        return Abstention(
            cuts,
            rate(answered, np.ones(len(labels), bool)) or (0, 0, 0.0, 1.0),
            rate(wrong, answered),
            tuple(rate(wrong, labels == c) for c in range(len(cuts))),
        )

    def decide(self, logits: Sequence[Floats]) -> Decided:
        """What is said of images, from each run's logits [n, classes]."""
        mean = self.mean(logits)
        called = self.called(mean)
        if isinstance(self.abstention, str):
            return Decided(mean, called, None, None)
        possible = coverage.possible(mean.p, np.array([cut.value for cut in self.abstention.cuts]))
        return Decided(mean, called, possible, (possible != called).any(axis=1))


@dataclass(frozen=True)
class _Rates:
    groups: Groups

    def __call__(self, hit: Bools, of: Bools) -> Rate | None:
        """How many of these images, with 95 % limits over patients; None of no images."""
        if not of.any():
            return None
        own = None if self.groups is None else self.groups[of]
        low, high, _ = clusters.proportion_limits(hit[of], own)
        return int(hit[of].sum()), int(of.sum()), low, high


def check_alike(runs: Sequence[Trained]) -> None:
    """Raise UserError where runs cannot be asked together."""
    first = runs[0]
    for other in runs[1:]:
        for what, a, b in (
            ("classes", first.class_names, other.class_names),
            ("task", first.task.name, other.task.name),
            (
                "positive class",
                first.run.config.dataset.positive_label,
                other.run.config.dataset.positive_label,
            ),
            ("form of images", first.form, other.form),
        ):
            if a != b:
                raise UserError(
                    f"{other.run.path}: its {what} ({_said(b)}) is not that of "
                    f"{first.run.path} ({_said(a)}); give runs that can be averaged, or one at a "
                    "time"
                )


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
