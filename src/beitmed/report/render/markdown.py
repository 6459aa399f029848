"""A report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from beitmed.report.document import (
    LONG,
    ROWS_SHOWN,
    Document,
    ErrorImage,
    Figure,
    Section,
    Table,
    columns_of_numbers,
    csv_name,
    plain,
    rows_left_out,
    text,
)

# An underscore within a word is none.
_MARKUP = re.compile(r"([\\`*{}\[\]|~$#@!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# At the start of a line: a list, a rule, or the underline of a heading.
_START = re.compile(r"^(?:([-+=])(?=[-+=\s]|$)|(\d+)([.)])(?=\s|$))")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def escape(string: str) -> str:
    """Return the text so that GitHub shows it as it is, in a table as elsewhere."""
    escaped = _MARKUP.sub(r"\\\1", plain(string).strip().translate(_ENTITIES))
    escaped = _START.sub(r"\2\\\1\3", escaped)
    # What GitHub makes a link of by itself.
    return re.sub(r"(?i)(https?|ftp|mailto|xmpp)(:)|(www)(\.)", r"\1\3\\\2\4", escaped)


def render(document: Document, folder: Path, errors: dict[int, str]) -> str:
    """Return the whole report; figures and images are referred to relative to `folder`.

    errors: the file of each `ErrorImage`, by its id().
    """
    blocks = [f"# {escape(document.title)}"]
    if document.run:
        blocks += ["## What was run", _list(document.run)]
    if document.summary:
        blocks += ["## What differs beyond noise", _list(document.summary)]
    if document.caveats:
        lines = ["> [!WARNING]", "> What to distrust: this holds for every number of this report."]
        blocks.append("\n".join([*lines, *(f"> - {escape(line)}" for line in document.caveats)]))
    if document.first is not None:
        blocks += _figure(document.first, folder)
    for section in document.sections:
        blocks += _section(section, folder, errors)
    if document.problems:
        blocks.append("## What could not be read")
        blocks.append(_list(document.problems))
    if document.footer:
        blocks += ["---", *(escape(line) for line in document.footer)]
    return "\n\n".join(blocks) + "\n"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _section(section: Section, folder: Path, errors: dict[int, str]) -> Iterator[str]:
    yield f"## {escape(section.title)}"
    yield from map(escape, section.paragraphs)
    for table in section.tables:
        yield from _table(table)
    for figure in section.figures:
        yield from _figure(figure, folder)
    if section.errors:
        yield _errors(section.errors, errors)


def sections(found: Sequence[Section]) -> str:
    """Sections with no files beside them: tables whole, neither figures nor images."""
    blocks: list[str] = []
    for section in found:
        blocks += [f"## {escape(section.title)}", *map(escape, section.paragraphs)]
        for table in section.tables:
            blocks += [f"**{escape(table.title)}**", *_rows(table, len(table.rows))]
            blocks += [*map(escape, table.notes), *_meanings(table)]
    return "\n\n".join(blocks)


def _table(table: Table) -> Iterator[str]:
    tex = "" if len(table.rows) > LONG else f", [LaTeX](tables/{table.id}.tex)"
    yield f"**{escape(table.title)}** ([CSV](tables/{csv_name(table)}){tex})"
    yield from _rows(table, ROWS_SHOWN)
    left_out = rows_left_out(table)
    yield from map(escape, [left_out] if left_out else [])
    yield from map(escape, table.notes)
    yield from _meanings(table)


def _rows(table: Table, shown: int) -> Iterator[str]:
    heads = [escape(column.label) for column in table.columns]
    marks = ["---:" if numeric else "---" for numeric in columns_of_numbers(table)]
    rows = [
        [escape(text(cell, column.digits)) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows[:shown]
    ]
    yield _grid([heads, marks, *rows])


def _meanings(table: Table) -> Iterator[str]:
    meanings = [f"- {escape(c.label)}: {escape(c.meaning)}" for c in table.columns if c.meaning]
    if meanings:
        yield "\n".join(meanings)


def _figure(figure: Figure, folder: Path) -> Iterator[str]:
    path = figure.file(folder, "svg").relative_to(folder).as_posix()
    # In angle brackets, a name may hold spaces and parentheses.
    target = re.sub(r"([<>\\])", r"\\\1", plain(path))
    yield f"![{escape(figure.alternative)}](<{target}>)"
    yield f"**{escape(figure.title)}**"
    yield from map(escape, figure.notes)


def _errors(images: Sequence[ErrorImage], files: dict[int, str]) -> str:
    heads = ["image", "run", "test image", "actual", "predicted", "confidence"]
    rows = [
        [
            f"![Test image {image.index}](<{files[id(image)]}>)",
            escape(image.run),
            str(image.index),
            escape(image.actual),
            escape(image.predicted),
            text(image.confidence),
        ]
        for image in images
    ]
    return _grid([heads, ["---", "---", "---:", "---", "---", "---:"], *rows])


def _grid(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
