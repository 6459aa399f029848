"""Average precision of several labels under weights of the images, fast for rare labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics.level import Bools, Floats


class AveragePrecision:
    """Average precision of each label under weights of the cases, and their mean.

    Sum of precision x rise in recall over distinct scores, as scikit-learn: no interpolation. Only
    scores at which there is a positive case can contribute, so others are only counted.
    """

    def __init__(self, y: Bools, score: Floats) -> None:
        self.labels = []
        for positive, column in zip(y.T, score.T, strict=True):
            order = np.argsort(-column, kind="stable")
            ends = np.append(np.flatnonzero(np.diff(column[order])), len(order) - 1)
            hits = np.flatnonzero(positive[order])  # positions of the positives
            run = np.searchsorted(ends, hits)  # the run of equal scores that each is in
            runs, first = np.unique(run, return_index=True)
            upto = ends[runs] + 1  # where each such run ends
            starts = np.append(0, upto)[: upto.size]
            self.labels.append((order[: upto.max(initial=0)], starts, order[hits], first))

    def __call__(self, weights: NDArray[np.float32]) -> Floats:
        """weights [n, b] -> average precisions [b, labels + 1], the mean last."""
        columns = [self._one(weights, *label) for label in self.labels]
        return np.column_stack([*columns, np.mean(columns, axis=0)])

    def _one(
        self, weights: NDArray[np.float32], called: NDArray, starts: NDArray,
        positive: NDArray, first: NDArray,
    ) -> Floats:  # fmt: skip
        if not positive.size:
            return np.full(weights.shape[1], np.nan)
        # Sums of small whole numbers: exact in float32 up to 16 million cases.
        above = np.cumsum(np.add.reduceat(weights[called], starts, axis=0), axis=0)
        new = np.add.reduceat(weights[positive], first, axis=0)
        hits = np.cumsum(new, axis=0)
        precision = np.divide(
            hits, above, out=np.zeros(hits.shape), where=above > 0, dtype=np.float64
        )
        area = np.sum(precision * new, axis=0)
        total = hits[-1].astype(np.float64)
        return np.divide(area, total, out=np.full(total.shape, np.nan), where=total > 0)
