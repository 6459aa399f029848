"""Which cache entries a sweep's runs have in common, told from their configurations alone.

What is told is a plan only: the entries' locks see to it that none is filled twice, whatever is
planned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from beitmed.config import Config, PretrainRun


def first(runs: Sequence[Config]) -> list[int]:
    """Which runs, by position, fill between them every entry that two or more of all runs read."""
    read = [_entries(cfg) for cfg in runs]
    counted = Counter(entry for entries in read for entry in entries)
    missing = {entry for entry, n in counted.items() if n > 1}
    chosen = []
    for i, entries in enumerate(read):
        if entries & missing:
            chosen.append(i)
            missing -= entries
    return chosen


def _entries(cfg: Config) -> set[str]:
    values = cfg.model_dump(mode="json")
    images = [values["dataset"], cfg.size, values["data"]]
    found: list[Any] = []
    if isinstance(cfg, PretrainRun) and not cfg.reads_dataset:
        learnt = cfg.pretrain
        if learnt.images is not None:
            found.append([learnt.images, cfg.size, learnt.fit, learnt.levels])
    elif cfg.dataset.own:  # converted, once
        found.append(images)
    if cfg.reads_backbone and cfg.features != "live" and (depths := _depths(cfg)):
        found.append([*images, values["backbone"], cfg.precision, cfg.cache.dtype, depths])
    return {json.dumps(entry, sort_keys=True) for entry in found}


def _depths(cfg: Config) -> list[int]:
    """The depths that one pass through the trunk gives, the run's own among them."""
    if not cfg.trains_backbone:
        return [0]
    if cfg.no_trunk is not None:
        return []
    assert isinstance(cfg.unfreeze, int)
    return sorted({cfg.unfreeze, *cfg.cache.depths})
