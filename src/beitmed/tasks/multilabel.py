"""Metrics of a classifier of several labels an image on a test set, with 95 % intervals.

"auc" and "accuracy" are MedMNIST's own definitions (`medmnist.evaluator`, task multi-label): the
mean over the labels of their AUCs, and of the shares of images that each label is right for, which
is called where its probability is above one half. Findings are rare, so that a network which never
calls any is right in most cells: "accuracy_all_negative" is what that scores on the same images.

A label's score is its float64 logit, its log odds. Nothing is fitted; the validation set is not
read. Intervals are of the draw of images, whose labels are not independent: images are resampled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from beitmed.statistics import intervals, resampling
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.intervals import Bools, Floats
from beitmed.tasks.multiclass import bootstrapped, mean_auc, one_auc


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """Return logits [n, labels] in float64 and labels [n, labels] as true and false.

    ValueError: wrong shape or type, a number that is not finite, or a label other than 0 and 1.
    """
    rows, actual = np.asarray(logits), np.asarray(labels)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise ValueError(f"logits: {rows.dtype} {rows.shape}, but floats [n, labels] are needed")
    if not np.isfinite(rows).all():
        raise ValueError(f"logits: {(~np.isfinite(rows)).any(axis=1).sum()} rows are not finite")
    if actual.shape != rows.shape:
        raise ValueError(f"labels: shape {actual.shape}, but {rows.shape} is needed")
    other = np.setdiff1d(actual, [0, 1])
    if other.size:
        raise ValueError(f"labels: found {other[:5].tolist()}, but only 0 and 1 are allowed")
    return rows.astype(np.float64), actual.astype(bool)


def auc(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the mean of the labels' AUCs; None where a label has no positive or no negative."""
    rows, y = checked(logits, labels)
    if _one_sided(y).any() or not y.size:
        return None
    return intervals.mean_delong(y, rows)[0]


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of right cells of labels [n, labels]; called where the logit is above 0."""
    rows, y = checked(logits, labels)
    return float(np.mean((rows > 0) == y)) if y.size else None


def _one_sided(y: Bools) -> Bools:
    return np.logical_or(y.all(axis=0), ~y.any(axis=0))


class _AveragePrecision:
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


def evaluate(
    *,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    class_names: tuple[str, ...],
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Estimate]:
    """Return every metric on the test set, each with a 95 % interval or a reason.

    test_logits floating point [n, labels], test_labels 0 and 1 [n, labels]. "auc_label_i" and
    "average_precision_label_i" are of label i; "average_precision" and "brier" are means over the
    labels. A label without a positive or without a negative image makes the means undefined.
    ValueError: malformed or non-finite input, or an empty test set.
    """
    logits, y = checked(test_logits, test_labels)
    n, count = y.shape
    if not n:
        raise ValueError("test_logits: no rows, but a test set is needed")
    assert len(class_names) == count, class_names
    lacking = [name for name, lacks in zip(class_names, _one_sided(y), strict=True) if lacks]
    lack = f"the test set has no positive or no negative image of {', '.join(lacking)}"
    precision = _AveragePrecision(y, logits)
    values = precision(np.ones((n, 1), np.float32))[0].tolist()
    limits = resampling.weighted_limits(precision, n, seed=seed, n_resamples=n_resamples)
    drawn = resampling.resamples(n, n_resamples)
    method = "BCa bootstrap" + (f", {drawn} resamples" if drawn < n_resamples else "")
    result = {
        "auc": Estimate.undefined(lack) if lacking else mean_auc(y, logits),
        "average_precision": bootstrapped(values[-1], limits[-1], n, lack, method),
        **_cells(logits, y, seed, n_resamples),
    }
    for i in range(count):
        result[f"auc_label_{i}"] = one_auc(y[:, i], logits[:, i])
        result[f"average_precision_label_{i}"] = bootstrapped(
            values[i], limits[i], n, "the test set has no positive image of this label", method
        )
    return result


def _cells(logits: Floats, y: Bools, seed: int, n_resamples: int) -> dict[str, Estimate]:
    """Means over images and labels; the interval is that of a mean over images."""
    of_image = {
        "accuracy": ((logits > 0) == y).mean(axis=1),
        "accuracy_all_negative": (~y).mean(axis=1),
        "brier": ((expit(logits) - y) ** 2).mean(axis=1),
    }
    found = resampling.mean_limits(
        np.column_stack(list(of_image.values())), np.zeros(len(y), np.int64),
        seed=seed, n_resamples=n_resamples,
    )  # fmt: skip
    return {
        name: bootstrapped(float(values.mean()), limit, len(y))
        for (name, values), limit in zip(of_image.items(), found, strict=True)
    }
