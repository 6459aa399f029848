"""The run's probabilities set right by the external cases, without the gain of having seen them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from beitmed.external import columns
from beitmed.runs.predictions import Predictions
from beitmed.statistics import bootstrap, optimism, shift
from beitmed.statistics.level import Bools, Floats, Ints
from beitmed.statistics.shift import Free, Scaling
from beitmed.tasks import Task

MEASURES = ("log_loss", "brier")
#: What is done to the log odds, in words.
TITLES: dict[str, str] = {
    "none": "as they are",
    "temperature from val": "the temperature of the run's validation images",
    "shift": "a shift, fitted anew",
    "temperature": "a temperature, fitted anew",
    "both": "a temperature and a shift, fitted anew",
}
ANEW: tuple[Free, ...] = ("shift", "temperature", "both")
assert {*ANEW} == {*get_args(Free)}
_PLAIN = "BCa bootstrap"
_CORRECTED = "bootstrap, corrected for optimism"


@dataclass(frozen=True)
class Recalibrated:
    """How good probabilities are on the external cases.

    log_loss (nats) and brier: value, limits, and `apparent` of what was fitted to these cases.
    gain: by how much the log loss is less than that of the probabilities as they are. temperature
    and shift [classes or labels] are what was fitted.
    """

    kind: str
    log_loss: dict[str, Any]
    brier: dict[str, Any]
    gain: dict[str, Any] | None
    temperature: list[float] | None
    shift: list[float] | None


def evaluate(
    task: Task, cases: Predictions, temperature: float | None, *, seed: int, n_resamples: int
) -> list[Recalibrated]:
    """Return the probabilities as they are, with the run's temperature, and recalibrated.

    temperature: what the run fitted on its validation images; None where it has none. A shift is of
    each class's log odds, so it is what another share of the classes asks for; a temperature makes
    all probabilities more or less extreme. Several labels have one of each for every label.
    """
    if task.several_labels:
        problem: _Problem = _Labels(cases.logits, cases.labels.astype(bool))
    else:
        problem = _Classes(cases.logits, cases.labels, halved=task.has_positive)
    groups, settings = columns.patients(cases), {"seed": seed, "n_resamples": n_resamples}
    plain = problem.losses(cases.logits)
    found = [_as_it_is("none", plain, None, groups, **settings)]
    if temperature is not None:
        cooled = problem.losses(cases.logits / temperature)
        found.append(_as_it_is("temperature from val", cooled, temperature, groups, **settings))
    return [*found, *(_anew(problem, free, plain, groups, **settings) for free in ANEW)]


class _Problem:
    """Logits [n, k] with their labels, and how they are scored."""

    logits: Floats

    def losses(self, logits: Floats) -> Floats:
        """Log loss and Brier score of each case, [n, 2]."""
        raise NotImplementedError

    def fit(self, free: Free, cases: Ints) -> list[Scaling] | str:
        raise NotImplementedError

    def scaled(self, rule: list[Scaling]) -> Floats:
        raise NotImplementedError


class _Classes(_Problem):
    """Exclusive classes; of two, Brier's score is that of one of them, half of the sum."""

    def __init__(self, logits: Floats, labels: Ints, *, halved: bool) -> None:
        self.logits, self.labels, self.halved = logits, labels, halved

    def losses(self, logits: Floats) -> Floats:
        log_p = log_softmax(logits, axis=1)
        actual = np.eye(logits.shape[1])[self.labels]
        brier = ((np.exp(log_p) - actual) ** 2).sum(axis=1) / (2 if self.halved else 1)
        return np.column_stack([-(log_p * actual).sum(axis=1), brier])

    def fit(self, free: Free, cases: Ints) -> list[Scaling] | str:
        found = shift.fit_scaling(self.logits[cases], self.labels[cases], free=free, of="external")
        return found if isinstance(found, str) else [found]

    def scaled(self, rule: list[Scaling]) -> Floats:
        return rule[0](self.logits)


class _Labels(_Problem):
    """Several labels an image, each with a scaling of its own; losses are means over the labels."""

    def __init__(self, logits: Floats, y: Bools) -> None:
        self.logits, self.y = logits, y

    def losses(self, logits: Floats) -> Floats:
        each = -log_expit(np.where(self.y, logits, -logits))
        return np.column_stack([each.mean(axis=1), ((expit(logits) - self.y) ** 2).mean(axis=1)])

    def fit(self, free: Free, cases: Ints) -> list[Scaling] | str:
        rule = []
        for score, y in zip(self.logits[cases].T, self.y[cases].T, strict=True):
            pair = np.column_stack([np.zeros(score.size), score])
            found = shift.fit_scaling(pair, y.astype(np.int64), free=free)
            # A label that all or none of the cases have says nothing; it stays as it is.
            rule.append(Scaling(1.0, np.zeros(2)) if isinstance(found, str) else found)
        return rule

    def scaled(self, rule: list[Scaling]) -> Floats:
        return np.column_stack([
            score / one.temperature + one.shift[1]
            for score, one in zip(self.logits.T, rule, strict=True)
        ])  # fmt: skip


def _as_it_is(
    kind: str, losses: Floats, temperature: float | None, groups: Any, *, seed: int,
    n_resamples: int,
) -> Recalibrated:  # fmt: skip
    limits = bootstrap.of_means(losses, groups=groups, seed=seed, n_resamples=n_resamples)
    cells = []
    for value, found in zip(losses.mean(axis=0).tolist(), limits, strict=True):
        reason = found if isinstance(found, str) else None
        low, high = (None, None) if isinstance(found, str) else found
        cells.append({"value": value, "ci_low": low, "ci_high": high, "apparent": None,
                      "interval": None if reason else _PLAIN, "reason": reason})  # fmt: skip
    fitted = None if temperature is None else [temperature]
    return Recalibrated(kind, cells[0], cells[1], None, fitted, None)


def _anew(
    problem: _Problem, free: Free, plain: Floats, groups: Any, *, seed: int, n_resamples: int
) -> Recalibrated:
    def score(rule: list[Scaling], cases: Ints) -> Floats:
        losses = problem.losses(problem.scaled(rule))[cases]
        return np.append(losses.mean(axis=0), (plain[cases] - losses)[:, 0].mean())

    fit: Callable[[Ints], list[Scaling] | str] = lambda cases: problem.fit(free, cases)  # noqa: E731
    n = len(plain)
    found = optimism.corrected(
        fit, score, n, ["number"] * 3, groups=groups, seed=seed, n_resamples=n_resamples
    )
    if isinstance(found, str):
        lacking = {"value": None, "ci_low": None, "ci_high": None, "reason": found}
        return Recalibrated(free, lacking, dict(lacking), dict(lacking), None, None)
    rule = problem.fit(free, np.arange(n))
    assert not isinstance(rule, str)
    cells = [
        {"value": one.value, "ci_low": one.low, "ci_high": one.high, "apparent": one.apparent,
         "interval": _CORRECTED, "reason": None}
        for one in found
    ]  # fmt: skip
    shifts = [float(x) for x in rule[0].shift] if len(rule) == 1 else [
        float(one.shift[1]) for one in rule
    ]  # fmt: skip
    log_loss, brier, gain = cells
    return Recalibrated(free, log_loss, brier, gain, [one.temperature for one in rule], shifts)
