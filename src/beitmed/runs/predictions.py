"""`predictions.csv`: what a run's model says of every validation and test image."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
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


def table(splits: Mapping[str, Predictions]) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of the file."""
    test = splits["test"]
    grouped = test.groups is not None
    header = [
        *("split", "index"),
        *(["patient"] if grouped else []),
        *label_columns(test.labels),
        *(f"logit_{i}" for i in range(test.logits.shape[1])),
    ]
    rows = []
    for name, split in splits.items():
        patients = split.groups or [""] * len(split.labels)
        for i, (patient, label, row) in enumerate(
            zip(patients, split.labels, split.logits.tolist(), strict=True)
        ):
            rows.append([name, i, *([patient] if grouped else []), *label_cells(label), *row])
    return header, rows


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
        found: dict[str, list[list[str]]] = {name: [] for name in SPLITS}
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"line {rows.line_num} has {len(row)} fields")
            found.setdefault(row[0], []).append(row)
    return {name: _split(found[name], name, count) for name in SPLITS}


def _split(rows: Sequence[Sequence[str]], name: str, count: Mapping[str, int]) -> Predictions:
    complete = [row[1] for row in rows] == [str(i) for i in range(len(rows))]
    if not complete or (name == "test" and not rows):
        raise ValueError(f"rows of {name} are missing or out of order")
    start = 2 + count["patient"]
    middle = start + count["label"]
    label = np.array([[int(x) for x in row[start:middle]] for row in rows], np.int64)
    label = label.reshape(-1, count["label"])
    logit = np.array([row[middle:] for row in rows], np.float64).reshape(-1, count["logit"])
    if not np.isfinite(logit).all():
        raise ValueError(f"rows of {name} are not finite")
    largest = 1 if count["label"] > 1 else count["logit"] - 1
    if rows and (
        label.min() < 0 or label.max() > largest or count["label"] not in (1, count["logit"])
    ):
        raise ValueError(f"labels of {name}: found {label.min()} to {label.max()}")
    groups = tuple(row[2] for row in rows) if count["patient"] else None
    return Predictions(label[:, 0] if count["label"] == 1 else label, logit, groups)
