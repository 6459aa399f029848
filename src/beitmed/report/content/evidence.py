"""What the runs of one test set show: each variant over its seeds, and every pair of variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Interval
from beitmed.runs.reader import FinishedRun
from beitmed.statistics import areas, comparisons, planning, seeds
from beitmed.statistics.comparisons import Difference
from beitmed.statistics.jackknife import Scale
from beitmed.statistics.planning import Equivalence, Selected
from beitmed.statistics.seeds import Summary
from beitmed.statistics.spread import Measure
from beitmed.tasks import over_seeds

LEVEL = 0.05  # of a Holm-adjusted p below which two variants are said to differ
_SELECTION_SEED = 0


@dataclass(frozen=True)
class Question:
    """What the reader asked beforehand.

    margin: the difference below which two variants count as equally good. reference: the variant
    that all others are compared with, by its name; None for every pair. within: how near to a
    full-data result counts as having reached it with fewer labels.
    """

    margin: float | None = None
    reference: str | None = None
    within: float = 0.02


@dataclass(frozen=True)
class Pair:
    """Two variants on the same images: first less second.

    p is adjusted for all pairs tested, and so are the limits `together`.
    """

    first: str
    second: str
    difference: Difference
    p: float | None
    together: tuple[float, float] | None


@dataclass(frozen=True)
class Evidence:
    """All comparisons of one test set. Measures are by their name in metrics.json."""

    test_set: TestSet
    question: Question = field(default_factory=Question)

    @cached_property
    def reference(self) -> str | None:
        """The name of the variant that the others are compared with, where it is in this set."""
        return None if self.question.reference is None else named(
            self.test_set, self.question.reference
        )  # fmt: skip

    @cached_property
    def summaries(self) -> dict[str, dict[str, Summary]]:
        """For each compared measure its summary over seeds, by variant's name."""
        return {
            name: {v.name: _SUMMARIES.get(name, _by_measure(name))(self.test_set, v)
                   for v in self.test_set.variants}
            for name in self.test_set.task.compared
        }  # fmt: skip

    @cached_property
    def measures(self) -> dict[str, dict[str, Measure]]:
        """For each tested measure what the images contribute to it, by variant's name."""
        return {
            name: {v.name: measure(self.test_set, v, name) for v in self.test_set.variants}
            for name in self.test_set.task.tested
            if name != "auc" or not lacking(self.test_set)
        }

    @cached_property
    def differences(self) -> dict[str, dict[tuple[str, str], Difference]]:
        """For each tested measure every pair of variants in their order, unadjusted."""
        variants = self.test_set.variants
        if len(variants) < 2:
            return {}
        of_seeds = {v.name: [run.seed for run in v.runs] for v in variants}
        return {name: self._differences(name, of_seeds) for name in self.test_set.task.tested}

    def _differences(
        self, name: str, of_seeds: Mapping[str, list[int]]
    ) -> dict[tuple[str, str], Difference]:
        test_set = self.test_set
        if name == "auc":
            scores = {v.name: test_set.scores(v) for v in test_set.variants}
            if test_set.task.has_positive:
                scores = {name: s[:, :, 0] for name, s in scores.items()}
                return comparisons.auc_differences(
                    test_set.member[:, 0], scores, of_seeds, test_set.groups
                )
            return comparisons.mean_auc_differences(
                test_set.member, scores, of_seeds, test_set.groups
            )
        if name == "accuracy":
            correct = {v.name: v.correct for v in test_set.variants}
            return comparisons.accuracy_differences(correct, of_seeds, test_set.groups)
        return comparisons.differences(self.measures[name], of_seeds, "jackknife")

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """For each tested measure the pairs, adjusted for their number (of the planned alone)."""
        return {name: self._pairs(found) for name, found in self.differences.items()}

    def _pairs(self, found: Mapping[tuple[str, str], Difference]) -> list[Pair]:
        if self.reference is not None:
            planned = comparisons.against(found, self.reference)
            found = {(name, self.reference): d for name, d in planned.items()}
        values = list(found.values())
        adjusted = comparisons.holm([d.p for d in values])
        together = comparisons.simultaneous(values)
        rows = zip(found.items(), adjusted, together, strict=True)
        return [Pair(*names, d, p, limits) for (names, d), p, limits in rows]

    def equivalence(self, name: str, difference: Difference) -> Equivalence | None:
        """What the margin makes of a difference, where one was given; a higher value is better."""
        if self.question.margin is None:
            return None
        if self.test_set.task.metrics[name].better == "lower" and difference.centre is not None:
            difference = replace(difference, centre=-difference.centre)
        return planning.equivalence(difference, self.question.margin)

    @cached_property
    def selected(self) -> tuple[str, Selected] | None:
        """The variant of the highest first measure, corrected for having been picked for it."""
        found = self.measures.get(self.test_set.task.compared[0], {})
        measures = list(found.values())
        if len(measures) < 2 or any(np.isnan(m.contributions).any() for m in measures):
            return None
        best = planning.best_of(measures, seed=_SELECTION_SEED)
        return list(found)[best.index], best

    def cell(self, variant: Variant, name: str) -> Interval:
        """A measure over a variant's runs."""
        return interval(self.summary(variant, name))

    def summary(self, variant: Variant, name: str) -> Summary:
        """A measure over a variant's runs; what is not compared by the runs' own intervals."""
        if name in self.summaries:
            return self.summaries[name][variant.name]
        return of_runs(variant.runs, name)


