"""How well a rule does on new cases that was fitted to the very cases it is judged on.

A threshold or a recalibration that was chosen on some cases looks better there than anywhere else.
By how much is read off bootstrap resamples: the rule is fitted anew to each, and what it reaches on
the resample is compared with what it reaches on the cases as they are (Harrell et al. 1996, Stat.
Med. 15:361).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from scipy.special import expit, logit

from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import LEVEL, Floats, Ints

Rule = TypeVar("Rule")
#: What a measure is, for its interval: a share of so many cases, a positive number, or any.
Scale = int | Literal["positive", "plain"]
MOST, _FEWEST, _DRAWS = 500, 100, 4_000_000
_LEAST = 1e-12  # of a positive number


@dataclass(frozen=True)
class Corrected:
    """A measure of a rule on the cases that it was fitted to, and what it is on new ones.

    apparent: as found on these cases. value: less the optimism, the mean difference of resample and
    cases, with the 95 % interval [low, high] of what this very rule reaches on new cases.
    """

    apparent: float
    value: float
    low: float
    high: float


def resamples(n: int, wanted: int) -> int:
    """Return how many resamples of n cases are drawn, each of which takes a fit."""
    return min(wanted, MOST, max(_FEWEST, _DRAWS // max(n, 1)))


def corrected(
    fit: Callable[[Ints], Rule | str],
    score: Callable[[Rule, Ints], Floats],
    n: int,
    scales: Sequence[Scale],
    *,
    groups: Groups = None,
    seed: int,
    n_resamples: int,
) -> list[Corrected] | str:
    """Return every measure of the rule that `fit` gives, corrected for its optimism; or a reason.

    fit(cases): the rule of these cases, int [m], one of which may repeat; or why there is none.
    score(rule, cases): its measures there, [k]; scales [k] of them. Whole patients are drawn where
    `groups` [n] names them.

    The interval is the basic bootstrap's: the differences of resample and cases stand for those of
    the cases and all that could be drawn, fit and measure together; of a share on the scale of log
    odds, with half a case added to either side, of a positive number on that of logarithms.
    Resamples without a rule are left out; a rule that a quarter of them lacks has none.
    """
    everything = np.arange(n)
    rule = fit(everything)
    if isinstance(rule, str):
        return rule
    apparent = score(rule, everything)
    members, rng = _members(groups, n), np.random.default_rng(seed)
    wanted = resamples(n, n_resamples)
    pairs = []
    for _ in range(wanted):
        drawn = rng.integers(0, len(members), len(members))
        cases = np.concatenate([members[i] for i in drawn]) if groups is not None else drawn
        if not isinstance(again := fit(cases), str):
            pairs.append((score(again, cases), score(again, everything)))
    if len(pairs) * 4 < wanted * 3:
        return f"it could be fitted to {len(pairs)} of {wanted} bootstrap resamples only"
    drawn_there, as_they_are = np.moveaxis(np.array(pairs), 1, 0)
    return [
        _corrected(float(apparent[i]), drawn_there[:, i], as_they_are[:, i], scale)
        for i, scale in enumerate(scales)
    ]


def _members(groups: Groups, n: int) -> list[Ints]:
    code = codes(groups, n)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


def _corrected(apparent: float, boot: Floats, whole: Floats, scale: Scale) -> Corrected:
    value = apparent - float(np.mean(boot - whole))
    found = np.array([apparent]), boot, whole
    middle, again, there = (_stretched(x, scale) for x in found)
    tails = [(1 + LEVEL) / 2, (1 - LEVEL) / 2]
    low, high = _back(middle - np.quantile(again - there, tails), scale).tolist()
    if scale != "plain":
        value = min(max(value, 0.0), 1.0 if isinstance(scale, int) else np.inf)
    return Corrected(apparent, value, min(low, value), max(high, value))


def _stretched(values: Floats, scale: Scale) -> Floats:
    if isinstance(scale, int):
        return np.asarray(logit((values * scale + 0.5) / (scale + 1)))
    return values if scale == "plain" else np.log(np.maximum(values, _LEAST))


def _back(values: Floats, scale: Scale) -> Floats:
    if isinstance(scale, int):
        return np.asarray(expit(values))
    return values if scale == "plain" else np.exp(values)
