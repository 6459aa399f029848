"""What the tests of figures share: the drawn artists, and whether any of them overlap."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib.image
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from beitmed.plots.page import styled

HOSTILE = [
    "$x_1$ <script>alert(1)</script> \x00\x1b[0m\ufffe \U0001f9ec \u6f22\u5b57 $\\frac{$",
    "_" + "W" * 400,
    "long name " * 60,
    "",
]


def rendered(figure: Figure) -> Figure:
    """The figure, drawn as for the PNG."""
    figure.set_dpi(200)
    with styled():
        FigureCanvasAgg(figure).draw()
    return figure


def texts(figure: Figure) -> list[Text]:
    """All texts that are drawn: not empty, visible, and not a tick's outside of its axis."""
    ticks = {
        label: tick.get_visible() and low - 1e-9 <= tick.get_loc() <= high + 1e-9
        for axis in figure.findobj(Axis)
        for low, high in [sorted(axis.get_view_interval())]
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
    }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and ticks.get(text, True)
    ]


def assert_legible(figure: Figure) -> None:
    """Nothing leaves the page, and no two texts touch; boxes are of the renderer, in pixels."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert len(boxes) > 2
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, (name, box, page)
        assert page.y0 <= box.y0 and box.y1 <= page.y1, (name, box, page)
    for (one, a), (other, b) in combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, (one, other, a, b)


def assert_small_text_is_legible(figure: Figure) -> None:
    assert all(text.get_fontsize() >= 6 for text in texts(figure))


def assert_whole(paths: tuple[Path, Path], stem: Path, widths: tuple[float, ...]) -> None:
    """Both files are there, nothing else is, and the PNG has the width in inches at 200 dpi."""
    assert paths == (stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg"))
    assert sorted(p.name for p in stem.parent.iterdir()) == sorted(p.name for p in paths)
    picture = matplotlib.image.imread(paths[0])
    assert picture.shape[1] in [round(200 * width) for width in widths]
    assert picture[..., :3].min() < 0.3 and picture[..., :3].max() == 1.0
    svg = paths[1].read_text()
    assert svg.rstrip().endswith("</svg>") and "<script" not in svg.replace("<!--", "").lower()
