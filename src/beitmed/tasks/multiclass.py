"""Metrics of a classifier of several exclusive classes on a test set, with 95 % intervals.

"auc" and "accuracy" are MedMNIST's own definitions (`medmnist.evaluator`, tasks multi-class and
ordinal-regression): the mean over the classes of the AUC of each against all others, and the share
of cases where argmax is right, a tie being the first of the tied classes. Every class counts the
same in the former, every case in the latter. A class is ranked by its float64 log odds: a softmax
rounds probabilities near 1 to 1 and so ties cases that the network tells apart.

Nothing is fitted, and the validation set is not read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from beitmed.statistics import intervals, resampling
from beitmed.statistics.estimates import ECE_REASON, REFERENCE, Estimate
from beitmed.statistics.intervals import Floats
from beitmed.statistics.resampling import Limits, OfTable
from beitmed.tasks import binary

Labels = NDArray[np.int64]
_DEGENERATE = "all cases are of one class, or are predicted to be"
_ROUNDING = 1e-12  # of log odds


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Labels]:
    """Return logits [n, classes] in float64 and labels [n] in int64.

    ValueError: wrong shape or type, a number that is not finite, or a label that is no class.
    """
    rows, actual = np.asarray(logits), np.asarray(labels)
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind != "f":
        raise ValueError(f"logits: {rows.dtype} {rows.shape}, but floats [n, classes] are needed")
    if not np.isfinite(rows).all():
        raise ValueError(f"logits: {(~np.isfinite(rows)).any(axis=1).sum()} rows are not finite")
    if actual.shape != rows.shape[:1] or (actual.dtype.kind not in "iu" and actual.size):
        raise ValueError(f"labels: {actual.dtype} {actual.shape}, but integers [n] are needed")
    other = np.setdiff1d(actual, np.arange(rows.shape[1]))
    if other.size:
        raise ValueError(f"labels: found {other[:5].tolist()} of {rows.shape[1]} classes")
    return rows.astype(np.float64), actual.astype(np.int64)


def one_vs_rest(logits: Floats) -> Floats:
    """Return the log odds [n, classes] of each class against all others; logits [n, classes].

    The others are summed in the order of their size, so that cases that differ in their order only
    are tied, as they are in exact arithmetic. With two classes this is the difference of the two.
    With more, cases that only rounding keeps apart (of neighbours or trees that vote) are tied too.
    """
    odds = np.empty_like(logits)
    for c in range(logits.shape[1]):
        others = np.sort(np.delete(logits, c, axis=1), axis=1)
        odds[:, c] = logits[:, c] - logsumexp(others, axis=1)
        if logits.shape[1] > 2:
            odds[:, c] = _tied(odds[:, c])
    return odds


def _tied(values: Floats) -> Floats:
    """The same values [n]; those within `_ROUNDING` of the next smaller one take the least."""
    order = np.argsort(values)
    ascending = values[order]
    first = np.concatenate([[True], np.diff(ascending) > _ROUNDING])[: len(values)]
    result = np.empty_like(values)
    result[order] = ascending[np.flatnonzero(first)[np.cumsum(first) - 1]]
    return result


def auc(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the mean over the classes of the AUC against all others; None if a class is absent."""
    rows, actual = checked(logits, labels)
    member = actual[:, None] == np.arange(rows.shape[1])
    if not member.any(axis=0).all():
        return None
    return intervals.mean_delong(member, one_vs_rest(rows))[0]


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float | None:
    """Return the share of labels [n] that argmax of logits [n, classes] gives."""
    rows, actual = checked(logits, labels)
    return float(np.mean(rows.argmax(axis=1) == actual)) if actual.size else None


# --- Of confusion tables [b, classes, classes]: actual, then predicted. NaN where undefined.


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _hits(tables: NDArray[np.int64]) -> Floats:
    return np.diagonal(tables, axis1=1, axis2=2).astype(np.float64)


