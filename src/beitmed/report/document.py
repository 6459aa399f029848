"""What a report consists of, without any format: the waist between the evidence and its pages.

Left of it numbers are computed, right of it they are only set: HTML, Markdown, CSV and LaTeX show
the same cells. All text is plain, never markup; the writers escape it. An id is a plain word
(a-z, 0-9, -), names files and anchors, and is given once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % limits, None where there are none; `reason` is for a lacking value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


Cell = str | int | float | bool | Interval | None


@dataclass(frozen=True)
class Column:
    """A column's heading, the digits after the point of its numbers, and what it means."""

    label: str
    digits: int = 3
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; the first cell of a row says what the row is of."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.id
        assert all(isinstance(cell, Cell) for row in self.rows for cell in row), self.id


@dataclass(frozen=True)
class Figure:
    """A figure that lies in the report's folder, which `stem` is relative to (or lies in).

    As `<stem>.png` and `<stem>.svg`.
    """

    id: str
    title: str
    alternative: str  # what a reader who cannot see it is told
    stem: Path
    notes: Sequence[str] = ()

    def file(self, folder: Path, kind: str) -> Path:
        """Where the figure lies, as "png" or "svg"."""
        stem = folder / self.stem
        return stem.with_name(f"{stem.name}.{kind}")  # not with_suffix: a stem may hold a dot


@dataclass(frozen=True)
class Curve:
    """One run's test cases, for the page's threshold slider.

    score [n] is the log odds of the positive class, in the order of the test split, None where it
    is undefined; actual [n] is true for the positive class. A score at the threshold is called
    class 0 (`calibration.decide`): `tie_positive` says that this is the positive class.
    """

    name: str
    dataset: str
    positive: str
    negative: str
    score: Sequence[float | None]
    actual: Sequence[bool]
    shown: bool = False  # before the reader chooses
    tie_positive: bool = False

    def __post_init__(self) -> None:
        assert len(self.score) == len(self.actual), self.name


@dataclass(frozen=True)
class ErrorImage:
    """A test image that a run got wrong, with how sure it was of the wrong class (0.5 to 1)."""

    run: str
    index: int
    actual: str
    predicted: str
    confidence: float
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of the report: sentences first, then tables and figures."""

    id: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    errors: Sequence[ErrorImage] = ()


@dataclass(frozen=True)
class Document:
    """The whole report.

    First it says what was run, what differs beyond noise (`summary`) and what to distrust
    (`caveats`, which hold for all its numbers), with one figure, `first`.
    """

    title: str
    summary: Sequence[str]
    caveats: Sequence[str]
    sections: Sequence[Section]
    curves: Sequence[Curve] = ()
    problems: Sequence[str] = ()  # folders that could not be read, and why
    footer: Sequence[str] = field(default_factory=tuple)
    run: Sequence[str] = ()
    first: Figure | None = None

    def __post_init__(self) -> None:
        ids = Counter(s.id for s in self.sections)
        ids.update(table.id for table in self.tables)
        ids.update(figure.id for s in self.sections for figure in s.figures)
        ids.update([self.first.id] if self.first else [])
        assert all(n == 1 and re.fullmatch("[a-z0-9-]+", name) for name, n in ids.items()), ids

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections for table in section.tables]


# Control characters, lone surrogates (from file names that are no text), and the marks that turn
# the direction of what follows: shown they would hide, reorder or break what stands around them.
_UNSHOWN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def plain(string: str) -> str:
    """Text that every format can show: each character that cannot be shown becomes U+FFFD."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"[\t\r\n]+", " ", string))


_PLACE = re.compile(r"(?<![\w.:/<])(?:/|[A-Za-z]:\\)(?:[^\s/\\\"'<>|]+[/\\])+(?=[^\s/\\]|$)")


def without_places(string: str) -> str:
    """Text without the folders of this machine: of an absolute path only the last part stays."""
    return _PLACE.sub("", string)


def text(cell: Cell, digits: int = 3) -> str:
    """A cell as a reader sees it: `0.910 [0.867, 0.953]`, `n/a`, `yes`, `1,234`."""
    if isinstance(cell, Interval):
        if cell.value is None:
            return "n/a" if cell.reason is None else plain(f"n/a ({cell.reason})")
        if cell.low is None or cell.high is None:
            return f"{cell.value:z.{digits}f}"
        return f"{cell.value:z.{digits}f} [{cell.low:z.{digits}f}, {cell.high:z.{digits}f}]"
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return "n/a" if math.isnan(cell) else f"{cell:z.{digits}f}"
    return plain(cell)


_PRINTED_NUMBER = re.compile(r"([<>≤≥]?)\s*([-−+]?(?:\d[\d,]*)?\.?\d+)\s*%?")


def number(cell: Cell) -> float | None:
    """The number that a cell is sorted by, None if it holds none; `< 0.001` is just below that."""
    if isinstance(cell, Interval):
        return cell.value
    if isinstance(cell, str):
        match = _PRINTED_NUMBER.fullmatch(cell.strip())
        if match is None:
            return None
        value = float(match[2].replace(",", "").replace("−", "-"))
        return math.nextafter(value, {"<": -math.inf, ">": math.inf}.get(match[1], value))
    return None if cell is None or math.isnan(cell) else float(cell)


def columns_of_numbers(table: Table) -> list[bool]:
    """Whether a column holds numbers (and gaps) only, so that it is set flush right."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [
        any(number(cell) is not None for cell in column)
        and not any(isinstance(cell, bool) for cell in column)
        and all(number(cell) is not None or is_empty(cell) for cell in column)
        for column in columns
    ]


def is_empty(cell: Cell) -> bool:
    """Whether a cell holds nothing to sort by: no text, or a number that is undefined."""
    return number(cell) is None and (not isinstance(cell, str) or cell.strip() in ("", "n/a", "–"))


ROWS_SHOWN = 200  # of a table, in HTML and Markdown; the CSV and LaTeX files hold all
#: Rows from which a table's CSV is compressed and rounded, and there is no LaTeX of it.
LONG = 5_000


def csv_name(table: Table) -> str:
    """The name of the table's CSV file."""
    return f"{table.id}.csv" + ".gz" * (len(table.rows) > LONG)


def rows_left_out(table: Table) -> str | None:
    """The sentence that says where the rows are that a page does not show."""
    if len(table.rows) <= ROWS_SHOWN:
        return None
    shown, all_rows = f"{ROWS_SHOWN:,}", f"{len(table.rows):,}"
    return f"The first {shown} of {all_rows} rows; all are in tables/{csv_name(table)}."


def in_sentence(label: str) -> str:
    """A heading as it stands within a sentence: `accuracy`, but `AUC` and `F1`."""
    return label[:1].lower() + label[1:] if label[1:2].islower() else label


def p_value(p: float) -> str:
    """A p-value as it is printed: three digits after the point, never `0.000`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
