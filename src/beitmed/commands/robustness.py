"""`beitmed robustness`: how finished runs hold on worse images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import Key
from beitmed.data.corruptions import AT, SETS
from beitmed.errors import UserError
from beitmed.robustness.choice import Choice

log = logging.getLogger("beitmed.robustness")
USAGE = """
Ask finished runs about their test images made worse, and measure what that costs, paired on images:
`beitmed robustness RUN... key=value ...`.

  beitmed robustness outputs/my-run
  beitmed robustness outputs/A outputs/B set=deployment severities=1,3,5
  beitmed robustness outputs 'corruptions={fog: my_module.fog}'

{keys}

The runs are of one test set; of several seeds of a variant the mean is taken. Of an own corruption
the function is given an image uint8 [h, w, 3], a severity from 1 to 5 and a numpy.random.Generator,
and returns such an image. For runs that were moved here, their data.root, backbone.weights, ... and
device can be given too. What the models say is kept in each run's folder (corrupted), so that a
command that was stopped goes on. Exit codes: 0 done; 1 done, but some folders could not be read;
2 bad input.
"""
KEYS = {
    "set": Key(
        "the corruptions: MedMNIST-C's of the data set, shifts that a hospital sees, or both; if "
        "not given the first where there are any", None, SETS,
    ),
    "corruptions": Key(
        "only these, by name; with a function of your own as name:module.function"
    ),
    "severities": Key("which of the five", "1,2,3,4,5"),
    "at": Key(
        "where they act: on images of 224 px, to which smaller ones are enlarged, or on the stored "
        "pixels", "224", AT,
    ),
    "output_dir": Key("the folder of the result; `robustness` beside the first run if not given"),
}  # fmt: skip


def _robustness(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS, others=True)
    if not given.folders:
        raise UserError("no run folder given: name one or more, such as outputs/my-run.")
    choice = Choice.parse(given.values)
    from beitmed.robustness import output  # torch and matplotlib: seconds, after the checks
    from beitmed.runs import reader

    runs, problems = reader.find(given.folders)
    for problem in problems:
        log.warning("Left out: %s", problem)
    if not runs:
        raise UserError(
            "no finished run. A run is finished when its folder has a metrics.json; `beitmed "
            "train ...` makes one."
        )
    to = Path(given.values["output_dir"] or runs[0].path.absolute().parent / "robustness")
    results = output.write_results(runs, choice, to.expanduser(), given.others)
    for line in output.content.sentences(results):
        log.info("%s", line)
    log.info("report: %s", to / "report.html")
    return 1 if problems else 0


def main() -> None:
    """Measure the robustness of the runs that the command line names."""
    cli.run(_robustness, USAGE.replace("{keys}", parser.described(KEYS)))
