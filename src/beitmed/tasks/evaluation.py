"""The table of tasks, and the evaluation of a test set with the metrics of a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Floats
from beitmed.tasks import binary, estimates, multiclass, multilabel, ordinal, own_metrics
from beitmed.tasks.own_metrics import OwnMetric
from beitmed.tasks.task import UNSTATED, Inputs, Labels, Task, Use

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
    groups: Mapping[str, NDArray[Any] | Sequence[str] | None] | None = None,
    use: Use = UNSTATED,
    own: Mapping[str, OwnMetric] | None = None,
) -> dict[str, Estimate]:
    """Return every metric of the task on the test set, as `Task.evaluate`; those of `own` last.

    Beside a metric stands what the best constant prediction reaches, where that is known.
    groups: of "val" and "test", the patient of each image; intervals are then of patients drawn at
    random. own: metrics from outside the package.
    """
    patients = {
        split: estimates.grouped((groups or {}).get(split), len(labels[split]), f"{split} groups")
        for split in ("val", "test")
    }
    found = task.evaluate(
        Inputs(logits, labels, patients, class_names, positive, seed, n_resamples, use)
    )
    for name, value in task.no_skill(labels["test"], len(class_names), positive).items():
        if name in found and found[name].value is not None:
            found[name] = replace(found[name], no_skill=value)
    return found | own_metrics.estimate(
        own or {}, labels["test"], logits["test"], patients["test"], seed=seed,
        n_resamples=n_resamples,
    )  # fmt: skip


def without_skill(task: Task, found: Mapping[str, Estimate]) -> list[str]:
    """The metrics of all classes by which a model does not beat a constant prediction.

    That is where the interval, or the value where there is none, is not on the better side.
    """
    return [
        name
        for name, metric in task.metrics.items()
        if metric.better and not _beats(found[name], metric.better == "higher")
    ]


def _beats(e: Estimate, higher: bool) -> bool:
    if e.no_skill is None or e.value is None:
        return True
    low, high = (e.value if x is None else x for x in (e.ci_low, e.ci_high))
    return low > e.no_skill if higher else high < e.no_skill
