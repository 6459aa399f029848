"""`beitmed report`: runs compared, as one page with its tables and figures."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import SWITCH, Key
from beitmed.errors import UserError

log = logging.getLogger("beitmed.report")
USAGE = """
Report finished runs: `beitmed report FOLDER... key=value ...`.

  beitmed report outputs              every finished run under outputs, into ./report
  beitmed report A B to=FOLDER        these runs, or folders of runs

{keys}

Writes report.html (one file, no network), report.md, tables as CSV and LaTeX, and figures. Exit
codes: 0 done; 1 done, but some folders could not be read (the report names them); 2 bad input.
"""
KEYS = {
    "to": Key("the folder that the report goes into", "report"),
    "data.root": Key("where the data files are now; else where each run found them"),
    "images": Key("show test images, and look for those that training had seen", "true", SWITCH),
    "margin": Key("a difference that does not matter: non-inferior, equivalent, or cannot be told"),
    "reference": Key("compare with this variant alone (its name, part of it, or a run's name)"),
    "within": Key("label efficiency: so near to a full-data result counts as reached", "0.02"),
    "attention": Key("draw attention maps, for which a network is loaded", "true", SWITCH),
}


def _report(arguments: Sequence[str]) -> int:
    chosen = parser.parse(arguments, KEYS)
    if not chosen.folders:
        raise UserError("no folder given: name the folder of the runs, for example outputs.")
    to = Path(chosen.values["to"] or "").expanduser()
    images = chosen.is_on("images")
    margin = _size("margin", chosen.values["margin"])
    within = _size("within", chosen.values["within"])
    # matplotlib: a second, after the checks
    from beitmed.report.content import contents
    from beitmed.report.content.evidence import Question
    from beitmed.report.render import folder as report_folder
    from beitmed.runs import reader

    runs, problems = reader.find(chosen.folders)
    for problem in problems:
        log.warning("Not reported: %s", problem)
    if not runs:
        raise UserError(
            "no finished run to report. A run is finished when its folder has a metrics.json; "
            "`beitmed train ...` makes one."
        )
    options = contents.Options(
        data_root=chosen.values["data.root"],
        images=images,
        attention=images and chosen.is_on("attention"),
        question=Question(margin, chosen.values["reference"], within or 0.0),
        folders=chosen.folders,
    )
    # A thousand variants are millions of objects without cycles; looking for some took a third of
    # the time.
    gc.disable()
    try:
        with report_folder.replacing(to) as folder:
            document = contents.build(runs, problems, folder, options)
            report_folder.write(document, folder)
    finally:
        gc.enable()
    for sentence in (*document.run, *document.summary):
        log.info("%s", sentence)
    log.info("report: %s", to / "report.html")
    return 1 if problems else 0


def _size(key: str, given: str | None) -> float | None:
    try:
        size = None if given is None else float(given)
    except ValueError:
        size = math.nan
    if size is not None and not 0 < size < 1:
        raise UserError(
            f"{key}: found {given!r}; allowed: a number between 0 and 1 in the metric's own "
            "units, such as 0.02."
        )
    return size


def main() -> None:
    """Write the report that the command line asks for."""
    cli.run(_report, USAGE.replace("{keys}", parser.described(KEYS)))
