"""Test metrics with and without the test images that training had seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from beitmed.audit import duplicates
from beitmed.data import Data
from beitmed.report.content.evidence import interval
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Section, Table
from beitmed.statistics import seeds


def section(test_set: TestSet, loaded: Data) -> Section:
    """How many test images also stand in train or val, and the metrics without them."""
    found = duplicates.test_images_seen_before(loaded)
    size = test_set.first.metrics["size"]
    kinds = {
        "the same pixels": found.exact,
        "the same pixels or nearly": np.union1d(found.exact, found.near),
    }
    title = f"{test_set.name}: test images that training had seen"
    said = [
        f"At {size} px, {len(found.exact):,} of {test_set.n:,} test images also stand in train or "
        f"val with the same pixels, {len(found.near):,} more nearly so. "
        "`python -m beitmed.audit` lists them."
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
    parts = (np.ones_like(kept), kept)
    rows: list[Sequence[Cell]] = []
    for variant in test_set.variants:
        cells: list[Cell] = [variant.name]
        if test_set.first.binary:
            y = test_set.first.actual
            for chosen in parts:
                cells.append(interval(seeds.auc_summary(y[chosen], variant.scores[:, chosen])))
        if test_set.first.single_label:
            for chosen in parts:
                cells.append(
                    interval(seeds.accuracy_summary(variant.correct[:, chosen]))
                    if chosen.any()
                    else Interval(None, reason="no test image is left")
                )
        rows.append(cells)
    measures = [("AUC", test_set.first.binary), ("Accuracy", test_set.first.single_label)]
    n = [f"all {test_set.n:,}", f"without {len(indices):,}"]
    return Table(
        id=name,
        title=f"{test_set.name}: with and without test images that also stand in train or val "
        f"({what}: {len(indices):,})",
        columns=[
            Column("Variant"),
            *(
                Column(f"{m}, {which}", meaning="mean over seeds with its 95 % interval")
                for m, has in measures
                if has
                for which in n
            ),
        ],
        rows=rows,
    )
