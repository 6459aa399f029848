"""How a pre-training went: its losses, and what probes of its features tell of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from beitmed.plots.page import EDGE, FULL_WIDTH, LOOKS, WIDTH, Page, styled

NAMES = {"train_loss": "training images", "held_out_loss": "held-out images"}


@styled()
def pretraining_curves(
    rows: Sequence[Mapping[str, Any]], *, title: str, width: float = FULL_WIDTH
) -> Figure:
    """Draw the losses by epoch, and beside or below them the AUC of each probe if there is one.

    rows: of a history; None or NaN leaves a gap.
    ValueError: no rows.
    """
    if not rows:
        raise ValueError("rows: none, but at least one is needed")
    aucs = [name for name in rows[0] if name.startswith("val_auc_")]
    panels = [("Loss", dict(NAMES))]
    if aucs:
        names = {name: name.removeprefix("val_auc_") for name in aucs}
        panels.append(("AUC of val, by a probe", names))
    beside = width > WIDTH and len(panels) == 2
    left, high, key = 0.72, 1.5, 0.16 * max(len(names) for _, names in panels) + 0.1
    across = (width - EDGE - left * len(panels)) / len(panels) if beside else width - left - EDGE
    pitch = high + 0.42 + key
    page = Page(width, pitch if beside else pitch * len(panels), title)
    for i, (label, names) in enumerate(panels):
        x, y = (i * (across + left), 0.0) if beside else (0.0, i * pitch)
        axes = page.axes(left + x, y + 0.05, across - 0.05, high)
        handles = _draw(axes, rows, names)
        axes.set(xlabel="Epoch", ylabel=label)
        page.key(left + x, y + high + 0.42, handles, list(names.values()), handlelength=2.6)
    return page.figure


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Line2D]:
    epochs = [row["epoch"] for row in rows]
    handles = []
    for (name, _), (dash, marker, colour) in zip(names.items(), LOOKS, strict=False):
        look = {"linestyle": dash, "color": colour, "marker": marker}
        values = [np.nan if row.get(name) is None else row[name] for row in rows]
        axes.plot(epochs, values, markevery=1 + len(rows) // 15, **look)
        handles.append(Line2D([], [], **look))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return handles
