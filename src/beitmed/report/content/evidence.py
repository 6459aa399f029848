"""What the runs of one test set show: each variant over its seeds, and every pair of variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Interval
from beitmed.statistics import comparisons, seeds
from beitmed.statistics.comparisons import Difference
from beitmed.statistics.seeds import Summary

LEVEL = 0.05  # of a Holm-adjusted p below which two variants are said to differ


@dataclass(frozen=True)
class Pair:
    """Two variants on the same images: first less second, and p adjusted for all pairs tested."""

    first: str
    second: str
    difference: Difference
    p: float | None


@dataclass(frozen=True)
class Evidence:
    """All comparisons of one test set. Measures are by their name in metrics.json."""

    test_set: TestSet

    @cached_property
    def summaries(self) -> dict[str, dict[str, Summary]]:
        """For each measure that has a method for several seeds: its summary by variant's name."""
        return {
            name: {v.name: _SUMMARIES[name](self.test_set, v) for v in self.test_set.variants}
            for name in self.test_set.task.compared
            if name in _SUMMARIES
        }

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """For each tested measure every pair of variants in their order; p adjusted after Holm."""
        variants = self.test_set.variants
        if len(variants) < 2:
            return {}
        of_seeds = {v.name: [run.seed for run in v.runs] for v in variants}
        result = {}
        for name in self.test_set.task.tested:
            found = _DIFFERENCES[name](self.test_set, of_seeds)
            adjusted = comparisons.holm([difference.p for difference in found.values()])
            result[name] = [
                Pair(*names, difference, p)
                for (names, difference), p in zip(found.items(), adjusted, strict=True)
            ]
        return result

    def cell(self, variant: Variant, name: str) -> Interval:
        """A measure over a variant's runs."""
        if name in self.summaries:
            return interval(self.summaries[name][variant.name])
        return of_runs(variant, name)[0]


def _auc(test_set: TestSet, variant: Variant) -> Summary:
    """Of the positive class, or the mean over the classes or labels."""
    first = variant.first
    if test_set.task.has_positive:
        return seeds.auc_summary(first.actual, variant.scores)
    scores = np.stack([run.one_against_others[1] for run in variant.runs])
    return seeds.mean_auc_summary(first.one_against_others[0], scores)


def _auc_differences(test_set: TestSet, of_seeds: Mapping[str, list[int]]) -> Differences:
    scores = {v.name: v.scores for v in test_set.variants}
    return comparisons.auc_differences(test_set.first.actual, scores, of_seeds)


def _accuracy_differences(test_set: TestSet, of_seeds: Mapping[str, list[int]]) -> Differences:
    correct = {v.name: v.correct for v in test_set.variants}
    return comparisons.accuracy_differences(correct, of_seeds)


Differences = dict[tuple[str, str], Difference]
_SUMMARIES: dict[str, Callable[[TestSet, Variant], Summary]] = {
    "auc": _auc,
    "accuracy": lambda _, variant: seeds.accuracy_summary(variant.correct),
}
_DIFFERENCES: dict[str, Callable[[TestSet, Mapping[str, list[int]]], Differences]] = {
    "auc": _auc_differences,
    "accuracy": _accuracy_differences,
}


def of_runs(variant: Variant, name: str) -> tuple[Interval, float | None]:
    """A measure of metrics.json, mean and standard deviation over a variant's runs.

    With one run its own interval; with several none, as no method for that is known here.
    """
    found = [run.metrics["test"].get(name) for run in variant.runs]
    values = [e["value"] for e in found if e is not None and e["value"] is not None]
    if len(values) < len(found):
        return Interval(None, reason="undefined for a seed"), None
    if len(found) == 1:
        return Interval(values[0], found[0]["ci_low"], found[0]["ci_high"]), None
    return Interval(float(np.mean(values))), float(np.std(values, ddof=1))


def interval(summary: Summary | Difference) -> Interval:
    """A summary or a difference as a table's cell."""
    value = summary.mean if isinstance(summary, Summary) else summary.value
    return Interval(value, summary.low, summary.high, summary.reason)
