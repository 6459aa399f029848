"""Arrays on disk, found by what they were computed from: fill once, read by rows, never half.

An entry is a folder `<key>/` with `rows.bin` (the rows, one after the other) and `manifest.json`.
It is filled under another name and renamed when it is complete, so what stands under its key is
whole. Every block of rows has its SHA-256 in a journal: an interrupted fill goes on after its last
whole block, and a damaged entry is found when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beitmed.errors import disk_error
from beitmed.storage import locks
from beitmed.storage.rows import Rows

log = logging.getLogger(__name__)
FORMAT = 1
_ROWS, _MANIFEST, _JOURNAL, _USED = "rows.bin", "manifest.json", "journal.jsonl", "last_used"
_READ_AT_ONCE = 1 << 24  # bytes; while an entry is verified
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


class Listed(NamedTuple):
    """An entry as it is listed; the manifest is {} where it is not complete."""

    path: Path
    manifest: Mapping[str, Any]
    size: int  # bytes
    last_used: float  # seconds since the epoch


class Store:
    """All entries below one folder. Safe against other processes that fill and read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Entry | None:
        """The entry of this key if it is there; a damaged one is removed, which is said."""
        path = self.root / key
        if not path.is_dir():
            return None
        problem = _problem(path)
        if problem is None:
            (path / _USED).write_text(str(int(time.time())))
            return Entry(path, json.loads((path / _MANIFEST).read_text()))
        log.warning("%s: %s; it is removed and computed again.", path, problem)
        shutil.rmtree(path)
        return None

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
        """Compute and publish an entry, going on from an interrupted fill of the same key.

        rows_from(start, stop) gives rows [stop - start, ...]; it is asked for `block` rows at a
        time. progress is told how many rows are done. Call it under `lock(key)`. Raises UserError
        if the disk is full or cannot be written; what was filled is then removed.
        """
        partial = self.root / f"{key}.partial"
        try:
            partial.mkdir(parents=True, exist_ok=True)
            self._fill(partial, shape, dtype, rows_from, block, progress)
            digests = [json.loads(line) for line in (partial / _JOURNAL).read_text().splitlines()]
            complete = {
                **manifest,
                "format": FORMAT,
                "shape": list(shape),
                "dtype": np.dtype(dtype).name,
                "blocks": digests,
            }
            (partial / _MANIFEST).write_text(json.dumps(complete))
            (partial / _USED).write_text(str(int(time.time())))
            partial.rename(self.root / key)
        except OSError as e:
            shutil.rmtree(partial, ignore_errors=True)
            raise disk_error(e, self.root) or e from e
        return Entry(self.root / key, complete)

    def _fill(
        self,
        partial: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        rows_from: Fill,
        block: int,
        progress: Callable[[int], None],
    ) -> None:
        row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        done = _valid_blocks(partial, row_bytes)
        if done:
            log.info("%s: going on after %d of %d images.", partial.name, done, shape[0])
        with (partial / _ROWS).open("ab") as rows, (partial / _JOURNAL).open("a") as journal:
            rows.truncate(done * row_bytes)
            progress(done)
            for start in range(done, shape[0], block):
                stop = min(start + block, shape[0])
                raw = np.ascontiguousarray(rows_from(start, stop), dtype=dtype)
                assert raw.shape == (stop - start, *shape[1:]), (raw.shape, shape)
                rows.write(raw.data)
                rows.flush()
                digest = hashlib.sha256(raw.data).hexdigest()
                journal.write(json.dumps({"start": start, "stop": stop, "sha256": digest}) + "\n")
                journal.flush()
                progress(stop)
            os.fsync(rows.fileno())

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Keep other processes from filling this key meanwhile."""
        waiting = "Another process is filling the same entry of the cache; waiting for it."
        return locks.exclusive(self.root, key, waiting)

    def entries(self) -> list[Listed]:
        """Every entry, and every fill that is under way or was interrupted."""
        found = []
        for path in sorted(p for p in self.root.glob("*") if p.is_dir() and p.name[0] != "."):
            size = sum(f.stat().st_size for f in path.iterdir())
            try:
                manifest = json.loads((path / _MANIFEST).read_text())
                used = float((path / _USED).read_text())
            except (OSError, ValueError):
                manifest, used = {}, path.stat().st_mtime
            found.append(Listed(path, manifest, size, used))
        return found

    def remove(self, path: Path) -> None:
        """Delete an entry as one step, so that nobody finds half of it."""
        doomed = path.with_name(f"{path.name}.removed")
        path.rename(doomed)
        shutil.rmtree(doomed)


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
        with (path / _ROWS).open("rb") as rows:
            for block in manifest["blocks"]:
                if _digest(rows, block["start"], block["stop"], row_bytes) != block["sha256"]:
                    return f"was altered in rows {block['start']} to {block['stop']}"
    except (OSError, ValueError, KeyError, TypeError) as e:
        return f"cannot be read ({type(e).__name__}: {e})"
    return None


def _digest(rows: Any, start: int, stop: int, row_bytes: int) -> str:
    rows.seek(start * row_bytes)
    digest, left = hashlib.sha256(), (stop - start) * row_bytes
    while left > 0 and (part := rows.read(min(left, _READ_AT_ONCE))):
        digest.update(part)
        left -= len(part)
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
                done, kept = block["stop"], [*kept, line]
    except (OSError, ValueError, KeyError) as e:
        log.debug("%s: nothing further of it can be used (%s)", partial, e)
    (partial / _JOURNAL).write_text("".join(line + "\n" for line in kept))
    return done
