"""The runs of a cross-validation, joined: each image is held out once, by the model of its fold."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beitmed import config
from beitmed.config import Config
from beitmed.runs.reader import FinishedRun
from beitmed.statistics import areas, folds
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate

METHOD = "held-out images and differences between the folds' models"


@dataclass(frozen=True)
class Joined:
    """One cross-validation: estimates of the mean performance of the models of its folds.

    `patients` is None where they are not known. `by_fold` has the values of each metric, in the
    order of the folds, None where a fold has none.
    """

    runs: tuple[FinishedRun, ...]
    images: int
    patients: int | None
    estimates: dict[str, Estimate]
    by_fold: dict[str, list[float | None]]

    @property
    def config(self) -> Config:
        return self.runs[0].config

    @property
    def name(self) -> str:
        """That of the first fold's run, without the fold."""
        return self.runs[0].path.name.replace("_fold0_", "_")

    def sentence(self) -> str:
        """What was found, as one line."""
        patients = "" if self.patients is None else f" of {self.patients} patients"
        values = "; ".join(
            f"{'AUC' if name == 'auc' else name} {_short(estimate)}"
            for name, estimate in self.estimates.items()
        )
        return (
            f"{self.name}: cross-validation in {len(self.runs)} folds, {self.images} "
            f"images{patients}, each held out once: {values}."
        )


def _short(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined ({estimate.reason})"
    return f"{estimate.value:.3f} [{estimate.ci_low:.3f}, {estimate.ci_high:.3f}]"


def join(runs: Sequence[FinishedRun]) -> tuple[list[Joined], list[str]]:
    """Return the cross-validations that are whole, and what keeps others from being joined.

    Runs belong together where they differ in nothing but the fold; each seed is one of its own.
    Runs without folds are passed over.
    """
    together: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        if run.config.data.folds is not None:
            together[json.dumps(config.without_fold(run.config), sort_keys=True)].append(run)
    found, problems = [], []
    for members in together.values():
        members.sort(key=lambda run: run.config.data.fold or 0)
        if problem := _problem(members):
            problems.append(problem)
        else:
            found.append(_joined(members))
    return found, problems


def _problem(members: Sequence[FinishedRun]) -> str | None:
    cfg = members[0].config
    assert cfg.data.folds is not None
    there = [run.config.data.fold for run in members]
    lacking = [fold for fold in range(cfg.data.folds) if fold not in there]
    if lacking:
        listed = ",".join(map(str, lacking))
        return (
            f"{members[0].path}: of its {cfg.data.folds} folds {len(lacking)} are not finished; "
            f"train them (-m data.fold={listed}), or give their folders too."
        )
    if len(there) > cfg.data.folds:
        twice = next(fold for fold in there if there.count(fold) > 1)
        paths = ", ".join(str(run.path) for run in members if run.config.data.fold == twice)
        return f"fold {twice} is there more than once ({paths}); give one of them only."
    return None


def _joined(members: Sequence[FinishedRun]) -> Joined:
    right = [run.task.right(run.test.logits, run.test.labels) for run in members]
    groups = _groups(members)
    whole = None if groups is None else np.concatenate(groups)
    images = sum(map(len, right))
    patients = None if whole is None else len(np.unique(whole))
    number = np.repeat(np.arange(len(members)), [len(r) for r in right])
    clusters = None if patients == images else whole  # one image each: as without patients
    value, low, high = folds.accuracy(np.concatenate(right), number, clusters)
    return Joined(
        tuple(members),
        images,
        patients,
        {
            "auc": _auc(members, None if clusters is None else groups, images, patients),
            "accuracy": Estimate(value, low, high, images, METHOD, None, patients),
        },
        {
            name: [run.metrics["test"][name]["value"] for run in members]
            for name in ("auc", "accuracy")
        },
    )


def _groups(members: Sequence[FinishedRun]) -> list[np.ndarray] | None:
    known = [run.test.groups for run in members]
    return None if None in known else [np.asarray(groups) for groups in known]


def _auc(
    members: Sequence[FinishedRun],
    groups: list[np.ndarray] | None,
    images: int,
    patients: int | None,
) -> Estimate:
    parts = []
    for i, run in enumerate(members):
        positive = run.config.dataset.positive_label
        curves = run.task.curves(
            run.test.logits, run.test.labels, run.data["class_names"], positive
        )
        lacking = curves.member.all(axis=0) | ~curves.member.any(axis=0)
        if lacking.any():
            return Estimate.undefined(f"fold {i} lacks a positive or a negative image of a class")
        own: Groups = None if groups is None else groups[i]
        parts.append(areas.interval(curves.member, curves.score[None], own))
    value, low, high = folds.area(parts)
    return Estimate(value, low, high, images, METHOD, None, patients)
