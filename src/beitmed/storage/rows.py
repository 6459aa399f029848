"""Rows of an array that stays on disk: what is not asked for takes no memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.errors import UserError

_AT_ONCE = 64  # rows that an iteration reads
# A disk that is asked for one row at a time idles in between; a short row is read sooner than a
# thread is woken for it.
_READS, _LONG = 8, 1 << 16  # bytes


class Rows:
    """Random access to rows by plain reads: mapped pages would count as this process's memory.

    The array [n, ...] of `shape` and `dtype` starts `offset` bytes into the file, in C order.
    Indexed like an array along its first axis only; every answer is a new array.
    """

    at_once = 1  # reads that are best under way at the same time

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int = 0
    ) -> None:
        assert not dtype.hasobject, dtype  # bytes that are read as pointers
        self.shape, self.dtype = shape, dtype
        self._file = path.open("rb", buffering=0)
        self._bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self._offset = offset
        self.at_once = _READS if self._bytes >= _LONG else 1

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]

    def read(self, row: int, out: np.ndarray) -> None:
        """Read rows from `row` on into `out`, of this dtype, contiguous, until it is full."""
        buffer = memoryview(out.reshape(-1).view(np.uint8).data) if out.size else b""
        at, done = self._offset + row * self._bytes, 0
        while done < len(buffer):  # one call reads 2 GB at most
            got = os.preadv(self._file.fileno(), [buffer[done:]], at + done)
            if not got:
                raise UserError(
                    f"{self._file.name}: ends within row {row + done // self._bytes}; it was "
                    "changed meanwhile."
                )
            done += got

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
                self.read(start, out)
                return out
            rows = np.arange(start, stop, step)
        if isinstance(rows, int | np.integer):
            return self[[rows]][0]
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        out = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for i, row in enumerate(chosen.tolist()):
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} of {len(self)}")
            self.read(row % len(self), out[i : i + 1])
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows, for functions that know arrays only."""
        return np.asarray(self[:], dtype)


class HeldRows(Rows):
    """The same access to an array that is in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def read(self, row: int, out: np.ndarray) -> None:
        part = out.reshape(-1, *self.shape[1:])
        part[...] = self._array[row : row + len(part)]


class Selected(Rows):
    """Some rows of others, in an order of their own: int64 [k] into them."""

    def __init__(self, rows: Rows, chosen: np.ndarray) -> None:
        self.shape, self.dtype = (len(chosen), *rows.shape[1:]), rows.dtype
        self._rows, self._chosen = rows, chosen

    def read(self, row: int, out: np.ndarray) -> None:
        parts = out.reshape(-1, *self.shape[1:])
        for part, source in zip(parts, self._chosen[row : row + len(parts)].tolist(), strict=True):
            self._rows.read(source, part)


class Joined(Rows):
    """The rows of several, one after another; all of one shape and dtype but for their number."""

    def __init__(self, parts: Sequence[np.ndarray | Rows]) -> None:
        self.shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        assert all(part.shape[1:] == self.shape[1:] for part in parts), [p.shape for p in parts]
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def read(self, row: int, out: np.ndarray) -> None:
        for place in range(len(out.reshape(-1, *self.shape[1:]))):
            part = int(np.searchsorted(self._starts, row + place, "right")) - 1
            inside = row + place - int(self._starts[part])
            out.reshape(-1, *self.shape[1:])[place] = self._parts[part][inside]
