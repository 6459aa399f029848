"""How many labels a method needs to reach a target: a point on its curve, with its interval.

A curve has the mean of a measure over seeds at a few numbers of labels. Between them it is a
straight line over the logarithm of that number, and it does not fall: neighbours that do are
averaged (the pool-adjacent-violators fit), as a later lower point is noise or no gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beitmed.statistics.level import LEVEL, Floats
from beitmed.statistics.spread import Measure

METHOD = "bootstrap over test images and seeds"
_ROUNDING = 1e-12  # of means that are equal
_BLOCK = 4_000_000  # numbers at a time


@dataclass(frozen=True)
class Needed:
    """The number of labels from which on a target is reached, with its 95 % limits.

    The least number that was tried stands for that or fewer; infinity for a target that all labels
    do not reach. seeds: how many trainings the curve is the mean of; with one, the limits are of
    the choice of test images alone.
    """

    value: float
    low: float
    high: float
    seeds: int


def needed(
    labels: Sequence[float], curve: Sequence[Measure], target: Measure, within: float, *,
    paired: bool = True, seed: int = 0, n_resamples: int = 2000,
) -> Needed:  # fmt: skip
    """Return the labels that a curve needs to come within a distance of a target's mean.

    labels [P], increasing; curve: P measures of the same seeds, in their order, on the same test
    images as the target. paired: whether the target is of the same seeds too. Higher is better.

    The limits are quantiles of a bootstrap of the whole curve and its target. Test images (the
    clusters of the contributions) are drawn with replacement, the same for all points, and a value
    moves by what the images contribute to it. Seeds are drawn with replacement, one fewer than
    there are so that their variance is not too small (Rao and Wu 1988, J. Am. Stat. Assoc. 83:231);
    a seed brings its values of all points. What the test images alone add to the differences
    between seeds is taken out of them beforehand (`Spread`), and they are stretched by
    sqrt(df / chi-square), as a t quantile is longer than a normal one.
    """
    assert len(labels) == len(curve) and all(np.diff(labels) > 0), labels
    seeds, rng = curve[0].values.size, np.random.default_rng(seed)
    noise = np.zeros((n_resamples, len(curve) + 1))
    means = np.array([m.values.mean() for m in (*curve, target)])
    parts = np.stack([m.contributions.mean(axis=0) for m in (*curve, target)])
    images = parts.shape[1]
    step = max(1, _BLOCK // images)
    for start in range(0, n_resamples, step):
        count = min(step, n_resamples - start)
        drawn = rng.multinomial(images, np.full(images, 1 / images), count)
        noise[start : start + count] += drawn @ parts.T
    if paired:
        noise += _of_seeds(rng, [*curve, target], n_resamples)
    else:
        noise[:, :-1] += _of_seeds(rng, curve, n_resamples)
        noise[:, -1:] += _of_seeds(rng, [target], n_resamples)
    at = np.log(np.asarray(labels, np.float64))
    found = np.sort(crossing(at, means + noise, within))
    tail = (1 - LEVEL) / 2
    low = found[math.floor(tail * (n_resamples - 1))]
    high = found[math.ceil((1 - tail) * (n_resamples - 1))]
    value = crossing(at, means[None], within)[0]
    least, most = (_exp(x, at, labels) for x in (min(low, value), max(high, value)))
    return Needed(_exp(value, at, labels), least, most, seeds)


def _exp(x: float, at: Floats, labels: Sequence[float]) -> float:
    known = dict(zip(at.tolist(), labels, strict=True))  # exact where a point itself is meant
    return float(known.get(float(x), math.exp(x)))


def _of_seeds(rng: np.random.Generator, measures: Sequence[Measure], count: int) -> Floats:
    """What drawn seeds add to the means of measures of the same seeds, [count, measures]."""
    seeds = measures[0].values.size
    if seeds < 2:
        return np.zeros((count, len(measures)))
    values = np.stack([m.values for m in measures], axis=1)
    apart = values - values.mean(axis=0)
    observed = values.std(axis=0, ddof=1)
    trained = np.sqrt([m.spread().seed * seeds for m in measures])
    apart *= np.divide(trained, observed, out=np.zeros_like(observed), where=observed > 0)
    chosen = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), count) / (seeds - 1)
    stretch = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, count))
    return np.asarray((chosen @ apart) * stretch[:, None])


def rising(curves: Floats) -> Floats:
    """Return the closest curves [b, p] that do not fall (least squares): max over min of means."""
    points = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), curves.cumsum(axis=1)], axis=1)
    result = np.full(curves.shape, -np.inf)
    for first in range(points):
        lengths = np.arange(1, points - first + 1)
        means = (sums[:, first + 1 :] - sums[:, [first]]) / lengths
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        result[:, first:] = np.maximum(result[:, first:], least)
    return result


def crossing(at: Floats, values: Floats, within: float) -> Floats:
    """Return where each curve of values [b, p + 1], its target last, comes near enough to it.

    at [p]: logarithms of the labels; the result is one of them, or infinity where it does nowhere.
    """
    curve, target = rising(values[:, :-1]), values[:, -1:] - within - _ROUNDING
    there = curve >= target
    first = there.argmax(axis=1)
    rows, before = np.arange(len(curve)), np.maximum(first - 1, 0)
    below, above = curve[rows, before], curve[rows, first]
    share = np.divide(
        target[:, 0] - below, above - below, out=np.ones(len(curve)), where=above > below
    )
    found = np.where(share == 1, at[first], at[before] + share * (at[first] - at[before]))
    return np.where(there.any(axis=1), np.where(first == 0, at[0], found), np.inf)
