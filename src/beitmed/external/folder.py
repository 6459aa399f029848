"""The folder of an external test: a neighbour of the run, there whole or not at all.

`<run>_on_<dataset>[_<split>]` holds predictions.csv, overlap.csv, figures, and external.json, which
is written last.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from beitmed.errors import UserError
from beitmed.external import figures, overlap
from beitmed.external.validation import FORMAT, Validation
from beitmed.runs import predictions, reader
from beitmed.runs.external_tests import BETWEEN, FILE
from beitmed.storage import files, sealed


def path_of(run: Path, dataset: str, part: str, parent: Path | None) -> Path:
    """Where the test of a run goes; parent: None for the folder that the run lies in."""
    run = run.resolve()
    ending = "" if part == "all" else f"_{part}"
    return (parent or run.parent) / f"{run.name}{BETWEEN}{dataset}{ending}"


def replacing(path: Path, identity: dict[str, Any]) -> AbstractContextManager[Path]:
    """An empty folder to fill, which takes the place of `path`; see `sealed.replacing`.

    identity: of the test. Raises UserError where the folder is there and holds anything else.
    """
    if (path / FILE).is_file():
        differing = [k for k, v in identity.items() if read(path).get(k) != v]
        if differing:
            raise UserError(
                f"{path}: holds another external test ({', '.join(differing)} differ). Give these "
                "data a name of their own by dataset.name=..., set output_dir=..., or delete the "
                "folder."
            )
    return sealed.replacing(path, sealed.Kind("an external test", key="output_dir"))


def read(path: Path) -> dict[str, Any]:
    """The values of an external test. Raises UserError where it is damaged or of another format."""
    values = reader.read_json(path / FILE)
    if (found := values.get("format")) != FORMAT:
        raise UserError(
            f"{path / FILE}: format {found!r}, but this version reads {FORMAT}; give the command "
            "again that made it."
        )
    return values


def write(of: Validation, new: Path) -> None:
    """Write all of it into the empty folder `new`."""
    figures.draw(of, new)
    files.write_atomic(new / "predictions.csv", files.csv_text(*_table(of)))
    if of.overlap is not None and of.overlap.rows:
        text = files.csv_text(overlap.HEADER, of.overlap.rows)
        files.write_atomic(new / "overlap.csv", text)
    text = json.dumps(of.values, indent=2, ensure_ascii=False, allow_nan=False)
    files.write_atomic(new / FILE, text + "\n")


def _table(of: Validation) -> tuple[list[str], list[list[Any]]]:
    """A row an image: which it is, whether the run was made from it, its labels and logits."""
    split, own = of.cases.split, of.overlap
    header = [
        "index",
        *(["file"] if split.files is not None else []),
        *(["patient"] if split.groups is not None else []),
        *(["in_train_or_val"] if own is not None else []),
        *predictions.label_columns(split.labels),
        *(f"logit_{i}" for i in range(of.external.logits.shape[1])),
    ]
    rows = []
    for i, (label, row) in enumerate(zip(split.labels, of.external.logits.tolist(), strict=True)):
        known = [] if split.files is None else [split.files[i][0]]
        patient = [] if split.groups is None else [split.groups[i]]
        seen = [] if own is None else [int(own.trained_on[i])]
        rows.append([i, *known, *patient, *seen, *predictions.label_cells(label), *row])
    return header, rows
