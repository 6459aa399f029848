"""What each step reads: which images, and what is drawn for them.

All of it goes by the seed, the epoch and the place in the epoch alone: a run that was interrupted
draws the same again, on any device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from beitmed.config import PretrainRun
from beitmed.config.pretrain import HybridObjective
from beitmed.pretraining import masking, views
from beitmed.pretraining.sources import Pool, Source
from beitmed.training import shares

# What a random number is drawn for; beside the seed, so that no two share a stream.
_ORDER, _MASKS, _VIEW, _OTHER_VIEW, _HELD = 1, 2, 3, 4, 5
Slot = tuple[int, int, int]  # epoch, place in it, image


class Order(Sampler[Slot]):
    """Which images an epoch sees: each as often as its set's weight says, shuffled.

    Of a weight that is no whole number the rest is drawn anew for every epoch.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sizes = [len(source.images) for source in sources]
        self.wanted = [
            max(1, round(source.weight * n)) for source, n in zip(sources, self.sizes, strict=True)
        ]
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return sum(self.wanted)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[Slot]:
        rng = np.random.default_rng([self.seed, _ORDER, self.epoch])
        chosen, start = [], 0
        for n, wanted in zip(self.sizes, self.wanted, strict=True):
            whole, rest = divmod(wanted, n)
            of_set = np.concatenate([np.tile(np.arange(n), whole), rng.permutation(n)[:rest]])
            chosen.append(start + of_set)
            start += n
        order = rng.permutation(np.concatenate(chosen))
        epoch = self.epoch
        return ((epoch, place, int(image)) for place, image in enumerate(order))


class Batches(Dataset):
    """Batches for `MaskedNetwork.forward`; codes: visual words of each image, where known.

    In one of several ranks its share of them; at_once: how many images one process passes.
    """

    at_once: int | None = None

    def __init__(
        self, cfg: PretrainRun, sources: Sequence[Source], side: int, codes: np.ndarray | None
    ) -> None:
        self.cfg, self.side, self.codes = cfg, side, codes
        self.pool = Pool([source.images for source in sources])
        self.flips = np.array([source.flip for source in sources])
        self.changed = cfg.pretrain.changes_images(bool(self.flips.any()))
        objective = cfg.objective
        self.contrast = isinstance(objective, HybridObjective) and objective.weight > 0

    def __len__(self) -> int:
        return len(self.pool)

    def __getitems__(self, slots: Sequence[Slot]) -> dict[str, Any]:
        (epoch, place, _), indices = slots[0], np.array([image for _, _, image in slots])

        def rng(what: int) -> np.random.Generator:
            return np.random.default_rng([self.cfg.seed, what, epoch, place])

        n = len(indices)
        own = shares.own(n, self.at_once or n)
        masks = masking.draw(self.cfg.objective, rng(_MASKS), n, self.side)
        batch: dict[str, Any] = {
            "images": self.pool.take(indices[own]), "masks": torch.from_numpy(masks[own])
        }  # fmt: skip
        if self.codes is not None:
            batch["codes"] = torch.from_numpy(self.codes[indices[own]].astype(np.int64))
        if self.changed:
            batch["view"] = self._view(rng(_VIEW), indices, own)
        if self.contrast:
            batch["other"] = self._view(rng(_OTHER_VIEW), indices, own)
        return batch

    def _view(
        self, rng: np.random.Generator, indices: np.ndarray, own: np.ndarray
    ) -> dict[str, torch.Tensor]:
        flip = self.flips[self.pool.of(indices)]
        drawn = views.draw(rng, flip, self.cfg.pretrain.crop, self.cfg.pretrain.intensity)
        return {name: values[own] for name, values in drawn.items()}


def held_out(
    cfg: PretrainRun, images: Pool, side: int, size: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of whole held-out images, with the same masks at every look.

    Where two views are compared, both are drawn, also the same at every look.
    """
    contrast = isinstance(cfg.objective, HybridObjective) and cfg.objective.weight > 0
    for start in range(0, len(images), size):
        indices = np.arange(start, min(start + size, len(images)))
        rng = np.random.default_rng([cfg.seed, _HELD, start])
        masks = masking.draw(cfg.objective, rng, len(indices), side)
        batch: dict[str, Any] = {
            "images": images.take(indices), "masks": torch.from_numpy(masks)
        }  # fmt: skip
        if contrast:
            no_flip = np.zeros(len(indices), bool)
            batch["other"] = views.draw(rng, no_flip, cfg.pretrain.crop, cfg.pretrain.intensity)
        yield batch
