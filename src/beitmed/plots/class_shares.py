"""The share of each class in each split, as bars with their counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from beitmed.plots.page import EDGE, FULL_WIDTH, WIDTH, Page, styled
from beitmed.plots.text import fitted, width_of


@dataclass(frozen=True)
class ClassCounts:
    """The number of images of each class, by its name, in a split."""

    split: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def share(self, name: str) -> float:
        """In %, 0 in a split without images."""
        return 100 * self.counts.get(name, 0) / self.total if self.total else 0.0


#: Looks of splits: (face, hatch), each at once told from the next without colour.
_BARS = (("0.3", ""), ("white", "/////"), ("0.75", ""), ("white", "....."), ("0.55", "xxxx"),
         ("white", "---"))  # fmt: skip


@styled()
def class_shares(splits: Sequence[ClassCounts], *, title: str, width: float = FULL_WIDTH) -> Figure:
    """Draw the bars of one class together, so that a shift between splits is seen at once.

    A class that a split does not name counts 0 there; a split without images has no shares.
    ValueError: no classes, or more than 6 splits.
    """
    classes = list(dict.fromkeys(name for split in splits for name in split.counts))
    if not classes or len(splits) > len(_BARS):
        raise ValueError(f"splits: {len(splits)} with {len(classes)} classes, but 1 to "
                         f"{len(_BARS)} splits with at least a class are needed")  # fmt: skip
    bar, left, room = 0.17, 1.55 if width > WIDTH else 0.95, 0.98
    group = len(splits) * bar + 0.12
    height, wide = group * len(classes), width - left - EDGE
    names = [f"{fitted(s.split, 1.4, size=7)} (n = {s.total:,})" for s in splits]
    per_line = max(1, int(wide / max(0.4 + width_of(name, 7) for name in names)))
    page = Page(width, height + 0.55 + 0.16 * -(-len(names) // per_line), title)
    axes = page.axes(left, 0.03, wide, height)
    most = max(split.share(name) for split in splits for name in classes) or 100.0
    axes.set(ylim=(height, 0), yticks=[], xlim=(0, most * wide / (wide - room)))
    steps = MaxNLocator(6 if width > WIDTH else 3, steps=[1, 2, 2.5, 5, 10])
    axes.set_xticks([t for t in steps.tick_values(0, most) if 0 <= t <= 100])
    axes.set_xlabel("Share of the split's images (%)")
    for i, name in enumerate(classes):
        shown = fitted(name, left - EDGE - 0.12, lines=3)
        page.text(left - 0.1, 0.03 + (i + 0.5) * group, shown, ha="right", va="center")
        for j, (split, (face, hatch)) in enumerate(zip(splits, _BARS, strict=False)):
            y, share = i * group + 0.06 + (j + 0.5) * bar, split.share(name)
            axes.barh([y], [share], bar * 0.85, facecolor=face, hatch=hatch, edgecolor="black",
                      linewidth=0.5)  # fmt: skip
            count = split.counts.get(name, 0)
            label = f"{count:,} ({share:.1f} %)" if split.total else "no images"
            axes.annotate(label, (share, y), (3, 0), textcoords="offset points", va="center",
                          fontsize=7)  # fmt: skip
    handles = [Patch(facecolor=face, hatch=hatch, edgecolor="black", linewidth=0.5)
               for face, hatch in _BARS[: len(splits)]]  # fmt: skip
    page.key(left, height + 0.5, handles, names, ncols=per_line, handlelength=2,
             columnspacing=1.2)  # fmt: skip
    return page.figure
