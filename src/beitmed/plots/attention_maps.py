"""Pictures of self-attention: maps over images, in a run's style, legible without colour.

Maps lie over the image with its pixels as they are stored. Their colours start at zero and go to
what is there: a map that is nearly uniform looks so, and is not stretched until it shows something.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.patheffects as effects
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beitmed.plots.curves import FULL_WIDTH, STYLE, wrapped, write

_ALPHA = 0.72  # of a map over its image: its brightness, not the image's, must tell
_MARGIN, _GAP = 0.08, 0.06  # inches
_LINE = 0.115  # inches, of the small print
_BAR = 0.56  # inches, of a colour bar with its numbers, label and the space below
_OUTLINED = 1.5  # times the even spread
_SMALL = 6.5  # points
_HEADS_PER_LINE = 8
_COLOURS = matplotlib.colormaps["magma"]
_STROKED: list[effects.AbstractPathEffect] = [
    effects.withStroke(linewidth=1.5, foreground="k")
]  # white, seen on white too
# As the colours look over an image of medium grey.
_OVER_GREY = ListedColormap(_ALPHA * _COLOURS(np.linspace(0, 1, 256)) + (1 - _ALPHA) * 0.5)


@dataclass(frozen=True)
class Explained:
    """Attention maps of some images of a split, with all that a reader must know about them.

    heads [n, heads, 1 + patches] and rollout [n, 1 + patches] are shares of attention; entry 0 is
    CLS, then the patches row by row. images uint8 [n, h, w(, 3)]; labels, predictions int [n].
    """

    title: str
    split: str
    chosen: str  # how the images were, as a part of a sentence
    indices: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    class_names: tuple[str, ...]
    layer: int
    layers: int
    rows: str  # "patches" or "cls": whose attention is shown
    read_by_head: str  # idem: which tokens the classifier reads
    heads: np.ndarray
    rollout: np.ndarray
    covered: tuple[float, float] = (1.0, 1.0)  # shares of the image's height and width, centred

    @property
    def mean(self) -> np.ndarray:
        """Over the heads [n, 1 + patches]."""
        return self.heads.mean(1)

    @property
    def patches(self) -> int:
        return self.rollout.shape[-1] - 1

    @property
    def side(self) -> int:
        """Patches along a side of the image."""
        return round(self.patches**0.5)

    @property
    def uniform(self) -> float:
        """The share of each token where attention is spread evenly over all, CLS included."""
        return 1 / (self.patches + 1)

    def grid(self, shares: np.ndarray) -> np.ndarray:
        """[..., 1 + patches] -> [..., side, side], without CLS."""
        return shares[..., 1:].reshape(*shares.shape[:-1], self.side, self.side)

    @property
    def shown_rows(self) -> str:
        """Whose attention the maps show, and whether the classifier reads those tokens."""
        whose = {"patches": f"mean over the {self.patches} patch rows", "cls": "row of CLS"}
        read = {"patches": "the mean of the patch tokens", "cls": "the CLS token"}
        shown = f"{whose[self.rows]} of layer {self.layer} of {self.layers}"
        head = f"the classifier reads {read[self.read_by_head]}"
        if self.rows != self.read_by_head:
            return f"{shown}, which is NOT what the classifier reads: {head}"
        if self.layer != self.layers:
            return f"{shown}; {head} after layer {self.layers}, not after this one"
        return f"{shown}: {head}"

    @property
    def caption(self) -> str:
        """What the maps show, how, and what they cannot show."""
        return (
            f"Self-attention over images of the {self.split} split ({self.chosen}). Maps: "
            f"{self.shown_rows}. Brightness: share of attention on a patch in %, from 0 (the image "
            f"shows through); marked on each bar: an even spread over {self.patches} patches "
            f"and CLS ({100 * self.uniform:.2f} %); lines enclose patches with {_OUTLINED} times "
            "that or more. What falls on CLS is on no map and stands in brackets. Mean: over the "
            "heads. Rollout: the same rows of the product of (mean over heads + identity)/2 over "
            f"all {self.layers} layers (Abnar and Zuidema 2020). Attention is not attribution: "
            "a map shows where tokens took values from, not which pixels decided the class, nor "
            "whether they spoke for or against it."
        )

    def name(self, i: int) -> str:
        """What image i is, in one line."""
        actual, predicted = (self.class_names[int(k[i])] for k in (self.labels, self.predictions))
        verdict = "correct" if self.labels[i] == self.predictions[i] else "WRONG"
        index = int(self.indices[i])
        return f"{self.split} {index}: {actual}; predicted: {predicted} ({verdict})"


class _Page:
    """A figure on which things are placed in inches from its upper left corner.

    The titles stand on top; then comes `inner` inches of space from `top` on; then the caption.
    """

    def __init__(self, titles: Sequence[str], inner: float, caption: str) -> None:
        heading = [line for title in titles for line in _lines(title, 118)]
        text = textwrap.wrap(caption, 130)  # all of it, however long
        self.top = _MARGIN + len(heading) * 0.13 + 0.06
        self.height = self.top + inner + len(text) * _LINE + _MARGIN
        self.figure = Figure(figsize=(FULL_WIDTH, self.height))
        self.text(_MARGIN, _MARGIN, "\n".join(heading), 7.5)
        self.text(_MARGIN, self.top + inner, "\n".join(text))

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        w, h = FULL_WIDTH, self.height
        return self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))

    def text(self, x: float, y: float, text: str, size: float = _SMALL) -> None:
        self.figure.text(
            x / FULL_WIDTH, 1 - y / self.height, text, va="top", fontsize=size, parse_math=False,
        )  # fmt: skip


def overview(path_stem: Path, explained: Explained) -> tuple[Path, Path]:
    """Write image, mean over heads and rollout of all images as `<path_stem>.png` and `.svg`.

    Two images a line; the two scales are shared by all images. Returns the two paths.
    """
    mean, rolled = _Scale.of(explained, explained.mean), _Scale.of(explained, explained.rollout)
    names = [_lines(explained.name(i), 64) for i in range(len(explained.indices))]
    named = max(map(len, names)) * _LINE + 0.03
    side = (FULL_WIDTH - 2 * _MARGIN - 6 * _GAP) / 6
    lines, step = -(-len(names) // 2), named + side + 2.2 * _LINE
    with matplotlib.style.context(["default", STYLE]):
        page = _Page([explained.title], lines * step + _BAR, explained.caption)
        for i, name in enumerate(names):
            x = _MARGIN + (i % 2) * (3 * side + 4 * _GAP)
            y = page.top + (i // 2) * step
            page.text(x, y, "\n".join(name))
            _three(page, explained, i, (x, y + named, side, side + _GAP), (mean, rolled))
        wide, y = FULL_WIDTH / 2 - 4 * _MARGIN, page.top + lines * step
        _bar(page.axes(2 * _MARGIN, y, wide, 0.09), mean, "Mean over heads: ")
        _bar(page.axes(FULL_WIDTH / 2 + 2 * _MARGIN, y, wide, 0.09), rolled, "Rollout: ")
        return write(page.figure, path_stem)


def one_image(path_stem: Path, explained: Explained, i: int) -> tuple[Path, Path]:
    """Write image i with the mean over heads, rollout and a map a head; `.png` and `.svg`.

    All heads share one scale. Returns the two paths.
    """
    heads, large, apart = explained.heads[i], 1.6, 2.5
    mean, rolled, each = (
        _Scale.of(explained, shares) for shares in (explained.mean[i], explained.rollout[i], heads)
    )
    columns = min(_HEADS_PER_LINE, len(heads))
    small = (FULL_WIDTH - 2 * _MARGIN - (_HEADS_PER_LINE - 1) * _GAP) / _HEADS_PER_LINE
    line, lines = small + 1.6 * _LINE, -(-len(heads) // columns)
    upper = large + 2.2 * _LINE + _BAR
    with matplotlib.style.context(["default", STYLE]):
        inner = upper + lines * line + _BAR
        page = _Page([explained.title, explained.name(i)], inner, explained.caption)
        _three(page, explained, i, (_MARGIN, page.top, large, apart), (mean, rolled))
        for k, scale in enumerate((mean, rolled), start=1):
            y = page.top + large + 2.2 * _LINE
            _bar(page.axes(_MARGIN + k * apart, y, large, 0.09), scale, "")
        for k, shares in enumerate(heads):
            x = _MARGIN + (k % columns) * (small + _GAP)
            y = page.top + upper + (k // columns) * line
            _panel(page.axes(x, y, small, small), explained, i, shares, each)
            page.text(x, y + small + 0.02, f"Head {k + 1}{_on_cls(shares)}", 5.5)
        y = page.top + upper + lines * line
        _bar(page.axes(_MARGIN + 0.1, y, FULL_WIDTH / 2, 0.09), each, "Heads: ")
        return write(page.figure, path_stem)


def _three(
    page: _Page,
    explained: Explained,
    i: int,
    place: tuple[float, float, float, float],
    scales: tuple[_Scale, _Scale],
) -> None:
    """The image, its mean over heads and its rollout; place is x, y, side, and from x to x."""
    x, y, side, step = place
    for k, (shares, scale, title) in enumerate(
        (
            (None, None, f"Image, {explained.images.shape[1]} px"),
            (explained.mean[i], scales[0], "Mean"),
            (explained.rollout[i], scales[1], "Rollout"),
        )
    ):
        _panel(page.axes(x + k * step, y, side, side), explained, i, shares, scale)
        page.text(x + k * step, y + side + 0.03, title + _on_cls(shares))


@dataclass(frozen=True)
class _Scale:
    """From a share of attention to a brightness; `cut` where single patches are above its end."""

    norm: Normalize
    uniform: float  # in %
    cut: bool

    @classmethod
    def of(cls, explained: Explained, shares: np.ndarray) -> _Scale:
        # One patch that draws everything would leave the others black.
        on_patches = 100 * shares[..., 1:]
        uniform = 100 * explained.uniform
        top = max(float(np.quantile(on_patches, 0.995)), 2 * uniform)
        return cls(Normalize(0, top), uniform, bool(on_patches.max() > top))


def _panel(
    axes: Axes, explained: Explained, i: int, shares: np.ndarray | None, scale: _Scale | None
) -> None:
    """An image, and over it, where there are shares [1 + patches], their map."""
    box = (0.0, 1.0, 1.0, 0.0)
    axes.imshow(explained.images[i], "gray", vmin=0, vmax=255, interpolation="nearest", extent=box)
    if shares is not None and scale is not None:
        grid = explained.grid(shares)
        height, width = explained.covered
        left, top = (1 - width) / 2, (1 - height) / 2
        axes.imshow(
            100 * grid, _COLOURS, scale.norm, alpha=_ALPHA, interpolation="nearest",
            extent=(left, left + width, top + height, top),
        )  # fmt: skip
        edges = (
            np.array(_outline(grid >= _OUTLINED * explained.uniform)).reshape(-1, 2, 2)
            / explained.side
        )
        lines = LineCollection(list(edges * (width, height) + (left, top)), colors="w")
        lines.set(linewidth=0.5, path_effects=_STROKED)
        axes.add_collection(lines)
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="auto")
    axes.set_axis_off()


def _outline(inside: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Edges, as pairs of (x, y) in patches, between patches inside and not."""
    padded = np.pad(inside, 1).astype(np.int8)
    across = np.argwhere(np.diff(padded, axis=0)[:, 1:-1] != 0)
    along = np.argwhere(np.diff(padded, axis=1)[1:-1] != 0)
    return [((int(c), int(r)), (int(c) + 1, int(r))) for r, c in across] + [
        ((int(c), int(r)), (int(c), int(r) + 1)) for r, c in along
    ]


def _bar(axes: Axes, scale: _Scale, what: str) -> None:
    bar = axes.figure.colorbar(
        ScalarMappable(scale.norm, _OVER_GREY), cax=axes, orientation="horizontal",
        extend="max" if scale.cut else "neither",
    )  # fmt: skip
    bar.locator = MaxNLocator(4)
    bar.ax.tick_params(labelsize=_SMALL, length=2, pad=1)
    bar.outline.set_linewidth(0.5)
    (mark,) = bar.ax.plot([scale.uniform] * 2, [0, 1], "w-", linewidth=1, scalex=False)
    mark.set_path_effects(_STROKED)
    label = f"{what}share of attention (%)\nmark: even spread, {scale.uniform:.2f}"
    bar.set_label(label[0].upper() + label[1:], size=_SMALL, labelpad=1)


def _on_cls(shares: np.ndarray | None) -> str:
    return "" if shares is None else f" (CLS {100 * shares[0]:.1f} %)"


def _lines(text: str, width: int) -> Sequence[str]:
    return wrapped(text, width).splitlines()
