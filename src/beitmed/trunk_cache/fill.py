"""Filling the cache: one pass through the trunk for each image, whatever depths are asked for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import BaseImageProcessor

from beitmed import data as splits
from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.ranks import together
from beitmed.storage import space
from beitmed.storage.store import Entry, Store
from beitmed.trunk_cache import rounds
from beitmed.trunk_cache.keys import Keys
from beitmed.trunk_cache.rows import BLOCK, TrunkPass

log = logging.getLogger(__name__)
_SNAPSHOT_BLOCK = 1 << 24  # bytes
# A sweep's next run may need the same network again; where there is memory for it, it stays there.
# Nothing trains it: what is trained is built from what is stored of its top.
_KEPT_ON = ("cuda",)
Whole = tuple[FreezableBackbone, BaseImageProcessor]
_kept: dict[str, Whole] = {}  # one at most
Missing = dict[str, list[int]]  # the boundaries that a split's features are missing at, from below


def missing(store: Store, keys: Keys, locked: Collection[str] | None = None) -> Missing:
    """What a pass must give: the run's own boundary where it is missing, and others then too.

    locked: the entries that may be filled; None stands for any.
    """
    found: Missing = {}
    for name in keys.data.splits:
        if not store.has(keys.target(name).key):
            names = {b: keys.target(name, b).key for b in keys.others()}
            others = [b for b, key in names.items() if not store.has(key)]
            allowed = [b for b in others if locked is None or names[b] in locked]
            found[name] = sorted([keys.boundary, *allowed])
    return found


def affordable(cfg: Config, keys: Keys, wanted: Missing) -> Missing:
    """The same, without other depths than the run's own where the cache has no room for all.

    Raises UserError where it has no room for these either.
    """
    if (why := space.shortage(cfg.cache, _bytes(keys, wanted))) is not None:
        own = {name: [keys.boundary] for name in wanted}
        if own != wanted:
            log.info("features: of unfreeze=%s only, since all of cache.depths %s.",
                     cfg.unfreeze, why)  # fmt: skip
        wanted = own
    needed = _bytes(keys, wanted)
    space.reserve(cfg.cache, needed, "features: those of this run", "set features=live")
    if wanted:
        images = sum(len(keys.data.splits[name].labels) for name in wanted)
        log.info(
            "features: computing %.2f GB (%.0f kB an image) into %s.",
            needed / 1e9, needed / images / 1e3, Store(cfg.cache.root).root,
        )  # fmt: skip
    return wanted


def _bytes(keys: Keys, wanted: Missing) -> int:
    targets = [keys.target(name, b) for name, boundaries in wanted.items() for b in boundaries]
    return sum(t.shape[0] * t.row_bytes for t in targets)


def by_ranks(cfg: Config, wanted: Missing) -> None:
    """What `compute_features` does, by a rank; called on each, under the locks of who starts it."""
    loaded = splits.load(cfg)
    compute_features(cfg, loaded, Store(cfg.cache.root), Keys(cfg, loaded), wanted, None)


def compute_features(
    cfg: Config, data: Data, store: Store, keys: Keys, wanted: Missing, given: Whole | None
) -> None:
    """Compute and store what is wanted, by the network that is given, or else made here.

    Call it under the locks of all that is stored.
    """
    network, processor = given or whole(cfg, data, keys)
    total = sum(len(data.splits[name].labels) for name in wanted)
    with tqdm(
        total=total, unit="image", desc="features", disable=None if together.first() else True
    ) as bar:
        for name, boundaries in wanted.items():
            split = data.splits[name]
            images = PixelDataset(split.images, split.labels, processor)
            if together.first():
                _fill(cfg, store, keys, network, images, name, boundaries, bar)
                rounds.done()
            else:
                rounds.assist(
                    lambda b, images=images: TrunkPass(cfg, network, images, b, rounds.step()),  # type: ignore[misc]
                    len(images),
                )


def store_top(cfg: Config, store: Store, keys: Keys, of: Whole) -> Entry:
    """Store the weights above the run's boundary, under their lock."""
    raw = np.frombuffer(of[0].top_snapshot(), np.uint8)
    said = {"title": f"weights of the top {cfg.unfreeze} layers", "backbone": cfg.backbone.name}
    return store.fill(keys.top(), raw.shape, raw.dtype, lambda a, b: raw[a:b], _SNAPSHOT_BLOCK,
                      said, progress=lambda done: None)  # fmt: skip


def whole(cfg: Config, data: Data, keys: Keys) -> Whole:
    """A run's network with its trunk, in eval mode, on the device that computes."""
    device = compute.device(cfg)
    name = f"{keys.top()} {device}"
    if name not in _kept:
        _kept.clear()
        model, processor = weights.load(cfg.backbone, data.class_names, cfg.seed)
        made = FreezableBackbone(model, cfg.unfreeze).eval().to(device), processor
        if device.type not in _KEPT_ON:
            return made
        _kept[name] = made
    return _kept[name]


def _fill(
    cfg: Config,
    store: Store,
    keys: Keys,
    network: FreezableBackbone,
    images: PixelDataset,
    split: str,
    boundaries: Sequence[int],
    bar: Any,
) -> None:
    start = bar.n

    def progress(done: int) -> None:
        bar.update(start + done - bar.n)

    targets = [keys.target(split, boundary) for boundary in boundaries]
    try:
        with rounds.asking(TrunkPass(cfg, network, images, boundaries, rounds.step())) as rows_from:
            store.fill_together(targets, rows_from, BLOCK, progress)
    except UserError as e:
        if len(boundaries) == 1:
            raise
        # Whatever is wrong may be so of the other depths only, which decide nothing here.
        log.info("features: of unfreeze=%s only, since of cache.depths together: %s",
                 cfg.unfreeze, e)  # fmt: skip
        _fill(cfg, store, keys, network, images, split, [keys.boundary], bar)
