"""Metrics of confusion tables [b, classes, classes], actual then predicted; NaN where undefined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beitmed.statistics.level import Floats


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _hits(tables: NDArray[np.int64]) -> Floats:
    return np.diagonal(tables, axis1=1, axis2=2).astype(np.float64)


def balanced_accuracy(tables: NDArray[np.int64]) -> Floats:
    """Mean of the classes' sensitivities; undefined if a class is absent."""
    return _ratio(_hits(tables), tables.sum(axis=2)).mean(axis=1)


def f1_macro(tables: NDArray[np.int64]) -> Floats:
    """Mean of the classes' F1, 2 TP / (actual + predicted); undefined if a class is absent."""
    actual, predicted = tables.sum(axis=2), tables.sum(axis=1)
    return _ratio(2 * _hits(tables), np.where(actual > 0, actual + predicted, 0)).mean(axis=1)


def mcc(tables: NDArray[np.int64]) -> Floats:
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


def kappa(tables: NDArray[np.int64]) -> Floats:
    """Cohen's kappa, 1 - disagreement / that of independent decisions with the same shares."""
    return _agreement(tables, 1 - np.eye(tables.shape[1]))


def kappa_quadratic(tables: NDArray[np.int64]) -> Floats:
    """Cohen's kappa with a disagreement of d grades counted d^2 times."""
    return _agreement(tables, _distance(tables) ** 2)


def mean_absolute_error(tables: NDArray[np.int64]) -> Floats:
    """Mean distance of the predicted grade from the actual one, in grades."""
    return _ratio((tables * _distance(tables)).sum(axis=(1, 2)), tables.sum(axis=(1, 2)))


def _distance(tables: NDArray[np.int64]) -> Floats:
    grades = np.arange(tables.shape[1], dtype=np.float64)
    return np.abs(grades[:, None] - grades)
