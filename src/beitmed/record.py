"""What a run says about itself: in its folder, on its plots and on the console."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from beitmed import adapters, artifacts, environment, metrics, model, plots, weights
from beitmed.artifacts import Run
from beitmed.config import Config
from beitmed.data import Data
from beitmed.estimates import Estimate
from beitmed.model import FreezableBackbone

log = logging.getLogger(__name__)
_HISTORY = ("epoch", "step", "learning_rate", "train_loss", "val_loss", "val_auc", "val_accuracy")
_HEADLINES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class Inputs:
    """What a run stands on: the data, which train images it takes, and the network."""

    data: Data
    indices: np.ndarray  # of the train split, int64, sorted
    network: FreezableBackbone
    datasets: Mapping[str, Dataset]  # by split; of "train" the chosen images only
    features: Mapping[str, Any]  # how the trunk's output came about, JSON values


@dataclass(frozen=True)
class Outcome:
    """What came out: a row an epoch, logits float64 [n, classes] by split, test estimates."""

    history: list[dict[str, float | int]]
    logits: dict[str, np.ndarray]
    estimates: dict[str, Estimate]


def caveats(cfg: Config, data: Data) -> list[str]:
    """What must be said wherever this run's numbers appear."""
    said = []
    if cfg.dataset.synthetic:
        said.append("SYNTHETIC images")
    elif not data.provenance["official"]:
        said.append("data file is not the official one")
    if cfg.backbone.random_weights:
        said.append("RANDOM weights, not pre-trained")
    if cfg.data.limit is not None:
        said.append(f"at most {cfg.data.limit} images of each class and split")
    if cfg.train.max_steps is not None:
        said.append(f"at most {cfg.train.max_steps} training steps")
    return said


def begin(cfg: Config, folder: Run, inputs: Inputs) -> None:
    """Write what the run stands on; where it goes on, demand that this has not changed."""
    data, classes = inputs.data, len(inputs.data.class_names)
    used = np.bincount(data.train.labels[inputs.indices], minlength=classes).tolist()
    by_class = {
        k: np.bincount(s.labels, minlength=classes).tolist() for k, s in data.splits.items()
    }
    folder.agree(
        "data.json",
        {
            **data.provenance,
            "class_names": list(data.class_names),
            "images_by_class": by_class,
            "trained_on_by_class": used,
        },
        "data",
    )
    trained, total = inputs.network.count()
    folder.agree(
        "model.json",
        {
            "weights": cfg.backbone.weights,
            "trained_parameters": trained,
            "parameters": total,
            "trained_share": trained / total,
            "trunk_sha256": inputs.network.trunk_fingerprint(),
            "features": dict(inputs.features),
        },
        "weights or features",
    )
    rows = [[int(i), int(data.train.labels[i])] for i in inputs.indices]
    folder.write_csv("train_indices.csv", ["index", "label"], rows)
    for said in caveats(cfg, data):
        log.warning("Note: %s.", said)
    counts = ", ".join(f"{n} {name!r}" for n, name in zip(used, data.class_names, strict=True))
    log.info(
        "%s, %d px: training on %d of %d images (%s), validating on %d, testing on %d.",
        cfg.dataset.name, cfg.size, len(rows), len(data.train.labels), counts,
        len(data.val.labels), len(data.test.labels),
    )  # fmt: skip
    log.info(
        "%s: training %s of %s parameters (%.1f %%).",
        cfg.backbone.name, f"{trained:,}", f"{total:,}", 100 * trained / total,
    )  # fmt: skip


def log_epoch(cfg: Config, row: dict[str, float | int]) -> None:
    """Tell how an epoch went, as one sentence."""
    auc = "undefined" if np.isnan(row["val_auc"]) else f"{row['val_auc']:.3f}"
    log.info(
        "epoch %g of %d: train loss %.4f; validation loss %.4f, AUC %s, accuracy %.3f",
        row["epoch"], cfg.train.epochs, row["train_loss"], row["val_loss"], auc,
        row["val_accuracy"],
    )  # fmt: skip


