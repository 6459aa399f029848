"""Maps over images: how alike two are, where they point, and means over images with intervals."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata, t

from beitmed.statistics.clusters import Groups, codes, mean_contributions
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import LEVEL, Bools, Floats


def rank_correlation(a: Floats, b: Floats) -> Floats:
    """Return Spearman's correlation [n] of each map of a [n, cells] with that of b, -1 to 1.

    A constant map has no order: it is 1 with another constant one, and 0 with any other.
    """
    ranks = [rankdata(m, axis=1) - (m.shape[1] + 1) / 2 for m in (a, b)]
    lengths = [np.sqrt(np.square(r).sum(1)) for r in ranks]
    product, both = (ranks[0] * ranks[1]).sum(1), lengths[0] * lengths[1]
    constant = [length == 0 for length in lengths]
    alone = np.where(constant[0] & constant[1], 1.0, 0.0)
    return np.divide(product, both, out=alone, where=both > 0)


def area(curve: Floats) -> Floats:
    """Return the area [...] under curves [..., steps] at equal steps from 0 to 1: trapezoids."""
    inner = curve[..., 1:-1].sum(-1) + (curve[..., 0] + curve[..., -1]) / 2
    return np.asarray(inner / (curve.shape[-1] - 1))


def area_inside(maps: Floats, inside: Bools) -> Floats:
    """Return how often a place inside has a higher value than one outside, a tie one half [n].

    maps and inside [n, places]; the ROC area of a map as a score for being inside. NaN where all
    of an image, or nothing, is inside.
    """
    ranks = rankdata(maps, axis=1)
    within = inside.sum(1)
    pairs = within * (inside.shape[1] - within)
    wins = (ranks * inside).sum(1) - within * (within + 1) / 2
    return np.divide(wins, pairs, out=np.full(len(maps), np.nan), where=pairs > 0)


def points_inside(maps: Floats, inside: Bools) -> Floats:
    """Return the share of a map's highest places that are inside, 1 or 0 without ties [n]."""
    top = maps == maps.max(1, keepdims=True)
    return np.asarray((top & inside).sum(1) / top.sum(1))


def mean(
    values: Floats, groups: Groups = None, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Estimate:
    """Return the mean of values [n], one an image, with its t interval over images or patients.

    NaN values are left out. Of one image there is no interval. bounds: of the values, which the
    interval does not leave.
    """
    defined = np.isfinite(values)
    values = values[defined]
    if not values.size:
        return Estimate.undefined("of no image")
    groups = None if groups is None else np.asarray(groups)[defined]
    patients = None if groups is None else int(codes(groups, values.size).max()) + 1
    value, members = float(values.mean()), patients or values.size
    if members < 2:
        reason = "only one image or patient"
        return Estimate(value, None, None, values.size, None, reason, patients)
    error = math.sqrt(np.square(mean_contributions(values, groups)).sum())
    half = float(t.isf((1 - LEVEL) / 2, members - 1)) * error
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, low, high, values.size, "t", None, patients)
