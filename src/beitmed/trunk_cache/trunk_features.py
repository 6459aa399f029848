"""The frozen trunk's output, computed once an image and kept on disk.

What the trunk gives for an image is the same in every epoch, seed, balance and recipe, if it is in
eval mode: so it is stored under what it depends on (image bytes, image processor, weights, depth,
precision, storage type), and any run that needs it finds it. `python -m beitmed.features` lists
and prunes what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from beitmed.backbones import compute, weights
from beitmed.backbones.families import FAMILIES
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data, Split
from beitmed.data.pixels import PixelDataset, target
from beitmed.errors import UserError
from beitmed.storage.rows import Rows
from beitmed.storage.store import Entry, Store, key_of

log = logging.getLogger(__name__)
_DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
_BLOCK = 32  # images between two entries of the journal
_HASHED_AT_ONCE = 256  # images
_KEEP_FREE = 2_000_000_000  # bytes of the disk that a cache leaves to others


class FeatureDataset(Dataset):
    """Stored features of a split, read at access: {"features": [...], "labels": `target`}."""

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


@dataclass(frozen=True)
class Features:
    """A network without its trunk, the stored features by split, and what they were made of."""

    network: FreezableBackbone
    entries: Mapping[str, Entry]
    description: Mapping[str, Any]


class _Keys:
    """The names of one configuration's features at any depth."""

    def __init__(self, cfg: Config, data: Data) -> None:
        self.cfg = cfg
        self.layers = cfg.backbone.known_geometry.num_hidden_layers
        assert cfg.unfreeze != "all"
        self.boundary = self.layers - cfg.unfreeze
        self.weights = weights.identity(cfg.backbone)
        self.images = {name: _digest(split) for name, split in data.splits.items()}

    def content(self, split: str, boundary: int) -> dict[str, Any]:
        # Pooled features are small, and what is trained on them is small: kept exactly.
        pooled = boundary == self.layers
        return {
            "weights": self.weights,
            "images": self.images[split],
            "precision": self.cfg.precision,
            "boundary": boundary,
            "pooled": pooled,
            "dtype": "fp32" if pooled else self.cfg.cache.dtype,
        }

    def rows(self, split: str, boundary: int | None = None) -> str:
        return key_of(self.content(split, self.boundary if boundary is None else boundary))

    def top(self) -> str:
        return key_of({"weights": self.weights, "boundary": self.boundary, "what": "top"})

    def shape(self, split: Split) -> tuple[int, ...]:
        g, name = self.cfg.backbone.known_geometry, self.cfg.backbone.family
        assert name is not None
        n = len(split.labels)
        if self.boundary == self.layers:
            return n, len(FAMILIES[name].pooled) * g.hidden_size
        prefix = FAMILIES[name].prefix(g)
        return n, prefix + g.patches, g.hidden_size


def _digest(split: Split) -> str:
    digest = hashlib.sha256(repr(split.images.shape).encode())
    for start in range(0, len(split.images), _HASHED_AT_ONCE):
        block = split.images[start : start + _HASHED_AT_ONCE]
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def prepare(cfg: Config, data: Data) -> Features | None:
    """Find a run's features or compute them; None where the run must go without, which it says.

    Raises UserError where features=cached was asked for and cannot be, where the cache's folder
    cannot be written or the disk is full, and where a number is too large for cache.dtype.
    """
    if cfg.features == "live":
        return None
    if cfg.no_trunk is not None:
        log.info("features: live, because of %s.", cfg.no_trunk)
        return None
    store, keys = Store(Path(cfg.cache.root).expanduser()), _Keys(cfg, data)
    with contextlib.ExitStack() as locks:
        for key in sorted({keys.top(), *(keys.rows(name) for name in data.splits)}):
            locks.enter_context(store.lock(key))
        entries = {name: store.find(keys.rows(name)) for name in data.splits}
        top = store.find(keys.top())
        missing = [name for name, entry in entries.items() if entry is None]
        if (missing or top is None) and not _fits(cfg, data, store, keys, missing):
            return None
        if missing or top is None:
            network = _fill(cfg, data, store, keys, entries, top is None)
        else:
            log.info("features: all %d images are in %s.", _images(data), store.root)
            assert isinstance(cfg.unfreeze, int)
            network = FreezableBackbone.from_snapshot(top.path / "rows.bin", cfg.unfreeze)
            weights.new_head(network.model, data.class_names, cfg.seed)
    found = {name: entry for name, entry in entries.items() if entry is not None}
    lineage = {name: entry.manifest["lineage"] for name, entry in found.items()}
    dtype = found["train"].dtype.name
    return Features(network, found, {"mode": "cached", "dtype": dtype, "lineage": lineage})


def _images(data: Data) -> int:
    return sum(len(split.labels) for split in data.splits.values())


def _bytes(keys: _Keys, split: Split) -> int:
    dtype = _DTYPES[keys.content("train", keys.boundary)["dtype"]]
    return int(np.prod(keys.shape(split))) * dtype.itemsize


