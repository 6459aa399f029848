"""What the runs of one test set show: each variant over its seeds, and every pair of variants."""

from __future__ import annotations

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
    """Two variants on the same images: first less second, and p adjusted for all pairs of the set.

    `auc` and its p are None where the test set has no positive class.
    """

    first: str
    second: str
    auc: Difference | None
    auc_p: float | None
    accuracy: Difference
    accuracy_p: float | None


@dataclass(frozen=True)
class Evidence:
    """All comparisons of one test set. Measures are by the variant's name."""

    test_set: TestSet

    @cached_property
    def auc(self) -> dict[str, Summary]:
        """AUC of each variant: of the positive class, or the mean over the classes or labels."""
        first = self.test_set.first
        if first.binary:
            y = first.actual
            return {v.name: seeds.auc_summary(y, v.scores) for v in self.test_set.variants}
        member = first.one_against_others[0]
        return {
            v.name: seeds.mean_auc_summary(
                member, np.stack([run.one_against_others[1] for run in v.runs])
            )
            for v in self.test_set.variants
        }

    @cached_property
    def accuracy(self) -> dict[str, Summary] | None:
        """Accuracy of argmax of each variant, None where an image has several labels."""
        if not self.test_set.first.single_label:
            return None
        return {v.name: seeds.accuracy_summary(v.correct) for v in self.test_set.variants}

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair, in the order of the variants; p of each measure is adjusted after Holm."""
        variants = self.test_set.variants
        if self.accuracy is None or len(variants) < 2:
            return []
        of_seeds = {v.name: [run.seed for run in v.runs] for v in variants}
        accuracy = comparisons.accuracy_differences({v.name: v.correct for v in variants}, of_seeds)
        accuracy_p = comparisons.holm([d.p for d in accuracy.values()])
        auc: dict[tuple[str, str], Difference] = {}
        if self.test_set.first.binary:
            y = self.test_set.first.actual
            auc = comparisons.auc_differences(y, {v.name: v.scores for v in variants}, of_seeds)
        auc_p = comparisons.holm([auc[pair].p for pair in auc] or [None] * len(accuracy))
        return [
            Pair(*names, auc.get(names), of_auc, difference, of_accuracy)
            for (names, difference), of_accuracy, of_auc in zip(
                accuracy.items(), accuracy_p, auc_p, strict=True
            )
        ]


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
