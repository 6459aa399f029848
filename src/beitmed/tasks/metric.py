"""What a metric is: how it is computed and what a reader is told of it, registered once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    function, kind: what is computed, and how that becomes an estimate; the kinds that a task knows
        stand in its module.
    label: its title in a report. better: which values are better; None where neither are, as of a
        fitted constant. meaning: what it is, in a sentence's part, with its unit and range.
    rule: the decision rule or calibration that it is of; "argmax" is the decision as the model
        gives it.
    every_class: whether it is undefined on a test set that lacks a class.
    """

    function: Callable[..., Any]
    kind: str
    label: str
    better: Literal["higher", "lower"] | None
    meaning: str
    rule: str = "argmax"
    every_class: bool = False
