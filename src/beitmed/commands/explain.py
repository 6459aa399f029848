"""`beitmed explain`: maps of what a finished run's network looks at, and whether they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import SWITCH, Key
from beitmed.errors import UserError
from beitmed.explain import written
from beitmed.explain.choice import BASELINES, METHODS, ROWS, SPLITS, Choice

USAGE = """
Explain a finished run's predictions, and test the explanations on it:

  beitmed explain RUN key=value ...       images of its test split
  beitmed explain RUN IMAGES...           new images: files, folders, a table, an .npz
  beitmed explain RUN RUN... [IMAGES...]  the first run; do the maps of further seeds agree?

{keys}

For a run that was moved here, its data.root, backbone.weights, ... and device can be given too.
Writes a figure for all images and one for each, the curves of the tests, explanation.json, which
says what they show and what the tests found, and the values as explanation.npz.
"""
KEYS = {
    "methods": Key(
        f"all that the run can have, or some of {', '.join(METHODS)}", "all"
    ),
    "images": Key(
        "each:3 for the first 3 of each class; errors:6 for the 6 errors that the run was most "
        "sure of; or indices into the split, such as 0,5,9",
        "each:3",
    ),
    "split": Key("which images", "test", SPLITS),
    "target": Key("the class that maps are of: predicted, or a class by number or name",
                  "predicted"),
    "tests": Key("test every method on the run at hand", "true", SWITCH),
    "tested_images": Key("on how many images of the split", "24"),
    "masks": Key("an .npz with where what decides is known to be, SPLIT_masks [n, h, w]"),
    "baseline": Key("what pixels are replaced by: the image's mean, itself blurred, or black",
                    "mean", BASELINES),
    "heads": Key("draw the attention of every head, too", "false", SWITCH),
    "layer": Key("of attention: last, or 1 to the number of layers", "last"),
    "rows": Key("whose attention: head for the tokens that the classifier reads", "head", ROWS),
    "output_dir": Key("where all goes; else RUN/explanation, or explanation-new of new images"),
}  # fmt: skip
# What `Choice` takes as it is given.
_TEXTS = ("methods", "images", "split", "target", "tested_images", "baseline", "layer", "rows")


def _explain(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS, others=True)
    if not given.folders:
        raise UserError(
            "found no run folder; give one, as in `beitmed explain outputs/<run> images=each:3`"
        )
    first, *more = given.folders
    runs = [first, *(path for path in more if (path / "config.yaml").is_file())]
    new = tuple(path for path in more if path not in runs)
    asked = given.values
    folder = first / (written.OF_NEW if new else written.FOLDER)
    out = Path(asked["output_dir"] or folder).expanduser()
    texts = {key: asked[key] or "" for key in _TEXTS}
    choice = Choice(
        **texts,
        tests=given.is_on("tests"),
        heads=given.is_on("heads"),
        masks=None if asked["masks"] is None else Path(asked["masks"]).expanduser(),
        new=new,
    )
    from beitmed.explain import request

    checked = request.prepare(runs, choice, given.others)
    from beitmed.explain import output  # matplotlib and torch: seconds, after the checks

    said = json.loads(output.write(checked, out).read_text(encoding="utf-8"))
    print(said["caption"])
    if said["tests"] is not None:
        for name, tested in said["tests"]["methods"].items():
            print(f"{name}: {tested['verdict']}: {tested['numbers']}")
    print(f"figures: {out}")
    print(f"values:  {out / said['values']}")
    return 0


def main() -> None:
    """Explain the run that the command line names."""
    cli.run(_explain, USAGE.replace("{keys}", parser.described(KEYS)))
