"""Runs that differ in how many training labels they may use, as curves of methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from beitmed import config
from beitmed.config.method import ResNetMethod
from beitmed.report.content import variant_names
from beitmed.report.content.evidence import Evidence
from beitmed.report.content.variants import TestSet, Variant
from beitmed.runs.reader import FinishedRun
from beitmed.statistics import label_efficiency
from beitmed.statistics.label_efficiency import Needed
from beitmed.statistics.spread import Measure


@dataclass(frozen=True)
class Point:
    """A variant on a method's curve.

    labels: labelled training images, the mean over seeds. part: "10 %", or "5 per class".
    """

    labels: float
    part: str
    variant: Variant

    @property
    def steps(self) -> int | None:
        """Optimisation steps of the longest training, None of what takes none."""
        last = [int(run.history[-1]["step"] or 0) for run in self.variant.runs if run.history]
        return max(last) if last else None


@dataclass(frozen=True)
class Curve:
    """One method with its points, the fewest labels first; by shares or by labels per class."""

    method: str
    points: tuple[Point, ...]

    @property
    def full(self) -> Variant | None:
        """The variant of all labels, where there is one."""
        last = self.points[-1].variant
        return None if last.first.config.part_of_labels else last

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that every point has."""
        of = [{run.seed for run in point.variant.runs} for point in self.points]
        return sorted(set.intersection(*of))


def of(test_set: TestSet) -> list[Curve]:
    """The curves of a test set's methods; [] where no method has runs of different labels.

    A method that has runs both of shares and of labels per class has two curves, which share the
    run of all labels.
    """
    together: dict[str, list[Variant]] = {}
    for variant in test_set.variants:
        together.setdefault(_method_key(variant.first), []).append(variant)
    whole = [min(own, key=lambda v: v.first.config.part_of_labels) for own in together.values()]
    names = variant_names.of([v.first for v in whole], labels=False)
    found: list[Curve] = []
    for name, own in zip(names, together.values(), strict=True):
        full = [v for v in own if not v.first.config.part_of_labels]
        kinds = [[v for v in own if v.first.config.label_fraction < 1],
                 [v for v in own if v.first.config.shots is not None]]  # fmt: skip
        parts = [kind for kind in kinds if kind]
        for kind in parts or [[]]:
            told = ", labels per class" if len(parts) > 1 and kind is kinds[1] else ""
            points = sorted(map(_point, [*kind, *full]), key=lambda p: p.labels)
            found.append(Curve(name + told, tuple(points)))
    return found if any(len(curve.points) > 1 for curve in found) else []


def _method_key(run: FinishedRun) -> str:
    """What the runs of a curve have in common."""
    content = {key: value for key, value in config.variant(run.config).items()
               if key not in ("label_fraction", "shots")}  # fmt: skip
    return json.dumps([content, run.data["digests"], run.model.get("trunk_sha256")], sort_keys=True)


def _point(variant: Variant) -> Point:
    cfg = variant.first.config
    part = f"{cfg.shots} per class" if cfg.shots is not None else share(cfg.label_fraction)
    return Point(float(np.mean([_labelled(run) for run in variant.runs])), part, variant)


def _labelled(run: FinishedRun) -> int:
    part = run.data.get("labelled")
    return int(run.data["images"]["train"] if part is None else part["images"])


def share(fraction: float) -> str:
    """A share of the labels as it is written: `1 %`, `2.5 %`, `37 %`."""
    percent = 100 * fraction
    return f"{percent:.2g} %" if percent < 99.5 else "100 %"


@dataclass(frozen=True)
class Reached:
    """At which share of the labels a method reaches what another (or it itself) has with all.

    target: the mean that is to be reached but for `within`. found: None where it is not defined.
    """

    curve: Curve
    of: Curve
    target: float
    found: Needed | None

    @property
    def most(self) -> float:
        """All labels, of which the share is."""
        return self.curve.points[-1].labels

    @property
    def told(self) -> bool:
        """Whether the limits say anything: not from the fewest labels to all of them, or none."""
        if self.found is None:
            return False
        never, low, high = self.found.low == np.inf, self.found.low, self.found.high
        return never or (high < np.inf and (low > self.curve.points[0].labels or high < self.most))

    def text(self) -> str:
        """The share with its limits, such as `25 % [11 %, 58 %]`."""
        if self.found is None:
            return "n/a"
        if self.found.low == np.inf:
            return "not with all labels"
        value, low, high = (self._one(x) for x in (self.found.value, self.found.low,
                                                   self.found.high))  # fmt: skip
        return f"{value} [{low}, {high}]"

    def _one(self, labels: float) -> str:
        if labels == np.inf:
            return "not with all labels"
        parts = {point.labels: point.part for point in self.curve.points}
        least = " or less" if labels <= self.curve.points[0].labels else ""
        return parts.get(labels, share(labels / self.most)) + least


def reached(evidence: Evidence, measure: str, curves: Sequence[Curve]) -> list[Reached]:
    """Every method with more than one point, by every full-data result, its own first."""
    found = []
    for curve in (c for c in curves if len(c.points) > 1 and c.seeds and c.full):
        for target in sorted((c for c in curves if c.full), key=lambda c: c is not curve):
            if target is curve or target.full is not curve.full:
                found.append(_reached(evidence, measure, curve, target))
    return found


def _reached(evidence: Evidence, measure: str, curve: Curve, target: Curve) -> Reached:
    assert target.full is not None
    of = evidence.measures[measure]
    own, same = of[target.full.name], {run.seed for run in target.full.runs} >= set(curve.seeds)
    aim = _of_seeds(own, target.full, curve.seeds) if same else own
    # Of two parts of the same images, as a tiny split has them, one says it all.
    points = {p.labels: _of_seeds(of[p.variant.name], p.variant, curve.seeds) for p in curve.points}
    mean = float(own.values.mean())
    if any(np.isnan(m.contributions).any() for m in (*points.values(), aim)):
        return Reached(curve, target, mean, None)
    found = label_efficiency.needed(
        list(points), list(points.values()), aim, evidence.question.within, paired=same
    )
    return Reached(curve, target, mean, found)


def _of_seeds(measure: Measure, variant: Variant, seeds: Sequence[int]) -> Measure:
    rows = [i for i, run in enumerate(variant.runs) if run.seed in seeds]
    return Measure(measure.values[rows], measure.contributions[rows], measure.few)


def reference(evidence: Evidence, curves: Sequence[Curve]) -> Curve | None:
    """The method whose full-data result the others are to reach.

    That of the report's reference; without one a ResNet, which no other images have taught.
    """
    wanted = evidence.reference
    for curve in curves:
        names = {point.variant.name for point in curve.points}
        own = isinstance(curve.points[-1].variant.first.config.method, ResNetMethod)
        if wanted in names if wanted is not None else own:
            return curve
    return None
