"""Checkpoints of a training: only where they are worth their time, one at a time, whole or none.

What lies on a GPU is copied first and written by a thread while the training goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

_COMPLETE = "complete"  # a file in a checkpoint that says that all others were written
_BYTES_A_SECOND = 500e6  # of a plain disk
_SHARE, _SMALL = 0.05, 0.2  # of a training's time, for writing; seconds that nobody minds
_NAMES = "checkpoint-*"


def due(seconds: float, size: int) -> bool:
    """Whether a checkpoint of `size` bytes is worth it, so many seconds after the one before.

    That is where writing it takes a fifth of a second, or no more than a twentieth of that time. On
    a fast GPU an epoch may be shorter than the writing of what would protect it.
    """
    return size / _BYTES_A_SECOND <= max(_SMALL, _SHARE * seconds)


class Checkpoints:
    """The checkpoints of one training, in folders that its Trainer names.

    size: bytes of one. background: write in a thread, from copies; that takes `size` of memory.
    """

    def __init__(self, size: int, background: bool) -> None:
        self.size, self._background = size, background
        self._pool = ThreadPoolExecutor(1)
        self._since = time.monotonic()
        self._later: list[Callable[[], None]] = []
        self._writing: Future[None] | None = None

    def due(self) -> bool:
        """Whether now is the time for one: it is not while another is being written."""
        if self._writing is not None and not self._writing.done():
            return False
        return due(time.monotonic() - self._since, self.size)

    def add(self, write: Callable[[Any, Path], None], values: Any, path: Path) -> None:
        """Write values (dictionaries and lists of tensors), as they are now, to `path`."""
        if self._background:
            copy = _copied(values)
            self._later.append(lambda: write(copy, path))
        else:
            write(values, path)

    def commit(self, folder: Path) -> None:
        """Mark a checkpoint as complete once all of it is written, and remove those before it.

        Raises what went wrong while the one before was written.
        """
        self.wait()
        copied = torch.cuda.Event() if torch.cuda.is_available() else None
        if copied is not None:
            copied.record()
        later, self._later = self._later, []
        before = [other for other in folder.parent.glob(_NAMES) if other != folder]

        def write() -> None:
            if copied is not None:
                copied.synchronize()
            for one in later:
                one()
            (folder / _COMPLETE).touch()
            for other in before:
                shutil.rmtree(other)

        if self._background:
            self._writing = self._pool.submit(write)
        else:
            write()
        self._since = time.monotonic()

    def wait(self) -> None:
        """Until nothing is being written; raises what went wrong meanwhile."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def last_complete(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end, if any; others are removed."""
    found = {int(p.parent.name.split("-")[1]): p.parent for p in folder.glob(f"*/{_COMPLETE}")}
    for other in folder.glob(_NAMES):
        if other not in found.values():
            shutil.rmtree(other)
    return str(found[max(found)]) if found else None


def _copied(values: Any) -> Any:
    """The same on the CPU; of a GPU's tensors the copies are under way and arrive by themselves."""
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", non_blocking=True, copy=True)
    if isinstance(values, dict):
        return {key: _copied(value) for key, value in values.items()}
    return [_copied(value) for value in values] if isinstance(values, list) else values
