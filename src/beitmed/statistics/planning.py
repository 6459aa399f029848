"""Before a study and after it: what could be found, what is equal enough, what luck adds.

`se` and `df` are those of a `comparisons.Difference`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from beitmed.statistics.comparisons import Difference
from beitmed.statistics.level import LEVEL, Floats
from beitmed.statistics.spread import Measure

_ALPHA = 1 - LEVEL
_GRID = (np.arange(4000) + 0.5) / 4000  # midpoints of equal shares of a distribution


def power(difference: float, se: float, df: float = math.inf, comparisons: int = 1) -> float:
    """Return the chance that a true difference is found at p < 0.05, in either direction.

    comparisons: how many are corrected for (Bonferroni, the hardest step of Holm's).
    """
    q = float(t.isf(_ALPHA / 2 / comparisons, df))
    shift = abs(difference) / se
    if math.isinf(df):
        return float(norm.sf(q - shift) + norm.cdf(-q - shift))
    # The noncentral t as a mean over its chi-square: scipy's own is NaN for few degrees of freedom.
    scale = np.sqrt(chi2.ppf(_GRID, df) / df)
    return float((norm.sf(q * scale - shift) + norm.cdf(-q * scale - shift)).mean())


def detectable(se: float, df: float = math.inf, wanted: float = 0.8, comparisons: int = 1) -> float:
    """Return the true difference that is found with the wanted power."""
    top = se * float(t.isf(_ALPHA / 2 / comparisons, df)) * 2
    while power(top, se, df, comparisons) < wanted:
        top *= 2
    return float(brentq(lambda x: power(x, se, df, comparisons) - wanted, 0.0, top))


def resolution(found: Iterable[Difference], wanted: float = 0.8) -> tuple[float, float] | None:
    """Return the half width of the median interval, and the true difference that its pair finds.

    A difference below the first would not have been told from none, and a true one of just that
    size is found about half the time; the second is found with the wanted power. None where no
    difference has an interval.
    """
    known = [(d.high - d.low, d.se, d.df) for d in found
             if d.low is not None and d.high is not None and d.se is not None]  # fmt: skip
    if not known:
        return None
    length, se, df = sorted(known)[(len(known) - 1) // 2]
    return length / 2, detectable(se, math.inf if df is None else df, wanted)


@dataclass(frozen=True)
class Design:
    """How much a difference of two variants varies: per test image, and per training seed.

    image: variance of the difference times the number of test images, the models as trained.
    seed: variance that training adds to the difference of two single models.
    """

    image: float
    seed: float

    def standard_error(self, images: int, seeds: int) -> tuple[float, float]:
        """Return (se, df) of the difference of the means over seeds."""
        trained, sampled = self.seed / seeds, self.image / images
        if seeds == 1 or not trained:
            return math.sqrt(sampled + trained), math.inf
        return math.sqrt(sampled + trained), (sampled + trained) ** 2 / (trained**2 / (seeds - 1))


def images_needed(
    difference: float, design: Design, seeds: int, wanted: float = 0.8, comparisons: int = 1
) -> int | None:
    """Return the number of test images at which a difference is found; None: more seeds needed.

    A single seed speaks of the two models as trained, so its training adds no variance.
    """
    plan = Design(design.image, design.seed if seeds > 1 else 0.0)

    def enough(images: int) -> bool:
        return power(difference, *plan.standard_error(images, seeds), comparisons) >= wanted

    high = 10
    while not enough(high):
        high *= 2
        if high > 10**8:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def accuracy_variance(first: float, second: float, differing: float) -> float:
    """Return `Design.image` of accuracies, of models that differ in rightness on that share."""
    assert abs(first - second) <= differing <= 1, (first, second, differing)
    return differing - (first - second) ** 2


def differing_share(first: float, second: float, correlation: float) -> float:
    """Return the share of images that one of two models alone is right for, from their accuracies.

    correlation: of being right, over images; it is as large as `most_correlated` at most.
    """
    both = first * second + correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    return first + second - 2 * both


def most_correlated(first: float, second: float) -> float:
    """Return the correlation of being right where the worse of two models is right nowhere else."""
    low, high = sorted((first, second))
    return math.sqrt(low * (1 - high) / (high * (1 - low)))


def auc_variance(first: float, second: float, positives: float, correlation: float) -> float:
    """Return `Design.image` of AUCs; positives: their share of the images.

    The variance of each is the model of `areas.interval` for many images: that of Hanley and McNeil
    1982 (Radiology 143:29), positives and negatives alike. correlation: between the two AUCs over
    test sets (Hanley and McNeil 1983, Radiology 148:839).
    """
    each = [
        ((a / (2 - a) + 2 * a**2 / (1 + a)) / 2 - a**2) / (positives * (1 - positives))
        for a in (first, second)
    ]
    return each[0] + each[1] - 2 * correlation * math.sqrt(each[0] * each[1])


@dataclass(frozen=True)
class Equivalence:
    """What a margin makes of a difference, first less second, at a level of 5 %.

    [low, high] is the 90 % interval, by which both one-sided tests (Schuirmann 1987, J.
    Pharmacokinet. Biopharm. 15:657) are read: equivalent within the margin, or the first not
    inferior by it. `p_noninferior` and `p_equivalent` are their p values.
    """

    verdict: Literal["equivalent", "non-inferior", "inferior", "cannot be told"]
    low: float
    high: float
    p_noninferior: float
    p_equivalent: float


def equivalence(found: Difference, margin: float) -> Equivalence | None:
    """Return the verdict on a difference; higher is better. None where it has no variance."""
    assert margin > 0, margin
    if found.centre is None or found.se is None or found.df is None:
        return None
    half = float(t.isf(_ALPHA, found.df)) * found.se
    low, high = found.centre - half, found.centre + half
    above = float(t.sf((found.centre + margin) / found.se, found.df))
    below = float(t.sf((margin - found.centre) / found.se, found.df))
    verdict: Literal["equivalent", "non-inferior", "inferior", "cannot be told"] = "cannot be told"
    if low > -margin:
        verdict = "equivalent" if high < margin else "non-inferior"
    elif high < -margin:
        verdict = "inferior"
    return Equivalence(verdict, low, high, above, max(above, below))


@dataclass(frozen=True)
class Selected:
    """The best of many variants on one test set, and what is left of it without its luck."""

    index: int
    value: float
    corrected: float
    low: float
    high: float


def best_of(measures: list[Measure], *, seed: int, draws: int = 4000) -> Selected:
    """Return the variant of the highest mean, corrected for having been selected on its test set.

    In each draw the test set (and what training adds) varies as it does by the contributions, all
    variants together, and the best of the draw is taken anew; how much the best is above its own
    value, on average, is what selection adds. The limits are the quantiles of the same. Variants
    further behind than noise can explain (2 sqrt(log n) standard errors of the difference) do not
    compete, or the correction would be too large where one is clearly best.
    """
    values = np.array([m.values.mean() for m in measures])
    rows = np.stack([m.contributions.mean(axis=0) for m in measures])
    rng, best = np.random.default_rng(seed), int(values.argmax())
    extra = np.sqrt([m.spread().seed for m in measures])
    if rows.shape[1] > len(rows):  # as many columns as variants have the same covariances
        scales, axes = np.linalg.eigh(rows @ rows.T)
        rows = axes * np.sqrt(np.maximum(scales, 0))
    noise = rng.standard_normal((draws, rows.shape[1])) @ rows.T
    noise += rng.standard_normal((draws, len(measures))) * extra
    # What the best of the draw has by luck, judged around values shrunk to what noise leaves.
    centre = _shrunk(values, noise)
    luck = noise[np.arange(draws), (centre + noise).argmax(axis=1)]
    value = float(values[best])
    low, high = (value - np.quantile(luck, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])).tolist()
    return Selected(best, value, value - float(luck.mean()), low, high)


def _shrunk(values: Floats, noise: Floats) -> Floats:
    """Values drawn together as far as their scatter is no larger than noise (Efron and Morris)."""
    if values.size < 3:
        return values
    apart = noise - noise.mean(axis=1, keepdims=True)
    expected = float(np.square(apart).sum(axis=1).mean())
    scatter = float(np.square(values - values.mean()).sum())
    keep = math.sqrt(max(1 - expected / scatter, 0.0)) if scatter > 0 else 0.0
    return np.asarray(values.mean() + keep * (values - values.mean()))


@dataclass(frozen=True)
class Published:
    """A measured value less a published one of a single training on the same test images."""

    difference: float
    low: float
    high: float
    sd: float
    assumed: bool


def beside_published(
    values: Floats, published: float, *, rounding: float = 0.001, assumed_sd: float | None = None
) -> Published | None:
    """Return the difference of the mean of values [S] over seeds and a published value.

    The interval is where the difference would fall if the published training were one more seed of
    ours: t, with the standard deviation between our seeds on these very test images, which both the
    training and the images move (a prediction interval). With one seed it needs an assumed one, or
    is None. The published value is known to its rounding. All of it presumes the same protocol, and
    says nothing about other test images.
    """
    count = values.size
    if count > 1:
        sd, df = float(values.std(ddof=1)), float(count - 1)
    elif assumed_sd is not None:
        sd, df = assumed_sd, math.inf
    else:
        return None
    half = float(t.isf(_ALPHA / 2, df)) * math.sqrt(sd**2 * (1 + 1 / count) + rounding**2 / 12)
    difference = float(values.mean()) - published
    return Published(difference, difference - half, difference + half, sd, count == 1)
