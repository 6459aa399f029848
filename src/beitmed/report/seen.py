"""What a report shows of the images: examples, errors, and test images that training had seen."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beitmed import data
from beitmed.audit import duplicates
from beitmed.config import check
from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.report import drawn
from beitmed.report.document import Cell, Column, Interval, Section, Table
from beitmed.report.evidence import interval
from beitmed.report.variants import TestSet
from beitmed.runs.finished import FinishedRun
from beitmed.statistics import seeds

_OLDER = {
    "adapter": "none",
    "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": "attention"},
}


def sections(test_set: TestSet, folder: Path, data_root: str | None) -> list[Section]:
    """The parts that need the data file; where it cannot be had, a section that says why."""
    found = load(test_set.first, data_root)
    title = f"{test_set.name}: images"
    if isinstance(found, str):
        said = (
            "Examples, errors as images, and the check for test images that training had seen "
            f"need the data file: {found}"
        )
        return [Section(id=f"images-{test_set.id}", title=title, paragraphs=[said])]
    parts = [
        Section(
            id=f"images-{test_set.id}",
            title=title,
            paragraphs=_errors_said(test_set),
            figures=drawn.images(test_set, found, folder),
            errors=drawn.errors(test_set, found),
        )
    ]
    if (overlap := _overlap(test_set, found)) is not None:
        parts.append(overlap)
    return parts


def load(run: FinishedRun, data_root: str | None) -> Data | str:
    """The data that a run was made from, or the reason for not having it. Downloads nothing."""
    values = copy.deepcopy(run.config)
    try:
        values["data"] |= {"download": False} | ({} if data_root is None else {"root": data_root})
        # What a version before these keys would have needed; none of them bears on the data.
        values = _OLDER | values
        values["dataset"] = {"task": run.task.name} | values["dataset"]
        values["backbone"] = {"family": "beit"} | values["backbone"]
        loaded = data.load(check(values))
    except UserError as e:
        return " ".join(line.strip() for line in str(e).splitlines())
    except (KeyError, TypeError) as e:
        return f"its configuration has another form ({e!r})."
    if loaded.provenance.get("md5") != run.data.get("md5") or not np.array_equal(
        loaded.test.labels, run.test.labels
    ):
        return "the file that is there is not the one of the runs; name its folder by data.root=..."
    return loaded


def _errors_said(test_set: TestSet) -> list[str]:
    if not test_set.first.single_label:
        return []
    wrong = np.stack([~run.correct for run in test_set.runs])
    always = int(wrong.all(axis=0).sum())
    never, runs = int((~wrong.any(axis=0)).sum()), len(test_set.runs)
    if runs == 1:
        return [f"{always:,} of {test_set.n:,} test images are classified wrongly."]
    return [
        f"Of {test_set.n:,} test images, {always:,} are classified wrongly by every one of the "
        f"{runs:,} runs, {never:,} rightly by every one."
    ]


def _overlap(test_set: TestSet, loaded: Data) -> Section | None:
    """Test metrics with and without the images that also stand in train or val."""
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
