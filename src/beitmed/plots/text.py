"""Text of figures: measured before it is placed, and cut where there is no room for it."""

from __future__ import annotations

import textwrap
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

LEADING = 1.25  # the distance of lines over their size


def plain(text: str) -> str:
    """Return the text without the control characters that XML forbids.

    A letter that the figures' font lacks (DejaVu Sans, which comes with matplotlib: no emoji, no
    Chinese) becomes "□", which is also what would be drawn, after a warning for each.
    """
    letters = (c if c.isprintable() or c == "\u00a0" else " " for c in text)
    return "".join(c if ord(c) in _drawable() else "□" for c in letters)


@cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def height_of(text: str, size: float) -> float:
    """Return the height in inches of lines of text of this size in points; 0 without text."""
    return len(text.splitlines()) * size * LEADING / 72


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


def name_and_remark(name: str, remark: str, width: float, *, size: float = 7) -> str:
    """Return the heading of a small plot: the name on at most two lines, and a remark."""
    return f"{fitted(name, width, lines=2, size=size)}\n{fitted(remark, width, size=size)}".strip(
        "\n"
    )
