"""One's own images as a dataset: what the configuration leaves open is read off the labels.

`complete` answers what a run must know before it begins (task, classes, positive class, digest of
the content); `load` converts the images and shares them out.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beitmed import config, tasks
from beitmed.config import Config
from beitmed.data import folder_splits, folder_table, image_rows
from beitmed.data.folder_table import Image, refuse, shown
from beitmed.data.new_image_sources import NewImages
from beitmed.data.new_images import Form, Item
from beitmed.errors import UserError
from beitmed.storage import digests
from beitmed.storage.rows import Rows, Selected
from beitmed.tasks import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """By split: images, labels and which files they are; see `data.Split`."""

    images: dict[str, Rows]
    labels: dict[str, np.ndarray]
    files: dict[str, tuple[tuple[str, str, str], ...]]  # name, label, patient or ""
    class_names: tuple[str, ...]
    provenance: dict[str, Any]


def complete(cfg: Config, *, tell_positive: bool = True) -> Config:
    """The configuration with its task, classes, positive class and content filled in.

    tell_positive: whether to say which class is the positive one where nobody did. Raises
    UserError for a path, table, label or file that cannot be used, and for content that is not the
    recorded one.
    """
    shipped = {p.stem for p in (config.conf_dir() / "dataset").glob("*.yaml")} - {"folder"}
    if cfg.dataset.name in shipped:
        raise UserError(
            f"dataset.name: found {cfg.dataset.name}, which is a dataset that is shipped; give "
            "your images another name"
        )
    images = folder_table.read(cfg)
    classes, task = _classes(cfg, images)
    changes = {
        "task": task.name,
        "classes": list(classes),
        "positive_label": _positive(cfg, task, classes),
        "positive_class": None,
        "content": _content(images, _digests(cfg, images)),
    }
    if cfg.dataset.content not in (None, changes["content"]):
        raise UserError(
            f"{cfg.dataset.path}: its files, labels, splits or patients are not those that the "
            "configuration was made from (dataset.content). Restore them, name the right "
            "dataset.path, or start a new run with dataset.content=null."
        )
    values = cfg.model_dump()
    completed = config.check({**values, "dataset": {**values["dataset"], **changes}})
    if (
        tell_positive
        and task.has_positive
        and cfg.dataset.positive_class is None
        and cfg.dataset.positive_label is None
    ):
        log.warning(
            "Note: the positive class is %r, the second in order; dataset.positive_class=... "
            "names another.", shown(classes[1]),
        )  # fmt: skip
    return completed


def load(cfg: Config) -> Loaded:
    """Read the images of a completed configuration. Raises UserError that names what is wrong."""
    images, of_each, labels, names = _found(cfg)
    splits, how = folder_splits.assign(cfg, images, labels, names)
    return _loaded(cfg, images, of_each, labels, names, splits, how)


def load_all(cfg: Config) -> Loaded:
    """The same as one split, "all", in the order of the files or rows: of any number of images."""
    images, of_each, labels, names = _found(cfg)
    splits = np.full(len(images), "all")
    return _loaded(cfg, images, of_each, labels, names, splits, "none: all images")


def _found(cfg: Config) -> tuple[list[Image], list[str], np.ndarray, tuple[str, ...]]:
    """The images, the digest of each, their labels and the classes."""
    assert cfg.dataset.classes is not None and cfg.dataset.content is not None
    images = folder_table.read(cfg)
    of_each = _digests(cfg, images)
    if _content(images, of_each) != cfg.dataset.content:
        raise UserError(
            f"{cfg.dataset.path}: its files, labels, splits or patients are not those that the "
            "run was made from. Restore them, or name the right dataset.path."
        )
    names = tuple(cfg.dataset.classes)
    return images, of_each, _labels(cfg, images, names), names


def _loaded(
    cfg: Config, images: Sequence[Image], of_each: Sequence[str], labels: np.ndarray,
    names: tuple[str, ...], splits: np.ndarray, how: str,
) -> Loaded:  # fmt: skip
    # After the splits, which take a second, where this may take an hour.
    digest = hashlib.sha256("\n".join(of_each).encode()).hexdigest()
    converted = image_rows.rows(
        cfg.cache, cfg.dataset.name, _items(images), digest, _form(cfg),
        lambda problems: _refuse(cfg, problems),
    )  # fmt: skip
    members = {name: np.flatnonzero(splits == name) for name in (*folder_splits.SPLITS, "all")}
    members = {name: chosen for name, chosen in members.items() if len(chosen)}
    return Loaded(
        images={name: Selected(converted, chosen) for name, chosen in members.items()},
        labels={name: labels[chosen] for name, chosen in members.items()},
        files={
            name: tuple((shown(images[i].name), images[i].label, images[i].patient or "")
                        for i in chosen.tolist())
            for name, chosen in members.items()
        },
        class_names=names,
        provenance=_provenance(cfg, images, splits, how, converted.shape),
    )  # fmt: skip


def _provenance(
    cfg: Config, images: Sequence[Image], splits: np.ndarray, how: str, shape: tuple[int, ...]
) -> dict[str, Any]:
    dataset, path = cfg.dataset, Path(cfg.dataset.path or "").expanduser().resolve()
    known = images[0].patient is not None
    drawn = "drawn" in how
    return {
        "source": shown(path.name),
        "own_images": len(images),
        "sha256": dataset.content,
        "official": False,
        "patients": len({image.patient for image in images}) if known else None,
        "splits": how,
        "splits_sha256": hashlib.sha256("\n".join(splits.tolist()).encode()).hexdigest(),
        **({"split_seed": dataset.split_seed, "fractions": dataset.fractions} if drawn else {}),
        "colour": len(shape) == 4,
        "fit": dataset.fit,
        "intensity": dataset.intensity,
    }


def _digests(cfg: Config, images: Sequence[Image]) -> list[str]:
    found, unreadable = [], False
    for image in images:
        try:
            unreadable = unreadable or image.file.stat().st_size == 0
            found.append(digests.sha256(image.file))
        except (OSError, ValueError):  # ValueError: a NUL in a table's path
            unreadable = True
    if unreadable:  # then all that is wrong is looked for, to be told at once
        _refuse(cfg, image_rows.problems(_items(images), _form(cfg)))
        raise UserError(f"{cfg.dataset.path}: was changed while it was read; run again.")
    return found


def _refuse(cfg: Config, problems: Mapping[str, str]) -> None:
    advice = "Correct them, or take them out; nothing was trained."
    refuse(cfg, "has images that cannot be used", problems, advice)


def _items(images: Sequence[Image]) -> NewImages:
    return NewImages(
        [[Item(f"{i.where}, {i.name}" if i.where else i.name, i.file) for i in images]]
    )


def _form(cfg: Config) -> Form:
    dataset = cfg.dataset
    return Form(cfg.size, True, dataset.fit, dataset.intensity, dataset.min_side)


def _content(images: Sequence[Image], of_each: Sequence[str]) -> str:
    """What a result depends on of the files and the table, in order."""
    digest = hashlib.sha256()
    for image, sha256 in zip(images, of_each, strict=True):
        row = [shown(image.name), sha256, image.label, image.split, image.patient]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _of(cfg: Config, image: Image, several: bool) -> list[str]:
    """The labels of an image: one, or several or none."""
    if not several:
        return [image.label]
    if image.label == cfg.dataset.none_label:
        return []
    return [part.strip() for part in image.label.split(cfg.dataset.separator)]


def _classes(cfg: Config, images: Sequence[Image]) -> tuple[tuple[str, ...], Task]:
    dataset, table = cfg.dataset, images[0].where != ""
    marked = table and any(dataset.separator in image.label for image in images)
    given = tasks.TASKS.get(dataset.task)  # None of "auto"
    several = marked if given is None else given.several_labels
    if several and not table:
        raise UserError(
            f"dataset.task: found {dataset.task}, which needs a table, not class folders"
        )
    found = {label for image in images for label in _of(cfg, image, several)}
    numbers = all(label.isdecimal() for label in found)
    ordered = sorted(found, key=lambda label: (int(label) if numbers else 0, label))
    classes = tuple(dataset.classes or ordered)
    _check_known(cfg, images, classes, several)
    if absent := [shown(c) for c in classes if c not in found]:
        raise UserError(f"dataset.classes: no image is of {', '.join(absent)}; take it out")
    task = given or tasks.inferred(several, len(classes))
    if task is None or not task.allows(len(classes)):
        needed = "every task needs 2 or more" if task is None else task.classes_needed
        raise UserError(
            f"{dataset.path}: has {len(classes)} classes ({', '.join(map(shown, classes))[:200]}); "
            f"{needed}"
        )
    return classes, task


def _check_known(
    cfg: Config, images: Sequence[Image], classes: Sequence[str], several: bool
) -> None:
    if len(set(classes)) < len(classes):
        raise UserError(f"dataset.classes: found {list(classes)}; allowed: each class once")
    wrong = {
        f"{image.where}, {image.name}" if image.where else image.name: "is labelled "
        + (", ".join(repr(shown(label)) for label in unknown))
        for image in images
        if (unknown := [label for label in _of(cfg, image, several) if label not in classes
                        or not label])
    }  # fmt: skip
    names = ", ".join(shown(c) for c in classes[:50])
    refuse(cfg, "has labels that are no class", wrong, f"Allowed: {names} (dataset.classes).")


def _positive(cfg: Config, task: Task, classes: Sequence[str]) -> int | None:
    label, name = cfg.dataset.positive_label, cfg.dataset.positive_class
    if not task.has_positive:
        if label is not None or name is not None:
            raise UserError(
                f"dataset.positive_{'label' if name is None else 'class'}: is of two classes only, "
                f"and these images have {len(classes)} (task {task.name}); allowed: null"
            )
        return None
    if name is None:
        return 1 if label is None else label
    if str(name) not in classes or label not in (None, classes.index(str(name))):
        beside = "" if label is None else f" beside dataset.positive_label={label}"
        raise UserError(
            f"dataset.positive_class: found {name!r}{beside}; allowed: "
            f"{' or '.join(map(shown, classes))}, in this order 0 and 1"
        )
    return classes.index(str(name))


def _labels(cfg: Config, images: Sequence[Image], classes: Sequence[str]) -> np.ndarray:
    """int64 [n], or [n, labels] of 0 and 1."""
    index = {name: i for i, name in enumerate(classes)}
    task = tasks.of(cfg.dataset.task)
    of_each = [[index[label] for label in _of(cfg, i, task.several_labels)] for i in images]
    return task.encoded(of_each, len(classes))
