"""Pictures of self-attention: maps over images, in a run's style, legible without colour.

Maps lie over the image with its pixels as they are stored. Their colours start at zero and go to
what is there: a map that is nearly uniform looks so, and is not stretched until it shows something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from beitmed.plots import overlays
from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted, height_of

_GAP = 0.06  # inches
_LINE = 0.115  # inches, of the small print
_BAR = 0.56  # inches, of a colour bar with its numbers, label and the space below
_OUTLINED = 1.5  # times the even spread
_SMALL = 6.5  # points


@dataclass(frozen=True)
class Explained:
    """Attention maps of some images, with all that a reader must know about them.

    heads [n, heads, tokens] and rollout [n, tokens] are shares of attention: of the `prefix` tokens
    that stand before the patches, CLS first, then of the patches row by row. images uint8
    [n, h, w(, 3)]; names: what each is and what was predicted.
    """

    title: str
    chosen: str  # the images, as a part of a sentence
    images: np.ndarray
    names: tuple[str, ...]
    layer: int
    layers: int
    rows: str  # "patches", "cls" or "both": whose attention is shown
    read_by_head: str  # the same words: which tokens the classifier reads
    heads: np.ndarray
    rollout: np.ndarray
    prefix: int = 1
    covered: tuple[float, float] = (1.0, 1.0)  # shares of the image's height and width, centred

    @property
    def mean(self) -> np.ndarray:
        """Over the heads [n, tokens]."""
        return self.heads.mean(1)

    @property
    def patches(self) -> int:
        return self.rollout.shape[-1] - self.prefix

    @property
    def side(self) -> int:
        """Patches along a side of the image."""
        return round(self.patches**0.5)

    @property
    def uniform(self) -> float:
        """The share of each token where attention is spread evenly over all, CLS included."""
        return 1 / (self.patches + self.prefix)

    def grid(self, shares: np.ndarray) -> np.ndarray:
        """[..., tokens] -> [..., side, side], of the patches."""
        return shares[..., self.prefix :].reshape(*shares.shape[:-1], self.side, self.side)

    @property
    def shown_rows(self) -> str:
        """Whose attention the maps show, and whether the classifier reads those tokens."""
        patches = f"mean over the {self.patches} patch rows"
        whose = {
            "patches": patches,
            "cls": "row of CLS",
            "both": f"mean of CLS's row and {patches}",
        }
        read = {"patches": "the mean of the patch tokens", "cls": "the CLS token"}
        read["both"] = f"{read['cls']} beside {read['patches']}"
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
        other = {0: "", 1: " and CLS"}.get(self.prefix, f", CLS and {self.prefix - 1} other tokens")
        outside = f"What falls on {self._prefixed} is on no map and stands in brackets. "
        return (
            f"Self-attention over {self.chosen}. Maps: "
            f"{self.shown_rows}. Brightness: share of attention on a patch in %, from 0 (the image "
            f"shows through); marked on each bar: an even spread over {self.patches} patches"
            f"{other} ({100 * self.uniform:.2f} %); lines enclose patches with {_OUTLINED} times "
            f"that or more. {outside if self.prefix else ''}Mean: over the "
            "heads. Rollout: the same rows of the product of (mean over heads + identity)/2 over "
            f"all {self.layers} layers (Abnar and Zuidema 2020). Attention is not attribution: "
            "a map shows where tokens took values from, not which pixels decided the class, nor "
            "whether they spoke for or against it."
        )

    @property
    def _prefixed(self) -> str:
        return "CLS" if self.prefix == 1 else "the tokens before the patches"

    def beside(self, shares: np.ndarray) -> str:
        """What is on no map, of shares [tokens]."""
        if not self.prefix:
            return ""
        name = "CLS" if self.prefix == 1 else "others"
        return f" ({name} {100 * shares[: self.prefix].sum():.1f} %)"


@styled()
def overview(explained: Explained, *, width: float = FULL_WIDTH) -> Figure:
    """Draw image, mean over heads and rollout of all images, on two scales that they share.

    Two images a line on a page, one in a column.
    """
    mean, rolled = _Scale.of(explained, explained.mean), _Scale.of(explained, explained.rollout)
    across = 2 if width > WIDTH else 1
    side = (width - 2 * EDGE - (3 * across - 1 + (across - 1)) * _GAP) / (3 * across)
    of_one = 3 * side + 2 * _GAP
    names = [fitted(name, of_one, lines=9, size=_SMALL) for name in explained.names]
    named = max(height_of(name, _SMALL) for name in names) + 0.03
    lines, step = -(-len(names) // across), named + side + 2.2 * _LINE
    inner = lines * step + _BAR
    page = Page(width, inner, explained.title, caption=explained.caption)
    for i, name in enumerate(names):
        x = EDGE + (i % across) * (of_one + 2 * _GAP)
        y = (i // across) * step
        page.text(x, y, name, fontsize=_SMALL)
        _three(page, explained, i, (x, y + named, side, side + _GAP), (mean, rolled))
    wide = width / 2 - 4 * EDGE
    for k, (scale, what) in enumerate(((mean, "Mean: "), (rolled, "Rollout: "))):
        _bar(page.axes(2 * EDGE + k * width / 2, lines * step, wide, 0.09), scale, what)
    return page.figure


@styled()
def one_image(explained: Explained, i: int, *, width: float = FULL_WIDTH) -> Figure:
    """Draw image i with the mean over heads, rollout and a map a head; all heads share a scale."""
    heads = explained.heads[i]
    mean, rolled, each = (
        _Scale.of(explained, shares) for shares in (explained.mean[i], explained.rollout[i], heads)
    )
    apart = (width - 2 * EDGE + _GAP) / 3
    large, across = min(1.6, apart - 0.12), 8 if width > WIDTH else 4
    small = (width - 2 * EDGE - (across - 1) * _GAP) / across
    line, lines = small + 1.6 * _LINE, -(-len(heads) // across)
    upper = large + 2.2 * _LINE + _BAR
    notes = [explained.names[i]]
    page = Page(
        width, upper + lines * line + _BAR, explained.title, notes, caption=explained.caption
    )
    _three(page, explained, i, (EDGE, 0, large, apart), (mean, rolled))
    for k, scale in enumerate((mean, rolled), start=1):
        _bar(page.axes(EDGE + k * apart, large + 2.2 * _LINE, large, 0.09), scale, "")
    for k, shares in enumerate(heads):
        x, y = EDGE + (k % across) * (small + _GAP), upper + (k // across) * line
        _panel(page.axes(x, y, small, small), explained, i, shares, each)
        page.text(x, y + small + 0.02, f"{k + 1}{explained.beside(shares)}", fontsize=6)
    _bar(page.axes(EDGE + 0.1, upper + lines * line, width / 2, 0.09), each, "Heads: ")
    return page.figure


def _three(
    page: Page,
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
        more = "" if shares is None else explained.beside(shares)
        said = fitted(title + more, step - 0.02, size=6)
        page.text(x + k * step, y + side + 0.03, said, fontsize=6)


@dataclass(frozen=True)
class _Scale:
    """From a share of attention to a brightness; `cut` where single patches are above its end."""

    norm: Normalize
    uniform: float  # in %
    cut: bool

    @classmethod
    def of(cls, explained: Explained, shares: np.ndarray) -> _Scale:
        # One patch that draws everything would leave the others black.
        on_patches = 100 * shares[..., explained.prefix :]
        uniform = 100 * explained.uniform
        top = max(float(np.quantile(on_patches, 0.995)), 2 * uniform)
        return cls(Normalize(0, top), uniform, bool(on_patches.max() > top))


def _panel(
    axes: Axes, explained: Explained, i: int, shares: np.ndarray | None, scale: _Scale | None
) -> None:
    """An image, and over it, where there are shares [tokens], their map."""
    overlays.image(axes, explained.images[i])
    if shares is not None and scale is not None:
        grid = explained.grid(shares)
        outlined = grid >= _OUTLINED * explained.uniform
        overlays.values(axes, 100 * grid, scale.norm, outlined, explained.covered)


def _bar(axes: Axes, scale: _Scale, what: str) -> None:
    overlays.bar(axes, scale.norm, extend="max" if scale.cut else "neither", mark=scale.uniform)
    label = f"{what}share of attention (%)\nmark: even spread, {scale.uniform:.2f}"
    axes.set_xlabel(label[0].upper() + label[1:], size=_SMALL, labelpad=1)
