"""Images from files, converted once and kept in the cache as rows on disk.

The entry's key is made of the files' digests and of every option that the pixels depend on. All
files are looked at before any is refused, and nothing is kept where one was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import chain, islice

import numpy as np
import PIL
from tqdm import tqdm

from beitmed.config import CacheConfig
from beitmed.data import new_images
from beitmed.data.new_image_sources import NewImages
from beitmed.data.new_images import Form
from beitmed.errors import UserError
from beitmed.storage import space
from beitmed.storage.rows import Rows
from beitmed.storage.store import Entry, Store, key_of

log = logging.getLogger(__name__)
_RULES = 1  # of the conversion; more than Pillow's version and the options say
_BLOCK = 64  # images between two entries of the journal
Refuse = Callable[[Mapping[str, str]], None]


def rows(
    cache: CacheConfig, name: str, items: NewImages, digest: str, form: Form, refuse: Refuse
) -> Rows:
    """uint8 [n, size, size] if all images are grey, else [n, size, size, 3], in this order.

    An image is grey if its three channels are the same after conversion. name: what the images are
    called. digest: of all files in this order. form: in colour. refuse: raises UserError for what
    is wrong with each image that cannot be used, by its name. Raises UserError, too, where the
    cache is full or cannot be written.
    """
    store = Store(cache.root)
    content = {
        "what": "converted images", "files": digest, "size": form.size, "fit": form.fit,
        "intensity": form.intensity, "min_side": form.min_side, "rules": _RULES,
        "pillow": PIL.__version__,
    }  # fmt: skip
    colour, grey = (key_of({**content, "channels": n}) for n in (3, 1))
    with store.lock(colour):
        entry = store.find(grey) or store.find(colour)
        if entry is None:
            what = f"{name}: its {len(items):,} images at {form.size} px"
            space.reserve(cache, len(items) * form.size**2 * 3, what, "use a smaller size")
            entry = _convert(store, colour, name, items, form, refuse)
        if entry.path.name == colour and _all_grey(entry.open()):
            entry = _collapse(store, grey, entry)
        found = entry.open()
    # An entry is removed by who does not hold it.
    if entry.path.name == grey and (colours := store.find(colour)) is not None:
        store.remove(colours.path)
    return found


def problems(items: NewImages, form: Form) -> dict[str, str]:
    """What is wrong with each image that cannot be used, by its name."""
    blocks = new_images.blocks(items, form, _BLOCK)
    return {name: why for block in blocks for name, why in block.problems.items()}


def _convert(
    store: Store, key: str, name: str, items: NewImages, form: Form, refuse: Refuse
) -> Entry:
    title = f"{name}, {form.size} px"
    log.info("%s: converting %d images into %s, once.", title, len(items), store.root)
    blocks = None

    def next_rows(start: int, stop: int) -> np.ndarray:
        nonlocal blocks
        if blocks is None:  # behind what an interrupted process had converted
            blocks = new_images.blocks(islice(items, start, None), form, _BLOCK)
        block = next(blocks, None)
        if block is None or block.seen != stop - start or block.problems:
            # Those before this block were whole, or it would not have been asked for.
            left = blocks if block is None else chain([block], blocks)
            refuse({n: why for one in left for n, why in one.problems.items()})
            raise UserError(f"{name}: was changed while it was read; run again.")
        return block.images

    with tqdm(total=len(items), unit="image", desc=title, disable=None) as bar:
        return store.fill(
            key, (len(items), *form.shape), np.dtype(np.uint8), next_rows, _BLOCK,
            {"title": f"images of {title}"}, progress=lambda done: bar.update(done - bar.n),
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
