"""What trunk features are called in the cache: names made of all that they depend on."""

from __future__ import annotations

from beitmed.backbones import weights
from beitmed.config import Config
from beitmed.data import Data
from beitmed.storage.store import Target, key_of
from beitmed.trunk_cache import forms


def boundary_of(cfg: Config) -> int:
    """The index of the lowest trained layer; the number of layers where none is trained."""
    assert cfg.unfreeze != "all"
    return cfg.backbone.known_geometry.num_hidden_layers - cfg.unfreeze


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
        form = forms.of(self.cfg, len(self.data.splits[split].labels), at)
        content = {
            "weights": self.weights,
            "images": self.images[split],
            "precision": self.cfg.precision,
            "boundary": at,
            "pooled": len(form.shape) == 2,
            "dtype": form.kind,
        }
        said = {
            "title": f"{self.cfg.dataset.name} {self.cfg.size} px, {split}",
            "backbone": self.cfg.backbone.name,
        }
        return Target(key_of(content), form.stored_shape, form.stored_dtype, {**content, **said})

    def top(self) -> str:
        """The name of the weights above the run's boundary."""
        return key_of({"weights": self.weights, "boundary": self.boundary, "what": "top layers"})
