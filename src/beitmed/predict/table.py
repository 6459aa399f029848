"""A table with a row an image, written as it grows and there whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.storage import files

ENDINGS = (".csv", ".parquet")
Columns = Mapping[str, Sequence[Any] | np.ndarray]  # of one length, by name


@contextmanager
def writing(path: Path) -> Iterator[Callable[[Columns], None]]:
    """Give a function that adds rows, the same columns each time; the file is there at the end."""
    with files.replacing(path) as temporary:
        write = _parquet if path.suffix.lower() == ".parquet" else _csv
        with write(temporary) as add:
            yield add


@contextmanager
def _csv(path: Path) -> Iterator[Callable[[Columns], None]]:
    with path.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        begun = False

        def add(columns: Columns) -> None:
            nonlocal begun
            if not begun:
                writer.writerow(columns)
                begun = True
            writer.writerows(zip(*(_cells(values) for values in columns.values()), strict=True))

        yield add


def _cells(values: Sequence[Any] | np.ndarray) -> list[Any]:
    """Floats so that they give the same bits when they are read; true and false in lower case."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [str(v).lower() if isinstance(v, bool) else v for v in listed]


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Columns], None]]:
    import pyarrow
    from pyarrow import parquet

    writer: Any = None

    def add(columns: Columns) -> None:
        nonlocal writer
        # Names and notes are lists, and text even where all of them are empty.
        arrays = [
            pyarrow.array(values, pyarrow.string() if isinstance(values, list | tuple) else None)
            for values in columns.values()
        ]
        table = pyarrow.table(arrays, list(columns))
        if writer is None:
            writer = parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()