def finish(cfg: Config, folder: Run, inputs: Inputs, outcome: Outcome, seconds: float) -> None:
    """Write everything that came out; `metrics.json` last, which marks the run as finished."""
    data = inputs.data
    folder.write_csv(
        "history.csv",
        _HISTORY,
        [[_number(row.get(c)) for c in _HISTORY] for row in outcome.history],
    )
    folder.write_csv(
        "predictions.csv",
        ["split", "index", "label", *(f"logit_{i}" for i in range(len(data.class_names)))],
        [
            [split, i, int(label), *row]
            for split, logits in outcome.logits.items()
            for i, (label, row) in enumerate(
                zip(data.splits[split].labels, logits.tolist(), strict=True)
            )
        ],
    )
    _plot(cfg, folder, inputs, outcome)
    with artifacts.replacing(folder.path / "top.safetensors") as file:
        model.save_top(inputs.network, file)
    if cfg.export:
        _export(cfg, folder, data)
    folder.write_json("environment.json", environment.describe(seconds))
    folder.finish(_summary(cfg, folder, inputs, outcome))
    log.info('Test, positive class "%s":', data.class_names[cfg.dataset.positive_label])
    for name in _HEADLINES:
        log.info("  %-18s %s", name, text(outcome.estimates[name]))
    log.info("metrics:  %s", folder.path / "metrics.json")
    log.info("ROC plot: %s", folder.path / "roc.png")


def _export(cfg: Config, folder: Run, data: Data) -> None:
    # Put together anew, since the trunk may have been released: a saved top must do for that.
    backbone, processor = weights.load(cfg.backbone, data.class_names, cfg.seed)
    network = adapters.build(cfg, backbone)
    artifacts.require_space(folder.path, 4 * network.count()[1])
    model.load_top(network, folder.path / "top.safetensors")
    adapters.merge(network)
    network.model.save_pretrained(folder.path / "huggingface")
    processor.save_pretrained(folder.path / "huggingface")


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


def _plot(cfg: Config, folder: Run, inputs: Inputs, outcome: Outcome) -> None:
    positive, data = cfg.dataset.positive_label, inputs.data
    balance = "balanced" if cfg.balanced else "all images"
    title = "; ".join(
        [
            f"{cfg.dataset.name}, {cfg.size} px, {balance}",
            f"{cfg.backbone.name}, unfreeze={cfg.unfreeze}, seed {cfg.seed}",
            *caveats(cfg, data),
        ]
    )
    labels = data.test.labels == positive
    score = metrics.margin(outcome.logits["test"], positive)
    hit = {name: outcome.estimates[name].value for name in ("sensitivity", "specificity")}
    plots.roc(
        folder.path / "roc",
        labels=labels,
        score=score,
        auc=outcome.estimates["auc"],
        title=title,
        positive_name=data.class_names[positive],
        operating_point=(
            None
            if hit["sensitivity"] is None or hit["specificity"] is None
            else (1 - hit["specificity"], hit["sensitivity"])
        ),
    )
    folder.write_csv(
        "roc.csv",
        ["false_positive_rate", "true_positive_rate", "threshold"],
        np.column_stack(plots.roc_points(labels, score)).tolist(),
    )
    plots.history(folder.path / "history", outcome.history)


def _summary(cfg: Config, folder: Run, inputs: Inputs, outcome: Outcome) -> dict[str, Any]:
    trained, total = inputs.network.count()
    positive, data = cfg.dataset.positive_label, inputs.data
    return {
        "format": artifacts.FORMAT,
        "run": folder.path.name,
        "caveats": caveats(cfg, data),
        "dataset": cfg.dataset.name,
        "size": cfg.size,
        "balanced": cfg.balanced,
        "backbone": cfg.backbone.name,
        "unfreeze": cfg.unfreeze,
        "seed": cfg.seed,
        "epochs": outcome.history[-1]["epoch"],
        "trained_parameters": trained,
        "parameters": total,
        "positive_class": {"label": positive, "name": data.class_names[positive]},
        "negative_class": {"label": 1 - positive, "name": data.class_names[1 - positive]},
        "n": {
            "train": len(inputs.indices),
            "val": len(data.val.labels),
            "test": len(data.test.labels),
        },
        "test": {name: estimate.as_dict() for name, estimate in outcome.estimates.items()},
    }