def _balanced_accuracy(tables: NDArray[np.int64]) -> Floats:
    """Mean of the classes' sensitivities; undefined if a class is absent."""
    return _ratio(_hits(tables), tables.sum(axis=2)).mean(axis=1)


def _f1_macro(tables: NDArray[np.int64]) -> Floats:
    """Mean of the classes' F1, 2 TP / (actual + predicted); undefined if a class is absent."""
    actual, predicted = tables.sum(axis=2), tables.sum(axis=1)
    return _ratio(2 * _hits(tables), np.where(actual > 0, actual + predicted, 0)).mean(axis=1)


def _mcc(tables: NDArray[np.int64]) -> Floats:
    """Matthews correlation of several classes: Gorodkin 2004, Comput. Biol. Chem. 28:367.

    Undefined, not 0, where only one class occurs or only one is predicted.
    """
    actual, predicted = (tables.sum(axis=a).astype(np.float64) for a in (2, 1))
    total = actual.sum(axis=1)
    covariance = total * _hits(tables).sum(axis=1) - (actual * predicted).sum(axis=1)
    spread = [total**2 - (side**2).sum(axis=1) for side in (actual, predicted)]
    return _ratio(covariance, np.sqrt(spread[0] * spread[1]))


def _agreement(tables: NDArray[np.int64], disagreement: Floats) -> Floats:
    actual, predicted = tables.sum(axis=2), tables.sum(axis=1)
    total = actual.sum(axis=1)
    found = (tables * disagreement).sum(axis=(1, 2)) * total
    chance = np.einsum("bi,ij,bj->b", actual.astype(float), disagreement, predicted.astype(float))
    return 1 - _ratio(found, chance)


def _kappa(tables: NDArray[np.int64]) -> Floats:
    """Cohen's kappa, 1 - disagreement / that of independent decisions with the same shares."""
    return _agreement(tables, 1 - np.eye(tables.shape[1]))


def _kappa_quadratic(tables: NDArray[np.int64]) -> Floats:
    """Cohen's kappa with a disagreement of d grades counted d^2 times."""
    return _agreement(tables, _distance(tables) ** 2)


def _mean_absolute_error(tables: NDArray[np.int64]) -> Floats:
    """Mean distance of the predicted grade from the actual one, in grades."""
    return _ratio((tables * _distance(tables)).sum(axis=(1, 2)), tables.sum(axis=(1, 2)))


def _distance(tables: NDArray[np.int64]) -> Floats:
    grades = np.arange(tables.shape[1], dtype=np.float64)
    return np.abs(grades[:, None] - grades)


#: Bootstrapped from the confusion table.
OF_TABLE: dict[str, OfTable] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "mcc": _mcc,
    "kappa": _kappa,
}
OF_ALL_CLASSES = ("balanced_accuracy", "f1_macro")  # undefined if one is absent
OF_GRADES: dict[str, OfTable] = {
    "kappa_quadratic": _kappa_quadratic,
    "mean_absolute_error": _mean_absolute_error,
}


