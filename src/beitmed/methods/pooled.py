"""A frozen backbone's pooled features as a matrix: those that unfreeze=0 trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.pixels import PixelDataset
from beitmed.trunk_cache import features as trunk_features


@dataclass(frozen=True)
class Pooled:
    """rows: float32 [n, pooled] by split, of "train" the chosen ones; description: JSON values."""

    rows: Mapping[str, np.ndarray]
    description: Mapping[str, Any]


def features(cfg: Config, data: Data, indices: np.ndarray) -> Pooled:
    """From the cache that unfreeze=0 uses, or, with features=live, computed here and not kept."""
    frozen = cfg.model_copy(update={"unfreeze": 0, "trunk_mode": "eval", "adapter": "none"})
    cached = trunk_features.prepare(frozen, data)
    if cached is not None:
        network, description = cached.network, dict(cached.description)
        rows = {name: np.asarray(found[:]) for name, found in cached.rows.items()}
    else:
        model, processor = weights.load(cfg.backbone, data.class_names, cfg.seed)
        network, description = FreezableBackbone(model, 0).eval(), {"mode": "live"}
        network.to(compute.device(cfg))
        rows = {
            name: _live(cfg, network, PixelDataset(split.images, split.labels, processor))
            for name, split in data.splits.items()
        }
        network.to("cpu")
    return Pooled(
        rows | {"train": rows["train"][indices]},
        {
            "weights": cfg.backbone.weights,
            "trunk_sha256": network.trunk_fingerprint(),
            "features": description,
            "feature_count": rows["train"].shape[1],
        },
    )


@torch.inference_mode()
def _live(cfg: Config, network: FreezableBackbone, images: PixelDataset) -> np.ndarray:
    device = next(network.parameters()).device
    parts = []
    for batch in DataLoader(images, batch_size=cfg.train.eval_batch_size):
        with compute.autocast(cfg, device):
            parts.append(network.trunk(batch["pixel_values"].to(device)).float().cpu().numpy())
    return np.concatenate(parts)
