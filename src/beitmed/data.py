"""What a run learns from and is tested on: three splits of images and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from beitmed.config import Config
from beitmed.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images uint8 [n, size, size] (grey) or [n, size, size, 3]; labels int64 [n]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Data:
    """The official splits, in their official order, and where they come from."""

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]  # by label
    provenance: dict[str, Any]  # source, digest and whether it is the official one; JSON values

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}


def load(cfg: Config) -> Data:
    """Read, fetch or generate a dataset and check it; see `medmnist_files` and `phantom`.

    Raises UserError that names the file, what is wrong with it and what to do.
    """
    data = _phantom(cfg) if cfg.dataset.synthetic else _medmnist(cfg)
    return data if cfg.data.limit is None else _limited(data, cfg.data.limit)


def check_unchanged(cfg: Config, recorded: dict[str, Any]) -> None:
    """Raise UserError if a finished run's data file is there and is not what it was made from."""
    from beitmed import medmnist_files

    if cfg.dataset.flag is None:
        return
    path = medmnist_files.path_of(cfg.dataset.flag, cfg.size, cfg.data)
    if path.is_file() and (md5 := medmnist_files.md5_of(path)) != recorded.get("md5"):
        raise UserError(
            f"{path}: has MD5 {md5}, but the finished run of this configuration was made from one "
            f"with {recorded.get('md5')}. Set name=... to run on the new file, or delete the run's "
            "folder."
        )


def _medmnist(cfg: Config) -> Data:
    from beitmed import medmnist_files

    assert cfg.dataset.flag is not None
    file = medmnist_files.locate(cfg.dataset.flag, cfg.size, cfg.data)
    arrays = medmnist_files.read(file)
    splits = {k: Split(images, labels.astype(np.int64)) for k, (images, labels) in arrays.items()}
    return Data(**splits, class_names=file.class_names, provenance=file.provenance)


@cache  # a sweep's runs share the pictures, which take seconds to draw; nobody may write to them
def _generated(size: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    from beitmed import phantom

    arrays = phantom.generate(size, seed)
    for images, labels in arrays.values():
        images.flags.writeable = labels.flags.writeable = False
    return arrays


def _phantom(cfg: Config) -> Data:
    from beitmed import phantom

    assert cfg.dataset.phantom_seed is not None
    arrays = _generated(cfg.size, cfg.dataset.phantom_seed)
    splits = {k: Split(images, labels) for k, (images, labels) in arrays.items()}
    return Data(
        **splits,
        class_names=tuple(phantom.LABELS[i] for i in sorted(phantom.LABELS)),
        provenance={
            "source": "beitmed.phantom: generated images, SYNTHETIC",
            "phantom_seed": cfg.dataset.phantom_seed,
            "official": False,
        },
    )


def _limited(data: Data, limit: int) -> Data:
    def first_of_each_class(split: Split) -> Split:
        kept = np.sort(
            np.concatenate(
                [np.flatnonzero(split.labels == c)[:limit] for c in np.unique(split.labels)]
            )
        )
        return Split(split.images[kept], split.labels[kept])

    return replace(
        data,
        train=first_of_each_class(data.train),
        val=first_of_each_class(data.val),
        test=first_of_each_class(data.test),
        provenance={**data.provenance, "limit_per_class": limit},
    )
