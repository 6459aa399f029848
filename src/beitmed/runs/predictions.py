"""`predictions.csv`: what a run's model says of every validation and test image."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Predictions:
    """One split, in its order.

    labels: int64 [n], or [n, labels] of 0 and 1 where an image has several. logits: float64
    [n, classes]. groups: the patient of each image [n]; None where no grouping is known.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: tuple[str, ...] | None = None

    @property
    def patients(self) -> int | None:
        """How many there are; None where they are not known."""
        return None if self.groups is None else len(set(self.groups))


def table(splits: Mapping[str, Predictions]) -> tuple[list[str], Iterator[list[Any]]]:
    """The header and the rows of the file, one at a time."""
    test = splits["test"]
    grouped = test.groups is not None
    header = [
        *("split", "index"),
        *(["patient"] if grouped else []),
        *label_columns(test.labels),
        *(f"logit_{i}" for i in range(test.logits.shape[1])),
    ]
    return header, _rows(splits, grouped)


def _rows(splits: Mapping[str, Predictions], grouped: bool) -> Iterator[list[Any]]:
    for name, split in splits.items():
        for i, (label, logits) in enumerate(zip(split.labels, split.logits, strict=True)):
            patient = [split.groups[i] if split.groups else ""] if grouped else []
            yield [name, i, *patient, *label_cells(label), *logits.tolist()]


def label_columns(labels: np.ndarray) -> list[str]:
    """The columns of labels int [n], or [n, labels]."""
    if labels.ndim == 1:
        return ["label"]
    return [f"label_{i}" for i in range(labels.shape[1])]


def label_cells(label: np.ndarray) -> list[int]:
    """The cells of one image's label, or labels."""
    return np.atleast_1d(label).tolist()


def read(path: Path) -> dict[str, Predictions]:
    """The splits of the file. Raises OSError, ValueError or csv.Error where it is damaged."""
    with path.open(newline="", encoding="utf-8") as f:
        rows = csv.reader(f)
        header = next(rows, [])
        count = {
            kind: sum(name.partition("_")[0] == kind for name in header)
            for kind in ("patient", "label", "logit")
        }
        if (
            [name.partition("_")[0] for name in header]
            != ["split", "index", *(kind for kind, n in count.items() for _ in range(n))]
            or count["patient"] > 1
            or not count["label"]
            or count["logit"] < 2
        ):
            raise ValueError(f"columns {', '.join(header) or 'lacking'}")
        found = {name: _Read(name, count) for name in SPLITS}
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"line {rows.line_num} has {len(row)} fields")
            if row[0] in found:
                found[row[0]].add(row)
    return {name: split.all() for name, split in found.items()}


class _Read:
    """What was read of a split: numbers, since its rows as text take ten times the memory."""

    def __init__(self, name: str, count: Mapping[str, int]) -> None:
        self.name, self.count = name, count
        self._label, self._logit, self._patients = array("q"), array("d"), list[str]()

    def add(self, row: Sequence[str]) -> None:
        if row[1] != str(len(self._label) // self.count["label"]):
            raise ValueError(f"rows of {self.name} are missing or out of order")
        middle = 2 + self.count["patient"]
        end = middle + self.count["label"]
        self._patients += row[2:middle]
        self._label.extend(map(int, row[middle:end]))
        self._logit.extend(map(float, row[end:]))

    def all(self) -> Predictions:
        label = np.array(self._label, np.int64).reshape(-1, self.count["label"])
        logit = np.array(self._logit, np.float64).reshape(-1, self.count["logit"])
        if self.name == "test" and not label.size:
            raise ValueError(f"rows of {self.name} are missing or out of order")
        if not np.isfinite(logit).all():
            raise ValueError(f"rows of {self.name} are not finite")
        single = self.count["label"] == 1
        largest = self.count["logit"] - 1 if single else 1
        columns = single or self.count["label"] == self.count["logit"]
        if label.size and (label.min() < 0 or label.max() > largest or not columns):
            raise ValueError(f"labels of {self.name}: found {label.min()} to {label.max()}")
        groups = tuple(self._patients) if self.count["patient"] else None
        return Predictions(label[:, 0] if single else label, logit, groups)
