"""A measure of one variant of an experiment over its training seeds, in words and with an interval.

With one seed only the draw of the test images can be known, and `covers` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import chi2, t

from beitmed.statistics import areas, clusters, jackknife
from beitmed.statistics.clusters import Groups
from beitmed.statistics.jackknife import Scale
from beitmed.statistics.level import LEVEL, Bools, Floats
from beitmed.statistics.proportions import wilson
from beitmed.statistics.spread import Measure, Spread

TEST_ONLY = "test sampling (the models as trained)"
TEST_AND_SEEDS = "test sampling and training seeds"


@dataclass(frozen=True)
class Summary:
    """A measure by seed, its mean over seeds, and what is known of the mean; fractions, not %.

    `sd` is between seeds. `test_se` is the standard error of the mean for drawn test images and
    the models as trained, None where nothing varies (AUC 0 or 1); `seed_se` is sd / sqrt(seeds).
    The two overlap, as the test images move each model on its own too: the interval counts that
    once (see `Spread`). `interval` names its method, `covers` the sources of variation in it.
    What is undefined is None; `reason` says why there is no mean, or no interval.
    """

    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    test_se: float | None
    seed_se: float | None
    low: float | None
    high: float | None
    interval: str | None
    covers: str | None
    reason: str | None

    def __post_init__(self) -> None:
        known = [x for x in (self.mean, self.sd, self.low, self.high) if x is not None]
        assert all(map(math.isfinite, known)), self
        assert (self.low is None) == (self.high is None) == (self.interval is None), self
        assert (self.interval is None) == (self.reason is not None), self
        assert self.mean is not None or self.interval is None, self


def one_class(y: Bools) -> str | None:
    """Return the reason for which y [n] has no AUC, None if it has one."""
    lacking = [k for k, found in (("positive", y.any()), ("negative", not y.all())) if not found]
    return f"the test set has no {' and no '.join(lacking)} case" if lacking else None


def auc_summary(y: Bools, scores: Floats, groups: Groups = None) -> Summary:
    """Return the summary of the AUC of scores [S, n], log odds of the class y [n] is true for.

    The interval is that of `areas.interval`, over test images (of patients, where groups [n] names
    them) and seeds. A class may be absent.
    """
    reason = one_class(y)
    if reason:
        return _undefined(reason)
    return mean_auc_summary(y[:, None], scores[:, :, None], groups)


def mean_auc_summary(member: Bools, scores: Floats, groups: Groups = None) -> Summary:
    """Return the summary of the mean AUC over classes or labels, each against the others.

    member [n, k] is true where an image is of the column's class, which a high score of scores
    [S, n, k] speaks for.
    """
    lacking = int(np.logical_or(member.all(axis=0), ~member.any(axis=0)).sum())
    if lacking:
        return _undefined(
            f"{lacking} of {member.shape[1]} classes lack a positive or a negative test image"
        )
    found, low, high, method = areas.interval(member, scores, groups)
    return _summary(found.spread(), (low, high), method, len(scores))


def accuracy_measure(correct: Bools, groups: Groups = None) -> Measure:
    """Return the accuracy of correct [S, n], true where a seed's model is right."""
    assert correct.dtype == bool and correct.ndim == 2 and correct.size, correct.shape
    shares = correct.astype(np.float64)
    parts = clusters.mean_contributions(shares, groups)
    return jackknife.measure(shares.mean(axis=1), parts, groups)


def accuracy_summary(correct: Bools, groups: Groups = None) -> Summary:
    """Return the summary of the accuracy of correct [S, n], true where a seed's model is right.

    The interval is Wilson's, for several seeds and for patients at the effective sample size
    (`clusters.effective_size`): so it is defined at accuracy 1, where that of a single seed is
    Wilson's own, and does not leap at the first error.
    """
    spread = accuracy_measure(correct, groups).spread()
    doubt = spread.doubt
    if groups is not None:  # counted by `effective_size` itself
        doubt -= spread.test**2 / max(int(clusters.codes(groups, correct.shape[1]).max()), 1)
    effective = clusters.effective_size(correct, groups, spread.seed, max(doubt, 0.0))
    mean = float(np.count_nonzero(correct) / correct.size)
    low, high = map(float, wilson(mean * effective, effective))
    plain = len(correct) == 1 and groups is None
    method = "Wilson" if plain else "Wilson at the effective sample size"
    return _summary(spread, (low, high), method, len(correct), mean)


