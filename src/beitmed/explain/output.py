"""An explanation as a folder: figures, values, what they show, and what the tests found.

The folder is replaced as a whole, and never if it holds what is not ours; see `storage.sealed`.
"""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.explain import explanation, localisation, pictures, written
from beitmed.explain.explanation import Explanation
from beitmed.explain.maps import METHODS
from beitmed.explain.request import Request
from beitmed.explain.written import CURVES, FILE, FORMAT, OVERVIEW, VALUES
from beitmed.plots import attention_maps, explanation_tests, explanations
from beitmed.plots.page import write_both
from beitmed.storage import sealed


def write(request: Request, out: Path) -> Path:
    """Answer a request and write everything into `out`; return the path of explanation.json.

    Raises UserError as `explanation.answer` does, and where `out` holds anything else or cannot be
    written.
    """
    name = request.found.run.path.resolve().name
    kind = sealed.Kind("an explanation", key="output_dir", of=name)
    with sealed.replacing(out, kind) as folder:
        found = explanation.answer(request)
        _figures(found, folder)
        (folder / VALUES).write_bytes(_archive(found))
        text = json.dumps(described(found), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return out / FILE


def _figures(found: Explanation, folder: Path) -> None:
    shown = pictures.explained(found)
    write_both(partial(explanations.overview, shown), folder / OVERVIEW)
    for i, stem in enumerate(found.selected.stems):
        write_both(partial(explanations.one_image, shown, i), folder / stem)
    if (curves := pictures.curves(found)) is not None:
        notes = pictures.test_notes(found)
        draw = partial(explanation_tests.test_curves, curves, title=shown.title, notes=notes)
        write_both(draw, folder / CURVES)
    if found.choice.heads:
        attended = pictures.attention(found)
        ending = f"layer{attended.layer}_{attended.rows}"
        write_both(
            partial(attention_maps.overview, attended), folder / f"{OVERVIEW}_attention_{ending}"
        )
        for i, stem in enumerate(found.selected.stems):
            draw = partial(attention_maps.one_image, attended, i)
            write_both(draw, folder / f"{stem}_attention_{ending}")


def _archive(found: Explanation) -> bytes:
    """Maps on cells, on the pixels that the network read where a method has them, and on the image.

    What the network did not see of an image is NaN.
    """
    answers, selected = found.answers, found.selected
    arrays: dict[str, np.ndarray] = {"target": answers.targets, "logits": answers.logits}
    if selected.indices is not None and selected.labels is not None:
        arrays |= {"index": selected.indices, "label": selected.labels}
    shape = (selected.images.shape[1], selected.images.shape[2])
    for name, values in answers.maps.items():
        cells = answers.on_cells[name]
        arrays[name] = cells.astype(np.float32)
        if values.shape != cells.shape:
            arrays[f"{name}_pixels"] = values.astype(np.float32)
        stored = localisation.on_image(cells, shape, answers.covered)
        arrays[f"{name}_image"] = stored.astype(np.float32)
    if (read := answers.attention) is not None:
        arrays["attention_before_patches"] = read.heads[..., : read.prefix].sum(-1).mean(1)
        arrays["rollout_before_patches"] = read.rollout[..., : read.prefix].sum(-1)
        if found.choice.heads:
            attended = pictures.attention(found)
            arrays["heads"] = attended.grid(read.heads)
            arrays["heads_before_patches"] = read.heads[..., : read.prefix].sum(-1)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def described(found: Explanation) -> dict[str, Any]:
    """What explanation.json says."""
    answers, selected, choice = found.answers, found.selected, found.choice
    run = found.run
    read = answers.attention
    evidence = answers.evidence
    return {
        "format": FORMAT,
        "run": run.run.path.resolve().name,
        "predictions_sha256": written.of_predictions(run.run.path),
        "title": pictures.title(found),  # the run, and the caveats of its numbers
        "split": None if selected.indices is None else choice.split,
        "images_chosen": selected.chosen,
        "classes": list(run.class_names),
        "target": choice.target,
        "baseline": choice.baseline,
        "attention": None
        if read is None
        else {
            "layer": read.layer,
            "rows": read.rows,
            "rows_read_by_classifier": read.read_by_head,
            "rows_meaning": pictures.attention(found).shown_rows,
        },
        "caption": pictures.caption(found),
        "methods": {
            name: {
                "label": METHODS[name].label,
                "unit": METHODS[name].unit,
                "signed": METHODS[name].signed,
                "cells": list(values.shape[1:]),
            }
            for name, values in answers.on_cells.items()
        },
        "left_out": dict(found.request.left_out),
        "tests": None
        if evidence is None
        else {
            "split": choice.split,
            "seeds": [one.cfg.seed for one in (run, *found.request.others)],
            **evidence.as_dict(),
        },
        "images": [
            {
                "name": name,
                "figure": stem,
                "index": None if selected.indices is None else int(selected.indices[i]),
                "label": None if selected.labels is None else selected.labels[i].tolist(),
                "predicted": np.flatnonzero(found.predicted[i]).tolist(),
                "target": int(answers.targets[i]),
                "logits": answers.logits[i].tolist(),
            }
            for i, (name, stem) in enumerate(zip(selected.names, selected.stems, strict=True))
        ],
        "values": VALUES,
    }
