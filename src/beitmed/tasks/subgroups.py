"""How good a model is for each value of a column, such as each sex or each scanner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beitmed.statistics import clusters
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.proportions import wilson
from beitmed.tasks import estimates
from beitmed.tasks.task import Curves, Labels, Task

NOT_GIVEN = "(not given)"


def evaluate(
    task: Task,
    labels: Labels,
    logits: Floats,
    columns: Mapping[str, Sequence[str]],
    *,
    class_names: Sequence[str],
    positive: int | None,
    patients: Sequence[str] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by column and value: the number of images and patients, AUC and accuracy.

    labels and logits [n, ...] are those of the test set, and so are the values [n] of each column,
    "" where unknown, and the patients [n]. AUC and accuracy are the task's own definitions, each an
    `Estimate` as JSON values. Each interval is of its subgroup alone: two that overlap, or do not,
    are no test of a difference.
    """
    curves = task.curves(logits, labels, class_names, positive)
    right = task.right(logits, labels)
    groups = None if patients is None else np.asarray(patients)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for column, cells in columns.items():
        values = np.array([cell or NOT_GIVEN for cell in cells])
        found[column] = {
            str(value): _of(curves, right, values == value, groups) for value in np.unique(values)
        }
    return found


def lines(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """What `evaluate` found as it is said on the terminal, a line each value."""
    said = []
    for column, values in found.items():
        for value, one in values.items():
            n = f"{one['images']} images"
            n += "" if one["patients"] is None else f" of {one['patients']} patients"
            numbers = ", ".join(
                f"{label} {_short(one[name])}"
                for name, label in (("auc", "AUC"), ("accuracy", "accuracy"))
            )
            said.append(f"{column} {value}: {n}, {numbers}")
    return said


def _short(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "undefined"
    return f"{estimate['value']:.3f} [{estimate['ci_low']:.3f}, {estimate['ci_high']:.3f}]"


def _of(curves: Curves, right: Floats, chosen: Bools, groups: Groups) -> dict[str, Any]:
    own = None if groups is None else groups[chosen]
    return {
        "images": int(chosen.sum()),
        "patients": estimates.patients(own),
        "auc": _auc(curves.member[chosen], curves.score[chosen], own).as_dict(),
        "accuracy": _accuracy(right[chosen], own).as_dict(),
    }


def _auc(member: Bools, score: Floats, groups: Groups) -> Estimate:
    lacking = int((member.all(axis=0) | ~member.any(axis=0)).sum())
    if lacking:
        classes = "" if member.shape[1] == 1 else f"for {lacking} of {member.shape[1]} classes "
        return Estimate.undefined(f"{classes}the subgroup has no positive or no negative image")
    return estimates.mean_auc(member, score, groups)


def _accuracy(right: Floats, groups: Groups) -> Estimate:
    """right [n]: the share of an image's labels that are right."""
    own = estimates.clustered(groups)
    effective = clusters.effective_size(right[None], own)
    low, high = map(float, wilson(right.mean() * effective, effective))
    method = "Wilson" if own is None else "Wilson at the effective sample size of patients"
    value, patients = float(right.mean()), estimates.patients(groups)
    return Estimate(value, low, high, right.size, method, None, patients)