def named(test_set: TestSet, wanted: str) -> str | None:
    """The one variant of this name, or whose name holds it, or that has a run of this name."""
    names = [v.name for v in test_set.variants]
    if wanted in names:
        return wanted
    runs = [v.name for v in test_set.variants if any(run.path.name == wanted for run in v.runs)]
    found = runs or [name for name in names if wanted in name]
    return found[0] if len(found) == 1 else None


def lacking(test_set: TestSet) -> bool:
    """Whether a class or label lacks a positive or a negative test image."""
    member = test_set.member
    return bool((member.all(axis=0) | ~member.any(axis=0)).any())


def measure(test_set: TestSet, variant: Variant, name: str) -> Measure:
    """A tested measure of a variant's models, with what each image (patient) contributes."""
    if name == "auc":
        return areas.mean_auc(test_set.member, test_set.scores(variant), test_set.groups)
    if name == "accuracy":
        return seeds.accuracy_measure(variant.correct, test_set.groups)
    task, calls = test_set.task, [test_set.task.called(run.test.logits) for run in variant.runs]
    labels = test_set.first.test.labels
    return over_seeds.of_tables(task.metrics[name], np.stack(calls), labels, test_set.groups)


Summarise = Callable[[TestSet, Variant], Summary]


def _auc(test_set: TestSet, variant: Variant) -> Summary:
    """Of the positive class, or the mean over the classes or labels."""
    member, scores = test_set.member, test_set.scores(variant)
    if test_set.task.has_positive:
        return seeds.auc_summary(member[:, 0], scores[:, :, 0], test_set.groups)
    return seeds.mean_auc_summary(member, scores, test_set.groups)


_SUMMARIES: dict[str, Summarise] = {
    "auc": _auc,
    "accuracy": lambda test_set, variant: seeds.accuracy_summary(variant.correct, test_set.groups),
}


def _by_measure(name: str) -> Summarise:
    """Of one seed its own interval; of several that of the measure, else of their intervals."""

    def summarise(test_set: TestSet, variant: Variant) -> Summary:
        if len(variant.runs) == 1 or name not in test_set.task.tested:
            return of_runs(variant.runs, name)
        lower = test_set.task.metrics[name].better == "lower"
        scale: Scale = "positive" if lower else "correlation"
        return seeds.summary(measure(test_set, variant, name), scale)

    return summarise


def of_runs(runs: Sequence[FinishedRun], name: str) -> Summary:
    """A metric of metrics.json over a variant's runs, by their values and intervals."""
    found = [run.metrics["test"].get(name) or {} for run in runs]
    values = [e.get("value") for e in found]
    limits = [(e.get("ci_low"), e.get("ci_high")) for e in found]
    if None in values:
        reason = next((e.get("reason") for e in found if e.get("reason")), "not in metrics.json")
        return Summary((), None, None, None, None, None, None, None, None, str(reason))
    known = np.array(values, np.float64)
    if any(None in pair for pair in limits):
        sd = float(known.std(ddof=1)) if known.size > 1 else None
        reason = str(found[0].get("reason") or "no interval of a seed")
        return Summary(
            tuple(known.tolist()), float(known.mean()), sd, None, None, None, None, None, None,
            reason,
        )  # fmt: skip
    low, high = np.array(limits, np.float64).T
    return seeds.summary_of_intervals(known, low, high)


def interval(summary: Summary | Difference) -> Interval:
    """A summary or a difference as a table's cell."""
    value = summary.mean if isinstance(summary, Summary) else summary.value
    return Interval(value, summary.low, summary.high, summary.reason)
