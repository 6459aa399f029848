"""`beitmed export`: a finished run's network for those who do not have this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import Key
from beitmed.errors import UserError
from beitmed.export import forms
from beitmed.runs import caveats, reader

USAGE = """
Write a finished run's network in a form that others load: `beitmed export RUN to=huggingface`.

{keys}

For a run that was moved here, its data.root, backbone.weights, ... can be given too. The folder
holds the model, its image processor's settings, and README.md, a model card made from the run. It
is there only if it gives the run's probabilities, which is checked and printed.
"""
KEYS = {
    "to": Key(
        "huggingface: transformers.pipeline loads it; onnx: onnxruntime runs it (needs "
        "`pip install '.[onnx]'`)",
        allowed=(forms.HUGGING_FACE, forms.ONNX),
    ),
    "output_dir": Key("where to; RUN/huggingface or RUN/onnx if not given"),
}


def _export(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS, others=True)
    folder = given.one_run("beitmed export outputs/<run> to=huggingface")
    to, out = given.values["to"], given.values["output_dir"]
    if to is None:
        raise UserError("to: is missing; give to=huggingface or to=onnx")
    forms.refuse(reader.read_config(folder, given.others), to)
    from beitmed.export import output  # torch and transformers: seconds, after the checks

    path = None if out is None else Path(out).expanduser()
    written, checked = output.write(folder, to, path, given.others)
    for caveat in caveats.gravest_first(reader.read(folder).metrics["caveats"]):
        print(f"caveat:  {caveat}")
    for sentence in checked:
        print(f"checked: {sentence}")
    print("card:    README.md; its licence is left to you")
    print(f"written: {written} ({output.size_of(written) / 1e6:,.1f} MB)")
    return 0


def main() -> None:
    """Export the run that the command line names."""
    cli.run(_export, USAGE.replace("{keys}", parser.described(KEYS)))
