"""Arrays on disk, found by what they were computed from: fill once, read by rows, never half.

An entry is a folder `<key>/` with `rows.bin` (the rows, one after the other) and `manifest.json`.
It is filled under another name and renamed when it is complete, so what stands under its key is
whole. Every block of rows has its SHA-256 in a journal: an interrupted fill goes on after its last
whole block, and a damaged entry is found when it is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beitmed.errors import UserError, disk_error
from beitmed.storage import locks
from beitmed.storage.rows import Rows

log = logging.getLogger(__name__)
FORMAT = 1
_ROWS, _MANIFEST, _JOURNAL, _USED = "rows.bin", "manifest.json", "journal.jsonl", "last_used"
_READ_AT_ONCE, _HASHED_TOGETHER = 1 << 21, 8  # bytes, and threads; while an entry is verified
_FLUSHED_TOGETHER = 1 << 27  # bytes; while one is filled
Fill = Callable[[int, int], np.ndarray]  # rows from start to stop


def key_of(content: Mapping[str, Any]) -> str:
    """The name of what is computed from `content`, which must say everything that it depends on."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """A complete entry: `shape` [n, ...] of `dtype`, read by rows and never held as a whole."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.manifest["shape"])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.manifest["dtype"])

    def open(self) -> Rows:
        return Rows(self.path / _ROWS, self.shape, self.dtype)


