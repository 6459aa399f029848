"""The report as one HTML file that needs no network and lets no text of a run become code.

Three guards, each enough by itself: Jinja2 escapes every text, the data's JSON holds no `<`, and a
Content Security Policy forbids all scripts but this page's own, by digest, and all requests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from beitmed.report.document import (
    ROWS_SHOWN,
    Cell,
    Column,
    Curve,
    Document,
    ErrorImage,
    Figure,
    Interval,
    Table,
    columns_of_numbers,
    is_empty,
    number,
    plain,
    rows_left_out,
    text,
)
from beitmed.report.render import exports
from beitmed.report.render.exports import Export

#: Bytes of a table's file up to which the page holds it; a page of more could not be mailed.
_LARGEST_INSIDE = 5_000_000
_LARGEST_SVG = 500_000  # bytes; a figure of more (some thousand marks) is shown as its PNG


def render(
    document: Document, folder: Path, files: Mapping[str, Sequence[Export]] | None = None
) -> str:
    """Return the page. The figures are read from `folder`; files: of each table, by its id.

    Tables show at most 200 rows. Text is shown as it is, but for characters that cannot be shown.
    """
    style, script = _asset("page.css"), _asset("page.js")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    template = environment.from_string(_asset("page.html.jinja"))
    return template.render(
        document=document,
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
        data=_json(curve_data(document.curves)),
        class_rules=class_rules(document.curves),
        table_view=_table_view,
        exports=lambda table: exports.of(table) if files is None else files[table.id],
        inside=lambda export: len(export.content) <= _LARGEST_INSIDE,
        export_source=lambda export: _data_uri(export.content, export.kind),
        figure_source=lambda figure: _figure_source(figure, folder),
        image_source=lambda image: _data_uri(image.png, "image/png"),
        by_run=_by_run,
        broken=_broken,
        text=text,
    )


def curve_data(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return what the page's script draws from.

    `labels`: the distinct test splits, a 0 or 1 a case. `curves`: texts, the index of the split,
    and the scores as base64 of little-endian float64 (NaN where undefined): exact, and shorter than
    the same as decimals.
    """
    labels: dict[str, int] = {}
    rows = []
    for curve in curves:
        actual = "".join("1" if a else "0" for a in curve.actual)
        scores = np.array([np.nan if s is None else s for s in curve.score], "<f8")
        rows.append(
            {
                "name": plain(curve.name),
                "dataset": plain(curve.dataset),
                "positive": plain(curve.positive),
                "negative": plain(curve.negative),
                "labels": labels.setdefault(actual, len(labels)),
                "score": base64.b64encode(scores.tobytes()).decode(),
                "shown": curve.shown,
                "tie": curve.tie_positive,
            }
        )
    return {"labels": list(labels), "curves": rows}


def class_rules(curves: Sequence[Curve]) -> list[str]:
    """Return, for each dataset, which class is positive and what a tie is called."""
    lines = [
        f"{c.dataset}: positive is “{c.positive}”, negative is “{c.negative}”; a probability "
        f"exactly at the threshold is called “{c.positive if c.tie_positive else c.negative}”."
        for c in curves
    ]
    return list(dict.fromkeys(lines))


@dataclass(frozen=True)
class _CellView:
    text: str
    limits: str  # of an interval: set below its value
    value: str | None  # to sort by: a number, "" for what comes last, None for a text
    numeric: bool


@dataclass(frozen=True)
class _TableView:
    columns: list[tuple[Column, bool]]
    rows: list[list[_CellView]]
    left_out: str | None
    meanings: list[Column]


def _table_view(table: Table) -> _TableView:
    numeric = columns_of_numbers(table)
    columns = list(zip(table.columns, numeric, strict=True))
    rows = [
        [_cell_view(c, column, right) for c, (column, right) in zip(row, columns, strict=True)]
        for row in table.rows[:ROWS_SHOWN]
    ]
    meanings = [column for column in table.columns if column.meaning]
    return _TableView(columns, rows, rows_left_out(table), meanings)


def _cell_view(cell: Cell, column: Column, numeric: bool) -> _CellView:
    value = number(cell)
    key = repr(value) if value is not None else "" if is_empty(cell) else None
    # JavaScript reads "Infinity", not "inf".
    key = key.replace("inf", "Infinity") if key else key
    shown, limits = text(cell, column.digits), ""
    if isinstance(cell, Interval) and cell.value is not None:
        shown, _, limits = shown.partition(" ")
    return _CellView(shown, limits, key, numeric)


def _broken(string: str) -> Markup:
    """Let a long name break after its underscores and slashes, which adds no character to it."""
    return Markup(re.sub(r"([_/])(?=\w\w)", r"\1<wbr>", str(escape(plain(string)))))


def _by_run(images: Sequence[ErrorImage]) -> list[tuple[str, list[ErrorImage]]]:
    ordered = sorted(images, key=lambda image: image.run)
    return [(run, list(group)) for run, group in groupby(ordered, lambda image: image.run)]


def _figure_source(figure: Figure, folder: Path) -> Markup:
    svg = figure.file(folder, "svg")
    if svg.stat().st_size <= _LARGEST_SVG:
        return _data_uri(svg.read_bytes(), "image/svg+xml")
    return _data_uri(figure.file(folder, "png").read_bytes(), "image/png")


def _data_uri(content: bytes, kind: str) -> Markup:
    # An SVG in an <img> runs no script and loads nothing.
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def _json(values: Any) -> Markup:
    """Return JSON that holds none of HTML's own characters, so that nothing ends its element."""
    encoded = json.dumps(values, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return Markup(encoded)


def _asset(name: str) -> str:
    return (files("beitmed.report.render") / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
