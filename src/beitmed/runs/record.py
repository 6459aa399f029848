"""What a run says about itself: in its folder, on its plots and on the console."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from beitmed import tasks
from beitmed.config import Config
from beitmed.data import Data, counts
from beitmed.model import Fit
from beitmed.runs import artifacts, environment, run_figures
from beitmed.runs.artifacts import Run
from beitmed.statistics.estimates import Estimate
from beitmed.storage import files

log = logging.getLogger(__name__)
_HISTORY = ("epoch", "step", "learning_rate", "train_loss", "val_loss", "val_auc", "val_accuracy")


def caveats(cfg: Config, data: Data) -> list[str]:
    """What must be said wherever this run's numbers appear."""
    said = []
    if cfg.dataset.synthetic:
        said.append("SYNTHETIC images")
    elif cfg.dataset.own:
        said.append("the user's own images, not a published dataset")
        if data.provenance["patients"] is None and data.provenance["splits"] != "given":
            said.append("splits drawn by image: those of one patient may be in several")
    elif cfg.dataset.classes is not None:
        said.append("the user's own file, not a published dataset")
    elif not data.provenance["official"]:
        said.append("data file is not the official one")
    if "official_split_sizes" in data.provenance:
        said.append("its splits are not of the official sizes")
    if cfg.reads_backbone and cfg.backbone.random_weights:
        said.append("RANDOM weights, not pre-trained")
    if cfg.data.limit is not None:
        said.append(
            f"of each split the first {cfg.data.limit} images of each label and of none"
            if cfg.dataset.task == "multilabel"
            else f"at most {cfg.data.limit} images of each class and split"
        )
    if cfg.trains_backbone and cfg.train.max_steps is not None:
        said.append(f"at most {cfg.train.max_steps} training steps")
    return said


def begin(cfg: Config, folder: Run, data: Data, indices: np.ndarray) -> None:
    """Write what the run stands on; where it goes on, demand that this has not changed.

    indices: of the train images that it learns from, int64, sorted; one may repeat.
    """
    classes = len(data.class_names)
    used = counts(data.train.labels[indices], classes)
    folder.agree(
        "data.json",
        {
            **data.provenance,
            "class_names": list(data.class_names),
            "images": {k: len(s.labels) for k, s in data.splits.items()},
            # Where an image has several labels it counts for each of them.
            "images_by_class": {k: counts(s.labels, classes) for k, s in data.splits.items()},
            "trained_on_by_class": used,
        },
        "data",
    )
    rows = [[int(i), *_label(data.train.labels[i])] for i in indices]
    folder.agree_csv("train_indices.csv", ["index", *_label_columns(data)], rows, "training images")
    _write_files(folder, data)
    for said in caveats(cfg, data):
        log.warning("Note: %s.", said)
    by_class = ", ".join(f"{n} {name!r}" for n, name in zip(used, data.class_names, strict=True))
    if cfg.dataset.task == "multilabel":
        by_class += "; an image may have several of these labels, or none"
    chosen, of = f"{len(rows)}", f"{len(data.train.labels)} images"
    if (different := len(np.unique(indices))) < len(rows):
        chosen, of = f"{len(rows)} images, {different} different ones", f"{len(data.train.labels)}"
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
            [
                [*file, name, i]
                for name, split in data.splits.items()
                for i, file in enumerate(split.files or ())
            ],
        )


def finish(
    cfg: Config,
    folder: Run,
    data: Data,
    indices: np.ndarray,
    fitted: Fit,
    estimates: Mapping[str, Estimate],
    seconds: float,
) -> None:
    """Write everything that came out; `metrics.json` last, which marks the run as finished."""
    folder.write_csv(
        "history.csv",
        _HISTORY,
        [[_number(row.get(c)) for c in _HISTORY] for row in fitted.history],
    )
    folder.write_csv(
        "predictions.csv",
        [
            *("split", "index", *_label_columns(data)),
            *(f"logit_{i}" for i in range(len(data.class_names))),
        ],
        [
            [split, i, *_label(label), *row]
            for split, logits in fitted.logits.items()
            for i, (label, row) in enumerate(
                zip(data.splits[split].labels, logits.tolist(), strict=True)
            )
        ],
    )
    run_figures.draw(
        cfg, folder, data, fitted.logits["test"], estimates, fitted.history,
        caveats(cfg, data),
    )  # fmt: skip
    if fitted.description is not None:
        folder.write_json("model.json", _model(fitted))
    if fitted.tensors:
        tensors = {name: np.asarray(t, order="C") for name, t in fitted.tensors.items()}
        content = safetensors.numpy.save(tensors)
        files.require_space(folder.path, len(content))
        files.write_atomic(folder.path / "model.safetensors", content)
    folder.write_json("environment.json", environment.describe(seconds))
    folder.finish(_summary(cfg, folder, data, indices, fitted, estimates))
    log.info("Test, %s:", _whose(cfg, data))
    for name in (*tasks.HEADLINES[cfg.dataset.task], *cfg.evaluate.metrics):
        log.info("  %-18s %s", name, text(estimates[name]))
    log.info("metrics:  %s", folder.path / "metrics.json")
    log.info("ROC plot: %s", folder.path / "roc.png")