def evaluate(
    *,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    class_names: tuple[str, ...],
    ordinal: bool,
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Estimate]:
    """Return every metric on the test set, each with a 95 % interval or a reason.

    test_logits floating point [n, classes], test_labels int [n]. `ordinal`: the classes are grades
    in rising order. "sensitivity_class_i" and "auc_class_i" are of class i against all others.
    "log_loss" is in nats; "brier" is the sum over the classes, 0 to 2 (Brier 1950). "ece" is of the
    predicted class's probability (Guo et al. 2017, ICML).
    ValueError: malformed or non-finite input, or an empty test set.
    """
    logits, labels = checked(test_logits, test_labels)
    if not labels.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    k, n = logits.shape[1], labels.size
    assert len(class_names) == k, class_names
    predicted = logits.argmax(axis=1)
    table = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    absent = [name for name, size in zip(class_names, table.sum(axis=1), strict=True) if not size]
    lack = f"the test set has no case of class {', '.join(absent)}" if absent else None
    odds = one_vs_rest(logits)
    functions = {**OF_TABLE, **(OF_GRADES if ordinal else {})}
    limits = resampling.table_limits(
        list(functions.values()), table, seed=seed, n_resamples=n_resamples
    )
    result = {"auc": _mean_auc(labels, odds, lack), "accuracy": _proportion(table.trace(), n)}
    for (name, function), limit in zip(functions.items(), limits, strict=True):
        why = lack if name in OF_ALL_CLASSES else None
        result[name] = bootstrapped(float(function(table[None])[0]), limit, n, why)
    result |= _probabilistic(logits, labels, seed, n_resamples)
    for c in range(k):
        result[f"sensitivity_class_{c}"] = _proportion(int(table[c, c]), int(table[c].sum()))
        result[f"auc_class_{c}"] = one_auc(labels == c, odds[:, c])
    return result


def _mean_auc(labels: Labels, odds: Floats, lack: str | None) -> Estimate:
    if lack is not None:
        return Estimate.undefined(lack)
    return mean_auc(labels[:, None] == np.arange(odds.shape[1]), odds)


def mean_auc(member: NDArray[np.bool_], score: Floats) -> Estimate:
    """The mean AUC of the columns of score [n, k], each of which ranks its own member [n, k]."""
    value, found = (
        intervals.mean_delong(member, score)[0],
        intervals.mean_auc_interval(member, score),
    )
    if isinstance(found, str):
        return Estimate(value, None, None, len(score), None, found)
    return Estimate(value, *found[:2], len(score), found[2], None)


def one_auc(y: NDArray[np.bool_], score: Floats) -> Estimate:
    """The AUC of one class (y [n]) that a high score [n] speaks for; undefined without both."""
    if y.all() or not y.any():
        return Estimate.undefined(f"{y.sum()} of {y.size} test cases are of this class")
    low, high, method = intervals.auc_interval(y, score)
    return Estimate(intervals.delong(y, score)[0], low, high, y.size, method, None)


def bootstrapped(
    value: float, limits: Limits, n: int, lack: str | None = None, method: str = "BCa bootstrap"
) -> Estimate:
    """A bootstrapped value, NaN being undefined for the reason `lack`."""
    if np.isnan(value):
        return Estimate.undefined(lack or _DEGENERATE)
    if isinstance(limits, str):
        return Estimate(value, None, None, n, None, limits)
    return Estimate(value, *limits, n, method, None)


def _proportion(hits: int, cases: int) -> Estimate:
    if not cases:
        return Estimate.undefined("the test set has no case of this class")
    low, high = map(float, intervals.wilson(hits, cases))
    return Estimate(float(hits / cases), low, high, int(cases), "Wilson", None)


def _probabilistic(
    logits: Floats, labels: Labels, seed: int, n_resamples: int
) -> dict[str, Estimate]:
    n, log_p = len(labels), log_softmax(logits, axis=1)
    p, actual = np.exp(log_p), np.eye(logits.shape[1])[labels]
    losses = np.column_stack([-log_p[np.arange(n), labels], ((p - actual) ** 2).sum(axis=1)])
    found = resampling.mean_limits(losses, labels, seed=seed, n_resamples=n_resamples)
    confidence = p.max(axis=1)
    correct = logits.argmax(axis=1) == labels
    ece = float(binary.ece(confidence, correct[None, :])[0])
    draws = binary.calibrated_ece(confidence, np.random.default_rng([seed, 1]), n_resamples)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    return {
        "log_loss": bootstrapped(float(losses[:, 0].mean()), found[0], n),
        "brier": bootstrapped(float(losses[:, 1].mean()), found[1], n),
        "ece": Estimate(ece, None, None, n, None, ECE_REASON),
        "ece_if_calibrated": Estimate(float(draws.mean()), low, high, n, REFERENCE, None),
    }
