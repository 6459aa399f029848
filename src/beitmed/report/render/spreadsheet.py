"""Tables as CSV, every number in full precision."""

from __future__ import annotations

import csv
import io
import math
import re
from functools import lru_cache

from beitmed.report.document import LONG, Cell, Interval, Table, number, plain


def table(content: Table) -> str:
    """Return the table with every number in full precision (five digits of more than `LONG` rows).

    What is undefined is an empty field.

    A column with intervals becomes `<label>`, `<label> low`, `<label> high` and, where a value is
    lacking for a reason, `<label> reason`. A text that a spreadsheet would run as a formula (it
    begins with =, +, - or @ and is no number) gets an apostrophe before it.
    """
    columns = list(zip(*content.rows, strict=True)) if content.rows else [()] * len(content.columns)
    names: list[str] = []
    fields: list[list[object]] = []
    for column, cells in zip(content.columns, columns, strict=True):
        parts = _parts(cells, 17 if len(content.rows) <= LONG else 5)
        names += [f"{column.label} {part}".rstrip() for part in parts]
        fields += list(parts.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_harmless(name) for name in names])
    writer.writerows(zip(*fields, strict=True))
    return text.getvalue()


def _parts(cells: tuple[Cell, ...], digits: int) -> dict[str, list[object]]:
    """Return the fields of a column, by what comes after its label."""
    intervals = [c for c in cells if isinstance(c, Interval)]
    if not intervals:
        return {"": [_field(c, digits) for c in cells if not isinstance(c, Interval)]}
    limits = [c if isinstance(c, Interval) else Interval(c if isinstance(c, float) else None)
              for c in cells]  # fmt: skip
    parts = {
        "": [_field(c.value if isinstance(c, Interval) else c, digits) for c in cells],
        "low": [_field(c.low, digits) for c in limits],
        "high": [_field(c.high, digits) for c in limits],
    }
    if any(c.reason is not None for c in intervals):
        parts["reason"] = [_field(c.reason, digits) for c in limits]
    return parts


def _field(value: str | float | bool | None, digits: int) -> object:
    if isinstance(value, str):
        return _harmless(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or math.isnan(value):
        return None
    return value if digits == 17 or isinstance(value, int) else f"{value:.{digits}g}"


@lru_cache(maxsize=10_000)  # a table of pairs names each variant many times
def _harmless(string: str) -> str:
    shown = plain(string)
    formula = re.match(r"\s*[=+\-@＝＋－＠]\S", shown) and number(shown) is None
    return f"'{shown}" if formula else shown
