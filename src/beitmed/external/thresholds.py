"""The run's thresholds carried over, beside those that the external cases would have chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from beitmed.external.columns import Column
from beitmed.statistics import calibration, decisions, optimism
from beitmed.statistics.level import Bools, Floats, Ints
from beitmed.tasks import estimates
from beitmed.tasks.task import Use

#: A threshold, in log odds, from scores [n] and who is positive [n]; or the reason for none.
Choose = Callable[[Floats, Bools], float | str]
CARRIED, ANEW = "of the run's validation images", "chosen anew on the external images"


@dataclass(frozen=True)
class Threshold:
    """What a threshold does on the external cases.

    threshold is in log odds, probability what that is between 0 and 1. sensitivity and specificity:
    value, limits and interval's name, or a reason; of a threshold that was chosen on the very cases
    they are corrected for that (`optimism`), and `apparent` is what was found before.
    """

    name: str
    rule: str
    source: str
    threshold: float | None
    probability: float | None
    sensitivity: dict[str, Any]
    specificity: dict[str, Any]


@dataclass(frozen=True)
class _Rule:
    name: str
    choose: Choose
    inclusive: bool  # whether a score at the threshold is called positive


def evaluate(
    val: Sequence[Column], external: Sequence[Column], use: Use, *, exclusive: bool, seed: int,
    n_resamples: int,
) -> list[Threshold]:  # fmt: skip
    """Return two rows for each class or label and rule, the carried threshold and the new one.

    The first row is that of probability one half, which is chosen by nobody. exclusive: whether the
    columns are those of classes, of which argmax decides and not a threshold: then only two of
    them, which are one column, have any.
    """
    if exclusive and len(external) > 1:
        return []
    rows = []
    for before, now in zip(val, external, strict=True):
        rows.append(_carried(now, "probability 0.5", 0.0, exclusive and now.index == 0))
        for rule in _rules(now.index if exclusive else 1, use):
            there = rule.choose(before.score, before.y)
            rows.append(_carried(now, rule.name, there, rule.inclusive))
            rows.append(_anew(now, rule, seed, n_resamples))
    return rows


def _rules(positive: int, use: Use) -> list[_Rule]:
    at_tie = positive == 0
    found = [
        _Rule("highest accuracy", partial(_call, calibration.accuracy_threshold, positive), at_tie),
        _Rule(
            "sensitivity of 95 %", partial(_call, calibration.sensitivity_threshold, positive),
            at_tie,
        ),
        _Rule(
            "specificity of 95 %", partial(_call, calibration.specificity_threshold, positive),
            at_tie,
        ),
    ]  # fmt: skip
    if use.operating_point is not None:
        kind, level = use.operating_point
        choose = partial(decisions.threshold_at, kind, level)
        found.append(_Rule(f"operating point, {kind} of {100 * level:g} %", choose, True))
    return found


def _call(function: Callable[..., float | str], positive: int, score: Floats, y: Bools) -> Any:
    return function(score, y, positive)


def _carried(column: Column, rule: str, cut: float | str, inclusive: bool) -> Threshold:
    if isinstance(cut, str):
        return _without(column, rule, CARRIED, cut)
    hit = _called(column.score, cut, inclusive)
    rates = [
        estimates.proportion(right, among, column.groups).as_dict()
        for right, among in ((hit, column.y), (~hit, ~column.y))
    ]
    source = CARRIED if rule != "probability 0.5" else "of any model"
    return Threshold(column.name, rule, source, cut, float(expit(cut)), rates[0], rates[1])


def _anew(column: Column, rule: _Rule, seed: int, n_resamples: int) -> Threshold:
    def fit(cases: Ints) -> float | str:
        return rule.choose(column.score[cases], column.y[cases])

    def score(cut: float, cases: Ints) -> Floats:
        hit, y = _called(column.score[cases], cut, rule.inclusive), column.y[cases]
        return np.array([hit[y].mean(), (~hit)[~y].mean()])

    everything = np.arange(column.y.size)
    cut = fit(everything) if column.both else "the external cases lack a class"
    if isinstance(cut, str):
        return _without(column, rule.name, ANEW, cut)
    sizes = [int(column.y.sum()), int((~column.y).sum())]
    found = optimism.corrected(
        fit, score, column.y.size, sizes, groups=column.groups, seed=seed, n_resamples=n_resamples
    )
    if isinstance(found, str):
        return _without(column, rule.name, ANEW, found)
    rates = [
        {"value": one.value, "ci_low": one.low, "ci_high": one.high, "apparent": one.apparent,
         "n": n, "interval": METHOD, "reason": None}
        for one, n in zip(found, sizes, strict=True)
    ]  # fmt: skip
    return Threshold(column.name, rule.name, ANEW, cut, float(expit(cut)), rates[0], rates[1])


METHOD = "bootstrap, corrected for optimism"


def _called(score: Floats, cut: float, inclusive: bool) -> Bools:
    return score >= cut if inclusive else score > cut


def _without(column: Column, rule: str, source: str, reason: str) -> Threshold:
    lacking = {"value": None, "ci_low": None, "ci_high": None, "reason": reason}
    return Threshold(column.name, rule, source, None, None, lacking, dict(lacking))
