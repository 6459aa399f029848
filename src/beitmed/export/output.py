"""An exported model's folder: written, run again as a stranger would, and only then there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from beitmed import config, trained
from beitmed.errors import UserError
from beitmed.export import card, forms, hugging_face, onnx_file, portable
from beitmed.runs import caveats, reader
from beitmed.storage import sealed
from beitmed.tasks import Task
from beitmed.trained import Trained

log = logging.getLogger(__name__)
ALLOWED = 1e-5  # of a probability, between the exported network and the run's
_FAR = 0.05  # of a probability: more than any rounding that a run's settings ask for
_IMAGES, _GENERATED = 32, 8
_FILTERS = {0: "nearest", 1: "Lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


@dataclass(frozen=True)
class Sample:
    """Images that the exported model is checked on, uint8 as the dataset stores them.

    predicted: the run's own logits of them, float64 [n, classes]; None where they are not its own.
    """

    images: np.ndarray
    what: str
    predicted: np.ndarray | None


def write(
    folder: Path, to: str, out: Path | None = None, changes: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """Export the finished run in `folder`; return where to, and what was checked, in sentences.

    to: of `forms`. out: RUN/<to> if None. changes: as for `trained.open_run`. Raises UserError
    where the run has no such form, where `out` holds anything else, or where the exported model
    does not give the run's probabilities; nothing is written then.
    """
    forms.refuse(reader.read_config(folder, changes), to)
    run = trained.open_run(folder, changes)
    out = folder / to if out is None else out
    kind = sealed.Kind("an export", key="output_dir", of=config.digest(run.cfg))
    with sealed.replacing(out, kind) as temporary:
        sample = _sample(run)
        made = portable.of(run, sample.images)
        names = run.class_names
        if to == forms.HUGGING_FACE:
            hugging_face.write(made, temporary)
            found = hugging_face.ask(temporary, sample.images, names)
            by = "transformers' own pipeline"
        else:
            onnx_file.write(made, temporary, run.task.several_labels, _said_in_file(run))
            found = onnx_file.ask(temporary, sample.images)
            by = "onnxruntime, the first image alone and the others in one batch"
        checked = compare(run, sample, made.expected, found, by)
        text = card.text(run.run, to, _pixels(made.processor), checked)
        (temporary / "README.md").write_text(text, encoding="utf-8", newline="\n")
    return out, checked


def _sample(run: Trained) -> Sample:
    """Test images of the run from first to last, or noise where its data are not there."""
    try:
        images = run.data.test.images
    except UserError as e:
        log.warning("Checked on generated pixels only, since the run's images are not here: %s", e)
        side = run.cfg.size
        noise = np.random.default_rng(0).integers(0, 256, (_GENERATED, side, side), np.uint8)
        return Sample(noise, f"{_GENERATED} generated pictures (the run's are not here)", None)
    n = len(images)
    rows = np.unique(np.linspace(0, n - 1, min(n, _IMAGES)).round().astype(int))
    chosen = np.stack([images[row] for row in rows])
    return Sample(chosen, f"{len(rows)} of the {n:,} test images", run.run.test.logits[rows])


def compare(
    run: Trained,
    sample: Sample,
    expected: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
    by: str,
) -> list[str]:
    """What the comparison with the run's own network says; raises UserError where it fails."""
    logits, probabilities = found
    own = _probabilities(run.task, expected)
    apart = _largest(probabilities, own)
    if not apart <= ALLOWED:
        raise UserError(
            f"{run.run.path}: the exported model differs from the run's network by {apart:.1e} in "
            f"a probability of {sample.what}, more than the {ALLOWED:.0e} that is allowed. Nothing "
            "was written. Try the versions of torch, transformers and onnxruntime that "
            "constraints.txt names."
        )
    said = [
        f"By {by}, on {sample.what}, against the run's network in float32: largest difference of "
        f"a logit {_largest(logits, expected):.1e}, of a probability {apart:.1e} (allowed: "
        f"{ALLOWED:.0e})."
    ]
    if sample.predicted is None:
        return said
    apart = _largest(probabilities, _probabilities(run.task, sample.predicted))
    if not apart <= _FAR:
        raise UserError(
            f"{run.run.path}: predictions.csv differs by {apart:.2f} in a probability from what "
            "the run's network gives for the same test images. One of the two is not this run's: "
            "restore the folder, or train the run anew. Nothing was written."
        )
    why = _rounding(run.cfg)
    return [
        *said,
        f"Against predictions.csv, the numbers that the metrics are of: {apart:.1e} in a "
        f"probability{'' if why is None else f', since {why}'}.",
    ]


def _rounding(cfg: config.Config) -> str | None:
    """Why a run's predictions differ from its network's in float32, if its settings say so."""
    if cfg.precision != "fp32":
        return f"the run computed in {cfg.precision} (precision)"
    stored = cfg.trains_backbone and cfg.feature_mode == "cached" and cfg.unfreeze != 0
    if stored and cfg.cache.dtype == "fp16":
        return "the run read its frozen layers' output rounded to fp16 (cache.dtype)"
    return None


def _probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    return expit(task.log_odds(logits))


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def _said_in_file(run: Trained) -> dict[str, str]:
    temperature = run.run.metrics["test"].get("temperature", {}).get("value")
    return onnx_file.metadata(
        run.class_names,
        caveats.gravest_first(run.run.metrics["caveats"]),
        run=run.run.path.name,
        task=run.cfg.dataset.task,
        temperature_from_val=temperature,
        license="left to the author",
    )


def _pixels(processor: Any) -> str:
    """What an image processor does, in a sentence's part."""
    steps = []
    if processor.do_resize:
        size = processor.size
        shape = (
            f"its shorter side to {size['shortest_edge']}"
            if size.get("shortest_edge")
            else f"to {size['height']} x {size['width']}"
        )
        steps.append(f"resized {shape} px ({_FILTERS.get(processor.resample, 'bilinear')})")
    if processor.do_center_crop:
        crop = processor.crop_size
        steps.append(f"cut to its central {crop['height']} x {crop['width']} px")
    steps.append("scaled to 0 to 1")
    if processor.do_normalize:
        mean, std = ([round(x, 3) for x in v] for v in (processor.image_mean, processor.image_std))
        steps.append(f"normalised by mean {mean} and standard deviation {std}")
    return ", ".join(steps)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
