"""The frozen trunk's output, computed once an image and kept on disk.

What the trunk gives for an image is the same in every epoch, seed, balance and recipe, if it is in
eval mode: so it is stored under what it depends on (image bytes, image processor, weights, depth,
precision, storage type), and any run that needs it finds it. Every depth is rounded from one pass
through the trunk, never computed from what is stored of another: what a run reads does not depend
on what the cache held. `beitmed cache` lists and prunes what is there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data import Data
from beitmed.ranks import launch, together
from beitmed.storage.rows import Rows
from beitmed.storage.store import Entry, Store
from beitmed.trunk_cache import fill, forms
from beitmed.trunk_cache.keys import Keys, boundary_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """A network without its trunk, the stored features by split, and what they are."""

    network: FreezableBackbone
    rows: Mapping[str, Rows]
    description: Mapping[str, Any]


def cached(cfg: Config) -> bool:
    """Whether a run of this configuration reads stored features: never a matter of space."""
    return cfg.features != "live" and cfg.no_trunk is None


def prepare(cfg: Config, data: Data) -> Features | None:
    """Find a run's features or compute them; None where it trains on a live trunk.

    Computed by as many processes as the configuration says; each of those finds them here. Raises
    UserError where the cache has no room for them or cannot be written, and where a number is too
    large for cache.dtype.
    """
    if not cached(cfg):
        if cfg.features != "live":
            log.info("features: live, because of %s.", cfg.no_trunk)
        return None
    store, keys = Store(cfg.cache.root), Keys(cfg, data)
    if together.count() > 1:
        return _features(cfg, data, keys, {n: store.known(keys.target(n).key) for n in data.splits},
                         _without_trunk(cfg, data, store.known(keys.top())))  # fmt: skip
    with contextlib.ExitStack() as locks:
        locked = _to_lock(store, keys)
        for key in locked:
            locks.enter_context(store.lock(key))
        entries = {name: store.find(keys.target(name).key) for name in data.splits}
        wanted = fill.affordable(cfg, keys, fill.missing(store, keys, locked))
        network, whole = _of_the_top(cfg, data, store, keys)
        processes = compute.processes(cfg)
        if wanted and processes > 1:
            gpu = compute.device(cfg).type == "cuda"
            launch.start(processes, gpu, fill.by_ranks, cfg, wanted)
        elif wanted:
            fill.compute_features(cfg, data, store, keys, wanted, whole)
        else:
            images = sum(len(split.labels) for split in data.splits.values())
            log.info("features: all %d images are in %s.", images, store.root)
        entries |= {name: store.find(keys.target(name).key) for name in wanted}
        kept = {name: entry for name, entry in entries.items() if entry is not None}
        return _features(cfg, data, keys, kept, network)


def _features(
    cfg: Config, data: Data, keys: Keys, entries: Mapping[str, Entry], network: FreezableBackbone
) -> Features:
    form = {name: forms.of(cfg, len(data.splits[name].labels), keys.boundary) for name in entries}
    rows = {name: form[name].read(entry.open()) for name, entry in entries.items()}
    return Features(network, rows, {"mode": "cached", "dtype": form["train"].label})


def stored(cfg: Config, data: Data, split: str) -> Rows | None:
    """What the cache has of a split's features, None where it has none: nothing is computed."""
    if not cached(cfg):
        return None
    store, key = Store(cfg.cache.root), Keys(cfg, data).target(split).key
    if not store.has(key):
        return None
    with contextlib.nullcontext() if store.read_only else store.lock(key):
        entry = store.find(key)
    n = len(data.splits[split].labels)
    return None if entry is None else forms.of(cfg, n, boundary_of(cfg)).read(entry.open())


def _to_lock(store: Store, keys: Keys) -> list[str]:
    """The entries that may be filled, in one order for all processes, so that none waits for ever.

    Of other depths than the run's own only where its own is missing. None of a cache that can only
    be read, where all that the run needs is there.
    """
    wanted = {keys.target(name).key for name in keys.data.splits}
    if store.read_only and all(store.has(key) for key in wanted):
        return []
    for name, boundaries in fill.missing(store, keys).items():
        wanted |= {keys.target(name, boundary).key for boundary in boundaries}
    return sorted(wanted)


def _of_the_top(
    cfg: Config, data: Data, store: Store, keys: Keys
) -> tuple[FreezableBackbone, fill.Whole | None]:
    """A network without its trunk, from what is stored of its top, which is done where it is not.

    Besides the whole network where it was made for that. Its lock is taken after all others and
    held no longer than that: fills of other images need the same one.
    """
    key, whole = keys.top(), None
    with contextlib.nullcontext() if store.read_only and store.has(key) else store.lock(key):
        top = store.find(key)
        if top is None:
            whole = fill.whole(cfg, data, keys)
            top = fill.store_top(cfg, store, keys, whole)
        return _without_trunk(cfg, data, top), whole


def _without_trunk(cfg: Config, data: Data, top: Entry) -> FreezableBackbone:
    assert isinstance(cfg.unfreeze, int)
    network = FreezableBackbone.from_snapshot(top.path / "rows.bin", cfg.unfreeze)
    weights.new_head(network.model, data.class_names, cfg.seed)
    return network
