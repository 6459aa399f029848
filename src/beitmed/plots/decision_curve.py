"""Decision curves: is a model worth deciding by, at each threshold probability?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from beitmed.plots.page import WIDTH, Page, styled
from beitmed.plots.text import fitted
from beitmed.statistics.decisions import NetBenefit

_ALL: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 1.3))}
_NONE: dict[str, Any] = {"color": "0.35", "linestyle": (0, (1, 2)), "linewidth": 0.9}


@styled()
def decision_curve(
    points: Sequence[NetBenefit], *, title: str, positive_name: str, width: float = WIDTH
) -> Figure:
    """Draw the net benefit of a model against the threshold probability, with its 95 % band.

    Beside it stand those of calling every image positive, and none (0). ValueError: no points.
    """
    if not points:
        raise ValueError("points: none, but at least one is needed")
    of = {name: np.array([getattr(p, name) for p in points]) for name in
          ("threshold", "value", "low", "high", "treat_all")}  # fmt: skip
    page = Page(width, 3.0, title, [f"Positive: {positive_name}"])
    axes = page.axes(0.6, 0.05, width - 0.75, 2.0)
    axes.fill_between(of["threshold"], of["low"], of["high"], color="0.85", linewidth=0)
    axes.plot(of["threshold"], of["treat_all"], **_ALL)
    axes.axhline(0, **_NONE)
    axes.plot(of["threshold"], of["value"], color="black")
    top = max(float(of["high"].max()), float(of["treat_all"].max()), 0.01)
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.05 * top))
    axes.set_xlabel("Threshold probability")
    axes.set_ylabel("Net benefit per image")
    handles = [
        Line2D([], [], color="black"),
        Patch(color="0.85"),
        Line2D([], [], **_ALL),
        Line2D([], [], **_NONE),
    ]
    names = [
        "the model",
        "95 %, pointwise",
        f"every image called {positive_name}",
        f"none called {positive_name}",
    ]
    page.key(0.6, 2.45, handles, [fitted(n, width - 1.2, lines=1, size=7) for n in names])
    return page.figure
