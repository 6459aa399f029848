"""Tables as CSV, every number in full precision."""

from __future__ import annotations

import csv
import io
import math
import re

from beitmed.report.document import Cell, Interval, Table, number, plain


def table(content: Table) -> str:
    """Return the table with every number in full precision; what is undefined is an empty field.

    A column with intervals becomes `<label>`, `<label> low`, `<label> high` and, where a value is
    lacking for a reason, `<label> reason`. A text that a spreadsheet would run as a formula (it
    begins with =, +, - or @ and is no number) gets an apostrophe before it.
    """
    columns = list(zip(*content.rows, strict=True)) if content.rows else [()] * len(content.columns)
    names: list[str] = []
    fields: list[list[object]] = []
    for column, cells in zip(content.columns, columns, strict=True):
        parts = _parts(cells)
        names += [f"{column.label} {part}".rstrip() for part in parts]
        fields += list(parts.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_harmless(name) for name in names])
    writer.writerows(zip(*fields, strict=True))
    return text.getvalue()


def _parts(cells: tuple[Cell, ...]) -> dict[str, list[object]]:
    """Return the fields of a column, by what comes after its label."""
    parts = {"": [_field(c.value if isinstance(c, Interval) else c) for c in cells]}
    intervals = [c if isinstance(c, Interval) else Interval(None) for c in cells]
    if any(isinstance(c, Interval) for c in cells):
        parts["low"] = [_field(c.low) for c in intervals]
        parts["high"] = [_field(c.high) for c in intervals]
    if any(c.reason is not None for c in intervals):
        parts["reason"] = [_field(c.reason) for c in intervals]
    return parts


def _field(value: str | float | bool | None) -> object:
    if isinstance(value, str):
        return _harmless(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None or math.isnan(value) else value


def _harmless(string: str) -> str:
    shown = plain(string)
    formula = re.match(r"\s*[=+\-@＝＋－＠]\S", shown) and number(shown) is None
    return f"'{shown}" if formula else shown
