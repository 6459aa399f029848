"""Rows of trunk features: computed from images, and read one by one for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from beitmed.backbones import compute
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data.ahead import ahead
from beitmed.data.pixels import PixelDataset, target
from beitmed.storage.rows import Rows
from beitmed.trunk_cache import forms
from beitmed.trunk_cache.keys import boundary_of

BLOCK = 32  # images in a pass, counted from the first; another number would round differently


class FeatureDataset(Dataset):
    """Features of a split, read at access: {"features": [...], "labels": `target`}."""

    def __init__(self, rows: Rows, labels: np.ndarray, indices: np.ndarray | None = None) -> None:
        self.rows = rows
        self.labels = labels
        self.indices = np.arange(len(labels)) if indices is None else indices
        assert len(rows) == len(labels)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = int(self.indices[i])
        features = np.empty(self.rows.shape[1:], self.rows.dtype)
        self.rows.read(row, features)
        return {"features": torch.from_numpy(features), "labels": target(self.labels, row)}


class TrunkPass:
    """What the cache stores of some images: one pass of a block, read off at several layers.

    network: in eval mode, with its trunk, on the device that computes. boundaries: from below.
    Best asked for one block after another, or for each that is `step` images after the one before:
    the next one's pixels are processed meanwhile.
    """

    def __init__(
        self,
        cfg: Config,
        network: FreezableBackbone,
        images: PixelDataset,
        boundaries: Sequence[int],
        step: int = BLOCK,
    ) -> None:
        self.cfg, self.network, self.images, self.boundaries = cfg, network, images, boundaries
        self.step = step
        self._pixels: Iterator[torch.Tensor] = iter(())
        self._next = -1

    @torch.inference_mode()
    def __call__(self, start: int, stop: int) -> list[np.ndarray]:
        """The rows of images start to stop at each boundary, rounded as they are stored.

        Raises UserError where a number is too large for cache.dtype.
        """
        device = next(self.network.parameters()).device
        with compute.autocast(self.cfg, device):
            pixels = self._processed(start).to(device)
            found = self.network.below(pixels, self.boundaries)
        rows = [tensor.float().cpu().numpy() for tensor in found]
        return [
            forms.of(self.cfg, stop - start, boundary).pack(of_boundary)
            for of_boundary, boundary in zip(rows, self.boundaries, strict=True)
        ]

    def _processed(self, start: int) -> torch.Tensor:
        if start != self._next:
            starts = range(start, len(self.images), self.step)
            self._pixels = ahead(self.images.batch(a, a + BLOCK) for a in starts)
        self._next = start + self.step
        return next(self._pixels)


class TrunkRows(Rows):
    """The rows that the cache would store of these images, computed as they are read.

    To the bit those of a run's own splits, for the same images in the same order: computed in the
    same blocks and rounded in the same way. Best read in order, since one block is held at a time.
    cfg: the run's. network, images: as of `TrunkPass`.
    """

    def __init__(self, cfg: Config, network: FreezableBackbone, images: PixelDataset) -> None:
        boundary = boundary_of(cfg)
        self._form = forms.of(cfg, len(images), boundary)
        self.shape, self.dtype = self._form.shape, self._form.dtype
        self._pass = TrunkPass(cfg, network, images, [boundary])
        self._start, self._held = 0, np.empty((0, *self.shape[1:]), self.dtype)

    def read(self, row: int, out: np.ndarray) -> None:
        for i, part in enumerate(out.reshape(-1, *self.shape[1:]), start=row):
            start = i - i % BLOCK
            if not len(self._held) or start != self._start:
                [stored] = self._pass(start, min(start + BLOCK, len(self)))
                self._start, self._held = start, self._form.unpack(stored)
            part[...] = self._held[i - start]
