"""The cases of an external test: a dataset's images and labels in a run's own form and classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beitmed import data, tasks
from beitmed.config import Config
from beitmed.data import Split, colour, folder_table, medmnist_files
from beitmed.errors import UserError
from beitmed.external import classes
from beitmed.external.classes import Matched
from beitmed.runs import caveats
from beitmed.trained import Trained

log = logging.getLogger(__name__)
SPLITS = ("all", "train", "val", "test")


@dataclass(frozen=True)
class Cases:
    """What a run is tested on.

    split: labels are of the run's classes, images of its size and mode. part: the dataset's split,
    or "all". matched: the dataset's classes that count as each of the run's. left_out: labels that
    the run does not know. converted: what was done to the images, or None. subgroups: of each
    column the value of each image. caveats: what must be said of these data.
    """

    cfg: Config
    part: str
    split: Split
    matched: Matched
    left_out: tuple[str, ...]
    converted: str | None
    provenance: Mapping[str, Any]
    subgroups: Mapping[str, Sequence[str]]
    caveats: Sequence[str]

    @property
    def name(self) -> str:
        return self.cfg.dataset.name

    @property
    def groups(self) -> np.ndarray | None:
        """The patient of each image, None where patients are not known."""
        return None if self.split.groups is None else np.asarray(self.split.groups)

    def __len__(self) -> int:
        return len(self.split.labels)


def read(
    found: Trained, cfg: Config, stated: Mapping[str, tuple[str, ...]], part: str | None
) -> Cases:
    """Read a dataset as cases for a run; part: one of `SPLITS`, or None for what is usual.

    That is the whole dataset, or, of the run's own dataset, its test split. Raises UserError where
    the classes or the images are not such as the run was trained on, and for images that it was
    trained on or chosen by.
    """
    cfg = data.complete(cfg, tell_positive=False)  # it is the run's
    _check_task(found, cfg)
    if (names := _names(cfg)) is not None:  # before the images are read
        _match(found, cfg, names, stated)
    part, split, names, provenance = _part(found, cfg, part)
    matched = _match(found, cfg, names, stated)
    labels = classes.relabelled(split.labels, names, matched)
    images, converted = _as_trained(found, split.images)
    used = {to for targets in matched for to in targets}
    return Cases(
        cfg=cfg,
        part=part,
        split=Split(images, labels, split.files),
        matched=matched,
        left_out=tuple(name for name in names if name not in used),
        converted=converted,
        provenance=provenance,
        subgroups=_subgroups(cfg, split),
        caveats=caveats.of(cfg, provenance),
    )


def _check_task(found: Trained, cfg: Config) -> None:
    run, own = found.task, cfg.dataset.task
    if run.several_labels != tasks.of(own).several_labels:
        raise UserError(
            f"dataset: {cfg.dataset.name} has task {own}, but {found.run.path.name} was trained "
            f"for task {run.name}; allowed: images with "
            f"{'several labels each' if run.several_labels else 'one label each'}."
        )


def _names(cfg: Config) -> tuple[str, ...] | None:
    """The dataset's classes as far as they are known without its images."""
    if cfg.dataset.own:
        return tuple(cfg.dataset.classes or ())
    if cfg.dataset.flag is None:
        return None
    labels = medmnist_files.entry_of(cfg.dataset)["label"]
    return tuple(labels[str(i)] for i in range(len(labels)))


def _match(
    found: Trained, cfg: Config, names: Sequence[str], stated: Mapping[str, tuple[str, ...]]
) -> Matched:
    several = found.task.several_labels
    return classes.match(
        found.class_names, names, stated, name=cfg.dataset.name, several_labels=several
    )


def _part(
    found: Trained, cfg: Config, part: str | None
) -> tuple[str, Split, tuple[str, ...], Mapping[str, Any]]:
    """The split, the dataset's classes and provenance, as one demands of external data."""
    own, whole = found.run.data, part in (None, "all")
    if cfg.dataset.own and own.get("sha256") == cfg.dataset.content:
        loaded = found.data  # in the splits that the run had
    elif cfg.dataset.own and whole:
        return "all", *data.load_all(cfg)
    else:
        loaded = data.load(cfg)
    if loaded.train.digest != own["digests"]["train"]:
        split = data.joined(loaded) if whole else loaded.splits[part or ""]
        return part or "all", split, loaded.class_names, loaded.provenance
    if part not in (None, "test"):
        raise UserError(
            f"split: found {part}, but {cfg.dataset.name} is the very dataset that "
            f"{found.run.path.name} was trained on; allowed: split=test, or another dataset."
        )
    if part is None:
        log.warning(
            "Note: %s is the dataset that the run was trained on, so only its test split is used.",
            cfg.dataset.name,
        )
    return "test", loaded.test, loaded.class_names, loaded.provenance


def _as_trained(found: Trained, images: Any) -> tuple[Any, str | None]:
    """The images in the mode that the run was trained on, and what was done to them."""
    wanted, given = found.form.colour, colour.is_colour(images)
    if wanted == given:
        return images, None
    if wanted:
        return colour.Converted(images), "grey images, repeated as red, green and blue"
    coloured = colour.really_coloured(images)
    said = "stored in colour, but grey, and taken as such"
    if coloured:
        said = f"{coloured:,} of {len(images):,} images are really coloured: their luminance"
        log.warning("Note: the run was trained on grey images; %s is used.", said)
    return colour.Converted(images), said


def _subgroups(cfg: Config, split: Split) -> dict[str, list[str]]:
    """The columns of `dataset.columns.subgroups`, a value an image, "" where the table has none."""
    wanted = cfg.dataset.columns.subgroups
    if not wanted or split.files is None:
        return {}
    known = {folder_table.shown(i.name): i.subgroups for i in folder_table.read(cfg)}
    rows = [known[file] for file, _, _ in split.files]
    return {column: [row[i] for row in rows] for i, column in enumerate(wanted)}
