"""How good a variant is for each value of a column of one's own table: each with n and interval."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.report.content.run_tables import estimate
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Table

_MEASURES = ("auc", "accuracy")


def tables(test_set: TestSet) -> list[Table]:
    """The subgroups that the runs' metrics.json have, of each variant's first seed."""
    rows: list[Sequence[Cell]] = [
        [
            f"{column}: {value}", variant.name, found["images"], found["patients"],
            *(estimate(found[name]) for name in _MEASURES),
        ]
        for variant in test_set.variants
        for column, values in (variant.first.metrics.get("subgroups") or {}).items()
        for value, found in values.items()
    ]  # fmt: skip
    if not rows:
        return []
    rows.sort(key=lambda row: str(row[0]))  # variants below one another
    return [
        Table(
            id=f"subgroups-{test_set.id}",
            title=f"{test_set.name}: subgroups of the test images, each variant's first seed",
            columns=[
                Column("Subgroup"),
                Column("Variant"),
                Column("Images", 0),
                Column("Patients", 0, "empty where patients are not known"),
                *(Column(test_set.task.metrics[name].label, 3, "with its 95 % interval")
                  for name in _MEASURES),
            ],
            rows=rows,
            notes=[
                "Each interval is of its subgroup alone and of one trained model. Two that "
                "overlap, or do not, are no test of a difference between subgroups.",
            ],
        )
    ]  # fmt: skip
