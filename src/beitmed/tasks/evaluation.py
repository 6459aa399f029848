"""The table of tasks, and the evaluation of a test set with the metrics of a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Floats
from beitmed.tasks import binary, multiclass, multilabel, ordinal, own_metrics
from beitmed.tasks.own_metrics import OwnMetric
from beitmed.tasks.task import Labels, Task

#: Each task under its name. A new one is a module with its object, and a line here.
TASKS: dict[str, Task] = {
    task.name: task for task in (binary.TASK, multiclass.TASK, ordinal.TASK, multilabel.TASK)
}


def of(name: str) -> Task:
    """The task of this name; KeyError where there is none."""
    return TASKS[name]


def by_official_name(name: str) -> Task:
    """The task that the `medmnist` package calls so."""
    return next(task for task in TASKS.values() if task.official_name == name)


def inferred(several_labels: bool, classes: int) -> Task | None:
    """What labels look like that say nothing of an order; None where no task has so few."""
    fitting = (
        task
        for task in TASKS.values()
        if task.several_labels == several_labels and not task.ordered and task.allows(classes)
    )
    return next(fitting, None)


def taken(name: str) -> bool:
    """Whether a metric of any task has this name, or one of a single class or label might."""
    return any(task.part_of(name) or name in task.metrics for task in TASKS.values())


def evaluate(
    task: Task,
    *,
    logits: Mapping[str, Floats],
    labels: Mapping[str, Labels],
    class_names: Sequence[str],
    positive: int | None,
    seed: int,
    n_resamples: int,
    own: Mapping[str, OwnMetric] | None = None,
) -> dict[str, Estimate]:
    """Return every metric of the task on the test set, as `Task.evaluate`; those of `own` last.

    own: metrics from outside the package.
    """
    found = task.evaluate(
        logits=logits, labels=labels, class_names=class_names, positive=positive, seed=seed,
        n_resamples=n_resamples,
    )  # fmt: skip
    return found | own_metrics.estimate(
        own or {}, labels["test"], logits["test"], seed=seed, n_resamples=n_resamples
    )
