"""Probabilities of a run's classes, calibrated by what its validation images say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logsumexp

from beitmed.statistics import calibration, reliability
from beitmed.statistics.level import Floats
from beitmed.tasks.task import Labels, Task
from beitmed.tasks.two_classes import margin


@dataclass(frozen=True)
class Temperatures:
    """What the logits are divided by: one number, or one for each of several labels.

    fitted: each of them, or the reason for which there is none and the logits stay as they are.
    on: how many validation images they were fitted to.
    """

    fitted: tuple[float | str, ...]
    on: int
    several_labels: bool

    def log_odds(self, logits: Floats) -> Floats:
        """Logits [n, classes] -> calibrated log odds of each class against all others."""
        scaled = logits / np.array([1.0 if isinstance(t, str) else t for t in self.fitted])
        return scaled if self.several_labels else _against_others(scaled)

    def described(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """JSON values."""
        names = class_names if self.several_labels else ("all classes",)
        each = {
            name: {"temperature": None, "reason": t} if isinstance(t, str) else {"temperature": t}
            for name, t in zip(names, self.fitted, strict=True)
        }
        return {"method": "temperature scaling", "validation_images": self.on, "fitted": each}


def temperatures(task: Task, logits: Floats, labels: Labels, positive: int | None) -> Temperatures:
    """Fit them to validation logits [n, classes]: of one label an image those of the metrics."""
    fitted: list[float | str]
    if not len(labels):
        reason = "the validation set is empty"
        fitted = [reason] * (logits.shape[1] if task.several_labels else 1)
    elif task.several_labels:
        fitted = [
            calibration.fit_temperature(logits[:, c], labels[:, c] == 1)
            for c in range(logits.shape[1])
        ]
    elif positive is not None:
        fitted = [calibration.fit_temperature(margin(logits, positive), labels == positive)]
    else:
        fitted = [reliability.fit_temperature(logits, labels)]
    return Temperatures(tuple(fitted), len(labels), task.several_labels)


def _against_others(logits: Floats) -> Floats:
    """Logits [n, classes] -> log odds of each class against all others; of an image by itself."""
    odds = np.empty_like(logits)
    for c in range(logits.shape[1]):
        odds[:, c] = logits[:, c] - logsumexp(np.delete(logits, c, axis=1), axis=1)
    return odds


@dataclass(frozen=True)
class Mean:
    """The mean of several runs' probabilities p [n, classes], and the spread between the runs.

    log_odds: of the mean. sd: with R - 1; None of a single run.
    """

    p: Floats
    log_odds: Floats
    sd: Floats | None
    low: Floats
    high: Floats


def mean(log_odds: Floats) -> Mean:
    """Log odds [runs, n, classes] -> the mean over the runs."""
    p = expit(log_odds)
    middle = p.mean(axis=0)
    # By the small ones of p and 1 - p, so that saturated cases are still told apart.
    odds = log_odds[0] if len(log_odds) == 1 else (
        logsumexp(np.minimum(log_odds, 0) - np.log1p(np.exp(-np.abs(log_odds))), axis=0)
        - logsumexp(np.minimum(-log_odds, 0) - np.log1p(np.exp(-np.abs(log_odds))), axis=0)
    )  # fmt: skip
    sd = p.std(axis=0, ddof=1) if len(p) > 1 else None
    return Mean(middle, odds, sd, p.min(axis=0), p.max(axis=0))
