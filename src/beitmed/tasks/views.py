"""Predictions averaged over views of an image, and what that changes, paired on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_expit, log_softmax, logsumexp

from beitmed.statistics import changes, seeds
from beitmed.statistics.level import Floats
from beitmed.tasks import estimates
from beitmed.tasks.changes import MEASURES, measures
from beitmed.tasks.task import Labels, Task


def averaged(task: Task, logits: Floats) -> Floats:
    """Logits [n, classes] of the mean probabilities over views of logits [views, n, classes].

    In logarithms, so that saturated probabilities keep their order.
    """
    if task.several_labels:
        present, absent = (logsumexp(log_expit(side * logits), axis=0) for side in (1, -1))
        return np.asarray(present - absent)
    return np.asarray(logsumexp(log_softmax(logits, axis=2), axis=0) - np.log(len(logits)))


def compared(
    task: Task, labels: Labels, plain: Floats, views: Floats, positive: int | None,
    patients: Sequence[str] | None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Each measure of the plain logits [n, classes] and of those over views, and the change.

    The change, averaged less plain, has a 95 % interval that is paired on images (patients), for
    the model as trained; what has none has a reason.
    """
    groups = None if patients is None else estimates.clustered(np.asarray(patients))
    before, after = (measures(task, labels, x[None], positive, groups) for x in (plain, views))
    found = {}
    for name in MEASURES:
        first, second = before[name], after[name]
        if isinstance(first, str) or isinstance(second, str):
            reason = first if isinstance(first, str) else second
            found[name] = _row(None, None, None, None, None, str(reason))
            continue
        told = seeds.summary(changes.less(second, first), "plain")
        found[name] = _row(
            float(first.values[0]), float(second.values[0]), told.mean, told.low, told.high,
            told.reason,
        )  # fmt: skip
    return found


def _row(
    plain: float | None, views: float | None, change: float | None, low: float | None,
    high: float | None, reason: str | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "plain": plain, "averaged": views, "change": change, "ci_low": low, "ci_high": high,
        "reason": reason,
    }  # fmt: skip


def lines(views: str, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The changes in words."""
    for name, of in found.items():
        label = MEASURES[name].label
        if of["change"] is None:
            yield f"Averaged over views ({views}), {label}: undefined, {of['reason']}."
            continue
        limits = "" if of["ci_low"] is None else f" [{of['ci_low']:+.3f}, {of['ci_high']:+.3f}]"
        yield (
            f"Averaged over views ({views}), {label}: {of['averaged']:.3f} instead of "
            f"{of['plain']:.3f}, {of['change']:+.3f}{limits}."
        )
