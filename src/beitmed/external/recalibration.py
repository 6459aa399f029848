"""The run's probabilities set right by the external cases, without the gain of having seen them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from beitmed.external import columns
from beitmed.runs.predictions import Predictions
from beitmed.statistics import bootstrap, optimism, platt, shift
from beitmed.statistics.level import Bools, Floats, Ints
from beitmed.statistics.shift import Free
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
Rule = tuple[Floats, Floats]  # slopes and shifts
ANEW: tuple[Free, ...] = ("shift", "temperature", "both")
assert {*ANEW} == {*get_args(Free)}
_PLAIN = "BCa bootstrap"
_CORRECTED = "bootstrap, corrected for optimism"


@dataclass(frozen=True)
class Recalibrated:
    """How good probabilities are on the external cases.

    log_loss (nats) and brier: value, limits, and `apparent` of what was fitted to these cases.
    gain: by how much the log loss is less than that of the probabilities as they are. slope (1 /
    temperature) and shift [classes or labels] are what was fitted; of two classes of the positive
    one.
    """

    kind: str
    log_loss: dict[str, Any]
    brier: dict[str, Any]
    gain: dict[str, Any] | None
    slope: list[float] | None
    shift: list[float] | None


def evaluate(
    task: Task,
    cases: Predictions,
    positive: int | None,
    temperature: float | None,
    *,
    seed: int,
    n_resamples: int,
) -> list[Recalibrated]:
    """Return the probabilities as they are, with the run's temperature, and recalibrated.

    positive: of two classes the one whose probability is judged, else None. temperature: what the
    run fitted on its validation images; None where it has none. A shift is of each class's log
    odds, so it is what another share of the classes asks for; a temperature makes all
    probabilities more or less extreme. Several labels have one of each for every label.
    """
    odds, members = task.log_odds(cases.logits), task.members(cases.labels, cases.logits.shape[1])
    if positive is not None:
        odds, members = odds[:, [positive]], members[:, [positive]]
    problem: _Problem = (
        _Columns(odds, members)
        if task.several_labels or positive is not None
        else _Classes(cases.logits, cases.labels)
    )
    groups, settings = columns.patients(cases), {"seed": seed, "n_resamples": n_resamples}
    plain = problem.losses()
    found = [_as_it_is("none", plain, None, groups, **settings)]
    if temperature is not None:
        k = odds.shape[1]
        cooled = problem.losses((np.full(k, 1 / temperature), np.zeros(k)))
        found.append(_as_it_is("temperature from val", cooled, 1 / temperature, groups, **settings))
    return [*found, *(_anew(problem, free, plain, groups, **settings) for free in ANEW)]


class _Problem:
    """Logits with their labels, how a rule is fitted to some of them, and what losses it gives.

    A rule is slopes and shifts, [k] each.
    """

    def losses(self, rule: Rule | None = None) -> Floats:
        """Log loss and Brier score of each case, [n, 2]; of the logits as they are by default."""
        raise NotImplementedError

    def fit(self, free: Free, cases: Ints) -> Rule | str:
        raise NotImplementedError


class _Classes(_Problem):
    """More than two exclusive classes: one slope for all, and a shift each."""

    def __init__(self, logits: Floats, labels: Ints) -> None:
        self.logits, self.labels = logits, labels

    def losses(self, rule: Rule | None = None) -> Floats:
        logits = self.logits if rule is None else self.logits * rule[0] + rule[1]
        log_p = log_softmax(logits, axis=1)
        actual = np.eye(logits.shape[1])[self.labels]
        brier = ((np.exp(log_p) - actual) ** 2).sum(axis=1)
        return np.column_stack([-(log_p * actual).sum(axis=1), brier])

    def fit(self, free: Free, cases: Ints) -> Rule | str:
        found = shift.fit_scaling(self.logits[cases], self.labels[cases], free=free, of="external")
        if isinstance(found, str):
            return found
        return np.full(found.shift.size, 1 / found.temperature), found.shift


class _Columns(_Problem):
    """Labels of which an image has several, or the positive class: a slope and a shift each."""

    def __init__(self, score: Floats, y: Bools) -> None:
        self.score, self.y = score, y

    def losses(self, rule: Rule | None = None) -> Floats:
        z = self.score if rule is None else self.score * rule[0] + rule[1]
        each = -log_expit(np.where(self.y, z, -z))
        return np.column_stack([each.mean(axis=1), ((expit(z) - self.y) ** 2).mean(axis=1)])

    def fit(self, free: Free, cases: Ints) -> Rule | str:
        slopes, shifts = np.ones(self.y.shape[1]), np.zeros(self.y.shape[1])
        for i, (score, y) in enumerate(zip(self.score[cases].T, self.y[cases].T, strict=True)):
            found = platt.fit(score, y, free)
            # One of several labels that all or none of the cases have stays as it is.
            if not isinstance(found, str):
                slopes[i], shifts[i] = found
            elif len(slopes) == 1:
                return found
        return slopes, shifts


def _as_it_is(
    kind: str, losses: Floats, slope: float | None, groups: Any, *, seed: int,
    n_resamples: int,
) -> Recalibrated:  # fmt: skip
    limits = bootstrap.of_means(losses, groups=groups, seed=seed, n_resamples=n_resamples)
    cells = []
    for value, found in zip(losses.mean(axis=0).tolist(), limits, strict=True):
        reason = found if isinstance(found, str) else None
        low, high = (None, None) if isinstance(found, str) else found
        cells.append({"value": value, "ci_low": low, "ci_high": high, "apparent": None,
                      "interval": None if reason else _PLAIN, "reason": reason})  # fmt: skip
    fitted = None if slope is None else [slope]
    return Recalibrated(kind, cells[0], cells[1], None, fitted, None)


def _anew(
    problem: _Problem, free: Free, plain: Floats, groups: Any, *, seed: int, n_resamples: int
) -> Recalibrated:
    def score(rule: Rule, cases: Ints) -> Floats:
        losses = problem.losses(rule)[cases]
        return np.append(losses.mean(axis=0), (plain[cases] - losses)[:, 0].mean())

    fit, n = partial(problem.fit, free), len(plain)
    found = optimism.corrected(
        fit,
        score,
        n,
        [None] * 3,
        groups=groups,
        seed=seed,
        n_resamples=n_resamples,
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
    log_loss, brier, gain = cells
    return Recalibrated(free, log_loss, brier, gain, rule[0].tolist(), rule[1].tolist())
