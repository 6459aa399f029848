"""Calibration inside and outside: slope, intercept, calibration in the large, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from beitmed.external.columns import Column
from beitmed.statistics import reliability
from beitmed.statistics.reliability import Bin

MEASURES = ("slope", "intercept", "large")
METHOD = "logistic regression, sandwich variance"


@dataclass(frozen=True)
class Calibration:
    """Of one class or label: by measure a value with its limits, or the reason for having none."""

    name: str
    internal: dict[str, dict[str, Any]]
    external: dict[str, dict[str, Any]]
    curve: list[Bin]  # of the external cases


def evaluate(internal: Sequence[Column], external: Sequence[Column]) -> list[Calibration]:
    """Return the calibration of each class or label, the run's probabilities as they are."""
    return [
        Calibration(
            one.name,
            _of(one),
            _of(other),
            reliability.reliability_bins(expit(other.score), other.y, other.groups),
        )
        for one, other in zip(internal, external, strict=True)
    ]


def _of(column: Column) -> dict[str, dict[str, Any]]:
    found = reliability.recalibration(column.score, column.y, column.groups)
    if isinstance(found, str):
        return {name: _cell(None, None, None, found) for name in MEASURES}
    values = asdict(found)
    return {
        name: _cell(values[name], values[f"{name}_low"], values[f"{name}_high"], None)
        for name in MEASURES
    }


def _cell(
    value: float | None, low: float | None, high: float | None, reason: str | None
) -> dict[str, Any]:
    known = value is not None and all(np.isfinite(x) for x in (value, low, high) if x is not None)
    if not known:
        value = low = high = None
        reason = reason or "it grows without limit on these cases"
    return {"value": value, "ci_low": low, "ci_high": high, "reason": reason}