class Target(NamedTuple):
    """An entry to be filled: its key, its form, and what its manifest says besides."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    manifest: Mapping[str, Any]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize


class Listed(NamedTuple):
    """An entry as it is listed; the manifest is {} where it is not complete."""

    path: Path
    manifest: Mapping[str, Any]
    size: int  # bytes
    last_used: float  # seconds since the epoch


class Store:
    """All entries below one folder. Safe against other processes that fill and read."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written here: on a medium of that kind, or another's folder."""
        by_effect = os.access in os.supports_effective_ids
        return self.root.is_dir() and not os.access(self.root, os.W_OK, effective_ids=by_effect)

    def find(self, key: str) -> Entry | None:
        """The entry of this key if it is there; a damaged one is removed, which is said.

        Raises UserError for a damaged one that cannot be removed.
        """
        path = self.root / key
        if not path.is_dir():
            return None
        problem = _problem(path)
        if problem is None:
            with contextlib.suppress(OSError):  # a cache that can only be read, or another's entry
                (path / _USED).touch()  # which takes no space
            return Entry(path, json.loads((path / _MANIFEST).read_text()))
        if self.read_only:
            raise UserError(
                f"{path}: {problem}, and this cache can only be read. Restore the entry, or give "
                "another cache.root."
            )
        log.warning("%s: %s; it is removed and computed again.", path, problem)
        shutil.rmtree(path)
        return None

    def known(self, key: str) -> Entry:
        """The entry of a key that another process of the same run has found whole just now.

        Raises UserError where it was removed meanwhile.
        """
        try:
            return Entry(self.root / key, json.loads((self.root / key / _MANIFEST).read_text()))
        except OSError as e:
            raise UserError(
                f"{self.root / key}: was removed while it was in use. Run the command again."
            ) from e

    def has(self, key: str) -> bool:
        """Whether an entry stands under this key; it is not verified."""
        return (self.root / key / _MANIFEST).is_file()

    def fill(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        rows_from: Fill,
        block: int,
        manifest: Mapping[str, Any],
        progress: Callable[[int], None],
    ) -> Entry:
        """Compute and publish an entry; as `fill_together`, whose contract it has, with one."""
        target = Target(key, shape, dtype, manifest)
        return self.fill_together([target], lambda a, b: [rows_from(a, b)], block, progress)[0]

    def fill_together(
        self,
        targets: Sequence[Target],
        rows_from: Callable[[int, int], Sequence[np.ndarray]],
        block: int,
        progress: Callable[[int], None],
    ) -> list[Entry]:
        """Compute and publish entries of equally many rows, which one computation gives.

        rows_from(start, stop) gives rows [stop - start, ...] of each target, and is asked for
        `block` rows at a time; progress is told how many are done. What an interrupted process had
        filled of all of them is not computed again. Call it under `lock` of each key. Raises
        UserError if the disk is full or cannot be written; what was filled is then removed, as it
        is after a UserError of `rows_from`.
        """
        partials = [self.root / f"{target.key}.partial" for target in targets]
        try:
            for partial in partials:
                partial.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as files:
                growing = [
                    files.enter_context(_Growing(partial, target))
                    for partial, target in zip(partials, targets, strict=True)
                ]
                _grow(growing, rows_from, block, progress)
            return [self._publish(p, target) for p, target in zip(partials, targets, strict=True)]
        except (OSError, UserError) as e:
            for partial in partials:
                shutil.rmtree(partial, ignore_errors=True)
            raise disk_error(e, self.root) or e from e

    def _publish(self, partial: Path, target: Target) -> Entry:
        digests = [json.loads(line) for line in (partial / _JOURNAL).read_text().splitlines()]
        complete = {
            **target.manifest,
            "format": FORMAT,
            "shape": list(target.shape),
            "dtype": np.dtype(target.dtype).name,
            "blocks": digests,
        }
        (partial / _MANIFEST).write_text(json.dumps(complete))
        (partial / _USED).touch()
        partial.rename(self.root / target.key)
        return Entry(self.root / target.key, complete)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Keep other processes from filling or removing this key meanwhile."""
        waiting = "Another process is filling the same entry of the cache; waiting for it."
        return locks.exclusive(self.root, key, waiting)

    def entries(self) -> list[Listed]:
        """Every entry, and every fill that is under way or was interrupted.

        What another process publishes or removes meanwhile is listed as it was before or after.
        """
        found = []
        for path in sorted(self.root.glob("*")):
            if path.name[0] != "." and (listed := _listed(path)) is not None:
                found.append(listed)
        return found

    def remove(self, path: Path) -> bool:
        """Delete an entry or an interrupted fill as one step, so that nobody finds half of it.

        False, and nothing is deleted, where another process is filling or opening it.
        """
        key = path.name.partition(".")[0]
        with locks.if_free(self.root, key) as free:
            if free and path.exists():
                doomed = path.with_name(f"{path.name}.removed")
                shutil.rmtree(doomed, ignore_errors=True)  # of a removal that was killed
                path.rename(doomed)
                shutil.rmtree(doomed)
        return free


def _listed(path: Path) -> Listed | None:
    try:
        size = sum(f.stat().st_size for f in path.iterdir())
        changed = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        return Listed(path, manifest, size, (path / _USED).stat().st_mtime)
    except (OSError, ValueError):
        return Listed(path, {}, size, changed)


class _Growing:
    """The files of an entry that is being filled, open behind its last whole block."""

    def __init__(self, partial: Path, target: Target) -> None:
        self.partial, self.target = partial, target
        self.done = _valid_blocks(partial, target.row_bytes)

    def __enter__(self) -> _Growing:
        self.rows = (self.partial / _ROWS).open("ab")
        self.journal = (self.partial / _JOURNAL).open("a")
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.close()
        self.journal.close()

    def cut(self, done: int) -> None:
        """Let go of what is behind `done` rows."""
        if done < self.done:
            lines = (self.partial / _JOURNAL).read_text().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["stop"] <= done]
            self.journal.truncate(0)
            self.journal.write("".join(kept))
        self.rows.truncate(done * self.target.row_bytes)

    def add(self, start: int, stop: int, rows: np.ndarray) -> None:
        raw = np.ascontiguousarray(rows, dtype=self.target.dtype)
        assert raw.shape == (stop - start, *self.target.shape[1:]), (raw.shape, self.target.shape)
        self.rows.write(raw.data)
        self.rows.flush()
        digest = hashlib.sha256(raw.data).hexdigest()
        self.journal.write(json.dumps({"start": start, "stop": stop, "sha256": digest}) + "\n")
        self.journal.flush()


def _grow(
    growing: Sequence[_Growing],
    rows_from: Callable[[int, int], Sequence[np.ndarray]],
    block: int,
    progress: Callable[[int], None],
) -> None:
    n, done = growing[0].target.shape[0], min(g.done for g in growing)
    if done:
        log.info("%s: going on after %d of %d images.", growing[0].partial.name, done, n)
    for entry in growing:
        entry.cut(done)
    progress(done)
    with ThreadPoolExecutor(1) as pool:
        flushed, behind = pool.submit(_flush, ()), 0  # bytes, that were not on the disk
        for start in range(done, n, block):
            stop = min(start + block, n)
            for entry, rows in zip(growing, rows_from(start, stop), strict=True):
                entry.add(start, stop, rows)
            progress(stop)
            behind += sum((stop - start) * entry.target.row_bytes for entry in growing)
            if behind >= _FLUSHED_TOGETHER and flushed.done():  # so that little is left at the end
                flushed.result()
                flushed, behind = pool.submit(_flush, growing), 0
        flushed.result()
    _flush(growing)


def _flush(growing: Sequence[_Growing]) -> None:
    for entry in growing:
        os.fsync(entry.rows.fileno())


def _problem(path: Path) -> str | None:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            return f"has format {manifest['format']}, not {FORMAT}"
        row_bytes = int(np.prod(manifest["shape"][1:])) * np.dtype(manifest["dtype"]).itemsize
        expected = manifest["shape"][0] * row_bytes
        found = (path / _ROWS).stat().st_size
        if found != expected:
            return f"has {found:,} bytes of rows, not {expected:,}"
        blocks = [(b["start"], b["stop"], b["sha256"]) for b in manifest["blocks"]]
        with (path / _ROWS).open("rb") as rows, ThreadPoolExecutor(_HASHED_TOGETHER) as pool:
            digests = pool.map(lambda b: _digest(rows, b[0], b[1], row_bytes), blocks)
            for (start, stop, expected), digest in zip(blocks, digests, strict=True):
                if digest != expected:
                    return f"was altered in rows {start} to {stop}"
    except (OSError, ValueError, KeyError, TypeError) as e:
        return f"cannot be read ({type(e).__name__}: {e})"
    return None


def _digest(rows: Any, start: int, stop: int, row_bytes: int) -> str:
    digest, at, end = hashlib.sha256(), start * row_bytes, stop * row_bytes
    while at < end and (part := os.pread(rows.fileno(), min(end - at, _READ_AT_ONCE), at)):
        digest.update(part)
        at += len(part)
    return digest.hexdigest()


def _valid_blocks(partial: Path, row_bytes: int) -> int:
    """Rows of an interrupted fill that are whole; its journal is cut to them."""
    done = 0
    kept: list[str] = []
    try:
        with (partial / _ROWS).open("rb") as rows:
            for line in (partial / _JOURNAL).read_text().splitlines():
                block = json.loads(line)
                whole = _digest(rows, block["start"], block["stop"], row_bytes) == block["sha256"]
                if block["start"] != done or not whole:
                    break
                done = block["stop"]
                kept.append(line)
    except (OSError, ValueError, KeyError) as e:
        log.debug("%s: nothing further of it can be used (%s)", partial, e)
    (partial / _JOURNAL).write_text("".join(line + "\n" for line in kept))
    return done
