"""method=backbone: a frozen trunk, a trained top, and what is kept of them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import Dataset
from transformers import BaseImageProcessor

from beitmed import data as splits
from beitmed import model, tasks
from beitmed.backbones import adapters, compute, freezing, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.pixels import PixelDataset
from beitmed.methods import epochs
from beitmed.model import Fit, Row
from beitmed.ranks import launch, member, together
from beitmed.runs.folder import Run
from beitmed.storage import files
from beitmed.storage.rows import Rows
from beitmed.training import prediction, trainer
from beitmed.trunk_cache import features
from beitmed.trunk_cache.rows import BLOCK, FeatureDataset, TrunkRows, hold_on_a_gpu

log = logging.getLogger(__name__)
_TOP = "top.safetensors"
# Two checkpoints for a moment, each with Adam's two moments, the trained layers, and the rest.
_COPIES_OF_TRAINED, _BYTES_OF_THE_REST = 7, 20_000_000


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Train to the last epoch; write model.json before, top.safetensors after."""
    with folder.phase("features"):
        network, datasets, description = _prepare(cfg, data, indices)
    trained_count, total = network.count()
    files.require_space(folder.path, _COPIES_OF_TRAINED * 4 * trained_count + _BYTES_OF_THE_REST)
    _begin(cfg, folder, network, description)

    def report(row: Row) -> None:
        epochs.tell(row, cfg.train.epochs)
        folder.tick()

    if (processes := compute.processes(cfg)) > 1:
        del network, datasets
        history, logits = launch.start(
            processes, compute.device(cfg).type == "cuda", _train_as_a_rank, cfg, indices,
            folder.path, hear=report,
        )  # fmt: skip
    else:
        history, logits = _train(cfg, network, datasets, folder, report)
    return Fit(logits, history, parameters=total, trained_parameters=trained_count)


def _train(
    cfg: Config,
    network: FreezableBackbone,
    datasets: Mapping[str, Dataset],
    folder: Run,
    report: Callable[[Row], None],
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The history, and the logits of val and test; top.safetensors is written."""
    task = tasks.of(cfg.dataset.task)
    network.loss = task.loss

    def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        return task.score(logits, labels, cfg.dataset.positive_label)

    history = trainer.fit(
        network, datasets["train"], datasets["val"], cfg, folder.checkpoints, score, report,
    )  # fmt: skip
    # The optimizer and the gradients are of no more use, and three times the trained layers.
    network.zero_grad(set_to_none=True)
    gc.collect()
    with ThreadPoolExecutor(1) as pool:
        saved = pool.submit(_save_top, network, folder.path / _TOP) if together.first() else None
        # The test split is read here, once, after the last epoch: nothing is chosen by it.
        logits = {name: prediction.logits(cfg, network, datasets[name]) for name in ("val", "test")}
        if saved is not None:
            saved.result()
    return history, logits


def _train_as_a_rank(
    cfg: Config, indices: np.ndarray, folder: Path
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The same in one of several processes, which has to read everything for itself."""
    trainer.seed_everything(cfg.seed)
    network, datasets, _ = _prepare(cfg, splits.load(cfg), indices)
    return _train(cfg, network, datasets, Run(folder), member.say)


def _save_top(network: FreezableBackbone, path: Path) -> None:
    with files.replacing(path) as file:
        freezing.save_top(network, file)


def fill(cfg: Config, data: Data) -> None:
    """Put the frozen layers' output into the cache."""
    features.prepare(cfg, data)


@dataclass(frozen=True)
class BackboneModel:
    """A run's network, in eval mode, and the image processor before it."""

    cfg: Config
    network: FreezableBackbone
    processor: BaseImageProcessor

    @property
    def features_are(self) -> str:
        if self.network.whole:
            return "what the classifier reads"
        return "the output of the frozen layers, the mean of the patches"

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return prediction.logits(self.cfg, self.network, self._dataset(images))

    @property
    def trunk(self) -> str | None:
        """What the output of its frozen layers depends on besides the images: models of one such
        can share it. None where the run was trained on a live trunk.
        """
        if not features.cached(self.cfg):
            return None
        cfg, processor = self.cfg, self.processor.to_json_string()
        settings = cfg.unfreeze, cfg.cache.dtype, cfg.precision, cfg.features
        return f"{self.network.trunk_fingerprint()} {settings} {processor}"

    def rows(self, images: np.ndarray | Rows) -> TrunkRows:
        """What the frozen layers give for images, computed as it is read."""
        return TrunkRows(self.cfg, self.network, self._pixels(images))

    def logits_of(self, rows: Rows) -> np.ndarray:
        """Logits from what `rows` gives, of this model or another of the same `trunk`."""
        labels = np.zeros(len(rows), np.int64)
        return prediction.logits(self.cfg, self.network, FeatureDataset(rows, labels))

    def with_features(self, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
        return prediction.with_features(self.cfg, self.network, self._dataset(images))

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        stored = features.stored(self.cfg, data, split)
        if stored is None:
            return self.with_features(data.splits[split].images[rows])[1]
        parts = [
            self.network.pooled(torch.from_numpy(stored[rows[start : start + BLOCK]]))
            for start in range(0, len(rows), BLOCK)
        ]
        return torch.cat(parts).float().numpy()

    def _dataset(self, images: np.ndarray | Rows) -> Dataset:
        if not features.cached(self.cfg):
            return self._pixels(images)
        # Rounded as the features that it was trained on, and so the run's own to the bit.
        rows = self.rows(images)
        return FeatureDataset(rows, np.zeros(len(rows), np.int64))

    def _pixels(self, images: np.ndarray | Rows) -> PixelDataset:
        return PixelDataset(images, np.zeros(len(images), np.int64), self.processor)


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> BackboneModel:
    """The model of a finished run: its top layers on the backbone that they were trained on.

    Raises UserError where the backbone's weights are missing or not those that the run was trained
    on, or where top.safetensors is damaged.
    """
    found, processor = weights.load(cfg.backbone, class_names, cfg.seed)
    network = adapters.build(cfg, found)
    try:
        freezing.load_top(network, folder / _TOP)
    except (OSError, SafetensorError) as e:
        raise model.unreadable(folder / _TOP, e) from e
    return BackboneModel(cfg, network.eval().to(compute.device(cfg)), processor)


def _prepare(
    cfg: Config, data: Data, indices: np.ndarray
) -> tuple[FreezableBackbone, dict[str, Dataset], Mapping[str, Any]]:
    """The network, what it reads by split, and how the trunk's output came about, JSON values."""
    rows = {"train": indices, "val": None, "test": None}
    cached = features.prepare(cfg, data)
    if cached is not None:
        stored = {
            name: FeatureDataset(cached.rows[name], split.labels, rows[name])
            for name, split in data.splits.items()
        }
        if together.count() == compute.processes(cfg):  # or others train, on GPUs of their own
            # Not of the test split, which is read once.
            hold_on_a_gpu((stored["train"], stored["val"]), compute.device(cfg))
        return adapters.adapt(cfg, cached.network), dict(stored), cached.description
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
            # Not where they lie, which may change between two processes of one run.
            "weights": cfg.backbone.content or "random",
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
