"""What a run learns from and is tested on: three splits of images and labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from beitmed import tasks
from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.storage.rows import Joined, Rows

_HASHED_AT_ONCE = 256  # images; those of a large file stay on disk


@dataclass(frozen=True)
class Split:
    """Images uint8 [n, size, size] (grey) or [n, size, size, 3]; those of a large file on disk.

    Labels are int64 [n], or [n, labels] of 0 and 1 where an image has several or none. Of one's
    own images there is also which file each is: its name, its label and its patient or "". Of
    generated ones there is where the lesion is: masks bool [n, size, size].
    """

    images: np.ndarray | Rows
    labels: np.ndarray
    files: tuple[tuple[str, str, str], ...] | None = None
    masks: np.ndarray | None = None

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The patient of each image, None where patients are not known."""
        if self.files is None or not all(patient for _, _, patient in self.files):
            return None
        return tuple(patient for _, _, patient in self.files)

    @cached_property
    def images_digest(self) -> str:
        """SHA-256 over the shape and the pixels of the images, in their order."""
        found = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self.images), _HASHED_AT_ONCE):
            block = self.images[start : start + _HASHED_AT_ONCE]
            found.update(np.ascontiguousarray(block).data)
        return found.hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 over images, labels and their order: equal only for the same cases."""
        found = hashlib.sha256(f"{self.images_digest} {self.labels.shape}".encode())
        found.update(np.ascontiguousarray(self.labels, np.int64).data)
        return found.hexdigest()


@dataclass(frozen=True)
class Data:
    """The official splits, in their official order, and where they come from."""

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]  # by label, or by column of labels
    provenance: dict[str, Any]  # source, digest and whether it is the official one; JSON values

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}


def counts(labels: np.ndarray, classes: int) -> list[int]:
    """Images by class, or by label where an image has several (and counts for each)."""
    if labels.ndim == 2:
        return labels.sum(axis=0).tolist()
    return np.bincount(labels, minlength=classes).tolist()


def load(cfg: Config) -> Data:
    """Read, fetch or generate a dataset and check it, for a configuration from `complete`.

    See `medmnist_files`, `phantom` and `folder_data`. Raises UserError that names the file, what
    is wrong with it and what to do.
    """
    read = {"medmnist": _medmnist, "phantom": _phantom, "folder": _folder}
    data = read[cfg.dataset.source](cfg)
    return data if cfg.data.limit is None else _limited(cfg, data, cfg.data.limit)


def joined(data: Data) -> Split:
    """All splits as one, each after the other."""
    parts = list(data.splits.values())
    files = [part.files for part in parts if part.files is not None]
    return Split(
        Joined([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(file for of_split in files for file in of_split) or None,
    )


def load_all(cfg: Config) -> tuple[Split, tuple[str, ...], dict[str, Any]]:
    """All of one's own images as one split, with the class names and the provenance.

    No split is drawn and none is needed, so there may be any number of them. Errors as of `load`.
    """
    from beitmed.data import folder_data

    own = folder_data.load_all(cfg)
    split = Split(own.images["all"], own.labels["all"], own.files["all"])
    if cfg.data.limit is not None:
        split = first_of_each(cfg, split, len(own.class_names))
    return split, own.class_names, own.provenance


def complete(cfg: Config, *, tell_positive: bool = True) -> Config:
    """The configuration with what only the data can say: task and classes of one's own images.

    tell_positive: as of `folder_data.complete`.
    """
    if not cfg.dataset.own:
        return cfg
    from beitmed.data import folder_data

    return folder_data.complete(cfg, tell_positive=tell_positive)


def check_unchanged(cfg: Config, recorded: dict[str, Any]) -> None:
    """Raise UserError if a finished run's data file is there and is not what it was made from."""
    from beitmed.data import medmnist_files

    if cfg.dataset.flag is None:  # of own images the content is part of the configuration
        return
    path = medmnist_files.path_of(cfg.dataset.flag, cfg.size, cfg.data)
    if path.is_file() and (md5 := medmnist_files.md5_of(path)) != recorded.get("md5"):
        raise UserError(
            f"{path}: has MD5 {md5}, but the finished run of this configuration was made from one "
            f"with {recorded.get('md5')}. Set name=... to run on the new file, or delete the run's "
            "folder."
        )


def _medmnist(cfg: Config) -> Data:
    from beitmed.data import medmnist_files

    assert cfg.dataset.flag is not None
    entry = medmnist_files.entry_of(cfg.dataset)
    file = medmnist_files.locate(cfg.dataset.flag, cfg.size, cfg.data, entry)
    if file.task.name != cfg.dataset.task:
        raise UserError(
            f"dataset.task: found {cfg.dataset.task}, but {cfg.dataset.flag} is {file.task.name}. "
            f"Give dataset.task={file.task.name}, or the dataset.flag that is meant."
        )
    arrays = medmnist_files.read(file, cfg.cache)
    splits = {k: Split(images, labels) for k, (images, labels) in arrays.items()}
    found, official = {k: len(s.labels) for k, s in splits.items()}, entry.get("n_samples")
    sizes = {"official_split_sizes": dict(official)} if official and found != official else {}
    return Data(**splits, class_names=file.class_names, provenance={**file.provenance, **sizes})


@cache  # a sweep's runs share the pictures, which take seconds to draw; nobody may write to them
def _generated(size: int, seed: int) -> dict[str, Split]:
    from beitmed.data import phantom

    splits = {}
    for name, pictures in phantom.generate(size, seed).items():
        for array in pictures:
            array.flags.writeable = False
        splits[name] = Split(pictures.images, pictures.labels, masks=pictures.lesions)
    return splits


def _phantom(cfg: Config) -> Data:
    from beitmed.data import phantom

    assert cfg.dataset.phantom_seed is not None
    return Data(
        **_generated(cfg.size, cfg.dataset.phantom_seed),
        class_names=tuple(phantom.LABELS[i] for i in sorted(phantom.LABELS)),
        provenance={
            "source": "beitmed.phantom: generated images, SYNTHETIC",
            "phantom_seed": cfg.dataset.phantom_seed,
            "official": False,
        },
    )


def _folder(cfg: Config) -> Data:
    from beitmed.data import folder_data

    own = folder_data.load(cfg)
    splits = {k: Split(images, own.labels[k], own.files[k]) for k, images in own.images.items()}
    return Data(**splits, class_names=own.class_names, provenance=own.provenance)


def _limited(cfg: Config, data: Data, limit: int) -> Data:
    classes = len(data.class_names)
    return replace(
        data,
        train=first_of_each(cfg, data.train, classes),
        val=first_of_each(cfg, data.val, classes),
        test=first_of_each(cfg, data.test, classes),
        provenance={**data.provenance, "limit_per_class": limit},
    )


def first_of_each(cfg: Config, split: Split, classes: int) -> Split:
    """The first `data.limit` images of each class, and, of several labels, of those without any."""
    member = tasks.of(cfg.dataset.task).members(split.labels, classes)
    groups = [*member.T, ~member.any(axis=1)]
    kept = np.unique(np.concatenate([np.flatnonzero(g)[: cfg.data.limit] for g in groups]))
    files = None if split.files is None else tuple(split.files[i] for i in kept)
    masks = None if split.masks is None else split.masks[kept]
    return Split(split.images[kept], split.labels[kept], files, masks)
