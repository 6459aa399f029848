"""Images without labels in the form that a run was trained on, read block by block.

A file becomes an image as it does in training (`image_files`). What cannot be read is named and
left out. Of an image in colour for a run of grey images the luminance is taken (ITU-R BT.601, as
Pillow has it), which is noted; three equal channels are grey. A grey image for a run of images in
colour has its channel repeated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beitmed.data import image_files
from beitmed.data.colour import to_grey
from beitmed.data.image_files import Fit, ImageProblem, Intensity

AS_GREY = "in colour, read as grey"


@dataclass(frozen=True)
class Form:
    """What a run's images are: uint8 [size, size], or [size, size, 3] where they are in colour.

    fit, intensity, min_side: how a file becomes one, as the keys of `dataset` say it.
    refuses_colour: whether an image in colour is a problem for a run of grey images.
    """

    size: int
    colour: bool
    fit: Fit = "pad"
    intensity: Intensity = "dtype"
    min_side: int = 28
    refuses_colour: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size, self.size, 3) if self.colour else (self.size, self.size)


class Item(NamedTuple):
    """One image to be read: a file, pixels uint8 [h, w] or [h, w, 3], or why there is none."""

    name: str
    source: Path | np.ndarray | str


@dataclass(frozen=True)
class Block:
    """Consecutive images that could be read: names, images uint8 [n, *form.shape], and notes.

    notes: what was changed of an image beyond its size, or "". problems: why others that were met
    with could not be read, by name. seen: how many images were looked at.
    """

    names: tuple[str, ...]
    images: np.ndarray
    notes: tuple[str, ...]
    problems: Mapping[str, str]
    seen: int


def blocks(items: Iterable[Item], form: Form, count: int) -> Iterator[Block]:
    """Read images in their order, `count` readable ones a block and the rest in the last.

    Decoded by as many threads as there are cores; one block is held at a time.
    """
    waiting = iter(items)
    found: list[tuple[str, np.ndarray, str]] = []
    problems: dict[str, str] = {}
    seen = 0
    pool = ThreadPoolExecutor(os.cpu_count())  # never waited for, as in `ahead`
    while part := list(islice(waiting, count - len(found))):
        read = pool.map(lambda item: _read(item, form), part)
        for item, one in zip(part, read, strict=True):
            if isinstance(one, str):
                problems[item.name] = one
            else:
                found.append((item.name, *one))
        seen += len(part)
        if len(found) == count:
            yield _block(found, problems, form, seen)
            found, problems, seen = [], {}, 0
    if seen:
        yield _block(found, problems, form, seen)


def read_all(items: Iterable[Item], form: Form) -> Block:
    """All images at once, for a few of them."""
    parts = list(blocks(items, form, 256))
    return Block(
        tuple(name for part in parts for name in part.names),
        np.concatenate([np.empty((0, *form.shape), np.uint8), *(part.images for part in parts)]),
        tuple(note for part in parts for note in part.notes),
        {name: why for part in parts for name, why in part.problems.items()},
        sum(part.seen for part in parts),
    )


def _block(
    found: list[tuple[str, np.ndarray, str]], problems: dict[str, str], form: Form, seen: int
) -> Block:
    images = np.empty((len(found), *form.shape), np.uint8)
    for i, (_, image, _) in enumerate(found):
        images[i] = image
    names, notes = tuple(name for name, _, _ in found), tuple(note for _, _, note in found)
    return Block(names, images, notes, problems, seen)


def _read(item: Item, form: Form) -> tuple[np.ndarray, str] | str:
    """The image and what is noted of it, or why it cannot be used."""
    how = (form.size, form.fit, form.intensity, form.min_side)
    try:
        if isinstance(item.source, str):
            raise ImageProblem(item.source)
        if isinstance(item.source, Path):
            image = image_files.read(item.source, *how)
        else:
            image = image_files.of_array(item.source, *how)
        return _channels(image, form)
    except ImageProblem as e:
        return str(e)


def _channels(image: np.ndarray, form: Form) -> tuple[np.ndarray, str]:
    """Of uint8 [h, w, 3] the channels that the run's images have."""
    if form.colour:
        return image, ""
    if not (image[..., :1] != image[..., 1:]).any():
        return image[..., 0], ""
    if form.refuses_colour:
        raise ImageProblem("is in colour, and the run was trained on grey images")
    return to_grey(image), AS_GREY
