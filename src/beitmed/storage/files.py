"""Files that are there whole or not at all, and the space that they need."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from beitmed.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; flushed to disk and renamed at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        share(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def share(path: Path) -> None:
    """Give a file the permissions that the user's umask grants; some libraries write mode 600."""
    example = path.with_name(f".{path.name}.{os.getpid()}.mode")
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
