"""Reliability diagrams: are the predicted probabilities what is then observed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

from beitmed.plots.page import COLUMNS, EDGE, FULL_WIDTH, WIDTH, Page, styled, unit_square
from beitmed.plots.roc import case_counts
from beitmed.plots.text import height_of, name_and_remark
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.proportions import wilson


@dataclass(frozen=True)
class Reliability:
    """A variant's test cases (as in `roc.RocCurve`) and its calibration error.

    With a temperature, fitted on validation data, the variant is shown before and after it.
    """

    name: str
    y: Bools
    score: Floats
    error: Estimate | None = None
    temperature: float | None = None
    error_temperature: Estimate | None = None


def reliability_bins(y: Bools, score: Floats, bins: int) -> dict[str, Floats]:
    """Return count, mean prediction, observed share and its Wilson limits, each [bins].

    y and score as in `roc.RocCurve`. Bins are of equal width and closed below; in an empty one all
    but the count is NaN.
    """
    p = expit(score)
    member = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(member, minlength=bins).astype(np.float64)
    hits = np.bincount(member, weights=y, minlength=bins)
    full = count > 0
    result = {key: np.full(bins, np.nan) for key in ("mean", "share", "low", "high")}
    result["mean"][full] = np.bincount(member, weights=p, minlength=bins)[full] / count[full]
    result["share"][full] = hits[full] / count[full]
    result["low"][full], result["high"][full] = wilson(hits[full], count[full])
    return {"count": count, **result}


@styled()
def reliability(
    panels: Sequence[Reliability],
    *,
    title: str,
    positive_name: str,
    bins: int = 10,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw reliability diagrams: observed share of positives against their predicted probability.

    A point is a bin of `reliability_bins`, at its mean prediction; the strip below counts its
    cases. The calibration error is printed as given. ValueError: no panels.
    """
    if not panels:
        raise ValueError("panels: none, but at least one is needed")
    parts = [part for panel in panels for part in _before_and_after(panel)]
    width = WIDTH if len(parts) == 1 else width
    columns = min(len(parts), COLUMNS if width > WIDTH else 2)
    if len(parts) > len(panels) and columns % 2:
        columns -= 1  # before and after stay beside one another
    left, gap, strip = 0.55, 0.38, 0.32
    side = min(2.6, (width - left - EDGE - gap * (columns - 1)) / columns)
    headings = [name_and_remark(name, remark, side + 0.06) for name, remark, _, _ in parts]
    above = max(height_of(heading, 7) for heading in headings) + 0.06
    pitch, rows = above + side + strip + 0.42, -(-len(parts) // columns)
    page = Page(width, rows * pitch + 0.2, title, _notes(panels, positive_name, bins))
    for i, (_, _, y, score) in enumerate(parts):
        x, top = left + i % columns * (side + gap), i // columns * pitch
        page.text(x, top + above - 0.04, headings[i], va="bottom", fontsize=7)
        main = page.axes(x, top + above, side, side)
        counts = page.axes(x, top + above + side + 0.15, side, strip)
        _draw_reliability(main, counts, y, score, bins)
        if i % columns == 0:
            main.set_ylabel("Observed share")
            counts.set_ylabel("Cases")
            for axes in (main, counts):
                axes.yaxis.set_label_coords(-0.36 / side, 0.5)
        main.tick_params(labelbottom=False, labelleft=i % columns == 0)
    page.text(left, rows * pitch - 0.02, "Predicted probability of the positive class")
    return page.figure


def _notes(panels: Sequence[Reliability], positive_name: str, bins: int) -> list[str]:
    positive = f"Positive: {positive_name}"
    if len({(int(panel.y.sum()), panel.y.size) for panel in panels}) == 1:
        positive = case_counts(panels[0].y, positive_name)
    binning = f"{bins} bins of equal width; points at a bin's mean, bars 95 % Wilson intervals"
    return [positive, binning]


def _before_and_after(panel: Reliability) -> list[tuple[str, str, Bools, Floats]]:
    """Return (name, remark, y, score) of each diagram of a panel."""

    def remark(what: str, error: Estimate | None) -> str:
        if error is None or error.value is None:
            return what
        return f"{what}, error {error.value:.3f}"

    if panel.temperature is None:
        n = f"n = {panel.y.size}"
        return [(panel.name, remark(n, panel.error), panel.y, panel.score)]
    after = f"T = {panel.temperature:.2f}"
    return [
        (panel.name, remark("before", panel.error), panel.y, panel.score),
        (panel.name, remark(after, panel.error_temperature), panel.y,
         panel.score / panel.temperature),
    ]  # fmt: skip


def _draw_reliability(main: Axes, strip: Axes, y: Bools, score: Floats, bins: int) -> None:
    of = reliability_bins(y, score, bins)
    main.plot([0, 1], [0, 1], color="0.45", linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    main.vlines(of["mean"], of["low"], of["high"], color="0.35", linewidth=0.8)
    main.plot(of["mean"], of["share"], "ko", markersize=3, clip_on=False, zorder=3)
    unit_square(main)
    edges = np.linspace(0, 1, bins + 1)
    strip.bar(edges[:-1], of["count"], width=1 / bins, align="edge", color="0.6",
              edgecolor="white", linewidth=0.4)  # fmt: skip
    top = max(1, int(of["count"].max()))
    unit_square(strip)
    strip.set_ylim(0, top)
    strip.set_yticks([0, top], ["0", f"{top}"], fontsize=6)
