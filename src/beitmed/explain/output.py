"""Attention maps as files: figures, values, and what they show."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.errors import disk_error
from beitmed.explain import explanation
from beitmed.explain.explanation import Choice
from beitmed.plots import attention_maps
from beitmed.plots.attention_maps import Explained
from beitmed.plots.page import write_both
from beitmed.storage import files

FORMAT = 1  # of attention.json


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
        "format": FORMAT,
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
