"""What a task's predictions come to, a column at a time: scores of a class and who is of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beitmed.runs.predictions import Predictions
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import Task, estimates


@dataclass(frozen=True)
class Column:
    """The cases of one class or label against all others.

    score [n]: log odds of it. y [n]: whether a case is of it. groups [n]: the patients, where they
    are known and have several cases each.
    """

    index: int
    name: str
    score: Floats
    y: Bools
    groups: Groups

    @property
    def both(self) -> bool:
        """Whether there are cases of it and others."""
        return bool(self.y.any() and not self.y.all())


def of(
    task: Task, cases: Predictions, class_names: tuple[str, ...], positive: int | None
) -> list[Column]:
    """A column a class or label; of two classes that of the positive one alone."""
    member = task.members(cases.labels, cases.logits.shape[1])
    odds, groups = task.log_odds(cases.logits), patients(cases)
    wanted = range(len(class_names)) if positive is None else [positive]
    return [Column(i, class_names[i], odds[:, i], member[:, i], groups) for i in wanted]


def patients(cases: Predictions) -> Groups:
    """The patients of the cases, None where none has several."""
    return estimates.clustered(None if cases.groups is None else np.asarray(cases.groups))
