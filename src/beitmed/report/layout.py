"""Pages of a report's figures: parts placed in inches, text that fits, looks told without colour.

Nothing is left to an automatic layout: text is measured before it is placed, so that no name,
however long or wide, runs into what stands beside it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

from beitmed.plots.curves import STYLE, plain

EDGE = 0.08  # inches left free around a page
COLUMNS = 4  # small plots beside one another on a full width
#: Looks of curves: (dash, marker, colour); any two differ in dash and in marker.
LOOKS: tuple[tuple[Any, str, str], ...] = (
    ("-", "o", "#000000"),
    ((0, (4, 1.3)), "s", "#0072b2"),
    ((0, (1, 1)), "^", "#d55e00"),
    ((0, (6, 1.3, 1, 1.3)), "D", "#007a59"),
    ((0, (9, 2)), "v", "#a8478a"),
    ((0, (3, 1.2, 1, 1.2, 1, 1.2)), "P", "#7a5c00"),
    ((0, (2, 2.5)), "X", "#555555"),
    ((0, (10, 1.5, 3, 1.5)), "*", "#4b3fa7"),
)
_TITLE, _NOTE, _LEADING = 8.0, 7.0, 1.25  # points, points, distance of lines over their size
_DPI = 200  # of the PNG; parts lie on its grid, so that a pixel of a picture is whole pixels there


def styled() -> AbstractContextManager[None]:
    """Return the style that every page is made and written under."""
    return matplotlib.style.context(["default", STYLE])


def snap(inches: float) -> float:
    """Return the nearest length of a whole number of the PNG's pixels."""
    return round(inches * _DPI) / _DPI


class Page:
    """A figure with a heading, on which parts are placed in inches below it, from the left edge.

    `body` is the height below the heading. `title` and `notes` are shown as they are.
    """

    def __init__(self, width: float, body: float, title: str, notes: Sequence[str] = ()) -> None:
        room = width - 2 * EDGE
        heading = fitted(title, room, lines=4, size=_TITLE)
        remarks = "\n".join(fitted(note, room, lines=4, size=_NOTE) for note in notes)
        below_title = EDGE + height_of(heading, _TITLE)
        self.head = snap(below_title + height_of(remarks, _NOTE) + 0.06)
        self.width, self.height = snap(width), self.head + snap(body)
        self.figure = Figure(figsize=(self.width, self.height))
        self.text(EDGE, EDGE - self.head, heading, fontsize=_TITLE, linespacing=_LEADING)
        self.text(
            EDGE, below_title - self.head, remarks, fontsize=_NOTE, color="0.25",
            linespacing=_LEADING,
        )  # fmt: skip

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes; `top` counts downwards from the heading."""
        x, y, w, h = snap(left), self.head + snap(top), snap(width), snap(height)
        bottom = self.height - y - h
        return self.figure.add_axes(
            (x / self.width, bottom / self.height, w / self.width, h / self.height)
        )

    def text(self, left: float, top: float, text: str, **look: Any) -> None:
        """Add text, by default with its top left corner here; `$` and `<` stand for themselves."""
        look = {"va": "top", "ha": "left", "parse_math": False, **look}
        y = 1 - (self.head + top) / self.height
        self.figure.text(left / self.width, y, text, **look)

    def key(
        self, left: float, top: float, handles: Sequence[Artist], names: Sequence[str], **look: Any
    ) -> Legend:
        """Add a legend with its top left corner here; names may begin with `_` and hold `$`."""
        corner = (left / self.width, 1 - (self.head + top) / self.height)
        look = {"loc": "upper left", "borderaxespad": 0, "borderpad": 0, **look}
        # Set afterwards: a legend leaves out labels that begin with "_", and reads "$" as markup.
        legend = self.figure.legend(
            handles=list(handles), labels=["-"] * len(names), bbox_to_anchor=corner, **look
        )
        for drawn, name in zip(legend.get_texts(), names, strict=True):
            drawn.set_parse_math(False)
            drawn.set_text(name)
        return legend


def unit_square(axes: Axes) -> None:
    """Set both axes to run from 0 to 1, with labels short enough for a small plot."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set(xlim=(0, 1), ylim=(0, 1))


def height_of(text: str, size: float) -> float:
    """Return the height in inches of lines of text of this size in points; 0 without text."""
    return len(text.splitlines()) * size * _LEADING / 72


@cache
def width_of(text: str, size: float) -> float:
    """Return the width in inches of one line in the figures' font, size in points."""
    font = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return 1.02 * float(width) / 72  # hinting makes letters of the PNG up to that much wider


def fitted(text: str, inches: float, *, lines: int = 1, size: float = 7.5) -> str:
    """Return the text in at most this many lines, none wider than this; size in points.

    What is too long is cut in its middle: names of runs often differ at their ends only.
    """
    whole = " ".join(filter(None, plain(text).split(" ")))
    whole = whole if len(whole) <= 2000 else whole[:1000] + whole[-1000:]
    keep = len(whole)
    while True:
        head, tail = keep - keep // 3, len(whole) - keep // 3
        cut = whole if keep == len(whole) else f"{whole[:head]}…{whole[tail:]}"
        rows = _broken(cut, inches, size)
        if len(rows) <= lines or keep <= 3:
            return "\n".join(rows[:lines])
        keep = min(keep - 1, int(keep * max(0.5, 0.2 + 0.8 * lines / len(rows))))


def _broken(text: str, inches: float, size: float) -> list[str]:
    """Return lines of at most this width; a word is broken only where it is wider than a line."""
    letters = 1 + int(inches * 72 / size * 4)  # no letter is narrower than a quarter of its size
    while True:
        rows = textwrap.wrap(text, letters, break_on_hyphens=False)
        widest = max(rows, key=lambda row: width_of(row, size), default="")
        if width_of(widest, size) <= inches or letters == 1:
            return rows
        letters = max(1, min(letters - 1, int(len(widest) * inches / width_of(widest, size))))


def name_and_remark(name: str, remark: str, width: float) -> str:
    """Return the heading of a small plot (7 points): the name on at most two lines, a remark."""
    return f"{fitted(name, width, lines=2, size=7)}\n{fitted(remark, width, size=7)}".strip("\n")
