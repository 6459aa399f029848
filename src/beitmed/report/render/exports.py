"""A table's files for other programs: CSV, and LaTeX of what a paper could hold."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from beitmed.report.document import LONG, Table, csv_name
from beitmed.report.render import latex, spreadsheet


@dataclass(frozen=True)
class Export:
    """A file: what it is, its name and its content."""

    what: str
    name: str
    kind: str  # its MIME type
    content: bytes


def of(table: Table) -> list[Export]:
    """The files of a table; of more than `LONG` rows the CSV alone, compressed."""
    csv = spreadsheet.table(table).encode()
    if len(table.rows) > LONG:
        packed = gzip.compress(csv, 5, mtime=0)
        return [Export("CSV", csv_name(table), "application/gzip", packed)]
    tex = latex.table(table).encode()
    return [
        Export("CSV", csv_name(table), "text/csv", csv),
        Export("LaTeX", f"{table.id}.tex", "application/x-tex", tex),
    ]
