"""What trunk features are called in the cache: names made of all that they depend on."""

from __future__ import annotations

from typing import Any

import numpy as np

from beitmed.backbones import weights
from beitmed.backbones.families import FAMILIES
from beitmed.config import Config
from beitmed.data import Data
from beitmed.storage.store import Target, key_of

_DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}


def boundary_of(cfg: Config) -> int:
    """The index of the lowest trained layer; the number of layers where none is trained."""
    assert cfg.unfreeze != "all"
    return cfg.backbone.known_geometry.num_hidden_layers - cfg.unfreeze


def form(cfg: Config, n: int, boundary: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of the stored features of n images: what the layer `boundary` reads."""
    geometry, name = cfg.backbone.known_geometry, cfg.backbone.family
    assert name is not None
    family = FAMILIES[name]
    if boundary == geometry.num_hidden_layers:
        # Pooled features are small, and what is trained on them is small: kept exactly.
        return (n, len(family.pooled) * geometry.hidden_size), _DTYPES["fp32"]
    tokens = family.prefix(geometry) + geometry.patches
    return (n, tokens, geometry.hidden_size), _DTYPES[cfg.cache.dtype]


class Keys:
    """The cache's entries of one configuration's features, at any depth."""

    def __init__(self, cfg: Config, data: Data) -> None:
        self.cfg, self.data = cfg, data
        self.boundary = boundary_of(cfg)
        self.weights = weights.identity(cfg.backbone)
        self.images = {name: split.images_digest for name, split in data.splits.items()}

    def others(self) -> list[int]:
        """The boundaries of `cache.depths` besides the run's own, of layers that there are."""
        layers = self.cfg.backbone.known_geometry.num_hidden_layers
        return sorted({layers - d for d in self.cfg.cache.depths if d <= layers} - {self.boundary})

    def target(self, split: str, boundary: int | None = None) -> Target:
        """The entry of a split's features, at the run's own boundary or another."""
        at = self.boundary if boundary is None else boundary
        shape, dtype = form(self.cfg, len(self.data.splits[split].labels), at)
        pooled = len(shape) == 2
        content = {
            "weights": self.weights,
            "images": self.images[split],
            "precision": self.cfg.precision,
            "boundary": at,
            "pooled": pooled,
            "dtype": "fp32" if pooled else self.cfg.cache.dtype,
        }
        said = {
            "title": f"{self.cfg.dataset.name} {self.cfg.size} px, {split}",
            "backbone": self.cfg.backbone.name,
        }
        return Target(key_of(content), shape, dtype, {**content, **said})

    def top(self) -> str:
        """The name of the weights above the run's boundary."""
        return key_of({"weights": self.weights, "boundary": self.boundary, "what": "top"})
