"""How well a rule does on new cases that was fitted to the very cases it is judged on.

A threshold or a recalibration that was chosen on some cases looks better there than anywhere else.
By how much is read off bootstrap resamples: the rule is fitted anew to each, and what it reaches on
the resample is compared with what it reaches on the cases as they are (Harrell et al. 1996, Stat.
Med. 15:361).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from scipy.special import expit, logit

from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import LEVEL, Floats, Ints

Rule = TypeVar("Rule")
Kind = Literal["share", "number"]
MOST, _FEWEST, _DRAWS = 500, 100, 4_000_000


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
    kinds: list[Kind],
    *,
    groups: Groups = None,
    seed: int,
    n_resamples: int,
) -> list[Corrected] | str:
    """Return every measure of the rule that `fit` gives, corrected for its optimism; or a reason.

    fit(cases): the rule of these cases, int [m], one of which may repeat; or why there is none.
    score(rule, cases): its measures there, [k], `kinds` [k] of them: a share lies between 0 and 1.
    Whole patients are drawn where `groups` [n] names them.

    The interval is the basic bootstrap's: the differences of resample and cases stand for those of
    the cases and all that could be drawn, fit and measure together; of a share, on the scale of log
    odds. Resamples without a rule are left out; a rule that a quarter of them lacks has none.
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
        _corrected(float(apparent[i]), drawn_there[:, i], as_they_are[:, i], kind, n)
        for i, kind in enumerate(kinds)
    ]


def _members(groups: Groups, n: int) -> list[Ints]:
    code = codes(groups, n)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


def _corrected(apparent: float, boot: Floats, whole: Floats, kind: Kind, n: int) -> Corrected:
    value = apparent - float(np.mean(boot - whole))
    tails = [(1 + LEVEL) / 2, (1 - LEVEL) / 2]
    if kind == "number":
        low, high = apparent - np.quantile(boot - whole, tails)
        return Corrected(apparent, value, float(low), float(high))

    def stretched(share: Floats | float) -> Floats:
        return np.asarray(logit((np.asarray(share) * n + 0.5) / (n + 1)))

    low, high = expit(stretched(apparent) - np.quantile(stretched(boot) - stretched(whole), tails))
    value = min(max(value, 0.0), 1.0)
    return Corrected(apparent, value, min(float(low), value), max(float(high), value))
