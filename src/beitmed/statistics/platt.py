"""A line through log odds: the recalibration of a probability by a slope and a shift.

Platt 1999 (Advances in Large Margin Classifiers), without his smoothed targets; with the slope held
at 1 it is a recalibration in the large, with the shift held at 0 temperature scaling.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from beitmed.statistics.level import Bools, Floats
from beitmed.statistics.shift import Free

_RIDGE = 1e-3  # pulls both towards 0, on a unit scale: keeps separable cases finite
_STEPS, _ENOUGH = 100, 1e-9


def fit(score: Floats, y: Bools, free: Free) -> tuple[float, float] | str:
    """Return (slope, shift) of greatest likelihood for log odds [n] of cases y [n], or a reason.

    free: what is fitted, the slope (of "temperature", its inverse), the shift, or both. By Newton's
    method, each step halved until the likelihood rises.
    """
    if y.all() or not y.any():
        return "the cases are all of one class"
    unit = float(np.abs(score).max()) or 1.0
    design = np.column_stack([score / unit, np.ones(y.size)])
    line = np.array([unit, 0.0] if free == "shift" else [0.0, 0.0])
    open_ = np.array([free != "shift", free != "temperature"])

    def loss(line: Floats) -> float:
        z = design @ line
        return float(np.logaddexp(0, np.where(y, -z, z)).sum()) + _RIDGE * float(
            np.square(line[open_]).sum()
        )

    now = loss(line)
    for _ in range(_STEPS):
        p = expit(design @ line)
        slope = design.T @ (p - y) + 2 * _RIDGE * line
        curve = (design.T * (p * (1 - p))) @ design + 2 * _RIDGE * np.eye(2)
        step = np.zeros(2)
        step[open_] = np.linalg.solve(curve[np.ix_(open_, open_)], slope[open_])
        while (new := loss(line - step)) > now and np.abs(step).max() > _ENOUGH:
            step = step / 2
        line, before, now = line - step, now, new
        if before - now <= _ENOUGH:
            break
    return float(line[0] / unit), float(line[1])
