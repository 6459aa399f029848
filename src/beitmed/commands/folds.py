"""`beitmed folds`: the folds of a cross-validation joined into one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.errors import UserError

if TYPE_CHECKING:
    from beitmed.cross_validation import Joined

USAGE = """
Join the finished folds of a cross-validation: `beitmed folds FOLDER...`.

  beitmed train experiment=cross_validation dataset.path=my.csv
  beitmed folds outputs

Every image is held out once, and judged by the model of its fold. What is given is the mean
performance of these models, with a 95 % interval; of a model trained on all images it says a little
too little, as each of these had fewer. Exit codes: 0 done; 1 some folds are missing; 2 bad input.
"""


def _folds(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, {})
    if not given.folders:
        raise UserError("no folder given: name the folder of the runs, for example outputs.")
    from beitmed import cross_validation
    from beitmed.runs import reader

    runs, problems = reader.find(given.folders)
    found, incomplete = cross_validation.join(runs)
    for problem in [*problems, *incomplete]:
        print(f"Not joined: {problem}")
    if not found and not incomplete:
        raise UserError(
            "no fold of a cross-validation is here; `beitmed train experiment=cross_validation "
            "dataset.path=...` trains them."
        )
    for one in found:
        _tell(one)
    return 1 if incomplete or problems else 0


def _tell(one: Joined) -> None:
    print(one.sentence())
    for name, values in one.by_fold.items():
        print(f"  {name:9} by fold: {', '.join('-' if v is None else f'{v:.3f}' for v in values)}")


def main() -> None:
    """Join the folds in the folders that the command line names."""
    cli.run(_folds, USAGE)
