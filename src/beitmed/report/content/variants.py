"""Runs in groups: those of one test set, and in them the seeds of one variant.

Only runs of one group are ever compared: their predictions are of the same images, in the same
order, scored for the same class. Why two groups of one dataset are two is said in words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from beitmed import config
from beitmed.report.content import variant_names
from beitmed.report.content.variant_names import SYNTHETIC
from beitmed.runs.reader import FinishedRun
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import Task


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but the seed, by seed. `name` tells variants of a group apart."""

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def first(self) -> FinishedRun:
        return self.runs[0]

    @cached_property
    def scores(self) -> Floats:
        """Log odds of the positive class [seeds, n]."""
        return np.stack([run.score for run in self.runs])

    @cached_property
    def correct(self) -> Bools:
        """Whether argmax is right [seeds, n]."""
        return np.stack([run.correct for run in self.runs])


@dataclass(frozen=True)
class TestSet:
    """Variants tested on the same images. `id` is a plain word for file names."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    id: str
    name: str
    variants: tuple[Variant, ...]

    @property
    def first(self) -> FinishedRun:
        return self.variants[0].first

    @property
    def task(self) -> Task:
        return self.first.task

    @property
    def runs(self) -> list[FinishedRun]:
        return [run for variant in self.variants for run in variant.runs]

    @property
    def n(self) -> int:
        return len(self.first.test.labels)

    @property
    def class_names(self) -> list[str]:
        return list(self.first.data["class_names"])

    @property
    def positive(self) -> str:
        return self.first.metrics["positive_class"]["name"]

    @property
    def negative(self) -> str:
        return self.first.metrics["negative_class"]["name"]


def group(runs: Sequence[FinishedRun]) -> tuple[list[TestSet], list[str]]:
    """Return the test sets in a fixed order, and what had to be kept apart or left out, and why."""
    of_dataset: dict[str, list[list[FinishedRun]]] = {}
    for members in _same_images(runs):
        of_dataset.setdefault(members[0].dataset, []).append(members)
    result: list[TestSet] = []
    notes: list[str] = []
    taken: set[str] = set()
    for dataset, groups in sorted(of_dataset.items()):
        told = f"{dataset}, {SYNTHETIC}" if groups[0][0].config.dataset.synthetic else dataset
        names = [told if len(groups) == 1 else f"{told} ({letters(i)})"
                 for i in range(len(groups))]  # fmt: skip
        for name, members in zip(names, groups, strict=True):
            variants, left_out = _variants(members)
            notes += left_out
            result.append(
                TestSet(_id(name.replace(f", {SYNTHETIC}", ""), taken), name, tuple(variants))
            )
        for name, members in zip(names[1:], groups[1:], strict=True):
            why = "; ".join(_why_apart(groups[0], members))
            notes.append(f"{names[0]} and {name} are not compared: {why}.")
    return result, notes


def letters(i: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    first, last = divmod(i, 26)
    return (letters(first - 1) if first else "") + chr(ord("a") + last)


def _id(name: str, taken: set[str]) -> str:
    """A plain word for file names; of two names that give the same the second gets a number."""
    word = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
    found = next(w for i in count(1) if (w := word if i == 1 else f"{word}-{i}") not in taken)
    taken.add(found)
    return found


def _same_images(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs by test images, each group in the order in which it came.

    Resolutions of one dataset show the same images, so their files differ and are still paired.
    Where there are two files of one resolution, one of them shows others: then official files
    stand together, and each other file alone.
    """
    by_facts: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = json.dumps([_test_set(run), run.test.labels.tolist()])
        by_facts.setdefault(key, []).append(run)
    result = []
    for members in by_facts.values():
        files: dict[object, set[object]] = {}
        for run in members:
            files.setdefault(run.config.size, set()).add(run.data.get("md5"))
        if all(len(found) == 1 for found in files.values()):
            result.append(members)
            continue
        by_file: dict[object, list[FinishedRun]] = {}
        for run in members:
            file = "official" if run.data.get("official") else run.data.get("md5")
            by_file.setdefault(file, []).append(run)
        result += by_file.values()
    return result


def _test_set(run: FinishedRun) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "task": run.task.name,
        "positive class": run.metrics.get("positive_class"),
        "class names": run.data.get("class_names"),
        "test images": len(run.test.labels),
        "data.limit": run.config.data.limit,
        "phantom seed": run.data.get("phantom_seed"),
    }


def _why_apart(a: Sequence[FinishedRun], b: Sequence[FinishedRun]) -> list[str]:
    one, other = _test_set(a[0]), _test_set(b[0])
    why = [f"{key} {_said(one[key])} and {_said(other[key])}" for key in one
           if one[key] != other[key]]  # fmt: skip
    if why:
        return why
    if not np.array_equal(a[0].test.labels, b[0].test.labels):
        return ["the labels of their test images differ, so the images do, or their order"]
    files = [
        " and ".join(
            sorted({f"{run.data.get('source')} of MD5 {run.data.get('md5')}" for run in g})
        )
        for g in (a, b)
    ]
    return [
        f"their data files are not the same, so the images may differ ({' against '.join(files)})"
    ]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return repr(value.get("name"))
    return "null" if value is None else repr(value)


def _variants(runs: Sequence[FinishedRun]) -> tuple[list[Variant], list[str]]:
    by_key: dict[str, dict[int, FinishedRun]] = {}
    notes = []
    for run in runs:
        seeds = by_key.setdefault(_variant_key(run), {})
        if run.seed in seeds:
            same = np.array_equal(seeds[run.seed].test.logits, run.test.logits)
            notes.append(
                f"{run.path}: left out, as {seeds[run.seed].path} is the same configuration, data, "
                f"weights and seed, with {'the same' if same else 'OTHER'} predictions."
            )
        else:
            seeds[run.seed] = run
    members = [tuple(seeds[s] for s in sorted(seeds)) for seeds in by_key.values()]
    members.sort(key=lambda group: _order(group[0]))
    names = variant_names.of([group[0] for group in members])
    return [Variant(n, group) for n, group in zip(names, members, strict=True)], notes


def _variant_key(run: FinishedRun) -> str:
    source = {k: v for k, v in run.data.items() if k in ("md5", "phantom_seed", "source")}
    content = [config.variant(run.config), source, run.model.get("trunk_sha256")]
    return json.dumps(content, sort_keys=True)


def _order(run: FinishedRun) -> tuple[Any, ...]:
    cfg = run.config
    depth = math.inf if cfg.unfreeze == "all" else cfg.unfreeze
    model = (not cfg.trains_backbone, variant_names.model(cfg), depth)
    return *model, cfg.size, cfg.balanced, _variant_key(run)
