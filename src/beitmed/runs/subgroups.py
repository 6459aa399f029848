"""The columns of one's own table by which a run's test images are taken apart: `subgroups.csv`."""

from __future__ import annotations

import csv

from beitmed.config import Config
from beitmed.data import folder_table
from beitmed.errors import UserError
from beitmed.runs.folder import Run

FILE = "subgroups.csv"


def keep(cfg: Config, folder: Run) -> None:
    """Write each image's values of `dataset.columns.subgroups` beside its predictions.

    They are read from the table, by the names of the files in the folder's `splits.csv`. Raises
    UserError where the table is not there, or not the one that the run was made from.
    """
    wanted = cfg.dataset.columns.subgroups
    if not wanted:
        return
    known = {folder_table.shown(i.name): i.subgroups for i in folder_table.read(cfg)}
    with (folder.path / "splits.csv").open(newline="", encoding="utf-8") as f:
        images = list(csv.DictReader(f))
    if unknown := [image["file"] for image in images if image["file"] not in known]:
        raise UserError(
            f"{cfg.dataset.path}: lacks {len(unknown)} images of {folder.path}, such as "
            f"{unknown[0]}. Restore the table that the run was made from."
        )
    rows = [[i["split"], i["index"], *known[i["file"]]] for i in images]
    folder.write_csv(FILE, ["split", "index", *wanted], rows)


def of_test(cfg: Config, folder: Run) -> dict[str, list[str]]:
    """The values of the test images, in their order, by column; "" where the table has none.

    The table is read once more only for columns that the run did not keep. Raises UserError as
    `keep`.
    """
    wanted = cfg.dataset.columns.subgroups
    if not wanted:
        return {}
    file = folder.path / FILE
    if not file.is_file() or not {*wanted} <= {*_rows(folder)[0][2:]}:
        keep(cfg, folder)
    header, *rows = _rows(folder)
    test = [row for row in rows if row[0] == "test"]
    return {column: [row[2:][header[2:].index(column)] for row in test] for column in wanted}


def _rows(folder: Run) -> list[list[str]]:
    with (folder.path / FILE).open(newline="", encoding="utf-8") as f:
        return list(csv.reader(f))
