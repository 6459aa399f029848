"""Rows of trunk features: computed from images, and read one by one for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
_READ_AT_ONCE = 256  # rows


class FeatureDataset(Dataset):
    """Features of a split, read at access: {"features": [...], "labels": `target`}."""

    def __init__(self, rows: Rows, labels: np.ndarray, indices: np.ndarray | None = None) -> None:
        self.rows = rows
        self.labels = labels
        self.indices = np.arange(len(labels)) if indices is None else indices
        self._held: tuple[torch.Tensor, torch.Tensor] | None = None
        self._readers = ThreadPoolExecutor(rows.at_once) if rows.at_once > 1 else None
        assert len(rows) == len(labels)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = int(self.indices[i])
        if self._held is not None:
            held, labels = self._held
            return {"features": held[row], "labels": labels[row]}
        features = np.empty(self.rows.shape[1:], self.rows.dtype)
        self.rows.read(row, features)
        return {"features": torch.from_numpy(features), "labels": target(self.labels, row)}

    def __getitems__(self, batch: Sequence[int]) -> list[dict[str, Any]]:
        # Rows of a batch together: torch's DataLoader asks for it by this name.
        if self._readers is None or self.held:
            return [self[i] for i in batch]
        return list(self._readers.map(self.__getitem__, batch))

    @property
    def held(self) -> bool:
        """Whether what is asked for comes from where it was put by `hold`."""
        return self._held is not None

    @property
    def bytes(self) -> int:
        return int(np.prod(self.rows.shape)) * self.rows.dtype.itemsize

    def hold(self, device: torch.device) -> None:
        """Read all rows once, into a device's memory, where no step has to wait for one."""
        starts = range(0, len(self.rows), _READ_AT_ONCE)
        parts = ahead(torch.from_numpy(self.rows[a : a + _READ_AT_ONCE]) for a in starts)
        type_ = torch.from_numpy(np.empty(0, self.rows.dtype)).dtype
        held = torch.empty(self.rows.shape, dtype=type_, device=device)
        for start, part in zip(starts, parts, strict=True):
            held[start : start + len(part)] = part
        labels = torch.from_numpy(self.labels)
        labels = labels.long() if labels.ndim == 1 else labels.float()
        self._held = held, labels.to(device)


def hold_on_a_gpu(datasets: Iterable[FeatureDataset], device: torch.device) -> None:
    """Have a GPU hold the rows of these if they take no more than half of what is free there."""
    datasets = list(datasets)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if sum(dataset.bytes for dataset in datasets) <= free // 2:
            for dataset in datasets:
                dataset.hold(device)


class TrunkPass:
    """What the cache stores of some images: one pass of a block, read off at several layers.

    network: in eval mode, with its trunk, on the device that computes. boundaries: from below.
    Best asked for one block after another, or for each that is `step` images after the one before:
    what the next one needs is made meanwhile.
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
        self._coming: Iterator[list[np.ndarray]] = iter(())
        self._next = -1

    def __call__(self, start: int, stop: int) -> list[np.ndarray]:
        """The rows of images start to stop at each boundary, rounded as they are stored.

        Raises UserError where a number is too large for cache.dtype.
        """
        if start != self._next:
            self._coming = self._blocks(start)
        self._next = start + self.step
        return next(self._coming)

    def _blocks(self, start: int) -> Iterator[list[np.ndarray]]:
        """The rows of one block after another; a pass itself is made ahead on a GPU alone, whose
        time the CPU then has for what is to be done with the rows.
        """
        device = next(self.network.parameters()).device
        starts = range(start, len(self.images), self.step)
        pixels = (self.images.batch(a, a + BLOCK, device) for a in starts)
        if device.type == "cpu":
            return map(self._rows, ahead(pixels))
        return ahead(map(self._rows, pixels))

    @torch.inference_mode()
    def _rows(self, pixels: torch.Tensor) -> list[np.ndarray]:
        with compute.autocast(self.cfg, pixels.device):
            found = self.network.below(pixels, self.boundaries)
        return [
            forms.of(self.cfg, len(pixels), boundary).pack(rows.float())
            for boundary, rows in zip(self.boundaries, found, strict=True)
        ]


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
