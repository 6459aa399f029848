"""Self-attention maps of a finished run: `python -m beitmed.explain RUN_FOLDER [key=value ...]`.

    images=each:3        the first 3 of each class (the default); errors:6 for the 6 errors that the
                         run was most sure of; or indices into the split, such as 0,5,9
    split=test           test, val or train
    layer=last           last, or 1 to the number of layers
    rows=head            whose attention: head for the tokens that the classifier reads (BEiT's
                         pre-trained checkpoints: the patches); patches; cls
    output_dir=FOLDER    where the figures go; RUN_FOLDER/attention if not given

and, for a run that was moved here from elsewhere: data.root, data.download, data.mirror,
data.allow_unofficial, backbone.weights, backbone.revision, device. Writes a figure for all images
(overview), a figure with every head for each image, attention.json, which says what they show, and
the values as attention.npz.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.commands import cli
from beitmed.errors import UserError, disk_error
from beitmed.explain import explanation
from beitmed.explain.explanation import Choice
from beitmed.plots import attention_maps
from beitmed.plots.attention_maps import Explained
from beitmed.plots.page import write_both
from beitmed.runs import artifacts
from beitmed.storage import files


def write(
    folder: Path, out: Path, choice: Choice | None = None, changes: Sequence[str] = ()
) -> Path:
    """Write all figures and files into `out`, attention.json last; return its path."""
    explained, logits = explanation.explain(folder, choice, changes)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Names say what a figure shows: another choice's figures beside it are not mistaken.
        ending = f"layer{explained.layer}_{explained.rows}"
        overview = f"overview_{explained.split}_{ending}"
        write_both(partial(attention_maps.overview, explained), out / overview)
        names = [f"{explained.split}{index:05d}_{ending}" for index in explained.indices]
        for i, name in enumerate(names):
            write_both(partial(attention_maps.one_image, explained, i), out / name)
        files.write_atomic(out / "attention.npz", _archive(explained))
        text = json.dumps(
            _described(explained, logits, overview, names), indent=2, ensure_ascii=False,
            allow_nan=False,
        )  # fmt: skip
        files.write_atomic(out / "attention.json", text + "\n")
    except OSError as e:
        raise disk_error(e, out) or e from e
    return out / "attention.json"


def _archive(explained: Explained) -> bytes:
    file = io.BytesIO()
    np.savez(
        file,
        index=explained.indices,
        label=explained.labels,
        prediction=explained.predictions,
        heads=explained.grid(explained.heads),
        mean=explained.grid(explained.mean),
        rollout=explained.grid(explained.rollout),
        heads_on_cls=explained.heads[..., 0],
        mean_on_cls=explained.mean[..., 0],
        rollout_on_cls=explained.rollout[..., 0],
    )
    return file.getvalue()


def _described(
    explained: Explained, logits: np.ndarray, overview: str, names: Sequence[str]
) -> dict[str, Any]:
    n, heads, side = len(names), explained.heads.shape[1], explained.side
    return {
        "format": artifacts.FORMAT,
        "title": explained.title,  # the run, and the caveats of its numbers
        "split": explained.split,
        "images_chosen": explained.chosen,
        "layer": explained.layer,
        "layers": explained.layers,
        "rows": explained.rows,
        "rows_read_by_classifier": explained.read_by_head,
        "rows_meaning": explained.shown_rows,
        "even_share": explained.uniform,
        "caption": explained.caption,
        "overview": overview,
        "images": [
            {
                "index": int(explained.indices[i]),
                "label": int(explained.labels[i]),
                "label_name": explained.class_names[explained.labels[i]],
                "prediction": int(explained.predictions[i]),
                "prediction_name": explained.class_names[explained.predictions[i]],
                "logits": logits[i].tolist(),
                "figure": name,
            }
            for i, name in enumerate(names)
        ],
        "values": {
            "file": "attention.npz",
            "unit": "share of attention, 0 to 1; a map's patches and its share on CLS sum to 1",
            "heads": [n, heads, side, side],
            "mean": [n, side, side],
            "rollout": [n, side, side],
        },
    }


def _explain() -> int:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    own: dict[str, str] = {}
    changes, folders = [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).is_dir():
            folders.append(argument)
        elif key in ("images", "split", "layer", "rows", "output_dir"):
            own[key] = value
        else:
            changes.append(argument)
    if len(folders) != 1:
        raise UserError(
            f"found {len(folders)} run folders ({', '.join(folders) or 'none'}); allowed: one, as "
            "in python -m beitmed.explain outputs/<run> images=each:3"
        )
    folder = Path(folders[0]).expanduser()
    out = Path(own.pop("output_dir", "") or folder / "attention").expanduser()
    path = write(folder, out, Choice(**own), changes)
    print(json.loads(path.read_text(encoding="utf-8"))["caption"])
    print(f"figures: {out}")
    print(f"values:  {out / 'attention.npz'}")
    return 0


def main() -> None:
    """Explain the run that the command line names."""
    sys.exit(cli.guarded(_explain))


if __name__ == "__main__":
    main()
