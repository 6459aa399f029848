"""One process at a time, for runs and for features alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from beitmed.errors import disk_error

log = logging.getLogger(__name__)


@contextmanager
def exclusive(root: Path, name: str, waiting: str) -> Iterator[None]:
    """Hold `root/.locks/<name>.lock`; where another process has it, say `waiting` and wait.

    The system frees it when its holder dies. Raises UserError where `root` cannot be written.
    """
    try:
        (root / ".locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s", waiting)
            lock.acquire()
    except OSError as e:
        raise disk_error(e, root) or e from e
    try:
        yield
    finally:
        lock.release()


@contextmanager
def if_free(root: Path, name: str) -> Iterator[bool]:
    """Hold the lock `exclusive` would hold, if no other process has it; whether that is so."""
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".locks" / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
