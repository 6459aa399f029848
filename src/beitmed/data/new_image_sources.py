"""Which images without labels a command line names: files, folders, tables, `.npz` archives."""

from __future__ import annotations

import csv
import itertools
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.data import folder_table
from beitmed.data.folder_table import shown
from beitmed.data.medmnist_files import SPLITS
from beitmed.data.new_images import Item
from beitmed.errors import UserError
from beitmed.storage import npz_rows
from beitmed.storage.npz_rows import Header

# Beside images in a folder, and no image by their ending; any other file is tried.
_NO_IMAGES = {
    ".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log",
    ".parquet", ".npz", ".npy", ".xlsx", ".py", ".zip", ".gz", ".md5", ".sha256", ".safetensors",
}  # fmt: skip


@dataclass(frozen=True)
class NewImages:
    """Images in the order of the command line, and how many files were left out by their ending."""

    parts: Sequence[Collection[Item]]
    left_out: int = 0

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[Item]:
        return itertools.chain.from_iterable(self.parts)


def find(paths: Sequence[Path], column: str = "path", split: str = "test") -> NewImages:
    """List what these files and folders hold; of a folder all files below it, by name.

    column: of a table (.csv, .parquet) the one with the files, relative to the table's folder.
    split: of an archive (.npz) of MedMNIST's form train, val, test or all. Raises UserError for a
    path that does not exist, a table or archive that cannot be read, and where there is no image.
    """
    parts: list[Collection[Item]] = []
    left_out = 0
    for given in paths:
        path = given.expanduser()
        try:
            if path.is_dir():
                files = list(folder_table.files_below(path))
                kept = [file for file in files if file.suffix.lower() not in _NO_IMAGES]
                left_out += len(files) - len(kept)
                parts.append([Item(shown(file), file) for file in kept])
            elif not path.is_file():
                raise UserError(f"{shown(path)}: no such file or folder; give images that exist")
            elif path.suffix.lower() == ".npz":
                parts += _of_archive(path, split)
            elif path.suffix.lower() in (".csv", ".parquet"):
                parts.append(_of_table(path, column))
            else:
                parts.append([Item(shown(path), path)])
        except OSError as e:
            raise UserError(f"{shown(path)}: cannot be read ({e.strerror or e}).") from e
    found = NewImages(parts, left_out)
    if not len(found):
        raise UserError(f"{', '.join(map(shown, paths))}: no image there; give some that exist")
    return found


def _of_table(path: Path, column: str) -> list[Item]:
    of_kind = _of_parquet if path.suffix.lower() == ".parquet" else _of_csv
    return [
        Item(cell, path.parent / cell) if (cell := folder_table.text(value))
        else Item(f"{shown(path)}, row {row}", f"has nothing in the column {column!r}")
        for row, value in enumerate(of_kind(path, column), start=1)
    ]  # fmt: skip


def _of_csv(path: Path, column: str) -> Iterator[Any]:
    _check_column(path, column, folder_table.header(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            yield from (row[column] for row in csv.DictReader(f))
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{shown(path)}: is not a CSV file in UTF-8 ({e})") from e


def _of_parquet(path: Path, column: str) -> Iterator[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        _check_column(path, column, table.schema_arrow.names)
        for batch in table.iter_batches(columns=[column]):
            yield from batch.column(0).to_pylist()
    except pyarrow.ArrowException as e:
        raise UserError(f"{shown(path)}: cannot be read as a Parquet file ({e})") from e


def _check_column(path: Path, column: str, found: Sequence[str]) -> None:
    if column not in found:
        raise UserError(
            f"{shown(path)}: has no column {column!r}; found: {', '.join(map(shown, found))}. Name "
            "the one that holds the files by column=..."
        )


@dataclass(frozen=True)
class _Archive(Collection[Item]):
    """The images of one split of an archive, unpacked one after another and never together."""

    path: Path
    split: str
    header: Header

    def __len__(self) -> int:
        return self.header.shape[0]

    def __contains__(self, item: object) -> bool:
        return any(item is one for one in self)

    def __iter__(self) -> Iterator[Item]:
        shape = self.header.shape[1:]
        length = int(np.prod(shape))
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(f"{self.split}_images.npy") as member,
            ):
                member.read(self.header.length)
                for i in range(len(self)):
                    if len(raw := member.read(length)) < length:
                        raise zipfile.BadZipFile("ends early")
                    pixels = np.frombuffer(raw, np.uint8).reshape(shape)
                    yield Item(f"{shown(self.path)}/{self.split}/{i}", pixels)
        except (zipfile.BadZipFile, zlib.error, EOFError) as e:
            raise UserError(f"{shown(self.path)}: is damaged ({e}); put a whole file there") from e


def _of_archive(path: Path, split: str) -> list[_Archive]:
    try:
        with zipfile.ZipFile(path) as members:
            there = [name for name in SPLITS if f"{name}_images.npy" in members.namelist()]
            wanted = there if split == "all" else [split]
            if not there or not set(wanted) <= set(there):
                raise UserError(
                    f"{shown(path)}: has no {' or '.join(f'{name}_images' for name in wanted)}; "
                    f"found: {', '.join(members.namelist()[:10]) or 'nothing'}. Give an archive of "
                    "MedMNIST's form, and split=train, val, test or all."
                )
            found = [
                _Archive(path, name, npz_rows.header(members, f"{name}_images")) for name in wanted
            ]
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{shown(path)}: cannot be read as an .npz archive ({e})") from e
    for one in found:
        shape, dtype = one.header.shape, one.header.dtype
        if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
            raise UserError(
                f"{shown(path)}: {one.split}_images is of type {dtype} and shape {shape}; allowed: "
                "uint8 of shape (n, height, width) or (n, height, width, 3)"
            )
    return found
