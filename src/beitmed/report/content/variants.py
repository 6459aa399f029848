"""Runs in groups: those of one test set, and in them the seeds of one variant.

Only runs of one group are ever compared: their predictions are of the same images, in the same
order, scored for the same class. Why two groups of one dataset are two is said in words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from beitmed import config
from beitmed.report.content import same_images, variant_names
from beitmed.report.content.same_images import Load
from beitmed.report.content.variant_names import RANDOM, SYNTHETIC
from beitmed.runs.reader import FinishedRun
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import Task, estimates


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but the seed, by seed. `name` tells variants of a group apart."""

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def first(self) -> FinishedRun:
        return self.runs[0]

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
    def heading(self) -> str:
        """The name as a figure's title has it: with what its variants' numbers rest on."""
        random = sum(variant_names.is_random(v.first) for v in self.variants)
        if not random:
            return self.name
        of = "" if random == len(self.variants) else f" in {random} of {len(self.variants)}"
        return f"{self.name} ({RANDOM}{of})"

    @property
    def task(self) -> Task:
        return self.first.task

    @property
    def runs(self) -> list[FinishedRun]:
        return [run for variant in self.variants for run in variant.runs]

    @property
    def n(self) -> int:
        return len(self.first.test.labels)

    @cached_property
    def groups(self) -> Groups:
        """The patients [n], None where they are not known or have one image each."""
        found = self.first.test.groups
        return None if found is None else estimates.clustered(np.asarray(found))

    @property
    def images(self) -> str:
        """The number of test images, and of patients where they are known."""
        found = self.first.test.groups
        of = "" if found is None else f" of {len(set(found)):,} patients"
        return f"{self.n:,} test image{'' if self.n == 1 else 's'}{of}"

    @cached_property
    def member(self) -> Bools:
        """Which test images are of the positive class [n, 1], else of each class or label."""
        return self._columns(self.first.one_against_others[0])

    def scores(self, variant: Variant) -> Floats:
        """Log odds [seeds, n, columns] of what `member` says."""
        return np.stack([self._columns(run.one_against_others[1]) for run in variant.runs])

    def _columns(self, found: Any) -> Any:
        if not self.task.has_positive:
            return found
        return found[:, [self.first.positive]]

    @property
    def class_names(self) -> list[str]:
        return list(self.first.data["class_names"])

    @property
    def positive(self) -> str:
        return self.first.metrics["positive_class"]["name"]

    @property
    def negative(self) -> str:
        return self.first.metrics["negative_class"]["name"]


def group(
    runs: Sequence[FinishedRun], load: Load = lambda _: "images were not to be read (images=false)"
) -> tuple[list[TestSet], list[str]]:
    """Return the test sets in a fixed order, and what had to be kept apart or left out, and why.

    load: gives a run's data, where images must be compared.
    """
    of_dataset: dict[str, list[FinishedRun]] = {}
    for run in runs:
        of_dataset.setdefault(run.dataset, []).append(run)
    result: list[TestSet] = []
    notes: list[str] = []
    taken: set[str] = set()
    for dataset, own in sorted(of_dataset.items()):
        groups, agree, apart = same_images.groups(own, load)
        notes += agree
        told = f"{dataset}, {SYNTHETIC}" if own[0].config.dataset.synthetic else dataset
        names = [told if len(groups) == 1 else f"{told} ({letters(i)})"
                 for i in range(len(groups))]  # fmt: skip
        for name, members in zip(names, groups, strict=True):
            variants, left_out = _variants(members)
            notes += left_out
            result.append(
                TestSet(_id(name.replace(f", {SYNTHETIC}", ""), taken), name, tuple(variants))
            )
        for name, why in zip(names[1:], apart[1:], strict=True):
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


def _variants(runs: Sequence[FinishedRun]) -> tuple[list[Variant], list[str]]:
    by_key: dict[str, dict[int, FinishedRun]] = {}
    notes = []
    for run in runs:
        seeds = by_key.setdefault(_variant_key(run), {})
        if run.seed in seeds:
            same = np.array_equal(seeds[run.seed].test.logits, run.test.logits)
            notes.append(
                f"{run.path.name}: left out, as {seeds[run.seed].path.name} is the same "
                f"configuration, data, weights and seed, with {'the same' if same else 'OTHER'} "
                "predictions."
            )
        else:
            seeds[run.seed] = run
    members = [tuple(seeds[s] for s in sorted(seeds)) for seeds in by_key.values()]
    members.sort(key=lambda group: _order(group[0]))
    names = variant_names.of([group[0] for group in members])
    return [Variant(n, group) for n, group in zip(names, members, strict=True)], notes


def _variant_key(run: FinishedRun) -> str:
    content = [config.variant(run.config), run.data["digests"], run.model.get("trunk_sha256")]
    return json.dumps(content, sort_keys=True)


def _order(run: FinishedRun) -> tuple[Any, ...]:
    cfg = run.config
    depth = math.inf if cfg.unfreeze == "all" else cfg.unfreeze
    model = (not cfg.trains_backbone, variant_names.model(cfg), depth)
    labels = (cfg.shots is not None, -(cfg.shots or cfg.label_fraction))  # the most first
    return *model, cfg.size, cfg.balanced, *labels, _variant_key(run)
