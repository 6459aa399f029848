"""`beitmed explain`: the self-attention of a finished run's network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import Key
from beitmed.errors import UserError
from beitmed.explain.explanation import Choice

USAGE = """
Draw the self-attention of a finished run: `beitmed explain RUN key=value ...`.

{keys}

For a run that was moved here, its data.root, backbone.weights, ... and device can be given too.
Writes a figure for all images, one with every head for each image, attention.json, which says what
they show, and the values as attention.npz.
"""
KEYS = {
    "images": Key(
        "each:3 for the first 3 of each class; errors:6 for the 6 errors that the run was most "
        "sure of; or indices into the split, such as 0,5,9",
        "each:3",
    ),
    "split": Key("which images", "test", ("test", "val", "train")),
    "layer": Key("last, or 1 to the number of layers", "last"),
    "rows": Key(
        "whose attention: head for the tokens that the classifier reads", "head",
        ("head", "patches", "cls"),
    ),
    "output_dir": Key("where the figures go; RUN/attention if not given"),
}  # fmt: skip


def _explain(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS, others=True)
    if len(given.folders) != 1:
        found = ", ".join(map(str, given.folders)) or "none"
        raise UserError(
            f"found {len(given.folders)} run folders ({found}); allowed: one, as in `beitmed "
            "explain outputs/<run> images=each:3`"
        )
    [folder] = given.folders
    values = {key: value for key, value in given.values.items() if value is not None}
    out = Path(values.pop("output_dir", folder / "attention")).expanduser()
    choice = Choice(**values)
    from beitmed.explain import output  # matplotlib: a second, after the checks

    path = output.write(folder, out, choice, given.others)
    print(json.loads(path.read_text(encoding="utf-8"))["caption"])
    print(f"figures: {out}")
    print(f"values:  {out / 'attention.npz'}")
    return 0


def main() -> None:
    """Explain the run that the command line names."""
    cli.run(_explain, USAGE.replace("{keys}", parser.described(KEYS)))
