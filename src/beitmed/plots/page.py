"""The page that every figure is drawn on, and its files: PNG (200 dpi) and SVG.

Parts are placed in inches, and text is measured before it is placed, so that no name, however long
or wide, runs into what stands beside it. Every figure can be had at the width of a page and of a
column; its text has 6 points or more. Drawn without pyplot, under matplotlib's default style
whatever the user's own settings are: the same input gives the same bytes with the same version of
matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from beitmed.plots.text import LEADING, fitted, height_of
from beitmed.storage import files

WIDTH = 3.3  # inches: one column of a two-column page
FULL_WIDTH = 6.9  # both columns
EDGE = 0.08  # inches left free around a page
COLUMNS = 4  # small plots beside one another on a full width
DPI = 200  # of the PNG; parts lie on its grid, so that a pixel of a picture is whole pixels there
#: Of curves: (dash, marker, colour); any two differ in dash and in marker.
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
_TITLE, _NOTE = 8.0, 7.0  # points
_STYLE = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.hashsalt": "beitmed",  # else the ids inside an SVG differ each time
}


@contextmanager
def styled() -> Iterator[None]:
    """Set the style that every figure is drawn and written under; also a decorator."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def snap(inches: float) -> float:
    """Return the nearest length of a whole number of the PNG's pixels."""
    return round(inches * DPI) / DPI


class Page:
    """A figure with a heading, on which parts are placed in inches below it, from the left edge.

    `body` is the height below the heading. `title`, `notes` and the `caption` at the foot are shown
    as they are; a caption is never cut.
    """

    def __init__(
        self,
        width: float,
        body: float,
        title: str,
        notes: Sequence[str] = (),
        caption: str = "",
    ) -> None:
        room = width - 2 * EDGE
        # As much in a column as on a page, which is twice as wide.
        lines = 4 if width > WIDTH else 7
        heading = fitted(title, room, lines=lines, size=_TITLE)
        remarks = "\n".join(fitted(note, room, lines=lines, size=_NOTE) for note in notes)
        foot = fitted(caption, room, lines=60, size=6.5)
        below_title = EDGE + height_of(heading, _TITLE)
        self.head = snap(below_title + height_of(remarks, _NOTE) + 0.06)
        below_body = snap(height_of(foot, 6.5) + EDGE) if foot else 0
        self.width, self.height = snap(width), self.head + snap(body) + below_body
        self.figure = Figure(figsize=(self.width, self.height))
        self.text(EDGE, EDGE - self.head, heading, fontsize=_TITLE)
        self.text(EDGE, below_title - self.head, remarks, fontsize=_NOTE, color="0.25")
        self.text(EDGE, body, foot, fontsize=6.5)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes; `top` counts downwards from the heading."""
        x, y, w, h = snap(left), self.head + snap(top), snap(width), snap(height)
        bottom = self.height - y - h
        return self.figure.add_axes(
            (x / self.width, bottom / self.height, w / self.width, h / self.height)
        )

    def text(self, left: float, top: float, text: str, **look: Any) -> None:
        """Add text, by default with its top left corner here; `$` and `<` stand for themselves."""
        look = {"va": "top", "ha": "left", "parse_math": False, "linespacing": LEADING, **look}
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
        for shown, name in zip(legend.get_texts(), names, strict=True):
            shown.set_parse_math(False)
            shown.set_text(name)
        return legend


def unit_square(axes: Axes) -> None:
    """Set both axes to run from 0 to 1, with labels short enough for a small plot."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set(xlim=(0, 1), ylim=(0, 1))


@styled()
def write(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write the figure as `<path_stem>.png` and `.svg`, each complete before it gets its name."""
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        # Not with_suffix: a stem may hold a dot.
        path = path_stem.with_name(f"{path_stem.name}.{kind}")
        with files.renamed(path) as part:
            figure.savefig(part, format=kind, dpi=DPI, metadata=metadata)
        paths.append(path)
    return paths[0], paths[1]


def write_both(draw: Callable[..., Figure], path_stem: Path) -> None:
    """Write a figure at the width of a page, and as `<path_stem>-column` at that of a column."""
    write(draw(width=FULL_WIDTH), path_stem)
    write(draw(width=WIDTH), path_stem.with_name(f"{path_stem.name}-column"))
