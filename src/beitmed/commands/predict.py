"""`beitmed predict`: what finished runs say about images without labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import SWITCH, Key
from beitmed.errors import UserError

USAGE = """
Ask finished runs about images without labels: `beitmed predict RUN... IMAGES... key=value ...`.

RUN is a run's folder; several runs with the same classes, such as the seeds of one variant, are
averaged. IMAGES are files, folders with all that is below them, tables (.csv, .parquet) with a
column of files, .npz archives of MedMNIST's form, or DICOM files.

{keys}

Keys of the runs' configuration that say where something lies (data.root, backbone.weights, device,
cache.root, ...) can be given too. Writes a row an image, and beside it a .json file with what its
columns mean. Images that cannot be read are named and left out; the exit code is then 1.
"""
KEYS = {
    "to": Key("a .csv or .parquet file; in the folder where you are, named after the run, if not "
              "given"),
    "overwrite": Key("whether the file may be replaced", "false", SWITCH),
    "threshold": Key(
        "from which probability the positive class, or a label, is predicted: a number, or "
        "operating_point for the run's own (evaluate.operating_point)", "0.5",
    ),
    "risk": Key(
        "with which an image's own class may be ruled out, of each class; where not the predicted "
        "class alone is left, the run abstains; off for never", "0.1",
    ),
    "unlike": Key(
        "beyond which percentile of the validation images an image is flagged as unlike the "
        "training images; off for no flag", "99",
    ),
    "colour": Key("what becomes of images in colour where a run's are grey", "luminance",
                  ("luminance", "refuse")),
    "column": Key("of a table, the column of the files", "path"),
    "split": Key("of an .npz archive", "test", ("train", "val", "test", "all")),
    "logits": Key("whether the runs' logits are written too", "false", SWITCH),
}  # fmt: skip


def predict(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    given = parser.parse(arguments, KEYS, others=True)
    runs = [path for path in given.folders if _is_run(path.expanduser())]
    images = [path for path in given.folders if path not in runs]
    if not runs or not images:
        what, kind = ("run", "run's folder (it has a config.yaml)") if not runs else ("image",) * 2
        raise UserError(
            f"found no {kind} among {', '.join(map(str, given.folders)) or 'no arguments'}; give "
            f"at least one {what}, as in `beitmed predict outputs/<run> images/`"
        )
    to = _place(given, runs)
    from beitmed.data import new_image_sources
    from beitmed.predict import prediction, request, said
    from beitmed.predict.choice import Choice

    keys = ("threshold", "risk", "unlike", "colour")
    choice = Choice(**{key: str(given.values[key]) for key in keys}, logits=given.is_on("logits"))
    found = new_image_sources.find(images, str(given.values["column"]), str(given.values["split"]))
    asked = request.ask(runs, found, choice, given.others)
    asked, counted = prediction.predict(asked, to)
    for line in said.lines(asked, counted):
        print(line)
    print(f"predictions: {to}")
    print(f"their meaning: {to.with_suffix('.json')}")
    for line in said.unreadable(counted):
        print(line, file=sys.stderr)
    return 1 if counted.problems else 0


def _is_run(path: Path) -> bool:
    """Whether it is a run's folder, or was one: its figures are no images to be asked about."""
    return any((path / name).is_file() for name in ("config.yaml", "metrics.json"))


def _place(given: parser.Arguments, runs: Sequence[Path]) -> Path:
    """Where the table goes. Raises UserError where it cannot be written."""
    more = f"_and_{len(runs) - 1}_more" if len(runs) > 1 else ""
    default = f"predictions_{runs[0].expanduser().resolve().name}{more}.csv"
    to = Path(given.values["to"] or default).expanduser()
    if to.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"to: found {to}; allowed: a file that ends in .csv or .parquet")
    if not to.resolve().parent.is_dir() or not os.access(to.resolve().parent, os.W_OK):
        raise UserError(
            f"to: {to.resolve().parent} is no folder that can be written; make it first"
        )
    for file in (to, to.with_suffix(".json")):
        if file.exists() and not given.is_on("overwrite"):
            raise UserError(
                f"to: {file} is there already; give another name by to=..., or overwrite=true"
            )
        if file.is_dir():
            raise UserError(f"to: {file} is a folder; give a file's name")
    return to


def main() -> None:
    """Predict as the command line says."""
    cli.run(predict, USAGE.replace("{keys}", parser.described(KEYS)))
