"""The folds of a cross-validation joined: one value, with an interval.

Every case is held out once, and judged by the model of its fold. The target is the mean performance
of the fold models. They share training cases, and what this adds to the variance no fold can show
(Bengio and Grandvalet 2004, JMLR 5:1089); the intervals are lengthened by a share of the number of
folds instead. Simulated (`scripts/simulate.py --only folds`) with a linear discriminant, 40 to 100
patients and AUCs of 0.65 to 0.998: covered in 93 to 98 %, in more where every fold is perfect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from beitmed.statistics import clusters
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import LEVEL, Floats, Ints, Z
from beitmed.statistics.proportions import wilson
from beitmed.statistics.spread import Measure


def area(found: Sequence[tuple[Measure, float, float, str]]) -> tuple[float, float, float]:
    """Return (mean, low, high) of the mean AUC over folds.

    found: of each fold's single model what `areas.interval` gives. The distances of the limits from
    the values are joined as those of independent estimates (Zou and Donner 2008, Stat. Med.
    27:1693), so that no fold that is ranked perfectly passes for certain. Where the models differ
    by more than their held-out cases explain, they are lengthened by that, with a t quantile.
    """
    count = len(found)
    values = np.array([measure.values[0] for measure, *_ in found])
    lows, highs = np.array([[low, high] for _, low, high, _ in found]).T
    within = sum(float(np.nansum(m.contributions[0] ** 2)) for m, *_ in found) / count**2
    between = float(values.var(ddof=1)) / count
    stretch = math.sqrt(1 + 2 / count) / count
    if between > within > 0:
        stretch *= math.sqrt(between / within) * float(t.isf((1 - LEVEL) / 2, count - 1)) / Z
    mean = float(values.mean())
    low = mean - stretch * float(np.linalg.norm(values - lows))
    high = mean + stretch * float(np.linalg.norm(highs - values))
    return mean, max(low, 0.0), min(high, 1.0)


def accuracy(right: Floats, fold: Ints, groups: Groups = None) -> tuple[float, float, float]:
    """Return (share, low, high) of all held-out cases that their fold's model is right for.

    right [n]: how much it is right for a case; fold [n], and the patients groups [n]. The limits
    are Wilson's at the effective sample size, with what the models differ by beyond their cases.
    """
    count, value = len(np.unique(fold)), float(right.mean())
    alone = value * (1 - value) / clusters.effective_size(right[None], groups)
    between = float(np.var([right[fold == f].mean() for f in np.unique(fold)], ddof=1)) / count
    extra = max(between - alone, 0.0)
    doubt = between**2 / (count - 1) if extra else 0.0
    effective = clusters.effective_size(right[None], groups, extra, doubt) / (1 + 1 / count)
    low, high = map(float, wilson(value * effective, effective))
    return value, low, high
