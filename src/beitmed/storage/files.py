"""Files that are there whole or not at all, and the space that they need."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from beitmed.errors import UserError

_A_DAY = 86_400  # seconds; nothing takes as long to write without a sign of life
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{8}-\d+)\.tmp", re.DOTALL)


def owner() -> str:
    """This process, by its machine and its number there, for `abandoned`."""
    return f"{_machine()}-{os.getpid()}"


def abandoned(by: str) -> bool:
    """Whether an `owner` was of this machine and is no more; what cannot be told is false."""
    machine, _, number = by.partition("-")
    if machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another's, and alive
        pass
    return False


@functools.cache
def _machine() -> str:
    """Eight hexadecimal digits; a container numbers its processes by itself, and so is one."""
    try:
        numbered_in = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        numbered_in = 0
    return hashlib.sha256(f"{socket.gethostname()} {numbered_in}".encode()).hexdigest()[:8]


def temporary(path: Path) -> Path:
    """A name beside `path` that no other process uses, and that says whose it is."""
    return path.with_name(f".{path.name}.{owner()}.tmp")


def clear_up(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed had under a `temporary` name in a folder.

    name: of what only; None stands for all. What a process of another machine has left goes when
    it is a day old.
    """
    with contextlib.suppress(OSError):  # not there, or another's: then it stays as it is
        for path in [Path(entry) for entry in os.scandir(folder) if entry.name.endswith(".tmp")]:
            found = _TEMPORARY.fullmatch(path.name)
            if found is None or name not in (None, found[1]):
                continue
            if abandoned(found[2]) or time.time() - path.lstat().st_mtime > _A_DAY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove(folder: Path) -> None:
    """Delete a folder, if it is there, in one step, so that nobody takes half of it for it."""
    with contextlib.suppress(OSError):
        folder.rename(temporary(folder))
    shutil.rmtree(temporary(folder), ignore_errors=True)


@contextmanager
def renamed(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, which is renamed at the end."""
    clear_up(path.parent, path.name)
    part = temporary(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The same, flushed to disk before it is renamed, with the user's usual permissions."""
    with renamed(path) as part:
        part.touch()
        mode = part.stat().st_mode & 0o777  # some libraries write mode 600
        yield part
        with part.open("rb") as f:
            os.fsync(f.fileno())
        part.chmod(mode)


def share(path: Path) -> None:
    """Give a file the permissions that the user's umask grants; some libraries write mode 600."""
    example = temporary(path)
    example.touch()
    path.chmod(example.stat().st_mode & 0o777)
    example.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside it, flush it to disk, then rename it."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def require_space(path: Path, needed: int) -> None:
    """Raise UserError if the disk that holds `path` has less than `needed` bytes free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise UserError(
            f"{path}: this run writes up to {needed / 1e6:,.0f} MB (checkpoints, the trained "
            f"layers), but only {free / 1e6:,.0f} MB are free there. Free some space, or set "
            "output_dir=... to a larger disk."
        )


def csv_text(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV. Floats give the same bits when they are read; None is an empty field."""
    text = io.StringIO()
    _write_rows(text, header, rows)
    return text.getvalue()


def write_csv(path: Path, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    """The same as a file, written row by row: of a table of any length one row is held."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        _write_rows(file, header, rows)


def holds_csv(path: Path, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> bool:
    """Whether a file is what `write_csv` would write, compared row by row."""
    with path.open("rb") as file:
        compared = _Compared(file)
        _write_rows(compared, header, rows)
        return compared.same and not file.read(1)


class _Compared:
    """Takes text as a file does that is written, and compares it with what a file holds."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.same = file, True

    def write(self, text: str) -> None:
        expected = text.encode()
        self.same = self.same and self._file.read(len(expected)) == expected


def _write_rows(file: Any, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