def _fits(cfg: Config, data: Data, store: Store, keys: _Keys, missing: list[str]) -> bool:
    needed = sum(_bytes(keys, data.splits[name]) for name in missing)
    each = _bytes(keys, data.train) / len(data.train.labels)
    log.info(
        "features: computing %.2f GB (%.0f kB an image) into %s.",
        needed / 1e9, each / 1e3, store.root,
    )  # fmt: skip
    used = sum(entry.size for entry in store.entries())
    limit = cfg.cache.limit_gb * 1e9
    folder = next(p for p in (store.root, *store.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if used + needed > limit:
        problem = (
            f"the {needed / 1e9:.2f} GB do not fit beside the {used / 1e9:.2f} GB that are there: "
            f"cache.limit_gb is {cfg.cache.limit_gb:g}. `python -m beitmed.features` shows and "
            "prunes what is there."
        )
    elif needed + _KEEP_FREE > free:
        problem = (
            f"the {needed / 1e9:.2f} GB would leave less than 2 GB of the disk's "
            f"{free / 1e9:.2f} GB free. Set cache.root=... to a larger disk."
        )
    else:
        return True
    if cfg.features == "cached":
        raise UserError(f"features: {problem} Or set features=live.")
    log.warning("features: live, because %s", problem)
    return False


def _fill(
    cfg: Config,
    data: Data,
    store: Store,
    keys: _Keys,
    entries: dict[str, Entry | None],
    snapshot: bool,
) -> FreezableBackbone:
    """Compute what is missing, into `entries`; the network is returned without its trunk."""
    beit, processor = weights.load(cfg.backbone, data.class_names, cfg.seed)
    network = FreezableBackbone(beit, cfg.unfreeze).eval()
    device = compute.device(cfg)
    network.to(device)
    missing = [name for name, entry in entries.items() if entry is None]
    total = sum(len(data.splits[name].labels) for name in missing)
    with tqdm(total=total, unit="image", desc="features", disable=None) as bar:
        for name in missing:
            split = data.splits[name]
            lower = _below(store, keys, name)
            lineage = [*lower.manifest["lineage"], keys.boundary] if lower else [keys.boundary]
            start = bar.n
            dtype = _DTYPES[keys.content(name, keys.boundary)["dtype"]]
            images = PixelDataset(split.images, split.labels, processor)
            entries[name] = store.fill(
                keys.rows(name),
                keys.shape(split),
                dtype,
                _Rows(network, images, lower, cfg, device, dtype),
                _BLOCK,
                {
                    **keys.content(name, keys.boundary),
                    "lineage": lineage,
                    "title": f"{cfg.dataset.name} {cfg.size} px, {name}",
                    "backbone": cfg.backbone.name,
                },
                progress=lambda done, start=start: bar.update(start + done - bar.n),  # type: ignore[misc]
            )
    network.to("cpu")
    if snapshot:
        raw = np.frombuffer(network.top_snapshot(), np.uint8)
        store.fill(
            keys.top(), raw.shape, raw.dtype, lambda a, b: raw[a:b], 1 << 24,
            {"title": f"weights of the top {cfg.unfreeze} layers", "backbone": cfg.backbone.name},
            progress=lambda done: None,
        )  # fmt: skip
    network.release_trunk()
    return network


def _below(store: Store, keys: _Keys, split: str) -> Entry | None:
    """The deepest features of the same images that end below this run's boundary, if any."""
    for boundary in range(keys.boundary - 1, 0, -1):
        key = keys.rows(split, boundary)
        if store.has(key) and (entry := store.find(key)) is not None:
            log.info("features: %s goes on from layer %d, which is there.", split, boundary)
            return entry
    return None


class _Rows:
    """Rows of features from images, or from features that end at a lower layer."""

    def __init__(
        self,
        network: FreezableBackbone,
        images: PixelDataset,
        lower: Entry | None,
        cfg: Config,
        device: torch.device,
        dtype: np.dtype,
    ) -> None:
        self.network, self.images, self.cfg, self.device = network, images, cfg, device
        self.lower = lower.open() if lower is not None else None
        self.boundary = lower.manifest["boundary"] if lower is not None else 0
        self.largest = np.finfo(dtype).max  # of what is stored: pooled features always are fp32

    @torch.inference_mode()
    def __call__(self, start: int, stop: int) -> np.ndarray:
        with compute.autocast(self.cfg, self.device):
            if self.lower is not None:
                tokens = torch.from_numpy(self.lower[start:stop]).to(self.device).float()
                features = self.network.trunk_from(self.boundary, tokens)
            else:
                items = self.images.__getitems__(range(start, stop))
                pixels = torch.stack([item["pixel_values"] for item in items]).to(self.device)
                features = self.network.trunk(pixels)
        rows = features.float().cpu().numpy()
        if not (np.abs(rows) <= self.largest).all():
            raise UserError(
                f"cache.dtype: found {self.cfg.cache.dtype}, but the trunk gives numbers up to "
                f"{np.abs(rows).max():.3g}; use cache.dtype=fp32, or features=live."
            )
        return rows
