"""Test metrics with and without the test images that training had seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from beitmed.audit import duplicates
from beitmed.data import Data
from beitmed.report.content.evidence import interval
from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Cell, Column, Interval, Section, Table
from beitmed.statistics import seeds
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Bools
from beitmed.statistics.seeds import Summary

Measure = Callable[[Variant, Bools], Summary]


def section(test_set: TestSet, loaded: Data) -> Section:
    """How many test images also stand in train or val, and the metrics without them."""
    found = duplicates.test_images_seen_before(loaded)
    size = test_set.first.config.size
    kinds = {
        "the same pixels": found.exact,
        "the same pixels or nearly": np.union1d(found.exact, found.near),
    }
    title = f"{test_set.name}: test images that training had seen"
    said = [
        f"At {size} px, {len(found.exact):,} of {test_set.n:,} test images also stand in train or "
        f"val with the same pixels, {len(found.near):,} more nearly so. "
        "`beitmed audit` lists them."
    ]
    tables = [
        _without(test_set, what, indices, f"seen-{i}-{test_set.id}")
        for i, (what, indices) in enumerate(kinds.items())
        if len(indices) and not (i and not len(found.near))
    ]
    return Section(f"seen-{test_set.id}", title, paragraphs=said, tables=tables)


def _without(test_set: TestSet, what: str, indices: NDArray[np.int64], name: str) -> Table:
    kept = np.ones(test_set.n, bool)
    kept[indices] = False
    measures = _measures(test_set)
    rows: list[Sequence[Cell]] = [
        [
            variant.name,
            *(_cell(of, variant, chosen) for _, of in measures
              for chosen in (np.ones_like(kept), kept)),
        ]
        for variant in test_set.variants
    ]  # fmt: skip
    n = [f"all {test_set.n:,}", f"without {len(indices):,}"]
    return Table(
        id=name,
        title=f"{test_set.name}: with and without test images that also stand in train or val "
        f"({what}: {len(indices):,})",
        columns=[
            Column("Variant"),
            *(
                Column(f"{label}, {which}", meaning="mean over seeds with its 95 % interval")
                for label, _ in measures
                for which in n
            ),
        ],
        rows=rows,
    )


def _measures(test_set: TestSet) -> list[tuple[str, Measure]]:
    """Those that need nothing but the images left: of a mean over classes, one may lack all."""
    found: list[tuple[str, Measure]] = []
    if test_set.task.has_positive:
        y = test_set.member[:, 0]
        found.append((
            "AUC",
            lambda v, kept: seeds.auc_summary(
                y[kept], test_set.scores(v)[:, kept, 0], _of(test_set, kept)
            ),
        ))  # fmt: skip
    if not test_set.task.several_labels:
        found.append((
            "Accuracy",
            lambda v, kept: seeds.accuracy_summary(v.correct[:, kept], _of(test_set, kept)),
        ))  # fmt: skip
    return found


def _of(test_set: TestSet, kept: Bools) -> Groups:
    return None if test_set.groups is None else test_set.groups[kept]


def _cell(of: Measure, variant: Variant, chosen: Bools) -> Interval:
    if not chosen.any():
        return Interval(None, reason="no test image is left")
    return interval(of(variant, chosen))
