"""A report's folder: replaced as a whole or not at all, and never if it holds what is not ours.

`report.html`, `report.md`, `tables/<id>.csv` and `.tex` (a long table's `.csv.gz` alone),
`errors/*.png`, the figures, and `contents.json`, which names every file with its digest.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from beitmed.report.document import Document
from beitmed.report.render import exports, markdown, page
from beitmed.storage import sealed


def replacing(to: Path) -> AbstractContextManager[Path]:
    """An empty folder beside `to` to fill, which takes its place; see `sealed.replacing`."""
    return sealed.replacing(to, sealed.Kind("a report", key="to"))


def write(document: Document, folder: Path) -> None:
    """Write every file of the report but its figures, which lie in `folder` already."""
    (folder / "tables").mkdir(exist_ok=True)
    files = {table.id: exports.of(table) for table in document.tables}
    for export in (one for of_table in files.values() for one in of_table):
        (folder / "tables" / export.name).write_bytes(export.content)
    errors = {}
    for section in document.sections:
        for i, image in enumerate(section.errors, 1):
            name = errors[id(image)] = f"errors/{section.id}-{i:04d}.png"
            (folder / "errors").mkdir(exist_ok=True)
            (folder / name).write_bytes(image.png)
    _text(folder / "report.md", markdown.render(document, folder, errors))
    _text(folder / "report.html", page.render(document, folder, files))


def _text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")
