"""Part of the train split, as if no more of it had been labelled: `label_fraction` or `shots`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beitmed import tasks
from beitmed.config import Config
from beitmed.data.splits import Data, counts
from beitmed.errors import UserError

_STREAM = 15  # of the seed's random numbers: balancing draws from the seed itself


@dataclass(frozen=True)
class Labelled:
    """Images of the train split whose labels a run may use.

    indices: int64, sorted. said: JSON values for data.json; None of the whole split.
    """

    indices: np.ndarray
    said: dict[str, Any] | None = None


def choose(cfg: Config, data: Data) -> Labelled:
    """The labelled part of the train split, which depends on the split's labels and the seed alone.

    The images (where patients are known, the patients with all their images) stand in one random
    order. Of each class the first ones count, so many that they are `label_fraction` of that class,
    to the nearest whole number and at least one, or `shots`; and of several labels an image, those
    of none as a class of their own. So each class is a random sample of its share, and a smaller
    part lies wholly within a larger one. A patient or image of several classes is counted for each:
    the whole may be a little more than the fraction.
    Raises UserError where a class has fewer images (patients) than `shots`.
    """
    labels, classes = data.train.labels, len(data.class_names)
    if not cfg.part_of_labels:
        return Labelled(np.arange(len(labels)))
    member = tasks.of(cfg.dataset.task).members(labels, classes)
    columns = np.column_stack([member, ~member.any(axis=1)])
    groups = data.train.groups
    unit = np.arange(len(labels))
    if groups is not None:
        unit = np.unique(groups, return_inverse=True)[1]
    having = np.zeros((unit.max(initial=-1) + 1, classes + 1), bool)
    np.logical_or.at(having, unit, columns)
    _check_shots(cfg, data, having)
    order = np.random.default_rng([cfg.seed, _STREAM]).permutation(len(having))
    kept = np.zeros(len(having), bool)
    for column in having.T:
        own = order[column[order]]
        kept[own[: _wanted(cfg, len(own))]] = True
    indices = np.flatnonzero(kept[unit])
    return Labelled(
        indices,
        {
            "images": len(indices),
            "patients": None if groups is None else int(kept.sum()),
            "by_class": counts(labels[indices], classes),
        },
    )


def _wanted(cfg: Config, available: int) -> int:
    if cfg.shots is not None:
        return cfg.shots
    return max(int(cfg.label_fraction * available + 0.5), 1)


def _check_shots(cfg: Config, data: Data, having: np.ndarray) -> None:
    there = having.sum(axis=0)[: len(data.class_names)]
    if cfg.shots is None or cfg.shots <= there.min():
        return
    what = "images" if data.train.groups is None else "patients"
    fewest = data.class_names[int(there.argmin())]
    raise UserError(
        f"shots: found {cfg.shots}, but the train split has {there.min()} {what} of {fewest!r}; "
        f"allowed: 1 to {there.min()}, so many {what} of each class, or label_fraction instead"
    )