def _whose(cfg: Config, data: Data) -> str:
    """Which class, or what of all classes, the headlines belong to."""
    n, positive = len(data.class_names), cfg.dataset.positive_label
    if positive is not None:
        return f'positive class "{data.class_names[positive]}"'
    if cfg.dataset.task == "multilabel":
        return f"mean over {n} labels"
    return f"{n} classes, AUC of each against all others, mean"


def _label_columns(data: Data) -> list[str]:
    if data.train.labels.ndim == 1:
        return ["label"]
    return [f"label_{i}" for i in range(len(data.class_names))]


def _label(label: np.ndarray) -> list[int]:
    return np.atleast_1d(label).tolist()


def text(estimate: Estimate) -> str:
    """An estimate as it stands in a sentence: value, interval and n, or why there is none."""
    if estimate.value is None:
        return f"undefined: {estimate.reason}"
    if estimate.ci_low is None:
        return f"{estimate.value:.3f} (n = {estimate.n})"
    return (
        f"{estimate.value:.3f} [{estimate.ci_low:.3f}, {estimate.ci_high:.3f}] "
        f"(95 %, {estimate.interval}, n = {estimate.n})"
    )


def _number(value: float | int | None) -> float | int | None:
    # An undefined validation AUC travels through the Trainer as NaN; in a file its field is empty.
    return None if value is None or np.isnan(value) else value


def _model(fitted: Fit) -> dict[str, Any]:
    return {
        "trained_parameters": fitted.trained_parameters,
        "parameters": fitted.parameters,
        **(fitted.description or {}),
    }


def _summary(
    cfg: Config,
    folder: Run,
    data: Data,
    indices: np.ndarray,
    fitted: Fit,
    estimates: Mapping[str, Estimate],
) -> dict[str, Any]:
    return {
        "format": artifacts.FORMAT,
        "run": folder.path.name,
        "caveats": caveats(cfg, data),
        "dataset": cfg.dataset.name,
        "task": cfg.dataset.task,
        "size": cfg.size,
        "balanced": cfg.balanced,
        **({"balancing": cfg.balancing.name} if cfg.balanced else {}),
        **_method(cfg),
        "seed": cfg.seed,
        "epochs": fitted.history[-1]["epoch"] if fitted.history else None,
        "trained_parameters": fitted.trained_parameters,
        "parameters": fitted.parameters,
        **_classes(cfg, data),
        "n": {
            "train": len(indices),
            "val": len(data.val.labels),
            "test": len(data.test.labels),
        },
        "test": {name: estimate.as_dict() for name, estimate in estimates.items()},
    }


def _method(cfg: Config) -> dict[str, Any]:
    """What was trained: a backbone and its depth, or a method, which has neither."""
    if cfg.trains_backbone:
        return {"backbone": cfg.backbone.name, "unfreeze": cfg.unfreeze}
    backbone = cfg.backbone.name if cfg.reads_backbone else cfg.method.name
    return {"method": cfg.method.name, "backbone": backbone, "unfreeze": None}


def _classes(cfg: Config, data: Data) -> dict[str, Any]:
    positive = cfg.dataset.positive_label
    if positive is None:
        return {"classes": list(data.class_names)}
    return {
        "positive_class": {"label": positive, "name": data.class_names[positive]},
        "negative_class": {"label": 1 - positive, "name": data.class_names[1 - positive]},
    }
