"""What is learnt from: images of datasets without their labels, and one's own without any.

The test split of a dataset is never among them. What is held out is looked at and not learnt from:
a dataset's val split, or, where that is learnt from too or is not there, a share of the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from beitmed import config, data
from beitmed.config import Config, PretrainRun
from beitmed.data import Data, Split, image_rows, medmnist_files, new_image_sources
from beitmed.data.folder_table import refuse_all, shown
from beitmed.data.new_image_sources import NewImages
from beitmed.data.new_images import Form
from beitmed.errors import UserError
from beitmed.storage import digests
from beitmed.storage.rows import Joined, Rows, Selected

_HELD_AT_MOST = 1000  # images of a set that are looked at


@dataclass(frozen=True)
class Labelled:
    """What a probe of the features reads: labels of train and val, and of which dataset."""

    cfg: Config
    train: Split
    val: Split
    classes: int


@dataclass(frozen=True)
class Source:
    """One set. images, held: to learn from and to look at, uint8 [n, s, s] or [n, s, s, 3].

    flip: whether mirror images are allowed. weight: how often an image is seen in an epoch.
    facts: JSON values for `data.json` and the card.
    """

    name: str
    images: Rows | np.ndarray
    held: Rows | np.ndarray
    flip: bool
    weight: float
    facts: dict[str, Any] = field(default_factory=dict)
    labelled: Labelled | None = None


@dataclass(frozen=True)
class Pool:
    """The images of several sets under one count, in colour if one of the sets is."""

    parts: Sequence[Rows | np.ndarray]

    def __len__(self) -> int:
        return int(self.ends[-1])

    @cached_property
    def ends(self) -> np.ndarray:
        return np.cumsum([len(part) for part in self.parts])

    @cached_property
    def channels(self) -> int:
        return 3 if any(len(part.shape) == 4 for part in self.parts) else 1

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Which set each image is of."""
        return np.searchsorted(self.ends, indices, side="right")

    def take(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 [n, channels, s, s]."""
        side = self.parts[0].shape[1]
        found = np.empty((len(indices), self.channels, side, side), np.uint8)
        which = self.of(indices)
        for i in np.unique(which):
            at = np.flatnonzero(which == i)
            rows = self.parts[i][indices[at] - (self.ends[i] - len(self.parts[i]))]
            found[at] = rows[:, None] if rows.ndim == 3 else rows.transpose(0, 3, 1, 2)
        return torch.from_numpy(found)


def complete(cfg: PretrainRun) -> PretrainRun:
    """The configuration with what only the files say: what one's own images are.

    Raises UserError for a dataset that is not shipped, and for images that are not there.
    """
    for name in cfg.pretrain.datasets or ():
        _values(name)
    if cfg.reads_dataset:
        dataset = data.complete(cfg.of_dataset(cfg.dataset.model_dump())).dataset
        return cfg.model_copy(update={"dataset": dataset})
    if cfg.pretrain.images is None:
        return cfg
    digest = hashlib.sha256()
    for item in _items(cfg.pretrain.images):
        # In the order of their names, which themselves say where the images lie.
        if isinstance(item.source, np.ndarray):
            digest.update(repr(item.source.shape).encode())
            digest.update(np.ascontiguousarray(item.source).data)
        elif isinstance(item.source, Path) and item.source.is_file():
            digest.update(digests.sha256(item.source).encode())
    found = digest.hexdigest()
    if cfg.pretrain.content not in (None, found):
        raise UserError(
            f"pretrain.images: {cfg.pretrain.images} does not hold the images that were recorded "
            "(pretrain.content). Restore them, or set pretrain.content=null for a new run."
        )
    return cfg.model_copy(update={"pretrain": cfg.pretrain.model_copy(update={"content": found})})


def load(cfg: PretrainRun) -> list[Source]:
    """Every set of a completed configuration, read. Raises UserError where one has too few."""
    found = []
    for i, name in enumerate(cfg.sets):
        weight = 1.0 if cfg.pretrain.weights is None else cfg.pretrain.weights[i]
        if name == "images":
            found.append(_unlabelled(cfg, weight))
        else:
            values = cfg.dataset.model_dump() if cfg.reads_dataset else _values(name)
            found.append(_of_dataset(cfg, values, weight))
    for source in found:
        if not len(source.images) or not len(source.held):
            count = len(source.images) + len(source.held)
            raise UserError(
                f"pretrain: {source.facts['set']} has {count} images; one to learn from and one to "
                "look at are the least. Give more."
            )
    return found


def _values(name: str) -> dict[str, Any]:
    """The values of a shipped dataset, as its YAML has them."""
    folder = config.conf_dir() / "dataset"
    known = sorted(p.stem for p in folder.glob("*.yaml") if p.stem != "folder")
    if name not in known:
        raise UserError(
            f"pretrain.datasets: found {name!r}; allowed: {', '.join(known)} (your own images: "
            "dataset=folder, or pretrain.images=FOLDER)"
        )
    values: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def _of_dataset(cfg: PretrainRun, values: dict[str, Any], weight: float) -> Source:
    read = cfg.of_dataset(values)
    loaded = data.load(read)
    train, val = loaded.train.images, loaded.val.images
    if cfg.pretrain.val:
        images, held = _held_out(cfg, _together(train, val))
        said = "train and val"
    else:
        images, held = train, val[: min(len(val), _HELD_AT_MOST)]
        said = "train"
    flip = read.dataset.flip if cfg.pretrain.flip is None else cfg.pretrain.flip
    return Source(
        read.dataset.name, images, held, flip, weight,
        {
            **_known(loaded), "set": read.dataset.name, "splits": said, "images": len(images),
            "held_out": len(held), "flip": flip, "licence": _licence(read),
            "synthetic": read.dataset.synthetic,
        },
        Labelled(read, loaded.train, loaded.val, len(loaded.class_names)),
    )  # fmt: skip


def _known(loaded: Data) -> dict[str, Any]:
    return {
        **loaded.provenance,
        "digests": {"train": loaded.train.digest, "val": loaded.val.digest},
    }


def _licence(cfg: Config) -> str:
    if cfg.dataset.flag is None:
        return "this package's own" if cfg.dataset.synthetic else "not stated"
    return str(medmnist_files.info(cfg.dataset.flag).get("license", "not stated"))


def _items(given: str) -> NewImages:
    return new_image_sources.find([Path(given)], split="train")


def _unlabelled(cfg: PretrainRun, weight: float) -> Source:
    given = str(cfg.pretrain.images)
    assert cfg.pretrain.content is not None
    images = image_rows.rows(
        cfg.cache, shown(Path(given).name), _items(given), cfg.pretrain.content,
        Form(cfg.size, True, cfg.pretrain.fit, cfg.pretrain.levels),
        lambda problems: refuse_all(
            cfg.output_dir, "images", f"pretrain.images: {given} has images that cannot be used",
            problems, "Correct them, or take them out; nothing was learnt.",
        ),
    )  # fmt: skip
    learnt, held = _held_out(cfg, images)
    flip = bool(cfg.pretrain.flip)
    return Source("images", learnt, held, flip, weight, {
        "set": shown(Path(given).name), "splits": "all", "images": len(learnt),
        "held_out": len(held), "flip": flip, "licence": "not stated",
        "sha256": cfg.pretrain.content, "synthetic": False,
    })  # fmt: skip


def _together(train: Rows | np.ndarray, val: Rows | np.ndarray) -> Rows | np.ndarray:
    if isinstance(train, np.ndarray) and isinstance(val, np.ndarray):
        return np.concatenate([train, val])
    return Joined([train, val])


def _held_out(
    cfg: PretrainRun, images: Rows | np.ndarray
) -> tuple[Rows | np.ndarray, Rows | np.ndarray]:
    """Images to learn from, and a share of them, drawn by the seed, to look at."""
    n = len(images)
    wanted = min(_HELD_AT_MOST, max(1, round(cfg.pretrain.held_out * n)), max(n - 1, 0))
    order = np.random.default_rng([cfg.seed, 0]).permutation(n)
    held, kept = np.sort(order[:wanted]), np.sort(order[wanted:])
    if isinstance(images, np.ndarray):
        return images[kept], images[held]
    return Selected(images, kept), Selected(images, held)
