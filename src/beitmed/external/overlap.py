"""The run's own images among the external ones: a test with them is not external."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beitmed.audit import duplicates
from beitmed.data import Data, Split
from beitmed.external.cases import Cases

EXTERNAL = "external"
HEADER = ("index", "kind", "split", "split_index", "correlation")


@dataclass(frozen=True)
class Overlap:
    """Images of train or val that also are external ones, and of test.

    rows: a pair each, as of `HEADER`. trained_on [n] and tested [n]: whether an external image
    shows what one of train or val does, or one of test. exact: how many of each have its very
    pixels. patients: names of patients that also stand in train or val; None where none are known.
    """

    rows: Sequence[Sequence[Any]]
    trained_on: np.ndarray
    tested: np.ndarray
    exact: Mapping[str, int]
    limit: str | None
    patients: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "in_train_or_val": int(self.trained_on.sum()),
            "in_test": int(self.tested.sum()),
            "exact": dict(self.exact),
            "patients_in_train_or_val": self.patients,
            "limit": self.limit,
        }


def find(own: Data, cases: Cases) -> Overlap:
    """Search as an audit does, for the same pixels and for nearly the same picture."""
    found = duplicates.find({**own.splits, EXTERNAL: cases.split})
    rows: list[list[Any]] = []
    for group in found.exact:
        inside = [place for place in group if place.split != EXTERNAL]
        rows += [
            [place.index, "exact", other.split, other.index, 1.0]
            for place in group
            if place.split == EXTERNAL
            for other in inside
        ]
    rows += [
        [pair.second.index, "near", pair.first.split, pair.first.index, pair.correlation]
        for pair in found.near
        if pair.second.split == EXTERNAL != pair.first.split
    ]
    rows.sort()
    seen = {
        name: {(row[0], row[1]) for row in rows if (row[2] == "test") == (name == "test")}
        for name in ("train or val", "test")
    }
    marks = {name: np.zeros(len(cases), bool) for name in seen}
    for name, places in seen.items():
        marks[name][[index for index, _ in places]] = True
    exact = {name: sum(kind == "exact" for _, kind in places) for name, places in seen.items()}
    return Overlap(
        rows, marks["train or val"], marks["test"], exact, found.limit,
        _patients((own.train, own.val), cases.split),
    )  # fmt: skip


def _patients(before: Sequence[Split], now: Split) -> int | None:
    if now.groups is None or any(split.groups is None for split in before):
        return None
    known = {patient for split in before for patient in split.groups or ()}
    return len(known & {*now.groups})
