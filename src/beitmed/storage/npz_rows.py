"""Arrays of a `.npz` archive that are too large for memory, as rows on disk.

An array that the archive stores as it is (`np.savez`) is read where it lies. A compressed one is
unpacked once, block by block, into the cache, where every later run finds it. Nothing is unpickled.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from beitmed.config import CacheConfig
from beitmed.storage import space
from beitmed.storage.rows import Rows
from beitmed.storage.store import Store, key_of

_AT_ONCE = 1 << 22  # bytes that are unpacked, or checked, at a time
log = logging.getLogger(__name__)


class Header(NamedTuple):
    """What an array's first bytes say about it, and how many they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int


def header(archive: zipfile.ZipFile, name: str) -> Header:
    """The header of the array `name`. ValueError for what is no array in C order."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
        if fortran and len(shape) > 1:
            raise ValueError(f"{name} is stored column by column")
        return Header(shape, dtype, member.tell())


def require_space(cache: CacheConfig, path: Path, found: dict[str, Header], md5: str) -> None:
    """Raise UserError if what is still to be unpacked of these arrays does not fit the cache."""
    store = Store(cache.root)
    with zipfile.ZipFile(path) as archive:
        needed = sum(
            archive.getinfo(f"{name}.npy").file_size
            for name in found
            if not _stored(archive, name) and not store.has(_key(md5, name))
        )
    what = f"{path}: its images are compressed, and unpacked they"
    space.reserve(cache, needed, what, "use a smaller size")
    if needed:
        log.info("%s: unpacking %.2f GB into %s, once.", path.name, needed / 1e9, store.root)


def rows(path: Path, name: str, found: Header, cache: CacheConfig, md5: str) -> Rows:
    """The array `name` of the archive at `path`, whose MD5 is known, without holding it.

    Its checksum is verified. Raises what zipfile and zlib raise for a damaged archive, and
    UserError where the cache cannot be written or the disk is full.
    """
    with zipfile.ZipFile(path) as archive:
        if _stored(archive, name):
            with archive.open(f"{name}.npy") as member:
                while member.read(_AT_ONCE):  # compares the checksum at the end
                    pass
            return Rows(path, found.shape, found.dtype, _start(archive, name) + found.length)
        store, key = Store(cache.root), _key(md5, name)
        with store.lock(key):
            entry = store.find(key)
            if entry is None:
                with archive.open(f"{name}.npy") as member:
                    entry = _unpack(store, key, f"{path.name}, {name}", member, found)
    return entry.open()


def _key(md5: str, name: str) -> str:
    return key_of({"what": "array of an archive", "md5": md5, "name": name})


def _stored(archive: zipfile.ZipFile, name: str) -> bool:
    return archive.getinfo(f"{name}.npy").compress_type == zipfile.ZIP_STORED


def _start(archive: zipfile.ZipFile, name: str) -> int:
    """Where the bytes of a stored member begin: behind its own copy of name and extra field."""
    info = archive.getinfo(f"{name}.npy")
    with Path(str(archive.filename)).open("rb") as f:
        f.seek(info.header_offset + 26)
        lengths = f.read(4)
    return (
        info.header_offset
        + 30
        + int.from_bytes(lengths[:2], "little")
        + int.from_bytes(lengths[2:], "little")
    )


def _unpack(store: Store, key: str, title: str, member: IO[bytes], found: Header) -> Any:
    row_bytes = max(1, int(np.prod(found.shape[1:])) * found.dtype.itemsize)
    _skip(member, found.length)
    at = 0

    def next_rows(start: int, stop: int) -> np.ndarray:
        nonlocal at
        _skip(member, (start - at) * row_bytes)  # what an interrupted process had unpacked
        at = stop
        raw = member.read((stop - start) * row_bytes)
        if len(raw) < (stop - start) * row_bytes or (stop == found.shape[0] and member.read(1)):
            raise zipfile.BadZipFile(f"{title}: not as long as its header says")
        return np.frombuffer(raw, found.dtype).reshape(stop - start, *found.shape[1:])

    try:
        with tqdm(total=found.shape[0], unit="image", desc=title, disable=None) as bar:
            return store.fill(
                key, found.shape, found.dtype, next_rows, max(1, _AT_ONCE // row_bytes),
                {"title": title}, progress=lambda done: bar.update(done - bar.n),
            )  # fmt: skip
    except Exception:
        # Not to be gone on from, unlike what a killed process leaves: the archive itself is bad.
        shutil.rmtree(store.root / f"{key}.partial", ignore_errors=True)
        raise


def _skip(member: IO[bytes], count: int) -> None:
    while count > 0:
        got = len(member.read(min(count, _AT_ONCE)))
        if not got:
            raise zipfile.BadZipFile("ends early")
        count -= got
