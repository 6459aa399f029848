"""The measures by which one model is compared with itself: on other pixels, or asked otherwise.

Discrimination, decisions and probabilities, each as a `Measure`, so that a change is paired on
images and over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from beitmed.statistics import areas, changes, reliability
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.spread import Measure
from beitmed.tasks.task import Labels, Task


@dataclass(frozen=True)
class Compared:
    """label: as a heading has it. better: which values are better. meaning: in a note."""

    label: str
    better: Literal["higher", "lower"]
    meaning: str


MEASURES: Mapping[str, Compared] = {
    "auc": Compared("AUC", "higher", "area under the ROC curve; of several classes or labels, "
                    "the mean of each against the others"),
    "balanced_accuracy": Compared(
        "Balanced accuracy", "higher", "mean of the classes' sensitivities; of several labels, the "
        "mean of each label's sensitivity and specificity"),
    "calibration_error": Compared(
        "Calibration error", "lower", "root mean squared gap of probability and outcome in bins of "
        "equally many images, its sampling error taken away: of the positive class; of several "
        "classes, of the one that is called; of several labels, of every label"),
}  # fmt: skip


def measures(
    task: Task, labels: Labels, logits: Floats, positive: int | None, groups: Groups = None
) -> dict[str, Measure | str]:
    """Each measure of the models whose logits [S, n, classes] are of these labels, or a reason.

    groups: the patients [n], None where each image stands alone.
    """
    member = task.members(labels, logits.shape[2])
    lacking = member.all(axis=0) | ~member.any(axis=0)
    lack = f"{lacking.sum()} of {lacking.size} classes or labels lack a case of either kind"
    odds = np.stack([task.log_odds(of_one) for of_one in logits])
    columns = np.arange(member.shape[1]) if positive is None else np.array([positive])
    return {
        "auc": lack if lacking.any() else areas.mean_auc(
            member[:, columns], odds[:, :, columns], groups
        ),
        "balanced_accuracy": lack if lacking.any() else changes.mean_of_shares(
            *_shares(task, member, logits), groups
        ),
        "calibration_error": changes.calibration_error(
            *_probabilities(task, labels, logits, odds, positive),
            _repeated(groups, labels) if task.several_labels else groups,
        ),
    }  # fmt: skip


def _shares(task: Task, member: Bools, logits: Floats) -> tuple[Bools, Bools]:
    called = np.stack([task.members(task.called(one), member.shape[1]) for one in logits])
    if not task.several_labels:
        return called, member
    both = np.concatenate([member, ~member], axis=1)
    return np.concatenate([called, ~called], axis=2), both


def _probabilities(
    task: Task, labels: Labels, logits: Floats, odds: Floats, positive: int | None
) -> tuple[Floats, Bools]:
    """Probabilities and outcomes [S, cases]: an image is a case, or, of several labels, each."""
    if task.has_positive:
        probability = expit(odds[:, :, positive])
        return probability, np.broadcast_to(labels == positive, probability.shape)
    if task.several_labels:
        flat = expit(odds).reshape(len(odds), -1)
        return flat, np.broadcast_to(labels.ravel() == 1, flat.shape)
    found = [reliability.top_label(one, labels) for one in logits]
    return np.stack([p for p, _ in found]), np.stack([y for _, y in found])


def _repeated(groups: Groups, labels: Labels) -> Groups:
    own = np.arange(len(labels)) if groups is None else np.asarray(groups)
    return np.repeat(own, labels.shape[1])
