"""What changes a model's results: measures of the same images before and after, taken together.

A change is a `Measure` again, its contributions those of every image to both: so it is paired on
images (patients), its seeds on seeds, and averages over severities or corruptions keep both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beitmed.statistics import jackknife
from beitmed.statistics.clusters import Groups, codes, sums, unbiased
from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.reliability import bins_of, count_of_bins
from beitmed.statistics.spread import Measure


def less(first: Measure, second: Measure) -> Measure:
    """First less second, of the same models on the same images."""
    return Measure(
        first.values - second.values, first.contributions - second.contributions, first.few
    )


def mean(measures: Sequence[Measure]) -> Measure:
    """The mean of several measures of the same models on the same images."""
    return Measure(
        np.mean([m.values for m in measures], axis=0),
        np.mean([m.contributions for m in measures], axis=0),
        measures[0].few,
    )


def mean_of_shares(hit: Bools, among: Bools, groups: Groups = None) -> Measure:
    """The mean over columns of the share of hits [S, n, m] among the cases [n, m] of a column.

    With a column for each class, hit where it is called, that is the balanced accuracy. Every
    column has cases. Contributions are a ratio estimator's, as of `clusters.mean_contributions`.
    """
    code = codes(groups, among.shape[0])
    sizes = among.sum(axis=0)
    share = (hit & among).sum(axis=1) / sizes
    lengthened = np.array([unbiased(np.unique(code[column]).size) for column in among.T])
    parts = np.where(among, hit - share[:, None], 0) * (lengthened / (sizes * sizes.size))
    return jackknife.measure(share.mean(axis=1), sums(parts.sum(axis=2), code), groups)


def calibration_error(probability: Floats, outcome: Bools, groups: Groups = None) -> Measure | str:
    """The calibration error of probabilities [S, n] of outcomes [S, n], or the reason for none.

    The value is that of `reliability.calibration_error`. Contributions are the jackknife's of its
    square, bins kept, times the slope of the root; near 0, where the root has none, the slope is
    the one at half a standard error of the square, whose interval then reaches as far as the
    square's does. groups: without them each case stands alone.
    """
    code = codes(groups, probability.shape[1])
    count = count_of_bins(probability.shape[1], int(code.max()) + 1)
    if count < 2:
        return f"{probability.shape[1]} cases are too few for bins of ten"
    found = [_root(p, y, code, count) for p, y in zip(probability, outcome, strict=True)]
    values, parts = (np.stack(column) for column in zip(*found, strict=True))
    return jackknife.measure(values, parts, groups)


def _root(
    probability: Floats, outcome: Bools, code: np.ndarray, count: int
) -> tuple[Floats, Floats]:
    bins = np.zeros(probability.size, np.intp)
    members = bins_of(probability, count)
    for number, own in enumerate(members):
        bins[own] = number
    clusters, cell = int(code.max()) + 1, code * len(members) + bins
    size = clusters * len(members)

    def summed(values: Floats | None = None) -> Floats:
        return np.bincount(cell, values, size).reshape(clusters, -1).astype(np.float64)

    n, gap = summed(), summed(outcome - probability)
    spread = summed(probability * (1 - probability))
    features = np.stack([n, gap, gap**2, gap * n, n**2, spread, n > 0], axis=1)

    def squared_error(rows: Floats) -> Floats:
        m, s, ss, sn, nn, v, g = np.moveaxis(rows.reshape(len(rows), 7, -1), 1, 0)
        n = np.maximum(m, 1)  # a bin whose only cluster is left out holds nothing
        middle = s / n
        noise = (ss - 2 * middle * sn + middle**2 * nn) / n**2
        noise = np.where(g > 1, np.maximum(noise, 0) * g / np.maximum(g - 1, 1), 0)
        noise = np.maximum(noise, v / n**2)
        return np.asarray(((middle**2 - noise) * m).sum(axis=1) / m.sum(axis=1))[:, None]

    (square,), _, (parts,) = jackknife.of_sums(squared_error, features.reshape(clusters, -1))
    floor = 0.5 * float(np.sqrt(np.square(parts).sum()))
    slope = 0.5 / np.sqrt(max(square, floor, 1e-300))
    return np.sqrt(max(square, 0.0)), parts * slope
