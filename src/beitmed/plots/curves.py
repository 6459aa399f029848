"""What is drawn where lines with limits stand in panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line: values with their limits [n] at places on the axis [n]; None where there is none."""

    name: str
    at: Sequence[float]
    values: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """Lines of one plot; no_skill: what a constant prediction reaches."""

    name: str
    curves: Sequence[Line]
    no_skill: float | None = None
