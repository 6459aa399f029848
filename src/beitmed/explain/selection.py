"""Which images: some of a split, or new ones; and those that the methods are tested on."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass

import numpy as np

from beitmed.data import new_image_sources, new_images
from beitmed.data.splits import Split
from beitmed.errors import UserError
from beitmed.explain.choice import MOST_IMAGES, Choice
from beitmed.trained import Trained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selected:
    """Images uint8 [n, h, w(, 3)] to be explained.

    names: by what each is called; stems: the same for files; chosen: how they were, as a part of
    a sentence; indices and labels: in the split and of it, None of new images.
    """

    images: np.ndarray
    names: tuple[str, ...]
    stems: tuple[str, ...]
    chosen: str
    indices: np.ndarray | None = None
    labels: np.ndarray | None = None


def check(choice: Choice, found: Trained) -> None:
    """Raise UserError where the choice is not in the run, as far as its folder can tell."""
    if not choice.new and choice.split in found.predictions:
        _indices(choice, found, found.predictions[choice.split].labels)


def select(choice: Choice, found: Trained) -> Selected:
    """The images that the choice names. Raises UserError where they are not there."""
    if choice.new:
        return _new(choice, found)
    split = found.data.splits[choice.split]
    indices, chosen = _indices(choice, found, split.labels)
    return Selected(
        np.asarray(split.images[indices]),
        tuple(f"{choice.split} {i}" for i in indices),
        tuple(f"{choice.split}{i:05d}" for i in indices),
        f"images of the {choice.split} split ({chosen})",
        indices,
        split.labels[indices],
    )


def tested(choice: Choice, found: Trained) -> np.ndarray:
    """Indices of the split's images to test methods on: the first of each class, as many of each
    as there are.
    """
    labels = found.data.splits[choice.split].labels
    members = found.task.members(labels, len(found.class_names))
    of_each = -(-choice.count // members.shape[1])
    first = [np.flatnonzero(member)[:of_each] for member in members.T]
    return np.unique(np.concatenate(first))[: choice.count]


def masks(choice: Choice, split: Split) -> np.ndarray | None:
    """Where what decides is known to be, bool [n, h, w] of a split; None where that is unknown."""
    if choice.masks is None:
        return split.masks
    name, file = f"{choice.split}_masks", choice.masks
    try:
        with np.load(file, allow_pickle=False) as archive:
            if name not in archive.files:
                raise ValueError(f"it has no array {name}, but {', '.join(archive.files)}")
            found = archive[name]
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as e:
        raise UserError(
            f"masks: {file} cannot be read ({e}); give an archive (.npz) with an array {name}, "
            "0 outside and 1 inside."
        ) from e
    if found.shape != (wanted := split.images.shape[:3]):
        raise UserError(
            f"masks: {file}: {name} has the shape {found.shape}, but the images {wanted}; give one "
            "mask an image, in their order and size."
        )
    return found > 0


def _new(choice: Choice, found: Trained) -> Selected:
    items = new_image_sources.find(choice.new, split=choice.split)
    if len(items) > MOST_IMAGES:
        raise _too_many(f"{len(items)} images are given")
    read = new_images.read_all(items, found.form)
    for name, why in read.problems.items():
        log.warning("Not explained: %s: %s", name, why)
    if not read.names:
        raise UserError("none of the images can be read; give some that can.")
    return Selected(
        read.images,
        read.names,
        tuple(f"new{i:05d}" for i in range(len(read.names))),
        "new images, without labels",
    )


def _indices(choice: Choice, found: Trained, labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Indices of the chosen images, and how they were chosen."""
    kind, colon, number = choice.images.partition(":")
    if not colon:
        indices = np.array(list(dict.fromkeys(int(i) for i in choice.images.split(","))))
        if (outside := indices[indices >= len(labels)]).size:
            raise UserError(
                f"images: found {outside[0]}, but {choice.split} has {len(labels)} images; "
                f"allowed: 0 to {len(labels) - 1}"
            )
        how = "named by index"
    elif kind == "each":
        members = found.task.members(labels, len(found.class_names))
        first = [np.flatnonzero(member)[: int(number)] for member in members.T]
        indices = np.array(list(dict.fromkeys(np.concatenate(first).tolist())))
        how = f"the first {number} of each class"
    else:
        indices = _errors(choice, found)[: int(number)]
        how = f"the {len(indices)} errors that the run was most sure of"
    if len(indices) > MOST_IMAGES:
        raise _too_many(f"{choice.images} means {len(indices)} images")
    return indices, how


def _too_many(found: str) -> UserError:
    return UserError(f"images: {found}; allowed: at most {MOST_IMAGES} in one command")


def _errors(choice: Choice, found: Trained) -> np.ndarray:
    """The run's errors, by falling margin of the predicted class over the right one."""
    if found.task.several_labels:
        raise UserError(
            f"images: found {choice.images}, but an image of {found.cfg.dataset.name} has several "
            "labels, of which some may be right; allowed: indices, or each:N"
        )
    if choice.split not in found.predictions:
        raise UserError(
            f"images: found {choice.images} with split={choice.split}, of which the run keeps no "
            f"predictions; allowed: split={' or '.join(found.predictions)}, or indices, or each:N"
        )
    labels, logits = found.predictions[choice.split].labels, found.predictions[choice.split].logits
    margin = logits.max(1) - logits[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    if not wrong.size:
        raise UserError(
            f"images: found {choice.images}, but the run makes no error in {choice.split}; "
            "allowed here: indices, or each:N"
        )
    return wrong[np.argsort(-margin[wrong], kind="stable")]
