"""A frozen backbone's pooled features as a matrix: those that unfreeze=0 trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import BaseImageProcessor

from beitmed import model
from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.ahead import ahead
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.storage.rows import Rows
from beitmed.trunk_cache import features
from beitmed.trunk_cache.rows import TrunkRows

POOLED = "the pooled output of the frozen backbone"


@dataclass(frozen=True)
class Pooled:
    """rows: float32 [n, pooled] by split, of "train" the chosen ones; description: JSON values."""

    rows: Mapping[str, np.ndarray]
    description: Mapping[str, Any]


@dataclass(frozen=True)
class Reader:
    """Pooled features of any images, as a run's own: of the cache, or with features=live."""

    cfg: Config
    network: FreezableBackbone
    processor: BaseImageProcessor

    @classmethod
    def build(cls, cfg: Config, class_names: tuple[str, ...]) -> Reader:
        frozen = _without_training(cfg)
        loaded, processor = weights.load(cfg.backbone, class_names, cfg.seed)
        network = FreezableBackbone(loaded, 0).eval().to(compute.device(cfg))
        return cls(frozen, network, processor)

    def __call__(self, images: np.ndarray | Rows) -> np.ndarray:
        """uint8 [n, h, w] or [n, h, w, 3] -> float32 [n, pooled]."""
        dataset = PixelDataset(images, np.zeros(len(images), np.int64), self.processor)
        if features.cached(self.cfg):
            return TrunkRows(self.cfg, self.network, dataset)[:]
        return self._live(dataset)

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        """The same of these images of a split, from the cache where it has them."""
        stored = features.stored(self.cfg, data, split)
        return self(data.splits[split].images[rows]) if stored is None else stored[rows]

    @torch.inference_mode()
    def _live(self, images: PixelDataset) -> np.ndarray:
        device = next(self.network.parameters()).device
        parts = []
        for batch in ahead(DataLoader(images, batch_size=self.cfg.train.eval_batch_size)):
            with compute.autocast(self.cfg, device):
                found = self.network.trunk(batch["pixel_values"].to(device))
            parts.append(found.float().cpu().numpy())
        return np.concatenate(parts)


def _without_training(cfg: Config) -> Config:
    return cfg.model_copy(update={"unfreeze": 0, "trunk_mode": "eval", "adapter": "none"})


def fill(cfg: Config, data: Data) -> None:
    """Put the pooled features into the cache, for a method that reads them."""
    if cfg.reads_backbone:
        features.prepare(_without_training(cfg), data)


def of_splits(cfg: Config, data: Data, indices: np.ndarray) -> Pooled:
    """From the cache that unfreeze=0 uses, or, with features=live, computed here and not kept."""
    cached = features.prepare(_without_training(cfg), data)
    if cached is not None:
        network, description = cached.network, dict(cached.description)
        rows = {name: np.asarray(found[:]) for name, found in cached.rows.items()}
    else:
        reader = Reader.build(cfg, data.class_names)
        network, description = reader.network, {"mode": "live"}
        rows = {name: reader(split.images) for name, split in data.splits.items()}
        network.to("cpu")
    return Pooled(
        rows | {"train": rows["train"][indices]},
        {
            "weights": cfg.backbone.content or "random",
            "trunk_sha256": network.trunk_fingerprint(),
            "features": description,
            "feature_count": rows["train"].shape[1],
        },
    )


def of_run(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> Reader:
    """The reader of a finished run. Raises UserError where the weights are not those it had."""
    reader = Reader.build(cfg, class_names)
    had, found = model.read_description(folder)["trunk_sha256"], reader.network.trunk_fingerprint()
    if had != found:
        raise UserError(
            f"{folder}: was made with a trunk of SHA-256 {had}, this one has {found}; give the "
            "backbone.weights that the run used."
        )
    return reader
