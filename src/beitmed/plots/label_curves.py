"""Label efficiency: measures against the number of labelled images, a line a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from beitmed.plots.curves import Panel
from beitmed.plots.page import EDGE, FULL_WIDTH, LOOKS, WIDTH, Page, styled
from beitmed.plots.text import fitted

_APART = 0.34  # inches, at least, between the numbers on the axis
_CHANCE: dict[str, Any] = {"color": "0.35", "linewidth": 0.9, "linestyle": (0, (1, 2))}


@styled()
def label_curves(
    panels: Sequence[Panel],
    *,
    title: str,
    ticks: Sequence[tuple[float, str]],
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw a plot a measure, a line a method, over the logarithm of the labelled training images.

    ticks: numbers of labels and what is written below each, such as "10 %". Methods stand a little
    beside one another, so that intervals at the same number do not hide one another. Of more
    methods than there are looks (8) only the first are drawn. ValueError: no panels.
    """
    if not panels:
        raise ValueError("panels: none, but at least one is needed")
    narrow = width <= WIDTH
    side_by_side = 1 if narrow else len(panels)
    left, gap, high = 0.55, 0.6, 2.1
    each = (width - left - 0.15 - gap * (side_by_side - 1)) / side_by_side
    rows = -(-len(panels) // side_by_side)
    names = [curve.name for curve in panels[0].curves][: len(LOOKS)]
    room = width / (1 if narrow else 2) - 0.75
    shown = [fitted(name, room, lines=2, size=7) for name in names]
    lines = sum(name.count("\n") + 1 for name in shown) / (1 if narrow else 2)
    below = rows * (high + 0.62)
    key_height = 0.15 * (math.ceil(lines) + 1) + 0.15
    page = Page(width, below + key_height, title)
    span = [x for panel in panels for curve in panel.curves for x in curve.at]
    for i, panel in enumerate(panels):
        across, down = i % side_by_side, i // side_by_side
        axes = page.axes(left + across * (each + gap), 0.05 + down * (high + 0.62), each, high)
        _draw(axes, panel, (min(span), max(span)))
        _ticks(axes, ticks, each)
        axes.set_ylabel(fitted(panel.name, high), parse_math=False)
        axes.set_xlabel("Labelled training images")
    handles = [_line(i) for i in range(len(names))]
    if any(panel.no_skill is not None for panel in panels):
        handles.append(Line2D([], [], **_CHANCE))
        shown.append("Constant prediction")
    page.key(EDGE if narrow else left, below + 0.05, handles, shown,
             ncols=1 if narrow else 2, handlelength=3)  # fmt: skip
    return page.figure


def _line(i: int) -> Line2D:
    dash, marker, colour = LOOKS[i]
    return Line2D([], [], linestyle=dash, marker=marker, color=colour)


def _draw(axes: Axes, panel: Panel, span: tuple[float, float]) -> None:
    curves = panel.curves[: len(LOOKS)]
    width = math.log(span[1] / span[0]) or 1.0
    for i, curve in enumerate(curves):
        dash, marker, colour = LOOKS[i]
        beside = math.exp(0.012 * width * (i - (len(curves) - 1) / 2))
        known = [v is not None for v in curve.values]
        x = np.array(curve.at, np.float64)[known] * beside
        y, low, high = (
            np.array([v for v, k in zip(of, known, strict=True) if k], np.float64)
            for of in (curve.values, curve.low, curve.high)
        )
        axes.plot(x, y, linestyle=dash, marker=marker, color=colour)
        axes.vlines(x, low, high, color=colour, linewidth=0.8)
    if panel.no_skill is not None:
        axes.axhline(panel.no_skill, **_CHANCE)
    axes.set_xscale("log")
    margin = math.exp(0.06 * width)
    axes.set_xlim(span[0] / margin, span[1] * margin)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def _ticks(axes: Axes, ticks: Sequence[tuple[float, str]], width: float) -> None:
    low, high = np.log(axes.get_xlim())
    shown: list[tuple[float, str]] = []
    for x, text in sorted(ticks, reverse=True):  # the whole of the labels always stays
        if not shown or (math.log(shown[-1][0]) - math.log(x)) / (high - low) * width >= _APART:
            shown.append((x, text))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([x for x, _ in shown], [f"{x:,.0f}\n{text}" for x, text in shown])