def summary(measure: Measure, scale: Scale, bias: float = 0.0) -> Summary:
    """Return the summary of any measure over seeds; `jackknife.limits` gives the interval."""
    if np.isnan(measure.values).any():
        return _undefined("the measure is undefined for a seed")
    spread, mean = measure.spread(), float(measure.values.mean())
    parts = measure.contributions.mean(axis=0)
    found = jackknife.limits(mean, parts, scale, bias=bias, spread=spread)
    if found is None:
        return _summary(spread, None, "no variance between test images", len(measure.values))
    return _summary(spread, found, "jackknife", len(measure.values))


def summary_of_intervals(values: Floats, low: Floats, high: Floats) -> Summary:
    """Return the summary of a metric of which only values and intervals [S] by seed are at hand.

    How far the seeds' errors on the same test images go together is then unknown, and taken to be
    wholly: the interval is at least as wide as it must be. The two sources are put together on
    either side of the mean as of a sum of two independent estimates (Zou and Donner 2008, Stat.
    Med. 27:1693).
    """
    count, mean = values.size, float(values.mean())
    sd = float(values.std(ddof=1)) if count > 1 else None
    seed = 0.0 if sd is None else float(t.isf((1 - LEVEL) / 2, count - 1)) * sd / math.sqrt(count)
    sides = [float(np.abs(limit - values).mean()) for limit in (low, high)]
    below, above = (math.hypot(side, seed) for side in sides)
    least, most = (0.0 if low.min() >= 0 else -math.inf), (1.0 if high.max() <= 1 else math.inf)
    return Summary(
        values=tuple(values.tolist()), mean=mean, sd=sd, test_se=None,
        seed_se=None if sd is None else sd / math.sqrt(count),
        low=max(mean - below, least), high=min(mean + above, most),
        interval="of the seeds' intervals",
        covers=TEST_AND_SEEDS if count > 1 else TEST_ONLY, reason=None,
    )  # fmt: skip


@dataclass(frozen=True)
class Ratio:
    """How much more variance training adds to one model's value than the draw of test images does.

    A ratio of variances with its 95 % interval. `heavier` is what weighs more, where the interval
    excludes 1; None means that so few seeds cannot tell.
    """

    value: float
    low: float
    high: float
    heavier: Literal["seed", "test images"] | None


def seed_ratio(measure: Measure) -> Ratio | None:
    """Return the ratio of the seeds' variance to that of the test images, None for a single seed.

    Between S models on the same images the squared standard deviation times (S - 1), divided by the
    variance that training and the images give each model on its own, follows a chi-square
    distribution with S - 1 degrees of freedom; the images' part is then taken away.
    """
    count = measure.values.size
    each = float(np.square(measure.contributions).sum(axis=1).mean())
    if count < 2 or not each > 1e-20:
        return None
    together = float(np.square(measure.contributions.mean(axis=0)).sum())
    alone = count * (each - together) / (count - 1)
    observed = float(measure.values.var(ddof=1))
    tails = chi2.isf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], count - 1)
    low, high = (max(observed * (count - 1) / x - alone, 0.0) / each for x in tails)
    heavier: Literal["seed", "test images"] | None = None
    if low > 1 or high < 1:
        heavier = "seed" if low > 1 else "test images"
    return Ratio(max(observed - alone, 0.0) / each, float(low), float(high), heavier)


def _undefined(reason: str) -> Summary:
    return Summary((), None, None, None, None, None, None, None, None, reason)


def _summary(
    spread: Spread, limits: tuple[float, float] | None, said: str, count: int,
    mean: float | None = None,
) -> Summary:  # fmt: skip
    """said: the method of the limits, or the reason for having none."""
    sd = float(spread.values.std(ddof=1)) if count > 1 else None
    covers = TEST_AND_SEEDS if count > 1 else TEST_ONLY
    return Summary(
        values=tuple(spread.values.tolist()),
        mean=float(spread.values.mean()) if mean is None else mean,
        sd=sd,
        test_se=math.sqrt(spread.test) if spread.test > 1e-20 else None,
        seed_se=None if sd is None else sd / math.sqrt(count),
        low=limits[0] if limits else None,
        high=limits[1] if limits else None,
        interval=said if limits else None,
        covers=covers if limits else None,
        reason=None if limits else said,
    )
