"""The variance of the difference of two variants, over test images and training seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics.level import Floats
from beitmed.statistics.spread import Measure, Spread, degrees

#: The seeds of each variant's models, in the order of its rows.
Seeds = Mapping[str, Sequence[int]]


def pair_variances(
    measures: Sequence[Measure], spreads: Sequence[Spread], test: Floats, seeds: Seeds | None
) -> tuple[Floats, Floats]:
    """Return, for each pair, the whole variance and its degrees of freedom.

    test [pairs]: the variance over test images. Variants of the same seeds share what a seed fixes
    (first weights, order of the images), so their differences by seed are taken as one sample
    (`Spread.of`); others count as drawn independently. At least the fewest seeds less one degrees
    of freedom, as in Hillis 2007.
    """
    first, second = np.triu_indices(len(spreads), 1)
    few = min(m.few for m in measures)
    seed = np.array([spread.seed for spread in spreads])
    doubt = np.array([s.doubt - s.test**2 / few for s in spreads])
    extra, doubts = seed[first] + seed[second], doubt[first] + doubt[second]
    size = np.array([spread.values.size for spread in spreads], np.float64)
    size[size == 1] = np.inf
    least = np.minimum(np.minimum(size[first], size[second]) - 1, few)
    place = np.zeros((len(spreads),) * 2, np.intp)
    place[first, second] = np.arange(first.size)
    for members in _of_the_same_seeds(list(seeds.values()) if seeds else []):
        for a, b, spread in _shared(measures, members, test, place):
            extra[place[a, b]], doubts[place[a, b]] = spread.seed, spread.doubt
    variance = test + extra
    return variance, np.maximum(degrees(variance, doubts + test**2 / few), least)


def _shared(
    measures: Sequence[Measure], members: Sequence[int], test: Floats, place: NDArray[np.intp]
) -> Iterator[tuple[int, int, Spread]]:
    """Yield the spread of the differences by seed of each pair of variants of the same seeds."""
    parts = np.stack([measures[m].contributions for m in members], axis=1)  # [S, members, G]
    each = parts @ parts.transpose(0, 2, 1)
    for (i, a), (j, b) in combinations(enumerate(members), 2):
        alone = each[:, i, i] + each[:, j, j] - 2 * each[:, i, j]
        values = measures[a].values - measures[b].values
        yield a, b, Spread.of(values, alone, float(test[place[a, b]]))


def _of_the_same_seeds(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for i, names in enumerate(seeds):
        if len(names) > 1:
            found.setdefault(tuple(names), []).append(i)
    return [members for members in found.values() if len(members) > 1]
