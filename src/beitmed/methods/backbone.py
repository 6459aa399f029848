"""method=backbone: a frozen trunk, a trained top, and what is kept of them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from beitmed import tasks
from beitmed.backbones import adapters, freezing, trained, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.pixels import PixelDataset
from beitmed.model import Fit, Row
from beitmed.runs import record
from beitmed.runs.folder import Run
from beitmed.storage import files
from beitmed.training import trainer
from beitmed.trunk_cache import features
from beitmed.trunk_cache.rows import FeatureDataset

log = logging.getLogger(__name__)
# Two checkpoints for a moment, each with Adam's two moments, the trained layers, and the rest.
_COPIES_OF_TRAINED, _BYTES_OF_THE_REST = 7, 20_000_000


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Train to the last epoch; write model.json before, top.safetensors and any export after."""
    task = tasks.of(cfg.dataset.task)
    with folder.phase("features"):
        network, datasets, description = _prepare(cfg, data, indices)
    network.loss = task.loss
    trained_count, total = network.count()
    files.require_space(folder.path, _COPIES_OF_TRAINED * 4 * trained_count + _BYTES_OF_THE_REST)
    _begin(cfg, folder, network, description)

    def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        return task.score(logits, labels, cfg.dataset.positive_label)

    def report(row: Row) -> None:
        record.log_epoch(cfg, row)
        folder.tick()

    history, logits_of = trainer.fit(
        network,
        datasets["train"],
        datasets["val"],
        cfg,
        folder.checkpoints,
        score,
        report=report,
    )
    # The test split is read here, once, after the last epoch: nothing is chosen by it.
    logits = {name: logits_of(datasets[name]) for name in ("val", "test")}
    del logits_of
    # The optimizer and the gradients are of no more use, and three times the trained layers.
    network.zero_grad(set_to_none=True)
    gc.collect()
    with files.replacing(folder.path / "top.safetensors") as file:
        freezing.save_top(network, file)
    if cfg.export:
        _export(cfg, folder, data)
    return Fit(logits, history, parameters=total, trained_parameters=trained_count)


def _prepare(
    cfg: Config, data: Data, indices: np.ndarray
) -> tuple[FreezableBackbone, dict[str, Dataset], Mapping[str, Any]]:
    """The network, what it reads by split, and how the trunk's output came about, JSON values."""
    rows = {"train": indices, "val": None, "test": None}
    cached = features.prepare(cfg, data)
    if cached is not None:
        rows_of = cached.rows
        return (
            adapters.adapt(cfg, cached.network),
            {
                name: FeatureDataset(rows_of[name], split.labels, rows[name])
                for name, split in data.splits.items()
            },
            cached.description,
        )
    loaded, processor = weights.load(cfg.backbone, data.class_names, cfg.seed)
    return (
        adapters.build(cfg, loaded),
        {
            name: PixelDataset(split.images, split.labels, processor, rows[name])
            for name, split in data.splits.items()
        },
        {"mode": "live"},
    )


def _begin(
    cfg: Config, folder: Run, network: FreezableBackbone, description: Mapping[str, Any]
) -> None:
    """Write what is trained; where a run goes on, demand that this has not changed."""
    trained_count, total = network.count()
    folder.agree(
        "model.json",
        {
            "weights": cfg.backbone.weights,
            "trained_parameters": trained_count,
            "parameters": total,
            "trained_share": trained_count / total,
            "trunk_sha256": network.trunk_fingerprint(),
            "features": dict(description),
        },
        "weights or features",
    )
    log.info(
        "%s: training %s of %s parameters (%.1f %%).",
        cfg.backbone.name, f"{trained_count:,}", f"{total:,}", 100 * trained_count / total,
    )  # fmt: skip


def _export(cfg: Config, folder: Run, data: Data) -> None:
    # Put together anew, since the trunk may have been released: a saved top must do for that.
    network, processor = trained.load(cfg, folder.path / "top.safetensors", data.class_names)
    files.require_space(folder.path, 4 * network.count()[1])
    adapters.merge(network)
    network.model.config.problem_type = tasks.of(cfg.dataset.task).problem_type
    network.model.save_pretrained(folder.path / "huggingface")
    processor.save_pretrained(folder.path / "huggingface")
