"""What training leaves in a run's folder: what it stands on, what it saw, what it predicts."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import safetensors.numpy

from beitmed import tasks
from beitmed.config import Config
from beitmed.data import Data, counts
from beitmed.data.label_subset import Labelled
from beitmed.model import Fit
from beitmed.runs import caveats, predictions, reader, subgroups
from beitmed.runs.folder import Run
from beitmed.runs.predictions import Predictions
from beitmed.storage import files

log = logging.getLogger(__name__)
_HISTORY = ("epoch", "step", "learning_rate", "train_loss", "val_loss", "val_auc", "val_accuracy")


def begin(cfg: Config, folder: Run, data: Data, indices: np.ndarray, labelled: Labelled) -> None:
    """Write what the run stands on; where it goes on, demand that this has not changed.

    indices: of the train images that it learns from, int64, sorted; one may repeat. labelled: those
    that they were chosen from.
    """
    classes = len(data.class_names)
    used = counts(data.train.labels[indices], classes)
    folder.agree(
        "data.json",
        {
            **data.provenance,
            "colour": len(data.train.images.shape) == 4,
            "class_names": list(data.class_names),
            "images": {k: len(s.labels) for k, s in data.splits.items()},
            # Where an image has several labels it counts for each of them.
            "images_by_class": {k: counts(s.labels, classes) for k, s in data.splits.items()},
            "trained_on_by_class": used,
            **({} if labelled.said is None else {"labelled": labelled.said}),
            # By these, and not by counts or names, two test sets are known to be the same.
            "digests": {k: s.digest for k, s in data.splits.items()},
        },
        "data",
    )
    folder.agree_csv(
        "train_indices.csv",
        ["index", *predictions.label_columns(data.train.labels)],
        ([int(i), *predictions.label_cells(data.train.labels[i])] for i in indices),
        "training images",
    )
    _write_files(folder, data)
    subgroups.keep(cfg, folder)
    for said in caveats.of(cfg, data.provenance):
        log.warning("Note: %s.", said)
    by_class = ", ".join(f"{n} {name!r}" for n, name in zip(used, data.class_names, strict=True))
    by_class += tasks.of(cfg.dataset.task).several_note
    chosen, of = str(len(indices)), f"{len(data.train.labels)} images"
    if (different := len(np.unique(indices))) < len(indices):
        chosen += f" images, {different} different ones"
        of = str(len(data.train.labels))
    if labelled.said is not None:
        of += f", {len(labelled.indices)} of them labelled"
    log.info(
        "%s, %d px: training on %s of %s (%s), validating on %d, testing on %d.",
        cfg.dataset.name, cfg.size, chosen, of, by_class, len(data.val.labels),
        len(data.test.labels),
    )  # fmt: skip


def _write_files(folder: Run, data: Data) -> None:
    """Of one's own images: which file is which split's index, as in `predictions.csv`."""
    if data.train.files is not None:
        folder.write_csv(
            "splits.csv",
            ["file", "label", "patient", "split", "index"],
            (
                [*file, name, i]
                for name, split in data.splits.items()
                for i, file in enumerate(split.files or ())
            ),
        )


def finish(folder: Run, data: Data, fit: Fit) -> None:
    """Write what came out of training; `predictions.csv` last, which marks it as over."""
    folder.write_csv(
        "history.csv", _HISTORY, [[_number(row.get(c)) for c in _HISTORY] for row in fit.history]
    )
    if fit.description is not None:
        folder.write_json("model.json", _model(fit))
    if fit.tensors:
        tensors = {name: np.asarray(t, order="C") for name, t in fit.tensors.items()}
        content = safetensors.numpy.save(tensors)
        files.require_space(folder.path, len(content))
        files.write_atomic(folder.path / "model.safetensors", content)
    folder.write_csv(
        reader.PREDICTIONS,
        *predictions.table(
            {
                name: Predictions(data.splits[name].labels, logits, data.splits[name].groups)
                for name, logits in fit.logits.items()
            }
        ),
    )


def _number(value: float | int | None) -> float | int | None:
    # An undefined validation AUC travels through the Trainer as NaN; in a file its field is empty.
    return None if value is None or np.isnan(value) else value


def _model(fit: Fit) -> dict[str, Any]:
    return {
        "trained_parameters": fit.trained_parameters,
        "parameters": fit.parameters,
        **(fit.description or {}),
    }
