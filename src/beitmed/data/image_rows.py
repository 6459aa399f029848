"""One's own images, converted once and kept in the cache as rows on disk.

The entry's key is made of the files' digests and of every option that the pixels depend on. All
files are looked at before any is refused, and nothing is kept where one was.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from tqdm import tqdm

from beitmed.config import Config
from beitmed.data import image_files
from beitmed.data.folder_table import Image, refuse
from beitmed.data.image_files import ImageProblem
from beitmed.errors import UserError
from beitmed.storage import space
from beitmed.storage.rows import Rows
from beitmed.storage.store import Entry, Store, key_of

log = logging.getLogger(__name__)
_RULES = 1  # of the conversion; more than Pillow's version and the options say
_BLOCK = 64  # images between two entries of the journal
_ADVICE = "Correct them, or take them out; nothing was trained."


def rows(cfg: Config, images: Sequence[Image], digests: Sequence[str]) -> Rows:
    """uint8 [n, size, size] if all images are grey, else [n, size, size, 3], in this order.

    An image is grey if its three channels are the same after conversion. Raises UserError that
    names all files that cannot be used, and where the cache is full or cannot be written.
    """
    store = Store(cfg.cache.root)
    dataset = cfg.dataset
    content = {
        "what": "converted images",
        "files": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "size": cfg.size, "fit": dataset.fit, "intensity": dataset.intensity,
        "min_side": dataset.min_side, "rules": _RULES, "pillow": PIL.__version__,
    }  # fmt: skip
    colour, grey = (key_of({**content, "channels": n}) for n in (3, 1))
    with store.lock(colour):
        entry = store.find(grey) or store.find(colour)
        if entry is None:
            what = f"{cfg.dataset.path}: its {len(images):,} images at {cfg.size} px"
            needed = len(images) * cfg.size * cfg.size * 3
            space.reserve(cfg.cache, needed, what, "use a smaller size")
            entry = _convert(cfg, store, colour, images)
        if entry.path.name == colour and _all_grey(entry.open()):
            entry = _collapse(store, grey, entry)
        found = entry.open()
    # An entry is removed by who does not hold it.
    if entry.path.name == grey and (colours := store.find(colour)) is not None:
        store.remove(colours.path)
    return found


def problems(cfg: Config, images: Sequence[Image]) -> dict[str, str]:
    """What is wrong with each image that cannot be used, by its name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda image: _read(cfg, image), images)
        return {_title(i): r for i, r in zip(images, found, strict=True) if isinstance(r, str)}


def _title(image: Image) -> str:
    return f"{image.where}, {image.name}" if image.where else image.name


def _read(cfg: Config, image: Image) -> np.ndarray | str:
    d = cfg.dataset
    try:
        return image_files.read(image.file, cfg.size, d.fit, d.intensity, d.min_side)
    except ImageProblem as e:
        return str(e)


def _convert(cfg: Config, store: Store, key: str, images: Sequence[Image]) -> Entry:
    shape = (len(images), cfg.size, cfg.size, 3)
    title = f"{cfg.dataset.name}, {cfg.size} px"
    log.info("%s: converting %d images into %s, once.", title, len(images), store.root)

    def next_rows(start: int, stop: int) -> np.ndarray:
        found = list(pool.map(lambda image: _read(cfg, image), images[start:stop]))
        if any(isinstance(r, str) for r in found):
            # Those before this block were whole, or it would not have been asked for.
            refuse(cfg, "has images that cannot be used", problems(cfg, images[start:]), _ADVICE)
            raise UserError(f"{cfg.dataset.path}: was changed while it was read; run again.")
        return np.stack([r for r in found if not isinstance(r, str)])

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(images), unit="image", desc=title, disable=None) as bar,
    ):
        return store.fill(
            key, shape, np.dtype(np.uint8), next_rows, _BLOCK, {"title": f"images of {title}"},
            progress=lambda done: bar.update(done - bar.n),
        )  # fmt: skip


def _all_grey(images: Rows) -> bool:
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        if (block[..., :1] != block[..., 1:]).any():
            return False
    return True


def _collapse(store: Store, key: str, colour: Entry) -> Entry:
    images = colour.open()
    return store.fill(
        key, images.shape[:3], images.dtype, lambda a, b: images[a:b][..., 0], _BLOCK,
        {"title": colour.manifest["title"]}, progress=lambda done: None,
    )  # fmt: skip
