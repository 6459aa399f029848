"""What a report consists of, without any format: the waist between the evidence and its pages.

Left of it numbers are computed, right of it they are only set: HTML, Markdown, CSV and LaTeX show
the same cells. All text is plain, never markup; the writers escape it.
"""

from __future__ import annotations

import math
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
    """Rows of cells under columns; `id` names its files and is a plain word (a-z, 0-9, -)."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.id


@dataclass(frozen=True)
class Figure:
    """A figure that lies beside the report as `<stem>.png` and `<stem>.svg`."""

    id: str
    title: str
    alternative: str  # what a reader who cannot see it is told
    stem: Path
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Curve:
    """One run's test cases, for the page's threshold slider.

    score [n] is the log odds of the positive class, in the order of the test split; actual [n] is
    true for the positive class.
    """

    name: str
    dataset: str
    positive: str
    negative: str
    score: Sequence[float]
    actual: Sequence[bool]
    shown: bool = False  # before the reader chooses


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
    """The whole report. `caveats` hold for its numbers and stand above them all."""

    title: str
    summary: Sequence[str]
    caveats: Sequence[str]
    sections: Sequence[Section]
    curves: Sequence[Curve] = ()
    problems: Sequence[str] = ()  # folders that could not be read, and why
    footer: Sequence[str] = field(default_factory=tuple)

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections for table in section.tables]


def text(cell: Cell, digits: int = 3) -> str:
    """A cell as a reader sees it: `0.910 [0.867, 0.953]`, `n/a`, `yes`, `1,234`."""
    if isinstance(cell, Interval):
        if cell.value is None:
            return "n/a" if cell.reason is None else f"n/a ({cell.reason})"
        if cell.low is None or cell.high is None:
            return f"{cell.value:.{digits}f}"
        return f"{cell.value:.{digits}f} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return "n/a" if math.isnan(cell) else f"{cell:.{digits}f}"
    return cell


def p_value(p: float) -> str:
    """A p-value as it is printed: three digits after the point, never `0.000`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
