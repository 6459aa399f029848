"""What can be wrong with splits besides duplicates: sizes, class shares, empty images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import PermutationMethod, chi2_contingency, fisher_exact
from scipy.stats.contingency import expected_freq

from beitmed.data import Data, Split, counts
from beitmed.statistics.proportions import wilson

#: A class shift is reported where the test's p-value is below this.
SHIFT_LEVEL = 0.01
#: Against the test split, as that is what a result is claimed for.
SHIFT_PAIRS = (("train", "test"), ("val", "test"))
_PERMUTATIONS = 9_999


@dataclass(frozen=True)
class ClassShare:
    """How many images of a split are of a class, and the 95 % Wilson limits of its share."""

    label: int
    name: str
    n: int
    share: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class ClassShift:
    """Do two splits draw from the same classes? `p_value` is of the hypothesis that they do."""

    splits: tuple[str, str]
    test: str
    p_value: float

    @property
    def found(self) -> bool:
        return self.p_value < SHIFT_LEVEL


def class_shares(data: Data) -> dict[str, list[ClassShare]]:
    """Return each split's classes in the order of their labels; an image may have several."""
    return {name: shares_of(split.labels, data.class_names) for name, split in data.splits.items()}


def shares_of(labels: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassShare]:
    """Return the classes of some images' labels, in their order."""
    found, images = np.array(counts(labels, len(names))), len(labels)
    low, high = wilson(found, images)
    return [
        ClassShare(c, name, int(n), float(n / images), float(low[c]), float(high[c]))
        for c, (name, n) in enumerate(zip(names, found, strict=True))
    ]


def class_shifts(data: Data) -> list[ClassShift]:
    """Compare the class counts of the pairs of splits in `SHIFT_PAIRS`.

    Two classes: Fisher's exact test, two-sided. More: Pearson's chi-square without continuity
    correction, by 9,999 permutations where an expected count is below 5 (Cochran 1954, Biometrics
    10:417). Several labels an image: Fisher's test of each, the smallest p after Bonferroni.
    """
    return [
        ClassShift(pair, *independence(*(data.splits[name].labels for name in pair)))
        for pair in SHIFT_PAIRS
    ]


def independence(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[str, float]:
    """Return the name of the test of `class_shifts` for two sets' labels, and its p value."""
    if first.ndim == 2:
        each = [independence(a, b)[1] for a, b in zip(first.T, second.T, strict=True)]
        return f"Fisher's exact, smallest p times {len(each)} labels", min(
            1.0, len(each) * min(each)
        )
    classes = int(max(first.max(), second.max())) + 1
    table = np.stack([np.bincount(labels, minlength=classes) for labels in (first, second)])
    table = table[:, table.any(axis=0)]
    if table.shape[1] == 1:
        return "one class only", 1.0
    if table.shape[1] == 2:
        return "Fisher's exact", float(fisher_exact(table).pvalue)
    if expected_freq(table).min() >= 5:
        return "Pearson's chi-square", float(chi2_contingency(table, correction=False).pvalue)
    by_chance = PermutationMethod(n_resamples=_PERMUTATIONS, rng=np.random.default_rng(0))
    drawn = chi2_contingency(table, correction=False, method=by_chance)
    return f"Pearson's chi-square, {_PERMUTATIONS:,} permutations", float(drawn.pvalue)


def label_of(value: Any) -> int | str:
    """An image's label as a table shows it; of several those that it has, `0 3` or `none`."""
    if np.ndim(value) == 0:
        return int(value)
    return " ".join(map(str, np.flatnonzero(value))) or "none"


def size_differences(data: Data, official: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return (found, official) number of images of each split where these differ."""
    sizes = {name: len(split.labels) for name, split in data.splits.items()}
    return {k: (sizes[k], n) for k, n in official.items() if sizes[k] != n}


def constant_images(split: Split) -> NDArray[np.int64]:
    """Return the indices of images of a single grey value or colour (blank ones among them)."""
    if not len(split.images):
        return np.empty(0, np.int64)
    return np.flatnonzero([bool((image == image[:1, :1]).all()) for image in split.images]).astype(
        np.int64
    )


def saturated_images(split: Split) -> NDArray[np.int64]:
    """Return the indices of images that hold both 0 and 255 and nothing between."""
    chosen = [
        bool(((image == 0) | (image == 255)).all() and np.ptp(image) > 0) for image in split.images
    ]
    return np.flatnonzero(chosen).astype(np.int64)
