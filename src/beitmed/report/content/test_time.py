"""What averaging over views at test time changed, where runs were asked to do it."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Table, in_sentence
from beitmed.tasks.changes import MEASURES


def tables(test_set: TestSet) -> list[Table]:
    """A row a run that has such predictions, or no table."""
    rows: list[Sequence[Cell]] = []
    for variant in test_set.variants:
        for run in variant.runs:
            told = run.metrics.get("test_time")
            if told:
                cells = [c for name in MEASURES for c in _cells(told["measures"][name])]
                rows.append([variant.name, run.seed, told["views"], *cells])
    if not rows:
        return []
    columns = [Column("Variant"), Column("Seed", 0), Column("Views")]
    for of in MEASURES.values():
        columns += [
            Column(f"{of.label}, plain", 3, of.meaning),
            Column(f"Change of {in_sentence(of.label)}", 3, "averaged less plain"),
        ]
    return [
        Table(
            f"views-{test_set.id}",
            f"{test_set.name}: probabilities averaged over views of each test image",
            columns,
            rows,
            [
                "Paired on the same images, for each model as trained. All other tables are of the "
                "plain predictions.",
            ],
        )
    ]


def _cells(found: dict[str, float | None]) -> list[Cell]:
    change = Interval(found["change"], found["ci_low"], found["ci_high"], _said(found["reason"]))
    return [found["plain"], change]


def _said(reason: float | str | None) -> str | None:
    return None if reason is None else str(reason)
