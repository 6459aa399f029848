"""Scores and labels of several exclusive classes, checked; the mean AUC, and the accuracy.

A class is ranked by its float64 log odds: a softmax rounds probabilities near 1 to 1 and so ties
cases that the network tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, logsumexp

from beitmed.statistics import areas
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import estimates
from beitmed.tasks.task import Labels


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Labels]:
    """Return logits [n, classes] in float64 and labels [n] in int64.

    ValueError: wrong shape or type, a number that is not finite, or a label that is no class.
    """
    rows, actual = np.asarray(logits), np.asarray(labels)
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind != "f":
        raise ValueError(f"logits: {rows.dtype} {rows.shape}, but floats [n, classes] are needed")
    if not np.isfinite(rows).all():
        raise ValueError(f"logits: {(~np.isfinite(rows)).any(axis=1).sum()} rows are not finite")
    if actual.shape != rows.shape[:1] or (actual.dtype.kind not in "iu" and actual.size):
        raise ValueError(f"labels: {actual.dtype} {actual.shape}, but integers [n] are needed")
    other = np.setdiff1d(actual, np.arange(rows.shape[1]))
    if other.size:
        raise ValueError(f"labels: found {other[:5].tolist()} of {rows.shape[1]} classes")
    return rows.astype(np.float64), actual.astype(np.int64)


def one_vs_rest(logits: Floats) -> Floats:
    """Return the log odds [n, classes] of each class against all others; logits [n, classes].

    The others are summed in the order of their size, so that cases that differ in their order only
    are tied, as they are in exact arithmetic. With two classes this is the difference of the two.
    Cases that only rounding keeps apart (of neighbours or trees that vote) are tied too.
    """
    odds = np.empty_like(logits)
    for c in range(logits.shape[1]):
        others = np.sort(np.delete(logits, c, axis=1), axis=1)
        odds[:, c] = logits[:, c] - logsumexp(others, axis=1)
        odds[:, c] = areas.restore_ties(odds[:, c])
    return odds


def auc(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the mean over the classes of the AUC against all others; None if a class is absent."""
    rows, actual = checked(logits, labels)
    member = actual[:, None] == np.arange(rows.shape[1])
    if not member.any(axis=0).all():
        return None
    return float(areas.mean_auc(member, one_vs_rest(rows)[None]).values[0])


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of labels [n] that argmax of logits [n, classes] gives."""
    rows, actual = checked(logits, labels)
    return float(np.mean(rows.argmax(axis=1) == actual)) if actual.size else None


@dataclass(frozen=True)
class Cases:
    """A test set: logits [n, classes], labels [n], and what several metrics read of them.

    groups: the patients [n], where known. fitted: what was fitted to come to these logits, on
    `fitted_n` cases of `fitted_groups` patients.
    """

    logits: Floats
    labels: Labels
    groups: Groups = None
    fitted: Any = None
    fitted_n: int = 0
    fitted_groups: int | None = None

    @property
    def right(self) -> Bools:
        result: Bools = self.logits.argmax(axis=1) == self.labels
        return result

    @cached_property
    def clustered(self) -> Groups:
        return estimates.clustered(self.groups)

    @cached_property
    def table(self) -> Labels:
        """Counts [classes, classes] by actual and predicted class."""
        k = self.logits.shape[1]
        cells = self.labels * k + self.logits.argmax(axis=1)
        return np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)

    @cached_property
    def odds(self) -> Floats:
        return one_vs_rest(self.logits)

    @cached_property
    def member(self) -> Bools:
        result: Bools = self.labels[:, None] == np.arange(self.logits.shape[1])
        return result

    @cached_property
    def log_p(self) -> Floats:
        result: Floats = log_softmax(self.logits, axis=1)
        return result
